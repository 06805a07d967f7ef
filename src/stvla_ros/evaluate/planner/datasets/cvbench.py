"""CV-Bench (Cambrian-1, Tong et al. 2024): counting, relations, depth, distance; lettered options.

Parquet of idx, type, task, image, question, choices, answer "(A)", prompt, source.
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


def read(folder: Path, asking: Asking) -> list[Question]:
    """All questions of ``test*.parquet``."""
    questions = []
    for path in files.find(folder, "test*.parquet", "*.parquet"):
        rows = Rows(path, ("image",))
        for number, row in enumerate(rows):
            where = f"{path}: row {number}"
            tags = {key: files.value(row, key, str, where) for key in ("type", "task", "source")}
            group = f"{tags['type']} {tags['task']}"
            questions.append(question(rows, number, row, ("image",), group, f"{path.stem}-{number}", tags, asking))
    return questions


def summary(results: Sequence[Scored], compat: str) -> Mapping[str, float]:
    """The authors': 2D is the mean of ADE20K and COCO, 3D is Omni3D, all is their mean; Embodied-R1's: over all questions."""
    if compat == "embodied-r1":
        return accuracy(results, compat)
    parts = {source: mean(tagged(results, "source", source), "accuracy") for source in ("ADE20K", "COCO", "Omni3D")}
    flat = (parts["ADE20K"] + parts["COCO"]) / 2
    return {"accuracy_2d": flat, "accuracy_3d": parts["Omni3D"], "accuracy": (flat + parts["Omni3D"]) / 2}
