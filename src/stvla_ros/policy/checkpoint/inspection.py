"""Describes a policy checkpoint, ours or a released one, for ``stvla policy inspect``."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from stvla_ros.config import ConfigError
from stvla_ros.policy.checkpoint.architecture import LAYERS, Released, inferred
from stvla_ros.policy.checkpoint.names import DIFFUSER
from stvla_ros.policy.checkpoint.policy_file import (
    BOUNDS,
    PolicyFile,
    check_weights,
    is_policy_file,
    read_policy_file,
    weightless,
)
from stvla_ros.policy.checkpoint.reading import HOW, IMPLIED, PRESETS, Reading, unknown
from stvla_ros.policy.checkpoint.released import open_released, used_weights
from stvla_ros.policy.network.config import FLOWMATCH_ACTOR, NetworkConfig
from stvla_ros.policy.network.network import KeyposeNetwork

ANY = Reading(cameras=("any",), image_px=256, heads=1, subsample_factor=1, steps=1, denoiser="flow")
"""Any values for what does not change names and shapes of weights."""


@dataclass(frozen=True)
class Inspection:
    """Facts about a checkpoint; None where its file does not say.

    Attributes:
        file: Path.
        kind: ``stvla policy``, or the code that it was released with.
        parameters: Number of values in all used weights.
        trainable: ... in those that training changes.
        unused: ... in weights of the file that no output depends on.
        width: Channels of every token.
        heads: Attention heads.
        layers: Number of layers by name.
        past_poses: Rows of the history, over all hands.
        hands: 1 or 2.
        cameras: Number, or names in order.
        image_px: Width and height.
        visual: Image network.
        text: Text encoder.
        vocabulary: Its words, if it learned a vocabulary.
        tokenizer: Source of CLIP's tokenizer.
        subsample_factor: One image token in this many is kept.
        denoiser: ``flow`` or ``ddpm``.
        steps: Denoising steps.
        quaternion: ``xyzw`` or ``wxyz_literal``.
        frame: Frame of its positions.
        bounds_m: (2, 3) corners of the workspace.
        guidance: What was done to its training images.
        trained: Training record.
        needs: What must be given to use it, as options of ``stvla policy convert``.
        presets: Published files that it may be.
    """

    file: str
    kind: str
    parameters: int
    trainable: int
    unused: int
    width: int
    heads: int | None
    layers: dict[str, int]
    past_poses: int
    hands: int | None
    cameras: int | list[str] | None
    image_px: int | None
    visual: str
    text: str
    vocabulary: list[str]
    tokenizer: str
    subsample_factor: int | None
    denoiser: str | None
    steps: int | None
    quaternion: str | None
    frame: str | None
    bounds_m: list[list[float]] | None
    guidance: str
    trained: dict[str, Any]
    needs: list[str]
    presets: list[str]

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def inspect(path: Path) -> Inspection:
    """Describe a checkpoint. Names and shapes are checked, values are not.

    Raises:
        ConfigError: It is no checkpoint, or a weight is missing, unknown or of another shape.
    """
    if is_policy_file(path):
        return _own(path, read_policy_file(path))
    return _released(open_released(path))


def _own(path: Path, policy: PolicyFile) -> Inspection:
    n = policy.network
    if BOUNDS not in policy.weights:
        raise ConfigError(f"{path}: '{BOUNDS}' is missing: without workspace bounds it cannot be run.")
    check_weights(weightless(n), policy.weights, str(path))
    return replace(
        _common(path, n, unused=0),
        heads=n.heads,
        hands=n.hands,
        cameras=list(policy.cameras) or n.cameras,
        image_px=n.image_px,
        vocabulary=list(policy.vocabulary.words),
        tokenizer=policy.tokenizer,
        subsample_factor=n.subsample_factor,
        denoiser=n.denoiser,
        steps=n.steps,
        quaternion=policy.quaternion,
        frame=policy.frame,
        bounds_m=_rounded(policy.weights[BOUNDS]),
        guidance=policy.guidance,
        trained=dict(policy.trained),
    )


def _released(released: Released) -> Inspection:
    """What the file does not say stays None; several hands count as one with a longer history."""
    implied: dict[str, Any] = dict(IMPLIED[released.code])
    network = inferred(released, ANY)
    weights = used_weights(released, network)
    wanted = weightless(network)
    if released.code == DIFFUSER:
        wanted = {name: w for name, w in wanted.items() if name != BOUNDS and not name.startswith("encoder.normalize.")}
    check_weights(wanted, weights, str(released.path), released.theirs)
    lacking = unknown(Reading(), released.code)
    return replace(
        _common(released.path, network, unused=_numbers(released.weights) - _numbers(weights)),
        kind=released.code,
        hands=implied.get("hands"),
        denoiser=implied.get("denoiser"),
        quaternion=implied.get("quaternion"),
        bounds_m=_rounded(weights[BOUNDS]) if BOUNDS in weights else None,
        trained={"steps": released.iterations},
        needs=[HOW[name] for name in lacking],
        presets=_published(released, network),
    )


def _published(released: Released, network: NetworkConfig) -> list[str]:
    """Names of the published files that a file may be; only one if the file has its name."""
    alike = [name for name in PRESETS if _may_be(name, released, network)]
    return [name for name in alike if name == released.path.stem] or alike


def _may_be(name: str, released: Released, network: NetworkConfig) -> bool:
    """Whether a file's shapes match a published one."""
    published = PRESETS[name]
    past_poses = FLOWMATCH_ACTOR.history * (published.reading.hands or 1)
    found = (released.code, network.history, network.vision_text_layers)
    return found == (published.code, past_poses, published.vision_text_layers)


def _common(path: Path, network: NetworkConfig, unused: int) -> Inspection:
    """What follows from names and shapes; everything else is unknown."""
    total, trainable = _counts(network)
    return Inspection(
        file=str(path),
        kind="stvla policy",
        parameters=total,
        trainable=trainable,
        unused=unused,
        width=network.width,
        heads=None,
        layers={name.removesuffix("_layers"): getattr(network, name) for name in LAYERS},
        past_poses=network.history * network.hands,
        hands=None,
        cameras=None,
        image_px=None,
        visual=network.visual,
        text=network.text,
        vocabulary=[],
        tokenizer="",
        subsample_factor=None,
        denoiser=None,
        steps=None,
        quaternion=None,
        frame=None,
        bounds_m=None,
        guidance="off",
        trained={},
        needs=[],
        presets=[],
    )


def _counts(network: NetworkConfig) -> tuple[int, int]:
    with torch.device("meta"):
        parameters = list(KeyposeNetwork(network, ((0, 0, 0), (1, 1, 1))).parameters())
    return sum(p.numel() for p in parameters), sum(p.numel() for p in parameters if p.requires_grad)


def _numbers(weights: Any) -> int:
    return sum(weight.numel() for weight in weights.values())


def _rounded(bounds: torch.Tensor) -> list[list[float]]:
    return [[round(float(x), 4) for x in corner] for corner in bounds]
