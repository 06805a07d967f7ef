"""Feature pyramid (arXiv 1612.03144) down to stride 8; the finer levels are never used and not made."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

FIRST = 2
"""Index of the stride-8 level among the five of the published networks, which their weights are named by."""


class FeaturePyramid(nn.Module):
    """Merges maps of strides 8, 16 and 32, from the coarsest down, to one of stride 8."""

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
