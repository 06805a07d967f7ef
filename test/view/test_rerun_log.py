"""What is logged for Rerun, read back from the file by its own reader."""

import sys
from pathlib import Path

import numpy as np
import pytest
from replay.sample import SampleTask, frame, replayed, robot

from stvla_ros.cli import main
from stvla_ros.config import ConfigError
from stvla_ros.data.recording import RecordedFrame, RecordingWriter
from stvla_ros.description.panda import LINKS
from stvla_ros.view import rerun_log

pytest.importorskip("rerun")
FRAME_NS = 100_000_000


def read(path: Path) -> dict[str, dict[str, list[object]]]:
    """Entity -> column -> values, of all its chunks; an entity's times are in the column of the timeline."""
    from rerun.chunk import RrdReader

    found: dict[str, dict[str, list[object]]] = {}
    for chunk in RrdReader(path).stream():
        columns = found.setdefault(chunk.entity_path.lstrip("/"), {})
        batch = chunk.to_record_batch()
        for name in batch.schema.names:
            columns.setdefault(name, []).extend(batch.column(name).to_pylist())
    return found


def times_s(columns: dict[str, list[object]]) -> list[float]:
    """Sorted, each once."""
    return sorted({round(value.total_seconds(), 3) for value in columns[rerun_log.TIMELINE]})  # type: ignore[attr-defined]


def test_frames_are_on_one_timeline(tmp_path: Path) -> None:
    frames = [RecordedFrame(frame(k * FRAME_NS), robot(k * FRAME_NS)) for k in range(1, 5)]
    with rerun_log.file(tmp_path / "a.rrd", "a") as log:
        assert rerun_log.log_frames(log, frames, 10.0) == 4
    found = read(tmp_path / "a.rrd")
    for entity in ("world/camera", "world/camera/image", "world/cloud", "plot/arm/joint7", "plot/arm/fingers"):
        assert times_s(found[entity]) == [0.0, 0.1, 0.2, 0.3], entity
    assert {f"world/robot/{link}" for link in LINKS} <= set(found)
    assert {name for columns in found.values() for name in columns if name in ("log_time", "log_tick")} == set()


def test_points_of_the_cloud_are_those_of_the_camera(tmp_path: Path) -> None:
    with rerun_log.file(tmp_path / "a.rrd", "a") as log:
        log.frame(frame(1))
    points = np.array(read(tmp_path / "a.rrd")["world/cloud"]["Points3D:positions"][0])
    assert len(points) <= rerun_log.MOST_POINTS
    assert np.abs(points[:, 2]).max() < 1e-6  # the table
    assert points.min(axis=0)[:2] == pytest.approx([0.5 - 79.5 / 200, -59.5 / 200], abs=0.01)


def test_a_rate_leaves_frames_out(tmp_path: Path) -> None:
    frames = [RecordedFrame(frame(k * FRAME_NS), None) for k in range(1, 11)]
    with rerun_log.file(tmp_path / "a.rrd", "a") as log:
        assert rerun_log.log_frames(log, frames, 5.0) == 5
    assert times_s(read(tmp_path / "a.rrd")["world/cloud"]) == [0.0, 0.2, 0.4, 0.6, 0.8]


def test_decisions_recorded_and_replayed(tmp_path: Path) -> None:
    task = SampleTask()
    replay, _ = replayed(task, {3: 0.02})
    with rerun_log.file(tmp_path / "a.rrd", "a") as log:
        rerun_log.log_task(log, task, 0.05, {"replayed": {d.number: d for d in replay.decisions}})
    found = read(tmp_path / "a.rrd")
    assert times_s(found["world/path/recorded"]) == [0.0, 5.0]
    assert times_s(found["world/keypose/replayed"]) == [3.0, 4.0, 8.0, 9.0]
    shown = [np.array(found[f"world/keypose/{s}"]["LineStrips3D:strips"][0][0]) for s in ("recorded", "replayed")]
    assert np.abs(shown[1] - shown[0] - [0.02, 0, 0]).max() < 1e-6
    assert found["plot/plan/recorded"]["Scalars:scalars"] == [[50.0], [50.0]]
    assert {"world/path/recorded/tube", "world/camera/image/painted_out/recorded"} <= set(found)
    assert "kept [1], removed [2]" in str(found["decisions/recorded"]["TextLog:text"])


def test_command_writes_a_file_where_there_is_no_screen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    writer = RecordingWriter(tmp_path / "run" / "recording")
    writer.append(frame(FRAME_NS), robot(FRAME_NS))
    monkeypatch.chdir(tmp_path)
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    assert main(["view", "run"]) == 0
    assert "1 of 1 frames logged" in capsys.readouterr().out
    assert times_s(read(tmp_path / "run.rrd")["world/camera"]) == [0.0]


def test_wrong_use_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    assert main(["view", str(tmp_path / "empty")]) == 2
    assert "wanted a rosbag2, a recording, or a folder with one, found none" in capsys.readouterr().err
    assert main(["view", str(tmp_path), "--output", "a.mp4"]) == 2
    assert main(["view", str(tmp_path), "--rate", "0"]) == 2
    monkeypatch.setitem(sys.modules, "rerun", None)
    assert main(["view", str(tmp_path)]) == 2
    assert "pip install rerun-sdk" in capsys.readouterr().err


def test_a_place_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="file"), rerun_log.file(tmp_path / "file" / "a.rrd", "a"):
        pass
