"""Images of a lens with distortion become those of the pinhole that the stack computes with, or are refused."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from typing import TypeAlias

import cv2
import numpy as np
from sensor_msgs.msg import CameraInfo

from stvla_ros.types import F32, F64, U8, RgbdFrame

MODELS = {"plumb_bob": (4, 5), "rational_polynomial": (8, 12, 14)}
"""Distortion models that are rectified, by the names of sensor_msgs, and how many coefficients each may have."""

_Calibration: TypeAlias = tuple[str, tuple[float, ...], tuple[float, ...], int, int]


@dataclass(frozen=True, eq=False)
class _Maps:
    """Where each pixel of the pinhole's image lies in the lens's: (H, W) float32 each."""

    calibration: _Calibration
    x_px: F32
    y_px: F32


class Rectifier:
    """Rectifies the frames of one camera; its maps are made once per calibration.

    The pinhole keeps the lens's intrinsics K. Colour is interpolated, depth is taken from the nearest pixel: between
    two surfaces there is nothing. Depth is measured along the optical axis, so its values stay. What the lens did not
    see is black, without depth.

    Args:
        rectified: The images are rectified already (image_rect): P of the camera info holds, D does not.
    """

    def __init__(self, rectified: bool = False) -> None:
        self._rectified = rectified
        self._maps: _Maps | None = None

    def pinhole(self, info: CameraInfo) -> CameraInfo:
        """The camera info of the images that :meth:`rectify` makes of those of ``info``.

        Raises:
            ValueError: The lens cannot be rectified; the sentence says why.
        """
        out = copy.copy(info)
        if self._rectified:
            out.k = _projection(info).reshape(-1)
        elif info.distortion_model in MODELS or any(info.d):
            _check(info)
        elif info.distortion_model:
            raise ValueError(_unknown(info))
        out.distortion_model, out.d = "plumb_bob", [0.0] * 5
        return out

    def rectify(self, frame: RgbdFrame, info: CameraInfo) -> RgbdFrame:
        """A frame as the pinhole would have taken it; the frame itself where there is no distortion."""
        if self._rectified or not any(info.d):
            return frame
        maps = self._maps_of(info)
        rgb: U8 = cv2.remap(frame.rgb, maps.x_px, maps.y_px, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)  # type: ignore[assignment]
        depth: F32 = cv2.remap(  # type: ignore[assignment]
            frame.depth_m,
            maps.x_px,
            maps.y_px,
            cv2.INTER_NEAREST,
            borderMode=cv2.BORDER_CONSTANT,
            borderValue=[float("nan")],
        )
        return replace(frame, rgb=rgb, depth_m=depth)

    def _maps_of(self, info: CameraInfo) -> _Maps:
        calibration = (info.distortion_model, tuple(info.d), tuple(info.k), info.width, info.height)
        if self._maps is None or self._maps.calibration != calibration:
            K = np.array(info.k, dtype=np.float64).reshape(3, 3)
            x, y = cv2.initUndistortRectifyMap(
                K, np.array(info.d, dtype=np.float64), None, K, (info.width, info.height), cv2.CV_32FC1
            )
            maps = _Maps(calibration, np.asarray(x, dtype=np.float32), np.asarray(y, dtype=np.float32))
            _check_unfolded(maps, info)
            self._maps = maps
        return self._maps


def _check(info: CameraInfo) -> None:
    """Raises ValueError for a model or coefficients that cannot be rectified."""
    if info.distortion_model not in MODELS:
        raise ValueError(_unknown(info))
    if any(info.d) and len(info.d) not in MODELS[info.distortion_model]:
        raise ValueError(
            f"wanted {' or '.join(map(str, MODELS[info.distortion_model]))} coefficients of distortion for "
            f"{info.distortion_model}, but CameraInfo has {len(info.d)}"
        )
    if not np.isfinite(info.d).all():
        raise ValueError(f"wanted finite coefficients of distortion, but CameraInfo has D = {_rounded(info)}")


def _unknown(info: CameraInfo) -> str:
    return (
        f"wanted the distortion model {' or '.join(MODELS)}, but CameraInfo has '{info.distortion_model}' with "
        f"D = {_rounded(info)}: feed the topics of a rectified stream and set the camera's parameter 'rectified'"
    )


def _check_unfolded(maps: _Maps, info: CameraInfo) -> None:
    """Raises ValueError where neighbouring pixels come in the wrong order: the polynomial does not hold out there."""
    if not (np.diff(maps.x_px, axis=1).min(initial=1.0) > 0 and np.diff(maps.y_px, axis=0).min(initial=1.0) > 0):
        raise ValueError(
            f"wanted a distortion that can be undone, but with D = {_rounded(info)} the image folds over: calibrate again"
        )


def _projection(info: CameraInfo) -> F64:
    """(3, 3) intrinsics of a rectified image. Raises ValueError when the message has none."""
    R = np.array(info.r, dtype=np.float64).reshape(3, 3)
    if R.any() and not np.allclose(R, np.eye(3), atol=1e-4):
        raise ValueError(f"wanted images rectified in place, but CameraInfo has R = {R.reshape(-1).round(4).tolist()}")
    P = np.array(info.p, dtype=np.float64).reshape(3, 4)
    if not (np.isfinite(P).all() and P[0, 0] > 0 and P[1, 1] > 0 and P[2, 2] == 1.0):
        raise ValueError(
            f"wanted the projection of a rectified camera, but CameraInfo has P = {P.reshape(-1).tolist()}"
        )
    return P[:, :3]


def _rounded(info: CameraInfo) -> list[float]:
    return [round(d, 4) for d in info.d]
