"""A person at the terminal: what they see of a motion, and what their lines do."""

from __future__ import annotations

import io
import threading
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from stvla_ros.commands.approving import NOBODY, TerminalApproval
from stvla_ros.errors import CancelToken, StageError
from stvla_ros.geometry.se3 import tool_down
from stvla_ros.motion.approval import Proposal, Status
from stvla_ros.types import JointPath, Keypose, TracePlan

PATH = JointPath(np.zeros((2, 7)), np.zeros((2, 7)), np.array([0.0, 1.5]))
PROPOSAL = Proposal("m-1", "p", Keypose(tool_down([0.5, -0.1, 0.02], 0.0), False, True), (PATH, PATH), left_s=60.0)


class Terminal:
    def __init__(self) -> None:
        self.shown: list[str] = []
        self.given: list[tuple[str, bool, str]] = []
        self.cancel = CancelToken()
        self.approval = TerminalApproval(self.shown.append, self.cancel)
        self.approval.say = self.say

    def say(self, name: str, approve: bool, reason: str) -> str:
        self.given.append((name, approve, reason))
        return "noted"

    def type(self, text: str) -> None:
        self.approval.read(io.StringIO(text))


@pytest.fixture
def terminal() -> Terminal:
    return Terminal()


def test_a_motion_is_shown_with_what_a_person_needs(terminal: Terminal) -> None:
    terminal.approval.hear(PROPOSAL)
    assert "(0.500, -0.100, 0.020) m, may touch, then the gripper is closed; 2 motions, 3.0 s" in terminal.shown[0]
    assert "y: do it" in terminal.shown[0]


def test_a_dry_run_shows_the_plan_before_its_motion() -> None:
    shown: list[str] = []
    uv = np.linspace((100.0, 200.0), (800.0, 900.0), 8)
    plan = TracePlan("put it down", "put it there", uv, 0.8, np.linspace(0.0, -0.1, 8), 0, False, "colour", "", 0, "p")
    terminal = TerminalApproval(shown.append, CancelToken(), {"p": plan}.get)
    terminal.hear(replace(PROPOSAL, status=Status.DRY_RUN))
    assert shown[0].startswith("Plan p of 'colour': put it there\n")
    assert "(100, 200) +0  (200, 300) -14" in shown[0]
    assert shown[0].endswith("(800, 900) -100")
    assert shown[1].endswith(": dry run, not done.")
    terminal.hear(replace(PROPOSAL, plan_id="", status=Status.DRY_RUN))
    assert len(shown) == 3, "a motion without a plan"


@pytest.mark.parametrize(
    ("line", "answer"),
    [
        ("y", (True, "")),
        (" YES ", (True, "")),
        ("n", (False, "")),
        ("n too close to the cup", (False, "too close to the cup")),
    ],
)
def test_a_line_answers_the_waiting_motion(terminal: Terminal, line: str, answer: tuple[bool, str]) -> None:
    terminal.approval.hear(PROPOSAL)
    terminal.type(f"{line}\n")
    assert terminal.given == [("m-1", *answer)]
    assert terminal.shown[-1] == "noted"


@pytest.mark.parametrize("line", ["", "ok", "yn", "approve everything"])
def test_nothing_else_is_taken_for_an_answer(terminal: Terminal, line: str) -> None:
    terminal.approval.hear(PROPOSAL)
    terminal.type(f"{line}\n")
    assert terminal.given == []


def test_a_line_without_a_waiting_motion_does_not_answer_the_next_one(terminal: Terminal) -> None:
    terminal.type("y\n")
    terminal.approval.hear(PROPOSAL)
    assert terminal.given == []
    assert terminal.shown[0] == "No motion waits for an answer."


def test_an_answered_motion_waits_no_longer(terminal: Terminal) -> None:
    terminal.approval.hear(PROPOSAL)
    terminal.approval.hear(Proposal("m-1", "p", PROPOSAL.keypose, (PATH,), Status.EXPIRED))
    terminal.type("y\n")
    assert terminal.given == []


@pytest.mark.parametrize(("text", "sentence"), [("q\n", "Canceled by the operator."), ("", NOBODY)])
def test_quitting_and_an_input_that_ends_cancel_the_task(terminal: Terminal, text: str, sentence: str) -> None:
    terminal.type(text)
    with pytest.raises(StageError) as error:
        terminal.cancel.raise_if_set()
    assert error.value.sentence == sentence


def test_a_line_typed_twice_does_not_approve_the_next_motion(terminal: Terminal) -> None:
    """The second one is typed while the answer to the first is under way, and the next motion is shown meanwhile."""
    under_way, answered = threading.Event(), threading.Event()

    def say(motion: str, yes: bool, reason: str) -> str:
        terminal.given.append((motion, yes, reason))
        under_way.set()
        assert answered.wait(10.0)
        return "noted"

    def typed() -> Iterator[str]:
        yield "y\n"
        assert under_way.wait(10.0)
        yield "y\n"
        terminal.approval.hear(replace(PROPOSAL, proposal_id="m-2"))
        answered.set()

    terminal.approval.say = say
    terminal.approval.hear(PROPOSAL)
    terminal.approval.read(typed())
    assert terminal.given == [("m-1", True, ""), ("m-1", True, "")]
