"""A person at the console of a whole simulated stack over ROS 2: stops at random moments of motion, and many who watch.

Times are the wall's. The clock of a stop starts with the click and ends with the last joint state, as it arrives here, in
which any joint moves at 0.01 rad/s or more.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.node import Node
from websockets.exceptions import ConnectionClosed

from benchmarks.console.browser import Browser, unmarked_s
from benchmarks.console.link import Link
from benchmarks.record.__main__ import CameraWatch, busy_s
from benchmarks.stop.__main__ import JointWatch
from stvla_ros.console.views import OLD_S
from stvla_ros.ros.client import client_node, reset_scene
from stvla_ros.ros.graph import GraphOptions
from stvla_ros.ros.operator_stop import release_arm
from stvla_ros.ros.up import Stack

TASK = "pick_place"
STILL_S = 0.6
"""Without motion for so long, the arm stands."""

LATEST_S = 2.0
"""A stop comes at most so long after the first motion of a task."""

TRIES = 4
TARGET_S = 0.3
SLACK = {
    **{f"{node}.joint_states.max_age_s": "5.0" for node in ("executor", "planner", "guidance", "policy")},
    **{f"{node}.camera.max_age_s": "5.0" for node in ("executor", "planner", "guidance")},
    "task.heartbeat_timeout_s": "10.0",
    "executor.safety.heartbeat_timeout_s": "5.0",
    "executor.safety.image_timeout_s": "10.0",
}
"""On a busy machine nodes are late; that tasks fail by it is not on trial."""

KEPT = ("camera_hz", "real_time_factor", "idle_share")
MOST_LOST, LEAST_PICTURES_PER_S = 0.05, 3.0
"""Aims of ``load``: people who watch take so much of these; the console's memory grows by no more; each gets so many."""

CONSOLE = "console"


@dataclass(frozen=True)
class Click:
    """One stop.

    Attributes:
        standstill_s: From the click to the last motion.
        arrived_s: The same from when the click reached the console's computer.
        again: The arm moved after it stood.
        load: Of the machine, average of the last minute.
    """

    standstill_s: float
    arrived_s: float
    again: bool
    load: float


class FactorWatch:
    """The simulation's real-time factor, as its diagnostics say it."""

    def __init__(self, node: Node) -> None:
        self.heard: list[tuple[float, float]] = []
        node.create_subscription(DiagnosticArray, "/diagnostics", self._receive, 10)

    def _receive(self, message: DiagnosticArray) -> None:
        values = [v.value for s in message.status for v in s.values if v.key == "real-time factor"]
        self.heard += [(time.monotonic(), float(value)) for value in values if value]


class Trials:
    """The stack, its console, and those who look at it."""

    def __init__(self, stack: Stack, node: Node, port: int) -> None:
        self._stack, self._port = stack, port
        self.joints, self.camera, self.factor = JointWatch(node), CameraWatch(node), FactorWatch(node)
        self._rng = np.random.default_rng(0)

    @property
    def netloc(self) -> str:
        return f"127.0.0.1:{self._port}"

    def console_pid(self) -> int:
        return self._stack.pids()[CONSOLE]

    def pids(self) -> list[int]:
        return list(self._stack.pids().values())

    def begin(self, person: Browser, seed: int) -> None:
        """Give a goal on the page, and wait for a random moment of its motion."""
        for _ in range(TRIES):  # a task may fail before it moves
            self._until(lambda: not running(person), "The page does not say that the task has ended.")
            person.set("Goal", reset_scene(TASK, seed))
            person.click("Give the goal")
            given = time.monotonic()
            self._until(
                lambda given=given: self.joints.moving() or (time.monotonic() > given + 3.0 and not running(person)),
                "The arm does not move.",
            )
            if self.joints.moving():
                break
        time.sleep(float(self._rng.uniform(0.0, LATEST_S)))
        self._until(self.joints.moving, "The arm does not move any more.")

    def click(self, person: Browser, label: str, link: Link | None) -> Click:
        """Press the page's stop, and watch the arm."""
        clicked, load = time.monotonic(), os.getloadavg()[0]
        person.click(label)
        still = self._standstill(clicked)
        arrived = link.arrived_s(clicked) if link is not None else clicked
        return Click(still - clicked, still - arrived, self._again(still), load)

    def _again(self, still: float) -> bool:
        time.sleep(0.2)
        return bool(self.joints.motions(still))

    def _standstill(self, since: float) -> float:
        def stands() -> bool:
            last = max(self.joints.motions(since), default=since)
            return time.monotonic() > last + STILL_S and self.joints.heard(last) >= 20

        self._until(stands, "The arm does not come to rest.")
        return max(self.joints.motions(since), default=since)

    def release(self, person: Browser) -> None:
        """By two acts."""
        for _ in range(3):
            self._until(lambda: self.stopped(person), "The page does not say that the arm is stopped.")
            person.click("Release the stop")
            time.sleep(0.7)
            person.click("Release the stop")
            with contextlib.suppress(ConnectionError):
                self._until(lambda: not self.stopped(person), "The stop is not released.", 6.0)
                return
        raise ConnectionError("The stop is not released.")

    def stopped(self, person: Browser) -> bool:
        """What the page says."""
        return any("STOPPED" in text for text in list(person.texts.values()))

    def _until(self, condition: Any, what: str, timeout_s: float = 40.0) -> None:
        until = time.monotonic() + timeout_s
        while not condition():
            if time.monotonic() > until:
                raise ConnectionError(what)
            time.sleep(0.005)


@contextlib.contextmanager
def console_stack(say: Any = None) -> Iterator[Trials]:
    """A stack with a console whose goals wait for nobody."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        settings = {"port": str(port), "mode": "automatic", "audit": f"{folder}/audit.jsonl"}
        overrides = SLACK | {f"{CONSOLE}.{name}": value for name, value in settings.items()}
        options = GraphOptions(mode="composed", console=True, overrides=overrides)
        with Stack(options, say=say or (lambda name, line: None)) as stack:
            stack.wait_ready(90.0)
            with client_node("console_bench") as node:
                yield Trials(stack, node, port)


def stop(clicks: int, clients: int, throttled: bool, minutes: float) -> dict[str, Any]:
    """Clicks of one person, while so many look on, the person's link throttled or not; none begins after the minutes."""
    done: list[Click] = []
    trouble = Counter[str]()
    with console_stack() as trials:
        link = Link(int(trials.netloc.rpartition(":")[2])) if throttled else None
        others = [Browser(trials.netloc) for _ in range(clients - 1)]
        person = Browser(link.netloc if link else trials.netloc)
        person.wait("Release the stop", 60.0)
        begun = time.monotonic()
        for number in range(clicks):
            if time.monotonic() > begun + 60.0 * minutes:
                break
            try:
                trials.begin(person, number)
                done.append(trials.click(person, ("STOP", "STOP ")[number % 2], link))
            except ConnectionError as error:  # e.g. a task that failed before it moved
                trouble[str(error)] += 1
                print(error, list(person.texts.values()), file=sys.stderr)
                person.click("STOP")
            trials.release(person)
            if (number + 1) % 5 == 0:
                print(f"{number + 1} clicks, load {os.getloadavg()[0]:.1f}", file=sys.stderr, flush=True)
        for browser in (person, *others):
            browser.close()
    standstill = [c.standstill_s for c in done]
    return {
        "benchmark": "console stop",
        "clients": clients,
        "throttled": throttled,
        "clicks": len(done),
        "standstill_s": percentiles(standstill),
        "standstill_from_arrival_s": percentiles([c.arrived_s for c in done]),
        "moved_again": sum(c.again for c in done),
        "load": percentiles([c.load for c in done]),
        "without_motion": dict(trouble),
        "target_p95_s": TARGET_S,
        "met": bool(done) and float(np.percentile([c.arrived_s for c in done], 95)) <= TARGET_S,
    }


def frozen(stops: int) -> dict[str, Any]:
    """``stvla stop`` in a new process while the console's is frozen (SIGSTOP)."""
    done, codes, trouble = list[float](), Counter[int](), Counter[str]()
    with console_stack() as trials:
        for number in range(stops):
            person = _came_back(trials.netloc)
            try:
                trials.begin(person, number)
            except ConnectionError as error:  # e.g. a task that failed before it moved
                trouble[str(error)] += 1
                print(error, list(person.texts.values()), file=sys.stderr)
                person.close()
                continue
            os.kill(trials.console_pid(), signal.SIGSTOP)
            try:
                typed = time.monotonic()
                command = subprocess.run(
                    [sys.executable, "-m", "stvla_ros.cli", "stop"], capture_output=True, timeout=60.0, check=False
                )
                codes[command.returncode] += 1
                done.append(trials._standstill(typed) - typed)
            finally:
                os.kill(trials.console_pid(), signal.SIGCONT)
            release_arm(30.0)
            person.close()
            if (number + 1) % 5 == 0:
                print(f"{number + 1} stops, load {os.getloadavg()[0]:.1f}", file=sys.stderr, flush=True)
    return {
        "benchmark": "console frozen",
        "stops": len(done),
        "standstill_s": percentiles(done),
        "exit_codes": dict(codes),
        "without_motion": dict(trouble),
        "load": os.getloadavg()[0],
    }


def _came_back(netloc: str) -> Browser:
    """A browser that shows the page: a console that was suspended ends, perhaps after it has let a browser in, and its
    supervisor starts it again."""
    until = time.monotonic() + 60.0
    while True:
        with contextlib.suppress(ConnectionRefusedError, ConnectionClosed):
            browser = Browser(netloc)
            while not browser.gone():
                if "Goal" in browser.widgets:
                    return browser
                if time.monotonic() > until:
                    browser.wait("Goal", 0.0)
                time.sleep(0.05)
            browser.close()
        if time.monotonic() > until:
            raise TimeoutError(f"The console at {netloc} did not come back.")
        time.sleep(0.5)


def load(clients: int, minutes: float) -> dict[str, Any]:
    """The stack at work with one person at the console, and with so many more, each for that long."""
    with console_stack() as trials:
        person = Browser(trials.netloc)
        person.wait("Give the goal", 60.0)
        before = _watched(trials, person, [], minutes)
        others = [Browser(trials.netloc) for _ in range(clients)]
        for browser in others:
            browser.wait("STOP", 60.0)
        during = _watched(trials, person, others, minutes)
        for browser in (person, *others):
            browser.close()
    return {
        "benchmark": "console load",
        "clients": clients,
        "minutes": minutes,
        "before": before,
        "during": during,
        **verdict(before, during),
    }


def verdict(before: dict[str, Any], during: dict[str, Any]) -> dict[str, Any]:
    """What the clients changed, and whether that is within the aims."""
    kept = {name: round(during[name] / before[name], 3) if before[name] else None for name in KEPT}
    memory = during["console_rss_mb"]
    growth = round(
        memory[-1] / memory[min(1, len(memory) - 1)] - 1.0, 3
    )  # from the first minute's end, with all clients
    met = {
        **{name: share is not None and share >= 1.0 - MOST_LOST for name, share in kept.items()},
        "memory": growth <= MOST_LOST,
        "unmarked": not during["old_pictures_without_a_warning"],
        "pictures": min(during["pictures_per_s"], default=0.0) >= LEAST_PICTURES_PER_S,
    }
    return {"during_over_before": kept, "memory_growth": growth, "met": met}


def _watched(trials: Trials, person: Browser, others: list[Browser], minutes: float) -> dict[str, Any]:
    """Goals one after another, given on the page; what they and the clients see."""
    time.sleep(3.0)
    pids, console, people = trials.pids(), [trials.console_pid()], others or [person]
    seen, camera, rss = [len(browser.pictures) for browser in people], trials.camera.count, [_rss_mb(console[0])]
    busy, own, idle, begun = [busy_s(pids), busy_s(console)], time.process_time(), _idle_s(), time.monotonic()
    tasks, at = 0, 0.0
    while (seconds := time.monotonic() - begun) < 60.0 * minutes:
        if time.monotonic() > at and not running(person):
            person.set("Goal", reset_scene(TASK, tasks))
            person.click("Give the goal")
            tasks, at = tasks + 1, time.monotonic() + 3.0
        time.sleep(0.5)
        if seconds >= 60.0 * len(rss):
            rss.append(_rss_mb(console[0]))
    seconds = time.monotonic() - begun
    rss.append(_rss_mb(console[0]))
    own, idle = time.process_time() - own, _idle_s() - idle
    factors = [value for when, value in trials.factor.heard if when > begun]
    pictures = [browser.pictures[n:] for browser, n in zip(people, seen, strict=True)]
    ages = [age for of_one in pictures for age in unmarked_s(of_one)]
    return {
        "tasks": tasks,
        "camera_hz": round((trials.camera.count - camera) / seconds, 2),
        "real_time_factor": round(float(np.mean(factors)), 3) if factors else None,
        "real_time_factor_least": round(min(factors), 3) if factors else None,
        "stack_cpu_cores": round((busy_s(pids) - busy[0]) / seconds, 2),
        "console_cpu_cores": round((busy_s(console) - busy[1]) / seconds, 2),
        "clients_cpu_cores": round(own / seconds, 2),
        "idle_share": round((idle + own) / seconds / (os.cpu_count() or 1), 3),  # as if the clients were elsewhere
        "console_rss_mb": [round(value, 1) for value in rss],
        "pictures_per_s": [round(len(of_one) / seconds, 2) for of_one in pictures],
        "oldest_unmarked_picture_s": round(max(ages, default=0.0), 2),
        "old_pictures_without_a_warning": sum(age > OLD_S for age in ages),
        "load": round(os.getloadavg()[0], 1),
    }


def _idle_s() -> float:
    """Time [s] that the machine's cores were idle so far, all of them together."""
    with open("/proc/stat") as file:
        fields = file.readline().split()
    return (int(fields[4]) + int(fields[5])) / os.sysconf("SC_CLK_TCK")


def running(person: Browser) -> bool:
    """Whether the page says that a goal runs."""
    return any(": runs" in text for text in list(person.texts.values()))


def _rss_mb(pid: int) -> float:
    with open(f"/proc/{pid}/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / (1 << 20)


def percentiles(values: list[float]) -> dict[str, float | None]:
    """p50, p95, p99 and the largest."""
    if not values:
        return {"p50": None, "p95": None, "p99": None, "max": None}
    p50, p95, p99 = (round(float(p), 3) for p in np.percentile(values, [50, 95, 99]))
    return {"p50": p50, "p95": p95, "p99": p99, "max": round(max(values), 3)}
