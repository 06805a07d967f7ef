"""How an arm comes to rest."""

from __future__ import annotations

import numpy as np
from ruckig import ControlInterface, InputParameter, Result, Ruckig, Synchronization, Trajectory

from stvla_ros.description.robot import ArmLimits
from stvla_ros.errors import OutcomeCode, StageError
from stvla_ros.types import F64

STILL_RAD_S = 0.01
"""An arm stands still while every joint is measured slower than this: the default ``stopped_velocity_tolerance`` of
ros2_control's JointTrajectoryController."""

STILL_S, CREEP_S = 0.02, 0.3
"""A stop is over when the arm has stood still for so long, as a servo may swing back; at most so long after the end of
the commanded stop."""


def fastest_stop(q_rad: F64, dq_rad_s: F64, ddq_rad_s2: F64, limits: ArmLimits, share: float = 1.0) -> Trajectory:
    """Fastest stop within the arm's acceleration and jerk limits; on the line of motion where that is possible.

    Args:
        q_rad: (7,) commanded positions.
        dq_rad_s: (7,) their velocities.
        ddq_rad_s2: (7,) their accelerations; those beyond the limits are clipped.
        limits: The arm's.
        share: Share of the limits that is used.

    Raises:
        StageError: INTERNAL when there is no such stop.
    """
    acceleration = share * limits.acceleration
    request = InputParameter(7)
    request.control_interface = ControlInterface.Velocity
    request.synchronization = Synchronization.Phase
    request.current_position, request.current_velocity = q_rad.tolist(), dq_rad_s.tolist()
    request.current_acceleration = np.clip(ddq_rad_s2, -acceleration, acceleration).tolist()
    request.target_velocity = request.target_acceleration = [0.0] * 7
    request.max_acceleration, request.max_jerk = acceleration.tolist(), (share * limits.jerk).tolist()
    stop = Trajectory(7)
    result = Ruckig(7).calculate(request, stop)
    if result not in (Result.Working, Result.Finished):
        raise StageError(OutcomeCode.INTERNAL, f"No stop from {dq_rad_s} rad/s could be computed ({result}).")
    return stop
