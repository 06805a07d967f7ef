"""Random scenes before they are rendered: objects, task, what has happened already, appearance."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from stvla_ros.data.splits import SPLITS, UNSEEN
from stvla_ros.description.kinematics import tcp_pose
from stvla_ros.description.panda import HOME_Q_RAD
from stvla_ros.errors import StageError
from stvla_ros.geometry.cameras import project, px_to_uv
from stvla_ros.geometry.se3 import pose, rotation_z
from stvla_ros.motion.ik import solve
from stvla_ros.planning.fittings import LID_GRIP_M
from stvla_ros.planning.heatmap.paths import GRIP_M
from stvla_ros.planning.heatmap.words import MAX_STEPS, PALETTE, Goal, Name
from stvla_ros.sim.camera import TripodCameraConfig, make_camera
from stvla_ros.sim.cupboard import FLOOR_M as SHELF_M
from stvla_ros.sim.groceries import BY_NAME, WARES
from stvla_ros.sim.objects import BLOCK_M, PLATE_BASE_M
from stvla_ros.sim.tasks import close_jar, light_bulb_in, put_groceries
from stvla_ros.sim.tasks.base import X_RANGE_M, Y_RANGE_M, place
from stvla_ros.sim.tasks.close_jar import LID_RADIUS_M, SEAT_M
from stvla_ros.sim.tasks.light_bulb_in import FLOOR_M, GLASS_M, GLASS_RADIUS_M
from stvla_ros.train.scenes.objects import RADII_M, PlacedObject, placed
from stvla_ros.train.scenes.renderer import CLOTHS, IMAGE_PX, Appearance
from stvla_ros.types import F64

PHASES = ("before", "held", "done")
MAX_DISTRACTORS = 8
MAX_OBJECTS = MAX_STEPS + MAX_DISTRACTORS
TASKS, TASK_SHARES = ("basic", "lid", "bulb", "store"), (0.42, 0.17, 0.17, 0.24)
"""What scenes are about, and how many: ``basic`` is place, stack and push."""

UNSEEN_ITEMS = put_groceries.KIND.held_out or ()
_WIDE_M = {"lid": 2 * LID_RADIUS_M, "bulb": 2 * GLASS_RADIUS_M, **{ware.name: ware.size_m[0] for ware in WARES}}
"""Distance of the fingers around what is held."""

_ARMS = 120


@dataclass(frozen=True, eq=False)
class Layout:
    """One scene before it is rendered.

    Attributes:
        seed: Determines everything; its range identifies the split.
        goal: The task.
        phase: ``before``; ``held``: the first object is in the gripper; ``done``: it is at its target.
        objects: Those of the goal come first, in its order.
        appearance: Camera, light, table, arm.
    """

    seed: int
    goal: Goal
    phase: str
    objects: tuple[PlacedObject, ...]
    appearance: Appearance

    @property
    def tool_m(self) -> F64:
        """(3,) tool position in the base frame."""
        return tcp_pose(self.appearance.q_rad)[:3, 3]


def make_layout(split: str, index: int) -> Layout:
    """The ``index``-th scene of a split; :mod:`stvla_ros.data.splits` decides its seed and the names in its task."""
    chosen = SPLITS[split]
    seed = chosen.seeds[index]
    rng = np.random.default_rng([seed, 5, chosen.unseen])
    task = str(np.random.default_rng([seed, 6]).choice(TASKS, p=TASK_SHARES))
    while True:
        goal, objects = _TWINS[task](rng) if task in _TWINS else (_goal(rng), ())
        if names_unseen(goal) == chosen.unseen:
            break
    objects = objects or _objects(rng, goal)
    phase = str(rng.choice(PHASES, p=[0.55, 0.25, 0.2])) if goal.action != "push" else "before"
    appearance = _appearance(rng, phase, _WIDE_M.get(goal.names[0].kind, BLOCK_M))
    layout = Layout(seed, goal, phase, objects, appearance)
    return replace(layout, objects=_moved(rng, layout))


def names_unseen(goal: Goal) -> bool:
    """Whether a task names a colour or an item that training holds out (:mod:`stvla_ros.data.splits`)."""
    return any(name.colour in UNSEEN or name.kind in UNSEEN_ITEMS for name in goal.names)


def _lid_scene(rng: np.random.Generator) -> tuple[Goal, tuple[PlacedObject, ...]]:
    objects = tuple(placed(o) for o in close_jar.layout(rng, _blocks(rng)).objects)
    return Goal("screw", (Name("lid", ""), Name("jar", objects[1].colour))), objects


def _bulb_scene(rng: np.random.Generator) -> tuple[Goal, tuple[PlacedObject, ...]]:
    objects = tuple(placed(o) for o in light_bulb_in.layout(rng, _blocks(rng)).objects)
    return Goal("screw", (Name("bulb", objects[0].colour), Name("lamp", ""))), objects


def _blocks(rng: np.random.Generator) -> int:
    """The tasks have none; some keep the names of things and of colours apart."""
    return 0 if rng.random() < 0.5 else int(rng.integers(1, 4))


def _store_scene(rng: np.random.Generator) -> tuple[Goal, tuple[PlacedObject, ...]]:
    """Some of the other items are missing, so that not every name is always there."""
    item, cupboard, *others = (placed(o) for o in put_groceries.layout(rng, 0).objects)
    kept = [o for o in others if rng.random() < 0.85]
    return Goal("store", (Name(item.kind, ""), Name("cupboard", ""))), (item, cupboard, *kept)


_TWINS: dict[str, Callable[[np.random.Generator], tuple[Goal, tuple[PlacedObject, ...]]]] = {
    "lid": _lid_scene, "bulb": _bulb_scene, "store": _store_scene,
}  # fmt: skip


def _goal(rng: np.random.Generator) -> Goal:
    action = str(rng.choice(["place", "stack", "push"]))
    count = {"place": 1, "stack": 2, "push": int(rng.integers(1, MAX_STEPS + 1))}[action]
    colours = [str(c) for c in rng.choice(PALETTE, count, replace=False)]
    kind = "button" if action == "push" else "block"
    names = [Name(kind, c) for c in colours]
    return Goal(action, (*names, Name("plate", "")) if action == "place" else tuple(names))


def _objects(rng: np.random.Generator, goal: Goal) -> tuple[PlacedObject, ...]:
    """Named objects and distractors at free places; fewer distractors if the table is full."""
    names = [*goal.names]
    for _ in range(int(rng.integers(0, MAX_DISTRACTORS + 1))):
        other = _distractor(rng, goal)
        if other not in names:
            names.append(other)
    while True:
        try:
            order = sorted(range(len(names)), key=lambda i: -RADII_M[names[i].kind])
            spots = place(rng, [RADII_M[names[i].kind] for i in order], room_m=0.05)
            break
        except StageError:
            names.pop()
    at = dict(zip(order, spots, strict=True))
    return tuple(
        PlacedObject(n.kind, n.colour, (*at[i], 0.0), float(rng.uniform(-np.pi, np.pi))) for i, n in enumerate(names)
    )


def _distractor(rng: np.random.Generator, goal: Goal) -> Name:
    """A random object, often of another kind but of a colour that the task names."""
    kind = str(rng.choice(["block", "button", "bottle", "plate"], p=[0.5, 0.3, 0.1, 0.1]))
    if kind == "plate":
        return Name("plate", "")
    near = [n.colour for n in goal.names if n.colour and n.kind != kind]
    colour = str(rng.choice(near)) if near and rng.random() < 0.35 else str(rng.choice(PALETTE))
    return Name(kind, colour)


def _moved(rng: np.random.Generator, layout: Layout) -> tuple[PlacedObject, ...]:
    """Put the task's first object into the gripper or at its target, according to the phase."""
    part, *others = layout.objects
    if layout.phase == "held":
        x, y, z = layout.tool_m - [0.0, 0.0, _below_tool(part)]
        R = tcp_pose(layout.appearance.q_rad)[:3, :3]
        part = replace(part, xyz_m=(x, y, z), yaw_rad=float(np.arctan2(R[1, 0], R[0, 0])))
    elif layout.phase == "done":
        part = _at_goal(rng, part, others[0])
    return (part, *others)


def _below_tool(part: PlacedObject) -> float:
    """How far an object that is gripped reaches below the tool."""
    if part.kind in BY_NAME:
        return part.high_m - GRIP_M
    return {"block": BLOCK_M / 2, "lid": LID_GRIP_M, "bulb": GLASS_M}[part.kind]


def _at_goal(rng: np.random.Generator, part: PlacedObject, goal: PlacedObject) -> PlacedObject:
    if goal.kind == "cupboard":
        inside = rng.uniform((0.06, -0.12), (0.18, 0.12))
        c, s = np.cos(goal.yaw_rad), np.sin(goal.yaw_rad)
        x, y = np.array(goal.xyz_m[:2]) + np.array([[c, -s], [s, c]]) @ inside
        lying, yaw = bool(rng.random() < 0.7), float(rng.uniform(-np.pi, np.pi))
        return replace(part, xyz_m=(float(x), float(y), SHELF_M), yaw_rad=yaw, lying=lying)
    reach, height = {
        "plate": (0.025, PLATE_BASE_M), "block": (0.007, BLOCK_M), "jar": (0.001, SEAT_M), "lamp": (0.001, FLOOR_M),
    }[goal.kind]  # fmt: skip
    x, y = np.add(goal.xyz_m[:2], rng.uniform(-reach, reach, 2))
    return replace(part, xyz_m=(float(x), float(y), height))


@lru_cache(maxsize=1)
def arms() -> F64:
    """(N, 7) joint configurations with the tool pointing down above the table."""
    rng = np.random.default_rng(3)
    found: list[F64] = []
    while len(found) < _ARMS:
        tool = [rng.uniform(*X_RANGE_M), rng.uniform(*Y_RANGE_M), rng.uniform(0.1, 0.4)]
        turned = rotation_z(rng.uniform(-1.2, 1.2)) @ tcp_pose(HOME_Q_RAD)[:3, :3]
        solutions = solve(pose(turned, tool), HOME_Q_RAD[None])
        found += [solutions[0]] if len(solutions) else []
    return np.array(found)


def _appearance(rng: np.random.Generator, phase: str, wide_m: float) -> Appearance:
    away = phase == "held" or rng.random() < 0.35
    q = arms()[rng.integers(_ARMS)] if away else HOME_Q_RAD
    plain = rng.random() < 0.4
    light_dir = np.array([-0.25, -0.25, -1.0]) if plain else np.array([*rng.uniform(-0.8, 0.8, 2), -1.0])
    strength = (0.48, 0.42, 0.18) if plain else tuple(rng.uniform([0.3, 0.32, 0.08], [0.62, 0.52, 0.28]))
    tint = np.ones(3) if plain else rng.uniform(0.5, 1.15, 3).clip(0, 1)
    cloth = 0 if plain or rng.random() < 0.4 else int(rng.integers(1, CLOTHS))
    gripper = wide_m if phase == "held" else 0.08
    return Appearance(_camera(rng), light_dir, (strength[0], strength[1], strength[2]), tint, cloth, q, gripper)


def _camera(rng: np.random.Generator) -> TripodCameraConfig:
    """The cell's own camera or a random one that sees the whole table; square, or 4:3 and stretched."""
    width, height = [(IMAGE_PX, IMAGE_PX), (320, 240), (640, 480)][int(rng.choice(3, p=[0.45, 0.35, 0.2]))]
    shadows = bool(rng.random() < 0.15)
    own = TripodCameraConfig(width_px=width, height_px=height, shadows=shadows)
    if rng.random() < 0.35:
        x, y, z = rng.normal(0.0, 0.02, 3)
        return replace(own, x_m=own.x_m + x, y_m=own.y_m + y, z_m=own.z_m + z)
    while True:
        camera = TripodCameraConfig(
            width_px=width, height_px=height, fov_y_deg=float(rng.uniform(38.0, 58.0)),
            x_m=float(rng.uniform(1.0, 1.6)), y_m=float(rng.uniform(-0.4, 0.4)), z_m=float(rng.uniform(0.6, 1.25)),
            target_x_m=float(rng.uniform(0.33, 0.5)), target_y_m=float(rng.uniform(-0.08, 0.08)),
            target_z_m=float(rng.uniform(0.05, 0.22)), shadows=shadows,
        )  # fmt: skip
        pinhole = make_camera(camera)
        px, depth = project(pinhole, [(x, y, z) for x in X_RANGE_M for y in Y_RANGE_M for z in (0.0, 0.26)])
        uv = px_to_uv(px, pinhole)
        if depth.min() > 0.45 and uv.min() > 10 and uv.max() < 990:
            return camera
