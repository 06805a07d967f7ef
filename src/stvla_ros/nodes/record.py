"""Records frames and arm states: ``python -m stvla_ros.nodes.record --ros-args -p path:=...``."""

from __future__ import annotations

import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from stvla_ros.config import ConfigError, param
from stvla_ros.data.recording import RecordingWriter
from stvla_ros.description.robot import RobotConfig
from stvla_ros.errors import INTERRUPTED, CancelToken, OutcomeCode, StageError
from stvla_ros.ros.frames import CameraConfig, RgbdReceiver
from stvla_ros.ros.robot_state import JointStateConfig, JointStates
from stvla_ros.ros.run import run, stop
from stvla_ros.ros.stage_node import StageNode
from stvla_ros.types import RgbdFrame


@dataclass(frozen=True)
class RecordConfig:
    """Settings of the record node."""

    path: str = param("", "new folder for the recording")
    frames: int = param(30, "frames to record; the node ends after the last", ge=1, le=100000)
    rate_hz: float = param(5.0, "frames per second", ge=0.1, le=60.0)
    camera: CameraConfig = param(CameraConfig(), "where images come from")  # noqa: RUF009
    joint_states: JointStateConfig = param(JointStateConfig(), "how old arm states may be")  # noqa: RUF009
    robot: RobotConfig = param(RobotConfig(), "which robot")  # noqa: RUF009


class RecordNode(StageNode[RecordConfig]):
    """Writes the newest frame at a fixed rate, each once, with the nearest arm state if joint states come.

    If they come, a frame without an arm state is skipped. When no frame can be written for ``camera.timeout_s``, the
    recording ends.
    """

    def __init__(self) -> None:
        super().__init__("record", RecordConfig)
        if not self.config.path:
            raise ConfigError("record.path: wanted a new folder for the recording, got none.")
        self._writer = RecordingWriter(Path(self.config.path).expanduser())
        self._frames = RgbdReceiver(self, self.config.camera, base_frame=self.config.robot.base_frame)
        self._joints = JointStates(self, self.config.joint_states, self.config.robot)
        self._end = threading.Event()
        self._cancel = CancelToken()
        self._skipped = 0
        self._size: tuple[int, int] | None = None
        self._thread = threading.Thread(target=self._record, name="record", daemon=True)

    def ready(self) -> None:
        """Start the recording."""
        super().ready()
        self._thread.start()

    def _record(self) -> None:
        code, newest_ns, good, why = 0, 0, time.monotonic(), ""
        while len(self._writer) < self.config.frames and not self._end.wait(1.0 / self.config.rate_hz):
            try:
                frame = self._frames.wait(0, self._cancel)
            except StageError as error:
                code = self._failed(error)
                break
            if frame.stamp_ns == newest_ns:
                continue
            newest_ns = frame.stamp_ns
            try:
                self._append(frame)
                good = time.monotonic()
            except StageError as error:
                self._skipped, why = self._skipped + 1, error.sentence
                if time.monotonic() - good > self.config.camera.timeout_s:
                    code = self._failed(error)
                    break
        skipped = self._frames.skipped + self._skipped
        self.get_logger().info(f"{len(self._writer)} frames in {self.config.path}")
        if skipped:
            why = self._frames.why_skipped or why
            self.get_logger().warning(f"{skipped} images could not be used and were skipped, e.g.: {why}")
        stop(code)

    def _append(self, frame: RgbdFrame) -> None:
        """Write a frame. Raises StageError when its size differs from the recording's, or its arm state is missing."""
        robot = self._joints.at(frame.stamp_ns) if self._joints.heard else None
        size = frame.camera.width_px, frame.camera.height_px
        self._size = self._size or size
        if size != self._size:
            raise StageError(
                OutcomeCode.STALE_IMAGE,
                f"The recording has images of {self._size[0]}x{self._size[1]}, but the camera now sends {size[0]}x{size[1]}: "
                "set the camera's size back, or start a new recording.",
            )
        self._writer.append(frame, robot)

    def _failed(self, error: StageError) -> int:
        """Log why the recording ends; returns the exit code."""
        if error.code in INTERRUPTED:
            return 0
        self.get_logger().error(error.sentence)
        return 1

    def close(self, timeout_s: float) -> bool:
        """End the recording."""
        self._end.set()
        self._cancel.cancel()
        deadline = time.monotonic() + timeout_s
        if self._thread.is_alive() and threading.current_thread() is not self._thread:
            self._thread.join(timeout_s)
        return super().close(max(0.0, deadline - time.monotonic())) and not self._thread.is_alive()


def main() -> int:
    """Entry point."""
    return run(RecordNode)


if __name__ == "__main__":
    sys.exit(main())
