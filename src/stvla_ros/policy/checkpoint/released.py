"""Reads published weights of 3D Diffuser Actor and 3D FlowMatch Actor strictly.

The code, width, layers and history are inferred from names and shapes. Everything else must be given
(:class:`Reading`). Every weight in the file is used or listed as unused; nothing is ignored silently.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from stvla_ros.config import ConfigError
from stvla_ros.policy.checkpoint.architecture import Released, inferred
from stvla_ros.policy.checkpoint.bounds import check_bounds, with_margin
from stvla_ros.policy.checkpoint.names import DIFFUSER, flavour, is_unused, renamed
from stvla_ros.policy.checkpoint.policy_file import BOUNDS, PolicyFile, check_weights, weightless
from stvla_ros.policy.checkpoint.reading import PRESETS, Reading, completed, preset
from stvla_ros.policy.checkpoint.torch_file import read_torch_file, tensors, weights_in
from stvla_ros.policy.network.config import NetworkConfig
from stvla_ros.policy.network.encoder import CLIP_MEAN, CLIP_STD
from stvla_ros.weights import check_finite

STEPS = ("iter", "global_step", "step")
"""Keys under which training code stores the number of steps."""

TEXT_MODEL = "openai/clip-vit-base-patch32"
"""Tokenizer of both codes, and 3D Diffuser Actor's text model."""


def open_released(path: Path, *, average: bool = False) -> Released:
    """Read names and tensors.

    Args:
        path: A file of ``torch.save``: ``{weight, [ema_weight, optimizer, iter, best_loss]}``, or as other training
            code saves weights (:data:`stvla_ros.policy.checkpoint.torch_file.KEYS`).
        average: Take the moving average of the weights, if training kept one. The published evaluations take the
            weights themselves.

    Raises:
        ConfigError: This is no such file, or not from these codes.
    """
    content = read_torch_file(path)
    weights = weights_in(content, str(path))
    if average:
        weights = _averaged(weights, content, path)
    code = flavour(weights, str(path))
    ours, theirs = renamed(weights, code, str(path))
    steps = next((content[name] for name in STEPS if name in content), 0)
    return Released(path, code, ours, theirs, steps if isinstance(steps, int) else 0, average)


def _averaged(weights: dict[str, torch.Tensor], content: Mapping[str, Any], path: Path) -> dict[str, torch.Tensor]:
    """Averaged parameters with the buffers of the weights: 3D FlowMatch Actor's average never updates buffers."""
    if content.get("ema_weight") is None:
        raise ConfigError(f"{path}: has no moving average of its weights (ema_weight): leave --ema out.")
    averaged = tensors(content["ema_weight"], f"{path}: ema_weight")
    buffers = {name: value for name, value in weights.items() if re.search(r"\.(running_|num_batches)", name)}
    return averaged | buffers


def reading_as(released: Released, name: str | None, given: Reading) -> Reading:
    """The given values, over those of the published file ``name``, if any.

    Raises:
        ConfigError: There is no such published file, or it is from another code.
    """
    if name is None:
        return given
    published = preset(name)
    if published.code != released.code:
        valid = [other for other, p in PRESETS.items() if p.code == released.code]
        raise ConfigError(
            f"{released.path}: this is a file of {released.code}, but '{name}' is one of {published.code}: "
            f"give --as {' or '.join(valid)}."
        )
    return given.over(published.reading)


def read_released(path: Path, reading: Reading, *, average: bool = False) -> PolicyFile:
    """A released file in our format.

    Args:
        path: The file.
        reading: Everything that the file does not say.
        average: As for :func:`open_released`.

    Raises:
        ConfigError: The file is of another kind, a weight is missing, unknown, not finite or of another shape, or a
            needed value was not given; the message names it and says what to do.
    """
    return as_policy_file(open_released(path, average=average), reading)


def as_policy_file(released: Released, reading: Reading) -> PolicyFile:
    """As :func:`read_released`, for an opened file."""
    where = str(released.path)
    reading = completed(reading, released.code, where)
    network = inferred(released, reading)
    weights = used_weights(released, network)
    if released.code == DIFFUSER:
        bounds = with_margin(check_bounds(reading.bounds_m, where), reading.buffer_m or 0.0, where)
        weights |= {BOUNDS: torch.tensor(bounds, dtype=torch.float32), **_normalize()}
    check_weights(weightless(network), weights, where, released.theirs)
    check_finite(weights, where)
    if not weights[BOUNDS].is_meta:
        check_bounds(weights[BOUNDS].tolist(), f"{where}: '{BOUNDS}'")
    return PolicyFile(
        network=network,
        weights=weights,
        guidance="off",
        tokenizer=TEXT_MODEL,
        cameras=reading.cameras or (),
        quaternion=reading.quaternion or "xyzw",
        frame=reading.frame or "base",
        trained={
            "source": released.path.name,
            "code": released.code,
            "steps": released.iterations,
            "moving_average": released.average,
        },
    )


def used_weights(released: Released, network: NetworkConfig) -> dict[str, torch.Tensor]:
    """Weights as float32, without the unused ones."""
    used = {n: w for n, w in released.weights.items() if not is_unused(n, released.code, network.hands)}
    return {name: w.float() if w.is_floating_point() else w for name, w in used.items()}


def _normalize() -> dict[str, torch.Tensor]:
    """The image normalisation, which 3D Diffuser Actor keeps in its code."""
    values = {"mean": CLIP_MEAN, "std": CLIP_STD}
    return {f"encoder.normalize.{name}": torch.tensor(value).view(1, 3, 1, 1) for name, value in values.items()}
