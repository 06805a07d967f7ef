"""Shadows of removed things: where they take light from the table.

Two witnesses are heard. The first is the image: how much darker a cell is than the lit table near it. The second is
the scene: which lamp explains the darkness around all things, and where it is hidden by those that go. Each counts by
its certainty. So on a plain table the image decides, with sharp outlines and for any number of lamps, and on wood or a
printed cloth the scene does. In doubt a shadow stays: darkness nearer to kept things is theirs, and a dark place that
goes on beyond the reach of all things is no shadow of theirs.
"""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np
import numpy.typing as npt

from stvla_ros.perception.inpaint.elevation import ElevationMap, Ground, reach_m, shadow_depth_m
from stvla_ros.perception.inpaint.grid import normalised_blur, quadratic, quadratic_terms
from stvla_ros.perception.inpaint.lamp import TOUCH_M, Evidence, Lamp, find_lamp
from stvla_ros.types import F32, Bool

DARKER = 0.06
"""A shadow that takes a smaller share of the light is not seen."""

GRAIN = 1.3
"""Nor is one weaker than this many standard deviations of the table's grain; its core must be twice as strong."""

BORDER = 0.75
"""A shadow ends where it has this share of the strength that is seen."""

FAINT = 1.0
"""Beside what is accepted, a cell and those around it are in the penumbra when they are this much darker, in these
deviations."""

HUE = 0.16
"""Allowed difference between the colour channels, as a share of brightness (sky light is bluer than the lamp)."""

LONGEST = 1.0
"""Length over height of the longest shadow that is accepted on the image's word alone."""

SHORT = 0.3
"""The same where the shadow of something that hovers may lie: a hand over the table darkens it anywhere below."""

_ALONE = 0.1
"""Least strength of a shadow that the lamp does not explain."""

_UNEXPLAINED = 0.45
"""Weight of the image away from the shadows that the lamp explains, where there is a lamp: planks are dark too."""

_BLACK = 0.15
_BUDGET = 400
_ROUNDS = 4
_NEAR_CELLS = 31
_DETAIL_CELLS = 17
_SPREAD_CELLS = 5
_FEWEST = 60
_FADING_CELLS = 2
_BESIDE_CELLS = 9


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
    near, close, other, any_other = _reaches(things, ground)
    reached = (near > 0) | (any_other > 0)
    dark = _missing_light(colour, table, lit, log_light)
    noise = min(_noise(dark[some]) for some in (table, table & ~reached))
    least = max(DARKER, GRAIN * noise)
    ends = _ends_near(dark > least, reached)
    lamp = find_lamp(_evidence(log_light, table, ends & reached, things, ground))
    gone, kept = _hidden_light(things, lamp, ground)
    alone, explained = ends & (near > 0), _dilated(gone, _BESIDE_CELLS) > 0
    trust = _trust(dark, table, alone, gone, noise)
    trust = trust if lamp is None else np.where(explained, trust, _UNEXPLAINED * trust)
    beside = (close > 0) & (explained | (lamp is None)) & (_dilated(kept, _BESIDE_CELLS) <= 0)
    ours = (gone + near >= kept + other) & (beside | (gone + near >= kept + any_other))
    taken = np.where(ours, trust * dark + (1 - trust) * gone, 0)
    strength = _accepted((taken / least).astype(np.float32), hole, max(DARKER, 2 * GRAIN * noise) / least)
    return _with_penumbra(strength, log_light, table, alone & explained & (near >= other), noise)


def _trust(dark: F32, table: Bool, alone: Bool, gone: F32, noise: float) -> F32:
    """(rows, columns) weight of the image against the lamp: it has more where the cells around are darker than grain."""
    usual = np.maximum(_mean_around(dark, table & alone, _SPREAD_CELLS), _ALONE)
    doubt = _dilated(gone, _SPREAD_CELLS) ** 2 + np.where(alone, usual**2, 1e-12)
    seen = _dilated(table.astype(np.float32), 3) > 0
    return np.where(seen, doubt / (doubt + noise**2), 0).astype(np.float32)


def _reaches(things: ElevationMap, ground: Ground) -> Iterator[F32]:
    """(rows, columns) how deep each cell lies, m, 0 beyond: within reach of the removed things, in the nearer part of it,
    within reach of what stays and stands, and of all that stays."""
    coarse = things.halved()
    place, inside = coarse.places(ground.xy_m)
    heights_m = (coarse.removed_m, coarse.removed_m, coarse.standing_m, coarse.kept_m)
    for height_m, longest in zip(heights_m, (LONGEST, SHORT, LONGEST, LONGEST), strict=True):
        depth = reach_m(height_m, coarse.cell_m, longest).reshape(-1)[place]
        yield np.where(inside, np.maximum(depth, 0), 0).astype(np.float32)


def _evidence(log_light: F32, table: Bool, used: Bool, things: ElevationMap, ground: Ground) -> Evidence:
    """Darkness in detail, in every second of the used cells of the table."""
    coarse = things.halved()
    place, inside = coarse.places(ground.xy_m)
    around = _mean_around(log_light, table & used, _DETAIL_CELLS)
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
    dark = _mean_around(1 - light, table, 3)
    return np.asarray(np.where(fits | ~table, dark, np.minimum(dark, 0)), dtype=np.float32)


def _noise(dark: F32) -> float:
    """Robust deviation of the darkness: the grain of the table."""
    return max(1.4826 * float(np.median(np.abs(dark))), 0.01) if len(dark) > _FEWEST else 1.0


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
    beside = _dilated(hole.astype(np.float32), 3) > 0
    good = np.ones(count, dtype=bool)
    for where in (strength > core, beside):
        good &= np.bincount(regions[where], minlength=count) > 0
    good[0] = False
    return np.where(good[regions] | hole, strength, np.float32(0))


def _with_penumbra(strength: F32, log_light: F32, table: Bool, likely: Bool, noise: float) -> F32:
    """The strength, and beside an accepted shadow also what is fainter: a soft shadow fades into the grain."""
    shade = (strength > BORDER).astype(np.float32)
    beside = _dilated(shade, 2 * _FADING_CELLS + 1) > shade
    faint = _mean_around(-log_light, table & (shade <= 0), 3) > max(BORDER * DARKER, FAINT * noise)
    return np.where(table & likely & beside & faint, np.maximum(strength, 1), strength).astype(np.float32)


def _mean_around(values: F32, some: Bool, size: int) -> F32:
    return normalised_blur(values[..., None], some.astype(np.float32), size)[0][..., 0]


def _dilated(cells: F32, size: int) -> F32:
    return np.asarray(cv2.dilate(cells, np.ones((size, size), np.uint8)), dtype=np.float32)


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
