"""NumPy arrays in pickles, without calling NumPy: replacements for the names under which arrays and dtypes are pickled.

Readers of pickles (``data/safe_pickle.py``, ``policy/checkpoint/torch_file.py``) use :data:`STAND_INS` instead of those
names. Each checks shapes and sizes and makes plain arrays of numbers or text, so nothing that a file names is ever
called.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

MAX_BYTES = 1 << 30
"""Limit of one array."""

PLAIN = "fiubcUS"
"""First letters of dtypes that contain their values: numbers, flags, text."""

NDARRAY = "numpy.ndarray"


class PickleError(ValueError):
    """The pickle holds more than plain values, arrays and tensors, or is damaged; the message says what is wrong."""


class Dtype:
    """Replaces ``numpy.dtype``, for plain numbers and text."""

    def __init__(self, code: Any, *_: Any) -> None:
        if not isinstance(code, str) or code[:1] not in tuple(PLAIN) or not code[1:].isdigit():
            raise PickleError(f"wanted arrays of numbers, found dtype {code!r}")
        self.numpy = np.dtype(code)

    def __setstate__(self, state: Any) -> None:
        """``(version, byte order, no fields...)``."""
        order = state[1]
        if order not in ("<", ">", "|", "=") or any(part is not None for part in state[2:5]):
            raise PickleError("wanted arrays of plain numbers, found a dtype with fields")
        self.numpy = self.numpy.newbyteorder(order) if order in "<>" else self.numpy


class StoredArray:
    """A NumPy array in a pickle, which is created empty and filled later: see :func:`plain`."""

    array: npt.NDArray[Any] | None = None

    def __setstate__(self, state: Any) -> None:
        """``(version, shape, dtype, in Fortran's order, bytes)``."""
        _, shape, dtype, fortran, data = state
        self.array = filled(data, dtype, shape, "F" if fortran else "C")


def plain(value: Any) -> Any:
    """A value of a pickle with real arrays and dtypes instead of their replacements, also in dicts, lists and tuples.

    Raises:
        PickleError: An array was never filled.
    """
    if isinstance(value, StoredArray):
        if value.array is None:
            raise PickleError("found an array without its values")
        return value.array
    if isinstance(value, Dtype):
        return value.numpy
    if type(value) in (list, tuple):
        return type(value)(map(plain, value))
    if isinstance(value, dict):
        for name, entry in value.items():
            value[name] = plain(entry)
    return value


def filled(data: Any, dtype: Any, shape: Any, order: Any) -> npt.NDArray[Any]:
    """An array of this machine's byte order from its bytes.

    Raises:
        PickleError: Shape, dtype and bytes do not match.
    """
    if not isinstance(dtype, Dtype) or not isinstance(data, bytes):
        raise PickleError("wanted an array's dtype and bytes, found something else")
    sizes = check_shape(shape)
    if math.prod(sizes) * dtype.numpy.itemsize != len(data):
        raise PickleError(f"an array of shape {sizes} and dtype {dtype.numpy} with {len(data)} bytes")
    array: npt.NDArray[Any] = np.frombuffer(data, dtype.numpy).reshape(sizes, order=order)
    return array.astype(dtype.numpy.newbyteorder("="))


def check_shape(shape: Any) -> tuple[int, ...]:
    """The given shape. Raises PickleError if it is invalid."""
    if not isinstance(shape, tuple) or not all(isinstance(n, int) and 0 <= n <= MAX_BYTES for n in shape):
        raise PickleError(f"wanted the shape of an array, found {shape!r}")
    return shape


def _reconstruct(kind: Any, shape: Any, _: Any) -> StoredArray:
    """``numpy.core.multiarray._reconstruct``: an empty array that is filled later."""
    if kind != NDARRAY or shape != (0,):
        raise PickleError(f"wanted an empty array to fill, found one of shape {shape!r}")
    return StoredArray()


def _frombuffer(data: Any, dtype: Any, shape: Any, order: Any) -> npt.NDArray[Any]:
    """``numpy.core.numeric._frombuffer`` (pickle protocol 5)."""
    return filled(bytes(data), dtype, shape, "F" if order == "F" else "C")


def _scalar(dtype: Any, data: Any) -> Any:
    """``numpy.core.multiarray.scalar``, as a Python number or text."""
    return filled(data, dtype, (), "C").item()


_HERE: dict[str, Callable[..., Any] | str] = {
    "numpy.ndarray": NDARRAY,
    "numpy.dtype": Dtype,
    "numpy._core.multiarray._reconstruct": _reconstruct,
    "numpy._core.multiarray.scalar": _scalar,
    "numpy._core.numeric._frombuffer": _frombuffer,
}

STAND_INS: Mapping[str, Callable[..., Any] | str] = MappingProxyType(
    _HERE | {name.replace("numpy._core", "numpy.core"): stand_in for name, stand_in in _HERE.items()}
)
"""Full name in a pickle, as written by NumPy 2 and NumPy 1 -> its replacement here."""
