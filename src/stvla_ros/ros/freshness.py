"""The rule for the age of an input: joint states, images, guidance.

A message has two ages. Its *stamp* says when it was measured, by the clock of the machine that stamps it; its
*arrival* says when it was received, by a monotonic clock. The larger age counts. So a source that falls silent is
stale after ``max_age_s`` whatever its clock says, and a message that was delayed on its way is as old as its stamp
says.

With ``use_sim_time`` both ages count by simulation time (/clock), which may be slow, fast or paused, and may begin
anew. Only a silence that lasts much longer than a pause (:data:`PAUSE_S`) counts by the monotonic clock too. Heartbeats,
time limits of waiting, and everything that stops the arm count by the monotonic clock always (:data:`STEADY`).

A stamp in the future is refused: the age of such a message is unknown, and data measured together (an image and the
arm's state) cannot be paired. Every message is refused while simulation time has not begun.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, datetime

from rclpy.clock import Clock, ClockType
from rclpy.node import Node

STEADY = Clock(clock_type=ClockType.STEADY_TIME)
"""For timers that must run while simulation time is paused, or has not begun."""

PAUSE_S = 10.0
"""Simulation time may stand, or be this much slower than ours, before silence counts as such: if its publisher dies,
an arm that still moves must not go on forever."""

MAX_AHEAD_S = 0.1
"""How far a stamp may be in the future. Machines that use chrony on one network agree to a millisecond."""

ANOTHER_TIME_S = 1e7
"""Stamps that are further off come not from a wrong clock but from another time: simulation, or time since boot."""

OLDER_IN_A_ROW = 3
"""Out-of-order messages in a row after which the clock that stamps them counts as set back."""


@dataclass(slots=True)
class OutOfOrder:
    """Counts the messages of one stream that are older than its newest one, in a row.

    One or two are stragglers and are dropped. Several mean that the clock that stamps them was set back: the receiver
    then forgets what it has and starts over.
    """

    count: int = 0

    def clock_went_back(self) -> bool:
        """Take one more older message. True, and the count starts over, when it is no straggler."""
        self.count = (self.count + 1) % OLDER_IN_A_ROW
        return self.count == 0

    def reset(self) -> None:
        """A message came in order, or the receiver started over for another reason."""
        self.count = 0


@dataclass(frozen=True, slots=True)
class Instant:
    """A point in time by both clocks.

    Attributes:
        ns: By the node's clock, which stamps are compared with [ns].
        monotonic_s: By the clock that silence is measured with: the monotonic one, or simulation time if it is used [s].
        steady_s: With simulation time, by the monotonic clock [s]; else None.
    """

    ns: int
    monotonic_s: float
    steady_s: float | None = None


def now(node: Node) -> Instant:
    """The current time."""
    clock = node.get_clock()
    ns = int(clock.now().nanoseconds)
    if getattr(clock, "ros_time_is_active", False):
        return Instant(ns, ns / 1e9, time.monotonic())
    return Instant(ns, time.monotonic())


def why_in_future(wanted_ns: int, at: Instant, patience_s: float) -> str | None:
    """Why it is of no use to wait for data with at least a stamp, because it will not be that late; None if it may.

    Args:
        wanted_ns: The stamp, which a node of the stack took from its clock earlier.
        at: The time now.
        patience_s: How long somebody still waits.
    """
    ahead_s = (wanted_ns - at.ns) / 1e9
    if ahead_s <= max(MAX_AHEAD_S, patience_s):
        return None
    return (
        f"Data are wanted that are {ahead_s:.1f} s newer than now: time was set back (a bag or a simulation that begins anew), "
        "or the clocks of the machines differ. Start the task again."
    )


@dataclass(frozen=True, slots=True)
class Arrival:
    """The stamp of a message and the time of its arrival."""

    stamp_ns: int
    at: Instant

    @property
    def ahead_s(self) -> float:
        """How far the stamp was in the future at the arrival [s]; negative: how old it was."""
        return (self.stamp_ns - self.at.ns) / 1e9

    def silent_s(self, now: Instant) -> float:
        """Time since the arrival [s], negative before it; infinite when simulation time was set back since then."""
        silent_s = now.monotonic_s - self.at.monotonic_s
        if now.steady_s is None or self.at.steady_s is None:
            return silent_s
        if silent_s < -MAX_AHEAD_S and now.steady_s >= self.at.steady_s:
            return float("inf")
        return max(silent_s, now.steady_s - self.at.steady_s - PAUSE_S)

    def age_s(self, now: Instant) -> float:
        """The larger of the age by stamp and the age by arrival [s]."""
        return max((now.ns - self.stamp_ns) / 1e9, self.silent_s(now))


@dataclass(frozen=True)
class Freshness:
    """How old the messages of one source may be, and the error sentence for those that are too old.

    Attributes:
        what: What one message is, e.g. ``joint state``.
        source: Its topic.
        max_age_s: Older messages are stale [s].
        max_ahead_s: Messages with a stamp further in the future are refused [s].
    """

    what: str
    source: str
    max_age_s: float
    max_ahead_s: float = MAX_AHEAD_S

    def fault(self, arrival: Arrival, now: Instant) -> str | None:
        """Why a message cannot be used now, for the operator; None if it can."""
        return self.ahead(arrival) or self.stale(arrival, now)

    def ahead(self, arrival: Arrival) -> str | None:
        """The sentence for a stamp in the future at the arrival, or before simulation time has begun; else None."""
        if arrival.at.ns == 0:
            return (
                f"Simulation time has not begun: use_sim_time is true and no /clock has come, so the age of a {self.what} on "
                f"{self.source} is not known. Start the publisher of /clock, or set use_sim_time to false."
            )
        if arrival.ahead_s <= self.max_ahead_s:
            return None
        if arrival.ahead_s > ANOTHER_TIME_S:
            return self._another_time(arrival)
        return (
            f"The clock of the machine that stamps {self.source} is {arrival.ahead_s:.1f} s ahead; "
            f"at most {self.max_ahead_s:g} s is accepted: synchronise the clocks (chrony)."
        )

    def stale(self, arrival: Arrival, now: Instant) -> str | None:
        """The sentence for a message that is too old; None if it is not."""
        age_s, silent_s, late_s = arrival.age_s(now), arrival.silent_s(now), -arrival.ahead_s
        if age_s <= self.max_age_s:
            return None
        if silent_s == float("inf"):
            return f"Simulation time was set back, and since then no {self.what} has come on {self.source}: look at its publisher."
        newest, limit = f"The newest {self.what} on {self.source}", f"at most {self.max_age_s:g} s is accepted"
        if arrival.stamp_ns == 0:
            return (
                f"{newest} came {silent_s:.2f} s ago without a stamp (it is 0), so its age is not known: "
                "make its driver stamp its messages."
            )
        if late_s > ANOTHER_TIME_S:
            return self._another_time(arrival)
        if silent_s > min(self.max_age_s, late_s) or late_s <= self.max_ahead_s:  # else clock or transport make it old
            return f"{newest} is {age_s:.2f} s old; {limit}."
        return (
            f"{newest} came {silent_s:.2f} s ago with a stamp {age_s:.2f} s old; {limit}: the clock of the machine that "
            f"stamps it is {late_s:.1f} s behind (synchronise the clocks with chrony), or it is delayed on its way."
        )

    def _another_time(self, arrival: Arrival) -> str:
        stamp, here = (
            f"{datetime.fromtimestamp(ns // 1_000_000_000, UTC):%Y-%m-%d %H:%M:%S}"
            for ns in (arrival.stamp_ns, arrival.at.ns)
        )
        return (
            f"The stamps on {self.source} are of {stamp}, but here it is {here} (UTC): one of the two uses simulation time, or its "
            "clock was never set. Set use_sim_time to the same value for all nodes, or set the clocks (chrony)."
        )
