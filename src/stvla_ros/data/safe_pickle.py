"""Reads pickles of arrays and tensors safely: nothing that a file names is ever called.

The few names that arrays need are replaced by functions of this module, which check shapes and sizes and make plain
NumPy arrays. Any other name is refused, so a hostile file can do nothing.
"""

from __future__ import annotations

import io
import math
import pickle
import pickletools
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from stvla_ros.files import said
from stvla_ros.pickled_arrays import MAX_BYTES, STAND_INS, PickleError, StoredArray, check_shape

__all__ = ["PickleError", "StoredArray", "array_of", "loads"]


def loads(data: bytes) -> Any:
    """Plain values, lists, tuples and dicts. Tensors become NumPy arrays; arrays are taken out by :func:`array_of`.

    Raises:
        PickleError: The pickle is damaged, names something else, or has an array that does not fit its bytes.
    """
    try:
        _check_memo(data)
        return _Unpickler(io.BytesIO(data)).load()
    except PickleError:
        raise
    except Exception as error:  # damaged pickles raise nearly anything
        raise PickleError(f"a damaged pickle ({type(error).__name__}: {said(error)})") from error


def array_of(value: Any) -> npt.NDArray[Any]:
    """The array behind a value of :func:`loads`.

    Raises:
        PickleError: The value is no array.
    """
    array = value.array if isinstance(value, StoredArray) else value
    if not isinstance(array, np.ndarray):
        raise PickleError(f"wanted an array, found {type(value).__name__}")
    return array


def _check_memo(data: bytes) -> None:
    """Check that memo numbers are consecutive: a single huge one would make the reader allocate that much memory."""
    for count, (code, number, _) in enumerate(pickletools.genops(data)):
        if code.name in ("PUT", "BINPUT", "LONG_BINPUT") and isinstance(number, int) and number > count:
            raise PickleError(f"value number {number} after {count} operations: it may be hostile")


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        known = _NAMES.get(f"{module}.{name}")
        if known is None:
            raise PickleError(
                f"the pickle names {module}.{name}, which arrays and tensors do not need: it may be hostile"
            )
        return known


class _StandIn:
    """A function that a pickle may call but not change."""

    __slots__ = ("_function",)
    _function: Callable[..., Any]

    def __init__(self, function: Callable[..., Any]) -> None:
        object.__setattr__(self, "_function", function)

    def __call__(self, *arguments: Any) -> Any:
        return self._function(*arguments)

    def __setattr__(self, name: str, value: Any) -> None:
        raise PickleError(f"the pickle changes {name} of a function: it may be hostile")

    def __setstate__(self, state: Any) -> None:
        raise PickleError("the pickle changes a function: it may be hostile")


def _encode(text: Any, coding: Any) -> bytes:
    """``_codecs.encode``: how protocol 2 writes bytes."""
    if coding != "latin1" or not isinstance(text, str):
        raise PickleError(f"wanted bytes as latin1 text, found {coding!r}")
    return text.encode("latin1")


def _no_bytes() -> bytes:
    """How protocol 2 writes no bytes."""
    return b""


def _storage(data: Any) -> npt.NDArray[Any]:
    """``torch.storage._load_from_bytes``: the numbers of a tensor, by PyTorch's own restricted reader."""
    import torch

    if not isinstance(data, bytes):
        raise PickleError("wanted a tensor's bytes, found something else")
    try:
        stored = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except Exception as error:  # damaged files raise nearly anything; PyTorch's words are a page
        raise PickleError(f"a tensor in it is damaged, or more than numbers ({type(error).__name__})") from error
    if not isinstance(stored, torch.storage.TypedStorage):
        raise PickleError(f"wanted the storage of a tensor, found {type(stored).__name__}")
    flat = torch.empty(0, dtype=stored.dtype).set_(stored._untyped_storage)
    numbers: npt.NDArray[Any] = (flat.float() if flat.dtype == torch.bfloat16 else flat).numpy()
    return numbers


def _tensor(storage: Any, offset: Any, shape: Any, strides: Any, *_: Any) -> npt.NDArray[Any]:
    """``torch._utils._rebuild_tensor_v2``, with a look at the bounds that PyTorch leaves out."""
    sizes, steps = check_shape(shape), check_shape(strides)
    if not isinstance(storage, np.ndarray) or not isinstance(offset, int) or len(sizes) != len(steps) or offset < 0:
        raise PickleError("wanted the storage, offset, size and stride of a tensor, found something else")
    if 0 in sizes:
        return np.zeros(sizes, storage.dtype)
    end = offset + 1 + sum((size - 1) * step for size, step in zip(sizes, steps, strict=True))
    if end > storage.size or math.prod(sizes) * storage.itemsize > MAX_BYTES:
        raise PickleError(f"a tensor of shape {sizes} that does not fit its {storage.size} numbers")
    byte_steps = [step * storage.itemsize for step in steps]
    return np.lib.stride_tricks.as_strided(storage.ravel()[offset:], sizes, byte_steps).copy()


_NAMES: dict[str, _StandIn | str] = {
    **{name: s if isinstance(s, str) else _StandIn(s) for name, s in STAND_INS.items()},
    "_codecs.encode": _StandIn(_encode),
    "__builtin__.bytes": _StandIn(_no_bytes),
    "torch._utils._rebuild_tensor_v2": _StandIn(_tensor),
    "torch.storage._load_from_bytes": _StandIn(_storage),
    "collections.OrderedDict": _StandIn(OrderedDict),
}
"""Name in a pickle of arrays or tensors -> its replacement here."""
