"""Image features with batch norm folded away and channels innermost; everything is (B, H, W, C)."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval

from stvla_ros.policy.network.clip_resnet import Bottleneck, ClipResnet
from stvla_ros.policy.network.encoder import SceneEncoder
from stvla_ros.policy.network.pyramid import FIRST, FeaturePyramid

Images = Callable[[Tensor], Tensor]


class Convolution:
    """A convolution, the batch norm behind it, and a ReLU if wanted.

    In evaluation batch norm is an affine map per channel, so it is folded into the weights. A 1 x 1 convolution is a
    matrix product, and is computed as one: with channels innermost nothing has to be moved for that, and on a CPU
    PyTorch takes a slow path for such convolutions.
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
    """A residual block; see the plain one."""

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
    """CLIP's RN50 and the part of the feature pyramid that leads to stride 8."""

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


def fast_vision(encoder: SceneEncoder) -> Images:
    """Features (B, h, w, width) of normalised images (B, H, W, 3), with copied weights.

    The small network has group norms, which depend on the image and cannot be folded: it stays as it is.
    """
    if isinstance(encoder.backbone, ClipResnet) and encoder.feature_pyramid is not None:
        return FastClipResnet(encoder.backbone, encoder.feature_pyramid)
    plain = copy.deepcopy(encoder.backbone).eval().requires_grad_(False)
    return lambda image: plain(image.permute(0, 3, 1, 2).contiguous()).permute(0, 2, 3, 1)


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
