"""Limits of the interface, the reference that follows commands, and the brake."""

import numpy as np
import pytest

from stvla_ros.description.panda import HOME_Q_RAD
from stvla_ros.sim.fci import wire
from stvla_ros.sim.fci.arm import Arm
from stvla_ros.sim.fci.cell import FciCell
from stvla_ros.sim.fci.limits import CYCLE_S, LIMITS, Reference
from stvla_ros.sim.fci.wire import ArmRequest, ControllerMode, Error, GeneratorMode

JOINT1 = np.eye(7)[0]


def follow(model: str, acceleration: float, jerk: float, start: np.ndarray = HOME_Q_RAD) -> set[Error]:
    """Errors on the way to an acceleration of joint 1, reached with a jerk and held for 50 ms."""
    reference, wrong = Reference(LIMITS[model], start), set()
    a = v = 0.0
    q = start.copy()
    for _ in range(50):
        a = min(a + jerk * CYCLE_S, acceleration)
        v += a * CYCLE_S
        q = q + JOINT1 * v * CYCLE_S
        wrong |= set(reference.position(q))
    return wrong


@pytest.mark.parametrize(("model", "acceleration", "jerk"), [("panda", 15.0, 7500.0), ("fr3", 10.0, 5000.0)])
def test_acceleration_and_jerk(model: str, acceleration: float, jerk: float) -> None:
    assert follow(model, 0.99 * acceleration, 0.99 * jerk) == set()
    assert Error.VELOCITY_DISCONTINUITY in follow(model, 1.02 * acceleration, 0.99 * jerk)
    assert Error.ACCELERATION_DISCONTINUITY in follow(model, 0.99 * acceleration, 1.02 * jerk)


def test_an_fr3_must_slow_down_towards_the_ends_of_its_range() -> None:
    """The documented formula at two places."""
    limits = LIMITS["fr3"]
    assert limits.velocity(HOME_Q_RAD)[1][0] == pytest.approx(2.62)
    near = HOME_Q_RAD + JOINT1 * (limits.arm.q_max_rad[0] - HOME_Q_RAD[0] - 0.05)
    low, high = limits.velocity(near)
    assert high[0] == pytest.approx(-0.30 + np.sqrt(12.0 * 0.05))
    assert low[0] == pytest.approx(-2.62)
    assert limits.velocity(limits.arm.q_max_rad)[1] == pytest.approx(np.zeros(7))


def test_a_wrong_command_changes_nothing() -> None:
    reference = Reference(LIMITS["panda"], HOME_Q_RAD)
    assert reference.position(HOME_Q_RAD) == []
    assert reference.position(HOME_Q_RAD + 0.05) != []
    np.testing.assert_array_equal(reference.q, HOME_Q_RAD)
    np.testing.assert_array_equal(reference.dq, 0.0)


def test_missing_commands_continue_the_acceleration() -> None:
    reference = Reference(LIMITS["panda"], HOME_Q_RAD)
    reference.set(HOME_Q_RAD, 0.1 * JOINT1, 1.0 * JOINT1)
    for _ in range(10):
        reference.extrapolate()
    assert reference.dq[0] == pytest.approx(0.11)
    assert reference.q[0] == pytest.approx(0.1 * 0.01 + 0.5 * 0.01**2, rel=0.01)


@pytest.mark.parametrize("model", LIMITS)
def test_an_arm_brakes_within_its_own_models_limits(model: str, cell: FciCell, monkeypatch: pytest.MonkeyPatch) -> None:
    """A motion with joint velocities, ended by the user stop: acceleration and jerk of what the servos are told."""
    limits, told = LIMITS[model].arm, []
    monkeypatch.setattr(cell, "drive", lambda q, dq: told.append(np.array(dq)))
    cell.set_state(HOME_Q_RAD, 0.08)
    arm, command = Arm(cell, LIMITS[model]), np.zeros((), wire.COMMAND)
    modes = (ControllerMode.JOINT_IMPEDANCE, GeneratorMode.JOINT_VELOCITY - 1)
    arm.request(ArmRequest.MOVE, 1, wire.MOVE.pack(*modes, *[0.0] * 6, False, *[0.0] * 7))
    for cycle in range(150):
        a = 0.9 * limits.acceleration * min(1.0, cycle / 20)
        command["message_id"] = cycle + 1
        command["dq_c"] = command["dq_c"] + JOINT1 * a * CYCLE_S
        arm.control(command)
    assert told[-1][0] == pytest.approx(command["dq_c"][0])
    assert told[-1][0] > 1.0
    arm.user_stop(True)
    while told[-1].any():
        arm.control(None)
    acceleration = np.diff(told, axis=0) / CYCLE_S
    jerk = np.diff(acceleration, axis=0) / CYCLE_S
    assert np.max(np.abs(acceleration) / limits.acceleration) < 1.001
    assert np.max(np.abs(jerk) / limits.jerk) < 1.01
