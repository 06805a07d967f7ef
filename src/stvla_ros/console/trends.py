"""How latencies and ages went over the last minute."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping

import numpy as np

from stvla_ros.console.views import JOINTS, LATENCIES, RAW, Views
from stvla_ros.types import F64

SPAN_S, EVERY_S = 60.0, 0.5
AGES = {RAW: "age of the image", JOINTS: "age of the joint states"}


class Trends:
    """Samples of what :class:`Views` has, taken at a steady rate.

    Args:
        views: Ages of the image and of the joint states; under :data:`LATENCIES` a mapping from names to seconds.
        clock: Seconds, monotonic.
    """

    def __init__(self, views: Views, clock: Callable[[], float] = time.monotonic) -> None:
        self._views, self._clock = views, clock
        self._rows: deque[tuple[float, dict[str, float]]] = deque(maxlen=int(SPAN_S / EVERY_S) + 1)
        self.number, self.html = 0, ""
        """Counts the samples; the table of them (:func:`drawn`)."""

    def sample(self) -> None:
        """Take a sample if the last one is :data:`EVERY_S` old."""
        now = self._clock()
        if self._rows and now - self._rows[-1][0] < EVERY_S:
            return
        latencies: Mapping[str, float] = self._views.get(LATENCIES)[1] or {}
        ages = {name: self._views.age_s(view) for view, name in AGES.items()}
        self._rows.append((now, {**latencies, **ages}))
        self.number, self.html = self.number + 1, drawn(self.series())

    def series(self) -> dict[str, tuple[F64, F64]]:
        """By name: seconds before now, from old to new, and the values [s]. What has no value yet is left out."""
        found: dict[str, list[tuple[float, float]]] = {}
        now = self._clock()
        for at, row in self._rows:
            for name, value in row.items():
                if np.isfinite(value) and now - at <= SPAN_S:
                    found.setdefault(name, []).append((now - at, value))
        return {name: (np.array(pairs)[:, 0], np.array(pairs)[:, 1]) for name, pairs in found.items()}


def drawn(series: Mapping[str, tuple[F64, F64]]) -> str:
    """Lines of a table as HTML: a name, a curve over the last minute, the newest value, and the largest one."""
    rows = [_row(name, *values) for name, values in series.items()]
    head = f"<tr><th></th><th>last {SPAN_S:.0f} s</th><th>now</th><th>most</th></tr>"
    return f'<table style="border-spacing:0.8em 0">{head}{"".join(rows)}</table>' if rows else ""


_WIDTH_PX, _HEIGHT_PX = 200, 22


def _row(name: str, ago_s: F64, values: F64) -> str:
    x, y = _WIDTH_PX * (1.0 - ago_s / SPAN_S), _HEIGHT_PX * (1.0 - values / max(float(values.max()), 1e-3))
    points = " ".join(f"{a:.0f},{b:.1f}" for a, b in zip(x, y, strict=True))
    curve = f'<polyline points="{points}" fill="none" stroke="#5aa0ff" stroke-width="1.5"/>'
    plot = f'<svg width="{_WIDTH_PX}" height="{_HEIGHT_PX + 2}">{curve}</svg>'
    return f"<tr><td>{name}</td><td>{plot}</td><td>{seconds(values[-1])}</td><td>{seconds(values.max())}</td></tr>"


def seconds(value_s: float) -> str:
    """In the unit that reads best."""
    return f"{1e3 * value_s:.0f} ms" if value_s < 1.0 else f"{value_s:.1f} s"
