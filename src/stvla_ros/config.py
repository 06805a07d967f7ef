"""Settings as dataclasses: one definition serves YAML files, ROS parameters and ``--help``.

A settings class is a frozen dataclass with fields created by :func:`param`. Files are ROS 2 parameter files, so the
same file serves ``ros2 launch`` and the pipeline without ROS.
"""

from __future__ import annotations

import copy
import dataclasses
import difflib
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, get_args, get_type_hints

from stvla_ros import rcl_yaml

T = TypeVar("T")

EVERY_NODE = "**"
"""Name that :func:`read_parameters` gives to the section ``/**``, which ROS applies to every node."""

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

    A ``live`` setting may change while a node runs, so read it from the newest settings each time. A backend gets them
    through its method ``reconfigure(config)``.
    """
    metadata = {"doc": doc, "ge": ge, "le": le, "choices": choices, "live": live}
    if isinstance(default, (list, dict)) or dataclasses.is_dataclass(default):
        return dataclasses.field(default_factory=lambda: default, metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


def closest(name: str, valid: Iterable[str]) -> str:
    """`` Did you mean 'x'?`` with the most similar valid name, or the list of all valid names if none is similar."""
    names = sorted(valid)
    match = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    return f" Did you mean '{match[0]}'?" if match else f" Valid: {', '.join(names)}."


def lookup(table: Mapping[str, T], name: str, what: str) -> T:
    """The entry of a table.

    Raises:
        ConfigError: No such name; the message begins with ``what`` and has the closest name.
    """
    if name not in table:
        raise ConfigError(f"{what}: '{name}' is not known.{closest(name, table)}")
    return table[name]


def build(cls: type[T], values: Mapping[str, Any], where: str) -> T:
    """Create a settings object from plain values (nested mappings for nested dataclasses).

    Args:
        cls: A dataclass.
        values: Plain values as read from YAML; missing ones get their default.
        where: Beginning of messages, e.g. ``config/stvla.yaml: guidance``.

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
    if isinstance(plain, type) and not _is(value, plain):
        raise ConfigError(
            f"{where}: wanted {plain.__name__}, got {type(value).__name__} {value!r}.{_in_quotes(plain, value)}"
        )
    if plain is tuple and (wrong := [item for item in value if not _is(item, get_args(kind)[0])]):
        wanted, got = get_args(kind)[0], type(wrong[0]).__name__
        raise ConfigError(
            f"{where}: wanted a list of {wanted.__name__}, got {got} {wrong[0]!r}.{_in_quotes(wanted, wrong[0])}"
        )
    check_range(metadata, value, where)
    return value


def _is(value: Any, kind: type) -> bool:
    return isinstance(value, kind) and (kind is bool or not isinstance(value, bool))


def _in_quotes(wanted: type, value: Any) -> str:
    """Advice if YAML read a word as another type, e.g. ``off`` as False."""
    if wanted is not str or isinstance(value, (list, tuple, dict)):
        return ""
    word = " (yes, no, on, off, true, false, y and n mean these)" if isinstance(value, bool) else ""
    return f" In quotes it is a text{word}."


def check_range(metadata: Mapping[str, Any], value: Any, where: str) -> None:
    """Raise ConfigError if ``value`` is outside the field's range or choices. NaN is always outside."""
    ge, le, choices = metadata.get("ge"), metadata.get("le"), metadata.get("choices")
    if (ge is not None and not value >= ge) or (le is not None and not value <= le):
        wanted = f"{'-inf' if ge is None else ge} to {'inf' if le is None else le}"
        raise ConfigError(f"{where}: wanted {wanted}, got {value!r}.")
    if choices is not None and value not in choices:
        raise ConfigError(f"{where}: wanted one of {', '.join(choices)}, got {value!r}.{closest(str(value), choices)}")


def read_parameters(path: Path) -> dict[str, dict[str, Any]]:
    """Read a ROS 2 parameter file: node name -> its nested settings; those of all nodes under :data:`EVERY_NODE`.

    Values and precedence are rcl's (:mod:`stvla_ros.rcl_yaml`). A section's name may be a pattern that matches nodes
    outside of any namespace, such as ``/**``, ``/*`` or ``/**/planner``.

    Raises:
        ConfigError: The file cannot be read, or rcl would refuse it; a section matches no node outside of a namespace;
            or a node has its own ``robot`` section.
    """
    try:
        if path.exists() and not path.is_file():
            raise ConfigError(
                f"{path}: wanted a regular file, because every node reads it; this one can be read only once."
            )
        sections = rcl_yaml.read(path.read_bytes())
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}).") from error
    except rcl_yaml.RclYamlError as error:
        where = f"{path}, line {error.line}" if error.line else str(path)
        raise ConfigError(f"{where}: {error}.") from error
    nodes: dict[str, dict[str, Any]] = {}
    for name, values in sections.items():
        nodes.setdefault(_node(path, name), {}).update(values)
    for node, values in nodes.items():
        if node != EVERY_NODE and any(name.split(".")[0] == SHARED for name in values):
            raise ConfigError(
                f"{path}: node '{node}' has a section '{SHARED}' of its own: move it to '/{EVERY_NODE}', so that every node "
                "means the same robot."
            )
    return {node: nest(values, f"{path}: {node}.") for node, values in nodes.items()}


def _node(path: Path, section: str) -> str:
    """The node of a section, or :data:`EVERY_NODE`. Raises ConfigError if it matches no node outside a namespace."""
    words = section.removeprefix("/").split("/")
    pattern = "".join({"*": r"(/\w+)", "**": r"(/\w+)*"}.get(word, f"/{word}") for word in words)  # as in rclpy
    for word in ("0", *words):  # no name begins with a digit: a pattern that matches this one matches every node
        if re.fullmatch(pattern, f"/{word}", re.ASCII):
            return EVERY_NODE if word == "0" else word
    raise ConfigError(
        f"{path}: the section '{section}' fits no node, for none is in a namespace: name it '{words[-1]}' or '/{EVERY_NODE}'."
    )


def nest(flat: Mapping[str, Any], where: str = "") -> dict[str, Any]:
    """``{"a.b": 1}`` to ``{"a": {"b": 1}}``; arrays become lists. ``where`` precedes names in messages.

    Raises:
        ConfigError: A name is both a value and a section.
    """
    tree: dict[str, Any] = {}
    for name, value in flat.items():
        _put(tree, name, value, where)
    return tree


def _put(tree: dict[str, Any], name: str, value: Any, where: str) -> None:
    *sections, leaf = name.split(".")
    branch = tree
    for section in sections:
        branch = branch.setdefault(section, {})
        if not isinstance(branch, dict):
            raise ConfigError(f"{where}{name}: '{section}' is a setting and cannot be a section.")
    if isinstance(branch.get(leaf), dict):
        raise ConfigError(f"{where}{name}: wanted a section with settings, got {value!r}.")
    branch[leaf] = value if isinstance(value, (str, bytes)) or not isinstance(value, Sequence) else list(value)


def overridden(nodes: Mapping[str, Mapping[str, Any]], changes: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """Parameters of nodes with some of them replaced.

    Args:
        nodes: Node name -> its parameters, nested.
        changes: ``node.section.parameter`` -> value as in ``-p name:=value``; ``robot.parameter`` for all nodes.

    Raises:
        ConfigError: A name has another form, rcl would refuse the value, or a change treats a value as a section.
    """
    changed = copy.deepcopy({name: dict(section) for name, section in nodes.items()})
    for dotted, text in changes.items():
        node, *parts = dotted.split(".")
        if not parts or not all((node, *parts)):
            raise ConfigError(f"{dotted}: wanted NODE.PARAMETER, e.g. guidance.tube_radius_m.")
        if parts[0] == SHARED:
            raise ConfigError(f"{dotted}: every node means the same robot: write {'.'.join(parts)}.")
        if node == SHARED:
            node, parts = EVERY_NODE, [SHARED, *parts]
        try:
            _put(changed.setdefault(node, {}), ".".join(parts), rcl_yaml.read_value(text), f"{node}.")
        except rcl_yaml.RclYamlError as error:
            raise ConfigError(f"{dotted}: {error}.") from error
    return changed


def cache_root() -> Path:
    """Folder of what can be made or fetched again: ``$STVLA_CACHE``, or else ``~/.cache/stvla``."""
    root = os.environ.get("STVLA_CACHE")
    return Path(root) if root else Path.home() / ".cache" / "stvla"
