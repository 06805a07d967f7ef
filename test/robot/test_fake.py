"""The arm without physics."""

import time
from threading import Thread

import numpy as np
import pytest
from fake_robot import FakeRobot, FakeRobotConfig
from sim.motions import straight

from stvla_ros.description.kinematics import tcp_pose
from stvla_ros.description.panda import HOME_Q_RAD
from stvla_ros.errors import CancelToken, OutcomeCode, StageError

NEAR = HOME_Q_RAD + 0.3


def test_it_ends_where_the_path_ends() -> None:
    robot = FakeRobot()
    path = straight(HOME_Q_RAD, NEAR)
    robot.follow(path, CancelToken())
    state = robot.state()
    assert np.allclose(state.q_rad, NEAR)
    assert np.allclose(state.dq_rad_s, 0.0)
    assert np.allclose(state.T_base_tcp, tcp_pose(NEAR))
    assert state.stamp_ns * 1e-9 == pytest.approx(path.t_s[-1], abs=0.03)


def test_a_path_from_elsewhere_is_refused() -> None:
    with pytest.raises(StageError) as error:
        FakeRobot().follow(straight(NEAR, HOME_Q_RAD), CancelToken())
    assert error.value.code is OutcomeCode.CONTROLLER_FAILED


def test_fingers_close_on_what_is_held() -> None:
    token = CancelToken()
    assert FakeRobot().move_gripper(0.0, token) == 0.0
    robot = FakeRobot(FakeRobotConfig(held_width_m=0.04))
    assert robot.move_gripper(0.0, token) == 0.04
    assert robot.move_gripper(0.08, token) == 0.08
    assert robot.state().gripper_m == 0.08


def test_real_time_takes_its_time() -> None:
    robot = FakeRobot(FakeRobotConfig(real_time=True))
    start = time.monotonic()
    robot.move_gripper(0.05, CancelToken())
    assert time.monotonic() - start >= 0.28


@pytest.mark.parametrize("how", ["cancel", "stop"])
def test_it_stops_on_the_way(how: str) -> None:
    robot, token = FakeRobot(FakeRobotConfig(real_time=True)), CancelToken()
    codes = []

    def run() -> None:
        with pytest.raises(StageError) as error:
            robot.follow(straight(HOME_Q_RAD, NEAR, 0.1), token)
        codes.append(error.value.code)

    thread = Thread(target=run)
    thread.start()
    while thread.is_alive() and np.allclose(robot.state().q_rad, HOME_Q_RAD):
        time.sleep(0.005)
    if how == "cancel":
        token.cancel(OutcomeCode.PREEMPTED, "A newer goal came.")
    else:
        robot.stop()
    thread.join(30.0)
    assert not thread.is_alive()
    assert codes == [OutcomeCode.PREEMPTED if how == "cancel" else OutcomeCode.CANCELED]
    there = robot.state().q_rad
    assert 0 < np.abs(there - HOME_Q_RAD).max() < 0.3
    assert np.allclose(robot.state().dq_rad_s, 0.0)


def test_nothing_begins_after_a_cancel() -> None:
    robot, token = FakeRobot(), CancelToken()
    token.cancel()
    for act in (lambda: robot.follow(straight(HOME_Q_RAD, NEAR), token), lambda: robot.move_gripper(0.0, token)):
        with pytest.raises(StageError) as error:
            act()
        assert error.value.code is OutcomeCode.CANCELED
    assert np.allclose(robot.state().q_rad, HOME_Q_RAD)
