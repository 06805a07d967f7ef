"""What both parts of VABench (FSD, Yuan et al. 2025) have in common: parquet of id, problem, images and a marked answer."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from stvla_ros.config import ConfigError
from stvla_ros.evaluate.planner.datasets import files
from stvla_ros.evaluate.planner.datasets.parquet import Rows
from stvla_ros.evaluate.planner.question import Question, Truth
from stvla_ros.planning.chat import Turn


def read(
    folder: Path,
    kind: str,
    group: str,
    truth: Callable[[Any, str], Truth],
    wording: Callable[[str], str],
) -> list[Question]:
    """Questions whose answer is marked ``<type>KIND</type>``.

    Args:
        folder: Where the parquet files are.
        kind: The mark.
        group: Row of the table.
        truth: Makes the truth of the answer's JSON and a place for messages.
        wording: Makes the question of the file's words.
    """
    questions = []
    for path in files.find(folder, "*test*.parquet", "*.parquet"):
        rows = Rows(path, ("images",))
        for number, row in enumerate(rows):
            where = f"{path}: row {number}"
            answer = _answer(files.value(row, "answer", str, where), kind, where)
            text = wording(files.value(row, "problem", str, where).replace("<image>", "").strip())
            id_ = f"{row.get('id', '')}#{path.stem}-{number}"
            questions.append(Question(id_, group, truth(answer, where), _asker(rows, number, text)))
    return questions


def _answer(text: str, kind: str, where: str) -> Any:
    mark = f"<type>{kind}</type>"
    if mark not in text:
        raise ConfigError(
            f"{where}: wanted an answer marked {mark}, found '{text[:60]}': is it the other part of VABench?"
        )
    try:
        return json.loads(text.replace(mark, ""))
    except ValueError as error:
        raise ConfigError(f"{where}: the answer is not valid JSON ({error}).") from error


def _asker(rows: Rows, number: int, text: str) -> Callable[[], tuple[Turn, ...]]:
    def ask() -> tuple[Turn, ...]:
        images = rows.images(number, "images")
        if not images:
            raise ConfigError(f"{rows.path}: row {number}: wanted an image, found none.")
        return (Turn("user", text, (images[0],)),)

    return ask
