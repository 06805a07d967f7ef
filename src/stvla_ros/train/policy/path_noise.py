"""Noise on the paths that a policy is trained along, like a planner's: it learns to take the place from the image."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from stvla_ros.geometry.paths import arc_length, valid_points
from stvla_ros.interfaces import Segmenter
from stvla_ros.perception.guide import GuideConfig, SpatialGuide
from stvla_ros.types import F64, RgbdFrame, Trace3d, TracePlan

KNOT_M = 0.08
"""Errors along a path change over this length: waypoints of a planner are about as far apart."""


@dataclass(frozen=True)
class PathNoise:
    """How far a training path is from the demonstrated one.

    Attributes:
        bias_m: Standard deviation of the shift of the whole path, along each axis.
        waypoint_m: Of the shift of waypoints.
        cut: Share of the paths whose end is missing.
        cut_share: Largest share of the length that is then missing.
    """

    bias_m: float = 0.0
    waypoint_m: float = 0.0
    cut: float = 0.0
    cut_share: float = 0.15

    @property
    def any(self) -> bool:
        """Whether it changes anything."""
        return self.bias_m > 0 or self.waypoint_m > 0 or self.cut > 0


NO_NOISE = PathNoise()
"""Paths as they were demonstrated."""


class NoisyGuide(SpatialGuide):
    """A guide that lifts each plan to a path with noise; mask, paint and path are then all made of this one.

    Args:
        segmenter: See :class:`~stvla_ros.perception.guide.SpatialGuide`.
        config: Of the guide.
        noise: On each path.
        seed: Equal seeds give equal paths.
    """

    def __init__(self, segmenter: Segmenter, config: GuideConfig, noise: PathNoise, seed: int) -> None:
        super().__init__(segmenter, config)
        self._noise, self._random = noise, np.random.default_rng(seed)

    def lift(self, plan: TracePlan, frame: RgbdFrame) -> Trace3d:
        trace = super().lift(plan, frame)
        return disturbed(trace, self._noise, self._random) if self._noise.any else trace


def disturbed(trace: Trace3d, noise: PathNoise, random: np.random.Generator) -> Trace3d:
    """A path with noise; only its valid points are left."""
    points = valid_points(trace)
    if not len(points):
        return trace
    length = arc_length(points)
    knots = np.linspace(0.0, length[-1], max(2, round(length[-1] / KNOT_M) + 1))
    shifts = random.normal(0.0, noise.bias_m, 3) + random.normal(0.0, noise.waypoint_m, (len(knots), 3))
    moved = points + np.column_stack([np.interp(length, knots, axis) for axis in shifts.T])
    left = 1.0 - noise.cut_share * random.random() if random.random() < noise.cut else 1.0
    kept: F64 = moved[length <= left * length[-1] + 1e-9]
    valid = trace.source[(trace.source != 0) & np.isfinite(trace.xyz_m).all(axis=1)]
    return replace(trace, xyz_m=kept.astype(np.float32), source=valid[: len(kept)])
