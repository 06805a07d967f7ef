"""Infers a released network's architecture from the names and shapes in its file."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from stvla_ros.config import ConfigError
from stvla_ros.policy.checkpoint.names import DIFFUSER
from stvla_ros.policy.checkpoint.reading import Reading
from stvla_ros.policy.network.config import DIFFUSER_ACTOR, FLOWMATCH_ACTOR, NetworkConfig

LAYERS = {
    "vision_text_layers": ("encoder.vl_attention",),
    "history_layers": ("encoder.gripper_context_head",),
    "cross_layers": ("prediction_head.cross_attn",),
    "shared_layers": ("prediction_head.self_attn",),
    "branch_layers": ("prediction_head.rotation_self_attn", "prediction_head.position_self_attn"),
}
"""Field of :class:`NetworkConfig` -> modules with that many layers."""


@dataclass(frozen=True, eq=False)
class Released:
    """A released file, with its weights under our names.

    Attributes:
        path: The file.
        code: The code that wrote it: ``3D Diffuser Actor`` or ``3D FlowMatch Actor``.
        weights: Our name -> tensor, including unused weights.
        theirs: Our name -> name in the file.
        iterations: Training steps according to the file; 0 if it does not say.
        average: Whether these are moving averages of the weights.
    """

    path: Path
    code: str
    weights: Mapping[str, torch.Tensor]
    theirs: Mapping[str, str]
    iterations: int = 0
    average: bool = False


def inferred(released: Released, reading: Reading) -> NetworkConfig:
    """Architecture from names and shapes, and from a complete reading.

    Raises:
        ConfigError: The result is no network that exists here.
    """
    where, weights = str(released.path), released.weights
    width, numbers = _shape(released, "traj_encoder.weight")
    rows, _ = _shape(released, "encoder.curr_gripper_embed.weight")
    rotation, _ = _shape(released, "prediction_head.rotation_predictor.2.weight")
    if (numbers, rotation) != (9, 6):
        raise ConfigError(f"{where}: wanted poses of 9 numbers with rotations of 6, found {numbers} and {rotation}.")
    hands = reading.hands or 1
    if rows % hands:
        raise ConfigError(f"{where}: {rows} past poses cannot be divided among {hands} hands: check --hands.")
    base = DIFFUSER_ACTOR if released.code == DIFFUSER else FLOWMATCH_ACTOR
    given = {name: getattr(reading, name) for name in ("heads", "image_px", "subsample_factor", "denoiser", "steps")}
    layers: dict[str, Any] = {name: _layers(weights, modules, where) for name, modules in LAYERS.items()}
    try:
        return replace(
            base, width=width, hands=hands, history=rows // hands, cameras=len(reading.cameras or ()), **given, **layers
        )
    except ValueError as error:
        raise ConfigError(f"{where}: {error}") from error


def _shape(released: Released, name: str) -> tuple[int, int]:
    weight = released.weights.get(name)
    if weight is None:
        raise ConfigError(f"{released.path}: '{name}' is missing.")
    if weight.ndim != 2:
        raise ConfigError(
            f"{released.path}: '{released.theirs[name]}' has shape {tuple(weight.shape)}, wanted a matrix."
        )
    return int(weight.shape[0]), int(weight.shape[1])


def _layers(weights: Mapping[str, torch.Tensor], modules: tuple[str, ...], where: str) -> int:
    """Number of layers of some modules: the highest index plus one."""
    counts = {}
    for module in modules:
        found = [re.match(re.escape(module) + r"\.attn_layers\.(\d+)\.", name) for name in weights]
        counts[module] = max((int(match[1]) + 1 for match in found if match), default=0)
    if len(set(counts.values())) > 1 or 0 in counts.values():
        raise ConfigError(f"{where}: wanted one or more layers, the same number in each, found {counts}.")
    return next(iter(counts.values()))
