"""The oracle's path for a grocery item: from the simulator's state into the cupboard."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from stvla_ros.geometry.se3 import inverse
from stvla_ros.planning.groceries import Store
from stvla_ros.planning.shelf_route import DROP_M, LOWEST_M, release_point, shelf_route
from stvla_ros.sim.cell import Cell
from stvla_ros.sim.cupboard import FLOOR_M
from stvla_ros.sim.groceries import BY_NAME
from stvla_ros.types import F64, PlanRequest

NEAR_M = 0.02
"""An item is held if the fingers are closed and the tool is in it or this close to its corners' box."""


def store_route(task: Store, request: PlanRequest, poses: Mapping[str, F64], cell: Cell, grip_m: float) -> F64:
    """(8, 3) tool positions.

    Args:
        task: What is asked.
        request: With the arm's state.
        poses: (4, 4) of every object.
        cell: For the surfaces of the other objects.
        grip_m: How far below its top an item is gripped.
    """
    ware, name = BY_NAME[task.item], task.item.replace(" ", "_")
    corners = ware.corners_m() @ poses[name][:3, :3].T + poses[name][:3, 3]
    tool = request.robot.T_base_tcp
    held = _holds(request, corners)
    start = tool[:3, 3] if held else _grasp(corners, grip_m)
    below, wide = _reach(corners, tool) if held else (start[2] - corners[:, 2].min(), ware.size_m[1])
    front = poses["cupboard"][:3, 3] + [0.0, 0.0, FLOOR_M]
    yaw = float(np.arctan2(poses["cupboard"][1, 0], poses["cupboard"][0, 0]))
    end = release_point(front, yaw, below, wide, DROP_M)
    others = [points for other, points in cell.surfaces(0.01).items() if other not in (name, "cupboard")]
    return shelf_route(start, end, yaw, np.concatenate(others), below, request.frame.camera)


def _grasp(corners_m: F64, grip_m: float) -> F64:
    top, bottom = corners_m[:, 2].max(), corners_m[:, 2].min()
    middle = (corners_m[:, :2].min(axis=0) + corners_m[:, :2].max(axis=0)) / 2
    return np.array([*middle, max(top - grip_m, bottom + LOWEST_M)])


def _reach(corners_m: F64, T_base_tcp: F64) -> tuple[float, float]:
    """How far a held item reaches beyond the tool along its axis, and across that and the fingers' opening."""
    T = inverse(T_base_tcp)
    x, _, z = T[:3, :3] @ corners_m.T + T[:3, 3:]
    return float(z.max()), 2 * float(np.abs(x).max())


def _holds(request: PlanRequest, corners_m: F64) -> bool:
    tool, closed = request.robot.T_base_tcp[:3, 3], bool(request.history) and not request.history[-1].gripper_open
    low, high = corners_m.min(axis=0) - NEAR_M, corners_m.max(axis=0) + NEAR_M
    return closed and bool(((tool > low) & (tool < high)).all())
