"""What the operator says about a bag that the bag does not say itself: names of topics, the camera's pose, its lens."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from stvla_ros.camera.place import PlaceConfig
from stvla_ros.config import ConfigError
from stvla_ros.files import check_file
from stvla_ros.types import F64


@dataclass(frozen=True, eq=False)
class Lens:
    """A camera's calibration as ``sensor_msgs/msg/CameraInfo`` has it.

    Attributes:
        width_px: Width of the calibrated image.
        height_px: Its height.
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


@dataclass(frozen=True, eq=False)
class BagHints:
    """Hints for reading one bag.

    Attributes:
        remap: Topic in the bag -> topic that it is read as; both absolute.
        T_base_camera: (4, 4) pose of the optical frame of colour in the robot's base frame, in place of the bag's
            transforms; None: the bag has it.
        lens: Calibration of the colour camera, in place of the bag's; None: the bag has it.
    """

    remap: Mapping[str, str] = field(default_factory=dict)
    T_base_camera: F64 | None = None
    lens: Lens | None = None

    @property
    def any(self) -> bool:
        """Whether anything is said."""
        return bool(self.remap) or self.T_base_camera is not None or self.lens is not None


def bag_hints(remap: Iterable[str] = (), place: PlaceConfig | None = None, intrinsics: str = "") -> BagHints:
    """Hints from settings.

    Args:
        remap: ``OLD:=NEW`` each, as for ``ros2 bag play --remap``.
        place: The camera's pose; None: not given.
        intrinsics: A camera_info file; empty: not given.

    Raises:
        ConfigError: A pair has another form, or a file cannot be used.
    """
    T = place.T_base_camera() if place is not None else None
    return BagHints(dict(_pair(text) for text in remap), T, read_lens(Path(intrinsics)) if intrinsics else None)


def _pair(text: str) -> tuple[str, str]:
    old, equals, new = text.partition(":=")
    if not equals or not old.strip("/ ") or not new.strip("/ "):
        raise ConfigError(f"remap: wanted OLD:=NEW, a topic of the bag and the name it is read as, got '{text}'.")
    return absolute(old.strip()), absolute(new.strip())


def absolute(topic: str) -> str:
    """The full name of a topic, as in bags."""
    return topic if topic.startswith("/") else f"/{topic}"


def place_of(text: str) -> PlaceConfig:
    """A camera's pose from the command line: a calibration's file, or ``x,y,z,qx,qy,qz,qw`` in metres.

    Raises:
        ConfigError: It is neither.
    """
    parts = text.split(",")
    try:
        numbers = [float(part) for part in parts]
    except ValueError:
        numbers = []
    if len(numbers) == 7:
        return PlaceConfig(translation_m=tuple(numbers[:3]), quaternion_xyzw=tuple(numbers[3:]))
    if len(parts) > 1 and not Path(text).exists():
        raise ConfigError(f"extrinsics: wanted a file or seven numbers x,y,z,qx,qy,qz,qw, got '{text}'.")
    return PlaceConfig(file=text)


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
            str(values.get("distortion_model") or values.get("camera_model") or "plumb_bob"),
            D,
            K,
            _matrix(values, "rectification_matrix", (3, 3), np.eye(3)),
            _matrix(values, "projection_matrix", (3, 4), np.hstack([K, np.zeros((3, 1))])),
        )
    except (yaml.YAMLError, AttributeError, KeyError, TypeError, ValueError) as error:
        raise ConfigError(
            f"{file}: wanted a camera_info file with image_width, image_height, camera_matrix and distortion_coefficients, "
            f"as ROS's calibrators write it, found another content ({' '.join(f'{type(error).__name__} {error}'.split())})."
        ) from error


def _matrix(values: Any, name: str, shape: tuple[int, int], default: F64 | None = None) -> F64:
    """A matrix of the file. Raises KeyError or ValueError if it is missing or has another size."""
    if default is not None and name not in values:
        return default
    matrix = np.array(values[name]["data"], dtype=np.float64)
    if matrix.size != shape[0] * shape[1] or not np.isfinite(matrix).all():
        raise ValueError(f"{name} has not {shape[0]}x{shape[1]} numbers")
    return matrix.reshape(shape)
