"""Who of the stack is here: one line when all are, one when a node is lost, one when it is back."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path

from stvla_ros.ros.heartbeats import HeartbeatMonitor

PATIENCE_S = 15.0
"""Those not heard by then are named, once."""


class Attendance:
    """Compares who is heard with who was.

    Args:
        monitor: Hears the heartbeats.
        needed: Names of the nodes that make the stack ready; empty: nothing is said of that.
        others: Names of nodes that may be there or not; told of when they are heard first, and from then on.
    """

    def __init__(self, monitor: HeartbeatMonitor, needed: Sequence[str], others: Sequence[str] = ()) -> None:
        self._monitor, self._needed, self._others = monitor, needed, others
        self._started_ns: dict[str, int | None] = {}  # of those that were heard
        self._lost: dict[str, float] = {}  # when
        self._complete, self._named = not needed, False
        self._since = time.monotonic()

    def look(self) -> list[str]:
        """What has changed since the last look, in sentences for the log."""
        now = time.monotonic()
        silent = set(self._monitor.missing([*self._needed, *self._others]))
        told: list[str] = []
        for name in (*self._needed, *self._others):
            told += self._look_at(name, name in silent, now)
        waiting = [name for name in self._needed if name in silent and name not in self._lost]
        if not self._complete and not waiting and not self._lost:
            self._complete = True
            told.append(
                f"Stack ready: {', '.join(self._needed)}, {process_age_s():.1f} s after its start. "
                'Give it a goal with: stvla run "..."'
            )
        elif waiting and not self._named and now - self._since > PATIENCE_S:
            self._named = True
            told.append(f"Not heard yet: {', '.join(waiting)}. They may still load a model; their log says more.")
        return told

    def _look_at(self, name: str, silent: bool, now: float) -> list[str]:
        if silent:
            if name not in self._started_ns or name in self._lost:
                return []
            age_s = self._monitor.age_s(name)
            self._lost[name] = now - age_s
            return [f"Lost the node '{name}': no heartbeat for {age_s:.1f} s. Look at its log."]
        before, started_ns = self._started_ns.get(name), self._monitor.started_ns(name)
        new = name not in self._started_ns
        self._started_ns[name] = started_ns
        if name in self._lost:
            gone_s = now - self._lost.pop(name)
            again = " The stack is ready again." if self._complete and self._needed and not self._lost else ""
            return [f"The node '{name}' is back after {gone_s:.1f} s.{again}"]
        if new and name in self._others:
            return [f"The node '{name}' is here."]
        return [f"The node '{name}' was restarted."] if before not in (None, started_ns) else []


def process_age_s() -> float:
    """Seconds since this process was started (Linux): imports count, as they do for whoever waits for the stack."""
    ticks = float(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])  # proc(5): starttime
    return time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")
