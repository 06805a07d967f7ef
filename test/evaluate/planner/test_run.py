"""The command end to end: asked once, kept, taken up again, counted; what goes wrong ends in a sentence."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stvla_ros import registry
from stvla_ros.cli import joined, main
from stvla_ros.config import ConfigError, param
from stvla_ros.data.st_human.samples import Objects, Sample, conversation, write_image
from stvla_ros.data.st_human.samples_json import write_samples
from stvla_ros.errors import CancelToken, OutcomeCode, StageError
from stvla_ros.evaluate.planner.run import PATIENCE, Replies
from stvla_ros.planning.chat import Turn

PATH = tuple((100.0 + 100 * k, 500.0) for k in range(8))


@dataclass(frozen=True)
class KnowingConfig:
    """Settings of a model that is told its answers."""

    answers: str = param("{}", "question -> answer, as JSON")


class KnowingModel:
    """Answers what it is told; keeps what it was asked."""

    name = "knowing"
    asked: list[Sequence[Turn]] = []  # noqa: RUF012 - looked at by the tests, across instances

    def __init__(self, answers: Mapping[str, str]) -> None:
        self._answers = answers

    def reply(
        self,
        turns: Sequence[Turn],
        max_tokens: int,
        schema: Mapping[str, Any] | None = None,
        cancel: CancelToken | None = None,
    ) -> str:
        KnowingModel.asked.append(turns)
        answer = self._answers.get(turns[-1].text, "I do not know.")
        if answer == "late":
            raise StageError(OutcomeCode.SERVER_ERROR, "The connection broke off.")
        return answer


class KnowingPlanner:
    """A planner with that model."""

    Config = KnowingConfig

    def __init__(self, config: KnowingConfig) -> None:
        self.model = KnowingModel(json.loads(config.answers))


@pytest.fixture(autouse=True)
def knowing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(registry.BACKENDS["planner"], "knowing", f"{__name__}:KnowingPlanner")
    monkeypatch.setattr(registry, "load", lambda kind, name: KnowingPlanner if name == "knowing" else LOAD(kind, name))
    KnowingModel.asked = []


LOAD = registry.load

SAMPLES = (
    ("point", "pointing", ("Where?", "(500, 500)"), Objects(point_2d=(500, 500), bbox_2d=(400, 400, 600, 600))),
    ("path", "trajectory", ("Draw.", "[...]"), Objects(traj_2d=PATH)),
    ("later", "trajectory", ("Draw on.", "[...]"), Objects(traj_2d=PATH, step=2, steps=3)),
    (
        "depth",
        "depth",
        ("Draw.", "[...]", "How deep?", "[...]"),
        Objects(depth_offset_mm=(0.0,) * 8, start_depth_m=1.0),
    ),
    ("next", "next_action", ("Next?", "pick up the red block"), Objects()),
    ("step", "progress", ("Which?", "step 2 of 3, finished: no"), Objects(step=2, steps=3, finished=False)),
    ("choice", "spatial", ("Left? (A) yes (B) no", "(B)"), Objects()),
)

ANSWERS = {
    "Where?": "<point>[[530, 540]]</point>",
    "Draw.": str([(int(x) + 30, int(y) + 40) for x, y in PATH]),
    "Draw on.": "[(1, 2), (3, 4)]",  # not 8 points
    "How deep?": "[0, 10, 20, 0, 0, 0, 0, 90]",
    "Next?": "Pick up the blue block.",
    "Which?": "step 3 of 3, finished: yes",
    "Left? (A) yes (B) no": "no idea",
}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    image = write_image(folder, "a", np.zeros((30, 40, 3), np.uint8))
    samples = [
        Sample(id_, task, conversation(f"<image>{words[0]}", *words[1:]), (image,), objects)
        for id_, task, words, objects in SAMPLES
    ]
    write_samples(folder / "test.jsonl", samples)
    return folder


def evaluate(data: Path, output: Path, answers: Mapping[str, str] = ANSWERS, *more: str) -> int:
    told = f"planner.knowing.answers={json.dumps(json.dumps(answers))}"
    words = ["evaluate", "planner", "--planner", "knowing", "--dataset", "st-human", "--data", str(data)]
    return main([*words, "--output", str(output), "--set", told, *more])


def groups(output: Path) -> dict[str, dict[str, Any]]:
    return {row["group"]: row for row in json.loads((output / "results.json").read_text())["groups"]}


def test_every_task_is_asked_and_counted(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    assert evaluate(data, out) == 0
    rows = groups(out)
    rates = dict.fromkeys(("hit_rate", "soft_hit_rate", "hit_rate_pooled", "any_hit_rate_pooled"), 1.0)
    wanted = rates | {"distance": 50.0, "median_distance": 50.0, "success_rate": 0.0}
    assert rows["pointing"]["figures"] == pytest.approx(wanted)
    assert rows["trajectory"]["figures"] == pytest.approx({"rmse": 50 * 0.999, "mae": 35 * 0.999})
    assert (rows["trajectory, later step"]["unreadable"], rows["trajectory, later step"]["figures"]) == (1, {})
    assert rows["depth"]["figures"] == pytest.approx({"mad_cm": 1.5, "depth_accuracy": 7 / 8})
    assert rows["next_action"]["figures"] == pytest.approx({"token_f1": 3 / 4, "rouge_l": 3 / 4})
    assert rows["progress"]["figures"] == {"step_accuracy": 0.0, "step_mae": 1.0, "status_accuracy": 0.0}
    assert rows["spatial"]["figures"] == {"accuracy": 0.0, "answered": 0.0, "loose_accuracy": 0.0}
    shown = capsys.readouterr().out
    for words in ("knowing on st-human, 7 questions", "rmse", "49.95", "any_hit_rate_pooled", "100.0 %"):
        assert words in shown
        assert words in (out / "results.txt").read_text()


def test_earlier_answers_are_the_true_ones(data: Path, tmp_path: Path) -> None:
    evaluate(data, tmp_path / "out")
    (deep,) = [turns for turns in KnowingModel.asked if turns[-1].text == "How deep?"]
    assert [(t.role, t.text, len(t.images)) for t in deep] == [
        ("user", "Draw.", 1), ("assistant", "[...]", 0), ("user", "How deep?", 0),
    ]  # fmt: skip


def test_a_run_is_taken_up_where_it_ended(data: Path, tmp_path: Path) -> None:
    whole, out = tmp_path / "whole", tmp_path / "out"
    evaluate(data, whole)
    shutil.copytree(whole, out)
    lines = (out / "replies.jsonl").read_text().splitlines(keepends=True)
    (out / "replies.jsonl").write_text("".join(lines[:3]) + lines[3][:20])  # ended in the middle of a line
    KnowingModel.asked = []
    assert evaluate(data, out) == 0
    assert len(KnowingModel.asked) == len(SAMPLES) - 3
    KnowingModel.asked = []
    assert evaluate(data, out) == 0
    assert KnowingModel.asked == []
    unlike = ("seconds",)
    for row, other in zip(groups(whole).values(), groups(out).values(), strict=True):
        assert {k: v for k, v in row.items() if k not in unlike} == {k: v for k, v in other.items() if k not in unlike}


def test_a_folder_never_mixes_two_ways_of_asking(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    evaluate(data, tmp_path / "out")
    assert evaluate(data, tmp_path / "out", {}) == 2
    assert "other settings (settings)" in capsys.readouterr().err


def test_answers_too_late_are_asked_again_and_many_end_the_run(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert evaluate(data, out, {**ANSWERS, "Next?": "late"}) == 0
    assert groups(out)["next_action"]["figures"] == {"token_f1": 0.0, "rouge_l": 0.0}
    assert '"next"' not in (out / "replies.jsonl").read_text()
    assert evaluate(data, tmp_path / "dead", dict.fromkeys(ANSWERS, "late")) == 3
    assert f"{PATIENCE} questions in a row were not answered: The connection broke off" in capsys.readouterr().err


def test_limit_draws_the_same_questions(data: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        evaluate(data, tmp_path / name, ANSWERS, "--limit", "3", "--seed", "5")
    first, second = (list(groups(tmp_path / name)) for name in ("a", "b"))
    assert first == second
    assert len(KnowingModel.asked) == 6


def test_wrong_words_are_refused_in_a_sentence(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    right = ["--dataset", "st-human", "--data", str(data), "--output", str(tmp_path / "out")]
    for words, sentence in (
        ([], "wanted --dataset NAME and --data DIR"),
        (["--dataset", "cvbensh"], "Did you mean 'cvbench'?"),
        ([*right, "--planner", "colour"], "planner 'colour' draws paths and answers no questions"),
        ([*right, "--encoder", str(tmp_path)], "wanted the folder of an encoder"),
        ([*right, "--spot-radius", "-1"], "wanted a number above 0"),
        ([*right, "--tasks", "a"], "'--tasks' is not understood"),
    ):
        assert main(["evaluate", "planner", *words]) == 2
        assert sentence in capsys.readouterr().err


def test_damaged_replies(tmp_path: Path) -> None:
    (tmp_path / "replies.jsonl").write_text('{"id": "a"}\n')
    with pytest.raises(ConfigError, match="damaged"):
        Replies(tmp_path, {})


def test_two_words_may_name_a_command() -> None:
    assert joined(["evaluate", "planner", "--x"]) == ["evaluate-planner", "--x"]
    assert joined(["evaluate", "--planner", "colour"]) == ["evaluate", "--planner", "colour"]
    assert joined(["run"]) == ["run"]
