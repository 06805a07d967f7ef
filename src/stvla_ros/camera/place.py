"""Where a camera is: settings, or the file of a hand-eye calibration."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml

from stvla_ros.config import ConfigError, param
from stvla_ros.files import check_file
from stvla_ros.geometry.se3 import from_quaternion, pose
from stvla_ros.types import F64


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
            return _read(Path(self.file).expanduser())
        if not self.translation_m and not self.quaternion_xyzw:
            return None
        return _pose(self.translation_m, self.quaternion_xyzw, "place")


def _read(file: Path) -> F64:
    """The entry ``camera`` of a calibration, with ``translation_m`` and ``quaternion_xyzw``."""
    check_file(file, "a calibration (calibration.yaml)", text=True)
    try:
        entry = yaml.safe_load(file.read_text(encoding="utf-8"))["camera"]
        numbers = entry["translation_m"], entry["quaternion_xyzw"]
    except (yaml.YAMLError, KeyError, TypeError, ValueError) as error:
        raise ConfigError(
            f"{file}: wanted a calibration with the entry camera: {{translation_m, quaternion_xyzw}}, found none ({error!r})."
        ) from error
    return _pose(*numbers, f"{file}: camera")


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
