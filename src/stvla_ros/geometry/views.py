"""A frame as a square image of another size, as input of networks."""

from __future__ import annotations

import cv2
import numpy as np

from stvla_ros.types import F32, Camera, RgbdFrame


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


def _square(camera: Camera) -> tuple[int, int, int]:
    """Left, top and side of the central square, px."""
    side = min(camera.width_px, camera.height_px)
    return (camera.width_px - side) // 2, (camera.height_px - side) // 2, side
