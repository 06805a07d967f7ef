"""The path drawn on the image (paper 3.4.1): a thin translucent line, red where near, blue where far."""

from __future__ import annotations

import cv2
import numpy as np

from stvla_ros.geometry.cameras import project
from stvla_ros.geometry.paths import resample
from stvla_ros.types import F64, U8, Camera, Trace3d

SEGMENTS = 64
_SHIFT = 4  # fractional bits of OpenCV's drawing coordinates


def draw_trace(rgb: U8, trace: Trace3d, camera: Camera, alpha: float = 0.6) -> U8:
    """A copy of an image with the path on it.

    Args:
        rgb: (H, W, 3) image of the camera.
        trace: The path.
        camera: Its camera.
        alpha: Opacity of the line.
    """
    points = trace.xyz_m[trace.source != 0].astype(np.float64)
    px, depth = project(camera, resample(points, SEGMENTS + 1))
    visible = depth > 0.01
    out = rgb.copy()
    if visible.sum() < 2:
        return out
    colours = _colours(depth[visible])
    corners = np.round(np.clip(px[visible], -1e4, 1e4) * (1 << _SHIFT)).astype(np.int32)
    thickness = max(round(camera.width_px / 213), 1)
    layer = rgb.copy()
    for a, b, colour in zip(corners[:-1], corners[1:], colours[:-1], strict=True):
        cv2.line(layer, tuple(map(int, a)), tuple(map(int, b)), colour, thickness, cv2.LINE_AA, _SHIFT)
    return np.asarray(cv2.addWeighted(layer, alpha, out, 1 - alpha, 0, dst=out), dtype=np.uint8)


def _colours(depth_m: F64) -> list[tuple[int, int, int]]:
    """RGB per point: red at the nearest, blue at the farthest."""
    span = max(float(np.ptp(depth_m)), 1e-3)
    t = (depth_m - depth_m.min()) / span
    return [(int(255 * (1 - v)), 30, int(255 * v)) for v in t]
