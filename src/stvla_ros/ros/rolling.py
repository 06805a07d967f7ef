"""Figures of the last while, for the diagnostics."""

from __future__ import annotations

from collections import deque

import numpy as np


class Rolling:
    """The last values of one figure."""

    def __init__(self, size: int = 100) -> None:
        self._values: deque[float] = deque(maxlen=size)

    def add(self, value: float) -> None:
        """Note one more."""
        self._values.append(value)

    def __str__(self) -> str:
        """Median and 95th percentile; empty before the first value."""
        if not self._values:
            return ""
        return " / ".join(f"{v:.1f}" for v in np.percentile(list(self._values), [50, 95]))
