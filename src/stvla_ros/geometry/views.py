"""A frame as another camera would see it: a square image of another size for networks, or from another pose."""

from __future__ import annotations

import cv2
import numpy as np

from stvla_ros.geometry.cameras import cloud, project
from stvla_ros.types import F32, Camera, RgbdFrame

CRACK_PX = 1.5
"""Pixels without a point this near to one that has a point get its depth."""


def square_camera(camera: Camera, size_px: int) -> Camera:
    """The pinhole of the central square of an image, resized to ``size_px``.

    Pixel centres are whole numbers (see :mod:`stvla_ros.geometry.cameras`), therefore the half pixels.
    """
    left, top, side = _square(camera)
    scale = size_px / side
    K = camera.K.copy()
    K[:2, 2] = (K[:2, 2] - [left, top] + 0.5) * scale - 0.5
    K[0, :2] *= scale
    K[1, 1] *= scale
    return Camera(K, size_px, size_px, camera.T_base_camera, camera.frame_id)


def square_view(frame: RgbdFrame, size_px: int) -> RgbdFrame:
    """The central square of a frame, resized. The aspect ratio stays and the intrinsics follow.

    Colour is averaged over the merged pixels. Depth is taken from one pixel, never averaged: a mean across an edge is a
    point in free space.

    Args:
        frame: Any size.
        size_px: Edge of the square.
    """
    left, top, side = _square(frame.camera)
    window = slice(top, top + side), slice(left, left + side)
    shrinks = cv2.INTER_AREA if size_px < side else cv2.INTER_LINEAR
    rgb = np.ascontiguousarray(frame.rgb[window])
    if size_px != side:
        rgb = np.asarray(cv2.resize(rgb, (size_px, size_px), interpolation=shrinks), np.uint8)
    nearest = ((np.arange(size_px) + 0.5) * (side / size_px)).astype(np.intp)
    depth = frame.depth_m[window][np.ix_(nearest, nearest)]
    return RgbdFrame(rgb, depth, square_camera(frame.camera, size_px), frame.stamp_ns)


def without_holes(depth_m: F32) -> F32:
    """Depth in which every invalid pixel has the depth of the nearest valid one.

    Raises:
        ValueError: No pixel has a depth.
    """
    invalid = ~(np.isfinite(depth_m) & (depth_m > 0))
    if not invalid.any():
        return depth_m
    if invalid.all():
        raise ValueError(f"wanted depth at one pixel at least, found none in {depth_m.shape[1]}x{depth_m.shape[0]}")
    _, label = cv2.distanceTransformWithLabels(
        invalid.astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_5, labelType=cv2.DIST_LABEL_PIXEL
    )
    of_label = np.empty(int(label.max()) + 1, np.float32)
    of_label[label[~invalid]] = depth_m[~invalid]
    filled: F32 = of_label[label]
    return filled


def view_from(frame: RgbdFrame, camera: Camera) -> tuple[RgbdFrame, float]:
    """A frame's points as another camera sees them: the nearest point of each pixel, cracks between points closed.

    What the first camera did not see has no depth, and the colour of the nearest point.

    Args:
        frame: With depth.
        camera: With a pose in the same base frame, and any size.

    Returns:
        The new frame, and the share of its pixels with depth.
    """
    h, w = camera.height_px, camera.width_px
    points, colours = cloud(frame).reshape(3, -1).T, frame.rgb.reshape(-1, 3)
    known = np.isfinite(points[:, 2])
    px, ahead = project(camera, points[known])
    x, y = np.rint(np.nan_to_num(px, nan=-1.0)).astype(np.intp).T
    inside = (ahead > 0) & (x >= 0) & (x < w) & (y >= 0) & (y < h)
    far_first = np.argsort(-ahead[inside], kind="stable")  # the last point that is written to a pixel stays
    at = (y[inside] * w + x[inside])[far_first]
    depth, rgb = np.full(h * w, np.nan, np.float32), np.zeros((h * w, 3), np.uint8)
    depth[at] = ahead[inside][far_first]
    rgb[at] = colours[known][inside][far_first]
    missing = np.isnan(depth).reshape(h, w)
    if not missing.all() and missing.any():
        away, label = cv2.distanceTransformWithLabels(
            missing.astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_5, labelType=cv2.DIST_LABEL_PIXEL
        )
        source = np.empty(int(label.max()) + 1, np.intp)
        source[label[~missing]] = np.flatnonzero(~missing)
        nearest = source[label].ravel()
        rgb = rgb[nearest]
        depth = np.where(away.ravel() <= CRACK_PX, depth[nearest], np.float32(np.nan))
    share = float(np.isfinite(depth).mean())
    return RgbdFrame(rgb.reshape(h, w, 3), depth.reshape(h, w), camera, frame.stamp_ns), share


def _square(camera: Camera) -> tuple[int, int, int]:
    """Left, top and side of the central square, px."""
    side = min(camera.width_px, camera.height_px)
    return (camera.width_px - side) // 2, (camera.height_px - side) // 2, side
