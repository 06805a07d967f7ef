"""Images of a LeRobot set: PNG and TIFF inside the table, or a video beside it.

Depth is a TIFF of float32 metres, as LeRobot stores depth without loss (since 0.6; ``is_depth_map``, ``depth_unit``).
All 32 bits come back, NaN included. Its other way, a video of 12 bits, rounds.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any, cast

import av
import cv2
import numpy as np

from stvla_ros.config import ConfigError
from stvla_ros.files import said
from stvla_ros.types import F32, U8

CODECS = ("lossless", "lossy", "png")
"""Colour: H.264 of RGB without loss; H.264 of YUV 4:2:0 at CRF 18; PNG in the table, also without loss."""

_DEFLATE = [cv2.IMWRITE_TIFF_COMPRESSION, 8]  # libtiff's COMPRESSION_ADOBE_DEFLATE
_OPTIONS = {
    "lossless": ("libx264rgb", "rgb24", {"qp": "0", "preset": "veryfast"}),
    "lossy": ("libx264", "yuv420p", {"crf": "18", "preset": "veryfast"}),
}
_KEYFRAMES = 2
"""Every second frame can be decoded on its own, as in LeRobot's own videos: training reads frames in random order."""


def png_bytes(rgb: U8) -> bytes:
    """(H, W, 3) RGB as PNG."""
    return bytes(cv2.imencode(".png", cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR))[1].tobytes())


def tiff_bytes(depth_m: F32) -> bytes:
    """(H, W) float32 as TIFF, every bit kept."""
    return bytes(cv2.imencode(".tiff", np.ascontiguousarray(depth_m), _DEFLATE)[1].tobytes())


def decoded(data: bytes, where: str) -> Any:
    """(H, W, 3) uint8 RGB, or (H, W) of the image's own type.

    Raises:
        ConfigError: It is no image, or a damaged one.
    """
    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED) if data else None
    except cv2.error as error:
        raise ConfigError(
            f"{where}: wanted an image, found a damaged one ({error.err}): copy the set again."
        ) from error
    if pixels is None:
        raise ConfigError(f"{where}: wanted an image, found {len(data)} other bytes: copy the set again.")
    if pixels.ndim == 2:
        return pixels
    return cv2.cvtColor(pixels, cv2.COLOR_BGRA2RGB if pixels.shape[2] == 4 else cv2.COLOR_BGR2RGB)


class VideoFile:
    """Writes frames at a fixed rate into an MP4.

    Args:
        path: The file.
        codec: ``lossless`` or ``lossy``.
        fps: Frames per second; frame i is shown at ``i / fps``.
        size_px: Width and height.
    """

    def __init__(self, path: Path, codec: str, fps: int, size_px: tuple[int, int]) -> None:
        name, self._format, options = _OPTIONS[codec]
        self._file = av.open(str(path), "w", format="mp4")
        options = {**options, "g": str(_KEYFRAMES), "bf": "0"}
        stream = cast(Any, self._file.add_stream(name, rate=fps, options=options))
        stream.width, stream.height = size_px
        stream.pix_fmt = self._format
        self._stream, self._count = stream, 0
        self._period_s = Fraction(1, fps)  # the stream's own time base changes with the first packet

    def write(self, rgb: U8) -> None:
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(rgb), format="rgb24")
        frame.pts, frame.time_base = self._count, self._period_s
        self._count += 1
        self._file.mux(self._stream.encode(frame))

    def close(self) -> None:
        """Write what is left; call it once."""
        if self._count:
            self._file.mux(self._stream.encode())
        self._file.close()


def video_info(path: Path, fps: int) -> dict[str, Any]:
    """What ``info.json`` says about a video, under the names that LeRobot uses."""
    with av.open(str(path)) as file:
        stream = file.streams.video[0]
        return {
            "video.height": stream.height,
            "video.width": stream.width,
            "video.codec": stream.codec.canonical_name,
            "video.pix_fmt": stream.pix_fmt,
            "video.is_depth_map": False,
            "video.fps": fps,
            "video.channels": 3,
            "has_audio": False,
        }


def video_frames(path: Path, from_s: float, count: int, fps: float) -> Iterator[U8]:
    """``count`` frames of a video as (H, W, 3) RGB, from a time on.

    Raises:
        ConfigError: The video is missing, damaged, or shorter.
    """
    found = 0
    try:
        with av.open(str(path)) as file:
            stream = file.streams.video[0]
            if from_s > 0 and stream.time_base:
                file.seek(int(from_s / stream.time_base), stream=stream)
            for frame in file.decode(stream):
                if frame.time is not None and frame.time < from_s - 0.5 / fps:
                    continue
                yield np.asarray(frame.to_ndarray(format="rgb24"), np.uint8)
                found += 1
                if found == count:
                    return
    except (av.FFmpegError, OSError, IndexError) as error:
        raise ConfigError(f"{path}: wanted a video, found one that cannot be read ({said(error)}).") from error
    raise ConfigError(f"{path}: wanted {count} frames from {from_s:.3f} s on, found {found}: copy the set again.")
