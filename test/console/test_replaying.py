"""Replays that people at the console ask for."""

from __future__ import annotations

import os
import queue
import shutil
import sys
import threading
from pathlib import Path

import pytest

from stvla_ros.console.replaying import Replays

BAGS = Path(__file__).parents[1] / "replay" / "bags"
SLEEPS = (sys.executable, "-c", "import time; print('begun', flush=True); time.sleep(600)")


@pytest.mark.usefixtures("prompt")
def test_a_recording_is_replayed(tmp_path: Path) -> None:
    folder = tmp_path / "push"
    shutil.copytree(BAGS / "push_buttons", folder)
    said: queue.Queue[str] = queue.Queue()
    replays = Replays()
    assert replays.start(folder, said.put)
    answer = said.get(timeout=240.0)
    assert "report.html" in answer, answer
    assert (folder / "replay" / "report.html").is_file()
    assert replays.start(folder, said.put), "the next one may begin"
    replays.close()


@pytest.mark.usefixtures("prompt")
def test_what_is_no_recording_is_said(tmp_path: Path) -> None:
    said: queue.Queue[str] = queue.Queue()
    assert Replays().start(tmp_path, said.put)
    assert str(tmp_path) in said.get(timeout=240.0)


def test_one_at_a_time_which_ends_with_the_page(tmp_path: Path) -> None:
    ended = threading.Event()
    replays = Replays(SLEEPS)
    assert replays.start(tmp_path, lambda _: ended.set())
    process = replays._process
    assert process is not None
    assert not replays.start(tmp_path, lambda _: None)
    if hasattr(os, "SCHED_IDLE"):
        assert os.sched_getscheduler(process.pid) == os.SCHED_IDLE
    replays.close()
    assert ended.wait(10.0)
    assert process.returncode is not None
    assert not replays.start(tmp_path, lambda _: None)


@pytest.mark.usefixtures("prompt")
def test_only_the_end_of_what_it_says_is_kept(tmp_path: Path) -> None:
    said: queue.Queue[str] = queue.Queue()
    noisy = (sys.executable, "-c", "print('x' * 100_000); print('the end')")
    assert Replays(noisy).start(tmp_path, said.put)
    answer = said.get(timeout=240.0)
    assert answer.endswith("the end")
    assert len(answer) <= 2000


def test_one_that_cannot_be_started(tmp_path: Path) -> None:
    replays = Replays((str(tmp_path / "nothing"),))
    for _ in range(2):  # it is not under way
        with pytest.raises(FileNotFoundError):
            replays.start(tmp_path, print)
