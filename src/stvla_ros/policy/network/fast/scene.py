"""What fast inference keeps of a scene, and its encoder, which runs once per observation."""

from __future__ import annotations

import copy
from typing import NamedTuple

from torch import Tensor
from torch.nn import functional

from stvla_ros.policy.network.encoder import SceneEncoder
from stvla_ros.policy.network.fast.heads import HeadLayout, rotary_phases
from stvla_ros.policy.network.fast.layers import CrossLayers
from stvla_ros.policy.network.fast.vision import FoldedImages, PlainImages
from stvla_ros.policy.network.rotary import take
from stvla_ros.policy.network.subsample import density_based, farthest_point


class SceneTokens(NamedTuple):
    """The fast counterpart of :class:`~stvla_ros.policy.network.values.SceneContext`."""

    image: Tensor
    """(B, N, width)."""
    image_phases: Tensor
    """Rotary positions (B, N, 1, P/2) of the image tokens, see :func:`~.heads.rotary_phases`."""
    sampled: Tensor
    """(B, M, width)."""
    sampled_phases: Tensor
    """(B, M, 1, P/2)."""
    text: Tensor
    """(B, n, width)."""
    history: Tensor
    """(B, history * hands, width)."""


class FastScene(NamedTuple):
    """Everything that the denoising steps need of B scenes, computed once. Tensors only."""

    text_keys: Tensor
    """Keys for the keypose tokens' attention to the instruction (1, B, heads, n, P/heads)."""
    text_values: Tensor
    """The values, of the same shape."""
    cross_keys: Tensor
    """Rotated keys for the attention to all image tokens (layers, B, heads, N, P/heads)."""
    cross_values: Tensor
    """The values, of the same shape."""
    sampled: Tensor
    """(B, M, width)."""
    sampled_phases: Tensor
    """(B, M, 1, P/2)."""
    scale: Tensor
    """Scale of every modulation at every step (steps, modulations, B, 1, width)."""
    shift: Tensor
    """The shifts, of the same shape."""
    beside_keys: Tensor
    """Rotated keys of a shared scene for the keypose tokens (shared + 2 branch layers, B, heads, M, P/heads), in order of
    use; a tensor with no layers where the scene is not shared."""
    beside_values: Tensor
    """The values, of the same shape."""

    def repeated(self, times: int) -> FastScene:
        """For ``times`` consecutive samples of every scene, which share the scene's keys and values."""
        if times == 1:
            return self
        return self._replace(
            sampled=self.sampled.repeat_interleave(times, 0),
            sampled_phases=self.sampled_phases.repeat_interleave(times, 0),
            scale=self.scale.repeat_interleave(times, 2),
            shift=self.shift.repeat_interleave(times, 2),
            beside_keys=self.beside_keys.repeat_interleave(times, 1),
            beside_values=self.beside_values.repeat_interleave(times, 1),
        )


class FastEncoder:
    """Makes the same tokens as the plain encoder. It shares the text encoder with it; other weights are copies."""

    def __init__(self, encoder: SceneEncoder, layout: HeadLayout, folded: bool) -> None:
        self.config = encoder.config
        self.frequencies = layout.frequencies(self.config.rotary_scale)
        self.text_encoder = encoder.text_encoder
        self.instruction = copy.deepcopy(encoder.instruction_encoder).requires_grad_(False)
        self.images = FoldedImages(encoder, layout) if folded else PlainImages(encoder)
        self.grippers = encoder.curr_gripper_embed.weight.detach().clone()
        self.to_image = CrossLayers(encoder.gripper_context_head, layout, rotary=True)

    def words(self, text: Tensor) -> Tensor:
        """(B, n, width) of ids (B, n), or of features (B, n, 512)."""
        return self.instruction(text if self.text_encoder is None else self.text_encoder(text))

    def __call__(self, rgb: Tensor, xyz: Tensor, words: Tensor, history_xyz: Tensor, path: Tensor) -> SceneTokens:
        """Tokens of B scenes.

        Args:
            rgb: (B, cameras, 3, H, W), 0..1.
            xyz: (B, cameras, 3, H, W), in the coordinates of the rotary encoding, like ``history_xyz``.
            words: (B, n, width).
            history_xyz: (B, history * hands, 3).
            path: (B, K, 3).
        """
        image = self.images(rgb, xyz, words, path)
        at = rotary_phases(token_positions(xyz, self.config.visual_stride), self.frequencies)
        kept = (density_based if self.config.subsampler == "density" else farthest_point)(image, self.config.sampled)
        queries = self.grippers.expand(len(rgb), -1, -1)
        history = self.to_image(queries, image, rotary_phases(history_xyz, self.frequencies), at)
        sampled_at = at.gather(1, kept[:, :, None, None].expand(-1, -1, *at.shape[2:]))
        return SceneTokens(image, at, take(image, kept), sampled_at, words, history)


def token_positions(xyz: Tensor, stride: int) -> Tensor:
    """(B, N, 3) from (B, cameras, 3, H, W): the mean of the central 2 x 2 pixels of every token's square."""
    size = xyz.shape[-2] // stride, xyz.shape[-1] // stride
    middle = functional.interpolate(xyz.flatten(0, 1), size, mode="bilinear", align_corners=False)
    return middle.permute(0, 2, 3, 1).reshape(len(xyz), -1, 3)
