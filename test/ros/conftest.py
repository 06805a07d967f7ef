"""Domains and processes for tests over real ROS 2: every test talks in a domain of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from itertools import cycle
from pathlib import Path
from typing import Any

import pytest
import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions

os.environ.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
os.environ.setdefault("FASTRTPS_DEFAULT_PROFILES_FILE", str(Path(__file__).parents[2] / "config" / "fastdds.xml"))


DOMAINS = cycle(range(20, 40))
"""Taken in turn, so that a test never hears the last words of the one before."""


@pytest.fixture
def domain() -> Iterator[int]:
    """A ROS domain that no other test on this machine uses now."""
    from domain_coordinator import domain_id

    with domain_id(lambda: next(DOMAINS)) as number:
        yield number


class Spinner:
    """Nodes of a test process, spun in a thread."""

    def __init__(self) -> None:
        self.executor = SingleThreadedExecutor()
        self.nodes: list[Node] = []
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
        while self.executor.get_nodes():
            self.executor.spin_once()

    def close(self) -> None:
        for node in self.nodes:
            if hasattr(node, "close"):
                node.close(2.0)
        self.executor.shutdown()
        if self._thread.is_alive():
            self._thread.join(5.0)
        for node in self.nodes:
            node.destroy_node()


@pytest.fixture
def ros(domain: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[Spinner]:
    """ROS in this process, in a domain of its own."""
    monkeypatch.setenv("ROS_DOMAIN_ID", str(domain))
    rclpy.init(domain_id=domain, signal_handler_options=SignalHandlerOptions.NO)
    spinner = Spinner()
    yield spinner
    spinner.close()
    rclpy.shutdown()


class Process:
    """A node in a process of its own; its output is kept for the assertion message."""

    def __init__(self, module: str, *args: str, domain: int, env: dict[str, str] | None = None) -> None:
        command = [sys.executable, "-m", module, *args]
        self.popen = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, "ROS_DOMAIN_ID": str(domain), "PYTHONUNBUFFERED": "1", **(env or {})},
        )
        self.output = ""
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.popen.stdout is not None
        for line in self.popen.stdout:
            self.output += line

    def wait(self, timeout_s: float = 30.0) -> int:
        code = self.popen.wait(timeout_s)
        self._reader.join(5.0)
        return code

    def said(self) -> list[str]:
        """Its lines, without the middleware's complaints about shared memory of processes that were killed."""
        return [line for line in self.output.splitlines() if "RTPS_" not in line]

    def stop(self, number: int = signal.SIGINT, timeout_s: float = 15.0) -> int:
        if self.popen.poll() is None:
            self.popen.send_signal(number)
        return self.wait(timeout_s)


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
        if process.popen.poll() is None:
            process.popen.kill()
        process.popen.wait(10.0)


@pytest.fixture
def parameter_file(tmp_path: Path) -> Callable[[str], Path]:
    """Write a parameter file."""

    def write(text: str) -> Path:
        path = tmp_path / "parameters.yaml"
        path.write_text(text)
        return path

    return write
