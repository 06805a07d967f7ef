"""SAT (Ray et al. 2024): one or two images, options without letters.

Parquet of image_bytes, question, answers, question_type, correct_answer. The options' order is drawn by the row's
number, so it is the same in every run; SAT's own evaluation shuffles them too.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from stvla_ros.config import ConfigError
from stvla_ros.evaluate.planner.asking import Asking
from stvla_ros.evaluate.planner.datasets import files
from stvla_ros.evaluate.planner.datasets.parquet import Rows
from stvla_ros.evaluate.planner.datasets.totals import accuracy
from stvla_ros.evaluate.planner.question import Choice, Question
from stvla_ros.evaluate.planner.report import Scored
from stvla_ros.planning.chat import Turn


def read(folder: Path, asking: Asking) -> list[Question]:
    """All questions of the test files, else of the validation's."""
    questions = []
    for path in files.find(folder, "*test*.parquet", "*val*.parquet", "*.parquet"):
        rows = Rows(path, ("image_bytes",))
        questions += [_question(rows, number, row) for number, row in enumerate(rows)]
    return questions


def _question(rows: Rows, number: int, row: Mapping[str, Any]) -> Question:
    where = f"{rows.path}: row {number}"
    options = [str(option) for option in files.value(row, "answers", list, where)]
    random.Random(number).shuffle(options)
    right = str(row.get("correct_answer"))
    if right not in options:
        raise ConfigError(f"{where}: wanted one of {options} as correct_answer, found '{right[:40]}'.")
    listed = f"{', '.join(options[:-1])} or {options[-1]}" if options[1:] else options[0]
    words = files.value(row, "question", str, where).strip()
    text = f"Answer in natural language. {words} Choose between the following options: {listed}."

    def ask() -> tuple[Turn, ...]:
        return (Turn("user", text, tuple(rows.images(number, "image_bytes"))),)

    kind = str(row.get("question_type") or "sat")
    return Question(f"{rows.path.stem}-{number}", kind, Choice(options.index(right), tuple(options), False), ask)


def summary(results: Sequence[Scored], compat: str) -> Mapping[str, float]:
    """Over all questions."""
    return accuracy(results, compat)
