"""Backends by kind and name, imported only when one is asked for.

To add one: write a class with a ``Config`` dataclass and ``__init__(self, config)`` that satisfies the
kind's Protocol in :mod:`stvla_ros.interfaces`, and name it here. A motion planner is made with the arm's limits as well:
``__init__(self, config, arm)``.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

from stvla_ros.config import ConfigError, build, closest

BACKENDS: dict[str, dict[str, str]] = {
    "planner": {
        "colour": "stvla_ros.planning.colour:ColourPlanner",
        "heatmap": "stvla_ros.planning.heatmap.planner:HeatmapPlanner",
        "qwen3_vl": "stvla_ros.planning.qwen3_vl.planner:Qwen3VlPlanner",
        "openai": "stvla_ros.planning.openai.planner:OpenAiPlanner",
        "oracle": "stvla_ros.evaluate.oracle:OraclePlanner",
    },
    "segmenter": {
        "geometric": "stvla_ros.perception.geometric:GeometricSegmenter",
        "sam2": "stvla_ros.perception.sam2.segmenter:Sam2Segmenter",
    },
    "policy": {
        "scripted": "stvla_ros.policy.scripted:ScriptedPolicy",
        "3dda": "stvla_ros.policy.learned:DiffuserActorPolicy",
        "3dfa": "stvla_ros.policy.learned:FlowmatchActorPolicy",
    },
    "motion": {
        "roboplan": "stvla_ros.motion.roboplan:RoboplanPlanner",
        "ompl": "stvla_ros.motion.ompl:OmplPlanner",
    },
}


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
    module, attribute = BACKENDS[kind][name].split(":")
    try:
        return getattr(import_module(module), attribute)
    except ModuleNotFoundError as error:
        raise ConfigError(f"{kind} '{name}' needs the Python package '{error.name}': install it first.") from error


def create(kind: str, name: str, settings: Mapping[str, Any] | None = None, *more: Any) -> Any:
    """Make a backend from plain settings (those of the section named like the backend).

    ``more`` is what backends of this kind are made with besides: for motion planners, the arm's limits.

    Raises:
        ConfigError: Unknown backend or setting.
    """
    cls = load(kind, name)
    return cls(build(cls.Config, settings or {}, f"{kind}.{name}"), *more)
