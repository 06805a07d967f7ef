"""Stamps of a camera's frames in this computer's time.

librealsense stamps in one of three domains. ``global_time`` and ``system_time`` are this computer's clock already.
``hardware_clock`` is a counter of the camera: it begins anywhere, its crystal drifts, and it may wrap (32 bits of
microseconds: every 71.6 minutes). The relation between such a counter and the host's clock is estimated from the times
of arrival.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

import numpy as np

MAX_AHEAD_S = 0.1
"""How far a stamp may be in the future; the receivers' limit (``ros/freshness.py``) is the same."""

MAX_BEHIND_S = 1.0
"""A frame that arrives with a stamp older than this has a wrong stamp, or was held up for too long to be used."""

JUMP_S = 0.1
"""A frame that arrives this much earlier than the fastest ones before it shows that a clock was set."""

IN_A_ROW = 3
"""Impossible stamps in a row after which the clock counts as set, and a counter's estimate begins anew."""

MAX_DRIFT = 500e-6
"""Largest drift of a counter against this computer's clock; crystals have up to 100e-6."""

BIN_S, BINS = 1.0, 60
"""The estimate keeps the fastest frame of each of the last 60 seconds."""

DRIFT_FROM_S = 10.0
"""The drift is estimated when the fastest frames span this time; before, it is taken for zero."""

OWN_CLOCK = "hardware_clock"
"""The domain whose stamps count from an arbitrary moment."""


class StampError(ValueError):
    """A frame's stamp cannot be used; the message says what was wanted and what was found."""


@dataclass
class CounterEstimate:
    """Offset and drift of a counter, by the smallest delays.

    A frame arrives after its stamp by a delay that is never below some least one. So the points (counter, arrival -
    counter) lie above a line, and touch it where the transport was fastest. The line is the edge of the points' lower
    convex hull over the mean of their times, which lies below all of them with the least sum of distances (Moon,
    Skelly and Towsley, "Estimation and removal of clock skew from network delay measurements", INFOCOM 1999).
    Stamps come out late by the least delay.
    """

    _bins: deque[tuple[int, float, float]] = field(default_factory=lambda: deque(maxlen=BINS))
    _zero: tuple[int, int] | None = None
    _line: tuple[float, float] | None = None

    def add(self, counter_ns: int, arrival_ns: int) -> None:
        """Take the counter of a frame and the time of its arrival."""
        t, offset = self._point(counter_ns, arrival_ns)
        second = int(t // BIN_S)
        if self._bins and self._bins[-1][0] == second:
            if offset >= self._bins[-1][2]:
                return
            self._bins.pop()
        self._bins.append((second, t, offset))
        self._line = None

    def host_ns(self, counter_ns: int) -> int:
        """The counter's value in this computer's time, in nanoseconds. Needs one call of :meth:`add` before."""
        assert self._zero is not None
        t = (counter_ns - self._zero[0]) / 1e9
        slope, intercept = self._fit()
        return self._zero[1] + (counter_ns - self._zero[0]) + round((intercept + slope * t) * 1e9)

    @property
    def drift(self) -> float:
        """Seconds that this computer's clock gains on the counter, per second."""
        return self._fit()[0]

    def _point(self, counter_ns: int, arrival_ns: int) -> tuple[float, float]:
        if self._zero is None:
            self._zero = counter_ns, arrival_ns
        t = counter_ns - self._zero[0]
        return t / 1e9, (arrival_ns - self._zero[1] - t) / 1e9

    def _fit(self) -> tuple[float, float]:
        """Slope and intercept [s] of the line below all points."""
        if self._line is None:
            t, offset = np.array([(t, offset) for _, t, offset in self._bins]).T
            slope = 0.0
            if t[-1] - t[0] >= DRIFT_FROM_S:
                a, b = _edge_below(t, offset)
                slope = float(np.clip((offset[b] - offset[a]) / (t[b] - t[a]), -MAX_DRIFT, MAX_DRIFT))
            self._line = slope, float((offset - slope * t).min())
        return self._line


def _edge_below(t: np.ndarray, y: np.ndarray) -> tuple[int, int]:
    """The two points of the edge of the lower convex hull over the mean of ``t``, which increases."""
    hull: list[int] = []
    for i in range(len(t)):
        while len(hull) > 1 and _turns_right(t, y, hull[-2], hull[-1], i):
            hull.pop()
        hull.append(i)
    after = next(k for k, i in enumerate(hull) if t[i] >= t.mean())
    return hull[max(after, 1) - 1], hull[max(after, 1)]


def _turns_right(t: np.ndarray, y: np.ndarray, a: int, b: int, c: int) -> bool:
    return bool((t[b] - t[a]) * (y[c] - y[a]) <= (y[b] - y[a]) * (t[c] - t[a]))


class FrameClock:
    """Turns the stamps of one camera's frames into this computer's time, and refuses impossible ones.

    Args:
        estimate: Estimate the relation of the clocks in every domain; for recordings, whose stamps are of another day.
        least_delay_s: Least time from a frame's exposure to its arrival, subtracted from estimated stamps [s].
    """

    def __init__(self, estimate: bool = False, least_delay_s: float = 0.0) -> None:
        self._always, self._least_ns = estimate, round(least_delay_s * 1e9)
        self._domain = ""
        self._impossible = 0
        self._begin()

    def _begin(self) -> None:
        self._last_ns: int | None = None
        self._given_ns = 0
        self._estimate: CounterEstimate | None = None

    @property
    def drift(self) -> float | None:
        """Drift of the counter; None where none is estimated."""
        return None if self._estimate is None else self._estimate.drift

    def stamp_ns(self, camera_ms: float, domain: str, arrival_ns: int) -> int:
        """The stamp of a frame in this computer's time.

        Args:
            camera_ms: The library's timestamp [ms].
            domain: The library's name of its domain.
            arrival_ns: When the frame arrived, by this computer's clock [ns].

        Raises:
            StampError: It is not a number, not after the one before, in the future, or too old. After
                :data:`IN_A_ROW` of these, a new estimate begins, and stamps may go back.
        """
        if not 0 <= camera_ms < 1e14:
            raise StampError(f"wanted a stamp in milliseconds, got {camera_ms}")
        if domain != self._domain:
            self._begin()
            self._domain = domain
        try:
            stamp_ns = self._stamp_ns(round(camera_ms * 1e6), arrival_ns)
        except StampError:
            self._impossible += 1
            if self._impossible >= IN_A_ROW:
                self._impossible = 0
                self._begin()
            raise
        self._impossible = 0
        return stamp_ns

    def _stamp_ns(self, camera_ns: int, arrival_ns: int) -> int:
        if self._last_ns is not None and camera_ns <= self._last_ns:
            back_s = (self._last_ns - camera_ns) / 1e9
            raise StampError(f"wanted a stamp after the one before, got one {back_s:.3f} s before it")
        if not self._always and self._domain != OWN_CLOCK:
            _check_age((arrival_ns - camera_ns) / 1e9, self._domain)
            self._last_ns = camera_ns
            return camera_ns
        stamp_ns = self._estimated_ns(camera_ns, arrival_ns) - self._least_ns
        self._last_ns = camera_ns
        self._given_ns = max(stamp_ns, self._given_ns + 1)  # a better estimate may lie before the last stamp
        return self._given_ns

    def _estimated_ns(self, camera_ns: int, arrival_ns: int) -> int:
        if self._estimate is not None:
            late_s = (arrival_ns - self._estimate.host_ns(camera_ns)) / 1e9
            if late_s > MAX_BEHIND_S:
                raise StampError(f"wanted a frame within {MAX_BEHIND_S:g} s of its stamp, got one after {late_s:.1f} s")
            if late_s < -JUMP_S:  # faster than is possible: the counter was set forward, or this computer's clock back
                self._begin()
        if self._estimate is None:
            self._estimate = CounterEstimate()
        self._estimate.add(camera_ns, arrival_ns)
        return min(self._estimate.host_ns(camera_ns), arrival_ns)


def _check_age(age_s: float, domain: str) -> None:
    """Raises StampError for a stamp by this computer's clock that cannot be true."""
    if -MAX_AHEAD_S <= age_s <= MAX_BEHIND_S:
        return
    where = f"{age_s:.1f} s behind" if age_s > 0 else f"{-age_s:.1f} s ahead of"
    raise StampError(
        f"wanted stamps by this computer's clock, as their domain {domain} says, got one {where} it: "
        "restart the camera, or set estimate_stamps to true"
    )
