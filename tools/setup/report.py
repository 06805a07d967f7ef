"""What the user sees while the set-up works."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path


class SetupError(Exception):
    """The set-up cannot go on; the message is one sentence that says what to do."""


@contextmanager
def step(title: str, hint: str = "") -> Iterator[None]:
    """Announce a step with a hint how long it may take, and say how long it took."""
    print(f"set-up: {title} ...{hint and f' ({hint})'}", flush=True)
    start = time.monotonic()
    yield
    print(f"set-up: {title}: done in {time.monotonic() - start:.0f} s", flush=True)


def tell(text: str) -> None:
    """A line that a terminal overwrites; elsewhere it is not printed."""
    if sys.stdout.isatty():
        print(f"\r\033[K  {text[:100]}", end="", flush=True)


def run(
    command: Sequence[str | Path],
    log: Path,
    failure: str,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    watch: Callable[[str], None] = lambda _: None,
) -> None:
    """Run a command with its output in a log file.

    Args:
        command: Program and arguments.
        log: Gets all output.
        failure: Sentence for the user when the command fails; its last lines follow.
        env: Environment.
        cwd: Folder to run in.
        watch: Sees every line of output.

    Raises:
        SetupError: The command failed.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with (
        log.open("w", errors="replace") as sink,
        subprocess.Popen(
            [str(word) for word in command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            env=env,
            cwd=cwd,
        ) as process,
    ):
        assert process.stdout is not None
        for line in process.stdout:
            sink.write(line)
            watch(line)
    tell("")
    if process.returncode:
        lines = log.read_text(errors="replace").splitlines()
        errors = [line for line in lines if "error" in line.lower()] or lines
        print("\n".join(f"  | {line}" for line in errors[-10:]), file=sys.stderr)
        raise SetupError(f"{failure} The whole output: {log}")
