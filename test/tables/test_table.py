"""Rows, their weights, what is on disk, and what a report says of it; without a simulator."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from odd_seeds import OddSeeds

from stvla_ros.config import ConfigError
from stvla_ros.evaluate.cell_environment import CellEnvironmentSetup
from stvla_ros.evaluate.episode import EpisodeRecord, EpisodeSpec, read_record
from stvla_ros.evaluate.evaluation import Evaluation
from stvla_ros.evaluate.workers import EnvironmentSetup, run_one
from stvla_ros.policy.checkpoint.policy_file import BOUNDS, PolicyFile
from stvla_ros.policy.words import Vocabulary
from stvla_ros.tables.failures import CLASSES, failure
from stvla_ros.tables.protocol import Column, Protocol, Row, Rows, read_protocol
from stvla_ros.tables.report import write
from stvla_ros.tables.run import ReadyRow, Table
from stvla_ros.train.policy.experiments import experiment

COLOUR, ORACLE = Row("scripted", "reference", "colour"), Row("scripted", "reference", "oracle")
FT, BASELINE = Row("3dfa", "ft", "colour", 0), Row("3dfa", "baseline", "colour", 0)


def small(scenes: int = 4) -> Protocol:
    """Two columns of two groups, one that is missing, and few rows."""
    full = read_protocol("table2")
    columns = (
        Column("jar", "seen", "close_jar", "seen", scenes="-"),
        Column("jar", "unseen", "close_jar", "unseen", scenes="-"),
        Column("three", "unseen", missing="there is no such task"),
    )
    rows = (Rows(("3dfa",), ("baseline", "ft"), ("colour",)), Rows(("scripted",), ("reference",), ("colour", "oracle")))
    primary = (FT.stack, BASELINE.stack, "unseen")
    return replace(
        full, name="small", scenes=scenes, training_seeds=(0, 1), rows=rows, columns=columns, primary=primary
    )


def table(folder: Path, limit: int = 4, patterns: tuple[str, ...] = (), protocol: Protocol | None = None) -> Table:
    """Of seeds 0, 1, 2, ... in the first column and 100, 101, ... in the second."""
    made = Table(folder / "out", protocol or small(), folder / "weights", limit, patterns)
    seeds = {"seen/jar": 0, "unseen/jar": 100}
    made.__dict__["scenes"] = {
        key: tuple(EpisodeSpec("close_jar", first + i) for i in range(limit)) for key, first in seeds.items()
    }
    return made


def run_here(setup: EnvironmentSetup, episodes: Iterable[EpisodeSpec], jobs: int) -> Iterator[EpisodeRecord]:
    """An engine without processes: what a table makes of records does not depend on where they come from."""
    with setup.open() as environment:
        for episode in episodes:
            yield run_one(environment, episode)


def run(made: Table, diary: Path) -> list[str]:
    """Run without a simulator: even seeds succeed. Names of the rows that were run."""
    ran = []

    def do(row: Row, evaluation: Evaluation, setup: CellEnvironmentSetup) -> None:
        ran.append(row.name)
        evaluation.run(OddSeeds(diary), 1, lambda record: None, run_here)

    made.run(do, lambda: None)
    write(made)
    return ran


def content(made: Table, figures: int = 0) -> dict[str, dict]:
    """Row -> what table.json says of it."""
    return {row["row"]: row for row in json.loads((made.folder / "table.json").read_text())["figures"][figures]["rows"]}


def save_policy(path: Path, guidance: str, seed: int = 0) -> None:
    """A policy of the right kind without any training."""
    network = replace(experiment("nano-3dfa").network, vocabulary=1)
    weights = {BOUNDS: torch.tensor([[0.0, -0.5, 0.0], [0.8, 0.5, 0.8]])}
    path.parent.mkdir(exist_ok=True)
    PolicyFile(network, weights, Vocabulary(()), guidance, trained={"seed": seed}).save(path)


def test_a_row_without_weights_is_not_run_and_never_a_number(tmp_path: Path) -> None:
    made = table(tmp_path)
    assert run(made, tmp_path / "diary") == ["scripted-reference-colour", "scripted-reference-oracle"]
    found = content(made)
    assert found["scripted-reference-colour"]["cells"]["seen/jar"]["successes"] == 2
    for arm, seed in (("baseline", 0), ("baseline", 1), ("ft", 0), ("ft", 1)):
        name = f"3dfa-{arm}-colour-{seed}"
        file = tmp_path / f"weights/3dfa-nano-{arm}-{seed}.safetensors"
        assert found[name] == {"row": name, "not_run": f"no weights: {file} not there"}
    text = (made.folder / "table.md").read_text()
    assert "| `3dfa-ft-colour`, training 0, 1 | full | not run | not run |" in text
    assert "| `3dfa-ft-colour`, training 0, 1 | full | not run | not run | not run |" in text, "with the missing column"
    assert "| column unseen/three | there is no such task |" in text
    assert "| `scripted-reference-colour` | full | 2/4 50 % (15–85) | 50 % (15–85) |" in text
    assert (made.folder / "table.png").read_bytes().startswith(b"\x89PNG")
    assert "LIMITED" not in text


def test_fewer_scenes_are_marked_everywhere_and_more_of_them_go_on_from_there(tmp_path: Path) -> None:
    diary = tmp_path / "diary"
    few = table(tmp_path, 1)
    run(few, diary)
    assert (
        "**LIMITED to 1 of 4 scenes a cell: a trial, not the protocol's table.**"
        in (few.folder / "table.md").read_text()
    )
    assert json.loads((few.folder / "table.json").read_text())["limited"] == 1
    full = table(tmp_path, 4)
    run(full, diary)
    assert json.loads((full.folder / "table.json").read_text())["limited"] is None
    episodes = [line for line in diary.read_text().splitlines() if line.startswith("close_jar")]
    assert len(episodes) == 2 * 2 * 4, "two rows, two columns, four scenes: none twice"
    assert all(episodes.count(line) == 2 for line in episodes), "once per row"


def test_the_first_scenes_are_reported_too(tmp_path: Path) -> None:
    made = table(tmp_path, 4, protocol=replace(small(), first=1))
    run(made, tmp_path / "diary")
    assert content(made, 0)[COLOUR.name]["cells"]["seen/jar"]["episodes"] == 4
    assert content(made, 1)[COLOUR.name]["cells"]["seen/jar"]["episodes"] == 1
    text = (made.folder / "table.md").read_text()
    assert "# All 4 scenes a cell" in text
    assert "# The first 1 scenes a cell" in text


def test_a_row_that_is_half_done_is_no_number(tmp_path: Path) -> None:
    made = table(tmp_path)
    run(made, tmp_path / "diary")
    records = made.folder / "rows" / COLOUR.name / "episodes"
    (records / "close_jar-0002.json").unlink()
    write(made)
    assert content(made)[COLOUR.name]["not_run"] == "only 7 of 8 scenes are done: the same command goes on"
    (records / "close_jar-0002.json.part").write_text("half a rec")
    run(made, tmp_path / "again")
    assert content(made)[COLOUR.name]["cells"]["seen/jar"]["episodes"] == 4
    assert [line for line in (tmp_path / "again").read_text().splitlines() if line.startswith("close_jar")] == [
        "close_jar 2"
    ]


def test_rows_by_name_and_what_others_found_before_stays(tmp_path: Path) -> None:
    assert run(table(tmp_path, patterns=("*-oracle",)), tmp_path / "diary") == [ORACLE.name]
    made = table(tmp_path, patterns=("scripted-*-colour",))
    assert run(made, tmp_path / "diary") == [COLOUR.name]
    assert "cells" in content(made)[ORACLE.name]
    comparison = json.loads((made.folder / "table.json").read_text())["figures"][0]["comparisons"]
    assert [c["rows"] for c in comparison] == [[ORACLE.name, COLOUR.name]] * 2
    assert comparison[0]["columns"]["seen/jar"] == {"scenes": 4, "only_first": 0, "only_second": 0, "p": 1.0}
    with pytest.raises(
        ConfigError, match=r"no row is named 'scripted-colour'. Did you mean 'scripted-reference-colour'"
    ):
        table(tmp_path, patterns=("scripted-colour",))
    with pytest.raises(ConfigError, match="wanted 1 to 4 scenes a cell, got 5"):
        table(tmp_path, 5)


def test_a_folder_never_mixes_protocols(tmp_path: Path) -> None:
    table(tmp_path).prepare()
    with pytest.raises(ConfigError, match=r"holds rows run with other settings \(noise\)"):
        table(tmp_path, protocol=replace(small(), noise=True)).prepare()


def test_weights_decide_what_a_row_is(tmp_path: Path) -> None:
    weights, made = tmp_path / "weights", table(tmp_path)
    save_policy(weights / "3dfa-nano-ft-0.safetensors", "full")
    save_policy(weights / "3dfa-nano-baseline-0.safetensors", "off")
    ft, baseline = made.ready(FT), made.ready(BASELINE)
    assert isinstance(ft, ReadyRow)
    assert isinstance(baseline, ReadyRow)
    assert (ft.settings.guide.mode, baseline.settings.guide.mode) == ("full", "off")
    assert ft.settings.sections["policy"]["checkpoint"] == str(weights / "3dfa-nano-ft-0.safetensors")
    assert str(tmp_path) not in json.dumps(ft.kept), "weights are known by name and content, not by place"
    assert "--set guidance.mode=full --set policy.3dfa.checkpoint=" in ft.rerun
    plain = {name: ft.settings.sections["policy"][name] for name in ("samples", "refine_m")}
    assert plain == {"samples": 1, "refine_m": 0.0}, "tables compare networks"
    assert ft.rerun.endswith("--set policy.3dfa.samples=1 --set policy.3dfa.refine_m=0.0")
    words = shlex.split(baseline.rerun)
    assert words[words.index("--set") + 1] == 'guidance.mode="off"', "without quotes YAML reads False"
    assert isinstance(made.ready(replace(FT, seed=1)), str)

    made.evaluation(FT, ft)[0].prepare()
    save_policy(weights / "3dfa-nano-ft-0.safetensors", "full", seed=1)
    other = made.ready(FT)
    assert isinstance(other, ReadyRow)
    with pytest.raises(ConfigError, match=r"holds episodes run with other settings \(weights\)"):
        made.evaluation(FT, other)[0].prepare()

    save_policy(weights / "3dfa-nano-ft-0.safetensors", "off")
    with pytest.raises(ConfigError, match=r"wanted a 3dfa policy trained with guidance 'full'.*found 3dfa with 'off'"):
        made.ready(FT)


def test_frozen_is_the_baselines_very_file(tmp_path: Path) -> None:
    made = Table(tmp_path, read_protocol("table2"), tmp_path / "weights", 1)
    frozen, baseline = (Row("3dda", arm, "colour", 2) for arm in ("frozen", "baseline"))
    assert made.missing(frozen) == made.missing(baseline) == [tmp_path / "weights/3dda-nano-baseline-2.safetensors"]
    assert made.missing(Row("3dda", "ft", "heatmap", 0)) == [
        tmp_path / "weights/3dda-nano-ft-0.safetensors",
        tmp_path / "weights/heatmap-all.safetensors",
    ]


def record(outcome: str, judged: bool, **facts: float) -> EpisodeRecord:
    return EpisodeRecord("close_jar", 0, "Close it.", outcome, ".", judged, "-", facts=facts)


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        (record("OK", True), None),
        (record("OK", True, wrong_target=1.0), None),
        (record("INTERNAL", False), "defect"),
        (record("STEP_LIMIT", True), "not noticed"),
        (record("OK", False, wrong_target=1.0), "wrong target"),
        (record("NO_PROGRESS", False, wrong_target=1.0), "wrong target"),
        (record("GRASP_FAILED", False), "missed grasp"),
        (record("OK", False, wrong_target=0.0), "wrong place"),
        (record("STEP_LIMIT", False), "out of keyposes"),
        (record("NO_PROGRESS", False), "out of keyposes"),
        (record("GOAL_NOT_GROUNDED", False), "refused"),
        (record("NO_IK", False), "refused"),
    ],
)
def test_failures_have_one_class_each(made: EpisodeRecord, expected: str | None) -> None:
    assert failure(made) == expected
    assert expected is None or expected in CLASSES


def test_distractors_are_part_of_a_scene(tmp_path: Path) -> None:
    scene = EpisodeSpec("pick_place", 3, 8)
    assert scene.file_name == "pick_place-0003-8-distractors.json"
    made = replace(record("NO_IK", False), task="pick_place", seed=3, distractors=8)
    made.write(tmp_path)
    assert read_record(tmp_path / scene.file_name).scene == scene
    evaluation = Evaluation(tmp_path, (scene, EpisodeSpec("pick_place", 3)), {}, "stvla evaluate")
    assert evaluation.episodes[0] == scene
    assert evaluation.failures([made])[0]["rerun"].endswith("--seed0 3 --episodes 1 --distractors 8")
