"""Names of colours as seen on lit surfaces."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from stvla_ros.colours import COLOURS
from stvla_ros.types import F64

_NAMES = tuple(COLOURS)
_RGB = np.array([COLOURS[name] for name in _NAMES])
_GAINS = np.exp(np.linspace(np.log(0.55), np.log(1.35), 19))


def colour_costs(rgb: npt.ArrayLike, gain: float = 1.0) -> dict[str, float]:
    """How badly each named colour explains a measured one.

    The light on a surface scales its colour; how much is known only roughly, so every gain is allowed at a
    price that grows with its distance from the expected one.

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
    """(3,) colour in 0..1 of (N, 3) pixels: the mean around the median, so that edges and glints do not count."""
    values = rgb.astype(np.float64) / 255.0
    off = np.abs(values - np.median(values, axis=0)).max(axis=1)
    return np.asarray(values[off <= np.quantile(off, 0.6)].mean(axis=0))
