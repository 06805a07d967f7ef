"""Labelled regions of an image: connected components cut at depth steps, and tools for masks."""

from __future__ import annotations

from itertools import pairwise

import cv2
import numpy as np
import numpy.typing as npt

from stvla_ros.types import F32, I32, U8, Bool


def bounding_slices(mask: Bool) -> tuple[slice, slice] | None:
    """Rows and columns that contain all True pixels; None if there is none."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return None
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)


def connected(mask: Bool, depth_m: F32, step_m: float, classes: npt.NDArray[np.integer] | None = None) -> I32:
    """4-connected regions of ``mask``; neighbours whose depths differ by more than ``step_m`` do not connect.

    Exact: the image is spread over a grid of twice the size in which the odd cells are the links between
    pixels, so one standard labelling pass serves. Links that meet at a corner are links of one pixel: so 8-connected
    cells, which are labelled faster, give the same regions.

    Args:
        mask: (H, W) pixels to label.
        depth_m: (H, W) depth; NaN connects to nothing.
        step_m: Largest depth difference between neighbours of one region.
        classes: (H, W) integers; neighbours of different class do not connect either.

    Returns:
        (H, W) labels, 0 outside, 1... in raster order.
    """
    labels = np.zeros(mask.shape, dtype=np.int32)
    window = bounding_slices(mask)
    if window is None:
        return labels
    inside, depth = mask[window], depth_m[window]
    grid = np.zeros((2 * inside.shape[0] - 1, 2 * inside.shape[1] - 1), dtype=np.uint8)
    grid[::2, ::2] = inside
    across = inside[:, 1:] & inside[:, :-1] & (np.abs(depth[:, 1:] - depth[:, :-1]) <= step_m)
    down = inside[1:] & inside[:-1] & (np.abs(depth[1:] - depth[:-1]) <= step_m)
    if classes is not None:
        kind = classes[window]
        across &= kind[:, 1:] == kind[:, :-1]
        down &= kind[1:] == kind[:-1]
    grid[::2, 1::2] = across
    grid[1::2, ::2] = down
    _, spread = cv2.connectedComponents(grid, connectivity=8, ltype=cv2.CV_32S)
    labels[window] = spread[::2, ::2]
    return labels


def flat_indices(
    at: npt.NDArray[np.intp], width: int, window: tuple[slice, slice], image_width: int
) -> npt.NDArray[np.intp]:
    """Flat indices of pixels in an image, from those in a window of it that is so wide."""
    return np.asarray(at // width * (image_width - width) + at + (window[0].start * image_width + window[1].start))


def met_pairs(a: I32, b: I32) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """(N,) lower and higher label where two images (H, W), one the other shifted by a pixel, hold different ones, and
    the flat indices of these pixels."""
    where = np.flatnonzero((a != b) & (np.minimum(a, b) > 0))
    first, second = a.ravel().take(where).astype(np.intp), b.ravel().take(where).astype(np.intp)
    return np.minimum(first, second), np.maximum(first, second), where


def sizes(labels: I32) -> npt.NDArray[np.int64]:
    """(L + 1,) pixels per label, from 0 to the largest label."""
    labelled = labels.take(np.flatnonzero(labels > 0))  # the rest is most of an image, and need not be counted
    counts = np.bincount(labelled, minlength=1)
    counts[0] = labels.size - len(labelled)
    return counts


def renumber(labels: I32, keep: Bool) -> I32:
    """Labels whose ``keep[label]`` is True, renumbered 1..n in order; all others become 0. ``keep[0]`` is ignored."""
    if keep[1:].all():
        return labels
    table = np.zeros(len(keep), dtype=np.int32)
    chosen = np.flatnonzero(keep)
    chosen = chosen[chosen > 0]
    table[chosen] = np.arange(1, len(chosen) + 1)
    return np.asarray(table.take(labels), dtype=np.int32)


def member_pixels(labels: I32, count: int) -> list[npt.NDArray[np.intp]]:
    """Flat pixel indices of each label 1..count, found in one pass."""
    flat = labels.ravel()
    where = np.flatnonzero(flat > 0)
    owner = flat.take(where)
    short = owner.max(initial=0) <= np.iinfo(np.uint16).max  # sorted by radix
    order = np.argsort(owner.astype(np.uint16) if short else owner, kind="stable")
    where, owner = where.take(order), owner.take(order)
    bounds = np.searchsorted(owner, np.arange(1, count + 2))
    return [where[a:b] for a, b in pairwise(bounds)]


def nearest_label(labels: I32) -> I32:
    """(H, W) label of the nearest labelled pixel."""
    free = (labels <= 0).astype(np.uint8)
    if free.all():
        return np.zeros_like(labels)
    _, index = cv2.distanceTransformWithLabels(free, cv2.DIST_L2, 3, labelType=cv2.DIST_LABEL_PIXEL)
    of_index = np.zeros(int(index.max()) + 1, dtype=np.int32)
    of_index[index[free == 0]] = labels[free == 0]
    return np.asarray(of_index[index], dtype=np.int32)


def fill_holes(mask: Bool) -> Bool:
    """The mask without holes, and without notches one pixel wide."""
    padded = cv2.copyMakeBorder(mask.astype(np.uint8), 2, 2, 2, 2, cv2.BORDER_CONSTANT, value=0)
    closed = cv2.morphologyEx(padded, cv2.MORPH_CLOSE, np.ones((3, 3), np.uint8))
    outline, _ = cv2.findContours(closed, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    return np.asarray(cv2.drawContours(closed, outline, -1, 1, cv2.FILLED)[2:-2, 2:-2]).astype(bool)


def solidity(mask: Bool | U8) -> float:
    """Share of its convex hull that a mask fills."""
    outline, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    if not outline:
        return 0.0
    hull = np.zeros(mask.shape, dtype=np.uint8)
    cv2.fillConvexPoly(hull, cv2.convexHull(np.concatenate(outline)), 1)
    return int(np.count_nonzero(mask)) / max(int(np.count_nonzero(hull)), 1)
