"""The lens of a camera: numbers, or a camera_info file as ROS's calibrators write it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from stvla_ros.config import ConfigError
from stvla_ros.files import check_file
from stvla_ros.types import F64

PINHOLE = "plumb_bob"
"""ROS's distortion model with five coefficients; without any it is a pinhole."""


@dataclass(frozen=True, eq=False)
class Lens:
    """A camera's calibration as ``sensor_msgs/msg/CameraInfo`` has it.

    Attributes:
        width_px: Width of the calibrated image; 0: that of the image it is used with.
        height_px: Its height; 0 likewise.
        model: Distortion model, e.g. ``plumb_bob``.
        D: Distortion coefficients, as many as the model has.
        K: (3, 3) intrinsics [px].
        R: (3, 3) rectifying rotation.
        P: (3, 4) projection of the rectified image [px].
    """

    width_px: int
    height_px: int
    model: str
    D: F64
    K: F64
    R: F64
    P: F64


def lens_of(text: str) -> Lens:
    """A lens from a command line or a setting: a camera_info file, or ``fx,fy,cx,cy`` in pixels (no distortion).

    Raises:
        ConfigError: It is neither, or the file cannot be used.
    """
    numbers = numbers_of(text)
    if len(numbers) == 4:
        fx, fy, cx, cy = numbers
        K = np.array([[fx, 0.0, cx], [0.0, fy, cy], [0.0, 0.0, 1.0]])
        return Lens(0, 0, PINHOLE, np.zeros(5), K, np.eye(3), _projection(K))
    if numbers or ("," in text and not Path(text).expanduser().exists()):
        raise ConfigError(f"intrinsics: wanted a camera_info file or four numbers fx,fy,cx,cy, got '{text}'.")
    return read_lens(Path(text))


def numbers_of(text: str) -> list[float]:
    """The finite numbers of a text with commas between; none if it is something else."""
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        return []
    return numbers if np.isfinite(numbers).all() else []


def read_lens(file: Path) -> Lens:
    """Read a camera_info file in the format of ``camera_calibration_parsers`` (ROS's camera calibrators write it).

    ``rectification_matrix`` and ``projection_matrix`` may be missing: none, and K.

    Raises:
        ConfigError: The file cannot be read, or a part is missing or wrong.
    """
    file = file.expanduser()
    check_file(file, "a camera_info file (.yaml)", text=True)
    try:
        values = yaml.safe_load(file.read_text(encoding="utf-8"))
        K = _matrix(values, "camera_matrix", (3, 3))
        D = np.array(values.get("distortion_coefficients", {}).get("data", []), dtype=np.float64).reshape(-1)
        return Lens(
            int(values["image_width"]),
            int(values["image_height"]),
            str(values.get("distortion_model") or values.get("camera_model") or PINHOLE),
            D,
            K,
            _matrix(values, "rectification_matrix", (3, 3), np.eye(3)),
            _matrix(values, "projection_matrix", (3, 4), _projection(K)),
        )
    except (yaml.YAMLError, AttributeError, KeyError, TypeError, ValueError) as error:
        raise ConfigError(
            f"{file}: wanted a camera_info file with image_width, image_height, camera_matrix and distortion_coefficients, "
            f"as ROS's calibrators write it, found another content ({' '.join(f'{type(error).__name__} {error}'.split())})."
        ) from error


def _projection(K: F64) -> F64:
    """(3, 4) projection of an image that needs no rectification."""
    return np.hstack([K, np.zeros((3, 1))])


def _matrix(values: Any, name: str, shape: tuple[int, int], default: F64 | None = None) -> F64:
    """A matrix of the file. Raises KeyError or ValueError if it is missing or has another size."""
    if default is not None and name not in values:
        return default
    matrix = np.array(values[name]["data"], dtype=np.float64)
    if matrix.size != shape[0] * shape[1] or not np.isfinite(matrix).all():
        raise ValueError(f"{name} has not {shape[0]}x{shape[1]} numbers")
    return matrix.reshape(shape)
