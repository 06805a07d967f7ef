"""Shadows of removed objects: darker than the surrounding table, of the same hue, touching the object.

They are found on the cells of a grid against a smooth model of the lit table. In doubt a shadow stays: the part of a
shadow nearer to kept objects is left, and a dark region that is large compared with its object is not a shadow.
"""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from stvla_ros.perception.inpaint.grid import normalised_blur
from stvla_ros.types import F32, Bool

DARKER = 0.07
"""A shadow removes at least this share of the light in its core, and half as much at its rim."""

HUE = 0.16
"""Allowed difference between the colour channels, as a share of brightness (sky light is bluer than the lamp)."""

_SIGMAS = 3.5
_MAX_AREA = 2.0
_SMALL_CELLS = 80
_BLACK = 0.15
_BUDGET = 400
_ROUNDS = 4
_NEAR_CELLS = 31


def cast_shadows(colour: F32, table: Bool, hole: Bool, kept: Bool) -> Bool:
    """Cells in the shadow of removed objects, and a rim of one cell around them.

    Args:
        colour: (rows, columns, 3) mean colour of each cell's table pixels.
        table: (rows, columns) cells that show the table.
        hole: (rows, columns) cells of removed objects.
        kept: (rows, columns) cells of kept objects.
    """
    dark, strong = np.zeros_like(table), np.zeros_like(table)
    if np.count_nonzero(table) < 60 or not hole.any():
        return dark
    lit, log_light, noise = _light(colour, table)
    depth = max(DARKER, _SIGMAS * noise)
    cells = np.flatnonzero(table & (log_light < np.log(1 - depth / 2)))
    if not len(cells):
        return dark
    light = np.exp(log_light.ravel()[cells])
    expected = np.exp(_basis(cells, table.shape) @ lit)
    scale = light * expected[:, 3] / np.maximum(_grey(colour).ravel()[cells], 1)
    tint = np.abs(colour.reshape(-1, 3)[cells] * scale[:, None] - light[:, None] * expected[:, :3]).max(axis=1)
    shaded = (tint < HUE * expected[:, 3] / 3) & (light > _BLACK)
    dark.ravel()[cells[shaded]] = True
    strong.ravel()[cells[shaded & (light < 1 - depth)]] = True
    return _accepted(dark & _nearer(hole, kept), strong, hole)


def _grey(colour: F32) -> F32:
    return np.asarray(colour[..., 0] + colour[..., 1] + colour[..., 2], dtype=np.float32)


def _basis(cells: npt.NDArray[np.intp], shape: tuple[int, ...]) -> F32:
    """(N, 6) quadratic monomials of cells given by flat index, over -1..1 in both directions."""
    row, column = np.divmod(cells, shape[1])
    y, x = (2 * k.astype(np.float32) / n - 1 for k, n in ((row, shape[0]), (column, shape[1])))
    return np.column_stack([np.ones_like(x), x, y, x * x, x * y, y * y]).astype(np.float32)


def _quadratic(model: npt.NDArray[np.floating], shape: tuple[int, ...]) -> F32:
    """The same monomials, weighted and summed, on all cells."""
    y, x = (2 * np.arange(n, dtype=np.float32) / n - 1 for n in shape)
    one, dx, dy, xx, xy, yy = model.astype(np.float32)
    return np.asarray((one + dy * y + yy * y * y)[:, None] + (dx * x + xx * x * x) + (xy * y)[:, None] * x, np.float32)


def _light(colour: F32, table: Bool) -> tuple[npt.NDArray[np.float64], F32, float]:
    """The light on the table.

    Returns:
        (6, 4) quadratic model of the logarithms of the lit table's colour and brightness; (rows, columns) logarithm of
        each cell's light as a share of that of the lit cells near it; and its robust deviation on lit cells.
    """
    model, noise = _lit_table(colour, table)
    brighter = np.log(np.maximum(_grey(colour), 1)) - _quadratic(model[:, 3], table.shape)
    light = brighter
    for _ in range(2):
        lit = table & (light > -max(1.5 * noise, 0.02)) & (light < max(4 * noise, 0.1))
        light = brighter - normalised_blur(brighter[..., None], lit.astype(np.float32), _NEAR_CELLS)[0][..., 0]
        some = light[lit][:: max(np.count_nonzero(lit) // _BUDGET, 1)]
        noise = 1.4826 * float(np.median(np.abs(some))) if len(some) else noise
    return model, np.asarray(light, dtype=np.float32), noise


def _lit_table(colour: F32, table: Bool) -> tuple[npt.NDArray[np.float64], float]:
    """(6, 4) quadratic model of the logarithms of the lit table's colour and brightness, and the robust deviation.

    Light multiplies, so its logarithm is modelled, by iterated fits to cells not much darker than the model.
    """
    cells = np.flatnonzero(table)
    cells = cells[:: max(len(cells) // _BUDGET, 1)]
    A, b = _basis(cells, table.shape), colour.reshape(-1, 3)[cells]
    b = np.log(np.maximum(np.column_stack([b, _grey(b)]), 1))
    lit = np.ones(len(A), dtype=bool)
    for _ in range(_ROUNDS):
        model = np.linalg.solve(A[lit].T @ A[lit] + 1e-3 * np.eye(6), A[lit].T @ b[lit])
        brighter = b[:, 3] - A @ model[:, 3]
        noise = 1.4826 * float(np.median(np.abs(brighter[lit])))
        lit = (brighter > -max(1.5 * noise, 0.02)) & (brighter < max(4 * noise, 0.1))
        if np.count_nonzero(lit) < 30:
            break
    return model, noise


def _nearer(hole: Bool, kept: Bool) -> Bool:
    """Cells that are nearer to the hole than to anything kept."""
    if not kept.any():
        return np.ones_like(hole)
    to_hole, to_kept = (cv2.distanceTransform((~m).astype(np.uint8), cv2.DIST_L2, 3) for m in (hole, kept))
    return np.asarray(to_hole < to_kept)


def _accepted(dark: Bool, strong: Bool, hole: Bool) -> Bool:
    """Dark regions that touch the hole, have a dark core, and are not too large for the hole they touch."""
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
    if not good.any():
        return np.zeros_like(dark)
    found = good[labels].astype(np.uint8)
    rim, wide = (cv2.dilate(found, np.ones((k, k), np.uint8)) > 0 for k in (3, 7))
    return np.asarray(rim | (wide & hole))  # also cells of the hole between object and shadow
