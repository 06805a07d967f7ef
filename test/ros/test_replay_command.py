"""``stvla replay`` on the small bags: golden files, two sets of settings, a broken policy, a shifted camera, folders."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stvla_ros import registry
from stvla_ros.cli import main
from stvla_ros.commands.exit_codes import NOT_CONFIRMED, USAGE
from stvla_ros.policy.scripted import ScriptedPolicy
from stvla_ros.ros.convert import matrix_to_pose
from stvla_ros.types import Keypose, Observation

BAGS = Path(__file__).parents[1] / "replay" / "bags"
BUTTONS = BAGS / "push_buttons"

Command = Callable[..., tuple[int, str]]


class Beside(ScriptedPolicy):
    """A broken policy: from the second keypose on, it is 3 cm beside the right one."""

    calls = 0

    def predict(self, observation: Observation) -> Keypose | None:
        keypose = super().predict(observation)
        self.calls += 1
        if keypose is None or self.calls < 2:
            return keypose
        T = keypose.T_base_tcp.copy()
        T[1, 3] += 0.03
        return replace(keypose, T_base_tcp=T)


@pytest.fixture
def beside(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setitem(registry.BACKENDS["policy"], "beside", f"{__name__}:Beside")
    return "beside"


@pytest.fixture
def command(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Command:
    monkeypatch.setenv("COLUMNS", "200")

    def call(*words: object, output: str = "out") -> tuple[int, str]:
        code = main(["replay", *map(str, words), "--output", str(tmp_path / output)])
        said = capsys.readouterr()
        return code, said.out + said.err

    return call


def first_line(folder: Path) -> str:
    """The first line of a report."""
    page = (folder / "report.html").read_text()
    return page[page.index("<h1") : page.index("</h1>")].partition(">")[2]


@pytest.mark.parametrize("name", sorted(place.name for place in BAGS.iterdir()))
def test_the_stages_decide_on_a_bag_as_they_always_did(name: str, command: Command) -> None:
    """Regression of planner, guide, policy and motion. After a wanted change delete the golden file and run the command."""
    code, said = command(BAGS / name, "--golden", BAGS / name / "golden.json")
    assert code == 0, said
    assert "decisions are the golden ones" in said
    assert sum(file.stat().st_size for file in (BAGS / name / "bag").iterdir()) < 3e6


def test_the_files_of_a_replay(command: Command, tmp_path: Path) -> None:
    code, said = command(BUTTONS, "--every-frame")
    content = json.loads((tmp_path / "out" / "replay.json").read_text())
    (made,) = content["replays"]
    assert code == 0
    assert f"{made['hash']}  replayed" in said
    assert content["headline"] == first_line(tmp_path / "out")
    assert len(made["decisions"]) == 12
    assert {d["kind"] for d in made["decisions"]} == {"plan", "guide", "predict", "move"}
    assert content["hashes"][1] == made["hash"]


def test_a_golden_file_is_written_and_then_a_test(command: Command, tmp_path: Path, beside: str) -> None:
    golden = tmp_path / "golden.json"
    assert "there was none; written" in command(BUTTONS, "--golden", golden)[1]
    assert command(BUTTONS, "--golden", golden)[0] == 0
    code, said = command(BUTTONS, "--golden", golden, "--policy", beside)
    assert code == NOT_CONFIRMED
    assert "(predict, " in said
    assert "keypose.position is 30.0 mm off" in said
    code, said = command(BUTTONS, "--golden", golden, "--mode", "free")
    assert code == USAGE
    assert "made with mode 'teacher-forced', this replay with 'free'" in said


def test_a_broken_policy_is_found_where_it_breaks(command: Command, tmp_path: Path, beside: str) -> None:
    code, said = command(BUTTONS, "--against", "--policy", beside)
    line = first_line(tmp_path / "out")
    assert code == 0
    assert line in said.replace("&#x27;", "'")
    assert line.startswith("policy=beside parts from as recorded first at ")
    assert "(predict, moment" in line
    assert "the keypose is 30.0 mm and 0.00 deg off" in line
    found = json.loads((tmp_path / "out" / "replay.json").read_text())["differences"]
    assert {d["kind"] for d in found if not d["equal"]} == {"predict"}


def test_a_camera_that_was_shifted_by_2_cm_is_named(command: Command, tmp_path: Path) -> None:
    pose = matrix_to_pose(shifted_camera(0.02))
    numbers = [pose.position.x, pose.position.y, pose.position.z]
    numbers += [pose.orientation.x, pose.orientation.y, pose.orientation.z, pose.orientation.w]
    code, said = command(BUTTONS, f"--extrinsics={','.join(f'{v:.9f}' for v in numbers)}")
    assert code == 0
    line = first_line(tmp_path / "out")
    assert "(plan, moment 0)" in line
    assert "lifted (+0, +20, +0) mm off, as if the camera stood elsewhere" in line
    assert "as if the camera stood elsewhere" in said


def shifted_camera(y_m: float) -> np.ndarray[Any, Any]:
    """The pose of the bag's camera, beside it."""
    from ros.observed_bags import CAMERA, ROBOT

    from stvla_ros.ros.recorded_task import open_task

    task = open_task(BUTTONS / "bag", CAMERA, ROBOT)
    T = task.frame(task.moments[0].image_stamp_ns).camera.T_base_camera.copy()
    T[1, 3] += y_m
    return T


def test_a_folder_is_resumed_and_has_paired_statistics(command: Command, tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    for name in ("a", "b"):
        shutil.copytree(BUTTONS, runs / name)
    (runs / "c" / "bag").mkdir(parents=True)
    (runs / "c" / "bag" / "bag_0.mcap").write_bytes(b"nothing")
    words = (runs, "--against", "--set", "guidance.tube_radius_m=0.3")
    code, said = command(*words)
    assert code == 0
    assert "Left out: " in said
    assert "2 of 2 recordings have decisions that differ." in said
    assert "mask IoU" in said
    before = (tmp_path / "out" / "a-bag" / "replay.json").stat().st_mtime_ns
    assert "2 of 2 recordings have decisions that differ." in command(*words)[1]
    assert (tmp_path / "out" / "a-bag" / "replay.json").stat().st_mtime_ns == before
    index = (tmp_path / "out" / "index.html").read_text()
    assert "a-bag/report.html" in index
    assert "nothing" not in index
    command(runs, "--policy", "scripted")  # other settings: nothing counts as done
    assert (tmp_path / "out" / "a-bag" / "replay.json").stat().st_mtime_ns != before


def test_recorded_plans_need_no_planner(command: Command) -> None:
    assert "All 12 decisions are equal" in command(BUTTONS, "--planner", "recorded")[1]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--against",), "--against wants a parameter file, or other settings after it"),
        (("--golden", "g.json", "--against", "--policy", "3dfa"), "--golden is about one set of settings"),
        (("--set", "sim.seed=3"), "this command does not use it"),
    ],
)
def test_what_makes_no_sense_is_refused(command: Command, words: tuple[str, ...], sentence: str) -> None:
    code, said = command(BUTTONS, *words)
    assert code == USAGE
    assert sentence in said


def test_golden_files_of_a_folder(command: Command, tmp_path: Path, beside: str) -> None:
    runs, golden = tmp_path / "runs", tmp_path / "golden"
    shutil.copytree(BUTTONS, runs / "a")
    assert command(runs, "--golden", golden)[0] == 0
    assert [file.name for file in golden.iterdir()] == ["a-bag.json"]
    assert command(runs, "--golden", golden, "--policy", beside)[0] == 4
    (runs / "c" / "bag").mkdir(parents=True)
    (runs / "c" / "bag" / "bag_0.mcap").write_bytes(b"nothing")
    code, said = command(runs, "--golden", golden)
    assert "decisions are the golden ones" in said
    assert "Left out: " in said
    assert code == 4, "a recording that cannot be tested has not passed"
