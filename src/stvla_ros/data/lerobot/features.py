"""What a frame of our sets holds: names, types and meaning of the features, as ``meta/info.json`` lists them.

Units are suffixes as everywhere; poses are in the robot's base frame. Numbers are float64, so that they come back
exactly; LeRobot's loader makes float32 tensors of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import nan
from typing import Any

import numpy as np

from stvla_ros.geometry import se3
from stvla_ros.types import F64, Keypose, RgbdFrame, RobotState, TracePlan

COLOR, DEPTH = "observation.images.camera", "observation.depth.camera"
STATE, VELOCITY, TCP = "observation.state", "observation.velocity", "observation.tcp_pose"
MATRIX, CAMERA_POSE = "observation.camera_matrix", "observation.camera_pose"
STAMP, ROBOT_STAMP = "observation.stamp_ns", "observation.robot_stamp_ns"

TRACE_POINTS = 32
"""Points of ``trace.xyz_m``, at equal steps along the lifted path."""

_JOINTS = tuple(f"joint{i}" for i in range(1, 8))
_POSE = ("x_m", "y_m", "z_m", "qx", "qy", "qz", "qw")


@dataclass(frozen=True)
class Feature:
    """A feature of numbers.

    Attributes:
        dtype: As LeRobot names it.
        names: Of its numbers.
    """

    dtype: str
    names: tuple[str, ...]

    def entry(self) -> dict[str, Any]:
        """Its entry in ``info.json``."""
        return {"dtype": self.dtype, "shape": [len(self.names)], "names": list(self.names)}


def _floats(*names: str) -> Feature:
    return Feature("float64", names)


FEATURES = {
    STATE: _floats(*(f"{j}_rad" for j in _JOINTS), "gripper_m"),
    VELOCITY: _floats(*(f"{j}_rad_s" for j in _JOINTS)),  # NaN: not measured
    TCP: _floats(*_POSE),
    MATRIX: _floats(*(f"k{r}{c}_px" for r in range(3) for c in range(3))),
    CAMERA_POSE: _floats(*(f"T_base_camera{r}{c}" for r in range(4) for c in range(4))),
    STAMP: Feature("int64", ("color_ns",)),
    ROBOT_STAMP: Feature("int64", ("joints_ns",)),
    "action": _floats(*_POSE, "gripper_open"),  # the next keypose; after the last one: the last one
    "action.may_collide": Feature("bool", ("may_collide",)),
    "action.stamp_ns": Feature("int64", ("predicted_ns",)),
    "action.done_ns": Feature("int64", ("done_ns",)),
    "keypose.index": Feature("int64", ("index",)),  # of the action among the episode's keyposes
    "keypose.predicted_here": Feature("bool", ("predicted_here",)),
    "plan.index": Feature("int64", ("index",)),  # plan in use; -1: none
    "plan.uv": _floats(*(f"{c}{i}" for i in range(8) for c in "uv")),  # 0..1000 of the image; NaN: no plan
    "plan.depth_offset_m": _floats(*(f"offset{i}" for i in range(8))),
    "plan.start_depth_m": _floats("depth"),  # NaN: read from the image
    "trace.xyz_m": _floats(*(f"{c}{i}" for i in range(TRACE_POINTS) for c in "xyz")),  # NaN: none
    "next.done": Feature("bool", ("done",)),
    "next.success": Feature("bool", ("success",)),  # of the whole episode, in its last frame
}
"""Features of numbers, besides colour, depth and those of every LeRobot set."""

DEFAULTS = {
    "timestamp": Feature("float32", ("s",)),
    "frame_index": Feature("int64", ("index",)),
    "episode_index": Feature("int64", ("index",)),
    "index": Feature("int64", ("index",)),
    "task_index": Feature("int64", ("index",)),
}
"""Features that every LeRobot set has; ``timestamp`` is ``frame_index / fps``, the true times are the stamps."""


@dataclass(frozen=True, eq=False)
class Row:
    """One frame of an episode, and what belongs to it.

    Attributes:
        frame: The camera's image.
        robot: State of the arm at about that time.
        action: The next keypose.
        done_ns: When its motion ended.
        keypose_index: Index of the action among the keyposes of the episode.
        predicted_here: The action was predicted from this very frame.
        plan_index: Index of the plan in use; -1: none.
        plan: The plan in use.
        trace_m: (:data:`TRACE_POINTS`, 3) the lifted path in the base frame; None: not known.
    """

    frame: RgbdFrame
    robot: RobotState
    action: Keypose
    done_ns: int
    keypose_index: int
    predicted_here: bool
    plan_index: int = -1
    plan: TracePlan | None = None
    trace_m: F64 | None = None

    def values(self, done: bool, success: bool) -> dict[str, Any]:
        """Feature -> its number, or its numbers as a list."""
        camera, plan = self.frame.camera, self.plan
        none = np.full(16, nan)
        return {
            STATE: [*self.robot.q_rad.tolist(), float(self.robot.gripper_m)],
            VELOCITY: self.robot.dq_rad_s.tolist(),
            TCP: _pose(self.robot.T_base_tcp),
            MATRIX: camera.K.ravel().tolist(),
            CAMERA_POSE: camera.T_base_camera.ravel().tolist(),
            STAMP: self.frame.stamp_ns,
            ROBOT_STAMP: self.robot.stamp_ns,
            "action": [*_pose(self.action.T_base_tcp), float(self.action.gripper_open)],
            "action.may_collide": self.action.may_collide,
            "action.stamp_ns": self.action.stamp_ns,
            "action.done_ns": self.done_ns,
            "keypose.index": self.keypose_index,
            "keypose.predicted_here": self.predicted_here,
            "plan.index": self.plan_index,
            "plan.uv": (none if plan is None else plan.uv.ravel()).tolist(),
            "plan.depth_offset_m": (none[:8] if plan is None else plan.depth_offset_m).tolist(),
            "plan.start_depth_m": nan if plan is None else float(plan.start_depth_m),
            "trace.xyz_m": [nan] * (3 * TRACE_POINTS) if self.trace_m is None else self.trace_m.ravel().tolist(),
            "next.done": done,
            "next.success": done and success,
        }


def _pose(T: F64) -> list[float]:
    return [*T[:3, 3].tolist(), *se3.to_quaternion(T[:3, :3]).tolist()]
