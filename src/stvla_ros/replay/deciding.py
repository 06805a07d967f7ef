"""Decides again at every recorded moment, with the same stages, step by step and without a clock.

The stages get exactly what the recording says they were given: the image with its stamp, the arm's state, the history.
Those with a memory (planner, guide, planning scene) get it in the recorded order. What the arm did is the recording's, not
theirs: an executor that plans again finds the arm where it was.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from stvla_ros.errors import CancelToken, OutcomeCode, StageError
from stvla_ros.evaluate.stack import StackSettings, make_executor, make_guide, make_planner, make_policy
from stvla_ros.interfaces import Guide, Planner, Policy, Robot
from stvla_ros.motion.executor import PlannedExecutor
from stvla_ros.perception.guide import begins_task
from stvla_ros.replay.arm import RecordedArm
from stvla_ros.replay.values import Decision, Kind, Masking, Mode, Moment, RecordedTask
from stvla_ros.types import (
    Guidance,
    Keypose,
    Observation,
    Outcome,
    PlanRequest,
    RobotState,
    Trace3d,
    TracePlan,
)

SURROUNDINGS = frozenset(
    {
        OutcomeCode.STALE_IMAGE,
        OutcomeCode.STALE_STATE,
        OutcomeCode.SERVER_TIMEOUT,
        OutcomeCode.SERVER_ERROR,
        OutcomeCode.NODE_LOST,
        OutcomeCode.CANCELED,
        OutcomeCode.PREEMPTED,
        OutcomeCode.INTERNAL,
    }
)
"""Failures that do not follow from what a stage was given: nothing can be said about them again."""

K = TypeVar("K")
V = TypeVar("V")

KEPT = 8
"""So many cleaned frames, and lifted paths, are kept for later moments."""

WARM_UP = 2
"""So many frames are guided before the one that counts, unless all are."""

OK = Outcome(OutcomeCode.OK, "")


@dataclass(frozen=True, eq=False)
class StageSet:
    """The stages of one replay. Make new ones for each: they have state.

    Attributes:
        planner: None: the recorded plans are used.
        guide: Lifts and cleans.
        policy: Predicts.
        make_executor: Plans motions, for an arm.
    """

    planner: Planner | None
    guide: Guide
    policy: Policy
    make_executor: Callable[[Robot], PlannedExecutor]


def make_stages(settings: StackSettings, recorded_plans: bool = False) -> StageSet:
    """New stages with these settings. Raises ConfigError when a backend cannot be made.

    Args:
        settings: Of all stages.
        recorded_plans: Use the plans of the recording instead of a planner.
    """
    planner = None if recorded_plans else make_planner(settings)
    return StageSet(planner, make_guide(settings), make_policy(settings), lambda arm: make_executor(settings, arm))


def repeatable(moment: Moment) -> bool:
    """Whether a moment's stage can decide again: it was given an image and the arm's state, and it decided by itself."""
    if not moment.image_stamp_ns or moment.robot is None:
        return False
    recorded = moment.recorded
    return recorded is None or bool(recorded.paths) or recorded.outcome.code not in SURROUNDINGS


def decide(
    task: RecordedTask, stages: StageSet, mode: Mode = Mode.TEACHER_FORCED, every_frame: bool = True
) -> Iterator[Decision]:
    """Decide again at every moment that can be repeated, in order of time.

    Args:
        task: The recording.
        stages: New ones.
        mode: What the stages are given.
        every_frame: Guide every frame again. False: those that a keypose was predicted from, after a few frames before
            them for what the guide remembers (:func:`guided_again`); only the former are decisions.

    Yields:
        One decision per moment; with the outcome STALE_IMAGE where the recording lacks its image.
    """
    run = _Run(task, stages, mode)
    guided, told = guided_again(task.moments)
    for moment in task.moments:
        if moment.kind is Kind.GUIDE and not every_frame and moment.number not in guided:
            continue
        decision = run.at(moment)
        if repeatable(moment) and (every_frame or moment.kind is not Kind.GUIDE or moment.number in told):
            yield decision


def guided_again(moments: Sequence[Moment]) -> tuple[frozenset[int], frozenset[int]]:
    """Which frames a replay guides again unless it guides all of them.

    The guide remembers what it decided on the first frame of a plan, and the instances and the hole of the last frames.
    So these are guided too before each frame that a keypose was predicted from.

    Returns:
        Numbers of the GUIDE moments that are guided, and of those among them that a keypose was predicted from.
    """
    used = {(m.plan_id, m.image_stamp_ns) for m in moments if m.kind is Kind.PREDICT}
    frames = [m for m in moments if m.kind is Kind.GUIDE]
    told = {i for i, m in enumerate(frames) if (m.plan_id, m.image_stamp_ns) in used}
    before = {k for i in told for k in range(max(0, i - WARM_UP), i)}
    first = {m.plan_id: i for i, m in reversed(list(enumerate(frames)))}
    guided = told | before | set(first.values())
    return frozenset(frames[i].number for i in guided), frozenset(frames[i].number for i in told)


class _Run:
    """One replay: what the stages have decided so far."""

    def __init__(self, task: RecordedTask, stages: StageSet, mode: Mode) -> None:
        self._task, self._stages, self._mode = task, stages, mode
        self._arm = RecordedArm()
        self._executor = stages.make_executor(self._arm)
        self._left: RobotState | None = None  # how the last motion left the robot
        self._traces: OrderedDict[str, Trace3d | StageError] = OrderedDict()  # by plan
        self._cleaned: OrderedDict[tuple[str, int], Guidance | StageError] = OrderedDict()  # by plan and image
        self._own: list[Keypose] = []  # executed, if the arm had followed this replay
        self._next: Keypose | None = None
        self._before: TracePlan | None = None  # recorded
        self._steps = {
            Kind.PLAN: self._plan,
            Kind.GUIDE: self._guide,
            Kind.PREDICT: self._predict,
            Kind.MOVE: self._move,
        }

    def at(self, moment: Moment) -> Decision:
        """The decision at a moment; one without an answer where it cannot be repeated."""
        if not moment.image_stamp_ns or moment.robot is None:
            return Decision(moment.number, moment.kind, OK)
        start = time.perf_counter()
        try:
            decision = self._steps[moment.kind](moment, moment.robot)
        except StageError as error:
            decision = Decision(moment.number, moment.kind, _outcome(error))
        return replace(decision, seconds=time.perf_counter() - start)

    @property
    def _forced(self) -> bool:
        return self._mode is Mode.TEACHER_FORCED

    def _plan(self, moment: Moment, robot: RobotState) -> Decision:
        recorded = moment.recorded.plan if moment.recorded else None
        if recorded is not None:
            if self._before is not None and begins_task(self._before, recorded):
                self._stages.guide.reset()  # as the guidance node does
            self._before = recorded
        try:
            own = self._own_plan(moment, robot)
        except StageError as error:
            self._use(moment, recorded, error)
            raise
        lifted = None if own is None or own.finished else self._lift(own)
        self._use(moment, recorded, _finished(own) if lifted is None else lifted)
        trace = lifted if isinstance(lifted, Trace3d) else None
        lifting = None if lifted is None else _outcome(lifted)
        return Decision(moment.number, Kind.PLAN, OK, plan=own, trace=trace, lifting=lifting)

    def _own_plan(self, moment: Moment, robot: RobotState) -> TracePlan | None:
        """The planner's path, under the recorded id, so that later moments find it."""
        if self._stages.planner is None:
            recorded = moment.recorded
            if recorded is not None and not recorded.outcome.ok:
                raise StageError(recorded.outcome.code, recorded.outcome.sentence)
            return recorded.plan if recorded else None
        history = moment.history if self._forced else tuple(self._own[: len(moment.history)])
        frame = self._task.frame(moment.image_stamp_ns)
        request = PlanRequest(moment.instruction, frame, robot, history, moment.feedback, CancelToken(), moment.holding)
        return replace(self._stages.planner.plan(request), plan_id=moment.plan_id)

    def _use(self, moment: Moment, recorded: TracePlan | None, own: Trace3d | StageError) -> None:
        """Follow the recorded plan if there is one and the history is the recorded one, otherwise the replay's own."""
        if self._forced and recorded is not None and not recorded.finished:
            own = self._lift(recorded)
        _keep(self._traces, moment.plan_id, own)

    def _lift(self, plan: TracePlan) -> Trace3d | StageError:
        try:
            return self._stages.guide.lift(plan, self._task.frame(plan.image_stamp_ns))
        except StageError as error:
            return error

    def _trace(self, plan_id: str) -> Trace3d:
        trace = self._traces.get(plan_id)
        if trace is None:
            raise StageError(OutcomeCode.INVALID_GOAL, "The recording does not have the plan in use.")
        if isinstance(trace, StageError):
            raise trace
        return trace

    def _guide(self, moment: Moment, robot: RobotState) -> Decision:
        guidance = self._clean(moment, robot)
        return Decision(moment.number, Kind.GUIDE, OK, masking=Masking.of(guidance))

    def _clean(self, moment: Moment, robot: RobotState) -> Guidance:
        key = moment.plan_id, moment.image_stamp_ns
        try:
            frame = self._task.frame(moment.image_stamp_ns)
            guidance = self._stages.guide.guide(self._trace(moment.plan_id), frame, robot)
        except StageError as error:
            _keep(self._cleaned, key, error)
            raise
        _keep(self._cleaned, key, guidance)
        return guidance

    def _predict(self, moment: Moment, robot: RobotState) -> Decision:
        guidance = self._cleaned.get((moment.plan_id, moment.image_stamp_ns))
        if guidance is None:  # the recording lost the decision of guidance
            guidance = self._clean(moment, robot)
        if isinstance(guidance, StageError):
            raise guidance
        self._next = None
        known = len(moment.history)  # of this step of the task
        history = moment.history if self._forced else tuple(self._own[max(len(self._own) - known, 0) :])
        keypose = self._stages.policy.predict(Observation(guidance, robot, history, moment.instruction))
        self._next = keypose
        return Decision(moment.number, Kind.PREDICT, OK, keypose=keypose, path_complete=keypose is None)

    def _move(self, moment: Moment, robot: RobotState) -> Decision:
        forced = moment.keypose if self._forced else None
        keypose = forced or self._next or moment.keypose
        assert keypose is not None, "a MOVE moment has its goal"
        if self._left is not None and robot.moved_since(self._left):
            self._executor.reset()  # as the executor node does when somebody else moved the robot
        self._left = moment.after
        self._arm.begin(moment, robot)
        if moment.recorded is not None and moment.recorded.outcome.ok:
            self._own.append(replace(self._next or keypose, stamp_ns=moment.stamp_ns))
        trace = self._traces.get(moment.plan_id)
        frame = self._task.frame(moment.image_stamp_ns)
        outcome = OK
        try:
            self._executor.execute(keypose, frame, trace if isinstance(trace, Trace3d) else None, CancelToken())
        except StageError as error:
            outcome = _outcome(error)
        return Decision(moment.number, Kind.MOVE, outcome, keypose=keypose, paths=tuple(self._arm.paths))


def _outcome(result: object) -> Outcome:
    return Outcome.of(result) if isinstance(result, StageError) else OK


def _finished(plan: TracePlan | None) -> StageError:
    if plan is None:
        return StageError(OutcomeCode.INVALID_GOAL, "The recording has no plan here.")
    return StageError(OutcomeCode.NO_PROGRESS, "In this replay the planner sees the task finished here.")


def _keep(kept: OrderedDict[K, V], key: K, value: V) -> None:
    kept[key] = value
    while len(kept) > KEPT:
        kept.popitem(last=False)
