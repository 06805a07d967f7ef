"""A press that a policy wants too deep goes as deep as the surface that the camera sees allows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from stvla_ros.errors import CancelToken, OutcomeCode, StageError
from stvla_ros.geometry.se3 import tool_down
from stvla_ros.motion import press
from stvla_ros.motion.executor import ExecutorConfig, PlannedExecutor
from stvla_ros.registry import create
from stvla_ros.robot.sim import SimCamera, SimRobot
from stvla_ros.sim.cell import Cell
from stvla_ros.types import F64, Keypose

YAW = -np.pi / 2


@pytest.fixture(scope="module")
def cell() -> Iterator[Cell]:
    cell = Cell()
    yield cell
    cell.close()


def caps(cell: Cell) -> dict[str, F64]:
    """Middle of each cap's top."""
    truth = cell.truth()
    tops = {name: points[:, 2].max() for name, points in cell.surfaces().items()}
    return {name: np.array([*T[:2, 3], tops[name]]) for name, T in truth.T_base_object.items()}


def pressed(cell: Cell, deeper_m: float, config: ExecutorConfig) -> list[str]:
    """Press the first two buttons, so deep behind the caps' tops; the buttons that were found pressed."""
    cell.reset("push_buttons", 3, 0)
    assert cell.task is not None
    robot, camera = SimRobot(cell), SimCamera(cell)
    executor = PlannedExecutor(robot, create("motion", "roboplan"), config)
    goals = caps(cell)
    for colour in cell.task.order[:2]:  # type: ignore[attr-defined]
        top = goals[f"{colour}_button"]
        for height_m, touch in ((0.1, False), (press.FINGERTIP_M - deeper_m, True), (0.14, False)):
            pose = tool_down(top + np.array([0.0, 0.0, height_m]), YAW)
            executor.execute(Keypose(pose, False, touch), camera.capture(), None, CancelToken())
    return list(cell.task.pressed)  # type: ignore[attr-defined]


@pytest.mark.parametrize("deeper_m", [0.006, 0.009, 0.015, 0.025])
def test_a_press_that_is_too_deep_presses(cell: Cell, deeper_m: float) -> None:
    found = pressed(cell, deeper_m, ExecutorConfig())
    assert cell.task is not None
    assert found == list(cell.task.order[:2])  # type: ignore[attr-defined]


def test_without_the_limit_the_robot_stops_itself(cell: Cell) -> None:
    with pytest.raises(StageError) as error:
        pressed(cell, 0.015, ExecutorConfig(press_m=0.05))
    assert error.value.code is OutcomeCode.REFLEX


def test_a_press_is_backed_off_along_the_tools_axis_to_the_allowed_depth(cell: Cell) -> None:
    cell.reset("push_buttons", 3, 0)
    frame, robot = SimCamera(cell).capture(), cell.state()
    top = next(iter(caps(cell).values()))
    for deeper_m, wanted_m in ((0.003, 0.003), (0.006, 0.006), (0.012, 0.006), (0.03, 0.006)):
        pose = tool_down(top + np.array([0.0, 0.0, press.FINGERTIP_M - deeper_m]), YAW)
        found = press.limited(Keypose(pose, False, True), frame, robot, 0.006).T_base_tcp
        assert top[2] - (found[2, 3] - press.FINGERTIP_M) == pytest.approx(wanted_m, abs=0.001)
        np.testing.assert_array_equal(found[:2, 3], pose[:2, 3])
        np.testing.assert_array_equal(found[:3, :3], pose[:3, :3])


def test_where_no_surface_is_seen_the_keypose_stays(cell: Cell) -> None:
    cell.reset("push_buttons", 3, 0)
    frame, robot = SimCamera(cell).capture(), cell.state()
    top = next(iter(caps(cell).values()))
    keypose = Keypose(tool_down(top - np.array([0.0, 0.0, 0.02]), YAW), False, True)
    blind = replace(frame, depth_m=np.zeros_like(frame.depth_m))
    assert press.limited(keypose, blind, robot, 0.006) is keypose


def test_the_hand_itself_is_no_surface(cell: Cell) -> None:
    """The image shows the hand where it presses."""
    cell.reset("push_buttons", 3, 0)
    executor = PlannedExecutor(SimRobot(cell), create("motion", "roboplan"), ExecutorConfig())
    pose = tool_down(np.array([0.5, 0.0, 0.15]), YAW)
    executor.execute(Keypose(pose, False), SimCamera(cell).capture(), None, CancelToken())
    keypose = Keypose(pose, False, True)
    assert press.limited(keypose, SimCamera(cell).capture(), cell.state(), 0.0) is keypose
