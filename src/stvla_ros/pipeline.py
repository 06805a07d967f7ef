"""The ST-VLA loop (paper Alg. 1): look, draw, lift, mask, predict, move; look again every k keyposes.

:func:`run_task` is the only place where the loop stands. It knows three verbs (:class:`Stages`). In one
process they are direct calls (:class:`LocalStages`); over ROS the task node gives it the same verbs as
action clients. Nothing here imports ROS.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from threading import Thread
from typing import Protocol, TypeAlias

from stvla_ros.config import param
from stvla_ros.errors import CancelToken, OutcomeCode, StageError
from stvla_ros.interfaces import FrameSource, Guide, KeyposeExecutor, Planner, Policy, Robot
from stvla_ros.types import HISTORY, Guidance, Keypose, Observation, Outcome, PlanRequest, Trace3d, TracePlan

MAX_INSTRUCTION_CHARS = 1000


@dataclass(frozen=True)
class LoopConfig:
    """Settings of the loop."""

    keyposes_per_plan: int = param(2, "k: keyposes executed before the planner looks again", ge=1, le=25)
    max_keyposes: int = param(25, "keyposes after which the task ends with STEP_LIMIT", ge=1, le=200)
    max_failures: int = param(3, "failed keyposes in a row after which the task ends", ge=1, le=10)
    plan_hold_s: float = param(30.0, "how long the last valid plan serves while replanning fails [s]", ge=0.0, le=600.0)


@dataclass(frozen=True, eq=False)
class Progress:
    """What the operator sees while a task runs."""

    phase: str  # planning, predicting, moving
    sub_instruction: str
    step: int
    plan_id: str
    keypose: Keypose | None
    elapsed_s: float


@dataclass(frozen=True, eq=False)
class TaskResult:
    """How a task ended.

    ``outcome.times_s`` has the seconds per phase (planning, predicting, moving), the executor's own parts of
    ``moving`` (motion planning, motion, gripper) and the ``total``.
    """

    outcome: Outcome
    keyposes: tuple[Keypose, ...]
    replans: int


class Stages(Protocol):
    """The three verbs of the loop. Each raises StageError and returns soon after ``cancel`` is set.

    A plan serves from the moment it is drawn: ``predict`` may use the plan that it is given or a newer one.
    """

    def plan(
        self, instruction: str, history: tuple[Keypose, ...], not_before_ns: int, cancel: CancelToken
    ) -> TracePlan:
        """Draw a path on an image not older than ``not_before_ns``."""
        ...

    def predict(
        self, plan: TracePlan, history: tuple[Keypose, ...], not_before_ns: int, cancel: CancelToken
    ) -> Keypose | None:
        """The next keypose on the plan, from an image not older than ``not_before_ns``; None: path complete."""
        ...

    def execute(self, plan: TracePlan, keypose: Keypose, cancel: CancelToken) -> Outcome:
        """Move."""
        ...

    def now_ns(self) -> int:
        """The clock that stamps images."""
        ...


def check_instruction(text: str) -> str:
    """The instruction without surrounding blanks.

    Raises:
        StageError: INVALID_GOAL when it is empty, longer than 1000 characters, or has control characters.
    """
    words = text.strip()
    if not words:
        raise StageError(
            OutcomeCode.INVALID_GOAL, "The instruction is empty: say what to do, e.g. 'Put the red block in the plate.'"
        )
    if len(words) > MAX_INSTRUCTION_CHARS:
        raise StageError(
            OutcomeCode.INVALID_GOAL,
            f"The instruction has {len(words)} characters; at most {MAX_INSTRUCTION_CHARS} are taken.",
        )
    if not words.isprintable():
        raise StageError(
            OutcomeCode.INVALID_GOAL, "The instruction has control characters: send one line of plain text."
        )
    return words


RETRYABLE = frozenset(
    {
        OutcomeCode.NO_IK,
        OutcomeCode.NO_PATH,
        OutcomeCode.COLLISION,
        OutcomeCode.GRASP_FAILED,
        OutcomeCode.KEYPOSE_OUT_OF_BOUNDS,
    }
)
"""Failures of one keypose after which looking again may help. All others end the task."""


def run_task(
    stages: Stages,
    instruction: str,
    config: LoopConfig,
    cancel: CancelToken,
    report: Callable[[Progress], None] = lambda _: None,
    background: bool = True,
) -> TaskResult:
    """Carry out one instruction.

    Args:
        stages: Where the work is done.
        instruction: The operator's words.
        config: Settings.
        cancel: Ends the task at any point with its own code.
        report: Called at every change of phase.
        background: Replan beside motion (a robot); False replans between keyposes, so that runs repeat exactly.

    Returns:
        The typed result; failures are returned, not raised.
    """
    replanner = _Background(cancel) if background else _Inline(cancel)
    loop = _Loop(stages, config, cancel, report, replanner)
    try:
        loop.run(check_instruction(instruction))
        outcome = Outcome(OutcomeCode.OK, f"Done after {len(loop.history)} keyposes.")
    except StageError as error:
        outcome = _ended(error, cancel)
    finally:
        replanner.drop()
    times = {**loop.times_s, "total": time.monotonic() - loop.started}
    return TaskResult(replace(outcome, times_s=times), tuple(loop.history), loop.replans)


def _ended(error: StageError, cancel: CancelToken) -> Outcome:
    """A stage that was interrupted knows only that it was canceled; the token knows why."""
    try:
        if error.code is OutcomeCode.CANCELED:
            cancel.raise_if_set()
    except StageError as reason:
        error = reason
    return Outcome(error.code, error.sentence)


PlanCall: TypeAlias = Callable[[CancelToken], TracePlan]


class _Inline:
    """Plans when asked for the result, so that a run repeats exactly."""

    def __init__(self, cancel: CancelToken) -> None:
        self._cancel = cancel
        self.pending: PlanCall | None = None

    def start(self, plan: PlanCall) -> None:
        self.pending = plan

    def ready(self) -> bool:
        return self.pending is not None

    def take(self) -> TracePlan:
        assert self.pending is not None
        plan, self.pending = self.pending, None
        return plan(self._cancel)

    def drop(self) -> None:
        self.pending = None


class _Background:
    """One plan at a time in a thread beside the motion. Dropping a plan cancels it without waiting."""

    def __init__(self, cancel: CancelToken) -> None:
        self._task_cancel = cancel
        self._cancel = CancelToken()
        self.pending: Future[TracePlan] | None = None

    def start(self, plan: PlanCall) -> None:
        token, future = CancelToken(), Future[TracePlan]()
        forget = self._task_cancel.on_cancel(lambda: token.cancel(sentence="The task was canceled."))

        def work() -> None:
            try:
                future.set_result(plan(token))
            except Exception as error:  # noqa: BLE001 - handed to take(), which raises it in the loop
                future.set_exception(error)
            finally:
                forget()

        self._cancel, self.pending = token, future
        Thread(target=work, name="replan", daemon=True).start()

    def ready(self) -> bool:
        return self.pending is not None and self.pending.done()

    def take(self) -> TracePlan:
        assert self.pending is not None
        future, self.pending = self.pending, None
        return future.result()

    def drop(self) -> None:
        self._cancel.cancel(sentence="A newer plan was asked for.")
        self.pending = None


@dataclass
class _Loop:
    """The state of one task."""

    stages: Stages
    config: LoopConfig
    cancel: CancelToken
    report: Callable[[Progress], None]
    replanner: _Inline | _Background
    history: list[Keypose] = field(default_factory=list)
    times_s: dict[str, float] = field(default_factory=lambda: {"planning": 0.0, "predicting": 0.0, "moving": 0.0})
    replans: int = 0
    failures: int = 0  # keyposes in a row that failed
    idle_plans: int = 0  # plans in a row on which the policy found nothing to do
    on_plan: int = 0  # keyposes executed on the current plan
    fresh_ns: int = 0  # images older than this show the scene before the last motion
    started: float = field(default_factory=time.monotonic)
    accepted: float = 0.0  # when the current plan was accepted
    last: Keypose | None = None

    def run(self, instruction: str) -> None:
        def draw(cancel: CancelToken) -> TracePlan:
            return self.stages.plan(instruction, tuple(self.history), self.fresh_ns, cancel)

        plan = self._look(draw, None)
        while not plan.finished:
            if len(self.history) >= self.config.max_keyposes:
                raise StageError(OutcomeCode.STEP_LIMIT, f"Not finished after {len(self.history)} keyposes.")
            try:
                keypose = self._predict(plan)
            except StageError as error:
                self._forgive(error, error.code is OutcomeCode.SCENE_CHANGED)
                plan = self._look(draw, plan)
                continue
            if keypose is None:
                self._count_idle()
                plan = self._look(draw, plan)
            elif not self._move(plan, keypose):
                plan = self._look(draw, plan)
            else:
                if self.replanner.pending is None and self.on_plan >= self.config.keyposes_per_plan:
                    self.replanner.start(draw)
                if self.replanner.ready():
                    plan = self._refresh(plan)

    def _look(self, draw: PlanCall, old: TracePlan | None) -> TracePlan:
        """Plan now and wait for it."""
        self.replanner.drop()
        self._tell("planning", old)
        with self._clock("planning"):
            plan = draw(self.cancel)
        self.replans += old is not None
        return self._accept(plan)

    def _refresh(self, old: TracePlan) -> TracePlan:
        """The plan that is ready if it is newer; else the old one, for a bounded time."""
        try:
            plan = self.replanner.take()
        except StageError:
            self.cancel.raise_if_set()
            if time.monotonic() - self.accepted > self.config.plan_hold_s:
                raise
            return old
        if plan.image_stamp_ns <= old.image_stamp_ns:
            return old
        self.replans += 1
        return self._accept(plan)

    def _accept(self, plan: TracePlan) -> TracePlan:
        self.accepted, self.on_plan = time.monotonic(), 0
        return plan

    def _predict(self, plan: TracePlan) -> Keypose | None:
        self._tell("predicting", plan)
        with self._clock("predicting"):
            return self.stages.predict(plan, tuple(self.history[-HISTORY:]), self.fresh_ns, self.cancel)

    def _count_idle(self) -> None:
        """Several plans in a row without anything to do on them: planner and policy disagree."""
        self.idle_plans = 0 if self.on_plan else self.idle_plans + 1
        if self.idle_plans >= self.config.max_failures:
            raise StageError(
                OutcomeCode.NO_PROGRESS,
                "The policy sees nothing left to do, but the planner does not see the task finished.",
            )

    def _move(self, plan: TracePlan, keypose: Keypose) -> bool:
        """Execute one keypose. False when it failed and looking again may help."""
        self.last = keypose
        self._tell("moving", plan)
        try:
            with self._clock("moving"):
                outcome = self.stages.execute(plan, keypose, self.cancel)
        except StageError as error:
            self._forgive(error, error.code in RETRYABLE)
            return False
        finally:
            self.fresh_ns = self.stages.now_ns()
        for part, seconds in outcome.times_s.items():
            self.times_s[part] = self.times_s.get(part, 0.0) + seconds
        self.failures = 0
        self.on_plan += 1
        self.history.append(replace(keypose, stamp_ns=self.fresh_ns))
        return True

    def _forgive(self, error: StageError, may_help: bool) -> None:
        """Count a failure after which looking again may help; raise it when it does not or when there were too many."""
        self.cancel.raise_if_set()
        self.failures += 1
        if not may_help or self.failures >= self.config.max_failures:
            raise error

    def _tell(self, phase: str, plan: TracePlan | None) -> None:
        self.cancel.raise_if_set()
        sub, plan_id = (plan.sub_instruction, plan.plan_id) if plan else ("", "")
        self.report(Progress(phase, sub, len(self.history), plan_id, self.last, time.monotonic() - self.started))

    @contextmanager
    def _clock(self, phase: str) -> Iterator[None]:
        start = time.monotonic()
        try:
            yield
        finally:
            self.times_s[phase] += time.monotonic() - start


class LocalStages:
    """All stages in this process: evaluation, data collection, tests, replay."""

    def __init__(
        self,
        camera: FrameSource,
        robot: Robot,
        planner: Planner,
        guide: Guide,
        policy: Policy,
        executor: KeyposeExecutor,
    ) -> None:
        self._camera, self._robot = camera, robot
        self._planner, self._guide, self._policy, self._executor = planner, guide, policy, executor
        self._traces: dict[str, Trace3d] = {}  # of the last two plans: a new one may be drawn while the old one serves
        self.guidance: Guidance | None = None
        """The newest guidance, for recorders."""

    def plan(
        self, instruction: str, history: tuple[Keypose, ...], not_before_ns: int, cancel: CancelToken
    ) -> TracePlan:
        frame = self._camera.capture()
        plan = self._planner.plan(PlanRequest(instruction, frame, self._robot.state(), history))
        if not plan.finished:
            self._traces = {**dict(list(self._traces.items())[-1:]), plan.plan_id: self._guide.lift(plan, frame)}
        return plan

    def predict(
        self, plan: TracePlan, history: tuple[Keypose, ...], not_before_ns: int, cancel: CancelToken
    ) -> Keypose | None:
        robot = self._robot.state()
        self.guidance = self._guide.guide(self._traces[plan.plan_id], self._camera.capture(), robot)
        return self._policy.predict(Observation(self.guidance, robot, history, plan.instruction))

    def execute(self, plan: TracePlan, keypose: Keypose, cancel: CancelToken) -> Outcome:
        return self._executor.execute(keypose, self._camera.capture(), self._traces[plan.plan_id], cancel)

    def now_ns(self) -> int:
        return self._robot.state().stamp_ns
