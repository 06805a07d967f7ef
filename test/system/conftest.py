"""Tests over real ROS 2: every one in a domain of its own; one that fails keeps the logs of its processes."""

from __future__ import annotations

import gc
import os
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import rclpy
import stalls
from rclpy._rclpy_pybind11 import InvalidHandle
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions
from system.processes import Logs, Process, keep_newest, own_domain

from stvla_ros.ros.middleware import destroy_node, end_discovery

os.environ.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
os.environ.setdefault("FASTRTPS_DEFAULT_PROFILES_FILE", str(Path(__file__).parents[2] / "config" / "fastdds.xml"))

RUN = f"{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}"
FAILED = pytest.StashKey[bool]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Any:
    """Logs of the processes of a failing test go to ``.cache/test-logs``, with their last words after its end too."""
    report = yield
    if report.failed or item.stash.get(FAILED, False):
        item.stash[FAILED] = True
        runs = item.config.rootpath / ".cache" / "test-logs"
        name = re.sub(r"[^\w.\[\]-]+", "_", f"{item.path.stem}.{item.name}")[:150]
        told = Logs.write(runs / RUN / name, getattr(item, "funcargs", {}).get("tmp_path"))
        keep_newest(runs)
        if report.failed and told:
            report.sections.append(("processes of the test", told))
    return report


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Any:
    done = yield
    Logs.forget()
    return done


@pytest.fixture(scope="session", autouse=True)
def little_to_collect() -> None:
    """What earlier tests left is not searched for garbage again: it would hold up nodes in this process."""
    gc.collect()
    gc.freeze()


def running() -> set[tuple[int, str]]:
    """The threads of this process: those of Python, and the one for events of each DDS participant (Linux)."""
    threads = {(thread.native_id or 0, thread.name) for thread in threading.enumerate()}
    for task in Path("/proc/self/task").iterdir():
        with suppress(OSError):  # it has ended meanwhile
            name = (task / "comm").read_text().strip()
            threads |= {(int(task.name), name)} if name.startswith("dds.ev") else set()
    return threads


@pytest.fixture(scope="module", autouse=True)
def nothing_goes_on() -> Iterator[None]:
    """Tests end what they begin. A participant that stays has 7 threads, 17 sockets and 40 MB, and slows down all
    later tests. Such remains were also freed in the wrong order, by the garbage collector: a segmentation fault."""
    before = running()
    yield
    end = stalls.clock() + 5.0
    while (left := running() - before) and stalls.clock() < end:
        time.sleep(0.01)
    assert not left, f"threads of these tests go on: {sorted(name for _, name in left)}"


@pytest.fixture
def domain() -> Iterator[int]:
    """A ROS domain that no other test on this machine uses now."""
    with own_domain() as number:
        yield number


class Spinner:
    """Nodes of a test process, spun in a thread."""

    def __init__(self) -> None:
        self.executor = SingleThreadedExecutor()
        self.nodes: list[Node] = []
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._spin, daemon=True)

    def add(self, node: Any) -> Any:
        self.nodes.append(node)
        self.executor.add_node(node)
        if not self._thread.is_alive():
            self._thread.start()
        if hasattr(node, "ready"):
            node.ready()
        return node

    def _spin(self) -> None:
        while not self._closing.is_set():
            self.executor.spin_once(timeout_sec=0.05)

    def close(self) -> None:
        for node in self.nodes:
            if hasattr(node, "close"):
                node.close(10.0)
        self._closing.set()  # first: rclpy's executor fails in the midst of a callback when another thread shuts it down
        if self._thread.is_alive():
            self._thread.join(5.0)
        self.executor.shutdown()
        for node in self.nodes[:1]:
            with suppress(InvalidHandle):  # the test has destroyed it
                end_discovery(node)  # as nodes and commands end: the others of the domain may end at the same moment
        for node in self.nodes:
            destroy_node(node)


@pytest.fixture
def ros(domain: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[Spinner]:
    """ROS in this process, in a domain of its own."""
    monkeypatch.setenv("ROS_DOMAIN_ID", str(domain))
    rclpy.init(domain_id=domain, signal_handler_options=SignalHandlerOptions.NO)
    spinner = Spinner()
    yield spinner
    spinner.close()
    rclpy.shutdown()


@pytest.fixture
def start(domain: int) -> Iterator[Callable[..., Process]]:
    """Start ``python -m module args`` in the test's domain; all are gone after the test."""
    running: list[Process] = []

    def make(module: str, *args: str, **kwargs: Any) -> Process:
        process = Process(module, *args, domain=domain, **kwargs)
        running.append(process)
        return process

    yield make
    for process in running:
        process.end()


@pytest.fixture
def parameter_file(tmp_path: Path) -> Callable[[str], Path]:
    """Write a parameter file."""

    def write(text: str) -> Path:
        path = tmp_path / "parameters.yaml"
        path.write_text(text)
        return path

    return write
