"""A person's path in place of the planner's, while a motion of that waits for approval."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from uuid import uuid4

from stvla_ros.errors import CancelToken, OutcomeCode, StageError
from stvla_ros.pipeline.stages import Stages
from stvla_ros.types import Keypose, Outcome, TracePlan

PERSON = "person"
"""Who drew a plan, as ``TracePlan.planner``."""


class EditedPaths:
    """Stages whose next plan may be a person's.

    A path is offered while a motion of the plan that it replaces is under way, i.e. waits for approval, and used if that
    motion is then refused. It is forgotten if the motion happens, or ends otherwise.

    Args:
        stages: Plan, predict and execute.
        lift: Lifts a path that the planner did not draw; from then on ``predict`` knows it.
        cancel: Of the task.
    """

    def __init__(self, stages: Stages, lift: Callable[[TracePlan, CancelToken], None], cancel: CancelToken) -> None:
        self._stages, self._lift, self._cancel = stages, lift, cancel
        self.predict, self.now_ns = stages.predict, stages.now_ns
        self._lock = threading.Lock()
        self._under_way: TracePlan | None = None
        self._offered: TracePlan | None = None

    def offer(self, drawn: TracePlan) -> TracePlan:
        """Check a path as every planner's is checked, and keep it for when the motion that is under way is refused.

        Args:
            drawn: Waypoints, depths, and the stamp of their image; ``plan_id`` is that of the plan that it replaces, from
                which everything else is taken.

        Returns:
            The lifted plan, with an id of its own.

        Raises:
            StageError: INVALID_GOAL when no motion of that plan is under way; what lifting raises.
        """
        plan = replace(
            self._of_motion(drawn.plan_id),
            uv=drawn.uv,
            start_depth_m=drawn.start_depth_m,
            depth_offset_m=drawn.depth_offset_m,
            planner=PERSON,
            raw_reply="",
            image_stamp_ns=drawn.image_stamp_ns,
            plan_id=f"{PERSON}-{uuid4().hex[:12]}",
        )
        self._lift(plan, self._cancel)
        with self._lock:
            self._of_motion(drawn.plan_id)  # it may have been answered meanwhile
            self._offered = plan
        return plan

    def _of_motion(self, plan_id: str) -> TracePlan:
        plan = self._under_way
        if plan is None or plan.plan_id != plan_id:
            raise StageError(
                OutcomeCode.INVALID_GOAL,
                "The path was not used: no motion of the path that it replaces waits for approval any more.",
            )
        return plan

    def plan(
        self,
        instruction: str,
        history: tuple[Keypose, ...],
        not_before_ns: int,
        cancel: CancelToken,
        feedback: str = "",
    ) -> TracePlan:
        """The person's path, if there is one; else the planner's."""
        with self._lock:
            offered, self._offered = self._offered, None
        return offered or self._stages.plan(instruction, history, not_before_ns, cancel, feedback)

    def execute(self, plan: TracePlan, keypose: Keypose, cancel: CancelToken) -> Outcome:
        """Move; the path that is offered meanwhile is kept only if the motion is refused."""
        refused = False
        self._under_way = plan
        try:
            return self._stages.execute(plan, keypose, cancel)
        except StageError as error:
            refused = error.code is OutcomeCode.MOTION_REFUSED
            raise
        finally:
            with self._lock:
                self._under_way = None
                if not refused:
                    self._offered = None
