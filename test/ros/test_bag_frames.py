"""A bag on the command line: its frames are those that a node would have had."""

from __future__ import annotations

import sqlite3
import struct
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from ray_caster import home_robot
from ros.bags import (
    OPTICAL,
    PICK,
    START,
    TENTH,
    TOPICS,
    Told,
    arm,
    record_scene,
    shot,
    shots,
    static,
    usual,
    write,
)
from rosbags.rosbag2 import StoragePlugin
from sensor_msgs.msg import CompressedImage
from tf2_msgs.msg import TFMessage

from stvla_ros.cli import main
from stvla_ros.commands.exit_codes import USAGE
from stvla_ros.commands.human import BagVideos
from stvla_ros.config import ConfigError
from stvla_ros.data.bag_hints import BagHints
from stvla_ros.data.episode import Episode
from stvla_ros.data.recording import RecordedFrame, Recording
from stvla_ros.data.st_human.process.folder import VideoError, open_video
from stvla_ros.data.st_human.readers.layouts import Readers
from stvla_ros.data.st_human.readers.source import import_video
from stvla_ros.description.kinematics import tcp_pose
from stvla_ros.description.panda import HOME_Q_RAD
from stvla_ros.description.robot import RobotConfig
from stvla_ros.ros import convert
from stvla_ros.ros.bag_frames import BagRecording
from stvla_ros.ros.robot_state import state_to_msg
from stvla_ros.types import RobotState

S = 1_000_000_000
ROBOT = RobotConfig()


def recording(path: Path) -> BagRecording:
    return BagRecording(path, TOPICS, ROBOT)


def values(frames: BagRecording) -> list[int]:
    return [int(recorded.frame.rgb[0, 0, 0]) for recorded in frames]


def arms(count: int, first_ns: int = START, header_ns: int = START) -> Iterator[Told]:
    for i in range(count):
        yield first_ns + i * TENTH, "joint_states", arm(header_ns + i * TENTH, home_robot(0.004 * i))


def test_frames_are_exact_and_can_be_had_in_any_order(tmp_path: Path) -> None:
    told = sorted([(START, "tf_static", static(x_m=0.25)), *shots(20), *arms(20)], key=lambda t: t[0])
    frames = recording(write(tmp_path / "bag", told))
    assert len(frames) == 20
    assert frames.notes == []
    assert values(frames) == list(range(20))
    assert [frames[i].frame.stamp_ns for i in (3, 4, 9, 2, -1)] == [START + i * TENTH for i in (3, 4, 9, 2, 19)]
    assert [int(recorded.frame.rgb[0, 0, 0]) for recorded in frames[2:5]] == [2, 3, 4]
    one = frames[7]
    assert one.frame.camera.T_base_camera[0, 3] == 0.25
    np.testing.assert_allclose(one.frame.depth_m, 0.5)
    assert abs(one.robot.stamp_ns - one.frame.stamp_ns) <= TENTH
    assert one.robot.stamp_ns == frames.robot(7).stamp_ns
    with pytest.raises(IndexError):
        frames[20]


@pytest.mark.parametrize(
    ("camera_ns", "arm_ns"),
    [(10 * S, 10 * S), (START - 120 * S, START), (START + 30 * S, START), (10 * S, START), (START, START - 7 * S)],
    ids=["simulation", "camera behind", "camera ahead", "arm without use_sim_time", "arm behind"],
)
def test_frames_have_the_arm_state_that_came_with_them(tmp_path: Path, camera_ns: int, arm_ns: int) -> None:
    told = sorted(
        [(START, "tf_static", static()), *shots(20, camera_ns), *arms(20, header_ns=arm_ns)], key=lambda t: t[0]
    )
    frames = recording(write(tmp_path / "bag", told))
    assert values(frames) == list(range(20))
    stamps = [(f.frame.stamp_ns, f.robot.stamp_ns) for f in frames]
    assert all(abs(image_ns - arm_ns) <= TENTH for image_ns, arm_ns in stamps)


def test_a_simulation_that_began_anew_in_the_middle(tmp_path: Path) -> None:
    again = shots(10, 10 * S, START + 10 * TENTH)
    told = [(START, "tf_static", static()), *shots(10, 50 * S), *again]
    stamps = [recorded.frame.stamp_ns for recorded in recording(write(tmp_path / "bag", told))]
    assert np.diff(stamps).tolist() == [TENTH] * 19


def test_the_cameras_transform_may_come_late_and_be_one_of_many(tmp_path: Path) -> None:
    many = [(START + i, "tf_static", static(child=f"part_{i}")) for i in range(12)]
    told = [*many, *shots(20), (START + 19 * TENTH + 1, "tf_static", static())]
    assert len(recording(write(tmp_path / "bag", told))) == 20


def test_a_camera_on_the_hand(tmp_path: Path) -> None:
    """/tf, as often as the arm moves; the images of the first moment have none."""
    told: list[Told] = [*shots(20)]
    for i in range(210):
        at_ns = START + i * 10_000_000
        told.append((at_ns, "tf", static(at_ns, x_m=i / 1000)))
    frames = recording(write(tmp_path / "bag", sorted(told, key=lambda t: t[0])))
    assert len(frames) >= 19
    x = [recorded.frame.camera.T_base_camera[0, 3] for recorded in frames]
    np.testing.assert_allclose(np.diff(x), 0.01, atol=1e-9)


def test_the_arm_may_come_after_the_camera(tmp_path: Path) -> None:
    told = sorted(
        [(START, "tf_static", static()), *shots(20), *arms(15, START + 5 * TENTH, START + 5 * TENTH)],
        key=lambda t: t[0],
    )
    frames = recording(write(tmp_path / "bag", told))
    assert values(frames)[0] in (4, 5, 6)
    assert len(frames) + values(frames)[0] == 20
    assert all(recorded.robot is not None for recorded in frames)
    assert values(frames)[2] == int(frames[2].frame.rgb[0, 0, 0])


def test_an_arm_that_falls_silent_is_told(tmp_path: Path) -> None:
    told = sorted([(START, "tf_static", static()), *shots(20), *arms(3)], key=lambda t: t[0])
    frames = recording(write(tmp_path / "bag", told))
    assert [f.robot is None for f in frames] == [i > 7 for i in range(20)]
    (note,) = frames.notes
    assert "12 of 20 frames have no arm state, e.g.: The joint state nearest to the image is" in note


def test_what_is_good_of_a_damaged_bag_is_kept(tmp_path: Path) -> None:
    folder = usual(tmp_path / "bag", plugin=StoragePlugin.SQLITE3)
    with sqlite3.connect(folder / "bag.db3") as database:
        first = "(SELECT id FROM messages ORDER BY timestamp LIMIT 1 OFFSET 30)"
        database.execute(f"UPDATE messages SET data = substr(data, 1, 40) WHERE id = {first}")
    database.close()
    frames = recording(folder)
    assert values(frames) == list(range(9))
    assert "damaged: it could be read for 0.9 s of 1.9 s" in frames.notes[0]
    assert "9 of 20 colour images made a frame" in frames.notes[1]
    assert frames.damage is not None


@pytest.mark.parametrize(
    ("told", "sentence"),
    [
        ([*shots(5)], "no transform from panda_link0 to .*no transforms on /tf_static or /tf"),
        (
            [(START, "tf_static", static()), *shots(9, depth_after_ns=50_000_000)],
            "no frame can be used: .*colour",
        ),
    ],
)
def test_no_frame_at_all_is_told_with_the_reason(tmp_path: Path, told: list[Told], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        recording(write(tmp_path / "bag", told))


def test_one_odd_frame_is_left_out(tmp_path: Path) -> None:
    told = [(START, "tf_static", static()), *shots(20)]
    for _, topic, message in told:
        if topic == TOPICS.color and message.data[0] == 7:
            message.encoding = "yuv422_yuy2"
    frames = recording(write(tmp_path / "bag", told))
    assert values(frames) == [i for i in range(20) if i != 7]
    assert frames.notes[0].startswith("19 of 20 colour images made a frame")


def compressed(message: Any, format: str, data: bytes) -> CompressedImage:
    return CompressedImage(header=message.header, format=format, data=data)


def png(array: np.ndarray) -> bytes:
    return cv2.imencode(".png", array)[1].tobytes()


def test_compressed_images_are_unpacked(tmp_path: Path) -> None:
    """As image_transport's plugins write them: colour as PNG or JPEG, depth as PNG of millimetres or of inverse depth."""
    told: list[Told] = [(START, "tf_static", static())]
    for i in range(4):
        parts, at_ns = shot(START + i * TENTH, 40 + i), START + i * TENTH
        colour = np.full((24, 32, 3), (10, 20, 40 + i), np.uint8)  # bgr
        jpeg = cv2.imencode(".jpg", colour, [cv2.IMWRITE_JPEG_QUALITY, 100])[1].tobytes()
        data, name = [(png(colour), "png"), (jpeg, "jpeg")][i % 2]
        told.append(
            (
                at_ns,
                f"{TOPICS.color}/compressed",
                compressed(parts[TOPICS.color], f"rgb8; {name} compressed bgr8", data),
            )
        )
        if i < 2:
            depth, name, head = np.full((24, 32), 500, np.uint16), "16UC1", struct.pack("<iff", 0, 0.0, 0.0)
        else:  # quantised inverse depth: A / depth + B
            depth, name, head = np.full((24, 32), 2100, np.uint16), "32FC1", struct.pack("<iff", 0, 1000.0, 100.0)
        depth[0, 0] = 0
        packed = compressed(parts[TOPICS.depth], f"{name}; compressedDepth png", head + png(depth))
        told.append((at_ns, f"{TOPICS.depth}/compressedDepth", packed))
        told.append((at_ns, TOPICS.info, parts[TOPICS.info]))
    frames = recording(write(tmp_path / "bag", told))
    assert len(frames) == 4
    for i, recorded in enumerate(frames):
        np.testing.assert_allclose(recorded.frame.rgb[3, 3], (40 + i, 20, 10), atol=2)
        np.testing.assert_allclose(recorded.frame.depth_m[3], 0.5, rtol=1e-6)
        assert np.isnan(recorded.frame.depth_m[0, 0])


@pytest.fixture(scope="module")
def demonstration(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[RecordedFrame]]:
    """A bag of a table on which the arm moves, turns, and closes its hand, recorded in simulation; and what is in it."""
    scene = Recording(record_scene(tmp_path_factory.mktemp("scene") / "recording"))[0].frame
    seen, told = [], list[Told]()
    for i in range(12):
        q = HOME_Q_RAD + np.array([0.05 * min(i, 6), 0, 0, 0, 0, 0, 0.1 * max(i - 6, 0)])
        robot = RobotState(
            q, np.full(7, 0.5 * (i not in (0, 6, 11))), tcp_pose(q), 0.08 if i < 7 else 0.03, S + i * TENTH
        )
        seen.append(RecordedFrame(replace(scene, stamp_ns=S + i * TENTH), robot))
        at_ns, head = START + i * TENTH, convert.header(S + i * TENTH, OPTICAL)
        if not told:
            T = convert.matrix_to_transform(scene.camera.T_base_camera, "panda_link0", OPTICAL, S)
            told.append((at_ns, "tf_static", TFMessage(transforms=[T])))
        told += [
            (at_ns, TOPICS.color, convert.rgb_to_image(scene.rgb, head)),
            (at_ns, TOPICS.depth, convert.depth_to_image(scene.depth_m, head)),
            (at_ns, TOPICS.info, convert.camera_to_info(scene.camera, head)),
            (at_ns, "joint_states", state_to_msg(robot)),
        ]
    return write(tmp_path_factory.mktemp("robot") / "my_bag", told), seen


def test_guide_on_a_bag(demonstration: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = next(demonstration[0].glob("*.mcap"))
    assert main(["guide", str(file), "--instruction", PICK, "--output", str(tmp_path)]) == 0
    assert "12 of 12 frames guided" in capsys.readouterr().out
    assert (tmp_path / "guidance.mp4").is_file()


def test_guide_tells_what_it_could_not_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "x.bag").write_bytes(b"#ROSBAG V2.0\n")
    assert main(["guide", str(tmp_path / "x.bag"), "--instruction", PICK, "--output", str(tmp_path / "out")]) == USAGE
    assert "rosbags-convert" in capsys.readouterr().err
    folder = usual(tmp_path / "other", prefix="/robot1/")
    names = [f"--set=camera.topics.{part}=robot1/{getattr(TOPICS, part)}" for part in ("color", "depth", "info")]
    arguments = ["guide", str(folder), "--instruction", PICK, "--output", str(tmp_path / "out"), *names]
    main([*arguments, "--set=robot.base_frame=elsewhere"])
    assert "no transform from elsewhere to camera_color_optical_frame is known" in capsys.readouterr().err


def test_collect_from_a_bag(demonstration: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bag, seen = demonstration
    command = ["collect", "--from", str(bag), "--instruction", PICK, "--output", str(tmp_path)]
    assert main(command) == 0, capsys.readouterr().err
    assert "keyposes" in capsys.readouterr().out
    episode = Episode(tmp_path / "episodes" / "my_bag")
    assert episode.instruction == PICK
    reached = [seen[i].robot for i in (7, 11)]
    assert len(episode) == len(reached)
    for keypose, robot in zip(episode.keyposes, reached, strict=True):
        np.testing.assert_array_equal(keypose.T_base_tcp, robot.T_base_tcp)
        assert keypose.gripper_open == (robot.gripper_m > 0.05)


def test_a_demonstration_without_its_end_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told = sorted([(START, "tf_static", static()), *shots(20), *arms(20)], key=lambda t: t[0])
    folder = write(tmp_path / "bag", told, StoragePlugin.SQLITE3)
    with sqlite3.connect(folder / "bag.db3") as database:
        database.execute("UPDATE messages SET data = substr(data, 1, 40) WHERE id = (SELECT max(id) FROM messages)")
    database.close()
    command = ["collect", "--from", str(folder), "--instruction", PICK, "--output", str(tmp_path / "data")]
    assert main(command) == USAGE
    assert "A demonstration must be complete" in capsys.readouterr().err


def test_a_bag_is_a_video_of_hands(tmp_path: Path) -> None:
    bag = usual(tmp_path / "runs" / "evening" / "bag", 6)
    readers = Readers(open_bag=BagVideos(BagHints()))
    assert readers.find(tmp_path) == [bag]
    source = readers.open(bag)
    assert source is not None
    assert (source.id, source.frames, source.level) == ("evening-bag", 6, True)
    import_video(source, tmp_path / "own")
    video = open_video(tmp_path / "own")
    assert (video.frames, video.fps) == (6, 10.0)
    assert [int(video.rgb(i)[0, 0, 0]) for i in range(6)] == list(range(6))
    assert (video.depth_mm(3) == 500).all()


def test_the_video_of_a_camera_without_a_robot_does_not_know_up(tmp_path: Path) -> None:
    source = BagVideos(BagHints())(write(tmp_path / "bag", shots(4)))
    assert (source.frames, source.level) == (4, False)


def test_a_bag_with_a_long_pause_is_no_video(tmp_path: Path) -> None:
    told = [(START, "tf_static", static()), *shots(4), *shots(4, START + 9 * S, START + 9 * S)]
    with pytest.raises(VideoError, match="between frames 3 and 4: frames are missing"):
        import_video(BagVideos(BagHints())(write(tmp_path / "bag", told)), tmp_path / "own")
