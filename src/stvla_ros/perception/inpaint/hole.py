"""The extent of the hole: the mask, its fringe, and missing or flying depth around it."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from stvla_ros.perception.inpaint.masks import and_not, between, dilated, has_depth, square_dilated
from stvla_ros.types import F32, U8

FLYING_M = 0.02
"""Depth next to a removed object and more than this above the table lies between the two: a mixed pixel."""


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
        core: ``raw``, its fringe, and depth flying beside it.
        depth: Pixels whose depth is replaced: ``core``, and lost depth beside it; its colour is that of the background.
        limit: A mask within this may serve the same hole: jitter is allowed.
    """

    raw: U8
    core: U8
    depth: U8
    limit: U8


def find_hole(remove: U8, keep: U8, sight: Sight, height_m: F32, grow_px: int) -> Hole:
    """The hole of a mask.

    Args:
        remove: (h, w) removed objects; masks are 0 and 255 and cover the grid's window.
        keep: (h, w) kept pixels.
        sight: Content of the pixels.
        height_m: (h, w) height above the table.
        grow_px: Width of the fringe.
    """
    core = dilated(remove, grow_px)
    flying = sight.other & square_dilated(core, grow_px)
    flying &= between(height_m, FLYING_M, 1e6) if cv2.countNonZero(flying) else flying
    lost = and_not(~sight.valid, keep)
    if cv2.countNonZero(lost):
        lost &= square_dilated(core, 3 * grow_px)
    lost = _reached(lost, core, 3 * grow_px)
    core = and_not(core | flying, keep)
    return Hole(remove, core, core | lost, dilated(remove, max(grow_px - 1, 1)))


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
