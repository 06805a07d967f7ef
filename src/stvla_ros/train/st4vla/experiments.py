"""Named trainings of ST4VLA: all settings of each, in one table.

``st4vla`` has the published values: those of the report on InternVLA-M1 (arXiv 2510.13778) for batches and steps, of its
configuration files for optimiser and rates. Unlike there, every step has one update of the summed loss, and clipping
clips. ``nano`` experiments are for the nano Qwen3-VL, on two CPU cores.

**Why nano learns a flow.** Sampling begins where next to nothing of the action is left. There the published loss, on the
predicted noise, hardly counts an error of the action: its weight is a / (1 - a), 0.1 at step 80 of 100 and below 0.001
at the last two, by which sampling divides the squared error. A flow's prediction counts it fully at all times. Four
samples whose constant guess is 81 mm off, learned from fixed states of the VLM in 400 steps: noise 86 mm, flow 17 mm.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from stvla_ros.config import lookup
from stvla_ros.planning.prompt import UNIFIED_PROMPT
from stvla_ros.policy.st4vla.actions import DIMENSIONS, KEYPOSE
from stvla_ros.policy.st4vla.config import NANO, ActionExpertConfig

CHUNK = 4
"""Keyposes per chunk; one step of a task has six to eight."""


@dataclass(frozen=True)
class St4VlaExperiment:
    """One way to train.

    Attributes:
        name: Its key in the table.
        expert: Architecture of the action expert; ``vlm_width`` is replaced by the VLM's.
        nano: Begin with a random nano Qwen3-VL if no VLM is given.
        guidance: Kind of images: ``full`` (mask and path), ``mask_only``, ``off`` (the camera's own).
        prompt: Template of an action sample's text.
        steps: Optimiser steps.
        batch: Observations per step.
        grounding_batch: Packed sequences of conversations per step.
        max_tokens: Length of such a sequence; longer conversations are left out.
        image_tokens: Larger images of conversations are scaled down to this many tokens.
        grounding: Weight of the loss on conversations; the action loss has 1.
        lr_vlm: Learning rate of the VLM.
        lr_bridge: Of the querying transformer.
        lr_head: Of the action head.
        betas: Of AdamW.
        weight_decay: Of weight matrices.
        warmup: Steps in which the rates rise.
        floor: Share of the rates to which a cosine takes them.
        clip_norm: Largest norm of the whole gradient.
        bf16: The VLM's forward pass in bfloat16 on a GPU.
        checkpointing: Recompute the VLM's activations in the backward pass.
        validate_every: Steps between validations, each of which leaves a checkpoint.
    """

    name: str
    expert: ActionExpertConfig
    nano: bool = False
    guidance: str = "off"
    prompt: str = UNIFIED_PROMPT
    steps: int = 50_000
    batch: int = 256
    grounding_batch: int = 16
    max_tokens: int = 2048
    image_tokens: int = 1024
    grounding: float = 0.1
    lr_vlm: float = 1e-5
    lr_bridge: float = 5e-5
    lr_head: float = 1e-4
    betas: tuple[float, float] = (0.9, 0.95)
    weight_decay: float = 1e-8
    warmup: int = 5000
    floor: float = 0.05
    clip_norm: float = 1.0
    bf16: bool = True
    checkpointing: bool = True
    validate_every: int = 1000

    def rate(self, step: int) -> float:
        """Share of the learning rates at a step: linear warm-up, then a cosine down to ``floor``."""
        warm = min(1.0, (step + 1) / self.warmup) if self.warmup else 1.0
        done = min(max(step - self.warmup, 0) / max(self.steps - self.warmup, 1), 1.0)
        return warm * (self.floor + (1 - self.floor) * (1 + math.cos(math.pi * done)) / 2)


_FULL = St4VlaExperiment("st4vla", ActionExpertConfig(eye_width=0, chunk=CHUNK, action_dim=DIMENSIONS[KEYPOSE]))

_NANO = St4VlaExperiment(
    "st4vla-nano",
    replace(NANO, chunk=CHUNK, action_dim=DIMENSIONS[KEYPOSE], head="flow"),
    nano=True,
    steps=4000,
    batch=16,
    grounding_batch=1,
    max_tokens=512,
    image_tokens=64,
    lr_vlm=5e-4,
    lr_bridge=1e-3,
    lr_head=1e-3,
    weight_decay=1e-4,
    warmup=100,
    bf16=False,
    checkpointing=False,
    validate_every=100,
)

EXPERIMENTS = {experiment.name: experiment for experiment in (_FULL, _NANO)}


def experiment(name: str) -> St4VlaExperiment:
    """A training of the table.

    Raises:
        ConfigError: No such name; the message has the closest.
    """
    return lookup(EXPERIMENTS, name, "experiment")
