"""The console in front of a whole stack in one process: simulated cell, planner, guidance, policy, and the executor that
enforces approvals."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from console.test_session import ADA

from stvla_ros.console.access import Access, TokenConfig
from stvla_ros.console.audit import AuditLog
from stvla_ros.console.edit import Drawn, drawn_through, place
from stvla_ros.console.session import Code, Session
from stvla_ros.errors import CancelToken, OutcomeCode, StageError
from stvla_ros.evaluate.stack import StackSettings, build_stages
from stvla_ros.motion.approval import Approval, ApprovalDesk, Proposal, Status
from stvla_ros.pipeline import EditedPaths, LocalStages, LoopConfig, Progress, run_task
from stvla_ros.sim.cell import Cell, CellConfig
from stvla_ros.types import F64, Keypose, Outcome, TracePlan


class LocalStack:
    """What ``ConsoleStack`` is over ROS, in one process.

    Attributes:
        look: Called after each plan, each prediction and each motion.
    """

    def __init__(self, cell: Cell) -> None:
        self.cell, self.stages = cell, build_stages(StackSettings(), cell)
        self.hear: Callable[[Proposal], None] = lambda _: None
        self.look: Callable[[], None] = lambda: None
        self.desk, self.wait_s = ApprovalDesk(lambda proposal: self.hear(proposal), "local"), 600.0
        self.stopped = threading.Event()
        self.drawn: dict[str, Drawn] = {}

    def goal(
        self, instruction: str, approval: Approval, cancel: CancelToken, report: Callable[[Progress], None]
    ) -> Outcome:
        self.edits = EditedPaths(Asking(self, approval), self.stages.lift, cancel)
        return run_task(self.edits, instruction, LoopConfig(), cancel, report, background=False).outcome

    def use_path(self, plan_id: str, points_m: F64, who: str) -> None:
        plan = self.edits.offer(drawn_through(self.drawn[plan_id].plan, points_m, self.stages._camera.capture()))
        self.drawn[plan.plan_id] = Drawn(plan, points_m)

    def answer(self, proposal_id: str, approve: bool, who: str, reason: str) -> tuple[bool, str]:
        return self.desk.answer(proposal_id, approve, who, reason)

    def stop(self) -> None:
        self.stopped.set()

    def release(self) -> str:
        self.stopped.clear()
        return "Motion is allowed."


class Asking:
    """Stages whose motions need approval."""

    def __init__(self, stack: LocalStack, approval: Approval) -> None:
        self._stack, self._approval, self._inner = stack, approval, stack.stages
        self.now_ns = self._inner.now_ns

    def plan(self, *arguments, **more) -> TracePlan:
        plan = self._inner.plan(*arguments, **more)
        if not plan.finished:
            start_m = self._inner._traces[plan.plan_id].xyz_m[0].astype(float)
            self._stack.drawn[plan.plan_id] = place(plan, start_m, self._inner._camera.capture().camera)
        self._stack.look()
        return plan

    def predict(self, *arguments) -> Keypose | None:
        keypose = self._inner.predict(*arguments)
        self._stack.look()
        return keypose

    def execute(self, plan: TracePlan, keypose: Keypose, cancel: CancelToken) -> Outcome:
        inner: LocalStages = self._inner
        consent = lambda paths: self._stack.desk.require(  # noqa: E731
            self._approval, plan.plan_id, keypose, paths, self._stack.wait_s, cancel
        )
        trace = inner._traces[plan.plan_id]
        outcome = inner._executor.execute(keypose, inner._camera.capture(), trace, cancel, consent)  # type: ignore[call-arg]
        self._stack.look()
        return outcome


class LocalConsole:
    """A session on it."""

    def __init__(self, cell: Cell, folder: Path) -> None:
        self.cell, self.stack = cell, LocalStack(cell)
        access = Access("127.0.0.1", TokenConfig(), {})
        self.session = Session(self.stack, access, AuditLog(folder / "log.jsonl"))
        self.changed = threading.Event()
        self.stack.hear = self._hear

    def _hear(self, proposal: Proposal) -> None:
        self.session.hear_proposal(proposal)
        self.changed.set()

    def waiting(self, asked: list[str]) -> Proposal | None:
        """The next motion that waits; None: the task has ended."""
        while True:
            shown = self.session.shown()
            if not shown.running:
                return None
            if shown.waiting is not None and shown.waiting.proposal_id not in asked:
                return shown.waiting
            self.changed.wait(0.05)
            self.changed.clear()

    def outcome(self) -> Outcome:
        thread = self.session._goal_thread
        assert thread is not None
        thread.join(120.0)
        outcome = self.session.shown().history[0].outcome
        assert outcome is not None
        return outcome


@pytest.fixture
def console(tmp_path: Path) -> Iterator[LocalConsole]:
    cell = Cell(CellConfig())
    local = LocalConsole(cell, tmp_path)
    local.session.join(ADA, "127.0.0.1")
    yield local
    local.session.close(30.0)
    cell.close()


def test_a_task_keypose_by_keypose_with_one_refusal(console: LocalConsole) -> None:
    goal, asked, plans = console.cell.reset("pick_place", 1), list[str](), list[str]()
    assert console.session.say(ADA, goal).ok
    while (waiting := console.waiting(asked)) is not None:
        asked.append(waiting.proposal_id)
        plans.append(waiting.plan_id)
        before = console.cell.state().q_rad
        if len(asked) == 2:
            assert console.session.refuse(ADA, waiting.proposal_id, "look again, please").ok
        else:
            assert waiting.paths
            np.testing.assert_allclose(waiting.paths[0].q_rad[0], before, atol=0.02)
            assert console.session.approve(ADA, waiting.proposal_id).ok
        console.session._buckets[ADA].left = 10.0  # a person takes longer
    assert console.outcome().code is OutcomeCode.OK
    assert console.cell.score().success
    assert len(asked) > 3
    assert plans[2] != plans[1], "a new plan after the refusal"


def test_a_dry_run_moves_nothing(console: LocalConsole) -> None:
    goal = console.cell.reset("pick_place", 2)
    before = console.cell.state()
    assert console.session.set_mode(ADA, "dry_run").ok
    assert console.session.say(ADA, goal).ok
    assert console.outcome().code is OutcomeCode.DRY_RUN
    proposal = console.session.shown().proposal
    assert proposal is not None
    assert proposal.status is Status.DRY_RUN
    assert proposal.paths
    np.testing.assert_array_equal(console.cell.state().q_rad, before.q_rad)


def test_a_stop_in_mid_motion(console: LocalConsole) -> None:
    goal = console.cell.reset("pick_place", 3)
    assert console.session.set_mode(ADA, "automatic").ok
    assert console.session.say(ADA, goal).ok
    while np.abs(console.cell.state().dq_rad_s).max() < 0.2:
        assert console.session.shown().running
    assert console.session.stop(ADA).ok
    outcome = console.outcome()
    assert (outcome.code, outcome.sentence) == (OutcomeCode.CANCELED, "Stopped by operator 1.")
    assert console.stack.stopped.is_set()
    assert np.abs(console.cell.state().dq_rad_s).max() < 0.01


def test_a_stop_while_a_motion_waits_and_an_approval_that_comes_too_late(console: LocalConsole) -> None:
    assert console.session.say(ADA, console.cell.reset("pick_place", 4)).ok
    waiting = console.waiting([])
    assert waiting is not None
    before = console.cell.state().q_rad
    assert console.session.stop(ADA).ok
    assert console.outcome().code is OutcomeCode.CANCELED
    assert console.session.approve(ADA, waiting.proposal_id).code is Code.NOT_WAITING
    np.testing.assert_array_equal(console.cell.state().q_rad, before)


MOVED_M = 0.03


def test_a_path_that_a_person_moves_puts_the_block_elsewhere_on_the_plate(console: LocalConsole) -> None:
    """The last waypoint is dragged sideways when the block is above the plate; the planner had drawn the plate's centre."""
    goal, asked, edited = console.cell.reset("pick_place", 1), list[str](), ""
    assert console.session.say(ADA, goal).ok
    while (waiting := console.waiting(asked)) is not None:
        asked.append(waiting.proposal_id)
        console.session._buckets[ADA].left = 10.0
        puts_down = waiting.keypose.gripper_open and waiting.keypose.may_collide
        if puts_down and not edited:
            edited = waiting.plan_id
            points = console.stack.drawn[edited].points_m.copy()
            np.testing.assert_allclose(points[-1], waiting.keypose.T_base_tcp[:3, 3], atol=0.01)
            points[-1, 1] += MOVED_M
            before = console.cell.state().q_rad
            answer = console.session.use_path(ADA, waiting.proposal_id, points)
            assert answer.ok, answer
            np.testing.assert_allclose(console.cell.state().q_rad, before, atol=1e-3)
            continue
        if edited and puts_down:
            assert waiting.plan_id.startswith("person-"), "it was proposed anew, and waits"
        assert console.session.approve(ADA, waiting.proposal_id).ok
    assert console.outcome().code is OutcomeCode.OK
    assert console.cell.score().success
    (plate_x, plate_y), (x, y) = console.cell.place("plate"), console.cell.place(f"{goal.split()[2]}_block")
    np.testing.assert_allclose((x - plate_x, y - plate_y), (0.0, MOVED_M), atol=0.008)


@pytest.mark.parametrize(
    ("move_m", "reason"),
    [
        ((0.0, 0.0, -0.2), "LIFT_IMPLAUSIBLE: .* outside the workspace"),
        ((0.0, 2.0, 0.0), "LIFT_IMPLAUSIBLE: The path is implausible: its waypoints span .* the image spans 0 to 1000"),
        ((9.0, 0.0, 0.0), "LIFT_IMPLAUSIBLE: The path is implausible: its waypoints .* not finite"),
    ],
)
def test_an_absurd_path_is_refused_and_nothing_moves(
    move_m: tuple[float, float, float], reason: str, console: LocalConsole
) -> None:
    assert console.session.say(ADA, console.cell.reset("pick_place", 1)).ok
    waiting = console.waiting([])
    assert waiting is not None
    before = console.cell.state().q_rad
    points = console.stack.drawn[waiting.plan_id].points_m.copy()
    points[-1] += move_m
    answer = console.session.use_path(ADA, waiting.proposal_id, points)
    assert answer.code is Code.PATH_REFUSED
    assert re.search(reason, answer.sentence)
    assert console.session.shown().waiting is waiting, "the motion still waits"
    np.testing.assert_array_equal(console.cell.state().q_rad, before)
    assert console.session.refuse(ADA, waiting.proposal_id).ok
    after = console.waiting([waiting.proposal_id])
    assert after is not None
    assert after.plan_id.startswith("colour-"), "the planner draws again"
    console.session.end_task(ADA)


def test_a_path_is_forgotten_when_the_old_motion_is_approved_after_all(console: LocalConsole) -> None:
    assert console.session.say(ADA, console.cell.reset("pick_place", 1)).ok
    waiting = console.waiting([])
    assert waiting is not None
    console.stack.use_path(waiting.plan_id, console.stack.drawn[waiting.plan_id].points_m, "Ada")
    with pytest.raises(StageError, match="INVALID_GOAL: The path was not used: no motion of the path"):
        console.stack.edits.offer(replace(console.stack.drawn[waiting.plan_id].plan, plan_id="another"))
    assert console.session.approve(ADA, waiting.proposal_id).ok
    after = console.waiting([waiting.proposal_id])
    assert after is not None
    assert after.plan_id == waiting.plan_id
    assert console.session.refuse(ADA, after.proposal_id).ok
    third = console.waiting([waiting.proposal_id, after.proposal_id])
    assert third is not None
    assert third.plan_id.startswith("colour-")
    with pytest.raises(StageError, match="INVALID_GOAL"):
        console.stack.use_path(waiting.plan_id, console.stack.drawn[waiting.plan_id].points_m, "Ada")
    console.session.end_task(ADA)


def test_people_may_edit_more_often_than_motions_may_fail(console: LocalConsole) -> None:
    assert console.session.say(ADA, console.cell.reset("pick_place", 1)).ok
    asked = list[str]()
    for number in range(LoopConfig().max_failures + 1):
        waiting = console.waiting(asked)
        assert waiting is not None, console.outcome()
        assert waiting.plan_id.startswith("person-" if number else "colour-")
        asked.append(waiting.proposal_id)
        console.session._buckets[ADA].left = 10.0
        answer = console.session.use_path(ADA, waiting.proposal_id, console.stack.drawn[waiting.plan_id].points_m)
        assert answer.ok, answer
    assert console.waiting(asked) is not None
    console.session.end_task(ADA)


def test_a_page_that_is_gone_approves_nothing(console: LocalConsole) -> None:
    """As when its process is killed: nobody is there, and no answer comes."""
    console.stack.wait_s = 1.0
    before = (goal := console.cell.reset("pick_place", 5)) and console.cell.state().q_rad
    assert console.session.say(ADA, goal).ok
    assert console.waiting([]) is not None
    console.session.leave(ADA)
    assert console.outcome().code is OutcomeCode.NOT_APPROVED
    np.testing.assert_array_equal(console.cell.state().q_rad, before)


def test_a_reload_in_mid_task_finds_the_motion_that_waits(console: LocalConsole) -> None:
    goal, asked = console.cell.reset("pick_place", 1), list[str]()
    assert console.session.say(ADA, goal).ok
    number = ADA
    while (waiting := console.waiting(asked)) is not None:
        asked.append(waiting.proposal_id)
        before = console.cell.state().q_rad
        console.session.leave(number)
        assert console.session.approve(number, waiting.proposal_id).code is Code.NOT_SIGNED_IN
        number += 1
        console.session.join(number, "127.0.0.1")
        assert console.session.shown().waiting == waiting
        np.testing.assert_array_equal(console.cell.state().q_rad, before)
        assert console.session.approve(number, waiting.proposal_id).ok
    assert console.outcome().code is OutcomeCode.OK
    assert console.cell.score().success


def test_of_two_approvals_and_one_for_another_motion_one_counts(console: LocalConsole) -> None:
    console.session.join(ADA + 1, "127.0.0.1")
    assert console.session.say(ADA, console.cell.reset("pick_place", 6)).ok
    first = console.waiting([])
    assert first is not None
    before = console.cell.state().q_rad
    assert console.session.approve(ADA, "local-99").code is Code.NOT_WAITING
    assert console.session.approve(ADA + 1, first.proposal_id).code is Code.NOT_OPERATOR
    np.testing.assert_array_equal(console.cell.state().q_rad, before)
    assert console.session.approve(ADA, first.proposal_id).ok
    second = console.waiting([first.proposal_id])
    assert second is not None
    rested = console.cell.state().q_rad
    assert console.session.approve(ADA, first.proposal_id).code is Code.NOT_WAITING, "twice"
    assert console.session.shown().waiting == second
    np.testing.assert_array_equal(console.cell.state().q_rad, rested)
    assert console.session.stop(ADA).ok
    assert console.outcome().code is OutcomeCode.CANCELED
