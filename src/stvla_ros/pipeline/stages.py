"""The three verbs of the loop, and their implementation in one process."""

from __future__ import annotations

from typing import Protocol

from stvla_ros.errors import CancelToken
from stvla_ros.interfaces import FrameSource, Guide, KeyposeExecutor, Planner, Policy, Robot
from stvla_ros.types import Guidance, Keypose, Observation, Outcome, PlanRequest, RgbdFrame, Trace3d, TracePlan

KEPT_TRACES = 4


class Stages(Protocol):
    """The three verbs of the loop. Each may raise StageError, and returns soon after ``cancel`` is set.

    A plan is in use as soon as it is drawn: ``predict`` may use the given plan or a newer one.
    """

    def plan(
        self,
        instruction: str,
        history: tuple[Keypose, ...],
        not_before_ns: int,
        cancel: CancelToken,
        feedback: str = "",
    ) -> TracePlan:
        """Draw a path on an image not older than ``not_before_ns`` and lift it.

        Args:
            instruction: The operator's words.
            history: All keyposes executed so far.
            not_before_ns: Older images show the scene before the last motion.
            cancel: Ends the call.
            feedback: Why the last path failed; empty if nothing was wrong with it.
        """
        ...

    def predict(
        self, plan: TracePlan, history: tuple[Keypose, ...], not_before_ns: int, cancel: CancelToken
    ) -> Keypose | None:
        """The next keypose on the plan, from an image not older than ``not_before_ns``; None: path complete."""
        ...

    def execute(self, plan: TracePlan, keypose: Keypose, cancel: CancelToken) -> Outcome:
        """Move to the keypose."""
        ...

    def now_ns(self) -> int:
        """The clock that stamps images."""
        ...


class LocalStages:
    """All stages in one process: for evaluation, data collection and tests."""

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
        self._traces: dict[str, Trace3d] = {}  # of the last plans: a new one may be drawn while the old one is in use
        self.guidance: Guidance | None = None
        """The last guidance, for recorders."""

    def plan(
        self,
        instruction: str,
        history: tuple[Keypose, ...],
        not_before_ns: int,
        cancel: CancelToken,
        feedback: str = "",
    ) -> TracePlan:
        frame = self._camera.capture()
        plan = self._planner.plan(PlanRequest(instruction, frame, self._robot.state(), history, feedback, cancel))
        cancel.raise_if_set()  # a canceled plan must not replace a path that is in use
        if not plan.finished:
            self._lift(plan, frame)
        return plan

    def lift(self, plan: TracePlan, cancel: CancelToken) -> None:
        """Lift a path that was not drawn by the planner, on the scene as it is now. Raises what lifting raises."""
        self._lift(plan, self._camera.capture())

    def _lift(self, plan: TracePlan, frame: RgbdFrame) -> None:
        trace = self._guide.lift(plan, frame)
        self._traces = {**dict(list(self._traces.items())[1 - KEPT_TRACES :]), plan.plan_id: trace}

    def predict(
        self, plan: TracePlan, history: tuple[Keypose, ...], not_before_ns: int, cancel: CancelToken
    ) -> Keypose | None:
        robot = self._robot.state()
        self.guidance = self._guide.guide(self._traces[plan.plan_id], self._camera.capture(), robot)
        return self._policy.predict(Observation(self.guidance, robot, history, plan.words))

    def execute(self, plan: TracePlan, keypose: Keypose, cancel: CancelToken) -> Outcome:
        return self._executor.execute(keypose, self._camera.capture(), self._traces[plan.plan_id], cancel)

    def now_ns(self) -> int:
        return self._robot.state().stamp_ns
