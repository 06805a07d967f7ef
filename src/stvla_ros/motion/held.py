"""The held object as a box in the tool frame."""

from __future__ import annotations

import numpy as np

from stvla_ros.geometry.se3 import inverse, pose
from stvla_ros.types import F32, F64, Bool, Box

PALM_M = 0.045
"""A held object ends this far above the tool centre point: there is the hand."""

MAX_REACH_M = 0.30
"""A held object reaches at most this far from the tool; what is further away is another one."""


SHRINK_M = 0.004
"""Removed from the lower end of a held object, so that one on a surface does not "touch" it."""


def held_box(points_m: F32, T_base_tcp: F64, width_m: float, gap_m: float = 0.01, alone: bool = False) -> Box:
    """The object that the fingers closed on, as a box in the tool frame.

    The opening gives the least width. Points of the image from before the grasp give the rest: along the fingers from
    the object's top to its lowest seen point, and sideways.

    Args:
        points_m: (N, 3) obstacle points seen before the grasp.
        T_base_tcp: (4, 4) tool pose of the grasp.
        width_m: Finger distance when closed on it.
        gap_m: The object ends where points have a gap of about this length.
        alone: All points are of one instance. Otherwise it ends close to the hand, and along the opening at the fingers.
    """
    T = inverse(T_base_tcp)
    local = np.asarray(points_m @ T[:3, :3].T + T[:3, 3], dtype=np.float32)
    reach = np.full(3, MAX_REACH_M) if alone else np.array([0.06, width_m / 2 + 0.006, 0.06])
    near = local[(np.abs(local) <= reach).all(axis=1) & (local[:, 2] > -PALM_M)]
    x, z = _extent(near[:, 0], width_m / 2, gap_m / 2), _extent(near[:, 2], 0.01, gap_m / 2)
    y = _extent(near[:, 1], width_m / 2, gap_m / 2) if alone else (-width_m / 2, width_m / 2)
    low, high = (np.array([x[i], y[i], z[i]]) for i in (0, 1))
    high[2] = max(high[2] - SHRINK_M, low[2] + 0.005)
    return Box(pose(np.eye(3), (low + high) / 2), high - low)


HIDDEN_M = 0.010
"""Less than this below a held object's box is within the box's own accuracy."""


def with_hidden_part(held: Box, points_m: F32, T_base_tcp: F64, deepest_m: float, gap_m: float = 0.01) -> Box:
    """The held object with the part that its surroundings hid before it was lifted, such as the base of a bulb.

    Args:
        held: The object as it was seen before the grasp, in the tool frame.
        points_m: (N, 3) points of an image in which it hangs free.
        T_base_tcp: (4, 4) tool pose in that image.
        deepest_m: It reaches no further below the tool.
        gap_m: It ends where points have a gap of about this length.
    """
    T = inverse(T_base_tcp)
    local = np.asarray(points_m @ T[:3, :3].T + T[:3, 3], dtype=np.float32)
    low, high = (held.T_frame_box[:3, 3] + sign * held.size_m / 2 for sign in (-1.0, 1.0))
    below = local[(local[:, :2] > low[:2]).all(axis=1) & (local[:, :2] < high[:2]).all(axis=1), 2]
    _, bottom = _extent(below[below > high[2] - gap_m] - np.float32(high[2]), 0.0, gap_m / 2)
    if bottom < HIDDEN_M:
        return held
    high[2] = max(high[2], min(high[2] + bottom - SHRINK_M, deepest_m))
    return Box(pose(np.eye(3), (low + high) / 2), high - low)


def _extent(values: F32, least_m: float, bin_m: float) -> tuple[float, float]:
    """How far values extend from zero to both sides without a gap of two bins; at least ``least_m`` to each side."""
    bins = round(MAX_REACH_M / bin_m)
    taken = np.zeros(2 * bins, dtype=bool)
    taken[np.clip(np.floor(values / bin_m).astype(int) + bins, 0, 2 * bins - 1)] = True

    def end(side: Bool) -> float:
        gap = np.flatnonzero(~side[:-1] & ~side[1:])
        return bin_m * (int(gap[0]) if len(gap) else len(side))

    own = values[(values >= -end(taken[:bins][::-1])) & (values <= end(taken[bins:]))]
    low, high = np.quantile(own, [0.01, 0.99]) if len(own) else (0.0, 0.0)
    return min(float(low), -least_m), max(float(high), least_m)
