"""What the gripper holds, in words.

The executor knows from the fingers' distance whether they hold something. Only the loop knows what it is: the
sub-instruction of the plan on which it was taken. A :class:`Hand` combines the two and outlives tasks.
"""

from __future__ import annotations

import re
from threading import Lock

SOMETHING = "something"
"""Name of an unknown object in the hand: held since before a restart, or put there by a person."""

_OBJECT = re.compile(
    r"\b(?:pick up|pick|take|grasp|grab|lift|get|put|place|move|stack|bring|carry|set|lay|drop|hold)\s+(?:up\s+)?"
    r"(?:the|an?|this|that)\s+(.+?)"
    r"(?=\s+(?:and|then|in|into|inside|on|onto|to|from|over|at|off|out|with|next|beside|near|under|above)\b|[,.;:]|$)",
    re.IGNORECASE,
)


def object_of(sub_instruction: str) -> str:
    """The object that a sub-instruction takes: ``the cyan block`` in "pick up the cyan block and put it in the plate".

    If no object follows a verb of taking, the result is the whole sentence: ``what was taken to 'tidy up'``.
    """
    found = _OBJECT.search(sub_instruction)
    return f"the {found[1]}" if found else f"what was taken to '{sub_instruction.strip().rstrip('.')}'"


def in_the_gripper(holding: str) -> str:
    """``The cyan block is in the gripper.``, or nothing for an empty hand."""
    return f"{holding[0].upper()}{holding[1:]} is in the gripper." if holding else ""


def with_advice(sentence: str, holding: str) -> str:
    """The last sentence of a task, followed by what the hand still holds and how to put it down."""
    if not holding:
        return sentence
    return f"{sentence} {in_the_gripper(holding).rstrip('.')}: `stvla release` puts it down."


class Hand:
    """What the hand holds. Thread safe. Without reports about the fingers (in one process), the keyposes decide."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._words = ""
        self._fingers: bool | None = None

    @property
    def holding(self) -> str:
        """What the gripper holds: :data:`SOMETHING` if unknown, empty for nothing."""
        with self._lock:
            if self._fingers is None:
                return self._words
            return (self._words or SOMETHING) if self._fingers else ""

    def took(self, sub_instruction: str) -> None:
        """The gripper closed on the object of a sub-instruction."""
        self._set(object_of(sub_instruction), True)

    def let_go(self) -> None:
        """The gripper opened, or the object slipped out."""
        self._set("", False)

    def fingers(self, hold: bool) -> None:
        """Report whether the fingers hold something, by their distance."""
        with self._lock:
            if not hold and self._fingers:
                self._words = ""
            self._fingers = hold

    def _set(self, words: str, hold: bool) -> None:
        with self._lock:
            self._words = words
            if self._fingers is not None:
                self._fingers = hold
