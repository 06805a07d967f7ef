"""Arrays and tensors come through exactly; whatever else a pickle wants is refused by name and never done."""

from __future__ import annotations

import collections
import os
import pickle
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from stvla_ros.data import safe_pickle
from stvla_ros.data.safe_pickle import PickleError, array_of, loads


class Call:
    """Pickles as a call."""

    def __init__(self, function: Any, *arguments: Any, state: Any = None) -> None:
        self.call = (function, arguments) if state is None else (function, arguments, state)

    def __reduce__(self) -> Any:
        return self.call


@pytest.mark.parametrize("protocol", range(2, 6))
@pytest.mark.parametrize(
    "array",
    [
        np.arange(24, dtype=np.float32).reshape(2, 3, 4),
        np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        np.arange(5, dtype=">i4"),
        np.zeros((0, 8), np.float16),
        np.array([True, False]),
        np.array(7, np.uint8),
        np.array(["words", "two"]),
        np.array([1j], np.complex64),
    ],
    ids=lambda a: f"{a.dtype}{a.shape}",
)
def test_arrays(protocol: int, array: np.ndarray) -> None:
    found = array_of(loads(pickle.dumps({"a": [array]}, protocol=protocol))["a"][0])
    np.testing.assert_array_equal(found, array)
    assert found.dtype == array.dtype.newbyteorder("=")


def test_names_of_numpy_1() -> None:
    data = pickle.dumps(np.arange(3.0), protocol=4).replace(b"\x8c\x16numpy._core", b"\x8c\x15numpy.core")
    assert b"numpy.core.multiarray" in data
    data = data[:3] + struct.pack("<Q", struct.unpack("<Q", data[3:11])[0] - 1) + data[11:]
    np.testing.assert_array_equal(array_of(loads(data)), np.arange(3.0))


@pytest.mark.parametrize("protocol", range(2, 6))
@pytest.mark.parametrize(
    "tensor",
    [
        torch.arange(8.0).reshape(1, 8),
        torch.arange(12.0).reshape(3, 4).T,
        torch.arange(12.0)[3:5],
        torch.zeros(0, 8),
        torch.tensor(3),
        torch.ones(2, dtype=torch.bfloat16),
    ],
    ids=lambda t: f"{t.dtype}{tuple(t.shape)}",
)
def test_tensors(protocol: int, tensor: torch.Tensor) -> None:
    found = array_of(loads(pickle.dumps([tensor], protocol=protocol))[0])
    np.testing.assert_array_equal(found, tensor.float().numpy() if tensor.dtype == torch.bfloat16 else tensor.numpy())


def test_plain_values() -> None:
    value = [
        0,
        1,
        {"front": (3, 4)},
        "words",
        None,
        collections.OrderedDict(a=1),
        np.int64(5),
        np.float32(0.5),
        np.str_("a"),
    ]
    assert loads(pickle.dumps(value)) == value


@pytest.mark.parametrize(
    ("hostile", "name"),
    [
        (Call(os.system, "touch PROOF"), r"posix\.system"),
        (Call(eval, "open('PROOF', 'w')"), r"_?_?builtin.*\.eval"),
        (Call(open, "PROOF", "w"), r"_?io\.open"),
        (Call(getattr, "a", "b"), r"_?_?builtin.*\.getattr"),
        (Path("x"), r"pathlib"),
        (np.random.default_rng(0), r"numpy\.random"),
        (torch.nn.Linear(1, 1), r"torch\.nn"),
        (np.array([1, "a"], dtype=object), "dtype 'O8'"),
        (np.zeros(2, [("a", "f4")]), "dtype 'V4'"),
        (np.array(["2026-11-28"], dtype="datetime64[D]"), "dtype 'M8'"),
    ],
    ids=lambda value: None if isinstance(value, str) else type(value).__name__,
)
def test_hostile_pickles_are_refused_by_name(
    hostile: Any, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for protocol in range(2, 5):
        with pytest.raises(PickleError, match=name):
            loads(pickle.dumps([hostile], protocol=protocol))
    assert list(tmp_path.iterdir()) == []


def test_tensors_hide_nothing() -> None:
    """What lies in a tensor's bytes is read by PyTorch's restricted reader."""
    inner = Call(torch.storage._load_from_bytes, pickle.dumps(Call(os.system, "touch PROOF")))
    with pytest.raises(PickleError):
        loads(pickle.dumps(inner))


pytestmark = pytest.mark.filterwarnings("ignore:TypedStorage", "ignore:Detected pickle protocol")

REBUILD = torch._utils._rebuild_tensor_v2
STORAGE = torch.storage.TypedStorage(
    wrap_storage=torch.arange(4.0).untyped_storage(), dtype=torch.float32, _internal=True
)


@pytest.mark.parametrize(
    ("hostile", "words"),
    [
        (Call(REBUILD, STORAGE, 0, (5,), (1,), False, {}), "does not fit its 4 numbers"),
        (Call(REBUILD, STORAGE, 2, (3,), (1,), False, {}), "does not fit"),
        (Call(REBUILD, STORAGE, -1, (3,), (1,), False, {}), "found something else"),
        (Call(REBUILD, STORAGE, 0, (2,), (-1,), False, {}), "shape of an array"),
        (Call(REBUILD, STORAGE, 0, (1 << 29, 4), (0, 1), False, {}), "does not fit"),
        (Call(REBUILD, b"no storage", 0, (2,), (1,), False, {}), "found something else"),
        (Call(np._core.multiarray._reconstruct, np.ndarray, (1 << 40,), b"b"), "empty array to fill"),
        (Call(np.ndarray, (1 << 40,)), "not callable"),
    ],
)
def test_arrays_that_do_not_fit_their_bytes(hostile: Any, words: str) -> None:
    with pytest.raises(PickleError, match=words):
        loads(pickle.dumps(hostile))


def test_an_array_that_never_got_its_numbers() -> None:
    with pytest.raises(PickleError, match="wanted an array, found StoredArray"):
        array_of(loads(pickle.dumps(Call(np._core.multiarray._reconstruct, np.ndarray, (0,), b"b"))))


def test_the_reader_cannot_be_changed() -> None:
    """BUILD sets attributes of whatever lies on the stack."""
    code = b"\x80\x02cnumpy\ndtype\n(NX\x04\x00\x00\x00testK\x01s\x86b."
    for attack in (b"\x80\x02cnumpy\ndtype\nN}X\x09\x00\x00\x00_functionK\x01s\x86b.", code):
        with pytest.raises(PickleError):
            loads(attack)
    assert loads(pickle.dumps(np.float64(2.0))) == 2.0


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"no pickle",
        b"\x80\x02r\xff\xff\xff\xff.",
        b"\x80\x02]r\xff\xff\xff\x7f.",
        b"\x80\x04\x8e\xff\xff\xff\xff\xff\x00\x00\x00x.",
        b"\x80\x02\x88Q.",
    ],
)
def test_damaged_pickles(data: bytes) -> None:
    with pytest.raises(PickleError):
        loads(data)


def test_every_truncation_is_an_error() -> None:
    data = pickle.dumps([np.arange(3.0), torch.arange(2.0)])
    for end in range(len(data)):
        with pytest.raises(PickleError):
            loads(data[:end])


def test_random_damage_is_an_error_or_a_value() -> None:
    data, rng = pickle.dumps([np.arange(3.0), torch.arange(2.0), {"a": (1, 2)}]), np.random.default_rng(0)
    refused = 0
    for _ in range(2000):
        damaged = bytearray(data)
        damaged[rng.integers(len(data))] = rng.integers(256)
        try:
            loads(bytes(damaged))
        except PickleError:
            refused += 1
    assert refused > 500
    assert safe_pickle.loads(data)[2] == {"a": (1, 2)}
