"""Whether a policy was trained for the workspace in front of the camera: its checkpoint's bounds, and the table in view."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from stvla_ros.config import ConfigError
from stvla_ros.doctor.finding import Finding, ok, unseen, warning, wrong
from stvla_ros.types import F64

NAME = "Checkpoint's bounds"
LEARNED = ("3dda", "3dfa", "st4vla")

TABLE_M = 0.05
"""Half the height of the layer around z = 0 that counts as the table."""

ENOUGH, LEAST = 0.9, 0.5
"""Shares of the table in view, or of the workspace, that should be within the bounds."""

POINTS = 200
"""Fewer points are no table."""


@dataclass(frozen=True, eq=False)
class Box:
    """Lower and upper corner, (3,) each, in the base frame [m]."""

    low: F64
    high: F64

    def __str__(self) -> str:
        return " to ".join(f"({', '.join(f'{x:.2f}' for x in corner)})" for corner in (self.low, self.high))

    def contains(self, points: npt.ArrayLike, axes: int = 3) -> npt.NDArray[np.bool_]:
        """(N,) for (N, 3) points; ``axes`` 2: whatever their height."""
        p = np.asarray(points, dtype=np.float64)[:, :axes]
        return np.all((p >= self.low[:axes]) & (p <= self.high[:axes]), axis=1)


def check_checkpoint(backend: str, file: str, workspace: Box, points: npt.ArrayLike | None) -> Finding:
    """Whether the policy's checkpoint is for this workspace.

    Args:
        backend: Name of the policy.
        file: Its checkpoint.
        workspace: Of the executor, which refuses keyposes outside.
        points: (N, 3) what the camera sees, in the base frame [m]; None: nothing is seen.
    """
    if backend not in LEARNED:
        return ok(NAME, f"the policy '{backend}' has no checkpoint")
    setting = f"policy.{backend}.checkpoint"
    if not file:
        return wrong(
            NAME, f"{setting} names no file", "train one (`stvla train`), or convert one (`stvla policy convert`)"
        )
    if backend == "st4vla":
        return unseen(NAME, f"{file}: its statistics, to which positions are clipped, are no box of a workspace")
    from stvla_ros.policy.checkpoint.inspection import inspect  # loads torch

    try:
        found = inspect(Path(file).expanduser())
    except ConfigError as error:
        return wrong(NAME, str(error).rstrip("."), f"set {setting} to another file")
    if found.kind != "stvla policy":
        return wrong(NAME, f"{file} is a released file ({found.kind})", "convert it with `stvla policy convert`")
    if found.bounds_m is None or found.frame != "base":
        return unseen(NAME, f"{file}: its positions are in the frame '{found.frame}', not in the robot's base frame")
    low, high = np.array(found.bounds_m)
    return check_bounds(Box(low, high), workspace, points)


def check_bounds(bounds: Box, workspace: Box, points: npt.ArrayLike | None) -> Finding:
    """Whether a policy's bounds contain the table in view, or else the executor's workspace.

    A policy can reach no point outside its bounds, and points outside are unlike all that it was trained on.
    """
    size = np.clip(np.minimum(bounds.high, workspace.high) - np.maximum(bounds.low, workspace.low), 0.0, None)
    if not size.all():
        figure = f"{bounds} m, none of which is in the executor's workspace {workspace} m"
        return wrong(
            NAME,
            figure,
            "use a checkpoint that was trained in this cell, or set executor.executor.x_min_m and so on",
            0.0,
        )
    table = _table(workspace, points)
    if len(table) >= POINTS:
        share, what = float(bounds.contains(table, axes=2).mean()), "the table in view"
    else:
        area = np.prod(workspace.high[:2] - workspace.low[:2])
        share, what = float(np.prod(size[:2]) / area), "the executor's workspace (no table is in view)"
    figure = f"{bounds} m contain {100 * share:.0f} % of {what}"
    if share >= ENOUGH:
        return ok(NAME, figure, value=share)
    remedy = (
        "objects outside are out of the policy's reach: put them within, check the camera's calibration, or use a checkpoint "
        "that was trained in this cell"
    )
    seen = len(table) >= POINTS
    return (wrong if seen and share < LEAST else warning)(NAME, figure, remedy, share)


def _table(workspace: Box, points: npt.ArrayLike | None) -> F64:
    """(M, 3) the points of the table within the workspace."""
    seen = np.empty((0, 3)) if points is None else np.asarray(points, dtype=np.float64).reshape(-1, 3)
    seen = seen[np.isfinite(seen).all(axis=1)]
    return seen[workspace.contains(seen, axes=2) & (np.abs(seen[:, 2]) <= TABLE_M)]
