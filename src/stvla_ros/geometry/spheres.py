"""Circles and spheres through points."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from stvla_ros.types import F64


def fit_sphere(points_m: npt.NDArray[np.floating]) -> tuple[F64, float]:
    """The sphere through points in space, or the circle through points in a plane; a part of it is enough.

    Linear least squares of |p|^2 = 2 c.p + d (I. Kåsa 1976), relative to the points' mean.

    Args:
        points_m: (N, 3) or (N, 2), N more than the number of coordinates.

    Returns:
        (3,) or (2,) centre, and the radius.
    """
    middle = points_m.mean(axis=0, dtype=np.float64)
    p = points_m - middle
    solved = np.linalg.lstsq(np.column_stack([2.0 * p, np.ones(len(p))]), (p**2).sum(axis=1), rcond=None)[0]
    centre, rest = solved[:-1], float(solved[-1])
    return np.asarray(centre + middle), float(np.sqrt(max(rest + float(centre @ centre), 0.0)))
