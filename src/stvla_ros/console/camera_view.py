"""The 3D view as the camera has it: its picture behind the scene, in place, and clicks on that picture."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from stvla_ros.console.edit import pixel_of, placed
from stvla_ros.console.views import FRAME, Views
from stvla_ros.errors import OutcomeCode, StageError
from stvla_ros.geometry.cameras import back_project
from stvla_ros.geometry.se3 import to_quaternion
from stvla_ros.types import F64, Camera, RgbdFrame

PICTURE_M = 10.0
"""Distance of the picture from the camera: behind everything that is drawn."""

PICTURE_PX, JPEG_QUALITY = 960, 75
"""Wider pictures are sent smaller."""

EYE_M = 1e-3
"""A view from further beside the camera shows the scene and the picture shifted against each other."""


@lru_cache(maxsize=1)
def _jpeg(frame: RgbdFrame) -> bytes:
    """What a frame shows, encoded once for all browsers."""
    bgr = frame.rgb[:, :, ::-1]
    if (width := bgr.shape[1]) > PICTURE_PX:
        size = PICTURE_PX, round(bgr.shape[0] * PICTURE_PX / width)
        bgr = np.asarray(cv2.resize(bgr, size, interpolation=cv2.INTER_AREA), np.uint8)
    return bytes(cv2.imencode(".jpeg", bgr, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1])


class CameraView:
    """Lets one browser look through the camera, and go back to where it looked from before. One thread refreshes it.

    Args:
        client: viser's.
        views: Where frames come from.
        clicked: Called by a click, in a thread of its own, with the ray's origin and direction (3,) in the base frame.
    """

    def __init__(self, client: Any, views: Views, clicked: Callable[[F64, F64], None]) -> None:
        self._client, self._views, self._tell = client, views, clicked
        self._frame: RgbdFrame | None = None
        self._number, self._taken_s = 0, 0.0
        self._picture: Any = None
        self._before: tuple[F64, F64, F64, float] | None = None

    def refresh(self, through: bool) -> None:
        """Look through the camera, once there is a frame, or from where the person looked before; show what is new."""
        taken_s = time.monotonic() - self._views.age_s(FRAME)  # first: of what comes meanwhile it may be too early
        number, frame = self._views.get(FRAME)
        if through and frame is not None:
            if number != self._number:
                self._number, self._taken_s = number, taken_s
                self._show(frame)
            self._client.camera.fov = vertical_fov(frame.camera, self._client.camera.aspect)
        elif not through and self._before is not None:
            self._leave()

    def age_s(self) -> float:
        """Age of the picture that is looked at; 0 without one."""
        return time.monotonic() - self._taken_s if self._frame is not None else 0.0

    def place(self, points_m: F64, waypoint: int, origin_m: npt.ArrayLike, direction: npt.ArrayLike) -> F64:
        """(3,) where one of the waypoints (N, 3) is after a click on the picture.

        Args:
            points_m: (N, 3) in the base frame.
            waypoint: Which one, from 0.
            origin_m: (3,) where the click was seen from.
            direction: (3,) into which.

        Raises:
            StageError: INVALID_GOAL when the view is not the camera's (it is then moved back) or the click missed the
                picture; LIFT_NO_DEPTH.
        """
        frame = self._frame
        if frame is None:
            raise StageError(OutcomeCode.INVALID_GOAL, "No waypoint was moved: this is not the camera's view.")
        beside_m = float(np.linalg.norm(np.asarray(origin_m, np.float64) - frame.camera.T_base_camera[:3, 3]))
        if not beside_m <= EYE_M:
            self._look_from(frame.camera)
            raise StageError(
                OutcomeCode.INVALID_GOAL,
                "No waypoint was moved: the view had left the camera's. It is back there: click again.",
            )
        return placed(points_m, waypoint, pixel_of(direction, frame.camera), frame)

    def _show(self, frame: RgbdFrame) -> None:
        """Another frame: its picture, and the view again if the camera has moved."""
        before, self._frame = self._frame, frame
        if before is not None and _same(before.camera, frame.camera):
            self._picture._data = _jpeg(frame)  # viser 1.1 would encode an image anew for each browser
            return
        if before is None:
            view = self._client.camera
            self._before = view.position.copy(), view.look_at.copy(), view.up_direction.copy(), view.fov
            self._client.scene.on_click()(self._click)
        self._picture = self._stand(frame)
        self._look_from(frame.camera)

    def _stand(self, frame: RgbdFrame) -> Any:
        """The picture where its pixels are in front of the camera: viser's x is right, y down, z away."""
        camera = frame.camera
        width_m, height_m = camera.width_px / camera.K[0, 0], camera.height_px / camera.K[1, 1]
        x, y, z, w = to_quaternion(camera.T_base_camera[:3, :3])
        picture = self._client.scene.add_image(
            "/picture", np.zeros((1, 1, 3), np.uint8), width_m * PICTURE_M, height_m * PICTURE_M, format="jpeg",
            cast_shadow=False, receive_shadow=False, wxyz=(w, x, y, z),
            position=back_project(camera, [(camera.width_px - 1) / 2, (camera.height_px - 1) / 2], PICTURE_M),
        )  # fmt: skip
        picture._data = _jpeg(frame)
        return picture

    def _look_from(self, camera: Camera) -> None:
        T, view = camera.T_base_camera, self._client.camera
        fov = vertical_fov(camera, view.aspect)
        self._set(T[:3, 3], T[:3, 3] + T[:3, 2], -T[:3, 1], fov)

    def _set(self, position: F64, look_at: F64, up: F64, fov: float) -> None:
        view = self._client.camera
        with self._client.atomic():
            view.up_direction, view.position, view.look_at, view.fov = up, position, look_at, fov

    def _leave(self) -> None:
        before, self._before, self._frame, self._number = self._before, None, None, 0
        self._client.scene.remove_click_callback(self._click)
        self._client.scene.remove_by_name("/picture")
        if before is not None:
            self._set(*before)

    def _click(self, event: Any) -> None:
        self._tell(np.asarray(event.ray_origin, np.float64), np.asarray(event.ray_direction, np.float64))


def vertical_fov(camera: Camera, aspect: float) -> float:
    """Vertical field of view [rad] with which a view of this aspect (width by height) holds all of the picture.

    The view is symmetric about the optical axis; where the principal point is not the picture's centre, some of it stays
    empty.
    """
    (fx, _, cx), (_, fy, cy) = camera.K[:2]
    right = max(cx + 0.5, camera.width_px - 0.5 - cx) / fx
    down = max(cy + 0.5, camera.height_px - 0.5 - cy) / fy
    return float(2 * np.arctan(max(down, right / aspect)))


def _same(a: Camera, b: Camera) -> bool:
    return (
        (a.width_px, a.height_px) == (b.width_px, b.height_px)
        and np.array_equal(a.K, b.K)
        and np.allclose(a.T_base_camera, b.T_base_camera, atol=1e-6)
    )
