"""Planner, guidance and policy as processes on a recorded camera: the same answers as the pipeline, typed failures."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import stalls
from ros.bags import PICK, record_scene
from sensor_msgs.msg import Image
from stvla_msgs.msg import Guidance as GuidanceMsg
from stvla_msgs.msg import GuidanceRequest
from stvla_msgs.msg import Outcome as OutcomeMsg
from stvla_msgs.msg import TracePlan as TracePlanMsg
from system.brain_harness import BrainHarness, wait

from stvla_ros import registry
from stvla_ros.data.recording import Recording
from stvla_ros.errors import CancelToken, StageError
from stvla_ros.perception.guide import GuideConfig, SpatialGuide
from stvla_ros.perception.overlay import overlay
from stvla_ros.ros import convert, qos
from stvla_ros.types import Keypose, Observation, PlanRequest


@pytest.fixture
def harness(ros: Any, start: Callable[..., Any], tmp_path: Path) -> BrainHarness:
    harness = BrainHarness(ros, start)
    harness.folder = record_scene(tmp_path / "recording")
    return harness


def test_nodes_and_pipeline_give_the_same_answers(harness: BrainHarness) -> None:
    """Plan, path, guidance and three keyposes in a row.

    Tolerance: the camera's pose and the keyposes travel as quaternions (1e-12); images and ids are bit-equal.
    """
    harness.start("camera", "planner", "guidance", "policy", camera__path=str(harness.folder))
    recorded = Recording(harness.folder)[0]
    plan = registry.create("planner", "colour").plan(PlanRequest(PICK, recorded.frame, recorded.robot))
    guide = SpatialGuide(registry.create("segmenter", "geometric"), GuideConfig())
    trace = guide.lift(plan, recorded.frame)
    guidance = guide.guide(trace, recorded.frame, recorded.robot)
    policy = registry.create("policy", "scripted")

    overlays: list[Image] = []
    harness.node.create_subscription(Image, "stvla/overlay", overlays.append, qos.IMAGE_BEST_EFFORT)
    theirs = convert.plan_from_msg(harness.lifted())
    np.testing.assert_allclose(theirs.uv, plan.uv, atol=1e-9)
    np.testing.assert_allclose(theirs.depth_offset_m, plan.depth_offset_m, atol=1e-9)
    assert (theirs.sub_instruction, theirs.finished) == (plan.sub_instruction, plan.finished)

    their_trace = convert.trace_from_msg(harness.trace(theirs.plan_id))
    np.testing.assert_allclose(their_trace.xyz_m, trace.xyz_m, atol=1e-6)
    np.testing.assert_array_equal(their_trace.source, trace.source)
    assert their_trace.notes == trace.notes

    history: list[Keypose] = []
    for _ in range(3):
        observation = Observation(guidance, recorded.robot, tuple(history), PICK)
        keypose = policy.predict(observation)
        answer = harness.predict(theirs.plan_id, history=convert.history_to_msg(history, "panda_link0"))
        assert answer.outcome.code == OutcomeMsg.OK, answer.outcome.sentence
        assert answer.path_complete == (keypose is None)
        if keypose is None:
            break
        got = convert.keypose_from_msg(answer.keypose, "panda_link0")
        np.testing.assert_allclose(got.T_base_tcp, keypose.T_base_tcp, atol=1e-6)
        assert (got.gripper_open, got.may_collide) == (keypose.gripper_open, keypose.may_collide)
        history.append(keypose)
    assert history

    wait(lambda: harness.guidance)
    their_guidance = convert.guidance_from_msg(harness.guidance[-1])
    assert (their_guidance.kept_ids, their_guidance.removed_ids) == (guidance.kept_ids, guidance.removed_ids)
    assert guidance.removed_ids, "something must have been painted out for this to mean anything"
    np.testing.assert_array_equal(their_guidance.frame.rgb, guidance.frame.rgb)
    assert their_guidance.mode == guidance.mode
    wait(lambda: overlays)
    np.testing.assert_array_equal(convert.image_to_rgb(overlays[-1]), overlay(guidance))
    np.testing.assert_array_equal(their_guidance.frame.depth_m, guidance.frame.depth_m)


def test_typed_failures_of_the_composed_brain(harness: BrainHarness) -> None:
    harness.start("camera", "composed", camera__path=str(harness.folder), planner__camera__timeout_s="2.0")

    wait(lambda: harness.plan().outcome.code == OutcomeMsg.OK)  # the planner has found the camera

    def refused(result: Any) -> tuple[int, str]:
        return result.outcome.code, result.outcome.sentence

    code, sentence = refused(harness.plan("Put the purple block in the plate."))
    assert code == OutcomeMsg.GOAL_NOT_GROUNDED, sentence
    assert "purple" in sentence
    assert refused(harness.plan(""))[0] == OutcomeMsg.INVALID_GOAL

    nowhere = convert.KeyposeMsg()
    nowhere.header.frame_id, nowhere.pose.orientation.w = "panda_link0", 0.0
    code, sentence = refused(harness.plan(history=[nowhere]))
    assert code == OutcomeMsg.INVALID_GOAL
    assert "quaternion: wanted four finite numbers, not all zero" in sentence

    in_future = convert.ns_to_time(time.time_ns() + 60_000_000_000)
    code, sentence = refused(harness.plan(not_before=in_future))
    assert code == OutcomeMsg.STALE_IMAGE
    assert "60.0 s newer than now" in sentence

    code, sentence = refused(harness.predict("never-heard-of"))
    assert code == OutcomeMsg.STALE_IMAGE
    assert "never-heard-of" in sentence

    plan = harness.lifted()
    code, sentence = refused(harness.predict(plan.plan_id, not_before=in_future))
    assert code == OutcomeMsg.STALE_IMAGE

    _older_plan_never_replaces_newer(harness, plan)
    _path_off_the_table_is_typed(harness, plan)
    _no_camera(harness, plan)


def _older_plan_never_replaces_newer(harness: BrainHarness, newest: TracePlanMsg) -> None:
    """The older one is answered, not used, and the newer one goes on serving."""
    publisher = harness.node.create_publisher(TracePlanMsg, "stvla/plan", qos.LATCHED)
    wait(publisher.get_subscription_count)
    older = convert.plan_to_msg(convert.plan_from_msg(newest))
    older.plan_id = "older"
    older.header.stamp = convert.ns_to_time(convert.time_to_ns(newest.header.stamp) - 1)
    publisher.publish(older)
    refused = harness.trace("older").outcome
    assert refused.code == OutcomeMsg.STALE_IMAGE
    assert "older than the plan in use" in refused.sentence
    assert harness.predict("older").outcome.code == OutcomeMsg.STALE_IMAGE
    assert harness.predict(newest.plan_id).outcome.code == OutcomeMsg.OK


def _path_off_the_table_is_typed(harness: BrainHarness, plan: TracePlanMsg) -> None:
    """A plan that cannot be lifted says so on the trace topic, with the lifter's own code."""
    publisher = harness.node.create_publisher(TracePlanMsg, "stvla/plan", qos.LATCHED)
    wait(publisher.get_subscription_count)
    fresh = harness.lifted()
    bad = convert.plan_to_msg(convert.plan_from_msg(fresh))
    bad.plan_id, bad.depth_offset_m = "bad", np.full(8, 3.0)
    publisher.publish(bad)
    assert harness.trace("bad").outcome.code == OutcomeMsg.LIFT_IMPLAUSIBLE
    assert harness.predict("bad").outcome.code == OutcomeMsg.LIFT_IMPLAUSIBLE


def _no_camera(harness: BrainHarness, plan: TracePlanMsg) -> None:
    harness.processes["camera"].stop()
    time.sleep(5.2)
    result = harness.plan()
    assert result.outcome.code == OutcomeMsg.STALE_IMAGE
    assert "nobody publishes" in result.outcome.sentence or "s old" in result.outcome.sentence
    assert harness.predict(plan.plan_id).outcome.code in (OutcomeMsg.STALE_IMAGE, OutcomeMsg.STALE_STATE)


def test_guidance_that_takes_three_seconds_is_of_use(harness: BrainHarness) -> None:
    """It was new enough when it was asked for, and the arm's state of then is still known."""
    harness.start("camera", "planner", "guidance", "policy", camera__path=str(harness.folder))
    plan = harness.lifted()
    assert harness.predict(plan.plan_id).outcome.code == OutcomeMsg.OK
    harness.processes["guidance"].stop()
    before = convert.guidance_from_msg(harness.guidance[-1])
    publisher = harness.node.create_publisher(GuidanceMsg, "stvla/guidance", qos.IMAGE_BEST_EFFORT)
    wait(publisher.get_subscription_count)
    asked: list[int] = []

    def answer(request: GuidanceRequest) -> None:
        if not asked:
            asked.append(convert.time_to_ns(request.not_before))
            threading.Timer(3.0, partial(late, asked[0])).start()

    def late(stamp_ns: int) -> None:
        frame = replace(before.frame, stamp_ns=stamp_ns)
        publisher.publish(convert.guidance_to_msg(replace(before, frame=frame), "panda_link0"))

    harness.node.create_subscription(GuidanceRequest, "stvla/guidance_request", answer, qos.EVENT)
    result = harness.predict(plan.plan_id, not_before=convert.ns_to_time(time.time_ns()))
    assert asked
    assert result.outcome.code == OutcomeMsg.OK, result.outcome.sentence


def test_cancel_while_waiting_for_an_image(harness: BrainHarness) -> None:
    harness.start("planner", planner__camera__timeout_s="20.0")
    cancel = CancelToken()
    threading.Timer(0.5, cancel.cancel).start()
    start = stalls.clock()
    try:
        assert harness.plan(cancel=cancel).outcome.code == OutcomeMsg.CANCELED
    except StageError:
        pytest.fail("the planner did not answer the cancel")
    assert stalls.clock() - start < 1.5


def test_wrong_recording_ends_the_camera(start: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "holiday.jpg").write_text("x")
    process = start("stvla_ros.nodes.camera", "--ros-args", "-p", f"path:={tmp_path}")
    assert process.wait() == 2
    assert "wanted a recording (recording.json" in process.output
    assert len(process.said()) == 1


@pytest.mark.parametrize("number", [2, 15])
def test_signals_end_a_node_at_once(harness: BrainHarness, number: int) -> None:
    harness.start("composed")
    start = stalls.clock()
    process = harness.processes["composed"]
    process.popen.send_signal(number)
    process.popen.send_signal(number)  # twice, as from a terminal and a supervisor
    assert process.wait(60.0) == 0, process.output
    assert stalls.clock() - start < 6.0
    assert "Traceback" not in process.output
