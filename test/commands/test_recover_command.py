"""`stvla recover`: what it prints, its exit codes, and the last instruction again."""

from __future__ import annotations

from argparse import Namespace

import pytest

from stvla_ros.cli import main
from stvla_ros.commands.exit_codes import UNREACHABLE, of_outcome
from stvla_ros.errors import OutcomeCode


@pytest.fixture
def goals(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A stack that recovers, whose last instruction is 'Press it.'; the instructions that are given to it."""
    given: list[str] = []

    def run(arguments: Namespace) -> int:
        given.append(arguments.instruction)
        return 7

    monkeypatch.setattr("stvla_ros.ros.client.recover_robot", lambda _: (OutcomeCode.OK, "Recovered: all is active."))
    monkeypatch.setattr("stvla_ros.ros.client.last_instruction", lambda _: "Press it.")
    monkeypatch.setattr("stvla_ros.commands.run.run", run)
    return given


def test_it_recovers_and_moves_nothing(goals: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["recover"]) == 0
    assert capsys.readouterr().out == "Recovered: all is active.\n"
    assert goals == []


def test_again_gives_the_last_instruction_as_run_does(goals: list[str]) -> None:
    assert main(["recover", "--again"]) == 7
    assert goals == ["Press it."]


def test_again_without_a_last_instruction_is_refused(
    goals: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("stvla_ros.ros.client.last_instruction", lambda _: "")
    assert main(["recover", "--again"]) == of_outcome(OutcomeCode.INVALID_GOAL)
    assert "No task has run" in capsys.readouterr().err
    assert goals == []


def test_a_robot_that_cannot_be_recovered_gets_no_goal(
    goals: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    answer = (OutcomeCode.USER_STOPPED, "Release the stop button first.")
    monkeypatch.setattr("stvla_ros.ros.client.recover_robot", lambda _: answer)
    assert main(["recover", "--again"]) == of_outcome(OutcomeCode.USER_STOPPED)
    assert capsys.readouterr().err == "stvla: USER_STOPPED: Release the stop button first.\n"
    assert goals == []


def test_without_a_stack_it_says_so(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def nobody(_: float) -> None:
        raise ConnectionError("No server of /stvla/recover was found: its node is not running.")

    monkeypatch.setattr("stvla_ros.ros.client.recover_robot", nobody)
    assert main(["recover"]) == UNREACHABLE
    assert "/stvla/recover" in capsys.readouterr().err
