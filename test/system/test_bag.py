"""The camera node on a rosbag2, written here with the stack's own messages."""

from __future__ import annotations

import os
import sqlite3
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rclpy.node import Node
from rclpy.serialization import serialize_message
from ros.bags import OPTICAL, START, TENTH, record_scene, shots, static, usual, write
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore
from sensor_msgs.msg import CameraInfo, Image
from system.brain_harness import BrainHarness
from tf2_msgs.msg import TFMessage

from stvla_ros.config import ConfigError
from stvla_ros.data.recording import RecordedFrame, Recording, RecordingWriter, is_bag
from stvla_ros.errors import CancelToken
from stvla_ros.ros import convert, qos
from stvla_ros.ros.bag import Bag, CameraBag
from stvla_ros.ros.bag_replay import BagReplay
from stvla_ros.ros.bag_topics import IMAGE, INFO, JOINTS, TF
from stvla_ros.ros.frames import CameraConfig, RgbdReceiver
from stvla_ros.ros.robot_state import state_to_msg
from stvla_ros.ros.tf import TransformBuffer

TOPICS = CameraConfig()
FRAMES = 20


def write_bag(folder: Path, recorded: RecordedFrame, prefix: str = "/", frames: int = FRAMES) -> Path:
    """One frame, again and again at 10 Hz, with the camera's transform and the arm's state."""
    frame, start_ns = recorded.frame, recorded.frame.stamp_ns
    store = get_typestore(Stores.ROS2_JAZZY)
    with Writer(folder, version=9) as writer:
        kinds = {TOPICS.color: IMAGE, TOPICS.depth: IMAGE, TOPICS.info: INFO, "joint_states": JOINTS, "tf_static": TF}
        rooms = {t: writer.add_connection(prefix + t, kind, typestore=store) for t, kind in kinds.items()}
        camera = frame.camera
        transform = convert.matrix_to_transform(camera.T_base_camera, "panda_link0", camera.frame_id, start_ns)
        writer.write(rooms["tf_static"], start_ns, serialize_message(TFMessage(transforms=[transform])))
        for i in range(frames):
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
    """Its topics have other names: the camera node finds them, and says so."""
    harness = BrainHarness(ros, start)
    harness.start("camera", "planner", "guidance", camera__path=str(write_bag(tmp_path / "bag", recorded, "/their/")))
    assert f"found by type: /their/{TOPICS.color} as /{TOPICS.color}" in harness.processes["camera"].output
    plan = harness.lifted()
    assert len(harness.trace(plan.plan_id).points) > 8


def test_messages_come_as_recorded(tmp_path: Path, recorded: RecordedFrame) -> None:
    folder = write_bag(tmp_path / "bag", recorded)
    assert is_bag(folder)
    assert not is_bag(tmp_path / "recording")
    messages = list(CameraBag(folder, TOPICS, robot=None))
    assert {m.topic for m in messages} == {"/tf_static", *(f"/{t}" for t in (TOPICS.color, TOPICS.depth, TOPICS.info))}
    images = [m for m in messages if m.topic == f"/{TOPICS.color}"]
    assert [m.after_ns for m in images] == [i * 100_000_000 for i in range(FRAMES)]
    assert bytes(images[0].message.data) == recorded.frame.rgb.tobytes()


def test_a_topic_named_for_a_bag_that_it_does_not_have(
    start: Callable[..., Any], tmp_path: Path, recorded: RecordedFrame
) -> None:
    folder, settings = write_bag(tmp_path / "bag", recorded), tmp_path / "camera.yaml"
    lines = ("camera:", "  ros__parameters:", f"    path: {folder}", f"    remap: ['left/image:={TOPICS.color}']")
    settings.write_text("\n".join(lines))
    node = start("stvla_ros.nodes.camera", "--ros-args", "--params-file", str(settings))
    assert node.wait() == 2
    (sentence,) = node.said()
    assert f"remap: wanted /left/image in the bag to be read as /{TOPICS.color}; it has /camera/" in sentence


def test_damage_that_shows_while_a_bag_is_played_ends_the_node_in_a_sentence(
    start: Callable[..., Any], tmp_path: Path
) -> None:
    folder = usual(tmp_path / "bag", count=10, plugin=StoragePlugin.SQLITE3)
    with sqlite3.connect(folder / "bag.db3") as database:
        first = "(SELECT id FROM messages ORDER BY timestamp LIMIT 1 OFFSET 15)"
        database.execute(f"UPDATE messages SET data = substr(data, 1, 40) WHERE id = {first}")
    database.close()
    node = start("stvla_ros.nodes.camera", "--ros-args", "-p", f"camera:path:={folder}")
    assert node.wait() == 2
    (sentence,) = node.said()
    assert f"{folder}: damaged: it could be read for 0.4 s of 0.9 s, then: a message on " in sentence


def test_damage_that_shows_while_a_recording_is_played_does_the_same(start: Callable[..., Any], tmp_path: Path) -> None:
    writer = RecordingWriter(tmp_path / "recording")
    for _ in range(3):
        writer.append(Recording(record_scene(tmp_path / f"scene{len(writer)}"))[0].frame)
    (tmp_path / "recording" / "000001.png").write_bytes(b"half")
    node = start("stvla_ros.nodes.camera", "--ros-args", "-p", f"camera:path:={tmp_path / 'recording'}")
    assert node.wait() == 2
    (sentence,) = node.said()
    assert "000001.png: text, not a PNG image" in sentence


def test_a_thread_with_a_defect_ends_its_node(start: Callable[..., Any], tmp_path: Path) -> None:
    """Whatever the thread is: a node that goes on without it would be half dead under its heartbeat."""
    program = tmp_path / "stvla_defect.py"
    program.write_text(
        "import threading\n"
        "from system.brain_harness import Nothing\n"
        "from stvla_ros.ros.run import run\n"
        "from stvla_ros.ros.stage_node import StageNode\n"
        "class Broken(StageNode):\n"
        "    def __init__(self):\n"
        "        super().__init__('broken', Nothing)\n"
        "    def ready(self):\n"
        "        super().ready()\n"
        "        threading.Thread(target=lambda: [][0], name='worker', daemon=True).start()\n"
        "run(Broken)\n"
    )
    path = os.pathsep.join([str(tmp_path), *sys.path])
    node = start("stvla_defect", env={"PYTHONPATH": path})
    assert node.wait() == 1
    assert "Exception in thread worker" in node.output
    assert "IndexError" in node.output


def test_a_replay_in_simulation_time_is_refused(start: Callable[..., Any], tmp_path: Path) -> None:
    folder = usual(tmp_path / "bag", count=2)
    parameters = ("-p", f"camera:path:={folder}", "-p", "use_sim_time:=true")
    node = start("stvla_ros.nodes.camera", "--ros-args", *parameters)
    assert node.wait() == 2
    (sentence,) = node.said()
    assert "camera.use_sim_time: wanted false, got true" in sentence


def replayed(ros: Any, folder: Path, loop: bool = True) -> tuple[Node, threading.Event]:
    """A bag that is played in this process until the event is set."""
    node, end = ros.add(Node("replay")), threading.Event()
    replay = BagReplay(node, CameraBag(folder, TOPICS), loop)
    threading.Thread(target=replay.run, args=(end,), daemon=True).start()
    return node, end


@pytest.mark.parametrize("header_ns", [START, 10_000_000_000, START - 150_000_000_000, START + 60_000_000_000])
def test_images_are_of_now_whatever_the_clocks_said(ros: Any, tmp_path: Path, header_ns: int) -> None:
    told = [(START, "tf_static", static(header_ns)), *shots(40, header_ns)]
    receiver = RgbdReceiver(ros.add(Node("listener")), CameraConfig(max_age_s=5.0))
    _, end = replayed(ros, write(tmp_path / "bag", told))
    frame = receiver.wait(0, CancelToken(), 20.0)
    assert abs(time.time_ns() - frame.stamp_ns) < 5e9
    end.set()


def test_whoever_joins_late_gets_all_static_transforms(ros: Any, tmp_path: Path) -> None:
    """Of 30 publishers and of one whose transform stands behind the images; one message holds them all."""
    many = [(START + i, "tf_static", static(child=OPTICAL if i == 0 else f"part_{i}")) for i in range(30)]
    told = [*many, *shots(20), (START + 20 * TENTH, "tf_static", static(child="late"))]
    folder = write(tmp_path / "bag", told)
    first = RgbdReceiver(ros.add(Node("first")), TOPICS)
    _, end = replayed(ros, folder)
    first.wait(0, CancelToken(), 20.0)
    late = TransformBuffer(ros.add(Node("second")))
    for child in (OPTICAL, "part_1", "part_29", "late"):
        late.wait("panda_link0", child, 0, 20.0, CancelToken())
    end.set()


def test_camera_info_that_was_sent_once_reaches_whoever_joins_late(ros: Any, tmp_path: Path) -> None:
    told = [(START, "tf_static", static()), *shots(60)]
    infos = [entry for entry in told if entry[1] == TOPICS.info]
    folder = write(tmp_path / "bag", [entry for entry in told if entry not in infos[1:]])
    node, end = replayed(ros, folder, loop=False)
    images, heard = threading.Event(), threading.Event()
    node.create_subscription(Image, TOPICS.color, lambda _: images.set(), qos.IMAGE_BEST_EFFORT)
    assert images.wait(20.0)
    late = ros.add(Node("late"))
    late.create_subscription(CameraInfo, TOPICS.info, lambda _: heard.set(), qos.LATCHED_NEWEST)
    assert heard.wait(20.0)
    end.set()


def test_a_folder_that_only_looks_like_a_bag(tmp_path: Path) -> None:
    (tmp_path / "metadata.yaml").write_text("nothing: here\n")
    with pytest.raises(ConfigError, match="wanted a rosbag2"):
        Bag(tmp_path, {}, {})
