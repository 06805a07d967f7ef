"""Joint trajectories as messages: what is refused, and that what is accepted keeps its shape."""

from array import array

import numpy as np
import pytest
from control_msgs.action import FollowJointTrajectory
from control_msgs.msg import JointTolerance
from scipy.interpolate import BPoly
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

from stvla_ros.description.panda import ARM_JOINTS, HOME_Q_RAD
from stvla_ros.ros.trajectory import (
    SAMPLE_S,
    TrajectoryError,
    duration,
    read_tolerances,
    read_trajectory,
    seconds,
    start_delay_s,
    trajectory_message,
)
from stvla_ros.types import JointPath, TrajectoryTolerances

Result = FollowJointTrajectory.Result


def point(q, t, dq=None):
    velocities = array("d", dq) if dq is not None else array("d")
    return JointTrajectoryPoint(positions=array("d", q), velocities=velocities, time_from_start=duration(t))


def message(points, names=ARM_JOINTS):
    return JointTrajectory(joint_names=list(names), points=points)


def read(trajectory):
    return read_trajectory(trajectory, ARM_JOINTS, HOME_Q_RAD)


def smooth_path():
    s = np.linspace(0.0, 1.0, 101)
    blend, rate = 3 * s**2 - 2 * s**3, 6 * s - 6 * s**2
    return JointPath(HOME_Q_RAD + 0.3 * blend[:, None], 0.15 * rate[:, None] * np.ones((1, 7)), 2.0 * s)


def test_a_path_goes_through_a_message_unchanged():
    path = smooth_path()
    back = read(trajectory_message(path, ARM_JOINTS))
    at = np.abs(back.t_s[:, None] - path.t_s).argmin(axis=0)
    np.testing.assert_allclose(back.q_rad[at], path.q_rad, atol=1e-12)
    np.testing.assert_allclose(back.dq_rad_s[at[:-1]], path.dq_rad_s[:-1], atol=1e-9)
    assert np.diff(back.t_s).max() <= SAMPLE_S + 1e-9


@pytest.mark.parametrize(
    ("samples", "factor"), [(129, 1.001), (126, 2.0)], ids=["changes at samples", "between samples"]
)
def test_points_have_accelerations_so_that_a_controller_commands_no_jumps_of_them(samples, factor):
    """Interpolated by quintics as ros2_control does, the jerk stays near that of the path; by cubics it does not."""
    t = np.linspace(0.0, 1.0, samples)  # the fastest motion over 1 rad from rest to rest with a jerk of 32 rad/s^3
    phase = np.minimum(t * 4, 3.999).astype(int)
    s, jerk = t - phase / 4, np.array([32.0, -32.0, -32.0, 32.0])[phase]
    q0, dq0, ddq0 = np.array([[0.0, 1 / 12, 0.5, 11 / 12], [0.0, 1.0, 2.0, 1.0], [0.0, 8.0, 0.0, -8.0]])[:, phase]
    q, dq = q0 + dq0 * s + ddq0 * s**2 / 2 + jerk * s**3 / 6, dq0 + ddq0 * s + jerk * s**2 / 2
    points = trajectory_message(JointPath(np.outer(q, np.ones(7)), np.outer(dq, np.ones(7)), t), ARM_JOINTS).points
    given = [np.array([getattr(p, name)[0] for p in points]) for name in ("positions", "velocities", "accelerations")]
    assert given[2][0] == given[2][-1] == 0.0
    np.testing.assert_allclose(given[2], ddq0 + jerk * s, atol=0.2)
    at = np.arange(0.0, 1.0, 1e-3)
    cubic, quintic = (BPoly.from_derivatives(t, np.stack(given[:order], 1)).derivative(2)(at) for order in (2, 3))
    cubic, quintic = (np.abs(np.diff(acceleration)).max() / 1e-3 for acceleration in (cubic, quintic))
    assert quintic < factor * 32.0
    assert quintic < 0.65 * cubic or factor < 1.1


def test_joints_may_come_in_any_order():
    order = [6, 0, 5, 1, 4, 2, 3]
    q = HOME_Q_RAD + np.arange(7) * 0.01
    path = read(message([point(q[order], 1.0)], [ARM_JOINTS[i] for i in order]))
    np.testing.assert_allclose(path.q_rad[-1], q)
    np.testing.assert_allclose(path.q_rad[0], HOME_Q_RAD)


def test_points_with_velocities_are_joined_by_a_cubic_and_without_by_a_line():
    goal = HOME_Q_RAD + 0.2
    cubic = read(message([point(HOME_Q_RAD, 0.0, np.zeros(7)), point(goal, 2.0, np.zeros(7))]))
    line = read(message([point(HOME_Q_RAD, 0.0), point(goal, 2.0)]))
    quarter = np.argmin(np.abs(cubic.t_s - 0.5))
    np.testing.assert_allclose(cubic.q_rad[quarter] - HOME_Q_RAD, 0.2 * (3 / 16 - 2 / 64), atol=1e-9)
    np.testing.assert_allclose(line.q_rad[quarter] - HOME_Q_RAD, 0.05, atol=1e-9)
    np.testing.assert_allclose(cubic.dq_rad_s[quarter], np.gradient(cubic.q_rad[:, 0], cubic.t_s)[quarter], atol=1e-4)


HOME, NEXT, ZERO = list(HOME_Q_RAD), list(HOME_Q_RAD + 0.1), [0.0] * 7
REFUSED = {
    "no points": (message([]), Result.INVALID_GOAL),
    "a missing joint": (message([point(HOME[:6], 1.0)], ARM_JOINTS[:6]), Result.INVALID_JOINTS),
    "a foreign joint": (message([point(HOME, 1.0)], [*ARM_JOINTS[:6], "elbow"]), Result.INVALID_JOINTS),
    "a joint twice": (message([point(HOME, 1.0)], [*ARM_JOINTS[:6], ARM_JOINTS[0]]), Result.INVALID_JOINTS),
    "too few positions": (message([point(HOME[:5], 1.0)]), Result.INVALID_GOAL),
    "velocities now and then": (message([point(HOME, 0.0, ZERO), point(NEXT, 1.0)]), Result.INVALID_GOAL),
    "times that stand still": (message([point(HOME, 1.0), point(NEXT, 1.0)]), Result.INVALID_GOAL),
    "times that go back": (message([point(HOME, 1.0), point(NEXT, 0.5)]), Result.INVALID_GOAL),
    "a negative time": (message([point(HOME, -1.0), point(NEXT, 0.5)]), Result.INVALID_GOAL),
    "not a number": (message([point([float("nan"), *HOME[1:]], 1.0)]), Result.INVALID_GOAL),
    "a moving end": (message([point(HOME, 0.0, ZERO), point(NEXT, 1.0, [0.1] * 7)]), Result.INVALID_GOAL),
}


@pytest.mark.parametrize("fault", REFUSED)
def test_refused(fault):
    trajectory, code = REFUSED[fault]
    with pytest.raises(TrajectoryError) as refusal:
        read(trajectory)
    assert refusal.value.error_code == code


def test_stamp_tells_when_to_start():
    trajectory = message([point(HOME, 1.0)])
    assert start_delay_s(trajectory, 100.0) == 0.0
    trajectory.header.stamp.sec = 102
    assert start_delay_s(trajectory, 100.0) == pytest.approx(2.0)
    assert start_delay_s(trajectory, 102.5) == 0.0
    with pytest.raises(TrajectoryError) as refusal:
        start_delay_s(trajectory, 103.5)
    assert refusal.value.error_code == Result.OLD_HEADER_TIMESTAMP


def test_tolerances_zero_is_the_default_and_negative_is_none():
    default = TrajectoryTolerances(np.full(7, 0.2), np.full(7, 0.01), 1.0)
    goal = FollowJointTrajectory.Goal()
    assert read_tolerances(goal, ARM_JOINTS, default).goal_time_s == 1.0
    goal.path_tolerance = [JointTolerance(name=ARM_JOINTS[2], position=0.5), JointTolerance(name=ARM_JOINTS[3])]
    goal.goal_tolerance = [JointTolerance(name=ARM_JOINTS[0], position=-1.0)]
    goal.goal_time_tolerance = duration(0.25)
    read_back = read_tolerances(goal, ARM_JOINTS, default)
    np.testing.assert_allclose(read_back.path_rad, [0.2, 0.2, 0.5, 0.2, 0.2, 0.2, 0.2])
    assert read_back.goal_rad[0] == np.inf
    assert read_back.goal_time_s == 0.25
    goal.path_tolerance = [JointTolerance(name="elbow", position=0.5)]
    with pytest.raises(TrajectoryError):
        read_tolerances(goal, ARM_JOINTS, default)


def test_durations_are_exact_to_the_nanosecond():
    assert seconds(duration(1.000000001)) == pytest.approx(1.000000001, abs=1e-12)
    assert duration(0.9999999999).nanosec < 10**9
