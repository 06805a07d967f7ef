"""VABench-P: where to put something; the truth is a box in pixels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from stvla_ros.evaluate.planner.asking import Asking
from stvla_ros.evaluate.planner.datasets import files, vabench
from stvla_ros.evaluate.planner.datasets.totals import hit_rate
from stvla_ros.evaluate.planner.question import Question, Region, Truth
from stvla_ros.evaluate.planner.report import Scored


def read(folder: Path, asking: Asking) -> list[Question]:
    """All questions."""
    return vabench.read(folder, "fsd_free_point", "vabench-p", _truth, asking.points)


def _truth(answer: Any, where: str) -> Truth:
    return Region(files.box(answer.get("bbox") if isinstance(answer, dict) else answer, where))


def summary(results: Sequence[Scored], compat: str) -> Mapping[str, float]:
    """See :func:`stvla_ros.evaluate.planner.datasets.totals.hit_rate`."""
    return hit_rate(results, compat)
