"""The camera node with RealSense cameras: recordings of librealsense's recorder in place of the hardware."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import stalls
from camera.recordings import scene
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.node import Node
from sensor_msgs.msg import CameraInfo
from system.conftest import Spinner

from benchmarks.camera.recorder import Rig, record, shots
from stvla_ros.geometry.se3 import pose, rotation_z, to_quaternion
from stvla_ros.ros import qos
from stvla_ros.ros.frames import CameraConfig, RgbdReceiver
from stvla_ros.ros.freshness import now

OTHER = "999999999999"
FRONT = CameraConfig()
WRIST = CameraConfig(*(f"wrist/{topic}" for topic in (FRONT.color, FRONT.depth, FRONT.info)))
T = pose(rotation_z(0.3), (1.0, 0.2, 0.7))


@pytest.fixture
def node(ros: Spinner) -> Node:
    return ros.add(Node("viewer"))


def parameters(path: Path, **more: Any) -> list[str]:
    values = {"source": "realsense", "realsense.file": str(path), "realsense.filters.spatial": "false", **more}
    return [word for name, value in values.items() for word in ("-p", f"{name}:={value}")]


def until(what: Callable[[], Any], timeout_s: float = 30.0) -> None:
    end = stalls.clock() + timeout_s
    while not what():
        assert stalls.clock() < end
        time.sleep(0.02)


def test_two_cameras_on_their_topics(node: Node, start: Callable[..., Any], tmp_path: Path) -> None:
    """Two nodes: one placed by numbers, the other by the file of a calibration; pixels, depth, stamps, diagnostics."""
    frame, depth = scene(Rig())
    front = record(tmp_path / "a.db3", shots(30, frame.rgb, depth))
    red = np.full_like(frame.rgb, 9)
    wrist = record(tmp_path / "b.db3", shots(30, red, depth), Rig(serial=OTHER))
    place, q = [float(v) for v in T[:3, 3]], [float(v) for v in to_quaternion(T[:3, :3])]
    (tmp_path / "calibration.yaml").write_text(f"camera: {{translation_m: {place}, quaternion_xyzw: {q}}}\n")
    start(
        "stvla_ros.nodes.camera", "--ros-args",
        *parameters(front, **{"place.translation_m": place, "place.quaternion_xyzw": q}),
    )  # fmt: skip
    more = {"place.file": tmp_path / "calibration.yaml", "frame_id": "wrist_optical_frame", "depth_encoding": "16UC1"}
    start("stvla_ros.nodes.camera", "--ros-args", "-r", "__ns:=/wrist", *parameters(wrist, **more))
    one, two = RgbdReceiver(node, FRONT), RgbdReceiver(node, WRIST)
    told: dict[str, Any] = {}
    node.create_subscription(
        DiagnosticArray, "/diagnostics", lambda m: told.update({m.status[0].name: m.status[0]}), 10
    )
    infos: list[CameraInfo] = []
    node.create_subscription(CameraInfo, FRONT.info, infos.append, qos.IMAGE_BEST_EFFORT)
    until(lambda: one.stamp_ns and two.stamp_ns and infos)
    got, other = one.capture(), two.capture()
    np.testing.assert_array_equal(got.rgb, frame.rgb)
    assert np.nanmedian(np.abs(got.depth_m - frame.depth_m)) < 0.001
    np.testing.assert_allclose(got.camera.T_base_camera, T, atol=1e-9)
    np.testing.assert_allclose(got.camera.K, frame.camera.K, rtol=1e-6)
    assert got.camera.frame_id == "camera_color_optical_frame"
    assert (infos[0].distortion_model, list(infos[0].d)) == ("plumb_bob", [0.0] * 5)
    assert (other.camera.frame_id, int(other.rgb.max())) == ("wrist_optical_frame", 9)
    np.testing.assert_array_equal(np.isnan(other.depth_m), np.isnan(got.depth_m))
    np.testing.assert_allclose(other.camera.T_base_camera, T, atol=1e-9)
    assert one.age_s() < 5.0
    assert one.stamp_ns <= now(node).ns
    names = ("stvla: camera", "stvla: wrist/camera")
    until(lambda: all(name in told and told[name].message == "ready" for name in names))
    for name in names:
        values = {v.key: v.value for v in told[name].values}
        assert float(values["image rate [Hz]"]) > 5
        assert "without depth" in values["dropped"]


def test_wrong_settings_end_the_node(start: Callable[..., Any]) -> None:
    process = start("stvla_ros.nodes.camera", "--ros-args", *parameters(Path("/nowhere.db3")))
    assert process.wait() == 2
    assert "wanted a recording of librealsense (.db3), found no file /nowhere.db3" in process.output
    assert len(process.said()) == 1


def test_without_a_camera_the_node_waits_and_says_so(node: Node, start: Callable[..., Any]) -> None:
    """It is alive, warns in its diagnostics and its log, and would start when one is plugged in."""
    told: list[Any] = []
    node.create_subscription(DiagnosticArray, "/diagnostics", lambda m: told.append(m.status[0]), 10)
    process = start("stvla_ros.nodes.camera", "--ros-args", "-p", "source:=realsense", "-p", "realsense.serial:='012'")
    until(lambda: any("Wanted RealSense camera 012, found none" in status.message for status in told))
    assert told[-1].level == b"\x01"
    assert "Wanted RealSense camera 012, found none: check its cable" in process.output
    assert process.stop() == 0
