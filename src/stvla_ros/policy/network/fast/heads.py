"""Attention heads padded to a size that kernels like, laid out so that a rotary pair never lies in two heads.

A head of the published networks has 15 channels. That is slow twice over: vector units want multiples of 8, and the
pairs that the rotary encoding turns straddle every second border between heads. Here each head holds whole pairs: its
own channels, the partner of a pair cut by its border, and zeros. Of 15 channels that makes exactly 16::

    channels    0 1 | 2 3 | ... | 14 15 | 16 17 | ... | 28 29        pairs that turn together
    head 0      ^-------------------^ 15                             15 is only there to turn 14
    head 1                        14 ^--------------------------^    14 is only there to turn 15

Zeros and partners leave the result as it is: keys and values are zero there when they meet the queries.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from stvla_ros.policy.network.rotary import FREQUENCY_RATIO

ALIGNMENT = 8
"""Channels of a padded head are a multiple of this: 8 floats fill an AVX register, and GPU kernels ask for no more."""


class Frequencies(NamedTuple):
    """Of the pairs of channels at all places (P/2,)."""

    axis: Tensor
    """0, 1 or 2: turned by x, y or z."""
    speed: Tensor
    """Radians per unit of the position."""


class HeadLayout:
    """Which channel of a token stands in which place of the padded heads.

    Attributes:
        heads: Number of heads.
        padded: Places of all heads together, P.
        source: (P,) int64, the channel at each place; 0 where there is none.
        own: (P,) bool, whether the place holds a channel of its own head.
        filled: (P,) bool, whether the place holds a channel at all, a partner's included.
        scale: What to multiply scores with: the size of an unpadded head decides.
    """

    def __init__(self, width: int, heads: int, device: torch.device) -> None:
        size = width // heads
        starts = [index * size for index in range(heads)]
        firsts = [start - start % 2 for start in starts]
        used = max(start + size + (start + size) % 2 - first for start, first in zip(starts, firsts))
        places = math.ceil(used / ALIGNMENT) * ALIGNMENT
        channels = torch.stack([torch.arange(first, first + places) for first in firsts])
        start = torch.tensor(starts)[:, None]
        own = (channels >= start) & (channels < start + size)
        filled = own | ((channels ^ 1) >= start) & ((channels ^ 1) < start + size)
        self.width, self.heads, self.padded, self.scale = width, heads, heads * places, size**-0.5
        self.source = channels.where(filled, 0).flatten().to(device)
        self.own, self.filled = own.flatten().to(device), filled.flatten().to(device)
        self.cut = bool((own != filled).any())

    def rows(self, matrix: Tensor, where: Tensor) -> Tensor:
        """Rows (P, ...) of a projection's weight or bias (width, ...), zero at the places not in ``where`` (P,)."""
        chosen = matrix[self.source]
        return chosen * where.view(-1, *[1] * (chosen.ndim - 1))

    def frequencies(self, scale: float) -> Frequencies:
        """How fast the pair at each place turns, and with what; ``scale`` is the highest, and padding does not turn."""
        third = self.width // 3
        channel = self.source[::2]
        speed = scale * torch.exp((channel % third).float() * (-math.log(FREQUENCY_RATIO) / third))
        return Frequencies(channel // third, speed * self.filled[::2])

    def split(self, tokens: Tensor) -> Tensor:
        """Tokens (..., N, P) as heads (..., heads, N, P/heads), a view."""
        return tokens.unflatten(-1, (self.heads, -1)).transpose(-3, -2)


def rotary_phases(xyz: Tensor, frequencies: Frequencies) -> Tensor:
    """Rotary positions (..., 1, P/2), complex64, of points (..., 3); the same for queries and keys."""
    angles = xyz[..., frequencies.axis] * frequencies.speed
    return torch.polar(torch.ones_like(angles), angles).unsqueeze(-2)


def apply_rotary(tokens: Tensor, by: Tensor) -> Tensor:
    """Turn queries or keys (..., k P) by ``by`` (..., 1, P/2): a rotation of a pair is a complex product.

    Works in place on float32. There are no complex numbers of half precision, so others are turned in float32.
    """
    pairs = tokens if tokens.dtype == torch.float32 else tokens.float()
    torch.view_as_complex(pairs.unflatten(-1, (-1, by.shape[-1], 2))).mul_(by)
    return pairs if tokens.dtype == torch.float32 else tokens.copy_(pairs)


class Projection(NamedTuple):
    """G linear layers side by side: one for a stack of its own, two for the two branches at the end."""

    weight: Tensor
    """(G, in, out)."""
    bias: Tensor
    """(G, 1, out)."""

    def __call__(self, tokens: Tensor) -> Tensor:
        """(G, S, N, out) of (G, S, N, in)."""
        return torch.baddbmm(self.bias, tokens.flatten(1, 2), self.weight).unflatten(1, tokens.shape[1:3])


def stacked(layers: list[tuple[Tensor, Tensor]], dtype: torch.dtype) -> Projection:
    """G pairs of weight (out, in) and bias (out,) as one projection, copied."""
    weight = torch.stack([weight.T for weight, _ in layers]).contiguous()
    return Projection(weight.to(dtype), torch.stack([bias[None] for _, bias in layers]).to(dtype))


def attend(layout: HeadLayout, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """What padded queries (G, m S, N, P) see; of the same shape.

    Args:
        layout: Of the heads.
        query: (G, m S, N, P); m consecutive samples share keys and values.
        key: (G, S, heads, M, P/heads).
        value: As the keys.
    """
    heads = layout.split(query.reshape(key.shape[0] * key.shape[1], -1, layout.padded))
    seen = functional.scaled_dot_product_attention(heads, key.flatten(0, 1), value.flatten(0, 1), scale=layout.scale)
    return seen.transpose(1, 2).reshape(query.shape)
