"""Whether 8 points that were read without fault make a path that a hand could mean."""

from __future__ import annotations

import re

import numpy as np

from stvla_ros.types import F64

STILL = 5.0
"""A path within so many thousandths of the image goes nowhere."""

SPIKE = 250.0
"""A single point that is this far from both its neighbours, which lie together, is misread or made up."""

TO_AND_FRO = 4.0
"""A path may be this many times as long as it is wide: straight 1, there and back 2, a circle 3.1, a zigzag of 8 points 7."""

_PRESS = re.compile(r"\b(?:push|press|tap|hit|touch|click|poke|button)", re.IGNORECASE)


def may_stay(sentence: str) -> bool:
    """A press, seen from above, goes up and down on one spot."""
    return bool(_PRESS.search(sentence))


def path_fault(uv: F64, still_ok: bool = False) -> str | None:
    """What is senseless about a path; None when nothing is.

    Refused are a path on one spot (all points within 5/1000, unless it is a press), a single point that jumps away
    (250/1000 from both neighbours, which are closer to each other than half of that), and a path that runs to and fro
    (longer than 4 times the largest distance between two of its points).

    Args:
        uv: (N, 2) points in 0..1000.
        still_ok: The path may stay on one spot.
    """
    wide = float(np.hypot(*(uv[:, None] - uv[None]).transpose(2, 0, 1)).max())
    if wide < STILL:
        return None if still_ok else "All points lie on one spot, which is no path."
    legs = np.hypot(*np.diff(uv, axis=0).T)
    if legs.sum() > TO_AND_FRO * wide and legs.sum() > SPIKE:
        return f"The path runs to and fro: it is {legs.sum() / wide:.1f} times as long as it is wide."
    for k in range(1, len(uv) - 1):
        between = float(np.hypot(*(uv[k + 1] - uv[k - 1])))
        if min(legs[k - 1], legs[k]) > max(SPIKE, 2 * between):
            return f"Point {k + 1} jumps away from both its neighbours."
    return None
