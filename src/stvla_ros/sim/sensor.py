"""The defects that a real depth camera adds to an ideal image. Off by default.

Depth of the kind ``simple`` is that of a structured-light camera whose pixels are independent; the kind ``stereo`` is in
:mod:`stvla_ros.sim.stereo`.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from stvla_ros.config import param
from stvla_ros.sim.stereo import Optics, StereoConfig, StereoDepth
from stvla_ros.types import F32, U8

GLANCING_SLOPE = 4.0
"""Surfaces seen more edge-on than this (76 degrees) begin to be lost."""

JUMP_SLOPE = 8.0
"""Steeper than this (83 degrees) counts as a jump between two surfaces."""


@dataclass(frozen=True)
class SensorConfig:
    """Defects of the simulated camera. The defaults are those of a structured-light camera at 1 m."""

    enabled: bool = param(False, "make the camera imperfect")
    kind: str = param(
        "simple",
        "how depth is measured. 'simple': independent pixels, with the settings below. 'stereo': an active stereo camera,"
        " with the settings of stereo instead of those about noise and holes",
        choices=("simple", "stereo"),
    )
    stereo: StereoConfig = param(StereoConfig(), "faults of the kind 'stereo'")  # noqa: RUF009
    depth_noise: float = param(
        0.0015, "depth noise (sigma) at 1 m; grows with the square of the distance [m]", ge=0.0, le=0.05
    )
    edge_holes: float = param(0.7, "share of pixels without depth where depth jumps", ge=0.0, le=1.0)
    dark_holes: float = param(0.25, "share of pixels without depth on black surfaces", ge=0.0, le=1.0)
    glancing_holes: float = param(0.5, "share of pixels without depth on surfaces seen edge-on", ge=0.0, le=1.0)
    unevenness: float = param(
        0.0,
        "error (sigma) at 1 m that neighbouring pixels share and that is constant for a scene; grows with the"
        " square of the distance [m]",
        ge=0.0,
        le=0.05,
    )
    unevenness_px: int = param(12, "size of the bumps of that error in an image 640 wide [px]", ge=2, le=200)
    fattening_px: int = param(0, "near objects cover this much of what is behind them [px]", ge=0, le=20)
    highlight_holes: float = param(0.0, "share of pixels without depth on highlights", ge=0.0, le=1.0)
    latency_s: float = param(0.04, "from exposure to delivery [s]", ge=0.0, le=1.0)
    exposure_jitter: float = param(0.08, "brightness varies by this fraction between frames (sigma)", ge=0.0, le=0.5)
    white_balance_jitter: float = param(
        0.03, "gain of each colour varies by this fraction between scenes (sigma)", ge=0.0, le=0.3
    )
    colour_noise: float = param(2.0, "noise of each colour value (sigma) [1/255]", ge=0.0, le=30.0)
    quantum_m: float = param(0.001, "depth comes in steps of this size [m]; 0 is exact", ge=0.0, le=0.02)
    max_range_m: float = param(4.0, "no depth beyond this distance [m]", ge=0.5, le=20.0)


class Sensor:
    """Applies the defects. The noise of an image depends only on the scene's seed and the image's stamp."""

    def __init__(self, config: SensorConfig, focal_px: float, seed: int) -> None:
        self.config = config
        self._focal_px = focal_px
        self._seed = seed
        self._stereo = StereoDepth(config.stereo, focal_px, seed)
        self._balance = self._random(0).normal(1.0, config.white_balance_jitter, 3)

    @property
    def needs_optics(self) -> bool:
        """Depth depends on what surfaces are made of."""
        return self.config.enabled and self.config.kind == "stereo"

    def __call__(self, rgb: U8, depth_m: F32, stamp_ns: int, optics: Optics | None = None) -> tuple[U8, F32]:
        """An image as this camera would give it; NaN depth where it measures nothing.

        Args:
            rgb: (H, W, 3) ideal colour.
            depth_m: (H, W) ideal depth; infinite where nothing is.
            stamp_ns: Time of exposure, over 0.
            optics: What the surfaces are made of, where :attr:`needs_optics`; None: all are matt and opaque.
        """
        if not self.config.enabled:
            return rgb, np.where(depth_m <= self.config.max_range_m, depth_m, np.float32(np.nan))
        random = self._random(stamp_ns)
        if self.config.kind == "stereo":
            return self._colour(rgb, random), self._matched(rgb, depth_m, optics, random)
        return self._colour(rgb, random), self._depth(rgb, depth_m, random)

    def _random(self, stamp_ns: int) -> np.random.Generator:
        return np.random.default_rng([self._seed, stamp_ns])

    def _bumps(self, shape: tuple[int, ...]) -> F32:
        """(H, W) smooth field of mean square 1, always the same for a scene."""
        size = max(self.config.unevenness_px * shape[1] / 640, 1.0)
        coarse = [int(np.ceil(n / size)) + 3 for n in shape]
        field = np.random.default_rng([self._seed, 0, 1]).standard_normal(coarse, dtype=np.float32)
        fine = cv2.resize(field, None, fx=size, fy=size, interpolation=cv2.INTER_CUBIC)[: shape[0], : shape[1]]
        return np.asarray(fine / np.sqrt(np.mean(fine**2)), dtype=np.float32)

    def _colour(self, rgb: U8, random: np.random.Generator) -> U8:
        config = self.config
        gain = (self._balance * random.normal(1.0, config.exposure_jitter)).astype(np.float32)
        noise = random.standard_normal(rgb.shape, dtype=np.float32) * np.float32(config.colour_noise)
        return np.clip(rgb * gain + noise, 0, 255).astype(np.uint8)

    def _matched(self, rgb: U8, depth_m: F32, optics: Optics | None, random: np.random.Generator) -> F32:
        in_range = np.where(depth_m <= self.config.max_range_m, depth_m, np.float32(np.inf))
        seen = self._rounded(self._stereo(rgb, in_range, optics, random))
        return np.where(seen <= self.config.max_range_m, seen, np.float32(np.nan))

    def _rounded(self, depth_m: F32) -> F32:
        quantum = np.float32(self.config.quantum_m)
        return np.asarray(np.rint(depth_m / self.config.quantum_m) * quantum if quantum > 0.0 else depth_m, np.float32)

    def _depth(self, rgb: U8, depth_m: F32, random: np.random.Generator) -> F32:
        config = self.config
        depth_m = fattened(depth_m, config.fattening_px, self._focal_px)
        near = np.where(depth_m <= config.max_range_m, depth_m, np.float32(config.max_range_m))
        slope = surface_slope(near, self._focal_px)
        edge = config.edge_holes * (slope > JUMP_SLOPE)
        dark = config.dark_holes * np.clip(1.0 - rgb.max(axis=2) / 40.0, 0.0, 1.0)
        glancing = config.glancing_holes * np.clip(slope / GLANCING_SLOPE - 1.0, 0.0, 1.0)
        holes = np.maximum.reduce([edge, dark, glancing, config.highlight_holes * highlights(rgb)])
        lost = random.random(depth_m.shape, dtype=np.float32) < holes
        noise = random.standard_normal(depth_m.shape, dtype=np.float32)
        error = config.depth_noise * noise
        if config.unevenness > 0.0:
            error += config.unevenness * self._bumps(depth_m.shape)
        seen = self._rounded(depth_m + near**2 * error)
        return np.where(lost | (depth_m > config.max_range_m), np.nan, seen).astype(np.float32)


def fattened(depth_m: F32, width_px: int, focal_px: float) -> F32:
    """(H, W) depth as window matching measures it: near objects are up to ``width_px`` wider."""
    if width_px == 0:
        return depth_m
    window = np.ones((2 * width_px + 1, 2 * width_px + 1), np.uint8)
    nearest = np.asarray(cv2.erode(depth_m, window), dtype=np.float32)
    slant = np.float32(GLANCING_SLOPE * width_px / focal_px)  # a surface may recede by this fraction within the window
    return np.where(nearest * (1 + slant) < depth_m, nearest, depth_m)


def highlights(rgb: U8) -> F32:
    """(H, W) 0..1: how much a pixel looks like a reflected light, white and much brighter than its surroundings."""
    white = rgb.min(axis=2).astype(np.float32)
    width = 2 * (rgb.shape[1] // 64) + 1
    around = cv2.blur(white, (width, width))
    return np.asarray(np.clip((white - 225.0) / 20.0, 0.0, 1.0) * (white - around > 25.0), dtype=np.float32)


def surface_slope(depth_m: F32, focal_px: float) -> F32:
    """(H, W) tangent of the angle between viewing ray and surface normal: depth step per width of a pixel there."""
    step_v, step_u = np.gradient(depth_m)
    slope: F32 = np.hypot(step_u, step_v) * np.float32(focal_px) / depth_m
    return slope
