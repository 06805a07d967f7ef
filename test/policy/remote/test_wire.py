"""Bytes of messages: as openpi writes them, and never anything but data."""

from __future__ import annotations

import os
import random
from typing import Any

import msgspec
import numpy as np
import pytest
from policy.seen import observation

from stvla_ros.policy.remote import wire
from stvla_ros.policy.remote.messages import plain_keypose, plain_observation, read_answer, read_observation
from stvla_ros.policy.remote.wire import WireError
from stvla_ros.types import Keypose, Observation

FUZZ = int(os.environ.get("STVLA_FUZZ", 1_500))
"""100,000 before a release."""


@pytest.fixture(scope="module")
def seen() -> Observation:
    T = np.eye(4)
    T[:3, 3] = 0.4, 0.1, 0.3
    return observation(history=(Keypose(T, True, False, 5), Keypose(T, False, True, 6)))


def array(**change: Any) -> bytes:
    whole = {b"__ndarray__": True, b"data": b"\0" * 8, b"dtype": "<f4", b"shape": [2]}
    return msgspec.msgpack.encode({"a": whole | {name.encode(): value for name, value in change.items()}})


def test_arrays_are_maps_as_openpi_writes_them() -> None:
    found = msgspec.msgpack.decode(wire.pack({"a": np.array([[1, 2]], np.int16), "b": np.float32(0.5)}))
    assert found["a"] == {b"__ndarray__": True, b"data": b"\1\0\2\0", b"dtype": "<i2", b"shape": [1, 2]}
    assert found["b"] == {b"__npgeneric__": True, b"data": 0.5, b"dtype": "<f4"}


def test_what_is_packed_is_unpacked() -> None:
    sent = {
        "a": np.arange(6.0).reshape(2, 3),
        "b": [np.int8(3), "words", None, True],
        "c": {"d": np.zeros((0, 3), bool)},
    }
    got = wire.unpack(wire.pack(sent))
    np.testing.assert_array_equal(got["a"], sent["a"])
    assert (got["b"], got["c"]["d"].shape, got["c"]["d"].dtype) == ([3, "words", None, True], (0, 3), bool)


@pytest.mark.parametrize(
    ("raw", "sentence"),
    [
        ("text", "Wanted bytes, got text: text"),
        (b"\xc1", "Wanted MessagePack: "),
        (b"", "Wanted MessagePack: "),
        (b"\x91" * 100_000, "Wanted MessagePack: "),
        (b"\xdd\xff\xff\xff\xff", "Wanted MessagePack: "),  # a list of four thousand million items, of which none comes
        (array(dtype="O"), "An array: wanted a dtype of numbers, got 'O'."),
        (array(dtype="<c8"), "An array: wanted a dtype of numbers, got '<c8'."),
        (array(dtype="V8"), "An array: wanted a dtype of numbers, got 'V8'."),
        (array(dtype=5), "An array: wanted a dtype of numbers, got '5'."),
        (array(shape=[3]), "An array of float32, [3]: wanted 12 bytes, got 8 bytes."),
        (array(shape=[-2]), "An array: wanted a shape of at most 6 whole numbers, got [-2]."),
        (array(shape=[2**62, 2**62]), f"An array of float32, [{2**62}, {2**62}]: wanted {2**126} bytes, got 8 bytes."),
        (array(shape=[1] * 7), "An array: wanted a shape of at most 6 whole numbers, got [1, 1, 1, 1, 1, 1, 1]."),
        (array(data="text"), "An array of float32, [2]: wanted 8 bytes, got str."),
    ],
)  # fmt: skip
def test_what_is_no_message(raw: bytes | str, sentence: str) -> None:
    with pytest.raises(WireError) as error:
        wire.unpack(raw)
    assert str(error.value).startswith(sentence)


def test_what_is_no_data_cannot_be_sent() -> None:
    for thing in (np.array([object()]), object()):
        with pytest.raises(TypeError):
            wire.pack({"a": thing})


def test_an_observation_arrives_as_it_was(seen: Observation) -> None:
    sent = plain_observation(seen)
    got = plain_observation(read_observation(wire.unpack(wire.pack(sent))))
    assert sent.keys() == got.keys()
    for name, value in sent.items():
        if name == "history":
            for one, other in zip(value, got[name], strict=True):
                np.testing.assert_equal(one, other)
        else:
            np.testing.assert_equal(got[name], value, name)


BROKEN: dict[str, tuple[Any, str]] = {
    "observation/rgb": (np.zeros((4, 4), np.uint8), "wanted an array (any, any, 3), got (4, 4)."),
    "observation/depth_m": (np.zeros((3, 3), np.float32), "wanted an array (240, 320), got (3, 3)."),
    "observation/K": (np.zeros((3, 3), complex), "wanted float64, got complex128."),
    "observation/T_base_camera": (np.zeros((4, 4)), "wanted a rigid transform."),
    "state/T_base_tcp": (np.diag([1.0, 1.0, -1.0, 1.0]), "wanted a rigid transform."),
    "state/gripper_m": (float("nan"), "wanted a finite number, got nan."),
    "state/stamp_ns": (1.5, "wanted a whole number, got 1.5."),
    "state/q_rad": ([0] * 7, "wanted an array (7), got list."),
    "observation/path_m": (np.zeros((10_001, 3), np.float32), "wanted at most 10000 points, got 10001."),
    "observation/path_source": (np.zeros(3, np.uint8), "wanted an array ("),
    "observation/mode": ("fill", "Guidance.mode: wanted one of "),
    "prompt": ("a" * 2001, "wanted text of at most 2000 characters, got "),
    "history": ([{}] * 4, "wanted a list of at most 3, got "),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_wrong_field_is_named(seen: Observation, name: str) -> None:
    value, sentence = BROKEN[name]
    with pytest.raises(WireError) as error:
        read_observation({**plain_observation(seen), name: value})
    said = str(error.value)
    assert said.startswith(sentence if sentence.startswith("Guidance") else f"{name}: {sentence}")


def test_every_field_is_needed(seen: Observation) -> None:
    whole = plain_observation(seen)
    for name in whole:
        with pytest.raises(WireError, match=f"^{name}: is missing.$"):
            read_observation({key: value for key, value in whole.items() if key != name})
    with pytest.raises(WireError, match="Wanted a map of fields, got list"):
        read_observation([])


def test_an_answer_that_is_none() -> None:
    keypose = plain_keypose(Keypose(np.eye(4), True))
    for answer, sentence in (
        ({}, "keypose: is missing."),
        ({"keypose": {**keypose, "gripper_open": 1}}, "gripper_open: wanted true or false, got 1."),
        ({"keypose": {**keypose, "T_base_tcp": np.full((4, 4), np.nan)}}, "T_base_tcp: wanted a rigid transform."),
        ({"error": {"code": "CANCELED", "sentence": "No."}}, "error: wanted an outcome of a policy and a sentence"),
        ({"error": {"code": "NO_DEPTH", "sentence": "\x1b[2J"}}, "error: wanted an outcome of a policy and a sentence"),
    ):
        with pytest.raises(WireError) as error:
            read_answer(answer)
        assert str(error.value).startswith(sentence)


def test_damaged_messages_are_refused_or_are_observations(seen: Observation) -> None:
    """A real message with bytes changed, cut or put in: an observation, or one sentence; nothing else."""
    rng, whole = random.Random(20261130), wire.pack(plain_observation(seen))
    head, refused, longest = 3000, 0, 0  # of the 540 kB most are pixels
    for _ in range(FUZZ):
        raw = bytearray(whole)
        for _ in range(rng.randint(1, 4)):
            at = rng.choice((rng.randrange(head), len(raw) - 1 - rng.randrange(head)))
            action = rng.randrange(3)
            if action == 0:
                raw[at] = rng.randrange(256)
            elif action == 1:
                del raw[at : at + rng.randint(1, 9)]
            else:
                raw[at:at] = rng.randbytes(rng.randint(1, 9))
        try:
            read_observation(wire.unpack(bytes(raw)))
        except WireError as error:
            refused, longest = refused + 1, max(longest, len(str(error)))
    assert longest < 1000
    assert 0.2 * FUZZ < refused < FUZZ
