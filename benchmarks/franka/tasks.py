"""The motions of tasks, as the executor plans them: recorded in the simulated cell, to be repeated elsewhere."""

from __future__ import annotations

from dataclasses import dataclass, field

from stvla_ros import registry
from stvla_ros.errors import CancelToken
from stvla_ros.evaluate.stack import StackSettings
from stvla_ros.motion.executor import PlannedExecutor
from stvla_ros.perception.guide import SpatialGuide
from stvla_ros.pipeline import LocalStages, run_task
from stvla_ros.robot.sim import SimCamera, SimRobot
from stvla_ros.sim.cell import Cell
from stvla_ros.sim.objects import SceneObject
from stvla_ros.sim.world import World
from stvla_ros.types import JointPath


class RecordingRobot(SimRobot):
    """Keeps every path that it follows."""

    def __init__(self, cell: Cell) -> None:
        super().__init__(cell)
        self.paths: list[JointPath] = []

    def follow(self, path: JointPath, cancel: CancelToken) -> None:
        self.paths.append(path)
        super().follow(path, cancel)


@dataclass
class BareTable:
    """A :class:`stvla_ros.sim.tasks.Task` with nothing on the table."""

    instruction: str = "Do nothing."
    objects: tuple[SceneObject, ...] = ()
    hold_s: float = 0.0
    seen: list[str] = field(default_factory=list)

    def watch(self, world: World) -> None:
        """Nothing to remember."""

    def problem(self, world: World) -> str:
        """Nothing is missing."""
        return ""


def paths_of(cell: Cell, task: str, seed: int, velocity_scale: float) -> list[JointPath]:
    """The paths of one episode, in their order."""
    settings = StackSettings()
    instruction = cell.reset(task, seed)

    def create(kind: str, *more: object) -> object:
        section = {"velocity_scale": velocity_scale} if kind == "motion" else {}
        return registry.create(kind, settings.backends[kind], section, *more)

    robot = RecordingRobot(cell)
    motion, guide = create("motion", settings.robot.limits), SpatialGuide(create("segmenter"), settings.guide)  # type: ignore[arg-type]
    executor = PlannedExecutor(robot, motion, settings.executor, settings.robot.open_width_m)  # type: ignore[arg-type]
    stages = LocalStages(SimCamera(cell), robot, create("planner"), guide, create("policy"), executor)  # type: ignore[arg-type]
    run_task(stages, instruction, settings.loop, CancelToken(), background=False)
    return robot.paths
