"""The network on its device. An image is encoded once, after which prompts are cheap."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from stvla_ros.types import F32, F64, U8, Bool

MEAN = (0.485, 0.456, 0.406)
"""Mean of ImageNet's colours, used in training of all SAM 2 checkpoints."""

STD = (0.229, 0.224, 0.225)
"""Their standard deviation."""

PROMPTS_AT_ONCE = 64
"""Prompts per call of the mask decoder, which bounds the memory of a grid."""


@dataclass(frozen=True, eq=False)
class Picture:
    """An encoded frame.

    Attributes:
        shape: (H, W) of the frame.
        pixels: (1, 3, S, S) input of the model.
        features: Maps from fine to coarse, as returned by the model: (h * w, 1, C).
        positions: Their positional encodings.
    """

    shape: tuple[int, int]
    pixels: torch.Tensor
    features: list[torch.Tensor]
    positions: list[torch.Tensor]


class Network:
    """A SAM 2 model with its device and precision.

    With ``bf16`` the image encoder and the memory run in bfloat16 with float32 weights (autocast). Prompts and masks
    stay in float32: they are cheap, and bfloat16 would move a point by pixels.
    """

    def __init__(self, model: Any, device: torch.device, bf16: bool) -> None:
        self.model = model.to(device)
        self.device = device
        self.size_px = int(model.config.prompt_encoder_config.image_size)
        self.mask_shape: tuple[int, int] = tuple(model.prompt_encoder.mask_input_size)
        self._bf16 = bf16

    def autocast(self) -> torch.autocast:
        """Context in which heavy layers run in the chosen precision."""
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self._bf16)

    @torch.inference_mode()
    def encode(self, rgb: U8) -> Picture:
        """Encode a frame (H, W, 3)."""
        pixels = torch.from_numpy(model_input(rgb, self.size_px))[None].to(self.device)
        with self.autocast():
            out = self.model.get_image_features(pixels, return_dict=True)
        features = [f.float() for f in out.fpn_hidden_states]
        positions = [p.float() for p in out.fpn_position_encoding]
        return Picture((rgb.shape[0], rgb.shape[1]), pixels, features, positions)

    def prompt(self, picture: Picture, px: F64) -> Iterator[tuple[F32, F32]]:
        """Masks for (N, 2) pixels of the frame, each on one object.

        Yields:
            For each point (3, h, w) mask logits of the square (the model proposes part, object and whole), and (3,)
            predicted IoU.
        """
        points = to_model(px, picture.shape, (self.size_px, self.size_px)).astype(np.float32)
        for start in range(0, len(points), PROMPTS_AT_ONCE):
            yield from zip(*self._decode(picture, points[start : start + PROMPTS_AT_ONCE]), strict=True)

    @torch.inference_mode()
    def _decode(self, picture: Picture, points: F32) -> tuple[F32, F32]:
        """(n, 3, h, w) mask logits and (n, 3) predicted IoU for (n, 2) pixels of the square."""
        model = self.model
        at = torch.from_numpy(points)[None, :, None].to(self.device)
        labels = torch.ones(at.shape[:3], dtype=torch.int32, device=self.device)
        sparse, dense = model.prompt_encoder(input_points=at, input_labels=labels, input_boxes=None, input_masks=None)
        *fine, coarse = self._maps(picture)
        masks, scores, *_ = model.mask_decoder(
            image_embeddings=coarse,
            image_positional_embeddings=model.get_image_wide_positional_embeddings(),
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense,
            multimask_output=True,
            high_resolution_features=fine,
        )
        return masks[0].float().cpu().numpy(), scores[0].float().cpu().numpy()

    def _maps(self, picture: Picture) -> list[torch.Tensor]:
        """(1, C, h, w) features of an image without predecessors."""
        *fine, coarse = picture.features
        maps = [*fine, coarse + self.model.no_memory_embedding]
        sizes = self.model.backbone_feature_sizes
        return [m.permute(1, 2, 0).reshape(1, -1, *size) for m, size in zip(maps, sizes, strict=True)]


def model_input(rgb: U8, size_px: int) -> F32:
    """(3, S, S) normalised image: the frame (H, W, 3) stretched to a square, smoothed if it shrinks."""
    square = Image.fromarray(rgb).resize((size_px, size_px), Image.Resampling.BILINEAR)
    values = (np.asarray(square, dtype=np.float32) / 255 - np.array(MEAN, np.float32)) / np.array(STD, np.float32)
    return np.ascontiguousarray(values.transpose(2, 0, 1))


def to_model(px: npt.ArrayLike, shape: tuple[int, int], square: tuple[int, int]) -> F64:
    """(N, 2) pixels (x, y) of a frame of ``shape`` (H, W) as pixels of the stretched image of shape ``square``.

    The centres of pixels are whole numbers in both.
    """
    scale = np.array([square[1] / shape[1], square[0] / shape[0]])
    return (np.asarray(px, dtype=np.float64).reshape(-1, 2) + 0.5) * scale - 0.5


def to_frame(logits: F32, shape: tuple[int, int]) -> Bool:
    """(H, W) mask of a frame from (h, w) mask logits of the square."""
    return np.asarray(cv2.resize(logits, (shape[1], shape[0]), interpolation=cv2.INTER_LINEAR) > 0)


def shrink(mask: Bool, shape: tuple[int, int]) -> Bool:
    """(h, w) mask of the square from an (H, W) mask of a frame: True where at least half of the covered pixels are."""
    small = cv2.resize(mask.astype(np.float32), (shape[1], shape[0]), interpolation=cv2.INTER_AREA)
    return np.asarray(small >= 0.5)
