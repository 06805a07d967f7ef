"""A person's consent to a motion: asked for once it is planned, and enforced where it would be sent to the robot."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum

from stvla_ros.config import param
from stvla_ros.errors import CancelToken, OutcomeCode, StageError
from stvla_ros.types import JointPath, Keypose


class Approval(StrEnum):
    """What a motion needs. From free to strict: of two, the later one holds."""

    AUTOMATIC = "automatic"
    EACH_PLAN = "each_plan"
    EACH_KEYPOSE = "each_keypose"
    DRY_RUN = "dry_run"

    def stricter(self, other: Approval) -> Approval:
        """The stricter of the two."""
        order = list(Approval)
        return max(self, other, key=order.index)


APPROVALS = tuple(Approval)

APPROVAL_S = 3600.0
"""The longest time that a motion waits for a person."""


@dataclass(frozen=True)
class ApprovalConfig:
    """What goals cannot waive."""

    at_least: str = param(
        "automatic",
        "automatic: what the goal asks for; each_plan, each_keypose: a person approves; dry_run: nothing moves",
        choices=APPROVALS,
        live=True,
    )
    wait_s: float = param(
        60.0, "how long a motion waits for a person, unless its goal says [s]", ge=1.0, le=APPROVAL_S, live=True
    )


class Status(StrEnum):
    """What became of a proposal."""

    WAITING = "waiting"
    APPROVED = "approved"
    REFUSED = "refused"
    EXPIRED = "expired"  # nobody answered in time
    WITHDRAWN = "withdrawn"  # canceled while it waited
    NOT_NEEDED = "not_needed"
    DRY_RUN = "dry_run"


@dataclass(frozen=True, eq=False)
class Proposal:
    """A planned motion, as people judge it before anything moves.

    Attributes:
        proposal_id: Unique to this motion; what an approval names.
        plan_id: The plan it belongs to; empty: none.
        keypose: Where the tool goes.
        paths: Joint motions in the order in which they will be sent to the arm.
        status: What became of it.
        who: Who answered; empty: nobody.
        reason: Why it was refused, or another sentence for the operator.
        left_s: Seconds in which it can be answered, from when this was said.
    """

    proposal_id: str
    plan_id: str
    keypose: Keypose
    paths: tuple[JointPath, ...]
    status: Status = Status.WAITING
    who: str = ""
    reason: str = ""
    left_s: float = 0.0


def describe(proposal: Proposal) -> str:
    """One line: where the tool goes, what the gripper does, and how long it takes."""
    x, y, z = proposal.keypose.T_base_tcp[:3, 3]
    touch = ", may touch" if proposal.keypose.may_collide else ""
    fingers = "open" if proposal.keypose.gripper_open else "closed"
    seconds = sum(float(path.t_s[-1]) for path in proposal.paths)
    return (
        f"to ({x:.3f}, {y:.3f}, {z:.3f}) m{touch}, then the gripper is {fingers}; "
        f"{len(proposal.paths)} motions, {seconds:.1f} s"
    )


class ApprovalDesk:
    """Where motions wait for a person's consent. Thread safe; one motion waits at a time.

    Args:
        tell: Called with every proposal, and again when its status changes, in the thread that changes it.
        name: Begins the proposals' ids, so that those of a restarted program differ from its last ones.
    """

    def __init__(self, tell: Callable[[Proposal], None], name: str) -> None:
        self._tell, self._name = tell, name
        self._numbers = itertools.count(1)
        self._changed = threading.Condition()
        self._waiting: Proposal | None = None
        self._answered: Proposal | None = None  # the last one that no longer waits
        self._approved_plan = ""

    @property
    def waits(self) -> bool:
        """Whether a motion waits for an answer."""
        return self._waiting is not None

    def require(
        self,
        approval: Approval,
        plan_id: str,
        keypose: Keypose,
        paths: tuple[JointPath, ...],
        wait_s: float,
        cancel: CancelToken,
    ) -> bool:
        """Return when the motion may happen; True if a person was asked.

        Args:
            approval: What it needs. The approval of one motion of a plan approves the plan's later ones where that is
                enough.
            plan_id: The plan that the motion belongs to. Without one, each motion needs an approval of its own.
            keypose: Where the tool goes.
            paths: The joint motions.
            wait_s: How long to wait for an answer.
            cancel: Ends the wait.

        Raises:
            StageError: MOTION_REFUSED; NOT_APPROVED when nobody answers in time; DRY_RUN; the cancel's reason.
        """
        proposal = Proposal(f"{self._name}-{next(self._numbers)}", plan_id, keypose, paths, left_s=wait_s)
        if approval is Approval.DRY_RUN:
            self._tell(replace(proposal, status=Status.DRY_RUN, left_s=0.0))
            raise StageError(OutcomeCode.DRY_RUN, "Dry run: the motion was planned, and nothing moved.")
        approved = approval is Approval.EACH_PLAN and plan_id and plan_id == self._approved_plan
        if approval is Approval.AUTOMATIC or approved:
            self._tell(replace(proposal, status=Status.NOT_NEEDED, left_s=0.0))
            return False
        answer = self._wait(proposal, wait_s, cancel)
        if answer.status is Status.REFUSED:
            raise StageError(OutcomeCode.MOTION_REFUSED, _refusal(answer))
        if answer.status is Status.EXPIRED:
            raise StageError(OutcomeCode.NOT_APPROVED, answer.reason)
        self._approved_plan = plan_id
        return True

    def answer(self, proposal_id: str, approve: bool, who: str, reason: str = "") -> tuple[bool, str]:
        """A person's answer.

        Args:
            proposal_id: Which motion; an answer to another one than the waiting one has no effect. The same answer
                of the same person may come twice, since requests are repeated.
            approve: False: the motion does not happen.
            who: The person, for the record.
            reason: Why not.

        Returns:
            Whether the answer counts, and a sentence for the person.
        """
        with self._changed:
            waiting = self._waiting
            status = Status.APPROVED if approve else Status.REFUSED
            if waiting is None or waiting.proposal_id != proposal_id:
                past = self._answered
                again = past is not None and (past.proposal_id, past.status, past.who) == (proposal_id, status, who)
                return (True, _counts(proposal_id, status)) if again else (False, self._why_not(proposal_id))
            self._settle(replace(waiting, status=status, who=who, reason=reason, left_s=0.0))
        return True, _counts(proposal_id, status)

    def _why_not(self, proposal_id: str) -> str:
        past, waiting = self._answered, self._waiting
        if past is not None and past.proposal_id == proposal_id:
            by = f" by {past.who}" if past.who else ""
            return f"Motion {proposal_id} was {past.status}{by}: this answer has no effect."
        now = f"motion {waiting.proposal_id} waits" if waiting else "no motion waits for an answer"
        return f"Motion {proposal_id} does not wait ({now}): this answer has no effect."

    def _wait(self, proposal: Proposal, wait_s: float, cancel: CancelToken) -> Proposal:
        end = time.monotonic() + wait_s
        with self._changed:
            self._waiting = proposal
        self._tell(proposal)
        forget = cancel.on_cancel(self._wake)
        try:
            with self._changed:
                answered = lambda: self._waiting is not proposal or cancel.is_set()  # noqa: E731
                self._changed.wait_for(answered, end - time.monotonic())
                if self._waiting is proposal:
                    self._settle(self._unanswered(proposal, wait_s, cancel))
                answer = self._answered
        finally:
            forget()
        assert answer is not None
        self._tell(answer)
        cancel.raise_if_set()  # also after an approval: whoever says stop is the last to speak
        return answer

    def _unanswered(self, proposal: Proposal, wait_s: float, cancel: CancelToken) -> Proposal:
        if cancel.is_set():
            return replace(proposal, status=Status.WITHDRAWN, reason="The motion was canceled.", left_s=0.0)
        reason = (
            f"Nobody approved the motion within {wait_s:g} s: nothing moved. Give the goal again when someone is there."
        )
        return replace(proposal, status=Status.EXPIRED, reason=reason, left_s=0.0)

    def _settle(self, answered: Proposal) -> None:
        self._answered, self._waiting = answered, None
        self._changed.notify_all()

    def _wake(self) -> None:
        with self._changed:
            self._changed.notify_all()


def _counts(proposal_id: str, status: Status) -> str:
    return f"Motion {proposal_id} is {status}."


def _refusal(answer: Proposal) -> str:
    by, why = answer.who or "the operator", answer.reason.strip().rstrip(".")
    return f"The motion was refused by {by}{': ' + why if why else ''}."
