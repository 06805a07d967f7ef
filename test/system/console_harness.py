"""The simulated stack with the console's node in the test's process."""

from __future__ import annotations

import time

import stalls
from system.robot_harness import MORE_SLACK, StackHarness

from stvla_ros.console.session import Code
from stvla_ros.description.braking import STILL_RAD_S
from stvla_ros.nodes.console import ConsoleNode
from stvla_ros.ros.graph import GraphOptions

ADA, EVE = 1001, 1002


class ConsoleHarness(StackHarness):
    """The stack, the console's node in this process, and two people at it."""

    def __init__(self, folder, **overrides):
        super().__init__(GraphOptions(mode="composed", overrides=MORE_SLACK | overrides))
        self.audit = folder / "audit.jsonl"
        self.arguments = ("--ros-args", "-p", "console:port:=0", "-p", f"console:audit:={self.audit}")

    def __enter__(self):
        super().__enter__()
        self.console = self.spinner.add(ConsoleNode())
        self.session = self.console.session
        for number in (ADA, EVE):
            self.session.join(number, "127.0.0.1")
        return self

    def wait_ready(self, timeout_s=180.0):
        super().wait_ready(timeout_s)

    @property
    def shown(self):
        return self.session.shown()

    def stands_still(self, for_s=1.0):
        """As without a console, but joint states may come late: this process has much to do."""
        start, late = time.monotonic(), stalls.clock() + 10.0
        while len(heard := [speed for at, speed in list(self.speeds) if at > start]) < 50 * for_s:
            assert stalls.clock() < late, "no joint states"
            time.sleep(0.02)
        return max(heard) < STILL_RAD_S

    def until(self, condition, timeout_s=60.0):
        """Wait for a condition of the shown state."""
        late = stalls.clock() + timeout_s
        while not condition(self.shown):
            assert stalls.clock() < late, (self.shown, self.log[-20:])
            time.sleep(0.01)
        return self.shown

    def say(self, instruction, mode):
        assert self.session.set_mode(ADA, mode).ok
        self.until(lambda shown: not shown.running)
        answer = self.session.say(ADA, instruction)
        assert answer.ok, answer

    def outcome(self, timeout_s=120.0):
        return self.until(lambda shown: not shown.running, timeout_s).history[0].outcome

    def allow_motion(self):
        """Release a stop by two acts."""
        self.until(lambda shown: shown.stopped)
        assert self.session.release(ADA).code is Code.CONFIRM
        time.sleep(1.0)
        answer = self.session.release(ADA)
        assert answer.ok, answer
        self.until(lambda shown: not shown.stopped)
