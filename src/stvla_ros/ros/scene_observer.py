"""Adds camera images to the planning scene between and during motions, so that it knows what the arm hides later."""

from __future__ import annotations

from collections.abc import Callable
from threading import Event, Thread

import numpy as np

from stvla_ros.errors import CancelToken, StageError
from stvla_ros.motion.collision import VoxelConfig
from stvla_ros.ros.frames import RgbdReceiver
from stvla_ros.ros.robot_state import JointStates
from stvla_ros.types import RgbdFrame, RobotState


class SceneObserver:
    """Takes the newest image ``observe_hz`` times per second, in a thread of its own that nothing waits for.

    An image is left out when it is stale, when it was taken before, while a joint was faster than
    ``observe_below_rad_s``, or when no joint state belongs to it. Speeds that a robot does not measure (NaN) count as
    slow.

    Args:
        frames: Receiver of the camera.
        joints: States of the arm.
        observe: Adds an image, with the arm at its stamp; returns whether it did
            (:meth:`stvla_ros.motion.executor.PlannedExecutor.observe`).
        config: Rate and largest speed.
        useful: Whether a motion may need what an image shows now.
        defect: Receives what ends the thread unexpectedly; motions then see only the images that they begin with.

    Attributes:
        images: Number of images added.
    """

    def __init__(
        self,
        frames: RgbdReceiver,
        joints: JointStates,
        observe: Callable[[RgbdFrame, RobotState], bool],
        config: VoxelConfig,
        useful: Callable[[], bool],
        defect: Callable[[BaseException], None],
    ) -> None:
        self._frames, self._joints, self._observe, self._config = frames, joints, observe, config
        self._useful, self._defect = useful, defect
        self._ended, self._last_ns, self.images = Event(), 0, 0
        self._thread = Thread(target=self._run, name="scene", daemon=True)

    def start(self) -> None:
        """Begin, unless the rate is 0."""
        if self._config.observe_hz > 0:
            self._thread.start()

    def close(self, timeout_s: float) -> None:
        """End; waits for an image in progress."""
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join(timeout_s)

    def _run(self) -> None:
        try:
            while not self._ended.wait(1 / self._config.observe_hz):
                self.look()
        except Exception as error:  # noqa: BLE001 - every motion still has its own image, and stops stay possible
            self._defect(error)

    def look(self) -> bool:
        """Add the newest image if it is new and can be used; returns whether it was added."""
        stamp_ns = self._frames.stamp_ns
        if stamp_ns == self._last_ns or not self._useful():
            return False
        try:
            robot = self._joints.at(stamp_ns)
            if np.abs(robot.dq_rad_s).max() > self._config.observe_below_rad_s:
                return False
            frame = self._frames.wait(stamp_ns, CancelToken(), 0.0)
            self._last_ns = frame.stamp_ns
            if frame.stamp_ns != stamp_ns:  # a newer one came in between
                robot = self._joints.at(frame.stamp_ns)
            added = self._observe(frame, robot)
        except StageError:  # old images and states are reported where a motion needs them
            return False
        self.images += added
        return added
