"""Keyframe discovery (PerAct): the keyposes of a demonstration, which a policy learns to predict."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from stvla_ros.config import ConfigError
from stvla_ros.data.recording import Recording
from stvla_ros.description.panda import MAX_WIDTH_M
from stvla_ros.types import F64, Bool, Keypose, RobotState

STILL_RAD_S = 0.1
"""A joint slower than this is at rest (PerAct)."""

PAUSE_FRAMES = 4
"""After a stop, this many frames cannot be another stop (PerAct)."""

OPEN_M = 0.9 * MAX_WIDTH_M
"""A gripper counts as open above 90 % of its width (RLBench)."""

DIP_M = 0.02
"""A tool that went down by this much and up again touched something at the bottom."""


def keyframe_indices(gripper_open: npt.ArrayLike, dq_rad_s: npt.ArrayLike) -> list[int]:
    """Indices of keyframes by PerAct's heuristic (arXiv 2209.05451, appendix): the gripper changed, the arm stopped, or
    the demonstration ended.

    The arm stopped if all joints are at rest, the gripper does not change from two frames before to one after, this is
    not the last frame but one, and the previous stop was more than :data:`PAUSE_FRAMES` frames ago. If the last two
    keyframes are neighbours, the first of them is dropped.

    Args:
        gripper_open: (N,) flags.
        dq_rad_s: (N, J) joint velocities; NaN is not at rest.

    Returns:
        Ascending; never frame 0; empty for fewer than two frames.

    Raises:
        ValueError: Other shapes.
    """
    flags: Bool = np.asarray(gripper_open, dtype=bool)
    speeds: F64 = np.abs(np.asarray(dq_rad_s, dtype=np.float64))
    if flags.ndim != 1 or speeds.ndim != 2 or len(speeds) != len(flags):
        raise ValueError(f"keyposes: wanted (N,) flags and (N, J) velocities, got {flags.shape} and {speeds.shape}")
    still: Bool = np.max(speeds, axis=1, initial=0.0) <= STILL_RAD_S
    last, pause, found = len(flags) - 1, 0, []
    for i in range(len(flags)):
        stopped = pause <= 0 and i < last - 1 and bool(still[i]) and _same(flags, i)
        pause = PAUSE_FRAMES if stopped else pause - 1
        if i > 0 and (stopped or i == last or flags[i] != flags[i - 1]):
            found.append(i)
    if len(found) > 1 and found[-1] - found[-2] == 1:
        del found[-2]
    return found


def _same(flags: Bool, i: int) -> bool:
    """Whether the gripper stays the same around frame ``i``; before the first frame it counts as in the first."""
    around = flags[[max(i - 2, 0), max(i - 1, 0), i + 1]]
    return bool((around == flags[i]).all())


@dataclass(frozen=True, eq=False)
class Keyframe:
    """One step of a demonstration.

    Attributes:
        frame: Index of the frame to predict from: the previous keyframe, or the first frame.
        keypose: The next keypose. A demonstration does not say where it touched something, so ``may_collide`` is set
            where the tool went down before and up after, or down and the gripper acted at the end.
        done_ns: When the demonstration reached it.
    """

    frame: int
    keypose: Keypose
    done_ns: int


def discover_keyframes(recording: Recording, open_m: float = OPEN_M) -> list[Keyframe]:
    """Find the keyframes of a densely recorded demonstration.

    Args:
        recording: Frames, each with the arm's state.
        open_m: Finger distance above which the gripper is open.

    Raises:
        ConfigError: A frame lacks the arm's state, there are fewer than two frames, or velocities are missing and
            cannot be computed from the stamps.
    """
    robots = list(_robots(recording))
    flags = np.array([robot.gripper_m > open_m for robot in robots])
    frames = keyframe_indices(flags, _velocities(robots))
    if not frames:
        raise ConfigError("demonstration: wanted at least two frames, found one: record all of the motion.")
    height_m = [robots[i].T_base_tcp[2, 3] for i in [0, *frames]]
    return [_step(robots, flags, [0, *frames], i + 1, height_m) for i in range(len(frames))]


cut = discover_keyframes  # deprecated name, kept for scripts outside of this project


def _robots(recording: Recording) -> Iterator[RobotState]:
    for i in range(len(recording)):
        robot = recording.robot(i)
        if robot is None:
            raise ConfigError(f"demonstration: frame {i} lacks the arm's state: record the joint states too.")
        yield robot


def _velocities(robots: Sequence[RobotState]) -> F64:
    """(N, 7) joint velocities; missing ones are computed from positions and stamps.

    A velocity is missing if it is NaN, or 0 in every frame although the joint moves: some drivers and recorders write 0
    for an unknown velocity.

    Between two frames the mean velocity is known. A frame gets the slower of its two sides, so that an arm that does
    not move from one frame to the next has stopped.

    Raises:
        ConfigError: Velocities are missing and the stamps do not give the time between frames.
    """
    q, dq = np.stack([robot.q_rad for robot in robots]), np.stack([robot.dq_rad_s for robot in robots])
    stamps = np.array([robot.stamp_ns for robot in robots])
    ns, first, at = np.unique(stamps, return_index=True, return_inverse=True)
    ordered = len(ns) > 1 and bool((np.diff(stamps) >= 0).all())
    between = np.diff(q[first], axis=0) / np.diff(ns)[:, None] * 1e9
    moves = (np.abs(between) > STILL_RAD_S).any(axis=0) if ordered else np.ptp(q, axis=0) > 0.0
    missing = np.isnan(dq) | ((dq == 0).all(axis=0) & moves)
    if not missing.any():
        return dq
    if not ordered:
        raise ConfigError(
            "demonstration: joint velocities are not measured and cannot be computed, because the stamps of the arm's "
            "states do not increase: let the robot's driver publish velocities or stamp its states, and record again."
        )
    before, after = np.vstack([between[:1], between]), np.vstack([between, between[-1:]])
    slower = np.abs(before).max(axis=1) <= np.abs(after).max(axis=1)
    return np.where(missing, np.where(slower[:, None], before, after)[at], dq)


def _step(
    robots: Sequence[RobotState], flags: Bool, keyframes: Sequence[int], i: int, height_m: Sequence[float]
) -> Keyframe:
    """The step that ends at frame ``keyframes[i]``; ``height_m`` has the tool's height at all of them."""
    looked, frame = keyframes[i - 1], keyframes[i]
    acted = bool(flags[frame] != flags[frame - 1])
    came_down = _higher(height_m[i::-1]) is True
    goes_up = _higher(height_m[i:])
    touched = came_down and (acted if goes_up is None else goes_up)
    keypose = Keypose(robots[frame].T_base_tcp, bool(flags[frame]), touched, robots[looked].stamp_ns)
    return Keyframe(looked, keypose, robots[frame].stamp_ns)


def _higher(height_m: Sequence[float]) -> bool | None:
    """Whether the first different height is above the first one; None if there is none."""
    return next((bool(h > height_m[0]) for h in height_m if abs(h - height_m[0]) > DIP_M), None)
