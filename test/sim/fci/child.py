"""A process of its own for a library that may block its interpreter: calls go in as JSON lines, results come back so."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, Self


class Child:
    """Runs functions of a program in this folder, one at a time.

    Args:
        program: Its file name; it ends with ``child.serve(globals())``.
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
        self.process.stdin.write(json.dumps([function, arguments]) + "\n")

    def result(self) -> Any:
        """What the call returned. Raises AssertionError with the child's exception."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, f"the child has ended with {self.process.wait()}"
        done, value = json.loads(line)
        assert done, value
        return value

    def call(self, function: str, **arguments: Any) -> Any:
        """Both."""
        self.start(function, **arguments)
        return self.result()


def serve(functions: dict[str, Any]) -> None:
    """In the child: answer calls until the parent ends."""
    out, sys.stdout = sys.stdout, sys.stderr
    for line in sys.stdin:
        name, arguments = json.loads(line)
        try:
            answer = (True, functions[name](**arguments))
        except Exception as error:  # whatever it is, the parent gets it  # noqa: BLE001
            answer = (False, f"{type(error).__name__}: {error}")
        print(json.dumps(answer), file=out, flush=True)
