"""Transparent things: a depth camera measures the table through them, in patches, and nothing between the patches.

Their colour is the table's, tinted, so that the histogram of the whole table's colours does not tell them. Two things
together do: depth is missing in a group of patches with the support all around, and colours in the group differ from
those next to it. Missing depth alone is a highlight or a speckle, another colour alone is a print or a shadow.
"""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from stvla_ros.geometry.components import fill_holes, solidity
from stvla_ros.tabletop.unmeasured import GLARE, MIN_PX
from stvla_ros.types import F32, I32, U8, Bool

GAP = 1 / 45
"""Patches without depth that are nearer to each other belong together, as a share of the image's width."""

WIDEST = 1 / 20
"""Wider parts of the image without depth are the room, as a share of its width."""

MAX_SHARE = 1 / 40
"""Larger groups, and what they extend to, as shares of the image, are glare or a dark part of the table."""

MIN_MISSING = 0.25
"""Smallest share of a group's convex hull that has no depth."""

MIN_SUPPORT, MAX_OBJECTS = 0.6, 0.3
"""Of the pixels next to a group: smallest share measured on the support, and largest share on objects. Beside an object
the camera's second eye does not see the table."""

MIN_CONTRAST, MIN_SEPARATION = 0.04, 0.9
"""Smallest distance between the median features of the colours in a group and of those next to it; and smallest root of
the sum of its squares over both variances."""

MIN_SOLIDITY = 0.78
"""Smallest share of its convex hull that a thing fills; shadows and strips of table between things fill less."""

MAX_GROWTH = 4.0
"""A group is extended by colour up to this multiple of its hull; to more, its colours do not tell it from the table."""

SPREAD = 1e-4
"""Variance of the features of one colour by the camera's noise."""

RING_PX, SAMPLE = 3, 200


def with_transparent(labels: I32, colours: F32, depth_m: F32, support: Bool, exclude: Bool, min_px: int) -> I32:
    """Labels with things through which the support is measured.

    Args:
        labels: (H, W) objects 1..n, 0 elsewhere.
        colours: (H, W, 4) features of the colours.
        depth_m: (H, W) depth, NaN where unknown.
        support: (H, W) pixels measured on the support.
        exclude: (H, W) pixels that belong to no object (the robot).
        min_px: Smallest object.

    Returns:
        (H, W) labels 1..m.
    """
    missing = np.isnan(depth_m) & (labels == 0) & ~exclude
    free = (missing | support) & (labels == 0)
    out, fresh = labels.copy(), int(labels.max(initial=0)) + 1
    for pixels in _groups(missing & _closed(support | (labels > 0)), MIN_PX * min_px):
        found = _found(pixels, labels, colours, support, free)
        if found is not None:
            window, own = found
            rest = own & (out[window] == 0)
            if np.count_nonzero(rest) > np.count_nonzero(own) / 2:  # else another group found the same thing
                out[window][rest] = fresh
                fresh += 1
    return out


def _groups(missing: Bool, least_px: int) -> list[npt.NDArray[np.intp]]:
    """Flat indices of the pixels of each group of patches that has so many."""
    width = 2 * max(round(GAP * missing.shape[1] / 2), 1) + 1
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (width, width))
    _, parts = cv2.connectedComponents(cv2.dilate(missing.view(np.uint8), disc), connectivity=8, ltype=cv2.CV_32S)
    at = np.flatnonzero(missing)
    owner = np.asarray(parts).take(at)
    return [at[owner == group] for group in np.flatnonzero(np.bincount(owner) >= least_px)]


def _found(
    pixels: npt.NDArray[np.intp], labels: I32, colours: F32, support: Bool, free: Bool
) -> tuple[tuple[slice, slice], Bool] | None:
    """The window around a group, and the pixels (h, w) of the thing in it; None when there is none."""
    height, width = labels.shape
    rows, columns = np.divmod(pixels, width)
    top, left, bottom, right = rows.min(), columns.min(), rows.max() + 1, columns.max() + 1
    margin = max(bottom - top, right - left) // 2 + RING_PX
    window = (
        slice(max(int(top - margin), 0), min(int(bottom + margin), height)),
        slice(max(int(left - margin), 0), min(int(right + margin), width)),
    )
    outline = np.stack([columns - window[1].start, rows - window[0].start], axis=1).astype(np.int32)
    hull = np.zeros(labels[window].shape, np.uint8)
    cv2.fillConvexPoly(hull, cv2.convexHull(outline), 1)
    area = np.count_nonzero(hull)
    if len(pixels) < MIN_MISSING * area or area > MAX_SHARE * labels.size:
        return None
    ring = _dilated(hull, RING_PX) & (hull == 0)
    around, inside = support[window] & ring, (hull > 0) & free[window]
    count = np.count_nonzero(ring)
    if np.count_nonzero(around) < MIN_SUPPORT * count or np.count_nonzero(labels[window][ring]) > MAX_OBJECTS * count:
        return None
    own, other = _some(colours[window], inside), _some(colours[window], around)
    middle = np.median(own, axis=0)
    off = middle - np.median(other, axis=0)
    apart = float(np.sqrt((off**2 / (own.var(axis=0) + other.var(axis=0) + SPREAD)).sum()))
    if middle[3] > GLARE or np.linalg.norm(off) < MIN_CONTRAST or apart < MIN_SEPARATION:
        return None
    found = _extended(hull, np.ascontiguousarray(colours[window]), support[window], free[window])
    small = np.count_nonzero(found) < MAX_SHARE * labels.size
    return (window, found) if small and solidity(found) > MIN_SOLIDITY else None


def _extended(hull: U8, colours: F32, support: Bool, free: Bool) -> Bool:
    """The pixels (h, w) around a hull that have its colours: Fisher's linear discriminant between those in it and those
    around it (Fisher 1936)."""
    inside, around = (hull > 0) & free, support & ~_dilated(hull, RING_PX)
    own, other = _some(colours, inside), _some(colours, around)
    if len(other) < len(own[0]) ** 2:
        return inside
    middle = own.mean(axis=0), other.mean(axis=0)
    spread = np.cov(own.T) + np.cov(other.T) + SPREAD * np.eye(own.shape[1])
    normal = np.linalg.solve(spread, middle[0] - middle[1])
    like = (colours @ normal.astype(np.float32) > float(normal @ (middle[0] + middle[1]) / 2)) & free
    opened = cv2.morphologyEx((like | inside).astype(np.uint8), cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
    _, parts = cv2.connectedComponents(opened, connectivity=4, ltype=cv2.CV_32S)
    touched = np.bincount(parts[inside], minlength=int(parts.max()) + 1) > 0
    touched[0] = False
    grown = fill_holes(touched[parts] | inside) & free
    return grown if np.count_nonzero(grown) < MAX_GROWTH * np.count_nonzero(hull) else inside


def _some(colours: F32, mask: Bool) -> F32:
    """(N, F) features of up to twice :data:`SAMPLE` pixels of a mask, evenly spread."""
    at = np.flatnonzero(mask)
    return colours.reshape(-1, colours.shape[-1]).take(at[:: max(len(at) // SAMPLE, 1)], axis=0)


def _closed(mask: Bool) -> Bool:
    """A mask with its holes and gaps that are no wider than a transparent thing."""
    width = 2 * round(WIDEST * mask.shape[1] / 2) + 1
    return np.asarray(cv2.morphologyEx(mask.view(np.uint8), cv2.MORPH_CLOSE, np.ones((width, width), np.uint8))) > 0


def _dilated(mask: U8, radius: int) -> Bool:
    square = np.ones((2 * radius + 1, 2 * radius + 1), np.uint8)
    return np.asarray(cv2.dilate(mask, square)) > 0
