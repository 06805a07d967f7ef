"""The 18 kinds of actions at a table: their sentences, what fills them in, and what holds afterwards.

An action is a template and its slots. :func:`sentence` says it, :func:`read` gives the template and the slots of a
sentence back. A sentence that could be read in another way is refused where it is written, so nothing is ever read
wrongly. The paper (arXiv 2603.13788, appendix) speaks of 18 templates and 14 tasks but does not list the templates;
these are ours.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol, TypeAlias

from stvla_ros.config import ConfigError, closest

MAX_WORDS = 20
"""Of a sentence."""

SlotValue: TypeAlias = str | int | tuple[str, ...]
"""What a slot holds: the id of an object, several ids, one of a few words, a whole number, or free words."""

_WORDS = r"[a-z0-9][a-z0-9'-]*(?: [a-z0-9][a-z0-9'-]*){0,3}"
"""Up to four words in lower case."""


class TemplateError(ConfigError):
    """Slots do not fit a template, or a sentence is not one of a template; the message says which and why."""


class Slot(Protocol):
    """What a place in a sentence may hold. ``names`` are those of the objects, by id."""

    def pattern(self, names: Mapping[str, str]) -> str:
        """A regular expression for its text."""
        ...

    def text(self, value: SlotValue, names: Mapping[str, str]) -> str | None:
        """The text of a value; None if the slot cannot hold it."""
        ...

    def value(self, text: str, names: Mapping[str, str]) -> SlotValue:
        """The value of a text that fits the pattern."""
        ...

    def wanted(self) -> str:
        """What it may hold, for messages."""
        ...


@dataclass(frozen=True)
class Thing:
    """An object of the scene, by id; in the sentence, its name."""

    def pattern(self, names: Mapping[str, str]) -> str:
        """See :class:`Slot`."""
        return "|".join(re.escape(name) for name in names.values()) or "(?!)"

    def text(self, value: SlotValue, names: Mapping[str, str]) -> str | None:
        """See :class:`Slot`."""
        return names.get(value) if isinstance(value, str) else None

    def value(self, text: str, names: Mapping[str, str]) -> SlotValue:
        """See :class:`Slot`."""
        return next(id_ for id_, name in names.items() if name == text)

    def wanted(self) -> str:
        """See :class:`Slot`."""
        return "the id of an object of the video"


@dataclass(frozen=True)
class Things:
    """Several objects: ``red cup and the blue cup``."""

    least: int
    most: int

    def pattern(self, names: Mapping[str, str]) -> str:
        """See :class:`Slot`."""
        one = f"(?:{Thing().pattern(names)})"
        return f"{one}(?: and the {one}){{{self.least - 1},{self.most - 1}}}"

    def text(self, value: SlotValue, names: Mapping[str, str]) -> str | None:
        """See :class:`Slot`."""
        if not isinstance(value, tuple) or not self.least <= len(value) <= self.most or len(set(value)) < len(value):
            return None
        said = [names.get(id_) for id_ in value]
        return None if None in said else " and the ".join(map(str, said))

    def value(self, text: str, names: Mapping[str, str]) -> SlotValue:
        """See :class:`Slot`."""
        return tuple(str(Thing().value(name, names)) for name in text.split(" and the "))

    def wanted(self) -> str:
        """See :class:`Slot`."""
        return f"a list of {self.least} to {self.most} different ids of objects of the video"


@dataclass(frozen=True)
class Choice:
    """One of a few words."""

    values: tuple[str, ...]

    def pattern(self, names: Mapping[str, str]) -> str:
        """See :class:`Slot`."""
        return "|".join(map(re.escape, self.values))

    def text(self, value: SlotValue, names: Mapping[str, str]) -> str | None:
        """See :class:`Slot`."""
        return value if isinstance(value, str) and value in self.values else None

    def value(self, text: str, names: Mapping[str, str]) -> SlotValue:
        """See :class:`Slot`."""
        return text

    def wanted(self) -> str:
        """See :class:`Slot`."""
        return f"one of {', '.join(self.values)}"


@dataclass(frozen=True)
class Whole:
    """A whole number in a range, both ends included."""

    least: int
    most: int

    def pattern(self, names: Mapping[str, str]) -> str:
        """See :class:`Slot`."""
        return r"\d+"

    def text(self, value: SlotValue, names: Mapping[str, str]) -> str | None:
        """See :class:`Slot`."""
        fits = isinstance(value, int) and not isinstance(value, bool) and self.least <= value <= self.most
        return str(value) if fits else None

    def value(self, text: str, names: Mapping[str, str]) -> SlotValue:
        """See :class:`Slot`."""
        return int(text)

    def wanted(self) -> str:
        """See :class:`Slot`."""
        return f"a whole number from {self.least} to {self.most}"


@dataclass(frozen=True)
class Words:
    """Free words in lower case, up to four."""

    def pattern(self, names: Mapping[str, str]) -> str:
        """See :class:`Slot`."""
        return _WORDS

    def text(self, value: SlotValue, names: Mapping[str, str]) -> str | None:
        """See :class:`Slot`."""
        return value if isinstance(value, str) and re.fullmatch(_WORDS, value) else None

    def value(self, text: str, names: Mapping[str, str]) -> SlotValue:
        """See :class:`Slot`."""
        return text

    def wanted(self) -> str:
        """See :class:`Slot`."""
        return "one to four words in lower case"


class Gripper(StrEnum):
    """What the gripper does during an action."""

    CLOSES = "closes and stays closed"
    CLOSES_AND_OPENS = "closes at the first contact and opens at the last"
    CLOSED = "is closed all the time"
    ANY = "is open or closed"


@dataclass(frozen=True)
class Form:
    """One way to say a template.

    Attributes:
        slots: Name -> what it may hold.
        wordings: Three sentences without capital and full stop, slots in braces; the first one is canonical.
        implied: Slots that the words say by themselves.
    """

    slots: Mapping[str, Slot]
    wordings: tuple[str, str, str]
    implied: Mapping[str, str] = field(default_factory=dict)

    @property
    def names(self) -> frozenset[str]:
        """All slots, also the implied ones."""
        return frozenset(self.slots) | frozenset(self.implied)


@dataclass(frozen=True)
class Expected:
    """A relation after the action: ``subject`` and ``object`` name slots; a predicate in braces is that slot's value."""

    subject: str
    predicate: str
    object: str = ""
    holds: bool = True


@dataclass(frozen=True)
class Template:
    """One kind of action.

    Attributes:
        id: Its name in files.
        forms: The ways to say it; their sets of slots differ, or what they imply.
        gripper: What the gripper does.
        initial: What the first contact point means.
        final: What the last one means.
        after: Relations that hold, or no longer hold, when it is done.
        motion: Fields of the action's motion that it needs.
    """

    id: str
    forms: tuple[Form, ...]
    gripper: Gripper
    initial: str
    final: str
    after: tuple[Expected, ...] = ()
    motion: tuple[str, ...] = ()


_THING, _CARRIED = Thing(), ("grasp", "release")
_RELATIONS = ("left of", "right of", "in front of", "behind", "next to")
_PREDICATE = {"next to": "near", "between": "between"}
"""The relation that some words mean; other words are its name, with underscores."""

_SWITCHED = {
    "open": ("open the {thing}", "open up the {thing}", "pull open the {thing}"),
    "closed": ("close the {thing}", "shut the {thing}", "push shut the {thing}"),
    "on": ("switch on the {thing}", "turn on the {thing}", "power on the {thing}"),
    "off": ("switch off the {thing}", "turn off the {thing}", "power off the {thing}"),
}
_SHAPED = {
    "straight": ("straighten the {thing}", "straighten out the {thing}", "pull the {thing} straight"),
    "folded": ("fold the {thing}", "fold up the {thing}", "fold the {thing} over"),
    "coiled": ("coil the {thing}", "coil up the {thing}", "roll up the {thing}"),
}


def _said(*wordings: str, implied: Mapping[str, str] | None = None, **slots: Slot) -> Form:
    first, second, third = wordings
    return Form(slots, (first, second, third), implied or {})


TEMPLATES: Mapping[str, Template] = {
    template.id: template
    for template in (
        Template(
            "pick_up",
            (_said("pick up the {object}", "lift the {object}", "take the {object}", object=_THING),),
            Gripper.CLOSES, "grasp", "height to which it is lifted", (Expected("object", "held"),),
        ),
        Template(
            "put_in",
            (
                _said(
                    "put the {object} in the {container}", "place the {object} inside the {container}",
                    "drop the {object} into the {container}", object=_THING, container=_THING,
                ),
            ),
            Gripper.CLOSES_AND_OPENS, *_CARRIED, (Expected("object", "in", "container"),),
        ),
        Template(
            "put_on",
            (
                _said(
                    "put the {object} on the {support}", "place the {object} on the {support}",
                    "set the {object} down on the {support}", object=_THING, support=_THING,
                ),
            ),
            Gripper.CLOSES_AND_OPENS, *_CARRIED, (Expected("object", "on", "support"),),
        ),
        Template(
            "put_relative",
            (
                _said(
                    "put the {object} {relation} the {reference}", "place the {object} {relation} the {reference}",
                    "move the {object} {relation} the {reference}",
                    object=_THING, relation=Choice(_RELATIONS), reference=_THING,
                ),
                _said(
                    "put the {object} between the {references}", "place the {object} between the {references}",
                    "move the {object} between the {references}",
                    implied={"relation": "between"}, object=_THING, references=Things(2, 2),
                ),
            ),
            Gripper.CLOSES_AND_OPENS, *_CARRIED,
            (Expected("object", "{relation}", "reference"), Expected("object", "{relation}", "references")),
        ),
        Template(
            "put_oriented",
            (
                _said(
                    "put the {object} {orientation} on the {support}", "place the {object} {orientation} on the {support}",
                    "set the {object} down {orientation} on the {support}",
                    object=_THING, orientation=Choice(("upright", "upside down", "on its side")), support=_THING,
                ),
            ),
            Gripper.CLOSES_AND_OPENS, *_CARRIED,
            (Expected("object", "{orientation}"), Expected("object", "on", "support")),
        ),
        Template(
            "relocate",
            (
                _said(
                    "move the {object} to {place}", "shift the {object} to {place}", "bring the {object} to {place}",
                    object=_THING, place=Choice(("a free place", "its old place")),
                ),
                _said(
                    "move the {object} to the old place of the {other}", "shift the {object} to the old place of the {other}",
                    "bring the {object} to the old place of the {other}",
                    implied={"place": "the old place of another"}, object=_THING, other=_THING,
                ),
            ),
            Gripper.CLOSES_AND_OPENS, *_CARRIED,
        ),
        Template(
            "stack",
            (
                _said(
                    "stack the {object} on the {supports}", "stack the {object} on top of the {supports}",
                    "pile the {object} on the {supports}", object=_THING, supports=Things(1, 3),
                ),
            ),
            Gripper.CLOSES_AND_OPENS, *_CARRIED, (Expected("object", "on", "supports"),),
        ),
        Template(
            "take_out",
            (
                _said(
                    "take the {object} out of the {container}", "remove the {object} from the {container}",
                    "get the {object} out of the {container}", object=_THING, container=_THING,
                ),
            ),
            Gripper.CLOSES_AND_OPENS, *_CARRIED, (Expected("object", "in", "container", holds=False),),
        ),
        Template(
            "throw_away",
            (
                _said(
                    "throw the {object} into the {bin}", "throw the {object} away into the {bin}",
                    "discard the {object} into the {bin}", object=_THING, bin=_THING,
                ),
            ),
            Gripper.CLOSES_AND_OPENS, "grasp", "release above the rim", (Expected("object", "in", "bin"),),
        ),
        Template(
            "pour",
            (
                _said(
                    "pour the {content} from the {source} into the {target}",
                    "pour the {content} out of the {source} into the {target}",
                    "empty the {content} from the {source} into the {target}",
                    content=Words(), source=_THING, target=_THING,
                ),
            ),
            Gripper.CLOSES, "lip of the source at the start", "the lip over the target", (Expected("source", "upright"),),
            ("tilt_deg",),
        ),
        Template(
            "wipe",
            (
                _said(
                    "wipe the {target} with the {tool}", "clean the {target} with the {tool}",
                    "wipe the {target} clean with the {tool}", target=_THING, tool=_THING,
                ),
            ),
            Gripper.CLOSES, "start of the stroke", "its end", (), ("pattern",),
        ),
        Template(
            "slide",
            (
                _said(
                    "{verb} the {object} to the {target}", "{verb} the {object} up to the {target}",
                    "{verb} the {object} over to the {target}",
                    verb=Choice(("push", "pull")), object=_THING, target=_THING,
                ),
                _said(
                    "{verb} the {object} {direction}", "{verb} the {object} a little {direction}",
                    "{verb} the {object} further {direction}",
                    verb=Choice(("push", "pull")), object=_THING, direction=Choice(("left", "right", "away", "closer")),
                ),
            ),
            Gripper.ANY, "first contact", "where it ends",
        ),
        Template(
            "press",
            (_said("press the {control}", "push the {control}", "tap the {control}", control=_THING),),
            Gripper.CLOSED, "above", "the surface that is pressed",
        ),
        Template(
            "turn",
            (
                _said(
                    "turn the {control} {direction}", "rotate the {control} {direction}", "twist the {control} {direction}",
                    control=_THING, direction=Choice(("clockwise", "counter-clockwise")),
                ),
                _said(
                    "turn the {control} {direction} by {angle} degrees", "rotate the {control} {direction} by {angle} degrees",
                    "twist the {control} {direction} by {angle} degrees",
                    control=_THING, direction=Choice(("clockwise", "counter-clockwise")), angle=Whole(1, 720),
                ),
            ),
            Gripper.CLOSES_AND_OPENS, "grasp", "the same grasp, turned", (), ("angle_deg",),
        ),
        Template(
            "set_state",
            tuple(_said(*said, implied={"state": state}, thing=_THING) for state, said in _SWITCHED.items()),
            Gripper.ANY, "handle at the start", "handle at the end",
        ),
        Template(
            "touch",
            (
                _said(
                    "touch the {part} of the {object}", "tap the {part} of the {object}",
                    "put a finger on the {part} of the {object}", part=Words(), object=_THING,
                ),
            ),
            Gripper.CLOSED, "above", "the point on the part",
        ),
        Template(
            "cut",
            (
                _said(
                    "cut the {material} at {percent} percent with the {tool}",
                    "slice the {material} at {percent} percent with the {tool}",
                    "divide the {material} at {percent} percent with the {tool}",
                    material=_THING, percent=Whole(5, 95), tool=_THING,
                ),
            ),
            Gripper.CLOSES, "blade above", "the board", (), ("ratio",),
        ),
        Template(
            "reshape",
            tuple(_said(*said, implied={"shape": shape}, thing=_THING) for shape, said in _SHAPED.items()),
            Gripper.CLOSES_AND_OPENS, "the end that is grasped", "where that end is then",
        ),
    )
}  # fmt: skip
"""By id, in the order of our documentation."""


def check_names(names: Mapping[str, str], where: str = "objects") -> None:
    """Raise TemplateError unless each object has a name of its own of one to four words, without an article."""
    for id_, name in names.items():
        if not re.fullmatch(_WORDS, name) or name.split()[0] in ("a", "an", "the"):
            raise TemplateError(
                f"{where}: name of '{id_}': wanted one to four words in lower case without an article, found '{name}'."
            )
    for id_, name in names.items():
        twins = [other for other, same in names.items() if same == name and other != id_]
        if twins:
            raise TemplateError(
                f"{where}: '{id_}' and '{twins[0]}' are both called '{name}': add the colour, the size, or a relation."
            )


def sentence(template: str, slots: Mapping[str, SlotValue], names: Mapping[str, str], wording: int = 0) -> str:
    """An action in words.

    Args:
        template: Id of a template.
        slots: Its slots; objects by their ids.
        names: Id -> name of each object of the video, each name of one object only.
        wording: 0 (canonical) to 2.

    Raises:
        TemplateError: No such template, slots that it does not have or cannot hold, a sentence of more than 20 words, or
            one that could be read in another way too.
    """
    form = _form(template, slots)
    said = form.wordings[wording]
    for name, slot in form.slots.items():
        text = slot.text(slots[name], names)
        if text is None:
            raise TemplateError(f"{template}: slot '{name}': wanted {slot.wanted()}, found {slots[name]!r}.")
        said = said.replace(f"{{{name}}}", text)
    if len(said.split()) > MAX_WORDS:
        raise TemplateError(f"{template}: wanted at most {MAX_WORDS} words, found {len(said.split())}: '{said}'.")
    if read(said, names) != (template, dict(slots)):
        raise TemplateError(f"'{said}' can be read in two ways: give an object another name.")
    return said[0].upper() + said[1:] + "."


def _form(template: str, slots: Mapping[str, SlotValue]) -> Form:
    forms = _known(template).forms
    fitting = [f for f in forms if f.names == set(slots) and all(slots[k] == v for k, v in f.implied.items())]
    if fitting:
        return fitting[0]
    wanted = " or ".join(
        ", ".join([*form.slots, *(f"{name}='{value}'" for name, value in form.implied.items())]) for form in forms
    )
    raise TemplateError(f"{template}: wanted the slots {wanted}; found {', '.join(slots) or 'none'}.")


def _known(template: str) -> Template:
    if template not in TEMPLATES:
        raise TemplateError(f"No template '{template}'.{closest(template, TEMPLATES)}")
    return TEMPLATES[template]


def read(said: str, names: Mapping[str, str]) -> tuple[str, dict[str, SlotValue]]:
    """Template and slots of a sentence.

    Args:
        said: The sentence, with or without capital and full stop.
        names: Id -> name of each object of the video.

    Raises:
        TemplateError: It is no sentence of a template about these objects, or could be read in two ways.
    """
    plain = said.strip().removesuffix(".")
    plain = plain[:1].lower() + plain[1:]
    found: list[tuple[str, dict[str, SlotValue]]] = []
    for template, form, groups in _matches(plain, names):
        slots: dict[str, SlotValue] = {name: form.slots[name].value(text, names) for name, text in groups.items()}
        reading = (template, slots | dict(form.implied))
        if reading not in found:
            found.append(reading)
    if not found:
        raise TemplateError(f"'{said}' is no sentence of a template about these objects: {', '.join(names.values())}.")
    if len(found) > 1:
        ways = " or ".join(template for template, _ in found[:2])
        raise TemplateError(f"'{said}' can be read in two ways ({ways}): give an object another name.")
    return found[0]


def _matches(plain: str, names: Mapping[str, str]) -> Iterator[tuple[str, Form, dict[str, str]]]:
    for template in TEMPLATES.values():
        for form in template.forms:
            for wording in form.wordings:
                pattern = re.escape(wording).replace(r"\ ", " ")
                for name, slot in form.slots.items():
                    pattern = pattern.replace(rf"\{{{name}\}}", f"(?P<{name}>{slot.pattern(names)})")
                if match := re.fullmatch(pattern, plain):
                    yield template.id, form, match.groupdict()


def expected_after(template: str, slots: Mapping[str, SlotValue]) -> Sequence[tuple[str, str, tuple[str, ...], bool]]:
    """What must hold after an action: (subject, predicate, objects, whether it holds or must not), objects by id.

    A predicate about several objects (``between``) has all of them; ``on`` two supports means on each.

    Raises:
        TemplateError: As :func:`sentence`, for the names of the slots.
    """
    _form(template, slots)
    found = []
    for wanted in _known(template).after:
        if wanted.object and wanted.object not in slots:  # of another form
            continue
        predicate = str(slots[wanted.predicate.strip("{}")]) if wanted.predicate.startswith("{") else wanted.predicate
        held = slots[wanted.object] if wanted.object else ()
        objects = held if isinstance(held, tuple) else (str(held),)
        found.append(
            (str(slots[wanted.subject]), _PREDICATE.get(predicate, predicate.replace(" ", "_")), objects, wanted.holds)
        )
    return found
