"""Which option an answer means."""

from __future__ import annotations

import re
from collections.abc import Sequence

from stvla_ros.evaluate.planner.texts import words
from stvla_ros.planning.answer import answer_of

LETTERS = "ABCDEFGHIJ"
_BRACKETED = re.compile(r"\(([A-J])\)")
_FIRST = re.compile(r"\s*\**([A-J])\**(?:\s*[.:)\]]|\s*$)")
_SAID = re.compile(r"\b(?:answer|option|choice)\b(?:\s+is)?\s*:?\s*\**\(?([A-J])\b(?!\s+[a-z])")


def chosen(text: str, options: Sequence[str] = (), lettered: bool = True) -> int | None:
    """The option that an answer names clearly; None when it names none or several.

    Letters count where they stand as one: ``(B)``, ``B``, ``B. red``, ``the answer is B`` - not the "A" in any word or the
    article. Else the text of exactly one option must be the answer, or occur in it as whole words.
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
    """As Embodied-R1's evaluators count: the letter occurs anywhere in the answer, or the option's text does.

    "A" is in any "Answer", so an upper bound more than a measure; for comparison with published figures.
    """
    answer = answer_of(text)
    return (lettered and LETTERS[right] in answer) or (right < len(options) and options[right] in answer)
