"""What is sent to the robot: a path on the robot's grid of 1 ms, and the brake that ends it early."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from stvla_ros.description.braking import fastest_stop
from stvla_ros.description.robot import ArmLimits
from stvla_ros.types import F64

CYCLE_S = 0.001
"""One control cycle of the robot."""

FADE_S = 0.2
"""The distance between the arm and the path's start fades out in this time."""

MARGIN = 0.99
"""Share of the limits that a brake uses: the robot compares differences of rounded numbers."""

_X = np.arange(0.0, 1.0, CYCLE_S / FADE_S)[:, None]
_FADE = 1.0 - _X**3 * (10.0 - 15.0 * _X + 6.0 * _X**2)
_SLOPE = -30.0 * _X**2 * (1.0 - _X) ** 2 / FADE_S
_BEND = -60.0 * _X * (1.0 - _X) * (1.0 - 2.0 * _X) / FADE_S**2


@dataclass(frozen=True, eq=False)
class Samples:
    """A path on the robot's grid: sample k is commanded k cycles after the start.

    Attributes:
        q: (K, 7) positions [rad].
        dq: (K, 7) velocities [rad/s].
        ddq: (K, 7) accelerations [rad/s^2].
    """

    q: F64
    dq: F64
    ddq: F64

    def starting_at(self, q_rad: F64) -> Samples:
        """The same path, whose start is moved to ``q_rad`` (7,); the distance fades within :data:`FADE_S`."""
        n, offset = min(len(self.q), len(_FADE)), q_rad - self.q[0]
        moved = Samples(self.q.copy(), self.dq.copy(), self.ddq.copy())
        moved.q[:n] += _FADE[:n] * offset
        moved.dq[:n] += _SLOPE[:n] * offset
        moved.ddq[:n] += _BEND[:n] * offset
        return moved


class Brake:
    """The fastest jerk-limited stop from a commanded state, on the line of motion where that is possible.

    Args:
        q: (7,) the last commanded position [rad].
        dq: (7,) its velocity [rad/s].
        ddq: (7,) its acceleration [rad/s^2].
        limits: The arm's.

    Raises:
        StageError: INTERNAL when there is no such stop.
    """

    def __init__(self, q: F64, dq: F64, ddq: F64, limits: ArmLimits) -> None:
        self._trajectory = fastest_stop(q, dq, ddq, limits, MARGIN)
        self.cycles = int(np.ceil(self._trajectory.duration / CYCLE_S))
        """Cycles from the last command of the motion to standstill."""

    def at(self, cycle: int) -> tuple[list[float], list[float]]:
        """Position and velocity ``cycle`` cycles after the last command of the motion.

        Begin with 1: the position of cycle 0 was sent already, and sent again it would be a stop within one cycle.
        """
        q, dq, _ = self._trajectory.at_time(min(cycle * CYCLE_S, self._trajectory.duration))
        return q, dq
