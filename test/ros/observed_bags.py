"""Bags as ``stvla record`` writes them, of tasks in one process: small, quick, and with every decision.

``python test/ros/observed_bags.py FOLDER`` writes the bags of ``test/replay/bags``.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rclpy.serialization import serialize_message
from tf2_msgs.msg import TFMessage

from stvla_ros.description.robot import RobotConfig
from stvla_ros.errors import OutcomeCode
from stvla_ros.evaluate.stack import StackSettings
from stvla_ros.pipeline import TaskState
from stvla_ros.record.runs import write_run
from stvla_ros.registry import BACKEND_PARAMETER
from stvla_ros.replay.observing import ObservedTask, observe
from stvla_ros.replay.values import Kind, Moment
from stvla_ros.ros import convert, decisions, recorded_topics
from stvla_ros.ros.bag_writer import BagWriter
from stvla_ros.ros.frames import CameraConfig
from stvla_ros.ros.robot_state import state_to_msg
from stvla_ros.sim.camera import TripodCameraConfig
from stvla_ros.sim.cell import Cell, CellConfig
from stvla_ros.types import Outcome, RgbdFrame

BASE, OPTICAL = "panda_link0", "camera_color_optical_frame"
SMALL = {"pick_place": (1, 256, 192), "stack_cube": (1, 240, 180), "push_buttons": (2, 240, 180)}
"""Task -> seed, width and height [px] of the bags in ``test/replay/bags``, each below 3 MB."""

CAMERA, ROBOT = CameraConfig(), RobotConfig()
START_NS = 1_700_000_000_000_000_000
"""Simulated time begins at 0, which a message cannot have."""

Told = tuple[int, str, Any]


def small_settings(width_px: int = 320, height_px: int = 240) -> StackSettings:
    """The defaults with a noisy camera of few pixels."""
    camera = dataclasses.replace(TripodCameraConfig(), width_px=width_px, height_px=height_px)
    return StackSettings(cell=CellConfig(camera=camera)).with_noise()


def observed(task: str, seed: int, settings: StackSettings) -> ObservedTask:
    """A task of the loop in one process."""
    cell = Cell(settings.cell)
    try:
        return observe(settings, cell, task, cell.reset(task, seed))
    finally:
        cell.close()


def write_observed(task: ObservedTask, folder: Path, settings: StackSettings) -> Path:
    """Write a task as ``folder/bag`` with ``folder/run.json``; the bag."""
    topics = recorded_topics.recorded_topics(CAMERA, ROBOT)
    writer = BagWriter(folder / "bag", topics)
    for ns, topic, message in sorted(_messages(task), key=lambda told: told[0]):
        writer.write(f"/{topic.lstrip('/')}", serialize_message(message), ns)
    writer.close()
    write_run(folder, {"parameters": parameters(settings), "versions": task.versions, "complete": True})
    return folder / "bag"


def parameters(settings: StackSettings) -> dict[str, dict[str, Any]]:
    """The stages' settings as the nodes' parameters."""
    out: dict[str, dict[str, Any]] = {}
    for kind, (node, setting) in BACKEND_PARAMETER.items():
        out.setdefault(node, {})[setting] = settings.backends[kind]
    out["guidance"] |= _flat(dataclasses.asdict(settings.guide))
    out["executor"] |= _flat({"executor": dataclasses.asdict(settings.executor)})
    return out


def _flat(values: Mapping[str, Any], name: str = "") -> dict[str, Any]:
    out: dict[str, Any] = {}
    for key, value in values.items():
        out |= _flat(value, f"{name}{key}.") if isinstance(value, dict) else {f"{name}{key}": value}
    return out


def _ns(stamp_ns: int) -> int:
    return stamp_ns + START_NS


def _messages(task: ObservedTask) -> Iterator[Told]:
    frames = list(task.frames.values())
    transform = convert.matrix_to_transform(frames[0].camera.T_base_camera, BASE, OPTICAL, _ns(0))
    yield _ns(0), "/tf_static", TFMessage(transforms=[transform])
    for frame in frames:
        yield from _picture(frame)
    now_ns = 0
    for moment in task.moments:
        now_ns = max(now_ns + 1000, moment.stamp_ns + 20_000_000)  # decisions follow their images
        yield from _decision(moment, _ns(now_ns))
    outcome = task.outcome or Outcome(OutcomeCode.CANCELED, "")
    end = decisions.TaskEnd(_ns(0), _ns(now_ns), outcome, TaskState(task.instruction))
    yield _ns(now_ns + 1000), decisions.TASK_END, decisions.task_end_to_msg(end)


def _picture(frame: RgbdFrame) -> Iterator[Told]:
    ns = _ns(frame.stamp_ns)
    head = convert.header(ns, OPTICAL)
    yield ns, CAMERA.color, convert.rgb_to_image(frame.rgb, head)
    yield ns, CAMERA.depth, convert.depth_to_image_mm(frame.depth_m, head)
    yield ns, CAMERA.info, convert.camera_to_info(frame.camera, head)


def _decision(m: Moment, now_ns: int) -> Iterator[Told]:
    r = m.recorded
    assert r is not None
    assert m.robot is not None
    robot = dataclasses.replace(m.robot, stamp_ns=_ns(m.robot.stamp_ns))
    yield now_ns, ROBOT.joint_states, state_to_msg(robot, ROBOT)
    image_ns, outcome = _ns(m.image_stamp_ns), r.outcome
    history = tuple(dataclasses.replace(k, stamp_ns=_ns(k.stamp_ns)) for k in m.history)
    if m.kind is Kind.PLAN:
        plan = None if r.plan is None else dataclasses.replace(r.plan, image_stamp_ns=image_ns)
        made = decisions.PlanDecision(
            now_ns, m.instruction, history, m.feedback, m.holding, image_ns, robot, outcome, plan, r.seconds
        )
        yield now_ns, decisions.PLAN, decisions.plan_decision_to_msg(made, BASE)
        if r.trace is not None:
            yield now_ns, "stvla/trace", convert.trace_to_msg(r.trace, image_ns, BASE)
    elif m.kind is Kind.GUIDE:
        made_g = decisions.GuidanceDecision(image_ns, m.plan_id, robot, outcome, r.masking, r.seconds)
        yield now_ns, decisions.GUIDANCE, decisions.guidance_decision_to_msg(made_g, BASE, OPTICAL)
    elif m.kind is Kind.PREDICT:
        made_k = decisions.KeyposeDecision(
            now_ns, m.instruction, m.plan_id, history, image_ns, robot, outcome, r.keypose, r.seconds
        )
        yield now_ns, decisions.KEYPOSE, decisions.keypose_decision_to_msg(made_k, BASE)
    else:
        assert m.keypose is not None
        assert m.after is not None
        after = dataclasses.replace(m.after, stamp_ns=now_ns)
        yield now_ns, ROBOT.joint_states, state_to_msg(after, ROBOT)
        made_m = decisions.MotionDecision(now_ns, m.plan_id, m.keypose, image_ns, robot, r.paths, outcome)
        yield now_ns, decisions.MOTION, decisions.motion_decision_to_msg(made_m, BASE, ROBOT.arm_joints)


if __name__ == "__main__":
    for name, (seed, width_px, height_px) in SMALL.items():
        small = small_settings(width_px, height_px)
        print(write_observed(observed(name, seed, small), Path(sys.argv[1]) / name, small))
