"""Contact among close neighbours: what is refused, and what touches a neighbour, by rule and treatment of hidden space.

In every other trial a block stands 8 to 30 mm from pegs and blocks, and the keypose asks to grasp it in one of its two
directions, whatever stands there. In the others, closed fingers press a post 2 cm wide, 4 to 25 mm from two pegs. The
simulator says whether the straight way down is free, and counts the neighbours that the robot touches. The rule
``radius`` leaves out every obstacle close to the target, as the executor did before it knew instances. The last line is
JSON.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import mujoco
import numpy as np
from rich.console import Console
from rich.table import Table

from stvla_ros.description.panda import HOME_Q_RAD
from stvla_ros.description.robot import OPEN_WIDTH_M
from stvla_ros.errors import CancelToken, StageError
from stvla_ros.geometry.se3 import tool_down, wrap
from stvla_ros.motion import ik
from stvla_ros.motion.collision import VoxelConfig
from stvla_ros.motion.executor import ExecutorConfig, PlannedExecutor
from stvla_ros.motion.scene import PlanningScene
from stvla_ros.registry import create
from stvla_ros.robot.sim import SimCamera, SimRobot
from stvla_ros.sim.cell import Cell
from stvla_ros.sim.objects import Block, SceneObject, paint
from stvla_ros.sim.world import World
from stvla_ros.types import F64, Bool, Box, Keypose, RgbdFrame, RobotState

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
            objects.append(Peg(colour, xy, rng.uniform(0.02, 0.06)) if thin else Block(colour, xy, angle))
    return Clutter(tuple(objects))


class RadiusScene(PlanningScene):
    """Leaves out everything close to the target, whatever it is."""

    def _touchable(self, T: F64, held: Box | None, ends_m: tuple[F64, ...]) -> Bool:
        return self._around(T)


class CountingCell(Cell):
    """Notes which neighbours the robot touches."""

    touched: set[str]
    neighbours: Sequence[str] = ()
    _ticks = 0

    def step(self) -> None:
        super().step()
        self._ticks += 1
        if self._ticks % 5 == 0:
            self.touched |= {name for name in self.neighbours if self.robot_touches(name)}

    def lay(self, task: Clutter, seed: int) -> None:
        """Set the scene up, with no contact noted."""
        self.neighbours, self.touched = (), set()
        self.reset_to(task, seed)  # type: ignore[arg-type]
        self.neighbours = [o.name for o in task.objects[1:]]


class Timed(PlannedExecutor):
    """Notes how long the scene takes to observe."""

    def __init__(self, cell: Cell, config: VoxelConfig, rule: type[PlanningScene]) -> None:
        super().__init__(SimRobot(cell), create("motion", "roboplan"), ExecutorConfig(voxels=config))
        self._scene = rule(config)
        self.observe_s: list[float] = []
        inner = self._scene.observe

        def observe(frame: RgbdFrame, robot: RobotState, held: Box | None = None) -> None:
            begin = time.process_time()
            inner(frame, robot, held)
            self.observe_s.append(time.process_time() - begin)

        self._scene.observe = observe  # type: ignore[method-assign]

    @property
    def voxels(self) -> int:
        return len(self._scene.voxels_m)


def way_is_free(cell: CountingCell, T: F64, gripper_m: float) -> bool:
    """Whether the hand comes straight down to ``T`` without touching a neighbour."""
    before = T.copy()
    before[2, 3] += 0.1
    start = ik.solve(before, ik.seeds(HOME_Q_RAD, 16, np.random.default_rng(0)))
    for q in ik.follow_line(start[0], T):
        cell.set_state(q, gripper_m)
        if any(cell.robot_touches(name) for name in cell.neighbours):
            return False
    return True


def trial(cell: CountingCell, seed: int, executor: Timed) -> tuple[str, bool, bool]:
    """Outcome code, whether the way was free, and whether a neighbour was touched."""
    rng, press = np.random.default_rng(seed), bool(seed % 2)
    task = lay_out(rng, press)
    cell.lay(task, seed)
    target, width_m = task.objects[0], 0.0 if press else OPEN_WIDTH_M
    across = target.yaw_rad if isinstance(target, Block) else 0.0
    yaw = -np.pi / 2 + wrap(across + np.pi / 2, np.pi / 2) + rng.integers(2) * np.pi / 2
    T = tool_down([*target.xy_m, 0.03 + FINGERTIP_M - 0.003 if press else 0.02], yaw)
    free = way_is_free(cell, T, width_m)
    cell.lay(task, seed)
    cancel = CancelToken()
    if press:
        SimRobot(cell).move_gripper(0.0, cancel)
    try:
        executor.execute(Keypose(T, False, True), SimCamera(cell).capture(), None, cancel)
        code = "OK"
    except StageError as error:
        code = error.code.name
    return code, free, bool(cell.touched)


def row(cell: CountingCell, trials: int, seed: int, config: VoxelConfig, rule: type[PlanningScene]) -> dict[str, Any]:
    """The figures of one rule."""
    results, times, voxels = [], [], []
    for i in range(trials):
        executor = Timed(cell, config, rule)
        results.append(trial(cell, seed + i, executor))
        times += executor.observe_s
        voxels.append(executor.voxels)
    moved = [r for r in results if r[0] not in ("COLLISION", "NO_IK", "NO_PATH")]
    return {
        "trials": trials,
        "free": sum(r[1] for r in results),
        "free_executed": sum(r[1] for r in moved),
        "blocked": sum(not r[1] for r in results),
        "blocked_executed": sum(not r[1] for r in moved),
        "touched": sum(r[2] for r in results),
        "codes": dict(Counter(r[0] for r in results)),
        "observe_cpu_ms": 1e3 * float(np.median(times)),
        "voxels": float(np.median(voxels)),
    }


def show(rows: dict[str, dict[str, Any]]) -> None:
    table = Table(title="contact among close neighbours")
    for title in (
        "rule, hidden space",
        "free: done",
        "blocked: done",
        "touched a neighbour",
        "observe CPU ms",
        "voxels",
    ):
        table.add_column(title, justify="left" if title.startswith("rule") else "right")
    for name, r in rows.items():
        done = f"{r['free_executed']}/{r['free']}", f"{r['blocked_executed']}/{r['blocked']}"
        table.add_row(name, *done, f"{r['touched']}/{r['trials']}", f"{r['observe_cpu_ms']:.1f}", f"{r['voxels']:.0f}")
    Console(width=110).print(table)


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.scene", description=__doc__)
    parser.add_argument("--trials", type=int, default=60, help="keyposes per rule (default 60)")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    cell, rows = CountingCell(), {}
    kinds = [("radius", RadiusScene, "column")]
    kinds += [("instances", PlanningScene, unknown) for unknown in ("free", "column", "occupied")]
    for name, rule, unknown in kinds:
        config = replace(VoxelConfig(), unknown=unknown)
        rows[f"{name}, {unknown}"] = row(cell, arguments.trials, arguments.seed, config, rule)
    cell.close()
    show(rows)
    print(json.dumps({"benchmark": "scene", "seed": arguments.seed, "rows": rows}))


if __name__ == "__main__":
    main()
