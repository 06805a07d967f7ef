"""Rates, tables, parallel workers, and taking an evaluation up again."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path

import pytest
from odd_seeds import DIES, IS_KILLED, RAISES, OddSeeds
from rich.console import Console

from stvla_ros.config import ConfigError
from stvla_ros.evaluate.episode import EpisodeRecord, EpisodeSpec, read_record
from stvla_ros.evaluate.evaluation import Evaluation
from stvla_ros.evaluate.report import report, table, wilson
from stvla_ros.evaluate.workers import TRIES, run_episodes


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    [(10, 10, 0.7225, 1.0), (0, 10, 0.0, 0.2775), (48, 50, 0.8654, 0.9890), (5, 10, 0.2366, 0.7634)],
)
def test_wilson_agrees_with_published_values(successes: int, n: int, low: float, high: float) -> None:
    assert wilson(successes, n) == pytest.approx((low, high), abs=1e-4)


def test_wilson_without_trials_knows_nothing_and_refuses_nonsense() -> None:
    assert wilson(0, 0) == (0.0, 1.0)
    with pytest.raises(ValueError, match="11 of 10"):
        wilson(11, 10)


def make_record(seed: int, outcome: str = "OK", judged: bool = True) -> EpisodeRecord:
    times, plans = {"planning": 0.1 * (seed + 1), "motion_plan": 0.02}, [0.1 * (seed + 1), 0.3]
    return EpisodeRecord(
        "stack_cube",
        seed,
        "Stack.",
        outcome,
        ".",
        judged,
        "-",
        keyposes=2,
        replans=1,
        times_s=times,
        plan_times_s=plans,
    )


def test_rlbenchs_verdict_is_counted_beside_the_strict_one(tmp_path: Path) -> None:
    verdicts = [(True, True), (False, True), (False, False)]
    records = [replace(make_record(i, judged=own), rlbench=theirs) for i, (own, theirs) in enumerate(verdicts)]
    found = report("close_jar", records)
    assert (found.successes, found.rlbench) == (1, 2)
    console = Console(width=110, record=True, file=io.StringIO())
    console.print(table([found], "title"))
    assert "close_jar: 2/3 by RLBench's rule" in console.export_text()
    assert report("stack_cube", [make_record(0)]).rlbench is None


def test_presses_are_counted_by_how_many_were_asked() -> None:
    asked = [(1, True), (3, False), (3, True), (2, False)]
    records = [
        replace(make_record(i, judged=good), facts={"asked_presses": float(n)}) for i, (n, good) in enumerate(asked)
    ]
    found = report("push_buttons", records)
    assert found.presses == {1: (1, 1), 2: (0, 1), 3: (1, 2)}
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(table([found, report("stack_cube", [make_record(0)])], "title"))
    assert console.export_text().count("by presses 1: 1/1, 2: 0/1, 3: 1/2") == 1
    assert report("stack_cube", [make_record(0)]).presses == {}


def test_a_record_from_before_the_second_verdict_is_still_read(tmp_path: Path) -> None:
    make_record(3).write(tmp_path)
    path = next(tmp_path.glob("*.json"))
    content = json.loads(path.read_text())
    del content["rlbench"], content["facts"]
    path.write_text(json.dumps(content))
    assert read_record(path) == make_record(3)


def test_success_needs_both_the_simulators_word_and_the_stacks() -> None:
    records = [make_record(0), make_record(1, "OK", judged=False), make_record(2, "STEP_LIMIT", judged=True)]
    found = report("stack_cube", records)
    assert (found.successes, found.episodes) == (1, 3)
    assert found.outcomes == {"OK": 1, "OK (judged failed)": 1, "STEP_LIMIT": 1}
    assert found.plan_p50_s == pytest.approx(0.3)
    assert found.plan_p95_s == pytest.approx(0.3)
    assert found.motion_plan_s == pytest.approx(0.01)
    assert found.predict_s is None


def test_the_table_shows_every_task_and_its_outcomes() -> None:
    console = Console(record=True, width=80)
    console.print(table([report("stack_cube", [make_record(0), make_record(1, "NO_IK", False)])], "seeds 0–1"))
    text = console.export_text()
    assert all(word in text for word in ("stack_cube", "1/2", "50 (9–91)", "NO_IK 1"))


def test_records_survive_the_disk(tmp_path: Path) -> None:
    record = make_record(3)
    record.write(tmp_path)
    assert read_record(tmp_path / "stack_cube-0003.json") == record
    (tmp_path / "bad.json").write_text('{"task": "x"}')
    with pytest.raises(ConfigError, match=r"bad\.json: not the record"):
        read_record(tmp_path / "bad.json")


def test_a_defect_or_a_dead_process_costs_one_episode(tmp_path: Path) -> None:
    episodes = [EpisodeSpec("t", seed) for seed in (0, RAISES, 1, DIES, 2, 3)]
    records = {r.seed: r for r in run_episodes(OddSeeds(tmp_path / "diary"), episodes, jobs=2)}
    assert sorted(records) == sorted(e.seed for e in episodes)
    assert records[RAISES].outcome == records[DIES].outcome == "INTERNAL"
    assert "ZeroDivisionError" in records[RAISES].sentence
    assert "exit code 11" in records[DIES].sentence
    assert [records[seed].success for seed in (0, 1, 2, 3)] == [True, False, True, False]
    lines = (tmp_path / "diary").read_text().splitlines()
    assert lines.count(f"t {DIES}") == TRIES
    assert lines.count(f"t {RAISES}") == 1, "a defect repeats itself"
    assert lines.count("closed") >= 1


def test_an_episode_whose_worker_is_killed_runs_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Also the last one, for which no other worker is left; and an episode that is asked for twice has one record."""
    seeds = (0, 1, 0, IS_KILLED)
    records = list(run_episodes(OddSeeds(tmp_path / "diary"), [EpisodeSpec("t", seed) for seed in seeds], jobs=2))
    assert sorted(r.seed for r in records) == [0, 1, IS_KILLED]
    assert next(r for r in records if r.seed == IS_KILLED).success
    assert (tmp_path / "diary").read_text().splitlines().count(f"t {IS_KILLED}") == 2
    assert f"exit code -9 in t {IS_KILLED}, which runs again." in caplog.text


def test_stopping_early_closes_the_environments(tmp_path: Path) -> None:
    """What an environment holds (a whole stack, over ROS) must not outlive Ctrl-C."""
    episodes = [EpisodeSpec("t", seed) for seed in range(0, 5000, 2)]
    records = run_episodes(OddSeeds(tmp_path / "diary"), episodes, jobs=2)
    next(records)
    records.close()  # type: ignore[attr-defined]
    lines = (tmp_path / "diary").read_text().splitlines()
    assert lines.count("closed") == lines.count("opened") >= 1
    assert len(lines) < len(episodes)


@pytest.mark.parametrize(("refuse", "message"), [("No meshes here.", "No meshes"), ("die", "exit code 7 before")])
def test_an_environment_that_cannot_be_opened_ends_with_its_reason(tmp_path: Path, refuse: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        list(run_episodes(OddSeeds(tmp_path / "diary", refuse), [EpisodeSpec("t", 0)], jobs=1))


def evaluation(folder: Path, seeds: range, noise: bool = False) -> Evaluation:
    episodes = tuple(EpisodeSpec(task, seed) for seed in seeds for task in ("a", "b"))
    return Evaluation(folder, episodes, {"noise": noise, "planner": "colour"}, "stvla evaluate")


def test_an_evaluation_is_taken_up_where_it_ended(tmp_path: Path) -> None:
    setup, folder = OddSeeds(tmp_path / "diary"), tmp_path / "out"
    evaluation(folder, range(2)).run(setup, 1, lambda record: None)
    told: list[EpisodeRecord] = []
    reports = evaluation(folder, range(4)).run(setup, 2, told.append)
    assert sorted((r.task, r.seed) for r in told) == [("a", 2), ("a", 3), ("b", 2), ("b", 3)]
    assert [(r.task, r.successes, r.episodes) for r in reports] == [("a", 2, 4), ("b", 2, 4)]
    ran = [line for line in (tmp_path / "diary").read_text().splitlines() if line not in ("opened", "closed")]
    assert len(ran) == len(set(ran)) == 8

    results = json.loads((folder / "results.json").read_text())
    assert [t["rate"] for t in results["tasks"]] == [0.5, 0.5]
    assert results["failures"][0]["rerun"] == "stvla evaluate --tasks a --seed0 1 --episodes 1"
    assert "NO_PATH" in (folder / "results.txt").read_text()


def test_a_folder_never_mixes_settings(tmp_path: Path) -> None:
    evaluation(tmp_path, range(1)).prepare()
    with pytest.raises(ConfigError, match=r"other settings \(noise\)"):
        evaluation(tmp_path, range(1), noise=True).prepare()
