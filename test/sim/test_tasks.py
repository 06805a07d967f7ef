"""Layouts: a seed decides everything, things are in reach and leave room for the hand."""

import numpy as np
import pytest

from stvla_ros.colours import COLOURS
from stvla_ros.errors import OutcomeCode, StageError
from stvla_ros.sim.objects import Block, Button, Plate
from stvla_ros.sim.tasks import BASIC_TASKS, TASKS, make_task
from stvla_ros.sim.tasks.base import FINGER_ROOM_M, place


@pytest.mark.parametrize("task", TASKS)
def test_seed_decides_the_layout(task: str) -> None:
    first, again, other = make_task(task, 3), make_task(task, 3), make_task(task, 4)
    assert first.objects == again.objects
    assert first.instruction == again.instruction
    assert first.objects != other.objects


@pytest.mark.parametrize("task", BASIC_TASKS)
def test_things_are_in_reach_and_fingers_fit_between(task: str) -> None:
    for seed in range(40):
        objects = make_task(task, seed).objects
        for i, a in enumerate(objects):
            assert 0.30 <= a.xy_m[0] <= 0.65
            assert abs(a.xy_m[1]) <= 0.30
            for b in objects[:i]:
                gap = np.hypot(a.xy_m[0] - b.xy_m[0], a.xy_m[1] - b.xy_m[1]) - max(a.clearance_m, b.clearance_m)
                assert gap > FINGER_ROOM_M


@pytest.mark.parametrize("task", BASIC_TASKS)
def test_colours_are_known_and_named_once(task: str) -> None:
    for seed in range(20):
        coloured = [o for o in make_task(task, seed).objects if isinstance(o, Block | Button)]
        names = [o.colour for o in coloured]
        assert len(set(names)) == len(names)
        assert set(names) <= set(COLOURS)


def test_distractors_come_on_top_of_what_is_asked_for() -> None:
    assert len(make_task("pick_place", 0, 0).objects) == 2
    assert len(make_task("pick_place", 0, 8).objects) == 10
    assert {len(make_task("stack_cube", s).objects) - 2 for s in range(30)} == {2, 3, 4}


@pytest.mark.parametrize("task", BASIC_TASKS)
def test_twelve_things_fit_on_the_table_without_touching(task: str) -> None:
    for seed in range(3):
        objects = make_task(task, seed, 10).objects
        assert len(objects) >= 11
        for i, a in enumerate(objects):
            for b in objects[:i]:
                assert np.hypot(a.xy_m[0] - b.xy_m[0], a.xy_m[1] - b.xy_m[1]) > a.clearance_m + b.clearance_m


def test_more_than_fits_is_refused() -> None:
    with pytest.raises(StageError, match="do not fit") as caught:
        place(np.random.default_rng(0), [0.15] * 3)
    assert caught.value.code is OutcomeCode.INVALID_GOAL


def test_words_follow_the_templates() -> None:
    task = make_task("pick_place", 1)
    block, plate = task.objects[:2]
    assert isinstance(block, Block)
    assert isinstance(plate, Plate)
    assert task.instruction == f"Put the {block.colour} block in the plate."
    upper, lower = (o.colour for o in make_task("stack_cube", 1).objects[:2] if isinstance(o, Block))
    assert make_task("stack_cube", 1).instruction == f"Stack the {upper} block on the {lower} block."


def test_buttons_are_asked_for_in_a_spoken_order() -> None:
    tasks = [make_task("push_buttons", s) for s in range(30)]
    assert {t.instruction.count("push") + t.instruction.count("Push") for t in tasks} == {1, 2, 3}
    longest = max(tasks, key=lambda t: len(t.instruction))
    a, b, c = (o.colour for o in longest.objects[:3] if isinstance(o, Button))
    assert longest.instruction == f"Push the {a} button, then push the {b} button, then push the {c} button."


@pytest.mark.parametrize(
    ("task", "seed", "distractors", "words"),
    [
        ("pick_plase", 0, -1, "Did you mean 'pick_place'?"),
        ("", 0, -1, "Valid: "),
        ("pick_place", -1, -1, "seed: wanted 0 or more, got -1."),
        ("pick_place", 0, 13, "distractors: wanted -1"),
        ("pick_place", 0, -2, "distractors: wanted -1"),
    ],
)
def test_bad_requests_are_refused(task: str, seed: int, distractors: int, words: str) -> None:
    with pytest.raises(StageError) as error:
        make_task(task, seed, distractors)
    assert error.value.code is OutcomeCode.INVALID_GOAL
    assert words in error.value.sentence


def test_a_full_table_is_still_laid() -> None:
    spots = place(np.random.default_rng(0), [0.095, *[0.03] * 9])
    assert len(spots) == 10
