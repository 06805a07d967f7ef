"""The simulated arm does what a real one would: it grasps by friction, presses, collides and stops."""

from collections.abc import Iterator
from threading import Thread, Timer

import numpy as np
import pytest
from sim.motions import downward, inverse, square_yaw, straight

from stvla_ros.description.braking import STILL_RAD_S
from stvla_ros.description.kinematics import tcp_pose
from stvla_ros.description.panda import HOME_Q_RAD
from stvla_ros.errors import CancelToken, OutcomeCode, StageError
from stvla_ros.robot.sim import SimCamera, SimRobot
from stvla_ros.sim.cell import Cell, CellConfig
from stvla_ros.sim.objects import Button
from stvla_ros.sim.sensor import SensorConfig
from stvla_ros.types import F64

AWAY = HOME_Q_RAD + np.array([0.9, 0.3, 0.0, -0.2, 0.3, 0.2, -0.6])


@pytest.fixture(scope="module")
def cell() -> Iterator[Cell]:
    made = Cell()
    yield made
    made.close()


@pytest.fixture
def robot(cell: Cell) -> SimRobot:
    cell.reset("pick_place", 0)
    return SimRobot(cell)


def go(robot: SimRobot, T_base_tcp: F64, scale: float = 0.5) -> None:
    q = robot.state().q_rad
    robot.follow(straight(q, inverse(T_base_tcp, q), scale), CancelToken())


def grasp(robot: SimRobot, T_base_block: F64) -> float:
    """Take a block from above and lift it; returns the width between the fingers."""
    yaw, (x, y) = square_yaw(T_base_block), T_base_block[:2, 3]
    go(robot, downward(x, y, 0.12, yaw))
    go(robot, downward(x, y, 0.02, yaw))
    width = robot.move_gripper(0.0, CancelToken())
    go(robot, downward(x, y, 0.20, yaw))
    return width


def test_state_agrees_with_the_kinematics(robot: SimRobot) -> None:
    robot.follow(straight(HOME_Q_RAD, AWAY), CancelToken())
    state = robot.state()
    assert np.abs(state.T_base_tcp - tcp_pose(state.q_rad)).max() < 1e-6
    assert np.abs(state.q_rad - AWAY).max() < 0.01
    assert np.abs(state.dq_rad_s).max() < 0.03
    assert state.gripper_m == pytest.approx(0.08, abs=0.0005)


@pytest.mark.parametrize("seed", [1, 8])
def test_a_block_is_grasped_lifted_carried_and_put_in_the_plate(cell: Cell, robot: SimRobot, seed: int) -> None:
    cell.reset("pick_place", seed)
    poses = cell.truth().T_base_object
    block, plate = cell.truth().names[:2]
    assert grasp(robot, poses[block]) == pytest.approx(0.04, abs=0.002)
    assert cell.truth().T_base_object[block][2, 3] == pytest.approx(0.20, abs=0.005)
    assert not cell.score().success, "in the air"
    (x, y), yaw = poses[plate][:2, 3], square_yaw(poses[block])
    go(robot, downward(x, y, 0.15, yaw))
    go(robot, downward(x, y, 0.03, yaw))
    assert not cell.score().success, "not let go of"
    assert robot.move_gripper(0.08, CancelToken()) == pytest.approx(0.08, abs=0.001)
    go(robot, downward(x, y, 0.15, yaw))
    assert cell.score().success


def test_a_held_block_does_not_slip_at_full_speed(cell: Cell, robot: SimRobot) -> None:
    truth = cell.truth()
    grasp(robot, truth.T_base_object[truth.names[0]])
    yaw = square_yaw(truth.T_base_object[truth.names[0]])

    def in_hand() -> F64:
        T = np.linalg.inv(robot.state().T_base_tcp) @ cell.truth().T_base_object[truth.names[0]]
        return T[:3, 3]

    before = in_hand()
    for y in (0.2, -0.2):
        go(robot, downward(0.5, y, 0.3, yaw), scale=1.0)
    assert np.linalg.norm(in_hand() - before) < 0.006


def test_closing_on_nothing_reads_as_zero(robot: SimRobot) -> None:
    assert robot.move_gripper(0.0, CancelToken()) == pytest.approx(0.0, abs=0.001)


def test_buttons_are_pressed_in_order(cell: Cell, robot: SimRobot) -> None:
    seed = next(s for s in range(50) if cell.reset("push_buttons", s).count("then") == 2)
    cell.reset("push_buttons", seed)
    robot.move_gripper(0.0, CancelToken())
    for button in [o for o in cell._objects if isinstance(o, Button)][:3]:
        assert not cell.score().success
        go(robot, downward(*button.xy_m, 0.10))
        go(robot, downward(*button.xy_m, 0.041))
        go(robot, downward(*button.xy_m, 0.10))
    assert cell.score().success, cell.score().detail


def test_pushing_into_the_table_is_a_reflex_that_lets_go(robot: SimRobot) -> None:
    robot.move_gripper(0.0, CancelToken())
    go(robot, downward(0.45, 0.42, 0.05))
    with pytest.raises(StageError) as error:
        go(robot, downward(0.45, 0.42, -0.05))
    assert error.value.code is OutcomeCode.REFLEX
    assert robot.state().T_base_tcp[2, 3] > -0.005
    go(robot, downward(0.45, 0.42, 0.10))
    assert robot.state().T_base_tcp[2, 3] == pytest.approx(0.10, abs=0.003)


@pytest.mark.parametrize("share", [0.2, 0.5, 0.8])
def test_a_cancel_brings_the_arm_to_rest(cell: Cell, robot: SimRobot, share: float) -> None:
    path, token = straight(HOME_Q_RAD, AWAY), CancelToken()
    cancel_ns = cell.time_ns + int(share * path.t_s[-1] * 1e9)
    thread = Thread(target=_cancel_at, args=(cell, cancel_ns, token))
    thread.start()
    with pytest.raises(StageError) as error:
        robot.follow(path, token)
    thread.join()
    assert error.value.code is OutcomeCode.CANCELED
    stopped = robot.state()
    assert np.abs(stopped.dq_rad_s).max() < 0.1
    cell.advance(1.0)
    assert np.abs(robot.state().q_rad - stopped.q_rad).max() < 0.01, "it moves afterwards"
    assert not cell.moving


def test_a_cancelled_motion_is_at_rest_only_when_the_arm_is(cell: Cell) -> None:
    """Not already when its reference is."""
    path = straight(HOME_Q_RAD, AWAY)
    speeds = []
    for share in np.linspace(0.05, 0.95, 19):
        cell.reset("pick_place", 3)
        goal = cell.follow(path)
        cell.advance(float(share * path.t_s[-1]))
        cell.cancel()
        while cell.moving:
            cell.step()
        assert goal.at_rest
        speeds.append(np.abs(cell.state().dq_rad_s).max())
        cell.advance(0.05)
        speeds.append(np.abs(cell.state().dq_rad_s).max())
    assert max(speeds) < STILL_RAD_S


def _cancel_at(cell: Cell, time_ns: int, token: CancelToken) -> None:
    while cell.time_ns < time_ns:
        pass
    token.cancel()


def test_stop_from_another_thread_ends_the_motion(robot: SimRobot) -> None:
    timer = Timer(0.05, robot.stop)
    timer.start()
    with pytest.raises(StageError) as error:
        robot.follow(straight(HOME_Q_RAD, AWAY, 0.05), CancelToken())
    timer.join()
    assert error.value.code is OutcomeCode.CANCELED
    robot.stop()


def test_a_canceled_token_moves_nothing(robot: SimRobot) -> None:
    token = CancelToken()
    token.cancel(OutcomeCode.PREEMPTED, "A newer goal came.")
    for act in (lambda: robot.follow(straight(HOME_Q_RAD, AWAY), token), lambda: robot.move_gripper(0.0, token)):
        with pytest.raises(StageError) as error:
            act()
        assert error.value.code is OutcomeCode.PREEMPTED
    assert np.abs(robot.state().q_rad - HOME_Q_RAD).max() < 0.005


def test_a_reset_ends_a_motion_and_puts_the_arm_home(cell: Cell, robot: SimRobot) -> None:
    goal = cell.follow(straight(HOME_Q_RAD, AWAY))
    cell.advance(0.5)
    before_ns = cell.time_ns
    cell.reset("stack_cube", 1)
    assert goal.at_rest
    assert goal.code is OutcomeCode.CANCELED
    assert np.abs(robot.state().q_rad - HOME_Q_RAD).max() < 0.005
    assert cell.time_ns > before_ns


def test_a_width_that_the_hand_does_not_have_is_refused(robot: SimRobot) -> None:
    with pytest.raises(StageError, match=r"wanted 0 to 0\.08 m, got 0\.2"):
        robot.move_gripper(0.2, CancelToken())


def test_runs_repeat_exactly(cell: Cell, robot: SimRobot) -> None:
    ends = []
    for _ in range(2):
        cell.reset("stack_cube", 3)
        truth = cell.truth()
        grasp(robot, truth.T_base_object[truth.names[0]])
        ends.append(cell._data.qpos.copy())
    assert np.array_equal(*ends)


def test_camera_lets_its_latency_pass(cell: Cell) -> None:
    frame = SimCamera(cell).capture()
    assert frame.stamp_ns == cell.time_ns
    slow = Cell(CellConfig(sensor=SensorConfig(enabled=True, latency_s=0.1)))
    try:
        slow.reset("pick_place", 0)
        frame = SimCamera(slow).capture()
        assert slow.time_ns - frame.stamp_ns == 100_000_000
    finally:
        slow.close()
