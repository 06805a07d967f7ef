"""The videos below a folder: what they start with, and their images by number. No path comes from outside.

A video is a result of ``stvla human process`` (``info.json`` is the draft that people correct), or a folder with colour,
depth and ``camera.json`` that nothing has processed.
"""

from __future__ import annotations

import gzip
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from stvla_ros import __version__
from stvla_ros.config import ConfigError
from stvla_ros.data.st_human.info import INFO, Camera, Provenance, SceneObject, Video, VideoInfo
from stvla_ros.data.st_human.info_json import plain_info, read_info
from stvla_ros.data.st_human.process.folder import CAMERA, DEPTH, RGB, find_videos, open_video
from stvla_ros.data.st_human.process.scene import find_table
from stvla_ros.data.st_human.process.segments import hand_spans
from stvla_ros.data.st_human.process.video import HANDS, QUALITY
from stvla_ros.files import check_file, read_arrays, read_image, read_json

JPEG_QUALITY = 90
THUMBNAIL_PX = 160
"""Width of a frame in the strip."""


class ImageError(ConfigError):
    """An image of a video cannot be read; the message names the file."""


@dataclass(frozen=True)
class Found:
    """A video as it was found.

    Attributes:
        folder: Of its images.
        info: What is known of it.
        weak: Id of an action -> why a person should look at it, from the pipeline.
    """

    folder: Path
    info: VideoInfo
    weak: Mapping[str, Any]


def find(data: Path) -> list[Path]:
    """Folders of one video each, those with an ``info.json`` first. Raises ConfigError if there is none."""
    processed = sorted(path.parent for path in data.rglob(INFO))
    raw = [] if processed and not any(data.rglob(CAMERA)) else find_videos(data)
    return [*processed, *(folder for folder in raw if folder not in set(processed))]


def read(folder: Path) -> Found:
    """Read and check what is known of a video. Raises ConfigError."""
    if (folder / INFO).exists():
        return Found(folder, read_info(folder / INFO), _weak(folder / QUALITY))
    video = open_video(folder)
    table = find_table(video, video.depth_m(0))
    told, K = video.told, video.camera.K
    things = tuple(
        SceneObject(o.id or o.name.replace(" ", "_"), o.name, o.category or o.name.split()[-1], o.colour, roles=o.roles)
        for o in told.objects
    )
    info = VideoInfo(
        Video(told.id or folder.name, told.task, told.instruction or "Not said yet.", video.frames, video.fps, RGB, DEPTH,
              (video.camera.width_px, video.camera.height_px)),
        Camera((float(K[0, 0]), float(K[1, 1]), float(K[0, 2]), float(K[1, 2])), tuple(float(v) for v in table.ravel())),
        things, (), Provenance("stvla annotate", __version__, people=told.people, consent=told.consent),
    )  # fmt: skip
    return Found(folder, info, {})


def _weak(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    return {
        str(episode["id"]): {"route": episode["route"], "reasons": episode["reasons"], "frames": episode["weak_frames"]}
        for episode in read_json(path, ImageError)["episodes"]
    }


def hands(folder: Path) -> list[tuple[int, int]]:
    """First and last frame of each stay of a hand in view, as the pipeline saw it; none where it has not looked."""
    path = folder / HANDS
    return hand_spans(read_arrays(path, ImageError)["seen"]) if path.exists() else []


def draft(info: VideoInfo) -> dict[str, Any]:
    """What people change of an ``info.json``: the first revision."""
    plain = plain_info(replace(info, actions=tuple(replace(action, review=None) for action in info.actions)))
    return {"instruction": plain["video"]["instruction"], "objects": plain["objects"], "actions": plain["actions"]}


def jpeg(folder: Path, info: VideoInfo, frame: int) -> bytes:
    """A colour image. Raises ImageError, or IndexError if there is no such frame."""
    return _jpeg(read_image(_image(folder, info, info.video.rgb, frame), ImageError))


def thumbnail(folder: Path, info: VideoInfo, frame: int) -> bytes:
    """The same, small."""
    image = read_image(_image(folder, info, info.video.rgb, frame), ImageError)
    height = round(THUMBNAIL_PX * image.shape[0] / image.shape[1])
    return _jpeg(cv2.resize(image, (THUMBNAIL_PX, height), interpolation=cv2.INTER_AREA))


def depth(folder: Path, info: VideoInfo, frame: int) -> np.ndarray:
    """(H, W) uint16 depth in the video's unit, 0: unknown. Raises ImageError, or IndexError if there is no such frame."""
    path = _image(folder, info, info.video.depth, frame)
    check_file(path, "a depth image", ImageError)
    image = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    width, height = info.video.size_px
    if image is None or image.dtype != np.uint16 or image.shape != (height, width):
        raise ImageError(f"{path}: wanted a depth image of 16 bits and {width}x{height} pixels, found another or none.")
    return image


def depth_png(folder: Path, info: VideoInfo, frame: int) -> bytes:
    """The same as PNG with 16 bits, for programs."""
    return _encoded(".png", depth(folder, info, frame), [cv2.IMWRITE_PNG_COMPRESSION, 1])


def depth_gzip(folder: Path, info: VideoInfo, frame: int) -> bytes:
    """The same as little-endian numbers row by row, packed: a browser's canvas would cut PNG to 8 bits."""
    return gzip.compress(depth(folder, info, frame).astype("<u2").tobytes(), 1, mtime=0)


def _image(folder: Path, info: VideoInfo, pattern: str, frame: int) -> Path:
    if not 0 <= frame < info.video.frames:
        raise IndexError(f"There is no frame {frame}: wanted 0 to {info.video.frames - 1}.")
    return folder / (pattern % frame)


def _jpeg(rgb: Any) -> bytes:
    return _encoded(".jpg", cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])


def _encoded(kind: str, image: Any, how: list[int]) -> bytes:
    done, data = cv2.imencode(kind, image, how)
    assert done
    return data.tobytes()
