"""An arm and a gripper without physics, to test the actions in front of them."""

import time
from threading import Lock

import numpy as np
from control_msgs.action import FollowJointTrajectory

from stvla_ros.description.panda import HOME_Q_RAD
from stvla_ros.ros.trajectory_server import MotionProgress, MotionState

BRAKE_S = 0.1


class KinematicArm:
    """Is always exactly on its trajectory. Stopping takes :data:`BRAKE_S`."""

    def __init__(self):
        self._lock = Lock()
        self._motion, self._path, self._started = 0, None, 0.0
        self._stop_s, self._end = np.inf, None
        self._rest = np.array(HOME_Q_RAD)
        self.fail_with = None  # (code, text) of the next motion

    def q_rad(self):
        with self._lock:
            return self._now()[0]

    def state(self):
        """(q, dq) now."""
        with self._lock:
            return self._now()

    def start(self, path, tolerances):
        with self._lock:
            self._rest = self._now()[0]
            self._motion, self._path, self._started = self._motion + 1, path, time.monotonic()
            self._stop_s, self._end = np.inf, None
            return self._motion

    def stop(self, motion):
        with self._lock:
            if motion == self._motion and self._end is None:
                self._stop_s = min(self._stop_s, time.monotonic() - self._started)

    def progress(self, motion):
        with self._lock:
            now, t = self._now(), time.monotonic() - self._started
            if motion != self._motion:
                return MotionProgress(MotionState.REPLACED, t, now, now, error="Replaced by a newer goal.")
            if self.fail_with:
                code, text = self.fail_with
                self._path = None
                return MotionProgress(MotionState.FAILED, t, now, now, code, text)
            state = MotionState.ACTIVE
            if t > self._stop_s + BRAKE_S:
                state = MotionState.STOPPED
            elif t > self._path.t_s[-1]:
                state = MotionState.REACHED
            return MotionProgress(state, t, now, now, FollowJointTrajectory.Result.SUCCESSFUL, "")

    def _now(self):
        if self._path is None:
            return self._rest, np.zeros(7)
        t = min(time.monotonic() - self._started, self._stop_s + BRAKE_S)
        braking = t >= self._stop_s
        moving = t < self._path.t_s[-1] and not (braking and t >= self._stop_s + BRAKE_S)
        q, dq = (
            np.array([np.interp(t, self._path.t_s, column) for column in values.T])
            for values in (self._path.q_rad, self._path.dq_rad_s)
        )
        return q, dq if moving else np.zeros(7)


class KinematicGripper:
    """Fingers at 0.1 m/s that stop at an object of ``object_m`` between them."""

    def __init__(self, object_m=0.0):
        self.object_m = object_m
        self._from_m, self._to_m, self._started = 0.08, 0.08, time.monotonic()

    def width_m(self):
        way = self._to_m - self._from_m
        gone = min(abs(way), 0.1 * (time.monotonic() - self._started))
        return max(self._from_m + np.sign(way) * gone, self.object_m)

    def move(self, width_m, force_n):
        self._from_m, self._to_m, self._started = self.width_m(), width_m, time.monotonic()
