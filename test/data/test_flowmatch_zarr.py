"""Groups in the format of 3D FlowMatch Actor, version 2 of zarr, made here with its arrays and chunks."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from numcodecs import Blosc

from stvla_ros.data.flowmatch_zarr import TASKS, FlowmatchZarr, unproject
from stvla_ros.data.keypose_sample import DatasetError

N, CAMERAS, H, W = 3, 2, 12, 16
K = np.array([[-20.0, 0, 8], [0, -20.0, 6], [0, 0, 1]])
CODEC = Blosc("lz4", 1, Blosc.SHUFFLE)


def poses(rng: np.random.Generator, *shape: int) -> np.ndarray:
    rows = rng.normal(size=(*shape, 8)).astype(np.float32)
    rows[..., 3:7] /= np.linalg.norm(rows[..., 3:7], axis=-1, keepdims=True)
    return rows


def arrays(hands: int = 1, depth: bool = False) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    content: dict[str, np.ndarray] = {
        "rgb": rng.integers(1, 256, (N, CAMERAS, 3, H, W), dtype=np.uint8),
        "proprioception": poses(rng, N, 3, hands),
        "action": poses(rng, N, 1, hands),
        "task_id": np.array([0, 1, 7], np.uint8),
        "variation": np.array([0, 4, 5], np.uint8),
    }
    if depth:
        T = np.broadcast_to(np.eye(4), (N, CAMERAS, 4, 4)).copy()
        T[..., :3, 3] = (0.5, 0.0, 1.5)
        content["depth"] = rng.uniform(0.5, 2.0, (N, CAMERAS, H, W)).astype(np.float16)
        content["extrinsics"] = T.astype(np.float16)
        content["intrinsics"] = np.broadcast_to(K, (N, CAMERAS, 3, 3)).astype(np.float16)
    else:
        content["pcd"] = rng.normal(size=(N, CAMERAS, 3, H, W)).astype(np.float16)
    return content


def write(folder: Path, content: dict[str, Any]) -> Path:
    group = zarr.open_group(str(folder), mode="w", zarr_format=2)
    for name, values in content.items():
        array = group.create_array(
            name, shape=values.shape, chunks=(1, *values.shape[1:]), dtype=values.dtype, compressors=CODEC
        )
        array[:] = values
    return folder


@pytest.mark.parametrize("hands", [1, 2])
def test_points(tmp_path: Path, hands: int) -> None:
    content = arrays(hands)
    data = FlowmatchZarr(write(tmp_path / "train.zarr", content))
    assert (tmp_path / "train.zarr" / ".zgroup").is_file()
    assert len(data) == N
    assert [(s.task, s.variation) for s in data] == [(TASKS[0], 0), (TASKS[1], 4), (TASKS[7], 5)]
    sample = data[-1]
    np.testing.assert_array_equal(sample.rgb, np.moveaxis(content["rgb"][2], 1, -1))
    np.testing.assert_array_equal(sample.xyz_m, np.moveaxis(content["pcd"][2], 1, -1).astype(np.float32))
    np.testing.assert_array_equal(sample.proprio, content["proprioception"][2])
    np.testing.assert_array_equal(sample.action, content["action"][2, 0])
    assert sample.action.shape == (hands, 8)
    assert len(data[1:]) == 2
    with pytest.raises(IndexError):
        data[N]


def test_depth_becomes_points(tmp_path: Path) -> None:
    content = arrays(2, depth=True)
    data = FlowmatchZarr(write(tmp_path / "g", content), ("close_jar", "push_buttons"))
    sample = data[1]
    assert [(s.task, s.variation) for s in data] == [("close_jar", 0), ("push_buttons", 4), ("7", 5)]
    depth = content["depth"][1, 1, 3, 5].astype(np.float64)
    expected = np.array([(5 - 8) / -20.0 * depth + 0.5, (3 - 6) / -20.0 * depth, depth + 1.5])
    np.testing.assert_allclose(sample.xyz_m[1, 3, 5], expected, atol=1e-6)
    assert sample.xyz_m.shape == (CAMERAS, H, W, 3)


def test_unproject_inverts_the_projection() -> None:
    """Through K [R|t] as a whole, the way the data's own renderer thinks of it."""
    rng = np.random.default_rng(2)
    q, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    T = np.eye(4)
    T[:3, :3], T[:3, 3] = q * np.linalg.det(q), (0.3, -0.2, 1.1)
    depth = rng.uniform(0.5, 2.0, (1, H, W))
    points = unproject(depth, T[None], K[None])[0]
    seen = np.einsum("ij,hwj->hwi", K @ np.linalg.inv(T)[:3], np.concatenate([points, np.ones((H, W, 1))], -1))
    v, u = np.mgrid[:H, :W]
    np.testing.assert_allclose(seen[..., 2], depth[0], atol=1e-5)
    np.testing.assert_allclose(seen[..., 0] / seen[..., 2], u, atol=1e-3)
    np.testing.assert_allclose(seen[..., 1] / seen[..., 2], v, atol=1e-3)


@pytest.mark.parametrize(
    ("name", "values", "words"),
    [
        ("rgb", np.ones((N, CAMERAS, 4, H, W), np.uint8), "rgb: wanted uint8"),
        ("rgb", np.ones((N, CAMERAS, 3, H, W), np.float32), "found float32"),
        ("action", np.ones((N, 20, 1, 8), np.float32), r"action: .*found float32 \(3, 20, 1, 8\)"),
        ("pcd", np.ones((N, CAMERAS, 3, H, W + 1), np.float16), "pcd: wanted .* as rgb and action have it"),
        ("proprioception", np.ones((N, 3, 2, 8), np.float32), "proprioception: wanted"),
        ("variation", np.ones(N + 1, np.uint8), r"variation: wanted \(3,\)"),
        ("pcd", None, "wanted arrays depth, extrinsics, intrinsics, found action"),
        ("action", None, "wanted arrays action"),
    ],
)
def test_other_arrays_are_refused(tmp_path: Path, name: str, values: Any, words: str) -> None:
    content = arrays()
    content = {**content, name: values} if values is not None else {n: v for n, v in content.items() if n != name}
    with pytest.raises(DatasetError, match=words):
        FlowmatchZarr(write(tmp_path / "g", content))


def test_poses_are_checked(tmp_path: Path) -> None:
    content = arrays()
    content["action"][0, 0, 0, 3:7] = 0.5, 0.5, 0.5, 0.0
    content["proprioception"][1, 0, 0, 0] = np.inf
    data = FlowmatchZarr(write(tmp_path / "g", content))
    with pytest.raises(DatasetError, match=r"action 0: wanted quaternions of length 1, found 0.866"):
        data[0]
    with pytest.raises(DatasetError, match="proprioception 1: wanted finite"):
        data[1]
    singular = arrays(depth=True)
    singular["intrinsics"][0, 0] = 0
    with pytest.raises(DatasetError, match="an inverse"):
        FlowmatchZarr(write(tmp_path / "h", singular))[0]


def test_lost_and_damaged_chunks(tmp_path: Path) -> None:
    folder = write(tmp_path / "g", arrays())
    chunk = folder / "pcd" / "1.0.0.0.0"
    whole = chunk.read_bytes()
    chunk.write_bytes(whole[: len(whole) // 2])
    data = FlowmatchZarr(folder)
    with pytest.raises(DatasetError, match="pcd 1 is damaged"):
        data[1]
    assert data[0].task == TASKS[0]
    chunk.unlink()
    with pytest.raises(DatasetError, match="pcd: found 2 of 3 chunks"):
        FlowmatchZarr(folder)


def test_colours_of_another_range(tmp_path: Path) -> None:
    """Whole numbers made of 0 to 1 look like a night; floats are told by their type."""
    content = arrays()
    content["rgb"] = (content["rgb"] / 255.0).astype(np.uint8)
    data = FlowmatchZarr(write(tmp_path / "a", content))
    with pytest.raises(DatasetError, match="rgb 0: wanted colours from 0 to 255, found only 0 and 1"):
        data[0]
    content["rgb"] = (arrays()["rgb"] / 255.0).astype(np.float32)
    with pytest.raises(DatasetError, match=r"rgb: wanted uint8 .* found float32 .*: colours are 0 to 255 here"):
        FlowmatchZarr(write(tmp_path / "b", content))


def test_no_group(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="wanted a zarr group of version 2"):
        FlowmatchZarr(tmp_path / "nowhere")
    (tmp_path / "file").write_text("x")
    with pytest.raises(DatasetError, match="text, not a zarr group"):
        FlowmatchZarr(tmp_path / "file")
    zarr.open_group(str(tmp_path / "new"), mode="w", zarr_format=3)
    with pytest.raises(DatasetError, match="wanted a zarr group of version 2"):
        FlowmatchZarr(tmp_path / "new")
    folder = write(tmp_path / "g", arrays())
    (folder / "rgb" / ".zarray").write_text("{")
    with pytest.raises(DatasetError):
        FlowmatchZarr(folder)
    shutil.rmtree(folder / "rgb")
    with pytest.raises(DatasetError, match="wanted arrays rgb"):
        FlowmatchZarr(folder)
