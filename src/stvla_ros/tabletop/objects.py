"""Blocks, plates and buttons on a table: recognised by shape, named by colour."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import cv2
import numpy as np
import numpy.typing as npt

from stvla_ros.tabletop.regions import Regions, min_area_rectangle
from stvla_ros.tabletop.surface_colours import colour_costs, robust_mean
from stvla_ros.types import F32, F64, U8

FACE_M = 0.006
"""Points this close below the top of an object form its top face."""

BLOCK_M = (0.025, 0.060)
"""Shortest and longest edge of a block."""

PLATE_M, PLATE_TOP_M = 0.11, 0.03
"""Smallest width and largest height of a plate."""

COLOURLESS = ("plate", "lid", "lamp")
"""Kinds of which a table has one, whatever its colour."""

SIDE_GAIN = 0.68
"""Brightness of a vertical face relative to a horizontal one, lit from above."""


@dataclass(frozen=True, eq=False)
class TableObject:
    """One object on the table.

    Attributes:
        kind: ``block``, ``plate``, ``button`` or ``other``; others from :mod:`stvla_ros.planning.fittings`.
        colour: Nearest named colour.
        costs: Misfit of each named colour (:func:`stvla_ros.tabletop.surface_colours.colour_costs`).
        covered: Only its sides are visible, not its top. How the light falls on them is unknown.
        centre_m: (3,) centre of its top in the base frame.
        size_m: (2,) edges of the smallest rectangle around its top; for a round object, its diameter twice.
        top_m: Height of its top above the table.
        bottom_m: Lowest visible height above the table.
        points_m: (N, 3) visible points in the base frame.
    """

    kind: str
    colour: str
    costs: Mapping[str, float]
    covered: bool
    centre_m: F64
    size_m: F64
    top_m: float
    bottom_m: float
    points_m: F32

    @property
    def name(self) -> str:
        return self.kind if self.kind in COLOURLESS else f"{self.colour} {self.kind}"

    def may_be(self, colour: str) -> bool:
        """The colour fits nearly as well as the nearest one does; with more tolerance where the top is hidden."""
        return self.costs[colour] < self.costs[self.colour] + (0.08 if self.covered else 0.03)


def recognise_objects(regions: Regions, rgb: U8) -> list[TableObject]:
    """Recognise the regions of a frame. The base of a button becomes part of its cap.

    Args:
        regions: From :func:`stvla_ros.tabletop.regions.find_regions`.
        rgb: (H, W, 3) image of the same frame.
    """
    height, points, colours = regions.height_m.ravel(), regions.points_m.reshape(3, -1), rgb.reshape(-1, 3)
    found = [
        _describe(points[:, p].T, height[p], colours[p])
        for pixels in regions.members()
        for p in _levels(pixels, height)
    ]
    return _with_buttons(found)


def _levels(pixels: npt.NDArray[np.intp], height: F32) -> Iterable[npt.NDArray[np.intp]]:
    """A stack of blocks of one colour is one region: cut it into blocks from the top."""
    h = height[pixels]
    top = float(np.quantile(h, 0.97))
    if top < 0.055:
        return [pixels]
    upper = h > top - 0.040
    return [pixels] if (~upper).sum() < 0.15 * len(pixels) else [pixels[upper], pixels[~upper]]


def _describe(points_m: F32, height_m: F32, rgb: U8) -> TableObject:
    top, bottom = (float(v) for v in np.quantile(height_m, [0.97, 0.03]))
    face = height_m > top - FACE_M
    xy = points_m[face, :2]
    centre, size, _ = min_area_rectangle(_trimmed(xy))
    outline = _trimmed(points_m[:, :2])
    _, whole, _ = min_area_rectangle(outline)
    flat = bool(
        min(size) > 0.015 and (face.mean() > 0.25 or max(whole) > 0.065)
    )  # else these are the upper rows of its sides
    costs = colour_costs(robust_mean(rgb[face] if flat else rgb), 1.0 if flat else SIDE_GAIN)
    colour = min(costs, key=costs.__getitem__)
    kind = "other"
    if top < PLATE_TOP_M and max(whole) > PLATE_M and min(whole) > PLATE_M / 2:
        kind, (centre, size) = "plate", _circle(outline)
    elif top - bottom > 0.018 and max(size) < BLOCK_M[1] and BLOCK_M[0] < max(size) and max(whole) < 0.065:
        kind = "block"
    elif max(whole) > 0.065 and max(size) < BLOCK_M[1] and 0.02 < top < 0.06 and 0.5 < size[0] / max(size[1], 1e-6) < 2:
        kind = "button"  # cap and base in one region: their colours are too similar
    z = float(np.median(points_m[face, 2]))
    return TableObject(kind, colour, costs, not flat, np.array([*centre, z]), size, top, bottom, points_m)


def _trimmed(xy_m: F32) -> F32:
    """The points without the 1.5 % furthest from the middle: flying pixels at edges."""
    away = ((xy_m - np.median(xy_m, axis=0)) ** 2).sum(axis=1)
    kept: F32 = xy_m[away <= max(np.quantile(away, 0.985), np.quantile(away, 0.9) * 1.1)]
    return kept


def _circle(xy_m: npt.NDArray[np.floating]) -> tuple[F64, F64]:
    """Centre and diameter of the smallest circle around points, which ignores anything inside a plate."""
    (x, y), r = cv2.minEnclosingCircle(np.ascontiguousarray(xy_m * 1000.0, dtype=np.float32))
    return np.array([x, y]) / 1000.0, np.array([r, r]) / 500.0


def _with_buttons(found: list[TableObject]) -> list[TableObject]:
    """A low disc on a wider, lower, visible base is the cap of a button; the base is dropped."""
    bases: set[int] = set()
    out = list(found)
    for i, cap in enumerate(found):
        if cap.kind != "other" or not 0.015 < max(cap.size_m) < BLOCK_M[1]:
            continue
        for j, base in enumerate(found):
            if i != j and base.kind == "other" and _carries(base, cap):
                bases.add(j)
                centre, size = _circle(_trimmed(cap.points_m[:, :2]))
                out[i] = replace(cap, kind="button", centre_m=np.array([*centre, cap.centre_m[2]]), size_m=size)
    return [item for k, item in enumerate(out) if k not in bases]


def _carries(base: TableObject, cap: TableObject) -> bool:
    middle = base.points_m[:, :2].mean(axis=0)
    near = np.hypot(*(middle - cap.centre_m[:2])) < 0.03
    wide = np.ptp(base.points_m[:, :2], axis=0).max() > 1.3 * max(cap.size_m)
    return bool(near and wide and 0.004 < cap.top_m - base.top_m < 0.03 and base.top_m < 0.05)
