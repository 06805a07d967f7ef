"""A RealSense camera on the topics of a camera driver: colour, aligned depth, camera info, its place, diagnostics."""

from __future__ import annotations

import threading

from rclpy.node import Node
from tf2_msgs.msg import TFMessage

from stvla_ros.camera.place import PlaceConfig
from stvla_ros.camera.realsense import RealSenseCamera
from stvla_ros.camera.settings import RealSenseConfig
from stvla_ros.ros import qos
from stvla_ros.ros.convert import matrix_to_transform
from stvla_ros.ros.frames import CameraConfig
from stvla_ros.ros.simulated_camera import CameraPublisher, CameraTopics


class RealSensePublisher:
    """Publishes the frames of a RealSense camera; they are straightened, so the camera info has no distortion.

    Args:
        node: Owner of the publishers; its clock is the one of the stamps.
        config: The camera's settings.
        place: Pose of the camera; its static transform is published if there is one.
        topics: Names of the topics.
        frame_id: Optical frame of colour.
        base_frame: The robot's base frame.
        millimetres: Send depth as 16UC1 instead of 32FC1.

    Raises:
        ConfigError: pyrealsense2 is missing; the recording or the place is wrong.
    """

    def __init__(
        self,
        node: Node,
        config: RealSenseConfig,
        place: PlaceConfig,
        topics: CameraConfig,
        frame_id: str,
        base_frame: str,
        millimetres: bool,
    ) -> None:
        T, clock = place.T_base_camera(), node.get_clock()
        self._static = node.create_publisher(TFMessage, "/tf_static", qos.LATCHED)
        names = CameraTopics(topics.color, topics.depth, topics.info)
        self._images = CameraPublisher(node, names, millimetres, latency_s=0.0)
        self.camera = RealSenseCamera(
            config, T, frame_id, self._images.send, node.get_logger().warning, lambda: int(clock.now().nanoseconds)
        )
        if T is not None:
            stamp_ns = int(clock.now().nanoseconds)
            self._static.publish(TFMessage(transforms=[matrix_to_transform(T, base_frame, frame_id, stamp_ns)]))

    def run(self, end: threading.Event) -> None:
        """Publish until ``end`` is set."""
        end.wait()

    def close(self, timeout_s: float) -> bool:
        """End the camera, then the publishing; False when one does not end."""
        done = self.camera.close(timeout_s)
        return self._images.close() and done
