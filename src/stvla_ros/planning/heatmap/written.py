"""Answers in the protocol's own words: what our models write, and what training data contain."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


def write_points(uv: npt.ArrayLike) -> str:
    """``[(643, 367), (696, 470), ...]`` of (N, 2) in 0..1000."""
    points = np.rint(np.asarray(uv, np.float64)).astype(int)
    return "[" + ", ".join(f"({u}, {v})" for u, v in points) + "]"


def write_offsets(offset_m: npt.ArrayLike) -> str:
    """``[0, -120, ...]`` millimetres of (N,) m."""
    return "[" + ", ".join(str(mm) for mm in np.rint(1000 * np.asarray(offset_m, np.float64)).astype(int)) + "]"


def write_progress(step: int, total: int, finished: bool) -> str:
    """``step 2 of 3, finished: no``; steps count from 1."""
    return f"step {step} of {total}, finished: {'yes' if finished else 'no'}"
