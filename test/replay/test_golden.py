"""What a golden file forgives, and what it does not."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from replay.sample import SampleTask, decision

from stvla_ros.config import ConfigError
from stvla_ros.evaluate.stack import StackSettings
from stvla_ros.replay import golden
from stvla_ros.replay.canonical import alike, apart, canonical, decision_hash
from stvla_ros.replay.running import Setup
from stvla_ros.replay.values import Decision, Kind, Mode, Replay

SETUP = Setup("replayed", StackSettings())
TASK = SampleTask()


def made(shift_m: float = 0.0) -> Replay:
    decisions: tuple[Decision, ...] = tuple(
        decision(m.number, m.kind, m.image_stamp_ns, shift_m if m.number == 3 else 0.0) for m in TASK.moments
    )
    return Replay("replayed", Mode.TEACHER_FORCED, decisions, decision_hash(decisions))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    golden.write_golden(tmp_path / "g.json", TASK, SETUP, made())
    return tmp_path / "g.json"


def test_one_decision_per_line(file: Path) -> None:
    lines = file.read_text().splitlines()
    assert sum(line.startswith('  {"step":') for line in lines) == len(TASK.moments)
    assert json.loads(file.read_text())["hash"] == made().hash


def test_the_same(file: Path) -> None:
    assert golden.check_golden(file, TASK, SETUP, made()) == golden.Verdict(
        True, "All 10 decisions are the golden ones."
    )


def test_one_step_of_rounding_is_forgiven_and_two_are_not(file: Path) -> None:
    near = golden.check_golden(file, TASK, SETUP, made(1.0e-4))
    assert near.same
    assert "up to rounding" in near.sentence
    far = golden.check_golden(file, TASK, SETUP, made(3.0e-4))
    assert not far.same
    assert far.sentence == "Step 3 (predict, 2.00 s): keypose.position is 0.3 mm off."


def test_a_decision_that_is_missing(file: Path) -> None:
    short = made()
    short = Replay(short.name, short.mode, short.decisions[:-1], "other")
    assert golden.check_golden(file, TASK, SETUP, short).sentence.endswith("it is missing.")


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ('"step":3,', "", "has no number"),
        ('"contact":false', '"contact":true', "it was edited"),
        ("stvla golden 1", "else", "wanted a golden file"),
    ],
)
def test_a_file_that_cannot_be_used(file: Path, old: str, new: str, sentence: str) -> None:
    file.write_text(file.read_text().replace(old, new))
    with pytest.raises(ConfigError, match=sentence):
        golden.check_golden(file, TASK, SETUP, made())


def test_masks_are_forgiven_a_few_pixels_and_no_other_instances() -> None:
    form = canonical(decision(1, Kind.GUIDE, 0))

    def changed(**parts: Any) -> dict[str, Any]:
        other = copy.deepcopy(form)
        other["mask"] |= parts
        return other

    pixels = form["mask"]["pixels"]
    assert alike(form, changed(bits="0" * 64))
    assert alike(form, changed(bits="0" * 64, pixels=[n + 8 for n in pixels]))
    assert apart(form, changed(pixels=[n + 60 for n in pixels])) == ["mask.pixels"]
    assert apart(form, changed(kept=form["mask"]["kept"] + 1)) == ["mask.kept"]
    assert "mask.pixels" in apart(form, changed(pixels=None))
