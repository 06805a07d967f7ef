"""Outlines of instances at full resolution, from labels of every n-th pixel."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from stvla_ros.tabletop.surface_colours import colour_feature
from stvla_ros.types import F32, I32, U8

COLOUR_STEP = 0.15
"""A difference of colour features as large as this counts as much as a depth step."""

MAX_TIP = 0.7
"""A pixel joins an object if its cost (:func:`_cost`) is below this, and below this share of that of the background."""

NEARER = 0.2
"""Weight of the distance to a sample, in its spacings: decides between samples that look the same."""

_NEIGHBOURS = np.array([(-1, -1), (-1, 0), (-1, 1), (0, -1), (0, 1), (1, -1), (1, 0), (1, 1)]).T


def with_tips(labels: I32, depth_m: F32, colours: F32, step_m: float) -> I32:
    """Labels in which background pixels next to an object join it if they look like it and unlike the background.

    Corners and tips that are lost to the noise of the table's height come back.

    Args:
        labels: (h, w) labels, 0 for background.
        depth_m: (h, w) depth, NaN where unknown.
        colours: (h, w, 4) features of the colours (:func:`stvla_ros.tabletop.surface_colours.colour_feature`).
        step_m: Depth step that ends an object.
    """
    square = np.ones((3, 3), np.uint8)
    beside = (labels == 0) & (cv2.dilate((labels > 0).astype(np.uint8), square) > 0)
    h, w = labels.shape
    here = np.flatnonzero(beside)
    rows, columns = np.divmod(here, w)
    dy, dx = _NEIGHBOURS[..., None]
    at = np.clip(rows + dy, 0, h - 1) * w + np.clip(columns + dx, 0, w - 1)  # (8, N)
    every = colours.reshape(-1, 4)
    off = every.take(here, axis=0) - every.take(at, axis=0)
    cost = _cost(off.reshape(-1, 4), np.tile(depth_m.take(here), 8), depth_m.take(at).ravel(), step_m).reshape(at.shape)
    there = labels.take(at)
    to_background = np.where((there == 0) & (at != here), cost, np.float32(np.inf)).min(axis=0)
    cost[there <= 0] = np.inf
    best = cost.argmin(axis=0), np.arange(len(here))
    joins = (cost[best] < MAX_TIP) & (cost[best] < MAX_TIP * to_background)
    out = labels.copy()
    out.reshape(-1)[here[joins]] = there[best][joins]
    return out


def at_full_resolution(
    labels: I32, depth_m: F32, colours: F32, rgb: U8, full_depth_m: F32, stride: int, step_m: float
) -> I32:
    """Labels of all pixels, from those of every ``stride``-th one.

    A pixel between samples of one label has that label. Elsewhere the one of its four samples wins that looks most like
    it, in depth, colour and place (joint bilateral upsampling, Kopf et al. 2007, with the nearest instead of a mean).

    Args:
        labels: (h, w) labels of the samples.
        depth_m: (h, w) depth of the samples, NaN where unknown.
        colours: (h, w, 4) features of their colours.
        rgb: (H, W, 3) image.
        full_depth_m: (H, W) depth, NaN where unknown.
        stride: Spacing of the samples; the first is pixel (0, 0).
        step_m: Depth step that ends an object.
    """
    if stride == 1:
        return labels
    h, w = full_depth_m.shape
    wide = labels.shape[1] * stride, labels.shape[0] * stride
    out = np.asarray(cv2.resize(labels, wide, interpolation=cv2.INTER_NEAREST), dtype=np.int32)[:h, :w].copy()
    i, y, j, x = _undecided(labels, stride, (h, w))
    here = (i * stride + y) * w + j * stride + x
    colour, depth = colour_feature(rgb.reshape(-1, 3).take(here, axis=0)), full_depth_m.take(here)
    best = np.full(len(here), np.inf, dtype=np.float32)
    owner = out.take(here)
    last_row, last_column = labels.shape[0] - 1, labels.shape[1] - 1
    flat_labels, flat_colours, flat_depth = labels.ravel(), colours.reshape(-1, 4), depth_m.ravel()
    for dy, dx in ((0, 0), (0, 1), (1, 0), (1, 1)):
        below, right = np.minimum(i + dy, last_row), np.minimum(j + dx, last_column)
        at = below * labels.shape[1] + right
        away = (np.abs(y - stride * (below - i)) + np.abs(x - stride * (right - j))) / stride
        cost = _cost(colour - flat_colours.take(at, axis=0), depth, flat_depth.take(at), step_m)
        cost = cost + np.float32(NEARER) * away
        closer = cost < best
        np.copyto(best, cost, where=closer)
        np.copyto(owner, flat_labels.take(at), where=closer)
    out.reshape(-1)[here] = owner
    return out


def _undecided(labels: I32, stride: int, shape: tuple[int, int]) -> tuple[npt.NDArray[np.intp], ...]:
    """Pixels that are no samples and whose four samples have different labels: the row of their first sample, how far
    they are below it, and the same of their columns."""
    square = np.ones((2, 2), np.uint8)
    value = (labels + 1).astype(np.uint16)
    low, high = (f(value, square, anchor=(0, 0), borderType=cv2.BORDER_REPLICATE) for f in (cv2.erode, cv2.dilate))
    between = stride**2 - 1
    i, j = (at.repeat(between) for at in np.divmod(np.flatnonzero(low != high), labels.shape[1]))
    y, x = (np.resize(off, len(i)) for off in np.divmod(np.arange(1, stride**2), stride))
    inside = (i * stride + y < shape[0]) & (j * stride + x < shape[1])
    return (i, y, j, x) if inside.all() else (i[inside], y[inside], j[inside], x[inside])


def _cost(colours: F32, a_m: F32, b_m: F32, step_m: float) -> F32:
    """(N,) how much pixels differ: by (N, 4) differences of their colour features, and by their (N,) depths.

    A difference of :data:`COLOUR_STEP` counts as 1, and so does a depth step, or depth that only one of them has.
    """
    off = np.minimum(np.abs(a_m - b_m) / np.float32(step_m), 1)
    off = np.where(np.isnan(off), np.isnan(a_m) != np.isnan(b_m), off)
    return np.asarray(np.sqrt(np.einsum("ij,ij->i", colours, colours)) / np.float32(COLOUR_STEP) + off, np.float32)
