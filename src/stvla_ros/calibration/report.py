"""What a calibration leaves: a file of figures, a line that publishes the transform, and a picture."""

from __future__ import annotations

import shlex
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import yaml

from stvla_ros.calibration.session import SessionConfig, Views
from stvla_ros.calibration.solve import Calibration, residuals
from stvla_ros.camera.place import FORMAT, read_calibration
from stvla_ros.config import ConfigError
from stvla_ros.files import write_image, written
from stvla_ros.geometry.se3 import inverse, to_quaternion
from stvla_ros.types import F64, U8

RESULT, PICTURE, LINE = "calibration.yaml", "calibration.png", "static_transform.sh"
ARROWS = 60
"""Residuals are drawn so many times longer."""


@dataclass(frozen=True, eq=False)
class StaticTransform:
    """A transform for /tf_static.

    Attributes:
        parent: Frame of the robot's base.
        child: Root of the camera's frames.
        T_parent_child: (4, 4).
    """

    parent: str
    child: str
    T_parent_child: F64

    @property
    def command(self) -> str:
        """The line that publishes it on a machine with ROS's own tools."""
        (x, y, z), (qx, qy, qz, qw) = self.T_parent_child[:3, 3], to_quaternion(self.T_parent_child[:3, :3])
        numbers = {"x": x, "y": y, "z": z, "qx": qx, "qy": qy, "qz": qz, "qw": qw}
        values = " ".join(f"--{name} {value:.6f}" for name, value in numbers.items())
        frames = f"--frame-id {shlex.quote(self.parent)} --child-frame-id {shlex.quote(self.child)}"
        return f"ros2 run tf2_ros static_transform_publisher {values} {frames}"


def transform_of(found: Calibration, session: SessionConfig) -> StaticTransform:
    """From the base to the root of the camera's frames: the driver publishes the optical frame below it."""
    T_root_camera = np.array(session.T_root_camera).reshape(4, 4)
    return StaticTransform(session.base_frame, session.root_frame, found.T_base_camera @ inverse(T_root_camera))


def write_report(folder: Path, found: Calibration, views: Views, session: SessionConfig) -> StaticTransform:
    """Write :data:`RESULT`, :data:`PICTURE` and :data:`LINE` into a folder; returns the transform."""
    transform = transform_of(found, session)
    text = yaml.safe_dump(
        _figures(found, views, session, transform), sort_keys=False, width=110, default_flow_style=None
    )
    with written(folder / RESULT) as part:
        part.write_text(text, encoding="utf-8")
    with written(folder / LINE) as part:
        part.write_text(f"#!/bin/sh\nexec {transform.command}\n", encoding="utf-8")
        part.chmod(0o755)
    with written(folder / PICTURE) as part:
        write_image(part, draw(found, views))
    return transform


def _figures(found: Calibration, views: Views, session: SessionConfig, transform: StaticTransform) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "written_ns": time.time_ns(),
        "transform": _pose(transform.T_parent_child) | {"parent": transform.parent, "child": transform.child},
        "camera": _pose(found.T_base_camera) | {"parent": session.base_frame, "child": session.camera_frame},
        "covariance": np.round(found.covariance, 12).tolist(),  # x y z [m], rotation about x y z [rad], base frame
        "std": {"position_mm": _round(1000 * found.std_m), "rotation_deg": _round(np.degrees(found.std_rad))},
        "residuals": {
            "rms_px": _round(found.rms_px),
            "left_out_px": [_round(v) for v in found.left_out_px],
            "left_out_mm": [_round(1000 * v) for v in found.left_out_m],
        },
        "poses": {"used": list(found.used), "found": len(views.samples), "images": views.frames},
        "focal_scale": {"best": _round(found.focal_scale[0], 5), "std": _round(found.focal_scale[1], 5)},
        "closed_forms_px": {name: _round(rms) for name, rms in found.methods.items()},
        "board": asdict(session.board),
        "board_in_hand": _pose(found.T_tcp_board),
        "intrinsics": views.K.tolist(),
    }


def _pose(T: F64) -> dict[str, Any]:
    xyzw = to_quaternion(T[:3, :3])
    return {"translation_m": [_round(v, 6) for v in T[:3, 3]], "quaternion_xyzw": [_round(v, 8) for v in xyzw]}


def _round(value: float, digits: int = 3) -> float:
    return round(float(value), digits)


def read_transform(file: Path) -> StaticTransform:
    """The transform of a :data:`RESULT`.

    Raises:
        ConfigError: The file is missing or something else.
    """
    entry = read_calibration(file, "transform")
    if not (entry.parent and entry.child):
        raise ConfigError(f"{file}: wanted the frames parent and child of the transform, found none: calibrate again.")
    return StaticTransform(entry.parent, entry.child, entry.T_parent_child)


def draw(found: Calibration, views: Views) -> U8:
    """(H, W, 3) every found corner and its residual on the last image, and below it a bar for each pose."""
    kept = [views.samples[i] for i in found.used]
    image = np.ascontiguousarray(views.picture // 2 + 96)
    scale = max(1.0, image.shape[1] / 640)
    ramp = np.linspace(0, 255, len(kept)).astype(np.uint8)[:, None]
    colours = np.asarray(cv2.applyColorMap(ramp, cv2.COLORMAP_TURBO), dtype=np.uint8)[:, 0, ::-1]
    for sample, colour in zip(kept, colours, strict=True):
        off = residuals(sample, found.T_base_camera, found.T_tcp_board, views.K)
        for (x, y), (dx, dy) in zip(sample.detection.px, off, strict=True):
            end = (round(x + ARROWS * dx), round(y + ARROWS * dy))
            cv2.line(image, (round(x), round(y)), end, colour.tolist(), max(1, round(scale)), cv2.LINE_AA)
            cv2.circle(image, (round(x), round(y)), round(1.5 * scale), colour.tolist(), -1, cv2.LINE_AA)
    return np.vstack([image, _bars(found, image.shape[1], colours)])


def _bars(found: Calibration, width: int, colours: U8) -> U8:
    """A strip with the left-out residual of each pose, and the figures in words."""
    height = round(0.2 * width)
    strip = np.full((height, width, 3), 250, np.uint8)
    room, top = width / (len(found.used) + 1), max(float(found.left_out_px.max()), 1e-6)
    text = round(0.05 * width)
    for i, (value, colour) in enumerate(zip(found.left_out_px, colours, strict=True)):
        x = round((i + 0.6) * room)
        y = round(height - 14 - (height - text - 26) * value / top)
        cv2.rectangle(strip, (x, y), (round(x + 0.7 * room), height - 14), colour.tolist(), -1)
    words = (
        f"{len(found.used)} poses, residuals x {ARROWS}; bars: each pose predicted from the others, up to {top:.2f} px, "
        f"{1000 * found.left_out_m.max():.2f} mm"
    )
    cv2.putText(strip, words, (8, text - 12), cv2.FONT_HERSHEY_SIMPLEX, width / 1800, (30, 30, 30), 1, cv2.LINE_AA)
    return strip
