"""Lamps, found by the shadows that they cast.

Each candidate for a lamp predicts which parts of the table are shaded. Orthogonal matching pursuit takes the candidate
that explains most of the table's darkness, moves it to where it explains still more, and goes on with what is left
(compare Sato, Sato and Ikeuchi, *Illumination from shadows*, PAMI 2003, who solve for all directions at once).
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt
from scipy.optimize import nnls

from stvla_ros.perception.inpaint.elevation import ElevationMap, shadow_depth_m
from stvla_ros.types import F32, F64, Bool

DEBUG = 0
MOST_LAMPS = 3

_RINGS = ((0.0, 1), (0.25, 6), (0.5, 10), (0.9, 12), (1.4, 14))
_CEILING = 0.4
_TOUCH_M = 0.004
_SIGNIFICANT = 60.0
_WORTH = 0.02
_STEPS = (0.16, 0.08)
_CEILINGS = (0.0, 0.4, 0.8)


@dataclass(frozen=True, eq=False)
class Lamp:
    """Attributes:
    place: (3,) as :func:`.elevation.shadow_depth_m` wants it.
    strength: Logarithm of the light that its shadow takes away.
    """

    place: F64
    strength: float


@dataclass(frozen=True, eq=False)
class Darkness:
    """What is known of the light on some cells of the table.

    Attributes:
        dark: (N,) how much darker a cell is than the cells around it: minus the logarithm of the quotient.
        place: (N,) its flat index in the elevation map.
        noise: Robust deviation of ``dark``.
    """

    dark: F32
    place: npt.NDArray[np.intp]
    noise: float


def find_lamps(seen: Darkness, height_m: F32, cell_m: float) -> list[Lamp]:
    """At most :data:`MOST_LAMPS` lamps whose shadows explain the darkness; none if it is not significant."""
    candidates, left = _candidates(), seen.dark
    shades = np.stack([_shade(seen, height_m, cell_m, c) for c in candidates])
    energy = float(seen.dark @ seen.dark)
    places: list[F64] = []
    columns: list[F32] = []
    strength = np.zeros(0)
    while len(places) < MOST_LAMPS:
        gains = _gain(shades, left)
        best = int(gains.argmax())
        place, column, gain = _refined(seen, height_m, cell_m, left, candidates[best], float(gains[best]))
        DEBUG and print("      gain/noise2 %.0f gain/energy %.3f" % (gain/seen.noise**2, gain/energy), place.round(2))
        if gain < max(_SIGNIFICANT * seen.noise**2, _WORTH * energy):
            break
        places.append(place)
        columns.append(column)
        A = np.stack(columns, axis=1)
        strength, _ = nnls(A - A.mean(axis=0), seen.dark - seen.dark.mean())
        for k in range(len(places)) if len(places) > 1 else ():
            rest = np.asarray(seen.dark - np.delete(A, k, 1) @ np.delete(strength, k), dtype=np.float32)
            now = float(_gain(columns[k], rest))
            places[k], columns[k], _ = _refined(seen, height_m, cell_m, rest, places[k], now)
            A = np.stack(columns, axis=1)
            strength, _ = nnls(A - A.mean(axis=0), seen.dark - seen.dark.mean())
        left = np.asarray(seen.dark - A @ strength, dtype=np.float32)
    return [Lamp(p, float(s)) for p, s in zip(places, strength, strict=True) if s > 0]


def _candidates() -> F64:
    """(K, 3) lamps in rings around the vertical, under a usual ceiling."""
    return np.array(
        [
            (slope * np.cos(angle), slope * np.sin(angle), _CEILING)
            for ring, (slope, count) in enumerate(_RINGS)
            for angle in 2 * np.pi * (np.arange(count) + ring % 2 / 2) / count
        ]
    )


def _shade(seen: Darkness, height_m: F32, cell_m: float, place: F64) -> F32:
    """(N,) 1 where a cell is in the shadow of what stands there, less its mean."""
    shaded = shadow_depth_m(height_m, cell_m, place).reshape(-1)[seen.place] > _TOUCH_M
    return np.asarray(shaded, dtype=np.float32)


def _gain(shades: F32, dark: F32) -> F32:
    """(K,) squared darkness that each of (K, N) shadows explains; 0 if it is brighter than its surroundings."""
    count = shades.sum(axis=-1)
    norm = count - count**2 / shades.shape[-1] + 10
    explained = shades @ (dark - dark.mean())
    return np.asarray(np.maximum(explained, 0) ** 2 / norm)


def _refined(
    seen: Darkness, height_m: F32, cell_m: float, dark: F32, start: F64, gain: float
) -> tuple[F64, F32, float]:
    """Pattern search around a lamp: the place that explains most, its shadow, and what it explains."""
    best, shade = start, _shade(seen, height_m, cell_m, start)
    for step in _STEPS:
        centre = best
        for dx, dy in ((1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (-1, -1), (1, -1), (-1, 1)):
            best, shade, gain = _better(seen, height_m, cell_m, dark, centre + (dx * step, dy * step, 0), best, shade, gain)
    for ceiling in _CEILINGS:
        best, shade, gain = _better(seen, height_m, cell_m, dark, np.append(best[:2], ceiling), best, shade, gain)
    return best, shade, gain


def _better(
    seen: Darkness, height_m: F32, cell_m: float, dark: F32, place: F64, best: F64, shade: F32, gain: float
) -> tuple[F64, F32, float]:
    other = _shade(seen, height_m, cell_m, place)
    more = float(_gain(other, dark))
    return (place, other, more) if more > gain else (best, shade, gain)
