"""docs/troubleshooting.md has every sentence that a command, a node or a task can end with, and every outcome."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from stvla_ros.errors import OutcomeCode

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tools"))

import sentences  # noqa: E402

PAGE = sentences.PAGE.read_text()
FOUND = sentences.sentences()


def test_every_sentence_can_be_found() -> None:
    page = " ".join(PAGE.split())
    missing = [f"{s.file}:{s.line}: {s.text}" for s in FOUND if s.fixed not in page]
    assert not missing, "run tools/sentences.py, and look whether a table above its list should say more"


def test_no_sentence_stands_there_that_nothing_says() -> None:
    assert PAGE.partition(sentences.BEGIN)[2] == sentences.written(FOUND).partition(sentences.BEGIN)[2]


def test_every_sentence_has_a_heading() -> None:
    assert not [s for s in FOUND if s.room == sentences.OTHER]


@pytest.mark.parametrize("code", [code.name for code in OutcomeCode if code is not OutcomeCode.OK])
def test_every_outcome_is_explained(code: str) -> None:
    assert f"`{code}`" in PAGE.partition("## All sentences")[0]


def test_sentences_are_read_from_the_source(tmp_path: Path) -> None:
    (tmp_path / "some.py").write_text(
        '"""A docstring that is a sentence of its own."""\n'
        'LABEL = "not one"\n'
        "def f(path, n):\n"
        '    """Another docstring that nobody sees."""\n'
        '    raise ValueError(f"{path}: wanted a number, got {n}: " "write one.")\n'
    )
    (only,) = sentences.sentences(tmp_path)
    assert (only.file, only.line, only.text) == ("some.py", 5, "…: wanted a number, got …: write one.")
    assert only.fixed == ": wanted a number, got"
