"""Input and output of the loop."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from stvla_ros.config import param
from stvla_ros.errors import OutcomeCode, StageError
from stvla_ros.types import Keypose, Outcome

MAX_INSTRUCTION_CHARS = 1000


@dataclass(frozen=True)
class LoopConfig:
    """Settings of the loop; all of them may change between goals."""

    replan: bool = param(
        True,
        "replan every k keyposes, at the end of a path, and after failures; false: use the first plan only",
        live=True,
    )
    keyposes_per_plan: int = param(2, "k: replan after this many keyposes", ge=1, le=25, live=True)
    max_keyposes: int = param(25, "end the task with STEP_LIMIT after this many keyposes", ge=1, le=200, live=True)
    max_failures: int = param(
        3, "end the task after this many failed keyposes or refused plans in a row", ge=1, le=10, live=True
    )
    plan_hold_s: float = param(
        30.0, "how long the last valid plan stays in use while replanning fails [s]", ge=0.0, le=600.0, live=True
    )
    retry_s: float = param(
        1.0, "pause before planning again when there is nothing else to do [s]", ge=0.0, le=60.0, live=True
    )


@dataclass(frozen=True)
class TaskState:
    """Current state of a task; its long-horizon part is the planner's view.

    Attributes:
        instruction: The operator's words.
        sub_instruction: What the current path does.
        step_index: Current step of the task, from 0.
        step_total: Number of steps; None if the planner does not say.
        finished: Whether the planner sees the task finished.
        sub_instructions: All sub-instructions so far, oldest first, the current one last, without consecutive repeats.
        plan_id: Id of the plan in use.
        keyposes: Number of executed keyposes.
        replans: Plans accepted after the first.
        stale_plans: Plans that arrived too late (a newer one is in use, or they were dropped) and are not used.
        failed_plans: Planner calls that gave no plan, or one that guidance refused.
        feedback: Why the planner was last asked to plan again; empty for regular replanning.
        plan_times_s: Time from request to lifted path, for each plan that arrived.
        holding: What the gripper holds, e.g. "the cyan block"; "something" if unknown; empty for nothing.
    """

    instruction: str
    sub_instruction: str = ""
    step_index: int = 0
    step_total: int | None = None
    finished: bool = False
    sub_instructions: tuple[str, ...] = ()
    plan_id: str = ""
    keyposes: int = 0
    replans: int = 0
    stale_plans: int = 0
    failed_plans: int = 0
    feedback: str = ""
    plan_times_s: tuple[float, ...] = ()
    holding: str = ""

    @property
    def plan_latency_s(self) -> tuple[float, float] | None:
        """p50 and p95 of :attr:`plan_times_s`."""
        return percentiles(self.plan_times_s)

    @property
    def step(self) -> str:
        """``step 2 of 3``, or ``step 2`` where the total is not known."""
        return f"step {self.step_index + 1}" + (f" of {self.step_total}" if self.step_total else "")


@dataclass(frozen=True, eq=False)
class Progress:
    """What the operator sees while a task runs."""

    phase: str  # planning, predicting, moving
    sub_instruction: str
    step: int  # keyposes executed
    plan_id: str
    keypose: Keypose | None
    elapsed_s: float
    state: TaskState


@dataclass(frozen=True, eq=False)
class TaskResult:
    """How a task ended.

    ``outcome.times_s`` has the seconds per phase (planning, predicting, moving), the executor's parts of ``moving``
    (motion planning, motion, gripper) and the ``total``. ``planning`` is the time that the loop waited for the planner;
    the planner's own times are in ``state.plan_times_s``.
    """

    outcome: Outcome
    keyposes: tuple[Keypose, ...]
    state: TaskState

    @property
    def replans(self) -> int:
        """Plans accepted after the first."""
        return self.state.replans


def percentiles(seconds: Sequence[float]) -> tuple[float, float] | None:
    """Median and 95th percentile (linear between ranks); None for no values."""
    if not seconds:
        return None
    p50, p95 = np.percentile(np.asarray(seconds), [50, 95])
    return float(p50), float(p95)


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
            f"The instruction has {len(words)} characters; at most {MAX_INSTRUCTION_CHARS} are allowed.",
        )
    if not words.isprintable():
        raise StageError(
            OutcomeCode.INVALID_GOAL, "The instruction has control characters: send one line of plain text."
        )
    return words
