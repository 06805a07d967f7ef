"""Messages of a bag whose type is defined differently than here, e.g. by an older version of its package.

A bag contains the definitions of its types. Where one differs from the installed type, its messages are decoded by the
bag's definition, and the fields that both have are copied.
"""

from __future__ import annotations

import array
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any

import numpy as np
from rclpy._rclpy_pybind11 import RMWError
from rclpy.serialization import deserialize_message
from rosbags.interfaces import MessageDefinitionFormat, Nodetype
from rosbags.typesys import Stores, TypesysError, get_types_from_idl, get_types_from_msg, get_typestore

from stvla_ros.ros.bag_topics import message_class

_NAMES = {"float64": "double", "float32": "float", "bool": "boolean", "byte": "octet", "char": "uint8"}
"""Names of rosidl for the basic types of .msg files, where they differ."""

Definition = tuple[MessageDefinitionFormat, str]
"""How a bag describes a type: .msg or .idl, and the text."""


class Decoder:
    """Decodes the messages of one topic.

    Args:
        kind: Type name.
        definition: The bag's definition of the type; None: it has none, and the installed type is used.
    """

    def __init__(self, kind: str, definition: Definition | None) -> None:
        self._kind, self._class = kind, message_class(kind)
        self._store: Any = None
        self.differences: tuple[str, ...] = ()
        """How the bag's type differs from the installed one, e.g. ``roi is missing``."""
        types = _parsed(kind, *definition) if definition else None
        if types and not _same(types, kind, self._class):
            self._store = get_typestore(Stores.EMPTY)
            self._store.register(types)
            self.differences = tuple(_differences(types, kind, self._class)) or ("its fields have another order",)

    def __call__(self, data: bytes) -> Any:
        """One message. Raises ValueError when it is damaged."""
        try:
            if self._store is None:
                return deserialize_message(data, self._class)
            return _copied(self._store.deserialize_cdr(data, self._kind), self._class)
        except (RMWError, LookupError, TypesysError) as error:
            raise ValueError(f"{self._kind} cannot be decoded: {error}") from error


@lru_cache(maxsize=64)
def _parsed(kind: str, form: MessageDefinitionFormat, text: str) -> Any:
    """Type name -> (constants, fields) of a type and those inside it; None if the definition cannot be understood."""
    parse: dict[MessageDefinitionFormat, Callable[[], Any]] = {
        MessageDefinitionFormat.MSG: lambda: get_types_from_msg(text, kind),
        MessageDefinitionFormat.IDL: lambda: get_types_from_idl(text),
    }
    try:
        types = parse[form]() if form in parse and text else {}
        return types if kind in types and _complete(types, kind) else None
    except (TypesysError, LookupError, ValueError):
        return None


def _complete(types: Any, kind: str) -> bool:
    return kind in types and all(_complete(types, inner) for _, d in types[kind][1] if (inner := _inner(d)))


def _inner(described: Any) -> str | None:
    """The message type in a field, or in its elements; None for a basic type."""
    node, value = described
    if node in (Nodetype.ARRAY, Nodetype.SEQUENCE):
        return _inner(value[0])
    return str(value) if node is Nodetype.NAME else None


def _rendered(described: Any) -> str:
    """A field's type as ``get_fields_and_field_types`` of a message class writes it."""
    node, value = described
    if node is Nodetype.NAME:
        return str(value).replace("/msg/", "/")
    if node is Nodetype.BASE:
        return _NAMES.get(value[0], value[0]) + (f"<{value[1]}>" if value[1] else "")
    inner, size = _rendered(value[0]), value[1]
    if node is Nodetype.ARRAY:
        return f"{inner}[{size}]"
    return f"sequence<{inner}, {size}>" if size else f"sequence<{inner}>"


def _fields(types: Any, kind: str) -> dict[str, str]:
    return {name: _rendered(described) for name, described in types[kind][1]}


def _same(types: Any, kind: str, installed: Any) -> bool:
    """Whether messages are laid out in the same way: the same fields in the same order, at every depth."""
    if list(_fields(types, kind).items()) != list(installed.get_fields_and_field_types().items()):
        return False
    inner = {name for _, described in types[kind][1] if (name := _inner(described))}
    return all(_same(types, name, message_class(name)) for name in inner)


def _differences(types: Any, kind: str, installed: Any, where: str = "") -> Iterator[str]:
    theirs, ours = _fields(types, kind), installed.get_fields_and_field_types()
    for name in ours:
        if name not in theirs:
            yield f"{where}{name} is missing"
        elif theirs[name] != ours[name]:
            yield f"{where}{name} is {theirs[name]} instead of {ours[name]}"
    yield from (f"{where}{name} is not known here" for name in theirs if name not in ours)
    for name, described in types[kind][1]:
        inner = _inner(described)
        if inner and theirs[name] == ours.get(name):
            yield from _differences(types, inner, message_class(inner), f"{where}{name}.")


def _copied(value: Any, installed: Any) -> Any:
    """The installed message with the fields that a decoded one has too, of the same type; others keep their default."""
    message = installed()
    for name, kind in installed.get_fields_and_field_types().items():
        there = getattr(value, name, None)
        if there is not None and (fitting := _fitting(there, kind)) is not None:
            try:
                setattr(message, name, fitting)
            except (AssertionError, TypeError, ValueError):
                continue  # another type: told in the differences
    return message


def _fitting(value: Any, kind: str) -> Any:
    """A decoded value as a setter of a message wants it; ``kind`` is the field's type."""
    inner = kind.removeprefix("sequence<").removesuffix(">").split(",")[0].split("[")[0]
    if "/" not in inner:
        if isinstance(value, np.ndarray):
            return array.array("B", value.tobytes()) if value.dtype == np.uint8 else value.tolist()
        return value
    package, name = inner.split("/")
    make = lambda one: _copied(one, message_class(f"{package}/msg/{name}"))  # noqa: E731
    return [make(one) for one in value] if isinstance(value, (list, tuple)) else make(value)
