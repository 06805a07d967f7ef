"""What a real depth camera does to an ideal image. Off by default."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from stvla_ros.config import param
from stvla_ros.types import F32, U8


@dataclass(frozen=True)
class SensorConfig:
    """Defects of the simulated camera. The defaults are those of a structured-light camera at 1 m."""

    enabled: bool = param(False, "make the camera imperfect")
    depth_noise: float = param(
        0.0015, "depth noise (sigma) at 1 m; grows with the square of the distance [m]", ge=0.0, le=0.05
    )
    edge_holes: float = param(0.7, "share of pixels without depth where depth jumps", ge=0.0, le=1.0)
    dark_holes: float = param(0.25, "share of pixels without depth on black surfaces", ge=0.0, le=1.0)
    glancing_holes: float = param(0.5, "share of pixels without depth on surfaces seen edge-on", ge=0.0, le=1.0)
    latency_s: float = param(0.04, "from exposure to delivery [s]", ge=0.0, le=1.0)
    exposure_jitter: float = param(0.08, "brightness varies by this share between frames (sigma)", ge=0.0, le=0.5)
    white_balance_jitter: float = param(
        0.03, "gain of each colour varies by this share between scenes (sigma)", ge=0.0, le=0.3
    )
    colour_noise: float = param(2.0, "noise of each colour value (sigma) [1/255]", ge=0.0, le=30.0)
    quantum_m: float = param(0.001, "depth comes in steps of this size [m]; 0 is exact", ge=0.0, le=0.02)
    max_range_m: float = param(4.0, "nothing further away is measured [m]", ge=0.5, le=20.0)


class Sensor:
    """Applies the defects; the same seed gives the same noise."""

    def __init__(self, config: SensorConfig, seed: int) -> None:
        self.config = config
        self._rng = np.random.default_rng([seed, 0x5E])
        self._balance = self._rng.normal(1.0, config.white_balance_jitter, 3)

    def __call__(self, rgb: U8, depth_m: F32) -> tuple[U8, F32]:
        """An image as this camera would give it; NaN depth where it measures nothing.

        Args:
            rgb: (H, W, 3) ideal colour.
            depth_m: (H, W) ideal depth; infinite where nothing is.
        """
        if not self.config.enabled:
            return rgb, np.where(depth_m <= self.config.max_range_m, depth_m, np.float32(np.nan))
        return self._colour(rgb), self._depth(rgb, depth_m)

    def _colour(self, rgb: U8) -> U8:
        gain = self._balance * self._rng.normal(1.0, self.config.exposure_jitter)
        noise = self._rng.normal(0.0, self.config.colour_noise, rgb.shape).astype(np.float32)
        return np.clip(rgb * gain.astype(np.float32) + noise, 0, 255).astype(np.uint8)

    def _depth(self, rgb: U8, depth_m: F32) -> F32:
        config = self.config
        near = np.where(depth_m <= config.max_range_m, depth_m, np.float32(config.max_range_m))
        jump, tilt = _steepness(near)
        edge = config.edge_holes * jump
        dark = config.dark_holes * np.clip(1.0 - rgb.max(axis=2) / 40.0, 0.0, 1.0)
        glancing = config.glancing_holes * tilt
        lost = self._rng.random(depth_m.shape, dtype=np.float32) < np.maximum(np.maximum(edge, dark), glancing)
        noise = self._rng.standard_normal(depth_m.shape, dtype=np.float32)
        seen = depth_m + config.depth_noise * near**2 * noise
        if config.quantum_m > 0.0:
            seen = np.rint(seen / config.quantum_m) * np.float32(config.quantum_m)
        return np.where(lost | (depth_m > config.max_range_m), np.nan, seen).astype(np.float32)


def _steepness(depth_m: F32) -> tuple[F32, F32]:
    """Where depth jumps between neighbours (0 or 1), and how edge-on a surface is seen (0..1).

    The depth step between neighbouring pixels over the width of a pixel at that depth is the tangent of
    the angle between the viewing ray and the surface's normal, whatever the distance.
    """
    step_v, step_u = np.gradient(depth_m)
    step = np.hypot(step_u, step_v) / depth_m
    jump = (step > 0.012).astype(np.float32)
    tilt = np.clip((step - 0.006) / 0.006, 0.0, 1.0) * (1.0 - jump)
    return jump, tilt.astype(np.float32)
