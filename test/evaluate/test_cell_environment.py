"""An episode in which a thing is moved: with replanning it is done all the same, without it is not."""

from __future__ import annotations

from dataclasses import replace

import pytest

from benchmarks.replanning.__main__ import by_object
from stvla_ros.evaluate.cell_environment import CellEnvironmentSetup
from stvla_ros.evaluate.episode import EpisodeRecord, EpisodeSpec
from stvla_ros.evaluate.stack import StackSettings
from stvla_ros.pipeline import LocalStages, Progress
from stvla_ros.sim.cell import Cell


def run(replan: bool, seed: int) -> EpisodeRecord:
    settings = StackSettings()
    settings = replace(settings, loop=replace(settings.loop, replan=replan))
    with CellEnvironmentSetup(settings, disturb="move").open() as environment:
        return environment.run(EpisodeSpec("pick_place", seed))


def test_replanning_makes_up_for_a_block_that_is_moved() -> None:
    on, off = run(True, 0), run(False, 0)
    assert on.disturbance == off.disturbance, "the same thing happens to both"
    assert "block was moved by" in on.disturbance
    assert on.success, on
    assert on.replans >= 1
    assert len(on.plan_times_s) == on.replans + 1
    assert not off.judged
    assert off.outcome in ("SCENE_CHANGED", "GRASP_FAILED", "NO_PROGRESS")
    assert off.replans == 0


def test_without_a_disturbance_the_first_plan_is_enough() -> None:
    """Replanning off is no handicap by itself: what it costs is the disturbance's doing."""
    settings = StackSettings()
    settings = replace(settings, loop=replace(settings.loop, replan=False))
    with CellEnvironmentSetup(settings).open() as environment:
        record = environment.run(EpisodeSpec("pick_place", 0))
    assert record.success, record
    assert record.disturbance == ""
    assert len(record.plan_times_s) == pytest.approx(2), "the first plan, and whether the task is finished"


class Stamps:
    """Keeps the time at which each episode begins and ends."""

    def __init__(self) -> None:
        self.ns: list[int] = []

    def __call__(self, episode: EpisodeSpec, instruction: str, cell: Cell, stages: LocalStages) -> Stamps:
        self._cell = cell
        self.ns.append(cell.time_ns)
        return self

    def report(self, progress: Progress) -> None: ...

    def look(self) -> None: ...

    def conclude(self, record: EpisodeRecord) -> None:
        self.ns.append(self._cell.time_ns)


def test_an_episode_has_the_same_stamps_whatever_ran_before() -> None:
    """A learned policy draws its noise by them: else the command that repeats a failure would not repeat it."""
    settings, stamps = StackSettings(), Stamps()
    settings = replace(settings, loop=replace(settings.loop, max_keyposes=1))
    with CellEnvironmentSetup(settings, stamps).open() as environment:
        for _ in range(2):
            environment.run(EpisodeSpec("pick_place", 0))
    assert stamps.ns[:2] == stamps.ns[2:]


def test_the_benchmark_counts_by_what_was_moved() -> None:
    def record(said: str, outcome: str) -> EpisodeRecord:
        words = "Put the red block in the plate."
        return EpisodeRecord("pick_place", 0, words, outcome, "", True, "", disturbance=said)

    records = [
        record("The red block was moved by 20 cm.", "OK"),
        record("The red block was moved by 30 cm.", "NO_PATH"),
        record("The plate was moved by 13 cm.", "OK"),
        record("The plate stayed: the robot touched it.", "OK"),
    ]
    assert by_object(records) == {"carried": "1/2", "goal": "1/1", "nothing": "1/1"}
