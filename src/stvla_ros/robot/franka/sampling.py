"""Puts a path on the robot's grid of 1 ms, and checks it as the robot would.

The robot accepts position commands whose differences stay within the velocity, acceleration and jerk limits of the
Franka Control Interface. Nothing between this software and the robot smooths them: libfranka's active control has
neither rate limiter nor low-pass filter.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.interpolate import make_interp_spline

from stvla_ros.description.robot import ArmLimits
from stvla_ros.errors import OutcomeCode, StageError
from stvla_ros.robot.franka.motion import CYCLE_S, FADE_S, Samples
from stvla_ros.types import F64, JointPath

TOLERATED = 1.0005
"""Factor on the limits up to which a path is accepted: rounding, no more, since the robot stops itself above them."""


def sample(path: JointPath) -> Samples:
    """A path on the robot's grid: a quintic spline through its positions, at rest at both ends.

    The spline's acceleration and jerk are continuous, where a cubic between samples jumps at each of them. A path that
    is shorter than the fade of its start is held at its end until that is over.
    """
    t, q = path.t_s, path.q_rad
    cycles = max(int(np.ceil(t[-1] / CYCLE_S - 1e-6)), round(FADE_S / CYCLE_S))
    grid = np.minimum(np.arange(cycles + 1) * CYCLE_S, t[-1])
    if len(t) == 1:
        still = np.zeros((cycles + 1, 7))
        return Samples(still + q[0], still, still)
    t, q = _with_ends(t, q)
    rest = [(1, np.zeros(7)), (2, np.zeros(7))]
    spline = make_interp_spline(t, q, k=5, bc_type=(rest, rest))
    return Samples(spline(grid), spline(grid, 1), spline(grid, 2))


def _with_ends(t: F64, q: F64) -> tuple[F64, F64]:
    """Without samples that crowd an end: planners put the last one anywhere after the one before."""
    step = np.median(np.diff(t))
    keep = np.ones(len(t), bool)
    keep[1:-1] = (t[1:-1] - t[0] > 0.25 * step) & (t[-1] - t[1:-1] > 0.25 * step)
    return t[keep], q[keep]


def check(samples: Samples, limits: ArmLimits, names: Sequence[str], velocity_scale: float = 1.0) -> None:
    """Check what the robot would check: range, and differences of consecutive commands.

    Raises:
        StageError: CONTROLLER_FAILED; the sentence names joint, time, value and limit.
    """
    velocity = np.diff(samples.q, axis=0, prepend=samples.q[:1], append=samples.q[-1:]) / CYCLE_S
    acceleration = np.diff(velocity, axis=0, prepend=np.zeros((1, 7))) / CYCLE_S
    jerk = np.diff(acceleration, axis=0, prepend=np.zeros((1, 7))) / CYCLE_S
    _refuse(
        np.maximum(limits.q_min_rad - samples.q, samples.q - limits.q_max_rad),
        np.zeros(7),
        "outside its range by",
        "rad",
        names,
    )
    _refuse(np.abs(velocity), limits.velocity * velocity_scale * TOLERATED, "at a velocity of", "rad/s", names)
    _refuse(np.abs(acceleration), limits.acceleration * TOLERATED, "at an acceleration of", "rad/s^2", names)
    _refuse(np.abs(jerk), limits.jerk * TOLERATED, "at a jerk of", "rad/s^3", names)


def _refuse(values: F64, limit: F64, what: str, unit: str, names: Sequence[str]) -> None:
    excess = values - limit
    if (excess <= 0.0).all():
        return
    k, joint = np.unravel_index(np.argmax(excess / np.maximum(limit, 1.0)), excess.shape)
    raise StageError(
        OutcomeCode.CONTROLLER_FAILED,
        f"The path moves {names[int(joint)]} {what} {values[k, joint]:.4g} {unit} at {k * CYCLE_S:.3f} s; at most "
        f"{limit[joint]:.4g} is allowed: plan slower, or with samples that are closer together.",
    )
