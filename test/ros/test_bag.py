"""The camera node on a rosbag2, written here with the stack's own messages."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rclpy.serialization import serialize_message
from ros.brain_bench import BrainBench, record_scene
from rosbags.rosbag2 import Writer
from rosbags.typesys import Stores, get_typestore
from tf2_msgs.msg import TFMessage

from stvla_ros.config import ConfigError
from stvla_ros.data.recording import RecordedFrame, Recording
from stvla_ros.ros import convert
from stvla_ros.ros.bag import IMAGE, INFO, JOINTS, TF, Bag, camera_bag, is_bag
from stvla_ros.ros.frames import CameraConfig
from stvla_ros.ros.robot_state import state_to_msg

TOPICS = CameraConfig()
FRAMES = 20


def write_bag(folder: Path, recorded: RecordedFrame, prefix: str = "/") -> Path:
    """One frame, again and again at 10 Hz, with the camera's transform and the arm's state."""
    frame, start_ns = recorded.frame, recorded.frame.stamp_ns
    store = get_typestore(Stores.ROS2_JAZZY)
    with Writer(folder, version=9) as writer:
        kinds = {TOPICS.color: IMAGE, TOPICS.depth: IMAGE, TOPICS.info: INFO, "joint_states": JOINTS, "tf_static": TF}
        rooms = {t: writer.add_connection(prefix + t, kind, typestore=store) for t, kind in kinds.items()}
        camera = frame.camera
        transform = convert.matrix_to_transform(camera.T_base_camera, "panda_link0", camera.frame_id, start_ns)
        writer.write(rooms["tf_static"], start_ns, serialize_message(TFMessage(transforms=[transform])))
        for i in range(FRAMES):
            stamp_ns = start_ns + i * 100_000_000
            head = convert.header(stamp_ns, camera.frame_id)
            joints = state_to_msg(recorded.robot)  # type: ignore[arg-type]
            joints.header.stamp = head.stamp
            writer.write(rooms["joint_states"], stamp_ns, serialize_message(joints))
            for topic, message in (
                (TOPICS.color, convert.rgb_to_image(frame.rgb, head)),
                (TOPICS.depth, convert.depth_to_image(frame.depth_m, head)),
                (TOPICS.info, convert.camera_to_info(camera, head)),
            ):
                writer.write(rooms[topic], stamp_ns, serialize_message(message))
    return folder


@pytest.fixture
def recorded(tmp_path: Path) -> RecordedFrame:
    return Recording(record_scene(tmp_path / "recording"))[0]  # type: ignore[no-any-return]


def test_a_planner_works_on_a_replayed_bag(
    ros: Any, start: Callable[..., Any], tmp_path: Path, recorded: RecordedFrame
) -> None:
    bench = BrainBench(ros, start)
    bench.start("camera", "planner", "guidance", camera__path=str(write_bag(tmp_path / "bag", recorded)))
    plan = bench.lifted()
    assert len(bench.trace(plan.plan_id).points) > 8


def test_messages_come_as_recorded(tmp_path: Path, recorded: RecordedFrame) -> None:
    folder = write_bag(tmp_path / "bag", recorded)
    assert is_bag(folder)
    assert not is_bag(tmp_path / "recording")
    messages = list(camera_bag(folder, TOPICS, robot=None))
    assert {m.topic for m in messages} == {"/tf_static", *(f"/{t}" for t in (TOPICS.color, TOPICS.depth, TOPICS.info))}
    images = [m for m in messages if m.topic == f"/{TOPICS.color}"]
    assert [m.after_ns for m in images] == [i * 100_000_000 for i in range(FRAMES)]
    assert bytes(images[0].message.data) == recorded.frame.rgb.tobytes()


def test_a_bag_with_other_topics_is_refused_with_what_it_has(
    start: Callable[..., Any], tmp_path: Path, recorded: RecordedFrame
) -> None:
    folder = write_bag(tmp_path / "bag", recorded, prefix="/elsewhere/")
    node = start("stvla_ros.nodes.camera", "--ros-args", "-p", f"camera:path:={folder}")
    assert node.wait() == 2
    (sentence,) = node.said()
    assert f"wanted /{TOPICS.color} (sensor_msgs/msg/Image)" in sentence
    assert f"/elsewhere/{TOPICS.color} (sensor_msgs/msg/Image)" in sentence


def test_a_folder_that_only_looks_like_a_bag(tmp_path: Path) -> None:
    (tmp_path / "metadata.yaml").write_text("nothing: here\n")
    with pytest.raises(ConfigError, match="wanted a rosbag2"):
        Bag(tmp_path, {}, {})
