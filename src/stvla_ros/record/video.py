"""A small MP4 written frame by frame."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import cast

import av
import numpy as np
from av.video.stream import VideoStream

from stvla_ros.types import U8

CODECS = ("libx264", "mpeg4")
"""In order of preference; a PyAV without x264 has at least mpeg4."""

MILLISECONDS = Fraction(1, 1000)


class VideoWriter:
    """Every frame has its own time: a late frame is late in the film, and the rate need not be constant."""

    def __init__(self, path: Path, width_px: int, height_px: int) -> None:
        """Open ``path`` (MP4). The size must be even (4:2:0 chroma)."""
        if width_px % 2 or height_px % 2:
            raise ValueError(f"VideoWriter: wanted an even size, got {width_px} x {height_px}")
        codec = next(name for name in CODECS if name in av.codecs_available)
        self._file = av.open(str(path), "w", options={"movflags": "faststart"})
        self._stream = cast(VideoStream, self._file.add_stream(codec, rate=10))
        self._stream.width, self._stream.height, self._stream.pix_fmt = width_px, height_px, "yuv420p"
        self._stream.codec_context.time_base = MILLISECONDS
        self._stream.codec_context.thread_count = 1  # the stack needs the other cores
        self._stream.options = {"preset": "veryfast", "crf": "26"} if codec == "libx264" else {"qscale": "5"}
        self._last_ms = -1

    def write(self, rgb: U8, t_s: float) -> None:
        """Show ``rgb`` (H, W, 3) from ``t_s`` on, but at least 1 ms after the frame before."""
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(rgb), format="rgb24")
        self._last_ms = max(round(t_s * 1000), self._last_ms + 1)
        frame.pts, frame.time_base = self._last_ms, MILLISECONDS
        self._file.mux(self._stream.encode(frame))

    def close(self) -> None:
        """Finish the file."""
        self._file.mux(self._stream.encode(None))
        self._file.close()
