"""Prepares a fine-tuning from files."""

from __future__ import annotations

import gc
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
from stvla_ros.data.st_human.samples import Sample
from stvla_ros.data.st_human.samples_json import read_samples
from stvla_ros.devices import Placement
from stvla_ros.planning.qwen3_vl.checkpoint import Checkpoint, load
from stvla_ros.train.sft.batches import PackedSamples, token_counts
from stvla_ros.train.sft.encode import Encoder
from stvla_ros.train.sft.experiments import SftExperiment
from stvla_ros.train.sft.lora import adapted, use_gradient_checkpointing
from stvla_ros.train.sft.run import SftRun

VALIDATION_SHARE = 0.02
MAX_VALIDATION_SAMPLES = 512
ASKED = 64
"""Validation samples whose answers are generated and scored."""


@dataclass(frozen=True)
class SftFiles:
    """What a fine-tuning reads and writes.

    Attributes:
        model: Folder or hub id of the base model.
        data: Files of samples.
        val: File of validation samples; None: a share of the data.
        adapter: Adapter of the previous stage; None: a new one.
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
        ConfigError: A file has another format, or nothing is left to train on.
    """
    samples = [sample for path in files.data for sample in read_samples(path)]
    if files.val is not None:
        val = read_samples(files.val)
        same = {_key(s) for s in val} & {_key(s) for s in samples}
        if same:
            raise ConfigError(
                f"{files.val}: {len(same)} of its samples are also in the training data, e.g. '{min(same)[0]}'."
            )
        return samples, val[:MAX_VALIDATION_SAMPLES]
    every = max(round(1 / VALIDATION_SHARE), -(-len(samples) // MAX_VALIDATION_SAMPLES))
    train = [s for i, s in enumerate(samples) if i % every]
    if not train:
        raise ConfigError("stvla sft: wanted more than one sample, or --val: one sample is kept for validation.")
    return train, samples[::every]


def _key(sample: Sample) -> tuple[str, ...]:
    return (sample.id, *(m.content for m in sample.messages), *map(str, sample.images))


def accelerator(experiment: SftExperiment) -> Accelerator:
    """The processes that torchrun or accelerate started; the timeout leaves time for validation in one of them."""
    bf16 = experiment.bf16 and torch.cuda.is_available()
    deepspeed = os.environ.get("ACCELERATE_USE_DEEPSPEED", "false") == "true"  # set by accelerate's launcher
    made = Accelerator(
        cpu=not torch.cuda.is_available() and not deepspeed,  # otherwise processes on CPUs would not find each other
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


def end(accelerator: Accelerator) -> None:
    """End the processes' group. The caller has let go of its run.

    The distributed model must go first. If it is the last to hold the group, it ends the group's threads while it keeps
    Python's lock, and now and then one of them waits for that lock: the process would hang for ever.
    """
    accelerator.free_memory()
    gc.collect()
    accelerator.end_training()


def prepare(
    accelerator: Accelerator,
    experiment: SftExperiment,
    files: SftFiles,
    steps: int | None,
    seed: int,
    workers: int,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> SftRun:
    """Read data and model, count tokens, pack samples, add the adapter.

    Args:
        accelerator: From :func:`accelerator`.
        experiment: Settings.
        files: What to read, and where to write.
        steps: Optimiser steps; None: the experiment's epochs.
        seed: For the order, LoRA's initial weights and dropout.
        workers: Processes that prepare batches.
        on_progress: Called with the number of samples whose tokens are counted, and of all.

    Raises:
        ConfigError: A file is wrong, or files do not fit together.
    """
    train, val = split(files)
    checkpoint = _checkpoint(accelerator, experiment, files.model)
    encoder = Encoder(checkpoint)
    counts = _counts(accelerator, experiment, files, encoder, [train, val], on_progress)
    shape = (experiment.max_tokens, experiment.batch, checkpoint.processor.tokenizer.pad_token_id or 0)
    world, rank = accelerator.num_processes, accelerator.process_index
    packs = PackedSamples(
        train, encoder, counts[0], *shape, rank, world, experiment.epochs, seed, experiment.accumulate
    )
    val_packs = PackedSamples(val, encoder, counts[1], *shape)
    torch.manual_seed(seed)
    model = adapted(checkpoint.model, experiment, files.adapter)
    if experiment.checkpointing:
        use_gradient_checkpointing(model)
    total = steps or len(packs) // experiment.accumulate
    identity = _identity(files, world, len(train))
    return SftRun(
        accelerator, experiment, checkpoint, model, packs, val_packs, _evenly(val, ASKED), files.output, total,
        identity, seed, workers,
    )  # fmt: skip


def _checkpoint(accelerator: Accelerator, experiment: SftExperiment, model: str) -> Checkpoint:
    bf16 = accelerator.mixed_precision == "bf16"
    placement = Placement(accelerator.device, torch.bfloat16 if bf16 else torch.float32)
    found = load(model, placement, "sft")
    limit_images(found, experiment.image_tokens)
    return found


def limit_images(checkpoint: Checkpoint, tokens: int) -> None:
    """Let the processor scale larger images down to so many tokens."""
    images = checkpoint.processor.image_processor
    side = images.patch_size * images.merge_size
    most = min(int(images.size["longest_edge"]), tokens * side * side)
    images.size = {"shortest_edge": min(int(images.size["shortest_edge"]), most), "longest_edge": most}


def _counts(
    accelerator: Accelerator,
    experiment: SftExperiment,
    files: SftFiles,
    encoder: Encoder,
    parts: Sequence[Sequence[Sample]],
    on_progress: Callable[[int, int], None],
) -> list[Any]:
    """Tokens of every sample of every part; the first process counts, the others read its result."""
    key = f"{files.model} {experiment.image_tokens}"
    total, done = sum(map(len, parts)), 0

    def counted(more: int) -> None:
        nonlocal done
        done += more
        on_progress(done, total)

    with accelerator.main_process_first():
        return [
            token_counts(part, encoder, files.output / f"tokens-{name}.npz", key, counted)
            for name, part in zip(("train", "val"), parts)
        ]


def _identity(files: SftFiles, world: int, samples: int) -> Mapping[str, Any]:
    data = [str(path.resolve()) for path in files.data]
    adapter = str(files.adapter.resolve()) if files.adapter else ""
    return {"model": files.model, "data": data, "samples": samples, "adapter": adapter, "processes": world}


def _evenly(samples: Sequence[Sample], count: int) -> list[Sample]:
    """At most ``count`` samples, evenly spaced."""
    step = max(1, len(samples) / count)
    return [samples[int(i * step)] for i in range(min(count, len(samples)))]
