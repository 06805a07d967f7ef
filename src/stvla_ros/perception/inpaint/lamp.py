"""The lamp, found by the shadows that it casts.

Each candidate predicts which cells of the table are shaded; the one that explains most of the table's darkness wins and
is moved to where it explains still more (compare Sato, Sato and Ikeuchi, *Illumination from shadows*, PAMI 2003, who
solve for all directions of the sky at once). The shadows of a second lamp are left to the image.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from stvla_ros.perception.inpaint.elevation import shadow_depth_m
from stvla_ros.types import F32, F64, Bool

TOUCH_M = 0.004
"""A cell is shaded when it lies at least this far below the edge of the shadow: less is the sensor's noise."""

_RINGS = ((0.0, 1), (0.3, 6), (0.6, 10), (1.0, 12))
_INVERSE_HEIGHTS = (0.4, 0.0, 0.8)
_STEPS = (0.16, 0.08)
_SIGNIFICANT = 60.0
_WORTH = 0.02
_FEWEST = 60
_PRIOR_CELLS = 10


@dataclass(frozen=True, eq=False)
class Lamp:
    """Attributes:
    place: (3,) as :func:`.elevation.shadow_depth_m` wants it.
    strength: Share of the light that its shadow takes away, as a logarithm.
    """

    place: F64
    strength: float


@dataclass(frozen=True, eq=False)
class Evidence:
    """What some cells of the table tell about the lamp.

    Attributes:
        dark: (N,) logarithm of how much darker a cell is than those around it.
        place: (N,) its flat index in a map of heights.
        height_m: (rows, columns) that map: what stands on the table.
        cell_m: Edge of the map's cells.
    """

    dark: F32
    place: npt.NDArray[np.intp]
    height_m: F32
    cell_m: float

    def shade(self, place: F64) -> Bool:
        """(N,) whether each cell is shaded from a lamp."""
        return np.asarray(shadow_depth_m(self.height_m, self.cell_m, place).reshape(-1)[self.place] > TOUCH_M)


def find_lamp(seen: Evidence) -> Lamp | None:
    """The lamp whose shadows explain most of the darkness; None if that is not significant."""
    if len(seen.dark) < _FEWEST:
        return None
    noise = 1.4826 * float(np.median(np.abs(seen.dark)))
    clipped = np.clip(seen.dark, -max(3 * noise, 0.1), 0.7)  # a white print is no light
    dark = clipped - clipped.mean()
    places = list(_candidates())
    gains = [_gain(seen.shade(place), dark)[0] for place in places]
    best, most = places[int(np.argmax(gains))], max(gains)
    for step in (*_STEPS, 0.0):
        for place in _around(best, step):
            gain, _ = _gain(seen.shade(place), dark)
            best, most = (place, gain) if gain > most else (best, most)
    if most < max(_SIGNIFICANT * noise**2, _WORTH * float(dark @ dark)):
        return None
    return Lamp(best, _gain(seen.shade(best), dark)[1])


def _candidates() -> Iterator[F64]:
    """Lamps in rings around the vertical, under a usual ceiling."""
    for ring, (slope, count) in enumerate(_RINGS):
        for angle in 2 * np.pi * (np.arange(count) + ring % 2 / 2) / count:
            yield np.array([slope * np.cos(angle), slope * np.sin(angle), _INVERSE_HEIGHTS[0]])


def _around(place: F64, step: float) -> Iterator[F64]:
    """Places a step away in eight directions; without a step, other heights."""
    if step == 0:
        yield from (np.append(place[:2], height) for height in _INVERSE_HEIGHTS)
        return
    for x, y in ((1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (-1, -1), (1, -1), (-1, 1)):
        yield place + np.array([x * step, y * step, 0.0])


def _gain(shaded: Bool, dark: F32) -> tuple[float, float]:
    """Squared darkness (N,), of mean 0, that a shadow explains, and the shadow's strength; 0 if it is brighter."""
    count = int(np.count_nonzero(shaded))
    explained = max(float(dark[shaded].sum()), 0.0)
    norm = count - count**2 / len(dark) + _PRIOR_CELLS
    return explained**2 / norm, explained / norm
