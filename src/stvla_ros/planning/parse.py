"""Parse model replies into values: tolerant of form, strict about content.

There are four stages: thoughts, special tokens and answer marks (:mod:`.answer`); lists and points (:mod:`.literals`);
exactly one meaning of the requested content (here); no doubt in the surrounding words (:mod:`.prose`). Ambiguous
replies and unknown marks are refused. Nothing is evaluated, texts are bounded, and the work is linear in their length.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import dropwhile
from typing import TypeVar

import numpy as np

from stvla_ros.errors import OutcomeCode, StageError
from stvla_ros.planning.answer import FENCE, begins_again, is_thought, marked_answer, unknown_mark
from stvla_ros.planning.coordinates import NORM1000, Coordinates
from stvla_ros.planning.literals import (
    MAX_TOKENS,
    Item,
    Node,
    Part,
    Run,
    Token,
    nodes,
    numbers,
    offending,
    parts_of,
    points_of,
    runs,
    with_bare_points_in_brackets,
    words_of,
)
from stvla_ros.planning.prompt import MAX_OFFSET_MM, UNKNOWN
from stvla_ros.planning.prose import IN_ACTIONS, MENTION, doubt, no_description, refuses, without_closing
from stvla_ros.types import F64, WAYPOINTS

MAX_BYTES = 65536
"""Longer replies are refused unread."""

MAX_STEPS = 50
"""Plans with more steps are refused."""

ACTION_CHARS = (4, 200)

_MARKED = re.compile(rf"</?[^<>\n]{{1,80}}>|{FENCE}")  # allowed around a sentence once unknown marks were refused


@dataclass(frozen=True)
class StepProgress:
    """Progress in a long task.

    Attributes:
        step: Current step, from 1.
        total: Number of steps; None if the model does not know.
        finished: The model considers the task finished.
    """

    step: int
    total: int | None
    finished: bool


class ReplyError(StageError):
    """REPLY_UNPARSABLE.

    Attributes:
        problem: What is wrong, without the reply; sent to the model.
        text: The whole reply; the sentence contains its first 500 characters.
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

    Points form one list if no words separate them. There must be one list of ``count`` points, possibly repeated; words
    may mention one or two of its points again. :func:`stvla_ros.planning.plausibility.path_fault` judges the path.

    Returns:
        (count, 2) in 0..1000 of the image's width and height, whatever the convention of the reply.

    Raises:
        ReplyError: REPLY_UNPARSABLE: no such list, several different ones, another number of points, a point that is
            not two finite numbers in range, a truncated list, words that doubt or retract it, an unfinished thought, or
            an unknown mark.
    """
    return _parsed(text, lambda answer: coordinates.to_uv(_points(answer, count, coordinates)))


def parse_offsets(text: str, count: int = WAYPOINTS) -> F64:
    """Exactly ``count`` relative depths, from one list of millimetres.

    Returns:
        (count,) m.

    Raises:
        ReplyError: REPLY_UNPARSABLE: no list, another number, not finite, beyond 1.5 m, or obviously metres.
    """
    return _parsed(text, lambda answer: _offsets(answer, count))


def parse_action(text: str) -> str:
    """One plain sentence of 4 to 200 characters and at least two words.

    Raises:
        ReplyError: REPLY_UNPARSABLE: none, several, or anything but a sentence.
    """
    return _parsed(text, _action)


def parse_progress(text: str) -> StepProgress:
    """``step 2 of 3, finished: no``, or the same as JSON.

    Raises:
        ReplyError: REPLY_UNPARSABLE: a part is missing, contradictory or out of range, or "finished" before the last
            step.
    """
    return _parsed(text, _progress)


_ABOUT = (
    r"the|my|so|final|next|previous|last|answer|action|points?|path|trajectory|location|position|is|it|result|response"
    r"|output|here|s|sub|step|label|object|waypoints?|progress|offsets|status"
)
_UNKNOWN = re.compile(
    rf"[\W_]{{0,20}}(?:(?:{_ABOUT})[\W_]{{1,20}}){{0,6}}(?:\w{{1,20}}[\W_]{{1,20}})?{UNKNOWN}"
    r"(?:[\W_]{0,20}|\s?[.,:;\n—–(-]\D{0,400})",  # a reason
    re.I,
)


def is_unknown(text: str) -> bool:
    """The model says that it does not know or see the named object: ``unknown``, ``{"action": "unknown"}``.

    A reason may follow. Anything may precede it, even unknown marks, if the answer is on the last line.
    """
    if len(text) > MAX_BYTES:
        return False
    answer = marked_answer(text).strip()
    last_line = answer.rpartition("\n")[2]
    return any(_UNKNOWN.fullmatch(_MARKED.sub(" ", part)) for part in (answer, last_line))


T = TypeVar("T")


def _parsed(text: str, read: Callable[[str], T]) -> T:
    if len(text) > MAX_BYTES or len(text.encode("utf-8", "replace")) > MAX_BYTES:
        raise ReplyError(f"The reply is longer than {MAX_BYTES} bytes: ask for less, or limit max_tokens.", text)
    answer = marked_answer(text)
    try:
        if text.strip() and not answer.strip():
            raise _ProblemError("Wanted an answer behind all thoughts, found none.")
        mark = unknown_mark(answer)
        if mark is not None:
            raise _ProblemError(
                f"Wanted the answer alone, found '{mark[:40]}', which may mark something else than an answer."
            )
        again = begins_again(answer)
        if again is not None:
            raise _ProblemError(f"Wanted one answer, found '{again[:40]}' twice.")
        quoted = _QUOTED.fullmatch(answer)
        return read(quoted[2] if quoted else answer)
    except _ProblemError as problem:
        raise ReplyError(str(problem), text) from None


_QUOTED = re.compile(r"\s*([\"'])([^\"'\\]*)\1\s*")


def _parts(answer: str) -> list[Part]:
    parts = parts_of(answer)
    if parts is None:
        raise _ProblemError(f"Wanted one list, found more than {MAX_TOKENS} words, numbers and brackets.")
    return parts


def _points(answer: str, count: int, coordinates: Coordinates) -> F64:
    answer = with_bare_points_in_brackets(without_closing(answer))
    parts = _parts(answer)
    found = runs(parts)
    exact = [run for run in found if run.bad is None and len(run.points) == count and not run.goes_on]
    if not exact:
        raise _ProblemError(_no_points(found, count, answer))
    if any(run.points != exact[0].points for run in exact):
        raise _ProblemError(f"Wanted one list of {count} points, found {len(exact)} lists that differ.")
    rival = next((run for run in found if run not in exact and _rivals(run, exact[0], answer)), None)
    if rival is not None:
        found_too = answer[rival.start : rival.end][:60]
        raise _ProblemError(f"Wanted exactly {count} points once, found {len(rival.points)} more: '{found_too}'.")
    _check_beside(parts, exact[-1].end, answer, lambda node: set(exact[0].points).issuperset(points_of(node) or [None]))
    points = np.array(exact[0].points, dtype=np.float64)
    _check_range(points, coordinates)
    if _MOLMO.search(answer) and coordinates.convention != "norm1" and points.max() <= 100:
        raise _ProblemError(f"Wanted x and y up to {coordinates.top().max():g}, found percentages of the image.")
    return points


_MOLMO = re.compile(r"<points?\s[^<>]{0,80}\bx\d{0,3}\s?=", re.I)


def _no_points(found: Sequence[Run], count: int, answer: str) -> str:
    lists = [run for run in found if len(run.points) + (run.bad is not None) > 1 or run.bad or count == 1]
    if not lists:
        return f"Wanted a list of {count} points (x, y), found none."
    run = lists[-1]
    if run.bad is not None:
        bad = offending(run.bad)
        return f"Wanted points (x, y), found '{answer[bad.start : bad.end][:60]}'."
    cut = " and the beginning of another" if run.goes_on else ""
    return f"Wanted exactly {count} points, found {len(run.points)}{cut}."


def _rivals(run: Run, answer: Run, text: str) -> bool:
    """A run that may be another answer: not one or two points mentioned in words, nor a number in brackets."""
    if run.bad is not None:
        return bool(run.points) or not _aside(run.bad, text)
    if run.goes_on or len(run.points) > min(2, len(answer.points)):
        return len(run.points) > 1
    return not run.bare and not set(run.points) <= set(answer.points)


def _aside(node: Node, text: str) -> bool:
    """Words in round brackets, maybe with a number: ``(3 things)``, ``(x, y)``."""
    return (
        text[node.start] in "(（" and node.depth == 1 and bool(node.words) and (len(node.items) == 1 or not node.counts)
    )


def _check_beside(parts: Sequence[Part], end: int, answer: str, mentions: Callable[[Node], bool]) -> None:
    """Refuse a list if words doubt it, or if the text after it does more than describe it and mention parts of it."""
    word = doubt([" ".join(part.text for part in parts if not isinstance(part, Node)), *words_of(parts)])
    if word is not None:
        raise _ProblemError(f"Wanted the list alone, or the word '{UNKNOWN}' alone, found '{word[:40]}' beside a list.")
    said = []
    behind = (part for part in parts if part.start >= end)
    for part in dropwhile(lambda part: isinstance(part, Token) and part.kind in ("comma", "remark"), behind):
        if isinstance(part, Node) and (_aside(part, answer) or mentions(part)):
            said.append(MENTION)
        elif isinstance(part, Node) or _begins_another(part):
            raise _ProblemError(f"Wanted nothing behind the list, found '{answer[part.start :][:60]}'.")
        else:
            said.append(part.text if part.kind not in ("mark", "aside") else "\n" if "```" in part.text else " ")
    more = no_description(" ".join(said))
    if more is not None:
        raise _ProblemError(f"Wanted nothing behind the list, found '{more.replace(MENTION, '(...)')[:60]}'.")


def _begins_another(token: Token) -> bool:
    return token.kind in ("open", "more") or (token.kind == "mark" and not _MARK_ENDS.match(token.text))


_MARK_ENDS = re.compile(r"</|```$|<\|?(?:end_|\w{1,20}_end)|\[/|-->", re.I)


def _check_range(points: F64, coordinates: Coordinates) -> None:
    outside = ((points < 0) | (points > coordinates.top())).any(axis=1)
    top_x, top_y = coordinates.top()
    if outside.any():
        x, y = points[outside][0]
        raise _ProblemError(f"Wanted x from 0 to {top_x:g} and y from 0 to {top_y:g}, found ({x:g}, {y:g}).")
    if coordinates.convention != "norm1" and points.max() <= 1 and (points % 1).any():
        raise _ProblemError(f"Wanted x from 0 to {top_x:g} and y from 0 to {top_y:g}, found fractions of 1.")


_OTHER_UNITS = frozenset(
    ("m", "cm", "metre", "metres", "meter", "meters", "centimetre", "centimetres", "centimeter", "centimeters")
)


def _offsets(answer: str, count: int) -> F64:
    answer = without_closing(answer)
    parts = _parts(answer)
    lists = [(node, values) for node in nodes(parts) if (values := numbers(node)) is not None]
    plain = [(node, values) for node, values in lists if len(values) == count and None not in values]
    if not plain:
        raise _ProblemError(_no_offsets(lists, count, answer))
    rival = next((node for node, values in lists if len(values) > 2 and values != plain[0][1]), None)
    if rival is not None:
        raise _ProblemError(
            f"Wanted one list of {count} depth offsets, found '{answer[rival.start : rival.end][:80]}' too."
        )
    _check_beside(parts, plain[-1][0].end, answer, lambda node: _within(numbers(node), plain[0][1]))
    if _OTHER_UNITS & {word.lower().strip("\"'.,") for text in words_of(parts) for word in text.split()}:
        raise _ProblemError("Wanted depth offsets in millimetres, found another unit.")
    offsets_mm = np.array(plain[0][1], dtype=np.float64)
    far = offsets_mm[np.abs(offsets_mm) > MAX_OFFSET_MM]
    if len(far):
        raise _ProblemError(f"Wanted depth offsets from -{MAX_OFFSET_MM} to {MAX_OFFSET_MM} mm, found {far[0]:g}.")
    if np.abs(offsets_mm).max() <= MAX_OFFSET_MM / 1000 and (offsets_mm % 1).any():
        raise _ProblemError("Wanted depth offsets in millimetres, found metres.")
    return offsets_mm / 1000


def _within(said: Sequence[float | None] | None, values: Sequence[float | None]) -> bool:
    """The numbers are some of the list's, or its range: [-60, 0]."""
    known = [value for value in said or () if value is not None]
    if not known or len(known) != len(said or ()):
        return False
    given = [value for value in values if value is not None]
    return set(known) <= set(given) or (len(known) == 2 and known[0] <= min(given) and max(given) <= known[1])


def _no_offsets(lists: Sequence[tuple[Node, Sequence[float | None]]], count: int, answer: str) -> str:
    if not lists:
        return f"Wanted a list of {count} depth offsets in millimetres, found none."
    node, values = lists[-1]
    if None in values:
        return f"Wanted depth offsets as plain numbers, found '{answer[node.start : node.end][:80]}'."
    return f"Wanted exactly {count} depth offsets, found {len(values)}."


_AROUND_ACTION = re.compile(
    r"\A(?:[>#•*+-]{1,6} +|\d{1,2}[.)] +"  # > quotation, ## heading, - bullet, 1. number
    r"|(?:here(?:['’]s| is) )?(?:the |my )?(?:(?:next|previous|last|final|current) )?"  # Here is the next action:
    r"(?:sub-?)?(?:action|step|instruction|answer|command|output|response)(?: \d{1,2}(?: of \d{1,2})?)?"
    r"(?:(?: is| was)?\s?(?:[:：→]|[–—-] |\Z)| is to (?=\w))\s*)",
    re.I,
)
_QUOTES = "\"'*`_ “”‘’„«»"
_BOLD = re.compile(r"\*\*([^*\n]{1,200})\*\*")
_NO_ACTION = re.compile(
    r"\(|wait,|(?:i|we|you|it|there|no|not|none|nothing|unfortunately|as an)\b"
    r"|(?:the|this|that|all)\b.{0,80}\b(?:is|are|was|were|has|have)\b|.*\b(?:wait,? no|no,? wait|i mean)\b",
    re.I,
)
_IN_SENTENCES = frozenset(" ,.;!'’\"“”`_-–/()&+°#@")
_SENTENCE_END = re.compile(r"[.!]\s+\S|[.!][A-Z]|[。！]\S|\.\.|\w +(?:The|That|This|There|It|I|No|Not|We) ")


def _action(answer: str) -> str:
    said = _json_text(_MARKED.sub("\n", answer)).strip()
    lines = [line for raw in said.splitlines() if (line := _undressed(raw))]
    if len(lines) != 1 or not _undressed(said.splitlines()[-1]):
        raise _ProblemError(f"Wanted one sentence, found {len(lines)} lines.")
    words = lines[0]
    least, most = ACTION_CHARS
    if not least <= len(words) <= most:
        raise _ProblemError(f"Wanted a sentence of {least} to {most} characters, found {len(words)}.")
    plain = words.isprintable() and all(c.isalnum() or c in _IN_SENTENCES for c in words)
    if not plain or len([w for w in words.split() if any(c.isalpha() for c in w)]) < 2:
        raise _ProblemError("Wanted a plain sentence such as 'pick up the red block'.")
    if _SENTENCE_END.search(words):
        raise _ProblemError("Wanted one sentence, found several.")
    if doubt([words], IN_ACTIONS) or _NO_ACTION.match(words) or _NOTHING.search(words):
        raise _ProblemError(
            f"Wanted something to do, such as 'pick up the red block', or '{UNKNOWN}', found '{words[:60]}'."
        )
    return words


def _json_items(answer: str) -> Sequence[Item]:
    """The items of an answer that is one JSON object or list, without texts that it calls thoughts; else none."""
    if answer.lstrip()[:1] not in ("{", "["):
        return ()
    parts = [part for part in parts_of(answer) or [] if isinstance(part, Node) or part.kind != "line"]
    items = [Item("", part if isinstance(part, Node) else None) for part in parts]
    while len(items) == 1 and isinstance(node := items[0].value, Node) and node.sound:
        items = [item for item in node.items if not is_thought(item.key)]
    return items if items and all(item.key or isinstance(item.value, str) for item in items) else ()


def _json_text(answer: str) -> str:
    """The text of ``{"action": "push the red button"}``; else the answer as it is."""
    said = [item.value for item in _json_items(answer) if doubt([item.key]) is None]
    return said[0] if len(said) == 1 and isinstance(said[0], str) else answer


def _json_lines(answer: str) -> str:
    """``{"step": 2, "finished": false}`` as ``step: 2`` and ``finished: false``; else the answer as it is."""
    values = [
        (item.key, f"{item.value:g}" if isinstance(item.value, float) else item.value) for item in _json_items(answer)
    ]
    return "\n".join(f"{key.replace('_', ' ')}: {value}" for key, value in values) or answer


def _undressed(line: str) -> str:
    """A line without list, heading or quotation marks around its sentence; empty if it is only a heading."""
    words, before = _BOLD.sub(r"\1", line).strip(_QUOTES), ""
    while words != before:
        before = words
        words = _AROUND_ACTION.sub("", words, count=1).strip(_QUOTES)
    return words


_EMPHASIS = re.compile(r"[*_`]{1,3}")
_STEP = re.compile(
    r"\bstep\b(?:\s+number)?\W{0,6}(\d{1,9})\b(?:\s{0,3}(?:(?:out )?of|/)\s{0,3}(\d{1,9})\b)?", re.I | re.A
)
_TOTAL = re.compile(r"\btotal\b(?:\s+(?:number\s+of\s+)?steps)?\W{0,6}(\d{1,9}|null|none)\b", re.I | re.A)
_NOTHING = re.compile(r"[\[({]\s*[\])}]|\?|\.\.\.|…|:\s*\Z")
_FINISHED = re.compile(r"\bfinished\b\W{0,6}(yes|no|true|false)\b", re.I | re.A)


def _progress(answer: str) -> StepProgress:
    answer = _EMPHASIS.sub(" ", _json_lines(answer))
    steps, totals = set(), {int(m[1]) for m in _TOTAL.finditer(answer) if m[1].isdigit()}
    for match in _STEP.finditer(answer):
        steps.add(int(match[1]))
        totals |= {int(match[2])} if match[2] else set()
    finished = {m[1].lower() in ("yes", "true") for m in _FINISHED.finditer(answer)}
    if len(steps) != 1 or len(finished) != 1 or len(totals) > 1:
        raise _ProblemError("Wanted 'step K of N, finished: yes' or 'step K of N, finished: no', once.")
    rest = _TOTAL.sub(" ", _FINISHED.sub(" ", answer))
    word = doubt([rest]) if True in finished else None
    if word is not None or refuses(rest) or _NOTHING.search(rest):
        raise _ProblemError(f"Wanted step and finished alone, found '{(word or rest.strip())[:40]}' beside them.")
    progress = StepProgress(steps.pop(), totals.pop() if totals else None, finished.pop())
    _check_progress(progress)
    return progress


def _check_progress(progress: StepProgress) -> None:
    step, total = progress.step, progress.total
    if not 1 <= step <= (MAX_STEPS if total is None else min(total, MAX_STEPS)) or (total or 1) > MAX_STEPS:
        raise _ProblemError(f"Wanted a step from 1 to the last one, at most {MAX_STEPS}, found step {step} of {total}.")
    if progress.finished and total is not None and step < total:
        raise _ProblemError(f"A task is not finished in step {step} of {total}.")
