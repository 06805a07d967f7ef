"""Replays of recordings for the console: `stvla replay` in a process that gets only what the stack leaves."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from stvla_ros.priority import run_when_idle

COMMAND = (sys.executable, "-m", "stvla_ros.cli", "replay")

CHARS = 2000
"""Of what a replay says, its end is shown."""

TELL_S = 0.5
"""What it says is told at most so often while it runs."""

END_S = 5.0
"""A replay that is told to end gets this long, then it is killed."""


class Replays:
    """One replay at a time, whoever asks. Thread safe.

    Args:
        command: Gets the recording's folder as its last word.
    """

    def __init__(self, command: Sequence[str] = COMMAND) -> None:
        self._command = tuple(command)
        self._lock = threading.Lock()
        self._process: subprocess.Popen[str] | None = None
        self._closed = self._ended = False

    def start(self, folder: Path, tell: Callable[[str, bool], None]) -> bool:
        """Begin to replay a recording; False if another replay is under way.

        Args:
            folder: Of the recording.
            tell: Gets what the replay says, and whether it has ended, in a thread.

        Raises:
            OSError: It cannot be started.
        """
        with self._lock:
            if self._closed or self._process is not None:
                return False
            process = subprocess.Popen(
                [*self._command, str(folder)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                env={**os.environ, "COLUMNS": "120"},
                start_new_session=True,
            )
            run_when_idle(process.pid)  # the stack needs the cores
            self._process, self._ended = process, False
        threading.Thread(target=self._wait, args=(process, tell), name="replay", daemon=True).start()
        return True

    def _wait(self, process: subprocess.Popen[str], tell: Callable[[str, bool], None]) -> None:
        assert process.stdout is not None
        said, due = "", 0.0
        for line in process.stdout:
            said = (said + line)[-CHARS:]
            if (now := time.monotonic()) >= due:
                due = now + TELL_S
                tell(said.strip(), False)
        process.wait()
        with self._lock:
            self._process, ended = None, self._ended
        if ended:
            said = f"{said}\nThe replay was ended."
        tell(said.strip() or f"The replay ended with exit code {process.returncode} and said nothing.", True)

    def end(self) -> bool:
        """End the replay that is under way; False if there is none."""
        with self._lock:
            process, self._ended = self._process, self._process is not None
        if process is None:
            return False
        process.terminate()
        try:
            process.wait(END_S)
        except subprocess.TimeoutExpired:
            process.kill()
        return True

    def close(self) -> None:
        """End the replay that is under way, and begin no more."""
        with self._lock:
            self._closed = True
        self.end()
