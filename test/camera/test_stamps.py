"""Stamps of a camera in this computer's time: counters that drift, wrap and jump, and transport that is late."""

from __future__ import annotations

import numpy as np
import pytest

from stvla_ros.camera.stamps import BIN_S, IN_A_ROW, MAX_DRIFT, CounterEstimate, FrameClock, StampError

HOST_NS = 1_700_000_000_000_000_000
COUNTER = "hardware_clock"
LEAST_S = 0.012


class Sent:
    """Frames at 30 Hz whose counter drifts, and whose transport takes 12 ms and exponentially more."""

    def __init__(self, drift: float = 0.0, jitter_s: float = 0.006, seed: int = 0) -> None:
        self._drift, self._jitter_s, self._rng = drift, jitter_s, np.random.default_rng(seed)
        self.k, self.set_s, self.host_set_s = 0, 0.0, 0.0

    def frame(self, late_s: float = 0.0) -> tuple[float, int, int]:
        """Its counter [ms], its arrival [ns], the truth [ns] of its exposure."""
        self.k += 1
        t = self.k / 30
        counter_s = 77.0 + t * (1 - self._drift) + self.set_s
        truth_ns = HOST_NS + round((t + self.host_set_s) * 1e9)
        delay_s = LEAST_S + self._rng.exponential(self._jitter_s) + late_s
        return counter_s * 1e3, truth_ns + round(delay_s * 1e9), truth_ns


def errors_s(clock: FrameClock, sent: Sent, n: int) -> np.ndarray:
    """Stamp less truth of n frames [s]."""
    out = []
    for _ in range(n):
        ms, arrival_ns, truth_ns = sent.frame()
        stamp_ns = clock.stamp_ns(ms, COUNTER, arrival_ns)
        assert stamp_ns <= arrival_ns
        out.append((stamp_ns - truth_ns) / 1e9)
    return np.array(out)


@pytest.mark.parametrize("drift", [0.0, 100e-6, -100e-6, 30e-6])
def test_a_counter_that_drifts(drift: float) -> None:
    """After ten seconds stamps are late by the least transport to within a millisecond, however late frames come."""
    clock = FrameClock()
    errors = errors_s(clock, Sent(drift), 30 * 180)
    assert np.quantile(np.abs(errors[:300] - LEAST_S), 0.99) < 0.006
    assert np.abs(errors[300:] - LEAST_S).max() < 0.0015
    assert np.std(errors[600:]) < 0.0003
    assert clock.drift == pytest.approx(drift, abs=15e-6)
    known = FrameClock(least_delay_s=LEAST_S)
    assert np.abs(errors_s(known, Sent(drift), 900)[300:]).max() < 0.0015


def test_against_the_time_of_arrival() -> None:
    """What the estimate is for: the arrivals themselves scatter more than ten times as much."""
    sent = Sent(50e-6)
    frames = [sent.frame() for _ in range(1800)]
    clock = FrameClock()
    stamps = np.array([clock.stamp_ns(ms, COUNTER, arrival_ns) for ms, arrival_ns, _ in frames])
    truth, arrivals = np.array([f[2] for f in frames]), np.array([f[1] for f in frames])
    assert np.std((stamps - truth)[600:]) < 0.1 * np.std((arrivals - truth)[600:])


def test_stamps_never_go_back() -> None:
    """While the estimate becomes better, stamps become earlier."""
    sent, clock, last = Sent(jitter_s=0.03), FrameClock(), 0
    for _ in range(900):
        ms, arrival_ns, _ = sent.frame()
        stamp_ns = clock.stamp_ns(ms, COUNTER, arrival_ns)
        assert stamp_ns > last
        last = stamp_ns


def after(clock: FrameClock, sent: Sent, n: int = 40) -> tuple[int, np.ndarray]:
    """Frames that were refused, and the errors of the others [s]."""
    refused, out = 0, []
    for _ in range(n):
        ms, arrival_ns, truth_ns = sent.frame()
        try:
            out.append((clock.stamp_ns(ms, COUNTER, arrival_ns) - truth_ns) / 1e9)
        except StampError:
            refused += 1
    return refused, np.array(out)


@pytest.mark.parametrize(
    ("counter_s", "host_s", "most"),
    [
        (-4294.967296, 0.0, IN_A_ROW),  # 32 bits of microseconds wrap
        (-0.5, 0.0, 20),
        (3.0, 0.0, 0),
        (0.0, 5.0, IN_A_ROW),
        (0.0, -5.0, 0),
        (0.0, 0.05, 0),
    ],
    ids=["wraps", "set back", "set forward", "host forward", "host back", "host by 50 ms"],
)
def test_clocks_that_are_set(counter_s: float, host_s: float, most: int) -> None:
    """A few frames are refused, then stamps are right again, in the new time."""
    clock, sent = FrameClock(), Sent()
    sent.k = 5000  # the counter is large enough to be set back
    errors_s(clock, sent, 600)
    if counter_s < -100:
        sent.set_s = 4300.0
        clock = FrameClock()
        errors_s(clock, sent, 100)
    sent.set_s += counter_s
    sent.host_set_s = host_s
    refused, errors = after(clock, sent)
    assert refused <= most
    assert np.abs(errors[-10:] - LEAST_S).max() < (0.06 if host_s == 0.05 else 0.01)


def test_frames_that_were_held_up() -> None:
    """Old by their stamps, and refused beyond a second; those after them are as right as before."""
    clock, sent = FrameClock(), Sent()
    errors_s(clock, sent, 300)
    ms, arrival_ns, truth_ns = sent.frame(late_s=0.4)
    assert abs((clock.stamp_ns(ms, COUNTER, arrival_ns) - truth_ns) / 1e9 - LEAST_S) < 0.002
    ms, arrival_ns, _ = sent.frame(late_s=2.0)
    with pytest.raises(StampError, match=r"wanted a frame within 1 s of its stamp, got one after 2\.0 s"):
        clock.stamp_ns(ms, COUNTER, arrival_ns)
    assert np.abs(errors_s(clock, sent, 30) - LEAST_S).max() < 0.002


@pytest.mark.parametrize("domain", ["global_time", "system_time"])
def test_this_computers_clock(domain: str) -> None:
    """Taken as it is, or refused; the frame after a refused one may be right."""
    clock, ms = FrameClock(), HOST_NS / 1e6
    assert clock.stamp_ns(ms, domain, HOST_NS + 20_000_000) == pytest.approx(HOST_NS, abs=300)
    with pytest.raises(
        StampError, match=f"as their domain {domain} says, got one 4.0 s ahead of it: restart the camera"
    ):
        clock.stamp_ns(ms + 4050, domain, HOST_NS + 50_000_000)
    with pytest.raises(StampError, match=r"got one 1\.5 s behind it"):
        clock.stamp_ns(ms + 60, domain, HOST_NS + 1_560_000_000)
    assert clock.stamp_ns(ms + 100, domain, HOST_NS + 120_000_000) > HOST_NS
    with pytest.raises(StampError, match=r"wanted a stamp after the one before, got one 0\.030 s before it"):
        clock.stamp_ns(ms + 70, domain, HOST_NS + 130_000_000)
    estimated = FrameClock(estimate=True)
    assert estimated.stamp_ns(5000.0, domain, HOST_NS) == HOST_NS


@pytest.mark.parametrize("ms", [float("nan"), -1.0, float("inf"), 1e300])
def test_what_is_no_time(ms: float) -> None:
    with pytest.raises(StampError, match="wanted a stamp in milliseconds"):
        FrameClock().stamp_ns(ms, COUNTER, HOST_NS)


def test_another_domain_begins_anew() -> None:
    """As when the kernel's metadata become available: the counter has nothing to do with the stamps before."""
    clock = FrameClock()
    clock.stamp_ns(HOST_NS / 1e6, "system_time", HOST_NS + 10_000_000)
    assert clock.stamp_ns(5.0, COUNTER, HOST_NS + 40_000_000) == HOST_NS + 40_000_000


def test_the_estimate_forgets_and_never_trusts_a_wild_drift() -> None:
    estimate = CounterEstimate()
    for k in range(30 * 90):
        estimate.add(k * 33_000_000, HOST_NS + round(k * 33_000_000 * 1.01))  # one per cent: no crystal
    assert abs(estimate.drift) == MAX_DRIFT
    assert len(estimate._bins) * BIN_S <= 61
