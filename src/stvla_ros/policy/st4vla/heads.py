"""Objectives and samplers of action chunks behind one interface: diffusion (DDPM, DDIM), and flow matching.

**Why trailing sampling clips.** At the last of 100 squared-cosine steps the clean action has the amplitude
sqrt(a) = 0.0005. The estimate (x - sqrt(1 - a) eps) / sqrt(a) multiplies an error of the predicted noise by 2000: one
hundredth off moves the estimate by 20 where normalised actions are within -1..1, and the next step's input by 3, out of
what training has shown. The clipped estimate stays inside. With a small trained network the median error of the
sampled actions was 0.06 with clipping and 288 without (``test_expert.py``). The published code
does not clip and avoids the last step: with 10 steps it begins at step 90 of 0..99, with pure noise although the
signal's amplitude there is 0.14.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from stvla_ros.policy.st4vla.config import ActionExpertConfig
from stvla_ros.policy.st4vla.transformer import ActionTransformer

FLOW_ALPHA, FLOW_BETA = 1.5, 1.0
"""Beta distribution of a flow's training times, which prefers noise (pi0, arXiv 2410.24164)."""

FLOW_TIME_SCALE = 1000.0
"""A flow's times 0..1 get the range of the time features' frequencies."""


@dataclass(frozen=True, eq=False)
class Randomness:
    """All random choices of a training loss, for M = draws * B rows; ``draws`` consecutive rows belong to one sample.

    Attributes:
        noise: (M, T, D) standard normal.
        times: (M,) diffusion steps (int64), or a flow's times from 0 (clean) to 1 (noise).
        dropped: (M,) bool, where the condition is withheld.
    """

    noise: Tensor
    times: Tensor
    dropped: Tensor


class ActionHead(nn.Module, ABC):
    """Learns and samples action chunks, conditioned on the bridge's tokens."""

    def __init__(self, config: ActionExpertConfig) -> None:
        super().__init__()
        self.config = config
        self.net = ActionTransformer(config)

    @abstractmethod
    def _draw_times(self, count: int, generator: torch.Generator | None, device: torch.device) -> Tensor:
        """(count,) training times."""

    @abstractmethod
    def _noisy(self, clean: Tensor, noise: Tensor, times: Tensor) -> Tensor:
        """(M, T, D) actions at their times."""

    @abstractmethod
    def _target(self, clean: Tensor, noise: Tensor) -> Tensor:
        """(M, T, D) what the network is to predict."""

    @abstractmethod
    def sample(self, condition: Tensor, noise: Tensor) -> Tensor:
        """Action chunks (B, T, D), deterministic in the noise.

        Args:
            condition: (B, queries, bridge_width).
            noise: (B, T, D) standard normal.
        """

    def draw(self, actions: Tensor, generator: torch.Generator | None = None) -> Randomness:
        """Random choices of the loss on actions (B, T, D); the generator is on their device."""
        count, device = self.config.draws * len(actions), actions.device
        noise = torch.randn((count, *actions.shape[1:]), generator=generator, device=device)
        times = self._draw_times(count, generator, device)
        return Randomness(noise, times, torch.rand(count, generator=generator, device=device) < self.config.dropped)

    def loss(self, condition: Tensor, actions: Tensor, randomness: Randomness, counted: Tensor | None = None) -> Tensor:
        """Mean squared error of the prediction, over samples, draws, steps and dimensions.

        Args:
            condition: (B, queries, bridge_width).
            actions: (B, T, D) normalised.
            randomness: Of :meth:`draw`.
            counted: (B, T) bool, False for steps after the end of an episode, which do not count; None: all count.

        Raises:
            ValueError: No step counts.
        """
        draws = self.config.draws
        clean, told = actions.repeat_interleave(draws, 0), condition.repeat_interleave(draws, 0)
        noisy = self._noisy(clean, randomness.noise, randomness.times)
        predicted = self.net(noisy, self._shown(randomness.times), told, randomness.dropped)
        error = (predicted.float() - self._target(clean, randomness.noise).float()).square().mean(-1)
        if counted is None:
            return error.mean()
        if not bool(counted.any()):
            raise ValueError("no step of these chunks counts: leave samples after the end of an episode out.")
        weight = counted.repeat_interleave(draws, 0).to(error.dtype)
        return (error * weight).sum() / weight.sum()

    def _shown(self, times: Tensor) -> Tensor:
        """Times as the network is told them."""
        return times

    def guided(self, x: Tensor, time: float, condition: Tensor) -> Tensor:
        """Prediction (B, T, D) with classifier-free guidance (arXiv 2207.12598).

        It is ``without + guidance * (with - without)``, both evaluated in one pass.
        """
        times = x.new_full((len(x),), time)
        if self.config.guidance == 1.0:
            return cast(Tensor, self.net(x, self._shown(times), condition))
        dropped = torch.arange(2 * len(x), device=x.device) >= len(x)
        both = self.net(x.repeat(2, 1, 1), self._shown(times.repeat(2)), condition.repeat(2, 1, 1), dropped)
        known, unknown = both.chunk(2)
        return cast(Tensor, unknown + self.config.guidance * (known - unknown))


class DiffusionHead(ActionHead):
    """DDPM (arXiv 2006.11239) with squared-cosine betas (2102.09672), noise prediction; DDIM (2010.02502)."""

    def __init__(self, config: ActionExpertConfig) -> None:
        super().__init__(config)
        with torch.device("cpu"):
            self.kept = kept_signal(config.diffusion_steps)  # no buffer: half precision would destroy it
        self.times = sampling_times(config.diffusion_steps, config.sampling_steps, config.spacing)
        """Diffusion steps that are evaluated in sampling, falling."""

    def _draw_times(self, count: int, generator: torch.Generator | None, device: torch.device) -> Tensor:
        return torch.randint(0, self.config.diffusion_steps, (count,), generator=generator, device=device)

    def _noisy(self, clean: Tensor, noise: Tensor, times: Tensor) -> Tensor:
        kept = self.kept.to(times.device)[times][:, None, None]
        return (kept.sqrt() * clean + (1 - kept).sqrt() * noise).to(clean.dtype)

    def _target(self, clean: Tensor, noise: Tensor) -> Tensor:
        return noise

    @torch.no_grad()
    def sample(self, condition: Tensor, noise: Tensor) -> Tensor:
        """See :class:`ActionHead`; the last step gives the clean estimate itself."""
        x, clip = noise, self.config.clip
        for time, following in zip(self.times, [*self.times[1:], None], strict=True):
            kept = float(self.kept[time])
            predicted = self.guided(x, time, condition)
            clean = (x - math.sqrt(1 - kept) * predicted) / math.sqrt(kept)
            if clip is not None:
                clean = clean.clamp(-clip, clip)
                predicted = (x - math.sqrt(kept) * clean) / math.sqrt(1 - kept)  # the noise that belongs to it
            left = 1.0 if following is None else float(self.kept[following])
            x = math.sqrt(left) * clean + math.sqrt(1 - left) * predicted
        return x


def kept_signal(steps: int) -> Tensor:
    """(steps,) float64 share of the signal's variance that is left after each step; betas are at most 0.999."""

    def left(share: float) -> float:
        return math.cos((share + 0.008) / 1.008 * math.pi / 2) ** 2

    betas = [min(1 - left((k + 1) / steps) / left(k / steps), 0.999) for k in range(steps)]
    return torch.cumprod(1 - torch.tensor(betas, dtype=torch.float64), 0)


def sampling_times(steps: int, count: int, spacing: str) -> list[int]:
    """Diffusion steps of a sampler, falling.

    Args:
        steps: Of the process.
        count: Of the sampler.
        spacing: ``trailing``: evenly from the last step down. ``leading``: multiples of an integer stride, from
            ``(count - 1) * stride`` to 0; improved diffusion (arXiv 2102.09672) and the published code have it.

    Raises:
        ValueError: No stride gives so many steps.
    """
    if spacing == "trailing":
        return [round(steps * (1 - k / count)) - 1 for k in range(count)]
    stride = next((s for s in range(1, steps) if len(range(0, steps, s)) == count), None)
    if stride is None:
        raise ValueError(f"leading spacing: no stride gives {count} of {steps} steps.")
    return list(range(0, steps, stride))[::-1]


class FlowHead(ActionHead):
    """Rectified flow (arXiv 2209.03003): ``x_t = (1 - t) clean + t noise``; the network predicts ``noise - clean``."""

    def _draw_times(self, count: int, generator: torch.Generator | None, device: torch.device) -> Tensor:
        """Beta(1.5, 1): the cumulative distribution is t ** 1.5."""
        return torch.rand(count, generator=generator, device=device) ** (1 / FLOW_ALPHA)

    def _noisy(self, clean: Tensor, noise: Tensor, times: Tensor) -> Tensor:
        share = times[:, None, None]
        return (1 - share) * clean + share * noise

    def _target(self, clean: Tensor, noise: Tensor) -> Tensor:
        return noise - clean

    def _shown(self, times: Tensor) -> Tensor:
        return times * FLOW_TIME_SCALE

    @torch.no_grad()
    def sample(self, condition: Tensor, noise: Tensor) -> Tensor:
        """See :class:`ActionHead`; Euler steps from 1 to 0."""
        x, steps = noise, self.config.sampling_steps
        for k in range(steps):
            x = x - self.guided(x, 1 - k / steps, condition) / steps
        return x


def action_head(config: ActionExpertConfig) -> ActionHead:
    """The head that a configuration asks for, with random weights."""
    return DiffusionHead(config) if config.head == "diffusion" else FlowHead(config)
