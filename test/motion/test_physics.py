"""The whole sequence of a pick and place in the simulated cell: world from its camera, contact physics, both planners.

The keyposes come from the simulator's truth, so that only motion and executor are on trial.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from stvla_ros.errors import CancelToken, OutcomeCode, StageError
from stvla_ros.geometry.se3 import finger_yaw, tool_down, wrap
from stvla_ros.motion.executor import ExecutorConfig, PlannedExecutor
from stvla_ros.registry import create, names
from stvla_ros.robot.sim import SimCamera, SimRobot
from stvla_ros.sim.cell import Cell
from stvla_ros.types import F64, JointPath, Keypose, RgbdFrame


@pytest.fixture(scope="module")
def cell() -> Iterator[Cell]:
    cell = Cell()
    yield cell
    cell.close()


class TrackedRobot(SimRobot):
    """Notes where the arm ends against where its paths end."""

    def __init__(self, cell: Cell) -> None:
        super().__init__(cell)
        self.worst_rad = 0.0

    def follow(self, path: JointPath, cancel: CancelToken) -> None:
        super().follow(path, cancel)
        self.worst_rad = max(self.worst_rad, float(np.abs(self.state().q_rad - path.q_rad[-1]).max()))


def block_yaw(T: F64) -> float:
    """Direction across the block nearest to that of the hand at home."""
    return -np.pi / 2 + wrap(finger_yaw(T) + np.pi / 2, np.pi / 2)


def keyposes(block: F64, plate: F64) -> list[Keypose]:
    p, g, yaw = block[:3, 3], plate[:3, 3], block_yaw(block)

    def above(place: F64, height_m: float) -> F64:
        return tool_down(place + np.array([0.0, 0.0, height_m]), yaw)

    return [
        Keypose(above(p, 0.12), True),
        Keypose(tool_down(p, yaw), False, True),
        Keypose(above(p, 0.15), False),
        Keypose(above(g, 0.17), False),
        Keypose(above(g, 0.03), True, True),
        Keypose(above(g, 0.15), True),
    ]


@pytest.mark.parametrize(
    ("backend", "seed"), [(name, seed) for name in names("motion") if name != "moveit" for seed in (0, 1)]
)
def test_block_is_put_in_the_plate(cell: Cell, backend: str, seed: int) -> None:
    cell.reset("pick_place", seed)
    robot, camera = TrackedRobot(cell), SimCamera(cell)
    executor = PlannedExecutor(robot, create("motion", backend), ExecutorConfig())
    truth = cell.truth()
    for keypose in keyposes(truth.T_base_object[truth.names[0]], truth.T_base_object["plate"]):
        assert executor.execute(keypose, camera.capture(), None, CancelToken()).ok
    assert cell.score().success
    assert robot.worst_rad < 0.01


def test_grasping_beside_the_block_is_grasp_failed(cell: Cell) -> None:
    cell.reset("pick_place", 2, 0)
    executor = PlannedExecutor(SimRobot(cell), create("motion", "roboplan"), ExecutorConfig())
    T = cell.truth().T_base_object["plate"].copy()
    free = tool_down([0.45, 0.0 if abs(T[1, 3]) > 0.2 else np.sign(-T[1, 3] or 1.0) * 0.3, 0.03], -np.pi / 2)
    with pytest.raises(StageError) as error:
        executor.execute(Keypose(free, False, True), SimCamera(cell).capture(), None, CancelToken())
    assert error.value.code is OutcomeCode.GRASP_FAILED
    assert cell.state().gripper_m > 0.07


GRASPED, LIFTED, OVER_THE_PLATE = 2, 3, 4
"""So many of :func:`keyposes` executed."""


def in_mid_carry(cell: Cell, seed: int, executed: int) -> PlannedExecutor:
    cell.reset("pick_place", seed)
    executor = PlannedExecutor(SimRobot(cell), create("motion", "roboplan"), ExecutorConfig())
    truth = cell.truth()
    for keypose in keyposes(truth.T_base_object[truth.names[0]], truth.T_base_object["plate"])[:executed]:
        executor.execute(keypose, SimCamera(cell).capture(), None, CancelToken())
    assert executor.holds(cell.state())
    return executor


@pytest.mark.parametrize("executed", [GRASPED, LIFTED, OVER_THE_PLATE])
@pytest.mark.parametrize("restarted", [False, True])
def test_release_puts_the_block_on_the_free_table(cell: Cell, executed: int, restarted: bool) -> None:
    """From the grasp, from right above it, and from above the plate, where the nearest free place is beside the plate."""
    executor = in_mid_carry(cell, 1, executed)
    if restarted:
        executor = PlannedExecutor(SimRobot(cell), create("motion", "roboplan"), ExecutorConfig())
        assert executor.holds(cell.state())
    before = cell.truth()
    held, standing = before.names[0], before.names[1:]
    outcome = executor.release(SimCamera(cell).capture, CancelToken())
    assert outcome.ok
    assert "Put down at" in outcome.sentence
    after = cell.truth()
    T = after.T_base_object[held]
    assert T[2, 3] == pytest.approx(0.02, abs=0.003), "it lies on the table"
    assert np.abs(T[2, :3]).max() > 0.99, "flat"
    others = [after.T_base_object[name][:2, 3] for name in after.names if name != held]
    assert all(np.linalg.norm(T[:2, 3] - xy) > 0.06 for xy in others)
    for name in standing:
        np.testing.assert_allclose(after.T_base_object[name], before.T_base_object[name], atol=0.002)
    assert cell.state().gripper_m > 0.075
    assert not executor.holds(cell.state())
    assert cell.state().T_base_tcp[2, 3] > 0.1, "the hand has gone up"


def test_release_of_nothing_opens_the_hand(cell: Cell) -> None:
    cell.reset("pick_place", 1)
    robot = SimRobot(cell)
    robot.move_gripper(0.0, CancelToken())
    executor = PlannedExecutor(robot, create("motion", "roboplan"), ExecutorConfig())
    assert not executor.holds(cell.state())
    q = cell.state().q_rad
    outcome = executor.release(SimCamera(cell).capture, CancelToken())
    assert outcome.sentence == "Nothing was in the gripper; it is open."
    assert cell.state().gripper_m > 0.075
    np.testing.assert_allclose(cell.state().q_rad, q, atol=0.002)


def test_release_without_a_free_place_moves_nothing(cell: Cell) -> None:
    executor = in_mid_carry(cell, 1, LIFTED)

    def hidden() -> RgbdFrame:
        frame = SimCamera(cell).capture()
        return RgbdFrame(frame.rgb, np.full_like(frame.depth_m, np.nan), frame.camera, frame.stamp_ns)

    q = cell.state().q_rad
    with pytest.raises(StageError, match="clear a part of the table, or take the object out by hand") as error:
        executor.release(hidden, CancelToken())
    assert error.value.code is OutcomeCode.NO_PATH
    np.testing.assert_allclose(cell.state().q_rad, q, atol=0.002)
    assert executor.holds(cell.state())


def test_a_canceled_release_keeps_hold(cell: Cell) -> None:
    executor, cancel, looks = in_mid_carry(cell, 1, LIFTED), CancelToken(), []

    def look() -> RgbdFrame:
        looks.append(1)
        if len(looks) == 2:  # the place is found, the motion is being planned
            cancel.cancel()
        return SimCamera(cell).capture()

    with pytest.raises(StageError) as error:
        executor.release(look, cancel)
    assert error.value.code is OutcomeCode.CANCELED
    assert executor.holds(cell.state())
