"""Where2Place (RoboPoint, Yuan et al. 2024): free space, described; the truth is a mask.

``point_questions.jsonl`` (question_id, image, text) beside ``images/`` and ``masks/``, as its authors publish it, or
FlagEval's parquet (question_id, question, image, mask). Masks are JPEG: inside is above half of 255; Embodied-R1 counts
everything above 0, and RoboPoint's script takes the value over 255.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from stvla_ros.config import ConfigError
from stvla_ros.evaluate.planner.asking import Asking
from stvla_ros.evaluate.planner.datasets import files
from stvla_ros.evaluate.planner.datasets.parquet import Rows
from stvla_ros.evaluate.planner.datasets.totals import hit_rate
from stvla_ros.evaluate.planner.question import Question, Region
from stvla_ros.evaluate.planner.report import Scored
from stvla_ros.planning.chat import Turn
from stvla_ros.types import U8


def read(folder: Path, asking: Asking) -> list[Question]:
    """All questions."""
    path = files.find(folder, "point_questions.jsonl", "*.parquet")[0]
    return _from_lines(path, asking) if path.suffix == ".jsonl" else _from_parquet(path, asking)


def _from_lines(path: Path, asking: Asking) -> list[Question]:
    return [
        _question(
            str(entry.get("question_id", number)),
            files.value(entry, "text", str, f"{path}: line {number}"),
            _Files(path.parent, files.value(entry, "image", str, f"{path}: line {number}")),
            asking,
        )
        for number, entry in enumerate(files.records(path))
    ]


def _from_parquet(path: Path, asking: Asking) -> list[Question]:
    rows = Rows(path, ("image", "mask"))
    return [
        _question(
            str(row.get("question_id", number)),
            files.value(row, "question", str, f"{path}: row {number}"),
            _Cells(rows, number),
            asking,
        )
        for number, row in enumerate(rows)
    ]


class _Files:
    """Image and mask of one question as files."""

    def __init__(self, folder: Path, name: str) -> None:
        self._folder, self._name = folder, name

    def image(self) -> U8:
        try:
            return files.image(self._folder / "images", self._name)
        except ConfigError:
            return files.image(self._folder, self._name)

    def mask(self) -> U8:
        return files.mask(self._folder / "masks", Path(self._name).name)


class _Cells:
    """Image and mask of one question in a parquet file."""

    def __init__(self, rows: Rows, row: int) -> None:
        self._rows, self._row = rows, row

    def image(self) -> U8:
        return self._only("image")

    def mask(self) -> U8:
        return self._only("mask")[..., 0]

    def _only(self, column: str) -> U8:
        found = self._rows.images(self._row, column)
        if len(found) != 1:
            raise ConfigError(f"{self._rows.path}: row {self._row}: wanted one {column}, found {len(found)}.")
        return found[0]


def _question(id_: str, words: str, pictures: _Files | _Cells, asking: Asking) -> Question:
    text = asking.points(words.strip())

    def ask() -> tuple[Turn, ...]:
        return (Turn("user", text, (pictures.image(),)),)

    return Question(id_, "where2place", Region(mask=pictures.mask), ask)


def summary(results: Sequence[Scored], compat: str) -> Mapping[str, float]:
    """See :func:`stvla_ros.evaluate.planner.datasets.totals.hit_rate`."""
    return hit_rate(results, compat)
