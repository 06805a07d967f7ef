"""Replies of models as values: tolerant of form, strict of content.

Form: points as ``(x, y)``, ``[x, y]`` or ``{"point_2d": [x, y]}``; answers in ``<answer>``, ``<ans>``, ``<point>`` or code
fences, or between words; thoughts before the answer. Content: exactly as many finite numbers as asked for, in range. What is
ambiguous is refused. Nothing is evaluated, texts are bounded, and the work is linear in their length.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from typing import TypeVar

import numpy as np

from stvla_ros.errors import OutcomeCode, StageError
from stvla_ros.planning.answer import Group, answer_of, goes_on, groups, runs
from stvla_ros.planning.coordinates import NORM1000, Coordinates
from stvla_ros.planning.prompt import MAX_OFFSET_MM, UNKNOWN
from stvla_ros.types import F64, WAYPOINTS

MAX_BYTES = 65536
"""Longer replies are refused unread."""

MAX_GROUPS = 500
"""More brackets with numbers in them are no answer."""

MAX_STEPS = 50
"""More steps are no plan."""

ACTION_CHARS = (4, 200)


@dataclass(frozen=True)
class Progress:
    """Where a long task is.

    Attributes:
        step: Step under way, from 1.
        total: Number of steps; None when the model does not know.
        finished: The model sees the task done.
    """

    step: int
    total: int | None
    finished: bool


class ReplyError(StageError):
    """REPLY_UNPARSABLE.

    Attributes:
        problem: What is wrong, without the reply: to be told to the model.
        text: The whole reply; the sentence has its first 500 characters.
    """

    def __init__(self, problem: str, text: str) -> None:
        problem = "".join(c if c.isprintable() else " " for c in problem)
        shown = repr(text[:500]) + ("..." if len(text) > 500 else "")
        super().__init__(OutcomeCode.REPLY_UNPARSABLE, f"{problem} The reply was: {shown}")
        self.problem = problem
        self.text = text


class _ProblemError(Exception):
    """What is wrong with an answer; becomes a ReplyError with the whole text."""


def parse_points(text: str, count: int = WAYPOINTS, coordinates: Coordinates = NORM1000) -> F64:
    """Exactly ``count`` points.

    Points count as one list when there are no words between them; of several lists the last one with more than one
    point (for ``count`` 1: the last one) is the answer. Whether the points make a path is for
    :func:`stvla_ros.planning.sense.check_path` to say.

    Returns:
        (count, 2) in 0..1000 of the image's width and height, whatever the convention of the reply.

    Raises:
        ReplyError: REPLY_UNPARSABLE: no such list, another number of points, a point that is not two finite numbers in range,
            or a list that was cut off.
    """
    return _parsed(text, lambda answer: coordinates.to_uv(_points(answer, count, coordinates)))


def parse_offsets(text: str, count: int = WAYPOINTS) -> F64:
    """Exactly ``count`` relative depths, from a list of millimetres; the last list of more than one number counts.

    Returns:
        (count,) m.

    Raises:
        ReplyError: REPLY_UNPARSABLE: no list, another number, not finite, beyond 1.5 m, or obviously metres.
    """
    return _parsed(text, lambda answer: _offsets(answer, count))


def parse_action(text: str) -> str:
    """One plain sentence of 4 to 200 characters and at least two words.

    Raises:
        ReplyError: REPLY_UNPARSABLE: none, several, or something else than a sentence.
    """
    return _parsed(text, _action)


def parse_progress(text: str) -> Progress:
    """``step 2 of 3, finished: no``, or the same as JSON.

    Raises:
        ReplyError: REPLY_UNPARSABLE: a part is missing, said twice differently, out of range, or "finished" before the last step.
    """
    return _parsed(text, _progress)


_UNKNOWN = re.compile(rf"\W{{0,20}}(?:\w{{1,20}}\W{{1,20}})?{UNKNOWN}\W{{0,20}}", re.I)


def is_unknown(text: str) -> bool:
    """The model says that it does not know or see what is named: ``unknown``, ``{"action": "unknown"}``."""
    return len(text) <= MAX_BYTES and bool(_UNKNOWN.fullmatch(answer_of(text)))


T = TypeVar("T")


def _parsed(text: str, read: Callable[[str], T]) -> T:
    if len(text) > MAX_BYTES or len(text.encode("utf-8", "replace")) > MAX_BYTES:
        raise ReplyError(f"The reply is longer than {MAX_BYTES} bytes: ask for less, or limit max_tokens.", text)
    try:
        return read(answer_of(text))
    except _ProblemError as problem:
        raise ReplyError(str(problem), text) from None


def _groups(answer: str) -> list[Group]:
    found = list(islice(groups(answer), MAX_GROUPS + 1))
    if len(found) > MAX_GROUPS:
        raise _ProblemError(f"Wanted one list, found more than {MAX_GROUPS} brackets with numbers.")
    return found


def _points(answer: str, count: int, coordinates: Coordinates) -> F64:
    lists = [run for run in runs(_groups(answer), answer) if len(run) > 1 or count == 1]
    if not lists:
        raise _ProblemError(f"Wanted a list of {count} points (x, y), found none.")
    run = lists[-1]
    bad = next((g for g in run if g.numbers is None or len(g.numbers) != 2), None)
    if bad is not None:
        raise _ProblemError(f"Wanted points (x, y), found '{answer[bad.start : bad.end][:60]}'.")
    if len(run) != count or goes_on(answer, run[-1]):
        cut = " and the beginning of another" if goes_on(answer, run[-1]) else ""
        raise _ProblemError(f"Wanted exactly {count} points, found {len(run)}{cut}.")
    points = np.array([g.numbers for g in run], dtype=np.float64)
    _check_range(points, coordinates)
    return points


def _check_range(points: F64, coordinates: Coordinates) -> None:
    outside = ((points < 0) | (points > coordinates.top())).any(axis=1)
    top_x, top_y = coordinates.top()
    if outside.any():
        x, y = points[outside][0]
        raise _ProblemError(f"Wanted x from 0 to {top_x:g} and y from 0 to {top_y:g}, found ({x:g}, {y:g}).")
    if coordinates.convention != "norm1" and points.max() <= 1 and (points % 1).any():
        raise _ProblemError(f"Wanted x from 0 to {top_x:g} and y from 0 to {top_y:g}, found fractions of 1.")


def _offsets(answer: str, count: int) -> F64:
    lists = [g for g in _groups(answer) if len(g.items) > 1]
    if not lists:
        raise _ProblemError(f"Wanted a list of {count} depth offsets in millimetres, found none.")
    group = lists[-1]
    if group.numbers is None:
        raise _ProblemError(f"Wanted depth offsets as plain numbers, found '{answer[group.start : group.end][:80]}'.")
    if len(group.numbers) != count:
        raise _ProblemError(f"Wanted exactly {count} depth offsets, found {len(group.numbers)}.")
    offsets_mm = np.array(group.numbers, dtype=np.float64)
    far = offsets_mm[np.abs(offsets_mm) > MAX_OFFSET_MM]
    if len(far):
        raise _ProblemError(f"Wanted depth offsets from -{MAX_OFFSET_MM} to {MAX_OFFSET_MM} mm, found {far[0]:g}.")
    if np.abs(offsets_mm).max() <= MAX_OFFSET_MM / 1000 and (offsets_mm % 1).any():
        raise _ProblemError("Wanted depth offsets in millimetres, found metres.")
    return offsets_mm / 1000


_ACTION_JSON = re.compile(r'\{\s{0,9}"\w{1,30}"\s{0,9}:\s{0,9}"([^"\\\n]{1,400})"\s{0,9}\}')
_ACTION_NAME = re.compile(
    r"(?:the )?(?:(?:next|previous|last) )?(?:sub-?)?(?:action|step|instruction|answer)(?: is| was)? ?: ?", re.I
)
_SENTENCE_END = re.compile(r"[.!?]\s+\S")


def _action(answer: str) -> str:
    found = _ACTION_JSON.fullmatch(answer.strip())
    lines = [line.strip() for line in (found[1] if found else answer).splitlines() if line.strip()]
    if len(lines) != 1:
        raise _ProblemError(f"Wanted one sentence, found {len(lines)} lines.")
    words = _ACTION_NAME.sub("", lines[0], count=1) if _ACTION_NAME.match(lines[0]) else lines[0]
    words = words.strip("\"'*` ").strip()
    least, most = ACTION_CHARS
    if not least <= len(words) <= most:
        raise _ProblemError(f"Wanted a sentence of {least} to {most} characters, found {len(words)}.")
    plain = words.isprintable() and not set("[]{}<>|:\\") & set(words)
    if not plain or len([w for w in words.split() if any(c.isalpha() for c in w)]) < 2:
        raise _ProblemError("Wanted a plain sentence such as 'pick up the red block'.")
    if _SENTENCE_END.search(words):
        raise _ProblemError("Wanted one sentence, found several.")
    return words


_STEP = re.compile(r"\bstep\b\W{0,6}(\d{1,9})\b(?:\s{0,3}(?:of|/)\s{0,3}(\d{1,9})\b)?", re.I | re.A)
_TOTAL = re.compile(r"\btotal\b\W{0,6}(\d{1,9})\b", re.I | re.A)
_FINISHED = re.compile(r"\bfinished\b\W{0,6}(yes|no|true|false)\b", re.I | re.A)


def _progress(answer: str) -> Progress:
    steps, totals = set(), {int(m[1]) for m in _TOTAL.finditer(answer)}
    for match in _STEP.finditer(answer):
        steps.add(int(match[1]))
        totals |= {int(match[2])} if match[2] else set()
    finished = {m[1].lower() in ("yes", "true") for m in _FINISHED.finditer(answer)}
    if len(steps) != 1 or len(finished) != 1 or len(totals) > 1:
        raise _ProblemError("Wanted 'step K of N, finished: yes' or 'step K of N, finished: no', once.")
    progress = Progress(steps.pop(), totals.pop() if totals else None, finished.pop())
    _check_progress(progress)
    return progress


def _check_progress(progress: Progress) -> None:
    step, total = progress.step, progress.total
    if not 1 <= step <= (MAX_STEPS if total is None else min(total, MAX_STEPS)) or (total or 1) > MAX_STEPS:
        raise _ProblemError(f"Wanted a step from 1 to the last one, at most {MAX_STEPS}, found step {step} of {total}.")
    if progress.finished and total is not None and step < total:
        raise _ProblemError(f"A task is not finished in step {step} of {total}.")
