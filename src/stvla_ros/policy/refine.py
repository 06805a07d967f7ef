"""Moves a learned keypose to where the guided frame shows that it belongs: the network says what to do next, the image
where exactly."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from stvla_ros.geometry.paths import valid_points
from stvla_ros.geometry.se3 import finger_yaw, pose, rotation_z, wrap
from stvla_ros.policy.entering import is_tilted
from stvla_ros.policy.grasp import find_grasp
from stvla_ros.policy.observation import hand_open
from stvla_ros.types import F32, F64, Keypose, Observation

RELEASE_OFF_M = 0.01
"""A release is at most this far above or below the path's end: what falls from higher does not stay where it falls."""


def refined(observation: Observation, points_m: F32, keypose: Keypose, within_m: float) -> Keypose:
    """The keypose above or at the grasp that is measured where the path begins, or at the release where the path ends. Where
    the policy does not see the path (``mask_only``, ``off``), keyposes stay as they are.

    A way to a grasp is moved horizontally to the middle of the object's top, and turned to the nearest direction in which
    the fingers close on opposite faces: a square block has two of them, and a network that learned both answers with one
    between them. A release is moved to the path's end, within :data:`RELEASE_OFF_M` of its height: a network answers between
    the two heights of going there and letting go, too. All else stays the network's.

    Args:
        observation: What the keypose was predicted from.
        points_m: (N, 3) what it shows of the scene (:func:`stvla_ros.policy.observation.seen_points`).
        keypose: The prediction.
        within_m: A keypose that is further beside the place than this stays as it is: it is meant for something else.
    """
    if observation.guidance.mode != "full" or is_tilted(keypose.T_base_tcp):
        return keypose
    path_m = valid_points(observation.guidance.trace).astype(np.float64)
    if not hand_open(observation.history, observation.robot):
        if not (keypose.gripper_open and keypose.may_collide):
            return keypose
        low, high = path_m[-1, 2] - RELEASE_OFF_M, path_m[-1, 2] + RELEASE_OFF_M
        z_m = np.clip(keypose.T_base_tcp[2, 3], low, high)
        return _moved(keypose, np.array([*path_m[-1, :2], z_m]), 0.0, within_m)
    if observation.history and observation.history[-1].may_collide:
        return keypose  # the way out of a contact
    if keypose.gripper_open == keypose.may_collide:
        return keypose  # neither above a grasp, with an open hand, nor at one
    yaw_rad = finger_yaw(keypose.T_base_tcp)
    grasp = find_grasp(points_m, path_m[0], yaw_rad)
    if grasp is None:
        return keypose
    place_m = np.array([*grasp.xyz_m[:2], keypose.T_base_tcp[2, 3]])
    return _moved(keypose, place_m, wrap(grasp.yaw_rad - yaw_rad, np.pi), within_m)


def _moved(keypose: Keypose, place_m: F64, turn_rad: float, within_m: float) -> Keypose:
    """The keypose at a place, turned about the vertical; unchanged if it is further beside the place."""
    T = keypose.T_base_tcp
    if np.hypot(*(place_m - T[:3, 3])[:2]) > within_m:
        return keypose
    return replace(keypose, T_base_tcp=pose(rotation_z(turn_rad) @ T[:3, :3], place_m))
