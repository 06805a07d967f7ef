"""The scripted policy: the next keypose from the 3D path, the guided point cloud and the robot's state.

It is reactive and keeps no state of its own. So it works whether the planner replans after every keypose or never, and
continues sensibly when the path changes during a task. It uses camera pixels only, never the simulator's state.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from stvla_ros.config import param
from stvla_ros.description.kinematics import tcp_pose
from stvla_ros.description.panda import FINGERTIP_M, HOME_Q_RAD, Q_MAX_RAD
from stvla_ros.errors import OutcomeCode, StageError
from stvla_ros.geometry.se3 import backed_off, finger_yaw, tool_down, wrap
from stvla_ros.policy.contact import hangs_below_m
from stvla_ros.policy.entering import at, is_tilted, tilted, way_in
from stvla_ros.policy.grasp import Grasp, find_grasp, round_centre
from stvla_ros.policy.observation import seen_points
from stvla_ros.tabletop.interaction import is_holding
from stvla_ros.tabletop.self_filter import may_hold
from stvla_ros.types import F32, F64, Keypose, Observation

_PRESS = re.compile(r"\b(?:push|press|tap|hit)\b", re.IGNORECASE)
_SCREW = re.compile(r"\bscrew\b", re.IGNORECASE)
_INTO = re.compile(r"\binto\b", re.IGNORECASE)
_UP = np.array([0.0, 0.0, 1.0])

XY_TOLERANCE_M = 0.010
"""The tool counts as above a place within this horizontal distance."""

IN_THREAD_M = 0.03
"""A held part that touches something is in its thread within this distance: the hand hides most of the place."""

JOINT_MARGIN_RAD = 0.08
"""No turn ends closer to the end of a joint's range."""

ALIGNED_RAD = 0.17
"""Closing fingers align a block that is turned by up to this much."""

_HOME_YAW_RAD = finger_yaw(tcp_pose(HOME_Q_RAD))


@dataclass(frozen=True)
class ScriptedConfig:
    """Settings of the scripted policy."""

    hover_m: float = param(
        0.10, "height above a grasp or button from which the tool goes straight down [m]", ge=0.05, le=0.3
    )
    grip_depth_m: float = param(0.02, "blocks are gripped this far below their top [m]", ge=0.005, le=0.04)
    lowest_m: float = param(0.012, "the tool centre point never goes lower than this [m]", ge=0.0, le=0.1)
    drop_m: float = param(0.003, "height above its support at which an object is released [m]", ge=0.0, le=0.03)
    press_depth_m: float = param(0.007, "how far a button's cap is pushed down [m]", ge=0.001, le=0.02)
    fingertip_m: float = param(
        FINGERTIP_M, "the closed fingertips reach this far below the tool centre point [m]", ge=0.0, le=0.03
    )
    screw_rad: float = param(2.1, "clockwise turn that screws a lid or bulb [rad]", ge=0.1, le=2.8)
    screw_joint_rad: float = param(
        0.3, "the hand grasps what it screws so that the last joint starts the turn here", ge=-2.8, le=2.8
    )
    insert_m: float = param(0.012, "a bulb is lowered by this much while it is turned [m]", ge=0.0, le=0.05)
    retreat_m: float = param(0.14, "straight up by this much after a contact [m]", ge=0.05, le=0.4)
    enter_m: float = param(
        0.22, "length of the way into a cupboard, and out of it, along the tilted tool's axis [m]", ge=0.1, le=0.4
    )
    clear_x_m: float = param(0.33, "x of where the tool waits out of the camera's view [m]", ge=0.15, le=0.8)
    clear_z_m: float = param(0.45, "z of where the tool waits out of the camera's view [m]", ge=0.2, le=0.8)
    x_min_m: float = param(0.15, "smallest x of keyposes [m]", ge=-1.0, le=1.0)
    x_max_m: float = param(0.85, "largest x of keyposes [m]", ge=0.0, le=1.0)
    y_max_m: float = param(0.65, "largest y of keyposes, to both sides [m]", ge=0.0, le=1.0)
    z_max_m: float = param(0.80, "largest z of keyposes [m]", ge=0.1, le=1.2)


@dataclass(frozen=True, eq=False)
class _Scene:
    """One observation, prepared."""

    observation: Observation
    points_m: F32  # (N, 3) without the robot and what it holds
    robot_m: F32  # (N, 3) the robot and what it holds

    @property
    def tool(self) -> F64:
        return self.observation.robot.T_base_tcp

    @property
    def tool_m(self) -> F64:
        return self.tool[:3, 3]

    @property
    def yaw_rad(self) -> float:
        return finger_yaw(self.tool)

    @property
    def path_m(self) -> F64:
        trace = self.observation.guidance.trace
        return trace.xyz_m[trace.source != 0].astype(np.float64)

    @property
    def words(self) -> str:
        return self.observation.guidance.trace.sub_instruction

    @property
    def screws(self) -> bool:
        return bool(_SCREW.search(self.words))

    @property
    def history(self) -> tuple[Keypose, ...]:
        return self.observation.history

    @property
    def just_grasped(self) -> bool:
        return len(self.history) < 2 or self.history[-2].gripper_open

    @property
    def in_contact(self) -> bool:
        """Whether the tool is still where the last keypose touched something."""
        if not self.history or not self.history[-1].may_collide:
            return False
        return bool(np.linalg.norm(self.tool_m - self.history[-1].T_base_tcp[:3, 3]) < 0.03)

    @property
    def holding(self) -> bool:
        return is_holding(self.observation.robot, self.history)


class ScriptedPolicy:
    """Above, grasp, lift, over, release, retreat; or above, press, retreat.

    Where the path ends sideways, the object goes into something from its front: the tool tilts to point along the path's
    last leg, and moves in and out along its own axis.
    """

    Config = ScriptedConfig

    def __init__(self, config: ScriptedConfig) -> None:
        self._config = config

    def predict(self, observation: Observation) -> Keypose | None:
        """See :class:`stvla_ros.interfaces.Policy`. Raises KEYPOSE_OUT_OF_BOUNDS."""
        scene = _prepare(observation)
        press = _PRESS.search(observation.guidance.trace.sub_instruction)
        keypose = self._press(scene) if press else self._carry(scene)
        if keypose is not None:
            self._check(keypose)
        return keypose

    def _press(self, scene: _Scene) -> Keypose | None:
        goal = _surface(scene.points_m, scene.path_m[-1], 0.012)
        if scene.in_contact:
            return self._up(scene, gripper_open=False)
        if _last_contact_at(scene.history, goal, 0.03) is not None:
            return self._clear(scene, gripper_open=False)
        above = goal + self._config.hover_m * _UP
        ready = scene.observation.robot.gripper_m < 0.01 and _at(scene, above, XY_TOLERANCE_M)
        if not ready:
            return _keypose(above, scene.yaw_rad, gripper_open=False)
        depth = self._config.fingertip_m - self._config.press_depth_m
        return _keypose(goal + depth * _UP, scene.yaw_rad, gripper_open=False, may_collide=True)

    def _carry(self, scene: _Scene) -> Keypose | None:
        if scene.holding:
            return self._screw(scene) if scene.screws else self._transfer(scene)
        if scene.in_contact:
            return self._up(scene, gripper_open=True)
        start, goal = scene.path_m[0], scene.path_m[-1]
        placed = np.hypot(*(start - goal)[:2]) < 0.03
        find = self._round_grasp if scene.screws else _grasp
        grasp = None if placed else find(scene)
        if grasp is None:
            return self._clear(scene, gripper_open=True)
        return self._pick(scene, grasp)

    def _pick(self, scene: _Scene, grasp: Grasp) -> Keypose:
        low = grasp.xyz_m.copy()
        low[2] = max(grasp.xyz_m[2] - self._config.grip_depth_m, self._config.lowest_m)
        above = low + self._config.hover_m * _UP
        turned = abs(wrap(scene.yaw_rad - grasp.yaw_rad, np.pi)) < ALIGNED_RAD
        if _at(scene, above, XY_TOLERANCE_M) and turned and not may_hold(scene.observation.robot):
            return _keypose(low, scene.yaw_rad, gripper_open=False, may_collide=True)
        return _keypose(above, grasp.yaw_rad, gripper_open=True)

    def _round_grasp(self, scene: _Scene) -> Grasp | None:
        """A grasp from which the hand can screw: at the goal the last joint has room for the whole turn.

        A round thing may be grasped in any direction. The tool's yaw minus that of its place seen from the base is, up
        to a constant, the last joint's angle when the hand points down.
        """
        start, goal = scene.path_m[0], scene.path_m[-1]
        centre = round_centre(scene.points_m, start)
        if centre is None:
            return None
        ahead = _HOME_YAW_RAD + HOME_Q_RAD[6] - self._config.screw_joint_rad
        yaw = scene.yaw_rad + wrap(ahead + float(np.arctan2(goal[1], goal[0])) - scene.yaw_rad)
        return Grasp(np.array([*centre, start[2] + self._config.grip_depth_m]), yaw, 0.0)

    def _screw(self, scene: _Scene) -> Keypose:
        """Carry the held part into its thread, then turn it clockwise and let go."""
        goal, top = scene.path_m[-1], scene.path_m[:, 2].max()
        beside = np.hypot(*(goal - scene.tool_m)[:2])
        if beside < IN_THREAD_M and scene.in_contact and not scene.just_grasped:
            low = np.array([*scene.tool_m[:2], min(goal[2], scene.tool_m[2])])
            return _keypose(low, scene.yaw_rad - self._turn_rad(scene), gripper_open=True, may_collide=True)
        if beside < XY_TOLERANCE_M:
            above = self._config.insert_m if _INTO.search(scene.words) else 0.0
            return _keypose(goal + above * _UP, scene.yaw_rad, gripper_open=False, may_collide=True)
        if scene.tool_m[2] < top - 0.02:
            return _keypose(np.array([*scene.tool_m[:2], top]), scene.yaw_rad, gripper_open=False)
        return _keypose(np.array([*goal[:2], top]), scene.yaw_rad, gripper_open=False)

    def _turn_rad(self, scene: _Scene) -> float:
        """As far as wanted, or as the last joint can: the elbow's posture decides where it starts."""
        left = float(Q_MAX_RAD[6] - scene.observation.robot.q_rad[6]) - JOINT_MARGIN_RAD
        return min(self._config.screw_rad, max(left, 0.0))

    def _transfer(self, scene: _Scene) -> Keypose:
        """Carry the held object: up, across, down; or in, where the path ends sideways."""
        if (axis := way_in(scene.path_m)) is not None:
            return self._enter(scene, axis)
        goal, top = scene.path_m[-1], scene.path_m[:, 2].max()
        beside = np.hypot(*(goal - scene.tool_m)[:2])
        if beside < XY_TOLERANCE_M and scene.tool_m[2] > goal[2] + 0.03:
            return _keypose(self._release_point(scene), scene.yaw_rad, gripper_open=True, may_collide=True)
        if scene.tool_m[2] < top - 0.02:
            return _keypose(np.array([*scene.tool_m[:2], top]), scene.yaw_rad, gripper_open=False)
        return _keypose(np.array([*goal[:2], top]), scene.yaw_rad, gripper_open=False)

    def _enter(self, scene: _Scene, axis: F64) -> Keypose:
        """Carry the held object up, in front of where it goes in, and in."""
        path = scene.path_m
        inside = tilted(path[-1], axis, scene.tool)
        before = backed_off(inside, self._config.enter_m)
        if at(scene.tool, before, 0.015, 0.1):
            return Keypose(inside, gripper_open=True, may_collide=True)
        risen = path[np.hypot(*(path[:, :2] - scene.tool_m[:2]).T) < 0.03, 2].max(initial=0.0)
        if not is_tilted(scene.tool) and scene.tool_m[2] < risen - 0.02:
            return _keypose(np.array([*scene.tool_m[:2], risen]), scene.yaw_rad, gripper_open=False)
        return Keypose(before, gripper_open=False)

    def _release_point(self, scene: _Scene) -> F64:
        """Above the path's end, with room for the surface below and for what hangs under the tool."""
        goal = scene.path_m[-1].copy()
        below = scene.points_m[scene.points_m[:, 2] < scene.tool_m[2] - 0.05]
        near = below[np.hypot(*(below[:, :2] - goal[:2]).T) < 0.018]
        if len(near) >= 12:
            support = float(np.quantile(near[:, 2], 0.8))
            hangs_m = hangs_below_m(scene.robot_m, scene.observation.robot)
            wanted = support + (self._config.grip_depth_m if hangs_m is None else hangs_m) + self._config.drop_m
            goal[2] = np.clip(wanted, goal[2] - 0.03, goal[2] + 0.03)
        goal[2] = max(goal[2], self._config.lowest_m)
        return goal

    def _up(self, scene: _Scene, *, gripper_open: bool) -> Keypose:
        """Straight up, out of contact; back along its axis where the tool is tilted."""
        if is_tilted(scene.tool):
            return Keypose(backed_off(scene.tool, self._config.enter_m), gripper_open)
        z = min(scene.tool_m[2] + self._config.retreat_m, self._config.z_max_m)
        return _keypose(np.array([*scene.tool_m[:2], z]), scene.yaw_rad, gripper_open=gripper_open)

    def _clear(self, scene: _Scene, *, gripper_open: bool) -> Keypose | None:
        """Out of the camera's view, so that the planner sees the whole table; None if already there."""
        place = np.array([self._config.clear_x_m, 0.0, self._config.clear_z_m])
        if np.linalg.norm(scene.tool_m - place) < 0.03 or not scene.history:
            return None
        yaw = scene.yaw_rad + wrap(_HOME_YAW_RAD - scene.yaw_rad, np.pi)
        return _keypose(place, yaw, gripper_open=gripper_open)

    def _check(self, keypose: Keypose) -> None:
        x, y, z = p = keypose.T_base_tcp[:3, 3]
        c = self._config
        inside = c.x_min_m <= x <= c.x_max_m and abs(y) <= c.y_max_m and 0 <= z <= c.z_max_m
        if not (np.isfinite(keypose.T_base_tcp).all() and inside):
            raise StageError(
                OutcomeCode.KEYPOSE_OUT_OF_BOUNDS,
                f"The path asks for a keypose at ({', '.join(f'{v:.2f}' for v in p)}) m, outside x {c.x_min_m} to "
                f"{c.x_max_m}, |y| up to {c.y_max_m}, z 0 to {c.z_max_m} m: plan again.",
            )


def _grasp(scene: _Scene) -> Grasp | None:
    return find_grasp(scene.points_m, scene.path_m[0], scene.yaw_rad)


def _prepare(observation: Observation) -> _Scene:
    return _Scene(observation, *seen_points(observation))


def _keypose(xyz_m: F64, yaw_rad: float, *, gripper_open: bool, may_collide: bool = False) -> Keypose:
    return Keypose(tool_down(xyz_m, yaw_rad), gripper_open, may_collide)


def _at(scene: _Scene, place_m: F64, beside_m: float) -> bool:
    """Whether the tool is at a place above a target: close horizontally, roughly in height."""
    gap = scene.tool_m - place_m
    return bool(np.hypot(gap[0], gap[1]) < beside_m and abs(gap[2]) < 0.03)


def _surface(points_m: F32, place_m: F64, radius_m: float) -> F64:
    """A place moved to the top of the surface seen there; unchanged if nothing is seen within 2 cm of it."""
    near = np.hypot(*(points_m[:, :2] - place_m[:2]).T) < radius_m
    heights = points_m[near & (np.abs(points_m[:, 2] - place_m[2]) < 0.02), 2]
    return np.array([*place_m[:2], float(np.median(heights))]) if len(heights) >= 6 else place_m


def _last_contact_at(history: tuple[Keypose, ...], place_m: F64, radius_m: float) -> Keypose | None:
    """The last keypose that touched something, if it was at this place."""
    touched = [k for k in history if k.may_collide]
    if touched and np.hypot(*(touched[-1].T_base_tcp[:2, 3] - place_m[:2])) < radius_m:
        return touched[-1]
    return None
