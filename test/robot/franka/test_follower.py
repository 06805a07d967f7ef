"""What is commanded in each cycle, stepped by hand: an arm that follows exactly, or not."""

from dataclasses import replace

import numpy as np
import pytest

from stvla_ros.description.panda import ARM_JOINTS, HOME_Q_RAD
from stvla_ros.description.robot import FR3, PANDA
from stvla_ros.errors import OutcomeCode, StageError
from stvla_ros.motion.timing import scaled_limits, time_curve, time_polyline
from stvla_ros.robot.franka.follower import Follower
from stvla_ros.robot.franka.messages import End
from stvla_ros.robot.franka.motion import CYCLE_S, FADE_S, Brake
from stvla_ros.robot.franka.sampling import check, sample
from stvla_ros.types import JointPath, TrajectoryTolerances

TOLERANCES = TrajectoryTolerances(np.full(7, 0.2), np.full(7, 0.01), 0.1)
WAY = np.array([0.5, 0.3, -0.3, 0.2, 0.3, -0.2, 0.4])


def path(scale=0.5, curved=False):
    limits = scaled_limits(PANDA, scale, 0.3, 0.1)
    if not curved:
        return time_polyline(np.array([HOME_Q_RAD, HOME_Q_RAD + WAY]), limits)
    s = np.linspace(0.0, 1.0, 20)[:, None]
    return time_curve(HOME_Q_RAD + s * WAY + 0.2 * np.sin(np.pi * s) * WAY[::-1], limits)


def follower(of=None, limits=PANDA):
    made = Follower(1, sample(of or path()), TOLERANCES, limits, ARM_JOINTS)
    made.begin(HOME_Q_RAD)
    return made


class PerfectArm:
    """Is where it was commanded to be, one cycle later."""

    def __init__(self, follower):
        self.follower, self.sent = follower, [np.array(follower.command)]

    def cycle(self, cycles=1, error=None):
        q = self.sent[-1] + (0.0 if error is None else error)
        dq = (self.sent[-1] - self.sent[-2]) / CYCLE_S if len(self.sent) > 1 else np.zeros(7)
        self.sent.append(np.array(self.follower.step(cycles, q.tolist(), dq.tolist())))

    def run(self, cycles=10_000):
        for _ in range(cycles):
            if self.follower.ended is not None:
                return
            self.cycle()

    def differences(self):
        """Velocity, acceleration and jerk of the commands, as the robot computes them; each (K, 7)."""
        q = np.vstack([np.repeat(self.sent[:1], 3, axis=0), self.sent, np.repeat(self.sent[-1:], 3, axis=0)])
        velocity = np.diff(q, axis=0) / CYCLE_S
        acceleration = np.diff(velocity, axis=0) / CYCLE_S
        return velocity, acceleration, np.diff(acceleration, axis=0) / CYCLE_S

    def assert_accepted(self, limits=PANDA):
        for values, limit in zip(self.differences(), (limits.velocity, limits.acceleration, limits.jerk), strict=True):
            assert (np.abs(values) <= limit * 1.001).all(), (np.abs(values) / limit).max()


@pytest.mark.parametrize("curved", [False, True])
def test_a_path_keeps_its_times_and_the_robots_limits(curved):
    given = path(curved=curved)
    arm = PerfectArm(follower(given))
    arm.run()
    assert arm.follower.ended.end is End.REACHED
    assert arm.follower.cycle == pytest.approx(given.t_s[-1] / CYCLE_S, abs=3)
    arm.assert_accepted()
    sent = np.array(arm.sent)
    times_s = np.arange(len(sent)) * CYCLE_S
    commanded = np.stack([np.interp(given.t_s[:-1], times_s, sent[:, joint]) for joint in range(7)], axis=1)
    assert np.abs(commanded - given.q_rad[:-1]).max() < 1e-4


def test_the_first_command_is_the_position_that_the_robot_holds_and_the_distance_fades():
    held = HOME_Q_RAD + 0.02
    made = Follower(1, sample(path()), TOLERANCES, PANDA, ARM_JOINTS)
    made.begin(held)
    arm = PerfectArm(made)
    arm.cycle(cycles=0)
    assert np.array_equal(arm.sent[1], held)
    arm.run()
    arm.assert_accepted()
    after = round(FADE_S / CYCLE_S) + 1
    assert np.abs(arm.sent[after] - sample(path()).q[after - 1]).max() < 1e-9
    assert np.abs(arm.sent[-1] - path().q_rad[-1]).max() < 1e-9


@pytest.mark.parametrize("limits", [PANDA, FR3])
@pytest.mark.parametrize("at", [3, 57, 200, 431, 600, 740])
def test_a_stop_at_any_moment_stays_within_the_limits_of_jerk(at, limits):
    arm = PerfectArm(follower(limits=limits))
    arm.run(at)
    speed = np.abs(arm.differences()[0][-4]).max()
    arm.follower.stop()
    arm.run()
    ended = arm.follower.ended
    assert ended.end is End.STOPPED
    assert ended.code is OutcomeCode.CANCELED
    names = ("velocity", "acceleration", "jerk")
    most = replace(PANDA, **{name: np.maximum(getattr(PANDA, name), getattr(limits, name)) for name in names})
    arm.assert_accepted(most)  # the path is a Panda's
    assert np.abs(arm.sent[-1] - arm.sent[-2]).max() < 5e-6
    assert ended.statistics.stop_cycles * CYCLE_S < speed / limits.acceleration.min() + 0.03


def test_a_brake_never_repeats_the_last_position_while_the_arm_moves():
    """That would be a standstill within one cycle."""
    arm = PerfectArm(follower())
    arm.run(500)
    arm.follower.stop()
    arm.cycle()
    assert (np.abs(arm.sent[-1] - arm.sent[-2]) > 1e-5).all()


def test_a_brake_begins_where_the_last_command_was_even_after_missed_cycles():
    arm = PerfectArm(follower())
    arm.run(500)
    before, rate = arm.sent[-1], (arm.sent[-1] - arm.sent[-2]) / CYCLE_S
    arm.follower.stop()
    arm.cycle(cycles=5)
    assert np.abs(arm.sent[-1] - (before + 5 * CYCLE_S * rate)).max() < 3e-4
    arm.run()
    assert arm.follower.ended.statistics.missed == 4


def test_missed_cycles_are_skipped_on_the_path():
    arm = PerfectArm(follower())
    arm.run(100)
    arm.cycle(cycles=4)
    assert np.allclose(arm.sent[-1], sample(path()).q[104], atol=1e-12)


def test_a_tracking_error_ends_the_motion_with_a_brake():
    arm = PerfectArm(follower())
    arm.run(400)
    arm.cycle(error=np.eye(7)[3] * 0.3)
    arm.run()
    ended = arm.follower.ended
    assert (ended.end, ended.code) == (End.FAILED, OutcomeCode.CONTROLLER_FAILED)
    assert "Path tolerance violated: panda_joint4 is 0.300 rad off, with 0.200 allowed" in ended.sentence
    arm.assert_accepted()


def test_an_arm_that_does_not_arrive_ends_with_the_goals_tolerance():
    made = follower()
    arm = PerfectArm(made)
    while made.ended is None:
        arm.cycle(error=np.full(7, 0.02))
    assert made.ended.code is OutcomeCode.CONTROLLER_FAILED
    assert "Goal tolerance violated" in made.ended.sentence
    assert made.cycle == pytest.approx((path().t_s[-1] + TOLERANCES.goal_time_s) / CYCLE_S, abs=3)


def test_a_silent_node_is_a_failure_not_a_cancel():
    arm = PerfectArm(follower())
    arm.run(300)
    arm.follower.stop(OutcomeCode.CONTROLLER_FAILED, "The node was silent.")
    arm.follower.stop()  # too late: the first reason counts
    arm.run()
    assert (arm.follower.ended.end, arm.follower.ended.sentence) == (End.FAILED, "The node was silent.")


def test_a_stop_at_the_end_of_a_path_changes_nothing():
    arm = PerfectArm(follower())
    arm.run()
    ended = arm.follower.ended
    arm.follower.stop()
    assert arm.follower.ended is ended


def test_a_path_of_one_sample_is_held_while_the_distance_fades():
    made = Follower(
        1, sample(JointPath(HOME_Q_RAD[None], np.zeros((1, 7)), np.zeros(1))), TOLERANCES, PANDA, ARM_JOINTS
    )
    made.begin(HOME_Q_RAD - 0.03)
    arm = PerfectArm(made)
    arm.run()
    assert made.ended.end is End.REACHED
    arm.assert_accepted()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"scale": 0.1, "velocity_scale": 0.05}, "panda_joint1 at a velocity of"),
        ({"corner": True}, "of"),
        ({"shift": np.eye(7)[5] * 2.5}, "panda_joint6 outside its range by"),
    ],
)
def test_a_path_that_the_robot_would_refuse_is_refused_before(change, says):
    given = path(change.get("scale", 0.5))
    q = given.q_rad + change.get("shift", 0.0)
    if change.get("corner"):
        q = np.concatenate([q[: len(q) // 2], q[: len(q) // 2][::-1]])
        given = JointPath(q, np.zeros_like(q), np.arange(len(q)) * 0.008)
    else:
        given = JointPath(q, given.dq_rad_s, given.t_s)
    with pytest.raises(StageError, match=says) as caught:
        check(sample(given), PANDA, ARM_JOINTS, change.get("velocity_scale", 1.0))
    assert caught.value.code is OutcomeCode.CONTROLLER_FAILED


def test_a_brake_from_rest_is_over_at_once():
    assert Brake(HOME_Q_RAD, np.zeros(7), np.zeros(7), PANDA).cycles <= 1
