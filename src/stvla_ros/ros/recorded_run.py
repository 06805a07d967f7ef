"""One goal on a running stack: its result, its events, the simulator's verdict, and a film."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stvla_ros.errors import CancelToken, OutcomeCode
from stvla_ros.motion.approval import Approval
from stvla_ros.pipeline import Progress, TaskState
from stvla_ros.record.summary import Summary, idle_share, state_summary
from stvla_ros.ros.client import GoalResult, judge, run_goal
from stvla_ros.ros.recorder import RecordingProcess
from stvla_ros.types import Outcome

IMAGES_S = 15.0
"""Time limit for the recorder to start and get its first image."""

Tell = Callable[[Progress], None]


@dataclass
class RecordedRun:
    """One goal: how it ended, what happened, and the simulator's verdict.

    Attributes:
        result: Outcome and final state of the task.
        success: The simulator's verdict; None without a simulator.
        detail: What the simulator measured.
        events: Changes of phase.
    """

    result: GoalResult
    success: bool | None
    detail: str
    events: tuple[Mapping[str, Any], ...] = field(default=())

    @property
    def idle_share(self) -> float | None:
        return idle_share(self.result.outcome, self.events)

    def summary(self, instruction: str, task: str, seed: int | None, parameters: Mapping[str, Any]) -> Summary:
        """For ``summary.json``."""
        outcome = self.result.outcome
        return Summary(
            instruction=instruction,
            outcome=outcome.code.name,
            outcome_code=int(outcome.code),
            sentence=outcome.sentence,
            success=self.success,
            success_detail=self.detail,
            task=task,
            seed=seed,
            keyposes=self.result.state.keyposes,
            replans=self.result.state.replans,
            times_s={phase: round(seconds, 3) for phase, seconds in outcome.times_s.items()},
            idle_share=self.idle_share,
            state=state_summary(self.result.state),
            events=self.events,
            parameters=parameters,
        )


def record_goal(
    instruction: str,
    cancel: CancelToken,
    tell: Tell,
    film: Path | None,
    title: str,
    judge_s: float,
    approval: Approval = Approval.AUTOMATIC,
) -> RecordedRun:
    """Send an instruction to the running stack and record the run to its end.

    Args:
        instruction: The operator's words.
        cancel: Cancels the goal.
        tell: Called at every change of phase, in another thread.
        film: Existing folder for film and storyboard; None: no film.
        title: Title of the film.
        judge_s: How much longer to look for a simulator, after the goal.
        approval: What each motion needs before it happens.

    Raises:
        ConnectionError: No stack is running.
    """
    events: list[Mapping[str, Any]] = []
    with judge() as verdict, _filming(film, title) as camera:

        def on_progress(p: Progress) -> None:
            event = {"elapsed_s": round(p.elapsed_s, 3), "phase": p.phase, "step": p.step}
            task = {"task_step": p.state.step_index, "task_steps": p.state.step_total}
            events.append({**event, **task, "sub_instruction": p.sub_instruction, "plan_id": p.plan_id})
            if camera is not None:
                camera.report(p.phase, p.sub_instruction, p.step)
            tell(p)

        result = run_goal(instruction, on_progress, cancel, approval=approval)
        success, detail = _judged(verdict, judge_s)
        if camera is not None:
            camera.finish(f"{result.outcome.code.name}: {result.outcome.sentence}   Judged: {detail}")
    return RecordedRun(result, success, detail, tuple(events))


def lost(error: ConnectionError) -> RecordedRun:
    """The run of a stack that went away in the middle of a goal."""
    return RecordedRun(GoalResult(Outcome(OutcomeCode.NODE_LOST, str(error)), TaskState("")), None, "not judged")


@contextmanager
def _filming(folder: Path | None, title: str) -> Iterator[RecordingProcess | None]:
    if folder is None:
        yield None
        return
    with RecordingProcess(folder, title) as camera:
        camera.wait_for_images(IMAGES_S)
        yield camera


def _judged(verdict: Callable[[float], tuple[bool, str]], connect_s: float) -> tuple[bool | None, str]:
    try:
        return verdict(connect_s)
    except ConnectionError:
        return None, "not judged: no simulator"
