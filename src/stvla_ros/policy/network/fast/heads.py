"""Attention heads padded to an efficient size, laid out so that no rotary pair is split between two heads.

A head of the published networks has 15 channels. That is slow for two reasons: vector units need multiples of 8, and
the pairs that the rotary encoding rotates straddle every second border between heads. Here each head holds whole pairs:
its own channels, the partner of a pair cut by its border, and zeros. 15 channels become exactly 16::

    channels    0 1 | 2 3 | ... | 14 15 | 16 17 | ... | 28 29        pairs that rotate together
    head 0      ^-------------------^ 15                             15 is only there to rotate 14
    head 1                        14 ^--------------------------^    14 is only there to rotate 15

Zeros and partners do not change the result: keys and values are zero in their places.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from stvla_ros.policy.network.rotary import FREQUENCY_RATIO

ALIGNMENT = 8
"""A padded head has a multiple of this many channels: 8 floats fill an AVX register, and GPU kernels need no more."""


class Frequencies(NamedTuple):
    """Rotary frequencies of the pairs of channels at all places (P/2,)."""

    axis: Tensor
    """0, 1 or 2: rotated by x, y or z."""
    speed: Tensor
    """Radians per unit of the position."""


class HeadLayout:
    """Assigns the channels of a token to places in the padded heads.

    Attributes:
        heads: Number of heads.
        padded: Number of places in all heads, P.
        source: (P,) int64, the channel at each place; 0 in an empty place.
        own: (P,) bool, whether the place holds a channel of its own head.
        filled: (P,) bool, whether the place holds any channel, including a partner.
        scale: Factor of the attention scores, from the size of an unpadded head.
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
        """Rows (P, ...) of a projection's weight or bias (width, ...), zero at places outside ``where`` (P,)."""
        chosen = matrix[self.source]
        return chosen * where.view(-1, *[1] * (chosen.ndim - 1))

    def frequencies(self, scale: float) -> Frequencies:
        """Rotary frequency and axis of the pair at each place; the highest frequency is ``scale``, padding has 0."""
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
    """Rotate queries or keys (..., k P) by ``by`` (..., 1, P/2): rotating a pair is a complex product.

    Works in place on float32. Complex numbers of half precision do not exist, so other types are rotated in float32.
    """
    pairs = tokens if tokens.dtype == torch.float32 else tokens.float()
    torch.view_as_complex(pairs.unflatten(-1, (-1, by.shape[-1], 2))).mul_(by)
    return pairs if tokens.dtype == torch.float32 else tokens.copy_(pairs)


class Projection(NamedTuple):
    """G parallel linear layers: one for a single stack, two for the two output branches."""

    weight: Tensor
    """(G, in, out)."""
    bias: Tensor
    """(G, 1, out)."""

    def __call__(self, tokens: Tensor) -> Tensor:
        """(G, S, N, out) of (G, S, N, in)."""
        return torch.baddbmm(self.bias, tokens.flatten(1, 2), self.weight).unflatten(1, tokens.shape[1:3])


def stacked(layers: list[tuple[Tensor, Tensor]], dtype: torch.dtype) -> Projection:
    """G pairs of weight (out, in) and bias (out,), copied into one projection."""
    weight = torch.stack([weight.T for weight, _ in layers]).contiguous()
    return Projection(weight.to(dtype), torch.stack([bias[None] for _, bias in layers]).to(dtype))


def attend(layout: HeadLayout, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Attention output of padded queries (G, m S, N, P), of the same shape.

    Args:
        layout: Layout of the heads.
        query: (G, m S, N, P); m consecutive samples share keys and values.
        key: (G, S, heads, M, P/heads).
        value: As the keys.
    """
    heads = layout.split(query.reshape(key.shape[0] * key.shape[1], -1, layout.padded))
    seen = functional.scaled_dot_product_attention(heads, key.flatten(0, 1), value.flatten(0, 1), scale=layout.scale)
    return seen.transpose(1, 2).reshape(query.shape)
