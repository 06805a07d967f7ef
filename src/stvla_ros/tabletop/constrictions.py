"""Split touching objects where the outline has a constriction (a narrow neck)."""

from __future__ import annotations

import cv2
import numpy as np
from scipy.ndimage import find_objects

from stvla_ros.geometry.components import fill_holes, nearest_label, renumber, sizes, solidity
from stvla_ros.types import F32, I32, Bool

MAX_NECK = 0.62
"""Largest width of a neck, as a share of the width of the narrower part."""

MAX_SOLIDITY = 0.92
"""Regions that fill more of their convex hull have no neck."""

MIN_PART_SOLIDITY = 0.82
"""Smallest share of its convex hull that a part fills."""

MIN_PART_SHARE = 0.12
"""Smallest part, as a share of the region."""

SEARCH_PX = 96
"""Larger regions are scaled down to at most this size for the search."""


def split_at_constrictions(labels: I32, min_px: int) -> I32:
    """Regions 1..n, split in two or more where a narrow neck joins solid parts.

    Args:
        labels: (H, W) regions 1..n, 0 elsewhere.
        min_px: Smallest part.
    """
    out = labels.copy()
    count = int(labels.max(initial=0))
    top = count
    area = sizes(labels)
    for label, window in enumerate(find_objects(labels), start=1):
        if area[label] < 4 * min_px:
            continue
        parts = _parts(out[window] == label, max(min_px / area[label], MIN_PART_SHARE))
        for part in range(2, int(parts.max()) + 1):
            top += 1
            out[window][parts == part] = top
    return renumber(out, sizes(out) > 0) if top > count else labels


def _parts(own: Bool, min_share: float) -> I32:
    """(h, w) parts 1..n of one region; a large region is scaled down for the search."""
    h, w = own.shape
    step = -(-max(h, w) // SEARCH_PX)
    small = fill_holes(own[::step, ::step])
    if solidity(small) > MAX_SOLIDITY:
        return own.astype(np.int32)
    parts = _split(small, min_share * np.count_nonzero(small))
    if parts.max() < 2:
        return own.astype(np.int32)
    spread = parts.repeat(step, axis=0)[:h].repeat(step, axis=1)[:, :w]
    return np.where(own, nearest_label(np.where(own, spread, 0).astype(np.int32)), 0).astype(np.int32)


def _split(own: Bool, min_px: float) -> I32:
    """(h, w) parts 1..n of one region; all 1 where it has no neck."""
    wide = cv2.copyMakeBorder(own.astype(np.uint8), 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
    padded = cv2.distanceTransform(wide, cv2.DIST_L2, 5)
    distance = np.asarray(padded[1:-1, 1:-1], dtype=np.float32)
    whole = own.astype(np.int32)
    for level in np.linspace(0.25, 0.7, 7) * float(distance.max()):
        cores = _cores(distance, float(level))
        if cores.max() < 2:
            continue
        parts = np.where(own, nearest_label(cores), 0).astype(np.int32)
        count = int(parts.max())
        if all(
            np.count_nonzero(parts == i) >= min_px and solidity(parts == i) > MIN_PART_SOLIDITY
            for i in range(1, count + 1)
        ):
            return parts
    return whole


def _cores(distance: F32, level: float) -> I32:
    """What remains of the parts after everything narrower than ``level`` is removed, if they are clearly wider."""
    count, found = cv2.connectedComponents((distance > level).astype(np.uint8), connectivity=4, ltype=cv2.CV_32S)
    cores = np.asarray(found, dtype=np.int32)
    if count < 3:
        return cores
    widest = np.zeros(count, dtype=np.float32)
    np.maximum.at(widest, cores.ravel(), distance.ravel())
    return renumber(cores, level < MAX_NECK * widest)
