"""Where in a model's text the answer is, and the lists of numbers in it. Patterns are bounded: work is linear."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

_NUMBER = re.compile(r"[-+]?(?:\d{1,20}(?:\.\d{0,40})?|\.\d{1,40})(?:[eE][-+]?\d{1,3})?(?:\s{0,3}(?:mm|px))?", re.ASCII)
_GROUP = re.compile(r"([\[(])([^\[\]()]{0,400})([\])])")
_CLOSED = {"[": "]", "(": ")"}
_DIGIT = re.compile(r"\d", re.ASCII)
_NO_NUMBER = re.compile(r"\bnan\b|\binf(?:inity)?\b|\bnull\b|\bnone\b", re.IGNORECASE)
_TAGS = (("<answer_start>", "<answer_end>"), ("<answer>", "</answer>"), ("<ans>", "</ans>"))
_FENCE = re.compile(r"```[a-zA-Z]{0,10}\n?")
_POINT_TAG = re.compile(r"</?point>", re.IGNORECASE)
MAX_GAP = 240
"""Numbers farther apart in the text are no list."""

_GAP_WORDS = re.compile(
    r'"[^"\n]{0,80}"|\'[^\'\n]{0,80}\'|<action>[^<>]{0,80}</action>|</?[a-z_]{1,20}>'
    r"|\b(?:points?|waypoints?|point_2d|label|p|and|then|to)\b|(?<![a-z])p(?=\d)",
    re.IGNORECASE,
)
_LETTER = re.compile(r"[^\W\d_]")
_QUOTED = re.compile(r'"[^"\n]{0,80}"')
_GOES_ON = re.compile(r'[\s,;:.\d"}<>/]{0,120}?[\[({]\s{0,9}(?:[-+\d."\[({]|$)|\s{0,9},\s{0,9}[-+]?\d', re.ASCII)


@dataclass(frozen=True)
class Group:
    """What stands between innermost brackets.

    Attributes:
        items: The texts between its commas.
        numbers: The items as numbers; None when not all are.
        start: Place of its opening bracket in the text.
        end: Place behind its closing bracket.
    """

    items: tuple[str, ...]
    numbers: tuple[float, ...] | None
    start: int
    end: int


def answer_of(text: str) -> str:
    """The part of a reply that is meant as the answer: without thoughts, inside the last answer tags or code fence.

    A thought that does not end leaves nothing.
    """
    text = _after_thoughts(text)
    for opening, closing in _TAGS:
        begin = text.rfind(opening)
        if begin >= 0:
            inner = text[begin + len(opening) :]
            text = inner.split(closing, 1)[0]
    fenced = [part for part in _FENCE.split(text)[1::2] if part.strip()]
    text = fenced[-1] if fenced else text
    return _POINT_TAG.sub(" ", text)


def _after_thoughts(text: str) -> str:
    for tag in ("think", "thinking"):
        end = text.rfind(f"</{tag}>")
        if end >= 0:
            text = text[end + len(tag) + 3 :]
        begin = text.rfind(f"<{tag}>")
        if begin >= 0:
            text = text[:begin]
    return text


def groups(text: str) -> Iterator[Group]:
    """All innermost brackets that hold a digit or a word for no number, in order."""
    for match in _GROUP.finditer(text):
        opening, inner, closing = match.groups()
        if _DIGIT.search(inner) or _NO_NUMBER.search(inner):
            items = tuple(item.strip() for item in inner.split(","))
            values = numbers(items) if closing == _CLOSED[opening] else None
            yield Group(items, values, match.start(), match.end())


def numbers(items: tuple[str, ...]) -> tuple[float, ...] | None:
    """Plain decimal numbers, ASCII digits only; None when one is none or is not finite."""
    if items and not items[-1]:  # a comma before the closing bracket
        items = items[:-1]
    values = []
    for item in items:
        if not _NUMBER.fullmatch(item):
            return None
        values.append(float(item.removesuffix("mm").removesuffix("px")))
    return tuple(values) if values and all(abs(v) < 1e12 for v in values) else None


def runs(candidates: Sequence[Group], text: str) -> list[list[Group]]:
    """Groups that follow each other like the items of one list: no words between them but names of points, no new bracket."""
    found: list[list[Group]] = []
    for group in candidates:
        if found and _joined(text[found[-1][-1].end : group.start]):
            found[-1].append(group)
        else:
            found.append([group])
    return found


def _joined(gap: str) -> bool:
    if len(gap) > MAX_GAP or _LETTER.search(words := _GAP_WORDS.sub(" ", gap)):
        return False
    return sum(map(words.count, "[(")) <= sum(map(words.count, "])"))


def goes_on(text: str, group: Group) -> bool:
    """Behind a group another one begins that is not closed, or loose numbers follow: the list was cut off."""
    return bool(_GOES_ON.match(_QUOTED.sub('"', text[group.end : group.end + MAX_GAP])))
