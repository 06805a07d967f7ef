"""rcl's own parser of parameter files, ``librcl_yaml_param_parser``, called through ctypes: what nodes read, without a node."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from pathlib import Path
from typing import Any


class RefusedError(Exception):
    """rcl takes no such file or value."""


class _Allocator(ctypes.Structure):
    _fields_ = [(name, ctypes.c_void_p) for name in ("allocate", "deallocate", "reallocate", "zero_allocate", "state")]


class _Array(ctypes.Structure):
    _fields_ = [("values", ctypes.c_void_p), ("size", ctypes.c_size_t)]


class _Texts(ctypes.Structure):
    _fields_ = [("size", ctypes.c_size_t), ("data", ctypes.POINTER(ctypes.c_char_p)), ("allocator", _Allocator)]


class _Variant(ctypes.Structure):
    _fields_ = [
        ("bool", ctypes.POINTER(ctypes.c_bool)),
        ("int", ctypes.POINTER(ctypes.c_int64)),
        ("double", ctypes.POINTER(ctypes.c_double)),
        ("text", ctypes.c_char_p),
        ("bytes", ctypes.POINTER(_Array)),
        ("bools", ctypes.POINTER(_Array)),
        ("ints", ctypes.POINTER(_Array)),
        ("doubles", ctypes.POINTER(_Array)),
        ("texts", ctypes.POINTER(_Texts)),
    ]


class _Node(ctypes.Structure):
    _fields_ = [
        ("names", ctypes.POINTER(ctypes.c_char_p)),
        ("values", ctypes.POINTER(_Variant)),
        ("count", ctypes.c_size_t),
        ("capacity", ctypes.c_size_t),
    ]


class _Parameters(ctypes.Structure):
    _fields_ = [
        ("names", ctypes.POINTER(ctypes.c_char_p)),
        ("nodes", ctypes.POINTER(_Node)),
        ("count", ctypes.c_size_t),
        ("capacity", ctypes.c_size_t),
        ("allocator", _Allocator),
    ]


_utils = ctypes.CDLL("librcutils.so")
_utils.rcutils_get_default_allocator.restype = _Allocator
_parser = ctypes.CDLL("librcl_yaml_param_parser.so")
_parser.rcl_yaml_node_struct_init.argtypes = [_Allocator]
_parser.rcl_yaml_node_struct_init.restype = ctypes.POINTER(_Parameters)
_parser.rcl_yaml_node_struct_fini.argtypes = [ctypes.POINTER(_Parameters)]
_parser.rcl_parse_yaml_file.argtypes = [ctypes.c_char_p, ctypes.POINTER(_Parameters)]
_parser.rcl_parse_yaml_file.restype = ctypes.c_bool
_parser.rcl_parse_yaml_value.argtypes = [ctypes.c_char_p] * 3 + [ctypes.POINTER(_Parameters)]
_parser.rcl_parse_yaml_value.restype = ctypes.c_bool


def read(file: Path) -> dict[str, dict[str, Any]]:
    """Section -> dotted name -> value; None for a name without one. Raises RefusedError."""
    return _parsed(lambda parameters: _parser.rcl_parse_yaml_file(str(file).encode(), parameters))


def read_value(text: str) -> Any:
    """What ``-p name:=text`` gives. Raises RefusedError."""
    return _parsed(lambda p: _parser.rcl_parse_yaml_value(b"node", b"name", text.encode(), p))["node"]["name"]


def _parsed(parse: Callable[[Any], bool]) -> dict[str, dict[str, Any]]:
    parameters = _parser.rcl_yaml_node_struct_init(_utils.rcutils_get_default_allocator())
    try:
        if not parse(parameters):
            _utils.rcutils_reset_error()
            raise RefusedError
        sections: dict[str, dict[str, Any]] = {}
        for i in range(parameters.contents.count):
            node = parameters.contents.nodes[i]
            section = sections.setdefault(parameters.contents.names[i].decode(), {})
            section.update({node.names[j].decode(): _value(node.values[j]) for j in range(node.count)})
        return sections
    finally:
        _parser.rcl_yaml_node_struct_fini(parameters)


def _value(variant: _Variant) -> Any:
    """As ``rclpy`` takes it: the first that is there, in this order."""
    for scalar in (variant.bool, variant.int, variant.double):
        if scalar:
            return scalar[0]
    if variant.text is not None:
        return variant.text.decode()
    arrays = ((variant.bools, ctypes.c_bool), (variant.ints, ctypes.c_int64), (variant.doubles, ctypes.c_double))
    for array, kind in arrays:
        if array:
            return ctypes.cast(array.contents.values, ctypes.POINTER(kind))[: array.contents.size]
    if variant.texts:
        return [variant.texts.contents.data[i].decode() for i in range(variant.texts.contents.size)]
    return None
