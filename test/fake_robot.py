"""An arm without physics: it is always exactly where its path says."""

from __future__ import annotations

import time
from dataclasses import dataclass
from threading import Event, RLock

import numpy as np

from stvla_ros.config import param
from stvla_ros.description.kinematics import tcp_pose
from stvla_ros.description.panda import HOME_Q_RAD, MAX_WIDTH_M
from stvla_ros.errors import CancelToken, OutcomeCode, StageError
from stvla_ros.types import F64, JointPath, RobotState


@dataclass(frozen=True)
class FakeRobotConfig:
    """Settings of the fake arm."""

    real_time: bool = param(False, "take as long as a real arm would; otherwise motions take no time")
    period_s: float = param(0.01, "step of the clock [s]", ge=0.001, le=0.1)
    gripper_speed_m_s: float = param(0.1, "speed of opening and closing [m/s]", ge=0.01, le=1.0)
    held_width_m: float = param(0.0, "width of what is between the fingers; they close no further [m]", ge=0.0, le=0.08)


class FakeRobot:
    """A kinematic Robot with its own clock."""

    Config = FakeRobotConfig

    def __init__(self, config: FakeRobotConfig | None = None, q_rad: F64 = HOME_Q_RAD) -> None:
        self.config = config or FakeRobotConfig()
        self._lock = RLock()
        self._stop = Event()
        self._q, self._dq, self._width_m, self._time_ns = np.array(q_rad), np.zeros(7), MAX_WIDTH_M, 0

    def state(self) -> RobotState:
        with self._lock:
            return RobotState(self._q.copy(), self._dq.copy(), tcp_pose(self._q), self._width_m, self._time_ns)

    def follow(self, path: JointPath, cancel: CancelToken) -> None:
        """Move along a path (linear between samples).

        Raises:
            StageError: The reason of ``cancel`` or CANCELED after :meth:`stop`; the arm then stands where
                it was. CONTROLLER_FAILED when the path starts more than 0.05 rad from the arm.
        """
        self._begin(cancel)
        gap = float(np.abs(path.q_rad[0] - self._q).max())
        if gap > 0.05:
            raise StageError(OutcomeCode.CONTROLLER_FAILED, f"The path starts {gap:.3f} rad from the arm.")
        end_s = float(path.t_s[-1])
        for t in np.append(np.arange(float(path.t_s[0]), end_s, self.config.period_s), end_s):
            self._interrupted(cancel)
            with self._lock:
                self._q = np.array([np.interp(t, path.t_s, joint) for joint in path.q_rad.T])
                self._dq = np.array([np.interp(t, path.t_s, joint) for joint in path.dq_rad_s.T])
            self._tick(cancel)
        with self._lock:
            self._dq = np.zeros(7)

    def move_gripper(self, width_m: float, cancel: CancelToken) -> float:
        """Open or close; returns the width reached.

        Raises:
            StageError: The reason of ``cancel``, or CANCELED after :meth:`stop`.
        """
        self._begin(cancel)
        goal = max(min(width_m, MAX_WIDTH_M), self.config.held_width_m)
        stride = self.config.gripper_speed_m_s * self.config.period_s
        while self._width_m != goal:
            self._interrupted(cancel)
            with self._lock:
                self._width_m += float(np.clip(goal - self._width_m, -stride, stride))
            self._tick(cancel)
        return self._width_m

    def stop(self) -> None:
        """Stand still now."""
        self._stop.set()
        with self._lock:
            self._dq = np.zeros(7)

    def _begin(self, cancel: CancelToken) -> None:
        cancel.raise_if_set()
        self._stop.clear()

    def _interrupted(self, cancel: CancelToken) -> None:
        if cancel.is_set() or self._stop.is_set():
            with self._lock:
                self._dq = np.zeros(7)
            cancel.raise_if_set()
            raise StageError(OutcomeCode.CANCELED, "The robot was stopped.")

    def _tick(self, cancel: CancelToken) -> None:
        with self._lock:
            self._time_ns += round(self.config.period_s * 1e9)
        if self.config.real_time:
            time.sleep(self.config.period_s)
