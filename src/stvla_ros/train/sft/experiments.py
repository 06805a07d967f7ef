"""Named fine-tunings: all settings of each, in one table.

``general`` and ``st-human`` are the paper's two stages (its table 7): LoRA of rank 64 and alpha 128 in all linear
layers of the language model, vision tower and aligner frozen, batch 6 with 2 accumulation steps, warm-up over 5 % of
one epoch, bfloat16, 4096 tokens, 1024 tokens per image. The available text of the paper lacks the learning rate. It is
taken from ms-swift, whose data format the paper uses, and so are dropout, weight decay, betas and the cosine. ``nano``
experiments are for small models of the same architecture, on two CPU cores.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from stvla_ros.config import lookup


@dataclass(frozen=True)
class SftExperiment:
    """One way to fine-tune.

    Attributes:
        name: Its key in the table.
        rank: Of LoRA's matrices.
        alpha: Scale of LoRA, divided by the rank.
        dropout: Before LoRA's first matrix.
        lr: Peak learning rate of AdamW.
        warmup: Share of all steps in which the rate rises to ``lr``; then it falls along a cosine to 0.
        epochs: Passes over the samples.
        batch: Packed sequences per device and forward pass.
        accumulate: Forward passes per step.
        max_tokens: Length of a packed sequence; longer samples are left out.
        image_tokens: Larger images are scaled down to this many tokens.
        weight_decay: Of AdamW.
        betas: Of AdamW.
        clip_norm: Largest norm of the gradient.
        bf16: Weights and forward pass in bfloat16 on a GPU.
        checkpointing: Recompute activations in the backward pass: a third slower, a fraction of the memory.
        validate_every: Steps between validations, each of which leaves a checkpoint.
        keep: Number of newest checkpoints to keep.
    """

    name: str
    rank: int = 64
    alpha: int = 128
    dropout: float = 0.05
    lr: float = 1e-4
    warmup: float = 0.05
    epochs: int = 1
    batch: int = 6
    accumulate: int = 2
    max_tokens: int = 4096
    image_tokens: int = 1024
    weight_decay: float = 0.1
    betas: tuple[float, float] = (0.9, 0.95)
    clip_norm: float = 1.0
    bf16: bool = True
    checkpointing: bool = True
    validate_every: int = 500
    keep: int = 3


_GENERAL = SftExperiment("general")
_NANO = SftExperiment(
    "nano-general",
    rank=16,
    alpha=32,
    dropout=0.0,
    lr=1e-3,
    batch=1,
    accumulate=4,
    max_tokens=1024,
    image_tokens=256,
    bf16=False,
    checkpointing=False,
    validate_every=100,
)

_ALL = (_GENERAL, replace(_GENERAL, name="st-human"), _NANO, replace(_NANO, name="nano-st-human"))

EXPERIMENTS = {experiment.name: experiment for experiment in _ALL}


def experiment(name: str) -> SftExperiment:
    """A fine-tuning of the table.

    Raises:
        ConfigError: No such name; the message has the closest.
    """
    return lookup(EXPERIMENTS, name, "experiment")
