"""Image features: as in the plain network, or with batch norms folded into convolutions and channels last.

Folding is exact up to rounding, but rounding may decide which image tokens are kept. The "density" sampler is sensitive
to it: it averages eight distances including a token's distance to itself, which is rounding noise instead of 0 and can
move a token across the border between kept and dropped. Networks with this sampler use the plain operations.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval

from stvla_ros.policy.network.clip_resnet import FIRST, Bottleneck, ClipResnet, FeaturePyramid
from stvla_ros.policy.network.encoder import SceneEncoder, seen_beside_colour
from stvla_ros.policy.network.fast.heads import HeadLayout
from stvla_ros.policy.network.fast.layers import CrossLayers

Images = Callable[[Tensor], Tensor]


class Convolution:
    """A convolution with its batch norm, and a ReLU if wanted.

    In evaluation, batch norm is an affine map per channel, so it is folded into the weights. A 1 x 1 convolution is
    computed as a matrix product: with channels last this moves no data, and PyTorch's own 1 x 1 convolutions are slow
    on a CPU.
    """

    def __init__(self, conv: nn.Conv2d, norm: nn.BatchNorm2d | None = None, relu: bool = True) -> None:
        folded = copy.deepcopy(conv).eval() if norm is None else _folded(conv, norm)
        assert folded.bias is not None
        self.pointwise = folded.kernel_size == (1, 1)
        self.weight, self.bias = folded.weight.detach(), folded.bias.detach()
        self.weight = self.weight.flatten(1) if self.pointwise else _innermost(self.weight)
        self.stride, self.padding, self.relu = folded.stride, folded.padding, relu

    def __call__(self, image: Tensor) -> Tensor:
        """(B, H', W', out) of (B, H, W, in)."""
        if self.pointwise:
            found = functional.linear(image, self.weight, self.bias)
        else:
            found = functional.conv2d(_outermost(image), self.weight, self.bias, self.stride, self.padding)
            found = found.permute(0, 2, 3, 1)
        return found.relu_() if self.relu else found


class FastBottleneck:
    """A residual block, like the plain one."""

    def __init__(self, block: Bottleneck) -> None:
        self.inner = [Convolution(block.conv1, block.bn1), Convolution(block.conv2, block.bn2)]
        self.last = Convolution(block.conv3, block.bn3, relu=False)
        self.pool = block.pool.kernel_size if isinstance(block.pool, nn.AvgPool2d) else 1
        self.shortcut = None
        if isinstance(block.downsample, nn.Sequential):
            self.shortcut = Convolution(block.downsample[1], block.downsample[2], relu=False)

    def __call__(self, image: Tensor) -> Tensor:
        inner = self.last(_pooled(_chain(self.inner, image), self.pool))
        residual = image if self.shortcut is None else self.shortcut(_pooled(image, self.pool))
        return inner.add_(residual).relu_()


class FastClipResnet:
    """CLIP's RN50 and the part of the feature pyramid up to stride 8."""

    def __init__(self, backbone: ClipResnet, pyramid: FeaturePyramid) -> None:
        pairs = ((backbone.conv1, backbone.bn1), (backbone.conv2, backbone.bn2), (backbone.conv3, backbone.bn3))
        self.stem = [Convolution(*pair) for pair in pairs]
        stages = (backbone.layer1, backbone.layer2, backbone.layer3, backbone.layer4)
        self.stages = [[FastBottleneck(block) for block in stage] for stage in stages]
        laterals = [pyramid.inner_blocks[str(FIRST + index)] for index in range(len(ClipResnet.CHANNELS))]
        self.laterals = [Convolution(lateral[0], relu=False) for lateral in laterals]
        self.merged = Convolution(pyramid.layer_blocks[str(FIRST)][0], relu=False)

    def __call__(self, image: Tensor) -> Tensor:
        """Map (B, H/8, W/8, width) of normalised images (B, H, W, 3)."""
        image = _pooled(_chain(self.stem, image), 2)
        maps = []
        for stage in self.stages:
            image = _chain(stage, image)
            maps.append(image)
        levels = [lateral(level) for lateral, level in zip(self.laterals, maps[1:])]
        found = levels.pop()
        while levels:
            finer = levels.pop()
            found = finer + functional.interpolate(_outermost(found), finer.shape[1:3]).permute(0, 2, 3, 1)
        return self.merged(found)


class PlainImages:
    """Image tokens by the plain operations, equal bit by bit."""

    def __init__(self, encoder: SceneEncoder) -> None:
        parts = (encoder.normalize, encoder.backbone, encoder.feature_pyramid or nn.Identity(), encoder.vl_attention)
        copies = (copy.deepcopy(part).eval().requires_grad_(False) for part in parts)
        self.normalize, self.backbone, self.pyramid, self.to_text = copies
        self.config = encoder.config

    def __call__(self, rgb: Tensor, xyz: Tensor, words: Tensor, path: Tensor) -> Tensor:
        """(B, N, width) of images (B, cameras, 3, H, W), 0..1, their positions, words (B, n, width), path (B, K, 3)."""
        images = self.normalize(rgb.flatten(0, 1))
        maps = self.pyramid(self.backbone(images, *seen_beside_colour(self.config, xyz, path)))
        tokens = maps.unflatten(0, (len(rgb), -1)).permute(0, 1, 3, 4, 2).flatten(1, 3)
        return self.to_text(tokens, words)


class FoldedImages:
    """The same up to rounding, but faster; for CLIP's RN50."""

    def __init__(self, encoder: SceneEncoder, layout: HeadLayout) -> None:
        if not isinstance(encoder.backbone, ClipResnet) or encoder.feature_pyramid is None:
            raise ValueError("Only visual 'clip_rn50' can be folded: the norms of 'nano' depend on the image.")
        self.mean, self.std = (stats.view(3).clone() for stats in (encoder.normalize.mean, encoder.normalize.std))
        self.maps = FastClipResnet(encoder.backbone, encoder.feature_pyramid)
        self.to_text = CrossLayers(encoder.vl_attention, layout, rotary=False)

    def __call__(self, rgb: Tensor, xyz: Tensor, words: Tensor, path: Tensor) -> Tensor:
        """As :class:`PlainImages`; positions and path are ignored."""
        maps = self.maps((rgb.flatten(0, 1).permute(0, 2, 3, 1) - self.mean) / self.std)
        return self.to_text(maps.reshape(len(rgb), -1, maps.shape[-1]), words)


def _folded(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> nn.Conv2d:
    return fuse_conv_bn_eval(copy.deepcopy(conv).eval(), copy.deepcopy(norm).eval())


def _chain(layers: Iterable[Images], image: Tensor) -> Tensor:
    for layer in layers:
        image = layer(image)
    return image


def _pooled(image: Tensor, size: int) -> Tensor:
    if size == 1:
        return image
    return functional.avg_pool2d(_outermost(image), size).permute(0, 2, 3, 1)


def _outermost(image: Tensor) -> Tensor:
    """(B, H, W, C) seen as (B, C, H, W), which PyTorch calls channels-last."""
    return image.permute(0, 3, 1, 2)


def _innermost(weight: Tensor) -> Tensor:
    return weight.contiguous(memory_format=torch.channels_last)
