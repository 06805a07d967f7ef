"""How long this machine lets ready work wait, measured while a test runs: the allowance of bounds on wall time.

    start = stalls.clock()
    ...
    assert stalls.clock() - start < 1.0

A sleeper in a process of its own notes by how much longer than asked it sleeps. It shares nothing with the test but the
machine: what the code under test holds up itself (the interpreter's lock, a lock of its own) is not excused.
"""

from __future__ import annotations

import atexit
import mmap
import os
import struct
import subprocess
import sys
import tempfile
import time
from concurrent.futures import Future
from functools import cache
from typing import TypeVar

T = TypeVar("T")

PERIOD_S = 0.005
_newest = 0.0
PROGRAM = """
import mmap, os, struct, sys, time
period, parent = float(sys.argv[2]), int(sys.argv[3])
with open(sys.argv[1], "r+b") as file:
    shared = mmap.mmap(file.fileno(), 16)
stalled, before = 0.0, time.monotonic()
while os.getppid() == parent:
    shared[:] = struct.pack("dd", stalled, before)
    time.sleep(period)
    now = time.monotonic()
    stalled, before = stalled + max(0.0, now - before - period), now
"""


class Sleeper:
    """The process that sleeps, and what it has noted."""

    def __init__(self) -> None:
        with tempfile.NamedTemporaryFile() as file:
            file.write(bytes(16))
            file.flush()
            self._shared = mmap.mmap(file.fileno(), 16)
            command = [sys.executable, "-I", "-S", "-c", PROGRAM, file.name, str(PERIOD_S), str(os.getpid())]
            self._process = subprocess.Popen(command, env={})
            while self._read()[1] == 0.0:
                assert self._process.poll() is None
                time.sleep(PERIOD_S)
        atexit.register(self._process.kill)

    def stalled_s(self) -> float:
        """Sum of all time overslept so far, the sleep of this moment included."""
        stalled_s, before = self._read()
        return stalled_s + max(0.0, time.monotonic() - before - PERIOD_S)

    def _read(self) -> tuple[float, float]:
        return struct.unpack("dd", self._shared[:])


@cache
def _sleeper() -> Sleeper:
    """One per process of tests, started when first needed."""
    return Sleeper()


def stalled_s() -> float:
    """Time that this machine has let a sleeper wait, since the first call in this process [s]."""
    return _sleeper().stalled_s()


def clock() -> float:
    """As ``time.monotonic``, but it stands still while the machine stalls [s]. A stall that is noted late does not set it
    back."""
    global _newest
    stalled = stalled_s()
    _newest = max(_newest, time.monotonic() - stalled)
    return _newest


def pause(seconds: float) -> None:
    """Sleep until the clock has gone on so far: time for others to do what they must do meanwhile."""
    end = clock() + seconds
    while (left := end - clock()) > 0.0:
        time.sleep(left)


def wait_for(future: Future[T], within_s: float) -> Future[T]:
    """Sleep until a future is done, which must be so before the clock has gone on for so long."""
    end = clock() + within_s
    while not future.done():
        assert clock() < end, f"not done within {within_s:g} s, the machine's stalls left out"
        time.sleep(0.005)
    return future
