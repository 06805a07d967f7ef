"""Backends and nodes by name, imported only when one is asked for.

To add one: write a class with a ``Config`` dataclass and ``__init__(self, config)`` that satisfies the
kind's Protocol in :mod:`stvla_ros.interfaces`, and name it here. A motion planner is made with the arm's limits as
well: ``__init__(self, config, arm)``. A package above the stages, or outside of this project, adds its backends with
:func:`add`. A backend with the class attribute ``needs_node`` works only in a ROS node, which it gets as last argument
(``Parameters.create`` in ``ros/params.py``).
"""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, TypeVar, cast, get_type_hints

from stvla_ros.config import EVERY_NODE, SHARED, ConfigError, build, check_range, closest, overridden, read_parameters

C = TypeVar("C")

BACKENDS: dict[str, dict[str, str]] = {
    "planner": {
        "colour": "stvla_ros.planning.colour:ColourPlanner",
        "heatmap": "stvla_ros.planning.heatmap.planner:HeatmapPlanner",
        "qwen3_vl": "stvla_ros.planning.qwen3_vl.planner:Qwen3VlPlanner",
        "openai": "stvla_ros.planning.openai.planner:OpenAiPlanner",
    },
    "segmenter": {
        "geometric": "stvla_ros.perception.geometric:GeometricSegmenter",
        "sam2": "stvla_ros.perception.sam2.segmenter:Sam2Segmenter",
    },
    "policy": {
        "scripted": "stvla_ros.policy.scripted:ScriptedPolicy",
        "3dda": "stvla_ros.policy.learned:DiffuserActorPolicy",
        "3dfa": "stvla_ros.policy.learned:FlowmatchActorPolicy",
        "st4vla": "stvla_ros.policy.st4vla.policy:St4VlaPolicy",
        "remote": "stvla_ros.policy.remote.client:RemotePolicy",
    },
    "motion": {
        "roboplan": "stvla_ros.motion.roboplan:RoboplanPlanner",
        "ompl": "stvla_ros.motion.ompl:OmplPlanner",
    },
}

NODES: dict[str, tuple[str, dict[str, str]]] = {
    "sim": ("stvla_ros.nodes.sim:SimConfig", {}),
    "camera": ("stvla_ros.nodes.camera:CameraNodeConfig", {}),
    "planner": ("stvla_ros.nodes.planner:PlannerConfig", {"backend": "planner"}),
    "guidance": ("stvla_ros.nodes.guidance:GuidanceConfig", {"segmenter": "segmenter"}),
    "policy": ("stvla_ros.nodes.policy:PolicyConfig", {"backend": "policy"}),
    "executor": ("stvla_ros.nodes.executor:ExecutorNodeConfig", {"motion": "motion"}),
    "task": ("stvla_ros.nodes.task:TaskConfig", {}),
    "franka": ("stvla_ros.nodes.franka:FrankaNodeConfig", {}),
    "record": ("stvla_ros.nodes.record:RecordConfig", {}),
    "console": ("stvla_ros.nodes.console:ConsoleConfig", {}),
}
"""Name of a node -> its settings class, and which of its settings name a backend of which kind."""

BACKEND_PARAMETER = {kind: (node, setting) for node, (_, chosen) in NODES.items() for setting, kind in chosen.items()}
"""Kind of backend -> the node and the parameter that choose it."""

RCLPY_SWITCHES = ("use_sim_time", "start_type_description_service")
"""Parameters that every rclpy node has, besides the sections ``qos_overrides``."""


def add(kind: str, name: str, path: str) -> None:
    """Add a backend. Call it before anything asks for names.

    Args:
        kind: One of :data:`BACKENDS`.
        name: For command lines and parameter files.
        path: ``module:class``; the module is imported when the backend is chosen.
    """
    BACKENDS[kind][name] = path


def names(kind: str) -> tuple[str, ...]:
    """Names of the backends of a kind."""
    return tuple(BACKENDS[kind])


def load(kind: str, name: str) -> Any:
    """The class of a backend.

    Raises:
        ConfigError: Unknown name, or a package that the backend needs is not installed.
    """
    if name not in BACKENDS[kind]:
        raise ConfigError(f"{kind}: no backend '{name}'.{closest(name, BACKENDS[kind])}")
    try:
        return _attribute(BACKENDS[kind][name])
    except ModuleNotFoundError as error:
        raise ConfigError(f"{kind} '{name}' needs the Python package '{error.name}': install it first.") from error


def create(kind: str, name: str, settings: Mapping[str, Any] | None = None, *more: Any) -> Any:
    """Make a backend from plain settings (those of the section named like the backend).

    ``more`` are further arguments of this kind's backends: for motion planners, the arm's limits.

    Raises:
        ConfigError: Unknown backend or setting.
    """
    cls = load(kind, name)
    return cls(build(cls.Config, settings or {}, f"{kind}.{name}"), *more)


def settings(
    cls: type[C], backends: Mapping[str, str], values: Mapping[str, Any], where: str
) -> tuple[C, dict[str, Mapping[str, Any]]]:
    """The settings of a node, and the sections of its backends as plain values.

    Args:
        cls: Settings dataclass of the node.
        backends: Setting that names a backend -> kind. The backend's own settings are in a section of its name;
            sections of backends that are not chosen are ignored.
        values: Plain values, nested.
        where: Shown in messages.

    Raises:
        ConfigError: Unknown name, wrong type, out of range, unknown backend.
    """
    sections = {name for kind in backends.values() for name in names(kind)}
    own = {f.name for f in dataclasses.fields(cls)}  # type: ignore[arg-type]
    for name in values:
        if name not in own | sections:
            raise ConfigError(f"{where}: unknown setting '{name}'.{closest(name, own | sections)}")
    config = build(cls, {k: v for k, v in values.items() if k in own - set(backends)}, where)
    for setting, kind in backends.items():
        if setting in values:
            check_range({"choices": names(kind)}, values[setting], f"{where}.{setting}")
            config = dataclasses.replace(config, **{setting: values[setting]})  # type: ignore[type-var]
        chosen = getattr(config, setting)
        build(load(kind, chosen).Config, values.get(chosen, {}), f"{where}.{chosen}")
    return config, {k: v for k, v in values.items() if k in sections - own}


def of_rclpy(name: str) -> bool:
    """Whether every rclpy node has this parameter, besides its settings."""
    return name in RCLPY_SWITCHES or name.split(".")[0] == "qos_overrides"


def read_nodes(
    file: Path | None, chosen: Mapping[str, str | None] | None = None, overrides: Mapping[str, str] | None = None
) -> dict[str, dict[str, Any]]:
    """Settings of all nodes from a parameter file and the command line, nested; all of them are checked.

    Args:
        file: ROS 2 parameter file; None: the defaults.
        chosen: Kind -> name of a backend, in place of the file's.
        overrides: ``node.parameter`` -> value as in ``-p name:=value``, in place of the file's.

    Returns:
        Node -> its settings; those of all nodes are under :data:`stvla_ros.config.EVERY_NODE`.

    Raises:
        ConfigError: Anything in the file or on the command line is wrong, or nothing would read it.
    """
    nodes, chosen, overrides = read_parameters(file) if file else {}, dict(chosen or {}), dict(overrides or {})
    for node, (_, backends) in NODES.items():
        for setting, kind in backends.items():
            text = overrides.pop(f"{node}.{setting}", None)
            if text is not None and chosen.get(kind) not in (None, text):
                raise ConfigError(f"--{kind} {chosen[kind]} and {node}.{setting}={text}: which of the two?")
            if (name := text or chosen.get(kind)) is not None:
                nodes = overridden(nodes, {f"{node}.{setting}": name})
    configs = _check(nodes, str(file) if file else "--set")
    if overrides:
        nodes = overridden(nodes, overrides)
        configs = _check(nodes, "--set")
    for name in overrides:
        node, section = name.split(".")[:2]
        for setting, kind in NODES.get(node, ("", {}))[1].items():
            used = getattr(configs.get(node), setting, section)
            if section in names(kind) and section != used:
                raise ConfigError(f"{name}: nothing would read it, because {node}.{setting} is '{used}': set that too.")
    return nodes


def _check(nodes: Mapping[str, Mapping[str, Any]], where: str) -> dict[str, Any]:
    """The settings of each node as its dataclass. Raises ConfigError for the first setting that no node accepts."""
    for name in nodes:
        if name not in (EVERY_NODE, *NODES):
            raise ConfigError(f"{where}: no node '{name}'.{closest(name, NODES)}")
    every, configs = nodes.get(EVERY_NODE, {}), {}
    for name in every:
        if name != SHARED and not of_rclpy(name):
            raise ConfigError(
                f"{where}: '/{EVERY_NODE}' sets '{name}' for every node, but not every node has it: "
                "set it only for those that do."
            )
    for name, (path, backends) in NODES.items():
        if name not in nodes and not every:
            continue
        try:
            cls = _attribute(path)
        except ModuleNotFoundError as error:  # without ROS there are no nodes; the pipeline checks what it reads
            warnings.warn(f"{where}: settings of '{name}' are not checked without '{error.name}'.", stacklevel=4)
            continue
        if SHARED in every:
            build(get_type_hints(cls)[SHARED], every[SHARED], f"{where}: {SHARED}")
        values = {**every, **nodes.get(name, {})}
        for own in filter(of_rclpy, values):
            if own in RCLPY_SWITCHES and not isinstance(values[own], bool):
                raise ConfigError(
                    f"{where}: {name}.{own}: wanted bool, got {type(values[own]).__name__} {values[own]!r}."
                )
        ours = {k: v for k, v in values.items() if not of_rclpy(k)}
        configs[name] = settings(cls, backends, ours, f"{where}: {name}")[0]
    return configs


def node_config(name: str) -> type[Any]:
    """The settings class of a node in :data:`NODES`."""
    return cast(type[Any], _attribute(NODES[name][0]))


def _attribute(path: str) -> Any:
    module, attribute = path.split(":")
    return getattr(import_module(module), attribute)
