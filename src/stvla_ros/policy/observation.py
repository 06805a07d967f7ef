"""The input of a keypose network, made from an observation: one code path for training and for the robot."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from stvla_ros.errors import OutcomeCode, StageError
from stvla_ros.geometry.cameras import cloud, depth_cloud
from stvla_ros.geometry.depths import without_specks
from stvla_ros.geometry.paths import arc_length, valid_points
from stvla_ros.geometry.se3 import to_quaternion
from stvla_ros.geometry.views import square_view, without_holes
from stvla_ros.tabletop.self_filter import robot_mask
from stvla_ros.types import F32, F64, HISTORY, U8, Guidance, Keypose, Observation, RgbdFrame, RobotState, frozen

MAX_INVALID = 0.6
"""A view in which a larger share of pixels lacks depth is refused."""

PATH_POINTS = 16
"""Points by which a policy knows the path; a path of half a metre then has one every 3 cm."""

OPEN_M = 0.04
"""Before the first keypose, a gripper wider than this counts as open."""


@dataclass(frozen=True, eq=False)
class PolicyInput:
    """One observation of one camera and one hand, as arrays.

    Attributes:
        rgb: (3, S, S) uint8.
        xyz_m: (3, S, S) float32 point of each pixel in the base frame; finite everywhere.
        history: (3, 8) float32, oldest first and the current pose last: xyz in metres, quaternion xyzw, 1 for open.
        instruction: The operator's words.
        path_m: (:data:`PATH_POINTS`, 3) float32, what is left of the path, in the base frame; NaN where none is drawn.
    """

    rgb: U8
    xyz_m: F32
    history: F32
    instruction: str
    path_m: F32

    def __post_init__(self) -> None:
        size = self.rgb.shape[-1]
        object.__setattr__(self, "rgb", frozen(self.rgb, np.uint8, (3, size, size), "PolicyInput.rgb"))
        object.__setattr__(self, "xyz_m", frozen(self.xyz_m, np.float32, (3, size, size), "PolicyInput.xyz_m"))
        object.__setattr__(self, "history", frozen(self.history, np.float32, (HISTORY, 8), "PolicyInput.history"))
        object.__setattr__(self, "path_m", frozen(self.path_m, np.float32, (PATH_POINTS, 3), "PolicyInput.path_m"))


def policy_input(observation: Observation, start: F64 | None, size_px: int) -> PolicyInput:
    """The network's view of an observation.

    Args:
        observation: Guided frame, arm state, executed keyposes, instruction.
        start: (4, 4) tool pose when the task began; None if unknown.
        size_px: Edge of the square image.

    Raises:
        StageError: INVALID_GOAL without an instruction; NO_DEPTH if most of the view lacks depth.
    """
    words = spoken(observation)
    view = _view(observation.guidance.frame, size_px)
    rows = history_rows(observation.history, observation.robot, start)
    path_m = path_points(observation.guidance)
    return PolicyInput(np.ascontiguousarray(view.rgb.transpose(2, 0, 1)), cloud(view), rows, words, path_m)


def seen_points(observation: Observation) -> tuple[F32, F32]:
    """Points of the guided frame above the workspace, base frame: (N, 3) of the scene, and (M, 3) of the robot and what it
    holds."""
    frame = observation.guidance.frame
    points = depth_cloud(frame.camera, without_specks(frame.depth_m))
    mask = robot_mask(points, observation.robot).ravel()
    flat = points.reshape(3, -1)
    x, y, z = flat
    useful = (z > -0.02) & (z < 0.6) & (x > 0.0) & (x < 1.0) & (np.abs(y) < 0.8)
    return flat[:, useful & ~mask].T, flat[:, useful & mask].T


def path_points(guidance: Guidance) -> F32:
    """(:data:`PATH_POINTS`, 3) float32 at equal steps along what is left of the path, base frame.

    NaN unless the path is drawn on the image: what a policy sees of the path is one decision.
    """
    points = valid_points(guidance.trace)
    if guidance.mode != "full" or not len(points):
        return np.full((PATH_POINTS, 3), np.nan, np.float32)
    length = arc_length(points)
    wanted = np.linspace(min(guidance.progress_m, length[-1]), length[-1], PATH_POINTS)
    return np.column_stack([np.interp(wanted, length, axis) for axis in points.T]).astype(np.float32)


def _view(frame: RgbdFrame, size_px: int) -> RgbdFrame:
    """The square view with depth in every pixel: one bad pixel would spoil every token that attends to it."""
    view = square_view(frame, size_px)
    check_depth(view.depth_m)
    return RgbdFrame(view.rgb, without_holes(view.depth_m), view.camera, view.stamp_ns)


def spoken(observation: Observation) -> str:
    """The instruction.

    Raises:
        StageError: INVALID_GOAL if it is empty.
    """
    words = observation.instruction.strip()
    if not words:
        raise StageError(OutcomeCode.INVALID_GOAL, "The instruction is empty: say what the policy should do.")
    return words


def check_depth(depth_m: F32) -> None:
    """Refuse a view (H, W) without depth.

    Raises:
        StageError: NO_DEPTH.
    """
    invalid = 1.0 - np.mean(np.isfinite(depth_m) & (depth_m > 0))
    if invalid > MAX_INVALID:
        raise StageError(
            OutcomeCode.NO_DEPTH,
            f"{100 * invalid:.0f} % of the policy's view lacks depth, at most {100 * MAX_INVALID:.0f} % may: "
            "check the depth camera.",
        )


def check_guidance(guidance: Guidance, trained: str) -> None:
    """Refuse images unlike those of the training.

    Args:
        guidance: The guided frame.
        trained: What was done to the training images: ``full``, ``mask_only`` or ``off``.

    Raises:
        StageError: WRONG_GUIDANCE.
    """
    drawn = guidance.mode == "full"
    if drawn and trained != "full":
        raise StageError(
            OutcomeCode.WRONG_GUIDANCE,
            f"The policy was trained on images without a drawn path (guidance '{trained}'), and this "
            "image has one: set guidance.mode to mask_only, the paper's way to use a frozen policy.",
        )
    if not drawn and trained == "full":
        raise StageError(
            OutcomeCode.WRONG_GUIDANCE,
            "The policy was trained on images with a drawn path, and this one has none: set guidance.mode to full.",
        )


def history_rows(history: tuple[Keypose, ...], robot: RobotState, start: F64 | None) -> F32:
    """The start pose and executed keyposes as RLBench's policies take them; the last row is the current pose.

    The oldest row is repeated if there are fewer than three.

    Args:
        history: Executed keyposes, oldest first.
        robot: Current state.
        start: (4, 4) tool pose when the task began.

    Returns:
        (3, 8) float32: xyz in metres, quaternion xyzw, 1 for open.
    """
    is_open = hand_open(history, robot)
    rows = [pose_row(k.T_base_tcp, k.gripper_open) for k in history[-HISTORY:-1]]
    if history and len(history) < HISTORY and start is not None:
        rows.insert(0, pose_row(start, True))
    rows.append(pose_row(robot.T_base_tcp, is_open))
    rows = [rows[0]] * (HISTORY - len(rows)) + rows
    return np.stack(rows)


def hand_open(history: tuple[Keypose, ...], robot: RobotState) -> bool:
    """Whether the gripper is open, to a policy: as the last keypose left it."""
    return history[-1].gripper_open if history else robot.gripper_m > OPEN_M


def pose_row(T_base_tcp: F64, gripper_open: bool) -> F32:
    """(8,) float32: xyz in metres, quaternion xyzw, 1 for open."""
    return np.array([*T_base_tcp[:3, 3], *to_quaternion(T_base_tcp[:3, :3]), float(gripper_open)], np.float32)
