"""What a planner remembers of a long task: the actions that it asked for, and what was executed for each.

:class:`~stvla_ros.types.PlanRequest` brings all executed keyposes, but not the words they were executed for; those are kept here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

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
class Asked:
    """An action that was asked for.

    Attributes:
        step: Of the task, from 1.
        action: Its sentence.
        begun: Keyposes executed in the task before it was asked for.
    """

    step: int
    action: str
    begun: int


class Horizon:
    """The actions asked for in one task. A request without history, or of another task, begins anew."""

    def __init__(self) -> None:
        self._instruction = ""
        self._keyposes = 0
        self._asked: tuple[Asked, ...] = ()

    def follow(self, request: PlanRequest) -> None:
        """Must be told of every request, before anything else is asked."""
        seen = len(request.history)
        if not seen or seen < self._keyposes or request.instruction != self._instruction:
            self._instruction, self._asked = request.instruction, ()
        self._keyposes = seen

    def ask(self, step: int, action: str) -> None:
        """The next path is for this action. The same words for the same step are no new action."""
        if not self._asked or (self._asked[-1].step, self._asked[-1].action) != (step, action):
            # a step may be put in other words, and a step that was thought to be over may come again
            kept = tuple(asked for asked in self._asked if asked.step < step)
            begun = next((a.begun for a in self._asked if a.step == step), self._keyposes)
            self._asked = (*kept, Asked(step, action, begun))

    @property
    def steps(self) -> tuple[Asked, ...]:
        return self._asked

    def done(self, step: int) -> tuple[str, ...]:
        """The sentences of the actions before a step, first to last."""
        return tuple(asked.action for asked in self._asked if asked.step < step)

    def executed(self, history: Sequence[Keypose]) -> tuple[str, ...]:
        """One line per action asked for: its sentence and what was executed for it."""
        ends = [*(asked.begun for asked in self._asked[1:]), len(history)]
        return tuple(self._line(asked, history, end) for asked, end in zip(self._asked, ends, strict=True))

    @staticmethod
    def _line(asked: Asked, history: Sequence[Keypose], end: int) -> str:
        was_open = history[asked.begun - 1].gripper_open if asked.begun else True
        return described(asked.action, end - asked.begun, events(history[asked.begun : end], was_open))
