"""PerAct's demonstrations as 3D Diffuser Actor packs them (MIT licence; its README links the files).

``<split>/<task>+<variation>/ep<k>.dat`` is a Blosc frame around a pickled list: frame numbers; a (K, ncam, 2, 3, H, W)
float32 array with colour in -1..1 and points in metres; K next keyposes (1, 8); the gripper's pixel per camera; K
current poses (1, 8); dense trajectories. Poses are xyz, quaternion xyzw, 1 for open. Reading the pickle runs nothing in
it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from stvla_ros.data.blosc_frame import MAX_BYTES, unpack
from stvla_ros.data.flowmatch_zarr import CAMERAS
from stvla_ros.data.keypose_sample import DatasetError, KeyposeSample, check_poses
from stvla_ros.data.safe_pickle import PickleError, array_of, loads
from stvla_ros.files import check_file, said
from stvla_ros.types import F32

_FOLDER = re.compile(r"(?P<task>.+)\+(?P<variation>\d+)")


def dat_files(place: Path) -> list[Path]:
    """A ``.dat`` file itself, or all ``.dat`` files of a folder and its subfolders, by name."""
    if place.is_file():
        return [place] if place.suffix == ".dat" else []
    return sorted(path for pattern in ("*.dat", "*/*.dat") for path in place.glob(pattern))


def read_dat(path: Path) -> list[KeyposeSample]:
    """All keyposes of one ``.dat`` file.

    Raises:
        DatasetError: The file is missing, truncated or too large, has other shapes, or its pickle asks for more than
            arrays.
    """
    check_file(path, "a .dat file", DatasetError)
    folder = _FOLDER.fullmatch(path.parent.name)
    if folder is None:
        raise DatasetError(f"{path}: wanted a folder named <task>+<variation>, found '{path.parent.name}'.")
    data = _read(path)
    try:
        content = loads(unpack(data))
        images, actions, poses = _parts(content)
        cameras = _cameras(content[3], images.shape[1])
    except ModuleNotFoundError as error:
        raise DatasetError(f"{path}: reading it needs the Python package '{error.name}': install it first.") from error
    except (PickleError, ValueError, TypeError, IndexError) as error:
        raise DatasetError(f"{path}: not an episode of 3D Diffuser Actor: {said(error)}.") from error
    for name, rows in (("action", actions), ("pose", poses)):
        check_poses(rows, f"{path}: {name}")
    rgb, xyz_m = _rgb(images[:, :, 0], path), np.moveaxis(images[:, :, 1], 2, -1)
    task, variation = folder["task"], int(folder["variation"])
    return [
        KeyposeSample(rgb[k], xyz_m[k], _history(poses, k), actions[k], task, variation, cameras)
        for k in range(len(images))
    ]


def _read(path: Path) -> bytes:
    try:
        if (size := path.stat().st_size) > MAX_BYTES:
            raise DatasetError(f"{path}: wanted at most {MAX_BYTES} bytes, found {size}.")
        return path.read_bytes()
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read ({error.strerror}).") from error


def _parts(content: Any) -> tuple[F32, F32, F32]:
    """(K, ncam, 2, 3, H, W) images, (K, 1, 8) next keyposes, (K, 1, 8) current poses."""
    if not isinstance(content, list) or len(content) < 5:
        raise ValueError(f"wanted a list of 6 parts, found {type(content).__name__}")
    images = array_of(content[1])
    if images.ndim != 6 or images.shape[2:4] != (2, 3) or images.dtype != np.float32:
        raise ValueError(f"wanted (K, ncam, 2, 3, H, W) float32 images, found {images.shape} {images.dtype}")
    return images, _poses(content[2], len(images), "keyposes"), _poses(content[4], len(images), "poses")


def _poses(found: Any, count: int, name: str) -> F32:
    if not isinstance(found, Sequence) or len(found) != count:
        raise ValueError(f"wanted {count} {name}, one per image, found {len(found)}")
    arrays = [array_of(row) for row in found]
    wrong = next((a.shape for a in arrays if a.shape != (1, 8)), None)
    if wrong is not None:
        raise ValueError(f"wanted {name} of shape (1, 8), found {wrong}")
    return np.stack(arrays).astype(np.float32) if arrays else np.zeros((0, 1, 8), np.float32)


def _cameras(pixels: Any, count: int) -> tuple[str, ...]:
    """Names of the cameras: the keys of the gripper's pixels."""
    names = tuple(map(str, pixels[0])) if isinstance(pixels, list) and pixels and isinstance(pixels[0], dict) else ()
    names = names or CAMERAS.get(count, tuple(map(str, range(count))))
    if len(names) != count:
        raise ValueError(f"wanted names of {count} cameras, found {', '.join(names)}")
    return names


def _rgb(colour: F32, path: Path) -> Any:
    """(K, ncam, H, W, 3) uint8 from (K, ncam, 3, H, W) in -1..1: exactly the packed bytes."""
    if not colour.size:
        return np.moveaxis(colour.astype(np.uint8), 2, -1)
    low, high = float(colour.min()), float(colour.max())
    if not (low >= -1.001 and high <= 1.001):
        raise DatasetError(
            f"{path}: wanted colours from -1 to 1, found {low:.3g} to {high:.3g}"
            f"{'' if low < 0 or not high <= 255.0 else ': scale them from 0 to 255'}."
        )
    if low >= 0.0 and high > 0.0:  # no pixel below the middle: no image is that bright
        raise DatasetError(
            f"{path}: wanted colours from -1 to 1, found {low:.3g} to {high:.3g}: scale them from 0 to 1."
        )
    return np.moveaxis(np.clip(np.rint((colour + 1.0) * 127.5), 0, 255).astype(np.uint8), 2, -1)


def _history(poses: F32, k: int) -> F32:
    """(3, 1, 8): two keyposes ago, one ago, now; the first pose stands in for missing ones."""
    return poses[[max(k - 2, 0), max(k - 1, 0), k]]
