"""Named experiments: all settings of a training run, in one table.

``3dda`` and ``3dfa`` have the values of the paper's table 8, which are those of 3D FlowMatch Actor's PerAct scripts;
they differ only in the denoiser. ``-baseline`` trains on the camera's own images, without mask and overlay. ``nano``
experiments replace CLIP by a small visual encoder and a vocabulary of their own, and train from scratch on a CPU.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from stvla_ros.config import lookup
from stvla_ros.policy.network.config import FLOWMATCH_ACTOR, NetworkConfig
from stvla_ros.train.policy.path_noise import NO_NOISE, PathNoise


@dataclass(frozen=True)
class Augmentation:
    """Random changes of a training sample that keep its answer right.

    Attributes:
        scale: Range of random magnification, of colour and cloud together (3D FlowMatch Actor).
        shift_m: Maximum shift of cloud, history and target together, along x and y of the base frame.
        turn_rad: Maximum rotation of them together, about the vertical.
        about_base: Turn about the axis of the robot's first joint, which changes neither arm nor task, instead of the
            mean of the batch's targets.
        jitter_m: Maximum shift of each position in the history, along each axis. A robot never quite reaches its
            target, and a policy that copies the history would never correct the error.
        unknown_words: Share of words replaced by the unknown one.
    """

    scale: tuple[float, float] = (1.0, 1.0)
    shift_m: float = 0.0
    turn_rad: float = 0.0
    about_base: bool = False
    jitter_m: float = 0.0
    unknown_words: float = 0.0


@dataclass(frozen=True)
class Experiment:
    """One way to train a policy.

    Attributes:
        name: Its key in the table.
        network: Architecture and denoiser.
        guidance: Kind of images: ``full`` (mask and path), ``mask_only``, ``off`` (the camera's own).
        steps: Optimiser steps.
        batch: Observations per step.
        draws: Noise draws per encoded observation.
        lr: Learning rate of AdamW.
        betas: Of AdamW.
        weight_decay: Of weight matrices; norms and biases do not decay.
        warmup: Steps in which the learning rate rises to ``lr``.
        cosine: The learning rate falls to a hundredth along a cosine; otherwise it is constant.
        clip_norm: Largest norm of the gradient.
        ema: Save an exponential moving average of the weights.
        bf16: Forward pass in bfloat16 on a GPU.
        bounds_margin_m: Margin of the normaliser around the training actions.
        augment: Random changes.
        path_noise: On the paths of the training samples.
        even_tasks: Draw every task equally often, and mix tasks in a batch; for networks with words of their own, whose
            instructions are padded. Otherwise a batch has instructions of one length.
        validate_every: Steps between validations, each of which leaves a checkpoint.

    Raises:
        ValueError: Tasks are to be mixed, but the network attends to padding.
    """

    name: str
    network: NetworkConfig
    guidance: str = "full"
    steps: int = 300_000
    batch: int = 64
    draws: int = 1
    lr: float = 1e-4
    betas: tuple[float, float] = (0.9, 0.95)
    weight_decay: float = 1e-10
    warmup: int = 0
    cosine: bool = False
    clip_norm: float = 10.0
    ema: bool = False
    bf16: bool = True
    bounds_margin_m: float = 0.04
    augment: Augmentation = Augmentation(scale=(0.75, 1.25))
    path_noise: PathNoise = NO_NOISE
    even_tasks: bool = False
    validate_every: int = 4000

    def __post_init__(self) -> None:
        if self.even_tasks and self.network.text != "words":
            raise ValueError(f"{self.name}: even_tasks needs words of the network's own: CLIP attends to padding.")


FLOW = replace(FLOWMATCH_ACTOR, denoiser="flow", steps=5)
DDPM = replace(FLOWMATCH_ACTOR, denoiser="ddpm", steps=100)

NANO = replace(
    FLOWMATCH_ACTOR,
    image_px=128,
    visual="nano",
    visual_cloud=True,
    shared_scene=True,
    rotary_scale=60.0,
    text="words",
    vocabulary=1,  # replaced by the data's
    width=60,
    heads=4,
    dropout=0.0,
    rotary_dropout=0.0,
    denoiser="flow",
    steps=5,
)

PLANNER_NOISE = PathNoise(bias_m=0.006, waypoint_m=0.006, cut=0.1)
"""Roughly what a planner of 512 pixels misses by: 5 to 10 pixels per waypoint and 1 cm in depth, at 1.3 m."""

_NANO = Experiment(
    "nano-3dfa",
    NANO,
    steps=9_000,
    batch=16,
    draws=32,
    lr=1e-3,
    weight_decay=1e-4,
    warmup=300,
    cosine=True,
    clip_norm=1.0,
    ema=True,
    augment=Augmentation(shift_m=0.03, turn_rad=0.1, jitter_m=0.01, unknown_words=0.1),
    even_tasks=True,
    validate_every=250,
)

_PATH = replace(_NANO, name="nano-3dfa-path", network=replace(NANO, path_channels=True), path_noise=PLANNER_NOISE)
"""The path in channels of its own, and off like a planner's. Of the package's weights."""

_ALL = (
    Experiment("3dda", DDPM),
    Experiment("3dfa", FLOW),
    Experiment("3dda-baseline", DDPM, guidance="off"),
    Experiment("3dfa-baseline", FLOW, guidance="off"),
    _NANO,
    replace(_NANO, name="nano-3dda", network=replace(NANO, denoiser="ddpm", steps=100)),
    replace(_NANO, name="nano-3dfa-baseline", guidance="off"),
    _PATH,
    replace(_PATH, name="nano-3dfa-path-baseline", guidance="off", path_noise=NO_NOISE),
    replace(_NANO, name="nano-3dda-baseline", network=replace(NANO, denoiser="ddpm", steps=100), guidance="off"),
)

EXPERIMENTS = {experiment.name: experiment for experiment in _ALL}


def experiment(name: str) -> Experiment:
    """An experiment of the table.

    Raises:
        ConfigError: No such name; the message has the closest.
    """
    return lookup(EXPERIMENTS, name, "experiment")
