"""Moves the arm a little, so that the check without a board sees it from several sides."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from stvla_ros.data.recording import RecordedFrame
from stvla_ros.description.kinematics import tcp_pose
from stvla_ros.errors import CancelToken, OutcomeCode, StageError
from stvla_ros.interfaces import MotionPlanner, Robot
from stvla_ros.motion.collision import VoxelConfig
from stvla_ros.motion.scene import PlanningScene
from stvla_ros.types import MotionRequest

SWING_RAD = np.array([0.4, 0.25, 0.4, 0.3, 0.4, 0.4, 0.4])
TRIES_PER_POSTURE = 5


def swing(
    robot: Robot, planner: MotionPlanner | None, look: Callable[[], RecordedFrame], count: int, voxels: VoxelConfig,
    seed: int, cancel: CancelToken,
) -> list[RecordedFrame]:  # fmt: skip
    """Images of the present posture and of others near it; the arm comes back at the end.

    Obstacles are those of the depth image, as in the executor.

    Args:
        robot: Moved by this function alone.
        planner: Plans the motions; None when ``count`` is 1.
        look: Takes an image at rest.
        count: Postures.
        voxels: How obstacles are built.
        seed: Decides the postures.
        cancel: Stops the arm when set.

    Raises:
        StageError: Of the robot; NO_PATH when the arm cannot move to other postures.
    """
    taken, rng = [look()], np.random.default_rng(seed)
    home = robot.state().q_rad
    for _ in range(TRIES_PER_POSTURE * (count - 1)):
        if planner is None or len(taken) >= count:
            break
        if _go(robot, planner, taken[-1], home + rng.uniform(-SWING_RAD, SWING_RAD), voxels, cancel):
            taken.append(look())
    if len(taken) < count:
        raise StageError(OutcomeCode.NO_PATH, "The arm finds no free way to other postures: clear its surroundings.")
    if planner is not None and count > 1:
        _go(robot, planner, taken[-1], home, voxels, cancel)
    return taken


def _go(
    robot: Robot,
    planner: MotionPlanner,
    seen: RecordedFrame,
    q_rad: np.ndarray,
    voxels: VoxelConfig,
    cancel: CancelToken,
) -> bool:
    """Move to the tool pose of a posture; False where no path is found."""
    state = robot.state()
    scene = PlanningScene(voxels)
    scene.observe(seen.frame, state)
    world = scene.world()
    try:
        path = planner.plan(MotionRequest(state.q_rad, tcp_pose(q_rad), world, gripper_m=state.gripper_m))
    except StageError as error:
        if error.code not in (OutcomeCode.NO_IK, OutcomeCode.NO_PATH, OutcomeCode.COLLISION):
            raise
        return False
    robot.follow(path, cancel)
    return True
