"""Hollow things are whole: what lies inside a rim belongs to it, unless it stands in it.

From a camera above, the bottom of a bowl is lower than its rim, often within the noise of the table's height, and the
rim next to the camera can be lost in that noise too. Enclosure in the image tells: from a pixel inside, all straight
ways in the image, or all but those towards a gap, meet the rim.
"""

from __future__ import annotations

import cv2
import numpy as np
from scipy.ndimage import find_objects

from stvla_ros.geometry.components import fill_holes, sizes, solidity
from stvla_ros.types import F32, I32, U8, Bool

MAX_FILL = 3.0
"""What looks like the table inside a rim is filled up to this multiple of the rim's size: more lies in a loop of cable."""

MIN_INSIDE = 0.95
"""Share of a region that must lie inside a rim if the region is to belong to it."""

MAX_INSIDE = 0.15
"""What encloses more of the image, as a share of its squared width, are the walls around the support."""

MIN_WAYS = 5
"""Of the eight straight ways from a pixel inside, those that meet the rim; the near rim may be lost in noise."""

SEARCH_PX = 48
"""Things larger than this are scaled down for the search along straight ways."""

MAX_SOLIDITY = 0.88
"""A thing that fills more of its convex hull has no open hollow."""

RISE_M = 0.006
"""What rises by more over the surface around it stands in a hollow thing, and is no part of it."""

AROUND = 0.7
"""Quantile of the heights around it: not all of the surface around may be a wall."""


def whole_hollows(labels: I32, height_m: F32, like_table: Bool, exclude: Bool, width_px: int) -> I32:
    """Labels in which everything inside a rim has the label of the rim.

    Args:
        labels: (H, W) objects 1..n, 0 elsewhere.
        height_m: (H, W) height above the table, NaN where unknown.
        like_table: (H, W) pixels with a colour of the table: where the rim has a gap, they may be the table.
        exclude: (H, W) pixels that belong to no object (the robot).
        width_px: Width of the whole image, of which the arrays may be a crop.
    """
    out, area = labels.copy(), sizes(labels)
    for label, window in enumerate(find_objects(labels), start=1):
        if window is None:
            continue
        inside, own = out[window], labels[window] == label
        closed = fill_holes(own) & ~own & ~exclude[window]
        more = np.count_nonzero(closed)
        if more > MAX_INSIDE * width_px**2:
            continue
        wide = more > MAX_FILL * area[label]
        for other in np.flatnonzero(sizes(inside[closed])) if more else ():
            part = closed & (inside == other)
            if other == 0:
                inside[part & ~like_table[window] if wide else part] = label
            elif np.count_nonzero(part) > MIN_INSIDE * area[other] and not stands(part, height_m[window]):
                inside[part] = label
        own = inside == label if more else own
        if solidity(own) < MAX_SOLIDITY:
            inside[_enclosed(own, like_table[window]) & (inside == 0) & ~exclude[window]] = label
    return out


def stands(part: Bool, height_m: F32) -> bool:
    """Whether a part (h, w) inside a thing rises over the surface around it; False for the bottom of a bowl."""
    ring = cv2.dilate(part.astype(np.uint8), np.ones((5, 5), np.uint8)).astype(bool) & ~part
    around, own = height_m[ring], height_m[part]
    around, own = around[np.isfinite(around)], own[np.isfinite(own)]
    return bool(len(around) and len(own) and np.median(own) > np.quantile(around, AROUND) + RISE_M)


def _enclosed(own: Bool, like_table: Bool) -> Bool:
    """Pixels from which enough straight ways meet the thing; all of them where the pixel looks like the table."""
    h, w = own.shape
    step = -(-max(h, w) // SEARCH_PX)
    met = ways(own[::step, ::step])
    if step > 1:
        met = met.repeat(step, axis=0)[:h].repeat(step, axis=1)[:, :w]
    return np.asarray(met >= np.where(like_table, 8, MIN_WAYS))


def ways(own: Bool) -> U8:
    """(H, W) how many of the eight straight ways from each pixel to the border (rows, columns, diagonals) meet a mask."""
    count = _both(own, 0) + _both(own, 1)
    return np.asarray(count + _diagonal(own) + _diagonal(own[:, ::-1])[:, ::-1], dtype=np.uint8)


def _both(own: Bool, axis: int) -> U8:
    """Ways along an axis, both directions."""
    along = own if axis == 0 else own.T
    there = np.logical_or.accumulate(along, axis=0).view(np.uint8)
    both = there + np.logical_or.accumulate(along[::-1], axis=0)[::-1].view(np.uint8)
    return both if axis == 0 else both.T


def _diagonal(own: Bool) -> U8:
    """Ways along the diagonals that run down and left: columns, after each row is shifted by its number."""
    h, w = own.shape
    wide = np.zeros((h, w + h), dtype=bool)
    wide[:, :w] = own
    met = _both(wide.ravel()[: h * (w + h - 1)].reshape(h, w + h - 1), 0)
    back = np.zeros(h * (w + h), dtype=np.uint8)
    back[: met.size] = met.ravel()
    return back.reshape(h, w + h)[:, :w]
