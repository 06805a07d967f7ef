"""Things that the depth camera does not measure: black, transparent and mirror-like ones.

Where the table would be seen and nothing is measured, in colours that the table does not have, something must stand,
if it is bounded by the support below: the table itself is measured around it.
"""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from stvla_ros.geometry.components import member_pixels
from stvla_ros.types import F32, I32, U8, Bool

Indices = npt.NDArray[np.intp]

MIN_PX = 3
"""Smallest thing without depth, as a multiple of the smallest object: nothing else speaks for it."""

MAX_SHARE = 0.08
"""Larger patches, as shares of the image, are the room."""

FOOT = 0.4
"""Lower part of a thing around which the support must be seen."""

MIN_CONTACT, MIN_FOOT_CONTACT = 0.5, 0.6
"""Smallest share of the pixels around it, and around its lower part, that show the support or another thing on it."""

GLARE = 0.15 * float(np.log(0.92 + 0.06))
"""A patch with a higher median brightness (fourth feature; here of 92 % of white) is a highlight on the table, or
cannot be told from one."""

JOIN_GAP = 0.15
"""It is part of a neighbour if the features of their colours differ by less."""


def with_unmeasured(
    labels: I32, colours: F32, depth_m: F32, support: Bool, like_table: Bool, exclude: Bool, min_px: int
) -> tuple[I32, int]:
    """Labels with things that have no depth.

    Args:
        labels: (H, W) objects 1..n, 0 elsewhere.
        colours: (H, W, 4) features of the colours.
        depth_m: (H, W) depth, NaN where unknown.
        support: (H, W) pixels measured on the support.
        like_table: (H, W) pixels with a colour of the table.
        exclude: (H, W) pixels that belong to no object (the robot).
        min_px: Smallest object.

    Returns:
        (H, W) labels 1..m, and how many patches cannot be told from highlights.
    """
    square = np.ones((3, 3), np.uint8)
    odd = np.isnan(depth_m) & ~like_table & (labels == 0) & ~exclude
    odd = cv2.morphologyEx(odd.astype(np.uint8), cv2.MORPH_OPEN, square)
    count, parts = cv2.connectedComponents(odd, connectivity=4, ltype=cv2.CV_32S)
    if count < 2:
        return labels, 0
    out, fresh, glare = labels.copy(), int(labels.max(initial=0)) + 1, 0
    for pixels in member_pixels(np.asarray(parts, dtype=np.int32), count - 1):
        if not MIN_PX * min_px <= len(pixels) <= MAX_SHARE * labels.size:
            continue
        rows, columns = np.divmod(pixels, labels.shape[1])
        neighbour = _neighbour(out, colours, rows, columns)
        if neighbour:
            out[rows, columns] = neighbour
        elif _stands(rows, columns, support | (labels > 0)):
            bright = float(np.median(colours[rows, columns, 3])) > GLARE
            glare += bright
            out[rows, columns] = 0 if bright else fresh
            fresh += not bright
    return out, glare


def _window(rows: Indices, columns: Indices, shape: tuple[int, ...]) -> tuple[slice, slice]:
    """The window around some pixels, with a margin."""
    return (
        slice(max(int(rows.min()) - 2, 0), min(int(rows.max()) + 3, shape[0])),
        slice(max(int(columns.min()) - 2, 0), min(int(columns.max()) + 3, shape[1])),
    )


def _ring(rows: Indices, columns: Indices, window: tuple[slice, slice]) -> tuple[Bool, U8]:
    """Pixels of a window next to some pixels, and those pixels."""
    own = np.zeros((window[0].stop - window[0].start, window[1].stop - window[1].start), np.uint8)
    own[rows - window[0].start, columns - window[1].start] = 1
    return (cv2.dilate(own, np.ones((5, 5), np.uint8)) > 0) & (own == 0), own


def _neighbour(labels: I32, colours: F32, rows: Indices, columns: Indices) -> int:
    """The object next to some pixels that has their colour; 0 for none."""
    window = _window(rows, columns, labels.shape)
    ring, _ = _ring(rows, columns, window)
    counts = np.bincount(np.maximum(labels[window][ring], 0))
    counts[0] = 0
    if counts.max(initial=0) < 0.1 * np.count_nonzero(ring):
        return 0
    label = int(counts.argmax())
    every = colours.reshape(-1, 4)
    mine, theirs = (
        np.median(every.take(at, axis=0), axis=0)
        for at in (rows * labels.shape[1] + columns, np.flatnonzero(labels == label))
    )
    return label if float(np.linalg.norm(mine - theirs)) < JOIN_GAP else 0


def _stands(rows: Indices, columns: Indices, support: Bool) -> bool:
    """The support is seen around some pixels, below them above all."""
    window = _window(rows, columns, support.shape)
    ring, _ = _ring(rows, columns, window)
    first = int(rows.max()) - window[0].start - FOOT * (int(rows.max()) - int(rows.min()))
    whole = support[window][ring].mean()
    ring[: max(int(first), 0)] = False
    foot = support[window][ring]
    return bool(whole > MIN_CONTACT and len(foot) and foot.mean() > MIN_FOOT_CONTACT)
