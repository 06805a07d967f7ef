"""Shadows of removed things: where they take light from the table.

Two witnesses are heard. The first is the image: how much darker a cell is than the lit table near it. The second is
the scene: which lamp explains the darkness around all things, and where it is hidden by those that go. Each counts by
its certainty. So on a plain table the image decides, with sharp outlines and for any number of lamps, and on wood or a
printed cloth the scene does. In doubt a shadow stays: darkness nearer to kept things is theirs, and a dark place that
goes on beyond the reach of all things is no shadow of theirs.
"""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from stvla_ros.perception.inpaint.elevation import ElevationMap, Ground, reach_m, shadow_depth_m
from stvla_ros.perception.inpaint.grid import normalised_blur, quadratic, quadratic_terms
from stvla_ros.perception.inpaint.lamp import TOUCH_M, Evidence, Lamp, find_lamp
from stvla_ros.types import F32, Bool

DARKER = 0.04
"""A shadow that takes a smaller share of the light is not seen."""

GRAIN = 1.3
"""Nor is one weaker than this many standard deviations of the table's grain; its core must be twice as strong."""

BORDER = 0.75
"""A shadow ends where it has this share of the strength that is seen."""

HUE = 0.16
"""Allowed difference between the colour channels, as a share of brightness (sky light is bluer than the lamp)."""

LONGEST = 1.0
"""Length over height of the longest shadow that is accepted on the image's word alone."""

_ALONE = 0.1
"""Usual strength of a shadow that the lamp does not explain."""

_BLACK = 0.15
_BUDGET = 400
_ROUNDS = 4
_NEAR_CELLS = 31
_DETAIL_CELLS = 17
_SPREAD_CELLS = 5
_FEWEST = 60


def cast_shadows(colour: F32, table: Bool, hole: Bool, things: ElevationMap | None, ground: Ground) -> F32:
    """(rows, columns) strength of the shadows of removed things, as a multiple of the least that is seen.

    It is 0 beyond them; :data:`BORDER` is the level of their outlines.

    Args:
        colour: (rows, columns, 3) mean colour of each cell's table pixels.
        table: (rows, columns) cells that show the table.
        hole: (rows, columns) cells of removed things.
        things: What stands on the table; None if nothing is measured there.
        ground: Where the cells lie on the table.
    """
    if things is None or np.count_nonzero(table) < _FEWEST or not hole.any():
        return np.zeros(table.shape, dtype=np.float32)
    lit, log_light = _light(colour, table)
    near, other = _reaches(things, ground)
    dark = _missing_light(colour, table, lit, log_light)
    noise = _noise(dark, table, table & (near <= 0) & (other <= 0))
    least = max(DARKER, GRAIN * noise)
    alone = (near > 0) & _ends_near(dark > least, (near > 0) | (other > 0))
    used = ((near > 0) | (other > 0)) & _ends_near(dark > least, (near > 0) | (other > 0))
    lamp = find_lamp(_evidence(log_light, table, used, things, ground))
    gone, kept = _hidden_light(things, lamp, ground)
    usual = np.maximum(normalised_blur(dark[..., None], (table & alone).astype(np.float32), 5)[0][..., 0], _ALONE)
    doubt = cv2.dilate(gone, np.ones((_SPREAD_CELLS,) * 2, np.uint8)) ** 2 + np.where(alone, usual**2, 1e-12)
    seen = cv2.dilate(table.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
    trust = np.where(seen, doubt / (doubt + noise**2), 0)
    taken = np.where(gone + near >= kept + other, trust * dark + (1 - trust) * gone, 0)
    return _accepted((taken / least).astype(np.float32), hole, max(DARKER, 2 * GRAIN * noise) / least)


def _reaches(things: ElevationMap, ground: Ground) -> tuple[F32, F32]:
    """(rows, columns) how deep each cell lies within reach of the removed and of the kept things, m; 0 beyond."""
    coarse = things.halved()
    place, inside = coarse.places(ground.xy_m)
    depths = (
        reach_m(height, coarse.cell_m, LONGEST).reshape(-1)[place] for height in (coarse.removed_m, coarse.kept_m)
    )
    removed, kept = (np.where(inside, np.maximum(d, 0), 0).astype(np.float32) for d in depths)
    return removed, kept


def _evidence(log_light: F32, table: Bool, used: Bool, things: ElevationMap, ground: Ground) -> Evidence:
    """Darkness in detail, in every second of the used cells of the table."""
    coarse = things.halved()
    place, inside = coarse.places(ground.xy_m)
    around = normalised_blur(log_light[..., None], (table & used).astype(np.float32), _DETAIL_CELLS)[0][..., 0]
    odd = (slice(1, None, 2),) * 2
    some = (table & used & inside)[odd]
    return Evidence((around - log_light)[odd][some], place[odd][some], coarse.height_m, coarse.cell_m)


def _hidden_light(things: ElevationMap, lamp: Lamp | None, ground: Ground) -> tuple[F32, F32]:
    """(rows, columns) share of light that things take from the lamp: the removed ones alone, and the kept ones."""
    place, inside = things.places(ground.xy_m)
    if lamp is None:
        return np.zeros(place.shape, np.float32), np.zeros(place.shape, np.float32)
    share = 1 - np.exp(-lamp.strength)
    both, kept = (
        inside & (shadow_depth_m(height, things.cell_m, lamp.place).reshape(-1)[place] > TOUCH_M)
        for height in (things.height_m, things.kept_m)
    )
    return (both & ~kept) * np.float32(share), kept * np.float32(share)


def _missing_light(colour: F32, table: Bool, lit: npt.NDArray[np.float64], log_light: F32) -> F32:
    """(rows, columns) share of the light that is missing; not positive where the colour is not that of a shadow."""
    light = np.exp(log_light)
    expected = np.exp(np.stack([quadratic(lit[:, k], table.shape) for k in range(4)], axis=-1))
    scale = light * expected[..., 3] / np.maximum(_grey(colour), 1)
    tint = np.abs(colour * scale[..., None] - light[..., None] * expected[..., :3]).max(axis=-1)
    fits = (light > _BLACK) & (tint < HUE * expected[..., 3] / 3)
    dark = normalised_blur((1 - light)[..., None], table.astype(np.float32), 3)[0][..., 0]
    return np.asarray(np.where(fits | ~table, dark, np.minimum(dark, 0)), dtype=np.float32)


def _noise(dark: F32, table: Bool, bare: Bool) -> float:
    """Robust deviation of the darkness where nothing can take the light: the grain of the table."""
    dark = dark[bare if np.count_nonzero(bare) > _FEWEST else table]
    return max(1.4826 * float(np.median(np.abs(dark))), 0.01)


def _ends_near(dark: Bool, near: Bool) -> Bool:
    """All cells but those of dark regions most of which lie beyond the reach of all things."""
    count, regions = cv2.connectedComponents(dark.astype(np.uint8), connectivity=4)
    cells = np.bincount(regions.ravel(), minlength=count)
    good = 2 * np.bincount(regions[near], minlength=count) >= cells
    good[0] = True
    return np.asarray(good[regions])


def _accepted(strength: F32, hole: Bool, core: float) -> F32:
    """The strength in dark regions that touch the hole and are seen, and in the hole."""
    dark = (strength > BORDER) & ~hole
    count, regions = cv2.connectedComponents(dark.astype(np.uint8), connectivity=8)
    beside = cv2.dilate(hole.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
    good = np.ones(count, dtype=bool)
    for where in (strength > core, beside):
        good &= np.bincount(regions[where], minlength=count) > 0
    good[0] = False
    return np.where(good[regions] | hole, strength, np.float32(0))


def _grey(colour: F32) -> F32:
    return np.asarray(colour[..., 0] + colour[..., 1] + colour[..., 2], dtype=np.float32)


def _light(colour: F32, table: Bool) -> tuple[npt.NDArray[np.float64], F32]:
    """The light on the table.

    Returns:
        (6, 4) quadratic model of the logarithms of the lit table's colour and brightness; (rows, columns) logarithm of
        each cell's light as a share of that of the lit cells near it.
    """
    model, noise = _lit_table(colour, table)
    brighter = np.log(np.maximum(_grey(colour), 1)) - quadratic(model[:, 3], table.shape)
    light = brighter
    for _ in range(2):
        lit = table & (light > -max(1.5 * noise, 0.02)) & (light < max(4 * noise, 0.1))
        light = brighter - normalised_blur(brighter[..., None], lit.astype(np.float32), _NEAR_CELLS)[0][..., 0]
        some = light[lit][:: max(np.count_nonzero(lit) // _BUDGET, 1)]
        noise = 1.4826 * float(np.median(np.abs(some))) if len(some) else noise
    return model, np.asarray(light, dtype=np.float32)


def _lit_table(colour: F32, table: Bool) -> tuple[npt.NDArray[np.float64], float]:
    """(6, 4) quadratic model of the logarithms of the lit table's colour and brightness, and the robust deviation.

    Light multiplies, so its logarithm is modelled, by iterated fits to cells not much darker than the model.
    """
    cells = np.flatnonzero(table)
    cells = cells[:: max(len(cells) // _BUDGET, 1)]
    A, b = quadratic_terms(cells, table.shape, np.float32), colour.reshape(-1, 3)[cells]
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
