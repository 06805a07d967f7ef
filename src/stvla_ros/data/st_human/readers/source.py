"""What every reader gives: checked frames of one video. And the pipeline's own folder made of them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import cv2
import numpy as np

from stvla_ros.data.recording import RecordedFrame
from stvla_ros.data.st_human.plain import to_plain
from stvla_ros.data.st_human.process.folder import (
    CAMERA,
    DEPTH,
    MM,
    RGB,
    TOLD,
    CameraFile,
    Told,
    VideoError,
    check_unit,
    read_depth,
)
from stvla_ros.files import digest, read_image, write_image, written
from stvla_ros.geometry.cameras import SATURATED_M, calibration_fault
from stvla_ros.geometry.se3 import rotation_distance
from stvla_ros.geometry.views import view_from
from stvla_ros.types import F32, F64, U8, Camera, RgbdFrame

FAR_M = 20.0
"""A camera that is farther from its origin is given in other units."""

CENTRE = (0.25, 0.75)
"""The principal point as a share of the image; outside, the intrinsics are those of another image size."""

STILL_M, STILL_RAD = 0.001, np.radians(0.1)
"""A camera that moves less stands still."""

SEEN = 0.5
"""Share of the first frame that a moved camera must still see."""

PAUSE = 5
"""Frames; a recording with a longer pause in it lacks frames."""


@dataclass(frozen=True, eq=False)
class VideoSource:
    """A video as a reader found it. Frames are read when asked for, one after another.

    Attributes:
        path: Where it is, for messages.
        id: Of the video.
        frames: How many it has.
        fps: Frames per second; None: by the stamps.
        unit_m: Unit of its depth on disk [m].
        files: All that is read; a change of them is a new video.
        read: Reads all frames: uint8 colours, depth [m], the camera with its pose at each frame (identity where it is
            not known), stamps [ns]. Raises VideoError.
        level: Whether z of the frame in which the camera's pose is given is up.
        told: What the data set says about the video.
        notes: What could not be used, one sentence each.
        hints: What people said that its files do not; other hints are a new video.
    """

    path: Path
    id: str
    frames: int
    fps: float | None
    unit_m: float
    files: tuple[Path, ...]
    read: Callable[[], Iterator[RgbdFrame]]
    level: bool = False
    told: Told = field(default_factory=Told)
    notes: tuple[str, ...] = ()
    hints: str = ""

    def digest(self) -> str:
        """SHA-256 of all that is read, with the hints."""
        return "".join(digest(path) for path in self.files) + self.hints


@dataclass(frozen=True, eq=False)
class Images:
    """Numbered images of a video: one colour and one depth image per frame, in order.

    Attributes:
        color: Files of colour.
        depth: Files of depth, as many.
    """

    color: Sequence[Path]
    depth: Sequence[Path]

    def read(self, K: F64, poses: F64 | None, fps: float, unit_m: float) -> Iterator[RgbdFrame]:
        """Frames with a size that agrees.

        Args:
            K: (3, 3) intrinsics [px].
            poses: (N, 4, 4) poses of the camera; None: it stands still.
            fps: Frames per second.
            unit_m: Of the depth images [m].

        Raises:
            VideoError: An image is damaged, or its size or kind is wrong.
        """
        for i, (color, depth) in enumerate(zip(self.color, self.depth, strict=True)):
            pose = np.eye(4) if poses is None else poses[i]
            yield frame_of(
                read_image(color, VideoError), read_depth(depth), K, pose, round(i * 1e9 / fps), unit_m, str(depth)
            )


def frame_of(rgb: U8, depth: np.ndarray, K: F64, pose: F64, stamp_ns: int, unit_m: float, where: str) -> RgbdFrame:
    """A frame from (H, W, 3) colours and (H, W) raw depth, 0: unknown. Raises VideoError if their sizes differ."""
    (h, w), (colour_h, colour_w) = depth.shape, rgb.shape[:2]
    if (h, w) != (colour_h, colour_w):
        raise VideoError(
            f"{where}: wanted depth with the {colour_w}x{colour_h} pixels of the colour image, found {w}x{h}: align depth to "
            "colour first."
        )
    metres = np.where(depth > 0, (depth * unit_m).astype(np.float32), np.float32(np.nan))
    return RgbdFrame(rgb, metres, Camera(K, w, h, pose), stamp_ns)


def numbered(files: Sequence[Path], first: int | None = None) -> list[Path]:
    """Images in the order of the last number in their names, which must have no gaps.

    Args:
        files: Images of one kind.
        first: The first number; None: the smallest.

    Raises:
        VideoError: One is missing or has no number; the message names it.
    """
    numbers: dict[int, Path] = {}
    for path in files:
        digits = "".join(c if c.isdecimal() else " " for c in path.stem).split()
        if not digits:
            raise VideoError(f"{path}: wanted an image with the frame's number in its name.")
        if (twin := numbers.setdefault(int(digits[-1]), path)) != path:
            raise VideoError(f"{path}: wanted one image per frame, found {twin.name} for the same frame.")
    start, last = min(numbers) if first is None else first, max(numbers)
    missing = sorted(set(range(start, last + 1)) - set(numbers))
    if missing:
        raise VideoError(
            f"{files[0].parent}: frame {missing[0]} of {start} to {last} is missing"
            f"{'' if len(missing) == 1 else f', and {len(missing) - 1} more'}."
        )
    return [numbers[k] for k in range(start, last + 1)]


def paired(color: Sequence[Path], depth: Sequence[Path], where: Path, first: int | None = None) -> Images:
    """Colour and depth images of the same frames. Raises VideoError: as :func:`numbered`, or their numbers differ."""
    for files, name in ((color, "colour"), (depth, "depth")):
        if not files:
            raise VideoError(f"{where}: wanted {name} images, found none.")
    found = Images(numbered(color, first), numbered(depth, first))
    check_count(len(found.depth), len(found.color), "depth images", where)
    return found


def check_count(found: int, frames: int, what: str, where: Path) -> None:
    """Raise VideoError unless there is one of something for each frame."""
    if found != frames:
        raise VideoError(f"{where}: wanted {what} for {frames} frames, found {found}.")


def recorded(
    path: Path,
    recording: Sequence[RecordedFrame],
    level: bool = True,
    words: str = "",
    notes: tuple[str, ...] = (),
    hints: str = "",
) -> VideoSource:
    """A recording or a bag as a video: its rate is that of its stamps, its depth is in metres."""
    parts = path.resolve().parts
    name = "-".join(parts[-2:]) if parts[-1] == "bag" else path.stem if path.is_file() else parts[-1]
    return VideoSource(
        path, name, len(recording), None, 1.0, (path,), lambda: (item.frame for item in recording), level,
        Told(instruction=words or None), notes, hints,
    )  # fmt: skip


def _rate(stamps_ns: list[int], path: Path) -> float:
    """Frames per second. Raises VideoError: the stamps do not increase, or frames are missing between two."""
    if len(stamps_ns) < 2:
        raise VideoError(f"{path}: wanted a video, found {len(stamps_ns)} frame.")
    steps_s = np.diff(np.array(stamps_ns, np.int64)) / 1e9
    usual_s = float(np.median(steps_s))
    if steps_s.min() <= 0.0 or steps_s.max() > PAUSE * usual_s:
        worst = int(np.argmin(steps_s) if steps_s.min() <= 0.0 else np.argmax(steps_s))
        raise VideoError(
            f"{path}: wanted frames every {usual_s:.3f} s, found {steps_s[worst]:.3f} s between frames {worst} and "
            f"{worst + 1}: frames are missing."
        )
    return round(1.0 / usual_s, 3)


def import_video(source: VideoSource, folder: Path) -> None:
    """Write a video as the pipeline reads it: see :mod:`stvla_ros.data.st_human.process.folder`.

    Depth is rounded to millimetres. Frames of a camera that moves are drawn as from its first pose; only what stands
    still in the world does so then in the images.

    Args:
        source: The video.
        folder: Gets ``rgb``, ``depth``, ``camera.json`` and ``video.json``; images of an earlier import are replaced.

    Raises:
        VideoError: A frame, the unit, the intrinsics or the pose is wrong, or the folder cannot be written.
    """
    for name in ("rgb", "depth"):
        if (folder / name).is_symlink():
            (folder / name).unlink()
        shutil.rmtree(folder / name, ignore_errors=True)
    (folder / CAMERA).unlink(missing_ok=True)
    first: Camera | None = None
    stamps: list[int] = []
    for i, frame in enumerate(source.read()):
        _check_camera(frame.camera, f"{source.path}: frame {i}")
        if first is None:
            first = frame.camera
            check_unit(frame.depth_m, source.unit_m, f"{source.path}: frame 0: depth")
        frame = _from_first(frame, first, f"{source.path}: frame {i}")
        with written(folder / (RGB % i), VideoError) as part:
            write_image(part, frame.rgb)
        with written(folder / (DEPTH % i), VideoError) as part:
            part.write_bytes(_png(frame.depth_m))
        stamps.append(frame.stamp_ns)
    check_count(len(stamps), source.frames, "images", source.path)
    assert first is not None
    fps = source.fps or _rate(stamps, source.path)
    K, pose = first.K, first.T_base_camera
    told = replace(source.told, id=source.told.id or source.id)
    T = tuple(tuple(float(v) for v in row) for row in pose) if source.level else None
    camera = CameraFile(
        float(K[0, 0]), float(K[1, 1]), float(K[0, 2]), float(K[1, 2]), first.width_px, first.height_px, fps, T
    )
    for name, value in ((TOLD, told), (CAMERA, camera)):
        with written(folder / name, VideoError) as part:
            part.write_text(json.dumps(to_plain(value), indent=1) + "\n")


def _check_camera(camera: Camera, where: str) -> None:
    if fault := calibration_fault(camera):
        raise VideoError(f"{where}: {fault}.")
    size = np.array([camera.width_px, camera.height_px])
    centre = camera.K[:2, 2] / size
    if not (CENTRE[0] < centre.min() and centre.max() < CENTRE[1]):
        raise VideoError(
            f"{where}: wanted intrinsics of an image of {size[0]}x{size[1]} pixels, found the principal point at "
            f"{camera.K[0, 2]:.0f}, {camera.K[1, 2]:.0f}: they are those of another size."
        )
    if (far := float(np.abs(camera.T_base_camera[:3, 3]).max())) > FAR_M:
        raise VideoError(
            f"{where}: wanted the camera's pose in metres, found a camera {far:.0f} m away: these look like millimetres, "
            "divide by 1000."
        )


def _from_first(frame: RgbdFrame, first: Camera, where: str) -> RgbdFrame:
    """The frame as the camera saw it from its first pose. Raises VideoError: it looks elsewhere, or is another camera."""
    camera = frame.camera
    if (camera.width_px, camera.height_px) != (first.width_px, first.height_px) or not np.allclose(camera.K, first.K):
        raise VideoError(
            f"{where}: wanted {first.width_px}x{first.height_px} pixels and the intrinsics of the first frame, found others."
        )
    moved_m = float(np.linalg.norm(camera.T_base_camera[:3, 3] - first.T_base_camera[:3, 3]))
    turned = rotation_distance(camera.T_base_camera[:3, :3], first.T_base_camera[:3, :3])
    if moved_m < STILL_M and turned < STILL_RAD:
        return frame
    seen, share = view_from(frame, first)
    if share < SEEN:
        raise VideoError(
            f"{where}: wanted a camera that sees what it saw in frame 0, found {100 * share:.0f} % of it: it moved by "
            f"{100 * moved_m:.0f} cm and turned by {np.degrees(turned):.0f} degrees."
        )
    return seen


def _png(depth_m: F32) -> bytes:
    known = np.isfinite(depth_m) & (depth_m > 0) & (depth_m < SATURATED_M)
    raw = np.rint(np.where(known, depth_m, 0.0) / MM).astype(np.uint16)
    done, data = cv2.imencode(".png", raw)
    assert done
    return bytes(data.tobytes())
