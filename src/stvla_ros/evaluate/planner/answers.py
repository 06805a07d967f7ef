"""What an answer says: points, or one of several options."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from stvla_ros.evaluate.planner.metrics import words
from stvla_ros.planning.answer import answer_of, groups
from stvla_ros.planning.coordinates import Coordinates
from stvla_ros.planning.parse import MAX_BYTES, ReplyError
from stvla_ros.types import F64

LETTERS = "ABCDEFGHIJ"
_BRACKETED = re.compile(r"\(([A-J])\)")
_FIRST = re.compile(r"\s*\**([A-J])\**(?:\s*[.:)\]]|\s*$)")
_SAID = re.compile(r"\b(?:answer|option|choice)\b(?:\s+is)?\s*:?\s*\**\(?([A-J])\b(?!\s+[a-z])")


def chosen(text: str, options: Sequence[str] = (), lettered: bool = True) -> int | None:
    """The option that an answer names clearly; None when it names none or several.

    A letter counts where it stands alone: ``(B)``, ``B``, ``B. red``, ``the answer is B``; an "A" within a word or as
    an article does not. Otherwise the text of exactly one option must be the answer, or occur in it as whole words.
    """
    answer = answer_of(text).strip()
    if lettered:
        for letters in (_BRACKETED.findall(answer), _FIRST.match(answer), _SAID.findall(answer)):
            found = {letters[1]} if isinstance(letters, re.Match) else set(letters or ())
            if found:
                return LETTERS.index(found.pop()) if len(found) == 1 else None
    return _by_text(answer, options)


def _by_text(answer: str, options: Sequence[str]) -> int | None:
    said = words(answer)
    exact = [i for i, option in enumerate(options) if words(option) == said]
    if len(exact) == 1:
        return exact[0]
    within = [i for i, option in enumerate(options) if _occurs(words(option), said)]
    longest = [i for i in within if not any(_occurs(words(options[i]), words(options[k])) for k in within if k != i)]
    return longest[0] if len(longest) == 1 else None


def _occurs(part: list[str], whole: list[str]) -> bool:
    return bool(part) and any(whole[i : i + len(part)] == part for i in range(len(whole) - len(part) + 1))


def loosely_right(text: str, right: int, options: Sequence[str] = (), lettered: bool = True) -> bool:
    """Count as Embodied-R1's evaluators do: the letter or the option's text occurs anywhere in the answer.

    "A" is in every "Answer", so this is an upper bound, for comparison with published figures.
    """
    answer = answer_of(text)
    return (lettered and LETTERS[right] in answer) or (right < len(options) and options[right] in answer)


MAX_POINTS = 256


def any_points(text: str, coordinates: Coordinates, min_points: int = 1) -> F64:
    """The points of an answer, in 0..1000.

    All pairs of numbers in brackets count. A point outside the image is moved to its border.

    Args:
        text: The reply.
        coordinates: What the numbers mean.
        min_points: Fewer are not an answer.

    Raises:
        StageError: REPLY_UNPARSABLE: too few, too many, or a negative number.
    """
    if len(text) > MAX_BYTES:
        raise ReplyError(f"Wanted a reply of at most {MAX_BYTES} characters, found {len(text)}.", text)
    found = [g.numbers for g in groups(answer_of(text)) if g.numbers is not None and len(g.numbers) == 2]
    if not min_points <= len(found) <= MAX_POINTS:
        raise ReplyError(f"Wanted {min_points} to {MAX_POINTS} points, found {len(found)}.", text)
    points = np.array(found, np.float64)
    if (points < 0).any():
        raise ReplyError("Wanted points in the image, found a negative coordinate.", text)
    return coordinates.to_uv(points)
