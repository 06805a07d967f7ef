"""A bag of our own stack as a task to decide again: moments in order, frames by stamp, odd recordings."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from ros.bags import usual
from ros.observed_bags import CAMERA, ROBOT, START_NS, observed, small_settings, write_observed

from stvla_ros.config import ConfigError
from stvla_ros.errors import OutcomeCode, StageError
from stvla_ros.replay.canonical import canonical
from stvla_ros.replay.observing import ObservedTask
from stvla_ros.replay.values import Kind
from stvla_ros.ros.recorded_task import BagTask, open_task

SETTINGS = small_settings(240, 180)


@pytest.fixture(scope="module")
def observed_task() -> ObservedTask:
    return observed("push_buttons", 2, SETTINGS)


@pytest.fixture(scope="module")
def bag(observed_task: ObservedTask, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_observed(observed_task, tmp_path_factory.mktemp("runs") / "one", SETTINGS)


def test_a_bag_says_what_was_given_and_decided(bag: Path, observed_task: ObservedTask) -> None:
    task = open_task(bag, CAMERA, ROBOT)
    assert task.name == "one"
    assert task.instruction == observed_task.instruction
    assert task.outcome is not None
    assert task.outcome.ok
    assert task.notes == ()
    assert task.settings["guidance"]["segmenter"] == "geometric"
    assert len(task.moments) == len(observed_task.moments) > 10
    for found, known in zip(task.moments, observed_task.moments, strict=True):
        assert (found.number, found.kind, found.plan_id) == (known.number, known.kind, known.plan_id)
        assert found.image_stamp_ns == known.image_stamp_ns + START_NS
        assert found.recorded is not None
        assert known.recorded is not None
        assert canonical(found.recorded) == canonical(known.recorded)
        assert len(found.history) == len(known.history)
        assert found.robot is not None
        assert known.robot is not None
        assert np.array_equal(found.robot.q_rad, known.robot.q_rad)
        if known.after is not None:
            assert found.after is not None
            assert np.array_equal(found.after.q_rad, known.after.q_rad)


def test_frames_by_stamp_in_any_order(bag: Path, observed_task: ObservedTask) -> None:
    task = open_task(bag, CAMERA, ROBOT)
    stamps = sorted(observed_task.frames)
    for stamp_ns in (stamps[-1], stamps[0], stamps[0], stamps[-1]):
        found, known = task.frame(stamp_ns + START_NS), observed_task.frames[stamp_ns]
        assert np.array_equal(found.rgb, known.rgb)
        assert np.array_equal(found.depth_m, known.depth_m, equal_nan=True)
        assert np.allclose(found.camera.T_base_camera, known.camera.T_base_camera, atol=1e-12)
    with pytest.raises(StageError, match="no complete image of") as error:
        task.frame(START_NS + 17)
    assert error.value.code is OutcomeCode.STALE_IMAGE


def test_only_images_that_are_asked_for_are_decoded(bag: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task = open_task(bag, CAMERA, ROBOT)
    wanted = task.moments[0].image_stamp_ns
    task._stamps = [wanted]
    task._reader = task._open()
    task.frame(wanted)
    with pytest.raises(StageError):
        task.frame(task.moments[-1].image_stamp_ns)


def test_decisions_on_a_plan_from_before_the_recording_are_left_out(
    observed_task: ObservedTask, tmp_path: Path
) -> None:
    stale = next(m for m in observed_task.moments if m.kind is Kind.GUIDE)
    other = replace(observed_task, moments=[replace(stale, plan_id="of-before"), *observed_task.moments])
    task = open_task(write_observed(other, tmp_path / "run", SETTINGS), CAMERA, ROBOT)
    assert len(task.moments) == len(observed_task.moments)
    assert task.notes == ("1 decisions on plans from before the recording are left out.",)


def test_moments_are_ordered_by_what_was_seen(observed_task: ObservedTask, tmp_path: Path) -> None:
    """A planner that works in the background answers after frames that are newer than its image were guided."""
    first, *others = observed_task.moments
    late = replace(observed_task, moments=[*others[:2], first, *others[2:]])
    task = open_task(write_observed(late, tmp_path / "run", SETTINGS), CAMERA, ROBOT)
    assert task.moments[0].kind is Kind.PLAN
    assert [m.kind for m in task.moments] == [m.kind for m in observed_task.moments]


def test_the_complete_part_of_a_cut_off_recording_is_replayed(bag: Path, tmp_path: Path) -> None:
    cut = tmp_path / "cut"
    shutil.copytree(bag.parent, cut)
    file = next((cut / "bag").glob("*.mcap"))
    (cut / "bag" / "metadata.yaml").unlink()
    file.write_bytes(file.read_bytes()[: round(0.6 * file.stat().st_size)])
    task = open_task(cut / "bag", CAMERA, ROBOT)
    assert 0 < len(task.moments) < len(open_task(bag, CAMERA, ROBOT).moments)
    assert "interrupted" in task.notes[0]
    assert task.outcome is None


def test_a_bag_without_decisions_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"wanted the decisions of a task .* found none: replay takes recordings"):
        BagTask(usual(tmp_path / "bag", 3), CAMERA, ROBOT)
