"""Coordinate conventions of models, which differ and may be shifted by servers; ``stvla doctor planner`` checks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from stvla_ros.types import F64

CONVENTIONS = ("norm1000", "norm1", "pixel")


@dataclass(frozen=True)
class Coordinates:
    """A model's image coordinates, x to the right and y down.

    Attributes:
        convention: ``norm1000`` (0..1000 of width and height: the paper, Qwen3-VL), ``norm1`` (0..1: RoboPoint,
            HAMSTER) or ``pixel`` (Qwen2.5-VL).
        size_px: Width and height of the image that the model saw; for ``pixel``.
    """

    convention: str = "norm1000"
    size_px: tuple[int, int] = (1000, 1000)

    def top(self) -> F64:
        """(2,) largest accepted x and y."""
        if self.convention == "pixel":
            return np.array(self.size_px, dtype=np.float64)
        return np.full(2, 1.0 if self.convention == "norm1" else 1000.0)

    def to_uv(self, points: F64) -> F64:
        """(..., 2) in 0..1000 of points from 0 to :meth:`top`."""
        return np.minimum((points + self._half()) / self.top() * 1000, 1000.0)

    def written(self, uv: npt.ArrayLike) -> str:
        """(2,) in 0..1000 in the model's convention: ``(512, 430)`` or ``(0.512, 0.430)``."""
        x, y = np.asarray(uv, dtype=np.float64) / 1000 * self.top() - self._half()
        return f"({x:.3f}, {y:.3f})" if self.convention == "norm1" else f"({x:.0f}, {y:.0f})"

    def _half(self) -> float:
        return 0.5 if self.convention == "pixel" else 0.0  # the centre of the top-left pixel is (0, 0)


NORM1000 = Coordinates()
