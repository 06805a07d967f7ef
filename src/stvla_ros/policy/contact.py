"""Whether a keypose is meant to touch something. The executor needs to know, and keypose networks do not predict it."""

from __future__ import annotations

import numpy as np

from stvla_ros.types import F32, F64, Keypose, Observation

NEAR_M = 0.025
"""Points this close to the tool centre point will be touched."""

MIN_PX = 6
"""Fewer pixels are noise."""

SAME_PLACE_M = 0.05
"""Contacts closer together than this horizontally are at the same place."""


def touches(observation: Observation, points_m: F32, T_base_tcp: F64, gripper_open: bool) -> bool:
    """Whether a keypose touches: the gripper lets go of something, or the tool ends at a surface.

    Args:
        observation: What the keypose was predicted from.
        points_m: (N, 3) what it shows of the scene (:func:`stvla_ros.policy.observation.seen_points`).
        T_base_tcp: (4, 4) predicted tool pose.
        gripper_open: Predicted gripper state after the move.
    """
    history = observation.history
    if history and history[-1].gripper_open != gripper_open and gripper_open:
        return True  # releases what it holds
    gap = points_m - T_base_tcp[:3, 3].astype(np.float32)
    return int(np.count_nonzero(np.einsum("nc,nc->n", gap, gap) < NEAR_M**2)) >= MIN_PX


def done_there(observation: Observation, keypose: Keypose) -> bool:
    """Whether a keypose would touch the path's end again, after the tool has touched there and moved away.

    Args:
        observation: What the keypose was predicted from.
        keypose: The prediction.
    """
    contacts = [k for k in observation.history if k.may_collide]
    if not keypose.may_collide or not contacts or observation.history[-1].may_collide:
        return False
    end = observation.guidance.trace.xyz_m[-1]
    return all(_beside(k.T_base_tcp, end) < SAME_PLACE_M for k in (contacts[-1], keypose))


def _beside(T_base_tcp: F64, place_m: np.ndarray) -> float:
    """Horizontal distance between a tool pose and a place, metres."""
    return float(np.hypot(*(T_base_tcp[:2, 3] - place_m[:2])))
