"""Where a camera is: settings, or the file of a hand-eye calibration."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from stvla_ros.camera.lens import numbers_of
from stvla_ros.config import ConfigError, param
from stvla_ros.files import check_file
from stvla_ros.geometry.se3 import from_quaternion, pose
from stvla_ros.types import F64

FORMAT = "stvla-calibration-1"
"""Value of the entry ``format`` of a calibration.yaml."""


@dataclass(frozen=True)
class PlaceConfig:
    """Pose of the optical frame of colour in the robot's base frame; all empty: somebody else publishes it."""

    file: str = param("", "calibration.yaml of a hand-eye calibration, in place of the other two")
    translation_m: tuple[float, ...] = param((), "x, y, z of the optical frame in the base frame [m]")
    quaternion_xyzw: tuple[float, ...] = param((), "its rotation")

    def T_base_camera(self) -> F64 | None:
        """(4, 4); None when nothing is configured.

        Raises:
            ConfigError: The settings or the file hold no pose.
        """
        if self.file:
            return read_calibration(Path(self.file).expanduser(), "camera").T_parent_child
        if not self.translation_m and not self.quaternion_xyzw:
            return None
        return _pose(self.translation_m, self.quaternion_xyzw, "place")


def place_of(text: str) -> PlaceConfig:
    """A camera's pose from a command line: a calibration's file, or ``x,y,z,qx,qy,qz,qw`` in metres.

    Raises:
        ConfigError: It is neither.
    """
    numbers = numbers_of(text)
    if len(numbers) == 7:
        return PlaceConfig(translation_m=tuple(numbers[:3]), quaternion_xyzw=tuple(numbers[3:]))
    if numbers or ("," in text and not Path(text).expanduser().exists()):
        raise ConfigError(f"extrinsics: wanted a file or seven numbers x,y,z,qx,qy,qz,qw, got '{text}'.")
    return PlaceConfig(file=text)


@dataclass(frozen=True, eq=False)
class CalibrationEntry:
    """A pose in the file of a hand-eye calibration.

    Attributes:
        parent: Frame that it is given in; empty in a file that somebody wrote by hand.
        child: Frame that it places; empty as well.
        T_parent_child: (4, 4).
    """

    parent: str
    child: str
    T_parent_child: F64


def read_calibration(file: Path, name: str) -> CalibrationEntry:
    """An entry of a calibration.yaml.

    Args:
        file: As `stvla calibrate` writes it, or by hand.
        name: ``camera`` (the optical frame of colour) or ``transform`` (the root of the camera's frames); both have
            ``translation_m`` and ``quaternion_xyzw``.

    Raises:
        ConfigError: The file is missing, of another format, or has no such entry.
    """
    values, entry = _values(file), None
    try:
        entry = values[name]
        numbers = entry["translation_m"], entry["quaternion_xyzw"]
    except (KeyError, TypeError) as error:
        raise ConfigError(
            f"{file}: wanted a calibration with the entry {name}: {{translation_m, quaternion_xyzw}}, found none ({error!r})."
        ) from error
    parent, child = (str(entry.get(key, "")) for key in ("parent", "child"))
    return CalibrationEntry(parent, child, _pose(*numbers, f"{file}: {name}"))


def calibrated_ns(file: Path) -> int:
    """When a calibration was made, by its own entry ``written_ns``; otherwise when the file was changed last. Raises
    ConfigError."""
    written = _values(file).get("written_ns")
    return written if isinstance(written, int) else file.stat().st_mtime_ns


def _values(file: Path) -> dict[str, Any]:
    check_file(file, "a calibration (calibration.yaml)", text=True)
    try:
        values = yaml.safe_load(file.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise ConfigError(f"{file}: wanted a calibration, found no YAML ({' '.join(str(error).split())}).") from error
    if not isinstance(values, dict) or values.get("format", FORMAT) != FORMAT:
        found = f"the format '{values.get('format')}'" if isinstance(values, dict) else f"a {type(values).__name__}"
        raise ConfigError(f"{file}: wanted a calibration (format '{FORMAT}'), found {found}.")
    return values


def _pose(translation_m: tuple[float, ...], quaternion_xyzw: tuple[float, ...], where: str) -> F64:
    try:
        t, q = np.array(translation_m, dtype=np.float64), np.array(quaternion_xyzw, dtype=np.float64)
        if t.shape != (3,) or q.shape != (4,) or not np.isfinite(t).all():
            raise ValueError("the numbers of values differ, or one is not finite")
        return pose(from_quaternion(q), t)
    except (TypeError, ValueError) as error:
        raise ConfigError(
            f"{where}: wanted 3 numbers as translation_m and 4 as quaternion_xyzw, got {list(translation_m)} and "
            f"{list(quaternion_xyzw)} ({error})."
        ) from error
