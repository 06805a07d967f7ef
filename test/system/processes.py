"""Processes of a test: in a domain that is theirs alone, ended with the test, and heard when it fails."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from itertools import cycle, islice
from pathlib import Path
from typing import ClassVar

from stvla_ros.ros import SUPERVISOR
from stvla_ros.ros.middleware import LOCK_PORT

_FIRST = os.getpid() % 80
DOMAINS = cycle(20 + (_FIRST + i) % 80 for i in range(80))
"""Taken in turn, so that a test never hears the last words of the one before; another run begins elsewhere."""

TAIL_LINES = 25
RUNS_KEPT = 5


@contextmanager
def own_domain() -> Iterator[int]:
    """A ROS domain that nobody on this machine has taken (domain_coordinator's way), and in which nobody is."""
    for number in islice(DOMAINS, 80):
        with socket.socket() as lock:
            try:
                lock.bind(("", LOCK_PORT + number))
            except OSError:
                continue
            if not inhabited(number):
                yield number
                return
    raise RuntimeError("No ROS domain from 20 to 99 is free: end other stacks first.")


def inhabited(domain: int) -> bool:
    """Whether a process of this machine listens in a domain, for instance one whose test was killed (Linux).

    A participant opens UDP ports from 7400 + 250 * domain on (DDSI-RTPS 2.5, 9.6.1.1).
    """
    first, tables = 7400 + 250 * domain, [Path("/proc/net/udp"), Path("/proc/net/udp6")]
    lines = [line.split() for table in tables if table.exists() for line in table.read_text().splitlines()[1:]]
    return any(first <= int(words[1].rpartition(":")[2], 16) < first + 250 for words in lines)


class Process:
    """``python -m module args`` in a domain. Its output is kept; a node ends with this process, however that ends."""

    def __init__(self, module: str, *args: str, domain: int, env: dict[str, str] | None = None) -> None:
        supervised = {SUPERVISOR: str(os.getpid())} if ".nodes." in module else {}
        self.popen = subprocess.Popen(
            [sys.executable, "-m", module, *args],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, "ROS_DOMAIN_ID": str(domain), "PYTHONUNBUFFERED": "1", **supervised, **(env or {})},
            start_new_session=True,  # as with `stvla up`, and as with commands in terminals of their own
        )
        self.output = ""
        name = "-".join(["stvla", *args[:1]]) if module.endswith(".cli") else module.rpartition(".")[2]
        self.logs = Logs(lambda: {name: self.output})
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.popen.stdout is not None
        for line in self.popen.stdout:
            self.output += line

    def wait(self, timeout_s: float = 30.0) -> int:
        code = self.popen.wait(timeout_s)
        self._reader.join(5.0)
        self.logs.close()
        return code

    def said(self) -> list[str]:
        """Its lines, without the middleware's complaints about shared memory of processes that were killed."""
        return [line for line in self.output.splitlines() if "RTPS_" not in line]

    def stop(self, number: int = signal.SIGINT, timeout_s: float = 15.0) -> int:
        if self.popen.poll() is None:
            self.popen.send_signal(number)
        return self.wait(timeout_s)

    def end(self) -> None:
        """At the end of its test."""
        if self.popen.poll() is None:
            self.popen.kill()
        self.wait(10.0)


class Logs:
    """What processes have said so far, name -> text, written down if a test fails that they were part of."""

    _all: ClassVar[list[Logs]] = []

    def __init__(self, read: Callable[[], Mapping[str, str]]) -> None:
        self.read = read
        self._open = True
        self._all.append(self)

    def close(self) -> None:
        """The processes belong to no later test than the one that runs now."""
        self._open = False

    @classmethod
    def forget(cls) -> None:
        """A test has ended."""
        cls._all[:] = [logs for logs in cls._all if logs._open]

    @classmethod
    def write(cls, folder: Path, others: Path | None = None) -> str:
        """Write a file per process, and copies of the ``.log`` files below ``others``.

        Returns:
            Where they are and how each one ends; empty when there were no processes.
        """
        texts: dict[str, str] = {}
        for logs in cls._all:
            for name, text in logs.read().items():
                again = sum(re.fullmatch(rf"{re.escape(name)}(-\d+)?", known) is not None for known in texts)
                texts[f"{name}-{again + 1}" if again else name] = text
        for file in sorted(others.rglob("*.log")) if others else []:
            texts["-".join(file.relative_to(others).with_suffix("").parts)] = file.read_text(errors="replace")
        if not texts:
            return ""
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in texts.items():
            (folder / f"{name}.log").write_text(text)
        ends = (f"--- {name}\n" + "\n".join(text.splitlines()[-TAIL_LINES:]) for name, text in texts.items())
        return "\n".join([f"Whole logs: {folder}", *ends])


def keep_newest(folder: Path, number: int = RUNS_KEPT) -> None:
    """Remove all but the newest runs; their names begin with their time."""
    for old in sorted(folder.iterdir())[:-number] if folder.is_dir() else []:
        shutil.rmtree(old, ignore_errors=True)
