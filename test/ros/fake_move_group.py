"""A move_group without MoveIt: it keeps a planning scene as messages describe it, and judges it with MuJoCo.

It knows MoveIt's rules that matter to a client (source: moveit2 2.12.4, planning_scene.cpp and move_group's capabilities):
a diff with any entry of the allowed collision matrix replaces the whole matrix; the removal of an unknown object fails;
an object without shapes fails; a state that is no diff detaches everything; times of a path mean nothing.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import mujoco
import numpy as np
from moveit_msgs.msg import AllowedCollisionEntry, AllowedCollisionMatrix, CollisionObject, MoveItErrorCodes
from moveit_msgs.msg import PlanningSceneComponents as Components
from trajectory_msgs.msg import JointTrajectoryPoint

from stvla_ros.description.panda import ARM_JOINTS, FINGER_JOINTS, LINKS
from stvla_ros.description.urdf import ALLOWED_PAIRS, urdf
from stvla_ros.motion.ompl import MujocoSpace
from stvla_ros.motion.planning import MotionPlannerConfig
from stvla_ros.ros.convert import pose_to_matrix


class FakeMoveGroup:
    """Its four services, as functions of a request and an empty response."""

    group = "panda_arm"

    def __init__(self) -> None:
        self.objects: dict[str, CollisionObject] = {}
        self.allowed = _matrix(ALLOWED_PAIRS)
        self.code = MoveItErrorCodes.SUCCESS
        self.requests: list[Any] = []
        self._space = _Space()

    def get_planning_scene(self, request: Any, response: Any) -> Any:
        if request.components.components & Components.ALLOWED_COLLISION_MATRIX:
            response.scene.allowed_collision_matrix = self.allowed
        if request.components.components & Components.WORLD_OBJECT_NAMES:
            response.scene.world.collision_objects = [CollisionObject(id=name) for name in self.objects]
        return response

    def apply_planning_scene(self, request: Any, response: Any) -> Any:
        scene = request.scene
        assert scene.is_diff, "anything else would replace what others put there"
        assert scene.robot_state.is_diff
        if scene.allowed_collision_matrix.entry_names:
            self.allowed = scene.allowed_collision_matrix
        done = [self._process(each) for each in scene.world.collision_objects]
        response.success = all(done)
        return response

    def check_state_validity(self, request: Any, response: Any) -> Any:
        assert request.group_name == self.group
        response.valid = self._posed(request.robot_state).is_free(_arm(request.robot_state.joint_state))
        return response

    def plan_kinematic_path(self, request: Any, response: Any) -> Any:
        plan, answer = request.motion_plan_request, response.motion_plan_response
        self.requests.append(plan)
        answer.error_code.val = self.code
        if plan.group_name != self.group:
            answer.error_code.val = MoveItErrorCodes.INVALID_GROUP_NAME
        if answer.error_code.val != MoveItErrorCodes.SUCCESS:
            return response
        goal = {each.joint_name: each.position for each in plan.goal_constraints[0].joint_constraints}
        start, end = _arm(plan.start_state.joint_state), np.array([goal[name] for name in ARM_JOINTS])
        path = self._posed(plan.start_state).search(start, end, plan.allowed_planning_time)
        if path is None:
            answer.error_code.val = MoveItErrorCodes.FAILURE
            return response
        order = list(reversed(range(7)))  # nothing says that joints come in our order
        answer.trajectory.joint_trajectory.joint_names = [ARM_JOINTS[i] for i in order]
        answer.trajectory.joint_trajectory.points = [
            JointTrajectoryPoint(positions=q[order].tolist()) for q in _interpolated(path)
        ]
        return response

    def _process(self, item: CollisionObject) -> bool:
        if item.operation == CollisionObject.REMOVE:
            return self.objects.pop(item.id, None) is not None
        if not item.primitives or item.header.frame_id not in LINKS:
            return False
        self.objects[item.id] = item
        return True

    def _posed(self, state: Any) -> _Space:
        """The space with the scene and with what this state holds."""
        assert not state.is_diff, "a diff makes move_group wait for joint states"
        assert set(state.joint_state.name) == {*ARM_JOINTS, *FINGER_JOINTS}
        fingers = state.joint_state.position[state.joint_state.name.index(FINGER_JOINTS[0])]
        self._space.load(list(self.objects.values()), state.attached_collision_objects, self.allowed, fingers)
        return self._space


class _Space(MujocoSpace):
    """Checks and searches in a model made of messages."""

    def __init__(self) -> None:
        super().__init__(MotionPlannerConfig())
        self._loaded: Any = None

    def load(self, objects: list[Any], attached: list[Any], allowed: Any, finger_m: float) -> None:
        key = ([id(each) for each in objects], [repr(each) for each in attached], id(allowed), finger_m)
        if key == self._loaded:
            return
        self._loaded = key
        spec = mujoco.MjSpec.from_string(urdf())
        pairs = _pairs(allowed)
        for each in objects:
            body = spec.worldbody.add_body(name=each.id)
            _add_boxes(body, each)
        for each in attached:
            assert each.object.header.frame_id == each.link_name
            body = spec.body(each.link_name).add_body(name=each.object.id)
            _add_boxes(body, each.object)
            pairs |= {(each.object.id, link) for link in each.touch_links}
        known = {*LINKS, *(each.id for each in objects), *(each.object.id for each in attached)}
        for a, b in pairs:
            if a in known and b in known:
                spec.add_exclude(bodyname1=a, bodyname2=b)
        self._model = spec.compile()
        self._data = mujoco.MjData(self._model)
        self._data.qpos[7:9] = finger_m


def _add_boxes(body: Any, item: CollisionObject) -> None:
    quat = np.zeros(4)
    for shape, pose in zip(item.primitives, item.primitive_poses, strict=True):
        T = pose_to_matrix(item.pose) @ pose_to_matrix(pose)
        mujoco.mju_mat2Quat(quat, T[:3, :3].ravel())
        size = np.array(shape.dimensions) / 2
        body.add_geom(type=mujoco.mjtGeom.mjGEOM_BOX, pos=T[:3, 3], size=size, quat=quat, margin=0.0002)


def _matrix(pairs: Any) -> AllowedCollisionMatrix:
    names, given = sorted(LINKS), {frozenset(pair) for pair in pairs}
    rows = [AllowedCollisionEntry(enabled=[frozenset((a, b)) in given for b in names]) for a in names]
    return AllowedCollisionMatrix(entry_names=names, entry_values=rows)


def _pairs(matrix: AllowedCollisionMatrix) -> set[tuple[str, str]]:
    names = matrix.entry_names
    rows = zip(names, matrix.entry_values, strict=True)
    return {(a, b) for a, row in rows for b, on in zip(names, row.enabled, strict=True) if on and a < b}


def _arm(state: Any) -> np.ndarray:
    return np.array([state.position[state.name.index(name)] for name in ARM_JOINTS])


def _interpolated(path: np.ndarray) -> np.ndarray:
    """Points on the straight pieces, as MoveIt's OMPL plugin puts them there."""
    pieces = [a + s * (b - a) for a, b in pairwise(path) for s in np.linspace(0, 1, 9)[:-1]]
    return np.array([*pieces, path[-1]])
