"""Rate, age and clock of the messages on one topic, live or in a bag."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from stvla_ros.doctor.finding import Finding, ok, unseen, warning, wrong
from stvla_ros.types import F64

ANOTHER_TIME_S = 1e7
"""Stamps that are further off come not from a wrong clock but from another time: simulation, or time since boot."""

AHEAD_S = 0.1
"""Every receiver of the stack refuses a stamp further in the future (``max_ahead_s``)."""

KEPT = 0.8
"""With a smaller share of the source's own rate, messages are lost on the way."""

SHORTEST = 0.25
"""Quantile of the differences of stamps that counts as the source's period: a loss only makes some of them longer."""

MISSING = 0.75
"""A difference that is longer by less than this share of a period is jitter, e.g. 8 and 12 ms in turn at 100 Hz."""


@dataclass(frozen=True)
class Source:
    """What a topic should be like.

    Attributes:
        name: Of the finding.
        least_hz: With a lower rate the stack works badly, with half of it not at all.
        setting: Names the topic in a parameter file.
        start: What publishes it, as a remedy.
        slow: What makes it slow, as a remedy.
        behind_s: A stamp may be this much older than its arrival: exposure, readout and transport.
        large: Its messages are images. This program gets them over UDP, which may lose some, so its own losses say nothing
            about the nodes.
        live: Its messages come now, so that the newest one has an age.
    """

    name: str
    least_hz: float
    setting: str
    start: str
    slow: str
    behind_s: float
    large: bool = False
    live: bool = True


@dataclass(frozen=True, eq=False)
class Stream:
    """The messages on one topic.

    Attributes:
        topic: Its name.
        at_s: (N,) when they arrived, by the clock that the stamps are compared with, in this order [s].
        stamp_s: (N,) their stamps [s]; 0 means none.
        now_s: When listening ended, by the same clock [s].
        listened_s: For how long [s].
        size_bytes: Of all messages together.
        publishers: Names of the nodes that publish it.
        mismatch: Why a publisher's type does not fit; empty if it does.
        others: Topics of the same type, for a wrong name.
    """

    topic: str
    at_s: F64
    stamp_s: F64
    now_s: float
    listened_s: float
    size_bytes: int = 0
    publishers: Sequence[str] = ()
    mismatch: str = ""
    others: Sequence[str] = ()

    @property
    def rate_hz(self) -> float:
        """Messages per second from the first to the end of listening; 0 for fewer than two."""
        seconds = max(self.now_s - self.at_s[0], 0.0) if len(self.at_s) > 1 else 0.0
        return (len(self.at_s) - 1) / seconds if seconds else 0.0

    @property
    def sent_hz(self) -> float:
        """The source's own rate, by its stamps, counting those that are missing between two; 0 when they do not tell."""
        steps = np.diff(np.unique(self.stamp_s))
        if len(steps) <= 2:
            return 0.0
        sent = np.floor(steps / np.quantile(steps, SHORTEST) + 1.0 - MISSING)
        return float(np.maximum(sent, 1.0).sum() / steps.sum())

    @property
    def best_hz(self) -> float:
        """The largest rate that its source may have: messages that were lost on their way to us count."""
        return max(self.rate_hz, self.sent_hz)

    @property
    def longest_gap_s(self) -> float:
        """Longest time without a message [s]."""
        return float(np.diff([*self.at_s, self.now_s]).max()) if len(self.at_s) else self.listened_s

    @property
    def age_s(self) -> float:
        """Age of the newest message by its stamp, when listening ended [s]; infinite without one."""
        return self.now_s - float(self.stamp_s.max()) if len(self.stamp_s) else float("inf")

    @property
    def late_s(self) -> float:
        """Arrival after stamp [s], the smallest of all messages: the transport only makes it larger."""
        return float((self.at_s - self.stamp_s).min())

    @property
    def bytes_per_s(self) -> float:
        """Of the messages as they are sent [bytes/s]."""
        return self.size_bytes / max(len(self.at_s), 1) * self.best_hz


def check_rate(stream: Stream, source: Source) -> Finding:
    """Whether enough messages come. A topic that nobody publishes is wrong."""
    name, topic = source.name, stream.topic
    if stream.mismatch:
        return wrong(
            name, stream.mismatch, f"set {source.setting} to another topic, or let its publisher use that type"
        )
    if not stream.publishers and not len(stream.at_s):
        others = f"; found {', '.join(stream.others[:4])}" if stream.others else ""
        remedy = f"set {source.setting}" if stream.others else f"{source.start}, or set {source.setting}"
        return wrong(name, f"nobody publishes {topic}{others}", remedy, 0.0, "Hz")
    if not len(stream.at_s):
        return wrong(
            name, f"{topic} is published, and nothing came in {stream.listened_s:.1f} s", _silent(source), 0.0, "Hz"
        )
    rate, sent = (stream.best_hz if source.large else stream.rate_hz), stream.sent_hz
    newest = f", newest {_age(stream.age_s)}" if source.live else ""
    figure = f"{rate:.1f} Hz{newest}, longest gap {stream.longest_gap_s * 1e3:.0f} ms"
    if not source.large and sent and rate < KEPT * sent:
        lost = f"{figure}: {100 * (1 - rate / sent):.0f} % of {sent:.0f} Hz are lost on the way or not sent"
        judge = warning if rate >= source.least_hz / 2 else wrong
        return judge(name, lost, "look at the network and at the load of both machines", rate, "Hz")
    if rate < source.least_hz:
        few = f"{figure}: at least {source.least_hz:g} Hz are wanted"
        return (warning if rate >= source.least_hz / 2 else wrong)(name, few, source.slow, rate, "Hz")
    return ok(name, figure, value=rate, unit="Hz")


LOST = (
    "let both sides use config/fastdds.xml (FASTRTPS_DEFAULT_PROFILES_FILE); between computers raise net.core.rmem_max, "
    "use a wired network, or send fewer pixels"
)


def _silent(source: Source) -> str:
    return LOST if source.large else f"look at the log of its node: {source.start}"


def _age(age_s: float) -> str:
    return f"{age_s * 1e3:.0f} ms old" if abs(age_s) < 10.0 else f"{age_s:.3g} s old"


def check_clock(name: str, stream: Stream, behind_s: float, ahead_s: float = AHEAD_S) -> Finding:
    """Whether the clock that stamps these messages agrees with this machine's, by the smallest delay.

    Args:
        name: Of the finding.
        stream: The messages.
        behind_s: Larger delays count as a clock that is behind [s].
        ahead_s: Stamps further in the future are refused [s].
    """
    if not len(stream.at_s):
        return unseen(name, f"no message on {stream.topic}")
    if not stream.stamp_s.any():
        return wrong(name, f"the stamps on {stream.topic} are 0", "make its driver stamp its messages")
    late_s = stream.late_s
    if abs(late_s) > ANOTHER_TIME_S:
        return wrong(
            name,
            f"the stamps on {stream.topic} are {abs(late_s):.3g} s off, so they are of another time",
            "set use_sim_time to the same value for all nodes, or set the clocks (chrony)",
            -late_s,
            "s",
        )
    figure = f"stamps arrive {late_s * 1e3:.0f} ms old"
    if late_s < -ahead_s:
        figure = f"the clock that stamps {stream.topic} is {-late_s:.2f} s ahead; at most {ahead_s:g} s is accepted"
        return wrong(name, figure, "synchronise the clocks of both machines (chrony)", -late_s, "s")
    if late_s > behind_s:
        figure = f"the clock that stamps {stream.topic} is {late_s:.2f} s behind, or its messages are delayed"
        return wrong(
            name, figure, "synchronise the clocks of both machines (chrony), then look at the network", -late_s, "s"
        )
    return ok(name, figure, value=-late_s, unit="s")
