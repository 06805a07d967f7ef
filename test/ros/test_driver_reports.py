"""The status of this stack's own driver as a refusal: the driver's table of sentences, and its own words first."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from stvla_msgs.msg import RobotStatus

from stvla_ros.robot.franka.failures import CODES, sentence
from stvla_ros.robot.franka.messages import Mode
from stvla_ros.ros.backends.driver_reports import StatusReports


def reports(**status: Any) -> StatusReports:
    """After one message."""
    heard: list[Any] = []
    node: Any = SimpleNamespace(create_subscription=lambda kind, topic, callback, profile: heard.append(callback))
    made = StatusReports(node)
    assert made.refusal() is None
    heard[0](RobotStatus(**status))
    return made


def test_modes_are_those_of_the_message() -> None:
    assert {mode.name: mode.value for mode in Mode} == {mode.name: getattr(RobotStatus, mode.name) for mode in Mode}


@pytest.mark.parametrize("mode", [RobotStatus.IDLE, RobotStatus.MOVING])
def test_a_ready_robot_refuses_nothing(mode: int) -> None:
    assert reports(mode=mode).refusal() is None


def test_without_words_of_the_driver_its_table_speaks() -> None:
    refusal = reports(mode=RobotStatus.REFLEX, errors=["joint_reflex"]).refusal()
    assert refusal is not None
    assert refusal.sentence == sentence(Mode.REFLEX, ("joint_reflex",))
    assert refusal.code is CODES[Mode.REFLEX]
    assert reports(mode=RobotStatus.REFLEX).stopped(0.0) is not None


def test_the_drivers_words_come_first() -> None:
    refusal = reports(mode=RobotStatus.LOST, sentence="The cable is cut.").refusal()
    assert refusal is not None
    assert refusal.sentence == "The cable is cut."


def test_a_mode_of_a_later_driver_is_not_ready() -> None:
    found = reports(mode=200)
    assert found.refusal() is not None
    assert found.stopped(0.0) is None
