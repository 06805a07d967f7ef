"""Contact among close neighbours: what the planning scene lets through, by rule, treatment of hidden space and voxel.

In every other scene a block stands 8 to 30 mm from pegs and blocks, and a keypose asks to grasp it in one of its two
directions, whatever stands there. In the others, closed fingers press a post 2 cm wide, 4 to 25 mm from two pegs. The
simulator's hulls say whether the straight way down touches a neighbour. The rule ``radius`` leaves out every obstacle
close to the target, as the executor did before it knew instances. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import mujoco
import numpy as np
from rich.console import Console
from rich.table import Table

from stvla_ros.description.panda import HOME_Q_RAD
from stvla_ros.description.robot import OPEN_WIDTH_M
from stvla_ros.geometry.se3 import tool_down, wrap
from stvla_ros.motion import ik
from stvla_ros.motion.collision import VoxelConfig
from stvla_ros.motion.ompl import MujocoSpace
from stvla_ros.motion.planning import MotionPlannerConfig
from stvla_ros.motion.scene import PlanningScene
from stvla_ros.sim.cell import Cell, CellConfig
from stvla_ros.sim.objects import Block, SceneObject, paint
from stvla_ros.sim.world import World
from stvla_ros.types import F64, Bool, Box

COLOURS = ("blue", "green")

GRASP_GAP_M, PRESS_GAP_M = (0.008, 0.030), (0.004, 0.025)

FINGERTIP_M = 0.009
"""The closed fingertips reach this far below the tool centre point."""


@dataclass(frozen=True)
class Peg:
    """An upright box that can be knocked over."""

    colour: str
    xy_m: tuple[float, float]
    height_m: float
    side_m: float = 0.01

    @property
    def name(self) -> str:
        return f"{self.colour}_peg"

    @property
    def clearance_m(self) -> float:
        return 0.7072 * self.side_m

    def add(self, spec: mujoco.MjSpec) -> None:
        body = spec.worldbody.add_body(name=self.name, pos=[*self.xy_m, self.height_m / 2])
        body.add_freejoint(name=self.name)
        half = [self.side_m / 2, self.side_m / 2, self.height_m / 2]
        body.add_geom(type=mujoco.mjtGeom.mjGEOM_BOX, size=half, mass=0.03, material=paint(spec, self.colour))


@dataclass(frozen=True)
class Clutter:
    """A task without a goal: the first of ``objects`` is touched."""

    objects: tuple[SceneObject, ...]
    instruction: str = ""
    hold_s: float = 0.0

    def watch(self, world: World) -> None:
        """Nothing to remember."""

    def problem(self, world: World) -> str:
        """Nothing is missing."""
        return ""


def lay_out(rng: np.random.Generator, press: bool) -> Clutter:
    """A red block or post, and neighbours around it that do not overlap."""
    centre = float(rng.uniform(0.42, 0.56)), float(rng.uniform(-0.15, 0.15))
    target: SceneObject = Peg("red", centre, 0.03, 0.02) if press else Block("red", centre, rng.uniform(-np.pi, np.pi))
    objects, face_m = [target], 0.0105 if press else 0.0215
    while len(objects) <= len(COLOURS):
        colour, angle = COLOURS[len(objects) - 1], float(rng.uniform(-np.pi, np.pi))
        thin = press or rng.random() < 0.6
        radius = 0.007 if thin else 0.0283
        away = face_m + radius + rng.uniform(*(PRESS_GAP_M if press else GRASP_GAP_M))
        xy = centre[0] + float(away * np.cos(angle)), centre[1] + float(away * np.sin(angle))
        if all(np.hypot(xy[0] - o.xy_m[0], xy[1] - o.xy_m[1]) > radius + o.clearance_m + 0.002 for o in objects[1:]):
            objects.append(Peg(colour, xy, rng.uniform(0.012, 0.04)) if thin else Block(colour, xy, angle))
    return Clutter(tuple(objects))


class RadiusScene(PlanningScene):
    """Leaves out everything close to the target, whatever it is."""

    def _touchable(self, T: F64, held: Box | None, ends_m: tuple[F64, ...]) -> Bool:
        return self._around(T)


RULES: dict[str, tuple[type[PlanningScene], VoxelConfig]] = {
    "radius, column, 10 mm": (RadiusScene, VoxelConfig()),
    "radius, column, 5 mm": (RadiusScene, VoxelConfig(size_m=0.005)),
    "instances, free, 10 mm": (PlanningScene, VoxelConfig(unknown="free")),
    "instances, column, 10 mm": (PlanningScene, VoxelConfig()),
    "instances, column, 5 mm": (PlanningScene, VoxelConfig(size_m=0.005)),
    "instances, occupied, 10 mm": (PlanningScene, VoxelConfig(unknown="occupied")),
}


@dataclass(frozen=True)
class Answer:
    """What one rule said about one keypose: may the hand go there, for how much CPU time, with how many voxels."""

    way_is_free: bool
    lets_through: bool
    observe_s: float
    voxels: int


def way_is_free(cell: Cell, neighbours: Sequence[str], q_rad: F64, T: F64, gripper_m: float) -> bool:
    """Whether the hand comes straight down to a posture at ``T`` without touching a neighbour."""
    before = T.copy()
    before[2, 3] += 0.1
    for q in ik.follow_line(q_rad, before):
        cell.set_state(q, gripper_m)
        if any(cell.robot_touches(name) for name in neighbours):
            return False
    return True


def scene(cell: Cell, space: MujocoSpace, seed: int) -> dict[str, Answer]:
    """What every rule says about one keypose."""
    rng, press = np.random.default_rng(seed), bool(seed % 2)
    task = lay_out(rng, press)
    cell.reset_to(task, seed)
    target, width_m = task.objects[0], 0.0 if press else OPEN_WIDTH_M
    across = target.yaw_rad if isinstance(target, Block) else 0.0
    yaw = -np.pi / 2 + wrap(across + np.pi / 2, np.pi / 2) + rng.integers(2) * np.pi / 2
    T = tool_down([*target.xy_m, 0.03 + FINGERTIP_M - 0.003 if press else 0.02], yaw)
    q = ik.solve(T, ik.seeds(HOME_Q_RAD, 16, np.random.default_rng(0)))[0]
    frame, robot = cell.render(), cell.state()
    free = way_is_free(cell, [o.name for o in task.objects[1:]], q, T, width_m)
    answers = {}
    for name, (rule, config) in RULES.items():
        seen, begin = rule(config), time.process_time()
        seen.observe(frame, robot)
        observe_s = time.process_time() - begin
        space.set_world(seen.world((T,)), width_m)
        answers[name] = Answer(free, space.is_free(q), observe_s, len(seen.voxels_m))
    return answers


def figures(answers: list[Answer]) -> dict[str, Any]:
    """The row of one rule."""
    free, blocked = ([a.lets_through for a in answers if a.way_is_free is is_free] for is_free in (True, False))
    return {
        "free": len(free),
        "free_passed": sum(free),
        "blocked": len(blocked),
        "blocked_passed": sum(blocked),
        "observe_cpu_ms": 1e3 * float(np.median([a.observe_s for a in answers])),
        "voxels": float(np.median([a.voxels for a in answers])),
    }


def show(rows: dict[str, dict[str, Any]]) -> None:
    table = Table(title="contact among close neighbours")
    for title in ("rule, hidden space, voxel", "free: allowed", "blocked: allowed", "image CPU ms", "voxels"):
        table.add_column(title, justify="left" if title.startswith("rule") else "right")
    for name, r in rows.items():
        passed = f"{r['free_passed']}/{r['free']}", f"{r['blocked_passed']}/{r['blocked']}"
        table.add_row(name, *passed, f"{r['observe_cpu_ms']:.1f}", f"{r['voxels']:.0f}")
    Console(width=110).print(table)


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.scene", description=__doc__)
    parser.add_argument("--scenes", type=int, default=120, help="number of scenes (default 120)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--noise", action="store_true", help="depth of a stereo camera with its faults")
    arguments = parser.parse_args()
    config = CellConfig()
    if arguments.noise:
        config = replace(config, sensor=replace(config.sensor, enabled=True, kind="stereo"))
    cell, space = Cell(config), MujocoSpace(MotionPlannerConfig())
    answers = [scene(cell, space, arguments.seed + i) for i in range(arguments.scenes)]
    cell.close()
    rows = {name: figures([a[name] for a in answers]) for name in RULES}
    show(rows)
    print(json.dumps({"benchmark": "scene", "seed": arguments.seed, "noise": arguments.noise, "rows": rows}))


if __name__ == "__main__":
    main()
