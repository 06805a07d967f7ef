"""The sentence of an action: a template filled with what was seen to move where."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from stvla_ros.data.st_human.templates import TEMPLATES, SlotValue, TemplateError, Thing, sentence
from stvla_ros.tabletop.relations import OrientedBox, SpatialRelation
from stvla_ros.types import F64

OLD_PLACE_M = 0.04
"""A thing that is put this close to a place is put at it."""

AHEAD = 0.94
"""A thing that is pushed to another moves towards it: cosine between both directions, about 20 degrees."""

TURNED_DEG = 12.0
"""A smaller turn says nothing about its direction."""

_ACTED = ("object", "tool", "source", "control", "thing")
_GUESS = "relocate"
_DIRECTIONS = {"left_of": "left of", "right_of": "right of", "in_front_of": "in front of", "behind": "behind"}


@dataclass(frozen=True, eq=False)
class Seen:
    """What is known of an action before it has words.

    Attributes:
        acted: Id of the thing that was moved or touched.
        names: Id -> name.
        before: Boxes before, by id.
        after: Boxes after.
        relations_before: Among them.
        relations_after: Among them.
        held_m: (K, 3) path of the grasp point from contact to release, a point a frame.
        turn_deg: How far the thing was turned about up, counter-clockwise from above.
        tilt_deg: Largest tilt while held.
        places: Ids -> places (3,) where things stood earlier.
        given: Slots that people gave.
    """

    acted: str
    names: Mapping[str, str]
    before: Mapping[str, OrientedBox]
    after: Mapping[str, OrientedBox]
    relations_before: Sequence[SpatialRelation]
    relations_after: Sequence[SpatialRelation]
    held_m: F64
    turn_deg: float
    tilt_deg: float
    places: Sequence[tuple[str, F64]]
    given: Mapping[str, SlotValue]

    @property
    def moved_m(self) -> F64:
        """(3,) from the old to the new place."""
        return np.asarray(self.after[self.acted].center_m - self.before[self.acted].center_m)

    def partner(self, *predicates: str, before: bool = False) -> str | None:
        """What the thing is (or was) in such a relation to, the clearest."""
        relations = self.relations_before if before else self.relations_after
        found = [r for r in relations if r.subject == self.acted and r.predicate in predicates and len(r.objects) == 1]
        return max(found, key=lambda r: r.margin).objects[0] if found else None

    def nearest(self, point_m: F64) -> str | None:
        """The other thing whose middle is nearest to a point, seen from above."""
        others = {id_: box for id_, box in self.before.items() if id_ != self.acted}
        return min(others, key=lambda id_: float(np.hypot(*(others[id_].center_m - point_m)[:2])), default=None)

    @property
    def stay_m(self) -> F64:
        """(3,) where the hand is most of the time: on the way there and back it is for a short time only."""
        return np.asarray(np.median(self.held_m, axis=0))


def describe(template: str | None, seen: Seen) -> tuple[str, dict[str, SlotValue], str, str | None]:
    """Template, slots, sentence, and what is wrong with it (None: nothing).

    Args:
        template: Given by name; None: the likeliest one.
        seen: What was seen.
    """
    chosen = template or likely(seen)
    slots = fill(chosen, seen)
    if slots is not None:
        try:
            return chosen, slots, sentence(chosen, slots, seen.names), None
        except TemplateError as error:
            problem = str(error)
    else:
        problem = f"'{chosen}' has slots that are not seen: give them in video.json, or choose another template."
    slots = {"object": seen.acted, "place": "a free place"}
    return _GUESS, slots, sentence(_GUESS, slots, seen.names), problem


def likely(seen: Seen) -> str:
    """The template that fits best what was seen."""
    if float(np.linalg.norm(seen.moved_m)) < 0.015:
        return "press" if abs(seen.turn_deg) < TURNED_DEG else "turn"
    if seen.partner("in"):
        return "put_in"
    if seen.partner("in", before=True):
        return "take_out"
    if seen.partner("on"):
        return "put_on"
    return "slide" if np.ptp(seen.held_m[:, 2]) < 0.015 else "relocate"


def fill(template: str, seen: Seen) -> dict[str, SlotValue] | None:
    """The slots of a template's first form that can all be filled, those with what people gave first; None if none can."""
    given = {name: _id_of(value, seen.names) for name, value in seen.given.items()}
    for form in sorted(TEMPLATES[template].forms, key=lambda form: -len(form.names & set(given))):
        if any(name in given and given[name] != value for name, value in form.implied.items()):
            continue
        slots: dict[str, SlotValue | None] = {
            name: given.get(name) if name in given else _slot(template, name, seen) for name in form.slots
        }
        implied = all(name in given or _implied(template, name, value, seen) for name, value in form.implied.items())
        if implied and all(value is not None for value in slots.values()):
            return {name: value for name, value in slots.items() if value is not None} | dict(form.implied)
    return None


def _id_of(value: SlotValue, names: Mapping[str, str]) -> SlotValue:
    """The id of a thing that people called by its name; other values as they are."""
    return next((id_ for id_, name in names.items() if name == value), value)


def _implied(template: str, name: str, value: SlotValue, seen: Seen) -> bool:
    """Whether a form's implied slot is what was seen; states and shapes are not."""
    if template == "put_relative":
        return _references(seen) is not None and _reference(seen) is None
    if template == "relocate":
        return _other(seen) is not None
    if template == "set_state":  # a lid: what it is on afterwards is closed
        return value == ("closed" if seen.partner("on", "in") else "open" if _covered(seen) else None)
    return False


def _covered(seen: Seen) -> str | None:
    """What the thing, as a lid, is on afterwards, or was on before."""
    return seen.partner("on", "in") or seen.partner("on", "in", before=True)


def _verb(seen: Seen) -> str:
    """A hand before the thing in the direction of its motion pulls it; one behind it pushes."""
    motion = seen.held_m[-1] - seen.held_m[0]
    return "pull" if (seen.held_m[0] - seen.before[seen.acted].center_m)[:2] @ motion[:2] > 0.0 else "push"


def _slot(template: str, name: str, seen: Seen) -> SlotValue | None:
    if template == "set_state":
        return _covered(seen) or seen.acted
    if name in _ACTED:
        return seen.acted
    if name in ("container", "bin"):
        early = template == "take_out"
        return seen.partner("in", before=early) or seen.partner("on", before=early)
    if name == "support":
        return seen.partner("on", "in")
    if name == "supports":
        found = [r.objects[0] for r in seen.relations_after if r.subject == seen.acted and r.predicate == "on"]
        return tuple(sorted(found)[:3]) or None
    special: dict[str, Callable[[], SlotValue | None]] = {
        "relation": lambda: (_reference(seen) or (None, None))[0],
        "reference": lambda: (_reference(seen) or (None, None))[1],
        "references": lambda: _references(seen),
        "other": lambda: _other(seen),
        "place": lambda: _place(seen),
        "verb": lambda: _verb(seen),
        "direction": lambda: _turned(seen) if template == "turn" else _sideways(seen),
        "target": lambda: _target(template, seen),
        "material": lambda: seen.nearest(seen.stay_m),
        "orientation": lambda: _orientation(seen),
    }
    return special[name]() if name in special else None


def _reference(seen: Seen) -> tuple[str, str] | None:
    """The clearest direction, weighted by how near the other thing is."""
    found = [r for r in seen.relations_after if r.subject == seen.acted and r.predicate in _DIRECTIONS]
    if found:
        here = seen.after[seen.acted].center_m
        best = min(found, key=lambda r: float(np.linalg.norm(seen.after[r.objects[0]].center_m - here)))
        return _DIRECTIONS[best.predicate], best.objects[0]
    near = seen.partner("near", "touching")
    return None if near is None else ("next to", near)


def _references(seen: Seen) -> tuple[str, ...] | None:
    found = [r for r in seen.relations_after if r.subject == seen.acted and r.predicate == "between"]
    return max(found, key=lambda r: r.margin).objects if found else None


def _other(seen: Seen) -> str | None:
    here = seen.after[seen.acted].center_m
    for id_, place in reversed(seen.places):
        if id_ != seen.acted and np.hypot(*(place - here)[:2]) < OLD_PLACE_M:
            return id_
    return None


def _place(seen: Seen) -> str | None:
    here = seen.after[seen.acted].center_m
    own = [place for id_, place in seen.places if id_ == seen.acted]
    if any(np.hypot(*(place - here)[:2]) < OLD_PLACE_M for place in own):
        return "its old place"
    return None if _other(seen) is not None else "a free place"


def _sideways(seen: Seen) -> str:
    x, y, _ = seen.moved_m
    if abs(x) > abs(y):
        return "right" if x > 0.0 else "left"
    return "away" if y > 0.0 else "closer"


def _turned(seen: Seen) -> str | None:
    if abs(seen.turn_deg) < TURNED_DEG:
        return None
    return "counter-clockwise" if seen.turn_deg > 0.0 else "clockwise"


def _target(template: str, seen: Seen) -> str | None:
    if template == "slide":
        other = seen.partner("near", "touching")
        if other is None:
            return None
        way, towards = seen.moved_m[:2], (seen.before[other].center_m - seen.before[seen.acted].center_m)[:2]
        return other if way @ towards > AHEAD * np.linalg.norm(way) * np.linalg.norm(towards) else None
    start = seen.held_m[0]
    farthest = seen.held_m[int(np.argmax(np.hypot(*(seen.held_m - start).T[:2])))]
    return seen.nearest(farthest if template == "pour" else seen.stay_m)


def _orientation(seen: Seen) -> str | None:
    words = [r.predicate for r in seen.relations_after if r.subject == seen.acted and not r.objects]
    return next((word.replace("_", " ") for word in words if word != "held"), None)


def things_of(template: str, slots: Mapping[str, SlotValue]) -> list[str]:
    """Ids of the things that a filled template names."""
    found: list[str] = []
    for form in TEMPLATES[template].forms:
        if form.names == set(slots):
            for name, slot in form.slots.items():
                value = slots[name]
                found += list(value) if isinstance(value, tuple) else [str(value)] if isinstance(slot, Thing) else []
            break
    return found
