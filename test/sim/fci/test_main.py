"""The server alone, as a developer starts it."""

import sys
from collections.abc import Iterator

import pytest
from sim.fci.robots import free_address

from stvla_ros.sim.fci.__main__ import main

LINES = ("user_stop on", "status", "reset stack_cube 1", "score", "network off", "user_stop maybe", "nonsense")


def typed() -> Iterator[str]:
    """A developer at the keyboard, who ends with Ctrl-C."""
    yield from LINES
    raise KeyboardInterrupt


def test_lines_on_the_standard_input(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", typed())
    assert main(["--hostname", free_address(), "--seed", "2"]) == 0
    said = capsys.readouterr().out.splitlines()
    assert "1337" in said[0]
    assert said[1] == "user_stop on"
    assert " s behind the clock" in said[2]
    assert said[3].startswith("Stack the ")
    assert said[4].startswith("False ")
    assert said[5] == "network off"
    assert sum(line.startswith(("user_stop maybe: ", "nonsense: ")) for line in said) == 2


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [("--hostname", "192.0.2.1", "cannot listen at 192.0.2.1:1337"), ("--answer-limit", "0", "answer_limit_s")],
)
def test_wrong_options(capsys: pytest.CaptureFixture[str], option: str, value: str, words: str) -> None:
    assert main([option, value]) == 2
    assert words in capsys.readouterr().err
