"""Colours of lit surfaces: features that ignore the light, clusters, and the nearest named colours."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from stvla_ros.colours import COLOURS
from stvla_ros.types import F32, F64, U8, Bool

SPLIT_DISTANCE = 0.26
"""Two clusters whose features (:func:`colour_feature`) are further apart belong to two objects."""

_NAMES = tuple(COLOURS)
_RGB = np.array([COLOURS[name] for name in _NAMES])
_GAINS = np.exp(np.linspace(np.log(0.55), np.log(1.35), 19))


def colour_costs(rgb: npt.ArrayLike, gain: float = 1.0) -> dict[str, float]:
    """How badly each named colour explains a measured one.

    Light scales the colour of a surface. The gain is known only roughly, so every gain is allowed at a cost that
    grows with its distance from the expected one.

    Args:
        rgb: (3,) measured colour, 0..1, linear.
        gain: Expected brightness of a white surface with this orientation.

    Returns:
        Cost per name, 0 for a perfect match at the expected gain.
    """
    seen = np.asarray(rgb, dtype=np.float64)
    lit = np.clip(_RGB[:, None] * (gain * _GAINS)[None, :, None], 0.0, 1.0)  # colour, gain, channel
    error = np.linalg.norm(lit - seen, axis=2) + 0.25 * gain * np.abs(np.log(_GAINS))
    return dict(zip(_NAMES, error.min(axis=1).tolist(), strict=True))


def robust_mean(rgb: npt.NDArray[np.uint8]) -> F64:
    """(3,) colour in 0..1 of (N, 3) pixels: the mean of those near the median, without edges and highlights."""
    values = rgb.astype(np.float64) / 255.0
    off = np.abs(values - np.median(values, axis=0)).max(axis=1)
    return np.asarray(values[off <= np.quantile(off, 0.6)].mean(axis=0))


def colour_feature(rgb: U8) -> F32:
    """(..., 4) features of (..., 3) colours whose Euclidean distance follows the material, not the light.

    Three are the chroma relative to the brightness, which is constant over the faces of a matt body. The fourth is
    the logarithm of the brightness at a small weight: white and black differ more than two faces of one body.
    """
    shape = (*rgb.shape[:-1], 4)
    if not rgb.size:
        return np.zeros(shape, dtype=np.float32)
    channels = [part.astype(np.float32) / np.float32(255.0) for part in cv2.split(rgb.reshape(-1, 1, 3))]
    mean = (channels[0] + (channels[1] + channels[2])) / np.float32(3.0)
    light = mean + np.float32(0.04)
    out = [(channel - mean) / light * np.float32(0.4) for channel in channels]
    out.append(np.log(mean + np.float32(0.06)) * np.float32(0.15))
    return np.asarray(cv2.merge(out), dtype=np.float32).reshape(shape)


def colour_clusters(feature: F32, min_px: int, depth: int) -> U8:
    """(N,) cluster of each of (N, 4) features by repeated bisection, at most 2**depth; 0 is the largest."""
    out = np.zeros(len(feature), dtype=np.uint8)
    if depth == 0 or len(feature) < 2 * min_px:
        return out
    second = two_means(feature)
    if second is None:
        return out
    count = int(np.count_nonzero(second))
    if min(count, len(second) - count) < min_px:  # a few odd pixels: they hide whether the others differ
        most = second if count > len(second) / 2 else ~second
        out[most] = colour_clusters(feature.take(np.flatnonzero(most), axis=0), min_px, depth - 1)
        return out
    if count > len(second) / 2:
        second = ~second
    first_part, second_part = (
        colour_clusters(feature.take(np.flatnonzero(part), axis=0), min_px, depth - 1) for part in (~second, second)
    )
    out[~second] = first_part
    out[second] = second_part + first_part.max() + 1
    return out


def two_means(feature: F32, budget: int = 200) -> Bool | None:
    """(N,) membership of the second of two clusters, or None when the features are one cluster."""
    sample = np.ascontiguousarray(feature[:: max(len(feature) // budget, 1)].T)
    spread = sample.max(axis=1) - sample.min(axis=1)
    if spread @ spread < SPLIT_DISTANCE**2:  # no two of them can be that far apart
        return None
    b = _farthest(sample, _middle(sample.copy()))
    a = _farthest(sample, b)
    members = b""
    for _ in range(8):
        second = (b - a) @ sample > (a + b) @ (b - a) / 2
        before, members = members, second.tobytes()
        if members == before:
            break
        if not 0 < np.count_nonzero(second) < len(second):
            return None
        a, b = _middle(sample[:, ~second]), _middle(sample[:, second])
    if (b - a) @ (b - a) < SPLIT_DISTANCE**2:
        return None
    return np.asarray(feature @ (b - a) > (a + b) @ (b - a) / 2)


def _farthest(sample: F32, of: F32) -> F32:
    """(F,) the one of (F, N) features that is farthest from another."""
    off = sample - of[:, None]
    return np.asarray(sample[:, np.einsum("ij,ij->j", off, off).argmax()])


def _middle(sample: F32) -> F32:
    """(F,) median of (F, N) features (the upper of two), which it sorts: faster than NumPy's on a few hundred."""
    sample.sort(axis=1)
    return np.asarray(sample[:, sample.shape[1] // 2])
