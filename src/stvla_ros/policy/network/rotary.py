"""Encodes positions as sines and cosines: rotary in 3D for attention, additive for times and indices."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

FREQUENCY_RATIO = 10000.0
"""Ratio of the highest to the lowest frequency, as in "Attention is all you need"."""


class Rotary(NamedTuple):
    """Rotation of every pair of adjacent channels of a token, (B, N, width) each."""

    cos: Tensor
    """Cosine of the pair's angle, repeated for both channels."""
    sin: Tensor
    """Sine of the pair's angle, negative for the first channel of the pair."""

    def take(self, indices: Tensor) -> Rotary:
        """The table for some of the tokens; ``indices`` are (B, M)."""
        return Rotary(take(self.cos, indices), take(self.sin, indices))


def take(values: Tensor, indices: Tensor) -> Tensor:
    """Rows of ``values`` (B, N, C) at ``indices`` (B, M): (B, M, C)."""
    return values.gather(1, indices.unsqueeze(-1).expand(-1, -1, values.shape[-1]))


@torch.no_grad()
def rotary_table(xyz: Tensor, width: int, scale: float = 1.0) -> Rotary:
    """Angles from positions, a third of the channels for each of x, y and z.

    Within a third of c channels, pair k turns by ``scale * position * 10000 ** (-2 k / c)`` (RoFormer, arXiv
    2104.09864, in three dimensions as in 3D Diffuser Actor, arXiv 2402.10885).

    Args:
        xyz: Positions (B, N, 3), in any unit.
        width: Channels of a token, a multiple of 6.
        scale: Highest frequency, radians per unit of the positions.
    """
    third = width // 3
    pairs = torch.arange(0, third, 2, dtype=torch.float32, device=xyz.device)
    angles = (xyz.unsqueeze(-1) * (scale * torch.exp(pairs * (-math.log(FREQUENCY_RATIO) / third)))).flatten(-2)
    cos, sin = angles.cos(), angles.sin()
    return Rotary(torch.stack((cos, cos), -1).flatten(-2), torch.stack((-sin, sin), -1).flatten(-2))


def rotate(tokens: Tensor, table: Rotary) -> Tensor:
    """Rotate each pair of adjacent channels of ``tokens`` (B, N, width) by its angle."""
    swapped = torch.stack((tokens[..., 1::2], tokens[..., ::2]), -1).flatten(-2)
    return tokens * table.cos + swapped * table.sin


class Sinusoidal(nn.Module):
    """Encodes numbers (N,) as sines and cosines (N, width) of geometrically spaced frequencies from 1 to 1/10000."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.half = width // 2

    def forward(self, numbers: Tensor) -> Tensor:
        steps = torch.arange(self.half, device=numbers.device)
        angles = numbers[:, None] * torch.exp(steps * (-math.log(FREQUENCY_RATIO) / (self.half - 1)))
        return torch.cat((angles.sin(), angles.cos()), -1)
