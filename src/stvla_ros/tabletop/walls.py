"""Walls: steep planes behind which there is no support, such as the wall of a room or of a bin around the support."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from stvla_ros.tabletop.support_plane import SupportPlane
from stvla_ros.types import F32, F64, Bool

MAX_WALLS = 4

RAISED_M = 0.04
"""Walls are searched among the points this high above the support."""

MIN_SIDE = 0.12
"""A wall meets a side of the image if it takes up this share of it."""

MIN_SHARE = 0.03
"""Smallest wall, as a share of the image."""

MIN_WIDTH_M, MIN_WIDTH_INSIDE_M = 0.35, 0.4
"""Narrower planes are faces of objects; where a side of the image is met, and where the whole plane is seen."""

MAX_NORMAL_Z = 0.5
"""A steep plane rises by more than 60 degrees."""

MAX_BEHIND = 0.02
"""Largest share of the support's pixels behind a wall."""

FLAT_M, BESIDE_M = 0.012, 0.03
"""Points this close to a plane lie on it; what connects to a wall and is this close to it belongs to it."""

TRIALS, SAMPLE = 120, 1500
"""Planes tried per wall (RANSAC: Fischler and Bolles 1981), and points that they are tried on."""


def find_walls(points_m: F32, height_m: F32, exclude: Bool, table: SupportPlane, eye_m: F64) -> Bool:
    """(H, W) pixels of walls.

    Args:
        points_m: (3, H, W) points in the base frame.
        height_m: (H, W) height above the table.
        exclude: (H, W) pixels to ignore (the robot).
        table: The support plane.
        eye_m: (3,) position of the camera in the base frame.
    """
    walls = np.zeros(height_m.shape, dtype=bool)
    raised = (height_m > RAISED_M) & ~exclude
    if np.count_nonzero(raised) < MIN_SHARE * raised.size:
        return walls
    level = np.flatnonzero((np.abs(height_m) < table.noise_floor_m) & ~exclude)
    support = points_m.reshape(3, -1)[:, level[::7]]
    flat_m = FLAT_M + 2 * table.noise_m
    for _ in range(MAX_WALLS):
        if np.count_nonzero(raised) < MIN_SHARE * raised.size:
            break
        plane = _steepest(points_m, raised, flat_m, eye_m)
        if plane is None:
            break
        away = np.tensordot(plane[:3].astype(np.float32), points_m, 1) - np.float32(plane[3])
        own = raised & (np.abs(away) < flat_m)
        if np.count_nonzero(own) < MIN_SHARE * own.size:  # nor will any other plane hold as many
            break
        behind = np.count_nonzero(plane[:3] @ support - plane[3] < -BESIDE_M)
        if _is_wall(own, points_m, plane) and behind <= MAX_BEHIND * max(support.shape[1], 1):
            beside = (height_m > table.noise_floor_m) & (np.abs(away) < BESIDE_M) & ~exclude
            walls |= _connected_to(own, beside)
        raised &= ~own
    return walls


def _meets_a_side(mask: Bool) -> bool:
    sides = (mask[0], mask[-1], mask[:, 0], mask[:, -1])
    return any(np.count_nonzero(side) > MIN_SIDE * len(side) for side in sides)


def _steepest(points_m: F32, raised: Bool, flat_m: float, eye_m: F64) -> npt.NDArray[np.float64] | None:
    """(4,) the steep plane ``n @ p = d`` that holds most of the points, its unit normal towards the camera."""
    where = np.flatnonzero(raised)
    some = points_m.reshape(3, -1)[:, where[:: max(len(where) // SAMPLE, 1)]].T.astype(np.float64)
    if len(some) < 3:
        return None
    a, b, c = some[np.random.default_rng(0).integers(len(some), size=(3, TRIALS))]
    normal = np.cross(b - a, c - a)
    length = np.linalg.norm(normal, axis=1)
    good = length > 1e-6
    normal[good] /= length[good, None]
    good &= np.abs(normal[:, 2]) < MAX_NORMAL_Z
    if not good.any():
        return None
    normal, offset = normal[good], np.einsum("ij,ij->i", normal[good], a[good])
    away = normal.astype(np.float32) @ some.T.astype(np.float32) - offset[:, None].astype(np.float32)
    best = int(np.argmax((np.abs(away, out=away) < flat_m).astype(np.float32).sum(axis=1)))
    n, d = normal[best], offset[best]
    return np.append(n, d) if n @ eye_m > d else -np.append(n, d)


def _is_wall(own: Bool, points_m: F32, plane: npt.NDArray[np.float64]) -> bool:
    """Wide."""
    along = np.array([-plane[1], plane[0]]) / np.hypot(*plane[:2])
    xy = points_m.reshape(3, -1)[:2].take(np.flatnonzero(own), axis=1)
    low, high = np.quantile(along.astype(np.float32) @ xy, [0.05, 0.95])
    return float(high - low) > (MIN_WIDTH_M if _meets_a_side(own) else MIN_WIDTH_INSIDE_M)


def _connected_to(own: Bool, beside: Bool) -> Bool:
    """The pixels of ``beside`` in parts that contain pixels of ``own``."""
    count, parts = cv2.connectedComponents((beside | own).astype(np.uint8), connectivity=4, ltype=cv2.CV_32S)
    holds = np.bincount(parts[own], minlength=count) > 0
    holds[0] = False
    return np.asarray(holds[parts])
