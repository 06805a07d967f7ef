"""Shadows of removed objects: darker than the table around, of the same hue, touching the object.

Found on the cells of a grid against a smooth model of the lit table, and with doubt resolved towards leaving them: a
shadow that reaches kept objects stays on their side, and what is large compared with its object is no shadow.
"""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from stvla_ros.types import F32, Bool

DARKER = 0.07
"""A shadow takes at least this share of the light in its middle, and half as much at its rim."""

HUE = 0.09
"""The three colours may lose light differently by this much (sky light is bluer than the lamp)."""

_SIGMAS = 3.5
_MAX_AREA = 2.0
_SMALL_CELLS = 80
_BLACK = 0.15
_BUDGET = 600


def cast_shadows(colour: F32, table: Bool, hole: Bool, kept: Bool) -> Bool:
    """Cells in the shadow of what was removed, and a rim of one cell around them.

    Args:
        colour: (rows, columns, 3) mean colour of each cell's table pixels.
        table: (rows, columns) cells that show the table.
        hole: (rows, columns) cells of removed things.
        kept: (rows, columns) cells of kept things.
    """
    cells = np.flatnonzero(table)
    dark, strong = np.zeros_like(table), np.zeros_like(table)
    if len(cells) < 60 or not hole.any():
        return dark
    ratio, noise = _against_lit_table(colour.reshape(-1, 3)[cells], cells, table.shape)
    r, g, b = ratio.T
    light = (r + g + b) / 3
    hue = np.maximum(np.maximum(np.abs(r - light), np.abs(g - light)), np.abs(b - light))
    depth = max(DARKER, _SIGMAS * noise)
    shaded = (hue < HUE) & (light > _BLACK)
    dark.ravel()[cells[shaded & (light < 1 - depth / 2)]] = True
    if not dark.any():
        return dark
    strong.ravel()[cells[shaded & (light < 1 - depth)]] = True
    return _accepted(dark & _nearer(hole, kept), strong, hole)


def _against_lit_table(colour: F32, cells: npt.NDArray[np.intp], shape: tuple[int, ...]) -> tuple[F32, float]:
    """Each cell's colour (N, 3) as a share of the lit table's, and the robust deviation of that share.

    The lit table is a quadratic function of the cell, fitted again and again to what is not darker than it.
    """
    y, x = (2 * k / np.float32(n) - 1 for k, n in zip(np.divmod(cells.astype(np.float32), shape[1]), shape))
    basis = np.column_stack([np.ones_like(x), x, y, x * x, x * y, y * y])
    pick = slice(None, None, max(len(cells) // _BUDGET, 1))
    A, b = basis[pick], colour[pick]
    lit = np.ones(len(A), dtype=bool)
    for _ in range(4):
        model = np.linalg.solve(A[lit].T @ A[lit] + 1e-3 * np.eye(6), A[lit].T @ b[lit]).astype(np.float32)
        share = (b / np.maximum(A @ model, 1)) @ np.full(3, 1 / 3, np.float32) - 1
        noise = 1.4826 * float(np.median(np.abs(share[lit])))
        lit = np.abs(share + noise / 2) < max(2 * noise, 0.02)
        if np.count_nonzero(lit) < 30:
            break
    return np.asarray(colour / np.maximum(basis @ model, 1), dtype=np.float32), noise


def _nearer(hole: Bool, kept: Bool) -> Bool:
    """Cells that are nearer to the hole than to anything kept."""
    if not kept.any():
        return np.ones_like(hole)
    to_hole, to_kept = (cv2.distanceTransform((~m).astype(np.uint8), cv2.DIST_L2, 3) for m in (hole, kept))
    return np.asarray(to_hole < to_kept)


def _accepted(dark: Bool, strong: Bool, hole: Bool) -> Bool:
    """Dark regions that touch the hole, are dark somewhere inside, and are not large for the hole they touch."""
    _, holes, hole_stats, _ = cv2.connectedComponentsWithStats(hole.astype(np.uint8), connectivity=8)
    count, labels, stats, _ = cv2.connectedComponentsWithStats(dark.astype(np.uint8), connectivity=8)
    near = cv2.dilate(holes.astype(np.uint16), np.ones((5, 5), np.uint8))
    touching = np.zeros(count)
    pairs = np.unique(np.column_stack([labels[dark], near[dark]]), axis=0)
    for region, object_ in pairs[pairs[:, 1] > 0]:
        touching[region] += hole_stats[object_, cv2.CC_STAT_AREA]
    solid = np.bincount(labels[strong & dark], minlength=count) > 0
    good = solid & (touching > 0) & (stats[:, cv2.CC_STAT_AREA] <= np.maximum(_MAX_AREA * touching, _SMALL_CELLS))
    good[0] = False
    grown = cv2.dilate(good[labels].astype(np.uint8), np.ones((3, 3), np.uint8)).astype(bool)
    return np.asarray(grown)
