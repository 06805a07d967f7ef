"""The camera node: a RealSense camera, or a recording or a rosbag2 that is replayed on a camera's topics, in a loop."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from rclpy.node import Node
from sensor_msgs.msg import CameraInfo, Image, JointState
from tf2_msgs.msg import TFMessage

from stvla_ros.camera.place import PlaceConfig
from stvla_ros.camera.settings import RealSenseConfig
from stvla_ros.config import ConfigError, param
from stvla_ros.data.bag_hints import bag_hints
from stvla_ros.data.recording import RecordedFrame, Recording, is_bag
from stvla_ros.description.robot import RobotConfig
from stvla_ros.ros import qos
from stvla_ros.ros.bag import CameraBag
from stvla_ros.ros.bag_replay import BagClock, BagReplay, SystemClock
from stvla_ros.ros.convert import (
    camera_to_info,
    depth_to_image,
    depth_to_image_mm,
    header,
    matrix_to_transform,
    rgb_to_image,
)
from stvla_ros.ros.frames import CameraConfig
from stvla_ros.ros.realsense_publisher import RealSensePublisher
from stvla_ros.ros.robot_state import state_to_msg
from stvla_ros.ros.run import run
from stvla_ros.ros.stage_node import StageNode

SOURCES = ("recorded", "realsense")

MEMORY_FRAMES = 200
"""Further frames of longer recordings are read from disk in every round."""


@dataclass(frozen=True)
class CameraNodeConfig:
    """Settings of the camera or of the replay."""

    source: str = param("recorded", "recorded: replay path; realsense: a RealSense camera", choices=SOURCES)
    path: str = param("", "folder with a recording, or a rosbag2: its folder or a single file")
    rate_hz: float = param(15.0, "frames per second of a recording; a bag keeps its own pace", ge=0.1, le=60.0)
    loop: bool = param(True, "start again after the last frame; false: the last frame of a recording is repeated")
    depth_encoding: str = param("32FC1", "32FC1 (metres, exact) or 16UC1 (millimetres)", choices=("32FC1", "16UC1"))
    joint_states: bool = param(True, "publish the recorded arm states too; set it to false next to a real robot")
    frame_id: str = param("camera_color_optical_frame", "optical frame of a RealSense camera's images")
    remap: tuple[str, ...] = param((), "a bag's topics with other names: OLD:=NEW each")
    intrinsics: str = param("", "lens in place of a bag's: a camera_info file (YAML), or fx,fy,cx,cy [px]")
    publish_clock: bool = param(
        False, "publish a bag's time on /clock and keep its stamps, for nodes with use_sim_time; false: stamps of now"
    )
    speed: float = param(1.0, "with publish_clock: seconds of the bag per second", ge=0.01, le=100.0)
    realsense: RealSenseConfig = param(RealSenseConfig(), "for source realsense")  # noqa: RUF009
    place: PlaceConfig = param(PlaceConfig(), "where a RealSense camera is, or that of a bag")  # noqa: RUF009
    topics: CameraConfig = param(CameraConfig(), "topic names")  # noqa: RUF009
    robot: RobotConfig = param(RobotConfig(), "which robot")  # noqa: RUF009


class CameraNode(StageNode[CameraNodeConfig]):
    """Publishes colour, aligned depth, camera info, the camera's pose and joint states with current stamps."""

    def __init__(self) -> None:
        super().__init__("camera", CameraNodeConfig)
        config = self.config
        self._end = threading.Event()
        self._live: RealSensePublisher | None = None
        self._run: Callable[[threading.Event], None]
        if config.source == "realsense":
            millimetres = config.depth_encoding == "16UC1"
            self._live = RealSensePublisher(
                self,
                config.realsense,
                config.place,
                config.topics,
                config.frame_id,
                config.robot.base_frame,
                millimetres,
            )
            self._run = self._live.run
        else:
            self._run = self._replay_of(config)
        self._thread = threading.Thread(target=self._work, name="camera", daemon=True)

    def _replay_of(self, config: CameraNodeConfig) -> Callable[[threading.Event], None]:
        if not config.path:
            raise ConfigError("camera.path: wanted the folder of a recording or a rosbag2, got none.")
        if self.get_parameter("use_sim_time").value:
            raise ConfigError(
                "camera.use_sim_time: wanted false, got true: this node gives the time, it does not follow another. Set it to false; "
                "for the other nodes true with camera.publish_clock, else false too."
            )
        path = Path(config.path).expanduser()
        if not is_bag(path):
            if config.publish_clock:
                raise ConfigError(f"camera.publish_clock: wanted a rosbag2 at camera.path, found the recording {path}.")
            return FrameReplay(self, Recording(path), config).run
        hints = bag_hints(config.remap, config.place, config.intrinsics)
        bag = CameraBag(path, config.topics, config.robot, config.joint_states, hints)
        clock = BagClock(self, bag.first_ns, config.speed) if config.publish_clock else SystemClock()
        return BagReplay(self, bag, config.loop, clock).run

    def ready(self) -> None:
        """Start the replay."""
        super().ready()
        self._thread.start()

    def _work(self) -> None:
        self._run(self._end)
        if not self._end.is_set():
            self.health["replay"] = "at its end"
            self.get_logger().info(
                f"{self.config.path}: the replay has ended; no more images come (camera.loop is false)."
            )

    def _diagnose(self) -> None:
        if self._live is not None:
            self._trouble = self._live.camera.trouble
        super()._diagnose()

    def ages(self) -> dict[str, str]:
        """Rate, drops, the last interruption and temperatures of a RealSense camera."""
        return {} if self._live is None else self._live.camera.diagnostics()

    def close(self, timeout_s: float) -> bool:
        """End the camera or the replay."""
        self._end.set()
        done = self._live is None or self._live.close(timeout_s)
        if self._thread.is_alive():
            self._thread.join(timeout_s)
        return super().close(timeout_s) and done and not self._thread.is_alive()


class FrameReplay:
    """Publishes the frames of a recording at a fixed rate, stamped now."""

    def __init__(self, node: Node, recording: Recording, config: CameraNodeConfig) -> None:
        self._node, self._recording, self._config = node, recording, config
        recording[0]  # fail now if it cannot be read, not in the first round
        self._cache: dict[int, RecordedFrame] = {}
        topics = config.topics
        self._color = node.create_publisher(Image, topics.color, qos.IMAGE)
        self._depth = node.create_publisher(Image, topics.depth, qos.IMAGE)
        self._info = node.create_publisher(CameraInfo, topics.info, qos.IMAGE)
        self._static = node.create_publisher(TFMessage, "/tf_static", qos.LATCHED)
        joints = {config.robot.joint_states, config.robot.gripper_joint_states} if config.joint_states else ()
        self._joints = [node.create_publisher(JointState, topic, qos.EVENT) for topic in joints]
        self._pose: np.ndarray | None = None

    def run(self, end: threading.Event) -> None:
        """Replay until ``end`` is set."""
        due, i = time.monotonic(), 0
        while not end.wait(max(0.0, due - time.monotonic())):
            due = max(due + 1.0 / self._config.rate_hz, time.monotonic())
            self._publish(self._frame(i))
            i = (i + 1) % len(self._recording) if self._config.loop else min(i + 1, len(self._recording) - 1)

    def _frame(self, i: int) -> RecordedFrame:
        if i not in self._cache and len(self._cache) < MEMORY_FRAMES:
            self._cache[i] = self._recording[i]
        return self._cache[i] if i in self._cache else self._recording[i]

    def _publish(self, recorded: RecordedFrame) -> None:
        frame, stamp_ns = recorded.frame, int(self._node.get_clock().now().nanoseconds)
        if recorded.robot is not None:
            joints = state_to_msg(replace(recorded.robot, stamp_ns=stamp_ns), self._config.robot)
            for publisher in self._joints:
                publisher.publish(joints)
        if self._pose is None or not np.array_equal(self._pose, frame.camera.T_base_camera):
            self._pose = frame.camera.T_base_camera
            base = self._config.robot.base_frame
            transform = matrix_to_transform(self._pose, base, frame.camera.frame_id, stamp_ns)
            self._static.publish(TFMessage(transforms=[transform]))
        head = header(stamp_ns, frame.camera.frame_id)
        to_depth = depth_to_image if self._config.depth_encoding == "32FC1" else depth_to_image_mm
        self._info.publish(camera_to_info(frame.camera, head))
        self._depth.publish(to_depth(frame.depth_m, head))
        self._color.publish(rgb_to_image(frame.rgb, head))


def main() -> int:
    """Entry point."""
    return run(CameraNode)


if __name__ == "__main__":
    sys.exit(main())
