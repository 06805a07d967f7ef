"""BLINK (Fu et al. 2024), validation split (the test split's answers are hidden): up to four images, lettered options.

A folder per sub-task with ``val*.parquet`` of idx, sub_task, question, prompt, choices, answer "(A)", image_1..4.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from stvla_ros.evaluate.planner.asking import Asking
from stvla_ros.evaluate.planner.datasets import files
from stvla_ros.evaluate.planner.datasets.lettered import question
from stvla_ros.evaluate.planner.datasets.parquet import Rows
from stvla_ros.evaluate.planner.datasets.totals import accuracy, mean, tagged
from stvla_ros.evaluate.planner.question import Question
from stvla_ros.evaluate.planner.report import Scored

SPATIAL = ("Multi-view_Reasoning", "Object_Localization", "Relative_Depth", "Spatial_Relation")
"""The sub-tasks that Embodied-R1 takes."""

_IMAGES = tuple(f"image_{k}" for k in (1, 2, 3, 4))


def read(folder: Path, asking: Asking) -> list[Question]:
    """All questions of ``val*.parquet``."""
    questions = []
    for path in files.find(folder, "val*.parquet"):
        rows = Rows(path, _IMAGES)
        for number, row in enumerate(rows):
            where = f"{path}: row {number}"
            task, id_ = files.value(row, "sub_task", str, where), files.value(row, "idx", str, where)
            questions.append(question(rows, number, row, _IMAGES, task, id_, {"sub_task": task}, asking))
    return questions


def summary(results: Sequence[Scored], compat: str) -> Mapping[str, float]:
    """The authors': mean over the sub-tasks; Embodied-R1's: over all questions of its four."""
    if compat == "embodied-r1":
        return accuracy(tagged(results, "sub_task", *SPATIAL), compat)
    tasks = dict.fromkeys(r.question.tags["sub_task"] for r in results)
    rates = [mean(tagged(results, "sub_task", task), "accuracy") for task in tasks]
    return {"accuracy": sum(rates) / len(rates)}
