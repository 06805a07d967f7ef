"""Messages with arrays as bytes: MessagePack, arrays as maps, as openpi's ``msgpack_numpy`` writes them.

An array is ``{b"__ndarray__": True, b"data": bytes, b"dtype": "<f4", b"shape": [2, 3]}``, a NumPy scalar
``{b"__npgeneric__": True, b"data": value, b"dtype": "<f4"}`` (github.com/Physical-Intelligence/openpi,
packages/openpi-client). Nothing on this wire can be code: no pickle, no arrays of objects.
"""

from __future__ import annotations

import math
from typing import Any

import msgspec
import numpy as np

MAX_DIMENSIONS = 6
KINDS = "biuf"
"""Of ``numpy.dtype.kind``: truth values, whole numbers, real numbers."""


class WireError(ValueError):
    """Bytes that are no message, or a message that lacks what it must have: a sentence."""


def pack(message: Any) -> bytes:
    """Bytes of nested dicts, lists, text, numbers and arrays."""
    return _ENCODER.encode(message)


def unpack(raw: bytes | str) -> Any:
    """The message in received bytes. Arrays are read-only views of them.

    Raises:
        WireError: It is none.
    """
    if isinstance(raw, str):
        raise WireError(f"Wanted bytes, got text: {raw[:200]}")
    try:
        return _with_arrays(msgspec.msgpack.decode(raw))
    except (msgspec.MsgspecError, RecursionError, UnicodeError, TypeError) as error:
        raise WireError(f"Wanted MessagePack: {str(error)[:200]}") from error


def _plain(value: Any) -> Any:
    """For what MessagePack has no type."""
    if isinstance(value, np.ndarray):
        if value.dtype.kind not in KINDS:
            raise TypeError(f"an array of {value.dtype} cannot be sent")
        return {b"__ndarray__": True, b"data": value.tobytes(), b"dtype": value.dtype.str, b"shape": value.shape}
    if isinstance(value, np.generic):
        return {b"__npgeneric__": True, b"data": value.item(), b"dtype": value.dtype.str}
    raise TypeError(f"a {type(value).__name__} cannot be sent")


_ENCODER = msgspec.msgpack.Encoder(enc_hook=_plain)


def _with_arrays(value: Any) -> Any:
    if isinstance(value, list):
        return [_with_arrays(item) for item in value]
    if not isinstance(value, dict):
        return value
    keys = {key.decode(errors="replace") if isinstance(key, bytes) else key: item for key, item in value.items()}
    if "__ndarray__" in keys:
        return _array(keys)
    if "__npgeneric__" in keys:
        item, dtype = keys.get("data"), _dtype(keys)
        if not isinstance(item, bool | int | float):
            raise WireError("A NumPy scalar: wanted a number as data.")
        try:
            return dtype.type(item)
        except (OverflowError, ValueError) as error:
            raise WireError(f"A NumPy scalar of {dtype}: {error}") from error
    return {key: _with_arrays(item) for key, item in keys.items()}


def _dtype(fields: dict[Any, Any]) -> np.dtype[Any]:
    name = fields.get("dtype")
    try:
        dtype = np.dtype(name) if isinstance(name, str) and len(name) < 8 else None
    except (TypeError, ValueError, SyntaxError):
        dtype = None
    if dtype is None or dtype.kind not in KINDS:
        raise WireError(f"An array: wanted a dtype of numbers, got {str(name)[:40]!r}.")
    return dtype


def _array(fields: dict[Any, Any]) -> np.ndarray[Any, Any]:
    dtype, data, shape = _dtype(fields), fields.get("data"), fields.get("shape")
    sides = shape if isinstance(shape, list) and len(shape) <= MAX_DIMENSIONS else [None]
    if not all(type(side) is int and side >= 0 for side in sides):
        raise WireError(f"An array: wanted a shape of at most {MAX_DIMENSIONS} whole numbers, got {str(shape)[:40]}.")
    size = math.prod(sides) * dtype.itemsize
    if not isinstance(data, bytes) or len(data) != size:
        found = f"{len(data)} bytes" if isinstance(data, bytes) else type(data).__name__
        raise WireError(f"An array of {dtype}, {shape}: wanted {size} bytes, got {found}.")
    return np.frombuffer(data, dtype).reshape(sides)
