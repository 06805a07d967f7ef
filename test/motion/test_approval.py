"""A person's consent: what needs it, what counts as an answer, and how a wait for one ends."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
import pytest
import stalls

from stvla_ros.errors import CancelToken, OutcomeCode, StageError
from stvla_ros.geometry.se3 import tool_down
from stvla_ros.motion.approval import Approval, ApprovalDesk, Proposal, Status
from stvla_ros.types import JointPath, Keypose

KEYPOSE = Keypose(tool_down([0.5, 0.0, 0.2], 0.0), True, False)
PATHS = (JointPath(np.zeros((2, 7)), np.zeros((2, 7)), np.array([0.0, 1.0])),)


@dataclass
class Desk:
    """A desk, what it said, and a motion that waits in another thread."""

    said: list[Proposal] = field(default_factory=list)
    cancel: CancelToken = field(default_factory=CancelToken)

    def __post_init__(self) -> None:
        self.desk = ApprovalDesk(self.said.append, "test")
        self.pool = ThreadPoolExecutor(1)

    def ask(self, approval: Approval = Approval.EACH_KEYPOSE, plan: str = "p1", wait_s: float = 60.0) -> str:
        """Propose a motion; returns its id once it waits."""
        before = len(self.said)
        self.call = self.pool.submit(self.desk.require, approval, plan, KEYPOSE, PATHS, wait_s, self.cancel)
        late = stalls.clock() + 10.0
        while len(self.said) == before:
            assert stalls.clock() < late
        return self.said[-1].proposal_id

    def asked(self) -> bool:
        """Whether the motion may happen after a person was asked."""
        return stalls.wait_for(self.call, 10.0).result()

    def code(self) -> OutcomeCode:
        with pytest.raises(StageError) as error:
            self.asked()
        return error.value.code

    def statuses(self) -> list[Status]:
        return [proposal.status for proposal in self.said]


@pytest.fixture
def desk() -> Desk:
    return Desk()


def test_the_stricter_approval_holds() -> None:
    free, *strict = list(Approval)
    assert [free.stricter(other) for other in strict] == strict
    assert [other.stricter(free) for other in strict] == strict
    assert Approval.EACH_PLAN.stricter(Approval.EACH_KEYPOSE) is Approval.EACH_KEYPOSE
    assert max(Approval, key=list(Approval).index) is Approval.DRY_RUN


def test_without_need_nobody_is_asked_and_everybody_is_told(desk: Desk) -> None:
    assert desk.desk.require(Approval.AUTOMATIC, "p1", KEYPOSE, PATHS, 60.0, desk.cancel) is False
    assert desk.statuses() == [Status.NOT_NEEDED]
    assert desk.said[0].paths == PATHS


def test_an_approved_motion_happens(desk: Desk) -> None:
    name = desk.ask()
    assert desk.desk.waits
    assert desk.said[-1].left_s == 60.0
    assert desk.desk.answer(name, True, "Ada") == (True, f"Motion {name} is approved.")
    assert desk.asked() is True
    assert desk.statuses() == [Status.WAITING, Status.APPROVED]
    assert desk.said[-1].who == "Ada"
    assert not desk.desk.waits


def test_a_refused_motion_says_who_and_why(desk: Desk) -> None:
    desk.desk.answer(desk.ask(), False, "Ada", "too close to the cup.")
    with pytest.raises(StageError, match=r"refused by Ada: too close to the cup\.$") as error:
        desk.asked()
    assert error.value.code is OutcomeCode.MOTION_REFUSED
    assert desk.statuses() == [Status.WAITING, Status.REFUSED]


def test_without_an_answer_nothing_happens(desk: Desk) -> None:
    desk.ask(wait_s=0.05)
    assert desk.code() is OutcomeCode.NOT_APPROVED
    assert desk.statuses() == [Status.WAITING, Status.EXPIRED]


def test_an_answer_that_comes_too_late_is_told_so(desk: Desk) -> None:
    name = desk.ask(wait_s=0.05)
    desk.code()
    counts, sentence = desk.desk.answer(name, True, "Ada")
    assert not counts
    assert "was expired" in sentence


def test_a_canceled_wait_ends_at_once_and_an_approval_after_it_has_no_effect(desk: Desk) -> None:
    name = desk.ask()
    desk.cancel.cancel()
    assert desk.code() is OutcomeCode.CANCELED
    assert desk.statuses() == [Status.WAITING, Status.WITHDRAWN]
    assert desk.desk.answer(name, True, "Ada")[0] is False


def test_a_cancel_counts_more_than_an_approval_at_the_same_moment(desk: Desk) -> None:
    """The approval came first, but the motion has not begun yet."""
    desk.desk = ApprovalDesk(
        lambda p: desk.said.append(p) or (p.status is Status.APPROVED and desk.cancel.cancel()), "x"
    )
    desk.desk.answer(desk.ask(), True, "Ada")
    assert desk.code() is OutcomeCode.CANCELED


@pytest.mark.parametrize("name", ["", "test-99", "other-1"])
def test_an_answer_to_another_motion_has_no_effect(desk: Desk, name: str) -> None:
    waiting = desk.ask()
    counts, sentence = desk.desk.answer(name, True, "Ada")
    assert not counts
    assert f"motion {waiting} waits" in sentence
    assert desk.desk.waits
    desk.desk.answer(waiting, True, "Ada")
    assert desk.asked()


def test_of_two_people_the_first_one_decides(desk: Desk) -> None:
    name = desk.ask()
    assert desk.desk.answer(name, False, "Ada")[0]
    counts, sentence = desk.desk.answer(name, True, "Bob")
    assert not counts
    assert "was refused by Ada" in sentence
    assert desk.code() is OutcomeCode.MOTION_REFUSED


def test_a_repeated_answer_is_confirmed_again(desk: Desk) -> None:
    """The first confirmation may get lost on the way."""
    name = desk.ask()
    assert desk.desk.answer(name, True, "Ada") == desk.desk.answer(name, True, "Ada")
    assert desk.asked()
    assert desk.desk.answer(name, True, "Ada")[0]


def test_an_approval_does_not_count_for_the_next_motion(desk: Desk) -> None:
    first = desk.ask()
    desk.desk.answer(first, True, "Ada")
    desk.asked()
    second = desk.ask()
    assert second != first
    desk.desk.answer(first, True, "Ada")
    assert desk.desk.waits, "still"
    desk.desk.answer(second, True, "Ada")
    assert desk.asked()


def test_one_approval_per_plan(desk: Desk) -> None:
    desk.desk.answer(desk.ask(Approval.EACH_PLAN, "p1"), True, "Ada")
    assert desk.asked()
    later = lambda plan: desk.desk.require(Approval.EACH_PLAN, plan, KEYPOSE, PATHS, 0.01, desk.cancel)  # noqa: E731
    assert later("p1") is False
    with pytest.raises(StageError, match="Nobody approved"):
        later("p2")
    with pytest.raises(StageError, match="Nobody approved"):
        desk.desk.require(Approval.EACH_KEYPOSE, "p1", KEYPOSE, PATHS, 0.01, desk.cancel)


def test_motions_without_a_plan_are_approved_one_by_one(desk: Desk) -> None:
    for _ in range(2):
        desk.desk.answer(desk.ask(Approval.EACH_PLAN, ""), True, "Ada")
        assert desk.asked() is True


def test_a_dry_run_waits_for_nobody(desk: Desk) -> None:
    with pytest.raises(StageError) as error:
        desk.desk.require(Approval.DRY_RUN, "p1", KEYPOSE, PATHS, 60.0, desk.cancel)
    assert error.value.code is OutcomeCode.DRY_RUN
    assert desk.statuses() == [Status.DRY_RUN]
