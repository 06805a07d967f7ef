"""Planner and guide over the frames of a recording or of a still simulated scene, without a robot that moves."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from stvla_ros import registry
from stvla_ros.data.recording import RecordedFrame
from stvla_ros.description.kinematics import tcp_pose
from stvla_ros.description.panda import HOME_Q_RAD, MAX_WIDTH_M
from stvla_ros.errors import StageError
from stvla_ros.evaluate.stack import StackSettings
from stvla_ros.perception.guide import SpatialGuide
from stvla_ros.sim.cell import Cell
from stvla_ros.types import Guidance, PlanRequest, RgbdFrame, RobotState, Trace3d


@dataclass(frozen=True, eq=False)
class GuidedFrame:
    """One frame and what guidance made of it.

    Attributes:
        frame: As the camera gave it.
        result: The guidance, or why there is none.
        replanned: The planner looked at this frame.
        ms: Wall-clock milliseconds of the guide, planner not counted.
    """

    frame: RgbdFrame
    result: Guidance | StageError
    replanned: bool
    ms: float


def guide_frames(
    frames: Iterable[RecordedFrame], instruction: str, settings: StackSettings, replan_s: float = 0.0
) -> Iterator[GuidedFrame]:
    """Plan on the first frame (and every ``replan_s`` seconds where that is not 0, and after a failure), guide all.

    Args:
        frames: In the order of their stamps. A frame without arm state is taken as showing no robot: the arm is
            thought at home.
        instruction: What the planner is asked.
        settings: Of planner, segmenter and guide.
    """
    backends, sections = settings.backends, settings.sections
    planner = registry.create("planner", backends["planner"], sections.get("planner", {}))
    segmenter = registry.create("segmenter", backends["segmenter"], sections.get("segmenter", {}))
    guide = SpatialGuide(segmenter, settings.guide)
    trace: Trace3d | None = None
    next_plan_ns = 0
    for recorded in frames:
        frame, robot = recorded.frame, recorded.robot or _at_home(recorded.frame.stamp_ns)
        due = trace is None or (replan_s > 0 and frame.stamp_ns >= next_plan_ns)
        start = time.perf_counter()
        try:
            if due:
                plan = planner.plan(PlanRequest(instruction, frame, robot))
                start, next_plan_ns = time.perf_counter(), frame.stamp_ns + round(replan_s * 1e9)
                trace = guide.lift(plan, frame)
            assert trace is not None
            result: Guidance | StageError = guide.guide(trace, frame, robot)
        except StageError as error:
            result, trace = error, None
        yield GuidedFrame(frame, result, due, 1e3 * (time.perf_counter() - start))


def still_frames(cell: Cell, count: int, rate_hz: float = 15.0) -> Iterator[RecordedFrame]:
    """Frames of a simulated cell in which nobody moves."""
    for _ in range(count):
        cell.advance(1.0 / rate_hz)
        yield RecordedFrame(cell.render(), cell.state())


def _at_home(stamp_ns: int) -> RobotState:
    return RobotState(HOME_Q_RAD, np.zeros(7), tcp_pose(HOME_Q_RAD), MAX_WIDTH_M, stamp_ns)
