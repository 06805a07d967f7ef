"""Published multiple-choice sets: CV-Bench, SAT, CRPE and BLINK.

CV-Bench (Cambrian-1, Tong et al. 2024): counting, relations, depth, distance. Parquet of idx, type, task, image,
question, choices, answer "(A)", prompt, source.

BLINK (Fu et al. 2024), validation split, since the test split's answers are hidden: up to four images. A folder per
sub-task with ``val*.parquet`` of idx, sub_task, question, prompt, choices, answer "(A)", image_1..4.

SAT (Ray et al. 2024): one or two images, options without letters. Parquet of image_bytes, question, answers,
question_type, correct_answer. The row's number seeds the order of the options, so it is the same in every run; SAT's
own evaluation shuffles them too.

CRPE (All-Seeing v2, Wang et al. 2024): existence and relations; every question appears four times with its options
rotated. ``crpe_exist.jsonl`` and ``crpe_relation.jsonl`` of question_id, image, text, category, correct_option. The
authors count a question as right when all four rotations are (CircularEval); the rotations are consecutive within their
category.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from stvla_ros.config import ConfigError
from stvla_ros.evaluate.planner.answers import LETTERS
from stvla_ros.evaluate.planner.datasets import files
from stvla_ros.evaluate.planner.datasets.files import Rows
from stvla_ros.evaluate.planner.question import Choice, PromptStyle, Question
from stvla_ros.evaluate.planner.report import Scored, accuracy, mean, tagged
from stvla_ros.planning.chat import Turn

BLINK_IMAGES = tuple(f"image_{k}" for k in (1, 2, 3, 4))
BLINK_SPATIAL = ("Multi-view_Reasoning", "Object_Localization", "Relative_Depth", "Spatial_Relation")
"""The sub-tasks that Embodied-R1 takes."""

CRPE_ROTATIONS = 4
_CRPE_SUFFIX = "\nAnswer with the option's letter from the given choices directly."


def cvbench(folder: Path, style: PromptStyle) -> list[Question]:
    """All questions of ``test*.parquet``."""
    questions = []
    for path in files.find(folder, "test*.parquet", "*.parquet"):
        rows = Rows(path, ("image",))
        for number, row in enumerate(rows):
            where = f"{path}: row {number}"
            tags = {key: files.value(row, key, str, where) for key in ("type", "task", "source")}
            group = f"{tags['type']} {tags['task']}"
            questions.append(_lettered(rows, number, row, ("image",), group, f"{path.stem}-{number}", tags, style))
    return questions


def cvbench_summary(results: Sequence[Scored], compat: str) -> Mapping[str, float]:
    """The authors': 2D is the mean of ADE20K and COCO, 3D is Omni3D, all is the mean; Embodied-R1's: all questions."""
    if compat == "embodied-r1":
        return accuracy(results, compat)
    parts = {source: mean(tagged(results, "source", source), "accuracy") for source in ("ADE20K", "COCO", "Omni3D")}
    flat = (parts["ADE20K"] + parts["COCO"]) / 2
    return {"accuracy_2d": flat, "accuracy_3d": parts["Omni3D"], "accuracy": (flat + parts["Omni3D"]) / 2}


def blink(folder: Path, style: PromptStyle) -> list[Question]:
    """All questions of ``val*.parquet``."""
    questions = []
    for path in files.find(folder, "val*.parquet"):
        rows = Rows(path, BLINK_IMAGES)
        for number, row in enumerate(rows):
            where = f"{path}: row {number}"
            task, id_ = files.value(row, "sub_task", str, where), files.value(row, "idx", str, where)
            questions.append(_lettered(rows, number, row, BLINK_IMAGES, task, id_, {"sub_task": task}, style))
    return questions


def blink_summary(results: Sequence[Scored], compat: str) -> Mapping[str, float]:
    """The authors': mean over the sub-tasks; Embodied-R1's: over all questions of its four."""
    if compat == "embodied-r1":
        return accuracy(tagged(results, "sub_task", *BLINK_SPATIAL), compat)
    tasks = dict.fromkeys(r.question.tags["sub_task"] for r in results)
    rates = [mean(tagged(results, "sub_task", task), "accuracy") for task in tasks]
    return {"accuracy": sum(rates) / len(rates)}


def _lettered(
    rows: Rows,
    number: int,
    row: Mapping[str, Any],
    images: tuple[str, ...],
    group: str,
    id_: str,
    tags: dict[str, str],
    style: PromptStyle,
) -> Question:
    """A row whose prompt letters its choices, as in CV-Bench and BLINK. Raises ConfigError for any other row."""
    where = f"{rows.path}: row {number}"
    options = tuple(map(str, files.value(row, "choices", list, where)))
    text = style.letter(files.value(row, "prompt", str, where).strip())
    right = _index(files.value(row, "answer", str, where), where)
    if right >= len(options):
        raise ConfigError(f"{where}: wanted one of {len(options)} options as answer, found {LETTERS[right]}.")

    def ask() -> tuple[Turn, ...]:
        return (Turn("user", text, tuple(image for column in images for image in rows.images(number, column))),)

    return Question(id_, group, Choice(right, options), ask, tags)


def _index(text: str, where: str) -> int:
    """Index of ``(A)`` or ``A``. Raises ConfigError when it is neither."""
    bare = text.strip().strip("()")
    if len(bare) != 1 or bare not in LETTERS:
        raise ConfigError(f"{where}: wanted a letter such as (A) as answer, found '{text[:40]}'.")
    return LETTERS.index(bare)


def sat(folder: Path, style: PromptStyle) -> list[Question]:
    """All questions of the test files, or of the validation files where there are no test files."""
    questions = []
    for path in files.find(folder, "*test*.parquet", "*val*.parquet", "*.parquet"):
        rows = Rows(path, ("image_bytes",))
        questions += [_sat_question(rows, number, row) for number, row in enumerate(rows)]
    return questions


def _sat_question(rows: Rows, number: int, row: Mapping[str, Any]) -> Question:
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


def crpe(folder: Path, style: PromptStyle) -> list[Question]:
    """All questions of both files, or of the one that is there."""
    questions = []
    for path in files.find(folder, "crpe_*.jsonl", "*.jsonl"):
        counts: dict[str, int] = {}
        for number, entry in enumerate(files.records(path)):
            category = files.value(entry, "category", str, f"{path}: line {number}")
            turn = counts[category] = counts.get(category, -1) + 1
            tags = {"category": category, "circle": f"{path.stem} {category} {turn // CRPE_ROTATIONS}"}
            questions.append(_crpe_question(entry, path, number, tags, style))
    return questions


def _crpe_question(
    entry: Mapping[str, Any], path: Path, number: int, tags: dict[str, str], style: PromptStyle
) -> Question:
    where = f"{path}: line {number}"
    text = style.letter(files.value(entry, "text", str, where).replace(_CRPE_SUFFIX, "").strip())
    name = files.value(entry, "image", str, where)
    right = _index(files.value(entry, "correct_option", str, where), where)

    def ask() -> tuple[Turn, ...]:
        return (Turn("user", text, (files.image(path.parent, name),)),)

    return Question(f"{path.stem}-{number}", tags["category"], Choice(right), ask, tags)


def crpe_summary(results: Sequence[Scored], compat: str) -> Mapping[str, float]:
    """The authors' CircularEval by category, and its mean; Embodied-R1's: over all rows."""
    if compat == "embodied-r1":
        return accuracy(results, compat)
    circles: dict[str, list[Scored]] = {}
    for result in results:
        circles.setdefault(result.question.tags["circle"], []).append(result)
    whole = [circle for circle in circles.values() if len(circle) == CRPE_ROTATIONS]
    found = {}
    for category in dict.fromkeys(r.question.tags["category"] for r in results):
        mine = [circle for circle in whole if tagged(circle, "category", category)]
        if mine:
            found[f"{category}_circular_accuracy"] = sum(mean(c, "accuracy") == 1.0 for c in mine) / len(mine)
    rates = list(found.values())
    return found | ({"circular_accuracy": sum(rates) / len(rates)} if rates else {})
