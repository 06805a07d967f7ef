"""Files in the format of 3D Diffuser Actor, made here the way its packaging script makes them."""

from __future__ import annotations

import contextlib
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numcodecs import blosc

from stvla_ros.data.keypose_sample import DatasetError
from stvla_ros.data.peract_dat import read_dat

K, CAMERAS, SIZE = 4, 2, 16


def poses(n: int, start: float = 0.0) -> list[torch.Tensor]:
    rows = torch.zeros(n, 1, 8)
    rows[:, 0, 0] = start + torch.arange(n)
    rows[:, 0, 6] = 1.0
    rows[::2, 0, 7] = 1.0
    return list(rows)


def episode(rng: np.random.Generator) -> tuple[list[Any], np.ndarray, np.ndarray]:
    rgb = rng.integers(0, 256, (K, CAMERAS, 3, SIZE, SIZE), dtype=np.uint8)
    xyz = rng.normal(size=rgb.shape).astype(np.float32)
    colour = (rgb / 255.0 * 2.0 - 1.0).astype(np.float32)
    attention = [{"front": (3, 4), "wrist": (5, 6)} for _ in range(K + 1)]
    content = [
        list(range(K)),
        np.stack([colour, xyz], axis=2),
        poses(K, 10.0),
        attention,
        poses(K),
        [torch.zeros(5, 8)] * K,
    ]
    return content, rgb, xyz


def pack(path: Path, content: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(blosc.compress(pickle.dumps(content), b"blosclz", 9, 1))
    return path


@pytest.fixture
def content() -> list[Any]:
    return episode(np.random.default_rng(0))[0]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "train" / "close_jar+12" / "ep3.dat"


def test_round_trip(path: Path) -> None:
    content, rgb, xyz = episode(np.random.default_rng(0))
    samples = read_dat(pack(path, content))
    assert len(samples) == K
    np.testing.assert_array_equal(np.stack([s.rgb for s in samples]), np.moveaxis(rgb, 2, -1))
    np.testing.assert_array_equal(np.stack([s.xyz_m for s in samples]), np.moveaxis(xyz, 2, -1))
    assert {(s.task, s.variation, s.cameras) for s in samples} == {("close_jar", 12, ("front", "wrist"))}
    assert [s.action[0, 0] for s in samples] == [10, 11, 12, 13]
    assert [s.proprio[:, 0, 0].tolist() for s in samples] == [[0, 0, 0], [0, 0, 1], [0, 1, 2], [1, 2, 3]]
    assert samples[0].proprio.shape == (3, 1, 8)


def test_a_hostile_file_does_nothing(path: Path, tmp_path: Path, content: list[Any]) -> None:
    class Hostile:
        def __reduce__(self) -> Any:
            return os.system, (f"touch {tmp_path}/PROOF",)

    content[5] = Hostile()
    with pytest.raises(DatasetError, match=r"ep3.dat: not an episode.*posix.system"):
        read_dat(pack(path, content))
    assert not (tmp_path / "PROOF").exists()


@pytest.mark.parametrize(
    ("scale", "shift", "words"),
    [
        (0.5, 0.5, "found 0 to 1: scale them from 0 to 1"),
        (127.5, 127.5, "found 0 to 255: scale them from 0 to 255"),
        (float("nan"), 0.0, "wanted colours from -1 to 1, found nan to nan"),
        (3.0, 0.0, r"wanted colours from -1 to 1, found -3 to 3\.$"),
    ],
)
def test_colours_of_another_range(scale: float, shift: float, words: str, path: Path, content: list[Any]) -> None:
    content[1][:, :, 0] = content[1][:, :, 0] * np.float32(scale) + np.float32(shift)
    with pytest.raises(DatasetError, match=words):
        read_dat(pack(path, content))


def test_truncated_and_other_files(path: Path, content: list[Any]) -> None:
    data = pack(path, content).read_bytes()
    for end in (0, 10, 16, 100, len(data) // 2, len(data) - 1):
        path.write_bytes(data[:end])
        with pytest.raises(DatasetError, match=r"too few for a Blosc frame|: truncated|the file is empty"):
            read_dat(path)
    path.write_bytes(b"PK\x03\x04 this is no Blosc frame at all")
    with pytest.raises(DatasetError, match=r"a zip archive, not a \.dat file: unpack it first"):
        read_dat(path)
    path.unlink()
    with pytest.raises(DatasetError, match="found nothing"):
        read_dat(path)


def test_damaged_inside(path: Path, content: list[Any]) -> None:
    data = pack(path, content).read_bytes()
    rng = np.random.default_rng(1)
    for _ in range(50):
        damaged = bytearray(data)
        damaged[int(rng.integers(16, len(data)))] ^= int(rng.integers(1, 256))
        path.write_bytes(damaged)
        with contextlib.suppress(DatasetError):
            assert len(read_dat(path)) == K  # a changed pixel


def test_a_bomb_is_not_unpacked(path: Path, content: list[Any]) -> None:
    data = bytearray(pack(path, content).read_bytes())
    data[4:8] = (0xFFFFFFF0).to_bytes(4, "little")
    path.write_bytes(data)
    with pytest.raises(DatasetError, match=r"4294967280 bytes when unpacked, more than"):
        read_dat(path)


def nan_pose() -> list[torch.Tensor]:
    rows = poses(K)
    rows[1][0, 2] = np.nan
    return rows


@pytest.mark.parametrize(
    ("part", "value", "words"),
    [
        (1, np.zeros((K, CAMERAS, 3, SIZE, SIZE), np.float32), "wanted .*images, found"),
        (1, np.zeros((K, CAMERAS, 2, 3, SIZE, SIZE), np.float64), "float64"),
        (1, np.full((K, CAMERAS, 2, 3, SIZE, SIZE), 255.0, np.float32), "colours from -1 to 1, found 255"),
        (1, None, "wanted an array, found NoneType"),
        (2, poses(K - 1), "wanted 4 keyposes, .*found 3"),
        (2, [torch.zeros(8)] * K, r"shape \(1, 8\), found \(8,\)"),
        (4, [1.0] * K, "wanted an array, found float"),
        (4, nan_pose(), "finite poses"),
        (4, [torch.zeros(1, 8)] * K, "quaternions of length 1, found 0"),
        (2, 5, "int"),
    ],
)
def test_other_parts_are_refused(path: Path, content: list[Any], part: int, value: Any, words: str) -> None:
    content[part] = value
    with pytest.raises(DatasetError, match=words):
        read_dat(pack(path, content))


def test_no_list(path: Path) -> None:
    with pytest.raises(DatasetError, match="wanted a list of 6 parts, found dict"):
        read_dat(pack(path, {}))


def test_the_folder_names_the_task(tmp_path: Path, content: list[Any]) -> None:
    with pytest.raises(DatasetError, match=r"wanted a folder named <task>\+<variation>, found 'elsewhere'"):
        read_dat(pack(tmp_path / "elsewhere" / "ep0.dat", content))
