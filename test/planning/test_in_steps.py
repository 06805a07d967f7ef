"""Several tasks in one instruction: which are understood, and how a planner of single tasks gets through them."""

from dataclasses import replace

import numpy as np
import pytest
from ray_caster import Scene, block, home_robot, plate

from stvla_ros.errors import OutcomeCode, StageError
from stvla_ros.planning.colour import ColourConfig, ColourPlanner
from stvla_ros.planning.in_steps import InSteps, steps_of
from stvla_ros.types import WAYPOINTS, Keypose, PlanRequest, TracePlan

PUT, STACK, PUSH = "put the red block in the plate", "stack the blue block on the green block", "push the red button"


@pytest.mark.parametrize(
    ("words", "steps"),
    [
        (f"{PUT}, then {STACK}.", 2),
        (f"{PUT} and then {STACK}, after that {PUSH}.", 3),
        (f"{PUT}; {STACK}", 2),
        (f"{PUT}. Then {PUSH}, then push the blue button.", 3),
        (f"{PUT}, then put the red block on the green block", 2),
        # a single task
        (f"{PUT}.", 1),
        (f"{PUSH}, then push the blue button, then push the green button", 1),
        ("pick up the red block, then put it in the plate", 1),
        # not clear: the planner refuses the whole
        (f"{PUT} and {STACK}", 1),
        (f"{PUT}, then {PUT}", 1),
        (f"{PUT}, then not the blue one", 1),
        (f"{PUT}, then put it on the green block", 1),
        (f"{PUT}, then dance", 1),
        ("then", 1),
        ("", 1),
    ],
)
def test_what_is_several_tasks(words: str, steps: int) -> None:
    assert len(steps_of(words)) == steps


class Single:
    """Plans single tasks, each finished after two keyposes; notes what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, int]] = []

    def __call__(self, request: PlanRequest) -> TracePlan:
        self.asked.append((request.instruction, len(request.history)))
        done = len(request.history) >= 2
        zeros = np.zeros(WAYPOINTS)
        return TracePlan(
            request.instruction, "do", np.zeros((WAYPOINTS, 2)), 1.0, zeros, 0, done, "one", "", 7, "id", 1
        )


@pytest.fixture(scope="module")
def ask() -> PlanRequest:
    return PlanRequest(f"{PUT}, then {STACK}", Scene([]).render(stamp_ns=7)[0], home_robot())


def after(ask: PlanRequest, keyposes: int) -> PlanRequest:
    return replace(ask, history=(Keypose(np.eye(4), True),) * keyposes)


def test_each_step_gets_its_own_keyposes(ask: PlanRequest) -> None:
    steps, single = InSteps(), Single()
    plans = [steps.plan(after(ask, n), single) for n in range(5)]
    assert single.asked == [(PUT, 0), (PUT, 1), (PUT, 2), (STACK, 0), (STACK, 1), (STACK, 2)]
    assert [(plan.step_index, plan.step_total, plan.finished) for plan in plans] == [
        (0, 2, False), (0, 2, False), (1, 2, False), (1, 2, False), (1, 2, True),
    ]  # fmt: skip
    assert {plan.instruction for plan in plans} == {ask.instruction}


def test_a_new_task_starts_over(ask: PlanRequest) -> None:
    steps, single = InSteps(), Single()
    for keyposes in (0, 2, 0):
        steps.plan(after(ask, keyposes), single)
    other = replace(after(ask, 1), instruction=f"{STACK}, then {PUT}")
    steps.plan(other, single)
    assert single.asked == [(PUT, 0), (PUT, 2), (STACK, 0), (PUT, 0), (STACK, 1)]


def test_a_step_that_fails_is_tried_again(ask: PlanRequest) -> None:
    steps, single = InSteps(), Single()
    steps.plan(ask, single)

    def failing(request: PlanRequest) -> TracePlan:
        if request.instruction == STACK:
            raise StageError(OutcomeCode.GOAL_NOT_GROUNDED, "I see no blue block.")
        return single(request)

    with pytest.raises(StageError):
        steps.plan(after(ask, 2), failing)
    assert steps.plan(after(ask, 3), single).step_index == 1
    assert single.asked[-1] == (STACK, 1)


def test_a_restarted_colour_planner_passes_over_what_is_done() -> None:
    words = f"{PUT}, then {STACK}."
    done = [*plate(0.45, -0.22), block("red", 0.45, -0.22), block("blue", 0.6, 0.0), block("green", 0.4, 0.25)]
    frame, _ = Scene(done).render(stamp_ns=7)
    drawn = ColourPlanner(ColourConfig()).plan(PlanRequest(words, frame, home_robot(), (Keypose(np.eye(4), True),)))
    assert (drawn.step_index, drawn.step_total, drawn.finished) == (1, 2, False)
    assert drawn.sub_instruction == "pick up the blue block and stack it on the green block"
    assert drawn.instruction == words
