"""Things that touch at a narrow place: cut where the outline has a neck."""

from __future__ import annotations

import cv2
import numpy as np
from scipy.ndimage import find_objects

from stvla_ros.geometry.components import filled, nearest_label, renumber, sizes, solidity
from stvla_ros.types import F32, I32, Bool

NECK = 0.62
"""A neck is at most this share of the width of the narrower of the two parts."""

SOLID_REGION = 0.92
"""Regions that fill more of their convex hull have no neck."""

SOLID_PART = 0.82
"""Least share of its convex hull that a part fills."""

LEAST_SHARE = 0.12
"""Least part, as a share of the region."""

SMALL_PX = 96
"""Necks are looked for in pictures of regions that are not larger than this."""


def cut_necks(labels: I32, least_px: int) -> I32:
    """Labels 1..n with regions cut in two (or more) where a narrow neck joins solid parts.

    Args:
        labels: (H, W) regions 1..n, 0 is none.
        least_px: Least size of a part.
    """
    out = labels.copy()
    count = int(labels.max(initial=0))
    top = count
    area = sizes(labels)
    for label, window in enumerate(find_objects(labels), start=1):
        if area[label] < 4 * least_px:
            continue
        parts = _parts(out[window] == label, max(least_px / area[label], LEAST_SHARE))
        for part in range(2, int(parts.max()) + 1):
            top += 1
            out[window][parts == part] = top
    return renumber(out, sizes(out) > 0) if top > count else labels


def _parts(own: Bool, least_share: float) -> I32:
    """(h, w) parts 1..n of one region, found on a smaller picture of it where it is large."""
    h, w = own.shape
    step = -(-max(h, w) // SMALL_PX)
    small = filled(own[::step, ::step])
    if solidity(small) > SOLID_REGION:
        return own.astype(np.int32)
    parts = _cut(small, least_share * np.count_nonzero(small))
    if parts.max() < 2:
        return own.astype(np.int32)
    spread = parts.repeat(step, axis=0)[:h].repeat(step, axis=1)[:, :w]
    return np.where(own, nearest_label(np.where(own, spread, 0).astype(np.int32)), 0).astype(np.int32)


def _cut(own: Bool, least: float) -> I32:
    """(h, w) parts 1..n of one region; 1 alone where it has no neck."""
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
            np.count_nonzero(parts == i) >= least and solidity(parts == i) > SOLID_PART for i in range(1, count + 1)
        ):
            return parts
    return whole


def _cores(distance: F32, level: float) -> I32:
    """Parts that stay when everything narrower than ``level`` goes, where they are clearly wider than that."""
    count, found = cv2.connectedComponents((distance > level).astype(np.uint8), connectivity=4, ltype=cv2.CV_32S)
    cores = np.asarray(found, dtype=np.int32)
    if count < 3:
        return cores
    widest = np.zeros(count, dtype=np.float32)
    np.maximum.at(widest, cores.ravel(), distance.ravel())
    return renumber(cores, level < NECK * widest)
