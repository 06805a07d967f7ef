"""Spatial relations between things on a table, from their oriented boxes: what is left of, on, in, near, between what.

All in the workspace frame: x to the viewer's right, y away from the viewer, z up; the words are the viewer's. Each
relation has a margin: how far it is from its threshold, as a ratio (1: just true, 2: twice as clear). Between two
neighbouring directions lies a zone in which none of them is said.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations, permutations

import cv2
import numpy as np

from stvla_ros.types import F64

DIRECTION_DEG = 30.0
"""A direction is said within this angle of its axis: 15 degrees on both sides of the diagonals belong to none."""

ASIDE = 0.2
"""In a direction, footprints may overlap by this share of the smaller width."""

ON_SHARE = 0.3
"""Share of the upper thing's footprint that lies over the lower one."""

ON_GAP_M = (-0.015, 0.025)
"""Of the upper thing's bottom above the lower one's top: noise of both surfaces."""

INSIDE = 0.9
"""A thing is in a container whose footprint, shrunk to this, holds its centre..."""

SUNK, SUNK_M = 0.2, 0.01
"""...and whose rim is above its bottom by this share of its height, or by this."""

NEAR_M, NEAR_SIZE = 0.05, 0.5
"""Near: a gap below this, or below this share of the larger thing's width."""

TOUCHING_M = 0.008

BETWEEN, OFF_AXIS = 0.2, 0.5
"""Between two things: in the middle of the line through their centres, up to this share from its ends, and off it by at
most this share of their distance."""

UPRIGHT_DEG = 30.0


@dataclass(frozen=True, eq=False)
class OrientedBox:
    """A thing's box.

    Attributes:
        T_workspace_box: (4, 4) its centre and axes; z is the thing's own up.
        size_m: (3,) its size along its axes.
        container: Whether other things can be in it.
    """

    T_workspace_box: F64
    size_m: F64
    container: bool = False

    @property
    def corners_m(self) -> F64:
        """(8, 3) corners."""
        signs = np.array([[x, y, z] for x in (-0.5, 0.5) for y in (-0.5, 0.5) for z in (-0.5, 0.5)])
        corners: F64 = (signs * self.size_m) @ self.T_workspace_box[:3, :3].T + self.T_workspace_box[:3, 3]
        return corners

    @property
    def center_m(self) -> F64:
        """(3,) centre."""
        return self.T_workspace_box[:3, 3]


@dataclass(frozen=True)
class SpatialRelation:
    """``subject predicate objects``; ``between`` has two objects, an orientation none."""

    subject: str
    predicate: str
    objects: tuple[str, ...]
    margin: float


def find_relations(things: Mapping[str, OrientedBox], held: Collection[str] = ()) -> list[SpatialRelation]:
    """All relations that hold.

    Args:
        things: By id.
        held: Ids of things in the hand: they are on and in nothing.

    Returns:
        In the order of the things.
    """
    found: list[SpatialRelation] = []
    boxes = {name: _Footprint(box) for name, box in things.items()}
    for a, b in combinations(boxes, 2):
        joined = [
            r
            for r in (_on(a, b, boxes, held), _on(b, a, boxes, held), _in(a, b, boxes, held), _in(b, a, boxes, held))
            if r
        ]
        found += joined
        found += [SpatialRelation(r.objects[0], "under", (r.subject,), r.margin) for r in joined if r.predicate == "on"]
        if not joined:
            found += [*_direction(a, b, boxes), *_apart(a, b, boxes)]
    for a, b, c in permutations(boxes, 3):
        if b < c:
            found += _between(a, b, c, boxes)
    for name, box in things.items():
        found += _orientation(name, box)
    found += [SpatialRelation(name, "held", (), 1.0) for name in things if name in held]
    return found


def apart_m(a: OrientedBox, b: OrientedBox) -> float:
    """Distance of two boxes' footprints [m]; 0 where they overlap."""
    return _Footprint(a).gap(_Footprint(b))


class _Footprint:
    """A box seen from above: its outline, and where it begins and ends."""

    def __init__(self, box: OrientedBox) -> None:
        corners = box.corners_m
        self.box, self.center = box, box.center_m
        self.low, self.high = corners.min(axis=0), corners.max(axis=0)
        self.outline = cv2.convexHull(corners[:, :2].astype(np.float32)).reshape(-1, 2)
        self.area = float(cv2.contourArea(self.outline))

    @property
    def width(self) -> F64:
        """(3,) extent along the axes of the workspace."""
        extent: F64 = self.high - self.low
        return extent

    def overlap(self, other: _Footprint) -> float:
        """The common area [m^2]."""
        return float(cv2.intersectConvexConvex(self.outline, other.outline)[0])

    def holds(self, point: F64, scale: float) -> bool:
        """Whether the outline, scaled about its middle, holds a point."""
        middle = self.outline.mean(axis=0)
        scaled = (self.outline - middle) * scale + middle
        return cv2.pointPolygonTest(scaled.astype(np.float32), (float(point[0]), float(point[1])), False) >= 0.0

    def gap(self, other: _Footprint) -> float:
        """Distance of the outlines [m]; 0 where they overlap."""
        if self.overlap(other) > 0.0:
            return 0.0
        distances = [
            -cv2.pointPolygonTest(b.outline, (float(x), float(y)), True)
            for a, b in ((self, other), (other, self))
            for x, y in a.outline
        ]
        return max(float(min(distances)), 0.0)


def _direction(a: str, b: str, boxes: Mapping[str, _Footprint]) -> Iterator[SpatialRelation]:
    """Left or right, in front or behind."""
    A, B = boxes[a], boxes[b]
    for axis, other, words in ((0, 1, ("left_of", "right_of")), (1, 0, ("in_front_of", "behind"))):
        offset = B.center - A.center
        first, second = (A, B) if offset[axis] > 0.0 else (B, A)
        overlap = first.high[axis] - second.low[axis]
        angle = np.degrees(np.arctan2(abs(offset[other]), abs(offset[axis])))
        if angle <= DIRECTION_DEG and overlap <= ASIDE * min(A.width[axis], B.width[axis]):
            margin = float(DIRECTION_DEG / max(angle, 1.0))
            ahead = offset[axis] > 0.0
            yield SpatialRelation(a, words[0] if ahead else words[1], (b,), margin)
            yield SpatialRelation(b, words[1] if ahead else words[0], (a,), margin)


def _apart(a: str, b: str, boxes: Mapping[str, _Footprint]) -> Iterator[SpatialRelation]:
    A, B = boxes[a], boxes[b]
    if A.low[2] > B.high[2] or B.low[2] > A.high[2]:  # one is lifted above the other
        return
    gap = A.gap(B)
    limit = max(NEAR_M, NEAR_SIZE * max(A.width[:2].max(), B.width[:2].max()))
    for word, reach in (("near", limit), ("touching", TOUCHING_M)):
        if gap < reach:
            margin = float(reach / max(gap, reach / 10.0))
            yield SpatialRelation(a, word, (b,), margin)
            yield SpatialRelation(b, word, (a,), margin)


def _on(a: str, b: str, boxes: Mapping[str, _Footprint], held: Collection[str]) -> SpatialRelation | None:
    A, B = boxes[a], boxes[b]
    low, high = ON_GAP_M
    above = A.low[2] - B.high[2]
    share = A.overlap(B) / max(A.area, 1e-12)
    if a in held or b in held or share < ON_SHARE or not low <= above <= high:
        return None
    half, middle = (high - low) / 2, (high + low) / 2
    margin = min(share / ON_SHARE, half / max(abs(above - middle), half / 10.0))
    return SpatialRelation(a, "on", (b,), float(margin))


def _in(a: str, b: str, boxes: Mapping[str, _Footprint], held: Collection[str]) -> SpatialRelation | None:
    A, B = boxes[a], boxes[b]
    needed = min(SUNK * A.width[2], SUNK_M)
    sunk = B.high[2] - A.low[2]
    inside = B.holds(A.center, INSIDE) and A.low[2] >= B.low[2] + ON_GAP_M[0]
    if not B.box.container or a in held or b in held or not inside or sunk <= needed:
        return None
    return SpatialRelation(a, "in", (b,), float(sunk / needed))


def _between(a: str, b: str, c: str, boxes: Mapping[str, _Footprint]) -> Iterator[SpatialRelation]:
    A, B, C = (boxes[name].center[:2] for name in (a, b, c))
    line = C - B
    length = float(np.linalg.norm(line))
    if length < 1e-6:
        return
    along = float((A - B) @ line) / length**2
    off = abs(float(line[0] * (A - B)[1] - line[1] * (A - B)[0])) / length
    if BETWEEN <= along <= 1.0 - BETWEEN and off < OFF_AXIS * length:
        margin = min((0.5 - BETWEEN) / max(abs(along - 0.5), 0.03), OFF_AXIS * length / max(off, 0.05 * length))
        yield SpatialRelation(a, "between", (b, c), float(margin))


def _orientation(name: str, box: OrientedBox) -> Iterator[SpatialRelation]:
    tilt = float(np.degrees(np.arccos(np.clip(box.T_workspace_box[2, 2], -1.0, 1.0))))
    for word, off in (("upright", tilt), ("upside_down", 180.0 - tilt), ("on_its_side", abs(tilt - 90.0))):
        if off <= UPRIGHT_DEG:
            yield SpatialRelation(name, word, (), UPRIGHT_DEG / max(off, 1.0))
