"""Which instances matter: those that a tube around the path touches (paper 3.3.2)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from stvla_ros.geometry.components import member_pixels
from stvla_ros.geometry.paths import distance, simplify
from stvla_ros.types import F32, I32, Segments, Trace3d


@dataclass(frozen=True)
class Relevance:
    """Outcome of the tube test.

    Attributes:
        kept: Instance ids that stay, ascending.
        removed: The others, ascending.
        robot_inside: Pixels of the robot (or what it holds) lie in the tube.
    """

    kept: tuple[int, ...]
    removed: tuple[int, ...]
    robot_inside: bool


def relevant(trace: Trace3d, segments: Segments, points_m: F32, radius_m: float, end_radius_m: float) -> Relevance:
    """Sort the instances by the tube.

    The tube is the union of balls of ``radius_m`` along the polyline. Its ends get a second chance, since a
    trace may end short of the goal: when no kept instance lies within ``end_radius_m`` of an end, the nearest
    instance that does is kept too (not at the start while the robot is there: then it holds the object).

    Args:
        trace: The path.
        segments: Instances of the frame.
        points_m: (3, H, W) cloud of the same frame in the base frame.
        radius_m: Tube radius r.
        end_radius_m: Reach of the end rule.
    """
    line = simplify(trace.xyz_m[trace.source != 0].astype(np.float64))
    flat = points_m.reshape(3, -1)
    clouds = [_finite(flat[:, pixels]) for pixels in _members(segments)]
    robot = _finite(flat[:, np.flatnonzero(segments.labels.ravel() == -1)[::4]])
    to_line = [_least(cloud, line) for cloud in clouds]
    keep = {i for i, d in zip(segments.ids, to_line, strict=True) if d <= radius_m}
    robot_inside = _least(robot, line) <= radius_m
    at_start = _least(robot, line[:1]) <= radius_m
    for end in (() if at_start else (line[:1],)) + (line[-1:],):
        to_end = [_least(cloud, end) for cloud in clouds]
        if not any(d <= end_radius_m and i in keep for i, d in zip(segments.ids, to_end, strict=True)):
            keep |= {i for i, d in zip(segments.ids, to_end, strict=True) if d == min(to_end) and d <= end_radius_m}
    return Relevance(tuple(sorted(keep)), tuple(i for i in segments.ids if i not in keep), robot_inside)


def _members(segments: Segments) -> list[npt.NDArray[np.intp]]:
    """Pixels per id, in the order of ``segments.ids``."""
    labels: I32 = segments.labels
    pixels = member_pixels(labels, max(segments.ids, default=0))
    return [pixels[i - 1] for i in segments.ids]


def _finite(points_m: F32) -> F32:
    return points_m[:, np.isfinite(points_m[2])].T


def _least(points_m: F32, line: npt.NDArray[np.float64]) -> float:
    """Least distance of (N, 3) points to a polyline; inf for none."""
    if not len(points_m):
        return float("inf")
    low, high = line.min(axis=0), line.max(axis=0)
    gap = np.linalg.norm(np.maximum(np.maximum(low - points_m, points_m - high), 0.0), axis=1)  # to the line's box
    sample = distance(points_m[:: max(len(points_m) // 64, 1)], line).min()
    near = points_m[gap <= sample]  # only these can be nearer than the best of the sample
    return float(min(sample, distance(near, line).min())) if len(near) else float(sample)
