"""The residual network of CLIP's RN50 (arXiv 2103.00020, section 2.4) without its attention pooling, and a pyramid on
it.

It differs from the usual ResNet-50: its stem has three convolutions, and it strides by average pooling.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Self

from torch import Tensor, nn
from torch.nn import functional

BLOCKS = (3, 4, 6, 3)
"""Bottleneck blocks of the four stages."""

EXPANSION = 4
"""Channels that leave a bottleneck per channel inside it."""

FIRST = 2
"""Index of the stride-8 level among the five of the published networks, which their weights are named by."""


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolutions around a residual, halving the image by average pooling where ``stride`` is 2."""

    def __init__(self, channels_in: int, channels: int, stride: int) -> None:
        super().__init__()
        out = EXPANSION * channels
        self.conv1 = nn.Conv2d(channels_in, channels, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.pool = nn.AvgPool2d(stride) if stride > 1 else nn.Identity()
        self.conv3 = nn.Conv2d(channels, out, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(out)
        self.relu = nn.ReLU(inplace=True)
        self.downsample: nn.Module = nn.Identity()
        if stride > 1 or channels_in != out:
            conv, norm = nn.Conv2d(channels_in, out, 1, bias=False), nn.BatchNorm2d(out)
            self.downsample = nn.Sequential(OrderedDict([("pool", nn.AvgPool2d(stride)), ("0", conv), ("1", norm)]))

    def forward(self, image: Tensor) -> Tensor:
        inner = self.relu(self.bn1(self.conv1(image)))
        inner = self.relu(self.bn2(self.conv2(inner)))
        inner = self.bn3(self.conv3(self.pool(inner)))
        return self.relu(inner + self.downsample(image))


class ClipResnet(nn.Module):
    """Feature maps of CLIP's RN50; its weights are never trained.

    Args:
        batch_statistics: Whether batch norm uses the batch's statistics in training mode, and so moves its running
            averages. The published keypose networks were trained so; their averages therefore differ from CLIP's.
    """

    CHANNELS = (512, 1024, 2048)
    """Channels of the maps at strides 8, 16 and 32."""

    def __init__(self, batch_statistics: bool = True) -> None:
        super().__init__()
        self.batch_statistics = batch_statistics
        self.conv1 = nn.Conv2d(3, 32, 3, stride=2, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(32)
        self.conv2 = nn.Conv2d(32, 32, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(32)
        self.conv3 = nn.Conv2d(32, 64, 3, padding=1, bias=False)
        self.bn3 = nn.BatchNorm2d(64)
        self.relu = nn.ReLU(inplace=True)
        self.pool = nn.AvgPool2d(2)
        self.layer1 = _stage(64, 64, BLOCKS[0], stride=1)
        self.layer2 = _stage(256, 128, BLOCKS[1], stride=2)
        self.layer3 = _stage(512, 256, BLOCKS[2], stride=2)
        self.layer4 = _stage(1024, 512, BLOCKS[3], stride=2)
        self.requires_grad_(False)

    def train(self, mode: bool = True) -> Self:
        """Training mode reaches batch norm only with ``batch_statistics``."""
        return super().train(mode and self.batch_statistics)

    def forward(self, rgb: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Maps at strides 8, 16 and 32 of images (B, 3, H, W), normalised as for CLIP."""
        image = self.relu(self.bn1(self.conv1(rgb)))
        image = self.relu(self.bn2(self.conv2(image)))
        image = self.pool(self.relu(self.bn3(self.conv3(image))))
        stride_8 = self.layer2(self.layer1(image))
        stride_16 = self.layer3(stride_8)
        return stride_8, stride_16, self.layer4(stride_16)


def _stage(channels_in: int, channels: int, blocks: int, stride: int) -> nn.Sequential:
    first = Bottleneck(channels_in, channels, stride)
    return nn.Sequential(first, *(Bottleneck(EXPANSION * channels, channels, 1) for _ in range(blocks - 1)))


class FeaturePyramid(nn.Module):
    """Merges maps of strides 8, 16 and 32, from the coarsest down, to one of stride 8 (arXiv 1612.03144).

    The finer levels of the published networks are never used and not made.
    """

    def __init__(self, channels: tuple[int, ...], width: int) -> None:
        super().__init__()
        laterals = {str(FIRST + i): nn.Sequential(nn.Conv2d(count, width, 1)) for i, count in enumerate(channels)}
        self.inner_blocks = nn.ModuleDict(laterals)
        self.layer_blocks = nn.ModuleDict({str(FIRST): nn.Sequential(nn.Conv2d(width, width, 3, padding=1))})
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_uniform_(module.weight, a=1)
                nn.init.zeros_(module.bias)

    def forward(self, maps: tuple[Tensor, ...]) -> Tensor:
        """Map (B, width, H/8, W/8) from maps of falling resolution."""
        laterals = [self.inner_blocks[str(FIRST + i)](level) for i, level in enumerate(maps)]
        merged = laterals.pop()
        while laterals:
            finer = laterals.pop()
            merged = finer + functional.interpolate(merged, size=finer.shape[-2:], mode="nearest")
        return self.layer_blocks[str(FIRST)](merged)
