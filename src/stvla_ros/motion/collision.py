"""Obstacles from one depth image: occupied voxels without the robot, the held object, and the object to be touched."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from stvla_ros.config import param
from stvla_ros.description.body import robot_mask
from stvla_ros.geometry.cameras import cloud
from stvla_ros.geometry.se3 import inverse, pose
from stvla_ros.tabletop.self_filter import held_object_mask, may_hold
from stvla_ros.tabletop.support_plane import fit_support_plane
from stvla_ros.types import F32, F64, Bool, Box, CollisionWorld, RgbdFrame, RobotState


@dataclass(frozen=True)
class VoxelConfig:
    """How depth is turned into obstacles."""

    size_m: float = param(0.01, "edge of a voxel [m]", ge=0.004, le=0.05)
    floor_m: float = param(0.006, "points lower than this above the table belong to the table [m]", ge=0.0, le=0.05)
    least_share: float = param(
        0.25, "a voxel is occupied if this share of its face is seen (less is noise)", ge=0.0, le=1.0
    )
    stride_px: int = param(2, "use every n-th pixel in both directions", ge=1, le=8)
    self_margin_m: float = param(0.02, "points this close to the arm's hulls belong to the arm [m]", ge=0.0, le=0.1)
    column_fill: bool = param(True, "everything below a seen surface is occupied (one camera sees no back sides)")
    target_radius_m: float = param(
        0.045, "around the target of a keypose that may touch, nothing is an obstacle [m]", ge=0.0, le=0.2
    )


LOW_M = (-0.2, -1.0, -0.05)
HIGH_M = (1.2, 1.0, 1.3)
"""Obstacles outside are ignored; a little more than the arm's reach (base frame)."""

_BETWEEN_FINGERS = Box(pose(np.eye(3), [0.0, 0.0, -0.01]), np.array([0.10, 0.08, 0.06]))
"""In the tool frame: points in this box are to be grasped when the hand is at its target."""


def obstacle_points(frame: RgbdFrame, robot: RobotState, config: VoxelConfig) -> tuple[F32, F32]:
    """Points of the frame above the table, without the robot and the object between its fingers.

    Args:
        frame: RGB-D image with the camera's pose.
        robot: State of the arm at about the image's time.
        config: Settings.

    Returns:
        (N, 3) points in the base frame, and (N,) the area in m^2 that each covers if seen head-on.
    """
    every = slice(None, None, config.stride_px)
    points = cloud(frame)[:, every, every]
    table = fit_support_plane(points)
    height = table.height(points)
    low, high = (np.array(v, dtype=np.float32)[:, None, None] for v in (LOW_M, HIGH_M))
    keep = (height > max(config.floor_m, table.noise_floor_m)) & ((points > low) & (points < high)).all(axis=0)
    if may_hold(robot):
        keep &= ~held_object_mask(points, robot)
    seen = np.ascontiguousarray(points[:, keep].T)
    pixel = config.stride_px**2 / (frame.camera.K[0, 0] * frame.camera.K[1, 1])
    areas = (frame.depth_m[every, every][keep] ** 2 * pixel).astype(np.float32)
    others = ~robot_mask(seen, robot.q_rad, robot.gripper_m, config.self_margin_m)
    return seen[others], areas[others]


def voxelise(points_m: F32, areas_m2: F32, config: VoxelConfig, floor_z_m: float = 0.0) -> F32:
    """(V, 3) centres of occupied voxels, aligned to multiples of the edge.

    With column fill, every column is full from its highest occupied voxel down to ``floor_z_m``.
    """
    if not len(points_m):
        return np.empty((0, 3), dtype=np.float32)
    index, which = np.unique(np.floor(points_m / config.size_m).astype(np.int64), axis=0, return_inverse=True)
    seen = np.bincount(which.reshape(-1), weights=areas_m2)
    index = index[seen >= config.least_share * config.size_m**2]
    if config.column_fill and len(index):
        index = _filled(index, int(np.floor(floor_z_m / config.size_m)))
    return ((index + 0.5) * config.size_m).astype(np.float32)


def _filled(
    index: np.ndarray[tuple[int, int], np.dtype[np.int64]], bottom: int
) -> np.ndarray[tuple[int, int], np.dtype[np.int64]]:
    columns, which = np.unique(index[:, :2], axis=0, return_inverse=True)
    top = np.full(len(columns), bottom, dtype=np.int64)
    np.maximum.at(top, which.reshape(-1), index[:, 2])
    heights = top - bottom + 1
    repeated = np.repeat(columns, heights, axis=0)
    z = np.arange(heights.sum()) - np.repeat(np.cumsum(heights) - heights, heights) + bottom
    return np.column_stack([repeated, z])


def in_box(points_m: F32, T_base_box: F64, size_m: F64, margin_m: float = 0.0) -> Bool:
    """(N,) whether points lie in a box grown by ``margin_m`` on every side."""
    T = inverse(T_base_box)
    local = points_m @ T[:3, :3].T + T[:3, 3]
    return np.asarray((np.abs(local) <= size_m / 2 + margin_m).all(axis=1))


@dataclass(frozen=True, eq=False)
class DepthScene:
    """Obstacles of one depth image, from which the worlds of single motions are made.

    Attributes:
        points_m: (N, 3) obstacle points, see :func:`obstacle_points`.
        voxels_m: (V, 3) occupied voxels.
        config: Settings.
    """

    points_m: F32
    voxels_m: F32
    config: VoxelConfig

    @staticmethod
    def from_frame(frame: RgbdFrame, robot: RobotState, config: VoxelConfig) -> DepthScene:
        points, areas = obstacle_points(frame, robot, config)
        return DepthScene(points, voxelise(points, areas, config), config)

    def world(
        self, touched: tuple[F64, ...] = (), held: Box | None = None, holding: tuple[F64, ...] = ()
    ) -> CollisionWorld:
        """Obstacles of one motion.

        Args:
            touched: (4, 4) tool poses where contact is wanted: obstacles around the fingertips there are left out.
            held: The carried object, in the tool frame.
            holding: (4, 4) tool poses where the held box may touch its surroundings (where it is, where it goes).
        """
        voxels, edge = self.voxels_m, self.config.size_m
        drop = np.zeros(len(voxels), dtype=bool)
        for T in touched:
            drop |= np.linalg.norm(voxels - T[:3, 3], axis=1) <= self.config.target_radius_m
            drop |= in_box(voxels, T @ _BETWEEN_FINGERS.T_frame_box, _BETWEEN_FINGERS.size_m)
        for T in holding if held is not None else ():
            assert held is not None
            drop |= in_box(voxels, T @ held.T_frame_box, held.size_m, 1.5 * edge)
        return CollisionWorld(np.ascontiguousarray(voxels[~drop], dtype=np.float32), edge, held)


def held_box(points_m: F32, T_base_tcp: F64, width_m: float, shrink_m: float = 0.004) -> Box:
    """The object that the fingers closed on, as a box in the tool frame.

    The opening gives its width. Points of the image from before the grasp give the rest: along the fingers from the
    object's top to its lowest seen point, sideways as far as points continue without a gap.

    Args:
        points_m: (N, 3) obstacle points seen before the grasp.
        T_base_tcp: (4, 4) tool pose of the grasp.
        width_m: Finger distance when closed on it.
        shrink_m: Removed from the lower end, so that an object on a surface does not "touch" it.
    """
    T = inverse(T_base_tcp)
    local = points_m @ T[:3, :3].T + T[:3, 3]
    near = (np.abs(local) <= [0.06, width_m / 2 + 0.006, 0.06]).all(axis=1) & (local[:, 2] > -0.045)
    x = _span(local[near, 0], width_m / 2)
    z = _span(local[near, 2], 0.01)
    low, high = np.array([x[0], -width_m / 2, z[0]]), np.array([x[1], width_m / 2, max(z[1] - shrink_m, z[0] + 0.005)])
    return Box(pose(np.eye(3), (low + high) / 2), high - low)


def _span(values: F32, minimum: float, bin_m: float = 0.005) -> tuple[float, float]:
    """How far values extend from zero in both directions without a gap of two bins; at least ``minimum`` each way."""
    taken = np.zeros(40, dtype=bool)
    index = np.floor(values / bin_m).astype(int) + 20
    taken[np.clip(index, 0, 39)] = True

    def reach(side: Bool) -> int:
        gap = np.flatnonzero(~side[:-1] & ~side[1:])
        return int(gap[0]) if len(gap) else len(side)

    return -max(reach(taken[:20][::-1]) * bin_m, minimum), max(reach(taken[20:]) * bin_m, minimum)
