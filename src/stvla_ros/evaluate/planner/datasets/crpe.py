"""CRPE (All-Seeing v2, Wang et al. 2024): existence and relations; every question four times, options rotated.

``crpe_exist.jsonl`` and ``crpe_relation.jsonl`` of question_id, image, text, category, correct_option. The authors count a
question as right when all four rotations are (CircularEval); the rotations are consecutive within their category.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from stvla_ros.evaluate.planner.asking import Asking
from stvla_ros.evaluate.planner.datasets import files
from stvla_ros.evaluate.planner.datasets.lettered import letter
from stvla_ros.evaluate.planner.datasets.totals import accuracy, mean, tagged
from stvla_ros.evaluate.planner.question import Choice, Question
from stvla_ros.evaluate.planner.report import Scored
from stvla_ros.planning.chat import Turn

ROTATIONS = 4
_DIRECTLY = "\nAnswer with the option's letter from the given choices directly."


def read(folder: Path, asking: Asking) -> list[Question]:
    """All questions of both files, or of the one that is there."""
    questions = []
    for path in files.find(folder, "crpe_*.jsonl", "*.jsonl"):
        counts: dict[str, int] = {}
        for number, entry in enumerate(files.records(path)):
            category = files.value(entry, "category", str, f"{path}: line {number}")
            turn = counts[category] = counts.get(category, -1) + 1
            tags = {"category": category, "circle": f"{path.stem} {category} {turn // ROTATIONS}"}
            questions.append(_question(entry, path, number, tags, asking))
    return questions


def _question(entry: Mapping[str, Any], path: Path, number: int, tags: dict[str, str], asking: Asking) -> Question:
    where = f"{path}: line {number}"
    text = asking.letter(files.value(entry, "text", str, where).replace(_DIRECTLY, "").strip())
    name = files.value(entry, "image", str, where)
    right = letter(files.value(entry, "correct_option", str, where), where)

    def ask() -> tuple[Turn, ...]:
        return (Turn("user", text, (files.image(path.parent, name),)),)

    return Question(f"{path.stem}-{number}", tags["category"], Choice(right), ask, tags)


def summary(results: Sequence[Scored], compat: str) -> Mapping[str, float]:
    """The authors' CircularEval by category, and its mean; Embodied-R1's: over all rows."""
    if compat == "embodied-r1":
        return accuracy(results, compat)
    circles: dict[str, list[Scored]] = {}
    for result in results:
        circles.setdefault(result.question.tags["circle"], []).append(result)
    whole = [circle for circle in circles.values() if len(circle) == ROTATIONS]
    found = {}
    for category in dict.fromkeys(r.question.tags["category"] for r in results):
        mine = [circle for circle in whole if tagged(circle, "category", category)]
        if mine:
            found[f"{category}_circular_accuracy"] = sum(mean(c, "accuracy") == 1.0 for c in mine) / len(mine)
    rates = list(found.values())
    return found | ({"circular_accuracy": sum(rates) / len(rates)} if rates else {})
