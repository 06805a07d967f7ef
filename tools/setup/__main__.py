"""Sets up the environment: system packages, wheels, ROS interfaces, the stvla command.

Steps that are done are skipped, so that a second run takes a moment; an interrupted one is taken up again.
Run it through ``make setup``.
"""

from __future__ import annotations

import fcntl
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import machine
import overlay
import wheels
from environment import Environment
from report import SetupError

ROOT = Path(__file__).resolve().parents[2]


def main() -> int:
    """Run all steps; the exit code."""
    venv = ROOT / ".venv"
    try:
        machine.check(ROOT, fresh=not venv.exists())
        with _alone():
            machine.install_packages()
            wheels.make(ROOT, venv)
            environment = Environment(ROOT, venv)
            environment.write()
            wheels.add_learned(ROOT, venv)
            interfaces = overlay.build_interfaces(ROOT, venv, environment)
            overlay.build_package(ROOT, venv, environment, interfaces)
    except SetupError as error:
        print(f"set-up: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nset-up: interrupted; the next run takes it up again.", file=sys.stderr)
        return 130
    return 0


@contextmanager
def _alone() -> Iterator[None]:
    """Wait for another set-up of this checkout to end."""
    (ROOT / ".cache").mkdir(exist_ok=True)
    with (ROOT / ".cache" / "setup.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("set-up: another set-up of this checkout is at work; waiting for it.", flush=True)
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


if __name__ == "__main__":
    sys.exit(main())
