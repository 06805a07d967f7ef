"""Datasets of 3D FlowMatch Actor (MIT licence): a zarr group, version 2, with one chunk per keypose.

::

    rgb             (N, ncam, 3, H, W) uint8
    pcd             (N, ncam, 3, H, W) float16, metres (PerAct), or instead (PerAct2, Hiveformer)
    depth           (N, ncam, H, W) float16, metres
    extrinsics      (N, ncam, 4, 4) float16, camera to world
    intrinsics      (N, ncam, 3, 3) float16; RLBench's focal lengths are negative
    proprioception  (N, 3, nhand, 8) float32: two keyposes ago, one ago, now
    action          (N, 1, nhand, 8) float32
    task_id, variation   (N,) uint8
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from stvla_ros.data.blosc_frame import HEADER_BYTES, check_frame
from stvla_ros.data.keypose_sample import DatasetError, KeyposeSample, check_poses
from stvla_ros.files import check_file, read_json, said
from stvla_ros.types import F32

ALWAYS: dict[str, tuple[str, tuple[int | None, ...]]] = {
    "rgb": ("uint8", (None, None, 3, None, None)),
    "proprioception": ("float32", (None, 3, None, 8)),
    "action": ("float32", (None, 1, None, 8)),
    "task_id": ("uint8", (None,)),
    "variation": ("uint8", (None,)),
}
POINTS: dict[str, tuple[str, tuple[int | None, ...]]] = {"pcd": ("float16", (None, None, 3, None, None))}
DEPTHS: dict[str, tuple[str, tuple[int | None, ...]]] = {
    "depth": ("float16", (None, None, None, None)),
    "extrinsics": ("float16", (None, None, 4, 4)),
    "intrinsics": ("float16", (None, None, 3, 3)),
}
TASKS = (
    "place_cups", "close_jar", "insert_onto_square_peg", "light_bulb_in", "meat_off_grill", "open_drawer",
    "place_shape_in_shape_sorter", "place_wine_at_rack_location", "push_buttons", "put_groceries_in_cupboard",
    "put_item_in_drawer", "put_money_in_safe", "reach_and_drag", "slide_block_to_color_target", "stack_blocks",
    "stack_cups", "sweep_to_dustpan_of_size", "turn_tap",
)  # fmt: skip
"""PerAct's 18 tasks by ``task_id`` (datasets/rlbench.py of the published code); groups with depth have others."""

CAMERAS = {
    1: ("front",),
    2: ("wrist", "front"),
    3: ("front", "wrist_left", "wrist_right"),
    4: ("left_shoulder", "right_shoulder", "wrist", "front"),
}
"""How many cameras -> their names in order: one, Hiveformer, PerAct2, PerAct (the same file)."""

MAY_BE_ZERO = ("task_id", "variation")
"""Arrays in which a writer may omit a chunk of zeros; elsewhere a missing chunk is lost data."""


def is_zarr(place: Path) -> bool:
    """Whether a folder is a zarr group, by its files or its name."""
    return place.is_dir() and (
        place.suffix == ".zarr" or any((place / name).exists() for name in (".zgroup", "zarr.json"))
    )


class FlowmatchZarr(Sequence[KeyposeSample]):
    """Samples of a group, read on access.

    Args:
        folder: The group.
        tasks: Task names by ``task_id`` of a group with depth; a group with points has PerAct's (:data:`TASKS`).

    Raises:
        DatasetError: There is no such group, or its arrays are missing, incomplete or of other shapes.
    """

    def __init__(self, folder: Path, tasks: Sequence[str] = ()) -> None:
        arrays = _open(folder)
        names = set(arrays)
        self._folder, self._tasks = folder, TASKS if "pcd" in names else tuple(tasks)
        wanted = ALWAYS | (POINTS if "pcd" in names else DEPTHS)
        if missing := sorted(set(wanted) - names):
            raise DatasetError(
                f"{folder}: wanted arrays {', '.join(missing)}, found {', '.join(sorted(names)) or 'none'}."
            )
        self._arrays = {name: arrays[name] for name in wanted}
        for name, (dtype, shape) in wanted.items():
            self._check(name, dtype, shape)
        self._check_sizes()

    def __len__(self) -> int:
        return int(self._arrays["action"].shape[0])

    def __getitem__(self, i: Any) -> Any:
        if isinstance(i, slice):
            return [self[k] for k in range(*i.indices(len(self)))]
        k = range(len(self))[i]
        read = {name: self._read(name, k) for name in self._arrays}
        rows = {name: read[name] for name in ("proprioception", "action")}
        for name, values in rows.items():
            check_poses(values, f"{self._folder}: {name} {k}")
        if "intrinsics" in read and not np.linalg.det(read["intrinsics"].astype(np.float64)).all():
            raise DatasetError(f"{self._folder}: intrinsics {k}: wanted matrices with an inverse.")
        rgb = np.ascontiguousarray(np.moveaxis(read["rgb"], 1, -1))
        if rgb.max(initial=0) == 1:  # colours from 0 to 1 were rounded to integers: the image is lost
            raise DatasetError(
                f"{self._folder}: rgb {k}: wanted colours from 0 to 255, found only 0 and 1: pack them again, times 255."
            )
        number, variation = int(read["task_id"]), int(read["variation"])
        task = self._tasks[number] if number < len(self._tasks) else str(number)
        cameras = CAMERAS.get(len(rgb), tuple(map(str, range(len(rgb)))))
        return KeyposeSample(rgb, _xyz_m(read), read["proprioception"], read["action"][0], task, variation, cameras)

    def _read(self, name: str, k: int) -> Any:
        try:
            self._check_chunks(name, k)
            return np.asarray(self._arrays[name][k])
        except DatasetError:
            raise
        except Exception as error:  # each codec raises its own errors
            raise DatasetError(f"{self._folder}: {name} {k} is damaged ({type(error).__name__}: {error}).") from error

    def _check_chunks(self, name: str, k: int) -> None:
        """Raises ValueError unless the Blosc frames are complete."""
        array = self._arrays[name]
        if getattr(array.metadata.compressor, "codec_id", "") != "blosc":
            return
        counts = [-(-n // size) for n, size in zip(array.shape, array.chunks, strict=True)][1:]
        for rest in np.ndindex(*counts):
            path = self._folder / name / array.metadata.encode_chunk_key((k // array.chunks[0], *rest))
            if path.is_file():
                check_file(path, f"a chunk of {name}", DatasetError)
                with path.open("rb") as file:
                    size = math.prod(array.chunks) * array.dtype.itemsize
                    check_frame(file.read(HEADER_BYTES), path.stat().st_size, size)

    def _check(self, name: str, dtype: str, shape: tuple[int | None, ...]) -> None:
        array = self._arrays[name]
        fits = len(array.shape) == len(shape) and all(w in (None, n) for w, n in zip(shape, array.shape, strict=False))
        if not fits or array.dtype != np.dtype(dtype):
            scale = ": colours are 0 to 255 here" if name == "rgb" and array.dtype.kind == "f" else ""
            raise DatasetError(
                f"{self._folder}: {name}: wanted {dtype} {shape}, found {array.dtype} {tuple(array.shape)}{scale}."
            )
        if name not in MAY_BE_ZERO and array.nchunks_initialized != array.nchunks:
            found = f"{array.nchunks_initialized} of {array.nchunks} chunks"
            raise DatasetError(f"{self._folder}: {name}: found {found}: copy the dataset again.")

    def _check_sizes(self) -> None:
        """Check that all arrays agree in the number of samples, hands, cameras and pixels."""
        shapes = {name: tuple(array.shape) for name, array in self._arrays.items()}
        n, cameras, _, height, width = shapes["rgb"]
        hands = shapes["action"][2]
        wanted: dict[str, tuple[int, ...]] = {
            "pcd": shapes["rgb"],
            "depth": (n, cameras, height, width),
            "proprioception": (n, 3, hands),
            "extrinsics": (n, cameras),
            "intrinsics": (n, cameras),
        }
        for name, shape in shapes.items():
            full = wanted.get(name, (n,))
            if shape[: len(full)] != full:
                raise DatasetError(f"{self._folder}: {name}: wanted {full} as rgb and action have it, found {shape}.")


def _open(folder: Path) -> dict[str, Any]:
    """All arrays of the group by name."""
    try:
        import zarr
    except ModuleNotFoundError as error:
        raise DatasetError(
            f"{folder}: reading zarr needs the Python package '{error.name}': install it first."
        ) from error
    if not folder.is_dir():
        check_file(folder, "a zarr group of version 2", DatasetError)
        raise DatasetError(f"{folder}: wanted the folder of a zarr group of version 2, found a file.")
    if (folder / "zarr.json").is_file():
        raise DatasetError(f"{folder}: wanted a zarr group of version 2, found one of version 3: convert it.")
    for file in (folder / ".zgroup", *sorted(folder.glob("*/.zarray"))):
        if file.is_file():
            read_json(file, DatasetError)
    try:
        return dict(zarr.open_group(str(folder), mode="r", zarr_format=2).arrays())
    except Exception as error:  # missing, damaged, an array: zarr has an error for each
        raise DatasetError(
            f"{folder}: wanted a zarr group of version 2 ({type(error).__name__}: {said(error)})."
        ) from error


def _xyz_m(read: dict[str, Any]) -> F32:
    """(ncam, H, W, 3) points in the world."""
    if "pcd" in read:
        return np.ascontiguousarray(np.moveaxis(read["pcd"], 1, -1).astype(np.float32))
    return unproject(*(read[name].astype(np.float64) for name in ("depth", "extrinsics", "intrinsics")))


def unproject(depth_m: Any, T_world_camera: Any, K: Any) -> F32:
    """Points of depth images, in double precision. (The published code rounds to bfloat16 and is millimetres off.)

    Args:
        depth_m: (ncam, H, W) along the optical axis.
        T_world_camera: (ncam, 4, 4).
        K: (ncam, 3, 3); focal lengths may be negative.

    Returns:
        (ncam, H, W, 3) float32.
    """
    _, height, width = depth_m.shape
    v, u = np.mgrid[:height, :width].astype(np.float64)
    rays = np.einsum("cij,jhw->chwi", np.linalg.inv(K), np.stack([u, v, np.ones_like(u)]))
    points = np.einsum("cij,chwj->chwi", T_world_camera[:, :3, :3], rays * depth_m[..., None])
    return (points + T_world_camera[:, None, None, :3, 3]).astype(np.float32)
