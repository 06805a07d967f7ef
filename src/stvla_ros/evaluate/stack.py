"""The stack in one process, from the same parameter file that the nodes read."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar, cast

from stvla_ros import registry
from stvla_ros.config import EVERY_NODE, ConfigError, build, check_range
from stvla_ros.description.robot import RobotConfig
from stvla_ros.evaluate import oracle
from stvla_ros.interfaces import Planner, Policy, Robot
from stvla_ros.motion.executor import ExecutorConfig, PlannedExecutor
from stvla_ros.perception.guide import GuideConfig, SpatialGuide
from stvla_ros.pipeline import LocalStages, LoopConfig
from stvla_ros.robot.sim import SimCamera, SimRobot
from stvla_ros.sim.cell import Cell, CellConfig

C = TypeVar("C")

DEFAULT_BACKENDS = {"planner": "colour", "segmenter": "geometric", "policy": "scripted", "motion": "roboplan"}
"""Kind of backend -> the default, the same as the nodes'."""

PARTS = (*registry.BACKENDS, "guide", "executor", "loop", "cell", "robot")
"""Parts of the settings that a command may use: backends by kind, and the fields of :class:`StackSettings`."""

BAG = "bag"
"""One more part: the names of a bag's topics and joints."""


@dataclass(frozen=True)
class StackSettings:
    """Settings of all stages, by the node that owns them.

    Attributes:
        backends: Kind -> name of the backend.
        sections: Kind -> plain settings of that backend.
        guide: Of the guidance node.
        executor: Of the executor node.
        loop: Of the task node.
        cell: Of the simulated cell.
        robot: Of the robot: the section that all nodes share.
        bag_topics: Plain settings of a bag's topics (``camera.topics``), read by commands that open bags.
    """

    backends: Mapping[str, str] = field(default_factory=lambda: dict(DEFAULT_BACKENDS))
    sections: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    guide: GuideConfig = field(default_factory=GuideConfig)
    executor: ExecutorConfig = field(default_factory=ExecutorConfig)
    loop: LoopConfig = field(default_factory=LoopConfig)
    cell: CellConfig = field(default_factory=CellConfig)
    robot: RobotConfig = field(default_factory=RobotConfig)
    bag_topics: Mapping[str, Any] = field(default_factory=dict)

    def with_noise(self) -> StackSettings:
        """The same with an imperfect camera."""
        return replace(self, cell=replace(self.cell, sensor=replace(self.cell.sensor, enabled=True)))


def read_settings(
    file: Path | None,
    chosen: Mapping[str, str | None] | None = None,
    overrides: Mapping[str, str] | None = None,
    parts: Iterable[str] | None = None,
) -> StackSettings:
    """Read settings from a parameter file. All of it is checked, including what only nodes read.

    Args:
        file: ROS 2 parameter file; None: the defaults.
        chosen: Kind -> name of a backend, in place of the file's.
        overrides: ``node.parameter`` -> value as in ``-p name:=value``, in place of the file's.
        parts: The parts that are used, of :data:`PARTS` and :data:`BAG`: an override of anything else is refused. None:
            all, because nodes read them.

    Raises:
        ConfigError: The file or a setting in it is wrong, a backend is unknown, or nothing would read an override.
    """
    nodes = registry.read_nodes(file, chosen, overrides)
    where = str(file) if file else "defaults"
    backends, sections = {}, {}
    for kind, (node, setting) in registry.BACKEND_PARAMETER.items():
        name = nodes.get(node, {}).get(setting, DEFAULT_BACKENDS[kind])
        check_range({"choices": registry.names(kind)}, name, f"{where}: {node}.{setting}")
        section = nodes.get(node, {}).get(name, {})
        build(registry.load(kind, name).Config, section, f"{where}: {node}.{name}")
        backends[kind], sections[kind] = name, section
    if parts is not None:
        _check_used(overrides or {}, parts, backends)
    return StackSettings(
        backends,
        sections,
        _own(GuideConfig, nodes, "guidance", where),
        build(ExecutorConfig, nodes.get("executor", {}).get("executor", {}), f"{where}: executor.executor"),
        _own(LoopConfig, nodes, "task", where),
        build(CellConfig, nodes.get("sim", {}).get("cell", {}), f"{where}: sim.cell"),
        build(RobotConfig, nodes.get(EVERY_NODE, {}).get("robot", {}), f"{where}: robot"),
        nodes.get("camera", {}).get("topics", {}),
    )


def _check_used(overrides: Iterable[str], parts: Iterable[str], backends: Mapping[str, str]) -> None:
    """Raises ConfigError for an override of anything outside the parts."""
    used = {
        "guide": {f"guidance.{f.name}" for f in dataclasses.fields(GuideConfig)},
        "executor": {"executor.executor"},
        "loop": {f"task.{f.name}" for f in dataclasses.fields(LoopConfig)},
        "cell": {"sim.cell"},
        "robot": {"robot.model", "robot.open_width_m"},
        BAG: {"camera.topics", "robot"},
        **{
            kind: {f"{n}.{setting}", f"{n}.{backends[kind]}"}
            for kind, (n, setting) in registry.BACKEND_PARAMETER.items()
        },
    }
    read = [f"{name}." for part in parts for name in used[part]]
    for override in overrides:
        if not f"{override}.".startswith(tuple(read)):
            raise ConfigError(
                f"{override}: this command does not use it: leave it out. "
                "(A parameter file, which all commands share, may contain it.)"
            )


def _own(cls: type[C], nodes: Mapping[str, Mapping[str, Any]], node: str, where: str) -> C:
    """The part of a node's parameters that belongs to its stage; topics and rates stay with the node."""
    names = {f.name for f in dataclasses.fields(cls)}  # type: ignore[arg-type]
    values = {name: value for name, value in nodes.get(node, {}).items() if name in names}
    return build(cls, values, f"{where}: {node}")


def build_stages(settings: StackSettings, cell: Cell) -> LocalStages:
    """All stages on a simulated cell. Make new ones for each episode: they have state.

    Raises:
        ConfigError: A backend cannot be made.
    """

    robot = SimRobot(cell)
    return LocalStages(
        SimCamera(cell),
        robot,
        make_planner(settings, cell),
        make_guide(settings),
        make_policy(settings),
        make_executor(settings, robot),
    )


def make_planner(settings: StackSettings, cell: Cell | None = None) -> Planner:
    """The planner's backend; only the oracle gets the cell. Raises ConfigError when it cannot be made."""
    name, section = settings.backends["planner"], settings.sections.get("planner", {})
    if name != oracle.NAME:
        return cast(Planner, registry.create("planner", name, section))
    if cell is None:
        raise ConfigError(f"planner '{oracle.NAME}' reads the simulator's state: it works in a simulated cell only.")
    return oracle.OraclePlanner(build(oracle.OracleConfig, section, f"planner.{name}"), cell)


def make_guide(settings: StackSettings) -> SpatialGuide:
    """The guide with its segmenter. Raises ConfigError when the segmenter cannot be made."""
    return SpatialGuide(_create(settings, "segmenter"), settings.guide)


def make_policy(settings: StackSettings) -> Policy:
    """The policy's backend. Raises ConfigError when it cannot be made."""
    return cast(Policy, _create(settings, "policy"))


def make_executor(settings: StackSettings, robot: Robot) -> PlannedExecutor:
    """The executor of an arm, with its motion planner. Raises ConfigError when the planner cannot be made."""
    limits = settings.robot.limits
    motion = _create(settings, "motion", limits)
    return PlannedExecutor(robot, motion, settings.executor, settings.robot.open_width_m, limits)


def _create(settings: StackSettings, kind: str, *more: Any) -> Any:
    return registry.create(kind, settings.backends[kind], settings.sections.get(kind, {}), *more)


def plain(settings: StackSettings) -> dict[str, Any]:
    """Settings of the stages as plain values, for a file."""
    values = dataclasses.asdict(settings)
    del values["bag_topics"]  # not of a stage
    return values
