"""A process of its own for a library that may block its interpreter: see ``calls.py`` for what runs in it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, Self

import pytest
import stalls

LOST = "UDP receive: Timeout"
"""What libfranka throws when no state came for a second of wall time."""


class Child:
    """Runs functions of a program in this folder, one at a time.

    Args:
        program: Its file name; it ends with ``calls.serve(globals())``.
    """

    def __init__(self, program: str) -> None:
        path = str(Path(__file__).with_name(program))
        pipe = subprocess.PIPE
        self.process = subprocess.Popen([sys.executable, path], stdin=pipe, stdout=pipe, text=True, bufsize=1)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()

    def start(self, function: str, **arguments: Any) -> None:
        """Begin a call; :meth:`result` waits for its end."""
        assert self.process.stdin is not None
        self._stalled_s = stalls.stalled_s()
        self.process.stdin.write(json.dumps([function, arguments]) + "\n")

    def result(self) -> Any:
        """What the call returned. Raises AssertionError with the child's exception.

        A test cannot go on on a machine that stood still for longer than libfranka waits.
        """
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if LOST in line and (stalled_s := stalls.stalled_s() - self._stalled_s) > 0.5:
            pytest.skip(f"libfranka gave up on a machine that stood still for {stalled_s:.1f} s")
        assert line, f"the child has ended with {self.process.wait()}"
        done, value = json.loads(line)
        assert done, value
        return value

    def call(self, function: str, **arguments: Any) -> Any:
        """Both."""
        self.start(function, **arguments)
        return self.result()
