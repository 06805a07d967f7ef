"""Replays that people at the console ask for."""

from __future__ import annotations

import os
import queue
import re
import shutil
import sys
import threading
import time
from pathlib import Path

import pytest
import stalls

from stvla_ros.console import replaying
from stvla_ros.console.replaying import Replays
from stvla_ros.console.runs import PastRun, Runs

BAGS = Path(__file__).parents[1] / "replay" / "bags"
SLEEPS = (sys.executable, "-c", "import time; print('begun', flush=True); time.sleep(600)")


class Told:
    """What a replay says."""

    def __init__(self) -> None:
        self.before: list[str] = []
        self._end: queue.Queue[str] = queue.Queue()

    def __call__(self, said: str, ended: bool) -> None:
        self._end.put(said) if ended else self.before.append(said)

    def end(self) -> str:
        return self._end.get(timeout=240.0)


@pytest.mark.usefixtures("prompt")
def test_a_recording_is_replayed(tmp_path: Path) -> None:
    folder = tmp_path / "push"
    shutil.copytree(BAGS / "push_buttons", folder)
    told = Told()
    replays = Replays()
    assert replays.start(folder, told)
    answer = told.end()
    assert "report.html" in answer, answer
    assert any(re.search(r"(messages|decisions): \d+ of \d+$", said) for said in told.before), told.before
    report = Runs(tmp_path).report(PastRun(folder, "Push.", "OK", "", None, True))
    assert report is not None
    assert "data:image/webp" in report, "with pictures"
    assert replays.start(folder, told), "the next one may begin"
    replays.close()


@pytest.mark.usefixtures("prompt")
def test_what_is_no_recording_is_said(tmp_path: Path) -> None:
    told = Told()
    assert Replays().start(tmp_path, told)
    assert str(tmp_path) in told.end()


def test_one_at_a_time_which_ends_with_the_page(tmp_path: Path) -> None:
    ended = threading.Event()
    replays = Replays(SLEEPS)
    assert replays.start(tmp_path, lambda _, end: ended.set() if end else None)
    process = replays._process
    assert process is not None
    assert not replays.start(tmp_path, lambda *_: None)
    if hasattr(os, "SCHED_IDLE"):
        assert os.sched_getscheduler(process.pid) == os.SCHED_IDLE
    replays.close()
    assert ended.wait(10.0)
    assert process.returncode is not None
    assert not replays.start(tmp_path, lambda *_: None)


@pytest.mark.usefixtures("prompt")
def test_only_the_end_of_what_it_says_is_kept(tmp_path: Path) -> None:
    told = Told()
    noisy = (sys.executable, "-c", "print('x' * 100_000); print('the end')")
    assert Replays(noisy).start(tmp_path, told)
    answer = told.end()
    assert answer.endswith("the end")
    assert len(answer) <= 2000


@pytest.mark.parametrize("stubborn", [False, True])
def test_one_that_is_ended(tmp_path: Path, stubborn: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replaying, "END_S", 0.5)
    deaf = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); " if stubborn else ""
    told, replays = Told(), Replays((*SLEEPS[:2], deaf + SLEEPS[2]))
    assert not replays.end(), "there is none"
    assert replays.start(tmp_path, told)
    until = stalls.clock() + 60.0
    while told.before != ["begun"]:
        assert stalls.clock() < until
        time.sleep(0.01)
    assert replays.end()
    assert told.end() == "begun\n\nThe replay was ended."
    assert replays.start(tmp_path, told), "the next one may begin"
    replays.close()


def test_one_that_cannot_be_started(tmp_path: Path) -> None:
    replays = Replays((str(tmp_path / "nothing"),))
    for _ in range(2):  # it is not under way
        with pytest.raises(FileNotFoundError):
            replays.start(tmp_path, print)
