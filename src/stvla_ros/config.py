"""Settings as dataclasses: one definition serves YAML files, ROS parameters and ``--help``.

A settings class is a frozen dataclass whose fields are made with :func:`param`. Files have the form of
ROS 2 parameter files, so the same file serves ``ros2 launch`` and the pipeline without ROS.
"""

from __future__ import annotations

import copy
import dataclasses
import difflib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

T = TypeVar("T")

EVERY_NODE = "**"
"""Name under which :func:`read_parameters` has the section ``/**``, which ROS applies to every node."""

SHARED = "robot"
"""The section that describes the robot: once in a file, under ``/**``."""


class ConfigError(ValueError):
    """A setting is wrong; the message says where, what was wanted and what was found."""


def param(
    default: Any,
    doc: str,
    *,
    ge: float | None = None,
    le: float | None = None,
    choices: tuple[str, ...] | None = None,
    live: bool = False,
) -> Any:
    """A dataclass field with its documentation and allowed range (inclusive) or choices.

    A ``live`` setting may change while a node runs. Whoever reads it must take it from the newest settings each time; a backend is
    given them by its method ``reconfigure(config)``.
    """
    metadata = {"doc": doc, "ge": ge, "le": le, "choices": choices, "live": live}
    if isinstance(default, (list, dict)) or dataclasses.is_dataclass(default):
        return dataclasses.field(default_factory=lambda: default, metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


def closest(name: str, valid: Iterable[str]) -> str:
    """`` Did you mean 'x'?`` with the most similar valid name, or all of them where none is similar."""
    names = sorted(valid)
    match = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    return f" Did you mean '{match[0]}'?" if match else f" Valid: {', '.join(names)}."


def build(cls: type[T], values: Mapping[str, Any], where: str) -> T:
    """Make a settings object from plain values (nested mappings for nested dataclasses).

    Args:
        cls: A dataclass.
        values: Plain values as read from YAML; missing ones take their default.
        where: Shown in messages, e.g. ``config/stvla.yaml: guidance``.

    Raises:
        ConfigError: Unknown name, wrong type, or out of range.
    """
    if not isinstance(values, Mapping):
        raise ConfigError(f"{where}: wanted a mapping of settings, got {type(values).__name__} {values!r}.")
    types = get_type_hints(cls)
    fields = {f.name: f for f in dataclasses.fields(cls)}  # type: ignore[arg-type]
    for name in values:
        if name not in fields:
            raise ConfigError(f"{where}: unknown setting '{name}'.{closest(str(name), fields)}")
    checked = {
        name: _checked(types[name], fields[name].metadata, value, f"{where}.{name}") for name, value in values.items()
    }
    return cls(**checked)


def _checked(kind: Any, metadata: Mapping[str, Any], value: Any, where: str) -> Any:
    if dataclasses.is_dataclass(kind):
        return build(kind, value, where)  # type: ignore[arg-type]
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    plain = getattr(kind, "__origin__", kind)
    if plain is tuple and isinstance(value, list):
        value = tuple(value)
    if isinstance(plain, type) and (not isinstance(value, plain) or (plain is not bool and isinstance(value, bool))):
        raise ConfigError(f"{where}: wanted {plain.__name__}, got {type(value).__name__} {value!r}.")
    check_range(metadata, value, where)
    return value


def check_range(metadata: Mapping[str, Any], value: Any, where: str) -> None:
    """Raise ConfigError when ``value`` is outside the field's range or choices. NaN is always outside."""
    ge, le, choices = metadata.get("ge"), metadata.get("le"), metadata.get("choices")
    if (ge is not None and not value >= ge) or (le is not None and not value <= le):
        wanted = f"{'-inf' if ge is None else ge} to {'inf' if le is None else le}"
        raise ConfigError(f"{where}: wanted {wanted}, got {value!r}.")
    if choices is not None and value not in choices:
        raise ConfigError(f"{where}: wanted one of {', '.join(choices)}, got {value!r}.{closest(str(value), choices)}")


def read_parameters(path: Path) -> dict[str, dict[str, Any]]:
    """Read a ROS 2 parameter file: node name -> its parameters. Those for all nodes are under :data:`EVERY_NODE`.

    Raises:
        ConfigError: The file is missing, is not YAML, or a node lacks ``ros__parameters``; a node has a ``robot`` section
            of its own.
    """
    import yaml

    try:
        content = yaml.safe_load(path.read_text()) or {}
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}).") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: not valid YAML: {' '.join(str(error).split())}.") from error
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: wanted node names at the top level, got {type(content).__name__}.")
    for node, section in content.items():
        if not isinstance(section, dict) or set(section) != {"ros__parameters"}:
            raise ConfigError(f"{path}: node '{node}': wanted exactly one key 'ros__parameters'.")
    nodes = {str(node).lstrip("/"): section["ros__parameters"] or {} for node, section in content.items()}
    for node, section in nodes.items():
        if node != EVERY_NODE and any(str(name).split(".")[0] == SHARED for name in section):
            raise ConfigError(
                f"{path}: node '{node}' has a section '{SHARED}' of its own: move it to '/{EVERY_NODE}', so that every node "
                "means the same robot."
            )
    return nodes


def overridden(nodes: Mapping[str, Mapping[str, Any]], changes: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """Parameters of nodes with some of them replaced.

    Args:
        nodes: Node name -> its parameters, nested.
        changes: ``node.section.parameter`` -> value as YAML text; ``robot.parameter`` for all nodes.

    Raises:
        ConfigError: A change is not YAML, or goes through a value as if it were a section.
    """
    import yaml

    changed = copy.deepcopy({name: dict(section) for name, section in nodes.items()})
    for dotted, text in changes.items():
        *sections, leaf = dotted.split(".")
        if sections[:1] == [SHARED]:
            sections.insert(0, EVERY_NODE)
        branch: Any = changed
        for section in sections:
            branch = branch.setdefault(section, {})
            if not isinstance(branch, dict):
                raise ConfigError(f"{dotted}: '{section}' is a setting, not a section.")
        try:
            branch[leaf] = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise ConfigError(f"{dotted}: '{text}' is not valid YAML: {' '.join(str(error).split())}.") from error
    return changed
