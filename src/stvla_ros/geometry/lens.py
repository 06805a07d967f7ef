"""Maps that turn the image of a lens with distortion into that of the pinhole with the same intrinsics."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np

from stvla_ros.types import F32, F64, U8, RgbdFrame

MAX_SIDE_PX = 32766
"""Largest image side that OpenCV can remap."""


@dataclass(frozen=True, eq=False)
class LensMaps:
    """For each pixel of the pinhole's image its position in the lens's image, (H, W) float32 each."""

    x_px: F32
    y_px: F32

    @property
    def in_order(self) -> bool:
        """Whether neighbouring pixels stay in order; where they do not, the model of the lens is not valid."""
        return bool(
            np.isfinite([self.x_px, self.y_px]).all()
            and np.diff(self.x_px, axis=1).min(initial=1.0) > 0
            and np.diff(self.y_px, axis=0).min(initial=1.0) > 0
        )

    def straighten(self, frame: RgbdFrame, depth_too: bool = True) -> RgbdFrame:
        """The pinhole's frame of a lens's frame.

        Args:
            frame: As the lens sees it.
            depth_too: False: depth is the pinhole's already.

        Colour is interpolated. Depth is taken from the nearest pixel, because there is nothing between two surfaces;
        its values stay, because they are measured along the optical axis. Pixels that the lens did not see are black
        and have no depth.
        """
        rgb: U8 = cv2.remap(frame.rgb, self.x_px, self.y_px, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)  # type: ignore[assignment]
        if not depth_too:
            return replace(frame, rgb=rgb)
        depth: F32 = cv2.remap(  # type: ignore[assignment]
            frame.depth_m,
            self.x_px,
            self.y_px,
            cv2.INTER_NEAREST,
            borderMode=cv2.BORDER_CONSTANT,
            borderValue=[float("nan")],
        )
        return replace(frame, rgb=rgb, depth_m=depth)


def polynomial_maps(K: F64, D: Sequence[float], width_px: int, height_px: int) -> LensMaps:
    """Maps of OpenCV's polynomial model (plumb_bob, rational_polynomial) with coefficients ``D``."""
    return _maps(cv2.initUndistortRectifyMap(K, np.array(D, float), None, K, (width_px, height_px), cv2.CV_32FC1))


def fisheye_maps(K: F64, D: Sequence[float], width_px: int, height_px: int) -> LensMaps:
    """Maps of the equidistant model of Kannala and Brandt with four coefficients."""
    size = (width_px, height_px)
    return _maps(cv2.fisheye.initUndistortRectifyMap(K, np.array(D, float), np.eye(3), K, size, cv2.CV_32FC1))


def radial_first_maps(K: F64, D: Sequence[float], width_px: int, height_px: int) -> LensMaps:
    """Maps of librealsense's (modified, inverse) Brown-Conrady model.

    It is the polynomial model with ``D`` = (k1, k2, p1, p2, k3), except that its tangential terms use the coordinates
    after the radial distortion (``rs2_project_point_to_pixel`` in librealsense's ``rs.cpp``).
    """
    k1, k2, p1, p2, k3 = D
    x, y = np.meshgrid(
        (np.arange(width_px) - K[0, 2]) / K[0, 0], (np.arange(height_px) - K[1, 2]) / K[1, 1], copy=False
    )
    r2 = x * x + y * y
    radial = 1 + r2 * (k1 + r2 * (k2 + r2 * k3))
    u, v = x * radial, y * radial
    bent_x = u + 2 * p1 * u * v + p2 * (r2 + 2 * u * u)
    bent_y = v + 2 * p2 * u * v + p1 * (r2 + 2 * v * v)
    return _maps((bent_x * K[0, 0] + K[0, 2], bent_y * K[1, 1] + K[1, 2]))


def _maps(xy: Sequence[object]) -> LensMaps:
    x, y = (np.asarray(m, dtype=np.float32) for m in xy)
    return LensMaps(x, y)
