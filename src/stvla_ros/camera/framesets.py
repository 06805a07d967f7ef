"""From librealsense's framesets to colour with aligned depth of one moment; everything else is dropped and counted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from stvla_ros.camera.settings import DepthFilterConfig
from stvla_ros.config import ConfigError
from stvla_ros.types import F32, U8


@dataclass
class Counts:
    """What came from a camera, since it was created.

    Attributes:
        frames: Frames given on.
        lost: Frames of colour that never came, by the gaps of their numbers.
        unpaired: Frames of colour for which no depth of their moment came.
        incomplete: Framesets without depth or without colour.
        mixed: Framesets with colour and depth of different moments. librealsense's pipeline makes one or two for
            every pair, from the newest frame of each stream.
        wrong_stamp: Pairs whose stamp cannot be used.
        starts: Starts of the streams.
    """

    frames: int = 0
    lost: int = 0
    unpaired: int = 0
    incomplete: int = 0
    mixed: int = 0
    wrong_stamp: int = 0
    starts: int = 0

    def __str__(self) -> str:
        """The images that are missing, for people."""
        return f"{self.lost} lost, {self.unpaired} without depth, {self.wrong_stamp} with a wrong stamp"


@dataclass(frozen=True, eq=False)
class Pair:
    """Colour and the depth of the same moment, still in the library's frames.

    Attributes:
        frameset: The library's frameset.
        stamp_ms: The library's stamp of colour [ms].
        domain: Name of its domain.
    """

    frameset: Any
    stamp_ms: float
    domain: str


class PairFilter:
    """Passes the framesets that are a new pair of one moment.

    librealsense gives framesets without one of the images, and such with a new colour image and the depth image of
    the moment before; nothing is raised. Both are dropped.

    Args:
        within_s: Largest difference of the two stamps [s].
        counts: Counts what is dropped.
    """

    def __init__(self, within_s: float, counts: Counts) -> None:
        self._within_ms, self._counts = within_s * 1e3, counts
        self._newest: int | None = None
        self._paired = True

    def take(self, frameset: Any) -> Pair | None:
        """The pair of a frameset, or None."""
        color, depth = frameset.get_color_frame(), frameset.get_depth_frame()
        if color:
            self._count(int(color.get_frame_number()))
        if not color or not depth:
            self._counts.incomplete += 1
            return None
        domain = color.get_frame_timestamp_domain().name
        apart_ms = abs(color.get_timestamp() - depth.get_timestamp())
        alike = domain == depth.get_frame_timestamp_domain().name and apart_ms <= self._within_ms
        if not alike or self._paired:
            self._counts.mixed += 1
            return None
        self._paired = True
        return Pair(frameset, float(color.get_timestamp()), domain)

    def _count(self, number: int) -> None:
        """Take the number of a colour frame; a smaller one means that the camera counts anew."""
        if number == self._newest:
            return
        if self._newest is not None:
            self._counts.lost += max(0, number - self._newest - 1)
            self._counts.unpaired += not self._paired
        self._newest, self._paired = number, False


class DepthFilters:
    """librealsense's filters of depth and its alignment to colour, as one function from frameset to arrays.

    Args:
        rs: The module pyrealsense2.
        config: Which filters.
    """

    def __init__(self, rs: Any, config: DepthFilterConfig) -> None:
        self._rs = rs
        self._blocks = [rs.threshold_filter(config.min_m, config.max_m)]
        smooth = [*_spatial(rs, config), *_temporal(rs, config)]
        if smooth:  # they work on disparity, whose noise is the same near and far
            self._blocks += [rs.disparity_transform(True), *smooth, rs.disparity_transform(False)]
        modes = ("left", "farthest", "nearest")
        if config.hole_filling in modes:
            self._blocks.append(rs.hole_filling_filter(modes.index(config.hole_filling)))
        self._align = rs.align(rs.stream.color)

    def __call__(self, frameset: Any) -> tuple[U8, F32]:
        """Colour (H, W, 3) uint8 and aligned depth (H, W) float32 in metres, NaN where there is none.

        Raises:
            ConfigError: Colour has another format than RGB8 or BGR8.
        """
        for block in self._blocks:
            frameset = block.process(frameset).as_frameset()
        aligned = self._align.process(frameset)
        depth = aligned.get_depth_frame()
        raw = np.asanyarray(depth.get_data())
        depth_m = raw.astype(np.float32)
        depth_m *= np.float32(depth.get_units())
        depth_m[raw == 0] = np.nan
        return self._rgb(aligned.get_color_frame()), depth_m

    def _rgb(self, color: Any) -> U8:
        formats, pixels = self._rs.format, np.asanyarray(color.get_data())
        kind = color.get_profile().format()
        if kind not in (formats.rgb8, formats.bgr8):
            raise ConfigError(f"Wanted colour as rgb8 or bgr8, got {kind.name}: record it in one of these formats.")
        return np.array(pixels if kind == formats.rgb8 else pixels[..., ::-1], order="C")


def _spatial(rs: Any, config: DepthFilterConfig) -> list[Any]:
    if not config.spatial:
        return []
    return [rs.spatial_filter(config.spatial_alpha, config.spatial_delta, config.spatial_magnitude, 0)]


def _temporal(rs: Any, config: DepthFilterConfig) -> list[Any]:
    if not config.temporal:
        return []
    return [rs.temporal_filter(config.temporal_alpha, config.temporal_delta, config.persistence)]
