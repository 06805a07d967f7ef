"""The check without a board: finds a drift of 5 mm and 0.5 deg, is silent at 1 mm, and says when it cannot tell."""

from dataclasses import replace

import numpy as np
import pytest

from benchmarks.calibration.arms import make_noisy_cell, run_arm, take_views
from benchmarks.calibration.boards import Noise
from stvla_ros.calibration.drift import LIMIT_DEG, LIMIT_M, DriftCheck, DriftConfig, measure
from stvla_ros.errors import OutcomeCode, StageError
from stvla_ros.geometry.se3 import pose

LIMITS = LIMIT_M, np.radians(LIMIT_DEG)
SEEDS = (0, 1, 2)


@pytest.fixture(scope="module")
def views():
    """Four postures of three noisy scenes, each with a camera of its own."""
    cell = make_noisy_cell()
    try:
        yield {seed: take_views(cell, seed, 4, Noise()) for seed in SEEDS}
    finally:
        cell.close()


@pytest.mark.parametrize("postures", [1, 4])
@pytest.mark.parametrize("seed", SEEDS)
def test_a_drift_is_found_and_measured(views, seed, postures):
    for distance_m, deg in ((0.005, 0.0), (0.0, 0.5), (0.005, 0.5), (0.02, 1.0)):
        run = run_arm(views[seed][:postures], seed, distance_m, np.radians(deg))
        assert run.drift.exceeds(*LIMITS), run.drift
        assert run.drift.shift_m == pytest.approx(run.true_shift_m, abs=0.0015)
        assert run.drift.angle_rad == pytest.approx(run.true_rad, abs=np.radians(0.25))


@pytest.mark.parametrize("postures", [1, 4])
@pytest.mark.parametrize("seed", SEEDS)
def test_it_is_silent_without_a_drift_and_at_1_mm(views, seed, postures):
    for distance_m in (0.0, 0.001):
        drift = run_arm(views[seed][:postures], seed, distance_m, 0.0).drift
        assert not drift.exceeds(*LIMITS), drift
        assert drift.share > 0.9


def test_more_postures_make_it_more_certain(views):
    one, four = (run_arm(views[0][:n], 0, 0.005, 0.0).drift for n in (1, 4))
    assert four.std_m < one.std_m
    assert four.std_rad < one.std_rad
    assert four.points > 2 * one.points


def test_an_uncertain_drift_does_not_exceed_a_limit(views):
    drift = run_arm(views[0], 0, 0.005, 0.0).drift
    assert not replace(drift, covariance=1e4 * drift.covariance).exceeds(*LIMITS)


def test_an_arm_out_of_view_or_without_depth_cannot_be_compared(views):
    frame, robot = views[0][0]
    away = replace(frame.camera, T_base_camera=pose(np.diag([1.0, -1.0, -1.0]), [5.0, 0.0, 1.0]))
    blank = np.full_like(frame.depth_m, np.nan)
    for lost in (replace(frame, camera=away), replace(frame, depth_m=blank)):
        with pytest.raises(StageError) as caught:
            measure([(lost, robot)])
        assert caught.value.code is OutcomeCode.NO_DEPTH
        assert DriftCheck(DriftConfig())(lost, robot) is None


def test_a_camera_that_sees_something_else_there_is_refused(views):
    frame, robot = views[0][0]
    with pytest.raises(StageError, match="does not see the arm where its transform says") as caught:
        measure([(replace(frame, depth_m=np.full_like(frame.depth_m, 0.5)), robot)])
    assert caught.value.code is OutcomeCode.CAMERA_MOVED


def off(views, distance_m):
    """A view whose transform is off sideways."""
    frame, robot = views[0][0]
    T = frame.camera.T_base_camera.copy()
    T[1, 3] += distance_m
    return replace(frame, camera=replace(frame.camera, T_base_camera=T)), robot


def test_the_executor_refuses_a_task_with_a_large_drift_only(views):
    check = DriftCheck(DriftConfig())
    assert check(*off(views, 0.008)).shift_m == pytest.approx(0.008, abs=0.0015)
    check.begin_task()
    with pytest.raises(StageError, match=r"off by 2[34567].* allowed are 15 mm and 1.5 deg") as caught:
        check(*off(views, 0.025))
    assert caught.value.code is OutcomeCode.CAMERA_MOVED
    with pytest.raises(StageError):  # it stays due until an image is good
        check(*off(views, 0.025))
    assert DriftCheck(DriftConfig(enabled=False))(*off(views, 0.025)) is None


def test_the_executor_compares_once_per_task_and_only_at_rest(views):
    frame, robot = off(views, 0.0)
    check = DriftCheck(DriftConfig())
    assert check(frame, replace(robot, dq_rad_s=np.full(7, 0.3))) is None
    assert check(frame, robot) is not None
    assert check(*off(views, 0.025)) is None  # a task goes on once it has begun
    check.begin_task()
    with pytest.raises(StageError):
        check(*off(views, 0.025))
