"""Whether the camera is still where the calibration says, by the arm's own shape in the depth image; without a board.

Points on the surface of the arm's links are projected into the image. The depth there gives a point of the real
surface, and the distance of the two along the surface's normal is a residual (point-to-plane ICP with projective
association: Chen and Medioni, IVC 10(3), 1992; Blais and Levine, PAMI 17(8), 1995). The small motion that removes the
residuals of all postures is the drift. The surface is that of the visual meshes, from which the hulls are made too: a
hull alone is up to centimetres outside the surface where a link is concave.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np
from scipy.spatial.transform import Rotation

from stvla_ros.config import param
from stvla_ros.description.hulls import read_obj, visual_meshes
from stvla_ros.description.kinematics import link_poses
from stvla_ros.description.panda import BASE_LINK, FINGER_LINKS
from stvla_ros.errors import OutcomeCode, StageError
from stvla_ros.geometry.cameras import back_project, project
from stvla_ros.geometry.se3 import pose
from stvla_ros.types import F64, I32, Bool, Camera, RgbdFrame, RobotState

SAMPLE_M = 0.007
"""Mean distance of the points on the surface."""

WORKPLACE_M = np.array([0.45, 0.0, 0.1])
"""Where a drift matters: its size is how far it moves this point of the base frame."""

REACH_M = (0.05, 0.03, 0.02, 0.015, 0.015, 0.012, 0.012, 0.012)
"""Residuals beyond this are something else (another object, the background); one number per iteration."""

MIN_FACING = 0.4
"""Surfaces seen more edge-on (cosine to the ray) have unreliable depth."""

FLAT_M = 0.015
"""Where depth varies by more among neighbouring pixels, there is an edge."""

MIN_POINTS = 400
MIN_SHARE = 0.4
"""Of the points that should be visible, so many must lie on what the camera sees."""

PATCH_M = 0.06
"""Errors of the depth within such a patch of the surface count as one: they are not independent."""

ARM_M, ARM_ANGLE_RAD = 3e-4, np.radians(0.04)
"""What constant errors of the joints (0.2 mrad each) add to a drift, measured by benchmarks/calibration: no image shows
them."""

REST_RAD_S = 0.02


LIMIT_M, LIMIT_DEG = 0.003, 0.3
"""What `stvla calibrate --check` and `stvla doctor` allow."""


@dataclass(frozen=True)
class DriftConfig:
    """When the executor refuses a task because the camera is not where its transform says."""

    enabled: bool = param(True, "compare the arm with the depth image at the start of a task")
    limit_m: float = param(0.015, "the workplace may appear to be off by this much [m]", ge=0.001, le=0.1)
    limit_deg: float = param(1.5, "the camera may appear to be rotated by this much [deg]", ge=0.1, le=10.0)


@dataclass(frozen=True, eq=False)
class Drift:
    """How far the camera is from where its transform says.

    Attributes:
        change: (6,) translation [m] and rotation vector [rad] that take points from where the transform puts them to
            where they are: ``p + change[:3] + change[3:] x (p - WORKPLACE_M)``, base frame.
        covariance: (6, 6) of it.
        share: Of the arm's points that should be visible, how many the camera sees there.
        rms_m: Root mean square of the residuals that remain.
        points: Number of points compared.
    """

    change: F64
    covariance: F64
    share: float
    rms_m: float
    points: int

    @property
    def shift_m(self) -> float:
        """How far the workplace appears to be off."""
        return float(np.linalg.norm(self.change[:3]))

    @property
    def angle_rad(self) -> float:
        """Angle of the rotation."""
        return float(np.linalg.norm(self.change[3:]))

    @property
    def std_m(self) -> float:
        """Standard deviation of the shift, all three axes together."""
        return float(np.sqrt(np.trace(self.covariance[:3, :3]) + ARM_M**2))

    @property
    def std_rad(self) -> float:
        """Standard deviation of the rotation, all three axes together."""
        return float(np.sqrt(np.trace(self.covariance[3:, 3:]) + ARM_ANGLE_RAD**2))

    def exceeds(self, limit_m: float, limit_rad: float) -> bool:
        """Whether it is larger than a limit, by more than chance (two standard deviations)."""
        shift, angle = self.shift_m, self.angle_rad
        return bool(shift > max(limit_m, 2 * self.std_m) or angle > max(limit_rad, 2 * self.std_rad))

    def __str__(self) -> str:
        return (
            f"{1000 * self.shift_m:.1f} mm (+-{1000 * self.std_m:.1f}) at the workplace, "
            f"{np.degrees(self.angle_rad):.2f} deg (+-{np.degrees(self.std_rad):.2f})"
        )


def measure(views: Sequence[tuple[RgbdFrame, RobotState]]) -> Drift:
    """The drift from images of one or several postures; more postures make it more certain.

    Args:
        views: Images with the state of the arm at the same time, the arm at rest. All with the same camera.

    Raises:
        StageError: NO_DEPTH when too little of the arm is visible; CAMERA_MOVED when the camera sees something else
            where the arm should be.
        ConfigError: The mesh package is not installed.
    """
    change, last = np.zeros(6), len(REACH_M) - 1
    models = [_visible(frame.camera, robot) for frame, robot in views]
    if sum(len(m[0]) for m in models) < MIN_POINTS:
        raise StageError(OutcomeCode.NO_DEPTH, "The camera does not see enough of the arm to check its calibration.")
    for i, reach in enumerate(REACH_M):
        parts = [_pairs(frame, change, model) for (frame, _), model in zip(views, models, strict=True)]
        points, normals, off, patch = (np.concatenate([part[k] for part in parts]) for k in range(4))
        near = np.abs(off) < reach
        _raise_if_elsewhere(int(near.sum()), len(off), i)
        J = np.hstack([normals, np.cross(points - WORKPLACE_M, normals)])[near]
        weight = 1.0 / np.maximum(1.0, np.abs(off[near]) / (1.5 * _spread(off[near])))
        H = J.T @ (weight[:, None] * J) + np.diag([1e-9] * 6)
        step = np.linalg.solve(H, -J.T @ (weight * off[near]))
        change = change + step
        if i == last:
            cov = _covariance(H, J, weight * (off[near] + J @ step), patch[near])
    remaining = off[near] + J @ step
    return Drift(change, cov, float(near.mean()), float(np.sqrt(np.mean(remaining**2))), len(remaining))


class DriftCheck:
    """Compares the first image of each task with the arm, when the arm is at rest in it. Takes about 30 ms."""

    def __init__(self, config: DriftConfig) -> None:
        self._config = config
        self._due = True

    def begin_task(self) -> None:
        """Check again at the next image."""
        self._due = True

    def __call__(self, frame: RgbdFrame, robot: RobotState) -> Drift | None:
        """The drift; None when it is not due, is switched off, the arm moves, or too little of it is visible.

        Args:
            frame: Image before a motion.
            robot: State of the arm at the image's stamp.

        Raises:
            StageError: CAMERA_MOVED when the camera is not where its transform says.
        """
        moving = np.nanmax(np.abs(robot.dq_rad_s), initial=0.0) > REST_RAD_S
        if not (self._config.enabled and self._due) or moving:
            return None
        try:
            drift = measure([(frame, robot)])
        except StageError as error:
            if error.code is OutcomeCode.NO_DEPTH:
                return None
            raise
        limit_m, limit_deg = self._config.limit_m, self._config.limit_deg
        if drift.exceeds(limit_m, np.radians(limit_deg)):
            raise StageError(
                OutcomeCode.CAMERA_MOVED,
                f"The camera is not where its transform says: the arm in its depth image is off by {drift}; allowed are "
                f"{1000 * limit_m:.0f} mm and {limit_deg:g} deg. Calibrate again with `stvla calibrate`.",
            )
        self._due = False
        return drift


def _raise_if_elsewhere(near: int, seen: int, iteration: int) -> None:
    if seen < MIN_POINTS // 2:
        raise StageError(OutcomeCode.NO_DEPTH, "Too little of the arm has depth in the image to check the calibration.")
    if near < MIN_SHARE * seen:
        raise StageError(
            OutcomeCode.CAMERA_MOVED,
            f"The camera does not see the arm where its transform says: only {near} of {seen} points of its surface lie "
            f"within {1000 * REACH_M[iteration]:.0f} mm of the depth image. Clear the view, check the camera's transform "
            "and the joint states, then calibrate again with `stvla calibrate`.",
        )


@cache
def surface() -> dict[str, tuple[F64, F64]]:
    """Points (N, 3) and normals (N, 3) on every moving link but the fingers, in the link's frame."""
    rng = np.random.default_rng(0)
    links = [link for link in visual_meshes() if link not in (BASE_LINK, *FINGER_LINKS)]
    return {link: _sampled([read_obj(part.path)[:2] for part in visual_meshes()[link]], rng) for link in links}


def _sampled(meshes: Sequence[tuple[F64, I32]], rng: np.random.Generator) -> tuple[F64, F64]:
    """Random points on triangles, by their area."""
    corners = np.concatenate([vertices[faces] for vertices, faces in meshes])
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    twice = np.linalg.norm(normals, axis=1)
    count = int(twice.sum() / 2 / SAMPLE_M**2)
    which = rng.choice(len(corners), size=count, p=twice / twice.sum())
    a, b = np.sort(rng.random((2, count)), axis=0)
    weights = np.stack([a, b - a, 1.0 - b], axis=1)
    return np.einsum("nk,nkj->nj", weights, corners[which]), normals[which] / twice[which, None]


def _visible(camera: Camera, robot: RobotState) -> tuple[F64, F64, I32]:
    """Points and normals (M, 3) of the arm that the camera should see, base frame, and the patch (M,) of each."""
    poses = link_poses(robot.q_rad, robot.gripper_m)
    points = np.concatenate([p @ poses[k][:3, :3].T + poses[k][:3, 3] for k, (p, _) in surface().items()])
    normals = np.concatenate([n @ poses[k][:3, :3].T for k, (_, n) in surface().items()])
    link = np.repeat(np.arange(len(surface())), [len(p) for p, _ in surface().values()])
    rays = points - camera.T_base_camera[:3, 3]
    facing = -np.einsum("ij,ij->i", rays, normals) / np.linalg.norm(rays, axis=1)
    keep = _in_front(camera, points) & (facing > MIN_FACING)
    cells = np.column_stack([link[keep], np.floor(points[keep] / PATCH_M).astype(np.int64)])
    patch = np.unique(cells, axis=0, return_inverse=True)[1].reshape(-1).astype(np.int32)
    return points[keep], normals[keep], patch


def _in_front(camera: Camera, points: F64) -> Bool:
    """(N,) points inside the image with none of the others before them, by a coarse depth buffer."""
    px, depth = project(camera, points)
    cell = max(2, round(1.5 * SAMPLE_M * camera.K[0, 0]))  # about 1 m away: no hole between the points of a surface
    size = np.array([camera.width_px, camera.height_px])
    inside = np.asarray(((px >= 1) & (px < size - 2)).all(axis=1), dtype=bool)  # False for NaN
    w, h = size // cell + 1
    x, y = (px[inside] // cell).astype(np.intp).T
    buffer = np.full((h, w), np.inf)
    np.minimum.at(buffer, (y, x), depth[inside])
    buffer = cv2.erode(buffer, np.ones((3, 3), np.uint8))
    inside[inside] = depth[inside] < buffer[y, x] + 0.02
    return inside


def _pairs(frame: RgbdFrame, change: F64, model: tuple[F64, F64, I32]) -> tuple[F64, F64, F64, I32]:
    """Measured points (M, 3) where the model's points project, the normals there, their distance along it, patches."""
    points, normals, patch = model
    camera = _moved(frame.camera, change)
    px, _ = project(camera, points)
    h, w = frame.depth_m.shape
    inside = ((px >= 1) & (px < [w - 2, h - 2])).all(axis=1)
    at = np.rint(px[inside]).astype(np.intp)
    around = np.stack([frame.depth_m[at[:, 1] + dy, at[:, 0] + dx] for dx, dy in _CROSS])
    flat = np.ptp(around, axis=0) < FLAT_M  # False for NaN
    depth = around.mean(axis=0)[flat]
    seen = back_project(camera, at[flat], depth)
    n, s = normals[inside][flat], points[inside][flat]
    return seen, n, np.einsum("ij,ij->i", n, seen - s), patch[inside][flat]


_CROSS = ((0, 0), (1, 0), (-1, 0), (0, 1), (0, -1))


def _moved(camera: Camera, change: F64) -> Camera:
    """The camera after a drift."""
    R = Rotation.from_rotvec(change[3:]).as_matrix()
    D = pose(R, WORKPLACE_M + change[:3] - R @ WORKPLACE_M)
    return Camera(camera.K, camera.width_px, camera.height_px, D @ camera.T_base_camera, camera.frame_id)


def _spread(off: F64) -> float:
    """Standard deviation by the median, so that outliers do not count."""
    return max(1.4826 * float(np.median(np.abs(off))), 5e-4)


def _covariance(H: F64, J: F64, weighted: F64, patch: I32) -> F64:
    """(6, 6) sandwich estimate with patches as clusters (Liang and Zeger, Biometrika 73(1), 1986)."""
    scores = np.zeros((int(patch.max()) + 1, 6))
    np.add.at(scores, patch, J * weighted[:, None])
    inside = np.linalg.inv(H)
    return np.asarray(inside @ (scores.T @ scores) @ inside)
