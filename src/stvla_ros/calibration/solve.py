"""Hand-eye calibration of a fixed camera: closed forms, then the smallest reprojection error.

Unknown are the camera ``X = T_base_camera`` and the board in the hand ``Y = T_tcp_board``. Every pose i of the arm
``A_i = T_base_tcp`` gives an image, in it a board ``C_i = T_camera_board``, and the equation ``A_i Y = X C_i``.

Closed forms: Tsai and Lenz, T-RA 5(3), 1989; Park and Martin, T-RA 10(5), 1994; Shah, J. Mechanisms and Robotics 5(3),
2013. Python's binding of OpenCV 5.0.0 lacks ``calibrateHandEye``; where it is there, its solvers are compared too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from typing import Any

import cv2
import numpy as np
from scipy.optimize import least_squares
from scipy.spatial.transform import Rotation

from stvla_ros.calibration.board import Detection, board_pose
from stvla_ros.config import ConfigError
from stvla_ros.description.kinematics import tcp_pose
from stvla_ros.geometry.se3 import inverse, pose, rotation_distance
from stvla_ros.types import F64

MIN_POSES = 8
MIN_TURN_RAD = np.radians(8.0)
"""The hand must rotate by this much (root mean square about the mean) about a second axis: rotations about one axis
leave the camera free to slide along it."""

MIN_SPREAD_M = 0.03
"""The board must move by this much (root mean square) in a second direction."""

LOSS_PX = 1.0
"""Corners further off than this count less (Huber)."""

OUTLIER = 5.0
"""A pose whose residual is this many times the median, and over :data:`LOSS_PX`, is left out."""

ARM_RAD = 2e-4
"""Assumed constant error of each joint (standard deviation); an assumption, for no data sheet states it."""

FOCAL_DOUBT = 0.004
"""A focal length that fits better by more than this share, and by three standard deviations, is reported."""

Solver = Callable[[list[F64], list[F64]], tuple[F64, F64]]
"""From (4, 4) ``A_i`` and ``C_i`` to ``X`` and ``Y``."""


class CalibrationError(ConfigError):
    """The poses or images do not determine the camera's pose; the message says why, and what to do."""


@dataclass(frozen=True, eq=False)
class Sample:
    """One pose of the arm with the board in view.

    Attributes:
        q_rad: (7,) joints.
        T_base_tcp: (4, 4) tool pose from the joints.
        detection: The board in the image.
        T_camera_board: (4, 4) from this image alone.
    """

    q_rad: F64
    T_base_tcp: F64
    detection: Detection
    T_camera_board: F64

    @staticmethod
    def of(q_rad: F64, detection: Detection, K: F64) -> Sample:
        """A sample with the board's pose from its image."""
        return Sample(q_rad, tcp_pose(q_rad), detection, board_pose(detection, K))


@dataclass(frozen=True, eq=False)
class Calibration:
    """The camera's pose, and how well it is known.

    Attributes:
        T_base_camera: (4, 4) pose of the optical frame.
        T_tcp_board: (4, 4) pose of the board in the hand.
        covariance: (6, 6) of the camera's position in the base frame [m^2] and its rotation about the base frame's axes
            [rad^2]: what the poses scatter (jackknife), and what constant errors of the joints (:data:`ARM_RAD`) do.
        used: Numbers of the samples that were used.
        rms_px: Root mean square of the reprojection error of all used corners.
        left_out_px: (M,) of each used sample: its error (root mean square) with the camera from all others.
        left_out_m: (M,) the same at the board's distance, across the view.
        residuals_px: Per used sample (N, 2), found minus predicted.
        methods: Closed form -> its reprojection error (root mean square) [px].
        focal_scale: Focal length that fits best over the given one, and its standard deviation.
    """

    T_base_camera: F64
    T_tcp_board: F64
    covariance: F64
    used: tuple[int, ...]
    rms_px: float
    left_out_px: F64
    left_out_m: F64
    residuals_px: tuple[F64, ...]
    methods: dict[str, float] = field(default_factory=dict)
    focal_scale: tuple[float, float] = (1.0, 0.0)

    @property
    def std_m(self) -> float:
        """Standard deviation of the camera's position, all three axes together."""
        return float(np.sqrt(np.trace(self.covariance[:3, :3])))

    @property
    def std_rad(self) -> float:
        """Standard deviation of the camera's rotation, all three axes together."""
        return float(np.sqrt(np.trace(self.covariance[3:, 3:])))

    @property
    def doubt(self) -> str | None:
        """What is wrong with the intrinsics, by the images; None if nothing is seen to be."""
        scale, std = self.focal_scale
        if abs(scale - 1.0) < max(FOCAL_DOUBT, 3.0 * std):
            return None
        return (
            f"The images fit a focal length {100 * (scale - 1):+.1f} % (+-{100 * std:.1f}) from the camera info's: "
            "check the board's size on the print and the intrinsics, then solve again."
        )


def calibrate(samples: Sequence[Sample], K: F64) -> Calibration:
    """The camera's pose from samples.

    Args:
        samples: At least :data:`MIN_POSES`, with the hand rotated about two axes.
        K: (3, 3) intrinsics of images without distortion.

    Raises:
        CalibrationError: Too few poses, or poses that leave the camera's place undetermined.
    """
    check_poses(samples)
    methods = {name: (X, Y, rms_px(samples, X, Y, K)) for name, (X, Y) in _closed_forms(samples).items()}
    X, Y, _ = min(methods.values(), key=lambda found: found[2])
    X, Y, _ = refine(samples, X, Y, K)
    used = _inliers(samples, X, Y, K)
    kept = [samples[i] for i in used]
    if len(kept) < len(samples):
        check_poses(kept)
        X, Y, _ = refine(kept, X, Y, K)
    scale, scale_std = _focal_scale(kept, X, Y, K)
    others = [refine([s for s in kept if s is not left], X, Y, K)[:2] for left in kept]
    left_out = np.array([rms_px([s], *other, K) for s, other in zip(kept, others, strict=True)])
    m_per_px = np.array([s.T_camera_board[2, 3] for s in kept]) / np.sqrt(K[0, 0] * K[1, 1])
    return Calibration(
        X,
        Y,
        _jackknife(np.array([_difference(X, other) for other, _ in others])) + _arm_covariance(kept, X, Y, K),
        tuple(used),
        rms_px(kept, X, Y, K),
        left_out,
        left_out * m_per_px,
        tuple(residuals(s, X, Y, K) for s in kept),
        {name: rms for name, (_, _, rms) in methods.items()},
        (scale, scale_std),
    )


def check_poses(samples: Sequence[Sample]) -> None:
    """Refuse sets of poses that do not determine the camera's pose.

    Raises:
        CalibrationError: With what was wanted and found.
    """
    if len(samples) < MIN_POSES:
        raise CalibrationError(
            f"Wanted at least {MIN_POSES} poses with the board in view, found {len(samples)}: add poses (15 are good)."
        )
    R = Rotation.from_matrix([s.T_base_tcp[:3, :3] for s in samples])
    turns = _second_rms((R.mean().inv() * R).as_rotvec())
    if turns < MIN_TURN_RAD:
        raise CalibrationError(
            f"The hand rotates about one axis only (about a second one by {np.degrees(turns):.1f} deg, wanted "
            f"{np.degrees(MIN_TURN_RAD):.0f}): tilt the board left and right, and up and down, by 20 to 30 deg."
        )
    places = np.array([(s.T_base_tcp @ _middle(s))[:3, 3] for s in samples])
    spread = _second_rms(places - places.mean(axis=0))
    if spread < MIN_SPREAD_M:
        raise CalibrationError(
            f"The hand stays on a line or at a point (it moves by {1000 * spread:.0f} mm in a second direction, wanted "
            f"{1000 * MIN_SPREAD_M:.0f}): move it through the whole view of the camera, and nearer and further."
        )


def _middle(sample: Sample) -> F64:
    """A point off the tool, so that turning the hand also moves it: roughly where a board is."""
    return pose(np.eye(3), [0.0, 0.0, 0.1])


def _second_rms(vectors: F64) -> float:
    """Root mean square of (N, 3) vectors along their second principal direction."""
    return float(np.linalg.svd(vectors, compute_uv=False)[1] / np.sqrt(len(vectors)))


def residuals(sample: Sample, X: F64, Y: F64, K: F64) -> F64:
    """(N, 2) found minus predicted pixels of one sample."""
    T = inverse(X) @ sample.T_base_tcp @ Y
    local = sample.detection.points_m @ T[:3, :3].T + T[:3, 3]
    image = local @ K.T
    return sample.detection.px - image[:, :2] / image[:, 2:]


def rms_px(samples: Sequence[Sample], X: F64, Y: F64, K: F64) -> float:
    """Root mean square of the distances between found and predicted corners."""
    off = np.concatenate([residuals(s, X, Y, K) for s in samples])
    return float(np.sqrt((off**2).sum(axis=1).mean()))


def moved(T: F64, change: F64) -> F64:
    """(4, 4) pose after a change (6,): a translation [m], and a rotation vector [rad] about the pose's origin; both
    along the axes of the frame that it is given in."""
    return pose(Rotation.from_rotvec(change[3:6]).as_matrix() @ T[:3, :3], T[:3, 3] + change[:3])


def _difference(T: F64, other: F64) -> F64:
    """(6,) the change that takes ``T`` to ``other``; see :func:`moved`."""
    return np.concatenate([other[:3, 3] - T[:3, 3], Rotation.from_matrix(other[:3, :3] @ T[:3, :3].T).as_rotvec()])


def refine(samples: Sequence[Sample], X: F64, Y: F64, K: F64, focal: bool = False) -> tuple[F64, F64, Any]:
    """Camera and board with the smallest reprojection error (Huber's loss), from a start.

    Args:
        samples: The images.
        X: (4, 4) ``T_base_camera`` to start from.
        Y: (4, 4) ``T_tcp_board`` to start from.
        K: (3, 3) intrinsics.
        focal: Find a scale of the focal length too, the last parameter of the result.

    Returns:
        (4, 4) X, (4, 4) Y, and SciPy's result.
    """
    A = np.stack([s.T_base_tcp for s in samples])
    which = np.repeat(np.arange(len(samples)), [len(s.detection.px) for s in samples])
    points = np.concatenate([s.detection.points_m for s in samples])
    px = np.concatenate([s.detection.px for s in samples])

    def off(change: F64) -> F64:
        T = (inverse(moved(X, change[:6])) @ A @ moved(Y, change[6:12]))[which]
        local = np.einsum("nij,nj->ni", T[:, :3, :3], points) + T[:, :3, 3]
        f = np.array([K[0, 0], K[1, 1]]) * (1.0 + change[12] if focal else 1.0)
        return np.asarray((local[:, :2] / local[:, 2:] * f + K[:2, 2] - px).ravel())

    found = least_squares(
        off, np.zeros(13 if focal else 12), loss="huber", f_scale=LOSS_PX, x_scale="jac", method="trf"
    )
    return moved(X, found.x[:6]), moved(Y, found.x[6:12]), found


def _inliers(samples: Sequence[Sample], X: F64, Y: F64, K: F64) -> list[int]:
    """Numbers of the samples that fit: a bumped board, a wrong marker or a late image does not."""
    errors = np.array([rms_px([s], X, Y, K) for s in samples])
    return np.flatnonzero(errors <= max(LOSS_PX, OUTLIER * float(np.median(errors)))).tolist()


def _jackknife(changes: F64) -> F64:
    """(6, 6) covariance from what leaving out each pose changes (N, 6): unlike the normal equations', it knows that
    the corners of one image share the arm's error."""
    n, off = len(changes), changes - changes.mean(axis=0)
    return np.asarray((n - 1) / n * off.T @ off)


def _arm_covariance(samples: Sequence[Sample], X: F64, Y: F64, K: F64) -> F64:
    """(6, 6) covariance from an error of each joint that is the same in all poses: no pose can show it."""
    changes = []
    for error in ARM_RAD * np.eye(7):
        bent = [replace(s, T_base_tcp=tcp_pose(s.q_rad + error)) for s in samples]
        changes.append(_difference(X, refine(bent, X, Y, K)[0]))
    return np.asarray(np.transpose(changes) @ np.array(changes))


def _focal_scale(samples: Sequence[Sample], X: F64, Y: F64, K: F64) -> tuple[float, float]:
    """The focal length that fits best over the given one, and its standard deviation by the jackknife."""
    best = refine(samples, X, Y, K, focal=True)[2].x[12]
    others = np.array([refine([s for s in samples if s is not o], X, Y, K, focal=True)[2].x[12] for o in samples])
    n = len(others)
    return 1.0 + float(best), float(np.sqrt((n - 1) / n * ((others - others.mean()) ** 2).sum()))


def _closed_forms(samples: Sequence[Sample]) -> dict[str, tuple[F64, F64]]:
    A, C = [s.T_base_tcp for s in samples], [s.T_camera_board for s in samples]
    return {name: solver(A, C) for name, solver in (SOLVERS | opencv_solvers()).items()}


def tsai(A: list[F64], C: list[F64]) -> tuple[F64, F64]:
    """Tsai and Lenz: the rotation from sums of half-angle vectors, then the translation."""
    rows, right = [], []
    for T_a, T_c in _motions(A, C):
        a, c = (_half(T[:3, :3]) for T in (T_a, T_c))
        rows.append(np.cross(np.eye(3), a + c).T)  # the matrix of v -> v x s
        right.append(a - c)
    v = np.linalg.lstsq(np.concatenate(rows), np.concatenate(right), rcond=None)[0]
    return _complete(Rotation.from_rotvec(2 * np.arctan(np.linalg.norm(v)) * _unit(v)).as_matrix(), A, C)


def park(A: list[F64], C: list[F64]) -> tuple[F64, F64]:
    """Park and Martin: the rotation that maps the camera's rotation vectors to the arm's, then the translation."""
    pairs = [[Rotation.from_matrix(T[:3, :3]).as_rotvec() for T in both] for both in _motions(A, C)]
    return _complete(_nearest_rotation(np.array([np.outer(a, c) for a, c in pairs]).sum(axis=0)), A, C)


def shah(A: list[F64], C: list[F64]) -> tuple[F64, F64]:
    """Shah: the rotations of camera and board together, from singular vectors of a sum of Kronecker products."""
    M = np.array([np.kron(a[:3, :3].T, c[:3, :3].T) for a, c in zip(A, C, strict=True)]).sum(axis=0)
    _, _, vt = np.linalg.svd(M)
    R = vt[0].reshape(3, 3)
    return _complete(_nearest_rotation(R * np.sign(np.linalg.det(R))), A, C)


SOLVERS: dict[str, Solver] = {"Tsai": tsai, "Park": park, "Shah": shah}


def opencv_solvers() -> dict[str, Solver]:
    """OpenCV's own solvers; none where its Python binding lacks them."""
    calibrate_hand_eye = getattr(cv2, "calibrateHandEye", None)
    if calibrate_hand_eye is None:
        return {}
    names = ("TSAI", "PARK", "HORAUD", "ANDREFF", "DANIILIDIS")

    def solver(method: int) -> Solver:
        def solve(A: list[F64], C: list[F64]) -> tuple[F64, F64]:
            back = [inverse(T) for T in A]  # for a fixed camera, OpenCV wants base in tool
            R, t = calibrate_hand_eye(
                [T[:3, :3] for T in back], [T[:3, 3] for T in back],
                [T[:3, :3] for T in C], [T[:3, 3] for T in C], method=method,
            )  # fmt: skip
            X = pose(R, np.ravel(t))
            return X, _board(X, A, C)

        return solve

    return {f"OpenCV {name.capitalize()}": solver(getattr(cv2, f"CALIB_HAND_EYE_{name}")) for name in names}


def _motions(A: list[F64], C: list[F64]) -> list[tuple[F64, F64]]:
    """Pairs of motions ``A_i A_j^-1`` and ``C_i C_j^-1``, which X makes equal."""
    return [(A[i] @ inverse(A[j]), C[i] @ inverse(C[j])) for i, j in combinations(range(len(A)), 2)]


def _complete(R: F64, A: list[F64], C: list[F64]) -> tuple[F64, F64]:
    """X and Y from the camera's rotation: positions of both by least squares, ``R_A t_Y - t_X = R t_C - t_A``."""
    M = np.concatenate([np.hstack([a[:3, :3], -np.eye(3)]) for a in A])
    right = np.concatenate([R @ c[:3, 3] - a[:3, 3] for a, c in zip(A, C, strict=True)])
    X = pose(R, np.linalg.lstsq(M, right, rcond=None)[0][3:])
    return X, _board(X, A, C)


def _board(X: F64, A: list[F64], C: list[F64]) -> F64:
    """(4, 4) ``T_tcp_board``: the mean over the poses."""
    found = np.stack([inverse(a) @ X @ c for a, c in zip(A, C, strict=True)])
    return pose(_nearest_rotation(found[:, :3, :3].mean(axis=0)), np.median(found[:, :3, 3], axis=0))


def _nearest_rotation(M: F64) -> F64:
    u, _, vt = np.linalg.svd(M)
    return np.asarray(u @ np.diag([1.0, 1.0, np.linalg.det(u @ vt)]) @ vt)


def _half(R: F64) -> F64:
    """Axis times twice the sine of half the angle."""
    v = Rotation.from_matrix(R).as_rotvec()
    return np.asarray(2 * np.sin(np.linalg.norm(v) / 2) * _unit(v))


def _unit(v: F64) -> F64:
    return np.asarray(v / max(float(np.linalg.norm(v)), 1e-12))


def pose_errors(T: F64, truth: F64) -> tuple[float, float]:
    """Distance [m] and angle [rad] between two (4, 4) poses."""
    return float(np.linalg.norm(T[:3, 3] - truth[:3, 3])), rotation_distance(T[:3, :3], truth[:3, :3])
