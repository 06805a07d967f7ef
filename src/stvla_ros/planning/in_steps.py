"""Instructions of several tasks: "put the red block in the plate, then stack the blue block on the green block".

Planners without a language model know one task at a time. Here their sentences are carried out one after the other:
each with the keyposes since its own beginning, until the planner sees it finished.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace

from stvla_ros.planning.instruction import UnclearError, parse
from stvla_ros.types import PlanRequest, TracePlan

_NEXT = re.compile(r"[,;.]?\s*(?:\band\s+)?\b(?:then|after that|afterwards|next)\b,?\s+|[;.]\s+", re.IGNORECASE)
"""What stands between two steps. A bare "and" does not: it also joins things and verbs of one step."""


def steps_of(instruction: str) -> tuple[str, ...]:
    """The sentences of an instruction, each a task of its own; the instruction itself if it is a single task or unclear.

    Every sentence must be clear by itself, and none may be stated twice.
    """
    try:
        parse(instruction)
        return (instruction,)
    except UnclearError:
        pass
    sentences = tuple(part.strip(" ,") for part in _NEXT.split(instruction) if part.strip(" ,;."))
    try:
        tasks = [parse(sentence) for sentence in sentences]
    except UnclearError:
        return (instruction,)
    several = len(sentences) > 1 and len(set(tasks)) == len(tasks)
    return sentences if several else (instruction,)


@dataclass(frozen=True)
class _Place:
    """How far an instruction is: the step, and the numbers of keyposes at its beginning and at the last request."""

    instruction: str = ""
    step: int = 0
    begun: int = 0
    keyposes: int = 0


class InSteps:
    """Asks a planner of single tasks for the step that is next.

    A request without history, or for another instruction, starts over. So does a planner that was restarted: it sees
    the first steps finished and passes over them.
    """

    def __init__(self) -> None:
        self._place = _Place()

    def plan(self, request: PlanRequest, single: Callable[[PlanRequest], TracePlan]) -> TracePlan:
        """The plan for the next step, or of the last step, finished.

        Args:
            request: Of the operator's whole instruction.
            single: Plans one task.

        Raises:
            StageError: What ``single`` raises.
        """
        sentences = steps_of(request.instruction)
        if len(sentences) == 1:
            return single(request)
        place, count = self._place, len(request.history)
        if not count or place.instruction != request.instruction or count < place.keyposes:
            place = _Place(request.instruction)
        while True:
            self._place = replace(place, keyposes=count)
            step = replace(request, instruction=sentences[place.step], history=request.history[place.begun :])
            plan = single(step)
            if not plan.finished or place.step == len(sentences) - 1:
                return replace(plan, instruction=request.instruction, step_index=place.step, step_total=len(sentences))
            place = replace(place, step=place.step + 1, begun=count)
