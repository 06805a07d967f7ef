"""Published sets that ask for points or paths: RoboRefIt, Where2Place and VABench.

RoboRefIt (Lu et al. 2023): a sentence describes one object in a cluttered scene; the truth is a box in pixels.
``refindoor_<split>_with_scene.json`` (num, text, bbox, rgb_path, ...), as its authors publish it, or Embodied-R1's
selection ``roborefit_test.json`` (id, problem, image, bbox). Paths of images are found below the folder.

Where2Place (RoboPoint, Yuan et al. 2024): a sentence describes free space; the truth is a mask.
``point_questions.jsonl`` (question_id, image, text) with ``images/`` and ``masks/`` next to it, as its authors publish
it, or FlagEval's parquet (question_id, question, image, mask). Masks are JPEG: a point is inside above half of 255;
Embodied-R1 counts everything above 0, and RoboPoint's script takes the value over 255.

VABench (FSD, Yuan et al. 2025): parquet of id, problem, images and an answer marked ``<type>KIND</type>``. VABench-P
asks where to put an object, and the truth is a box in pixels; VABench-V asks for the path of an object, and the truth
is a list of pixels.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from stvla_ros.config import ConfigError
from stvla_ros.evaluate.planner.datasets import files
from stvla_ros.evaluate.planner.datasets.files import Rows
from stvla_ros.evaluate.planner.question import Path2d, PromptStyle, Question, Region, Truth
from stvla_ros.evaluate.planner.report import Scored, mean
from stvla_ros.planning.chat import Turn
from stvla_ros.types import U8


def roborefit(folder: Path, style: PromptStyle) -> list[Question]:
    """Questions of all files that are there; those of ``test*`` splits if any."""
    found = files.find(folder, "roborefit_test.json", "refindoor_test*_with_scene.json", "refindoor_*_with_scene.json")
    return [
        _refit_question(entry, path, number, style)
        for path in found
        for number, entry in enumerate(files.records(path))
    ]


def _refit_question(entry: Mapping[str, Any], path: Path, number: int, style: PromptStyle) -> Question:
    where = f"{path}: entry {number}"
    selection = "problem" in entry
    words = files.value(entry, "problem" if selection else "text", str, where)
    name = files.value(entry, "image" if selection else "rgb_path", str, where)
    box = files.box(files.value(entry, "bbox", list, where), where)
    text = style.points(f"Point to the object that this sentence describes: {words}.")
    return Question(
        f"{path.stem}-{number}", "roborefit", Region(box), _asker(text, partial(files.image, path.parent, name))
    )


def roborefit_summary(results: Sequence[Scored], compat: str) -> Mapping[str, float]:
    """Mean over the questions of the share of points inside the box, whatever ``compat`` says."""
    return {"hit_rate": mean(results, "hit_rate")}


def where2place(folder: Path, style: PromptStyle) -> list[Question]:
    """All questions."""
    path = files.find(folder, "point_questions.jsonl", "*.parquet")[0]
    return _from_lines(path, style) if path.suffix == ".jsonl" else _from_parquet(path, style)


def _from_lines(path: Path, style: PromptStyle) -> list[Question]:
    questions = []
    for number, entry in enumerate(files.records(path)):
        where = f"{path}: line {number}"
        words, name = files.value(entry, "text", str, where), files.value(entry, "image", str, where)
        mask = partial(files.mask, path.parent / "masks", Path(name).name)
        id_ = str(entry.get("question_id", number))
        questions.append(_place_question(id_, words, partial(_place_image, path.parent, name), mask, style))
    return questions


def _place_image(folder: Path, name: str) -> U8:
    try:
        return files.image(folder / "images", name)
    except ConfigError:
        return files.image(folder, name)


def _from_parquet(path: Path, style: PromptStyle) -> list[Question]:
    rows, questions = Rows(path, ("image", "mask")), []
    for number, row in enumerate(rows):
        words = files.value(row, "question", str, f"{path}: row {number}")
        image, mask = partial(_only, rows, number, "image"), partial(_mask_cell, rows, number)
        questions.append(_place_question(str(row.get("question_id", number)), words, image, mask, style))
    return questions


def _mask_cell(rows: Rows, row: int) -> U8:
    return _only(rows, row, "mask")[..., 0]


def _only(rows: Rows, row: int, column: str) -> U8:
    found = rows.images(row, column)
    if len(found) != 1:
        raise ConfigError(f"{rows.path}: row {row}: wanted one {column}, found {len(found)}.")
    return found[0]


def _place_question(
    id_: str, words: str, image: Callable[[], U8], mask: Callable[[], U8], style: PromptStyle
) -> Question:
    return Question(id_, "where2place", Region(mask=mask), _asker(style.points(words.strip()), image))


def vabench_points(folder: Path, style: PromptStyle) -> list[Question]:
    """All questions of VABench-P."""
    return _vabench(folder, "fsd_free_point", "vabench-p", _box, style.points)


def _box(answer: Any, where: str) -> Truth:
    return Region(files.box(answer.get("bbox") if isinstance(answer, dict) else answer, where))


def hit_rate(results: Sequence[Scored], compat: str) -> Mapping[str, float]:
    """Mean over the questions; over all points with mask > 0 (``embodied-r1``); or with soft masks (``robopoint``)."""
    if compat == "embodied-r1":
        points = sum(r.figures.get("points", 0.0) for r in results)
        hits = sum(r.figures.get("any_hits", 0.0) for r in results)
        return {"hit_rate_pooled": hits / points if points else 0.0}
    return {"hit_rate": mean(results, "soft_hit_rate" if compat == "robopoint" else "hit_rate")}


def vabench_paths(folder: Path, style: PromptStyle) -> list[Question]:
    """All questions of VABench-V."""
    return _vabench(folder, "fsd_visual_trace", "vabench-v", _path, style.path)


def _path(answer: Any, where: str) -> Truth:
    try:
        points = np.array(answer["trajectory"], np.float64)
    except (KeyError, TypeError, ValueError):
        points = np.empty(0)
    if points.ndim != 2 or points.shape[1] != 2 or len(points) < 2 or not np.isfinite(points).all():
        raise ConfigError(f"{where}: wanted a trajectory of at least two points, found {str(answer)[:60]}.")
    return Path2d(points)


def vabench_paths_summary(results: Sequence[Scored], compat: str) -> Mapping[str, float]:
    """Means over the answers that can be read; the table has the number of those that cannot."""
    return {"rmse": mean(results, "rmse"), "mae": mean(results, "mae")}


def _vabench(
    folder: Path, kind: str, group: str, truth: Callable[[Any, str], Truth], wording: Callable[[str], str]
) -> list[Question]:
    """Questions whose answer is marked ``<type>KIND</type>``.

    Args:
        folder: Where the parquet files are.
        kind: The mark.
        group: Row of the table.
        truth: Makes the truth from the answer's JSON; the second argument begins its messages.
        wording: Makes the question from the file's words.
    """
    questions = []
    for path in files.find(folder, "*test*.parquet", "*.parquet"):
        rows = Rows(path, ("images",))
        for number, row in enumerate(rows):
            where = f"{path}: row {number}"
            answer = _marked(files.value(row, "answer", str, where), kind, where)
            text = wording(files.value(row, "problem", str, where).replace("<image>", "").strip())
            id_ = f"{row.get('id', '')}#{path.stem}-{number}"
            questions.append(Question(id_, group, truth(answer, where), _asker(text, partial(_first, rows, number))))
    return questions


def _marked(text: str, kind: str, where: str) -> Any:
    mark = f"<type>{kind}</type>"
    if mark not in text:
        raise ConfigError(
            f"{where}: wanted an answer marked {mark}, found '{text[:60]}': is it the other part of VABench?"
        )
    try:
        return json.loads(text.replace(mark, ""))
    except ValueError as error:
        raise ConfigError(f"{where}: the answer is not valid JSON ({error}).") from error


def _first(rows: Rows, row: int) -> U8:
    images = rows.images(row, "images")
    if not images:
        raise ConfigError(f"{rows.path}: row {row}: wanted an image, found none.")
    return images[0]


def _asker(text: str, image: Callable[[], U8]) -> Callable[[], tuple[Turn, ...]]:
    """Asks about one image, which is read when the question is asked."""
    return lambda: (Turn("user", text, (image(),)),)
