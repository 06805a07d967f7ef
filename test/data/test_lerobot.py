"""LeRobotDataset v3: what we write comes back, LeRobot's own loader reads it, and anything else is refused in words."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from drawn_plans import PICK_TO_PLATE, plan_through
from ray_caster import Scene, block, front_camera, home_robot, plate

from stvla_ros.cli import main
from stvla_ros.commands.exit_codes import INTERRUPTED, NOT_CONFIRMED, USAGE
from stvla_ros.data.episode import Episode, EpisodeWriter, Verdict
from stvla_ros.data.lerobot import writer as lerobot_writer
from stvla_ros.data.lerobot.features import COLOR, DEPTH, FEATURES, TRACE_POINTS
from stvla_ros.data.lerobot.pixels import VideoFile, decoded, png_bytes, tiff_bytes
from stvla_ros.data.lerobot.reader import LeRobotSet
from stvla_ros.data.recording import Recording, RecordingWriter
from stvla_ros.description.kinematics import tcp_pose
from stvla_ros.errors import OutcomeCode
from stvla_ros.geometry import se3
from stvla_ros.types import Keypose, RgbdFrame, RobotState

WORDS = {"first": "Put the red block in the plate.", "second": "Push the »lime« button."}
LENGTHS = {"first": 4, "second": 3}
PYTHON = os.environ.get("LEROBOT_PYTHON", sys.executable)
"""A Python with the package ``lerobot``; the test that needs it is skipped where there is none."""


def frame(i: int) -> RgbdFrame:
    scene, _ = Scene([block("red", 0.5, 0.1 + 0.01 * i), *plate(0.45, -0.22)]).render(
        front_camera(96, 64), stamp_ns=10**18 + 10**8 * i
    )
    depth = scene.depth_m.copy()
    depth[i] = np.nan
    depth[i + 1, :3] = -0.0, np.nextafter(np.float32(1), np.float32(2)), np.inf
    return replace(scene, depth_m=depth)


def robot(i: int) -> RobotState:
    at = home_robot(0.08 - 0.01 * i, stamp_ns=10**18 + 10**8 * i + 3)
    q = at.q_rad + 0.1 * i + 1e-13
    return replace(at, q_rad=q, dq_rad_s=np.where(np.arange(7) < i, np.nan, 0.25), T_base_tcp=tcp_pose(q))


def keypose(i: int) -> Keypose:
    T = se3.pose(se3.from_quaternion([0.1 * i, 1.0, 0.2, 0.05]), [0.3 + 0.1 * i, 1 / 3, 0.1])
    return Keypose(T, bool(i % 2), i == 2, 10**18 + i)


def write_episode(folder: Path, name: str) -> None:
    """Two plans; no keypose came of frame 1."""
    writer = EpisodeWriter(folder / "episodes" / name)
    for number, first in ((0, 0), (1, 2)):
        drawn = replace(
            plan_through(PICK_TO_PLATE, frame(20 + first)), plan_id=f"{name}{number}", instruction=WORDS[name]
        )
        writer.add_plan(drawn, frame(20 + first))
        for i in range(first, min(first + 2, LENGTHS[name])):
            writer.add_frame(drawn, frame(i), robot(i))
            if i != 1:
                writer.add_keypose(keypose(i), 10**18 + 10**8 * i + 77)
    writer.close("pick_place", 7, WORDS[name], Verdict(OutcomeCode.OK, "Done.", name == "first", "Fine."))


@pytest.fixture
def data(tmp_path: Path) -> Path:
    for name in WORDS:
        write_episode(tmp_path / "data", name)
    return tmp_path / "data"


def export(source: Path, output: Path, *more: str) -> int:
    return main(["export", "lerobot", str(source), "--output", str(output), *more])


def imported(source: Path, output: Path, *more: str) -> int:
    return main(["import", "lerobot", str(source), "--output", str(output), *more])


def same_frames(a: Recording, b: Recording, color: bool = True) -> None:
    """Bit for bit, NaN and the sign of zero included."""
    assert len(a) == len(b)
    for one, other in zip(a, b, strict=True):
        assert one.frame.depth_m.tobytes() == other.frame.depth_m.tobytes()
        assert not color or one.frame.rgb.tobytes() == other.frame.rgb.tobytes()


@pytest.mark.parametrize("color", ["lossless", "png", "lossy"])
def test_episodes_come_back(data: Path, tmp_path: Path, color: str) -> None:
    assert export(data, tmp_path / "set", "--color", color) == 0
    assert imported(tmp_path / "set", tmp_path / "back") == 0
    for name in WORDS:
        old, new = data / "episodes" / name, tmp_path / "back" / "episodes" / name
        for file in ("episode.json", "recording.json", "plans/recording.json"):
            assert (new / file).read_text() == (old / file).read_text()
        same_frames(Recording(old), Recording(new), color != "lossy")
        same_frames(Recording(old / "plans"), Recording(new / "plans"))
        difference = Episode(old)[0].frame.rgb.astype(int) - Episode(new)[0].frame.rgb
        assert 0 < np.abs(difference).mean() < 8 if color == "lossy" else not difference.any()
    assert not (tmp_path / "back" / "recordings").exists()


def test_the_files_are_as_documented(data: Path, tmp_path: Path) -> None:
    root = tmp_path / "set"
    assert export(data, root) == 0
    info = json.loads((root / "meta" / "info.json").read_text())
    assert (info["codebase_version"], info["total_episodes"], info["total_frames"], info["total_tasks"]) == (
        "v3.0",
        2,
        7,
        2,
    )
    assert (info["fps"], info["splits"]) == (1, {"train": "0:2"})
    assert info["features"][COLOR]["dtype"] == "video"
    assert info["features"][DEPTH]["info"] == {"is_depth_map": True, "depth_unit": "m"}
    assert info["features"]["action"]["shape"] == [8]
    tables = [pq.read_table(root / info["data_path"].format(chunk_index=0, file_index=i)) for i in (0, 1)]
    rows = pa.concat_tables(tables).to_pylist()
    assert set(rows[0]) == set(info["features"]) - {COLOR}
    for name, values in (
        ("index", [*range(7)]),
        ("episode_index", [0] * 4 + [1] * 3),
        ("task_index", [0] * 4 + [1] * 3),
    ):
        assert [row[name] for row in rows] == values
    assert [row["timestamp"] for row in rows] == [row["frame_index"] for row in rows] == [0, 1, 2, 3, 0, 1, 2]
    first = Episode(data / "episodes" / "first")
    for row, guided in zip(rows, first.guided_frames(), strict=False):
        assert row["observation.state"] == [*guided.robot.q_rad, guided.robot.gripper_m]
        assert row["observation.stamp_ns"] == guided.frame.stamp_ns
        np.testing.assert_array_equal(row["observation.camera_pose"], guided.frame.camera.T_base_camera.ravel())
        np.testing.assert_array_equal(row["plan.uv"], first.plans[guided.plan].uv.ravel())
        assert decoded(row[DEPTH]["bytes"], "").tobytes() == guided.frame.depth_m.tobytes()
        trace = np.reshape(row["trace.xyz_m"], (TRACE_POINTS, 3))
        np.testing.assert_allclose(trace[[0, -1], :2], PICK_TO_PLATE[[0, -1], :2], atol=0.02)
    assert [row["keypose.index"] for row in rows[:4]] == [0, 1, 1, 2]
    assert [row["keypose.predicted_here"] for row in rows[:4]] == [True, False, True, True]
    np.testing.assert_allclose(rows[1]["action"][:3], keypose(2).T_base_tcp[:3, 3], atol=1e-15)
    turned = se3.from_quaternion(rows[1]["action"][3:7])
    np.testing.assert_allclose(turned, keypose(2).T_base_tcp[:3, :3], atol=1e-12)
    assert [row["next.done"] for row in rows] == [False, False, False, True, False, False, True]
    assert [row["next.success"] for row in rows] == [False, False, False, True, False, False, False]  # judged
    episodes = pq.read_table(root / "meta/episodes/chunk-000/file-000.parquet").to_pylist()
    assert [e["tasks"] for e in episodes] == [[words] for words in WORDS.values()]
    assert [(e["dataset_from_index"], e["dataset_to_index"], e["length"]) for e in episodes] == [(0, 4, 4), (4, 7, 3)]
    tasks = pq.read_table(root / "meta/tasks.parquet")
    assert tasks.to_pydict() == {"task_index": [0, 1], "task": [*WORDS.values()]}
    assert json.loads(tasks.schema.metadata[b"pandas"])["index_columns"] == ["task"]
    for number, length in enumerate(LENGTHS.values()):
        with av.open(str(root / info["video_path"].format(video_key=COLOR, chunk_index=0, file_index=number))) as video:
            times = [shown.time for shown in video.decode(video=0)]
        assert times == pytest.approx(range(length))


def test_statistics_are_those_of_all_frames(data: Path, tmp_path: Path) -> None:
    assert export(data, tmp_path / "set") == 0
    stats = json.loads((tmp_path / "set" / "meta" / "stats.json").read_text())
    guided = [g for name in WORDS for g in Episode(data / "episodes" / name).guided_frames()]
    q = np.array([[*g.robot.q_rad, g.robot.gripper_m] for g in guided])
    for kind, of in (("min", np.min), ("max", np.max), ("mean", np.mean), ("std", np.std)):
        np.testing.assert_allclose(stats["observation.state"][kind], of(q, axis=0), atol=1e-9)
    pixels = np.stack([g.frame.rgb for g in guided]) / 255.0
    np.testing.assert_allclose(np.ravel(stats[COLOR]["mean"]), pixels.mean(axis=(0, 1, 2)), atol=1e-9)
    assert np.shape(stats[COLOR]["std"]) == (3, 1, 1)
    assert np.shape(stats[DEPTH]["max"]) == (1, 1, 1)
    assert stats["observation.state"]["count"] == [7]
    assert "plan.start_depth_m" not in stats  # never known


def test_an_interrupted_export_can_be_loaded_and_resumes(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    root, whole = tmp_path / "set", lerobot_writer.LeRobotWriter._write_plans

    def stop(self: Any, source: Any, number: int) -> None:
        if number == 1:
            raise KeyboardInterrupt
        whole(self, source, number)

    with monkeypatch.context() as patch:
        patch.setattr(lerobot_writer.LeRobotWriter, "_write_plans", stop)
        assert export(data, root) == INTERRUPTED
    assert "resumes here" in capsys.readouterr().out
    assert [episode.length for episode in LeRobotSet(root).episodes] == [4]
    before = (root / "data/chunk-000/file-000.parquet").stat().st_mtime_ns
    assert export(data, root) == 0
    assert (root / "data/chunk-000/file-000.parquet").stat().st_mtime_ns == before
    assert [episode.length for episode in LeRobotSet(root).episodes] == [4, 3]
    assert not list(root.rglob("*.part"))
    assert export(data, root, "--color", "png") == USAGE
    assert "other settings (color)" in capsys.readouterr().err


def test_a_recording_gets_the_keyposes_of_its_motion_and_comes_back(tmp_path: Path) -> None:
    source = tmp_path / "demo"
    writer = RecordingWriter(source, instruction=WORDS["first"])
    for i in range(12):
        at = robot(0)
        q = at.q_rad + (0.05 * i if i < 6 else 0.25)
        width = 0.08 if i < 8 else 0.02
        dq = np.full(7, 0.5 if i < 5 else 0.0)
        stamp = 10**18 + 10**8 * i
        writer.append(
            frame(i), replace(at, q_rad=q, dq_rad_s=dq, gripper_m=width, stamp_ns=stamp, T_base_tcp=tcp_pose(q))
        )
    assert export(source, tmp_path / "set") == 0
    loaded = LeRobotSet(tmp_path / "set")
    assert loaded.fps == 10
    rows = list(loaded.rows(loaded.episodes[0], ["action", "keypose.index", "keypose.predicted_here", "plan.index"]))
    assert [row["keypose.index"] for row in rows] == sorted(row["keypose.index"] for row in rows)
    changed = [i for i, row in enumerate(rows) if row["keypose.predicted_here"]]
    assert changed[0] == 0
    assert len(changed) == rows[-1]["keypose.index"] + 1
    assert rows[7]["action"][7] == 0.0  # closes next
    assert {row["plan.index"] for row in rows} == {-1}
    assert imported(tmp_path / "set", tmp_path / "back") == 0
    back = Recording(tmp_path / "back" / "recordings" / "demo")
    same_frames(Recording(source), back)
    assert back.instruction == WORDS["first"]
    index = [
        json.loads((folder / "recording.json").read_text()) for folder in (source, tmp_path / "back/recordings/demo")
    ]
    assert index[0] == index[1]


def foreign(root: Path, **lacks: bool) -> Path:
    """A set as LeRobot records it: two episodes in one file and one video, depth as 16 bits in millimetres."""
    (root / "meta/episodes/chunk-000").mkdir(parents=True)
    (root / "data/chunk-000").mkdir(parents=True)
    path = root / "videos/observation.images.front/chunk-000/file-000.mp4"
    path.parent.mkdir(parents=True)
    video = VideoFile(path, "lossless", 10, (96, 64))
    for i in range(5):
        video.write(frame(i).rgb)
    video.close()
    depth = np.arange(96 * 64, dtype=np.uint16).reshape(64, 96)
    png = cv2.imencode(".png", depth)[1].tobytes()
    columns: dict[str, Any] = {
        "observation.images.front_depth": [{"bytes": png, "path": None}] * 5,
        "observation.state": [[0.1 * i] * 7 + [0.04] for i in range(5)],
        "timestamp": [0.0, 0.1, 0.2, 0.0, 0.1],
        "episode_index": [0, 0, 0, 1, 1],
    }
    pq.write_table(pa.table(columns), root / "data/chunk-000/file-000.parquet")
    key = "videos/observation.images.front"
    episodes = [
        {"episode_index": n, "length": length, "tasks": [words], "data/chunk_index": 0, "data/file_index": 0}
        | {f"{key}/chunk_index": 0, f"{key}/file_index": 0, f"{key}/from_timestamp": 0.3 * n}
        for n, (length, words) in enumerate(((3, "Pick it."), (2, "Place it.")))
    ]
    pq.write_table(pa.Table.from_pylist(episodes), root / "meta/episodes/chunk-000/file-000.parquet")
    features = {
        "observation.images.front": {"dtype": "video", "shape": [64, 96, 3]},
        "observation.images.front_depth": {"dtype": "image", "shape": [64, 96, 1], "info": {"is_depth_map": True}},
        "observation.state": {"dtype": "float32", "shape": [8], "names": None},
        "timestamp": {"dtype": "float32", "shape": [1]},
    }
    if lacks.get("depth"):
        del features["observation.images.front_depth"]
    if lacks.get("joints"):
        features["observation.state"] = {"dtype": "float32", "shape": [6], "names": ["shoulder_pan.pos"]}
    info = {
        "codebase_version": "v3.0",
        "fps": 10,
        "total_episodes": 2,
        "features": features,
        "data_path": "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet",
        "video_path": "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4",
    }
    (root / "meta/info.json").write_text(json.dumps(info))
    return root


def test_a_set_of_others_becomes_recordings(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = foreign(tmp_path / "set")
    given = ("--intrinsics", "90,91,47.5,31.5", "--extrinsics", "1,0,0.5,0,0,0,1")
    assert imported(root, tmp_path / "back", *given) == 0
    assert "2 in recordings/" in capsys.readouterr().out
    second = Recording(tmp_path / "back/recordings/episode_000001")
    assert (len(second), second.instruction) == (2, "Place it.")
    assert second[1].frame.rgb.tobytes() == frame(4).rgb.tobytes()
    depth = second[0].frame.depth_m
    assert np.isnan(depth[0, 0])  # 0 is no depth
    assert depth[0, 50] == np.float32(0.05)
    camera = second[0].frame.camera
    assert (camera.K[1, 1], camera.K[0, 2], camera.T_base_camera[2, 3]) == (91, 47.5, 0.5)
    np.testing.assert_allclose(second.robot(1).q_rad, 0.4, atol=1e-7)  # type: ignore[union-attr]
    assert np.isnan(second.robot(1).dq_rad_s).all()  # type: ignore[union-attr]
    assert second[1].frame.stamp_ns == pytest.approx(10**8, abs=10)


def camera_info(folder: Path, k1: float, width_px: int = 640, height_px: int = 480) -> Path:
    file = folder / "lens.yaml"
    file.write_text(
        f"image_width: {width_px}\nimage_height: {height_px}\ndistortion_model: plumb_bob\n"
        "camera_matrix: {rows: 3, cols: 3, data: [90, 0, 47.5, 0, 91, 31.5, 0, 0, 1]}\n"
        f"distortion_coefficients: {{rows: 1, cols: 5, data: [{k1}, 0, 0, 0, 0]}}\n"
    )
    return file


def test_camera_of_a_set_of_others_in_files(tmp_path: Path) -> None:
    """A camera_info file and a calibration, as for bags."""
    pose = tmp_path / "calibration.yaml"
    pose.write_text("camera: {translation_m: [-1, 0, 0.5], quaternion_xyzw: [0, 0, 0, 1]}\n")
    given = ("--intrinsics", str(camera_info(tmp_path, 0, 96, 64)), "--extrinsics", str(pose))
    assert imported(foreign(tmp_path / "set"), tmp_path / "back", *given) == 0
    camera = Recording(tmp_path / "back/recordings/episode_000000")[0].frame.camera
    assert (camera.K[1, 1], camera.T_base_camera[0, 3]) == (91, -1.0)


def test_what_a_set_lacks_is_said_in_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert imported(foreign(tmp_path / "a", depth=True, joints=True), tmp_path / "back") == USAGE
    said = capsys.readouterr().err
    for words in (
        "depth aligned to the colour image",
        "7 joints",
        "'shoulder_pan.pos'",
        "--intrinsics",
        "--extrinsics",
    ):
        assert words in said
    root, pose = foreign(tmp_path / "b"), ("--extrinsics", "-1,0,0.5,0,0,0,1")
    assert imported(root, tmp_path / "back", *pose, "--intrinsics", str(camera_info(tmp_path, 0.1))) == USAGE
    said = capsys.readouterr().err
    assert "images without distortion, found plumb_bob in --intrinsics" in said
    assert "[64, 96, 3], found 640x480 in --intrinsics" in said
    assert imported(root, tmp_path / "back", "--extrinsics", "1,2") == USAGE
    assert "extrinsics: wanted a file or seven numbers" in capsys.readouterr().err


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _older(root: Path) -> None:
    path = root / "meta/info.json"
    path.write_text(path.read_text().replace('"v3.0"', '"v2.1"'))


def _fewer(root: Path) -> None:
    path = root / "meta/info.json"
    path.write_text(path.read_text().replace('"total_episodes": 2', '"total_episodes": 3'))


@pytest.mark.parametrize(
    ("damage", "code", "sentence"),
    [
        (lambda root: (root / "meta/info.json").unlink(), USAGE, "wanted a LeRobotDataset v3"),
        (lambda root: (root / "meta/info.json").write_text("{"), USAGE, "not valid JSON"),
        (lambda root: (root / "meta/info.json").write_text("{}"), USAGE, "found None"),
        (_older, USAGE, "found v2.1: convert the set with LeRobot's own"),
        (_fewer, USAGE, "wanted 3 episodes as in meta/info.json, found 2"),
        (lambda root: _cut(root / "meta/episodes/chunk-000/file-000.parquet"), USAGE, "file-000.parquet: damaged"),
        (lambda root: _cut(root / "data/chunk-000/file-001.parquet"), NOT_CONFIRMED, "file-001.parquet: damaged"),
        (lambda root: (root / "data/chunk-000/file-001.parquet").unlink(), NOT_CONFIRMED, "missing, but meta/episodes"),
        (lambda root: _cut(root / f"videos/{COLOR}/chunk-000/file-000.mp4"), NOT_CONFIRMED, "wanted a video"),
        (lambda root: shutil.rmtree(root / "videos"), NOT_CONFIRMED, "wanted a video"),
        (lambda root: _cut(root / "stvla/plans/000000.parquet"), NOT_CONFIRMED, "000000.parquet: damaged"),
    ],
)
def test_damage_is_one_sentence(
    data: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    damage: Callable[[Path], None],
    code: int,
    sentence: str,
) -> None:
    assert export(data, tmp_path / "set") == 0
    damage(tmp_path / "set")
    capsys.readouterr()
    assert imported(tmp_path / "set", tmp_path / "back") == code
    out, err = capsys.readouterr()
    assert sentence in " ".join((out + err).split())
    assert not list((tmp_path / "back").rglob("*.part"))


def test_a_set_without_our_own_files_becomes_recordings(data: Path, tmp_path: Path) -> None:
    """As after LeRobot's own tools copied it."""
    assert export(data, tmp_path / "set") == 0
    shutil.rmtree(tmp_path / "set" / "stvla")
    assert imported(tmp_path / "set", tmp_path / "back") == 0
    same_frames(Recording(data / "episodes/first"), Recording(tmp_path / "back/recordings/first"))


def test_two_episodes_of_one_name_stay_two(data: Path, tmp_path: Path) -> None:
    """As after LeRobot merged two sets."""
    assert export(data, tmp_path / "set") == 0
    path = tmp_path / "set/meta/episodes/chunk-000/file-000.parquet"
    rows = pq.read_table(path).to_pylist()
    rows[1]["stvla/source"] = rows[0]["stvla/source"].replace("second", "first")
    pq.write_table(pa.Table.from_pylist(rows), path)
    shutil.rmtree(tmp_path / "set" / "stvla")
    assert imported(tmp_path / "set", tmp_path / "back") == 0
    assert {p.name for p in (tmp_path / "back/recordings").iterdir()} == {"first", "first_000001"}
    same_frames(Recording(data / "episodes/second"), Recording(tmp_path / "back/recordings/first_000001"))


def test_what_cannot_be_exported(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty").mkdir()
    assert export(tmp_path / "empty", tmp_path / "set") == USAGE
    assert "wanted a recording, a bag, or a folder of them" in capsys.readouterr().err
    for i, (name, words) in enumerate((("a", ""), ("b", "Wait."))):
        writer = RecordingWriter(tmp_path / "some" / name, instruction=words)
        for k in range(2):
            writer.append(frame(k), None if i else robot(k))
    assert export(tmp_path / "some", tmp_path / "set") == USAGE  # none is left
    said = " ".join(capsys.readouterr().out.split())
    assert "give --instruction WORDS" in said
    assert "frame 0 lacks the arm's state" in said
    foreign(tmp_path / "theirs")
    assert export(data, tmp_path / "theirs") == USAGE
    assert "was not exported here" in capsys.readouterr().err


def test_every_bit_of_depth_and_colour_is_kept() -> None:
    bits = np.random.default_rng(0).integers(0, 2**32, (40, 50), dtype=np.uint32)
    depth = bits.view(np.float32)
    assert decoded(tiff_bytes(depth), "").tobytes() == depth.tobytes()
    rgb = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    assert decoded(png_bytes(rgb), "").tobytes() == rgb.tobytes()


def _has_lerobot() -> bool:
    found = "import sys; from importlib.util import find_spec; sys.exit(find_spec('lerobot') is None)"
    return subprocess.run([PYTHON, "-c", found], check=False, capture_output=True).returncode == 0


@pytest.mark.parametrize("color", ["lossless", "png"])
def test_lerobots_own_loader_reads_it(data: Path, tmp_path: Path, color: str) -> None:
    if not _has_lerobot():
        pytest.skip("needs the package lerobot: set LEROBOT_PYTHON to a Python that has it")
    assert export(data, tmp_path / "set", "--color", color) == 0
    program = Path(__file__).with_name("lerobot_loader.py")
    env = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "hf")}
    done = subprocess.run(
        [PYTHON, program, tmp_path / "set", tmp_path / "out.npz"], env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    loaded = dict(np.load(tmp_path / "out.npz"))
    about = json.loads(str(loaded.pop("about")))
    print(about["versions"])
    guided = [(name, g) for name in WORDS for g in Episode(data / "episodes" / name).guided_frames()]
    assert (about["episodes"], about["frames"]) == (2, len(guided))
    assert about["tasks"] == [WORDS[name] for name, _ in guided]
    assert {*FEATURES, COLOR, DEPTH} <= set(loaded)
    assert {"action", "observation.state", COLOR, DEPTH} <= set(about["stats"])
    source = LeRobotSet(tmp_path / "set")
    rows = [row for episode in source.episodes for row in source.rows(episode, [*FEATURES])]
    for i, ((_, one), row) in enumerate(zip(guided, rows, strict=True)):
        rgb = np.rint(loaded[COLOR][i] * 255).astype(np.uint8)
        np.testing.assert_array_equal(np.moveaxis(rgb, 0, -1), one.frame.rgb)
        assert loaded[DEPTH][i, 0].tobytes() == one.frame.depth_m.tobytes()
        for name in FEATURES:
            np.testing.assert_allclose(
                np.ravel(loaded[name][i]), np.ravel(row[name]), rtol=1e-6, atol=1e-7, equal_nan=True
            )
    np.testing.assert_array_equal(loaded["observation.stamp_ns"], [g.frame.stamp_ns for _, g in guided])
    assert about["second"]["frames"] == 3
    np.testing.assert_allclose(about["second"]["actions"], [rows[4]["action"], rows[5]["action"]], atol=1e-6)
