"""What all tests share: where the benchmarks are, and how workers (``pytest -n``) share the tests."""

from __future__ import annotations

import gc
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

sys.dont_write_bytecode = False  # a run starts hundreds of Pythons; each would compile the sources again, and each
os.environ.pop(
    "PYTHONDONTWRITEBYTECODE", None
)  # worker would rewrite the assertions of all tests (half its collection)

for number, usual in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
    if (
        signal.getsignal(number) is signal.SIG_IGN
    ):  # by nohup, or by a shell for its jobs; every child would ignore it too
        signal.signal(number, usual)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """One worker for the tests of the running stack, the others for pure ones; with ``--dist`` the order is xdist's own."""
    from phases import SystemBesidePure

    return SystemBesidePure(config, log) if config.getoption("dist") == "load" else None


def pytest_collection_finish() -> None:
    """What thousands of collected tests consist of stays: looking through it for garbage takes half a second, and longer on
    busy processors, in which a node of a test answers nobody."""
    gc.collect()
    gc.freeze()


def pytest_runtest_teardown() -> None:
    """A command under test may choose threads for PyTorch. Kept, they would spin for each other in every later test: ten
    times its processor time beside other work was seen."""
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS") or os.cpu_count() or 1))


def pytest_runtest_setup(item: pytest.Item) -> None:
    """A pure test leaves the processors to those of the running stack beside it."""
    from phases import may_wait, step_back

    if "PYTEST_XDIST_WORKER" in os.environ and may_wait(item.nodeid):
        step_back()
