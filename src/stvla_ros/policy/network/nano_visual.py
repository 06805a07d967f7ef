"""A small image encoder that can be trained from scratch, even on a CPU."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

STEM, FINE, MIDDLE, COARSE = 24, 48, 64, 96
"""Channels at strides 2, 4, 8 and 16."""

FAR = 1.5
"""Positions are clamped to this, in the unit of the rotary encoding: metres, or half the workspace."""

NEAR = 0.15
"""Ways to the path are clamped to this along each axis, in the same unit: farther away only their direction matters."""


class NanoVisual(nn.Module):
    """Convolutions down to stride 16, merged back to stride 4 or 8; about 0.2 M parameters.

    At 128 x 128 pixels and stride 4 it takes about 53 M multiplications.
    """

    def __init__(self, width: int, stride: int, cloud: bool = False, path: bool = False) -> None:
        """Create the layers; the input has positions with ``cloud`` and :func:`ways_to_path` with ``path``."""
        super().__init__()
        self.fine = nn.Sequential(_block(3 + 3 * cloud + 3 * path, STEM, 2), _block(STEM, FINE, 2))
        self.detail = _block(FINE, FINE, 1) if stride == 4 else None
        self.middle = _block(FINE, MIDDLE, 2)
        self.coarse = nn.Sequential(_block(MIDDLE, COARSE, 2), _block(COARSE, COARSE, 1))
        self.lateral_fine = nn.Conv2d(FINE, width, 1) if stride == 4 else None
        self.lateral_middle = nn.Conv2d(MIDDLE, width, 1)
        self.lateral_coarse = nn.Conv2d(COARSE, width, 1)

    def forward(self, rgb: Tensor, xyz: Tensor | None = None, ways: Tensor | None = None) -> Tensor:
        """Map (B, width, H/stride, W/stride) of normalised images (B, 3, H, W), their positions, and ways to the path.

        Positions are clamped to :data:`FAR`: what lies behind the workspace does not matter.
        """
        parts = [rgb, *([] if xyz is None else [xyz.clamp(-FAR, FAR)]), *([] if ways is None else [ways])]
        fine = self.fine(torch.cat(parts, 1) if len(parts) > 1 else rgb)
        middle = self.middle(fine)
        merged = self.lateral_middle(middle) + _doubled(self.lateral_coarse(self.coarse(middle)))
        if self.lateral_fine is None or self.detail is None:
            return merged
        return self.lateral_fine(fine + self.detail(fine)) + _doubled(merged)


@torch.no_grad()
def ways_to_path(xyz: Tensor, path: Tensor) -> Tensor:
    """The way from each pixel's position to the nearest point of the path, 1 for :data:`NEAR` and clamped to it.

    Args:
        xyz: (B, 3, H, W).
        path: (B, K, 3); NaN where there is none.

    Returns:
        (B, 3, H, W); 0 without a path, which is also the value on the path: a policy has one for all its images, or none.
    """
    points = xyz.flatten(2).mT
    nearest = torch.cdist(points, path.nan_to_num()).argmin(-1)
    ways = path.gather(1, nearest.unsqueeze(-1).expand(-1, -1, 3)) - points
    return (ways / NEAR).clamp(-1.0, 1.0).nan_to_num().mT.reshape(xyz.shape)


def _block(channels_in: int, channels: int, stride: int) -> nn.Sequential:
    convolution = nn.Conv2d(channels_in, channels, 3, stride=stride, padding=1, bias=False)
    return nn.Sequential(convolution, nn.GroupNorm(channels // 8, channels), nn.ReLU(inplace=True))


def _doubled(image: Tensor) -> Tensor:
    return functional.interpolate(image, scale_factor=2.0, mode="nearest")
