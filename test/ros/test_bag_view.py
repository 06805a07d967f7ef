"""`stvla doctor BAG`: what a recording will do for, and each fault of one by name."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ray_caster import HOME_Q_RAD, home_robot
from ros.bags import START, TENTH, TOPICS, Told, arm, shot, static, write
from ros.test_recorded_demonstration import recorded

from stvla_ros.cli import main
from stvla_ros.commands.exit_codes import USAGE
from stvla_ros.doctor.bag import CAMERA, COLLECT, REPLAY, BagView, check_bag
from stvla_ros.doctor.finding import State
from stvla_ros.ros import convert

COUNT = 40


def told(arm_ahead_ns: int = 0, joints: bool = True, every: int = 1, holes: float = 0.0) -> Iterator[Told]:
    """4 s: the arm moves down, closes the gripper and moves up again; pictures at 10 Hz."""
    yield START, "tf_static", static()
    for i in range(COUNT):
        at_ns = START + i * TENTH
        if i % every == 0:
            for topic, message in shot(at_ns, i).items():
                if topic == TOPICS.depth and holes:
                    depth = np.full((message.height, message.width), 0.5, np.float32)
                    depth[: round(holes * len(depth))] = np.nan
                    message = convert.depth_to_image_mm(depth, message.header)
                yield at_ns, topic, message
        if joints:
            q = HOME_Q_RAD + 0.3 * np.sin(np.pi * i / COUNT)
            yield at_ns, "joint_states", arm(at_ns + arm_ahead_ns, home_robot(0.08 if i < 20 else 0.02, q))


def doctor(bag: Path, capsys: pytest.CaptureFixture[str], *more: str) -> tuple[int, dict[str, dict[str, Any]]]:
    """Exit code, and the findings by name."""
    code = main(["doctor", str(bag), "--json", *more])
    findings = json.loads(capsys.readouterr().out)["findings"]
    return code, {finding["name"]: finding for finding in findings}


def test_a_demonstration_of_somebody_else(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, found = doctor(write(tmp_path / "bag", told()), capsys)
    assert code == 0, found
    assert found["Colour image"]["value"] == pytest.approx(10.0, rel=0.05)
    assert found["Frames"]["figure"].startswith("40 of 40")
    assert found["Arm's state"]["value"] == 1.0
    assert found["Depth"]["figure"].startswith("100 %")
    assert [found[use]["state"] for use in (CAMERA, COLLECT, REPLAY)] == ["ok", "ok", "warning"]
    assert "--instruction" in found[COLLECT]["remedy"]


@pytest.mark.parametrize(("failed", "state"), [(False, State.OK), (True, State.WARNING)])
def test_a_bag_of_our_stack(failed: bool, state: State, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, found = doctor(recorded(tmp_path / "bag", failed), capsys)
    assert code == 0, found
    assert found[COLLECT]["state"] == state
    assert "3 keyposes as the stack decided, 'Put the red block in the plate.'" in found[COLLECT]["figure"]
    assert ("NO_IK" in found[COLLECT]["figure"]) == failed
    assert found[REPLAY]["state"] == "ok"


FAULTS: dict[str, tuple[dict[str, Any], str, str]] = {
    "clock of the arm ahead": ({"arm_ahead_ns": 4 * TENTH}, "Clocks", "0.40 s older than those on"),
    "no joints": ({"joints": False}, "Arm's state", "known at 0 of 40 frames"),
    "most of the depth missing": ({"holes": 0.6}, "Depth", "% are holes"),
    "one picture per second": ({"every": 10}, "Colour image", "at least 4 Hz"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_each_fault_is_named_and_keeps_the_bag_from_learning(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    how, check, words = FAULTS[name]
    code, found = doctor(write(tmp_path / "bag", told(**how)), capsys)
    assert code == 1
    assert (found[check]["state"], words in found[check]["figure"]) == ("wrong", True), found[check]
    assert found[check]["remedy"]
    assert check in found[COLLECT]["figure"]
    assert found[CAMERA]["state"] == "ok"


def test_a_bag_without_depth_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    only = (one for one in told() if "depth" not in one[1])
    code, found = doctor(write(tmp_path / "bag", only), capsys)
    assert code == 1
    assert "aligned_depth_to_color" in found["Contents"]["figure"]
    assert found[CAMERA]["state"] == "wrong"


def test_a_bag_of_which_nothing_is_complete(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bag = write(tmp_path / "bag", told())
    (file,) = bag.glob("*.mcap")
    (bag / "metadata.yaml").unlink()
    file.write_bytes(file.read_bytes()[: file.stat().st_size * 2 // 3])
    code, found = doctor(bag, capsys)
    assert code == 1
    assert "found none that is complete" in found["Contents"]["figure"]


def test_a_bag_with_a_damaged_end_still_shows_the_camera_something() -> None:
    damaged = BagView(
        5.0, damage="x: damaged: read for 3.0 s: repair it.", images=30, frames=30, with_arm=30, keyposes=2
    )
    found = {finding.name: finding for finding in check_bag(damaged)}
    assert (found["Length"].state, found["Length"].remedy) == (State.WRONG, "repair it")
    assert (found[CAMERA].state, found[COLLECT].state) == (State.OK, State.WRONG)


def test_a_bag_of_which_some_images_make_no_frame() -> None:
    some = BagView(
        5.0, images=30, frames=20, with_arm=10, keyposes_fault="demonstration: frame 3 lacks the arm's state."
    )
    found = {finding.name: finding for finding in check_bag(some)}
    assert (found["Frames"].state, found["Arm's state"].state) == (State.WARNING, State.WARNING)
    assert (found[COLLECT].state, "frame 3 lacks" in found[COLLECT].figure) == (State.WRONG, True)


def test_what_is_no_bag(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "notes.txt").write_text("x")
    assert main(["doctor", str(tmp_path / "notes.txt")]) == USAGE
    assert "wanted a rosbag2" in capsys.readouterr().err
    assert main(["doctor", "planer"]) == USAGE
    assert "Did you mean 'planner'?" in capsys.readouterr().err
