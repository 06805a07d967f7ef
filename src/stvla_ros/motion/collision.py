"""Cells of a voxel grid: which are seen to be occupied, which are hidden, and which are seen to be free."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from stvla_ros.config import param
from stvla_ros.description.body import robot_mask
from stvla_ros.geometry.se3 import inverse
from stvla_ros.tabletop.instances import View
from stvla_ros.tabletop.regions import NOISY_M
from stvla_ros.tabletop.support_plane import SupportPlane
from stvla_ros.types import F32, F64, I32, Bool, Box, Camera, RobotState

Keys = npt.NDArray[np.int64]

UNKNOWN = ("free", "column", "occupied")


@dataclass(frozen=True)
class VoxelConfig:
    """How depth is turned into obstacles."""

    size_m: float = param(0.01, "edge of a voxel [m]", ge=0.004, le=0.05)
    floor_m: float = param(0.006, "points lower than this above the table belong to the table [m]", ge=0.0, le=0.05)
    least_share: float = param(
        0.25, "a voxel is occupied if this share of its face is seen (less is noise)", ge=0.0, le=1.0
    )
    pixels: int = param(76_800, "images with more pixels are subsampled to about this many", ge=4_800, le=1_000_000)
    self_margin_m: float = param(0.02, "points this close to the arm's hulls belong to the arm [m]", ge=0.0, le=0.1)
    unknown: str = param(
        "column",
        "space that an object hides. free: no obstacle; column: an obstacle below seen surfaces; "
        "occupied: an obstacle, and so is all else behind objects",
        choices=UNKNOWN,
    )
    memory_s: float = param(
        20.0, "what is hidden from the camera stays an obstacle this long after it was seen [s]", ge=0.0, le=600.0
    )
    target_radius_m: float = param(
        0.045, "of the object that a keypose touches, what is this close to the tool may be touched [m]", ge=0.0, le=0.2
    )
    observe_hz: float = param(
        2.0, "images per second that the executor's node adds between and during motions; 0: none", ge=0.0, le=10.0
    )
    observe_below_rad_s: float = param(
        1.0, "but none that is taken while a joint moves faster: the arm in it is not where joint states say [rad/s]",
        ge=0.0, le=10.0,
    )  # fmt: skip


LOW_M = (-0.2, -1.0, -0.05)
HIGH_M = (1.2, 1.0, 1.3)
"""Obstacles outside are ignored; a little more than the arm's reach (base frame)."""


STEEPEST = float(np.tan(np.radians(75.0)))
"""No stereo camera measures a surface that it sees at a smaller angle than 15 degrees: depth that climbs faster than
this many pixel widths per pixel bridges two surfaces (Sabov and Krueger, Identification and Correction of Flying Pixels
in Range Camera Data, 2008)."""

FLOOR_SIGMAS = 4.0
"""Points of the table are measured this many standard deviations above it."""

FLOOR_MAX_M = 0.02
"""However large the noise, what is higher is not the table."""

ARM_SIGMAS = 6.0
"""Along a ray, depth of the arm is wrong by up to this many standard deviations of the table's: the arm is dark, curved,
and mirrors itself."""

ARM_MAX_M = 0.03
"""However large the noise, depth of the arm is not wrong by more."""


@dataclass(frozen=True)
class Grid:
    """Numbers for the cells of a grid aligned to multiples of its edge, within :data:`LOW_M` to :data:`HIGH_M`.

    Cells of one column have consecutive numbers, from below.
    """

    size_m: float

    @property
    def first(self) -> Keys:
        return np.floor(np.array(LOW_M) / self.size_m).astype(np.int64)

    @property
    def shape(self) -> Keys:
        return np.floor(np.array(HIGH_M) / self.size_m).astype(np.int64) - self.first + 1

    def keys(self, points_m: npt.NDArray[np.floating]) -> Keys:
        """(N,) cell of each point (N, 3), which must be within the bounds."""
        i, shape = np.floor(points_m / self.size_m).astype(np.int64) - self.first, self.shape
        return np.asarray((i[:, 0] * shape[1] + i[:, 1]) * shape[2] + i[:, 2])

    def centres(self, keys: Keys) -> F32:
        """(N, 3) centres of cells."""
        columns, z = np.divmod(keys, self.shape[2])
        x, y = np.divmod(columns, self.shape[1])
        return ((np.stack([x, y, z], axis=1) + self.first + 0.5) * self.size_m).astype(np.float32)


def inside(points_m: F32) -> Bool:
    """(N,) whether points (N, 3) are within the bounds of obstacles."""
    low, high = np.array(LOW_M, dtype=np.float32), np.array(HIGH_M, dtype=np.float32)
    return np.asarray(((points_m > low) & (points_m < high)).all(axis=1))


@dataclass(frozen=True, eq=False)
class Surface:
    """Obstacle points of one frame.

    Attributes:
        points_m: (N, 3) in the base frame, above the table, without the robot and what it holds.
        areas_m2: (N,) area that each covers if seen head-on.
        labels: (N,) its instance in the frame; 0: none.
    """

    points_m: F32
    areas_m2: F32
    labels: I32


def obstacle_surface(view: View, robot: RobotState, config: VoxelConfig, held: Box | None = None) -> Surface:
    """What of a view is an obstacle.

    Args:
        view: The view.
        robot: The arm at about the view's time.
        config: Settings.
        held: What the hand holds, in the tool frame.
    """
    noise_m = depth_noise(view)
    seen = (view.table.height(view.points_m) > floor(view, noise_m, config)) & (view.labels >= 0)
    if view.table.noise_m > NOISY_M:
        seen &= ~bridges(view.depth_m, view.camera)
    points = np.ascontiguousarray(view.points_m[:, seen].T)
    keep = inside(points)
    # The view's mask is coarse along the outline, and knows nothing of errors along the ray.
    eye = view.camera.T_base_camera[:3, 3].astype(np.float32)
    off = np.minimum(ARM_SIGMAS * noise_m[seen], ARM_MAX_M)[:, None] * _towards(points - eye)
    for moved in (points, points - off, points + off):
        keep[keep] = ~on_robot(moved[keep], robot, config.self_margin_m)
        if held is not None:
            keep &= ~in_box(moved, robot.T_base_tcp @ held.T_frame_box, held.size_m, config.self_margin_m)
    pixel = 1 / (view.camera.K[0, 0] * view.camera.K[1, 1])
    areas = (view.depth_m[seen] ** 2 * pixel).astype(np.float32)
    return Surface(points[keep], areas[keep], view.labels[seen][keep])


def depth_noise(view: View) -> F32:
    """(h, w) standard deviation of the depth, m; NaN where the depth is unknown.

    The table tells how large the noise is; it grows with the square of the depth, as that of a stereo camera does.
    """
    height, fall, squared = view.table.height(view.points_m), _fall(view), view.depth_m**2
    with np.errstate(invalid="ignore"):
        on_table = (np.abs(height) < FLOOR_MAX_M) & (view.labels == 0) & (fall > 0.1)
    if view.table.noise_m == 0.0 or not on_table.any():
        return np.zeros_like(squared)
    share = 1.4826 * np.median(np.abs(height[on_table]) / (fall * squared)[on_table])
    return np.asarray(np.float32(share) * squared, np.float32)


def floor(view: View, noise_m: F32, config: VoxelConfig) -> F32:
    """(h, w) height above the table from which a pixel does not show the table, m; ``noise_m`` of :func:`depth_noise`."""
    least_m = max(config.floor_m, view.table.noise_floor_m)
    return np.asarray(np.clip(FLOOR_SIGMAS * noise_m * _fall(view), least_m, max(least_m, FLOOR_MAX_M)), np.float32)


def _fall(view: View) -> F32:
    """(h, w) by how much a pixel's height above the table changes with its depth."""
    above = view.table.height(view.camera.T_base_camera[:3, 3])
    return np.asarray(np.abs(above - view.table.height(view.points_m)) / view.depth_m, np.float32)


def bridges(depth_m: F32, camera: Camera) -> Bool:
    """(h, w) pixels where measured depth bridges the gap between a near and a far surface, at which nothing is.

    On one side the next pixel is nearer, on the other it is farther or unknown, both by more than any surface climbs. A
    thin thing is farther on no side, so it stays.
    """
    far = np.pad(np.where(np.isnan(depth_m), np.float32(np.inf), depth_m), 1, mode="edge")
    step = depth_m * np.float32(STEEPEST / camera.K[0, 0])
    out = np.zeros(depth_m.shape, dtype=bool)
    h, w = depth_m.shape
    for row, column in ((0, 1), (1, 0), (1, 1), (1, -1)):
        reach = step * np.float32(np.hypot(row, column))
        one = far[1 + row : 1 + row + h, 1 + column : 1 + column + w]
        other = far[1 - row : 1 - row + h, 1 - column : 1 - column + w]
        with np.errstate(invalid="ignore"):
            out |= (np.minimum(one, other) < depth_m - reach) & (np.maximum(one, other) > depth_m + reach)
    return out


def _towards(rays_m: F32) -> F32:
    """(N, 3) unit vectors along rays (N, 3)."""
    return np.asarray(rays_m / np.linalg.norm(rays_m, axis=1, keepdims=True), np.float32)


def seen_cells(surface: Surface, grid: Grid, least_share: float) -> tuple[Keys, I32]:
    """Occupied cells of a surface, ascending, and the instance that most of each one belongs to (0: none)."""
    if not len(surface.points_m):
        return np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int32)
    base = int(surface.labels.max()) + 1
    pairs, which = np.unique(grid.keys(surface.points_m) * base + surface.labels, return_inverse=True)
    area = np.bincount(which.reshape(-1), weights=surface.areas_m2)
    cell, label = np.divmod(pairs, base)
    order = np.lexsort([np.where(label > 0, area, 0.0), cell])  # the largest instance of a cell comes last
    keys, first = np.unique(cell, return_index=True)
    last = np.append(first[1:], len(cell)) - 1
    enough = np.add.reduceat(area, first) >= least_share * grid.size_m**2
    return keys[enough], label[order][last][enough].astype(np.int32)


def columns_below(keys: Keys, table: SupportPlane, grid: Grid) -> tuple[Keys, Keys]:
    """Cells below the given ascending ones, each down to the next or the table, and which of them each is below."""
    height = int(grid.shape[2])
    column, z = np.divmod(keys, height)
    x, y, _ = grid.centres(keys).T
    floor = np.floor((table.a * x + table.b * y + table.c) / grid.size_m).astype(np.int64) - grid.first[2]
    below = np.where(np.append(-1, column[:-1]) == column, np.append(0, z[:-1] + 1), np.maximum(floor, 0))
    count = np.maximum(z - below, 0)
    which = np.repeat(np.arange(len(keys)), count)
    step = np.arange(len(which)) - np.repeat(np.cumsum(count) - count, count)
    return (column * height + below)[which] + step, which


def shadow_behind(surface: Surface, view: View, grid: Grid) -> tuple[Keys, I32]:
    """Cells that the points of a surface hide from the camera, down to the table, and the instance that hides each."""
    eye = view.camera.T_base_camera[:3, 3].astype(np.float32)
    near = np.linalg.norm(surface.points_m - eye, axis=1)
    # Neighbouring rays need not be closer than half a cell.
    every = max(int(0.5 * grid.size_m * view.camera.K[0, 0] / max(float(near.min(initial=1e9)), 1e-3)), 1)
    points, labels, near = surface.points_m[::every], surface.labels[::every], near[::every]
    ray = (points - eye) / near[:, None]
    height, fall = view.table.height(points.T), -ray @ view.table.gradient
    reach = np.linalg.norm(np.subtract(HIGH_M, LOW_M))
    length = np.where(fall > 0, height / np.maximum(fall, 1e-6), reach).clip(0, reach)
    step = 0.7 * grid.size_m
    count = np.floor(length / step).astype(np.int64)
    which = np.repeat(np.arange(len(points)), count)
    along = (np.arange(len(which)) - np.repeat(np.cumsum(count) - count, count) + 1) * np.float32(step)
    hidden = points[which] + ray[which] * along[:, None]
    keep = inside(hidden)
    keys, first = np.unique(grid.keys(hidden[keep]), return_index=True)
    return keys, labels[which[keep][first]]


@dataclass(frozen=True, eq=False)
class Sight:
    """What a camera saw through: tells cells that are free.

    Attributes:
        camera: The camera.
        depth_m: (h, w) smallest depth among the neighbours of each pixel; 0 where one is unknown.
        table: The support plane.
        stamp_ns: Of the image.
    """

    camera: Camera
    depth_m: F32
    table: SupportPlane
    stamp_ns: int

    @staticmethod
    def of(view: View, stamp_ns: int) -> Sight:
        known = np.where(np.isnan(view.depth_m), np.float32(0.0), view.depth_m)
        nearest = np.asarray(cv2.erode(known, np.ones((3, 3), np.uint8)), dtype=np.float32)
        return Sight(view.camera, nearest, view.table, stamp_ns)

    def free(self, centres_m: F32, edge_m: float) -> Bool:
        """(N,) whether the camera saw through cells (N, 3), to something at least an edge behind their centres.

        Cells on the table are free where it saw the table itself.
        """
        T, K = self.camera.T_base_camera.astype(np.float32), self.camera.K.astype(np.float32)
        local = (centres_m - T[:3, 3]) @ T[:3, :3]
        z = np.where(local[:, 2] > edge_m, local[:, 2], np.float32(np.nan))
        with np.errstate(invalid="ignore"):
            u, v = local[:, 0] / z * K[0, 0] + K[0, 2], local[:, 1] / z * K[1, 1] + K[1, 2]
            h, w = self.depth_m.shape
            within = np.flatnonzero((u > -0.5) & (u < w - 0.5) & (v > -0.5) & (v < h - 0.5))
        row, column = (np.rint(c[within]).astype(np.intp) for c in (v, u))
        depth, z, above = self.depth_m[row, column], z[within], self.table.height(centres_m[within].T)
        ray = ((centres_m[within] - T[:3, 3]) / z[:, None]).astype(np.float32)
        fall = -ray @ self.table.gradient
        to_table = np.where(fall > 0, above / np.maximum(fall, np.float32(0.05)), np.float32(np.inf))
        out = np.zeros(len(centres_m), dtype=bool)
        out[within] = (depth > 0) & (depth > z + np.minimum(edge_m, to_table - edge_m / 2))
        return out


def on_robot(points_m: F32, robot: RobotState, margin_m: float) -> Bool:
    """(N,) whether points are in the arm or this close to it."""
    return robot_mask(points_m, robot.q_rad, robot.gripper_m, margin_m)


def in_box(points_m: F32, T_base_box: F64, size_m: F64, margin_m: float = 0.0) -> Bool:
    """(N,) whether points lie in a box grown by ``margin_m`` on every side."""
    T = inverse(T_base_box)
    local = points_m @ T[:3, :3].T + T[:3, 3]
    return np.asarray((np.abs(local) <= size_m / 2 + margin_m).all(axis=1))
