"""Recordings: exact both ways, and anything else in the folder is refused in words."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from ray_caster import Scene, block, front_camera, home_robot, plate

from stvla_ros.data.recording import Recording, RecordingError, RecordingWriter


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "recording"
    writer = RecordingWriter(path)
    camera = front_camera(64, 48)
    for i in range(3):
        frame, _ = Scene([block("red", 0.5, 0.1 * i), *plate(0.4, -0.2)]).render(camera, stamp_ns=1000 + i)
        depth = frame.depth_m.copy()
        depth[i] = np.nan
        frame = type(frame)(frame.rgb, depth, camera, frame.stamp_ns)
        writer.append(frame, home_robot(0.01 * i, stamp_ns=900 + i) if i else None)
    return path


def test_round_trip_is_exact(folder: Path) -> None:
    recording = Recording(folder)
    assert len(recording) == 3
    expected, _ = Scene([block("red", 0.5, 0.2), *plate(0.4, -0.2)]).render(front_camera(64, 48))
    last = recording[-1]
    np.testing.assert_array_equal(last.frame.rgb, expected.rgb)
    np.testing.assert_array_equal(last.frame.depth_m[3:], expected.depth_m[3:])
    assert np.isnan(last.frame.depth_m[2]).all()
    np.testing.assert_array_equal(last.frame.camera.T_base_camera, expected.camera.T_base_camera)
    assert (last.frame.stamp_ns, last.robot.gripper_m, last.robot.stamp_ns) == (1002, 0.02, 902)
    assert recording[0].robot is None
    assert [r.frame.stamp_ns for r in recording[1:]] == [1001, 1002]


def test_index_is_complete_after_each_frame(folder: Path) -> None:
    """A recorder that is killed leaves a readable recording."""
    (folder / "000003.png").write_bytes(b"half")
    assert len(list(Recording(folder))) == 3


def test_existing_folder_is_not_overwritten(folder: Path) -> None:
    with pytest.raises(RecordingError, match="wanted an empty or new folder"):
        RecordingWriter(folder)


def test_a_recording_goes_on_where_it_ended(folder: Path) -> None:
    before = list(Recording(folder))
    RecordingWriter(folder, resume=True).append(before[1].frame, before[1].robot)
    after = list(Recording(folder))
    assert [r.frame.stamp_ns for r in after] == [1000, 1001, 1002, 1001]
    assert np.array_equal(after[3].frame.rgb, before[1].frame.rgb)
    frame, _ = Scene([block("red", 0.5, 0.0)]).render(front_camera(32, 24), stamp_ns=5)
    with pytest.raises(RecordingError, match=r"wanted frames of \(64, 48\) px"):
        RecordingWriter(folder, resume=True).append(frame)
    assert len(list(Recording(folder))) == 4


def test_no_folder(tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match="wanted a folder with a recording, found nothing"):
        Recording(tmp_path / "nowhere")
    (tmp_path / "file").write_text("x")
    with pytest.raises(RecordingError, match="found a file"):
        Recording(tmp_path / "file")


def test_wrong_content(tmp_path: Path) -> None:
    (tmp_path / "holiday.jpg").write_text("x")
    with pytest.raises(RecordingError, match=r"wanted a recording \(recording.json.*found holiday.jpg"):
        Recording(tmp_path)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("{", "not valid JSON"),
        ("[]", "wanted format 'stvla-recording-1', found 'list'"),
        ('{"format": "rosbag2"}', "found 'rosbag2'"),
        ('{"format": "stvla-recording-1"}', "lacks frame_id, frames, height_px, width_px"),
        (
            '{"format": "stvla-recording-1", "frames": [], "frame_id": "c", "width_px": 1, "height_px": 1}',
            "has no frames",
        ),
    ],
)
def test_wrong_index(folder: Path, text: str, sentence: str) -> None:
    (folder / "recording.json").write_text(text)
    with pytest.raises(RecordingError, match=sentence):
        Recording(folder)


def test_damaged_frames(folder: Path) -> None:
    (folder / "000001.png").write_bytes(b"no image")
    with pytest.raises(RecordingError, match=r"000001.png: text, not a PNG image"):
        Recording(folder)[1]
    (folder / "000002.npy").write_bytes(b"no array")
    with pytest.raises(RecordingError, match=r"000002.npy: text, not depth as a NumPy array"):
        Recording(folder)[2]
    index = json.loads((folder / "recording.json").read_text())
    del index["frames"][0]["K"]
    (folder / "recording.json").write_text(json.dumps(index))
    with pytest.raises(RecordingError, match="frame 000000 is damaged"):
        Recording(folder)[0]


def test_depth_of_another_type(folder: Path) -> None:
    depth = np.load(folder / "000001.npy")
    for same in (depth.astype(np.float64), depth.astype(">f4"), np.asfortranarray(depth)):
        np.save(folder / "000001.npy", same)
        assert Recording(folder)[1].frame.depth_m.tobytes() == depth.tobytes()
    for other, words in (
        (np.nan_to_num(depth * 1000).astype(np.uint16), "wanted depth in metres as float32, found uint16"),
        (depth.astype(object), "Python objects"),
        (depth[1:], "frame 000001 is damaged .*shape"),
    ):
        np.save(folder / "000001.npy", other)
        with pytest.raises(RecordingError, match=words):
            Recording(folder)[1]


def test_compressed_depth_is_exact_and_smaller(folder: Path, tmp_path: Path) -> None:
    writer = RecordingWriter(tmp_path / "small", compress=True)
    for recorded in Recording(folder):
        writer.append(recorded.frame, recorded.robot)
    small = Recording(tmp_path / "small")
    for a, b in zip(small, Recording(folder), strict=True):
        assert a.frame.depth_m.dtype == np.float32
        assert a.frame.depth_m.tobytes() == b.frame.depth_m.tobytes()
    file = tmp_path / "small" / "000001.npz"
    assert file.stat().st_size < (folder / "000001.npy").stat().st_size / 2
    assert small.robot(0) is None
    assert small.robot(-1).stamp_ns == 902

    whole = file.read_bytes()
    for damaged in (whole[:-30], whole[:100], b"", b"no archive"):
        file.write_bytes(damaged)
        with pytest.raises(
            RecordingError, match=r"000001.npz: (wanted depth as a NumPy array|the file is empty|text, not depth)"
        ):
            small[1]
    np.savez(file, other=np.zeros(3))
    with pytest.raises(
        RecordingError, match=r"000001.npz: (wanted depth as a NumPy array|the file is empty|text, not depth)"
    ):
        small[1]


def test_velocities_that_are_not_measured_are_null(tmp_path: Path) -> None:
    """JSON has no NaN, and 0 would be a lie."""
    frame, _ = Scene([block("red", 0.5, 0.1)]).render(front_camera(16, 12))
    robot = replace(home_robot(), dq_rad_s=np.array([0.1, np.nan, *[0.0] * 5]))
    RecordingWriter(tmp_path / "demo").append(frame, robot)

    def no_number(name: str) -> None:
        raise AssertionError(name)

    text = (tmp_path / "demo" / "recording.json").read_text()
    assert json.loads(text, parse_constant=no_number)["frames"][0]["dq_rad_s"][:3] == [0.1, None, 0.0]
    read = Recording(tmp_path / "demo").robot(0)
    assert read is not None
    np.testing.assert_array_equal(read.dq_rad_s, robot.dq_rad_s)


def test_joints_that_are_not_measured_are_not_recorded(tmp_path: Path) -> None:
    frame, _ = Scene([block("red", 0.5, 0.1)]).render(front_camera(16, 12))
    writer = RecordingWriter(tmp_path / "demo")
    for name, wrong in (("q_rad", np.full(7, np.nan)), ("gripper_m", float("inf"))):
        with pytest.raises(RecordingError, match=f"{name}: wanted finite numbers to record, found"):
            writer.append(frame, replace(home_robot(), **{name: wrong}))
    assert [path.name for path in (tmp_path / "demo").iterdir()] == []


@pytest.mark.parametrize("field", ["q_rad", "gripper_m"])
def test_joints_that_an_older_recorder_wrote_as_nan_are_told(folder: Path, field: str) -> None:
    path = folder / "recording.json"
    index = json.loads(path.read_text())
    index["frames"][2][field] = [float("nan")] * 7 if field == "q_rad" else float("nan")
    path.write_text(json.dumps(index))
    with pytest.raises(RecordingError, match=r"frame 000002 is damaged \(the arm's joints or fingers are not measured"):
        Recording(folder).robot(2)
    assert Recording(folder).robot(1) is not None
