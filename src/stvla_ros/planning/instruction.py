"""Parse an operator's words: one parser for all planners without a language model.

Every word of a sentence must have a role in the task. Nothing is skipped, so that "not", "or", "left" and unknown words
cannot get lost. A sentence with one meaning is accepted in any phrasing; all others are refused with the reason.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TypeAlias

from stvla_ros.colours import COLOURS
from stvla_ros.planning import lexicon, screwing
from stvla_ros.planning.groceries import STORE_WORDINGS, Store
from stvla_ros.planning.lexicon import (
    AROUND,
    BELONGS,
    CARRY,
    COLOUR,
    IN,
    IT,
    KINDS,
    LAST,
    LATER,
    ONE,
    ORDER,
    ORDINALS,
    PARTICLES,
    PLURALS,
    PUSH,
    TAKE,
    THE,
    TO,
    WHERE,
)  # fmt: skip
from stvla_ros.planning.screwing import Screw
from stvla_ros.planning.sentence import GERUNDS, PAUSE, plain
from stvla_ros.planning.wordings import Wordings

MAX_WORDS = 100
SAY_IT_AS = (
    "say it as in 'put the red block in the plate', 'stack the red block on the blue block', "
    "'push the red button, then push the blue button'"
)


@dataclass(frozen=True)
class Carry:
    """Take a block to the plate or onto another block.

    Attributes:
        colour: Of the block.
        onto: Colour of the lower block; None for the plate.
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


Task: TypeAlias = Carry | Push | Screw | Store

SET_WORDINGS: tuple[Wordings[Task], ...] = (screwing.LIDS, screwing.BULBS, STORE_WORDINGS)
"""Tasks that the grammar below does not read."""


class UnclearError(ValueError):
    """The words do not name a task; the message says which part.

    Args:
        reason: What is wrong, without a final stop.
        words: Suggestions for a word.
        things: Suggested object names ("magenta block").
    """

    def __init__(self, reason: str, words: Iterable[str] = (), things: Iterable[str] = ()) -> None:
        self._reason, self._words, self.things = reason, sorted(words), tuple(things)
        super().__init__(self.message(self.things))

    def message(self, there: Collection[str]) -> str:
        """The message, which suggests only objects that are present."""
        meant = [*self._words, *(name for name in self.things if name in there)]
        quoted = " or ".join(f"'{name}'" for name in meant)
        return f"{self._reason}. Did you mean {quoted}?" if quoted else f"{self._reason}."


def parse(instruction: str) -> Task:
    """The task in an instruction.

    Raises:
        UnclearError: Another task, no task, several tasks, or an ambiguous one.
    """
    if len(instruction.split(maxsplit=MAX_WORDS)) > MAX_WORDS:
        raise UnclearError(f"an instruction has at most {MAX_WORDS} words")
    words = plain(instruction)
    if not any(word != PAUSE for word in words):
        raise UnclearError(f"the instruction says nothing: {SAY_IT_AS}")
    if reason := lexicon.forbids(words):
        raise UnclearError(reason)
    for wordings in SET_WORDINGS:
        if not wordings.about.isdisjoint(words):
            return _set_wording(wordings, words)
    for word, after in zip(words, [*words[1:], ""], strict=False):
        if word not in lexicon.KNOWN and not lexicon.tells_apart([word]):
            raise _unknown(word, after)
    if reason := lexicon.tells_apart(words):
        raise UnclearError(reason)
    return _Reader(words, asks="?" in instruction).read()


def _set_wording(wordings: Wordings[Task], words: list[str]) -> Task:
    task = wordings.read(words)
    if task is None:
        raise UnclearError(f"'{' '.join(words)[:80]}' is not understood: {wordings.say_it_as}")
    return task


def _unknown(word: str, after: str) -> UnclearError:
    words = lexicon.meant(word)
    kind = KINDS.get(after) or PLURALS.get(after)
    if kind in ("block", "button") or after in ONE:
        colours = lexicon.meant(word, COLOURS)
        if colours or not words & {"the", "then"}:
            kinds = [kind] if kind else ["block", "button"]
            things = [f"{colour} {kind}" for colour in colours for kind in kinds]
            return UnclearError(f"'{word[:40]}' is not a colour that this planner knows", things=things)
    reason = f"'{word[:40]}' is not a word of the tasks that this planner knows"
    return UnclearError(reason if words else f"{reason}: {SAY_IT_AS}", words)


@dataclass(frozen=True)
class _Phrase:
    """A noun phrase: kind and colour of an object, each None if omitted."""

    kind: str | None
    colour: str | None
    several: bool

    def __str__(self) -> str:
        return f"the {self.colour or ''} {self.kind or 'one'}".replace("  ", " ")


class _Reader:
    """Parses words from left to right.

    ``_read`` holds the result so far: objects to push and what to carry, in order.
    """

    def __init__(self, words: list[str], *, asks: bool) -> None:
        self._words, self._at, self._asks = words, 0, asks
        self._read: list[_Phrase | Carry] = []
        self._last_said: list[int] = []
        self._it: _Phrase | None = None
        self._listed = self._both = self._counted = False

    def read(self) -> Carry | Push:
        self._joint()
        while not self._ended:
            self._clause()
            if not self._joint() and not (self._ended or self._is((*CARRY, *PUSH))):
                raise self._lost()
        carried = [task for task in self._read if isinstance(task, Carry)]
        if carried and len(carried) < len(self._read):
            raise UnclearError("carrying a block and pushing buttons are two tasks: say 'then' between them")
        if len(carried) > 1:
            said_twice = len(set(carried)) < len(carried)
            raise UnclearError("the same task is stated twice: state it once" if said_twice else _ONE_BLOCK)
        if any(index != len(self._read) - 1 for index in self._last_said):
            raise self._unordered()
        return carried[0] if carried else Push(self._buttons())

    # words

    @property
    def _ended(self) -> bool:
        return self._at >= len(self._words)

    def _is(self, words: Collection[str], ahead: int = 0) -> bool:
        return self._at + ahead < len(self._words) and self._words[self._at + ahead] in words

    def _take(self, *words: str) -> str:
        """The next word if it is one of these, else nothing."""
        if not self._is(words):
            return ""
        self._at += 1
        return self._words[self._at - 1]

    def _lost(self) -> UnclearError:
        rest = " ".join(self._words[self._at :] or self._words).replace(f" {PAUSE}", PAUSE)
        return UnclearError(f"'{rest[:80]}' is not understood here: {SAY_IT_AS}")

    def _unordered(self) -> UnclearError:
        return UnclearError("the order is unclear: name the objects in the order of the steps")

    def _joint(self) -> bool:
        """Skip words between two parts that only state their order; False if there are none."""
        begun = self._at
        while self._is(ORDER):
            word = self._words[self._at]
            self._at += 1
            if ORDINALS.get(word, len(self._read)) != len(self._read):
                raise self._unordered()
            self._counted |= word in ORDINALS or word in LAST
            if word in LAST:
                self._last_said.append(len(self._read))
        if self._ended and self._at > begun and self._words[-1] != PAUSE:
            raise UnclearError(f"the sentence ends with '{self._words[-1]}': say what comes next, or leave it out")
        return self._at > begun

    def _after_thing(self) -> None:
        """Order words right after an object belong to it: "the red button first, the blue one second"."""
        self._take("down")
        if self._is(ORDINALS):
            if ORDINALS[self._words[self._at]] != len(self._read) - 1:
                raise self._unordered()
            self._at += 1
            self._counted = True
        elif self._is(LATER) and (self._is((PAUSE,), 1) or self._at + 1 == len(self._words)):
            if len(self._read) < 2:
                raise self._unordered()
            self._at += 1

    # parts of a sentence

    def _clause(self) -> None:
        if self._is(AROUND):
            self._around()
        elif self._is(WHERE):
            goal = self._goal()
            self._take(PAUSE)
            if not self._take(*CARRY):
                raise self._lost()
            self._carry(self._checked(self._thing_or_it()), goal)
        elif verb := self._take(*CARRY):
            self._take(*PARTICLES)
            moved = self._it = self._checked(self._thing_or_it())
            self._take(*PARTICLES)
            self._carry(moved, self._goal_of(moved, verb))
        elif self._take("find"):
            self._find()
        elif self._take(*PUSH):
            if not self._take("down") or self._is(("on",)):
                self._take("on", "in")
            self._push()
        else:
            self._without_verb()

    def _find(self) -> None:
        """An object that the next words refer to: "find the red button and push it"."""
        self._it = self._thing()
        self._joint()
        verb, up = self._is((*CARRY, *PUSH)), self._is(PARTICLES, 1)
        if not (verb and self._is(("it",), 1 + up)):
            raise self._lost()

    def _without_verb(self) -> None:
        """An object alone: one more button, a block with its goal, or no task."""
        at, named = self._at, self._thing()
        if self._take(*BELONGS) or self._is(WHERE):
            if self._asks:
                raise UnclearError(lexicon.A_QUESTION)
            self._carry(self._checked(named), self._goal())
        elif self._read and isinstance(self._read[-1], Carry):
            raise UnclearError(_ONE_BLOCK)
        elif self._read:
            self._at = at
            self._push()
        elif self._ended or self._is(ORDER):
            raise UnclearError(f"'{named}' is an object: say what to do with it")
        else:
            raise self._lost()

    def _push(self) -> None:
        """A button, and possibly what comes before or after it."""
        both = bool(self._take("both"))
        named = self._thing_or_it()
        if (
            named.kind == "button"
            and named.several
            and named.colour is None
            and not (both or self._read or self._listed)
        ):
            self._listed = True  # and their colours follow
            while self._is((PAUSE, "first")):
                self._at += 1
            return self._push() if not self._ended else None
        self._both |= both
        if named.kind not in ("button", None):
            raise UnclearError(f"a {named.kind} is not pushed: only buttons are. A block is carried: {SAY_IT_AS}")
        self._read.append(named)
        self._after_thing()
        if len(self._read) == 1 and (when := self._take(*AROUND)):
            self._take("you")
            self._take(*PUSH, *GERUNDS)
            self._push()
            if not self._ended:
                raise self._unordered()
            if when == "after":
                self._turn_around()

    def _around(self) -> None:
        """``before pushing the blue button, push the red one``."""
        when = self._take(*AROUND)
        self._take("you")
        if self._read or GERUNDS.get(verb := self._take(*PUSH, *GERUNDS), verb) not in PUSH:
            raise self._lost()
        self._push()
        if not (self._take(PAUSE) and self._take(*PUSH)) or len(self._read) != 1:
            raise self._lost()
        self._push()
        if not self._ended or len(self._read) != 2:
            raise self._unordered()
        if when == "before":
            self._turn_around()

    def _turn_around(self) -> None:
        """Reverse the order, unless first, second or finally stated it."""
        if self._counted:
            raise self._unordered()
        self._read.reverse()

    def _thing_or_it(self) -> _Phrase:
        if not (word := self._take(*IT)):
            return self._thing()
        if self._it is None or word != "it":
            raise UnclearError(f"'{word}' does not say what is meant: name it by its colour")
        return self._it

    def _thing(self) -> _Phrase:
        begun = self._at
        self._take(*THE)
        if self._is(ORDINALS) and self._at > begun:
            raise UnclearError(f"'{self._words[self._at]}' counts objects: name each by its colour instead")
        colours = self._colours()
        noun = self._take(*KINDS, *PLURALS, *ONE)
        if noun and (self._is(("that", "which")) and self._is(("is", "are"), 1)):
            self._at += 2
            colours += self._colours() or [""]
        elif noun and not colours and self._take("coloured", "colored"):
            colours += self._colours() or [""]
        elif noun and self._is(("of", "with", "in")) and (self._is(COLOUR, 1) or self._is(COLOUR, 2)):
            self._at += 1
            self._take("the")
            self._take(*COLOUR)
            colours += self._colours() or [""]
        if not (noun or colours) or "" in colours:
            self._at = begun if not colours else self._at
            raise self._lost()
        if self._words[self._at - 1] in COLOURS and noun and self._is(("and",)) and self._is(COLOURS, 1):
            colours += [self._words[self._at + 1]]  # "the button that is red and blue"
        if len(colours) > 1:
            raise UnclearError(f"'{' '.join(colours)}' is more than one colour: say one")
        kind = KINDS.get(noun) or PLURALS.get(noun)
        return _Phrase(kind, colours[0] if colours else None, noun in PLURALS or noun == "ones")

    def _colours(self) -> list[str]:
        found = []
        while colour := self._take(*COLOURS):
            found.append(colour)
            self._take(*COLOUR)
        return found

    # carrying

    def _goal_of(self, moved: _Phrase, verb: str) -> _Phrase:
        """The goal: stated at once, or after a second verb about the same object."""
        if self._is(WHERE) or (self._is((PAUSE,)) and self._is(WHERE, 1)):
            self._take(PAUSE)
            return self._goal()
        between = self._at
        while self._is(ORDER):
            self._at += 1
        if self._at > between and not self._ended:
            if verb in TAKE and self._take(*CARRY):
                self._take("down")
                if self._is(WHERE):
                    return self._goal()
                again = self._thing_or_it()
                self._take("down")
                if (again.kind or "block", again.colour or moved.colour) != ("block", moved.colour):
                    raise UnclearError(_ONE_BLOCK)
                return self._goal()
            if not self._is((*CARRY, *PUSH)):
                raise UnclearError(_ONE_BLOCK)
        elif not self._ended:
            raise self._lost()
        raise UnclearError(f"{moved} has no goal: say where it goes, in the plate or on another block")

    def _goal(self) -> _Phrase:
        way = self._take(*WHERE)
        if not way:
            raise self._lost()
        if self._take("itself"):
            raise UnclearError("nothing can stand on itself")
        goal = self._thing_or_it()
        goal = replace(goal, kind=goal.kind or "block")
        if goal.kind == "block" and not goal.several and goal.colour:
            if way in IN:
                raise UnclearError(f"nothing can be put into a block: say 'on {goal}'")
            if way in TO:
                raise UnclearError(f"'to {goal}' may be beside it or on it: say 'on {goal}' if that is meant")
        return goal

    def _carry(self, moved: _Phrase, goal: _Phrase) -> None:
        if goal.kind == "plate":
            if goal.colour or goal.several:
                raise UnclearError("this planner knows one plate, and not its colour: say 'the plate'")
            self._read.append(Carry(str(moved.colour), None))
            return
        if goal.kind == "button":
            raise UnclearError("nothing is put on a button: a block goes in the plate or on another block")
        goal = self._checked(goal)
        if goal.colour == moved.colour:
            raise UnclearError(f"{moved} cannot stand on itself")
        self._read.append(Carry(str(moved.colour), goal.colour))

    @staticmethod
    def _checked(named: _Phrase) -> _Phrase:
        """A block that has a colour. Raises UnclearError."""
        if named.kind == "plate":
            raise UnclearError("a plate is not carried: a block goes in the plate, not the plate on or in a block")
        if named.kind == "button":
            raise UnclearError("a button is not carried: buttons are pushed, blocks are carried")
        if named.several:
            raise UnclearError(_ONE_BLOCK)
        if named.colour is None:
            raise UnclearError("it is unclear which block is meant: name it by its colour")
        return replace(named, kind="block")

    # buttons

    def _buttons(self) -> tuple[str, ...]:
        named = [phrase for phrase in self._read if isinstance(phrase, _Phrase)]
        for phrase, before in zip(named, [None, *named], strict=False):
            alone = before is None or before.kind is not None
            if phrase.colour is None or (phrase.several and alone):
                raise UnclearError(
                    "it is unclear which button is meant: name each by its colour, in the order of the steps"
                )
        if len(named) < 1 + self._listed or (self._both and len(named) != 2):
            raise UnclearError(
                "it is unclear which buttons are meant: name each by its colour, in the order of the steps"
            )
        colours = tuple(str(phrase.colour) for phrase in named)
        if not self._listed and not any(phrase.kind == "button" for phrase in named):
            raise UnclearError(f"the {colours[0]} what? Say 'the {colours[0]} button' if that is meant")
        if again := next((a for a, b in pairwise(colours) if a == b), ""):
            raise UnclearError(f"the {again} button is named twice in a row: name it once")
        return colours


_ONE_BLOCK = "one block can be carried to one place at a time: say two such tasks with 'then' between"
