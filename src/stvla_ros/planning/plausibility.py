"""Whether 8 points, read without error, are a plausible tool path."""

from __future__ import annotations

import re

import numpy as np

from stvla_ros.types import F64

MIN_EXTENT = 5.0
"""A path of smaller extent [1/1000 of the image] does not move."""

SPIKE = 250.0
"""A single point this far from both its neighbours, which are close to each other, is an error."""

MAX_TORTUOSITY = 4.0
"""Largest ratio of length to extent: straight 1, there and back 2, a circle 3.1, a zigzag of 8 points 7."""

_PRESS = re.compile(r"\b(?:push|press|tap|hit|touch|click|poke|button)", re.IGNORECASE)


def may_stay(sentence: str) -> bool:
    """The action is a press: seen from above, its path may stay on one spot."""
    return bool(_PRESS.search(sentence))


def path_fault(uv: F64, still_ok: bool = False) -> str | None:
    """What makes a path implausible, as the model is told; None if nothing does.

    Refused are a path on one spot (all points within 5/1000, unless it is a press), a single outlier (250/1000 from
    both neighbours, which are closer to each other than half of that), and a path that runs back and forth (longer than
    4 times the largest distance between two of its points).

    Args:
        uv: (N, 2) points in 0..1000.
        still_ok: The path may stay on one spot.
    """
    wide = float(np.hypot(*(uv[:, None] - uv[None]).transpose(2, 0, 1)).max())
    if wide < MIN_EXTENT:
        return None if still_ok else "All points lie on one spot, which is no path."
    legs = np.hypot(*np.diff(uv, axis=0).T)
    if legs.sum() > MAX_TORTUOSITY * wide and legs.sum() > SPIKE:
        return f"The path runs to and fro: it is {legs.sum() / wide:.1f} times as long as it is wide."
    for k in range(1, len(uv) - 1):
        between = float(np.hypot(*(uv[k + 1] - uv[k - 1])))
        if min(legs[k - 1], legs[k]) > max(SPIKE, 2 * between):
            return f"Point {k + 1} jumps away from both its neighbours."
    return None
