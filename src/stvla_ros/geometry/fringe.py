"""The rim of things: pixels too low to tell from the table, or without depth, that have a thing's colour."""

from __future__ import annotations

import cv2
import numpy as np

from stvla_ros.geometry.components import bounding_slices, sizes
from stvla_ros.geometry.fragments import nearest_label
from stvla_ros.geometry.parts import colour_feature
from stvla_ros.geometry.tables import Table
from stvla_ros.types import F32, I32, U8, Bool

REACH = 1 / 70
"""Width of the rim looked at, as a share of the image's width."""

LIKER = 0.5
"""A pixel on the table's height is a thing's when its colour is this much closer to it than to the table."""

UNLIKE = 0.08
"""Least distance of the two colours (see :func:`stvla_ros.geometry.parts.colour_feature`)."""


def absorb_fringe(labels: I32, rgb: U8, depth_m: F32, height_m: F32, exclude: Bool, table: Table) -> I32:
    """Labels with enclosed holes filled, and with the pixels around each thing that look like it.

    Args:
        labels: (H, W) things 1..n, 0 is none.
        rgb: (H, W, 3) image.
        depth_m: (H, W) depth, NaN where unknown.
        height_m: (H, W) height above the table, NaN where unknown.
        exclude: (H, W) pixels that are nobody's (the robot).
        table: The table.
    """
    out = _filled(labels, exclude)
    radius = max(round(REACH * labels.shape[1]), 2)
    window = bounding_slices(out > 0)
    if window is None:
        return out
    rows, columns = (slice(max(s.start - radius, 0), s.stop + radius) for s in window)
    here = (rows, columns)
    out[here] = _grown(out[here], rgb[here], depth_m[here], height_m[here], exclude[here], table, radius)
    return out


def _filled(labels: I32, exclude: Bool) -> I32:
    """Holes that lie within one thing and are smaller than it belong to it."""
    free = ((labels == 0) & ~exclude).astype(np.uint8)
    _, holes, stats, _ = cv2.connectedComponentsWithStats(free, connectivity=4, ltype=cv2.CV_32S)
    h, w = labels.shape
    x, y, width, height, area = stats.T
    inside = (x > 0) & (y > 0) & (x + width < w) & (y + height < h) & (area < sizes(labels).max(initial=0))
    inside[0] = False
    out = labels.copy()
    own = sizes(labels)
    for k in np.flatnonzero(inside):
        around = slice(y[k] - 1, y[k] + height[k] + 1), slice(x[k] - 1, x[k] + width[k] + 1)
        hole = holes[around] == k
        ring = cv2.dilate(hole.astype(np.uint8), np.ones((3, 3), np.uint8)).astype(bool) & ~hole
        owners = np.unique(labels[around][ring])
        if len(owners) == 1 and owners[0] > 0 and area[k] < own[owners[0]]:
            out[around][hole] = owners[0]
    return out


def _grown(labels: I32, rgb: U8, depth_m: F32, height_m: F32, exclude: Bool, table: Table, radius: int) -> I32:
    thing = labels > 0
    around = np.ones((2 * radius + 1, 2 * radius + 1), np.uint8)
    near = cv2.dilate(thing.astype(np.uint8), around).astype(bool) & ~thing & ~exclude
    unknown = np.isnan(depth_m)
    ring = near & (unknown | (np.abs(height_m) < table.floor_m + 0.002))
    if not ring.any():
        return labels
    feature = colour_feature(rgb.reshape(-1, 3)).reshape(*labels.shape, 4)
    to_thing, have_thing = _distance(feature, thing, ring, radius)
    to_table, have_table = _distance(feature, ~thing & ~near & ~exclude, ring, 2 * radius)
    like = to_thing < np.where(unknown[ring], 0.8, LIKER) * to_table
    like &= have_thing & have_table & (to_table > UNLIKE)
    take = np.zeros(labels.shape, dtype=np.uint8)
    take[ring] = like
    take = cv2.medianBlur(take | thing.astype(np.uint8), 3).astype(bool) & ring
    joined = _touching(take, thing)
    out = labels.copy()
    out[joined] = nearest_label(labels)[joined]
    return out


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
    _, parts = cv2.connectedComponents(take.astype(np.uint8), connectivity=4, ltype=cv2.CV_32S)
    beside = cv2.dilate(thing.astype(np.uint8), np.ones((3, 3), np.uint8)).astype(bool)
    touched = np.zeros(int(parts.max()) + 1, dtype=bool)
    touched[np.unique(parts[beside & take])] = True
    return touched[parts] & take
