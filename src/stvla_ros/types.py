"""The values that stages exchange: frozen dataclasses with read-only arrays.

Conventions (REP-103): SI units, named by suffix (``_m _rad _s _px _ns``); ``T_a_b`` maps
coordinates of frame b to frame a; ``base`` is the robot's base link; the camera's optical frame
has z forward, x right, y down; quaternions are xyzw. NaN is "no depth here".
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum
from hashlib import blake2b
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from stvla_ros.errors import CancelToken, OutcomeCode, StageError

F32: TypeAlias = npt.NDArray[np.float32]
F64: TypeAlias = npt.NDArray[np.float64]
U8: TypeAlias = npt.NDArray[np.uint8]
I32: TypeAlias = npt.NDArray[np.int32]
Bool: TypeAlias = npt.NDArray[np.bool_]

WAYPOINTS = 8
"""Points of a 2D trace (paper 3.3.1: "a sequence of exactly 8 points")."""

HISTORY = 3
"""Executed keyposes that a policy sees (3D Diffuser Actor, nhist)."""


GUIDANCE_MODES = ("full", "mask_only", "off")
"""What guidance does to an image: removes objects and draws the path; removes objects; nothing."""


def frozen(value: Any, dtype: npt.DTypeLike, shape: tuple[int | None, ...], name: str) -> npt.NDArray[Any]:
    """A read-only view of ``value`` after a check of its shape; ``None`` in ``shape`` matches any length.

    Images must have the right dtype (a float image instead of uint8 is an error); small geometry (float64) is
    converted.

    Raises:
        ValueError: Wrong shape or dtype; the message names the field.
    """
    array = np.asarray(value) if np.dtype(dtype) != np.float64 else np.asarray(value, dtype)
    if array.dtype != np.dtype(dtype):
        raise ValueError(f"{name}: wanted dtype {np.dtype(dtype)}, got {array.dtype}")
    fits = array.ndim == len(shape) and all(w is None or w == n for w, n in zip(shape, array.shape, strict=True))
    if not fits:
        raise ValueError(f"{name}: wanted shape {shape}, got {array.shape}")
    view = array.view()
    view.flags.writeable = False
    return view


class _Value:
    """Base of the frozen values: arrays are checked once, when a value is created."""

    def _freeze(self, name: str, dtype: npt.DTypeLike, *shape: int | None) -> None:
        object.__setattr__(self, name, frozen(getattr(self, name), dtype, shape, f"{type(self).__name__}.{name}"))


@dataclass(frozen=True, eq=False)
class Camera(_Value):
    """A pinhole camera without distortion.

    Attributes:
        K: (3, 3) intrinsics, pixels; the centre of the top-left pixel is (0, 0).
        width_px: Image width.
        height_px: Image height.
        T_base_camera: (4, 4) pose of the optical frame in the base frame.
        frame_id: Name of the optical frame.
    """

    K: F64
    width_px: int
    height_px: int
    T_base_camera: F64
    frame_id: str = "camera_color_optical_frame"

    def __post_init__(self) -> None:
        self._freeze("K", np.float64, 3, 3)
        self._freeze("T_base_camera", np.float64, 4, 4)


@dataclass(frozen=True, eq=False)
class RgbdFrame(_Value):
    """One colour image with depth aligned to it.

    Attributes:
        rgb: (H, W, 3) uint8.
        depth_m: (H, W) float32, metres along the optical axis; NaN where unknown.
        camera: Intrinsics and pose at the image's stamp.
        stamp_ns: Time of exposure.
    """

    rgb: U8
    depth_m: F32
    camera: Camera
    stamp_ns: int

    def __post_init__(self) -> None:
        h, w = self.camera.height_px, self.camera.width_px
        self._freeze("rgb", np.uint8, h, w, 3)
        self._freeze("depth_m", np.float32, h, w)

    def digest(self) -> str:
        """BLAKE2b of the bytes of colour and depth (32 hexadecimal digits): compares frames without their pixels."""
        h = blake2b(np.ascontiguousarray(self.rgb).data, digest_size=16)
        h.update(np.ascontiguousarray(self.depth_m).data)
        return h.hexdigest()


@dataclass(frozen=True, eq=False)
class RobotState(_Value):
    """State of the arm and the gripper.

    Attributes:
        q_rad: (7,) joint positions.
        dq_rad_s: (7,) joint velocities; NaN where they are not measured.
        T_base_tcp: (4, 4) tool centre point between the fingertips, z out of the hand, y along the finger opening.
        gripper_m: Distance between the fingers.
        stamp_ns: When the joints were measured.
        gripper_stamp_ns: When the fingers were measured; 0: together with the joints.
    """

    q_rad: F64
    dq_rad_s: F64
    T_base_tcp: F64
    gripper_m: float
    stamp_ns: int
    gripper_stamp_ns: int = 0

    def __post_init__(self) -> None:
        self._freeze("q_rad", np.float64, 7)
        self._freeze("dq_rad_s", np.float64, 7)
        self._freeze("T_base_tcp", np.float64, 4, 4)

    def moved_since(self, left: RobotState) -> bool:
        """Whether a joint differs by more than 0.02 rad, or the fingers by more than 3 mm: a robot at rest moves less."""
        joints = np.abs(self.q_rad - left.q_rad).max() > 0.02
        return bool(joints or abs(self.gripper_m - left.gripper_m) > 0.003)


@dataclass(frozen=True, eq=False)
class Keypose(_Value):
    """The next goal of the tool. The arm first moves with the old gripper state, then the gripper acts.

    Attributes:
        T_base_tcp: (4, 4) tool pose.
        gripper_open: Gripper state after the move.
        may_collide: Whether the tool may touch something at the target (grasp, press, place).
        stamp_ns: When it was predicted; after execution, when the motion ended.
    """

    T_base_tcp: F64
    gripper_open: bool
    may_collide: bool = False
    stamp_ns: int = 0

    def __post_init__(self) -> None:
        self._freeze("T_base_tcp", np.float64, 4, 4)


@dataclass(frozen=True, eq=False)
class PlanRequest:
    """Input of a planner.

    Attributes:
        instruction: The operator's words.
        frame: The image to draw on.
        robot: Arm state at about the image's stamp.
        history: All keyposes executed in this task so far, oldest first.
        feedback: Why the last path failed, in one sentence; empty if nothing was wrong with it.
        cancel: Set when the plan is no longer wanted; a slow planner ends soon after.
        holding: What the gripper holds, e.g. "the cyan block"; "something" or empty if unknown.
    """

    instruction: str
    frame: RgbdFrame
    robot: RobotState
    history: tuple[Keypose, ...] = ()
    feedback: str = ""
    cancel: CancelToken = field(default_factory=CancelToken)
    holding: str = ""


@dataclass(frozen=True, eq=False)
class TracePlan(_Value):
    """A path drawn on the image (paper 3.3.1).

    Attributes:
        instruction: The operator's words.
        sub_instruction: What this path does, e.g. "pick up the red block and put it in the plate".
        uv: (8, 2) float64, u right and v down in 0..1000 of the image's width and height.
        start_depth_m: Sensor depth at the first waypoint; NaN if the planner leaves it to the lifter.
        depth_offset_m: (8,) float64, end-effector depth minus start depth at each waypoint.
        step_index: Step of a long task, from 0.
        finished: Whether the planner sees the task done; the path then has no meaning.
        planner: Name of the backend.
        raw_reply: The model's text, for the log.
        image_stamp_ns: Stamp of the image that the path was drawn on.
        plan_id: Unique id.
        step_total: Number of steps of the whole task; None if the planner does not say.
    """

    instruction: str
    sub_instruction: str
    uv: F64
    start_depth_m: float
    depth_offset_m: F64
    step_index: int
    finished: bool
    planner: str
    raw_reply: str
    image_stamp_ns: int
    plan_id: str
    step_total: int | None = None

    def __post_init__(self) -> None:
        self._freeze("uv", np.float64, WAYPOINTS, 2)
        self._freeze("depth_offset_m", np.float64, WAYPOINTS)

    @property
    def words(self) -> str:
        """The task in words, for a policy: of several steps, the one that the path is for. A policy that has learned single
        steps does something else when it is told of all."""
        several = self.step_index > 0 or (self.step_total or 1) > 1
        return self.sub_instruction if several and self.sub_instruction.strip() else self.instruction


class DepthSource(IntEnum):
    """Source of a lifted point's depth (constants of ``stvla_msgs/msg/Trace3d``)."""

    INVALID = 0
    SENSOR = 1
    MODEL = 2
    INTERPOLATED = 3


@dataclass(frozen=True, eq=False)
class Trace3d(_Value):
    """The lifted path (paper 3.3.2).

    Attributes:
        xyz_m: (T, 3) float32 in the base frame, from start to goal.
        source: (T,) uint8 of :class:`DepthSource` per point; ``INVALID`` points must not be used.
        plan_id: The plan that it was lifted from.
        sub_instruction: Copied from the plan; says whether to pick, place or press.
        notes: Repairs of the path, one sentence each.
    """

    xyz_m: F32
    source: U8
    plan_id: str
    sub_instruction: str
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        self._freeze("xyz_m", np.float32, None, 3)
        self._freeze("source", np.uint8, len(self.xyz_m))


@dataclass(frozen=True, eq=False)
class Segments(_Value):
    """Instances of one frame.

    Attributes:
        labels: (H, W) int32; 0: background (table, walls), -1: the robot and what it holds, above 0: an instance id.
        ids: The instance ids present, ascending.
        notes: What the segmenter cannot know, one sentence each.
    """

    labels: I32
    ids: tuple[int, ...]
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        self._freeze("labels", np.int32, None, None)


@dataclass(frozen=True, eq=False)
class Instance(_Value):
    """One object in the scene, measured from its visible points.

    Attributes:
        id: Stays the same from frame to frame.
        centre_m: (3,) centre of its bounding box in the base frame.
        size_m: (3,) edges of its bounding box along the base frame's axes.
    """

    id: int
    centre_m: F64
    size_m: F64

    def __post_init__(self) -> None:
        self._freeze("centre_m", np.float64, 3)
        self._freeze("size_m", np.float64, 3)


@dataclass(frozen=True, eq=False)
class Guidance:
    """The guided frame that the policy sees (paper 3.3.2, 3.4.1).

    Attributes:
        trace: The lifted path.
        tube_radius_m: Radius r of the union of balls around the path.
        kept_ids: Instances that the tube touches (or the endpoint rule adds).
        removed_ids: Instances removed from the image.
        frame: RGB-D with the removed instances filled; carries the path in mode "full".
        mode: What was done to the frame, one of :data:`GUIDANCE_MODES`.
        instances: Positions of the kept and removed instances, for people; those without valid depth are missing.
        progress_m: Length of the path that the tool has covered.
        notes: What the operator should know about this frame, one sentence each.
        removed_px: (H, W) bool, pixels replaced in colour, depth or both, shadows included, feathered edges not; None if
            there are none, and in guidance that was received as a message.
    """

    trace: Trace3d
    tube_radius_m: float
    kept_ids: tuple[int, ...]
    removed_ids: tuple[int, ...]
    frame: RgbdFrame
    mode: str
    instances: tuple[Instance, ...] = ()
    progress_m: float = 0.0
    notes: tuple[str, ...] = ()
    removed_px: Bool | None = None

    def __post_init__(self) -> None:
        if self.mode not in GUIDANCE_MODES:
            raise ValueError(f"Guidance.mode: wanted one of {', '.join(GUIDANCE_MODES)}, got '{self.mode}'")


@dataclass(frozen=True, eq=False)
class Observation:
    """Input of a policy.

    Attributes:
        guidance: The guided frame and its path.
        robot: Arm state at about the frame's stamp.
        history: The last :data:`HISTORY` executed keyposes, oldest first; shorter at the start of a task, and of a step of
            a long task that begins with an empty hand.
        instruction: The task in words, or its step: :attr:`TracePlan.words`.
    """

    guidance: Guidance
    robot: RobotState
    history: tuple[Keypose, ...]
    instruction: str


@dataclass(frozen=True, eq=False)
class Box(_Value):
    """A box fixed to a frame, such as the held object in the tool frame.

    Attributes:
        T_frame_box: (4, 4) pose of the box's centre.
        size_m: (3,) full edge lengths.
    """

    T_frame_box: F64
    size_m: F64

    def __post_init__(self) -> None:
        self._freeze("T_frame_box", np.float64, 4, 4)
        self._freeze("size_m", np.float64, 3)


@dataclass(frozen=True, eq=False)
class CollisionWorld(_Value):
    """Obstacles of the arm, as seen by the depth camera.

    Attributes:
        voxels_m: (N, 3) float32 centres of occupied cubes in the base frame.
        voxel_size_m: Edge length of a cube.
        held: Box in the tool frame that moves with the hand, if any.
    """

    voxels_m: F32
    voxel_size_m: float
    held: Box | None = None

    def __post_init__(self) -> None:
        self._freeze("voxels_m", np.float32, None, 3)


@dataclass(frozen=True, eq=False)
class MotionRequest(_Value):
    """One motion to plan.

    Attributes:
        start_q_rad: (7,) current joints.
        T_base_tcp: (4, 4) goal of the tool.
        world: Obstacles.
        straight: Whether the tool must move on a straight line (approach, retreat, press).
        gripper_m: Distance between the fingers during the motion.
        cancel: Set when the motion is no longer wanted; a planner that waits for another process ends soon after.
        then_straight_to: (4, 4) end of a straight motion that follows: the goal posture should be one from which the
            joints' ranges allow it. None: none is known.
    """

    start_q_rad: F64
    T_base_tcp: F64
    world: CollisionWorld
    straight: bool = False
    gripper_m: float = 0.08
    cancel: CancelToken = field(default_factory=CancelToken)
    then_straight_to: F64 | None = None

    def __post_init__(self) -> None:
        self._freeze("start_q_rad", np.float64, 7)
        self._freeze("T_base_tcp", np.float64, 4, 4)
        if self.then_straight_to is not None:
            self._freeze("then_straight_to", np.float64, 4, 4)


@dataclass(frozen=True, eq=False)
class JointPath(_Value):
    """A timed joint path, dense enough for linear interpolation between samples.

    Attributes:
        q_rad: (N, 7) positions.
        dq_rad_s: (N, 7) velocities.
        t_s: (N,) times from 0, strictly increasing.
    """

    q_rad: F64
    dq_rad_s: F64
    t_s: F64

    def __post_init__(self) -> None:
        self._freeze("t_s", np.float64, None)
        self._freeze("q_rad", np.float64, len(self.t_s), 7)
        self._freeze("dq_rad_s", np.float64, len(self.t_s), 7)
        if len(self.t_s) == 0 or np.any(np.diff(self.t_s) <= 0):
            raise ValueError("JointPath.t_s: wanted at least one sample and strictly increasing times")


@dataclass(frozen=True, eq=False)
class TrajectoryTolerances(_Value):
    """How far the arm may be from a joint path; ``inf`` means no limit.

    Attributes:
        path_rad: (7,) on the way.
        goal_rad: (7,) at the end.
        goal_time_s: How late the arm may come to rest at the end.
    """

    path_rad: F64
    goal_rad: F64
    goal_time_s: float

    def __post_init__(self) -> None:
        self._freeze("path_rad", np.float64, 7)
        self._freeze("goal_rad", np.float64, 7)


@dataclass(frozen=True)
class Outcome:
    """How something ended, for the operator.

    Attributes:
        code: Typed reason.
        sentence: One sentence.
        times_s: Seconds spent per phase (plan, predict, motion_plan, motion, gripper, ...).
    """

    code: OutcomeCode
    sentence: str
    times_s: dict[str, float] = field(default_factory=dict)

    @classmethod
    def of(cls, error: StageError) -> Outcome:
        """A failure as an outcome."""
        return cls(error.code, error.sentence)

    @property
    def ok(self) -> bool:
        return self.code is OutcomeCode.OK
