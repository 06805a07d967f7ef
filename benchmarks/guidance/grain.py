"""How a filled image differs from the true one: on the whole, pixel by pixel, in its grain, and by blobs."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt
from scipy.stats import wasserstein_distance

from stvla_ros.types import F32, F64, U8, Bool

WIDTH_PX = 640
"""Lengths and areas are those of an image this wide."""

SIGMA_PX = 4.0
"""Of the low-pass: what is coarser is shape, light and stains, what is finer is grain."""

PATCH_PX = 16
"""Edge of the patches of the spectrum, in pixels of the image itself: the texture is not resampled."""

BANDS = 8
ROUNDING = 1 / 12
"""Power of the rounding to whole levels: what is below cannot be told from it."""

GHOST_SIGMA_PX, GHOST_LEVELS = 2.0, 20.0
"""A ghost is smooth over this distance and differs from the truth by more than this."""


def luminance(rgb: U8) -> F32:
    """(H, W) in 0..255, not rounded."""
    return np.asarray(cv2.cvtColor(rgb.astype(np.float32), cv2.COLOR_RGB2GRAY), np.float32)


def low_passed(values: npt.NDArray[np.floating], where: Bool, sigma_px: float) -> F64:
    """Gaussian mean over the pixels of a region only (normalised convolution); meaningless outside of it."""
    inside = where if values.ndim == 2 else where[..., None]
    total = cv2.GaussianBlur(np.where(inside, values, 0.0).astype(np.float64), (0, 0), sigma_px)
    weight = np.maximum(cv2.GaussianBlur(where.astype(np.float64), (0, 0), sigma_px), 1e-6)
    return np.asarray(total / (weight if values.ndim == 2 else weight[..., None]))


def split_error(difference: npt.NDArray[np.floating], where: Bool) -> dict[str, float]:
    """Mean absolute difference in a region: of each pixel, of the low-passed image, and of what remains."""
    low = low_passed(difference, where, SIGMA_PX * where.shape[1] / WIDTH_PX)
    parts = {"": difference, "_low": low, "_fine": difference - low}
    return {name: float(np.abs(part[where]).mean()) for name, part in parts.items()}


def spectrum(image: F32, where: Bool) -> F64 | None:
    """(BANDS,) mean power by spatial frequency, from 1/PATCH_PX to 1/2 cycles per pixel; white noise gives its variance.

    Averaged over Hann-windowed patches without their mean, which lie in the region and overlap by half (Welch 1967);
    None when no patch fits. The lowest band loses some of its power to the mean.
    """
    fits = cv2.erode(where.astype(np.uint8), np.ones((PATCH_PX, PATCH_PX), np.uint8), anchor=(0, 0))
    fits[-PATCH_PX + 1 :], fits[:, -PATCH_PX + 1 :] = 0, 0
    step = PATCH_PX // 2
    at = np.argwhere(fits[::step, ::step]) * step
    if not len(at):
        return None
    patches = np.stack([image[v : v + PATCH_PX, u : u + PATCH_PX] for v, u in at]).astype(np.float64)
    window = np.outer(np.hanning(PATCH_PX), np.hanning(PATCH_PX))
    patches -= (patches * window).sum(axis=(1, 2), keepdims=True) / window.sum()
    power = (np.abs(np.fft.fft2(patches * window)) ** 2).mean(axis=0) / (window**2).sum()
    return _by_radius(power)


def _by_radius(power: F64) -> F64:
    """Mean of a 2D spectrum over rings; the corners beyond 1/2 cycles per pixel do not count."""
    f = np.fft.fftfreq(PATCH_PX) * PATCH_PX
    ring = np.rint(np.hypot(f[:, None], f)).astype(int)
    return np.array([power[ring == k].mean() for k in range(1, BANDS + 1)])


def grain(filled: U8, true: U8, where: Bool) -> dict[str, float]:
    """Distances of the grain in a region from the true one, however it is placed.

    Returns:
        ``spectrum_db``: root mean square over the bands of the ratio of the radial power spectra.
        ``gradients``: Wasserstein distance of the histograms of the gradient's size, 1/255 per pixel.
        ``grain_ratio``: standard deviation of what the low-pass removes, over the true one; 0 is a smear.
        Nothing for an empty region.
    """
    if not where.any():
        return {}
    images = luminance(filled), luminance(true)
    powers = [spectrum(image, where) for image in images]
    sigma = SIGMA_PX * where.shape[1] / WIDTH_PX
    fine = [float(np.std((image - low_passed(image, where, sigma))[where])) for image in images]
    return {
        "spectrum_db": _ratio_db(*powers) if powers[0] is not None and powers[1] is not None else float("nan"),
        "gradients": float(wasserstein_distance(*(_gradients(image, where) for image in images))),
        "grain_ratio": fine[0] / max(fine[1], np.sqrt(ROUNDING)),
    }


def _ratio_db(power: F64, true: F64) -> float:
    return float(np.sqrt(np.mean((10 * np.log10((power + ROUNDING) / (true + ROUNDING))) ** 2)))


def _gradients(image: F32, where: Bool) -> F32:
    across = np.abs(np.diff(image, axis=1))[where[:, 1:] & where[:, :-1]]
    down = np.abs(np.diff(image, axis=0))[where[1:] & where[:-1]]
    steps = np.concatenate([across, down])
    return steps if steps.size else np.zeros(1, np.float32)


def ghosts(filled: U8, true: U8, where: Bool) -> dict[str, float]:
    """Area of the largest blob that is brighter, and of the largest that is darker, than the truth."""
    scale = where.shape[1] / WIDTH_PX
    off = low_passed(luminance(filled) - luminance(true), where, GHOST_SIGMA_PX * scale)
    return {
        f"{name}_ghost_px": _largest((sign * off > GHOST_LEVELS) & where) / scale**2
        for name, sign in (("bright", 1.0), ("dark", -1.0))
    }


def _largest(mask: Bool) -> int:
    count, _, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8))
    return int(stats[1:, cv2.CC_STAT_AREA].max()) if count > 1 else 0
