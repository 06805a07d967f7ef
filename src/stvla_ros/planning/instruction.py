"""The words of the tasks, and reasonable other ways to say them."""

from __future__ import annotations

import re
from dataclasses import dataclass

from stvla_ros.colours import COLOURS
from stvla_ros.config import closest

_SYNONYMS = {"grey": "gray"}
_BLOCK = r"(?:block|cube|brick)"
_PUT = r"(?:put|place|move|set|drop|lay|stack|bring)"
_ON = r"(?:in|into|inside|inside of|on|onto|on to|on top of|over)"
_PUSH = r"(?:push|press|hit|tap)"
_CARRY = re.compile(
    rf"(?:(?:pick up|take|grab|grasp|lift) (?:the |a )?(\w+) {_BLOCK} (?:and |then |and then )?{_PUT} it"
    rf"|{_PUT} (?:the |a )?(\w+) {_BLOCK}) {_ON} (?:the |a )?(?:(?P<plate>plate|dish)|(?P<onto>\w+) {_BLOCK})"
)
_BUTTON = re.compile(rf"(?:{_PUSH} )?(?:the |a )?(\w+)(?: buttons?)?")
_PUSHES = re.compile(rf"{_PUSH} .*\bbuttons?")
_THEN = re.compile(r" (?:and then|then|and|after that|followed by) ")


@dataclass(frozen=True)
class Carry:
    """Take a block to the plate or onto another block.

    Attributes:
        colour: Of the block.
        onto: Colour of the block underneath; None for the plate.
    """

    colour: str
    onto: str | None

    @property
    def sentence(self) -> str:
        if self.onto:
            return f"pick up the {self.colour} block and stack it on the {self.onto} block"
        return f"pick up the {self.colour} block and put it in the plate"


@dataclass(frozen=True)
class Push:
    """Push buttons in order.

    Attributes:
        colours: Of the buttons, first to last.
    """

    colours: tuple[str, ...]


class UnclearError(ValueError):
    """The words do not name a task; the message says which part."""


def parse(instruction: str) -> Carry | Push:
    """The task that an instruction names.

    Raises:
        UnclearError: Another task, an unknown colour, or words that are not of these tasks.
    """
    words = re.sub(r"\s+", " ", re.sub(r"[.,;:!\"']", " ", instruction.lower())).strip()
    words = re.sub(r"^(?:please |now |can you |could you )+", "", words)
    carry = _CARRY.fullmatch(words)
    if carry:
        onto = carry["onto"]
        task = Carry(_colour(carry[1] or carry[2]), _colour(onto) if onto else None)
        if task.onto == task.colour:
            raise UnclearError(f"the {task.colour} block cannot stand on itself")
        return task
    if _PUSHES.fullmatch(words):
        return Push(tuple(_button(piece) for piece in _THEN.split(words)))
    raise UnclearError(
        f"'{instruction.strip()[:80]}' is none of the tasks this planner knows: 'Put the <colour> block in the plate.', "
        "'Stack the <colour> block on the <colour> block.', 'Push the <colour> button, then push the <colour> button.'"
    )


def _button(words: str) -> str:
    match = _BUTTON.fullmatch(words.strip())
    if not match:
        raise UnclearError(f"'{words.strip()[:80]}' does not name a button by its colour")
    return _colour(match[1])


def _colour(word: str) -> str:
    word = _SYNONYMS.get(word, word)
    if word not in COLOURS:
        raise UnclearError(f"'{word}' is not a colour this planner knows.{closest(word, COLOURS)}")
    return word
