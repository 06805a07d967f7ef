"""The processes around a stack: this benchmark's own, whose JSON output is kept, and busy loops."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from stvla_ros.ros import SUPERVISOR

Event = dict[str, Any]

DUMP_S = 15.0
BUSY = "import ctypes\nctypes.CDLL(None).prctl(1, 9)\nwhile True: pass"
"""A loop that ends with its parent."""


class Program:
    """``python -m module args``; its lines of JSON, and other lines as text. A context manager: killed at the end."""

    def __init__(self, module: str, *args: str) -> None:
        self.said: list[str] = []
        """Lines that are not JSON."""
        self._events: list[Event] = []
        self._heard = threading.Condition()
        self.ended = False
        """Its output has ended."""
        self._popen = subprocess.Popen(
            [sys.executable, "-m", module, *args],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, SUPERVISOR: str(os.getpid())},
        )
        self._thread = threading.Thread(target=self._read, name=module, daemon=True)
        self._thread.start()

    @property
    def pid(self) -> int:
        """Its process."""
        return self._popen.pid

    def _read(self) -> None:
        assert self._popen.stdout is not None
        for line in self._popen.stdout:
            with self._heard:
                if line.startswith("{"):
                    self._events.append(json.loads(line))
                else:
                    self.said.append(line.rstrip())
                self._heard.notify_all()
        with self._heard:
            self.ended = True
            self._heard.notify_all()

    def events(self) -> list[Event]:
        """So far."""
        with self._heard:
            return list(self._events)

    def forget(self) -> None:
        """Discard the events so far."""
        with self._heard:
            self._events.clear()

    def wait(self, done: Callable[[list[Event]], Event | None], timeout_s: float) -> Event | None:
        """Sleep until ``done`` finds the event that it looks for; None at the timeout or the process's end."""
        end = time.monotonic() + timeout_s
        with self._heard:
            while True:
                found = done(self._events)
                left_s = end - time.monotonic()
                if found is not None or self.ended or left_s <= 0.0:
                    return found
                self._heard.wait(left_s)

    def __enter__(self) -> Program:
        return self

    def __exit__(self, *_: object) -> None:
        self._popen.kill()
        self._popen.wait()
        self._thread.join(2.0)


@contextmanager
def busy_loops(count: int) -> Iterator[None]:
    """Busy Python loops at normal priority."""
    loops = [subprocess.Popen([sys.executable, "-c", BUSY]) for _ in range(count)]
    try:
        yield
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()


def signal_node(pid: int, number: signal.Signals) -> None:
    """Send a signal to a node; SIGSTOP and SIGCONT to its children too, where it leads a group of its own."""
    with suppress(ProcessLookupError):  # it may end meanwhile
        whole = number in (signal.SIGSTOP, signal.SIGCONT) and os.getpgid(pid) == pid
        (os.killpg if whole else os.kill)(pid, number)


def dump_stacks(pids: Mapping[str, int], folder: Path) -> None:
    """Where the threads of some processes are, by py-spy where it is installed; as files in ``folder``."""
    tool = shutil.which("py-spy") or shutil.which("py-spy", path=str(Path(sys.executable).parent))
    if tool is None:
        return
    for name, pid in pids.items():
        with (folder / f"{name}.stacks").open("w") as file:
            try:
                subprocess.run([tool, "dump", "--pid", str(pid)], stdout=file, stderr=file, timeout=DUMP_S, check=False)
            except subprocess.TimeoutExpired:
                file.write(f"no answer within {DUMP_S:g} s\n")
