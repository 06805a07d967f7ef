"""The goals of the small planners, and the phrasings that they are trained on.

The phrasings are training data and vocabulary at once. Operators are not bound to them:
:mod:`stvla_ros.planning.instruction` parses their words, and the network gets :meth:`Goal.sentence`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from stvla_ros.colours import COLOURS
from stvla_ros.planning.groceries import ITEMS, Store
from stvla_ros.planning.instruction import Push, Screw, Task
from stvla_ros.planning.lexicon import KINDS as KINDS_SAID
from stvla_ros.planning.sentence import plain

PALETTE = tuple(COLOURS)
ACTIONS = ("point", "place", "stack", "push", "screw", "store")
KINDS = ("block", "plate", "button", "bottle", "lid", "jar", "bulb", "holder", "lamp", "cupboard", *ITEMS)
COLOURED = ("block", "button", "bottle", "jar", "bulb", "holder")
"""Kinds that have a colour in their name; a bulb has that of its holder."""

MAX_STEPS = 3
MAX_WORDS = 40

_NOUNS = {
    "block": ("block", "block", "cube", "brick"),
    "plate": ("plate", "plate", "dish"),
    "button": ("button", "button", "switch"),
    "bottle": ("bottle",),
    "holder": ("holder", "stand", "casing"),
    "bulb": ("bulb", "light bulb"),
}
_POINT = (
    "{a}", "the {a}", "point to the {a}", "point at the {a}", "where is the {a}", "find the {a}", "locate the {a}",
    "show me the {a}", "the {a} on the table",
)  # fmt: skip
_PLACE = (
    "put the {a} in the {b}", "put the {a} on the {b}", "put {a} into {b}", "place the {a} in the {b}",
    "place the {a} on the {b}", "place the {a} onto the {b}", "set the {a} down on the {b}", "move the {a} to the {b}",
    "move the {a} onto the {b}", "drop the {a} in the {b}", "drop the {a} into the {b}", "lay the {a} on the {b}",
    "bring the {a} to the {b}", "pick up the {a} and put it in the {b}", "pick up the {a} and place it on the {b}",
    "pick the {a} up and drop it in the {b}", "take the {a} and put it on the {b}", "grab the {a} and put it in the {b}",
    "lift the {a} and set it on the {b}", "get the {a} into the {b}", "the {a} belongs in the {b}",
    "i want the {a} in the {b}", "carry the {a} over to the {b}", "transfer the {a} to the {b}",
)  # fmt: skip
_STACK = (
    "stack the {a} on the {b}", "stack the {a} on top of the {b}", "stack {a} on {b}", "put the {a} on the {b}",
    "put the {a} on top of the {b}", "place the {a} on the {b}", "place the {a} on top of the {b}",
    "place the {a} onto the {b}", "set the {a} on the {b}", "lay the {a} on top of the {b}", "move the {a} onto the {b}",
    "pick up the {a} and stack it on the {b}", "pick up the {a} and put it on top of the {b}",
    "take the {a} and put it on the {b}", "grab the {a} and place it on the {b}", "lift the {a} onto the {b}",
    "build a tower with the {a} on the {b}", "i want the {a} on the {b}",
)  # fmt: skip
_LID = (
    "close the {b}", "seal the {b}", "close the {b} with the {a}", "screw the {a} on the {b}", "put the {a} on the {b}",
    "screw the {a} of the {b} on", "screw on the {a} of the {b}", "pick up the {a} and screw it on the {b}",
    "pick up the {a} from the table and put it on the {b}", "take the {a} and use it to seal the {b}",
    "grasp the {a}, lift it from the table and use it to seal the {b}",
)  # fmt: skip
_BULB = (
    "screw in the {c} light {a}", "screw in the {c} {a}", "screw the {c} {a} into the {b}",
    "screw the {a} of the {c} holder into the {b}", "put the {a} from the {c} casing into the {b}",
    "put the light {a} from the {c} stand in the {b}", "pick up the {a} of the {c} holder and screw it into the {b}",
    "pick up the light {a} from the {c} stand, lift it over the {b} and screw it in clockwise",
)  # fmt: skip
_STORE = (
    "put the {a} in the {b}", "put the {a} away in the {b}", "pick up the {a} and place it in the {b}",
    "pick up the {a} and put it in the {b}", "move the {a} to the bottom shelf", "move the {a} to the bottom shelf of the {b}",
    "take the {a} and put it in the {b}", "store the {a} in the {b}",
)  # fmt: skip
_PUSH = ("push", "push", "press", "hit", "tap")
_JOINTS = (
    ", then {p} ",
    " and then {p} ",
    " then {p} ",
    ", then ",
    " and then ",
    " then ",
    " and ",
    ", and after that {p} ",
)
_BEFORE = ("", "", "", "please ", "now ", "can you ", "could you ", "robot ")
_WORD = re.compile(r"[^\W_]+", re.UNICODE)


@dataclass(frozen=True)
class Name:
    """A kind of object and its colour, "" for kinds that are not :data:`COLOURED`."""

    kind: str
    colour: str

    def __str__(self) -> str:
        return f"{self.colour} {self.kind}".strip()

    @classmethod
    def of(cls, text: str) -> Name:
        """The inverse of :meth:`__str__`."""
        colour, _, kind = text.rpartition(" ")
        return cls(text, "") if text in KINDS else cls(kind, colour)


@dataclass(frozen=True)
class Goal:
    """A goal: ``point`` has one object; ``place``, ``stack``, ``screw`` and ``store`` what goes where; ``push`` buttons in
    order."""

    action: str
    names: tuple[Name, ...]

    @classmethod
    def of(cls, task: Task) -> Goal:
        """A task as a goal."""
        if isinstance(task, Push):
            return cls("push", tuple(Name("button", colour) for colour in task.colours))
        if isinstance(task, Store):
            return cls("store", (Name(task.item, ""), Name("cupboard", "")))
        if isinstance(task, Screw):
            lid = (Name("lid", ""), Name("jar", task.colour))
            return cls("screw", lid if task.part == "lid" else (Name("bulb", task.colour), Name("lamp", "")))
        moved = Name("block", task.colour)
        return (
            cls("stack", (moved, Name("block", task.onto))) if task.onto else cls("place", (moved, Name("plate", "")))
        )

    def single(self, step: int) -> Goal:
        """One step as a goal of its own."""
        return Goal("push", (self.names[step],)) if self.action == "push" else self

    @property
    def asked(self) -> tuple[Name, ...]:
        """The things that a network is asked for, one by one, because names that no task of a training had are understood
        more often by themselves. A bulb is asked for by its holder, which has the colour."""
        return tuple(
            Name("holder", name.colour) if name.kind == "bulb" and self.action == "screw" else name
            for name in self.names
        )

    @property
    def steps(self) -> int:
        return len(self.names) if self.action == "push" else 1

    def ends(self, step: int) -> tuple[Name, Name]:
        """What a step starts at and ends at."""
        return (
            (self.names[step], self.names[step]) if self.action in ("push", "point") else (self.names[0], self.names[1])
        )

    def sentence(self, step: int) -> str:
        """One plain sentence for a step, the words that policies know."""
        start, end = self.ends(step)
        if self.action == "screw":
            return Screw(start.kind, start.colour or end.colour).sentence
        return {
            "point": f"point to the {start}",
            "place": f"pick up the {start} and put it in the {end}",
            "stack": f"pick up the {start} and stack it on the {end}",
            "store": f"pick up the {start} and put it in the {end}",
            "push": f"push the {start}",
        }[self.action]


def named(text: str) -> Name | None:
    """The object that a text names without saying anything else: "the lime bottle"; else None."""
    said = " ".join(word for word in plain(text) if word not in ("the", "a", "an"))
    first, _, rest = said.partition(" ")
    colour, noun = (first, rest) if first in PALETTE else ("", said)
    kind = {**{kind: kind for kind in KINDS}, **KINDS_SAID}.get(noun, "")
    return Name(kind, colour) if kind and bool(colour) == (kind in COLOURED) else None


def split(text: str) -> list[str]:
    """Words in lower case, without punctuation; letters of any script stay, so that they are unknown and not lost."""
    return _WORD.findall(text.lower().replace("grey", "gray"))


def say(goal: Goal, rng: np.random.Generator) -> str:
    """One of the many ways to ask for a goal."""
    if goal.action == "screw":
        part, place = goal.names
        asked = str(rng.choice(_LID if part.kind == "lid" else _BULB))
        return str(rng.choice(_BEFORE)) + asked.format(a=part.kind, b=place, c=part.colour)
    if goal.action == "store":
        item, place = goal.names
        return str(rng.choice(_BEFORE)) + str(rng.choice(_STORE)).format(a=item, b=place)
    nouns = [_spoken(name, rng) for name in goal.names]
    before = str(rng.choice(_BEFORE)) if goal.action != "point" else ""
    if goal.action == "push":
        return before + _say_push(nouns, rng)
    forms = {"point": _POINT, "place": _PLACE, "stack": _STACK}[goal.action]
    return before + str(rng.choice(forms)).format(a=nouns[0], b=nouns[-1])


def _spoken(name: Name, rng: np.random.Generator) -> str:
    noun = str(rng.choice(_NOUNS.get(name.kind, (name.kind,))))
    if name.kind == "bulb" and rng.random() < 0.4:
        return f"{noun} of the {name.colour} {rng.choice(_NOUNS['holder'])}"
    return f"{name.colour} {noun}".strip()


def _say_push(nouns: Sequence[str], rng: np.random.Generator) -> str:
    verb = str(rng.choice(_PUSH))
    if len(nouns) == 2 and rng.random() < 0.15:
        return f"{verb} the {nouns[1]} after the {nouns[0]}"
    first = "first " if len(nouns) > 1 and rng.random() < 0.15 else ""
    text = f"{first}{verb} the {nouns[0]}"
    for noun in nouns[1:]:
        joint = str(rng.choice(_JOINTS)).format(p=verb)
        text += f"{joint}the {_short(noun, rng)}"
    return text


def _short(noun: str, rng: np.random.Generator) -> str:
    return noun if rng.random() < 0.8 else f"{noun.split()[0]} one"


def vocabulary() -> tuple[str, ...]:
    """Every word of the wordings above, sorted."""
    forms = [
        *_POINT,
        *_PLACE,
        *_STACK,
        *_LID,
        *_BULB,
        *_STORE,
        *KINDS,
        *_PUSH,
        *_JOINTS,
        *_BEFORE,
        "after first one",
        *PALETTE,
    ]
    nouns = [noun for kind in _NOUNS.values() for noun in kind]
    text = " ".join([*forms, *nouns]).replace("{a}", " ").replace("{b}", " ").replace("{p}", " ").replace("{c}", " ")
    return tuple(sorted(set(split(text))))
