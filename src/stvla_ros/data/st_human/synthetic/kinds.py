"""What the videos show: for each kind of action the things it needs, where they stand, and what the hand does."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from stvla_ros.data.st_human.synthetic.play import Play, about, along, fall
from stvla_ros.data.st_human.synthetic.things import Thing, lid_for, make, stood
from stvla_ros.data.st_human.templates import SlotValue
from stvla_ros.sim.household import Carton, Household
from stvla_ros.sim.human.hand import grip, grip_frame
from stvla_ros.types import F64

X_M, Y_M = (0.28, 0.62), (-0.25, 0.25)
"""Things stand here, in the base frame."""

AROUND_M = 0.06
"""Free space between any two things: fingers fit in."""

UP = np.array([0.0, 0.0, 1.0])


class NoRoomError(Exception):
    """The table is too small for what was drawn: draw again."""


@dataclass
class Draft:
    """A scene in the making.

    Attributes:
        rng: Decides everything.
        heading: (3,) level unit vector from the person to the table.
        right: (3,) level unit vector to the viewer's right.
        things: All so far, with their poses by id in ``poses``.
    """

    rng: np.random.Generator
    heading: F64
    right: F64
    things: list[Thing] = field(default_factory=list)
    poses: dict[str, F64] = field(default_factory=dict)
    _taken: list[tuple[F64, float]] = field(default_factory=list)

    def add(self, *kinds: str) -> Thing:
        """A new thing of one of these kinds, with a name that no other has; it stands nowhere yet.

        Raises:
            NoRoomError: No such name was found.
        """
        for _ in range(40):
            kind = str(self.rng.choice(kinds))
            thing = make(kind, f"{kind}_{len(self.things) + 1}", self.rng)
            if thing.name not in [other.name for other in self.things]:
                self.things.append(thing)
                return thing
        raise NoRoomError(f"all names of {', '.join(kinds)} are taken")

    def put(self, thing: Thing, xy_m: F64 | None = None, z_m: float = 0.0, yaw_rad: float | None = None) -> F64:
        """Stand a thing on the table, in a free place unless it is given. A narrow one shows its narrow side to the hand.

        Raises:
            NoRoomError: There is no free place.
        """
        turn = (
            float(np.arctan2(self.heading[1], self.heading[0]) + self.rng.uniform(-0.5, 0.5))
            if yaw_rad is None
            else yaw_rad
        )
        xy = self.free(thing.radius_m) if xy_m is None else xy_m
        self._taken.append((np.asarray(xy[:2], np.float64), thing.radius_m))
        self.poses[thing.id] = stood(xy, z_m, turn)
        return self.poses[thing.id]

    def free(self, radius_m: float, keep: bool = False) -> F64:
        """(2,) a free place for something of a radius; with ``keep`` nothing else will come there.

        Raises:
            NoRoomError: There is none.
        """
        for _ in range(200):
            xy = np.array([self.rng.uniform(*X_M), self.rng.uniform(*Y_M)])
            if all(np.hypot(*(xy - at)) > radius_m + r + AROUND_M for at, r in self._taken):
                if keep:
                    self.keep(xy, radius_m)
                return xy
        raise NoRoomError(f"no place for something of {radius_m:.3f} m")

    def keep(self, xy_m: F64, radius_m: float) -> None:
        """Nothing else will come there.

        Raises:
            NoRoomError: It is off the table.
        """
        if not (X_M[0] <= xy_m[0] <= X_M[1] and Y_M[0] <= xy_m[1] <= Y_M[1]):
            raise NoRoomError("the goal is off the table")
        self._taken.append((np.asarray(xy_m, np.float64), radius_m))


@dataclass(frozen=True)
class Task:
    """What a video shows.

    Attributes:
        template: One of :data:`stvla_ros.data.st_human.templates.TEMPLATES`.
        slots: Its slots.
        moved: Id of the thing that the hand takes, moves or touches.
        perform: Plays it, from the hand outside the image to there again.
        motion: What the path does not say, see :class:`stvla_ros.data.st_human.info.Motion`.
    """

    template: str
    slots: Mapping[str, SlotValue]
    moved: str
    perform: Callable[[Play], None]
    motion: Mapping[str, float | str] = field(default_factory=dict)


def _take_from_above(play: Play, thing: Thing, depth_m: float | None = None) -> None:
    """Palm down, the thumb nearer to the person."""
    T = play.things[thing.id]
    depth = min(0.026, 0.5 * thing.height_m) if depth_m is None else depth_m
    if thing.kind == "fruit":
        depth = 0.5 * thing.height_m
    if isinstance(thing.item.shape, Carton):
        narrow = T[:3, 0] if thing.item.shape.size_m[0] <= thing.item.shape.size_m[1] else T[:3, 1]
        closing = narrow * np.sign(narrow @ play.heading)
    else:
        closing = play.heading
    width, at = thing.width_m(T, T[:3, 3] + (thing.height_m - depth) * UP, closing)
    play.take(thing.id, at, width, 0.25 * play.heading - UP, closing)


def _take_from_the_side(play: Play, thing: Thing) -> None:
    """Thumb up, the fingers around it from the hand's own side."""
    T, rig = play.things[thing.id], play.stage.rig
    local = grip_frame(rig, grip(rig, 0.07))
    sign = np.sign((rig.joints_m[6] - rig.joints_m[21]) @ local[:3, 0])
    approach = sign * np.cross(UP, play.heading)
    height = max(0.62 * thing.height_m, 0.075)
    width, at = thing.width_m(T, T[:3, 3] + height * UP, play.heading)
    play.take(thing.id, at, width, approach - 0.12 * UP, play.heading)


def _carry_task(
    draft: Draft, template: str, slots: Mapping[str, SlotValue], item: Thing, goal: F64, lift_m: float = 0.08
) -> Task:
    """Take, carry, put down, let go."""

    def perform(play: Play) -> None:
        _take_from_above(play, item)
        play.carry("carry", item.id, goal, lift_m)
        play.let_go()
        play.leave()

    return Task(template, slots, item.id, perform)


def _turned(T: F64, xy_m: F64, z_m: float) -> F64:
    """A pose at another place."""
    goal = T.copy()
    goal[:3, 3] = [xy_m[0], xy_m[1], z_m]
    return goal


_ITEMS = ("block", "tin", "cup", "fruit", "carton", "block")


def _small(draft: Draft, *kinds: str) -> Thing:
    """A thing that one hand can take from above."""
    for _ in range(20):
        thing = draft.add(*kinds)
        if min(thing.high_m[:2] - thing.low_m[:2]) < 0.08 and thing.height_m < 0.15:
            return thing
        draft.things.remove(thing)
    raise NoRoomError("nothing small was drawn")


def _put_on(draft: Draft) -> Task:
    support, item = draft.add("board", "book", "board"), _small(draft, *_ITEMS)
    at = draft.put(support)
    start = draft.put(item)
    shift = draft.rng.uniform(-0.02, 0.02, 2)
    goal = _turned(start, at[:2, 3] + shift, support.height_m)
    return _carry_task(draft, "put_on", {"object": item.id, "support": support.id}, item, goal)


def _put_in(draft: Draft) -> Task:
    container, item = draft.add("bin", "bowl", "white_bowl", "pot", "bin"), _small(draft, "block", "fruit")
    at = draft.put(container)
    goal = _turned(draft.put(item), at[:2, 3], _floor_m(container))
    return _carry_task(draft, "put_in", {"object": item.id, "container": container.id}, item, goal, 0.07)


def _floor_m(container: Thing) -> float:
    """Height of a container's inside."""
    return 0.004 if container.kind == "bin" else 0.006


_OFFSETS = {"left of": (-1, 0), "right of": (1, 0), "in front of": (0, -1), "behind": (0, 1)}


def _put_relative(draft: Draft) -> Task:
    reference, item = draft.add("tin", "carton", "cup", "bowl", "book"), _small(draft, *_ITEMS)
    at, start = draft.put(reference), draft.put(item)
    relation = str(draft.rng.choice([*_OFFSETS, "next to"]))
    x, y = _OFFSETS.get(relation) or _OFFSETS[str(draft.rng.choice([*_OFFSETS]))]
    away = np.cross(UP, draft.right)
    gap = 0.03 if relation == "next to" else draft.rng.uniform(0.03, 0.07)
    place = at[:2, 3] + (reference.radius_m + item.radius_m + gap) * (x * draft.right + y * away)[:2]
    draft.keep(place, item.radius_m)
    if np.hypot(*(place - start[:2, 3])) < 2 * item.radius_m + 0.05:
        raise NoRoomError("it is there already")
    slots: dict[str, SlotValue] = {"object": item.id, "relation": relation, "reference": reference.id}
    return _carry_task(draft, "put_relative", slots, item, _turned(start, place, 0.0))


BESIDE_M = 0.06
"""A hand that takes a thing from the side needs so much more room around it."""


def _put_alone(draft: Draft, thing: Thing) -> F64:
    """Stand a thing where a hand can come from the side."""
    start = draft.put(thing)
    draft.keep(start[:2, 3], thing.radius_m + BESIDE_M)
    return start


def _put_oriented(draft: Draft) -> Task:
    support, item = draft.add("board", "book"), draft.add("tin", "cup")
    start = _put_alone(draft, item)
    at = draft.put(support)

    def perform(play: Play) -> None:
        _take_from_the_side(play, item)
        hand_up = play.frames[-1].pose.T_base_hand[:3, :3] @ play.stage.rig.palm
        axis = np.cross(UP, hand_up)  # the palm turns down
        axis -= (axis @ UP) * UP
        lying = about(start[:3, 3], axis, np.pi / 2, start)(1.0)
        lying[:2, 3] = at[:2, 3] - (lying[:3, 2] * item.height_m / 2)[:2]
        lying[2, 3] = support.height_m + item.high_m[0]
        play.carry("carry", item.id, lying, 0.1)
        play.let_go()
        play.leave()

    slots: dict[str, SlotValue] = {"object": item.id, "orientation": "on its side", "support": support.id}
    return Task("put_oriented", slots, item.id, perform)


def _relocate(draft: Draft) -> Task:
    item = _small(draft, *_ITEMS)
    start = draft.put(item)
    place = draft.free(item.radius_m, keep=True)
    if np.hypot(*(place - start[:2, 3])) < 0.1:
        raise NoRoomError("too near to be another place")
    return _carry_task(
        draft, "relocate", {"object": item.id, "place": "a free place"}, item, _turned(start, place, 0.0)
    )


def _stack(draft: Draft) -> Task:
    kinds = (("block", "block"), ("tin", "tin"), ("tin", "block"), ("book", "tin"), ("carton", "block"))
    below, above = kinds[int(draft.rng.integers(len(kinds)))]
    support, item = draft.add(below), _small(draft, above)
    at, start = draft.put(support), draft.put(item)
    goal = at.copy()
    goal[:3, :3], goal[2, 3] = start[:3, :3], support.height_m
    return _carry_task(draft, "stack", {"object": item.id, "supports": (support.id,)}, item, goal, 0.06)


def _take_out(draft: Draft) -> Task:
    container, item = draft.add("bin", "bowl", "white_bowl", "pot"), _small(draft, "block", "fruit")
    at = draft.put(container)
    start = draft.put(item, at[:2, 3], _floor_m(container))
    goal = _turned(start, draft.free(item.radius_m, keep=True), 0.0)
    return _carry_task(draft, "take_out", {"object": item.id, "container": container.id}, item, goal, 0.1)


def _throw_away(draft: Draft) -> Task:
    container, item = draft.add("bin"), _small(draft, "block", "fruit", "carton")
    at, start = draft.put(container), draft.put(item)
    above = _turned(start, at[:2, 3], container.height_m + float(draft.rng.uniform(0.02, 0.05)))
    falling = fall(above, _floor_m(container))

    def perform(play: Play) -> None:
        _take_from_above(play, item)
        play.carry("carry", item.id, above, 0.05)
        play.let_go(lambda t: {item.id: falling(t)})
        already = play.seconds_since_release
        play.leave(lambda t: {item.id: falling(t + already)})

    return Task("throw_away", {"object": item.id, "bin": container.id}, item.id, perform)


def _pour(draft: Draft) -> Task:
    target, source = draft.add("bowl", "white_bowl", "pot"), draft.add("cup", "tin")
    start = _put_alone(draft, source)
    at = draft.put(target)
    content, tilt = str(draft.rng.choice(["water", "rice", "coffee beans"])), float(draft.rng.uniform(95, 125))

    def perform(play: Play) -> None:
        _take_from_the_side(play, source)
        axis = play.heading
        side = np.cross(axis, UP)  # the top leans this way when it turns about the axis by a positive angle
        palm = play.frames[-1].pose.T_base_hand[:3, :3] @ play.stage.rig.palm
        sign = float(np.sign(palm @ side))  # palm down, as everybody pours
        lip = source.height_m
        over = _turned(start, at[:2, 3] - sign * side[:2] * (lip + 0.01), target.height_m + 0.10)
        play.carry("carry", source.id, over, 0.04)
        pivot = over[:3, 3] + 0.5 * lip * UP
        poured = about(pivot, axis, sign * np.radians(tilt), over)
        play.lead("pour", source.id, poured, 0.9)
        play.stand("pour", 0.4, source.id)
        play.lead("pour", source.id, lambda s: poured(1.0 - s), 0.8)
        play.carry("carry", source.id, start, 0.04)
        play.let_go()
        play.leave()

    slots: dict[str, SlotValue] = {"content": content, "source": source.id, "target": target.id}
    return Task("pour", slots, source.id, perform, {"tilt_deg": tilt})


def _wipe(draft: Draft) -> Task:
    target, tool = draft.add("board", "board", "book"), draft.add("sponge")
    at, start = draft.put(target), draft.put(tool)
    circular = bool(draft.rng.random() < 0.5)
    half = (target.high_m - target.low_m)[:2] / 2 - 0.045
    if circular:
        turns = np.linspace(0.0, 4 * np.pi, 40)
        local = np.column_stack([np.cos(turns), np.sin(turns)]) * np.maximum(half, 0.015)
    else:
        local = (
            np.array([[s, t] for i, t in enumerate((-1, 0, 1)) for s in ((-1, 1) if i % 2 == 0 else (1, -1))]) * half
        )
    strokes = [at[:3, 3] + at[:3, 0] * x + at[:3, 1] * y + target.height_m * UP for x, y in local]

    def perform(play: Play) -> None:
        _take_from_above(play, tool)
        first = _turned(start, strokes[0], target.height_m)
        play.carry("carry", tool.id, first, 0.05)
        play.lead("wipe", tool.id, along(strokes[1:], first), 2.4)
        play.carry("carry", tool.id, start, 0.05)
        play.let_go()
        play.leave()

    pattern = "circular" if circular else "linear"
    return Task("wipe", {"target": target.id, "tool": tool.id}, tool.id, perform, {"pattern": pattern})


_SIDES = {"left": (-1, 0), "right": (1, 0), "away": (0, 1), "closer": (0, -1)}


def _slide(draft: Draft) -> Task:
    item = draft.add("block", "tin", "carton", "book", "bowl")
    start = draft.put(item)
    slots: dict[str, SlotValue] = {"verb": "push", "object": item.id}
    if draft.rng.random() < 0.5:
        target = draft.add("bowl", "tin", "book", "carton")
        at = draft.put(target)
        towards = at[:2, 3] - start[:2, 3]
        length = float(np.hypot(*towards)) - item.radius_m - target.radius_m - 0.012
        towards /= np.hypot(*towards)
        slots["target"] = target.id
    else:
        name = str(draft.rng.choice([*_SIDES]))
        x, y = _SIDES[name]
        towards = (x * draft.right + y * np.cross(UP, draft.right))[:2]
        length, slots["direction"] = float(draft.rng.uniform(0.08, 0.16)), name
    if length < 0.05:
        raise NoRoomError("too near to be pushed")
    push = np.array([*towards, 0.0])
    for step in np.linspace(0.0, length, 8):  # the way is free but for what it leads to
        draft.keep(start[:2, 3] + step * towards, item.radius_m)
    draft.keep(start[:2, 3] - towards * (item.radius_m + 0.05), 0.05)  # and there is room for the hand

    def perform(play: Play) -> None:
        _, middle = item.width_m(start, start[:3, 3] + 0.5 * item.height_m * UP, push)
        half = max(float((item.points_m @ start[:3, :3].T @ push).max()), 0.01)
        at = middle - half * push
        at[2] = float(np.clip(0.5 * item.height_m, 0.012, 0.05))
        lean = (
            play.heading
            if play.heading @ push > -0.3
            else np.cross(UP, push) * np.sign(np.cross(UP, push) @ play.heading)
        )
        finger = 0.5 * lean - UP
        play.point(item.id, at, finger / np.linalg.norm(finger), push, 0.05)
        play.lead("push", item.id, along([start[:3, 3] + length * push], start), 0.4 + length / 0.2)
        play.leave()

    return Task("slide", slots, item.id, perform)


def _press(draft: Draft) -> Task:
    base = draft.add("button")
    cap = replace(make("cap", "cap_of_button", draft.rng), part_of=base.id)
    named = replace(base, name=cap.name.replace("cap", "button"))
    draft.things[-1] = named
    draft.things.append(cap)
    at = draft.put(named)
    draft.poses[cap.id] = stood(at[:2, 3], 0.019)
    start = draft.poses[cap.id]

    def perform(play: Play) -> None:
        down = 0.5 * play.heading - UP
        play.point(cap.id, start[:3, 3] + cap.height_m * UP, down / np.linalg.norm(down), -UP)
        lower = along([start[:3, 3] - 0.006 * UP], start)
        play.lead("press", cap.id, lower, 0.2)
        play.stand("press", 0.2, cap.id)
        play.lead("press", cap.id, lambda s: lower(1.0 - s), 0.2)
        play.leave()

    return Task("press", {"control": named.id}, cap.id, perform)


def _turn(draft: Draft) -> Task:
    dial = draft.add("dial")
    start = draft.put(dial)
    angle, clockwise = int(draft.rng.integers(4, 9)) * 10, bool(draft.rng.random() < 0.5)

    def perform(play: Play) -> None:
        _take_from_above(play, dial, 0.015)
        play.lead("turn", dial.id, about(start[:3, 3], UP, np.radians(-angle if clockwise else angle), start), 0.9)
        play.let_go()
        play.leave()

    direction = "clockwise" if clockwise else "counter-clockwise"
    slots: dict[str, SlotValue] = {"control": dial.id, "direction": direction, "angle": angle}
    return Task("turn", slots, dial.id, perform, {"angle_deg": float(angle)})


def _set_state(draft: Draft) -> Task:
    pot = draft.add("pot")
    shape = lid_for(pot.item.shape)
    lid = Thing("lid_of_pot", "lid", "lid", Household("lid_of_pot", shape, pot.item.finish, (0.0, 0.0)))
    draft.things.append(lid)
    at = draft.put(pot)
    closed = at.copy()
    closed[2, 3] = pot.height_m
    aside = stood(draft.free(lid.radius_m, keep=True), 0.0, float(np.arctan2(draft.heading[1], draft.heading[0])))
    closed[:3, :3] = aside[:3, :3]
    opening = bool(draft.rng.random() < 0.5)
    draft.poses[lid.id], goal = (closed, aside) if opening else (aside, closed)

    def perform(play: Play) -> None:
        _take_from_above(play, lid, 0.008)
        play.carry("carry", lid.id, goal, 0.08)
        play.let_go()
        play.leave()

    return Task("set_state", {"thing": pot.id, "state": "open" if opening else "closed"}, lid.id, perform)


def _touch(draft: Draft) -> Task:
    item = draft.add("block", "tin", "carton", "book", "board")
    start = draft.put(item)

    def perform(play: Play) -> None:
        down = 0.5 * play.heading - UP
        play.point(item.id, start[:3, 3] + item.height_m * UP, down / np.linalg.norm(down), -UP)
        play.stand("touch", 0.3, item.id)
        play.leave()

    return Task("touch", {"object": item.id, "part": "top"}, item.id, perform)


KINDS: Mapping[str, Callable[[Draft], Task]] = {
    "put_on": _put_on, "put_in": _put_in, "put_relative": _put_relative, "put_oriented": _put_oriented,
    "relocate": _relocate, "stack": _stack, "take_out": _take_out, "throw_away": _throw_away, "pour": _pour, "wipe": _wipe,
    "slide": _slide, "press": _press, "turn": _turn, "set_state": _set_state, "touch": _touch,
}  # fmt: skip
"""By the template that each shows."""
