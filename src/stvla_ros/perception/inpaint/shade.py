"""Shadows of removed objects: darker than the table around, of the same hue, touching the object.

Found on the cells of a grid against a smooth model of the lit table, and with doubt resolved towards leaving them: a
shadow that reaches kept objects stays on their side, and what is large compared with its object is no shadow.
"""

from __future__ import annotations

import cv2
import numpy as np

from stvla_ros.types import F32, U8, Bool

DARKER = 0.07
"""A shadow takes at least this share of the light in its middle, and half as much at its rim."""

HUE = 0.09
"""The three colours may lose light differently by this much (sky light is bluer than the lamp)."""

_SIGMAS = 3.5
_MAX_AREA = 2.0


def cast_shadows(colour: F32, table: Bool, hole: Bool, kept: Bool) -> Bool:
    """Cells in the shadow of what was removed.

    Args:
        colour: (rows, columns, 3) mean colour of each cell's table pixels.
        table: (rows, columns) cells that show the table.
        hole: (rows, columns) cells of removed things.
        kept: (rows, columns) cells of kept things.
    """
    none = np.zeros_like(table)
    if np.count_nonzero(table) < 60 or not hole.any():
        return none
    ratio, noise = _against_lit_table(colour, table)
    light = ratio.mean(axis=2)
    same_hue = table & (np.abs(ratio - light[..., None]).max(axis=2) < HUE) & (light > 0.15)
    depth = max(DARKER, _SIGMAS * noise)
    dark = same_hue & (light < 1 - depth / 2) & _nearer(hole, kept)
    return _accepted(dark, same_hue & (light < 1 - depth), hole, kept)


def _against_lit_table(colour: F32, table: Bool) -> tuple[F32, float]:
    """Each cell's colour as a share of the lit table's, and the robust deviation of that share.

    The lit table is a quadratic function of the cell, fitted again and again to what is not darker than it.
    """
    rows, columns = table.shape
    y, x = np.mgrid[-1 : 1 : rows * 1j, -1 : 1 : columns * 1j].astype(np.float32)
    basis = np.stack([np.ones_like(x), x, y, x * x, x * y, y * y], axis=-1)
    pick = np.flatnonzero(table)[:: max(np.count_nonzero(table) // 1500, 1)]
    A, b = basis.reshape(-1, 6)[pick], colour.reshape(-1, 3)[pick]
    lit = np.ones(len(pick), dtype=bool)
    noise = 1.0
    for _ in range(5):
        model = np.linalg.lstsq(A[lit], b[lit], rcond=None)[0]
        share = (b / np.maximum(A @ model, 1.0)).mean(axis=1) - 1
        noise = 1.4826 * float(np.median(np.abs(share[lit])))
        lit = np.abs(share + noise / 2) < max(2 * noise, 0.02)
        if np.count_nonzero(lit) < 30:
            break
    return np.asarray(colour / np.maximum(basis @ model, 1.0), dtype=np.float32), noise


def _nearer(hole: Bool, kept: Bool) -> Bool:
    """Cells that are nearer to the hole than to anything kept."""
    if not kept.any():
        return np.ones_like(hole)
    to_hole, to_kept = (cv2.distanceTransform((~m).astype(np.uint8), cv2.DIST_L2, 3) for m in (hole, kept))
    return np.asarray(to_hole < to_kept)


def _accepted(dark: Bool, strong: Bool, hole: Bool, kept: Bool) -> Bool:
    """Dark regions that touch the hole, are dark somewhere inside, and are not large for the hole they touch."""
    _, holes, hole_stats, _ = cv2.connectedComponentsWithStats(hole.astype(np.uint8), connectivity=8)
    count, labels, stats, _ = cv2.connectedComponentsWithStats(dark.astype(np.uint8), connectivity=8)
    near = cv2.dilate(holes.astype(np.uint16), np.ones((5, 5), np.uint8))
    touching = np.zeros(count)
    pairs = np.unique(np.column_stack([labels[dark], near[dark]]), axis=0)
    for region, object_ in pairs[pairs[:, 1] > 0]:
        touching[region] += hole_stats[object_, cv2.CC_STAT_AREA]
    solid = np.bincount(labels[strong & dark], minlength=count) >= 2
    good = solid & (touching > 0) & (stats[:, cv2.CC_STAT_AREA] <= _MAX_AREA * touching)
    good[0] = False
    grown = cv2.dilate(good[labels].astype(np.uint8), np.ones((3, 3), np.uint8)).astype(bool)
    return np.asarray(grown & ~hole & ~kept)


def upscaled(cells: Bool, stride: int, shape: tuple[int, int]) -> U8:
    """A mask of 0 and 255 over the pixels of a mask over cells."""
    full = np.repeat(np.repeat(cells.astype(np.uint8) * 255, stride, axis=0), stride, axis=1)
    return np.asarray(full[: shape[0], : shape[1]], dtype=np.uint8)
