"""Workspace bounds of 3D Diffuser Actor. Its checkpoints lack them: they come from a JSON file and a margin."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from stvla_ros.config import ConfigError, closest
from stvla_ros.files import read_json
from stvla_ros.types import F64

ALL = "all"
"""Stands for a task: the policy was trained on several."""

RLBENCH_18_TASKS_M = (
    (-0.07010312378406525, -0.5157904028892517, 0.752871036529541),
    (0.6081326603889465, 0.4783594608306885, 1.471603512763977),
)
"""Union of the boxes of all tasks in ``tasks/18_peract_tasks_location_bounds.json`` of the published code
(github.com/nickgkan/3d_diffuser_actor); metres in RLBench's world frame."""


def read_bounds(path: Path, task: str) -> F64:
    """Bounds (2, 3) without the margin, by the rule of the published code.

    A policy trained on exactly one task has that task's box. One trained on several has the union of all boxes in the
    file, whether or not it was trained on those tasks.

    Args:
        path: ``{task: [[x, y, z], [x, y, z]]}``: lower and upper corner in metres.
        task: The one task of the training, or ``all``.

    Raises:
        ConfigError: The file is missing, has another form, or lacks that task.
    """
    boxes = _boxes(path)
    if task == ALL:
        corners = np.stack(list(boxes.values()))
        return np.stack([corners[:, 0].min(0), corners[:, 1].max(0)])
    if task not in boxes:
        raise ConfigError(f"{path}: has no task '{task}'.{closest(task, [*boxes, ALL])}")
    return boxes[task]


def with_margin(bounds_m: F64, margin_m: float, where: str) -> F64:
    """Bounds (2, 3) widened by ``margin_m`` on each side.

    Raises:
        ConfigError: They are not two corners in the right order, or the margin is out of range.
    """
    if not 0.0 <= margin_m <= 1.0:
        raise ConfigError(f"{where}: --buffer is {margin_m}; wanted 0 to 1 m.")
    bounds = check_bounds(bounds_m, where)
    return np.stack([bounds[0] - margin_m, bounds[1] + margin_m])


def check_bounds(bounds_m: object, where: str) -> F64:
    """Check bounds: (2, 3) float64, finite, lower corner first.

    Raises:
        ConfigError: They are something else.
    """
    try:
        bounds = np.asarray(bounds_m, dtype=np.float64)
    except (TypeError, ValueError):
        bounds = np.empty(0)
    if bounds.shape != (2, 3) or not np.isfinite(bounds).all() or not (bounds[0] < bounds[1]).all():
        raise ConfigError(f"{where}: wanted bounds [[x, y, z], [x, y, z]], lower corner first, got {bounds_m!r:.200}.")
    return bounds


def _boxes(path: Path) -> dict[str, F64]:
    content = read_json(path, wanted="a JSON file of workspace bounds")
    if not isinstance(content, dict) or not content:
        raise ConfigError(f"{path}: wanted {{task: [[x, y, z], [x, y, z]]}}, got {type(content).__name__}.")
    return {task: check_bounds(box, f"{path}: task '{task}'") for task, box in content.items()}
