"""The model that a training begins with, and the conversations beside its actions."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import torch

from stvla_ros.config import ConfigError
from stvla_ros.data.st_human.samples import Sample
from stvla_ros.planning.nano import architecture, tokens
from stvla_ros.planning.qwen3_vl.checkpoint import Checkpoint
from stvla_ros.planning.qwen3_vl.processor import ImageOnlyQwen3VLProcessor
from stvla_ros.policy.st4vla.actions import KEYPOSE, ActionStatistics
from stvla_ros.policy.st4vla.checkpoint import St4VlaCheckpoint, St4VlaSpec, read_vlm
from stvla_ros.policy.st4vla.inputs import VlmProcessor
from stvla_ros.policy.st4vla.model import St4Vla
from stvla_ros.train.sft.batches import PackedSamples, token_counts
from stvla_ros.train.sft.encode import Encoder
from stvla_ros.train.sft.start import SftFiles, limit_images, split
from stvla_ros.train.st4vla.experiments import St4VlaExperiment
from stvla_ros.train.st4vla.samples import ChunkSamples

HOW_TO_GET = (
    "`stvla train-planner nano` trains a small one, and `hf download Qwen/Qwen3-VL-4B-Instruct` gets a large one."
)


@dataclass(frozen=True, eq=False)
class Grounding:
    """Conversations of co-training.

    Attributes:
        train: Forward passes, one per step; they repeat.
        val: Forward passes of validation.
        samples: Number of training conversations, in words of the run's identity.
    """

    train: PackedSamples
    val: PackedSamples
    samples: str


def base_vlm(experiment: St4VlaExperiment, folder: Path | None, seed: int) -> tuple[torch.nn.Module, VlmProcessor]:
    """The VLM to begin with.

    Args:
        experiment: Settings.
        folder: Of a Qwen3-VL or Qwen2.5-VL checkpoint; None: a random nano one, if the experiment is for it.
        seed: For random weights.

    Raises:
        ConfigError: It is missing or damaged.
    """
    if folder is not None:
        return read_vlm(folder)
    if not experiment.nano:
        raise ConfigError(f"{experiment.name}: wanted --initial with the folder of a Qwen-VL checkpoint. {HOW_TO_GET}")
    words = tokens.tokenizer()
    made = architecture.processor(words)
    return architecture.network(words, seed), VlmProcessor(words, made.image_processor, tokens.TEMPLATE)


def untrained(
    experiment: St4VlaExperiment, vlm: torch.nn.Module, processor: VlmProcessor, samples: ChunkSamples, seed: int = 0
) -> St4VlaCheckpoint:
    """A model with a random expert, and the statistics of the data.

    Args:
        experiment: Settings.
        vlm: Of :func:`base_vlm`.
        processor: Its processor.
        samples: Training samples.
        seed: For random weights.
    """
    expert = replace(experiment.expert, vlm_width=cast(Any, vlm).config.get_text_config().hidden_size)
    statistics = ActionStatistics.of(samples.actions[:, 0])  # the first of every chunk: every keypose once
    trained = {"experiment": experiment.name, "samples": len(samples), "tasks": sorted(set(samples.tasks))}
    spec = St4VlaSpec(expert, KEYPOSE, statistics, experiment.prompt, experiment.guidance, trained)
    torch.manual_seed(seed)
    return St4VlaCheckpoint(spec, St4Vla(vlm, expert), processor)


def grounding(
    experiment: St4VlaExperiment,
    vlm: torch.nn.Module,
    processor: VlmProcessor,
    data: Sequence[Path],
    output: Path,
    seed: int = 0,
) -> Grounding:
    """Conversations as the VLM is trained on, from files of `stvla scenes --st-human` or of ST-Human.

    Args:
        experiment: Settings.
        vlm: The model.
        processor: Its processor.
        data: Files of samples.
        output: Folder of the run, which caches the numbers of tokens.
        seed: For their order.

    Raises:
        ConfigError: A file has another format, or the VLM is no Qwen3-VL.
    """
    kind = cast(Any, vlm).config.model_type
    if kind != "qwen3_vl":
        raise ConfigError(f"--grounding: wanted a Qwen3-VL, got '{kind}': conversations are encoded for that alone.")
    train, val = split(SftFiles("", tuple(data), None, None, output))
    images = deepcopy(processor.images)  # those of actions keep their size
    made = ImageOnlyQwen3VLProcessor(images, processor.tokenizer, processor.template)
    chat = Checkpoint(vlm, made, frozenset({int(processor.tokenizer.eos_token_id)}), experiment.name)
    limit_images(chat, experiment.image_tokens)
    encoder, pad = Encoder(chat), int(processor.tokenizer.pad_token_id)

    def packed(name: str, samples: list[Sample]) -> PackedSamples:
        counts = token_counts(samples, encoder, output / f"tokens-{name}.npz", f"{experiment.image_tokens}")
        return PackedSamples(
            samples, encoder, counts, experiment.max_tokens, experiment.grounding_batch, pad, seed=seed
        )

    files = ", ".join(sorted(str(path.resolve()) for path in data))
    return Grounding(packed("train", train), packed("val", val), f"{len(train)} of {files}")
