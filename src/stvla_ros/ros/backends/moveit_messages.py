"""What the backend ``moveit`` asks of a move_group, as messages of ``moveit_msgs``, and what the answers mean.

Nothing of ours stays in the robot state of MoveIt's scene: the held object travels with every request. The obstacles
are two collision objects, which each request replaces.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import product

import numpy as np
from moveit_msgs.msg import (
    AllowedCollisionEntry,
    AllowedCollisionMatrix,
    AttachedCollisionObject,
    CollisionObject,
    Constraints,
    JointConstraint,
    MotionPlanResponse,
    MoveItErrorCodes,
    PlanningScene,
    RobotState,
)
from moveit_msgs.srv import ApplyPlanningScene, GetMotionPlan, GetPlanningScene, GetStateValidity
from sensor_msgs.msg import JointState
from shape_msgs.msg import SolidPrimitive
from trajectory_msgs.msg import JointTrajectory

from stvla_ros.description.kinematics import link_poses
from stvla_ros.description.panda import HAND_LINK, TCP_LINK
from stvla_ros.description.robot import RobotConfig
from stvla_ros.errors import OutcomeCode, StageError
from stvla_ros.geometry.se3 import inverse
from stvla_ros.motion.ompl import merge_voxels
from stvla_ros.ros.convert import matrix_to_pose
from stvla_ros.types import F64, Box, CollisionWorld

TABLE, VOXELS, HELD = "stvla_table", "stvla_voxels", "stvla_held"
"""Names of our objects in MoveIt's scene."""

GOAL_TOLERANCE_RAD = 1e-4
"""How far MoveIt's path may end from the posture that our inverse kinematics chose."""

_PLATE_M = np.array([4.0, 4.0, 0.1])
_POSES = link_poses(np.zeros(7))
_T_HAND_TCP = inverse(_POSES[HAND_LINK]) @ _POSES[TCP_LINK]


@dataclass(frozen=True)
class ArmNames:
    """Names in the model that move_group has loaded."""

    group: str
    base: str
    hand: str
    touching: tuple[str, ...]
    """Links that the held object touches."""
    standing: tuple[str, ...]
    """Links that may touch the table and what stands on it."""
    arm_joints: tuple[str, ...]
    finger_joints: tuple[str, ...]

    @staticmethod
    def of(robot: RobotConfig, group: str = "") -> ArmNames:
        """Franka's names with the robot's prefix."""
        prefix = robot.prefix
        links = {name: f"{prefix}_{name}" for name in ("link0", "link1", "link7", "hand", "leftfinger", "rightfinger")}
        return ArmNames(
            group or f"{prefix}_arm", links["link0"], links["hand"],
            (links["hand"], links["leftfinger"], links["rightfinger"], links["link7"]),
            (links["link0"], links["link1"]), robot.arm_joints, robot.finger_joints,
        )  # fmt: skip


def robot_state(q_rad: F64, gripper_m: float, held: Box | None, names: ArmNames) -> RobotState:
    """The whole state of the robot: (7,) joints, fingers, and the held box, which may touch the hand."""
    fingers = [gripper_m / 2] * len(names.finger_joints)
    state = RobotState(is_diff=False)  # a difference would make move_group wait for joint states
    state.joint_state = JointState(name=[*names.arm_joints, *names.finger_joints], position=[*q_rad.tolist(), *fingers])
    if held is not None:
        box = _object(HELD, names.hand, [(_T_HAND_TCP @ held.T_frame_box, held.size_m)])
        state.attached_collision_objects = [
            AttachedCollisionObject(link_name=names.hand, object=box, touch_links=list(names.touching))
        ]
    return state


def scene_request(
    world: CollisionWorld, table_z_m: float | None, allowed: AllowedCollisionMatrix, names: ArmNames
) -> ApplyPlanningScene.Request:
    """Replaces our obstacles in MoveIt's scene and leaves those of others alone.

    Args:
        world: Occupied voxels; the held box is not part of it, see :func:`robot_state`.
        table_z_m: Height of the table's top in the base frame; None: no table.
        allowed: MoveIt's present matrix: a scene with any entry replaces the whole matrix.
        names: Names in MoveIt's model.
    """
    plate = None if table_z_m is None else (_translation([0.0, 0.0, table_z_m - 0.05]), _PLATE_M)
    boxes = zip(*merge_voxels(world.voxels_m, world.voxel_size_m), strict=True)
    voxels = [(_translation(centre), size) for centre, size in boxes]
    scene = PlanningScene(is_diff=True)
    scene.robot_state.is_diff = True
    scene.world.collision_objects = [
        *_replaced(TABLE, names.base, [plate] if plate else []),
        *_replaced(VOXELS, names.base, voxels),
    ]
    scene.allowed_collision_matrix = with_pairs(allowed, product((TABLE, VOXELS), names.standing))
    return ApplyPlanningScene.Request(scene=scene)


def scene_question(components: int) -> GetPlanningScene.Request:
    """Asks for parts of MoveIt's scene: constants of ``PlanningSceneComponents``."""
    request = GetPlanningScene.Request()
    request.components.components = components
    return request


def validity_request(state: RobotState, names: ArmNames) -> GetStateValidity.Request:
    """Whether a state is free of collision."""
    return GetStateValidity.Request(robot_state=state, group_name=names.group)


def plan_request(
    start: RobotState, goal_rad: F64, seconds: float, pipeline: str, planner: str, names: ArmNames
) -> GetMotionPlan.Request:
    """A path from a state to a (7,) posture, searched for at most ``seconds``."""
    constraints = [
        JointConstraint(
            joint_name=name, position=q, weight=1.0,
            tolerance_above=GOAL_TOLERANCE_RAD, tolerance_below=GOAL_TOLERANCE_RAD,
        )
        for name, q in zip(names.arm_joints, goal_rad.tolist(), strict=True)
    ]  # fmt: skip
    request = GetMotionPlan.Request()
    plan = request.motion_plan_request
    plan.workspace_parameters.header.frame_id = names.base
    plan.start_state, plan.goal_constraints = start, [Constraints(joint_constraints=constraints)]
    plan.group_name, plan.pipeline_id, plan.planner_id = names.group, pipeline, planner
    plan.num_planning_attempts, plan.allowed_planning_time = 1, float(seconds)
    plan.max_velocity_scaling_factor = plan.max_acceleration_scaling_factor = 1.0  # the timing is ours
    return request


def found_path(response: MotionPlanResponse, start_rad: F64, goal_rad: F64, names: ArmNames) -> F64 | None:
    """(N, 7) waypoints of MoveIt's answer, from exactly the start to exactly the goal; None: no path found.

    Raises:
        StageError: COLLISION for a start that MoveIt does not accept; NO_IK; SERVER_ERROR for a request that it cannot
            handle, and for an answer that is not the path that was asked for.
    """
    code = response.error_code.val
    if code != MoveItErrorCodes.SUCCESS:
        _raise_unless_searched(response.error_code)
        return None
    path = _positions(response.trajectory.joint_trajectory, names)
    ends = np.stack([start_rad, goal_rad])
    if len(path) < 2 or not np.isfinite(path).all() or np.abs(path[[0, -1]] - ends).max() > 10 * GOAL_TOLERANCE_RAD:
        raise StageError(
            OutcomeCode.SERVER_ERROR,
            f"MoveIt's path of {len(path)} points does not lead from the given start to the given goal: its planning "
            "pipeline changes the request. Use the pipelines of launch/move_group.launch.py.",
        )
    path[[0, -1]] = ends
    return path


def said(code: MoveItErrorCodes) -> str:
    """An error code in MoveIt's own words, for the operator."""
    name = _NAMES.get(code.val, f"error {code.val}")
    return f"{name} ({code.message.strip().rstrip('.')})" if code.message.strip() else name


def with_pairs(matrix: AllowedCollisionMatrix, pairs: Iterable[tuple[str, str]]) -> AllowedCollisionMatrix:
    """A copy of a matrix in which these pairs may touch."""
    wanted = {frozenset(pair) for pair in pairs}
    rows = list(zip(matrix.entry_names, matrix.entry_values, strict=True))
    given = {
        frozenset((a, b)): on for a, row in rows for b, on in zip(matrix.entry_names, row.enabled, strict=True) if on
    }
    new = sorted({name for pair in wanted for name in pair} - set(matrix.entry_names))
    names = [*matrix.entry_names, *new]
    entries = [
        AllowedCollisionEntry(enabled=[frozenset((a, b)) in wanted or frozenset((a, b)) in given for b in names])
        for a in names
    ]
    return AllowedCollisionMatrix(
        entry_names=names, entry_values=entries,
        default_entry_names=matrix.default_entry_names, default_entry_values=matrix.default_entry_values,
    )  # fmt: skip


def _raise_unless_searched(code: MoveItErrorCodes) -> None:
    """Raise for every failure but "no path found", after which another goal posture may do."""
    if code.val in _NOT_FOUND:
        return
    if code.val in _BAD_START:
        raise StageError(
            OutcomeCode.COLLISION,
            f"MoveIt refuses to plan from where the arm is: {said(code)}. Move the arm by hand or clear the scene.",
        )
    if code.val == MoveItErrorCodes.NO_IK_SOLUTION:
        raise StageError(OutcomeCode.NO_IK, f"MoveIt found no posture for the goal: {said(code)}.")
    raise StageError(
        OutcomeCode.SERVER_ERROR,
        f"MoveIt could not handle the request: {said(code)}. Its model must have the group and joints of "
        "executor.moveit.group and robot.prefix: see move_group's log.",
    )


def _positions(trajectory: JointTrajectory, names: ArmNames) -> F64:
    missing = [name for name in names.arm_joints if name not in trajectory.joint_names]
    if missing:
        raise StageError(
            OutcomeCode.SERVER_ERROR,
            f"MoveIt's path lacks the joints {', '.join(missing)}: set robot.prefix to that of its model.",
        )
    order = [trajectory.joint_names.index(name) for name in names.arm_joints]
    return np.array([point.positions for point in trajectory.points], dtype=np.float64).reshape(
        -1, len(trajectory.joint_names)
    )[:, order]


def _replaced(name: str, frame: str, boxes: list[tuple[F64, F64]]) -> list[CollisionObject]:
    """An object in place of the one of that name. MoveIt reports the removal of an unknown object as an error, so an
    empty one is added first."""
    if boxes:
        return [_object(name, frame, boxes)]
    nothing = _object(name, frame, [(_translation([0.0, 0.0, -10.0]), np.full(3, 0.001))])
    return [nothing, CollisionObject(id=name, operation=CollisionObject.REMOVE)]


def _object(name: str, frame: str, boxes: list[tuple[F64, F64]]) -> CollisionObject:
    result = CollisionObject(id=name, operation=CollisionObject.ADD)
    result.header.frame_id, result.pose.orientation.w = frame, 1.0
    result.primitives = [SolidPrimitive(type=SolidPrimitive.BOX, dimensions=size.tolist()) for _, size in boxes]
    result.primitive_poses = [matrix_to_pose(T) for T, _ in boxes]
    return result


def _translation(xyz_m: F64 | list[float]) -> F64:
    T = np.eye(4)
    T[:3, 3] = xyz_m
    return T


def _constants() -> Mapping[int, str]:
    every = {name: getattr(MoveItErrorCodes, name) for name in dir(type(MoveItErrorCodes)) if name.isupper()}
    return {value: name for name, value in every.items() if isinstance(value, int)}


_NAMES = _constants()

_NOT_FOUND = frozenset(
    {
        MoveItErrorCodes.FAILURE,  # move_group of Jazzy reports every failure of a pipeline as this one
        MoveItErrorCodes.PLANNING_FAILED,
        MoveItErrorCodes.INVALID_MOTION_PLAN,
        MoveItErrorCodes.MOTION_PLAN_INVALIDATED_BY_ENVIRONMENT_CHANGE,
        MoveItErrorCodes.TIMED_OUT,
        MoveItErrorCodes.GOAL_IN_COLLISION,
        MoveItErrorCodes.GOAL_STATE_INVALID,
        MoveItErrorCodes.GOAL_CONSTRAINTS_VIOLATED,
        MoveItErrorCodes.GOAL_VIOLATES_PATH_CONSTRAINTS,
    }
)

_BAD_START = frozenset(
    {
        MoveItErrorCodes.START_STATE_IN_COLLISION,
        MoveItErrorCodes.START_STATE_INVALID,
        MoveItErrorCodes.START_STATE_VIOLATES_PATH_CONSTRAINTS,
    }
)
