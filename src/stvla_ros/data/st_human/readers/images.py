"""Videos that are folders of numbered images: DexYCB, H2O, and any other folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from stvla_ros.camera.lens import lens_of
from stvla_ros.data.st_human.process.folder import CAMERA, MM, Told, VideoError
from stvla_ros.data.st_human.readers.source import VideoSource, check_count, paired
from stvla_ros.files import check_file, read_json, said
from stvla_ros.geometry.se3 import inverse
from stvla_ros.types import F64

FPS = 30.0
"""Of DexYCB and of H2O (their papers)."""

PAIRS = (("color/*", "depth/*"), ("colour/*", "depth/*"), ("rgb/*", "depth/*"), ("*color.*", "*depth.*"))
"""Colour and depth images of a folder, the first that are there."""

INTRINSICS = (CAMERA, "camera_intrinsic.json", "intrinsic.json", "intrinsics.json")
"""Ours, Open3D's recorders', and what people write."""

COLOURS = (".png", ".jpg", ".jpeg")


def numbers(path: Path, wanted: str, shape: tuple[int, ...]) -> F64:
    """Numbers of a text file in a shape. Raises VideoError."""
    check_file(path, wanted, VideoError, text=True)
    try:
        found = np.array(path.read_text().split(), np.float64)
    except (ValueError, OSError) as error:
        raise VideoError(f"{path}: wanted {wanted}, found something else ({said(error)}).") from error
    if found.size != np.prod(shape) or not np.isfinite(found).all():
        raise VideoError(f"{path}: wanted {wanted}, {np.prod(shape)} finite numbers, found {found.size}.")
    return found.reshape(shape)


def _yaml(path: Path, wanted: str) -> dict[str, Any]:
    check_file(path, wanted, VideoError, text=True)
    try:
        values = yaml.safe_load(path.read_text())
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise VideoError(f"{path}: wanted {wanted}, found no YAML ({said(error)}).") from error
    if not isinstance(values, dict):
        raise VideoError(f"{path}: wanted {wanted}, found {type(values).__name__}.")
    return values


def _entry(values: dict[str, Any], path: Path, *keys: str) -> Any:
    """A nested entry. Raises VideoError that names it."""
    found: Any = values
    for key in keys:
        found = {str(name): value for name, value in found.items()}.get(key) if isinstance(found, dict) else None
        if found is None:
            raise VideoError(f"{path}: wanted the entry {'.'.join(keys)}, found none.")
    return found


def _array(values: dict[str, Any], path: Path, shape: tuple[int, ...], *keys: str) -> F64:
    try:
        return np.array(_entry(values, path, *keys), np.float64).reshape(shape)
    except (TypeError, ValueError) as error:
        raise VideoError(f"{path}: {'.'.join(keys)}: wanted {np.prod(shape)} numbers ({said(error)}).") from error


def _K(fx: float, fy: float, cx: float, cy: float) -> F64:
    return np.array([[fx, 0.0, cx], [0.0, fy, cy], [0.0, 0.0, 1.0]])


# --- DexYCB --------------------------------------------------------------------------------------------------------------


def is_dex_ycb(folder: Path) -> bool:
    """Whether this is one camera of a sequence."""
    return (folder.parent / "meta.yml").is_file() and any(folder.glob("color_*.jpg"))


def open_dex_ycb(folder: Path) -> VideoSource:
    """One camera of a sequence of DexYCB: ``<date>-subject-<n>/<sequence>/<serial>``, with ``calibration`` beside them.

    The layout is that of NVlabs/dex-ycb-toolkit: depth in millimetres, intrinsics of the colour image, poses of the
    cameras and of the tag on the table in the frame of one camera. The tag's z axis is up.

    Raises:
        VideoError: A file is missing or wrong.
    """
    meta_file = folder.parent / "meta.yml"
    meta = _yaml(meta_file, "meta.yml of a sequence of DexYCB")
    images = paired(sorted(folder.glob("color_*.jpg")), sorted(folder.glob("aligned_depth_to_color_*.png")), folder, 0)
    check_count(len(images.color), int(_entry(meta, meta_file, "num_frames")), "colour images (meta.yml)", folder)
    calibration = folder.parents[2] / "calibration"
    lens_file = calibration / "intrinsics" / f"{folder.name}_640x480.yml"
    lens = _yaml(lens_file, "intrinsics of DexYCB")
    K = _K(*(float(_array(lens, lens_file, (), "color", name)) for name in ("fx", "fy", "ppx", "ppy")))
    pose_file = calibration / f"extrinsics_{_entry(meta, meta_file, 'extrinsics')}" / "extrinsics.yml"
    poses = _yaml(pose_file, "extrinsics of DexYCB")
    T_master = {name: _pose(poses, pose_file, name) for name in (folder.name, "apriltag")}
    T = inverse(T_master["apriltag"]) @ T_master[folder.name]
    sides = _entry(meta, meta_file, "mano_sides")
    hand = sides[0] if isinstance(sides, list) and sides and sides[0] in ("left", "right") else None
    return VideoSource(
        folder, "-".join(folder.parts[-3:]), len(images.color), FPS, MM, (folder, meta_file, lens_file, pose_file),
        partial(images.read, K, np.broadcast_to(T, (len(images.color), 4, 4)), FPS, MM), True,
        Told(template="pick_up", hand=hand),
    )  # fmt: skip


def _pose(poses: dict[str, Any], path: Path, name: str) -> F64:
    return np.vstack([_array(poses, path, (3, 4), "extrinsics", name), [0.0, 0.0, 0.0, 1.0]])


# --- H2O -----------------------------------------------------------------------------------------------------------------


def is_h2o(folder: Path) -> bool:
    """Whether this is one camera of a sequence."""
    return (folder / "cam_intrinsics.txt").is_file()


def open_h2o(folder: Path) -> VideoSource:
    """One camera of a sequence of H2O: ``subject<n>/<scene>/<take>/cam<k>``. Camera 4 is on the head.

    The layout is that of taeinkwon/h2odataset: ``rgb`` and ``depth`` (millimetres, as its player reads them),
    ``cam_intrinsics.txt`` (fx, fy, cx, cy, width, height) and ``cam_pose`` (camera to world, 4 x 4). Which way is up in
    its world is not said.

    Raises:
        VideoError: A file is missing or wrong.
    """
    fx, fy, cx, cy, width, height = numbers(folder / "cam_intrinsics.txt", "intrinsics of H2O", (6,))
    images = paired(_images(folder / "rgb", COLOURS), _images(folder / "depth", (".png",)), folder, 0)
    count = len(images.color)
    poses: F64 | None = None
    if (folder / "cam_pose").is_dir():
        files = sorted((folder / "cam_pose").glob("*.txt"))
        check_count(len(files), count, "poses of the camera", folder / "cam_pose")
        poses = np.stack([numbers(path, "a camera's pose", (4, 4)) for path in files])
    if abs(cx / width - 0.5) > 0.25 or abs(cy / height - 0.5) > 0.25:
        raise VideoError(f"{folder / 'cam_intrinsics.txt'}: wanted fx, fy, cx, cy, width, height, found another order.")
    return VideoSource(
        folder, "-".join(folder.parts[-4:]), count, FPS, MM,
        tuple(folder / name for name in ("cam_intrinsics.txt", "rgb", "depth", "cam_pose") if (folder / name).exists()),
        partial(images.read, _K(fx, fy, cx, cy), poses, FPS, MM),
    )  # fmt: skip


def _images(folder: Path, suffixes: Sequence[str], pattern: str = "*") -> list[Path]:
    return sorted(path for path in folder.glob(pattern) if path.suffix.lower() in suffixes)


# --- any folder ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class FolderHints:
    """What people say about a folder that it does not say itself; empty: nothing.

    Attributes:
        color: Pattern of its colour images, e.g. ``left/*.jpg``.
        depth: Pattern of its depth images.
        depth_unit_m: Unit of its depth images [m].
        fps: Frames per second; 0: as the intrinsics' file says.
        intrinsics: A camera_info file or ``fx,fy,cx,cy`` [px].
    """

    color: str = ""
    depth: str = ""
    depth_unit_m: float = MM
    fps: float = 0.0
    intrinsics: str = ""

    def pair(self, folder: Path) -> tuple[list[Path], list[Path]] | None:
        """Colour and depth images; None if there are none."""
        for color, depth in [(self.color or "*color.*", self.depth or "*depth.*")] if self.any else PAIRS:
            found = _images(folder, COLOURS, color), _images(folder, (".png",), depth)
            if all(found):
                return found
        return None

    @property
    def any(self) -> bool:
        """Whether patterns are given."""
        return bool(self.color or self.depth)


def is_folder(folder: Path, hints: FolderHints) -> bool:
    """Whether this has colour, depth, and intrinsics."""
    return hints.pair(folder) is not None and (bool(hints.intrinsics) or _intrinsics_file(folder) is not None)


def _intrinsics_file(folder: Path) -> Path | None:
    return next((folder / name for name in INTRINSICS if (folder / name).is_file()), None)


def open_folder(folder: Path, hints: FolderHints) -> VideoSource:
    """A folder of numbered images, such as Open3D's recorders write: ``color``, ``depth``, ``camera_intrinsic.json``.

    The intrinsics' file has ``fx, fy, cx, cy`` (or ``ppx, ppy``), or Open3D's ``intrinsic_matrix`` (9 numbers, column by
    column); and ``fps``, unless that is given.

    Raises:
        VideoError: A file is missing or wrong.
        ConfigError: The intrinsics that are given cannot be used.
    """
    pair = hints.pair(folder)
    assert pair is not None
    images, path = paired(*pair, folder), _intrinsics_file(folder)
    values = read_json(path, VideoError, "intrinsics") if path is not None else {}
    fps = hints.fps or (values.get("fps", 0.0) if isinstance(values, dict) else 0.0)
    if not (isinstance(fps, (int, float)) and fps > 0.0):
        raise VideoError(f"{path or folder}: wanted fps, frames per second: give it with --fps.")
    if hints.intrinsics:
        lens = lens_of(hints.intrinsics)
        if lens.D.any():
            raise VideoError(f"{hints.intrinsics}: wanted a lens without distortion: undistort the images first.")
        K = lens.K
    else:
        assert path is not None
        K = _intrinsics(values, path)
    return VideoSource(
        folder, folder.resolve().name, len(images.color), float(fps), hints.depth_unit_m,
        (*images.color, *images.depth, *([path] if path else [])),
        partial(images.read, K, None, float(fps), hints.depth_unit_m), hints=repr(hints),
    )  # fmt: skip


def _intrinsics(values: Any, path: Path) -> F64:
    if not isinstance(values, dict):
        raise VideoError(f"{path}: wanted intrinsics, found {type(values).__name__}.")
    if "intrinsic_matrix" in values:
        return _array(values, path, (3, 3), "intrinsic_matrix").T
    cx, cy = ("ppx", "ppy") if "ppx" in values else ("cx", "cy")
    return _K(*(float(_array(values, path, (), name)) for name in ("fx", "fy", cx, cy)))
