"""The benchmark of the learned stack in the loop counts CPU time of every call, also of one that fails."""

import time
from collections import defaultdict

import pytest

from benchmarks.policy.in_the_loop import Timed


class Stage:
    def plan(self, busy_s: float) -> str:
        begun = time.thread_time()
        while time.thread_time() - begun < busy_s:
            pass
        if busy_s == 0:
            raise ValueError("nothing to do")
        time.sleep(0.05)  # no CPU time
        return "planned"


def test_calls_are_timed_in_cpu_seconds() -> None:
    times_s: dict[str, list[float]] = defaultdict(list)
    stage = Timed(Stage(), times_s)
    assert stage.plan(0.02) == "planned"
    with pytest.raises(ValueError, match="nothing"):
        stage.plan(0.0)
    busy, failed = times_s["plan"]
    assert 0.02 <= busy < 0.05
    assert failed < 0.01
