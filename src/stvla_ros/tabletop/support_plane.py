"""The support plane: the table under the objects, near z = 0 of the base frame."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from stvla_ros.geometry.cameras import project
from stvla_ros.types import F32, F64, Bool, Camera

SEARCH_M = 0.05
"""The table is searched within this distance of z = 0 of the base frame (calibration error of a real cell)."""


@dataclass(frozen=True, eq=False)
class SupportPlane:
    """The plane ``z = a x + b y + c`` in the base frame.

    Attributes:
        a: Slope along x.
        b: Slope along y.
        c: Height at the origin, m.
        noise_m: Standard deviation of the sensor's points about the plane, robustly estimated.
    """

    a: float = 0.0
    b: float = 0.0
    c: float = 0.0
    noise_m: float = 0.0

    def height(self, points_m: npt.NDArray[np.floating]) -> F32:
        """Height above the table of points (3, ...), m; NaN stays NaN."""
        x, y, z = np.asarray(points_m, dtype=np.float32)
        height = np.asarray(np.float32(self.a) * x)
        height += np.float32(self.b) * y
        height += np.float32(self.c)
        np.subtract(z, height, out=height)  # in place: memory for images of a frame costs more than the sums
        return height

    @property
    def gradient(self) -> F32:
        """(3,) change of the height above the table along x, y and z."""
        return np.array([-self.a, -self.b, 1.0], dtype=np.float32)

    @property
    def noise_floor_m(self) -> float:
        """Points higher than this are not the table: four sigma, between 3.5 and 12 mm."""
        return float(np.clip(4.0 * self.noise_m, 0.0035, 0.012))


def fit_support_plane(points_m: F32, exclude: Bool | None = None, budget: int = 6000) -> SupportPlane:
    """Fit the support plane by iterated least squares, starting from the most frequent height.

    Args:
        points_m: (3, H, W) points in the base frame, NaN where unknown.
        exclude: (H, W) pixels to ignore.
        budget: Number of points to use, evenly spread over the image.

    Returns:
        The plane; ``z = 0``, the calibrated table, when fewer than 200 points lie near it or the fit is too steep.
    """
    flat = points_m.reshape(3, -1)
    every = slice(None, None, max(flat.shape[1] // (4 * budget), 1))
    flat = flat[:, every]
    near = np.abs(flat[2]) < SEARCH_M
    if exclude is not None:
        near &= ~exclude.ravel()[every]
    flat = flat.take(np.flatnonzero(near), axis=1)
    flat = flat[:, :: max(flat.shape[1] // budget, 1)].astype(np.float64)
    if flat.shape[1] < 200:
        return SupportPlane()
    counts, edges = np.histogram(flat[2], bins=40)
    i = int(np.argmax(np.convolve(counts, [1, 1, 1], "same")))
    plane = np.array([0.0, 0.0, (edges[i] + edges[i + 1]) / 2])
    A = np.column_stack([flat[0], flat[1], np.ones(flat.shape[1])])
    sigma, before = 0.006, np.zeros(0, dtype=np.intp)
    for _ in range(5):
        residual = flat[2] - A @ plane
        inside = np.flatnonzero(np.abs(residual) < max(3 * sigma, 0.003))
        if len(inside) < 100 or np.array_equal(inside, before):  # the same points give the same plane
            break
        before = inside
        X, y = A.take(inside, axis=0), flat[2].take(inside)
        plane = np.linalg.lstsq(X.T @ X, X.T @ y, rcond=None)[0]  # normal equations take a tenth of the time
        middle = [(len(inside) - 1) // 2, len(inside) // 2]
        sigma = 1.4826 * float(np.partition(np.abs(y - X @ plane), middle)[middle].sum()) / 2
    if np.hypot(plane[0], plane[1]) > 0.2:  # steeper than 11 degrees: not a table
        return SupportPlane()
    return SupportPlane(float(plane[0]), float(plane[1]), float(plane[2]), sigma)


def feet_px(
    points_m: npt.NDArray[np.floating], plane: SupportPlane, camera: Camera
) -> tuple[tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]], npt.NDArray[np.bool_]]:
    """Pixels in which a plane would be seen vertically below points, or above them.

    Args:
        points_m: (3, N) points in the base frame.
        plane: The plane.
        camera: Of the pixels.

    Returns:
        (N,) rows and (N,) columns, those outside of the image moved to its border; and (N,) which are inside.
    """
    feet = points_m.astype(np.float64)
    feet[2] += plane.a * feet[0] + plane.b * feet[1] + plane.c - feet[2]
    px = np.nan_to_num(project(camera, feet.T)[0], nan=-1e6)
    x, y = np.rint(np.clip(px, -1e6, 1e6)).astype(np.intp).T
    h, w = camera.height_px, camera.width_px
    inside = (x >= 0) & (x < w) & (y >= 0) & (y < h)
    return (y.clip(0, h - 1), x.clip(0, w - 1)), inside


def inverse_depth_plane(camera: Camera, table: SupportPlane) -> F64:
    """(3,) plane in inverse depth: ``plane @ (u, v, 1)`` is the inverse depth of the table at pixel (u, v).

    It is not positive where the pixel's ray misses the table. All zeros when the camera is not above the table.
    """
    o = camera.T_base_camera[:3, 3]
    above = float(o[2] - table.a * o[0] - table.b * o[1] - table.c)
    if not above > 0:
        return np.zeros(3)
    M = camera.T_base_camera[:3, :3] @ np.linalg.inv(camera.K)
    return np.asarray(-(M[2] - table.a * M[0] - table.b * M[1]) / above, dtype=np.float64)
