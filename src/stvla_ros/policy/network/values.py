"""Input of the keypose network, its checks, and what is kept of a scene between denoising steps."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from stvla_ros.policy.network.config import NetworkConfig
from stvla_ros.policy.network.rotary import Rotary
from stvla_ros.policy.network.schedulers import POSITION, ROTATION


@dataclass(frozen=True)
class NetworkInput:
    """A batch of B observations."""

    rgb: Tensor
    """(B, cameras, 3, H, W) float32, 0..1."""
    xyz_m: Tensor
    """(B, cameras, 3, H, W) float32: position of every pixel in the workspace frame. It must be finite where tokens
    take their position: in the central 2 x 2 pixels of each square of ``visual_stride`` pixels."""
    text: Tensor
    """(B, n) int64 ids, or (B, n, 512) float32 for text "features". For text "words", ids below 0 are padding, which
    changes nothing."""
    history: Tensor
    """(B, history, hands, 8) float32, oldest first: xyz in metres, quaternion xyzw, open 0 or 1; only xyz is used."""
    path_m: Tensor | None = None
    """(B, K, 3) float32 points of the path to follow, in the workspace frame; NaN for observations without a path. None
    is for networks without ``path_channels``."""


@dataclass(frozen=True)
class SceneContext:
    """What does not depend on the denoising step. Positions are in the rotary encoding's unit: metres, or -1..1."""

    image: Tensor
    """Image tokens (B, N, width), camera by camera, row by row."""
    image_xyz: Tensor
    """Positions of the image tokens (B, N, 3)."""
    image_rotary: Rotary
    """The rotary table of these positions."""
    sampled: Tensor
    """The image tokens kept for self-attention (B, M, width)."""
    sampled_xyz: Tensor
    """Positions of the sampled tokens (B, M, 3)."""
    sampled_rotary: Rotary
    """The rotary table of these positions."""
    text: Tensor
    """Text tokens (B, n, width)."""
    text_seen: Tensor | None
    """(B, 1, 1, n) False where a text token is padding; None: none is."""
    history: Tensor
    """Features of the past gripper poses (B, history * hands, width)."""


@dataclass(frozen=True)
class Noise:
    """All randomness of one sampling."""

    start: Tensor
    """Start of denoising (B, L, hands, 9), standard normal."""
    steps: Tensor
    """Noise added after each step (steps, B, L, hands, 9), the last of them unused; (0, ...) for a flow."""

    @classmethod
    def draw(
        cls,
        config: NetworkConfig,
        batch: int,
        generator: torch.Generator | None = None,
        *,
        length: int = 1,
        device: torch.device | str = "cpu",
    ) -> Noise:
        """Noise for ``batch`` samples of ``length`` keyposes; the generator must be on ``device``.

        A step's position noise is drawn before its rotation noise, as in the published networks.
        """

        def normal(channels: int) -> Tensor:
            return torch.randn(batch, length, config.hands, channels, generator=generator, device=device)

        start = normal(POSITION + ROTATION)
        if config.denoiser == "flow":
            return cls(start, start.new_zeros(0, *start.shape))
        steps = [torch.cat((normal(POSITION), normal(ROTATION)), -1) for _ in range(config.steps - 1)]
        return cls(start, torch.stack([*steps, torch.zeros_like(start)]))


def check_inputs(inputs: NetworkInput, config: NetworkConfig) -> None:
    """Raise ValueError if an input's shape does not match the configuration."""
    batch = len(inputs.rgb)
    image = (batch, config.cameras, 3, config.image_px, config.image_px)
    text = (batch, inputs.text.shape[1]) + ((512,) if config.text == "features" else ())
    wanted = {"rgb": image, "xyz_m": image, "text": text, "history": (batch, config.history, config.hands, 8)}
    for name, shape in wanted.items():
        found = tuple(getattr(inputs, name).shape)
        if found != shape:
            raise ValueError(f"NetworkInput.{name}: wanted shape {shape}, found {found}.")
    if config.path_channels:
        path = None if inputs.path_m is None else tuple(inputs.path_m.shape)
        if path is None or len(path) != 3 or (path[0], path[2]) != (batch, 3):
            raise ValueError(f"NetworkInput.path_m: wanted shape ({batch}, points, 3), found {path}.")


def check_noise(noise: Noise, scenes: int, hands: int, steps: int) -> None:
    """Raise ValueError unless the noise fits a multiple of ``scenes``, ``hands`` and ``steps``."""
    start, later = tuple(noise.start.shape), tuple(noise.steps.shape)
    fits = len(start) == 4 and start[0] > 0 and start[0] % scenes == 0 and start[2:] == (hands, POSITION + ROTATION)
    if not fits:
        wanted = f"(a multiple of {scenes}, L, {hands}, {POSITION + ROTATION})"
        raise ValueError(f"Noise.start has shape {start}; {scenes} scene(s) and {hands} hand(s) want {wanted}.")
    if later != (steps, *start):
        raise ValueError(f"Noise.steps has shape {later}; this sampler wants {(steps, *start)}.")
