"""Proposed masks of a promptable model: filtering, suppression of duplicates, one label per pixel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from stvla_ros.geometry.components import bounding_slices
from stvla_ros.perception.sam2.evidence import Surroundings, may_be_thing
from stvla_ros.types import F32, F64, I32, Bool

STABILITY_OFFSET = 1.0
"""Shift of the logit threshold, up and down, to measure stability (SAM's automatic mask generator)."""


@dataclass(frozen=True)
class MaskLimits:
    """Conditions for a proposed mask.

    Attributes:
        score: Smallest IoU that the model predicts for its own mask.
        stability: Smallest :func:`stability`.
        share: Largest share of the frame.
        background: Largest share of the mask's pixels with depth that are table, wall or floor.
        min_area: Smallest share of the frame.
    """

    score: float
    stability: float
    share: float
    background: float
    min_area: float = 0.0


def grid_points(shape: tuple[int, int], side: int) -> F64:
    """(side * side, 2) pixels spread evenly over a frame of ``shape`` (H, W), row by row."""
    x = (np.arange(side) + 0.5) * shape[1] / side - 0.5
    y = (np.arange(side) + 0.5) * shape[0] / side - 0.5
    return np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2)


def inner_points(labels: I32, ids: Sequence[int]) -> F64:
    """(N, 2) innermost pixel of each instance, valid even where the centroid lies outside (a ring)."""
    return np.array([_deepest(labels == i) for i in ids], dtype=np.float64).reshape(-1, 2)


def _deepest(mask: Bool) -> tuple[int, int]:
    rows, columns = bounding_slices(mask) or (slice(0, 1), slice(0, 1))
    inside = cv2.copyMakeBorder(mask[rows, columns].astype(np.uint8), 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
    y, x = np.unravel_index(np.argmax(cv2.distanceTransform(inside, cv2.DIST_L2, 5)), inside.shape)
    return int(x) - 1 + columns.start, int(y) - 1 + rows.start


def stability(logits: F32) -> F64:
    """(N,) overlap (IoU) of each of (N, h, w) masks with itself at a higher and a lower threshold; 0 for an empty one."""
    high = (logits > STABILITY_OFFSET).sum(axis=(1, 2))
    low = (logits > -STABILITY_OFFSET).sum(axis=(1, 2))
    return np.asarray(high / np.maximum(low, 1), dtype=np.float64)


def acceptable(logits: F32, scores: F32, around: Surroundings, limits: MaskLimits) -> Bool:
    """(N,) which of (N, h, w) mask logits with (N,) predicted IoU may be objects.

    Masks are dropped if they are NaN or empty, have a low predicted IoU or :func:`stability`, cover too much of the
    frame, or depth says that they are no thing (:func:`stvla_ros.perception.sam2.evidence.may_be_thing`).
    """
    finite = np.isfinite(scores) & np.isfinite(logits).all(axis=(1, 2))
    ok = finite & (scores >= limits.score) & (stability(logits) >= limits.stability)
    ok[ok] = plausible(logits[ok] > 0, around, limits)
    return np.asarray(ok)


def plausible(masks: Bool, around: Surroundings, limits: MaskLimits) -> Bool:
    """(N,) which of (N, h, w) masks are neither empty, tiny, too large, nor background."""
    area = masks.sum(axis=(1, 2))
    size = around.surface.size
    inside = (area > 0) & (area >= limits.min_area * size) & (area <= limits.share * size)
    inside[inside] = [may_be_thing(mask, around, limits.background) for mask in masks[inside]]
    return np.asarray(inside)


def overlaps(masks: Bool, others: Bool) -> tuple[F64, F64]:
    """(N, M) intersections in pixels of (N, h, w) with (M, h, w) masks, and their IoU (0 where both are empty)."""
    a = masks.reshape(len(masks), int(np.prod(masks.shape[1:]))).astype(np.float32)
    b = others.reshape(len(others), int(np.prod(others.shape[1:]))).astype(np.float32)
    both = (a @ b.T).astype(np.float64)
    union = a.sum(axis=1, dtype=np.float64)[:, None] + b.sum(axis=1, dtype=np.float64)[None] - both
    return both, both / np.maximum(union, 1)


def suppress(masks: Bool, scores: npt.ArrayLike, iou: float) -> list[int]:
    """Non-maximum suppression: kept indices, best first; none overlaps a better one by more than ``iou``."""
    _, same = overlaps(masks, masks)
    kept: list[int] = []
    for i in np.argsort(-np.asarray(scores, dtype=np.float64), kind="stable"):
        if not kept or same[i, kept].max() <= iou:
            kept.append(int(i))
    return kept


def paint(shape: tuple[int, ...], masks: Sequence[Bool]) -> I32:
    """(H, W) number of each pixel's mask, from 1; 0 without one.

    Where masks overlap the smaller one wins (an object in a plate is not the plate), of equal ones the first.
    """
    labels = np.zeros(shape, dtype=np.int32)
    areas = [int(mask.sum()) for mask in masks]
    for i in sorted(range(len(masks)), key=lambda i: (-areas[i], -i)):
        labels[masks[i]] = i + 1
    return labels
