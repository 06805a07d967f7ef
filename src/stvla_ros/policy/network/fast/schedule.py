"""Denoising steps with all coefficients ready, of all steps or, approximately, of a few of them."""

from __future__ import annotations

import torch
from torch import Tensor

from stvla_ros.policy.network.schedulers import Ddpm, Flow


class FlowSteps:
    """The flow's Euler steps. Fewer or more than trained with are another, coarser or finer, approximation."""

    def __init__(self, steps: int) -> None:
        self.times = torch.tensor([(steps - index) / steps for index in range(steps)])

    def scaled(self, noise: Tensor) -> Tensor:
        """Nothing is added between steps."""
        return noise

    def advance(self, index: int, noisy: Tensor, predicted: Tensor, noise: Tensor) -> Tensor:
        return noisy - predicted / len(self.times)


class DdpmSteps:
    """Diffusion steps with the coefficients of every visited time in tables (steps, 9).

    With fewer steps than the schedule has, times are evenly spaced down to 0 ("leading" spacing), and a step goes
    down by the whole stride: 10 of 100 visit 90, 80, ..., 0. The result is close to, but not, that of all steps.
    """

    def __init__(self, plain: Ddpm, steps: int) -> None:
        stride = len(plain.times) // steps
        self.times = torch.arange(steps - 1, -1, -1, device=plain.kept.device) * stride
        kept = plain.kept[self.times]
        before = torch.cat((plain.kept[self.times[:-1] - stride], torch.ones_like(kept[:1])))
        beta = 1 - kept / before
        self.signal, self.noise = kept.sqrt(), (1 - kept).sqrt()
        self.of_clean = before.sqrt() * beta / (1 - kept)
        self.of_noisy = (1 - beta).sqrt() * (1 - before) / (1 - kept)
        deviation = ((1 - before) / (1 - kept) * beta).clamp(min=1e-20).sqrt()
        self.deviation = torch.cat((deviation[:-1], torch.zeros_like(deviation[:1])))

    def scaled(self, noise: Tensor) -> Tensor:
        """Noise (steps, ..., 9) times its deviation, 0 after the last step: one product instead of one per step."""
        return noise * self.deviation.view(len(noise), *[1] * (noise.ndim - 2), -1)

    def advance(self, index: int, noisy: Tensor, predicted: Tensor, noise: Tensor) -> Tensor:
        """``noisy`` (..., 9) after step ``index``, where ``noise`` (steps, ..., 9) is from :meth:`scaled`."""
        clean = ((noisy - self.noise[index] * predicted) / self.signal[index]).clamp_(-1.0, 1.0)
        return self.of_clean[index] * clean + self.of_noisy[index] * noisy + noise[index]


def fast_steps(plain: Flow | Ddpm, steps: int) -> FlowSteps | DdpmSteps:
    """The steps of a plain scheduler, ``steps`` of them.

    Raises:
        ValueError: There are not so many.
    """
    if steps < 1 or (isinstance(plain, Ddpm) and steps > len(plain.times)):
        raise ValueError(f"steps is {steps}; this network was made for {len(plain.times)}: wanted 1 to that many.")
    return FlowSteps(steps) if isinstance(plain, Flow) else DdpmSteps(plain, steps)
