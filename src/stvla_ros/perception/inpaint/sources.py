"""Where a surface lends its colour: cells that show nothing else, and how much grain they show."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from stvla_ros.perception.inpaint.grid import Grid, normalised_blur, quadratic, quadratic_terms
from stvla_ros.types import F32, U8, Bool

_DARKEST = 4.0
_BUDGET = 500
_ROUNDS = 3
_STIFF = np.diag([1e-8, 1e-3, 1e-3, 1e-2, 1e-2, 1e-2])
_SIGMAS = 6.0
_TOLERANCE = np.array([0.3, 0.15, 0.15])
"""A cell is odd when its logarithm of brightness, of red or of blue over green is off by this much and by six robust
deviations. Light changes the first, hardly the others."""

_DEEPEST = 1.4
"""Cells that are only darker lie in a shadow, up to this difference."""

_ENCLOSED, _SHALLOW = 0.7, 3.5
"""An odd region belongs to the hole's things when this share of its border is the hole's, or when it reaches no more
than so many cells from the hole."""

_FEW = 0.4
"""Of the cells around a hole, no more than this share may be foreign to the surface: most cannot be."""

_BOLD = (0.12, 0.15)
"""Above this deviation of the cells, as a share of the local mean, a surface has a pattern of large figures, such as a
chequered table: scraps of it look worse than none. The strongest grain seen on wood and carpets was 0.09."""

_PATTERNED = 0.02
"""Of a surface with more odd cells than this share away from the hole, odd cells are a part: it has a pattern."""

_MARK, _LEAST_MARK = 6.0, 0.02
"""A cell is a mark when it differs from the local mean so many times as much as usual (4 sigma), and by this share."""

_MEAN_CELLS = 5
_PIXELS = 600

_FAINT, _FINE = (1.0, 1.6), (2.0, 3.5)
"""Grain fades in between these deviations in 1/255: of the means of cells beyond what noise explains, and of pixels
within cells, where a camera's noise may be the whole of it."""


def odd_cells(colour: F32, known: Bool) -> tuple[Bool, Bool]:
    """Cells of another colour than a smooth model of the surface, and those of them that are not merely in a shadow.

    Args:
        colour: (rows, columns, 3) mean colours.
        known: (rows, columns) cells that seem to show the surface, by their depth.
    """
    odd, foreign = np.zeros_like(known), np.zeros_like(known)
    cells = np.flatnonzero(known)
    if len(cells) < 30:
        return odd, foreign
    features, some = _features(colour), cells[:: max(len(cells) // _BUDGET, 1)]
    A, b = quadratic_terms(some, known.shape, np.float64), features.reshape(-1, 3)[some].astype(np.float64)
    off = b - np.median(b, axis=0)
    for _ in range(_ROUNDS):
        sigma = 1.4826 * np.median(np.abs(off), axis=0)
        usual = (np.abs(off) < np.maximum(3 * sigma, _TOLERANCE)).all(axis=1)
        X, y = A[usual], b[usual]
        model = np.linalg.solve(X.T @ X + _STIFF * len(X), X.T @ y)
        off = b - A @ model
    high = np.maximum(_SIGMAS * sigma, _TOLERANCE).astype(np.float32)
    all_off = features - np.dstack([quadratic(m, known.shape) for m in model.T])
    other = known & ((np.abs(all_off[..., 1]) > high[1]) | (np.abs(all_off[..., 2]) > high[2]))
    lighter = all_off[..., 0]
    odd = other | (known & (np.abs(lighter) > high[0]))
    return odd, other | (known & ((lighter > high[0]) | (lighter < -max(_DEEPEST, high[0]))))


def _features(colour: F32) -> F32:
    """(rows, columns, 3) logarithms of brightness, of red and of blue over green."""
    log = cv2.log(np.maximum(colour, np.float32(_DARKEST)))
    red, green, blue = log[..., 0], log[..., 1], log[..., 2]
    return np.dstack([(red + green + blue) / 3, red - green, blue - green])


def ghosts(odd: Bool, known: Bool, hidden: Bool) -> Bool:
    """Odd cells that belong to the hole's things, such as the bottom of a bowl: they must not lend their colour."""
    if not odd.any():
        return odd
    count, regions = cv2.connectedComponents(odd.astype(np.uint8), connectivity=8)
    near = cv2.dilate(regions.astype(np.uint16), np.ones((3, 3), np.uint8))
    at_hole, at_surface = (np.bincount(near[m & ~odd], minlength=count) for m in (hidden, known & ~hidden))
    far = cv2.distanceTransform((~hidden).astype(np.uint8), cv2.DIST_L2, 3) > _SHALLOW
    enclosed = (at_hole > 0) & (at_hole >= _ENCLOSED * (at_hole + at_surface))
    if np.count_nonzero(odd & far & ~enclosed[regions]) > _PATTERNED * np.count_nonzero(known & far):
        return np.zeros_like(odd)
    deep = np.bincount(regions[far], minlength=count) > 0
    of_hole = enclosed | ~deep
    of_hole &= at_hole > 0
    of_hole[0] = False
    rim = known & (cv2.dilate(hidden.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0)
    found = np.asarray(of_hole[regions])
    few = np.count_nonzero(found & rim) <= _FEW * np.count_nonzero(rim)
    return found if few else np.zeros_like(odd)


@dataclass(frozen=True, eq=False)
class Sources:
    """What may be copied of a surface, in cells.

    Attributes:
        usable: (rows, columns) cells that show nothing but the surface, with all their neighbours.
        mean: (rows, columns, 3) local mean colour of such cells.
        grey: (rows, columns) ratio of a cell's brightness to it, less 1, in standard deviations; NaN where the cell
            shows something else.
        lent: ``grey`` of usable cells, NaN elsewhere, flat and with a border of one cell.
        strength: 0 to 1: how far the surface has grain, and not only the camera's noise.
    """

    usable: Bool
    mean: F32
    grey: F32
    lent: F32
    strength: float

    @classmethod
    def of(cls, grid: Grid, rgb: U8, colour: F32, clean: Bool) -> Sources:
        """From an image (h, w, 3) over a grid, its cells' mean colours, and the cells that show nothing else."""
        mean, weight = normalised_blur(colour, clean.astype(np.float32), _MEAN_CELLS)
        mean = np.maximum(mean, 1)
        brightness, usual = (a[..., 0] + a[..., 1] + a[..., 2] for a in (colour, mean))
        grey = np.where(clean, brightness / usual - 1, np.float32(np.nan))
        plain = clean & (weight > 0) & ~_marks(grey, clean)
        usable = cv2.erode(plain.astype(np.uint8), np.ones((3, 3), np.uint8), borderValue=0) > 0
        if not usable.any():
            return cls(usable, mean, grey, np.full((grey.shape[0] + 2) * (grey.shape[1] + 2), np.nan, np.float32), 0.0)
        share = 1.4826 * float(np.median(np.abs(grey[usable])))
        strength = _strength(grid, rgb, colour, mean, usable) * float(np.interp(share, _BOLD, (1, 0)))
        grey /= np.std(grey[usable]) + np.float32(1e-6)
        lent = np.pad(np.where(usable, grey, np.float32(np.nan)), 1, constant_values=np.nan).ravel()
        return cls(usable, mean, grey, lent, strength)


def _marks(grey: F32, clean: Bool) -> Bool:
    """Cells unlike the usual grain: an edge of a shadow, a stain or a joint would be seen a second time in a copy."""
    usual = float(np.median(np.abs(grey[clean]))) if clean.any() else 0.0
    return np.asarray(np.abs(grey) > max(_MARK * usual, _LEAST_MARK))


def _strength(grid: Grid, rgb: U8, colour: F32, mean: F32, usable: Bool) -> float:
    cells = np.argwhere(usable)
    some = cells[:: max(len(cells) // _PIXELS, 1)]
    s = grid.stride
    k = np.arange(s)
    pixels = rgb[some[:, 0, None, None] * s + k[:, None], some[:, 1, None, None] * s + k].astype(np.float32)
    grey = pixels.mean(axis=3)
    within = float(np.median(grey.var(axis=(1, 2))))
    between = (colour[usable] - mean[usable]).mean(axis=1)
    coarse = (1.4826 * float(np.median(np.abs(between)))) ** 2
    beyond = np.sqrt(max(coarse - 1.5 * within / s**2, 0.0))
    fine = np.sqrt(within)
    return float(max(np.interp(beyond, _FAINT, (0, 1)), np.interp(fine, _FINE, (0, 1))))
