"""Depth as an active stereo camera measures it: by matching windows of two images, with the faults of that.

Everything happens in disparity, the shift between the images in pixels: focal length times baseline over depth. The
second imager stands to the right, so what only the first one sees lies at the left of near things and at the left
border. Each fault can be switched off. Lengths in pixels are those of an image 640 wide.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from stvla_ros.config import param
from stvla_ros.types import F32, F64, U8, Bool

FARTHEST_M = 20.0
"""Stands for no surface at all."""

JUMP_PX = 1.0
"""Disparities of neighbours differ by more than this at an outline."""

OUTLINE_PX = 3.0
"""Length over which an outline wobbles (sigma of a Gaussian)."""

HOLES_FIXED = 0.9
"""Share of the blobs' variance that stays: holes flicker at their borders only."""

STRETCH = 1.6
"""Lumps of noise are this much longer along rows, where the windows are compared (measured on a D435 at a table)."""


@dataclass(frozen=True)
class StereoConfig:
    """Faults of an active stereo camera. The defaults are those of a RealSense D435 at a table.

    Sources: Keselman et al., Intel RealSense Stereoscopic Depth Cameras, 2017 (windows, pattern, shadows, holes).
    Chatterjee and Govindu, Noise in Structured-Light Stereo Depth Cameras, 2015 (noise). Grunnet-Jepsen et al., Subpixel
    Linearity Improvement for Intel RealSense Depth Camera D400 Series, 2019 (steps). Intel RealSense D400 Series
    Datasheet (baseline, invalid depth band). Scharstein and Szeliski, A Taxonomy and Evaluation of Dense Two-Frame Stereo
    Correspondence Algorithms, 2002 (fattening). Handa et al., A Benchmark for RGB-D Visual Odometry, 3D Reconstruction
    and SLAM, 2014 (wobble). Sabov and Krueger, Identification and Correction of Flying Pixels in Range Camera Data, 2008.
    Gupta et al., Structured Light 3D Scanning in the Presence of Global Illumination, 2011 (multipath). Sajjan et al.,
    ClearGrasp, 2020 (transparent things). Herrera et al., Joint Depth and Color Camera Calibration with Distortion
    Correction, 2012 (offset).
    """

    baseline_m: float = param(0.05, "distance between the two imagers [m] (D435: 0.05)", ge=0.01, le=0.3)
    noise_px: float = param(
        0.06,
        "noise of the disparity (sigma) [px]; in depth it grows with the square of the distance (D435: 0.05 to 0.1)",
        ge=0.0,
        le=1.0,
    )
    correlation_px: float = param(
        5.0, "neighbours share the noise over this length (sigma of a Gaussian) [px]: windows overlap", ge=0.0, le=30.0
    )
    fixed_share: float = param(
        0.5,
        "share of the noise's variance that stays as long as the scene does, because the projected pattern stands still",
        ge=0.0,
        le=1.0,
    )
    step_px: float = param(
        1 / 32, "disparity comes in steps of this size [px] (D400: 1/32); 0 is exact", ge=0.0, le=1.0
    )
    window_px: int = param(7, "width of the window that is matched [px]: creases get round; 0 is exact", ge=0, le=41)
    fattening_px: int = param(1, "near things cover this much of what is behind them [px]", ge=0, le=20)
    wobble_px: float = param(0.7, "outlines are displaced by this much (sigma) [px]", ge=0.0, le=5.0)
    flying: float = param(
        0.03, "share of pixels at an outline that lie between the near and the far surface", ge=0.0, le=1.0
    )
    shadows: bool = param(
        True, "no depth where the second imager sees a nearer thing, at the left of it, nor left of its image"
    )
    multipath: float = param(
        0.35,
        "hollows are raised by this share of their depth below what surrounds them: light is reflected on",
        ge=0.0,
        le=1.0,
    )
    multipath_px: int = param(25, "size of the surroundings that reflect into a hollow [px]", ge=3, le=101)
    gloss_holes: float = param(
        0.35, "share of pixels without depth on a mirror-like surface; far less on a duller one", ge=0.0, le=1.0
    )
    dark_holes: float = param(
        0.6, "share of pixels without depth on black surfaces: the pattern is absorbed", ge=0.0, le=1.0
    )
    clear_holes: float = param(
        0.4, "share of pixels without depth on transparent things; the rest has the depth behind", ge=0.0, le=1.0
    )
    speckle_holes: float = param(0.002, "share of pixels without depth anywhere", ge=0.0, le=0.2)
    hole_px: float = param(5.0, "size of holes in surfaces (sigma of a Gaussian) [px]", ge=0.5, le=30.0)
    offset_px: float = param(
        1.0, "depth is shifted against colour by this much (sigma), constant for a scene [px]", ge=0.0, le=10.0
    )


@dataclass(frozen=True, eq=False)
class Optics:
    """What a surface does to light, per pixel.

    Attributes:
        gloss: (H, W) 0 is matt, 1 is mirror-like.
        opacity: (H, W) 1 is opaque.
    """

    gloss: F32
    opacity: F32


@dataclass(frozen=True, eq=False)
class _Still:
    """What stays as long as a scene does: the offset, and (H, W) noise and blobs of unit size."""

    offset_px: F64
    noise: F32
    blobs: F32


class StereoDepth:
    """Applies the faults. An image depends only on the scene's seed and the image's stamp. Not thread safe."""

    def __init__(self, config: StereoConfig, focal_px: float, seed: int) -> None:
        self.config = config
        self._focal_baseline = np.float32(focal_px * config.baseline_m)
        self._seed = seed
        self._last: tuple[tuple[int, ...], _Still] | None = None

    def __call__(self, rgb: U8, depth_m: F32, optics: Optics | None, random: np.random.Generator) -> F32:
        """(H, W) measured depth; NaN where there is none.

        Args:
            rgb: (H, W, 3) ideal colour: dark surfaces give no light back.
            depth_m: (H, W) ideal depth, behind transparent things; infinite where nothing is.
            optics: Of the surfaces; None: all are matt and opaque.
            random: Decides what differs between images of one scene.
        """
        config, scale = self.config, depth_m.shape[1] / 640
        still = self._still(depth_m.shape, scale)
        ideal = np.asarray(self._focal_baseline / np.fmin(depth_m, np.float32(FARTHEST_M)), np.float32)
        moved = displaced(ideal, still.offset_px, config.wobble_px * scale, OUTLINE_PX * scale, random)
        disparity = _grown(moved, round(config.fattening_px * scale))
        lost = hidden_from_right(disparity) if config.shadows else np.zeros(depth_m.shape, bool)
        outline = _outlines(disparity)
        matched = matched_windows(disparity, round(config.window_px * scale))
        matched = raised_hollows(matched, config.multipath, round(config.multipath_px * scale))
        matched = _flying(matched, outline & ~lost, config.flying, random)
        new = smooth_field(random, depth_m.shape, config.correlation_px * scale, STRETCH)
        matched += np.float32(config.noise_px) * _mixed(still.noise, new, config.fixed_share)
        if config.step_px > 0.0:
            matched = np.rint(matched / config.step_px) * np.float32(config.step_px)
        new = smooth_field(random, depth_m.shape, config.hole_px * scale)
        lost |= _normal_share(_mixed(still.blobs, new, HOLES_FIXED)) < self._hole_share(rgb, optics)
        return np.where(lost | (matched <= 0.0), np.float32(np.nan), self._focal_baseline / np.maximum(matched, 1e-3))

    def _still(self, shape: tuple[int, ...], scale: float) -> _Still:
        if self._last is None or self._last[0] != shape:
            random, config = np.random.default_rng([self._seed, 0, 2]), self.config
            offset = random.normal(0.0, config.offset_px * scale, 2)
            noise = smooth_field(random, shape, config.correlation_px * scale, STRETCH)
            self._last = shape, _Still(offset, noise, smooth_field(random, shape, config.hole_px * scale))
        return self._last[1]

    def _hole_share(self, rgb: U8, optics: Optics | None) -> F32:
        """(H, W) share of pixels that lose depth: surfaces swallow the pattern, throw it elsewhere or let it through."""
        config = self.config
        share = np.maximum(config.dark_holes * blackness(rgb), np.float32(config.speckle_holes))
        if optics is not None:
            clear = np.float32(config.clear_holes) * (optics.opacity < 1.0)
            share = np.maximum.reduce([share, config.gloss_holes * optics.gloss**8, clear])
        return np.asarray(share, np.float32)


def _mixed(still: F32, new: F32, share: float) -> F32:
    """(H, W) noise of mean square 1; ``share`` of its variance stays."""
    return np.asarray(np.sqrt(np.float32(share)) * still + np.sqrt(np.float32(1.0 - share)) * new, np.float32)


def smooth_field(random: np.random.Generator, shape: tuple[int, ...], length_px: float, stretch: float = 1.0) -> F32:
    """(H, W) Gaussian noise of mean square 1.

    Args:
        random: Gives the same number of values, whatever the length.
        shape: Height and width.
        length_px: Blurred with this sigma.
        stretch: Sigma along rows over sigma along columns.
    """
    white = random.standard_normal(shape, dtype=np.float32)
    if length_px < 0.3:
        return white
    step = max(int(length_px / 1.8), 1)  # so smooth a field is drawn at every so many pixels and interpolated
    wide, high = length_px / step * np.sqrt(stretch), length_px / step / np.sqrt(stretch)
    small = white[: -(-shape[0] // step) + 1, : -(-shape[1] // step) + 1]
    field = cv2.GaussianBlur(np.ascontiguousarray(small), (0, 0), sigmaX=wide, sigmaY=high)
    if step > 1:
        field = cv2.resize(field, None, fx=step, fy=step, interpolation=cv2.INTER_CUBIC)[: shape[0], : shape[1]]
    return np.asarray(field / np.sqrt(np.mean(field**2)), np.float32)


def displaced(disparity: F32, offset_px: F64, wobble_px: float, length_px: float, random: np.random.Generator) -> F32:
    """The whole image shifted by a constant offset; its outlines, but not what is between them, by a smooth noise too."""
    shape = disparity.shape[:2]
    x, y = np.meshgrid(np.arange(shape[1], dtype=np.float32), np.arange(shape[0], dtype=np.float32))
    x, y = x + np.float32(offset_px[0]), y + np.float32(offset_px[1])
    dx, dy = (np.float32(wobble_px) * smooth_field(random, shape, length_px) for _ in range(2))
    shifted = cv2.remap(disparity, x, y, cv2.INTER_NEAREST, borderMode=cv2.BORDER_REPLICATE)
    wobbly = cv2.remap(disparity, x + dx, y + dy, cv2.INTER_NEAREST, borderMode=cv2.BORDER_REPLICATE)
    return np.where(np.abs(wobbly - shifted) > JUMP_PX, wobbly, shifted)


def _grown(disparity: F32, width_px: int) -> F32:
    """Near things, which have large disparities, get wider."""
    window = np.ones((2 * width_px + 1, 2 * width_px + 1), np.uint8)
    return np.asarray(cv2.dilate(disparity, window), np.float32) if width_px else disparity


def hidden_from_right(disparity: F32) -> Bool:
    """(H, W) True where the second imager sees another surface, or is past its image's border."""
    column = np.arange(disparity.shape[1], dtype=np.float32) - disparity
    nearest = np.minimum.accumulate(column[:, ::-1], axis=1)[:, ::-1]  # of this pixel and all to its right
    return np.asarray((column > nearest + 0.5) | (column < 0.0))


def _outlines(disparity: F32) -> Bool:
    """(H, W) True on pixels beside a jump."""
    window = np.ones((3, 3), np.uint8)
    return np.asarray(cv2.dilate(disparity, window) - cv2.erode(disparity, window) > JUMP_PX)


def _flying(disparity: F32, outline: Bool, share: float, random: np.random.Generator) -> F32:
    """Pixels of an outline, moved to somewhere between the surfaces beside it."""
    window = np.ones((3, 3), np.uint8)
    near, far = cv2.dilate(disparity, window), cv2.erode(disparity, window)
    chosen = outline & (random.random(disparity.shape, dtype=np.float32) < share)
    between = far + random.random(disparity.shape, dtype=np.float32) * (near - far)
    return np.where(chosen, between, disparity)


def matched_windows(disparity: F32, width_px: int) -> F32:
    """Disparity averaged over a window, but not across jumps (He et al., Guided Image Filtering, 2010)."""
    if width_px < 2:
        return disparity
    size = (width_px, width_px)
    mean = cv2.blur(disparity, size)
    variance = np.maximum(cv2.blur(disparity * disparity, size) - mean * mean, 0.0)
    gain = variance / (variance + np.float32(JUMP_PX**2))
    return np.asarray(cv2.blur(gain, size) * disparity + cv2.blur((1 - gain) * mean, size), np.float32)


def raised_hollows(disparity: F32, share: float, width_px: int) -> F32:
    """What lies lower than its surroundings comes nearer by a share of the difference; jumps stay."""
    if share == 0.0:
        return disparity
    around = matched_windows(disparity, width_px)
    return np.asarray(disparity + np.float32(share) * np.maximum(around - disparity, 0.0), np.float32)


def blackness(rgb: U8) -> F32:
    """(H, W) 0..1: how little light comes back."""
    return np.asarray(np.clip(1.0 - rgb.max(axis=2) / 45.0, 0.0, 1.0), np.float32)


def _normal_share(value: F32) -> F32:
    """Share of a normal distribution below a value (logistic approximation of Bowling et al., 2009)."""
    return np.asarray(1.0 / (1.0 + np.exp(-0.07056 * value**3 - 1.5976 * value)), np.float32)
