"""The loop with small in-memory stages: no camera, no robot, no ROS."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from types import SimpleNamespace

import numpy as np
import pytest
import stalls

from stvla_ros.description.kinematics import tcp_pose
from stvla_ros.description.panda import HOME_Q_RAD
from stvla_ros.errors import CancelToken, OutcomeCode, StageError
from stvla_ros.pipeline import (
    REFUSED,
    RETRYABLE,
    SOMETHING,
    Hand,
    LoopConfig,
    Progress,
    TaskResult,
    TaskState,
    check_instruction,
    object_of,
    percentiles,
    run_task,
    with_advice,
)
from stvla_ros.types import WAYPOINTS, Keypose, Outcome, TracePlan

INSTRUCTION = "Put the red block in the plate."
SOON_S = 5.0


def make_plan(number: int, stamp_ns: int, finished: bool = False) -> TracePlan:
    uv, offset = np.zeros((WAYPOINTS, 2)), np.zeros(WAYPOINTS)
    return TracePlan(
        INSTRUCTION, f"plan {number}", uv, 1.0, offset, 0, finished, "test", "", stamp_ns, f"plan-{number}"
    )


@dataclass
class Table:
    """A job of ``todo`` keyposes. Every hook may raise, wait, or look; all calls are written down in order."""

    todo: int = 5
    on_plan: Callable[[int, CancelToken], None] = lambda number, cancel: None
    on_predict: Callable[[int, CancelToken], None] = lambda done, cancel: None
    on_execute: Callable[[int, CancelToken], None] = lambda done, cancel: None
    stamp: Callable[[int, int], int] = lambda number, now: now
    step: Callable[[], int] = lambda: 0  # of the task
    contact: Callable[[], bool] = lambda: False
    opens: Callable[[], bool] = lambda: True
    per_plan: int | None = None  # keyposes after which a plan's path is complete
    done: int = 0
    clock: int = 0
    plans: int = 0
    calls: list[str] = field(default_factory=list)
    used: list[str] = field(default_factory=list)  # plan id of each prediction
    not_before: list[int] = field(default_factory=list)
    histories: list[int] = field(default_factory=list)
    told: list[str] = field(default_factory=list)  # feedback of each plan call
    lock: threading.Lock = field(default_factory=threading.Lock)

    def plan(
        self,
        instruction: str,
        history: tuple[Keypose, ...],
        not_before_ns: int,
        cancel: CancelToken,
        feedback: str = "",
    ) -> TracePlan:
        with self.lock:
            self.told.append(feedback)
            number, self.plans = self.plans, self.plans + 1
            finished, now = self.done >= self.todo, self.clock
            self.calls.append("plan")
            self.not_before.append(not_before_ns)
        self.on_plan(number, cancel)
        return replace(make_plan(number, self.stamp(number, now), finished), step_index=self.step())

    def predict(
        self, plan: TracePlan, history: tuple[Keypose, ...], not_before_ns: int, cancel: CancelToken
    ) -> Keypose | None:
        self.calls.append("predict")
        self.used.append(plan.plan_id)
        self.histories.append(len(history))
        self.on_predict(self.done, cancel)
        if self.done >= self.todo or (self.per_plan and self.used.count(plan.plan_id) > self.per_plan):
            return None
        return Keypose(np.eye(4), self.opens(), self.contact())

    def execute(self, plan: TracePlan, keypose: Keypose, cancel: CancelToken) -> Outcome:
        self.calls.append("execute")
        self.on_execute(self.done, cancel)
        self.done += 1
        self.clock += 1
        return Outcome(OutcomeCode.OK, "There.", {"motion": 0.5, "gripper": 0.25})

    def now_ns(self) -> int:
        return self.clock


def run(table: Table, background: bool = False, cancel: CancelToken | None = None, **settings: float) -> TaskResult:
    config = LoopConfig(**settings)  # type: ignore[arg-type]
    return run_task(table, INSTRUCTION, config, cancel or CancelToken(), background=background)


def fail(code: OutcomeCode) -> Callable[[int, CancelToken], None]:
    def hook(number: int, cancel: CancelToken) -> None:
        raise StageError(code, "On purpose.")

    return hook


def until_canceled(at: int, reached: threading.Event | None = None) -> Callable[[int, CancelToken], None]:
    """Work that lasts until it is canceled and, like a real stage, does not know why."""

    def hook(number: int, cancel: CancelToken) -> None:
        if number >= at:
            if reached:
                reached.set()
            assert cancel.wait(SOON_S), "the stage was never told to stop"
            raise StageError(OutcomeCode.CANCELED, "The stage was stopped.")

    return hook


@pytest.mark.parametrize("background", [False, True])
def test_done_means_that_the_planner_sees_it_done(background: bool) -> None:
    table = Table(todo=5)
    result = run(table, background)
    assert (result.outcome.code, len(result.keyposes), table.done) == (OutcomeCode.OK, 5, 5)


@pytest.mark.parametrize("k", [1, 2, 3])
def test_looks_again_every_k_keyposes(k: int) -> None:
    table = Table(todo=6)
    result = run(table, keyposes_per_plan=k)
    executed = "".join({"plan": "|", "execute": "x", "predict": ""}[call] for call in table.calls)
    assert executed == "|" + ("x" * k + "|") * (6 // k)
    assert result.replans == 6 // k


def test_history_is_the_last_three_and_plans_look_after_the_motion() -> None:
    table = Table(todo=5)
    result = run(table, keyposes_per_plan=2)
    assert table.histories == [0, 1, 2, 3, 3, 3]
    assert table.not_before == [0, 2, 4, 5]
    assert [keypose.stamp_ns for keypose in result.keyposes] == [1, 2, 3, 4, 5]


def test_the_policy_is_told_what_was_done_for_the_step_it_works_on() -> None:
    """Three presses: over the button, down, up. The next button is the step as soon as one is pressed; until the tool is
    up again, what was done for the step before counts."""
    table = Table(todo=9)
    table.step, table.contact = lambda: (table.done + 1) // 3, lambda: table.done % 3 == 1
    run(table, keyposes_per_plan=1)
    assert table.histories == [0, 1, 2] * 3


def test_the_policy_is_told_the_step_in_words_and_a_single_task_as_the_operator_said_it() -> None:
    plan = replace(make_plan(0, 0), instruction="Push A, then push B.", sub_instruction="push A")
    assert replace(plan, step_total=1).words == plan.words == "Push A, then push B."
    assert replace(plan, step_total=2).words == "push A"
    assert replace(plan, step_index=1, sub_instruction="push B").words == "push B"
    assert replace(plan, step_total=2, sub_instruction=" ").words == "Push A, then push B."


def test_a_step_that_begins_with_something_in_the_hand_goes_on_with_the_history() -> None:
    table = Table(todo=5)
    table.step, table.contact, table.opens = lambda: table.done, lambda: table.done == 0, lambda: table.done >= 2
    run(table, keyposes_per_plan=1)
    assert table.histories == [0, 1, 2, 0, 0]


def test_replanning_runs_beside_the_motion() -> None:
    """The second plan ends only once the third keypose moves: with a blocking replan this would deadlock."""
    moving = threading.Event()

    def on_plan(number: int, cancel: CancelToken) -> None:
        if number == 1:
            assert moving.wait(SOON_S), "planning held up the motion"

    def on_execute(done: int, cancel: CancelToken) -> None:
        if done == 2:
            moving.set()
            stalls.pause(0.2)  # time for the plan to arrive

    table = Table(todo=4, on_plan=on_plan, on_execute=on_execute)
    assert run(table, background=True, keyposes_per_plan=2).outcome.ok
    assert table.used[:4] == ["plan-0", "plan-0", "plan-0", "plan-1"]


def test_an_older_plan_never_replaces_a_newer_one() -> None:
    table = Table(todo=4, stamp=lambda number, now: 10 if number == 0 else 1)
    result = run(table, keyposes_per_plan=1)
    assert table.used[:4] == ["plan-0"] * 4
    assert result.outcome.ok
    assert result.replans == 1


def test_a_complete_path_makes_the_planner_look_at_once() -> None:
    table = Table(todo=4, per_plan=2)
    result = run(table, background=True, keyposes_per_plan=25)
    assert result.outcome.ok
    assert table.used == ["plan-0"] * 3 + ["plan-1"] * 3


def test_step_limit_is_no_success() -> None:
    result = run(Table(todo=100), max_keyposes=7)
    assert (result.outcome.code, len(result.keyposes)) == (OutcomeCode.STEP_LIMIT, 7)


def test_planner_and_policy_that_disagree_end_with_no_progress() -> None:
    class Stuck(Table):
        def predict(self, *args: object) -> None:
            return None

    table = Stuck()
    result = run(table, max_failures=3)
    assert (result.outcome.code, table.plans, table.done) == (OutcomeCode.NO_PROGRESS, 3, 0)


@pytest.mark.parametrize("code", sorted(RETRYABLE - {OutcomeCode.GRASP_FAILED}))
def test_a_failed_keypose_makes_the_planner_look_again(code: OutcomeCode) -> None:
    failures = iter([True, True, False, True, True])

    def sometimes(done: int, cancel: CancelToken) -> None:
        if next(failures, False):
            raise StageError(code, "On purpose.")

    table = Table(todo=3, on_execute=sometimes)
    result = run(table, keyposes_per_plan=25, max_failures=3)
    assert result.outcome.ok
    assert len(result.keyposes) == 3
    assert result.replans == 5


def test_a_scene_that_changed_makes_the_planner_look_again() -> None:
    """Before the second keypose something moves away; the next plan fits the scene again."""
    fails = [StageError(OutcomeCode.SCENE_CHANGED, "Moved.")]

    def on_predict(done: int, cancel: CancelToken) -> None:
        if done == 1 and fails:
            raise fails.pop()

    table = Table(todo=3, on_predict=on_predict)
    result = run(table, keyposes_per_plan=3)
    assert (result.outcome.code, table.done, result.replans) == (OutcomeCode.OK, 3, 2)
    assert table.used == ["plan-0", "plan-0", "plan-1", "plan-1", "plan-1"]


def test_a_scene_that_never_rests_ends_the_task_with_its_code() -> None:
    table = Table(on_predict=fail(OutcomeCode.SCENE_CHANGED))
    result = run(table, max_failures=3)
    assert (result.outcome.code, table.plans, table.done) == (OutcomeCode.SCENE_CHANGED, 3, 0)


def test_the_same_failure_again_and_again_ends_the_task_with_its_code() -> None:
    table = Table(on_execute=fail(OutcomeCode.NO_IK))
    result = run(table, max_failures=3)
    assert (result.outcome.code, table.calls.count("execute")) == (OutcomeCode.NO_IK, 3)


@pytest.mark.parametrize("code", [code for code in OutcomeCode if code not in RETRYABLE and code is not OutcomeCode.OK])
def test_other_failures_of_a_motion_end_the_task_at_once(code: OutcomeCode) -> None:
    table = Table(on_execute=fail(code))
    result = run(table)
    assert (result.outcome.code, table.calls.count("execute")) == (code, 1)


@pytest.mark.parametrize("hook", ["on_plan", "on_predict"])
@pytest.mark.parametrize("code", [OutcomeCode.GOAL_NOT_GROUNDED, OutcomeCode.STALE_IMAGE, OutcomeCode.MASK_EMPTY])
def test_failures_of_the_first_look_end_the_task_without_motion(hook: str, code: OutcomeCode) -> None:
    table = Table(**{hook: fail(code)})
    result = run(table)
    assert (result.outcome.code, table.done, result.keyposes) == (code, 0, ())


def test_the_old_plan_serves_while_replanning_fails() -> None:
    def on_plan(number: int, cancel: CancelToken) -> None:
        if 1 <= number <= 3:
            raise StageError(OutcomeCode.SERVER_TIMEOUT, "The model is away.")

    table = Table(todo=4, on_plan=on_plan)
    result = run(table, keyposes_per_plan=1, plan_hold_s=60.0)
    assert result.outcome.ok
    assert table.used == ["plan-0"] * 4
    assert (result.state.failed_plans, result.replans) == (3, 1)


@pytest.fixture
def fair_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """While the machine stalls, the loop's clock stands still."""
    monkeypatch.setattr("stvla_ros.pipeline.loop.time", SimpleNamespace(monotonic=stalls.clock))


def away(number: int, cancel: CancelToken) -> None:
    if number:
        raise StageError(OutcomeCode.SERVER_TIMEOUT, "The model is away.")


@pytest.mark.parametrize("background", [False, True])
@pytest.mark.usefixtures("fair_clock")
def test_the_old_plan_does_not_serve_for_ever(background: bool) -> None:
    table = Table(todo=50, on_plan=away, on_execute=lambda done, cancel: stalls.pause(0.05))
    result = run(table, background, keyposes_per_plan=1, plan_hold_s=0.3)
    assert result.outcome.code is OutcomeCode.SERVER_TIMEOUT
    assert 2 <= table.done < 20


@pytest.mark.usefixtures("fair_clock")
def test_holding_counts_from_the_first_failure_not_from_the_last_plan() -> None:
    """A plan that has served for long is not given up at the first trouble."""
    table = Table(todo=8, on_execute=lambda done, cancel: stalls.pause(0.05))
    table.on_plan = lambda number, cancel: away(number, cancel) if table.done < 7 else None
    result = run(table, keyposes_per_plan=6, plan_hold_s=0.25)
    assert result.outcome.ok, result.outcome
    assert result.state.failed_plans == 1


@pytest.mark.usefixtures("fair_clock")
def test_a_plan_that_came_ends_the_count_of_holding() -> None:
    """Every other look fails, for longer than a plan is held: that is not "while replanning fails"."""

    def on_plan(number: int, cancel: CancelToken) -> None:
        if number % 2:
            raise StageError(OutcomeCode.SERVER_TIMEOUT, "The model is away.")

    table = Table(todo=10, on_plan=on_plan, on_execute=lambda done, cancel: stalls.pause(0.03))
    assert run(table, keyposes_per_plan=1, plan_hold_s=0.1).outcome.ok


@pytest.mark.usefixtures("fair_clock")
def test_a_replan_that_hangs_does_not_stretch_the_holding() -> None:
    """The first replan fails, the second one never ends: the first one's failure ends the task in time."""

    def on_plan(number: int, cancel: CancelToken) -> None:
        if number >= 2:
            cancel.wait(SOON_S)
        away(number, cancel)

    table = Table(todo=100, on_plan=on_plan, on_execute=lambda done, cancel: stalls.pause(0.05))
    started = stalls.clock()
    result = run(table, background=True, keyposes_per_plan=1, plan_hold_s=0.3, max_keyposes=100)
    assert result.outcome.code is OutcomeCode.SERVER_TIMEOUT
    assert 0.3 <= stalls.clock() - started < SOON_S / 2


def test_after_a_failed_keypose_the_old_plan_serves_while_the_planner_is_away() -> None:
    fails = [StageError(OutcomeCode.NO_PATH, "On purpose.")]

    def on_execute(done: int, cancel: CancelToken) -> None:
        if done == 1 and fails:
            raise fails.pop()

    table = Table(todo=3, on_execute=on_execute)
    table.on_plan = lambda number, cancel: away(number, cancel) if table.done < 3 else None
    result = run(table, keyposes_per_plan=3, plan_hold_s=60.0)
    assert result.outcome.ok, result.outcome
    assert table.used == ["plan-0"] * 4
    assert table.told[:2] == ["", "On purpose."]


@pytest.mark.parametrize("background", [False, True])
def test_after_a_failed_keypose_too_the_planners_failure_ends_the_task_in_the_end(background: bool) -> None:
    def on_execute(done: int, cancel: CancelToken) -> None:
        time.sleep(0.05)
        raise StageError(OutcomeCode.NO_PATH, "On purpose.")

    table = Table(todo=3, on_plan=away, on_execute=on_execute)
    result = run(table, background, plan_hold_s=0.0)
    assert (result.outcome.code, table.calls.count("execute")) == (OutcomeCode.SERVER_TIMEOUT, 1)


def test_a_plan_that_serves_is_held_without_pauses_however_often_looking_fails() -> None:
    """Every second motion fails, and the planner is away: each time the next motion begins at once."""
    tries = itertools.count()

    def on_execute(done: int, cancel: CancelToken) -> None:
        if next(tries) % 2 == 0:
            raise StageError(OutcomeCode.NO_PATH, "On purpose.")

    for background in (False, True):
        table = Table(todo=6, on_execute=on_execute)
        table.on_plan = lambda number, cancel, table=table: away(number, cancel) if table.done < 6 else None
        started = stalls.clock()
        result = run(table, background, keyposes_per_plan=25, retry_s=5.0, plan_hold_s=60.0, max_failures=3)
        assert result.outcome.ok, result.outcome
        assert result.state.failed_plans >= 6
        assert stalls.clock() - started < SOON_S


def test_a_keypose_that_fails_again_and_again_on_a_held_plan_ends_with_its_own_code() -> None:
    table = Table(todo=3, on_plan=away, on_execute=fail(OutcomeCode.NO_PATH))
    result = run(table, plan_hold_s=60.0, max_failures=3)
    assert (result.outcome.code, table.calls.count("execute")) == (OutcomeCode.NO_PATH, 3)


def test_at_the_end_of_a_path_the_loop_waits_for_a_planner_that_comes_back() -> None:
    """Nothing is left to do on the old path, so the loop asks again, with pauses, until the plan is there."""

    def on_plan(number: int, cancel: CancelToken) -> None:
        if number in (1, 2):
            raise StageError(OutcomeCode.SERVER_TIMEOUT, "The model is away.")

    table = Table(todo=4, per_plan=2, on_plan=on_plan)
    started = time.monotonic()
    result = run(table, background=True, keyposes_per_plan=25, retry_s=0.1, plan_hold_s=60.0)
    assert result.outcome.ok
    assert time.monotonic() - started >= 0.2
    assert table.used == ["plan-0"] * 3 + ["plan-3"] * 3


@pytest.mark.parametrize(("background", "looks"), [(True, None), (False, 3)])
def test_at_the_end_of_a_path_the_loop_does_not_wait_for_ever(background: bool, looks: int | None) -> None:
    """On a robot until the old plan was held for long enough; in a cell that stands still, a few looks."""
    table = Table(todo=4, per_plan=2, on_plan=away)
    hold_s = 0.35 if background else 60.0
    result = run(table, background, keyposes_per_plan=25, retry_s=0.1, plan_hold_s=hold_s, max_failures=3)
    assert (result.outcome.code, table.done) == (OutcomeCode.SERVER_TIMEOUT, 2)
    assert result.state.failed_plans == looks if looks else 2 <= result.state.failed_plans <= 5  # 0.1 s apart at least


@pytest.mark.parametrize("code", [OutcomeCode.NODE_LOST, OutcomeCode.INTERNAL])
def test_no_plan_is_held_over_a_stack_that_is_not_whole(code: OutcomeCode) -> None:
    def on_plan(number: int, cancel: CancelToken) -> None:
        if number:
            raise StageError(code, "On purpose.")

    result = run(Table(todo=9, on_plan=on_plan), keyposes_per_plan=1, plan_hold_s=60.0)
    assert (result.outcome.code, len(result.keyposes)) == (code, 1)


# --- guidance refuses plans --------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", sorted(REFUSED))
@pytest.mark.parametrize("hook", ["on_plan", "on_predict"])
def test_the_planner_is_told_why_guidance_refused_its_plan(code: OutcomeCode, hook: str) -> None:
    """At the first plan and in the middle; afterwards it is not told again."""
    refusals = iter([True, False, False, False, True, False])

    def sometimes(number: int, cancel: CancelToken) -> None:
        if next(refusals, False):
            raise StageError(code, "The path enters the table: stay above it.")

    table = Table(todo=5, **{hook: sometimes})
    result = run(table, keyposes_per_plan=1 if hook == "on_plan" else 5)
    assert result.outcome.ok, result.outcome
    assert [f for f in table.told if f] == ["The path enters the table: stay above it."] * 2
    assert table.told[:2] == ["", "The path enters the table: stay above it."]
    assert table.told[-1] == ""


@pytest.mark.parametrize("code", sorted(REFUSED))
@pytest.mark.parametrize("failures", [1, 4])
def test_refused_plans_end_the_task_after_a_few_looks(code: OutcomeCode, failures: int) -> None:
    table = Table(on_plan=fail(code))
    result = run(table, max_failures=failures)
    assert (result.outcome.code, table.plans, table.done) == (code, failures, 0)
    assert result.state.failed_plans == failures


def test_a_refused_replan_is_held_over_and_the_next_one_knows_why() -> None:
    def on_plan(number: int, cancel: CancelToken) -> None:
        if number == 1:
            raise StageError(OutcomeCode.LIFT_IMPLAUSIBLE, "Too low.")

    table = Table(todo=4, on_plan=on_plan, on_execute=lambda done, cancel: time.sleep(0.05))
    result = run(table, background=True, keyposes_per_plan=1)
    assert result.outcome.ok
    assert table.told[:3] == ["", "", "Too low."]
    assert result.state.failed_plans == 1


# --- slow planners, late plans -----------------------------------------------------------------------------------


def idle_s(planner_s: float, keyposes: int, motion_s: float) -> tuple[float, TaskResult]:
    """Time between first and last motion in which nothing moves, with a planner that takes so long."""
    moves: list[tuple[float, float]] = []

    def on_execute(done: int, cancel: CancelToken) -> None:
        start = stalls.clock()
        time.sleep(motion_s)
        moves.append((start, stalls.clock()))

    table = Table(todo=keyposes, on_plan=lambda number, cancel: cancel.wait(planner_s) and None, on_execute=on_execute)
    result = run(table, background=True, keyposes_per_plan=2)
    assert result.outcome.ok, result.outcome
    return moves[-1][1] - moves[0][0] - sum(end - start for start, end in moves), result


def test_motion_never_waits_for_a_slow_planner() -> None:
    """Twenty motions of 0.2 s: idle time with a planner that takes 3 s equals that of one that takes none."""
    begun = stalls.stalled_s()
    fast, quick = idle_s(0.0, 20, 0.2)
    between = stalls.stalled_s()
    slow, result = idle_s(3.0, 20, 0.2)
    stalled_fast, stalled_slow = between - begun, stalls.stalled_s() - between
    assert slow < fast + 0.6, (slow, fast)
    assert quick.replans == 10
    assert result.replans >= 1
    assert quick.state.plan_latency_s is not None
    assert quick.state.plan_latency_s[1] < 0.5 + stalled_fast
    assert result.state.plan_latency_s is not None
    assert all(3.0 <= latency < 3.6 + stalled_slow for latency in result.state.plan_latency_s)


def test_a_complete_path_waits_for_the_plan_that_is_under_way() -> None:
    """The replan was begun before the path was complete: it is not thrown away and begun anew."""
    table = Table(todo=4, per_plan=2, on_plan=lambda number, cancel: cancel.wait(0.3) and None)
    result = run(table, background=True, keyposes_per_plan=1)
    assert result.outcome.ok
    assert table.used[:5] == ["plan-0"] * 3 + ["plan-1"] * 2
    assert result.state.stale_plans == 0


def test_plans_that_come_late_are_dropped_and_counted() -> None:
    """Three replans are dropped under way by failed keyposes and answer long after: none of them is ever used."""
    late = threading.Event()
    answered: list[int] = []

    def on_plan(number: int, cancel: CancelToken) -> None:
        if number in (1, 3, 5):
            assert late.wait(SOON_S)  # deaf to its cancel, like a model that thinks
            answered.append(number)

    fails = {1: True, 2: True, 3: True}

    def on_execute(done: int, cancel: CancelToken) -> None:
        if fails.pop(done, False):
            raise StageError(OutcomeCode.NO_PATH, "On purpose.")
        if done == 5:
            late.set()
            stalls.pause(0.6)

    table = Table(todo=7, on_plan=on_plan, on_execute=on_execute)
    result = run(table, background=True, keyposes_per_plan=1)
    assert result.outcome.ok, result.outcome
    assert sorted(answered) == [1, 3, 5]
    assert not {"plan-1", "plan-3", "plan-5"} & set(table.used)
    assert result.state.stale_plans == 3


def test_several_plans_older_than_the_one_in_use_are_dropped_and_counted() -> None:
    table = Table(todo=5, stamp=lambda number, now: 10 if number == 0 else number if number < 4 else 20 + number)
    result = run(table, keyposes_per_plan=1)
    assert table.used[:4] == ["plan-0"] * 4
    assert result.outcome.ok
    assert result.state.stale_plans == 3


# --- replanning off ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("background", [False, True])
def test_without_replanning_the_first_plan_serves_to_its_end(background: bool) -> None:
    """The planner is asked once more, whether the task is finished."""
    table = Table(todo=6)
    result = run(table, background, replan=False, keyposes_per_plan=1)
    assert result.outcome.ok
    assert set(table.used) == {"plan-0"}
    assert table.calls.count("plan") == 2


def test_without_replanning_an_unfinished_task_is_no_success() -> None:
    table = Table(todo=6, per_plan=3)
    result = run(table, replan=False)
    assert (result.outcome.code, table.done, set(table.used)) == (OutcomeCode.NO_PROGRESS, 3, {"plan-0"})
    assert "replanning is off" in result.outcome.sentence


def test_without_replanning_a_changed_scene_ends_the_task_and_a_failed_keypose_is_tried_again() -> None:
    table = Table(on_predict=lambda done, cancel: fail(OutcomeCode.SCENE_CHANGED)(0, cancel) if done else None)
    assert run(table, replan=False).outcome.code is OutcomeCode.SCENE_CHANGED
    assert table.calls.count("plan") == 1
    table = Table(on_execute=fail(OutcomeCode.GRASP_FAILED))
    assert run(table, replan=False, max_failures=3).outcome.code is OutcomeCode.GRASP_FAILED
    assert (table.calls.count("plan"), table.calls.count("execute")) == (1, 3)


# --- cancel ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("background", [False, True])
@pytest.mark.parametrize("hook", ["on_plan", "on_predict", "on_execute"])
@pytest.mark.parametrize("at", [0, 2])
@pytest.mark.parametrize("code", [OutcomeCode.CANCELED, OutcomeCode.PREEMPTED, OutcomeCode.NODE_LOST])
def test_cancel_in_every_phase_keeps_its_reason(background: bool, hook: str, at: int, code: OutcomeCode) -> None:
    reached, cancel = threading.Event(), CancelToken()
    table = Table(todo=4, per_plan=1, **{hook: until_canceled(at, reached)})

    def operator() -> None:
        assert reached.wait(SOON_S)
        cancel.cancel(code, "The operator said so.")

    thread = threading.Thread(target=operator)
    thread.start()
    started = stalls.clock()
    result = run(table, background, cancel, keyposes_per_plan=3)
    thread.join()
    assert (result.outcome.code, result.outcome.sentence) == (code, "The operator said so.")
    assert stalls.clock() - started < SOON_S / 2
    before = list(table.calls)
    stalls.pause(0.05)
    assert table.calls == before, "the loop went on after its end"


@pytest.mark.parametrize("reason", [OutcomeCode.CANCELED, OutcomeCode.PREEMPTED, OutcomeCode.NODE_LOST])
@pytest.mark.parametrize(
    "code",
    [
        OutcomeCode.CONTROLLER_FAILED,
        OutcomeCode.REFLEX,
        OutcomeCode.STALE_STATE,
        OutcomeCode.STALE_IMAGE,
        OutcomeCode.NODE_LOST,
        OutcomeCode.CANCEL_UNCONFIRMED,
        OutcomeCode.INTERNAL,
    ],
)
def test_what_goes_wrong_during_a_cancel_reaches_the_operator(code: OutcomeCode, reason: OutcomeCode) -> None:
    """The reason of a cancel explains work that it interrupted; it never hides that the arm did not stop."""
    sentence = "The arm still moves 2.0 s after its trajectory ended: use the emergency stop."

    def on_execute(done: int, cancel: CancelToken) -> None:
        cancel.cancel(reason, "Why it was canceled.")
        raise StageError(code, sentence)

    outcome = run(Table(todo=5, on_execute=on_execute)).outcome
    assert (outcome.code, outcome.sentence) == (code, sentence)


@pytest.mark.parametrize(
    "code", [OutcomeCode.CANCELED, OutcomeCode.PREEMPTED, OutcomeCode.NO_PATH, OutcomeCode.GRASP_FAILED]
)
@pytest.mark.parametrize("background", [False, True])
def test_work_that_a_cancel_interrupted_carries_its_reason(background: bool, code: OutcomeCode) -> None:
    """So does a keypose that would have been tried again."""

    def on_execute(done: int, cancel: CancelToken) -> None:
        cancel.cancel(OutcomeCode.PREEMPTED, "A newer goal took over.")
        raise StageError(code, "The keypose failed.")

    outcome = run(Table(todo=5, on_execute=on_execute), background).outcome
    assert (outcome.code, outcome.sentence) == (OutcomeCode.PREEMPTED, "A newer goal took over.")


def test_a_canceled_token_never_starts() -> None:
    cancel = CancelToken()
    cancel.cancel(OutcomeCode.PREEMPTED, "A newer goal came.")
    table = Table()
    assert run(table, cancel=cancel).outcome.code is OutcomeCode.PREEMPTED
    assert table.calls == []


def test_a_dropped_background_plan_is_told_to_stop() -> None:
    """The task ends while a replan is under way: that work is canceled, and nobody waits for it."""
    stopped = threading.Event()

    def on_plan(number: int, cancel: CancelToken) -> None:
        if number == 1 and cancel.wait(SOON_S):
            stopped.set()

    def on_execute(done: int, cancel: CancelToken) -> None:
        if done == 1:
            raise StageError(OutcomeCode.REFLEX, "Contact.")

    started = stalls.clock()
    table = Table(on_plan=on_plan, on_execute=on_execute)
    result = run(table, background=True, keyposes_per_plan=1)
    assert result.outcome.code is OutcomeCode.REFLEX
    assert stalls.clock() - started < SOON_S / 2
    assert stopped.wait(SOON_S)


def test_a_defect_in_background_planning_is_not_swallowed() -> None:
    def on_plan(number: int, cancel: CancelToken) -> None:
        if number:
            raise ZeroDivisionError("a defect")

    with pytest.raises(ZeroDivisionError):
        run(Table(todo=20, on_plan=on_plan, on_execute=lambda *_: time.sleep(0.02)), background=True)


@pytest.mark.parametrize("text", ["", "   ", "x" * 1001, "put\x00it", "two\nlines", "bell\x07"])
def test_malformed_instructions_are_refused_before_anything_is_asked(text: str) -> None:
    table = Table()
    result = run_task(table, text, LoopConfig(), CancelToken())
    assert result.outcome.code is OutcomeCode.INVALID_GOAL
    assert len(result.outcome.sentence) < 200
    assert table.calls == []


def test_the_instruction_is_trimmed() -> None:
    assert check_instruction("  Push the red button. ") == "Push the red button."


def test_progress_tells_every_phase_in_order() -> None:
    told: list[Progress] = []
    run_task(Table(todo=2), INSTRUCTION, LoopConfig(), CancelToken(), told.append, background=False)
    assert [p.phase for p in told] == ["planning"] + ["predicting", "moving"] * 2
    assert [p.step for p in told] == [0, 0, 0, 1, 1]
    assert told[1].plan_id == "plan-0"
    assert told[2].keypose is not None
    assert all(a.elapsed_s <= b.elapsed_s for a, b in itertools.pairwise(told))


def test_times_are_per_phase_and_include_the_executors_parts() -> None:
    table = Table(todo=4, on_execute=lambda done, cancel: time.sleep(0.01))
    times = run(table).outcome.times_s
    assert times["motion"] == pytest.approx(2.0)
    assert times["gripper"] == pytest.approx(1.0)
    assert times["moving"] >= 0.04
    assert times["total"] >= times["planning"] + times["predicting"] + times["moving"]


def test_the_state_tells_steps_and_what_was_done() -> None:
    """Three sub-instructions over six keyposes, as a planner for long tasks gives them."""
    told: list[Progress] = []

    class Steps(Table):
        def plan(self, *args: object) -> TracePlan:
            plan = super().plan(*args)  # type: ignore[arg-type]
            step = min(self.done // 2, 2)
            return replace(plan, sub_instruction=f"step {'abc'[step]}", step_index=step, step_total=3)

    result = run_task(
        Steps(todo=6), INSTRUCTION, LoopConfig(keyposes_per_plan=1), CancelToken(), told.append, background=False
    )
    assert result.outcome.ok
    state = result.state
    assert state.sub_instructions == ("step a", "step b", "step c")
    assert (state.step_index, state.step_total, state.finished, state.keyposes) == (2, 3, True, 6)
    assert (state.instruction, state.step) == (INSTRUCTION, "step 3 of 3")
    assert told[0].state == TaskState(INSTRUCTION)
    moving = [p.state for p in told if p.phase == "moving"]
    assert [s.step_index for s in moving] == [0, 0, 1, 1, 2, 2]
    assert [len(s.sub_instructions) for s in moving] == [1, 1, 2, 2, 3, 3]
    assert not any(s.finished for s in moving)


def test_percentiles_by_hand() -> None:
    assert percentiles(()) is None
    assert percentiles((2.0,)) == (2.0, 2.0)
    assert percentiles(tuple(float(n) for n in range(21))) == (10.0, 19.0)


# --- what the hand holds ---------------------------------------------------------------------------------------------

ABOVE, GRASP, LIFT, PLACE = (
    Keypose(np.eye(4), True),
    Keypose(np.eye(4), False, True),
    Keypose(np.eye(4), False),
    Keypose(np.eye(4), True, True),
)


class Carry(Table):
    """Keyposes in a row; the sub-instruction is that of a planner."""

    def __init__(
        self, *keyposes: Keypose, words: str = "pick up the cyan block and put it in the plate", **kw: object
    ) -> None:
        super().__init__(todo=len(keyposes), **kw)  # type: ignore[arg-type]
        self.keyposes, self.words = keyposes, words

    def plan(self, *args: object) -> TracePlan:  # type: ignore[override]
        return replace(super().plan(*args), sub_instruction=self.words)  # type: ignore[arg-type]

    def predict(self, *args: object) -> Keypose | None:  # type: ignore[override]
        return None if super().predict(*args) is None else self.keyposes[self.done]  # type: ignore[arg-type]


def carried(table: Carry, hand: Hand) -> tuple[TaskResult, list[str]]:
    told: list[Progress] = []
    result = run_task(table, INSTRUCTION, LoopConfig(), CancelToken(), told.append, background=False, hand=hand)
    return result, [p.state.holding for p in told if p.phase == "moving"]


def test_the_state_says_what_the_hand_holds_from_the_grasp_to_the_release() -> None:
    hand = Hand()
    result, told = carried(Carry(ABOVE, GRASP, LIFT, PLACE, ABOVE), hand)
    assert told == ["", "", "the cyan block", "the cyan block", ""]
    assert result.state.holding == hand.holding == ""


def test_what_is_held_outlives_the_task_that_took_it() -> None:
    hand = Hand()
    result, _ = carried(
        Carry(ABOVE, GRASP, LIFT, on_execute=lambda n, c: n < 2 or fail(OutcomeCode.REFLEX)(n, c)), hand
    )
    assert (result.outcome.code, result.state.holding) == (OutcomeCode.REFLEX, "the cyan block")
    result, told = carried(Carry(LIFT, PLACE, words="put it down"), hand)
    assert told == ["the cyan block", "the cyan block"], "the new words are not those with which it was taken"
    assert result.state.holding == ""


def test_a_press_holds_nothing() -> None:
    _, told = carried(Carry(LIFT, GRASP, LIFT, words="push the red button"), Hand())
    assert told == ["", "", ""]


def test_an_object_that_slipped_is_not_held() -> None:
    once = iter([None, None, StageError(OutcomeCode.GRASP_FAILED, "It slipped.")])

    def slip(number: int, cancel: CancelToken) -> None:
        if error := next(once, None):
            raise error

    _, told = carried(Carry(ABOVE, GRASP, LIFT, on_execute=slip), Hand())
    assert told == ["", "", "the cyan block", ""], "it was in the hand, and the keypose was tried again without it"


def test_the_fingers_have_the_last_word() -> None:
    hand = Hand()
    hand.fingers(False)
    hand.took("pick up the cyan block")
    assert hand.holding == "the cyan block", "the keypose succeeded: the fingers' own word may be on its way"
    hand.fingers(True)
    assert hand.holding == "the cyan block"
    hand.fingers(False)
    assert hand.holding == "", "somebody took it out"
    hand.fingers(True)
    assert hand.holding == SOMETHING, "nobody said what was put in"
    hand.let_go()
    assert hand.holding == ""


@pytest.mark.parametrize(
    ("words", "thing"),
    [
        ("pick up the cyan block and put it in the plate", "the cyan block"),
        ("Grasp a red mug by its handle, then lift it.", "the red mug by its handle"),
        ("Put the small can of soup into the basket", "the small can of soup"),
        ("take the apple", "the apple"),
        ("tidy up", "what was taken to 'tidy up'"),
    ],
)
def test_words_of_what_is_taken(words: str, thing: str) -> None:
    assert object_of(words) == thing


def test_the_operator_is_told_how_to_be_rid_of_it() -> None:
    told = with_advice("Canceled by the operator.", "the cyan block")
    assert told == "Canceled by the operator. The cyan block is in the gripper: `stvla release` puts it down."
    assert with_advice("Done.", "") == "Done."


HOVER, PRESS = Keypose(np.eye(4), False), Keypose(np.eye(4), False, True)


class Behind(Table):
    """Two buttons are pressed from above: hover, press, rise. The planner sees the scene only past the arm at home."""

    def __init__(self, sees: Callable[[], bool] | None = None, **kw: object) -> None:
        super().__init__(todo=6, step=lambda: len(self.moved) // 3, **kw)  # type: ignore[arg-type]
        self.moved: list[Keypose] = []  # those of the policy
        self.homes: list[int] = []  # keyposes of the policy before each way home
        self.away = False
        self.sees = sees or (lambda: not self.away)

    def plan(self, *args: object) -> TracePlan:  # type: ignore[override]
        found: TracePlan = super().plan(*args)  # type: ignore[arg-type]
        if not self.sees():
            raise StageError(OutcomeCode.GOAL_NOT_GROUNDED, "I see no red button.")
        return replace(found, finished=len(self.moved) == self.todo)

    def predict(self, plan: TracePlan, history: tuple[Keypose, ...], *args: object) -> Keypose | None:  # type: ignore[override]
        self.histories.append(len(history))
        return None if len(history) == 3 else (HOVER, PRESS, HOVER)[len(history)]

    def execute(self, plan: TracePlan, keypose: Keypose, cancel: CancelToken) -> Outcome:
        self.away = keypose in (HOVER, PRESS)
        if self.away:
            self.moved.append(keypose)
        else:
            self.homes.append(len(self.moved))
            np.testing.assert_allclose(keypose.T_base_tcp, tcp_pose(HOME_Q_RAD))
        return super().execute(plan, keypose, cancel)


@pytest.mark.parametrize("background", [False, True])
@pytest.mark.parametrize("k", [1, 2, 3])
def test_the_arm_steps_out_of_the_view_of_what_the_planner_does_not_see(k: int, background: bool) -> None:
    """After a press and the way up from it, not before. Then the planner sees the next button, or that it was the last."""
    table = Behind()
    result = run(table, background, keyposes_per_plan=k)
    assert result.outcome.ok, result.outcome
    assert table.homes == [3, 6]
    assert table.histories.count(0) == 2, "to the policy each step begins without history"
    assert len(result.keyposes) == 8


def test_the_operator_is_told_why_the_arm_steps_back() -> None:
    told: list[Progress] = []
    run_task(Behind(), INSTRUCTION, LoopConfig(), CancelToken(), told.append, background=False)
    home = [p for p in told if p.phase == "moving" and p.step in (3, 7)]
    assert [p.state.feedback for p in home] == ["I see no red button."] * 2


@pytest.mark.parametrize("away", [(), (OutcomeCode.NO_PATH,)])
def test_what_is_not_seen_past_the_arm_either_ends_the_task_and_the_arm_steps_back_once(
    away: tuple[OutcomeCode, ...],
) -> None:
    """Also when there is no way home."""
    table = Behind(sees=lambda: not table.moved)
    execute = table.execute

    def blocked(plan: TracePlan, keypose: Keypose, cancel: CancelToken) -> Outcome:
        outcome = execute(plan, keypose, cancel)
        if table.homes and away:
            raise StageError(away[0], "No free path.")
        return outcome

    table.execute = blocked  # type: ignore[method-assign]
    result = run(table, max_failures=3)
    assert (result.outcome.code, table.homes) == (OutcomeCode.GOAL_NOT_GROUNDED, [3])
    assert len(table.moved) == 3, "a path that was drawn before is not begun again"


@pytest.mark.parametrize("code", [OutcomeCode.SERVER_TIMEOUT, OutcomeCode.REPLY_UNPARSABLE])
def test_the_arm_steps_back_for_nothing_else(code: OutcomeCode) -> None:
    table = Table(
        todo=3, contact=lambda: table.done == 1, opens=lambda: False, on_plan=lambda n, c: n and fail(code)(n, c)
    )
    assert run(table, keyposes_per_plan=1).outcome.code is code
    assert table.done == 3


def test_the_arm_does_not_step_back_with_an_object_in_the_hand_or_before_it_touched_anything() -> None:
    """The path in use was drawn on a free view; it is carried out while the hand hides its object or its goal."""
    table = Carry(ABOVE, GRASP, LIFT, LIFT, PLACE, ABOVE)
    table.on_plan = lambda n, c: fail(OutcomeCode.GOAL_NOT_GROUNDED)(n, c) if 0 < table.done < 6 else None
    result = run(table, keyposes_per_plan=1)
    assert (result.outcome.ok, len(result.keyposes)) == (True, 6)


def test_without_replanning_the_arm_does_not_step_back() -> None:
    table = Behind()
    assert run(table, replan=False).outcome.code is OutcomeCode.GOAL_NOT_GROUNDED
    assert table.homes == []


def test_after_a_missed_grasp_the_arm_goes_home_and_the_step_begins_anew() -> None:
    """With an open hand and a free view; else a policy that learned from demonstrations goes on as if it held something."""
    misses, homes = iter([True]), []

    class Slippery(Table):
        """The first grasp fails."""

        def predict(self, plan: TracePlan, history: tuple[Keypose, ...], *args: object) -> Keypose | None:  # type: ignore[override]
            self.histories.append(len(history))
            return None if len(history) == 3 else (ABOVE, GRASP, LIFT)[len(history)]

        def execute(self, plan: TracePlan, keypose: Keypose, cancel: CancelToken) -> Outcome:
            if keypose is GRASP and next(misses, False):
                raise StageError(OutcomeCode.GRASP_FAILED, "Nothing is between the fingers.")
            if keypose not in (ABOVE, GRASP, LIFT):
                np.testing.assert_allclose(keypose.T_base_tcp, tcp_pose(HOME_Q_RAD))
                homes.append((keypose.gripper_open, self.done))
            return super().execute(plan, keypose, cancel)

    table = Slippery(todo=5)  # above, home; above, grasp, lift
    result = run(table, keyposes_per_plan=25)
    assert result.outcome.ok, result.outcome
    assert homes == [(True, 1)]
    assert table.histories == [0, 1, 0, 1, 2, 3]
    assert table.told[1] == "Nothing is between the fingers."


def test_grasps_that_are_missed_again_and_again_end_the_task_with_their_code() -> None:
    def misses(done: int, cancel: CancelToken) -> None:
        if table.calls.count("execute") % 2:  # every other motion is the way home
            fail(OutcomeCode.GRASP_FAILED)(done, cancel)

    table = Table(todo=50, on_execute=misses)
    result = run(table, max_failures=3)
    assert (result.outcome.code, table.calls.count("execute")) == (OutcomeCode.GRASP_FAILED, 5)


def test_the_arm_steps_out_of_the_view_with_an_object_in_the_hand_if_no_path_is_in_use() -> None:
    """The goal was moved to where the arm hides it: guidance refuses the path, and the planner sees no goal."""
    moved = iter([StageError(OutcomeCode.SCENE_CHANGED, "The goal has moved.")])

    def on_predict(done: int, cancel: CancelToken) -> None:
        if done == 3 and (error := next(moved, None)):
            raise error

    table = Carry(ABOVE, GRASP, LIFT, LIFT, PLACE, ABOVE, on_predict=on_predict)
    table.on_plan = lambda n, c: fail(OutcomeCode.GOAL_NOT_GROUNDED)(n, c) if table.done == 3 else None
    execute, homes = table.execute, []

    def watched(plan: TracePlan, keypose: Keypose, cancel: CancelToken) -> Outcome:
        if keypose not in table.keyposes:
            np.testing.assert_allclose(keypose.T_base_tcp, tcp_pose(HOME_Q_RAD))
            homes.append((table.done, keypose.gripper_open))
        return execute(plan, keypose, cancel)

    table.execute = watched  # type: ignore[method-assign]
    result = run(table, keyposes_per_plan=25)
    assert result.outcome.ok, result.outcome
    assert homes == [(3, False)]
    assert table.histories[:6] == [0, 1, 2, 3, 3, 3], "the policy still knows that it holds something"


@pytest.mark.parametrize("background", [False, True])
def test_the_arm_goes_home_when_the_policy_is_done_and_the_planner_does_not_see_it(background: bool) -> None:
    """What it did may be behind the arm. From home the planner sees it."""
    homes: list[int] = []

    class Done(Table):
        """Three keyposes; they count as done once the arm is at home."""

        def predict(self, *args: object) -> Keypose | None:  # type: ignore[override]
            found: Keypose | None = super().predict(*args)  # type: ignore[arg-type]
            return found if self.done < 3 else None

        def execute(self, plan: TracePlan, keypose: Keypose, cancel: CancelToken) -> Outcome:
            if not np.allclose(keypose.T_base_tcp, np.eye(4)):
                homes.append(self.done)
            return super().execute(plan, keypose, cancel)

    result = run(Done(todo=4), background, keyposes_per_plan=25)
    assert result.outcome.ok, result.outcome
    assert homes == [3]
