"""Relevant instances: those that a tube around the path touches (paper 3.3.2).

In the paper's symbols: the tube is the union of balls of radius r around the points of the lifted path P*. An
instance O_i is relevant if the minimum of |p - q| over its points p and path points q is at most r. The end rule adds
the instance nearest to the last waypoint within 10 cm if no relevant one is there. The paper gives no value for r. In
our trials 5 cm kept every task object and removed 99 % of the others, even with a path 5 cm off the true one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from stvla_ros.config import param
from stvla_ros.geometry.components import member_pixels
from stvla_ros.geometry.paths import distance, simplify, valid_points
from stvla_ros.types import F32, F64, Segments, Trace3d


@dataclass(frozen=True)
class TubeConfig:
    """Settings of the tube (paper 3.3.2)."""

    tube_radius_m: float = param(0.05, "r: instances closer to the path than this are kept [m]", ge=0.005, le=0.5)
    end_radius_m: float = param(
        0.10, "a kept instance this close to an end of the path satisfies the end rule [m]", ge=0.0, le=0.5
    )
    end_domain_m: float = param(
        0.10, "otherwise the end rule keeps the nearest instance within this distance [m]", ge=0.0, le=2.0
    )
    hysteresis_m: float = param(
        0.01, "a decision is reversed only this far beyond the tube's boundary [m]", ge=0.0, le=0.1
    )


@dataclass(frozen=True)
class Relevance:
    """Outcome of the tube test.

    Attributes:
        kept: Ids of the kept instances, ascending.
        removed: Ids of the others, ascending.
        empty: The tube contains neither an instance nor the robot (or its held object).
    """

    kept: tuple[int, ...]
    removed: tuple[int, ...]
    empty: bool = False


def relevant(
    trace: Trace3d,
    segments: Segments,
    points_m: F32,
    radius_m: float,
    end_radius_m: float,
    before: Mapping[int, bool] | None = None,
    hysteresis_m: float = 0.01,
    end_domain_m: float | None = None,
) -> Relevance:
    """Divide the instances into kept and removed ones.

    The tube follows the whole polyline, not only its points, so that a coarse path has no gaps. A trace may end short
    of the goal, hence the end rule: if no kept instance lies within ``end_radius_m`` of an end, the nearest instance in
    the search domain around that end is kept too. The start is exempt while the robot is there: then it holds the
    object.

    Args:
        trace: The path P*.
        segments: Instances O_i of the frame.
        points_m: (3, H, W) cloud of the same frame in the base frame.
        radius_m: Tube radius r.
        end_radius_m: A kept instance within this distance of an end satisfies the end rule (paper: 10 cm).
        before: Decisions of an earlier frame (True: kept).
        hysteresis_m: An earlier decision is reversed only if the distance passes r by more than this.
        end_domain_m: Radius of the search domain of the end rule; ``end_radius_m`` where None.
    """
    domain_m = end_radius_m if end_domain_m is None else end_domain_m
    before = before or {}

    def limit(radius_m: float, i: int) -> float:
        return radius_m + hysteresis_m * {None: 0, True: 1, False: -1}[before.get(i)]

    line = simplify(valid_points(trace))
    flat = points_m.reshape(3, -1)
    clouds = {i: _Cloud.of(flat, pixels) for i, pixels in _members(segments).items()}
    robot = _Cloud.of(flat, np.flatnonzero(segments.labels.ravel() == -1)[::4])
    keep = {i for i, cloud in clouds.items() if cloud.reaches(line, limit(radius_m, i))}
    for end, free in ((line[:1], True), (line[-1:], False)):
        if any(clouds[i].reaches(end, limit(end_radius_m, i)) for i in keep):
            continue
        if free and robot.reaches(end, radius_m):
            continue
        to_end = {i: cloud.distance(end, limit(domain_m, i)) for i, cloud in clouds.items()}
        near = [i for i, d in to_end.items() if d <= limit(domain_m, i)]
        keep |= set(sorted(near, key=lambda i: (not before.get(i, False), to_end[i]))[:1])
    removed = tuple(i for i in segments.ids if i not in keep)
    return Relevance(tuple(sorted(keep)), removed, not keep and not robot.reaches(line, radius_m))


def _members(segments: Segments) -> dict[int, npt.NDArray[np.intp]]:
    """Flat pixel indices per id."""
    pixels = member_pixels(segments.labels, max(segments.ids, default=0))
    return {i: pixels[i - 1] for i in segments.ids}


@dataclass(frozen=True, eq=False)
class _Cloud:
    """Points with their bounding box, which answers most questions.

    Attributes:
        points_m: (N, 3) float32, finite.
        low_m: (3,) lower corner; inf without points.
        high_m: (3,) upper corner; -inf without points.
    """

    points_m: F32
    low_m: F32
    high_m: F32

    @classmethod
    def of(cls, flat_m: F32, pixels: npt.NDArray[np.intp]) -> _Cloud:
        """Those of some pixels of (3, H * W) points; pixels without depth are left out."""
        known = pixels[np.isfinite(flat_m[2].take(pixels))]
        some = flat_m.take(known, axis=1)
        return cls(some.T, some.min(axis=1, initial=np.inf), some.max(axis=1, initial=-np.inf))

    def reaches(self, line: F64, radius_m: float) -> bool:
        """A point lies within ``radius_m`` of the (M, 3) polyline."""
        return self.distance(line, radius_m, radius_m) <= radius_m

    def distance(self, line: F64, within_m: float, enough_m: float = -1.0) -> float:
        """Smallest distance of a point to the (M, 3) polyline.

        Distances above ``within_m`` may come out larger, up to inf, and those up to ``enough_m`` not smaller than they
        need be: then few points are measured.
        """
        low, high = line.min(axis=0).astype(np.float32), line.max(axis=0).astype(np.float32)
        beside = np.maximum(np.maximum(low - self.high_m, self.low_m - high), 0.0)
        if not len(self.points_m) or float(beside @ beside) > within_m * within_m:
            return float("inf")
        sample = float(distance(self.points_m[:: max(len(self.points_m) // 64, 1)], line).min())
        if sample <= enough_m:
            return sample
        bound = min(sample, within_m)
        outside = np.maximum(np.maximum(low - self.points_m, self.points_m - high), 0.0)
        near = self.points_m[np.einsum("ij,ij->i", outside, outside) <= bound * bound]  # only these can be nearer
        return min(sample, float(distance(near, line).min())) if len(near) else sample
