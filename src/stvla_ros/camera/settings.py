"""Settings of a RealSense camera, with the library's ranges."""

from __future__ import annotations

from dataclasses import dataclass

from stvla_ros.config import param

SIZES = ("424x240", "640x360", "640x480", "848x480", "1280x720")
"""Sizes that colour and depth of a D400 have in common, except 424x240's colour on some models."""


@dataclass(frozen=True)
class DepthFilterConfig:
    """librealsense's post-processing of depth, in the order that its documentation recommends.

    What invents depth is off: a hole is better for collision checks than a guess, and a memory of the last frames
    leaves a trail behind what moves.
    """

    min_m: float = param(0.0, "nearer depth is removed [m]", ge=0.0, le=16.0)
    max_m: float = param(4.0, "farther depth is removed [m]", ge=0.1, le=16.0)
    spatial: bool = param(True, "smooth within surfaces, keeping edges")
    spatial_magnitude: int = param(2, "iterations of the spatial filter", ge=1, le=5)
    spatial_alpha: float = param(0.5, "weight of a pixel's own value in the spatial filter", ge=0.25, le=1.0)
    spatial_delta: int = param(20, "steps of disparity that the spatial filter takes for an edge", ge=1, le=50)
    temporal: bool = param(False, "smooth over time; leaves a short trail behind what moves")
    temporal_alpha: float = param(0.4, "weight of the newest frame in the temporal filter", ge=0.0, le=1.0)
    temporal_delta: int = param(20, "steps of disparity that the temporal filter takes for motion", ge=1, le=100)
    persistence: int = param(0, "how long the temporal filter keeps depth that is lost: 0 never, 8 always", ge=0, le=8)
    hole_filling: str = param(
        "off",
        "fill holes from the left, with the farthest or with the nearest neighbour",
        choices=("off", "left", "farthest", "nearest"),
    )


@dataclass(frozen=True)
class ExposureConfig:
    """Exposure, gain and white balance; 0 leaves them to the camera."""

    color_us: int = param(0, "exposure of colour [us]; 0: automatic", ge=0, le=200000)
    color_gain: int = param(0, "gain of colour, used with color_us; 0: the camera's default", ge=0, le=128)
    white_balance_k: int = param(0, "white balance [K]; 0: automatic", ge=0, le=6500)
    depth_us: int = param(0, "exposure of the infrared pair [us]; 0: automatic", ge=0, le=200000)
    depth_gain: int = param(0, "gain of the infrared pair, used with depth_us; 0: the camera's default", ge=0, le=248)
    emitter: bool = param(True, "project the infrared pattern; off if two cameras disturb each other")
    laser_mw: int = param(0, "power of the pattern [mW]; 0: the camera's default", ge=0, le=360)
    preset: str = param(
        "",
        "visual preset of depth; empty: the camera's",
        choices=("", "default", "hand", "high_accuracy", "high_density"),
    )


@dataclass(frozen=True)
class RealSenseConfig:
    """Settings of a RealSense camera."""

    serial: str = param("", "serial number in quotes; empty: the only camera that is connected")
    file: str = param("", "a recording of librealsense (.db3) to play in place of a camera")
    repeat: bool = param(True, "play the recording again after its end")
    size: str = param("640x480", "pixels of colour and depth", choices=SIZES)
    rate_hz: int = param(30, "frames per second: 6, 15 or 30, and 60 up to 848x480", ge=1, le=300)
    pair_within_s: float = param(
        0.0, "largest difference of the stamps of colour and depth [s]; 0: half the time between frames", ge=0.0, le=0.1
    )
    silent_s: float = param(
        1.0, "the streams are started again after this time without a pair of colour and depth [s]", ge=0.2, le=60.0
    )
    first_s: float = param(5.0, "time for the first pair after a start [s]", ge=0.5, le=60.0)
    retry_s: float = param(1.0, "time between attempts to start a camera [s]", ge=0.05, le=60.0)
    reset_after: int = param(3, "starts without any pair after which the camera is reset; 0: it never is", ge=0, le=100)
    max_age_s: float = param(1.0, "an older image is stale [s]", ge=0.05, le=60.0)
    timeout_s: float = param(5.0, "how long to wait for an image that is not stale [s]", ge=0.0, le=60.0)
    estimate_stamps: bool = param(
        False, "estimate stamps from the times of arrival, as for hardware_clock, in every domain; recordings always do"
    )
    least_delay_s: float = param(
        0.0, "least time from exposure to arrival, if known; estimated stamps are late by it [s]", ge=0.0, le=0.5
    )
    filters: DepthFilterConfig = param(DepthFilterConfig(), "post-processing of depth")  # noqa: RUF009
    exposure: ExposureConfig = param(ExposureConfig(), "exposure, gain, white balance, pattern")  # noqa: RUF009

    @property
    def width_px(self) -> int:
        return int(self.size.split("x")[0])

    @property
    def height_px(self) -> int:
        return int(self.size.split("x")[1])
