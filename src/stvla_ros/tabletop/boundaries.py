"""The rim of things: pixels too low to tell from the table, or without depth, that have a thing's colour."""

from __future__ import annotations

import cv2
import numpy as np
from scipy.ndimage import find_objects

from stvla_ros.geometry.components import filled, sizes
from stvla_ros.tabletop.support_plane import Table
from stvla_ros.types import F32, I32, Bool

REACH = 1 / 70
"""Width of the rim looked at, as a share of the image's width."""

LOOKS = 3
"""So often a rim is looked at whose end is out of reach: where a thing tapers off, as a banana does, its depth sinks
into the table's long before it ends."""

LIKER = 0.5
"""A pixel on the table's height is a thing's when its colour is this much closer to it than to the table."""

LIKER_BLIND = 0.8
"""The same for a pixel without depth."""

HOLLOW = 4.0
"""Holes are filled in things that do not become larger than this many times themselves."""

ABOVE_M = 0.008
"""What lies in a hollow and ends less than this above the rim is part of the hollow thing."""

THIN, SLIVER, BESIDE = 1 / 180, 0.15, 0.33
"""Of a strip: largest half width as a share of the image's width; largest share of its neighbour's area; least share
of the pixels around it that are the neighbour's."""

UNLIKE = 0.08
"""Least distance of the two colours (see :func:`stvla_ros.tabletop.surface_colours.colour_feature`)."""


def absorb_fringe(
    labels: I32, colours: F32, depth_m: F32, height_m: F32, exclude: Bool, table: Table, width_px: int
) -> I32:
    """Labels with enclosed holes filled, and with the pixels around each thing that look like it.

    Args:
        labels: (H, W) things 1..n, 0 is none.
        colours: (H, W, 4) features of its colours (:func:`stvla_ros.tabletop.surface_colours.colour_feature`).
        depth_m: (H, W) depth, NaN where unknown.
        height_m: (H, W) height above the table, NaN where unknown.
        exclude: (H, W) pixels that are nobody's (the robot).
        table: The table.
        width_px: Of the whole image, of which this may be a part.
    """
    labels = _with_slivers(_enclosed(labels, height_m, exclude), width_px)
    radius = max(round(REACH * width_px), 2)
    low, unknown = np.abs(height_m) < table.floor_m + 0.002, np.isnan(depth_m)
    fronts = labels
    for _ in range(LOOKS):
        labels, fronts = _grown(labels, fronts, colours, low, unknown, exclude, radius)
        if not fronts.any():
            break
    return labels


def _grown(
    labels: I32, fronts: I32, colours: F32, low: Bool, unknown: Bool, exclude: Bool, radius: int
) -> tuple[I32, I32]:
    """Labels grown over the rims around ``fronts`` (labelled alike), and new fronts where a rim goes on beyond the reach."""
    out, further = labels.copy(), np.zeros_like(labels)
    best = np.full(labels.shape, np.inf, dtype=np.float32)
    nobody = (labels == 0) & ~exclude
    free = nobody & (unknown | low)
    for label, window in enumerate(find_objects(fronts), start=1):
        if window is None:
            continue
        here = tuple(slice(max(s.start - 2 * radius, 0), s.stop + 2 * radius) for s in window)
        own, front = labels[here] == label, fronts[here] == label
        ring = _square(front, radius) & free[here] & ~own
        if not ring.any():
            continue
        table = nobody[here] & ~_square(own, radius)
        likeness = _likeness(own, ring, table, unknown[here], colours[here], radius)
        take = likeness < best[here]
        best[here][take] = likeness[take]
        out[here][take] = label
        further[here][take & ~_square(front, radius - 1)] = label
    return out, further


def _enclosed(labels: I32, height_m: F32, exclude: Bool) -> I32:
    """Holes in things filled: table seen inside a bowl or plate, and its parts that do not stand above it."""
    out, area = labels.copy(), sizes(labels)
    for label, window in enumerate(find_objects(labels), start=1):
        inside, height = out[window], height_m[window]  # views
        own = inside == label
        hole = _holes(own) & ~exclude[window]
        for other in np.flatnonzero(sizes(inside[hole])):
            part = hole & (inside == other)
            if other == 0 or (
                np.count_nonzero(part) == area[other] and _top(height[part]) < _top(height[own]) + ABOVE_M
            ):
                inside[part] = label
    return out


def _top(height_m: F32) -> float:
    return float(np.nanquantile(height_m, 0.97))


def _holes(own: Bool) -> Bool:
    """Pixels enclosed by a thing, where they are not more than a multiple of it."""
    whole = filled(own)
    return whole & ~own & bool(np.count_nonzero(whole) < HOLLOW * np.count_nonzero(own))


def _with_slivers(labels: I32, width_px: int) -> I32:
    """Thin, small strips along a much larger thing are its steep side or its smeared edge, cut off by a depth step."""
    area = sizes(labels)
    out = labels.copy()
    thick = max(THIN * width_px, 1.5)
    for label, window in enumerate(find_objects(labels), start=1):
        if window is None or area[label] > SLIVER * area.max():
            continue
        here = tuple(slice(max(s.start - 2, 0), s.stop + 2) for s in window)
        own = (labels[here] == label).astype(np.uint8)
        wide = cv2.copyMakeBorder(own, 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
        if cv2.distanceTransform(wide, cv2.DIST_L2, 3).max() > thick:
            continue
        ring = cv2.dilate(own, np.ones((5, 5), np.uint8)).astype(bool) & (own == 0)
        near = np.bincount(np.maximum(out[here][ring], 0), minlength=1)
        near[0] = 0
        other = int(near.argmax())
        if near[other] > BESIDE * ring.sum() and area[label] < SLIVER * area[other]:
            out[here][own == 1] = other
    return out


def _likeness(own: Bool, ring: Bool, table: Bool, unknown: Bool, colours: F32, radius: int) -> F32:
    """(h, w) how much nearer the colour of a pixel on a thing's rim is to the thing's than to the table's; inf elsewhere."""
    out = np.full(own.shape, np.inf, dtype=np.float32)
    to_thing, have_thing = _distance(colours, own, ring, radius)
    to_table, have_table = _distance(colours, table, ring, 2 * radius)
    ratio = to_thing / np.maximum(to_table, 1e-6)
    ratio[~have_thing | ~have_table | (to_table < UNLIKE)] = np.inf
    out[ring] = np.where(ratio < np.where(unknown[ring], LIKER_BLIND, LIKER), ratio, np.inf)
    take = cv2.medianBlur((np.isfinite(out) | own).astype(np.uint8), 3).astype(bool) & ring
    out[~_touching(take, own)] = np.inf
    return out


def _square(mask: Bool, radius: int) -> Bool:
    """A mask grown by a square."""
    return cv2.dilate(mask.astype(np.uint8), np.ones((2 * radius + 1, 2 * radius + 1), np.uint8)).astype(bool)


def _distance(colours: F32, of: Bool, at: Bool, radius: int) -> tuple[F32, Bool]:
    """Distance of the colours ``at`` some pixels to the mean of those ``of`` others around them."""
    size, weight = (2 * radius + 1, 2 * radius + 1), of.astype(np.uint8)
    total = cv2.boxFilter(cv2.copyTo(colours, weight), -1, size, normalize=False)[at]
    count = cv2.boxFilter(weight, cv2.CV_32F, size, normalize=False)[at]
    off = colours[at] - total / np.maximum(count, 1)[:, None]
    return np.sqrt(np.einsum("ij,ij->i", off, off)), count > 2


def _touching(take: Bool, thing: Bool) -> Bool:
    """Pixels taken that connect to a thing."""
    count, parts = cv2.connectedComponents((take | thing).astype(np.uint8), connectivity=4, ltype=cv2.CV_32S)
    touched = np.zeros(count, dtype=bool)
    touched[parts[thing]] = True
    touching = np.zeros_like(take)
    touching[take] = touched[parts[take]]
    return touching
