"""``stvla guide``: recordings and simulated scenes become pictures, films and decisions."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from ray_caster import Scene, block, front_camera, home_robot, plate

from stvla_ros.cli import main
from stvla_ros.commands.guide import guide_frames, still_frames
from stvla_ros.data.recording import RecordingWriter
from stvla_ros.errors import OutcomeCode
from stvla_ros.evaluate.stack import StackSettings
from stvla_ros.sim.cell import Cell
from stvla_ros.types import Guidance

THINGS = [block("red", 0.45, 0.12, 0.4), block("blue", 0.55, -0.2), *plate(0.6, 0.1)]
PICK = "Put the red block in the plate."


@pytest.fixture(params=[True, False], ids=["with the arm", "camera only"])
def recording(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    writer = RecordingWriter(tmp_path / "recording")
    for k in range(3):
        frame, _ = Scene(THINGS).render(front_camera(320, 240), 0.001, k, 1_000_000_000 + 66_000_000 * k)
        writer.append(frame, home_robot(stamp_ns=frame.stamp_ns) if request.param else None)
    return tmp_path / "recording"


def test_a_recording_becomes_pictures_and_decisions(
    recording: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert main(["guide", str(recording), "--instruction", PICK, "--output", str(out)]) == 0
    lines = [json.loads(line) for line in (out / "guidance.jsonl").read_text().splitlines()]
    assert [line["replanned"] for line in lines] == [True, False, False]
    assert {(len(line["kept"]), len(line["removed"])) for line in lines} == {(2, 1)}
    assert cv2.imread(str(out / "guidance.jpg")).shape[1] == 4 * 424
    assert (out / "guidance.mp4").stat().st_size > 1000
    assert "3 of 3 frames guided" in capsys.readouterr().out


def test_what_cannot_be_found_is_the_exit_code(recording: Path, tmp_path: Path) -> None:
    asked = "Put the purple block in the plate."
    code = main(["guide", str(recording), "--instruction", asked, "--output", str(tmp_path / "out")])
    assert code == 20 + OutcomeCode.GOAL_NOT_GROUNDED
    line = json.loads((tmp_path / "out" / "guidance.jsonl").read_text().splitlines()[0])
    assert line["outcome"] == "GOAL_NOT_GROUNDED"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["nowhere", "--instruction", PICK], "wanted a folder with a recording"),
        (["."], "a recording needs --instruction"),
        (["--task", "pick_plaice"], "pick_place"),
        (["--segmenter", "geometrik"], "geometric"),
    ],
)
def test_wrong_usage_is_one_sentence(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["guide", *words]) == 2
    assert said in capsys.readouterr().err


def test_a_still_scene_in_simulation_keeps_its_decisions() -> None:
    settings = StackSettings().with_noise()
    cell = Cell(settings.cell)
    try:
        instruction = cell.reset("pick_place", 3, 3)
        results = [g.result for g in guide_frames(still_frames(cell, 4), instruction, settings, replan_s=0.1)]
    finally:
        cell.close()
    assert all(isinstance(r, Guidance) for r in results)
    assert len({(r.kept_ids, r.removed_ids) for r in results if isinstance(r, Guidance)}) == 1
    stamps = [r.frame.stamp_ns for r in results if isinstance(r, Guidance)]
    assert (np.diff(stamps) > 0).all()
