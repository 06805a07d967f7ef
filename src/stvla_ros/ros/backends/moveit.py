"""Motion planning by a running ``move_group`` of MoveIt 2, through its services. Execution and timing stay ours.

Goal postures come from our inverse kinematics and straight motions from our own line, as with the other planners
(:func:`stvla_ros.motion.planning.plan_motion`): MoveIt says which postures are free, and searches paths between two of
them. Its straight line (Pilz LIN) is not used: it refuses to start in contact, which every retreat after a grasp does.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from threading import Event
from typing import Any

import numpy as np
from rclpy.client import Client
from rclpy.node import Node

from stvla_ros.config import ConfigError, param
from stvla_ros.description.robot import PANDA, ArmLimits, RobotConfig
from stvla_ros.errors import CancelToken, OutcomeCode, StageError
from stvla_ros.motion.planning import MotionPlannerConfig, plan_motion
from stvla_ros.types import F64, Box, CollisionWorld, JointPath, MotionRequest

ATTEMPTS = 2
"""A request without an answer is sent again: the first answer of a service that was just found may be lost."""

FIND_S = 0.05
"""Interval at which a missing service is looked for."""

RANGE_RAD = 0.02
"""A path may leave the joints' range by this much, as a start may (:func:`stvla_ros.motion.planning.check_request`)."""


@dataclass(frozen=True)
class MoveItConfig(MotionPlannerConfig):
    """Settings of the motion planner ``moveit``."""

    namespace: str = param("", "namespace of move_group's services; empty: /")
    group: str = param("", "planning group of the seven joints; empty: PREFIX_arm")
    pipeline: str = param("ompl", "planning pipeline that searches paths; it must check collisions")
    planner_id: str = param("", "planner of the pipeline; empty: its default")
    answer_timeout_s: float = param(
        2.0, "how long move_group may take to answer, besides the search [s]", ge=0.1, le=10.0
    )


class MoveItPlanner:
    """Motion planning by a running MoveIt 2 (`move_group`); needs the executor node.

    Implements :class:`stvla_ros.interfaces.MotionPlanner`. Call it from one thread, not the one that spins the node.
    """

    Config = MoveItConfig
    needs_node = True

    def __init__(self, config: MoveItConfig, arm: ArmLimits = PANDA, node: Any = None) -> None:
        """Create the clients; move_group may start later.

        Args:
            config: Settings.
            arm: Range and limits of the joints.
            node: A node whose settings have the section ``robot``; another thread must spin it.

        Raises:
            ConfigError: There is no node, or MoveIt's messages are not installed.
        """
        if node is None:
            raise ConfigError(
                "motion 'moveit' plans through ROS: it works in the running stack (stvla up --motion moveit) only."
            )
        self._config = config
        self._space = MoveItSpace(node, node.config.robot, config, arm)

    def reconfigure(self, config: MoveItConfig) -> None:
        """Take over the live settings, for the next motion."""
        self._config = config

    def plan(self, request: MotionRequest) -> JointPath:
        """A timed motion, see :func:`stvla_ros.motion.planning.plan_motion`.

        Raises:
            StageError: NO_IK, NO_PATH, COLLISION; NODE_LOST without move_group, SERVER_TIMEOUT when it does not answer,
                SERVER_ERROR when it cannot handle the request; the cancel's reason.
        """
        self._space.begin(request.cancel)
        try:
            path = plan_motion(self._space, request, self._config)
        except StageError as error:
            if error.code is OutcomeCode.NO_PATH and self._space.said:
                raise StageError(error.code, f"{error.sentence} MoveIt said: {self._space.said}.") from error
            raise
        self._space.confirm_obstacles()
        return path


class MoveItSpace:
    """Implements :class:`stvla_ros.motion.planning.ArmSpace` with the services of a move_group."""

    def __init__(self, node: Node, robot: RobotConfig, config: MoveItConfig, arm: ArmLimits) -> None:
        try:
            from moveit_msgs import srv

            from stvla_ros.ros.backends import moveit_messages
        except ModuleNotFoundError as error:
            raise ConfigError(
                f"motion 'moveit' needs the messages of MoveIt 2, but there is no package '{error.name}': "
                "install ros-jazzy-moveit and source the workspace that has it."
            ) from error
        self.arm, self._config, self._messages = arm, config, moveit_messages
        self._names = moveit_messages.ArmNames.of(robot, config.group)
        self._calls = _Services(node, config)
        self._look = self._calls.add(srv.GetPlanningScene, "get_planning_scene")
        self._apply = self._calls.add(srv.ApplyPlanningScene, "apply_planning_scene")
        self._judge = self._calls.add(srv.GetStateValidity, "check_state_validity")
        self._search = self._calls.add(srv.GetMotionPlan, "plan_kinematic_path")
        self._held: Box | None = None
        self._gripper_m, self._obstacles = 0.0, frozenset[str]()
        self.said = ""
        """MoveIt's words for its last failed search of this motion."""

    def begin(self, cancel: CancelToken) -> None:
        """Start a motion that ``cancel`` may abandon."""
        self._calls.cancel, self.said = cancel, ""

    def set_world(self, world: CollisionWorld, gripper_m: float) -> None:
        """Replace our obstacles in MoveIt's scene: always, because move_group may have been restarted."""
        self._held, self._gripper_m = world.held, gripper_m
        components = self._components()
        scene = self._calls.ask(self._look, self._messages.scene_question(components.ALLOWED_COLLISION_MATRIX)).scene
        table = self._config.table_z_m if self._config.table else None
        self._obstacles = frozenset(
            ([self._messages.TABLE] if self._config.table else [])
            + ([self._messages.VOXELS] if len(world.voxels_m) else [])
        )
        request = self._messages.scene_request(world, table, scene.allowed_collision_matrix, self._names)
        if not self._calls.ask(self._apply, request).success:
            raise StageError(
                OutcomeCode.SERVER_ERROR,
                f"MoveIt did not accept the obstacles: its model must have the link '{self._names.base}' (see "
                "robot.prefix and move_group's log).",
            )

    def confirm_obstacles(self) -> None:
        """Check that the obstacles were there until the end: a restarted move_group has none.

        Raises:
            StageError: SERVER_ERROR when they are gone.
        """
        question = self._messages.scene_question(self._components().WORLD_OBJECT_NAMES)
        objects = self._calls.ask(self._look, question).scene.world.collision_objects
        if not self._obstacles <= {each.id for each in objects}:
            raise StageError(
                OutcomeCode.SERVER_ERROR,
                "MoveIt lost the obstacles while it planned (was move_group restarted?): the path is discarded. Try again.",
            )

    def is_free(self, q_rad: F64) -> bool:
        request = self._messages.validity_request(self._state(q_rad), self._names)
        return bool(self._calls.ask(self._judge, request).valid)

    def connects(self, start_rad: F64, goal_rad: F64) -> bool:
        """False: MoveIt's own planners try the straight way, and asking for each of its postures costs a request each."""
        return False

    def search(self, start_rad: F64, goal_rad: F64, seconds: float) -> F64 | None:
        """MoveIt's path without the points on its straight pieces; its times are not used."""
        c, m = self._config, self._messages
        request = m.plan_request(self._state(start_rad), goal_rad, seconds, c.pipeline, c.planner_id, self._names)
        response = self._calls.ask(self._search, request, seconds).motion_plan_response
        path = m.found_path(response, start_rad, goal_rad, self._names)
        if path is None:
            self.said = m.said(response.error_code)
            return None
        self._check_range(path)
        return corners(path)

    def _check_range(self, path_rad: F64) -> None:
        low, high = self.arm.q_min_rad - RANGE_RAD, self.arm.q_max_rad + RANGE_RAD
        if (path_rad < low).any() or (path_rad > high).any():
            joint = int(np.argmax(np.maximum(low - path_rad, path_rad - high).max(axis=0)))
            raise StageError(
                OutcomeCode.SERVER_ERROR,
                f"MoveIt's path leaves the range of joint {joint + 1}: its model has other limits than robot.model. "
                "Start move_group by launch/move_group.launch.py.",
            )

    def _state(self, q_rad: F64) -> Any:
        return self._messages.robot_state(q_rad, self._gripper_m, self._held, self._names)

    @staticmethod
    def _components() -> Any:
        from moveit_msgs.msg import PlanningSceneComponents

        return PlanningSceneComponents


class _Services:
    """Calls of services that have time limits and can be canceled."""

    def __init__(self, node: Node, config: MoveItConfig) -> None:
        self._node, self._config = node, config
        self.cancel = CancelToken()

    def add(self, kind: Any, name: str) -> Client:
        return self._node.create_client(kind, f"{self._config.namespace.rstrip('/')}/{name}")

    def ask(self, client: Client, request: Any, working_s: float = 0.0) -> Any:
        """The answer to a request.

        Args:
            client: One of those made by :meth:`add`.
            request: Its request.
            working_s: How long the server may work on it.

        Raises:
            StageError: NODE_LOST, SERVER_TIMEOUT, the cancel's reason.
        """
        self._find(client)
        limit_s = working_s + self._config.answer_timeout_s
        for _ in range(ATTEMPTS):
            answered = Event()
            future = client.call_async(request)
            future.add_done_callback(lambda _, done=answered: done.set())
            forget = self.cancel.on_cancel(answered.set)
            try:
                answered.wait(limit_s)
            finally:
                forget()
                client.remove_pending_request(future)
            self.cancel.raise_if_set()
            if future.done():
                return future.result()
        raise StageError(
            OutcomeCode.SERVER_TIMEOUT,
            f"MoveIt did not answer on {client.srv_name} within {ATTEMPTS} times {limit_s:g} s: see move_group's log.",
        )

    def _find(self, client: Client) -> None:
        deadline = time.monotonic() + self._config.answer_timeout_s
        while not client.service_is_ready():
            self.cancel.raise_if_set()
            if time.monotonic() > deadline:
                raise StageError(
                    OutcomeCode.NODE_LOST,
                    f"There is no MoveIt: nobody serves {client.srv_name}. Start move_group (launch/move_group.launch.py), "
                    "or set executor.moveit.namespace.",
                )
            self.cancel.wait(FIND_S)


def corners(path_rad: F64, tolerance_rad: float = 1e-4) -> F64:
    """The (M, 7) waypoints of an (N, 7) path without those on the straight pieces between the others.

    MoveIt puts many points on each piece of its path, and our timing stops at every waypoint.
    """
    kept = [0]
    for i in range(1, len(path_rad) - 1):
        if _off_piece(path_rad[kept[-1] + 1 : i + 1], path_rad[kept[-1]], path_rad[i + 1]) > tolerance_rad:
            kept.append(i)
    return path_rad[[*kept, len(path_rad) - 1]]


def _off_piece(points: F64, a: F64, b: F64) -> float:
    """Largest distance of (N, 7) points from the straight piece between two others."""
    way = b - a
    along = np.clip((points - a) @ way / max(float(way @ way), 1e-18), 0.0, 1.0)
    return float(np.linalg.norm(points - a - along[:, None] * way, axis=1).max())
