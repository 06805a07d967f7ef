"""Encodes images, point cloud, instruction and history as tokens, once per observation."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from stvla_ros.policy.network.attention import AttentionStack
from stvla_ros.policy.network.clip_resnet import ClipResnet, FeaturePyramid
from stvla_ros.policy.network.config import NetworkConfig
from stvla_ros.policy.network.nano_visual import NanoVisual, ways_to_path
from stvla_ros.policy.network.rotary import Rotary, rotary_table, take
from stvla_ros.policy.network.subsample import density_based, farthest_point
from stvla_ros.policy.network.text import CLIP_CHANNELS, ClipText, Words
from stvla_ros.policy.network.values import SceneContext

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
"""Mean of red, green and blue in CLIP's training (its model card)."""

CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
"""Their standard deviations."""


class Normalize(nn.Module):
    """Normalises RGB 0..1 to zero mean and unit deviation over CLIP's training images."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(CLIP_MEAN).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(CLIP_STD).view(1, 3, 1, 1))

    def forward(self, rgb: Tensor) -> Tensor:
        return (rgb - self.mean) / self.std


class SceneEncoder(nn.Module):
    """Makes the tokens of a scene: image, instruction, and past gripper poses."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.config = config
        width = config.width
        self.text_encoder = _text_encoder(config)
        channels = CLIP_CHANNELS if self.text_encoder is None else self.text_encoder.channels
        self.instruction_encoder = nn.Linear(channels, width)
        self.normalize = Normalize()
        self.feature_pyramid: FeaturePyramid | None = None
        if config.visual == "clip_rn50":
            self.backbone: nn.Module = ClipResnet(config.backbone_batch_statistics)
            self.feature_pyramid = FeaturePyramid(ClipResnet.CHANNELS, width)
        else:
            self.backbone = NanoVisual(width, config.visual_stride, config.visual_cloud, config.path_channels)
        self.vl_attention = AttentionStack(
            config.vision_text_layers, width, config.heads, hidden=4 * width, dropout=config.dropout
        )
        self.curr_gripper_embed = nn.Embedding(config.history * config.hands, width)
        self.gripper_context_head = AttentionStack(
            config.history_layers, width, config.heads, hidden=width, dropout=config.rotary_dropout
        )

    def forward(
        self, rgb: Tensor, xyz: Tensor, text: Tensor, history_xyz: Tensor, path: Tensor | None = None
    ) -> SceneContext:
        """Tokens of B scenes.

        Args:
            rgb: (B, cameras, 3, H, W), 0..1.
            xyz: (B, cameras, 3, H, W), in the coordinates of the rotary encoding, like ``history_xyz``.
            text: (B, n) ids or (B, n, 512) features.
            history_xyz: (B, history * hands, 3), oldest first, hands within.
            path: (B, K, 3), in the same coordinates; NaN without a path.
        """
        seen = _without_padding(text)
        words = self.instruction_encoder(self._text_features(text, seen))
        image = self.vl_attention(self._image_tokens(rgb, xyz, path), words, seen=seen)
        image_xyz = _tokens(_shrunk(xyz.flatten(0, 1), self.config.visual_stride), len(xyz))
        at = self._rotary(image_xyz)
        kept = (density_based if self.config.subsampler == "density" else farthest_point)(image, self.config.sampled)
        return SceneContext(
            image=image,
            image_xyz=image_xyz,
            image_rotary=at,
            sampled=take(image, kept),
            sampled_xyz=take(image_xyz, kept),
            sampled_rotary=at.take(kept),
            text=words,
            text_seen=seen,
            history=self._history(history_xyz, image, at),
        )

    def _text_features(self, text: Tensor, seen: Tensor | None) -> Tensor:
        """(B, n, channels); ``seen`` as in :attr:`SceneContext.text_seen`."""
        if self.text_encoder is None:
            return text
        return self.text_encoder(text) if seen is None else self.text_encoder(text, ~seen[:, 0, 0])

    def _rotary(self, xyz: Tensor) -> Rotary:
        return rotary_table(xyz, self.config.width, self.config.rotary_scale)

    def _image_tokens(self, rgb: Tensor, xyz: Tensor, path: Tensor | None) -> Tensor:
        images = self.normalize(rgb.flatten(0, 1))
        maps = self.backbone(images, *seen_beside_colour(self.config, xyz, path))
        return _tokens(maps if self.feature_pyramid is None else self.feature_pyramid(maps), len(rgb))

    def _history(self, xyz: Tensor, image: Tensor, image_at: Rotary) -> Tensor:
        queries = self.curr_gripper_embed.weight.expand(len(xyz), -1, -1)
        return self.gripper_context_head(queries, image, self._rotary(xyz), image_at)


def seen_beside_colour(config: NetworkConfig, xyz: Tensor, path: Tensor | None) -> tuple[Tensor, ...]:
    """What the image encoder sees of B scenes in addition to colours, (B * cameras, 3, H, W) each.

    Args:
        config: Says what.
        xyz: (B, cameras, 3, H, W).
        path: (B, K, 3); unused without ``path_channels``.
    """
    points = xyz.flatten(0, 1)
    if not config.path_channels or path is None:
        return (points,) if config.visual_cloud else ()
    return points, ways_to_path(points, path.repeat_interleave(xyz.shape[1], 0))


def _without_padding(text: Tensor) -> Tensor | None:
    """(B, 1, 1, n) False at padding ids; None where there is none."""
    padding = text < 0 if text.ndim == 2 else None
    return ~padding[:, None, None] if padding is not None and padding.any() else None


def _text_encoder(config: NetworkConfig) -> ClipText | Words | None:
    if config.text == "clip":
        return ClipText()
    if config.text == "words":
        return Words(config.vocabulary, config.width, config.heads, config.dropout)
    return None


def _shrunk(xyz: Tensor, stride: int) -> Tensor:
    """One position per token: bilinear sampling gives the mean of the central 2 x 2 pixels of its square."""
    height, width = xyz.shape[-2:]
    return functional.interpolate(xyz, (height // stride, width // stride), mode="bilinear", align_corners=False)


def _tokens(maps: Tensor, batch: int) -> Tensor:
    """(B * cameras, C, h, w) to (B, cameras * h * w, C)."""
    return maps.unflatten(0, (batch, -1)).permute(0, 1, 3, 4, 2).flatten(1, 3)
