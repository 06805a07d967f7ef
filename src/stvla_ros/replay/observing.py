"""Records a task of the loop in one process: what each stage was given and decided, as a replay wants it.

Each stage is wrapped in one that notes its call. The result is a :class:`stvla_ros.replay.values.RecordedTask` in memory.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from stvla_ros.errors import CancelToken, OutcomeCode, StageError
from stvla_ros.evaluate.stack import StackSettings, make_executor, make_guide, make_planner, make_policy
from stvla_ros.interfaces import FrameSource, Guide, KeyposeExecutor, Planner, Policy
from stvla_ros.motion.followed import FollowedPaths
from stvla_ros.pipeline import LocalStages, run_task
from stvla_ros.replay.deciding import OK
from stvla_ros.replay.values import Decision, Kind, Masking, Moment
from stvla_ros.robot.sim import SimCamera, SimRobot
from stvla_ros.sim.cell import Cell
from stvla_ros.types import (
    Guidance,
    Keypose,
    Observation,
    Outcome,
    PlanRequest,
    RgbdFrame,
    RobotState,
    Trace3d,
    TracePlan,
)
from stvla_ros.versions import versions


@dataclass
class ObservedTask:
    """One task, as it goes on. A :class:`stvla_ros.replay.values.RecordedTask`."""

    name: str
    instruction: str = ""
    moments: list[Moment] = field(default_factory=list)
    seconds: float = 0.0
    derived: bool = False
    outcome: Outcome | None = None
    settings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=versions)
    notes: list[str] = field(default_factory=list)
    frames: dict[int, RgbdFrame] = field(default_factory=dict)

    def frame(self, stamp_ns: int) -> RgbdFrame:
        if stamp_ns not in self.frames:
            raise StageError(OutcomeCode.STALE_IMAGE, f"The recording has no image of {stamp_ns / 1e9:.3f} s.")
        return self.frames[stamp_ns]

    def add(self, kind: Kind, frame_ns: int, robot: RobotState, words: str, **more: Any) -> None:
        """One more moment; ``more`` are further fields of Moment, and ``recorded`` without its number."""
        number = len(self.moments)
        recorded = more.pop("recorded")
        decision = replace(recorded, number=number)
        stamp_ns = more.pop("stamp_ns", frame_ns)
        self.moments.append(Moment(number, kind, stamp_ns, frame_ns, robot, words, recorded=decision, **more))


def observe(settings: StackSettings, cell: Cell, name: str, instruction: str) -> ObservedTask:
    """Carry out an instruction in a simulated cell, and note everything that is decided.

    Args:
        settings: Of all stages.
        cell: With its scene laid out.
        name: Of the recording.
        instruction: The operator's words.
    """
    task = ObservedTask(name, instruction)
    arm = FollowedPaths(SimRobot(cell))
    planner = _Planner(make_planner(settings, cell), task)
    stages = LocalStages(
        _Camera(SimCamera(cell), task),
        arm,
        planner,
        _Guide(make_guide(settings), task, planner),
        _Policy(make_policy(settings), task),
        _Executor(make_executor(settings, arm), task, arm),
    )
    start_ns = cell.time_ns
    result = run_task(stages, instruction, settings.loop, CancelToken(), lambda _: None, background=False)
    task.seconds, task.outcome = (cell.time_ns - start_ns) / 1e9, result.outcome
    return task


def _failed(kind: Kind, error: StageError, seconds: float) -> Decision:
    return Decision(0, kind, Outcome.of(error), seconds)


class _Camera:
    def __init__(self, camera: FrameSource, task: ObservedTask) -> None:
        self._camera, self._task = camera, task

    def capture(self) -> RgbdFrame:
        frame = self._camera.capture()
        return self._task.frames.setdefault(frame.stamp_ns, frame)


class _Planner:
    """Notes a plan when it answers; the guide then adds the lifted path."""

    def __init__(self, planner: Planner, task: ObservedTask) -> None:
        self._planner, self._task = planner, task

    def plan(self, request: PlanRequest) -> TracePlan:
        start = time.perf_counter()
        try:
            plan = self._planner.plan(request)
        except StageError as error:
            self._note(request, "", _failed(Kind.PLAN, error, time.perf_counter() - start))
            raise
        self._note(request, plan.plan_id, Decision(0, Kind.PLAN, OK, time.perf_counter() - start, plan=plan))
        return plan

    def _note(self, request: PlanRequest, plan_id: str, decision: Decision) -> None:
        self._task.add(
            Kind.PLAN,
            request.frame.stamp_ns,
            request.robot,
            request.instruction,
            plan_id=plan_id,
            history=request.history,
            feedback=request.feedback,
            holding=request.holding,
            recorded=decision,
        )

    def lifted(self, trace: Trace3d | None, outcome: Outcome) -> None:
        """The last plan was lifted, or refused."""
        last = self._task.moments[-1]
        assert last.recorded is not None
        assert last.kind is Kind.PLAN
        decision = replace(last.recorded, trace=trace, lifting=outcome)
        self._task.moments[-1] = replace(last, recorded=decision)


class _Guide:
    def __init__(self, guide: Guide, task: ObservedTask, planner: _Planner) -> None:
        self._guide, self._task, self._planner = guide, task, planner
        self.reset = guide.reset

    def lift(self, plan: TracePlan, frame: RgbdFrame) -> Trace3d:
        try:
            trace = self._guide.lift(plan, frame)
        except StageError as error:
            self._planner.lifted(None, Outcome.of(error))
            raise
        self._planner.lifted(trace, OK)
        return trace

    def guide(self, trace: Trace3d, frame: RgbdFrame, robot: RobotState) -> Guidance:
        start = time.perf_counter()

        def note(decision: Decision) -> None:
            self._task.add(
                Kind.GUIDE, frame.stamp_ns, robot, self._task.instruction, plan_id=trace.plan_id, recorded=decision
            )

        try:
            guidance = self._guide.guide(trace, frame, robot)
        except StageError as error:
            note(_failed(Kind.GUIDE, error, time.perf_counter() - start))
            raise
        note(Decision(0, Kind.GUIDE, OK, time.perf_counter() - start, masking=Masking.of(guidance)))
        return guidance


class _Policy:
    def __init__(self, policy: Policy, task: ObservedTask) -> None:
        self._policy, self._task = policy, task

    def predict(self, observation: Observation) -> Keypose | None:
        start = time.perf_counter()

        def note(decision: Decision) -> None:
            guidance = observation.guidance
            self._task.add(
                Kind.PREDICT,
                guidance.frame.stamp_ns,
                observation.robot,
                observation.instruction,
                plan_id=guidance.trace.plan_id,
                history=observation.history,
                recorded=decision,
            )

        try:
            keypose = self._policy.predict(observation)
        except StageError as error:
            note(_failed(Kind.PREDICT, error, time.perf_counter() - start))
            raise
        seconds = time.perf_counter() - start
        note(Decision(0, Kind.PREDICT, OK, seconds, keypose=keypose, path_complete=keypose is None))
        return keypose


class _Executor:
    def __init__(self, executor: KeyposeExecutor, task: ObservedTask, arm: FollowedPaths) -> None:
        self._executor, self._task, self._arm = executor, task, arm

    def execute(self, keypose: Keypose, frame: RgbdFrame, trace: Trace3d | None, cancel: CancelToken) -> Outcome:
        self._arm.paths, robot = (), self._arm.state()

        def note(outcome: Outcome) -> None:
            after = self._arm.state()
            decision = Decision(0, Kind.MOVE, outcome, keypose=keypose, paths=self._arm.paths)
            self._task.add(
                Kind.MOVE,
                frame.stamp_ns,
                robot,
                self._task.instruction,
                stamp_ns=after.stamp_ns,
                plan_id=trace.plan_id if trace else "",
                keypose=keypose,
                after=after,
                recorded=decision,
            )

        try:
            outcome = self._executor.execute(keypose, frame, trace, cancel)
        except StageError as error:
            note(Outcome.of(error))
            raise
        note(outcome)
        return outcome
