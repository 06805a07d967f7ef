"""Tool paths that bring a lid or a bulb to its seat; the turn there is no way in space, so the last point stands for it."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from stvla_ros.planning.fittings import BULB_GRIP_M, LID_GRIP_M, LID_SEAT_M, PART_M, SOCKET_M
from stvla_ros.planning.route import carry_route
from stvla_ros.types import F64, Camera

DROP_M = 0.001
"""A lid or bulb is turned this high above its seat."""

_GRIP_AND_SEAT_M = {"lid": (LID_GRIP_M, LID_SEAT_M), "bulb": (BULB_GRIP_M, -SOCKET_M)}


def screw_route(
    part: str,
    start_m: F64,
    goal_m: F64,
    obstacles_m: npt.NDArray[np.floating],
    camera: Camera,
    drop_m: float = DROP_M,
) -> F64:
    """(8, 3) tool positions from where the tool grasps, or is, to where the part is in its seat.

    Args:
        part: ``lid`` or ``bulb``.
        start_m: (3,) tool position.
        goal_m: (3,) middle of the top of the jar's neck, or of the mouth of the lamp's socket.
        obstacles_m: (N, 3) points above the table. Those of the part itself do not count.
        camera: The route stays in its view if that leaves room to pass.
        drop_m: Free height left below the part.
    """
    grip_m, seat_m = _GRIP_AND_SEAT_M[part]
    end = np.add(goal_m, (0.0, 0.0, seat_m + grip_m + drop_m))
    beside = np.hypot(*(obstacles_m[:, :2] - start_m[:2]).T) > PART_M
    return carry_route(np.asarray(start_m, np.float64), end, obstacles_m[beside], grip_m, camera)
