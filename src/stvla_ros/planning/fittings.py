"""Jars, lids, bulbs, their holders and a lamp on a table: recognised by their shapes, jars and holders named by colour.

Sizes are those of the simulated things (:mod:`stvla_ros.sim.tasks.close_jar`, :mod:`stvla_ros.sim.tasks.light_bulb_in`),
with room for others like them.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from stvla_ros.geometry.spheres import fit_sphere
from stvla_ros.tabletop.objects import SIDE_GAIN, TableObject
from stvla_ros.tabletop.regions import Regions, min_area_rectangle
from stvla_ros.tabletop.surface_colours import colour_costs, robust_mean
from stvla_ros.types import F32, F64, U8, Bool

PART_M = 0.040
"""A lid or bulb reaches this far from its axis, with a margin."""

LID_GRIP_M = 0.012
"""A lid is gripped this far above its lower edge: the fingertips are close above the table then."""

LID_SEAT_M = -0.011
"""The lower edge of a closed lid, relative to the top of the neck."""

CLOSED_M = 0.006
"""What is on a jar's axis this much higher than the neck is a lid."""

BULB_GRIP_M = 0.057
"""Height of the middle of a bulb's glass above its tip."""

SOCKET_M = 0.024
"""Depth of a lamp's socket."""

JAR_M, JAR_TOP_M, SHOULDER_M, NECK_M = (0.06, 0.11), (0.07, 0.13), 0.088, 0.100
DISC_M = (0.030, 0.078)
"""Width of what is on top of a jar: its neck or a lid."""

LID_M, LID_TOP_M = (0.045, 0.078), (0.012, 0.035)
DISH_M, DISH_TOP_M = (0.080, 0.120), 0.020
GLASS_RADIUS_M = (0.022, 0.038)
LAMP_TOP_M, MOUTH_M = 0.16, 0.20

MIN_PX = 12


class _Points:
    """Points above the table, with heights and colours, and those of each region."""

    def __init__(self, regions: Regions, rgb: U8) -> None:
        self._xyz, self._height = regions.points_m.reshape(3, -1).T, regions.height_m.ravel()
        self._rgb, self._labels = rgb.reshape(-1, 3), regions.labels.ravel()
        self._members = regions.members()
        every = np.flatnonzero(self._labels > 0)
        self.xyz, self.height = self._xyz[every], self._height[every]

    def __iter__(self) -> Iterator[tuple[F32, F32, U8]]:
        for pixels in self._members:
            yield self._xyz[pixels], self._height[pixels], self._rgb[pixels]

    def near(self, place_m: F64, radius_m: float, low_m: float, high_m: float = 1.0) -> F32:
        """(N, 3) points of any region this far beside a place and between two heights."""
        return self.xyz[self._near(place_m, radius_m) & (self.height > low_m) & (self.height < high_m)]

    def top(self, place_m: F64, radius_m: float) -> float:
        """Height of what stands at a place; 0 where nothing does."""
        heights = self.height[self._near(place_m, radius_m)]
        return float(np.quantile(heights, 0.95)) if len(heights) >= MIN_PX else 0.0

    def _near(self, place_m: F64, radius_m: float) -> Bool:
        return np.asarray(np.hypot(*(self.xyz[:, :2] - place_m[:2]).T) < radius_m)


def find_jars_and_lid(regions: Regions, rgb: U8) -> list[TableObject]:
    """Jars, and a lid that lies on the table. The top of a closed jar is that of its lid."""
    points = _Points(regions, rgb)
    found = []
    for xyz, height, colours in points:
        size = _size(xyz)
        top, bottom = (float(q) for q in np.quantile(height, [0.98, 0.02]))
        if _within(size.max(), JAR_M) and _within(top, JAR_TOP_M) and bottom < 0.4 * top:
            found.append(_jar(points, xyz, height, colours))
        elif _within(size.max(), LID_M) and _within(size.min(), LID_M) and _within(top, LID_TOP_M):
            face = xyz[height > top - 0.004]
            found.append(_object("lid", face, height, colours, xyz))
    return found


def find_bulbs_and_lamp(regions: Regions, rgb: U8) -> list[TableObject]:
    """Holders, with the glass of the bulb in each as their top, and the lamp, with whatever is in its socket."""
    points = _Points(regions, rgb)
    found = []
    tall: list[F32] = []
    for xyz, height, colours in points:
        low = (height > 0.004) & (height < DISH_TOP_M + 0.006)
        if float(np.quantile(height, 0.98)) > LAMP_TOP_M:
            tall.append(xyz)
        elif low.mean() > 0.25 and _within(_size(xyz[low]).max(), DISH_M) and np.median(height[low]) > 0.8 * DISH_TOP_M:
            found.append(_holder(points, xyz[low], height[low], colours[low]))
    return [*found, *_lamp(points, tall)]


def bulb_centre(holder: TableObject) -> F64 | None:
    """(3,) middle of the glass of the bulb in a holder; None if the holder is empty."""
    return holder.centre_m if holder.top_m > 2 * DISH_TOP_M else None


def _jar(points: _Points, xyz: F32, height: F32, colours: U8) -> TableObject:
    """Its centre is that of its highest disc, the neck or a lid; of its wall when a hand hides that."""
    middle = _axis(xyz[height < SHOULDER_M - 0.003])
    if middle is None:
        middle = np.median(xyz[:, :2], axis=0).astype(np.float64)
    above = points.near(middle, 0.04, SHOULDER_M + 0.003)
    disc = above[above[:, 2] > above[:, 2].max() - 0.005] if len(above) else above
    size = _size(disc)
    whole = len(disc) >= MIN_PX and _within(size.min(), DISC_M) and size.max() < 1.15 * size.min()
    centre = min_area_rectangle(disc[:, :2])[0] if whole else middle
    shoulder = (height > SHOULDER_M - 0.0035) & (height < SHOULDER_M + 0.0015)
    flat = int(shoulder.sum()) >= MIN_PX
    costs = colour_costs(robust_mean(colours[shoulder] if flat else colours), 1.0 if flat else SIDE_GAIN)
    top = float(np.median(disc[:, 2])) if whole else NECK_M
    where = np.array([*centre, top])
    return TableObject("jar", min(costs, key=costs.__getitem__), costs, not flat, where, _size(xyz), top, 0.0, xyz)


def _axis(wall: F32) -> F64 | None:
    """(2,) place of the axis of an upright round wall, of which one side is seen; None if it fits no jar."""
    if len(wall) < MIN_PX:
        return None
    centre, radius = fit_sphere(wall[:, :2])
    return centre if _within(2 * radius, JAR_M) else None


def _holder(points: _Points, xyz: F32, height: F32, colours: U8) -> TableObject:
    """The centre is that of the glass, if there is one: of the dish the camera sees only a part."""
    face = np.abs(height - DISH_TOP_M) < 0.004
    enough = int(face.sum()) >= MIN_PX
    costs = colour_costs(robust_mean(colours[face] if enough else colours), 1.0 if enough else SIDE_GAIN)
    (x, y), size, _ = min_area_rectangle(xyz[:, :2])
    centre, top = np.array([x, y, DISH_TOP_M]), DISH_TOP_M
    glass = points.near(centre, 0.05, 2.6 * DISH_TOP_M)
    if len(glass) >= MIN_PX:
        ball, radius = fit_sphere(glass)
        if _within(radius, GLASS_RADIUS_M) and np.hypot(*(ball - centre)[:2]) < 0.03:
            centre, top = ball, float(ball[2] + radius)
    return TableObject("holder", min(costs, key=costs.__getitem__), costs, not enough, centre, size, top, 0.0, xyz)


def _lamp(points: _Points, tall: list[F32]) -> list[TableObject]:
    """The lamp's centre is the middle of the socket's mouth; its top that of what is on its axis."""
    if not tall:
        return []
    xyz = np.concatenate(tall)
    rim = xyz[np.abs(xyz[:, 2] - MOUTH_M) < 0.004]
    if len(rim) < MIN_PX:
        return []
    (x, y), size, _ = min_area_rectangle(rim[:, :2])
    centre = np.array([x, y, float(np.median(rim[:, 2]))])
    return [TableObject("lamp", "gray", {}, False, centre, size, points.top(centre, 0.02), 0.0, xyz)]


def _object(kind: str, face: F32, height: F32, colours: U8, xyz: F32) -> TableObject:
    centre, size, _ = min_area_rectangle(face[:, :2])
    costs = colour_costs(robust_mean(colours))
    z = float(np.median(face[:, 2]))
    colour = min(costs, key=costs.__getitem__)
    return TableObject(kind, colour, costs, False, np.array([*centre, z]), size, z, float(height.min()), xyz)


def _size(xyz: F32) -> F64:
    """(2,) edges of the rectangle around points seen from above, without the 1 % furthest away; 0 for too few."""
    if len(xyz) < MIN_PX:
        return np.zeros(2)
    away = np.hypot(*(xyz[:, :2] - np.median(xyz[:, :2], axis=0)).T)
    return np.asarray(min_area_rectangle(xyz[away <= np.quantile(away, 0.99)][:, :2])[1])


def _within(value: float, bounds: tuple[float, float]) -> bool:
    return bool(bounds[0] <= value <= bounds[1])
