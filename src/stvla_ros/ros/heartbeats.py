"""Heartbeats: every node sends them at 10 Hz; some nodes monitor others and report which are alive."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from rclpy.node import Node
from stvla_msgs.msg import Heartbeat

from stvla_ros.errors import OutcomeCode, StageError
from stvla_ros.ros import qos
from stvla_ros.ros.convert import header, ns_to_time, time_to_ns
from stvla_ros.ros.freshness import STEADY
from stvla_ros.ros.qos import DISCOVERY_S

TOPIC = "stvla/heartbeat"
PERIOD_S = 0.1

PATIENCE_S = 15.0
"""Nodes not heard within this time are named once."""


class HeartbeatSender:
    """Sends heartbeats from a timer of the node's executor. Silence means that the executor is stuck or gone, not
    that the stage is busy: stages have threads of their own."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._started = ns_to_time(time.time_ns())
        self._publisher = node.create_publisher(Heartbeat, TOPIC, qos.HEARTBEAT)
        self._timer = node.create_timer(PERIOD_S, self.send, clock=STEADY)

    def send(self) -> None:
        """Send a heartbeat now."""
        self._publisher.publish(
            Heartbeat(
                header=header(time.time_ns(), ""),
                node=self._node.get_name(),
                started=self._started,
                period_ms=round(PERIOD_S * 1000),
            )
        )


@dataclass
class _Heard:
    at: float
    started_ns: int


class HeartbeatMonitor:
    """Monitors which nodes are alive. Ages count from the arrival, so that clocks of other machines do not matter.

    Args:
        node: Its executor must spin.
        timeout_s: Silence after which a node counts as lost.
        on_beat: Called with the node's name for each heartbeat, in the executor's thread.
    """

    def __init__(self, node: Node, timeout_s: float, on_beat: Callable[[str], None] | None = None) -> None:
        self.timeout_s = timeout_s
        self._on_beat = on_beat
        self._lock = threading.Lock()
        self._heard: dict[str, _Heard] = {}
        node.create_subscription(Heartbeat, TOPIC, self._receive, qos.HEARTBEAT)

    def _receive(self, message: Heartbeat) -> None:
        with self._lock:
            self._heard[message.node] = _Heard(time.monotonic(), time_to_ns(message.started))
        if self._on_beat:
            self._on_beat(message.node)

    def age_s(self, name: str) -> float:
        """Seconds since the last heartbeat; infinite for a node that was never heard."""
        with self._lock:
            heard = self._heard.get(name)
        return float("inf") if heard is None else time.monotonic() - heard.at

    def alive(self) -> tuple[str, ...]:
        """Names of the nodes heard within the timeout."""
        with self._lock:
            now = time.monotonic()
            return tuple(sorted(n for n, h in self._heard.items() if now - h.at <= self.timeout_s))

    def missing(self, names: Iterable[str]) -> tuple[str, ...]:
        """The nodes of ``names`` that are silent."""
        return tuple(name for name in names if self.age_s(name) > self.timeout_s)

    def wait_for(
        self, names: Iterable[str], timeout_s: float = DISCOVERY_S, give_up: Callable[[], bool] = lambda: False
    ) -> tuple[str, ...]:
        """Wait until all nodes are alive, the time is over, or ``give_up`` is True; returns those still missing.

        The default timeout allows for the discovery of nodes that have just started.
        """
        end, wanted = time.monotonic() + timeout_s, tuple(names)
        while (missing := self.missing(wanted)) and time.monotonic() < end and not give_up():
            time.sleep(0.02)
        return missing

    def watch(self, names: Iterable[str]) -> Watch:
        """Remember when each of some nodes was started, to notice a restart."""
        wanted = tuple(names)
        with self._lock:
            return Watch(self, {n: h.started_ns for n, h in self._heard.items() if n in wanted}, wanted)

    def started_ns(self, name: str) -> int | None:
        """When a node was started, by its own account; None for a node that was never heard."""
        with self._lock:
            heard = self._heard.get(name)
        return None if heard is None else heard.started_ns


class Watch:
    """Checks whether some nodes have stayed alive since :meth:`HeartbeatMonitor.watch`; a restart counts as a loss."""

    def __init__(self, monitor: HeartbeatMonitor, started_ns: dict[str, int], names: tuple[str, ...]) -> None:
        self._monitor, self._started_ns, self._names = monitor, started_ns, names

    def lost(self) -> tuple[str, ...]:
        """The nodes that fell silent or were restarted."""
        return tuple(
            name
            for name in self._names
            if self._monitor.started_ns(name) != self._started_ns.get(name)
            or self._monitor.age_s(name) > self._monitor.timeout_s
        )

    def raise_if_lost(self) -> None:
        """Raises StageError NODE_LOST for the first lost node."""
        if lost := self.lost():
            name = lost[0]
            age_s = self._monitor.age_s(name)
            what = "was never heard" if age_s == float("inf") else f"was silent for {age_s:.1f} s"
            if age_s <= self._monitor.timeout_s:
                what = "was restarted meanwhile"
            raise StageError(
                OutcomeCode.NODE_LOST, f"The node '{name}' {what}. Look at its log, then send the goal again."
            )


class LivenessReporter:
    """Reports when the stack is ready, when a node is lost, and when it is back, in one line each.

    Args:
        monitor: Receives the heartbeats.
        needed: Names of the nodes without which the stack is not ready; empty: readiness is not reported.
        others: Names of optional nodes; reported once they are heard.
    """

    def __init__(self, monitor: HeartbeatMonitor, needed: Sequence[str], others: Sequence[str] = ()) -> None:
        self._monitor, self._needed, self._others = monitor, needed, others
        self._started_ns: dict[str, int | None] = {}  # of the nodes heard so far
        self._lost: dict[str, float] = {}  # when
        self._complete, self._named = not needed, False
        self._since = time.monotonic()

    def changes(self) -> list[str]:
        """What has changed since the last call, in sentences for the log."""
        now = time.monotonic()
        silent = set(self._monitor.missing([*self._needed, *self._others]))
        sentences: list[str] = []
        for name in (*self._needed, *self._others):
            sentences += self._change(name, name in silent, now)
        waiting = [name for name in self._needed if name in silent and name not in self._lost]
        if not self._complete and not waiting and not self._lost:
            self._complete = True
            sentences.append(
                f"Stack ready: {', '.join(self._needed)}, {process_age_s():.1f} s after its start. "
                'Give it a goal with: stvla run "..."'
            )
        elif waiting and not self._named and now - self._since > PATIENCE_S:
            self._named = True
            sentences.append(
                f"Not heard yet: {', '.join(waiting)}. They may still be loading a model; look at their logs."
            )
        return sentences

    def _change(self, name: str, silent: bool, now: float) -> list[str]:
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
    """Seconds since this process was started (Linux), including its imports, which the operator waits for too."""
    ticks = float(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])  # proc(5): starttime
    return time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")
