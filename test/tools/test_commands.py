"""docs/commands.md says what `--help` says, and its examples are command lines that the parsers take."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import pytest

from stvla_ros.cli import joined, make_parser
from stvla_ros.commands import COMMANDS, ROLES

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tools"))

import commands  # noqa: E402

EXAMPLES = [line for entry in COMMANDS.values() for line in entry.examples]


def test_the_page_is_what_the_help_says() -> None:
    assert commands.PAGE.read_text() == commands.page(), "run tools/commands.py"


def test_every_command_has_a_role_and_an_example() -> None:
    assert [(e.role in ROLES, bool(e.examples)) for e in COMMANDS.values()] == [(True, True)] * len(COMMANDS)


@pytest.mark.parametrize("line", EXAMPLES)
def test_examples_are_command_lines(line: str) -> None:
    program, *words = shlex.split(line)
    command, *rest = joined(words)
    assert program == "stvla"
    assert make_parser(command).parse_checked([command, *rest]).command == command


def test_examples_stand_with_their_command() -> None:
    wrong = [(n, line) for n, e in COMMANDS.items() for line in e.examples if joined(shlex.split(line)[1:])[0] != n]
    assert not wrong
