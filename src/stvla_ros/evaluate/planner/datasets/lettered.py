"""Rows with choices, a prompt that letters them, and an answer such as "(A)": CV-Bench and BLINK."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from stvla_ros.config import ConfigError
from stvla_ros.evaluate.planner.asking import Asking
from stvla_ros.evaluate.planner.choices import LETTERS
from stvla_ros.evaluate.planner.datasets import files
from stvla_ros.evaluate.planner.datasets.parquet import Rows
from stvla_ros.evaluate.planner.question import Choice, Question
from stvla_ros.planning.chat import Turn


def question(
    rows: Rows,
    number: int,
    row: Mapping[str, Any],
    images: tuple[str, ...],
    group: str,
    id_: str,
    tags: dict[str, str],
    asking: Asking,
) -> Question:
    """A row as a question. Raises ConfigError when it is not of the format."""
    where = f"{rows.path}: row {number}"
    options = tuple(map(str, files.value(row, "choices", list, where)))
    text = asking.letter(files.value(row, "prompt", str, where).strip())
    right = letter(files.value(row, "answer", str, where), where)
    if right >= len(options):
        raise ConfigError(f"{where}: wanted one of {len(options)} options as answer, found {LETTERS[right]}.")

    def ask() -> tuple[Turn, ...]:
        return (Turn("user", text, tuple(image for column in images for image in rows.images(number, column))),)

    return Question(id_, group, Choice(right, options), ask, tags)


def letter(text: str, where: str) -> int:
    """Index of ``(A)`` or ``A``. Raises ConfigError when it is neither."""
    bare = text.strip().strip("()")
    if len(bare) != 1 or bare not in LETTERS:
        raise ConfigError(f"{where}: wanted a letter such as (A) as answer, found '{text[:40]}'.")
    return LETTERS.index(bare)
