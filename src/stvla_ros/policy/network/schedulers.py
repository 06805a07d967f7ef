"""Denoising from noise to a pose: rectified flow, and diffusion with 3D Diffuser Actor's schedules.

Both work on (..., 9): three numbers of position, then six of rotation, all roughly within -1..1.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from stvla_ros.policy.network.config import NetworkConfig

POSITION, ROTATION = 3, 6
"""Numbers of position and of rotation channels."""

LOGIT_STD = 1.5
"""Standard deviation of the logit of a training time of the flow (3D FlowMatch Actor, arXiv 2508.11002)."""


class Flow(nn.Module):
    """Rectified flow (arXiv 2209.03003): ``x_t = (1 - t) clean + t noise``; the network predicts the velocity."""

    def __init__(self, steps: int) -> None:
        super().__init__()
        self.times = [(steps - index) / steps for index in range(steps)]
        """Times of the denoising steps, falling from 1."""

    def draw_times(self, count: int, generator: torch.Generator | None, device: torch.device) -> Tensor:
        """Times (count,) to train at, logit-normal."""
        return torch.sigmoid(LOGIT_STD * torch.randn(count, generator=generator, device=device))

    def add_noise(self, clean: Tensor, noise: Tensor, times: Tensor) -> Tensor:
        """``clean`` and ``noise`` (B, ..., 9) mixed according to ``times`` (B,)."""
        share = times.view(-1, *[1] * (clean.ndim - 1))
        return (1 - share) * clean + share * noise

    def target(self, clean: Tensor, noise: Tensor) -> Tensor:
        """What the network is to predict."""
        return noise - clean

    def step(self, index: int, noisy: Tensor, predicted: Tensor, noise: Tensor | None = None) -> Tensor:
        """``noisy`` (..., 9) after step ``index``; ``noise`` is not used."""
        return noisy - predicted / len(self.times)


class Ddpm(nn.Module):
    """Denoising diffusion (arXiv 2006.11239): the network predicts the noise.

    Position has a scaled-linear schedule, which ends far from pure noise; rotation has a cosine schedule (arXiv
    2102.09672). Estimates of the clean value are clipped to -1..1. The schedules depend on the number of steps, in
    training too.
    """

    def __init__(self, steps: int) -> None:
        super().__init__()
        self.times = list(range(steps - 1, -1, -1))
        """Times of the denoising steps, falling to 0."""
        for name, values in _tables(steps).items():
            self.register_buffer(name, values, persistent=False)

    def draw_times(self, count: int, generator: torch.Generator | None, device: torch.device) -> Tensor:
        """Times (count,) to train at, uniform."""
        return torch.randint(0, len(self.times), (count,), generator=generator, device=device)

    def add_noise(self, clean: Tensor, noise: Tensor, times: Tensor) -> Tensor:
        """``clean`` and ``noise`` (B, ..., 9) mixed according to ``times`` (B,)."""
        kept = self.kept[times].view(-1, *[1] * (clean.ndim - 2), clean.shape[-1])
        return kept.sqrt() * clean + (1 - kept).sqrt() * noise

    def target(self, clean: Tensor, noise: Tensor) -> Tensor:
        """What the network is to predict."""
        return noise

    def step(self, index: int, noisy: Tensor, predicted: Tensor, noise: Tensor | None = None) -> Tensor:
        """``noisy`` (..., 9) after step ``index``. All steps but the last need fresh ``noise`` of the same shape.

        Raises:
            ValueError: The noise is missing.
        """
        time = self.times[index]
        kept = self.kept[time]
        clean = ((noisy - (1 - kept).sqrt() * predicted) / kept.sqrt()).clamp(-1.0, 1.0)
        mean = self.of_clean[time] * clean + self.of_noisy[time] * noisy
        if time == 0:
            return mean
        if noise is None:
            raise ValueError(f"Diffusion step {index} needs noise of shape {tuple(noisy.shape)}; got none.")
        return mean + self.deviation[time] * noise


def _tables(steps: int) -> dict[str, Tensor]:
    """Factors (steps, 9) of each step; always real numbers, even for a network created on the meta device."""
    with torch.device("cpu"):
        betas = torch.stack([scaled_linear_betas(steps)] * POSITION + [cosine_betas(steps)] * ROTATION, -1)
        kept = torch.cumprod(1 - betas, 0)
        before = torch.cat((torch.ones_like(kept[:1]), kept[:-1]))
    beta = 1 - kept / before
    return {
        "kept": kept,
        "of_clean": before.sqrt() * beta / (1 - kept),
        "of_noisy": (1 - beta).sqrt() * (1 - before) / (1 - kept),
        "deviation": ((1 - before) / (1 - kept) * beta).clamp(min=1e-20).sqrt(),
    }


def scaled_linear_betas(steps: int) -> Tensor:
    """Noise variances (steps,) whose square roots rise evenly from 0.01 to sqrt(0.02)."""
    return torch.linspace(1e-4**0.5, 0.02**0.5, steps, dtype=torch.float32) ** 2


def cosine_betas(steps: int) -> Tensor:
    """Noise variances (steps,), at most 0.999, that let the remaining signal fall like a squared cosine."""

    def left(share: float) -> float:
        return math.cos((share + 0.008) / 1.008 * math.pi / 2) ** 2

    betas = [min(1 - left((index + 1) / steps) / left(index / steps), 0.999) for index in range(steps)]
    return torch.tensor(betas, dtype=torch.float32)


def scheduler(config: NetworkConfig) -> Flow | Ddpm:
    """The scheduler that a configuration asks for."""
    return Flow(config.steps) if config.denoiser == "flow" else Ddpm(config.steps)
