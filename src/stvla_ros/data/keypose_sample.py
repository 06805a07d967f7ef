"""One training sample of the published keypose datasets, and the instructions that go with them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from stvla_ros.config import ConfigError
from stvla_ros.files import read_json
from stvla_ros.types import F32, HISTORY, U8, frozen


class DatasetError(ConfigError):
    """A file that does not have the expected format; the message says what was found instead."""


@dataclass(frozen=True, eq=False)
class KeyposeSample:
    """One keypose and the observation to predict it from, in the dataset's frame (RLBench's world).

    Attributes:
        rgb: (ncam, H, W, 3) uint8.
        xyz_m: (ncam, H, W, 3) float32, the point of each pixel.
        proprio: (3, nhand, 8) float32, tool poses two keyposes ago, one ago and now: xyz, quaternion xyzw, 1 for open.
        action: (nhand, 8) float32, the next keypose, in the same form.
        task: Name of the task.
        variation: Number of the task's variation.
        cameras: Names of the cameras, in order.
    """

    rgb: U8
    xyz_m: F32
    proprio: F32
    action: F32
    task: str
    variation: int
    cameras: tuple[str, ...]

    def __post_init__(self) -> None:
        hands = self.action.shape[0]
        checks: dict[str, tuple[Any, tuple[int | None, ...]]] = {
            "rgb": (np.uint8, (None, None, None, 3)),
            "xyz_m": (np.float32, self.rgb.shape),
            "proprio": (np.float32, (HISTORY, hands, 8)),
            "action": (np.float32, (hands, 8)),
        }
        for name, (dtype, shape) in checks.items():
            object.__setattr__(self, name, frozen(getattr(self, name), dtype, shape, f"KeyposeSample.{name}"))


def check_poses(rows: F32, where: str) -> None:
    """Check that (..., 8) poses are finite, with unit quaternions.

    Raises:
        DatasetError: They are not; the message begins with ``where``.
    """
    if not np.isfinite(rows).all():
        raise DatasetError(f"{where}: wanted finite poses, found NaN or infinity.")
    length = np.linalg.norm(rows[..., 3:7].astype(np.float64), axis=-1)
    if rows.size and np.abs(length - 1.0).max() > 0.01:
        raise DatasetError(
            f"{where}: wanted quaternions of length 1, found {length.flat[np.abs(length - 1).argmax()]:.3g}."
        )


Sentences = Mapping[str, Mapping[int, tuple[str, ...]]]
"""Task -> variation -> sentences."""


def read_sentences(path: Path) -> Sentences:
    """Read instructions in 3D FlowMatch Actor's form: JSON ``{task: {"variation": [sentences]}}``.

    Raises:
        DatasetError: The file is missing or has another form.
    """
    content = read_json(path, DatasetError)
    try:
        return {str(t): {int(v): _sentences(s) for v, s in by.items()} for t, by in content.items()}
    except (ValueError, TypeError, AttributeError) as error:
        raise DatasetError(f'{path}: wanted JSON of {{task: {{"variation": [sentences]}}}}, found {error}.') from error


def _sentences(found: Any) -> tuple[str, ...]:
    if not isinstance(found, list) or not found or not all(isinstance(s, str) and s.strip() for s in found):
        raise ValueError(f"{str(found)[:60]!r} instead of sentences")
    return tuple(found)
