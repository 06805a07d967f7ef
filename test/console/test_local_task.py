"""The console in front of a whole stack in one process: simulated cell, planner, guidance, policy, and the executor that
enforces approvals."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from console.test_session import ADA

from stvla_ros.console.access import Access, TokenConfig
from stvla_ros.console.audit import AuditLog
from stvla_ros.console.session import Code, Session
from stvla_ros.errors import CancelToken, OutcomeCode
from stvla_ros.evaluate.stack import StackSettings, build_stages
from stvla_ros.motion.approval import Approval, ApprovalDesk, Proposal, Status
from stvla_ros.pipeline import LocalStages, LoopConfig, Progress, run_task
from stvla_ros.sim.cell import Cell, CellConfig
from stvla_ros.types import Keypose, Outcome, TracePlan


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

    def goal(
        self, instruction: str, approval: Approval, cancel: CancelToken, report: Callable[[Progress], None]
    ) -> Outcome:
        return run_task(Asking(self, approval), instruction, LoopConfig(), cancel, report, background=False).outcome

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
