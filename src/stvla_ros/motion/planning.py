"""What all joint-space planners share: choosing a goal posture, leaving contact, straight lines, and timing.

A backend provides an :class:`ArmSpace` (collision checks and path search); :func:`plan_motion` does the rest.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

import numpy as np

from stvla_ros.config import param
from stvla_ros.description.kinematics import tcp_pose
from stvla_ros.description.robot import ArmLimits
from stvla_ros.errors import OutcomeCode, StageError
from stvla_ros.geometry.se3 import is_rotation
from stvla_ros.motion import closed_form, ik, timing
from stvla_ros.types import F64, Bool, CollisionWorld, JointPath, MotionRequest


@dataclass(frozen=True)
class MotionPlannerConfig:
    """Settings that all motion planners share."""

    velocity_scale: float = param(0.5, "share of the joints' velocity limits", ge=0.05, le=1.0, live=True)
    acceleration_scale: float = param(0.3, "share of the joints' acceleration limits", ge=0.05, le=1.0, live=True)
    jerk_scale: float = param(0.1, "share of the joints' jerk limits", ge=0.01, le=1.0, live=True)
    line_speed_m_s: float = param(0.25, "top speed of the tool on straight motions [m/s]", ge=0.01, le=1.0, live=True)
    max_planning_s: float = param(1.0, "time for the path search of one motion [s]", ge=0.05, le=10.0)
    check_step_rad: float = param(0.01, "spacing of collision checks along a path [rad]", ge=0.002, le=0.1)
    table: bool = param(True, "treat the table as a solid plate under the whole workspace")
    table_z_m: float = param(0.0, "height of the table in the base frame [m]", ge=-1.0, le=1.0)
    leave_contact_m: float = param(
        0.06, "within this distance a motion must leave the contact it starts in [m]", ge=0.0, le=0.2
    )
    goal_postures: int = param(8, "joint postures tried for one tool pose", ge=1, le=32)
    seed: int = param(0, "seed of the path search", ge=0)


class ArmSpace(Protocol):
    """The arm's joint space with the obstacles of one world."""

    arm: ArmLimits
    """Range and limits of the joints."""

    def set_world(self, world: CollisionWorld, gripper_m: float) -> None:
        """Set the obstacles, the held object, and the opening of the fingers."""
        ...

    def is_free(self, q_rad: F64) -> bool:
        """Whether a (7,) posture is free of collision."""
        ...

    def connects(self, start_rad: F64, goal_rad: F64) -> bool:
        """Whether the straight line between two (7,) postures is free of collision, its ends included. A space whose
        search tries that line first may say False.
        """
        ...

    def search(self, start_rad: F64, goal_rad: F64, seconds: float) -> F64 | None:
        """(N, 7) waypoints of a shortened free path between free postures; None if none was found in time."""
        ...


def plan_motion(space: ArmSpace, request: MotionRequest, config: MotionPlannerConfig) -> JointPath:
    """A timed motion to ``request.T_base_tcp``.

    Raises:
        StageError: NO_IK (out of reach), COLLISION (the goal or line touches something, or the start cannot be freed),
            NO_PATH (no path found in time, or a line passes a singularity or a joint limit).
    """
    check_request(request, space.arm)
    space.set_world(request.world, request.gripper_m)
    limits = timing.scaled_limits(space.arm, config.velocity_scale, config.acceleration_scale, config.jerk_scale)
    if request.straight:
        waypoints = _line(space, request, config)
        length_m = float(np.linalg.norm(request.T_base_tcp[:3, 3] - tcp_pose(request.start_q_rad)[:3, 3]))
        return timing.time_curve(waypoints, limits, length_m / config.line_speed_m_s)
    return timing.time_polyline(_route(space, request, config), limits)


def check_request(request: MotionRequest, arm: ArmLimits) -> None:
    """Refuse requests that no planner can handle.

    Raises:
        StageError: NO_IK for an invalid pose; COLLISION for a start outside the joints' range.
    """
    if not (np.isfinite(request.T_base_tcp).all() and is_rotation(request.T_base_tcp[:3, :3])):
        raise StageError(OutcomeCode.NO_IK, "The wanted tool pose is not a rotation and a finite position.")
    q = request.start_q_rad
    if not np.isfinite(q).all() or (q < arm.q_min_rad - 0.02).any() or (q > arm.q_max_rad + 0.02).any():
        raise StageError(
            OutcomeCode.COLLISION,
            f"The arm's joints {np.round(q, 3).tolist()} are outside their range: move the arm by hand.",
        )


def _route(space: ArmSpace, request: MotionRequest, config: MotionPlannerConfig) -> F64:
    """(N, 7) waypoints from the start to a goal posture: straight if one can be reached so, else the first found."""
    lead = _lead_out(space, request.start_q_rad, config, np.random.default_rng(config.seed))
    start, goals = lead[-1], []
    for goal in _goal_postures(space, request, config):
        if space.connects(start, goal):
            return np.vstack([lead, goal])
        goals.append(goal)
    inside = _into_range(space, start)
    deadline = time.monotonic() + config.max_planning_s
    for i, goal in enumerate(goals):
        left = deadline - time.monotonic()
        if left <= 0:
            break
        path = space.search(inside, goal, left / (len(goals) - i) if i + 1 < len(goals) else left)
        if path is not None:
            return np.vstack([lead, path])
    raise StageError(
        OutcomeCode.NO_PATH,
        f"No free path to {_place(request.T_base_tcp)} within {config.max_planning_s:g} s ({len(goals)} postures tried).",
    )


def _into_range(space: ArmSpace, start: F64) -> F64:
    """The start, or the posture beside it from which the search may begin: it stays off the ends of the joints' range."""
    inner = space.arm.narrowed(ik.LIMIT_MARGIN_RAD)
    inside = np.clip(start, inner.q_min_rad, inner.q_max_rad)
    return inside if space.connects(start, inside) else start


def _goal_postures(space: ArmSpace, request: MotionRequest, config: MotionPlannerConfig) -> Iterator[F64]:
    """Free postures, (7,) each, for the tool's goal that differ from each other, the cheapest first; at least one.

    Where a straight motion follows, they are those from which it stays within the joints' ranges, if there are any.
    """
    T, near, arm = request.T_base_tcp, request.start_q_rad, space.arm
    last = np.append(near[6], np.linspace(arm.q_min_rad[6], arm.q_max_rad[6], _LAST_JOINT_VALUES))
    postures = closed_form.postures(T, last, arm, ik.LIMIT_MARGIN_RAD)
    if not len(postures):
        raise StageError(OutcomeCode.NO_IK, f"The arm cannot reach {_place(T)} with that orientation.")
    left, found, spare = postures[np.argsort(_inconvenience(postures, near, arm), kind="stable")], 0, []
    while len(left) and found < config.goal_postures:
        first, apart = left[0], 0.0
        if space.is_free(first):
            if _continues(first, request.then_straight_to, arm):
                found, apart = found + 1, _DIFFERENT_RAD
                yield first
            else:
                spare.append(first)
                apart = _DIFFERENT_RAD / 4
        left = left[1:][np.abs(left[1:] - first).max(axis=1) > apart]
    if not found and not spare:
        raise StageError(
            OutcomeCode.COLLISION,
            f"At {_place(T)} the arm would touch something in every one of {len(postures)} postures.",
        )
    if not found:
        yield from spare[: config.goal_postures]


def _continues(q: F64, line_to: F64 | None, arm: ArmLimits) -> bool:
    """Whether the tool can move straight on from a posture to (4, 4) ``line_to``, obstacles aside."""
    return line_to is None or _arrives(ik.follow_line(q, line_to, arm=arm), line_to)


def _arrives(path: F64, T: F64) -> bool:
    """Whether a path along a line has come to its end."""
    return bool(np.abs(ik.pose_error(tcp_pose(path[-1]), T)).max() <= 1e-3)


_LAST_JOINT_VALUES = 96
"""With so many values of joint 7, the nearest posture takes 1 % longer to reach than with ever more of them."""

_DIFFERENT_RAD = 0.4
"""Two postures whose joints are all closer than this count as one: a way to one is mostly a way to the other."""


def _inconvenience(q: F64, near: F64, arm: ArmLimits) -> F64:
    """(N,) cost of (N, 7) postures: seconds at full speed, and a penalty close to the joints' limits."""
    room = np.minimum(q - arm.q_min_rad, arm.q_max_rad - q).min(axis=1)
    return np.asarray((np.abs(q - near) / arm.velocity).max(axis=1) + 5.0 * np.maximum(0.0, 0.15 - room))


def _lead_out(space: ArmSpace, start: F64, config: MotionPlannerConfig, rng: np.random.Generator) -> F64:
    """(N, 7) from the start to a free posture nearby: back along the tool's axis, or else a small random move."""
    if space.is_free(start):
        return start[None]
    T = tcp_pose(start)
    back = T.copy()
    back[:3, 3] -= config.leave_contact_m * T[:3, 2]
    path = ik.follow_line(start, back, arm=space.arm)
    for i, q in enumerate(path):
        if space.is_free(q):
            return path[: i + 1]
    for radius in np.linspace(0.02, 0.15, 60):
        q = np.clip(start + rng.uniform(-radius, radius, 7), space.arm.q_min_rad, space.arm.q_max_rad)
        if space.is_free(q):
            return np.stack([start, q])
    raise StageError(
        OutcomeCode.COLLISION,
        "The arm touches something where it stands and no free posture is near: move it by hand or clear the scene.",
    )


def _line(space: ArmSpace, request: MotionRequest, config: MotionPlannerConfig) -> F64:
    """(N, 7) postures along the straight tool line. Contact at the start may last ``leave_contact_m``."""
    path = ik.follow_line(request.start_q_rad, request.T_base_tcp, arm=space.arm)
    if not _arrives(path, request.T_base_tcp):
        raise StageError(
            OutcomeCode.NO_PATH,
            f"The straight line to {_place(request.T_base_tcp)} ends after {_share(path, request)} % at the end of a joint's range.",
        )
    dense = _densify(path, config.check_step_rad)
    free = np.array([space.is_free(q) for q in dense])
    tcp = tcp_pose(dense)[:, :3, 3]
    touching = ~free & (np.linalg.norm(tcp - tcp[0], axis=1) > config.leave_contact_m)
    if touching.any() or _touches_again(free) or not free[-1]:
        where = tcp[np.flatnonzero(touching if touching.any() else ~free)[-1]]
        raise StageError(
            OutcomeCode.COLLISION,
            f"On the straight line to {_place(request.T_base_tcp)} the arm would touch something at ({_xyz(where)}).",
        )
    return path


def _touches_again(free: Bool) -> bool:
    """Whether a posture after the first free one is in contact."""
    return bool(free.any() and not free[int(np.argmax(free)) :].all())


def _densify(path: F64, step_rad: float) -> F64:
    """Insert postures so that neighbours differ by at most ``step_rad`` in every joint."""
    pieces = [path[:1]]
    for a, b in pairwise(path):
        count = max(1, int(np.ceil(np.abs(b - a).max() / step_rad)))
        pieces.append(a + np.linspace(0, 1, count + 1)[1:, None] * (b - a))
    return np.concatenate(pieces)


def _share(path: F64, request: MotionRequest) -> int:
    """Percentage of the line that the path covers."""
    start, end = tcp_pose(path[0])[:3, 3], tcp_pose(path[-1])[:3, 3]
    whole = float(np.linalg.norm(request.T_base_tcp[:3, 3] - start))
    return int(100 * float(np.linalg.norm(end - start)) / max(whole, 1e-9))


def _xyz(p: F64) -> str:
    return ", ".join(f"{x:.3f}" for x in p)


def _place(T: F64) -> str:
    return f"({_xyz(T[:3, 3])}) m"
