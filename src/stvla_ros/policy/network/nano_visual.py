"""A small image encoder that can be trained from scratch, even on a CPU."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

STEM, FINE, MIDDLE, COARSE = 24, 48, 64, 96
"""Channels at strides 2, 4, 8 and 16."""

FAR = 1.5
"""Positions are clamped to this, in the unit of the rotary encoding: metres, or half the workspace."""


class NanoVisual(nn.Module):
    """Convolutions down to stride 16, merged back to stride 4 or 8; about 0.2 M parameters.

    At 128 x 128 pixels and stride 4 it takes about 53 M multiplications.
    """

    def __init__(self, width: int, stride: int, cloud: bool = False) -> None:
        """Create the layers; with ``cloud``, the input has positions in addition to colours."""
        super().__init__()
        self.fine = nn.Sequential(_block(6 if cloud else 3, STEM, 2), _block(STEM, FINE, 2))
        self.detail = _block(FINE, FINE, 1) if stride == 4 else None
        self.middle = _block(FINE, MIDDLE, 2)
        self.coarse = nn.Sequential(_block(MIDDLE, COARSE, 2), _block(COARSE, COARSE, 1))
        self.lateral_fine = nn.Conv2d(FINE, width, 1) if stride == 4 else None
        self.lateral_middle = nn.Conv2d(MIDDLE, width, 1)
        self.lateral_coarse = nn.Conv2d(COARSE, width, 1)

    def forward(self, rgb: Tensor, xyz: Tensor | None = None) -> Tensor:
        """Map (B, width, H/stride, W/stride) of normalised images (B, 3, H, W) and, with ``cloud``, their positions.

        Positions are clamped to :data:`FAR`: what lies behind the workspace does not matter.
        """
        fine = self.fine(rgb if xyz is None else torch.cat((rgb, xyz.clamp(-FAR, FAR)), 1))
        middle = self.middle(fine)
        merged = self.lateral_middle(middle) + _doubled(self.lateral_coarse(self.coarse(middle)))
        if self.lateral_fine is None or self.detail is None:
            return merged
        return self.lateral_fine(fine + self.detail(fine)) + _doubled(merged)


def _block(channels_in: int, channels: int, stride: int) -> nn.Sequential:
    convolution = nn.Conv2d(channels_in, channels, 3, stride=stride, padding=1, bias=False)
    return nn.Sequential(convolution, nn.GroupNorm(channels // 8, channels), nn.ReLU(inplace=True))


def _doubled(image: Tensor) -> Tensor:
    return functional.interpolate(image, scale_factor=2.0, mode="nearest")
