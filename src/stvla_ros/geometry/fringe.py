"""The rim of things: pixels too low to tell from the table, or without depth, that have a thing's colour."""

from __future__ import annotations

import cv2
import numpy as np
from scipy.ndimage import find_objects

from stvla_ros.geometry.components import sizes
from stvla_ros.geometry.fragments import filled
from stvla_ros.geometry.parts import colour_feature
from stvla_ros.geometry.tables import Table
from stvla_ros.types import F32, I32, U8, Bool

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
"""Least distance of the two colours (see :func:`stvla_ros.geometry.parts.colour_feature`)."""


def absorb_fringe(labels: I32, rgb: U8, depth_m: F32, height_m: F32, exclude: Bool, table: Table, width_px: int) -> I32:
    """Labels with enclosed holes filled, and with the pixels around each thing that look like it.

    Args:
        labels: (H, W) things 1..n, 0 is none.
        rgb: (H, W, 3) image.
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
        labels, fronts = _grown(labels, fronts, rgb, low, unknown, exclude, radius)
        if not fronts.any():
            break
    return labels


def _grown(labels: I32, fronts: I32, rgb: U8, low: Bool, unknown: Bool, exclude: Bool, radius: int) -> tuple[I32, I32]:
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
        likeness = _likeness(own, ring, table, unknown[here], rgb[here], radius)
        take = likeness < best[here]
        best[here][take] = likeness[take]
        out[here][take] = label
        further[here][take & ~_square(front, radius - 1)] = label
    return out, further


def _enclosed(labels: I32, height_m: F32, exclude: Bool) -> I32:
    """Holes in things filled: table seen inside a bowl or plate, and its parts that do not stand above it."""
    out = labels.copy()
    for label, window in enumerate(find_objects(labels), start=1):
        own = out[window] == label
        hole = _holes(own) & ~exclude[window]
        if not hole.any():
            continue
        inside = out[window]  # a view
        top = np.nanquantile(height_m[window][own], 0.97) + ABOVE_M
        for other in np.unique(inside[hole]):
            part = hole & (inside == other)
            if other == 0 or (
                part.sum() == (labels == other).sum() and np.nanquantile(height_m[window][part], 0.97) < top
            ):
                inside[part] = label
    return out


def _holes(own: Bool) -> Bool:
    """Pixels enclosed by a thing, where they are not more than a multiple of it."""
    whole = filled(own)
    return whole & ~own & bool(whole.sum() < HOLLOW * own.sum())


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
        if cv2.distanceTransform(np.pad(own, 1), cv2.DIST_L2, 3).max() > thick:
            continue
        ring = cv2.dilate(own, np.ones((5, 5), np.uint8)).astype(bool) & (own == 0)
        near = np.bincount(np.maximum(out[here][ring], 0), minlength=1)
        near[0] = 0
        other = int(near.argmax())
        if near[other] > BESIDE * ring.sum() and area[label] < SLIVER * area[other]:
            out[here][own == 1] = other
    return out


def _likeness(own: Bool, ring: Bool, table: Bool, unknown: Bool, rgb: U8, radius: int) -> F32:
    """(h, w) how much nearer the colour of a pixel on a thing's rim is to the thing's than to the table's; inf elsewhere."""
    out = np.full(own.shape, np.inf, dtype=np.float32)
    feature = colour_feature(rgb.reshape(-1, 3)).reshape(*own.shape, 4)
    to_thing, have_thing = _distance(feature, own, ring, radius)
    to_table, have_table = _distance(feature, table, ring, 2 * radius)
    ratio = to_thing / np.maximum(to_table, 1e-6)
    ratio[~have_thing | ~have_table | (to_table < UNLIKE)] = np.inf
    out[ring] = np.where(ratio < np.where(unknown[ring], LIKER_BLIND, LIKER), ratio, np.inf)
    take = cv2.medianBlur((np.isfinite(out) | own).astype(np.uint8), 3).astype(bool) & ring
    out[~_touching(take, own)] = np.inf
    return out


def _square(mask: Bool, radius: int) -> Bool:
    """A mask grown by a square."""
    return cv2.dilate(mask.astype(np.uint8), np.ones((2 * radius + 1, 2 * radius + 1), np.uint8)).astype(bool)


def _distance(feature: F32, of: Bool, at: Bool, radius: int) -> tuple[F32, Bool]:
    """Distance of the features ``at`` some pixels to the mean of those ``of`` others around them."""
    size = (2 * radius + 1, 2 * radius + 1)
    weight = of.astype(np.float32)
    total = cv2.boxFilter(feature * weight[..., None], -1, size, normalize=False)[at]
    count = cv2.boxFilter(weight, -1, size, normalize=False)[at]
    mean = total / np.maximum(count, 1)[:, None]
    return np.linalg.norm(feature[at] - mean, axis=1), count > 2


def _touching(take: Bool, thing: Bool) -> Bool:
    """Pixels taken that connect to a thing."""
    _, parts = cv2.connectedComponents((take | thing).astype(np.uint8), connectivity=4, ltype=cv2.CV_32S)
    touched = np.zeros(int(parts.max()) + 1, dtype=bool)
    touched[parts[thing]] = True
    return np.asarray(touched[parts] & take)
