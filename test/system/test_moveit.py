"""The motion planner ``moveit`` in a node: its requests and the answers pass through ROS services."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from functools import partial
from threading import Event, Thread
from typing import Any

import numpy as np
import pytest
from motion.scenes import Judge, box, world
from rclpy.node import Node

from stvla_ros.config import ConfigError, param
from stvla_ros.description.panda import HOME_Q_RAD
from stvla_ros.description.robot import RobotConfig
from stvla_ros.errors import CancelToken, OutcomeCode, StageError
from stvla_ros.geometry.se3 import tool_down
from stvla_ros.interfaces import MotionPlanner
from stvla_ros.ros.stage_node import StageNode
from stvla_ros.types import MotionRequest

SERVICES = {
    "get_planning_scene": "GetPlanningScene",
    "apply_planning_scene": "ApplyPlanningScene",
    "check_state_validity": "GetStateValidity",
    "plan_kinematic_path": "GetMotionPlan",
}


@dataclass(frozen=True)
class PlanningConfig:
    """Settings of a node that only plans."""

    motion: str = param("moveit", "motion planner")
    robot: RobotConfig = param(RobotConfig(), "which robot")  # noqa: RUF009


class PlanningNode(StageNode[PlanningConfig]):
    """Makes its motion planner as the executor does."""

    def __init__(self) -> None:
        super().__init__("planning", PlanningConfig, backends={"motion": "motion"})

    def motion_planner(self) -> MotionPlanner:
        return self.parameters.create("motion", self.config.robot.limits)


@pytest.fixture
def cell(ros: Any) -> tuple[MotionPlanner, Any]:
    """A planning node and the fake behind ROS services, as move_group serves them."""
    srv = pytest.importorskip("moveit_msgs.srv", reason="needs moveit_msgs, which has no wheel")
    from ros.fake_move_group import FakeMoveGroup

    fake, node = FakeMoveGroup(), Node("move_group")
    for name, kind in SERVICES.items():
        node.create_service(getattr(srv, kind), name, partial(_answer, fake, name))
    ros.add(node)
    return ros.add(PlanningNode()).motion_planner(), fake


def _answer(fake: Any, name: str, request: Any, response: Any) -> Any:
    return getattr(fake, name)(request, response)


def test_a_path_is_planned_through_services(cell: tuple[MotionPlanner, Any]) -> None:
    planner, fake = cell
    things = [box(0.5, 0.0, 0.18, 0.08, 0.08, 0.36)]
    judge, q = Judge(things), HOME_Q_RAD
    for y in (-0.25, 0.25):
        q = planner.plan(MotionRequest(q, tool_down([0.5, y, 0.15], -np.pi / 2), world(things))).q_rad
        assert judge.path_free(q)
        q = q[-1]
    assert {"stvla_table", "stvla_voxels"} == set(fake.objects)


def test_a_cancel_ends_the_wait_for_a_path(cell: tuple[MotionPlanner, Any]) -> None:
    planner, fake = cell
    asked, released, cancel = Event(), Event(), CancelToken()

    def hang(request: Any, response: Any) -> Any:
        asked.set()
        released.wait(30.0)
        return response

    fake.plan_kinematic_path = hang
    canceler = Thread(target=lambda: asked.wait(30.0) and cancel.cancel())
    canceler.start()
    with pytest.raises(StageError) as error:
        planner.plan(MotionRequest(HOME_Q_RAD, tool_down([0.5, 0.3, 0.3], 0.0), world([]), cancel=cancel))
    released.set()
    canceler.join()
    assert error.value.code is OutcomeCode.CANCELED


def test_without_the_messages_of_moveit_the_node_says_what_to_install(
    ros: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "moveit_msgs", None)
    node = ros.add(PlanningNode())
    with pytest.raises(ConfigError, match="ros-jazzy-moveit"):
        node.motion_planner()
