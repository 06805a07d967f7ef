"""Guidance as pictures: what the camera saw, what was decided about it, and what the policy gets."""

from __future__ import annotations

import cv2
import numpy as np

from stvla_ros.geometry.cameras import project
from stvla_ros.perception.overlay import overlay, tube_pixels
from stvla_ros.types import F32, F64, U8, Bool, Camera, Guidance, Instance, RgbdFrame

VIEWS = ("camera", "tube; kept green, removed red", "guided colour", "guided depth")
KEPT, REMOVED, TUBE = (60, 200, 80), (230, 50, 40), (60, 120, 250)
_SIGNS = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)]) / 2


def guidance_views(frame: RgbdFrame, guidance: Guidance) -> dict[str, U8]:
    """One (H, W, 3) picture per name of :data:`VIEWS`.

    Args:
        frame: From the camera.
        guidance: Made from it.
    """
    known = frame.depth_m[np.isfinite(frame.depth_m) & (frame.depth_m > 0)]
    near, far = np.percentile(known, [1, 99]) if known.size else (0.5, 2.0)
    pictures = (
        frame.rgb,
        decided(frame, guidance),
        overlay(guidance),
        coloured_depth(guidance.frame.depth_m, float(near), float(far)),
    )
    return dict(zip(VIEWS, pictures, strict=True))


def decided(frame: RgbdFrame, guidance: Guidance) -> U8:
    """The image with the painted-out pixels in red, the tube in blue, and the instances' boxes with their ids."""
    image = frame.rgb.copy()
    changed = (guidance.frame.depth_m != frame.depth_m) & ~(np.isnan(guidance.frame.depth_m) & np.isnan(frame.depth_m))
    _tint(image, changed, REMOVED, 0.5)
    _tint(image, tube_pixels(frame.camera, guidance.trace, guidance.tube_radius_m), TUBE, 0.25)
    for instance in guidance.instances:
        _draw_box(image, frame.camera, instance, KEPT if instance.id in guidance.kept_ids else REMOVED)
    return image


def coloured_depth(depth_m: F32, near_m: float, far_m: float) -> U8:
    """Bright is near, dark is far, black is unknown."""
    shade = np.clip((far_m - np.nan_to_num(depth_m, nan=far_m)) / max(far_m - near_m, 1e-3), 0, 1)
    image = cv2.applyColorMap((255 * shade).astype(np.uint8), cv2.COLORMAP_VIRIDIS)[..., ::-1].copy()
    image[~np.isfinite(depth_m)] = 0
    return np.asarray(image, dtype=np.uint8)


def _tint(image: U8, where: Bool, colour: tuple[int, int, int], share: float) -> None:
    image[where] = ((1 - share) * image[where] + share * np.array(colour)).astype(np.uint8)


def _draw_box(image: U8, camera: Camera, instance: Instance, colour: tuple[int, int, int]) -> None:
    corners: F64 = instance.centre_m + _SIGNS * instance.size_m
    px, depth = project(camera, corners)
    if not (depth > 0.05).all():
        return
    low, high = np.rint(px.min(axis=0)).astype(int).tolist(), np.rint(px.max(axis=0)).astype(int).tolist()
    cv2.rectangle(image, low, high, colour, max(camera.width_px // 400, 1), cv2.LINE_AA)
    size = camera.width_px / 1400
    cv2.putText(image, str(instance.id), (low[0], low[1] - 3), cv2.FONT_HERSHEY_SIMPLEX, size, colour, 1, cv2.LINE_AA)
