"""Disk, shared memory, load, depth, calibration's age and a checkpoint's bounds: each limit, from both sides."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from policy.test_learned import checkpoint

from stvla_ros.camera.place import FORMAT
from stvla_ros.doctor.camera import DAY_NS, check_calibration_age, check_depth
from stvla_ros.doctor.finding import State, told
from stvla_ros.doctor.host import check_disk, check_load, check_shared_memory
from stvla_ros.doctor.workspace import Box, check_bounds, check_checkpoint

NOW_NS = 1_800_000_000_000_000_000
WORKSPACE = Box(np.array([0.15, -0.65, 0.0]), np.array([0.85, 0.65, 0.9]))


@pytest.mark.parametrize(
    ("free", "rate", "state", "words"),
    [
        (2e9, 25e6, State.WRONG, "2.0 GB free in /data, 80 s of recording at 25.0 MB/s"),
        (20e9, 25e6, State.WARNING, "13 min of recording"),
        (2e12, 25e6, State.OK, "22 h of recording"),
        (2e9, None, State.WRONG, "a usual camera"),
    ],
)
def test_room_on_the_disk(free: float, rate: float | None, state: State, words: str) -> None:
    found = check_disk(Path("/data"), free, rate)
    assert (found.state, words in found.figure) == (state, True), found.figure
    assert found.value == pytest.approx(free / (rate or 46.08e6))


def test_a_container_with_64_mb_of_shared_memory() -> None:
    assert check_shared_memory(60e6).state is State.WRONG
    assert "--shm-size" in check_shared_memory(60e6).remedy
    assert check_shared_memory(200e6).state is State.WARNING
    assert check_shared_memory(1e9).state is State.OK


def test_a_busy_machine() -> None:
    assert [check_load(load, 2).state for load in (1.0, 3.5)] == [State.OK, State.WARNING]
    assert ["sysctl" in check_load(3.5, 2, grouped).remedy for grouped in (False, True)] == [False, True]


def depth(holes: float, metres: float = 0.9) -> np.ndarray:
    image = np.full((40, 50), metres, np.float32)
    image.flat[: round(holes * image.size)] = np.nan
    return image


@pytest.mark.parametrize(
    ("image", "state", "words"),
    [
        (depth(0.1), State.OK, "90 % of the pixels"),
        (depth(0.4), State.WARNING, "40 % are holes"),
        (depth(0.7), State.WRONG, "70 % are holes"),
        (depth(1.0), State.WRONG, "no pixel has a depth"),
        (depth(0.1, 900.0), State.WRONG, "millimetres as 16UC1"),
        (depth(0.1, 0.15), State.WRONG, "move the camera away"),
    ],
)
def test_depth(image: np.ndarray, state: State, words: str) -> None:
    found = check_depth(image)
    assert (found.state, words in found.sentence) == (state, True), found.sentence


def calibration(folder: Path, days: float) -> str:
    file = folder / "calibration.yaml"
    file.write_text(yaml.safe_dump({"format": FORMAT, "written_ns": round(NOW_NS - days * DAY_NS)}))
    return str(file)


@pytest.mark.parametrize(
    ("days", "state", "words"),
    [
        (0.25, State.OK, "6 h ("),
        (30, State.OK, "30 days ("),
        (120, State.WARNING, "`stvla calibrate --check`"),
        (-3, State.WARNING, "3.0 days in the future"),
    ],
)
def test_calibrations_grow_old(days: float, state: State, words: str, tmp_path: Path) -> None:
    found = check_calibration_age(calibration(tmp_path, days), NOW_NS)
    assert (found.state, words in found.sentence) == (state, True), found.sentence


def test_no_calibration(tmp_path: Path) -> None:
    assert check_calibration_age("", NOW_NS).state is State.UNSEEN
    assert check_calibration_age(str(tmp_path / "none.yaml"), NOW_NS).state is State.WRONG


def box(low: list[float], high: list[float]) -> Box:
    return Box(np.array(low), np.array(high))


def table(x_m: float = 0.5, y_m: float = 0.0, half_m: float = 0.2) -> np.ndarray:
    """(N, 3) points of a square table, and of things above it."""
    rng = np.random.default_rng(0)
    flat = np.c_[rng.uniform(-half_m, half_m, (2000, 2)) + np.array([x_m, y_m]), rng.normal(0, 0.003, 2000)]
    return np.vstack([flat, flat + np.array([0, 0, 0.3]), np.full((50, 3), np.nan)])


def test_bounds_that_fit() -> None:
    found = check_bounds(box([0.2, -0.5, 0.0], [0.8, 0.5, 0.8]), WORKSPACE, table())
    assert (found.state, found.value) == (State.OK, 1.0)


@pytest.mark.parametrize(
    ("bounds", "points", "state", "words"),
    [
        (box([0.2, 0.1, 0.0], [0.8, 0.6, 0.8]), table(), State.WRONG, "% of the table in view"),
        (box([0.2, -0.1, 0.0], [0.8, 0.6, 0.8]), table(), State.WARNING, "75 % of the table in view"),
        (box([-0.8, -0.5, 0.0], [0.1, 0.5, 0.8]), table(), State.WRONG, "none of which is in the executor's workspace"),
        (box([0.2, -0.5, 1.0], [0.8, 0.5, 1.6]), table(), State.WRONG, "none of which is in the executor's workspace"),
        (box([0.2, -0.5, 0.0], [0.5, 0.5, 0.8]), None, State.WARNING, "no table is in view"),
    ],
)
def test_bounds_of_another_cell(bounds: Box, points: np.ndarray | None, state: State, words: str) -> None:
    found = check_bounds(bounds, WORKSPACE, points)
    assert (found.state, words in found.figure) == (state, True), found.figure
    assert found.remedy


def test_checkpoints_that_cannot_be_looked_at(tmp_path: Path) -> None:
    assert check_checkpoint("scripted", "", WORKSPACE, None).state is State.OK
    assert "policy.3dfa.checkpoint names no file" in check_checkpoint("3dfa", "", WORKSPACE, None).figure
    missing = check_checkpoint("3dfa", str(tmp_path / "none.safetensors"), WORKSPACE, None)
    assert (missing.state, missing.remedy) == (State.WRONG, "set policy.3dfa.checkpoint to another file")


def test_a_genuine_checkpoint_is_read(tmp_path: Path) -> None:
    file = checkpoint(tmp_path / "p.safetensors", bounds=((0.2, -0.5, 0.0), (0.8, 0.5, 0.8)))
    assert check_checkpoint("3dfa", str(file), WORKSPACE, table()).value == 1.0
    found = check_checkpoint("3dfa", str(file), WORKSPACE, table(y_m=0.45))
    assert (found.state, "(0.20, -0.50, 0.00) to (0.80, 0.50, 0.80) m" in found.figure) == (State.WARNING, True), found


def test_a_sentence_is_split_into_fault_and_remedy() -> None:
    found = told("Camera", "The clock is 0.3 s ahead; at most 0.1 s is accepted: synchronise the clocks (chrony).")
    assert (found.figure[-8:], found.remedy) == ("accepted", "synchronise the clocks (chrony)")
    assert json.loads(json.dumps(found.as_json()))["state"] == "wrong"
    assert told("x", "No reason.").remedy == ""
