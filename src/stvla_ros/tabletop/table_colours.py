"""Colours of the bare table in a frame: which pixels look like it?"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt
from scipy.ndimage import uniform_filter

from stvla_ros.types import F32, U8, Bool

Cells = npt.NDArray[np.intp]

BITS = 4
"""Of each channel: 16 levels, so that noise and grain stay within neighbouring cells."""

MIN_SHARE = 2e-4
"""Share of the table's pixels from which a colour cell may belong to the table."""

MIN_PURITY = 0.6
"""Share of a colour's pixels that lie on the table, if it is a colour of the table."""

MIN_PART = 0.15
"""Smaller parts of the table's height that are separate from the rest (the bottom of a bowl, a chair) do not count."""

MIN_PX = 200
"""With fewer pixels of bare table, nothing is known about its colours."""


@dataclass(frozen=True, eq=False)
class TableColours:
    """A histogram of the colours of the bare table, with its grain, prints, light and shadows.

    Attributes:
        cells: (16, 16, 16) True where a colour occurs on the table; None when too little of the table is visible.
    """

    cells: Bool | None

    @classmethod
    def of(cls, cell: Cells, table: Bool, standing: Bool) -> TableColours:
        """Of the :func:`colour_cells` (H, W) of an image, its (H, W) pixels at the height of the table, and those above
        it."""
        own, other = (_counts(cell.take(np.flatnonzero(part))) for part in (large_parts(table), standing))
        total = float(own.sum())
        if total < MIN_PX:
            return cls(None)
        smooth = uniform_filter(own, 3, mode="constant") * 27
        rival = uniform_filter(other, 3, mode="constant") * 27
        return cls((smooth > max(MIN_SHARE * total, 3)) & (smooth > MIN_PURITY * (smooth + rival)))

    def seen(self, cell: Cells) -> Bool:
        """(...) whether the colours of these cells occur on the table. False everywhere when nothing is known about
        it."""
        if self.cells is None:
            return np.zeros(cell.shape, dtype=bool)
        return np.asarray(self.cells.reshape(-1).take(cell))


def _counts(cell: Cells) -> F32:
    """(16, 16, 16) pixels per colour cell, of (N,) cells."""
    counts = np.bincount(cell, minlength=1 << 3 * BITS)
    return counts.reshape((1 << BITS,) * 3).astype(np.float32)


def large_parts(mask: Bool) -> Bool:
    """Parts of a mask (H, W) that are at least :data:`MIN_PART` of it."""
    _, parts = cv2.connectedComponents(mask.view(np.uint8), connectivity=4, ltype=cv2.CV_32S)
    area = np.bincount(parts.ravel())
    area[0] = 0
    return np.asarray((area > MIN_PART * area.sum()).take(parts))


def colour_cells(rgb: U8) -> Cells:
    """(...) index of the colour cell of (..., 3) colours."""
    red, green, blue = (rgb[..., i] >> (8 - BITS) for i in range(3))
    low = green << BITS | blue  # fits into 8 bits
    return np.asarray((red.astype(np.uint16) << 2 * BITS | low).astype(np.intp))
