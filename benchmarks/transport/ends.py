"""The two ends, each in its own process: the camera's publisher and the guidance node's receiver.

Run by ``python -m benchmarks.transport``; each prints one line of JSON.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import numpy as np
import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from tf2_msgs.msg import TFMessage

from stvla_ros.ros import qos
from stvla_ros.ros.convert import matrix_to_transform
from stvla_ros.ros.frames import CameraConfig, RgbdReceiver
from stvla_ros.ros.simulated_camera import CameraPublisher, camera_topics
from stvla_ros.types import Camera, RgbdFrame

PREFIX = "camera/camera"
IDLE_S = 1.5
"""The receiver ends after this time without messages."""


def scene(width_px: int, height_px: int) -> tuple[np.ndarray, np.ndarray, Camera]:
    """Noise of a camera image's size and types; its contents do not matter to the transport."""
    rng = np.random.default_rng(0)
    rgb = rng.integers(0, 256, (height_px, width_px, 3), np.uint8)
    depth_m = rng.uniform(0.3, 1.5, (height_px, width_px)).astype(np.float32)
    K = np.array([[600.0, 0.0, width_px / 2 - 0.5], [0.0, 600.0, height_px / 2 - 0.5], [0.0, 0.0, 1.0]])
    return rgb, depth_m, Camera(K, width_px, height_px, np.eye(4))


def publish(frames: int, rate_hz: float, width_px: int = 640, height_px: int = 480) -> dict[str, Any]:
    """Send frames as the simulated camera does; each carries the time at which the value was handed over."""
    node = Node("bench_camera")
    camera = CameraPublisher(node, camera_topics(PREFIX), millimetres=True, latency_s=0.0)
    rgb, depth_m, intrinsics = scene(width_px, height_px)
    static = node.create_publisher(TFMessage, "/tf_static", qos.LATCHED)
    place = matrix_to_transform(intrinsics.T_base_camera, "panda_link0", intrinsics.frame_id, time.time_ns())
    static.publish(TFMessage(transforms=[place]))
    wait_for_reader(node)
    start = time.monotonic()
    for index in range(frames):
        time.sleep(max(0.0, start + index / rate_hz - time.monotonic()))
        camera.send(RgbdFrame(rgb, depth_m, intrinsics, time.time_ns()))
    time.sleep(0.5)
    camera.close()
    return {"sent": camera.sent}


def wait_for_reader(node: Node, timeout_s: float = 20.0) -> None:
    """Return when all three topics have a reader, and a moment later."""
    topics = (f"{PREFIX}/color/image_raw", f"{PREFIX}/aligned_depth_to_color/image_raw", f"{PREFIX}/color/camera_info")
    end = time.monotonic() + timeout_s
    while not all(node.count_subscribers(topic) for topic in topics):
        if time.monotonic() > end:
            raise TimeoutError("no reader: the receiving process did not start")
        time.sleep(0.05)
    time.sleep(0.5)


class Receiver:
    """Notes the arrival of each complete frame."""

    def __init__(self) -> None:
        self.node = Node("bench_guidance")
        self.latencies_ms: list[float] = []
        self.last = time.monotonic() + 20.0  # until the camera is there
        self.frames = RgbdReceiver(self.node, CameraConfig(), on_frame=self._arrived)

    def _arrived(self, stamp_ns: int) -> None:
        self.latencies_ms.append((time.time_ns() - stamp_ns) * 1e-6)
        self.last = time.monotonic()


def receive() -> dict[str, Any]:
    """Receive frames until there are no more."""
    receiver = Receiver()
    executor = SingleThreadedExecutor()
    executor.add_node(receiver.node)
    while time.monotonic() - receiver.last < IDLE_S:
        executor.spin_once(timeout_sec=0.2)
    return {"latencies_ms": receiver.latencies_ms, "dropped_parts": receiver.frames.dropped}


def main() -> None:
    """``publish FRAMES RATE WIDTH HEIGHT`` or ``receive``."""
    rclpy.init(args=[])
    if sys.argv[1] == "publish":
        frames, rate_hz, width_px, height_px = sys.argv[2:6]
        result = publish(int(frames), float(rate_hz), int(width_px), int(height_px))
    else:
        result = receive()
    print(json.dumps(result), flush=True)
    rclpy.shutdown()


if __name__ == "__main__":
    main()
