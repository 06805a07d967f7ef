"""A planner's memory of a long task: the actions it requested, and what was executed for each.

:class:`~stvla_ros.types.PlanRequest` carries all executed keyposes but not the actions they belong to; this keeps them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from stvla_ros.planning.parse import StepProgress
from stvla_ros.types import Keypose, PlanRequest


def events(keyposes: Sequence[Keypose], was_open: bool = True) -> tuple[str, ...]:
    """What the gripper did, in order: ``close``, ``open``, or ``touch`` (a contact without either).

    Args:
        keyposes: Executed ones, oldest first.
        was_open: Gripper state before the first of them.
    """
    found = []
    for keypose in keyposes:
        if keypose.gripper_open != was_open:
            found.append("open" if keypose.gripper_open else "close")
        elif keypose.may_collide:
            found.append("touch")
        was_open = keypose.gripper_open
    return tuple(found)


def described(action: str, keyposes: int, happened: Sequence[str]) -> str:
    """An action and what was executed for it: ``push the red button (close, touch)``, ``... (move)``, ``... (not begun)``.

    Args:
        action: Its sentence.
        keyposes: Number of keyposes executed for it.
        happened: Their :func:`events`.
    """
    what = ", ".join(happened) or ("move" if keyposes else "not begun")
    return f"{action.rstrip('.')} ({what})"


@dataclass(frozen=True)
class RequestedAction:
    """An action that was requested.

    Attributes:
        step: Step of the task, from 1.
        action: Its sentence.
        begun: Keyposes executed in the task before the request.
    """

    step: int
    action: str
    begun: int


class TaskMemory:
    """The actions requested in one task. A request without history, or for another task, starts over."""

    def __init__(self) -> None:
        self._instruction = ""
        self._keyposes = 0
        self._requested: tuple[RequestedAction, ...] = ()

    def follow(self, request: PlanRequest) -> None:
        """Must be called with every request before any other method."""
        self._keyposes = len(request.history)
        if not self._keyposes or request.instruction != self._instruction:
            self._instruction, self._requested = request.instruction, ()

    def ask(self, step: int, action: str) -> None:
        """The next path is for this action. Repeating the same words for the same step is not a new action."""
        if not self._requested or (self._requested[-1].step, self._requested[-1].action) != (step, action):
            # a step may be rephrased, and a step believed finished may return
            kept = tuple(asked for asked in self._requested if asked.step < step)
            begun = next((a.begun for a in self._requested if a.step == step), self._keyposes)
            self._requested = (*kept, RequestedAction(step, action, begun))

    def bounded(self, progress: StepProgress) -> StepProgress:
        """A model's progress, limited to what the executed keyposes allow.

        If nothing was executed: the first step, not finished. Otherwise at most the step after the last requested one,
        or that one itself while nothing was executed for it. Going back is always allowed: objects fall.
        """
        if not self._keyposes:
            return replace(progress, step=1, finished=False)
        limit = self._keyposes + 1
        if self._requested:
            limit = self._requested[-1].step + (self._keyposes > self._requested[-1].begun)
        return replace(progress, step=min(progress.step, limit))

    @property
    def steps(self) -> tuple[RequestedAction, ...]:
        return self._requested

    def done(self, step: int) -> tuple[str, ...]:
        """The sentences of the actions before a step, first to last."""
        return tuple(asked.action for asked in self._requested if asked.step < step)

    def executed(self, history: Sequence[Keypose]) -> tuple[str, ...]:
        """One line per requested action: its sentence and what was executed for it. Accepts an older history too."""
        ends = [*(asked.begun for asked in self._requested[1:]), len(history)]
        return tuple(self._line(asked, history, end) for asked, end in zip(self._requested, ends))

    @staticmethod
    def _line(asked: RequestedAction, history: Sequence[Keypose], end: int) -> str:
        own = history[asked.begun : end]
        before = history[: asked.begun]
        return described(asked.action, len(own), events(own, before[-1].gripper_open if before else True))
