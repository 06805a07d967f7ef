"""A person at the terminal approves motions: what they see, and what they type."""

from __future__ import annotations

import getpass
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from queue import SimpleQueue

from stvla_ros.errors import CancelToken
from stvla_ros.motion.approval import Approval, Proposal, Status, describe
from stvla_ros.types import TracePlan

HELP = "y: do it   n [why]: do not, look again   q: end the task"
NOBODY = "Canceled: nobody is there to approve motions (the input has ended)."


class TerminalApproval:
    """Shows motions and turns typed lines into answers. Thread safe.

    Args:
        print_line: Shows a line to the person.
        cancel: Ends the task.
        plan_of: The plan of an id, if it is known; a dry run shows it.

    Attributes:
        say: Gives an answer: (id of the motion, whether it may happen, why not) -> what became of it. Set it before the
            first line is read.
    """

    say: Callable[[str, bool, str], str]

    def __init__(
        self,
        print_line: Callable[[str], None],
        cancel: CancelToken,
        plan_of: Callable[[str], TracePlan | None] = lambda _: None,
    ) -> None:
        self._print, self._cancel, self._plan_of = print_line, cancel, plan_of
        self._lock = threading.Lock()
        self._waiting = ""

    def hear(self, proposal: Proposal) -> None:
        """Show a proposed motion, or what became of it."""
        waits = proposal.status is Status.WAITING
        with self._lock:
            self._waiting = proposal.proposal_id if waits else ""
        if waits:
            self._print(f"Motion {describe(proposal)}. {HELP}  ({proposal.left_s:.0f} s)")
        elif proposal.status is Status.DRY_RUN:
            if (plan := self._plan_of(proposal.plan_id)) is not None:
                self._print(describe_plan(plan))
            self._print(f"Motion {describe(proposal)}: dry run, not done.")
        elif proposal.status is Status.NOT_NEEDED:
            self._print(f"Motion {describe(proposal)}.")
        else:
            by = f" by {proposal.who}" if proposal.who else ""
            self._print(f"{proposal.status.capitalize()}{by}.")

    def read(self, lines: Iterable[str]) -> None:
        """Answer with typed lines until the input ends, which cancels the task: nobody could answer any more.

        A line belongs to the motion that waits when it is typed, even if the answer before it is still under way: the
        motion after that has not been seen yet.
        """
        typed: SimpleQueue[tuple[str, str] | None] = SimpleQueue()
        answering = threading.Thread(target=self._answer, args=(typed,), name="answering", daemon=True)
        answering.start()
        for line in lines:
            with self._lock:
                typed.put((line.strip(), self._waiting))
        typed.put(None)
        answering.join()
        self._cancel.cancel(sentence=NOBODY)

    def _answer(self, typed: SimpleQueue[tuple[str, str] | None]) -> None:
        while (taken := typed.get()) is not None:
            self._take(*taken)

    def _take(self, line: str, waiting: str) -> None:
        word, _, reason = line.partition(" ")
        if word.lower() in ("q", "quit"):
            self._cancel.cancel()
        elif not waiting:
            self._print("No motion waits for an answer.")
        elif word.lower() in ("y", "yes"):
            self._print(self.say(waiting, True, ""))
        elif word.lower() in ("n", "no"):
            self._print(self.say(waiting, False, reason))
        else:
            self._print(HELP)


def describe_plan(plan: TracePlan) -> str:
    """What a plan wants, and its path: waypoints on the image and their depths."""
    offsets_mm = 1e3 * plan.depth_offset_m
    path = "  ".join(f"({u:.0f}, {v:.0f}) {mm:+.0f}" for (u, v), mm in zip(plan.uv, offsets_mm, strict=True))
    return (
        f"Plan {plan.plan_id} of '{plan.planner}': {plan.sub_instruction}\n"
        f"Waypoints (in 0..1000 of the image's width and height) and depths (from the start's, in mm): {path}"
    )


@contextmanager
def approving(approval: Approval, print_line: Callable[[str], None], cancel: CancelToken) -> Iterator[None]:
    """Show motions while a goal runs, of a dry run also the plan, and let the person at the terminal answer where the goal
    asks for it.

    Args:
        approval: What the goal asks for. Nothing is shown for an automatic one.
        print_line: Shows a line to the person.
        cancel: Ends the task.
    """
    if approval is Approval.AUTOMATIC:
        yield
        return
    from stvla_ros.ros.approval_client import plans, proposals

    with plans() as plan_of:
        terminal = TerminalApproval(print_line, cancel, plan_of)
        with proposals(terminal.hear, getpass.getuser()) as terminal.say:
            if approval is not Approval.DRY_RUN:
                threading.Thread(target=terminal.read, args=(sys.stdin,), name="answers", daemon=True).start()
            yield
