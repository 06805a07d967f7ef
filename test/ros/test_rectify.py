"""Lenses with distortion: undone exactly, once per calibration, or refused in words."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pytest
from ray_caster import Scene, block, front_camera, plate
from std_msgs.msg import Header

from stvla_ros.ros import convert
from stvla_ros.ros.rectify import Rectifier
from stvla_ros.types import RgbdFrame

CAMERA = front_camera(320, 240)
IDEAL, IDS = Scene([block("red", 0.5, 0.1, 0.4), *plate(0.45, -0.22)]).render(CAMERA)
LENSES = {
    "plumb_bob": [0.12, -0.22, 0.001, -0.0007, 0.05],
    "rational_polynomial": [0.5, -2.6, 0.0005, -0.0001, 1.5, 0.38, -2.4, 1.4],
    "equidistant": [-0.02, 0.01, -0.004, 0.001],
}
EACH_LENS = pytest.mark.parametrize("model", sorted(LENSES))


def info(model: str = "plumb_bob", **changes: Any) -> Any:
    message = convert.camera_to_info(CAMERA, Header(frame_id=CAMERA.frame_id))
    message.distortion_model, message.d = model, LENSES.get(model, [0.1] * 4)
    for name, value in changes.items():
        setattr(message, name, value)
    return message


def through_the_lens(model: str) -> RgbdFrame:
    """What a lens makes of the ideal image: each of its pixels shows what the pinhole sees in that direction."""
    y, x = np.mgrid[0:240, 0:320].astype(np.float64)
    at = np.stack([x.ravel(), y.ravel()], axis=1)[:, None]
    stop = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 60, 1e-6)
    D = np.array(LENSES[model])
    if model == "equidistant":
        straight = cv2.fisheye.undistortPoints(at, CAMERA.K, D, None, None, CAMERA.K, stop)
    else:
        straight = cv2.undistortPoints(at, CAMERA.K, D, R=None, P=CAMERA.K, criteria=stop)
    u, v = straight.reshape(240, 320, 2).astype(np.float32).transpose(2, 0, 1)
    rgb = cv2.remap(IDEAL.rgb, u, v, cv2.INTER_CUBIC)
    depth = cv2.remap(
        IDEAL.depth_m, u, v, cv2.INTER_NEAREST, borderMode=cv2.BORDER_CONSTANT, borderValue=[float("nan")]
    )
    return RgbdFrame(rgb, depth, CAMERA, 5)


def smooth_px() -> np.ndarray:
    """(H, W) pixels away from edges of depth and border."""
    edges = np.hypot(*np.gradient(IDEAL.depth_m)) > 0.03
    edges[:6], edges[-6:], edges[:, :6], edges[:, -6:] = True, True, True, True
    return cv2.dilate(edges.astype(np.uint8), np.ones((5, 5), np.uint8)) == 0


@EACH_LENS
def test_the_pinholes_image_comes_back(model: str) -> None:
    bent = through_the_lens(model)
    got = Rectifier().rectify(bent, info(model))
    at = smooth_px()
    assert at.mean() > 0.5
    error = np.abs(got.depth_m - IDEAL.depth_m)[at]
    a_pixel_m = 0.03 if model == "equidistant" else 0.015  # a fisheye has fewer pixels at the rim
    assert np.nanquantile(error, 0.99) < a_pixel_m, "nearest pixel: at most a pixel of a slanted table"
    assert np.nanmedian(error) < 0.004
    assert np.isnan(got.depth_m[at]).mean() < 0.02
    assert np.abs(got.rgb[at].astype(int) - IDEAL.rgb[at]).mean() < 1.5
    assert np.nanquantile(np.abs(bent.depth_m - IDEAL.depth_m)[at], 0.99) > 1.3 * a_pixel_m, (
        "the lens did bend the image"
    )
    assert (got.stamp_ns, got.camera) == (5, CAMERA)


def test_depth_that_is_aligned_to_the_pinhole_stays() -> None:
    """As librealsense aligns it: only colour has been through the lens."""
    bent = through_the_lens("plumb_bob")
    mixed = RgbdFrame(bent.rgb, IDEAL.depth_m, CAMERA, 5)
    got = Rectifier(depth_rectified=True).rectify(mixed, info())
    np.testing.assert_array_equal(got.depth_m, IDEAL.depth_m)
    np.testing.assert_array_equal(got.rgb, Rectifier().rectify(bent, info()).rgb)


@EACH_LENS
def test_a_point_in_space_lands_where_the_pinhole_sees_it(model: str) -> None:
    local = np.array([0.45, -0.33, 1.1])
    project = cv2.fisheye.projectPoints if model == "equidistant" else cv2.projectPoints
    bx, by = project(local[None, None], np.zeros(3), np.zeros(3), CAMERA.K, np.array(LENSES[model]))[0].ravel()
    px, py = cv2.projectPoints(local[None, None], np.zeros(3), np.zeros(3), CAMERA.K, np.zeros(5))[0].ravel()
    depth = np.full((240, 320), 2.0, np.float32)
    depth[round(by) - 1 : round(by) + 2, round(bx) - 1 : round(bx) + 2] = 1.1
    got = Rectifier().rectify(RgbdFrame(IDEAL.rgb, depth, CAMERA, 0), info(model))
    assert got.depth_m[round(py), round(px)] == np.float32(1.1)
    assert np.hypot(bx - px, by - py) > 0.5


def test_depth_is_never_mixed_and_unseen_is_unknown() -> None:
    bent = through_the_lens("plumb_bob")
    rectifier = Rectifier()
    got = rectifier.rectify(bent, info(d=[-0.4, 0.15, 0.0, 0.0, 0.0]))
    assert set(np.unique(got.depth_m[np.isfinite(got.depth_m)])) <= set(np.unique(bent.depth_m))
    wide = rectifier.rectify(bent, info(d=[0.6, 0.0, 0.0, 0.0, 0.0]))
    unseen = np.isnan(wide.depth_m) & (wide.rgb == 0).all(axis=2)
    assert unseen[0, 0]
    assert unseen[-1, -1]
    assert not unseen[120, 160]


def test_maps_are_made_once_per_calibration(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    real = cv2.initUndistortRectifyMap
    monkeypatch.setattr(cv2, "initUndistortRectifyMap", lambda *a: made.append(1) or real(*a))
    rectifier = Rectifier()
    for _ in range(3):
        rectifier.rectify(IDEAL, info())
    assert len(made) == 1
    rectifier.rectify(IDEAL, info("rational_polynomial"))
    assert len(made) == 2


def test_eight_coefficients_under_the_name_of_plumb_bob() -> None:
    """As drivers send it: the first five mean the same, and what follows is the rational part."""
    rational = LENSES["rational_polynomial"]
    bent = through_the_lens("rational_polynomial")
    by_name, by_count = (
        Rectifier().rectify(bent, info(model, d=rational)) for model in ("rational_polynomial", "plumb_bob")
    )
    np.testing.assert_array_equal(by_name.rgb, by_count.rgb)
    five = LENSES["plumb_bob"]
    plain, padded = (Rectifier().rectify(bent, info(d=d)) for d in (five, [*five, 0.0, 0.0, 0.0]))
    np.testing.assert_array_equal(plain.depth_m, padded.depth_m)


@pytest.mark.parametrize("model", ["plumb_bob", "rational_polynomial", ""])
def test_without_distortion_nothing_is_touched(model: str) -> None:
    message = info(model, d=[])
    assert Rectifier().rectify(IDEAL, message) is IDEAL
    assert list(Rectifier().pinhole(message).k) == list(message.k)


def test_the_pinhole_has_no_distortion_and_the_message_stays() -> None:
    message = info()
    pinhole = Rectifier().pinhole(message)
    assert not any(pinhole.d)
    assert list(message.d) == LENSES["plumb_bob"]
    assert convert.info_to_camera(pinhole, CAMERA.T_base_camera).width_px == 320


def test_rectified_streams_have_their_own_intrinsics() -> None:
    P = np.hstack([np.diag([250.0, 250.0, 1.0]), np.zeros((3, 1))]).reshape(-1)
    rectifier = Rectifier(rectified=True)
    message = info(p=P, r=np.eye(3).reshape(-1))
    assert list(rectifier.pinhole(message).k[::4]) == [250.0, 250.0, 1.0]
    assert rectifier.rectify(IDEAL, message) is IDEAL
    with pytest.raises(ValueError, match="wanted the projection of a rectified camera"):
        rectifier.pinhole(info(p=np.zeros(12)))
    turned = np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]]).reshape(-1)
    with pytest.raises(ValueError, match="wanted images rectified in place"):
        rectifier.pinhole(info(p=P, r=turned))


@pytest.mark.parametrize(
    ("model", "d", "sentence"),
    [
        ("equidistant", [0.1, 0.0, 0.0, 0.0, 0.0], "wanted 4 coefficients of distortion for equidistant"),
        ("equidistant", [0.0, 0.0, 0.0, 0.0], "wanted coefficients of distortion for equidistant"),
        ("equidistant", [-9.0, 0.0, 0.0, 0.0], "the image folds over"),
        ("double_sphere", [0.0, 0.0], "but CameraInfo has 'double_sphere'"),
        ("fov", [0.9], "but CameraInfo has 'fov'"),
        ("", [0.1, 0.0, 0.0, 0.0, 0.0], "wanted the distortion model plumb_bob or rational_polynomial"),
        ("plumb_bob", [0.1, 0.2, 0.3], "wanted 4 or 5 or 8 or 12 or 14 coefficients of distortion for plumb_bob"),
        ("rational_polynomial", [0.1] * 6, "wanted 4 or 5 or 8 or 12 or 14 coefficients"),
        ("plumb_bob", [float("nan"), 0.0, 0.0, 0.0, 0.0], "wanted finite coefficients"),
        ("plumb_bob", [-3.0, 0.0, 0.0, 0.0, 0.0], "the image folds over"),
    ],
)
def test_what_cannot_be_undone_is_refused(model: str, d: list[float], sentence: str) -> None:
    message = info(model, d=d)
    with pytest.raises(ValueError, match=sentence):
        Rectifier().rectify(IDEAL, message) if Rectifier().pinhole(message) else None
