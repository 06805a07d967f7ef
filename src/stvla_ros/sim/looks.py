"""Hard looks of the cell: grain and gloss, mixed light and soft shadows, clutter behind, household things on the table.

Everything is drawn from the scene's seed. The plain look is in :mod:`stvla_ros.sim.materials`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import mujoco
import numpy as np

from stvla_ros.colours import COLOURS
from stvla_ros.sim.household import Carton, Cloth, Finish, Household, Tub
from stvla_ros.sim.materials import TABLE_HEIGHT_M, add_sky, add_table, set_clipping
from stvla_ros.sim.meshes import cuboid
from stvla_ros.sim.objects import SceneObject
from stvla_ros.sim.tasks import Task
from stvla_ros.sim.textures import Rgb, add_texture, texture
from stvla_ros.sim.things import GLAZES, WHITES, WOODS, make_thing
from stvla_ros.types import F64

X_M, Y_M = (0.12, 0.74), (-0.50, 0.50)
"""Household things stand here."""

BASE_FREE_M = 0.30
"""No thing stands this near to the robot's axis."""

HAND_ROOM_M = 0.055
"""Free space between what a task is about and household things."""

FEWEST, MOST = 4, 8
"""Groups of household things."""

TRAY_M, TRAY_SHARE = (0.18, 0.20), 0.7
"""Edges of a tray below what a task is about, and how often there is one where it fits."""

TABLE_TEXTURE_PX = 1024
QUADS = 24
"""Boxes are drawn in so many squares a side: light is computed at their corners."""

STREAM = 0x10
"""Of random numbers, besides the seed: the look does not change the task."""

_Light = tuple[float, float, float]
WARM: _Light = (1.0, 0.80, 0.56)
COOL: _Light = (0.80, 0.91, 1.0)
NEUTRAL: _Light = (1.0, 0.97, 0.92)
_DIRECTIONAL, _SPOT = mujoco.mjtLightType.mjLIGHT_DIRECTIONAL, mujoco.mjtLightType.mjLIGHT_SPOT
_BOX = mujoco.mjtGeom.mjGEOM_BOX
_SEEN = {"contype": 0, "conaffinity": 0}

TABLES: tuple[tuple[str, Sequence[Rgb]], ...] = (
    ("planks", WOODS),
    ("veneer", WOODS),
    ("stone", ((0.55, 0.53, 0.50), (0.30, 0.31, 0.33), (0.80, 0.78, 0.74))),
    ("weave", (*WHITES, *GLAZES)),
    ("flowers", (*WHITES, *GLAZES)),
    ("laminate", ((0.16, 0.15, 0.16), (0.85, 0.84, 0.82), (0.45, 0.47, 0.48))),
)
FLOORS: tuple[tuple[str, Sequence[Rgb]], ...] = (
    ("planks", WOODS),
    ("concrete", ((0.50, 0.50, 0.48), (0.62, 0.60, 0.55))),
    ("carpet", ((0.40, 0.40, 0.42), (0.35, 0.30, 0.28))),
)


def add_hard_surroundings(spec: mujoco.MjSpec, seed: int) -> None:
    """Add lights, floor, table and clutter of a scene, all by its seed."""
    rng = np.random.default_rng([seed, STREAM])
    spec.visual.quality.numquads, spec.visual.quality.shadowsize = QUADS, 2048
    set_clipping(spec)
    add_sky(spec)
    _add_lights(spec, rng)
    _add_floor(spec, rng)
    _add_table(spec, rng)
    _add_clutter(spec, rng)
    _add_paints(spec, rng)


def _choose(rng: np.random.Generator, surfaces: Sequence[tuple[str, Sequence[Rgb]]]) -> tuple[str, Rgb]:
    pattern, colours = surfaces[int(rng.integers(len(surfaces)))]
    return pattern, colours[int(rng.integers(len(colours)))]


def _add_material(
    spec: mujoco.MjSpec, name: str, finish: Finish, size_px: int, repeat: float, mirror: float = 0.0
) -> None:
    """A material whose texture has a fixed size in metres: ``1 / repeat`` of them."""
    roles = add_texture(spec, name, texture(finish.pattern, finish.seed, size_px, finish.rgb))
    spec.add_material(
        name=name, textures=roles, texuniform=True, texrepeat=[repeat, repeat], specular=finish.gloss,
        shininess=0.2 + 0.7 * finish.gloss, reflectance=mirror,
    )  # fmt: skip


def _add_lights(spec: mujoco.MjSpec, rng: np.random.Generator) -> None:
    """A window, lamps or a ceiling: soft shadows come from several lights close together, hard ones from a single one."""
    head = spec.visual.headlight
    head.active, head.diffuse, head.specular = 1, [0.06] * 3, [0.0] * 3
    head.ambient = [float(a) for a in rng.uniform(0.26, 0.4) * np.array(NEUTRAL)]
    kinds = (("window",), ("lamp",), ("ceiling",), ("window", "lamp"), ("ceiling", "lamp"))[int(rng.integers(5))]
    share = 0.68 / len(kinds) ** 0.7
    for kind in kinds:
        {"window": _add_window, "lamp": _add_lamp, "ceiling": _add_ceiling}[kind](
            spec, rng, share * rng.uniform(0.8, 1.2)
        )


def _add_window(spec: mujoco.MjSpec, rng: np.random.Generator, strength: float) -> None:
    azimuth, elevation = rng.uniform(0, 2 * np.pi), np.radians(rng.uniform(35, 60))
    _add_cluster(spec, rng, 4, azimuth, elevation, np.radians(rng.uniform(5, 11)), strength, COOL)


def _add_ceiling(spec: mujoco.MjSpec, rng: np.random.Generator, strength: float) -> None:
    _add_cluster(
        spec, rng, 3, rng.uniform(0, 2 * np.pi), np.radians(78), np.radians(rng.uniform(9, 16)), strength, NEUTRAL
    )


def _add_cluster(
    spec: mujoco.MjSpec, rng: np.random.Generator, count: int, azimuth: float, elevation: float, spread: float,
    strength: float, colour: _Light,
) -> None:  # fmt: skip
    turn = rng.uniform(0, 2 * np.pi)
    for k in range(count):
        a = azimuth + spread * np.cos(turn + 2 * np.pi * k / count) / np.cos(elevation)
        e = elevation + spread * np.sin(turn + 2 * np.pi * k / count)
        towards = np.array([np.cos(a) * np.cos(e), np.sin(a) * np.cos(e), np.sin(e)])
        _add_light(spec, _DIRECTIONAL, 1.6 * towards + [0.4, 0.0, 0.0], -towards, strength / count, colour)


def _add_lamp(spec: mujoco.MjSpec, rng: np.random.Generator, strength: float) -> None:
    side = rng.choice([-1.0, 1.0])
    position = np.array([rng.uniform(0.1, 0.9), side * rng.uniform(0.25, 0.6), rng.uniform(1.1, 1.6)])
    target = np.array([rng.uniform(0.35, 0.6), rng.uniform(-0.15, 0.15), 0.0])
    _add_light(spec, _SPOT, position, target - position, strength, WARM)


def _add_light(
    spec: mujoco.MjSpec, kind: mujoco.mjtLightType, position: F64, direction: F64, strength: float, colour: _Light
) -> None:
    spec.worldbody.add_light(
        type=kind, pos=position, dir=direction, diffuse=[strength * c for c in colour],
        specular=[0.6 * strength * c for c in colour], castshadow=True, cutoff=45.0, exponent=3.0, attenuation=[1.0, 0.0, 0.0],
    )  # fmt: skip


def _add_floor(spec: mujoco.MjSpec, rng: np.random.Generator) -> None:
    pattern, rgb = _choose(rng, FLOORS)
    _add_material(
        spec, "floor", Finish(pattern, rgb, 0.05, seed=int(rng.integers(1 << 31))), 512, rng.uniform(0.7, 1.2)
    )
    plane, centre = mujoco.mjtGeom.mjGEOM_PLANE, [0.0, 0.0, -TABLE_HEIGHT_M]
    spec.worldbody.add_geom(name="floor", type=plane, size=[6.0, 6.0, 0.1], pos=centre, material="floor")


def _add_table(spec: mujoco.MjSpec, rng: np.random.Generator) -> None:
    """The top is the plane z = 0, matt, glossy or polished; a cloth may lie on it."""
    pattern, rgb = _choose(rng, TABLES)
    matt = pattern in ("weave", "flowers")
    gloss = 0.0 if matt else float(rng.choice([0.05, 0.3, 0.7]))
    mirror = float(rng.uniform(0.05, 0.16)) if gloss > 0.2 and rng.random() < 0.6 else 0.0
    _add_material(
        spec, "table", Finish(pattern, rgb, gloss, seed=int(rng.integers(1 << 31))), TABLE_TEXTURE_PX, 1.8, mirror
    )
    spec.add_material(name="steel", rgba=[0.35, 0.37, 0.40, 1.0], specular=0.3)
    table = add_table(spec, "table")
    if rng.random() < 0.3:
        _add_mat(spec, table, rng)


def _add_mat(spec: mujoco.MjSpec, table: mujoco.MjsBody, rng: np.random.Generator) -> None:
    """A flat cloth, part of the table; things stand on it."""
    finish = Finish(
        str(rng.choice(["weave", "flowers"])),
        (*WHITES, *GLAZES)[int(rng.integers(9))],
        0.0,
        seed=int(rng.integers(1 << 31)),
    )
    finish.add(spec, "mat")
    Cloth((0.36, 0.46), 0.0, 0).mesh().add(spec, "mat")
    place = [rng.uniform(0.42, 0.52), rng.uniform(-0.1, 0.1), 0.0]
    turn = rng.uniform(-0.3, 0.3) / 2
    quat = [np.cos(turn), 0.0, 0.0, np.sin(turn)]
    table.add_geom(
        type=mujoco.mjtGeom.mjGEOM_MESH, meshname="mat", material="mat", pos=place, quat=quat, group=1, **_SEEN
    )


def _add_clutter(spec: mujoco.MjSpec, rng: np.random.Generator) -> None:
    """Chairs at the table, boxes on the floor and a wall."""
    wall = -rng.uniform(1.6, 2.6)
    _add_block(spec, (wall, 0.0, 0.6), (0.1, 8.0, 3.0), rng, "concrete", (0.75, 0.74, 0.70))
    for spot in rng.permutation([(-0.62, 0.25), (-0.62, -0.3), (0.25, 0.95), (0.3, -0.95)])[: int(rng.integers(1, 4))]:
        _add_chair(spec, rng, *spot)
    for _ in range(int(rng.integers(2, 6))):
        edges = rng.uniform(0.15, 0.5, 3)
        x, y = rng.uniform(-1.5, -0.5), rng.choice([-1.0, 1.0]) * rng.uniform(0.3, 1.6)
        _add_block(spec, (x, y, edges[2] / 2 - TABLE_HEIGHT_M), edges.tolist(), rng, "prints", (0.70, 0.55, 0.38))


def _add_chair(spec: mujoco.MjSpec, rng: np.random.Generator, x: float, y: float) -> None:
    """Seat, back and legs; the back rises over the table."""
    rgb = (*GLAZES, *WOODS)[int(rng.integers(11))]
    seat_z, back = -TABLE_HEIGHT_M + 0.45, np.sign([x + 0.3, 0.0]) if abs(y) < 0.5 else np.array([0.0, np.sign(y)])
    _add_block(spec, (x, y, seat_z), (0.42, 0.42, 0.05), rng, "weave", rgb)
    width = (0.04, 0.42, 0.4) if back[0] else (0.42, 0.04, 0.4)
    _add_block(spec, (x + 0.2 * back[0], y + 0.2 * back[1], seat_z + rng.uniform(0.25, 0.36)), width, rng, "weave", rgb)
    for sx in (-0.18, 0.18):
        for sy in (-0.18, 0.18):
            _add_block(
                spec,
                (x + sx, y + sy, (seat_z - TABLE_HEIGHT_M) / 2),
                (0.03, 0.03, seat_z + TABLE_HEIGHT_M),
                rng,
                "paint",
                (0.2, 0.2, 0.2),
            )


def _add_block(
    spec: mujoco.MjSpec,
    centre: Sequence[float],
    size: Sequence[float],
    rng: np.random.Generator,
    pattern: str,
    rgb: Rgb,
) -> None:
    """A box that is only seen, part of the surroundings."""
    name = f"clutter_{len(spec.meshes)}"
    Finish(pattern, rgb, 0.1, seed=int(rng.integers(1 << 31))).add(spec, name)
    cuboid(size, steps=6).add(spec, name)
    spec.worldbody.add_geom(type=mujoco.mjtGeom.mjGEOM_MESH, meshname=name, material=name, pos=centre, group=1, **_SEEN)


def _add_paints(spec: mujoco.MjSpec, rng: np.random.Generator) -> None:
    """The 20 paints of blocks and buttons, uneven and some of them glossy."""
    for name, rgb in COLOURS.items():
        finish = Finish("paint", rgb, float(rng.choice([0.05, 0.4, 0.8])), seed=int(rng.integers(1 << 31)))
        _add_material(spec, f"paint_{name}", finish, 64, 10.0)


def dressed(task: Task, seed: int) -> Task:
    """A task with household things besides its own objects, by the seed."""
    rng = np.random.default_rng([seed, STREAM, 1])
    things: list[SceneObject] = [*task.objects]
    tray = _tray_below(task.objects, np.random.default_rng([seed, STREAM, 2]))
    for kind in _kinds(rng):
        group = _GROUPS.get(kind, _single)(kind, rng, len(things))
        spot = _free_spot(rng, max(_reach(item) for item in group), [*things, *tray])
        if spot is not None:
            things += [replace(item, xy_m=(item.xy_m[0] + spot[0], item.xy_m[1] + spot[1])) for item in group]
    return replace(task, objects=(*things, *tray))  # type: ignore[type-var]


def _tray_below(objects: Sequence[SceneObject], rng: np.random.Generator) -> list[Household]:
    """Often, a tray around one of the first two objects where there is room: what the task is about stands in it."""
    held = objects[int(rng.integers(min(len(objects), 2)))]
    finish = make_thing("tray", "", rng).finish
    tray = Household("tray_below", Tub((*TRAY_M, float(rng.uniform(0.012, 0.025))), 0.006), finish, held.xy_m)
    gaps = [np.hypot(*np.subtract(held.xy_m, o.xy_m)) - o.clearance_m - tray.clearance_m for o in objects if o != held]
    room = held.clearance_m < min(TRAY_M) / 2 - HAND_ROOM_M and min(gaps, default=1.0) > 0.0
    return [tray] if room and rng.random() < TRAY_SHARE else []


def _kinds(rng: np.random.Generator) -> list[str]:
    """What stands there: often a white bowl, something without depth, and something to hold other things."""
    every = [*_GROUPS, "bowl", "mug", "can", "carton", "flask", "fruit", "cable", "cloth", "glass", "black"]
    asked = [
        k
        for k, share in (("white_bowl", 0.7), ("glass", 0.4), ("black", 0.4), ("full_bin", 0.3))
        if rng.random() < share
    ]
    return [*asked, *(str(k) for k in rng.choice(every, int(rng.integers(FEWEST, MOST + 1)) - len(asked)))]


def _single(kind: str, rng: np.random.Generator, number: int) -> list[Household]:
    return [make_thing(kind, f"{kind}_{number}", rng)]


def _full_bin(kind: str, rng: np.random.Generator, number: int) -> list[Household]:
    outer = replace(make_thing("bin", f"bin_{number}", rng), yaw_rad=0.0)
    inner = [
        make_thing(str(rng.choice(["can", "fruit", "mug", "cable"])), f"inside_{number}_{i}", rng, z_m=0.004)
        for i in (0, 1)
    ]
    return [
        outer,
        *(
            replace(item, xy_m=(0.0, y))
            for item, y in zip(inner, (-0.045, 0.045), strict=True)
            if item.clearance_m < 0.08
        ),
    ]


def _full_tray(kind: str, rng: np.random.Generator, number: int) -> list[Household]:
    inner = [
        make_thing(str(rng.choice(["glass", "mug", "fruit", "bowl"])), f"inside_{number}_{i}", rng, z_m=0.006)
        for i in (0, 1)
    ]
    return [
        replace(make_thing("tray", f"tray_{number}", rng), yaw_rad=0.0),
        *(
            replace(item, xy_m=(0.0, y))
            for item, y in zip(inner, (-0.055, 0.055), strict=True)
            if item.clearance_m < 0.06
        ),
    ]


def _full_bowl(kind: str, rng: np.random.Generator, number: int) -> list[Household]:
    outer = make_thing("white_bowl", f"bowl_{number}", rng)
    return [outer, make_thing("fruit", f"inside_{number}", rng, z_m=0.006)]


def _touching(kind: str, rng: np.random.Generator, number: int) -> list[Household]:
    """Two things of different colour side by side, without a gap."""
    same = str(rng.choice(["can", "carton"]))
    a, b = (replace(make_thing(same, f"{same}_{number}_{i}", rng), yaw_rad=0.0) for i in (0, 1))
    away = [item.shape.size_m[0] / 2 if isinstance(item.shape, Carton) else item.clearance_m for item in (a, b)]
    return [replace(a, xy_m=(-away[0], 0.0)), replace(b, xy_m=(away[1], 0.0))]


_GROUPS = {"full_bin": _full_bin, "full_tray": _full_tray, "full_bowl": _full_bowl, "touching": _touching}


def _reach(item: Household) -> float:
    return float(np.hypot(*item.xy_m)) + item.clearance_m


def _free_spot(rng: np.random.Generator, radius_m: float, things: Sequence[SceneObject]) -> tuple[float, float] | None:
    """A place on the table that leaves the hand room at the task's own objects; None when there is none."""
    for _ in range(80):
        x, y = (float(rng.uniform(low + 0.5 * radius_m, high - 0.5 * radius_m)) for low, high in (X_M, Y_M))
        if np.hypot(x, y) < BASE_FREE_M + radius_m:
            continue
        room = (0.008 if isinstance(o, Household) else HAND_ROOM_M for o in things)
        if all(
            np.hypot(x - o.xy_m[0], y - o.xy_m[1]) > radius_m + o.clearance_m + r
            for o, r in zip(things, room, strict=True)
        ):
            return x, y
    return None
