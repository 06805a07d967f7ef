"""The trajectory controller alone: an ideal arm follows it, or a disturbed one does not."""

from collections.abc import Callable

import numpy as np
import pytest
from sim.motions import straight

from stvla_ros.description.braking import CREEP_S, STILL_S
from stvla_ros.description.panda import A_MAX_RAD_S2, HOME_Q_RAD, J_MAX_RAD_S3, V_MAX_RAD_S
from stvla_ros.errors import OutcomeCode, StageError
from stvla_ros.sim.controller import (
    ControllerConfig,
    TrajectoryController,
    TrajectoryGoal,
    TrajectoryStatus,
    interpolate,
)
from stvla_ros.types import F64, JointPath

DT = 0.002
FAR = HOME_Q_RAD + np.array([1.2, 0.6, -0.8, 0.7, 1.0, 0.5, -1.2])


def drive(
    controller: TrajectoryController,
    goal: TrajectoryGoal,
    until_s: float = 20.0,
    cancel_at_s: float | None = None,
    measured: Callable[[float, F64], F64] = lambda _, q: q,
    force_n: Callable[[float], float] = lambda _: 0.0,
) -> tuple[F64, F64]:
    """Sample at 500 Hz until the goal is over; returns (N,) times and (N, 14) references."""
    times, rows, t = [], [], 0.0
    while t < until_s and not goal.at_rest:
        t += DT
        if cancel_at_s is not None and t >= cancel_at_s:
            controller.cancel(t - DT)
        q, dq = controller.sample(t)
        controller.observe(t, measured(t, q), dq, force_n(t), DT)
        times.append(t)
        rows.append(np.concatenate([q, dq]))
    return np.array(times), np.array(rows)


@pytest.fixture
def controller() -> TrajectoryController:
    return TrajectoryController(ControllerConfig(), HOME_Q_RAD)


def test_a_path_is_followed_to_its_end_and_held(controller: TrajectoryController) -> None:
    path = straight(HOME_Q_RAD, FAR)
    goal = controller.start(path, 0.0)
    times, rows = drive(controller, goal)
    assert goal.status is TrajectoryStatus.SUCCEEDED
    assert goal.code is OutcomeCode.OK
    assert times[-1] == pytest.approx(path.t_s[-1], abs=0.01)
    assert np.allclose(rows[-1], [*FAR, *np.zeros(7)], atol=1e-9)
    q, dq = controller.sample(100.0)
    assert np.allclose(q, FAR)
    assert np.allclose(dq, 0.0)


def test_reference_velocity_is_the_slope_of_the_position(controller: TrajectoryController) -> None:
    goal = controller.start(straight(HOME_Q_RAD + 0.01, FAR), 0.0)
    times, rows = drive(controller, goal)
    slope = np.gradient(rows[:, :7], times, axis=0)[5:-5]
    assert np.abs(slope - rows[5:-5, 7:]).max() < 0.01


def test_a_small_gap_at_the_start_is_blended_out(controller: TrajectoryController) -> None:
    goal = controller.start(straight(HOME_Q_RAD + 0.02, FAR), 0.0)
    _, rows = drive(controller, goal)
    assert np.abs(np.diff(np.vstack([HOME_Q_RAD, rows[:, :7]]), axis=0)).max() < 0.003
    assert goal.status is TrajectoryStatus.SUCCEEDED


@pytest.mark.parametrize(("scale", "limit_s"), [(0.3, 0.15), (0.5, 0.25), (1.0, 0.35)])
def test_a_cancel_stops_fast_within_the_limits(scale: float, limit_s: float) -> None:
    path = straight(HOME_Q_RAD, FAR, scale)
    for share in np.linspace(0.02, 0.98, 25):
        controller = TrajectoryController(ControllerConfig(), HOME_Q_RAD)
        goal = controller.start(path, 0.0)
        cancel_s = float(share * path.t_s[-1])
        times, rows = drive(controller, goal, cancel_at_s=cancel_s)
        assert goal.status is TrajectoryStatus.CANCELED
        assert goal.code is OutcomeCode.CANCELED
        assert times[-1] - cancel_s < limit_s
        assert np.allclose(rows[-1, 7:], 0.0)
        stop = rows[times > cancel_s - 2 * DT]
        acceleration = np.diff(stop[:, 7:], axis=0) / DT
        assert (np.abs(stop[:, 7:]) <= V_MAX_RAD_S * 1.001).all()
        assert (np.abs(acceleration) <= A_MAX_RAD_S2 * 1.02).all()
        assert (np.abs(np.diff(acceleration, axis=0)) / DT <= J_MAX_RAD_S3 * 1.05).all()


def test_a_stop_stays_on_the_straight_line_of_motion(controller: TrajectoryController) -> None:
    goal = controller.start(straight(HOME_Q_RAD, FAR), 0.0)
    _, rows = drive(controller, goal, cancel_at_s=0.9)
    line = (FAR - HOME_Q_RAD) / np.linalg.norm(FAR - HOME_Q_RAD)
    off = rows[:, :7] - HOME_Q_RAD
    assert np.linalg.norm(off - np.outer(off @ line, line), axis=1).max() < 1e-3


def test_after_a_stop_another_path_can_start(controller: TrajectoryController) -> None:
    goal = controller.start(straight(HOME_Q_RAD, FAR), 0.0)
    drive(controller, goal, cancel_at_s=0.8)
    here, _ = controller.reference
    second = controller.start(straight(here, HOME_Q_RAD), 50.0)
    assert second.status is TrajectoryStatus.ACTIVE
    assert goal.status is TrajectoryStatus.CANCELED


def test_cancel_without_a_goal_does_nothing(controller: TrajectoryController) -> None:
    controller.cancel(0.0)
    assert not controller.moving
    goal = controller.start(straight(HOME_Q_RAD, FAR), 0.0)
    drive(controller, goal)
    controller.cancel(30.0)
    assert goal.status is TrajectoryStatus.SUCCEEDED


def test_lost_tracking_aborts(controller: TrajectoryController) -> None:
    goal = controller.start(straight(HOME_Q_RAD, FAR), 0.0)
    drive(controller, goal, measured=lambda t, q: q if t < 0.5 else HOME_Q_RAD)
    assert goal.status is TrajectoryStatus.ABORTED
    assert goal.code is OutcomeCode.CONTROLLER_FAILED
    assert "Path tolerance violated: panda_joint" in goal.reason


def test_a_missed_end_aborts_after_the_goal_time(controller: TrajectoryController) -> None:
    path = straight(HOME_Q_RAD, FAR)
    goal = controller.start(path, 0.0)
    times, _ = drive(controller, goal, measured=lambda _, q: q + 0.02)
    assert goal.code is OutcomeCode.CONTROLLER_FAILED
    assert "Goal tolerance violated" in goal.reason
    assert times[-1] == pytest.approx(path.t_s[-1] + controller.config.goal_time_s, abs=0.02)


def test_contact_force_aborts_as_reflex_and_lets_go(controller: TrajectoryController) -> None:
    goal = controller.start(straight(HOME_Q_RAD, FAR), 0.0)
    drive(controller, goal, measured=lambda _, q: q - 0.05, force_n=lambda t: 200.0 if t > 0.5 else 0.0)
    assert goal.code is OutcomeCode.REFLEX
    assert "contact force" in goal.reason


def test_a_stop_waits_for_an_arm_that_sways_and_ends_with_one_that_never_rests(
    controller: TrajectoryController,
) -> None:
    for sways_s, rest_s in ((0.0, STILL_S), (0.15, 0.15 + STILL_S), (60.0, CREEP_S)):
        goal = controller.start(straight(HOME_Q_RAD, FAR), 0.0)
        t, stopped_s = 0.0, None
        while not goal.at_rest:
            t += DT
            q, dq = controller.sample(t)
            if t >= 0.5:
                controller.cancel(t)
                stopped_s = t if stopped_s is None and not dq.any() else stopped_s
            sways = stopped_s is not None and t < stopped_s + sways_s
            controller.observe(t, q, dq + (0.02 if sways else 0.0), 0.0, DT)
        assert stopped_s is not None
        assert t - stopped_s == pytest.approx(rest_s, abs=0.01)
        controller = TrajectoryController(ControllerConfig(), HOME_Q_RAD)


def test_a_short_knock_is_no_reflex(controller: TrajectoryController) -> None:
    goal = controller.start(straight(HOME_Q_RAD, FAR), 0.0)
    drive(controller, goal, force_n=lambda t: 100.0 if 0.5 < t < 0.508 else 0.0)
    assert goal.status is TrajectoryStatus.SUCCEEDED


def bad_paths() -> dict[str, JointPath]:
    good = straight(HOME_Q_RAD, FAR)
    low, far, nan, fast = (np.array(x) for x in (good.q_rad, good.q_rad, good.q_rad, good.dq_rad_s))
    low[5, 3], nan[3, 2], fast[4, 6] = 0.5, np.nan, 3.0
    return {
        "leaves the limits of panda_joint4": JointPath(low, good.dq_rad_s, good.t_s),
        "starts 0.100 rad from the arm": JointPath(far + 0.1, good.dq_rad_s, good.t_s),
        "not finite": JointPath(nan, good.dq_rad_s, good.t_s),
        "faster than the limit of panda_joint7": JointPath(good.q_rad, fast, good.t_s),
    }


@pytest.mark.parametrize("words", bad_paths())
def test_paths_that_do_not_fit_are_refused(controller: TrajectoryController, words: str) -> None:
    with pytest.raises(StageError, match=words) as error:
        controller.start(bad_paths()[words], 0.0)
    assert error.value.code is OutcomeCode.CONTROLLER_FAILED
    assert not controller.moving


def test_a_second_path_while_moving_is_refused(controller: TrajectoryController) -> None:
    controller.start(straight(HOME_Q_RAD, FAR), 0.0)
    controller.sample(0.5)
    with pytest.raises(StageError, match="wait for standstill"):
        controller.start(straight(HOME_Q_RAD, FAR), 0.5)


def test_interpolation_meets_the_samples() -> None:
    path = straight(HOME_Q_RAD, FAR)
    for i in range(0, len(path.t_s) - 1, 7):
        q, dq, _ = interpolate(path, float(path.t_s[i]))
        assert np.allclose(q, path.q_rad[i])
        assert np.allclose(dq, path.dq_rad_s[i])
