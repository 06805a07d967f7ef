"""The heatmap network behind the text protocol: it points, decomposes and counts steps; text in, text out.

Paths need camera and depth, which turns do not carry: :class:`stvla_ros.planning.heatmap.planner.HeatmapPlanner` draws
them. Asked for a path here, it answers with a typed refusal, never with a guess.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from stvla_ros.errors import CancelToken, OutcomeCode, StageError
from stvla_ros.planning.chat import Turn
from stvla_ros.planning.heatmap.ground import Finder
from stvla_ros.planning.prompt import write_points
from stvla_ros.planning.table_view import refused
from stvla_ros.types import U8

_POINT = re.compile(r"Point to the (.{1,200}?)\. Provide exactly 1 point\.")
_NEXT = re.compile(r"Instruction: '(.{1,400}?)'\. Done: (.{1,1000}?)\. What is the next action\?")


class HeatmapChat:
    """A ChatModel for pointing and for the next action of a task."""

    name = "heatmap"

    def __init__(self, finder: Finder) -> None:
        self._finder = finder

    def reply(
        self,
        turns: Sequence[Turn],
        max_tokens: int,
        schema: Mapping[str, Any] | None = None,
        cancel: CancelToken | None = None,
    ) -> str:
        """See :class:`stvla_ros.planning.chat.ChatModel`.

        Raises:
            StageError: GOAL_NOT_GROUNDED for unknown words or things that are not clearly there; REPLY_UNPARSABLE for a
                question that is neither :func:`~stvla_ros.planning.prompt.pointing_prompt` nor
                :func:`~stvla_ros.planning.prompt.next_action_prompt`.
        """
        question = turns[-1].text
        if match := _POINT.match(question):
            return self._point(match[1], _last_image(turns))
        if match := _NEXT.match(question):
            return self._next(match[1], match[2])
        raise StageError(
            OutcomeCode.REPLY_UNPARSABLE,
            f"The heatmap model answers pointing and next-action questions only, not '{question[:80]}': paths come from the "
            "planner 'heatmap'.",
        )

    def _point(self, name: str, rgb: U8) -> str:
        goal = self._finder.goal(name)
        if goal.action != "point":
            raise refused(f"'{name[:80]}' is no thing to point to.")
        return write_points(self._finder.locate(self._finder.see(rgb), goal.names[0])[None])

    def _next(self, task: str, done: str) -> str:
        goal = self._finder.goal(task)
        if goal.action == "point":
            raise refused(f"'{task[:80]}' names a thing but no action: say what to do with the {goal.names[0]}.")
        step = 0 if done == "nothing" else len(re.findall(r"(?:^|; )\d{1,2}\. ", done))
        return goal.sentence(min(step, goal.steps - 1))


def _last_image(turns: Sequence[Turn]) -> U8:
    images = [image for turn in turns for image in turn.images]
    if not images:
        raise StageError(OutcomeCode.REPLY_UNPARSABLE, "The heatmap model was asked to point without an image.")
    return images[-1]
