"""The film decodes, the storyboard shows what was marked, the summary has its fields, the link moves."""

from __future__ import annotations

import json
import os
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from stvla_ros.errors import OutcomeCode
from stvla_ros.pipeline import TaskState
from stvla_ros.record import panels
from stvla_ros.record.folder import make_run_folder, point_latest
from stvla_ros.record.recorder import MAX_ROWS, STORYBOARD_SCALE, Recorder
from stvla_ros.record.summary import SCHEMA, Summary, idle_share, state_summary
from stvla_ros.record.video import VideoWriter
from stvla_ros.types import U8, Outcome

RED, GREEN, BLUE = (220, 20, 20), (20, 200, 20), (20, 20, 220)


def flat(colour: tuple[int, int, int]) -> U8:
    return np.full((480, 640, 3), colour, np.uint8)


def panel_colours(rgb: U8) -> list[int]:
    """Which channel dominates in the middle of each of the three panels of a row."""
    middle = rgb[panels.STRIP_PX + panels.HEIGHT_PX // 2]
    centres = [panels.WIDTH_PX * n + panels.WIDTH_PX // 2 for n in range(3)]
    return [int(np.argmax(middle[x])) for x in centres]


def read_storyboard(folder: Path) -> U8:
    """In the film's size."""
    board = cv2.cvtColor(cv2.imread(str(folder / "storyboard.png")), cv2.COLOR_BGR2RGB)
    return np.asarray(cv2.resize(board, None, fx=1 / STORYBOARD_SCALE, fy=1 / STORYBOARD_SCALE), np.uint8)


def record_run(folder: Path, moments: int = 3) -> None:
    recorder = Recorder(folder, "Put the red block in the plate.")
    for view, colour in zip(panels.VIEWS, (RED, GREEN, BLUE), strict=True):
        recorder.show(view, flat(colour))
    for n in range(20):
        recorder.say(f"moving, step {n}")
        if n < moments:
            recorder.mark(f"keypose {n}")
        recorder.tick(100.0 + 0.125 * n)
    recorder.finish("OK: done", 103.0)


def test_the_film_decodes_with_its_views_and_times(tmp_path: Path) -> None:
    record_run(tmp_path)
    with av.open(str(tmp_path / "run.mp4")) as film:
        frames = list(film.decode(video=0))
    assert len(frames) == 22
    assert [f.time for f in frames[:3]] == pytest.approx([0.0, 0.125, 0.25], abs=2e-3)
    assert frames[-1].time == pytest.approx(4.0, abs=2e-3)
    assert all(panel_colours(f.to_ndarray(format="rgb24")) == [0, 1, 2] for f in frames)
    assert (tmp_path / "run.mp4").stat().st_size < 200_000


def test_the_storyboard_has_a_row_per_moment(tmp_path: Path) -> None:
    record_run(tmp_path, moments=3)
    board = read_storyboard(tmp_path)
    row = panels.STRIP_PX + panels.HEIGHT_PX
    assert len(board) == pytest.approx(2 * panels.STRIP_PX + 4 * row, abs=2)
    for n in range(4):
        part = board[2 * panels.STRIP_PX + n * row :][:row]
        assert panel_colours(part) == [0, 1, 2]
        assert part[4 : panels.STRIP_PX - 4].max() > 150, "no caption"


def test_a_long_run_keeps_a_readable_storyboard_with_its_end(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, "long")
    for n in range(70):
        recorder.show("camera", flat((0, 0, 3 * n)))
        recorder.mark(str(n))
        recorder.tick(n)
    recorder.show("camera", flat(RED))
    recorder.finish("end", 70)
    board = read_storyboard(tmp_path)
    row = panels.STRIP_PX + panels.HEIGHT_PX
    rows = round((len(board) - 2 * panels.STRIP_PX) / row)
    assert MAX_ROWS // 2 <= rows <= MAX_ROWS
    assert panel_colours(board[-row:])[0] == 0


def test_late_and_repeated_times_are_written_in_order(tmp_path: Path) -> None:
    video = VideoWriter(tmp_path / "v.mp4", 64, 64)
    for t_s in (0.0, 0.0, 0.5, 0.4, 1.0):
        video.write(np.zeros((64, 64, 3), np.uint8), t_s)
    video.close()
    with av.open(str(tmp_path / "v.mp4")) as film:
        times = [f.time for f in film.decode(video=0)]
    assert len(times) == 5
    assert times == sorted(times)
    with pytest.raises(ValueError, match="even"):
        VideoWriter(tmp_path / "odd.mp4", 63, 64)


def test_panels_keep_the_aspect_and_cut_long_words() -> None:
    square = panels.fit(np.full((256, 256, 3), 255, np.uint8))
    assert square[panels.HEIGHT_PX // 2, panels.WIDTH_PX // 2].tolist() == [255] * 3
    assert square[panels.HEIGHT_PX // 2, 5].tolist() == list(panels.PAPER)
    assert panels.fit(np.zeros((1, 5000, 3), np.uint8)).shape == square.shape, "whatever a camera sends"
    assert panels.strip("word " * 500, 400).shape == (panels.STRIP_PX, 400, 3)


EVENTS = (
    {"elapsed_s": 0.0, "phase": "planning"},
    {"elapsed_s": 1.0, "phase": "predicting"},
    {"elapsed_s": 2.0, "phase": "moving"},
    {"elapsed_s": 6.0, "phase": "predicting"},
    {"elapsed_s": 7.0, "phase": "moving"},
    {"elapsed_s": 12.0, "phase": "planning"},
)


def test_idle_share_counts_between_first_and_last_motion() -> None:
    outcome = Outcome(OutcomeCode.OK, "Done.", {"motion": 7.0, "gripper": 1.0, "total": 13.0})
    assert idle_share(outcome, EVENTS) == pytest.approx(0.2)
    assert idle_share(outcome, EVENTS[:2]) is None
    assert idle_share(Outcome(OutcomeCode.OK, "Done."), EVENTS) is None


def test_the_summary_has_its_fields(tmp_path: Path) -> None:
    times = {"planning": 1.0, "total": 13.0}
    Summary("Push.", "OK", 0, "Done.", True, "all down", "push_buttons", 3, 4, 2, times, 0.2, {}, EVENTS).write(
        tmp_path
    )
    found = json.loads((tmp_path / "summary.json").read_text())
    assert found["schema"] == SCHEMA
    assert found["success"] is True
    assert found["seed"] == 3
    assert found["times_s"] == times
    assert len(found["events"]) == len(EVENTS)
    assert {"stvla", "python", "numpy"} <= set(found["versions"])


def test_the_state_in_a_summary_has_the_planners_latency() -> None:
    state = TaskState("Push.", "push it", 1, 2, True, ("look", "push it"), plan_times_s=(1.0, 2.0, 3.0))
    found = json.loads(json.dumps(state_summary(state)))
    assert (found["plan_p50_s"], found["plan_p95_s"]) == (2.0, pytest.approx(2.9))
    assert (found["step_index"], found["step_total"], found["sub_instructions"]) == (1, 2, ["look", "push it"])
    assert state_summary(TaskState("Push."))["plan_p50_s"] is None


def test_folders_never_collide_and_latest_moves(tmp_path: Path) -> None:
    folders = [make_run_folder(tmp_path / "runs") for _ in range(4)]
    assert len(set(folders)) == 4
    assert all(f.is_dir() for f in folders)
    for folder in folders:
        point_latest(folder)
        assert (tmp_path / "runs" / "latest").resolve() == folder.resolve()
    assert os.readlink(tmp_path / "runs" / "latest") == folders[-1].name
