"""Who of the stack is here, in one line each: all, a loss, a return."""

from __future__ import annotations

import subprocess
import sys

import pytest

from stvla_ros.ros import heartbeats
from stvla_ros.ros.heartbeats import LivenessReporter


class Monitor:
    """Heartbeats by hand, and its clock."""

    timeout_s = 1.5

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        self.heard: dict[str, tuple[float, int]] = {}
        monkeypatch.setattr(heartbeats.time, "monotonic", lambda: self.now)
        monkeypatch.setattr(heartbeats, "process_age_s", lambda: self.now - 100.0)

    def beat(self, *names: str, started_ns: int = 1) -> None:
        self.heard.update(dict.fromkeys(names, (self.now, started_ns)))

    def age_s(self, name: str) -> float:
        return self.now - self.heard[name][0] if name in self.heard else float("inf")

    def started_ns(self, name: str) -> int | None:
        return self.heard[name][1] if name in self.heard else None

    def missing(self, names: list[str]) -> tuple[str, ...]:
        return tuple(name for name in names if self.age_s(name) > self.timeout_s)


@pytest.fixture
def monitor(monkeypatch: pytest.MonkeyPatch) -> Monitor:
    return Monitor(monkeypatch)


def test_ready_is_said_once_when_all_are_heard(monitor: Monitor) -> None:
    reporter = LivenessReporter(monitor, ("planner", "policy"), ("sim", "camera"))  # type: ignore[arg-type]
    monitor.now += 1.0
    monitor.beat("planner", "sim")
    assert reporter.changes() == ["The node 'sim' is here."]
    monitor.now += 1.0
    monitor.beat("planner", "policy", "sim")
    assert reporter.changes() == [
        'Stack ready: planner, policy, 2.0 s after its start. Give it a goal with: stvla run "..."'
    ]
    monitor.now += 1.0
    assert reporter.changes() == []


def test_a_node_that_is_lost_and_one_that_is_back(monitor: Monitor) -> None:
    reporter = LivenessReporter(monitor, ("planner", "policy"), ("sim",))  # type: ignore[arg-type]
    monitor.beat("planner", "policy", "sim")
    reporter.changes()
    monitor.now += 2.0
    monitor.beat("policy")
    lost = "Lost the node '{}': no heartbeat for 2.0 s. Look at its log."
    assert reporter.changes() == [lost.format("planner"), lost.format("sim")]
    assert reporter.changes() == []
    monitor.now += 1.0
    monitor.beat("policy", "sim")
    assert reporter.changes() == ["The node 'sim' is back after 3.0 s."]
    monitor.beat("planner", started_ns=2)
    assert reporter.changes() == ["The node 'planner' is back after 3.0 s. The stack is ready again."]
    monitor.beat("planner", started_ns=3)
    assert reporter.changes() == ["The node 'planner' was restarted."], "sooner than its silence was noticed"
    assert reporter.changes() == []


def test_those_not_heard_are_named_once(monitor: Monitor) -> None:
    reporter = LivenessReporter(monitor, ("planner", "policy"))  # type: ignore[arg-type]
    monitor.now += 16.0
    monitor.beat("policy")
    assert reporter.changes() == ["Not heard yet: planner. They may still be loading a model; look at their logs."]
    monitor.now += 1.0
    monitor.beat("policy", "planner")
    assert "17.0 s after its start" in reporter.changes()[0]


def test_the_executor_tells_of_the_task_node_alone(monitor: Monitor) -> None:
    reporter = LivenessReporter(monitor, (), ("task",))  # type: ignore[arg-type]
    monitor.beat("task")
    assert reporter.changes() == ["The node 'task' is here."]
    monitor.now += 2.0
    assert reporter.changes() == ["Lost the node 'task': no heartbeat for 2.0 s. Look at its log."]
    monitor.beat("task")
    assert reporter.changes() == ["The node 'task' is back after 2.0 s."]


def test_age_of_this_process_counts_from_its_start() -> None:
    program = "import time; time.sleep(0.5); from stvla_ros.ros.heartbeats import process_age_s; print(process_age_s())"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert 0.49 < float(done.stdout) < 60.0
