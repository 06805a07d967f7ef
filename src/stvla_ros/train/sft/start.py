"""From files to a fine-tuning that is ready to run."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType, InitProcessGroupKwargs

from stvla_ros.config import ConfigError
from stvla_ros.data.st_human import Sample
from stvla_ros.data.st_human_json import read_samples
from stvla_ros.devices import Placement
from stvla_ros.planning.qwen3_vl.checkpoint import Checkpoint, load
from stvla_ros.train.sft.batches import Packs, token_counts
from stvla_ros.train.sft.encode import Encoder
from stvla_ros.train.sft.experiments import SftExperiment
from stvla_ros.train.sft.loop import SftRun
from stvla_ros.train.sft.lora import adapted, recompute

VALIDATION_SHARE = 0.02
MOST_VALIDATED = 512
ASKED = 64
"""Validation samples whose answers are written out and measured."""


@dataclass(frozen=True)
class SftFiles:
    """What a fine-tuning reads and writes.

    Attributes:
        model: Folder or hub id of the base model.
        data: Files of samples.
        val: File of validation samples; None: a share of the data's.
        adapter: Adapter of the stage before, to go on with; None: a new one.
        output: Folder of the run.
    """

    model: str
    data: tuple[Path, ...]
    val: Path | None
    adapter: Path | None
    output: Path


def split(files: SftFiles) -> tuple[list[Sample], list[Sample]]:
    """Training and validation samples; none is in both.

    Raises:
        ConfigError: A file is not of the format, or nothing is left to train on.
    """
    samples = [sample for path in files.data for sample in read_samples(path)]
    if files.val is not None:
        val = read_samples(files.val)
        same = {_key(s) for s in val} & {_key(s) for s in samples}
        if same:
            raise ConfigError(
                f"{files.val}: {len(same)} of its samples are in the training data too, e.g. '{min(same)[0]}'."
            )
        return samples, val[:MOST_VALIDATED]
    every = max(round(1 / VALIDATION_SHARE), -(-len(samples) // MOST_VALIDATED))
    train = [s for i, s in enumerate(samples) if i % every]
    if not train:
        raise ConfigError("stvla sft: wanted more than one sample, or --val: one is kept for validation.")
    return train, samples[::every]


def _key(sample: Sample) -> tuple[str, ...]:
    return (sample.id, *(m.content for m in sample.messages), *map(str, sample.images))


def accelerator(experiment: SftExperiment) -> Accelerator:
    """Processes as torchrun or accelerate started them; validation on one of them may take its time."""
    bf16 = experiment.bf16 and torch.cuda.is_available()
    deepspeed = os.environ.get("ACCELERATE_USE_DEEPSPEED", "false") == "true"  # set by accelerate's launcher
    made = Accelerator(
        cpu=not torch.cuda.is_available() and not deepspeed,  # else processes on CPUs would not find each other
        gradient_accumulation_steps=experiment.accumulate,
        mixed_precision="bf16" if bf16 else "no",
        kwargs_handlers=[InitProcessGroupKwargs(timeout=timedelta(hours=3))],
    )
    if made.distributed_type == DistributedType.DEEPSPEED:
        sizes = {
            "train_micro_batch_size_per_gpu": experiment.batch,
            "gradient_accumulation_steps": experiment.accumulate,
        }
        sizes["train_batch_size"] = experiment.batch * experiment.accumulate * made.num_processes
        made.state.deepspeed_plugin.deepspeed_config |= sizes | {"gradient_clipping": experiment.clip_norm}
    return made


def prepare(
    accelerator: Accelerator,
    experiment: SftExperiment,
    files: SftFiles,
    steps: int | None,
    seed: int,
    workers: int,
    tell: Callable[[int, int], None] = lambda done, total: None,
) -> SftRun:
    """Read data and model, count tokens, pack, put the adapter in.

    Args:
        accelerator: Of :func:`accelerator`.
        experiment: What to do.
        files: Where things are.
        steps: Optimiser steps; None: the experiment's epochs.
        seed: Of the order, LoRA's first weights and dropout.
        workers: Processes that make batches beforehand.
        tell: Hears of samples whose tokens were counted, and how many there are.

    Raises:
        ConfigError: Anything in the files is wrong, or does not go together.
    """
    train, val = split(files)
    checkpoint = _checkpoint(accelerator, experiment, files.model)
    encoder = Encoder(checkpoint)
    counts = _counts(accelerator, experiment, files, encoder, [train, val], tell)
    shape = (experiment.max_tokens, experiment.batch, checkpoint.processor.tokenizer.pad_token_id or 0)
    world, rank = accelerator.num_processes, accelerator.process_index
    packs = Packs(train, encoder, counts[0], *shape, rank, world, experiment.epochs, seed, experiment.accumulate)
    val_packs = Packs(val, encoder, counts[1], *shape)
    torch.manual_seed(seed)
    model = adapted(checkpoint.model, experiment, files.adapter)
    if experiment.checkpointing:
        recompute(model)
    total = steps or len(packs) // experiment.accumulate
    identity = _identity(files, world, len(train))
    return SftRun(
        accelerator, experiment, checkpoint, model, packs, val_packs, _spread(val, ASKED), files.output, total, identity, seed,
        workers,
    )  # fmt: skip


def _checkpoint(accelerator: Accelerator, experiment: SftExperiment, model: str) -> Checkpoint:
    bf16 = accelerator.mixed_precision == "bf16"
    placement = Placement(accelerator.device, torch.bfloat16 if bf16 else torch.float32)
    found = load(model, placement, "sft")
    images = found.processor.image_processor
    side = images.patch_size * images.merge_size
    most = min(int(images.size["longest_edge"]), experiment.image_tokens * side * side)
    images.size = {"shortest_edge": min(int(images.size["shortest_edge"]), most), "longest_edge": most}
    return found


def _counts(
    accelerator: Accelerator,
    experiment: SftExperiment,
    files: SftFiles,
    encoder: Encoder,
    parts: Sequence[Sequence[Sample]],
    tell: Callable[[int, int], None],
) -> list[Any]:
    """Tokens of every sample of every part; the first process counts, the others read what it wrote."""
    key = f"{files.model} {experiment.image_tokens}"
    total, done = sum(map(len, parts)), 0

    def counted(more: int) -> None:
        nonlocal done
        done += more
        tell(done, total)

    with accelerator.main_process_first():
        return [
            token_counts(part, encoder, files.output / f"tokens-{name}.npz", key, counted)
            for name, part in zip(("train", "val"), parts)
        ]


def _identity(files: SftFiles, world: int, samples: int) -> Mapping[str, Any]:
    data = [str(path.resolve()) for path in files.data]
    adapter = str(files.adapter.resolve()) if files.adapter else ""
    return {"model": files.model, "data": data, "samples": samples, "adapter": adapter, "processes": world}


def _spread(samples: Sequence[Sample], count: int) -> list[Sample]:
    """At most ``count`` samples, evenly from all of them."""
    step = max(1, len(samples) / count)
    return [samples[int(i * step)] for i in range(min(count, len(samples)))]
