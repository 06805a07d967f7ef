"""Masks that jitter: a hole that keeps what a mask lacks for a moment, and gains what it has more at the rim."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from stvla_ros.perception.inpaint.hole import Hole
from stvla_ros.perception.inpaint.masks import and_not, as_mask, dilated, square_dilated
from stvla_ros.types import U8, Bool

Counts = npt.NDArray[np.intp]

NEAR_PX = 3
"""A thing lacks nothing where its mask is so near."""

PATIENCE = 15
"""What the masks of so many frames in a row lack is uncovered: masks of noisy frames lack whole things for half a second.
Frames further apart than usual count as several."""

USUAL_NS = 66_000_000
"""Time between frames at 15 Hz."""

_MOVED_SHARE = 0.1
"""A thing that lacks more than this share of it, and gains half as much elsewhere, has moved: it is uncovered at once."""

_SPECK = 1 / 80
"""Changes of fewer pixels than a square of this share of the image's width are not worth a new hole."""

_FRINGE_PX = 2


class Jitter:
    """Follows the mask of a still scene from frame to frame.

    It depends on nothing but the masks since it was made: so a recording that is replayed from there gives the same.

    Args:
        hole: The hole of the first mask.
        reach_px: How far the hole may grow.
        width_px: Width of the image.

    Attributes:
        steady: (h, w) what belongs to the removed things in the last frame, with what the mask lacks for a moment; this
            and all other masks are 0 and 255.
    """

    def __init__(self, hole: Hole, reach_px: int, width_px: int) -> None:
        self.steady, self._limit, self._first_limit = hole.raw, hole.limit, hole.limit
        count, things = cv2.connectedComponents(hole.depth, connectivity=8)
        self._speck_px, self._beyond_px = (_SPECK * width_px) ** 2, 0
        size_px = np.bincount(things[hole.raw > 0], minlength=count)
        self._allowed_px = np.maximum(_MOVED_SHARE * size_px, self._speck_px)
        around = np.ones((2 * reach_px + 1,) * 2, np.uint8)
        self._things = np.where(things > 0, things, cv2.dilate(things.astype(np.uint16), around)).astype(np.uint16)
        self._missed = np.zeros(hole.raw.shape, dtype=np.uint8)

    def follow(self, gone: U8, kept: U8, elapsed_ns: int = USUAL_NS) -> U8 | None:
        """The pixels that the hole gains by the mask of the next frame; None if it needs to be made anew.

        Args:
            gone: (h, w) the mask.
            kept: (h, w) pixels that stay.
            elapsed_ns: Time since the frame before.
        """
        lost = and_not(self.steady, square_dilated(gone, NEAR_PX) | kept)
        added = and_not(gone, self._limit)
        uncovered = self._uncovered(lost, gone, min(max(round(elapsed_ns / USUAL_NS), 1), PATIENCE))
        self._beyond_px += self._px_by_thing(added)[0]
        if uncovered is not None:
            self.steady = and_not(self.steady, uncovered)
        if uncovered is not None or self._beyond_px > self._speck_px:
            return None
        if cv2.countNonZero(added):
            self.steady = self.steady | added
            self._limit = self._limit | square_dilated(added, 1)
            added = and_not(dilated(added, _FRINGE_PX), kept)
        return added

    def _px_by_thing(self, mask: U8) -> Counts:
        """(things + 1,) pixels of a mask, first those beyond all things."""
        x, y, width, height = cv2.boundingRect(mask)
        part = slice(y, y + height), slice(x, x + width)
        return np.bincount(self._things[part][mask[part] > 0], minlength=len(self._allowed_px))

    def _uncovered(self, lost: U8, gone: U8, frames: int) -> U8 | None:
        """Of what the mask lacks: what it lacked for long, and things that moved; None if that is not worth a new hole."""
        if not cv2.countNonZero(lost):
            self._missed[:] = 0
            return None
        self._missed = np.asarray(
            cv2.bitwise_and(cv2.add(self._missed, np.full_like(lost, frames)), lost), dtype=np.uint8
        )
        lost_px, gained_px = self._px_by_thing(lost), self._px_by_thing(and_not(gone, self._first_limit))
        moved = (lost_px > self._allowed_px) & (2 * (gained_px + gained_px[0]) > lost_px)
        late: Bool = self._missed >= PATIENCE
        if moved.any():
            late = late | moved[self._things]
        return as_mask(late) if np.count_nonzero(late) > self._speck_px else None
