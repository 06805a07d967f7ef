"""What goes into the keypose network, and what it keeps of a scene between denoising steps."""

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
    """(B, cameras, 3, H, W) float32: position of every pixel in the workspace frame, finite wherever a token looks,
    which is the middle 2 x 2 pixels of each square of ``visual_stride`` pixels."""
    text: Tensor
    """(B, n) int64 ids, or (B, n, 512) float32 for text "features"."""
    history: Tensor
    """(B, history, hands, 8) float32, oldest first: xyz in metres, quaternion xyzw, open 0 or 1; only xyz is used."""


@dataclass(frozen=True)
class SceneContext:
    """All that does not depend on the denoising step. Positions are those of the rotary encoding: metres, or -1..1."""

    image: Tensor
    """Image tokens (B, N, width), camera by camera, row by row."""
    image_xyz: Tensor
    """Their positions (B, N, 3)."""
    image_rotary: Rotary
    """The rotary table of these positions."""
    sampled: Tensor
    """The image tokens kept for self-attention (B, M, width)."""
    sampled_xyz: Tensor
    """Their positions (B, M, 3)."""
    sampled_rotary: Rotary
    """The rotary table of these positions."""
    text: Tensor
    """Text tokens (B, n, width)."""
    history: Tensor
    """Features of the past gripper poses (B, history * hands, width)."""


@dataclass(frozen=True)
class Noise:
    """All randomness of one sampling."""

    start: Tensor
    """What denoising starts from, (B, L, hands, 9), standard normal."""
    steps: Tensor
    """Noise added after each step, (steps, B, L, hands, 9), of which the last is not used; (0, ...) for a flow."""

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
        """Noise for ``batch`` samples of ``length`` keyposes; the generator must be of ``device``.

        Position and rotation noise of a step are drawn one after the other, as the published networks do.
        """

        def normal(channels: int) -> Tensor:
            return torch.randn(batch, length, config.hands, channels, generator=generator, device=device)

        start = normal(POSITION + ROTATION)
        if config.denoiser == "flow":
            return cls(start, start.new_zeros(0, *start.shape))
        steps = [torch.cat((normal(POSITION), normal(ROTATION)), -1) for _ in range(config.steps - 1)]
        return cls(start, torch.stack([*steps, torch.zeros_like(start)]))
