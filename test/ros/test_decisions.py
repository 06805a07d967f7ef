"""What the stages were given and decided survives the way into a recording and back."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from ros.test_convert import assert_same, frame, over_the_wire, plan, pose, trace

from stvla_ros.description.kinematics import tcp_pose
from stvla_ros.errors import OutcomeCode, StageError
from stvla_ros.pipeline import TaskState
from stvla_ros.ros import decisions as d
from stvla_ros.types import Guidance, JointPath, Keypose, Outcome, RobotState

BASE = "fr3_link0"
T0 = 1_764_000_000_123_456_789
OK = Outcome(OutcomeCode.OK, "")
FAILED = Outcome(OutcomeCode.GOAL_NOT_GROUNDED, "Wanted a red block, found none: check the words.", {"plan": 0.5})
rng = np.random.default_rng(5)


def robot() -> RobotState:
    q = rng.uniform(-1, 1, 7)
    return RobotState(q, np.array([0.1, np.nan, 0, 0, 0, 0, 0]), tcp_pose(q), 0.03, T0, T0 - 5_000_000)


def history() -> tuple[Keypose, ...]:
    return Keypose(pose(), True, False, T0 - 9), Keypose(pose(), False, True, T0 - 5)


@pytest.mark.parametrize("failed", [False, True])
def test_plan(failed: bool) -> None:
    value = d.PlanDecision(
        T0, "Put it there.", history(), "Too low.", "the lime block", T0 - 1, robot(), OK, plan(), 0.25
    )
    if failed:
        value = replace(value, robot=None, image_stamp_ns=0, outcome=FAILED, plan=None, history=())
    assert_same(value, d.plan_decision_from_msg(over_the_wire(d.plan_decision_to_msg(value, BASE))))


@pytest.mark.parametrize("failed", [False, True])
def test_keypose(failed: bool) -> None:
    value = d.KeyposeDecision(T0, "Go.", "a1", history(), T0 - 1, robot(), OK, history()[0], 0.125)
    complete = replace(value, keypose=None)
    assert complete.path_complete
    assert not value.path_complete
    value = replace(value, outcome=FAILED, keypose=None, robot=None) if failed else value
    assert not value.path_complete
    for v in (value, complete):
        assert_same(v, d.keypose_decision_from_msg(over_the_wire(d.keypose_decision_to_msg(v, BASE))))


def test_motion() -> None:
    path = JointPath(rng.normal(size=(5, 7)), rng.normal(size=(5, 7)), np.array([0, 0.1, 0.25, 1.5, 20.000000001]))
    value = d.MotionDecision(T0, "a1", history()[0], T0 - 3, robot(), (path, path), OK)
    again = d.motion_decision_from_msg(over_the_wire(d.motion_decision_to_msg(value, BASE, ("j1",) * 7)))
    for sent, got in zip(value.paths, again.paths, strict=True):
        assert np.array_equal(sent.q_rad, got.q_rad)
        assert np.array_equal(sent.dq_rad_s, got.dq_rad_s)
        assert np.abs(sent.t_s - got.t_s).max() < 1e-9
    assert_same(replace(value, paths=()), replace(again, paths=()))


def test_guidance() -> None:
    removed = rng.random((48, 64)) > 0.7
    guided = Guidance(trace(), 0.05, (4,), (7, 9), frame(), "full", (), 0.123, ("The camera moved.",), removed)
    value = d.guidance_decision(guided, robot(), 0.02)
    assert value.digest == guided.frame.digest()
    assert_same(value, d.guidance_decision_from_msg(over_the_wire(d.guidance_decision_to_msg(value, BASE, "camera"))))
    for other in (replace(value, removed_px=None), d.GuidanceDecision(T0, "a1", None, FAILED)):
        assert_same(other, d.guidance_decision_from_msg(over_the_wire(d.guidance_decision_to_msg(other, BASE))))


def test_a_mask_that_is_no_png_is_refused() -> None:
    value = d.guidance_decision(Guidance(trace(), 0.05, (), (), frame(), "off"), robot(), 0.0)
    message = d.guidance_decision_to_msg(value, BASE)
    message.removed.data = b"GIF89a"
    with pytest.raises(ValueError, match="wanted a PNG of the pixels painted out, got 6 bytes"):
        d.guidance_decision_from_msg(message)


def test_task_end() -> None:
    value = d.TaskEnd(T0, T0 + 9_000_000_000, FAILED, TaskState("Push.", "push it", 1, 2, keyposes=3))
    assert_same(value, d.task_end_from_msg(over_the_wire(d.task_end_to_msg(value))))


def test_a_failure_becomes_an_outcome() -> None:
    assert d.outcome_of(None).ok
    assert d.outcome_of(StageError(OutcomeCode.NO_IK, "No.")) == Outcome(OutcomeCode.NO_IK, "No.")


def test_a_digest_tells_one_pixel_and_one_depth_apart() -> None:
    seen = frame()
    rgb, depth = seen.rgb.copy(), seen.depth_m.copy()
    rgb[3, 4, 1] ^= 1
    depth[20, 20] += np.float32(1e-6)
    digests = {f.digest() for f in (seen, replace(seen, rgb=rgb), replace(seen, depth_m=depth), replace(seen))}
    assert len(digests) == 3
