"""Keyposes of a demonstration: the moments that a policy learns to go to next."""

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
"""A joint slower than this stands still (PerAct)."""

PAUSE_FRAMES = 4
"""Frames after a stop in which no other stop counts (PerAct)."""

OPEN_M = 0.9 * MAX_WIDTH_M
"""A gripper is open above 90 % of its width (RLBench)."""


def keypose_frames(gripper_open: npt.ArrayLike, dq_rad_s: npt.ArrayLike) -> list[int]:
    """Frames that are keyposes, by the rule of PerAct (arXiv 2209.05451, appendix): the gripper changed, the arm
    stopped, or the demonstration ended.

    The arm stopped where all joints stand still, the gripper is the same one frame before, two before and one after,
    it is not the last frame but one, and the last stop was more than :data:`PAUSE_FRAMES` frames ago. If the last two
    keyposes are neighbours, the first of them goes.

    Args:
        gripper_open: (N,) flags.
        dq_rad_s: (N, J) joint velocities; NaN is not still.

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
    """The gripper does not change around frame ``i``; before the first frame it is as in the first."""
    around = flags[[max(i - 2, 0), max(i - 1, 0), i + 1]]
    return bool((around == flags[i]).all())


@dataclass(frozen=True, eq=False)
class Cut:
    """One step of a demonstration.

    Attributes:
        frame: Where the policy would have looked: the keypose before, or the beginning.
        keypose: Where the demonstration was next; ``may_collide`` where the gripper acted there.
        done_ns: When it was there.
    """

    frame: int
    keypose: Keypose
    done_ns: int


def cut(recording: Recording, open_m: float = OPEN_M) -> list[Cut]:
    """The steps of a dense recording of a demonstration.

    Args:
        recording: Every frame with the arm's state.
        open_m: Finger distance above which the gripper is open.

    Raises:
        ConfigError: A frame without the arm's state, or fewer than two frames.
    """
    robots = list(_robots(recording))
    flags = np.array([robot.gripper_m > open_m for robot in robots])
    frames = keypose_frames(flags, np.stack([robot.dq_rad_s for robot in robots]))
    if not frames:
        raise ConfigError("demonstration: wanted at least two frames, found one: record all of the motion.")
    return [_step(robots, flags, before, frame) for before, frame in zip([0, *frames], frames, strict=False)]


def _robots(recording: Recording) -> Iterator[RobotState]:
    for i in range(len(recording)):
        robot = recording.robot(i)
        if robot is None:
            raise ConfigError(f"demonstration: frame {i} is without the arm's state: record the joint states too.")
        yield robot


def _step(robots: Sequence[RobotState], flags: Bool, before: int, frame: int) -> Cut:
    robot, acted = robots[frame], bool(flags[frame] != flags[frame - 1])
    pose: F64 = robot.T_base_tcp
    return Cut(before, Keypose(pose, bool(flags[frame]), acted, robots[before].stamp_ns), robot.stamp_ns)
