"""Finds free places on the table for the held object."""

from __future__ import annotations

import cv2
import numpy as np

from stvla_ros.geometry.cameras import cloud
from stvla_ros.geometry.se3 import finger_yaw, tool_down
from stvla_ros.motion.collision import LOW_M, depth_noise, floor
from stvla_ros.motion.held import held_box
from stvla_ros.motion.scene import PlanningScene
from stvla_ros.tabletop.self_filter import held_object_mask
from stvla_ros.tabletop.support_plane import fit_support_plane
from stvla_ros.types import F64, Box, RgbdFrame, RobotState

CELL_M = 0.01
"""Edge of a grid cell of the table."""

APART_M = 0.05
"""Distance between offered places: if the arm cannot reach one, it cannot reach the one 1 cm next to it either."""

MAX_PLACES = 8
"""Number of places offered."""

HANG_M = 0.065
"""The held object counts as reaching at most this far below the tool."""

UNSEEN_M = 0.01
"""The held object may extend this far below its lowest seen point: points that low count as the table, and noise."""

DROP_M = 0.004
"""Height above the table at which the hand opens."""

FINGER_M = 0.02
"""Room for one finger next to the released object."""


def free_places(scene: PlanningScene, robot: RobotState, radius_m: float, low_m: F64, high_m: F64) -> list[F64]:
    """Places where the table is seen to be free, the nearest to the tool first.

    Args:
        scene: With a current image; table hidden by the arm or by the held object does not count as free.
        robot: The arm at about the image's time.
        radius_m: Only table may lie within this distance of a place.
        low_m: (3,) smallest position of the tool, m.
        high_m: (3,) largest position of the tool, m.

    Returns:
        At most :data:`MAX_PLACES` positions (3,) on the table in the base frame.
    """
    if scene.view is None:
        return []
    view, table = scene.view, scene.view.table
    floor_m = floor(view, depth_noise(view), scene.config)
    flat = view.points_m[:, np.abs(table.height(view.points_m)) <= floor_m].T
    things = np.concatenate([scene.surface.points_m, scene.voxels_m])
    origin = np.asarray(LOW_M[:2])
    shape = tuple(int(n) for n in np.ceil((np.asarray(high_m[:2]) + radius_m - origin) / CELL_M).astype(int) + 1)

    def cells(xyz: np.ndarray) -> np.ndarray:
        index = np.floor((xyz[:, :2] - origin) / CELL_M).astype(int)
        index = index[((index >= 0) & (index < shape)).all(axis=1)]
        grid = np.zeros(shape, np.uint8)
        grid[index[:, 0], index[:, 1]] = 1
        return grid

    seen = cv2.morphologyEx(
        cells(flat), cv2.MORPH_CLOSE, np.ones((3, 3), np.uint8)
    )  # pixels may lie further apart than cells
    blocked = (seen == 0) | (cells(things) > 0)
    reach = int(np.ceil(radius_m / CELL_M))
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1))
    border = cv2.copyMakeBorder(blocked.astype(np.uint8), reach, reach, reach, reach, cv2.BORDER_CONSTANT, value=1)
    free = cv2.dilate(border, disc)[reach:-reach, reach:-reach] == 0
    xy = origin + (np.argwhere(free) + 0.5) * CELL_M
    xy = xy[((xy >= low_m[:2]) & (xy <= high_m[:2])).all(axis=1)]
    xy = xy[np.argsort(np.linalg.norm(xy - robot.T_base_tcp[:2, 3], axis=1), kind="stable")]
    places: list[F64] = []
    while len(xy) and len(places) < MAX_PLACES:
        x, y = xy[0]
        places.append(np.array([x, y, table.a * x + table.b * y + table.c]))
        xy = xy[np.linalg.norm(xy - xy[0], axis=1) > APART_M]
    return places


def hang(held: Box, robot: RobotState, frame: RgbdFrame, grasp_m: F64 | None) -> float:
    """Upper bound of how far the held object reaches below the tool, m.

    It reaches no lower than the table at the place of its grasp. If that place is unknown, the lowest point seen
    between the fingers counts.

    Args:
        held: The held object, in the tool frame.
        robot: The arm at about the image's time.
        frame: Current image of the scene.
        grasp_m: (3,) position of the tool when the fingers closed on it; None if unknown.
    """
    points = cloud(frame)
    if grasp_m is not None:
        deep = float(fit_support_plane(points).height(grasp_m[:, None])[0])
    else:
        between = points[:, held_object_mask(points, robot)].T
        deep = _bottom(held_box(between, robot.T_base_tcp, robot.gripper_m)) + UNSEEN_M
    return max(min(deep, HANG_M), _bottom(held))


def _bottom(box: Box) -> float:
    return float(box.T_frame_box[2, 3] + box.size_m[2] / 2)


def tool_over(place_m: F64, robot: RobotState, height_m: float) -> F64:
    """(4, 4) tool pose straight above a place, with the current direction of the finger opening."""
    return tool_down(place_m + np.array([0.0, 0.0, height_m]), finger_yaw(robot.T_base_tcp))
