"""Rectifies images of a lens with distortion to the pinhole camera that the stack uses, or refuses them."""

from __future__ import annotations

import copy
from functools import lru_cache
from typing import TypeAlias

import numpy as np
from sensor_msgs.msg import CameraInfo

from stvla_ros.geometry.lens import MAX_SIDE_PX, LensMaps, fisheye_maps, polynomial_maps
from stvla_ros.types import F64, RgbdFrame

OPENCV = (4, 5, 8, 12, 14)
"""OpenCV identifies the terms of its polynomial by the number of coefficients. So do drivers that send eight of them
(rational) under the name plumb_bob: missing terms are zero, and order and meaning of the others stay the same."""

MODELS = {"plumb_bob": OPENCV, "rational_polynomial": OPENCV, "equidistant": (4,)}
"""Distortion models that are rectified, by their names in sensor_msgs, with the allowed numbers of coefficients."""

STRAIGHT = frozenset(
    {"", "none", "pinhole", "brown_conrady", "modified_brown_conrady", "inverse_brown_conrady"}
) | MODELS.keys() - {"equidistant"}
"""Models that leave the image as it is when all coefficients are zero. A fisheye is distorted even then."""

_Calibration: TypeAlias = tuple[str, tuple[float, ...], tuple[float, ...], int, int]


class Rectifier:
    """Rectifies the frames of one camera; the maps are computed once per calibration.

    The pinhole camera keeps the lens's intrinsics K.

    Args:
        rectified: The images are already rectified (image_rect): P of the camera info is used, and D is ignored.
        depth_rectified: Depth is, though colour is not (``BENDS_DEPTH`` in :mod:`stvla_ros.camera.device` says why).
    """

    def __init__(self, rectified: bool = False, depth_rectified: bool = False) -> None:
        self._rectified, self._depth_rectified = rectified, depth_rectified
        self._maps = lru_cache(maxsize=2)(_make_maps)

    def pinhole(self, info: CameraInfo) -> CameraInfo:
        """The camera info of the images returned by :meth:`rectify`.

        Raises:
            ValueError: The lens cannot be rectified; the sentence says why.
        """
        out = copy.copy(info)
        if self._rectified:
            out.k = _projection(info).reshape(-1)
        else:
            _check(info)
        out.distortion_model, out.d = "plumb_bob", [0.0] * 5
        return out

    def rectify(self, frame: RgbdFrame, info: CameraInfo) -> RgbdFrame:
        """The rectified frame; the frame itself when there is no distortion.

        Raises:
            ValueError: Like :meth:`check`.
        """
        maps = self._maps_of(info)
        return frame if maps is None else maps.straighten(frame, depth_too=not self._depth_rectified)

    def check(self, info: CameraInfo) -> None:
        """Check whether :meth:`rectify` works for the frames of a camera; computes its maps.

        Raises:
            ValueError: The distortion cannot be removed everywhere in the image; the sentence says why.
        """
        self._maps_of(info)

    def _maps_of(self, info: CameraInfo) -> LensMaps | None:
        if self._rectified or not any(info.d):
            return None
        if max(info.width, info.height) > MAX_SIDE_PX:
            raise ValueError(f"wanted at most {MAX_SIDE_PX} pixels a side to rectify, got {info.width}x{info.height}")
        maps = self._maps((_model(info), tuple(map(float, info.d)), tuple(map(float, info.k)), info.width, info.height))
        if maps is None:
            raise ValueError(
                f"wanted a distortion that can be removed, but with D = {_rounded(info.d)} the image folds over: "
                "calibrate again"
            )
        return maps


def _make_maps(calibration: _Calibration) -> LensMaps | None:
    """The maps; None where the polynomial is not valid in the whole image."""
    model, d, k, width, height = calibration
    make = fisheye_maps if model == "equidistant" else polynomial_maps
    maps = make(np.array(k, dtype=np.float64).reshape(3, 3), d, width, height)
    return maps if maps.in_order else None


def _model(info: CameraInfo) -> str:
    """The name of the distortion model as sensor_msgs spells it."""
    return str(info.distortion_model).strip().lower().replace(" ", "_").replace("-", "_")


def _check(info: CameraInfo) -> None:
    """Raises ValueError for a model or coefficients that cannot be rectified."""
    model = _model(info)
    if not any(info.d) and model in STRAIGHT:
        return
    if model not in MODELS:
        raise ValueError(
            f"wanted the distortion model {' or '.join(MODELS)}, but CameraInfo has '{info.distortion_model}' with "
            f"D = {_rounded(info.d)}: feed the topics of a rectified stream and set the camera's parameter 'rectified'"
        )
    if not any(info.d):
        raise ValueError(
            f"wanted coefficients of distortion for {model}, but CameraInfo has D = {_rounded(info.d)}: set the camera's "
            "parameter 'rectified' if its images are, else calibrate it"
        )
    if len(info.d) not in MODELS[model]:
        raise ValueError(
            f"wanted {' or '.join(map(str, MODELS[model]))} coefficients of distortion for {model}, "
            f"but CameraInfo has {len(info.d)}"
        )
    if not np.isfinite(info.d).all():
        raise ValueError(f"wanted finite coefficients of distortion, but CameraInfo has D = {_rounded(info.d)}")


def _projection(info: CameraInfo) -> F64:
    """(3, 3) intrinsics of a rectified image. Raises ValueError when the message has none."""
    R = np.array(info.r, dtype=np.float64).reshape(3, 3)
    if R.any() and not np.allclose(R, np.eye(3), atol=1e-4):
        raise ValueError(f"wanted images rectified in place, but CameraInfo has R = {R.reshape(-1).round(4).tolist()}")
    P = np.array(info.p, dtype=np.float64).reshape(3, 4)
    if not P.any() and not any(info.d):
        return np.array(info.k, dtype=np.float64).reshape(3, 3)  # nothing was rectified: P would equal K
    if not (np.isfinite(P).all() and P[0, 0] > 0 and P[1, 1] > 0 and P[2, 2] == 1.0):
        raise ValueError(
            f"wanted the projection of a rectified camera, but CameraInfo has P = {P.reshape(-1).tolist()}"
        )
    return P[:, :3]


def _rounded(d: tuple[float, ...]) -> list[float]:
    return [round(c, 4) for c in d]
