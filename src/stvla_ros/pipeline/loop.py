"""The loop."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from stvla_ros.description.kinematics import tcp_pose
from stvla_ros.description.panda import HOME_Q_RAD
from stvla_ros.errors import INTERRUPTED, CancelToken, OutcomeCode, StageError
from stvla_ros.pipeline.edited import PERSON
from stvla_ros.pipeline.hand import Hand
from stvla_ros.pipeline.replanner import Background, Inline, PlanCall, Replanner
from stvla_ros.pipeline.stages import Stages
from stvla_ros.pipeline.values import LoopConfig, Progress, TaskResult, TaskState, check_instruction
from stvla_ros.types import HISTORY, Keypose, Outcome, TracePlan

RETRYABLE = frozenset(
    {
        OutcomeCode.NO_IK,
        OutcomeCode.NO_PATH,
        OutcomeCode.COLLISION,
        OutcomeCode.GRASP_FAILED,
        OutcomeCode.KEYPOSE_OUT_OF_BOUNDS,
        OutcomeCode.MOTION_REFUSED,
    }
)
"""Failures of one keypose after which replanning may help. All others end the task."""

REFUSED = frozenset(
    {
        OutcomeCode.LIFT_NO_DEPTH,
        OutcomeCode.LIFT_IMPLAUSIBLE,
        OutcomeCode.MASK_EMPTY,
        OutcomeCode.SCENE_CHANGED,
    }
)
"""Guidance refuses the plan: the planner gets the reason and plans again."""

FATAL = frozenset({OutcomeCode.NODE_LOST, OutcomeCode.INVALID_GOAL, OutcomeCode.INTERNAL})
"""Failures of planning that end the task at once: with a missing or broken node, no old plan is kept in use."""


def run_task(
    stages: Stages,
    instruction: str,
    config: LoopConfig,
    cancel: CancelToken,
    report: Callable[[Progress], None] = lambda _: None,
    background: bool = True,
    hand: Hand | None = None,
) -> TaskResult:
    """Carry out one instruction.

    Args:
        stages: Where the work is done.
        instruction: The operator's words.
        config: Settings.
        cancel: Ends the task at any point with its own code.
        report: Called at every change of phase.
        background: Replan during motion (on a robot); False replans between keyposes, so that runs repeat exactly.
        hand: What the gripper holds, from one task to the next; None: nothing at the start.

    Returns:
        The typed result; failures are returned, not raised.
    """
    replanner: Replanner = Background(cancel) if background else Inline(cancel)
    hand = hand or Hand()
    loop = _Loop(stages, instruction, config, cancel, report, replanner, hand)
    try:
        loop.run(check_instruction(instruction))
        outcome = Outcome(OutcomeCode.OK, f"Done after {len(loop.history)} keyposes.")
    except StageError as error:
        outcome = Outcome.of(cancel.explain(error))  # an interrupted stage does not know why
    finally:
        replanner.drop()
    times = {**loop.times_s, "total": time.monotonic() - loop.started}
    return TaskResult(replace(outcome, times_s=times), tuple(loop.history), loop.state())


@dataclass
class _Loop:
    """The state of one task."""

    stages: Stages
    instruction: str
    config: LoopConfig
    cancel: CancelToken
    report: Callable[[Progress], None]
    replanner: Replanner
    hand: Hand
    history: list[Keypose] = field(default_factory=list)
    times_s: dict[str, float] = field(default_factory=lambda: {"planning": 0.0, "predicting": 0.0, "moving": 0.0})
    plan_times_s: list[float] = field(default_factory=list)
    sub_instructions: list[str] = field(default_factory=list)
    plan: TracePlan | None = None  # in use
    replans: int = 0
    stale: int = 0  # plans that were older than the one in use
    failed_plans: int = 0
    failures: int = 0  # keyposes or refused plans in a row
    fruitless: int = 0  # failed plans in a row while there was nothing else to do
    failing: StageError | None = None  # the last failure since replanning began to fail
    failing_since: float = 0.0  # when replanning began to fail
    idle_plans: int = 0  # plans in a row on which the policy found nothing to do
    on_plan: int = 0  # keyposes executed on the current plan
    step: int = 0  # of the task, as the policy knows it
    begun: int = 0  # keyposes executed when that step began
    in_view: int = 0  # keyposes executed when the arm last stepped back
    ways_home: set[int] = field(default_factory=set)  # in the history: motions that no policy predicted
    fresh_ns: int = 0  # images older than this show the scene before the last motion
    feedback: str = ""  # why the last path failed, for the next plan
    reason: str = ""  # the feedback that led to the plan in use
    started: float = field(default_factory=time.monotonic)
    last: Keypose | None = None

    def run(self, instruction: str) -> None:
        self.instruction = instruction
        plan = self._plan_now()
        while not plan.finished:
            if len(self.history) >= self.config.max_keyposes:
                raise StageError(OutcomeCode.STEP_LIMIT, f"Not finished after {len(self.history)} keyposes.")
            try:
                keypose = self._predict(plan)
            except StageError as error:
                self._count_failure(error, error.code in REFUSED and self.config.replan)
                plan = self._plan_now()
                continue
            if keypose is None:
                plan = self._complete_path(plan)
            elif (failed := self._move(plan, keypose)) is not None:
                if failed.code is OutcomeCode.GRASP_FAILED and self.config.replan:
                    self._go_home(plan, gripper_open=True)
                plan = self._plan_now(serves=plan)
            else:
                plan = self._replan(plan)

    # --- plans -----------------------------------------------------------------------------------------------------

    def _draw(self) -> PlanCall:
        """A call that plans on the current scene, for any thread."""
        history, fresh_ns, feedback = tuple(self.history), self.fresh_ns, self.feedback

        def draw(cancel: CancelToken) -> TracePlan:
            start = time.monotonic()
            plan = self.stages.plan(self.instruction, history, fresh_ns, cancel, feedback)
            self.plan_times_s.append(time.monotonic() - start)
            return plan

        return draw

    def _plan_now(self, serves: TracePlan | None = None) -> TracePlan:
        """Plan now and wait. If that fails, continue with the old plan or try again, for a bounded time.

        Args:
            serves: The plan in use, if it may still give keyposes.
        """
        self.replanner.drop()
        if serves is not None and not self.config.replan:
            return serves
        while True:
            self._report("planning")
            try:
                with self._clock("planning"):
                    plan = self._draw()(self.cancel)
            except StageError as error:
                if self._step_back(error, idle=serves is None):
                    serves = None  # with a free view there is no reason to go on with an old path
                    continue
                self._handle_failed_plan(error)
                if serves is not None:
                    return serves
                self._wait_to_retry(error)
            else:
                return self._accept(plan)

    def _handle_failed_plan(self, error: StageError) -> None:
        """Planning failed while the loop waited. Returns if the task may continue, otherwise raises."""
        if error.code in REFUSED:
            self.failed_plans += 1
            self._count_failure(error, may_help=True)
        elif self.plan is None:
            raise error
        else:
            self._hold(error)

    def _wait_to_retry(self, error: StageError) -> None:
        """There is nothing to do but plan again: wait a little, if that may change something."""
        if error.code in REFUSED:
            return  # the planner knows more now
        self.fruitless += 1
        if self.replanner.concurrent:
            self.cancel.wait(self.config.retry_s)
            self.cancel.raise_if_set()
        elif self.fruitless >= self.config.max_failures:
            raise error  # nothing changes while a simulated cell stands still

    def _replan(self, old: TracePlan) -> TracePlan:
        """After a keypose: start the next plan, and use one that is ready."""
        if not self.config.replan:
            return old
        if not self.replanner.pending and self.on_plan >= self.config.keyposes_per_plan:
            self.replanner.start(self._draw())
        plan = self._take(old) if self.replanner.ready() else old
        if self.failing is not None:
            if self._may_hide_it(self.failing, idle=False):
                return self._plan_now(serves=old)
            self._end_if_held_too_long(self.failing)
        return plan

    def _take(self, old: TracePlan) -> TracePlan:
        """The plan drawn in the background if it is newer; otherwise the old one, for a bounded time."""
        try:
            plan = self.replanner.take()
        except StageError as error:
            self._hold(error)
            return old
        self.failing = None
        if plan.image_stamp_ns <= old.image_stamp_ns:
            self.stale += 1
            return old
        return self._accept(plan)

    def _complete_path(self, old: TracePlan) -> TracePlan:
        """The path is complete: take the plan under way, if any, or plan again."""
        if not self.config.replan:
            return self._ask_whether_finished()
        self._count_idle()
        if self.idle_plans > 1 and self.history[self.in_view :]:
            self._go_home(old, self.history[-1].gripper_open)  # the arm may hide what one of the two does not see
            return self._plan_now()
        if self.replanner.pending:
            self._report("planning")
            with self._clock("planning"):
                plan = self._take(old)
            if plan is not old:
                return plan
        return self._plan_now()

    def _ask_whether_finished(self) -> TracePlan:
        """Without replanning, the planner still decides whether the task is finished; its path is not used."""
        self._report("planning")
        with self._clock("planning"):
            plan = self._draw()(self.cancel)
        if not plan.finished:
            raise StageError(
                OutcomeCode.NO_PROGRESS, "The first plan's path is complete, the task is not, and replanning is off."
            )
        return self._accept(plan)

    def _may_hide_it(self, error: StageError, idle: bool) -> bool:
        """The planner does not see an object, and the arm, which has moved since it was last at home, may stand in front of
        it. While a path is in use, which was drawn on a free view, that counts only after a contact, with the arm free again
        and nothing in the hand."""
        moved = self.history[self.in_view :]
        released = any(keypose.may_collide for keypose in moved) and not (moved[-1].may_collide or self.hand.holding)
        return error.code is OutcomeCode.GOAL_NOT_GROUNDED and self.config.replan and bool(moved if idle else released)

    def _step_back(self, error: StageError, idle: bool) -> bool:
        """Planning failed: if the arm may hide the object, move it home, out of the view. What the planner saw earlier is no
        substitute for a fresh look: things may have moved since, and a path begins at a measured depth.

        Args:
            error: Why.
            idle: There is no path in use.

        Returns:
            Whether it is there, so that the planner should look again.
        """
        if self.plan is None or not self._may_hide_it(error, idle):
            return False
        self.reason = error.sentence
        return self._go_home(self.plan, self.history[-1].gripper_open)

    def _go_home(self, plan: TracePlan, gripper_open: bool) -> bool:
        """Move home. With an empty hand, what comes is a task of its own to the policy, which knows nothing of a hand that
        closed on nothing, or of pauses.

        Returns:
            Whether the arm is there.
        """
        self.in_view, failures = len(self.history), self.failures
        failed = self._move(plan, Keypose(tcp_pose(HOME_Q_RAD), gripper_open, may_collide=False))
        self.failures = max(self.failures, failures)  # a way home is no progress
        if failed is not None:
            return False
        self.ways_home.add(self.in_view)
        self.in_view = len(self.history)
        self.begun = self.begun if self.hand.holding else self.in_view
        return True

    def _hold(self, error: StageError) -> None:
        """Replanning failed: keep the plan in use for a bounded time, then end the task with this failure."""
        if self.cancel.is_set() and error.code in INTERRUPTED:
            raise error  # not the planner's failure
        self.failed_plans += 1
        if error.code in REFUSED:
            self.feedback = error.sentence
        if self.failing is None:
            self.failing_since = time.monotonic()
        self.failing = error
        if error.code in FATAL:
            raise error
        self._end_if_held_too_long(error)

    def _end_if_held_too_long(self, error: StageError) -> None:
        if time.monotonic() - self.failing_since >= self.config.plan_hold_s:
            raise error

    def _accept(self, plan: TracePlan) -> TracePlan:
        self.replans += self.plan is not None
        self.plan, self.on_plan, self.fruitless, self.failing = plan, 0, 0, None
        self.reason, self.feedback = self.feedback, ""
        if plan.planner == PERSON:
            self.failures = 0  # a motion that is refused for a better path is no failure
        if not plan.finished and plan.sub_instruction != (self.sub_instructions or [""])[-1]:
            self.sub_instructions.append(plan.sub_instruction)
        return plan

    def _count_idle(self) -> None:
        """If several plans in a row leave the policy nothing to do, planner and policy disagree."""
        self.idle_plans = 0 if self.on_plan else self.idle_plans + 1
        if self.idle_plans >= self.config.max_failures:
            raise StageError(
                OutcomeCode.NO_PROGRESS,
                "The policy sees nothing left to do, but the planner does not see the task finished.",
            )

    # --- keyposes --------------------------------------------------------------------------------------------------

    def _predict(self, plan: TracePlan) -> Keypose | None:
        self._report("predicting")
        self._begin_step(plan)
        with self._clock("predicting"):
            own = [k for i, k in enumerate(self.history) if i >= self.begun and i not in self.ways_home]
            return self.stages.predict(plan, tuple(own[-HISTORY:]), self.fresh_ns, self.cancel)

    def _begin_step(self, plan: TracePlan) -> None:
        """To the policy, each step of a long task is a task of its own, as in its training. What it did for the step before
        counts until the hand is empty and away from what it touched."""
        in_contact = bool(self.history) and self.history[-1].may_collide
        if plan.step_index != self.step and not self.hand.holding and not in_contact:
            self.step, self.begun = plan.step_index, len(self.history)

    def _move(self, plan: TracePlan, keypose: Keypose) -> StageError | None:
        """Execute one keypose. Returns its failure if replanning may help; raises any other."""
        self.last = keypose
        self._report("moving")
        try:
            with self._clock("moving"):
                outcome = self.stages.execute(plan, keypose, self.cancel)
        except StageError as error:
            if error.code is OutcomeCode.GRASP_FAILED:
                self.hand.let_go()
            self._count_failure(error, error.code in RETRYABLE)
            return error
        finally:
            self.fresh_ns = self.stages.now_ns()
        for part, seconds in outcome.times_s.items():
            self.times_s[part] = self.times_s.get(part, 0.0) + seconds
        self._remember_grasp(plan, keypose)
        self.failures = 0
        self.on_plan += 1
        self.history.append(replace(keypose, stamp_ns=self.fresh_ns))
        return None

    def _remember_grasp(self, plan: TracePlan, keypose: Keypose) -> None:
        """Remember what an executed keypose took or released. An open hand that closes in contact has grasped, as the
        executor reports GRASP_FAILED for nothing. A hand that was closed before presses."""
        was_open = self.history[-1].gripper_open if self.history else not self.hand.holding
        if keypose.gripper_open:
            self.hand.let_go()
        elif keypose.may_collide and was_open:
            self.hand.took(plan.sub_instruction)

    def _count_failure(self, error: StageError, may_help: bool) -> None:
        """Count a failure after which replanning may help; raise it if it cannot help or there were too many."""
        self.failures += 1
        if not may_help or self.failures >= self.config.max_failures:
            raise error
        self.feedback = error.sentence

    # --- reports ---------------------------------------------------------------------------------------------------

    def state(self) -> TaskState:
        """Current state of the task."""
        plan, late = self.plan, self.replanner.late
        state = TaskState(
            self.instruction,
            sub_instructions=tuple(self.sub_instructions),
            keyposes=len(self.history),
            replans=self.replans,
            stale_plans=self.stale + late,
            failed_plans=self.failed_plans,
            feedback=self.feedback or self.reason,
            plan_times_s=tuple(self.plan_times_s),
            holding=self.hand.holding,
        )
        if plan is None:
            return state
        return replace(
            state,
            sub_instruction=plan.sub_instruction,
            step_index=plan.step_index,
            step_total=plan.step_total,
            finished=plan.finished,
            plan_id=plan.plan_id,
        )

    def _report(self, phase: str) -> None:
        self.cancel.raise_if_set()
        state, elapsed_s = self.state(), time.monotonic() - self.started
        self.report(Progress(phase, state.sub_instruction, state.keyposes, state.plan_id, self.last, elapsed_s, state))

    @contextmanager
    def _clock(self, phase: str) -> Iterator[None]:
        start = time.monotonic()
        try:
            yield
        finally:
            self.times_s[phase] += time.monotonic() - start
