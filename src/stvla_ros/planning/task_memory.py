"""What a planner remembers of a long task: the actions that it asked for, and what was executed for each.

:class:`~stvla_ros.types.PlanRequest` brings all executed keyposes, but not the words they were executed for; those are kept here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from stvla_ros.planning.parse import StepProgress
from stvla_ros.types import Keypose, PlanRequest


def events(keyposes: Sequence[Keypose], was_open: bool = True) -> tuple[str, ...]:
    """What the hand did, in order: ``close`` and ``open`` (the gripper), ``touch`` (a contact without either).

    Args:
        keyposes: Executed ones, oldest first.
        was_open: The gripper before the first of them.
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
        keyposes: How many were executed for it.
        happened: Their :func:`events`.
    """
    what = ", ".join(happened) or ("move" if keyposes else "not begun")
    return f"{action.rstrip('.')} ({what})"


@dataclass(frozen=True)
class RequestedAction:
    """An action that was asked for.

    Attributes:
        step: Of the task, from 1.
        action: Its sentence.
        begun: Keyposes executed in the task before it was asked for.
    """

    step: int
    action: str
    begun: int


class TaskMemory:
    """The actions asked for in one task. A request without history, or of another task, begins anew."""

    def __init__(self) -> None:
        self._instruction = ""
        self._keyposes = 0
        self._asked: tuple[RequestedAction, ...] = ()

    def follow(self, request: PlanRequest) -> None:
        """Must be told of every request, before anything else is asked."""
        self._keyposes = len(request.history)
        if not self._keyposes or request.instruction != self._instruction:
            self._instruction, self._asked = request.instruction, ()

    def ask(self, step: int, action: str) -> None:
        """The next path is for this action. The same words for the same step are no new action."""
        if not self._asked or (self._asked[-1].step, self._asked[-1].action) != (step, action):
            # a step may be put in other words, and a step that was thought to be over may come again
            kept = tuple(asked for asked in self._asked if asked.step < step)
            begun = next((a.begun for a in self._asked if a.step == step), self._keyposes)
            self._asked = (*kept, RequestedAction(step, action, begun))

    def bounded(self, progress: StepProgress) -> StepProgress:
        """What of a model's word the executed keyposes allow.

        Nothing executed: the first step, not finished. Else at most the step after the last one that was asked for, and that one
        itself as long as nothing was executed for it. Going back is always allowed: things fall.
        """
        if not self._keyposes:
            return replace(progress, step=1, finished=False)
        limit = self._keyposes + 1
        if self._asked:
            limit = self._asked[-1].step + (self._keyposes > self._asked[-1].begun)
        return replace(progress, step=min(progress.step, limit))

    @property
    def steps(self) -> tuple[RequestedAction, ...]:
        return self._asked

    def done(self, step: int) -> tuple[str, ...]:
        """The sentences of the actions before a step, first to last."""
        return tuple(asked.action for asked in self._asked if asked.step < step)

    def executed(self, history: Sequence[Keypose]) -> tuple[str, ...]:
        """One line per action asked for: its sentence and what was executed for it. Works with an older history too."""
        ends = [*(asked.begun for asked in self._asked[1:]), len(history)]
        return tuple(self._line(asked, history, end) for asked, end in zip(self._asked, ends))

    @staticmethod
    def _line(asked: RequestedAction, history: Sequence[Keypose], end: int) -> str:
        own = history[asked.begun : end]
        before = history[: asked.begun]
        return described(asked.action, len(own), events(own, before[-1].gripper_open if before else True))
