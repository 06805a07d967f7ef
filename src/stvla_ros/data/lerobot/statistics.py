"""Statistics of a set as LeRobot's policies use them for normalization: per feature, over frames."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from stvla_ros.types import F64

QUANTILES = {"q01": 0.01, "q10": 0.10, "q50": 0.50, "q90": 0.90, "q99": 0.99}
SAMPLES = 32
"""Images of an episode that count, at equal steps; every pixel of all of them would take as long as writing them."""
_PIXELS = 150
"""Images are thinned to about this many pixels per side."""

Stats = dict[str, Any]
"""min, max, mean, std and quantiles as nested lists, and count."""


def of_numbers(values: npt.ArrayLike) -> Stats | None:
    """Statistics of (N,) or (N, D) numbers over their frames; None where a number is never known.

    What is not finite does not count, here and in images."""
    array = _known(np.asarray(values, dtype=np.float64).reshape(len(values), -1))  # type: ignore[arg-type]
    if np.isnan(array).all(axis=0).any():
        return None
    return _stats(array, (0,), (array.shape[1],), len(array))


def of_images(images: Sequence[npt.NDArray[Any]]) -> Stats | None:
    """Statistics per channel, shape (C, 1, 1), of (H, W) or (H, W, C) images; 8 bits count as 0..1."""
    stack = np.stack([_thin(image) for image in images])
    array = stack.reshape(-1, stack.shape[3] if stack.ndim == 4 else 1).astype(np.float64)
    array = _known(array / 255.0 if stack.dtype == np.uint8 else array)
    if np.isnan(array).all(axis=0).any():
        return None
    return _stats(array, (0,), (array.shape[1], 1, 1), len(images))


def _known(array: F64) -> F64:
    return np.where(np.isfinite(array), array, np.nan)


def _thin(image: npt.NDArray[Any]) -> npt.NDArray[Any]:
    step = max(1, max(image.shape[:2]) // _PIXELS)
    return image[::step, ::step]


def _stats(array: F64, axis: tuple[int, ...], shape: tuple[int, ...], count: int) -> Stats:
    kinds: dict[str, Any] = {"min": np.nanmin, "max": np.nanmax, "mean": np.nanmean, "std": np.nanstd}
    stats: Stats = {name: of(array, axis=axis).reshape(shape).tolist() for name, of in kinds.items()}
    for name, q in QUANTILES.items():
        stats[name] = np.nanquantile(array, q, axis=axis).reshape(shape).tolist()
    return {**stats, "count": [count]}


def together(episodes: Sequence[Mapping[str, Stats]]) -> dict[str, Stats]:
    """Statistics of a whole set from those of its episodes; quantiles are means weighted by length, as LeRobot's."""
    names = set.intersection(*(set(stats) for stats in episodes))
    return {name: _together([stats[name] for stats in episodes]) for name in sorted(names)}


def _together(stats: Sequence[Stats]) -> Stats:
    counts = np.array([s["count"][0] for s in stats], dtype=np.float64)
    share = counts / counts.sum()

    def weighted(values: Sequence[Any]) -> F64:
        return np.tensordot(share, np.array(values, dtype=np.float64), axes=1)

    mean = weighted([s["mean"] for s in stats])
    squares = [np.square(s["std"]) + np.square(np.array(s["mean"]) - mean) for s in stats]
    return {
        "min": np.min([s["min"] for s in stats], axis=0).tolist(),
        "max": np.max([s["max"] for s in stats], axis=0).tolist(),
        "mean": mean.tolist(),
        "std": np.sqrt(weighted(squares)).tolist(),
        **{name: weighted([s[name] for s in stats]).tolist() for name in QUANTILES},
        "count": [int(counts.sum())],
    }
