"""Between a camera's frame and the square image that the model sees; no torchvision."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from stvla_ros.types import F32, F64, U8, Bool

MEAN = (0.485, 0.456, 0.406)
"""Mean of ImageNet's colours, which all SAM 2 checkpoints were trained with."""

STD = (0.229, 0.224, 0.225)
"""Their standard deviation."""


def model_input(rgb: U8, size_px: int) -> F32:
    """(3, S, S) normalised image: the frame (H, W, 3) stretched to a square, smoothed where it shrinks."""
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
    """(h, w) mask of the square from an (H, W) mask of a frame: True where at least half of what a pixel covers is."""
    small = cv2.resize(mask.astype(np.float32), (shape[1], shape[0]), interpolation=cv2.INTER_AREA)
    return np.asarray(small >= 0.5)
