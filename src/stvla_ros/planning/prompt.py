"""The prompts of a planner's model (paper 3.3.1 and appendix F; ST4VLA for the spatial prompt), and the answers' form.

The sentences are the protocol: training data, the small models of this project and evaluation use these functions too.
A model trained on them needs nothing else; for other models :func:`explained` adds the form of the answer.

The first turn of a conversation carries the image. The turn of :func:`depth_prompt` adds the colourised depth.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from stvla_ros.planning.coordinates import NORM1000, Coordinates
from stvla_ros.planning.depth_image import colourised_depth as colourised_depth
from stvla_ros.types import F64, WAYPOINTS

MAX_OFFSET_MM = 1500
"""Largest depth offset of a tool path on a table."""


UNIFIED_PROMPT = "Your task is to {instruction}. Figure out how to execute it, then locate the key object needed."
"""What an action expert's VLM is told about every image (ST4VLA, arXiv 2602.10109, figure 2)."""


def trace_prompt(task: str) -> str:
    """First stage: the path on the image (paper, appendix F, word by word)."""
    return f"Instruction: '{task}'. Provide a sequence of exactly {WAYPOINTS} points denoting the trajectory."


def depth_prompt(start_depth_m: float) -> str:
    """Second stage: the depth of every waypoint, from the depth that the sensor has at the first one."""
    return (
        f"Start depth: {round(start_depth_m * 1000)} mm. The last image shows the depth. "
        f"Provide exactly {WAYPOINTS} relative depth offsets in millimetres."
    )


def pointing_prompt(name: str) -> str:
    """One thing, named: one point."""
    return f"Point to the {name}. Provide exactly 1 point."


def box_prompt(name: str) -> str:
    """One thing, named: the upper left and lower right corner of the box around what is seen of it."""
    return f"Point to the corners of the box around the {name}. Provide exactly 2 points."


def next_action_prompt(task: str, done: Sequence[str]) -> str:
    """Which action comes next; ``done`` are the sentences of the actions that are over, first to last."""
    return f"Instruction: '{task}'. Done: {listed(done)}. What is the next action?"


def previous_action_prompt(task: str) -> str:
    """Which action led to the image."""
    return f"Instruction: '{task}'. What was the previous action?"


def progress_prompt(task: str, steps_done: Sequence[str]) -> str:
    """Which step of how many is under way, and whether the task is finished.

    Args:
        task: The operator's words.
        steps_done: What was done for each action asked for so far (:func:`stvla_ros.planning.task_memory.described`).
    """
    return f"Instruction: '{task}'. Executed: {listed(steps_done)}. Which step is it, and is the task finished?"


def spatial_prompt(task: str) -> str:
    """Makes a model look before it draws (ST4VLA, unified spatial prompt)."""
    words = task.rstrip(".")
    return f"Your task is to {words[:1].lower()}{words[1:]}. Figure out how to execute it, then locate the key object needed."


def remaining_prompt(tool_uv: F64 | None, done: Sequence[str], coordinates: Coordinates = NORM1000) -> str:
    """Follows :func:`trace_prompt` in the middle of a task: only the rest of the path is wanted.

    Args:
        tool_uv: (2,) image of the tool centre point in 0..1000; None when the camera does not see it.
        done: What was executed so far (:func:`stvla_ros.planning.task_memory.described`).
        coordinates: How the model writes points.
    """
    where = "" if tool_uv is None else f"The tool is at {coordinates.written(tool_uv)}. "
    return f"{where}Executed: {listed(done)}. Draw the remaining path."


def refusal(sentence: str) -> str:
    """Follows :func:`trace_prompt` after a path that could not be used: says why (one line, at most 400 characters)."""
    return f"The last path was refused: {one_line(sentence, 400).rstrip('.')}. Draw another one."


def one_line(text: str, most: int) -> str:
    """Printable words of a text, cut."""
    words = " ".join("".join(c if c.isprintable() else " " for c in text[: 4 * most]).split())
    return words if len(words) <= most else f"{words[: most - 3]}..."


def listed(sentences: Sequence[str]) -> str:
    """``1. pick up the cup; 2. pour``, or ``nothing``."""
    return "; ".join(f"{k}. {s.rstrip('.')}" for k, s in enumerate(sentences, 1)) or "nothing"


UNKNOWN = "unknown"
"""The answer of a model that does not know, or does not see, what is named; to any question."""

_OR_UNKNOWN = f"If the image does not show what is named, answer '{UNKNOWN}'."

FORMS = {
    "points": f"Answer with the points only, as [(x, y), ...], {{range}}. {_OR_UNKNOWN}",
    "offsets": (
        "A positive offset is farther from the camera than the start, a negative one nearer; the first is 0 unless the "
        "gripper should be above the start. Answer with the integers only, as [0, -50, ...]."
    ),
    "action": f"Answer with one short imperative sentence only. {_OR_UNKNOWN}",
    "progress": "Answer with 'step K of N, finished: yes' or 'step K of N, finished: no' only.",
}
"""How answers look, for models that were not trained on this protocol."""

RANGES = {
    "norm1000": "integers from 0 to 1000, x from left to right and y from top to bottom of the whole image",
    "norm1": "fractions from 0 to 1, x from left to right and y from top to bottom of the whole image",
    "pixel": "in pixels, x from left to right and y from top to bottom",
}


def explained(prompt: str, kind: str, convention: str = "norm1000") -> str:
    """A prompt with the form of its answer; ``kind`` is a key of :data:`FORMS`, ``convention`` one of :data:`RANGES`."""
    return f"{prompt} {FORMS[kind].format(range=RANGES[convention])}"


def points_schema(count: int = WAYPOINTS, convention: str = "norm1000") -> Mapping[str, Any]:
    """JSON schema of ``{"points": [[x, y], ...]}`` for servers that hold answers to one."""
    top = {"norm1000": 1000, "norm1": 1}.get(convention)
    number = {"type": "integer" if convention == "norm1000" else "number", "minimum": 0}
    number |= {} if top is None else {"maximum": top}
    return _only("points", _array(_array(number, 2), count))


def _array(items: Mapping[str, Any], count: int) -> dict[str, Any]:
    return {"type": "array", "items": items, "minItems": count, "maxItems": count}


def _object(properties: Mapping[str, Any]) -> dict[str, Any]:
    required = list(properties)
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


def _only(name: str, value: Mapping[str, Any]) -> dict[str, Any]:
    return _object({name: value})


OFFSETS_SCHEMA = _only(
    "offsets_mm", _array({"type": "integer", "minimum": -MAX_OFFSET_MM, "maximum": MAX_OFFSET_MM}, WAYPOINTS)
)
ACTION_SCHEMA = _only("action", {"type": "string", "minLength": 4, "maxLength": 200})
PROGRESS_SCHEMA = _object(
    {
        "step": {"type": "integer", "minimum": 1, "maximum": 50},
        "total": {"type": ["integer", "null"], "minimum": 1, "maximum": 50},
        "finished": {"type": "boolean"},
    }
)


def write_points(uv: npt.ArrayLike) -> str:
    """``[(643, 367), (696, 470), ...]`` of (N, 2) in 0..1000."""
    points = np.rint(np.asarray(uv, np.float64)).astype(int)
    return "[" + ", ".join(f"({u}, {v})" for u, v in points) + "]"


def write_offsets(offset_m: npt.ArrayLike) -> str:
    """``[0, -120, ...]`` millimetres of (N,) m."""
    return "[" + ", ".join(str(mm) for mm in np.rint(1000 * np.asarray(offset_m, np.float64)).astype(int)) + "]"


def write_progress(step: int, total: int, finished: bool) -> str:
    """``step 2 of 3, finished: no``; steps count from 1."""
    return f"step {step} of {total}, finished: {'yes' if finished else 'no'}"
