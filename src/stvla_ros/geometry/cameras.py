"""Pinhole projection and the two kinds of image coordinates in use.

Pixel coordinates ``px`` follow OpenCV and ROS: (x right, y down), the *centre* of the top-left pixel is
(0, 0), so an image of W pixels spans x from -0.5 to W - 0.5. Trace coordinates ``uv`` follow Qwen-VL and
the paper (3.3.1): 0..1000 across the whole width and height, edges included. Hence

    px = uv / 1000 * (W, H) - 0.5        uv = (px + 0.5) * 1000 / (W, H)

and uv = (500, 500) is the centre of the image whatever its size.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt

from stvla_ros.geometry.se3 import is_rotation
from stvla_ros.types import F32, F64, Camera, RgbdFrame

UV_MAX = 1000.0

SATURATED_M = 65.5
"""Greater depths are invalid: a 16-bit image in millimetres ends here."""


MIN_FOCAL_PX, MAX_INTRINSIC_PX = 1.0, 1e6
"""Intrinsics outside these limits are in other units (sensor size, metres) or damaged."""


def uv_to_px(uv: npt.ArrayLike, camera: Camera) -> F64:
    """(..., 2) pixel coordinates of (..., 2) trace coordinates in 0..1000."""
    size = np.array([camera.width_px, camera.height_px], dtype=np.float64)
    return np.asarray(uv, dtype=np.float64) / UV_MAX * size - 0.5


def px_to_uv(px: npt.ArrayLike, camera: Camera) -> F64:
    """(..., 2) trace coordinates in 0..1000 of (..., 2) pixel coordinates; not clipped to the image."""
    size = np.array([camera.width_px, camera.height_px], dtype=np.float64)
    return (np.asarray(px, dtype=np.float64) + 0.5) * UV_MAX / size


def calibration_fault(camera: Camera) -> str | None:
    """What is wrong with a camera's intrinsics or pose; None for a valid pinhole."""
    K, T = camera.K, camera.T_base_camera
    if not (
        np.isfinite(K).all() and K[0, 0] > 0 and K[1, 1] > 0 and (K[[1, 2, 2, 2], [0, 0, 1, 2]] == [0, 0, 0, 1]).all()
    ):
        return f"wanted intrinsics with positive focal lengths and last row (0, 0, 1), got K = {K.round(3).tolist()}"
    if min(K[0, 0], K[1, 1]) < MIN_FOCAL_PX or np.abs(K).max() > MAX_INTRINSIC_PX:
        return f"wanted intrinsics in pixels, got K = {K.round(3).tolist()}: calibrate the camera again"
    if not (np.isfinite(T).all() and is_rotation(T[:3, :3]) and (T[3] == [0, 0, 0, 1]).all()):
        return f"wanted a rigid transform from camera to base, got {T.round(3).tolist()}"
    return None


def sampled(depth_m: F32, px: npt.ArrayLike) -> F64:
    """(N,) depth at the pixels nearest to (N, 2) pixel coordinates; NaN outside the image or where invalid."""
    h, w = depth_m.shape
    px = np.asarray(px, dtype=np.float64)
    inside = ((px >= -0.5) & (px <= [w - 0.5, h - 0.5])).all(axis=1)  # False for NaN
    out = np.full(len(px), np.nan)
    x, y = np.rint(px[inside]).astype(np.intp).T
    out[inside] = depth_m[y.clip(0, h - 1), x.clip(0, w - 1)]
    return np.where((out > 0) & (out < SATURATED_M), out, np.nan)


def project(camera: Camera, xyz_m: npt.ArrayLike) -> tuple[F64, F64]:
    """Image of points in the base frame.

    Args:
        camera: Pinhole camera.
        xyz_m: (..., 3) points in the base frame.

    Returns:
        (..., 2) pixel coordinates and (...) depth along the optical axis; points with depth <= 0 lie behind
        the camera and have no image (their pixel is NaN).
    """
    T = camera.T_base_camera
    local = (np.asarray(xyz_m, dtype=np.float64) - T[:3, 3]) @ T[:3, :3]
    depth = local[..., 2]
    with np.errstate(divide="ignore", invalid="ignore"):
        px = (local / np.where(depth > 0, depth, np.nan)[..., None]) @ camera.K.T
    return px[..., :2], depth


def uv_in_view(camera: Camera, xyz_m: npt.ArrayLike) -> F64 | None:
    """(2,) image of a point (3,) of the base frame, in 0..1000; None outside the image."""
    px, _ = project(camera, xyz_m)
    uv = px_to_uv(px, camera)
    return uv if np.isfinite(uv).all() and uv.min() >= 0 and uv.max() <= 1000 else None


def back_project(camera: Camera, px: npt.ArrayLike, depth_m: npt.ArrayLike) -> F64:
    """(..., 3) points in the base frame at (..., 2) pixels and (...) depths along the optical axis."""
    px = np.asarray(px, dtype=np.float64)
    homogeneous = np.concatenate([px, np.ones((*px.shape[:-1], 1))], axis=-1)
    local = homogeneous @ np.linalg.inv(camera.K).T * np.asarray(depth_m, dtype=np.float64)[..., None]
    return np.asarray(local @ camera.T_base_camera[:3, :3].T + camera.T_base_camera[:3, 3])


def rays(camera: Camera) -> F32:
    """(3, H, W) float32 direction through each pixel centre in the base frame, of unit depth (not length). Read-only."""
    M = camera.T_base_camera[:3, :3] @ np.linalg.inv(camera.K)
    return _rays(M.tobytes(), camera.width_px, camera.height_px)


@lru_cache(maxsize=4)
def _rays(matrix: bytes, width_px: int, height_px: int) -> F32:
    M = np.frombuffer(matrix, dtype=np.float64).reshape(3, 3)
    x, y = np.arange(width_px), np.arange(height_px)
    planes = M[:, 0, None, None] * x[None, None, :] + M[:, 1, None, None] * y[None, :, None] + M[:, 2, None, None]
    out = planes.astype(np.float32)
    out.flags.writeable = False
    return out


def cloud(frame: RgbdFrame) -> F32:
    """(3, H, W) float32 point of each pixel in the base frame; NaN where the depth is not positive or is saturated.

    The coordinate comes first so that ``x, y, z = cloud(frame)`` are three contiguous images.
    """
    return depth_cloud(frame.camera, frame.depth_m)


def depth_cloud(camera: Camera, depth_m: F32) -> F32:
    """:func:`cloud` of a depth image (H, W) that was changed after it was taken."""
    depth = np.where((depth_m > 0) & (depth_m < SATURATED_M), depth_m, np.float32(np.nan))
    points = rays(camera) * depth
    points += camera.T_base_camera[:3, 3, None, None].astype(np.float32)
    return points
