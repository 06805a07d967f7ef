"""The extent of the hole: the mask, its fringe, and missing or flying depth around it."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from stvla_ros.perception.inpaint.grid import Grid, normalised_blur
from stvla_ros.perception.inpaint.masks import (
    and_not,
    as_mask,
    between,
    dilated,
    has_depth,
    repeated,
    spread_cells,
    square_dilated,
)
from stvla_ros.types import F32, U8

FLYING_M = 0.02
"""Depth next to a removed object and more than this above the table lies between the two: a mixed pixel."""

RAISED_M, RAISED_SIGMAS = 0.007, 2.5
"""Table measured this far above the table around it, and above its noise, is pulled up by what stands beside it: the
matching windows of a stereo camera see both."""

_NEAR_CELLS = 7
_LEVEL_CELLS = 15
_EVERY = 3
_BESIDE_PX = 9
_FEWEST = 50
_USUAL_PERCENT = 95
_LEAST = 14


@dataclass(frozen=True, eq=False)
class Sight:
    """Content of a window's pixels, hidden or not: masks of 0 and 255.

    Attributes:
        valid: Pixels with depth.
        table: Pixels at the height of the table.
        other: All other pixels with depth.
    """

    valid: U8
    table: U8
    other: U8

    @classmethod
    def of(cls, depth_m: F32, height_m: F32, tolerance_m: float) -> Sight:
        valid, table = has_depth(depth_m), between(height_m, -tolerance_m, tolerance_m)
        return cls(valid, table, and_not(valid, table))


@dataclass(frozen=True, eq=False)
class Hole:
    """Masks of 0 and 255 over the window of a grid.

    Attributes:
        raw: The removed objects.
        core: ``raw`` and its fringe: the pixels beside it that do not have the table's colour.
        depth: Pixels whose depth is replaced: ``core``, and lost or flying depth beside it; its colour is that of the
            background.
        limit: A mask within this may serve the same hole: jitter is allowed.
    """

    raw: U8
    core: U8
    depth: U8
    limit: U8


def find_hole(
    remove: U8,
    wide: U8,
    keep: U8,
    sight: Sight,
    height_m: F32,
    grow_px: int,
    unlike: U8 | None = None,
    raised: U8 | None = None,
) -> Hole:
    """The hole of a mask.

    Args:
        remove: (h, w) removed objects; masks are 0 and 255 and cover the grid's window.
        wide: (h, w) the same with the widest fringe.
        keep: (h, w) kept pixels.
        sight: Content of the pixels.
        height_m: (h, w) height above the table.
        grow_px: Greatest width of the fringe.
        unlike: (h, w) pixels that do not have the table's colour; all if not given.
        raised: (h, w) pixels that are measured higher than the table around them; none if not given.
    """
    always = min(grow_px, max(2 * grow_px // 5, 2))  # blur of the lens, and jitter of the mask
    core = wide if unlike is None else dilated(remove, always)
    if unlike is not None:
        unlike = and_not(unlike, sight.other & between(height_m, -1e6, 0.0))  # the floor has its own colour
        core = core | square_dilated(_reached(unlike & and_not(wide, core), core, grow_px - always), 1)
    core = and_not(core, keep)
    depth = core | stray_depth(wide, keep, sight, height_m, grow_px, raised)
    return Hole(remove, core, depth, square_dilated(remove, always // 2))


def stray_depth(wide: U8, keep: U8, sight: Sight, height_m: F32, grow_px: int, raised: U8 | None = None) -> U8:
    """Pixels beside removed objects whose depth is lost or flying, which differs from frame to frame, or pulled up.

    Args:
        wide: (h, w) removed objects with the widest fringe.
        keep: (h, w) kept pixels.
        sight: Content of the pixels.
        height_m: (h, w) height above the table.
        grow_px: Greatest width of the fringe.
        raised: (h, w) pixels that are measured higher than the table around them; none if not given.
    """
    flying = sight.other & square_dilated(wide, grow_px)
    flying &= between(height_m, FLYING_M, 1e6) if cv2.countNonZero(flying) else flying
    flying |= 0 if raised is None else raised & square_dilated(wide, grow_px)
    lost = and_not(~sight.valid, keep)
    if cv2.countNonZero(lost):
        lost &= square_dilated(wide, 3 * grow_px)
    return and_not(flying, keep) | _reached(lost, wide, 3 * grow_px)


def raised_table(height_m: F32, known: U8, grid: Grid, cells_m: F32, share: F32) -> U8:
    """Pixels of the table, and beside it, that are measured higher than the table around them.

    Args:
        height_m: (h, w) above the table.
        known: (h, w) pixels that show the table, 255.
        grid: Cells over the window.
        cells_m: (rows, columns) mean height of each cell's table pixels.
        share: (rows, columns) share of each cell that shows the table.
    """
    level = grid.spread(normalised_blur(cells_m[..., None], share, _LEVEL_CELLS)[0][..., 0])
    above = np.asarray(cv2.subtract(height_m, level), dtype=np.float32)
    every = (slice(None, None, _EVERY),) * 2
    usual = np.abs(above[every][known[every] > 0])
    noise = 1.4826 * float(np.median(usual)) if len(usual) else 0.0
    return between(above, max(RAISED_M, RAISED_SIGMAS * noise), 1e6)


def unlike_table(rgb: U8, ring: U8, known: U8, grid: Grid, colour: F32, share: F32) -> U8:
    """Pixels of a ring around removed objects that differ from the table near them more than the table itself does.

    Args:
        rgb: (h, w, 3).
        ring: (h, w) where to look; this and the other mask are 0 and 255.
        known: (h, w) pixels that show the table.
        grid: Cells over the window.
        colour: (rows, columns, 3) mean colour of each cell's table pixels.
        share: (rows, columns) share of each cell that shows the table.
    """
    expected, weight = normalised_blur(colour, share, _NEAR_CELLS)
    off = cv2.absdiff(rgb, repeated(np.rint(expected).astype(np.uint8), grid.stride, ring.shape))
    red, green, blue = cv2.split(off)
    off = cv2.max(cv2.max(red, green), blue)
    every = (slice(None, None, _EVERY),) * 2
    beside = known[every] & square_dilated(ring[every], _BESIDE_PX // _EVERY)
    usual = off[every][beside > 0]
    if len(usual) < _FEWEST:
        return ring
    unlike = as_mask(off > max(float(np.percentile(usual, _USUAL_PERCENT)), _LEAST))
    return np.asarray(ring & (unlike | spread_cells(weight <= 0, grid.stride, ring.shape)), dtype=np.uint8)


def _reached(mask: U8, start: U8, steps: int) -> U8:
    """The pixels of ``mask`` that can be reached from ``start`` within ``mask`` in at most ``steps`` steps."""
    front, count = start, 0
    kernel = np.ones((5, 5), np.uint8)
    if not cv2.countNonZero(mask):
        return mask
    for _ in range(-(-steps // 2)):
        reached = np.asarray(cv2.bitwise_and(cv2.dilate(front, kernel), mask), dtype=np.uint8)
        before, count = count, cv2.countNonZero(reached)
        if count == before:
            break
        front = reached | start
    return front & mask
