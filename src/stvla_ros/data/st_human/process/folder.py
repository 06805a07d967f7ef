"""Reads a folder with one RGB-D video of a hand at a table, and refuses what does not fit by the file's name.

A folder holds ``rgb/%06d.png`` (8 bits), ``depth/%06d.png`` (16 bits, millimetres along the optical axis, 0: unknown,
the colour image's pixels), ``camera.json`` and, if known, ``video.json``. Frames count from 0 without gaps.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from stvla_ros.data.st_human.info import TASKS
from stvla_ros.data.st_human.plain import FormatError, from_plain
from stvla_ros.data.st_human.templates import TEMPLATES
from stvla_ros.files import check_file, read_image, read_json
from stvla_ros.geometry.cameras import calibration_fault
from stvla_ros.types import F32, F64, U8, Camera

RGB, DEPTH = "rgb/%06d.png", "depth/%06d.png"
CAMERA, TOLD = "camera.json", "video.json"

RANGE_M = (0.2, 3.0)
"""The median depth of a table before a camera; anything else is another unit."""

KNOWN = 0.2
"""Share of an image that must have depth."""

UNITS_M = {
    "metres": 1.0,
    "centimetres": 0.01,
    "millimetres": 0.001,
    "tenths of a millimetre": 1e-4,
    "hundredths of a millimetre": 1e-5,
    "quarters of a millimetre": 2.5e-4,
}
"""Units of depth images [m], those that are guessed first."""

MM = UNITS_M["millimetres"]


class VideoError(FormatError):
    """A folder is no such video; the message names the file, what was wanted, and what was found."""


@dataclass(frozen=True)
class CameraFile:
    """Content of ``camera.json``: intrinsics [px], size, rate, and the pose of the camera if it is known.

    Attributes:
        fx: Focal length along x.
        fy: Along y.
        cx: Principal point; the centre of the first pixel is 0.
        cy: The same along y.
        width_px: Of the images.
        height_px: Of the images.
        fps: Frames per second.
        T_base_camera: (4, 4) pose of the optical frame in a frame whose z is up [m]. Only the direction of up is used.
    """

    fx: float
    fy: float
    cx: float
    cy: float
    width_px: int
    height_px: int
    fps: float
    T_base_camera: tuple[tuple[float, ...], ...] | None = None


@dataclass(frozen=True)
class ToldObject:
    """A thing that is known to be in the video, found by its colour.

    Attributes:
        name: Its name in sentences, e.g. ``red cup``.
        colour: One of the 20 named colours; None: the colour in its name, if there is one.
        id: Of the instance, the same in all videos; None: made of the name.
        category: E.g. ``cup``; None: the last word of the name.
        roles: See :data:`stvla_ros.data.st_human.info.ROLES`.
    """

    name: str
    colour: str | None = None
    id: str | None = None
    category: str | None = None
    roles: tuple[str, ...] = ()


@dataclass(frozen=True)
class Told:
    """Content of ``video.json``: what people know. All of it may be missing.

    Attributes:
        id: Of the video; default: the folder's name.
        task: 1 to 14.
        instruction: Goal of the whole video; default: the sentences of its actions.
        template: Of all actions.
        templates: Of each action, instead.
        slots: Values of slots that no camera sees, e.g. what is poured: for all actions.
        objects: What is on the table.
        hand: Which hand acts; None: as keypoints show, else the right one.
        people: Whose hands, for the provenance.
        consent: Under which consent.
    """

    id: str | None = None
    task: int = 1
    instruction: str | None = None
    template: str | None = None
    templates: tuple[str, ...] = ()
    slots: Mapping[str, str | int] = field(default_factory=dict)
    objects: tuple[ToldObject, ...] = ()
    hand: str | None = None
    people: tuple[str, ...] = ()
    consent: str | None = None


@dataclass(frozen=True, eq=False)
class HumanVideo:
    """A video on disk. Images are read when asked for.

    Attributes:
        folder: Where it is.
        frames: How many frames it has.
        fps: Frames per second.
        camera: Pinhole; its base frame is the optical frame itself.
        up: (3,) direction of up in the optical frame; None: not known.
        told: What people know of it.
    """

    folder: Path
    frames: int
    fps: float
    camera: Camera
    up: F64 | None
    told: Told

    def rgb(self, frame: int) -> U8:
        """(H, W, 3) colours. Raises VideoError."""
        path = self.folder / (RGB % frame)
        image = read_image(path, VideoError)
        self._check_size(path, image.shape)
        return image

    def depth_mm(self, frame: int) -> np.ndarray:
        """(H, W) uint16 depth, 0: unknown. Raises VideoError."""
        path = self.folder / (DEPTH % frame)
        image = read_depth(path)
        self._check_size(path, image.shape)
        return image

    def depth_m(self, frame: int) -> F32:
        """(H, W) depth [m], NaN: unknown. Raises VideoError."""
        image = self.depth_mm(frame)
        return np.where(image > 0, image.astype(np.float32) / np.float32(1000.0), np.float32(np.nan))

    def _check_size(self, path: Path, shape: tuple[int, ...]) -> None:
        wanted = (self.camera.height_px, self.camera.width_px)
        if shape[:2] != wanted:
            raise VideoError(
                f"{path}: wanted {wanted[1]}x{wanted[0]} pixels as {CAMERA} says, found {shape[1]}x{shape[0]}."
            )


def read_depth(path: Path) -> np.ndarray:
    """(H, W) uint16 of a depth image. Raises VideoError for anything else, such as depth with 8 bits."""
    check_file(path, "a depth image", VideoError)
    image = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if image is None:
        raise VideoError(f"{path}: wanted a depth image, found a damaged or cut off file: copy it again.")
    if image.dtype != np.uint16 or image.ndim != 2:
        raise VideoError(
            f"{path}: wanted one channel of 16 bits, found {image.ndim} dimensions of {image.dtype}: depth that went "
            "through an 8-bit image or video is lost."
        )
    return image


def check_unit(depth_m: F32, unit_m: float, where: str) -> None:
    """Check that a depth image is that of a table before a camera, else guess the unit that was meant.

    Args:
        depth_m: (H, W) [m], NaN or 0 where unknown.
        unit_m: The unit that was read [m]; the message speaks of numbers as they are in the file.
        where: Of the image, in messages.

    Raises:
        VideoError: The median depth is not in :data:`RANGE_M`, or less than a share :data:`KNOWN` is known.
    """
    known = depth_m[depth_m > 0] / unit_m
    median = float(np.median(known)) if len(known) else 0.0
    if len(known) < KNOWN * depth_m.size and not 0.0 < median <= 3.0:  # small: metres without fractions
        raise VideoError(
            f"{where}: wanted depth in at least {100 * KNOWN:.0f} % of the pixels, found it in "
            f"{100 * len(known) / depth_m.size:.0f} %."
        )
    low, high = RANGE_M
    if low <= median * unit_m <= high:
        return
    guess = next((name for name, m in UNITS_M.items() if low <= median * m <= high), None)
    unit = next((name for name, m in UNITS_M.items() if np.isclose(m, unit_m)), f"units of {unit_m:g} m")
    raise VideoError(
        f"{where}: wanted {unit}, with a median of {low / unit_m:g} to {high / unit_m:g} before a table, found a median of "
        f"{median:.5g}" + (f": these look like {guess}, multiply by {UNITS_M[guess] / unit_m:g}." if guess else ".")
    )


def find_videos(folder: Path) -> list[Path]:
    """Folders of one video each: the folder itself, or those below it.

    Raises:
        VideoError: There is none.
    """
    found = sorted(path.parent for path in folder.rglob(CAMERA))
    if not found:
        raise VideoError(f"{folder}: wanted a folder of a video, with {CAMERA}, rgb and depth, or of such folders.")
    return found


def open_video(folder: Path) -> HumanVideo:
    """Check a folder: intrinsics, frames without gaps, sizes, and the unit of the first depth image.

    Raises:
        VideoError: It is not such a video.
    """
    path = folder / CAMERA
    said = from_plain(CameraFile, _read(path, "intrinsics"), str(path))
    camera, up = _camera(said, path)
    told = Told()
    if (folder / TOLD).exists():
        told = from_plain(Told, _read(folder / TOLD, "what is known of the video"), str(folder / TOLD))
        _check_told(told, folder / TOLD)
    video = HumanVideo(folder, _count(folder), said.fps, camera, up, told)
    video.rgb(0)
    check_unit(video.depth_mm(0).astype(np.float32) * np.float32(MM), MM, str(folder / (DEPTH % 0)))
    return video


def _read(path: Path, wanted: str) -> Any:
    return read_json(path, VideoError, wanted)


def _camera(said: CameraFile, path: Path) -> tuple[Camera, F64 | None]:
    if not said.fps > 0.0 or min(said.width_px, said.height_px) < 16:
        raise VideoError(f"{path}: wanted fps above 0 and a size of at least 16 pixels.")
    K = np.array([[said.fx, 0.0, said.cx], [0.0, said.fy, said.cy], [0.0, 0.0, 1.0]])
    pose = np.eye(4)
    if said.T_base_camera is not None:
        if [len(row) for row in said.T_base_camera] != [4, 4, 4, 4]:
            raise VideoError(f"{path}: T_base_camera: wanted 4 rows of 4 numbers.")
        pose = np.array(said.T_base_camera)
        if np.abs(pose[:3, 3]).max() > 20.0:
            raise VideoError(
                f"{path}: T_base_camera: wanted metres, found a camera {np.abs(pose[:3, 3]).max():.0f} m away: these look "
                "like millimetres, divide by 1000."
            )
    if fault := calibration_fault(Camera(K, said.width_px, said.height_px, pose)):
        raise VideoError(f"{path}: {fault}.")
    up = None if said.T_base_camera is None else pose[2, :3].copy()
    return Camera(K, said.width_px, said.height_px, np.eye(4)), up


def _check_told(told: Told, path: Path) -> None:
    if not 1 <= told.task <= TASKS:
        raise VideoError(f"{path}: task: wanted 1 to {TASKS}, found {told.task}.")
    if told.hand not in (None, "left", "right"):
        raise VideoError(f"{path}: hand: wanted 'left' or 'right', found '{told.hand}'.")
    for template in (*([told.template] if told.template else []), *told.templates):
        if template not in TEMPLATES:
            raise VideoError(f"{path}: no template '{template}': one of {', '.join(TEMPLATES)}.")


def _count(folder: Path) -> int:
    """Number of frames. Raises VideoError for the first file that is missing."""
    numbers = {}
    for name, pattern in (("rgb", RGB), ("depth", DEPTH)):
        stems = [path.stem for path in (folder / name).glob("*.png")]
        numbers[name] = {int(stem) for stem in stems if stem.isdecimal() and len(stem) == 6}
        if not numbers[name]:
            raise VideoError(f"{folder / name}: wanted frames {pattern % 0} and so on, found none.")
    last = max(max(found) for found in numbers.values())
    for pattern, found in ((RGB, numbers["rgb"]), (DEPTH, numbers["depth"])):
        missing = sorted(set(range(last + 1)) - found)
        if missing:
            raise VideoError(
                f"{folder / (pattern % missing[0])}: frame {missing[0]} of 0 to {last} is missing"
                f"{'' if len(missing) == 1 else f', and {len(missing) - 1} more'}."
            )
    return last + 1
