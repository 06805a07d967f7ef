"""RoboRefIt (Lu et al. 2023): one thing in a cluttered scene, described; the truth is a box in pixels.

``refindoor_<split>_with_scene.json`` (num, text, bbox, rgb_path, ...), as its authors publish it, or Embodied-R1's
selection ``roborefit_test.json`` (id, problem, image, bbox). Paths of images are found below the folder.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from stvla_ros.evaluate.planner.asking import Asking
from stvla_ros.evaluate.planner.datasets import files
from stvla_ros.evaluate.planner.datasets.totals import mean
from stvla_ros.evaluate.planner.question import Question, Region
from stvla_ros.evaluate.planner.report import Scored
from stvla_ros.planning.chat import Turn


def read(folder: Path, asking: Asking) -> list[Question]:
    """Questions of all files that are there; those of ``test*`` splits if any."""
    found = files.find(folder, "roborefit_test.json", "refindoor_test*_with_scene.json", "refindoor_*_with_scene.json")
    return [
        _question(entry, path, number, asking) for path in found for number, entry in enumerate(files.records(path))
    ]


def _question(entry: Mapping[str, Any], path: Path, number: int, asking: Asking) -> Question:
    where = f"{path}: entry {number}"
    own = "problem" in entry
    words = files.value(entry, "problem" if own else "text", str, where)
    name = files.value(entry, "image" if own else "rgb_path", str, where)
    box = files.box(files.value(entry, "bbox", list, where), where)
    text = asking.points(f"Point to the object that this sentence describes: {words}.")

    def ask() -> tuple[Turn, ...]:
        return (Turn("user", text, (files.image(path.parent, name),)),)

    return Question(f"{path.stem}-{number}", "roborefit", Region(box), ask)


def summary(results: Sequence[Scored], compat: str) -> Mapping[str, float]:
    """Mean over the questions of the share of points inside the box, in every way of counting."""
    return {"hit_rate": mean(results, "hit_rate")}
