"""The tool's way through one step, built in 3D from the points of two surfaces.

The same functions make the true ways that the models learn from and the ways that the planner draws.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from stvla_ros.planning.route import carry_route, press_route
from stvla_ros.types import F64, Camera

GRIP_M = 0.02
"""Blocks are gripped this far below their top."""

REACH_M = 0.02
"""A gripped block reaches this far below the tool."""

DROP_M = 0.003
"""A block is let go this high above its support."""


def carry(start_m: F64, goal_m: F64, obstacles_m: npt.NDArray[np.floating], camera: Camera, *, held: bool) -> F64:
    """(8, 3) tool positions of taking a block and setting it down.

    Args:
        start_m: (3,) middle of the block's top; where the tool is, if the block is held.
        goal_m: (3,) point of the surface that it is set down on.
        obstacles_m: (N, 3) points that stand on the table.
        camera: In whose view the way should stay.
        held: The block is between the fingers already.
    """
    start = start_m if held else np.subtract(start_m, (0.0, 0.0, min(GRIP_M, max(start_m[2] - 0.012, 0.0))))
    end = np.add(goal_m, (0.0, 0.0, REACH_M + DROP_M))
    return carry_route(np.asarray(start, np.float64), np.asarray(end, np.float64), obstacles_m, REACH_M, camera)


def press(cap_m: F64) -> F64:
    """(8, 3) tool positions of pressing a button: up from its cap and down on it."""
    return press_route(np.asarray(cap_m, np.float64))
