"""What all tests share: where the benchmarks are, and how workers (``pytest -n``) share the tests."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))  # the benchmarks stand beside ``src`` and are not installed

if "PYTEST_XDIST_WORKER" in os.environ:  # as many workers as cores, so one thread for each; read when numpy is imported
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

for number, usual in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
    if (
        signal.getsignal(number) is signal.SIG_IGN
    ):  # by nohup, or by a shell for its jobs; every child would ignore it too
        signal.signal(number, usual)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Pure tests on all workers, then those of the running stack; with ``--dist`` the order is xdist's own."""
    from phases import PureThenSystem

    return PureThenSystem(config, log) if config.getoption("dist") == "load" else None
