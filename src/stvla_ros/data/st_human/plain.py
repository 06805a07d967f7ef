"""Frozen dataclasses from plain JSON values and back, with errors that name the field."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from stvla_ros.config import ConfigError, closest

T = TypeVar("T")


class FormatError(ConfigError):
    """A file does not follow the format; the message says which field, what was wanted, and what was found."""


def from_plain(cls: type[T], value: Any, where: str) -> T:
    """A dataclass from plain JSON values, nested ones included. Numbers are finite; unknown keys are refused.

    Args:
        cls: Its fields are str, int, float, bool, Literal, dataclasses, tuples and mappings of these, or None.
        value: As read from JSON.
        where: The field's name in messages.

    Raises:
        FormatError: It does not fit.
    """
    made: T = _read(cls, value, where)
    return made


def to_plain(value: Any) -> Any:
    """Plain JSON values of a dataclass, nested ones included; tuples become lists."""
    if dataclasses.is_dataclass(value):
        return {field.name: to_plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, tuple):
        return [to_plain(item) for item in value]
    if isinstance(value, Mapping):
        return {key: to_plain(item) for key, item in value.items()}
    return value


def wrong(where: str, wanted: str, found: Any) -> FormatError:
    """The error for a field that holds something else."""
    said = repr(found)
    return FormatError(f"{where}: wanted {wanted}, found {said if len(said) <= 60 else said[:57] + '...'}.")


def _read(kind: Any, value: Any, where: str) -> Any:
    origin, arguments = get_origin(kind), get_args(kind)
    if dataclasses.is_dataclass(kind):
        return _dataclass(kind, value, where)
    if origin in (UnionType, Union):
        return _union(arguments, value, where)
    if origin is Literal:
        if value not in arguments or isinstance(value, bool):
            raise wrong(where, f"one of {', '.join(map(repr, arguments))}", value)
        return value
    if origin is tuple:
        return _tuple(arguments, value, where)
    if origin is not None and issubclass(origin, Mapping):
        if not isinstance(value, dict):
            raise wrong(where, "an object", value)
        return {key: _read(arguments[1], item, f"{where}.{key}") for key, item in value.items()}
    return _scalar(kind, value, where)


def _dataclass(cls: Any, value: Any, where: str) -> Any:
    if not isinstance(value, dict):
        raise wrong(where, "an object", value)
    fields, types = {field.name: field for field in dataclasses.fields(cls)}, get_type_hints(cls)
    for key in value:
        if key not in fields:
            raise FormatError(f"{where}: unknown key '{key}'.{closest(str(key), fields)}")
    for name, field in fields.items():
        needed = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        if needed and name not in value:
            raise FormatError(f"{where}: '{name}' is missing.")
    return cls(**{name: _read(types[name], item, f"{where}.{name}") for name, item in value.items()})


def _union(kinds: tuple[Any, ...], value: Any, where: str) -> Any:
    """The first kind that fits; with one kind besides None, its own message."""
    if value is None and NoneType in kinds:
        return None
    others = [kind for kind in kinds if kind is not NoneType]
    if len(others) == 1:
        return _read(others[0], value, where)
    for kind in others:
        try:
            return _read(kind, value, where)
        except FormatError:
            continue
    raise wrong(where, " or ".join(_name(kind) for kind in others), value)


def _tuple(arguments: tuple[Any, ...], value: Any, where: str) -> Any:
    if not isinstance(value, list | tuple):
        raise wrong(where, "a list", value)
    if arguments[-1] is Ellipsis:
        return tuple(_read(arguments[0], item, f"{where}[{i}]") for i, item in enumerate(value))
    if len(value) != len(arguments):
        raise wrong(where, f"{len(arguments)} values", value)
    return tuple(
        _read(kind, item, f"{where}[{i}]") for i, (kind, item) in enumerate(zip(arguments, value, strict=True))
    )


def _scalar(kind: Any, value: Any, where: str) -> Any:
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise wrong(where, _name(kind), value)
    if kind is float and not math.isfinite(value):
        raise wrong(where, "a finite number", value)
    return value


def _name(kind: Any) -> str:
    known = {str: "text", int: "a whole number", float: "a number", bool: "true or false"}
    return known.get(kind, "a list" if get_origin(kind) is tuple else str(kind))
