"""VABench-V: the path of a thing for an instruction; the truth is a list of pixels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from stvla_ros.config import ConfigError
from stvla_ros.evaluate.planner.asking import Asking
from stvla_ros.evaluate.planner.datasets import vabench
from stvla_ros.evaluate.planner.datasets.totals import mean
from stvla_ros.evaluate.planner.question import Path2d, Question, Truth
from stvla_ros.evaluate.planner.report import Scored


def read(folder: Path, asking: Asking) -> list[Question]:
    """All questions."""
    return vabench.read(folder, "fsd_visual_trace", "vabench-v", _truth, asking.path)


def _truth(answer: Any, where: str) -> Truth:
    try:
        points = np.array(answer["trajectory"], np.float64)
    except (KeyError, TypeError, ValueError):
        points = np.empty(0)
    if points.ndim != 2 or points.shape[1] != 2 or len(points) < 2 or not np.isfinite(points).all():
        raise ConfigError(f"{where}: wanted a trajectory of at least two points, found {str(answer)[:60]}.")
    return Path2d(points)


def summary(results: Sequence[Scored], compat: str) -> Mapping[str, float]:
    """Means over the answers that can be read; how many cannot is in the table."""
    return {"rmse": mean(results, "rmse"), "mae": mean(results, "mae")}
