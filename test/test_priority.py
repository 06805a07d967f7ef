"""Priorities of processes, and of their sessions where Linux groups processes by session."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from stvla_ros.priority import run_when_idle

WAITS = "import sys; print('ready', flush=True); sys.stdin.read()"
LOWERS = f"from stvla_ros.priority import lower_priority; lower_priority(7); {WAITS}"
RAISES = f"from stvla_ros.priority import raise_priority; raise_priority(); {WAITS}"
GROUPED = Path("/proc/self/autogroup").exists()


@contextmanager
def process(code: str, session: bool) -> Iterator[int]:
    """The id of a process that has run ``code``, as the leader of a session or in this one's."""
    command = [sys.executable, "-c", code]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, start_new_session=session) as started:
        assert started.stdout is not None
        assert started.stdout.readline() == b"ready\n"
        try:
            yield started.pid
        finally:
            os.kill(started.pid, signal.SIGKILL)


def session_s_niceness(pid: int) -> int:
    return int(Path(f"/proc/{pid}/autogroup").read_text().split()[-1])


@pytest.mark.skipif(not GROUPED, reason="this kernel groups no processes by session")
def test_a_session_s_leader_takes_its_session_along() -> None:
    mine = os.getpriority(os.PRIO_PROCESS, 0)
    with process(LOWERS, session=True) as pid:
        assert os.getpriority(os.PRIO_PROCESS, pid) == session_s_niceness(pid) == min(mine + 7, 19)
    with process(WAITS, session=True) as pid:
        assert session_s_niceness(pid) == 0
        run_when_idle(pid)
        assert os.sched_getscheduler(pid) == os.SCHED_IDLE
        assert session_s_niceness(pid) == 19
    if os.geteuid() == 0:
        with process(RAISES, session=True) as pid:
            assert os.getpriority(os.PRIO_PROCESS, pid) == mine - 10
            assert session_s_niceness(pid) == -10


@pytest.mark.skipif(not GROUPED, reason="this kernel groups no processes by session")
def test_other_people_s_session_stays_as_it_is() -> None:
    before = session_s_niceness(os.getpid())
    for code in (LOWERS, RAISES):
        with process(code, session=False) as pid:
            assert session_s_niceness(pid) == before
            run_when_idle(pid)
            assert session_s_niceness(pid) == before


def test_what_has_ended_needs_no_priority() -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    run_when_idle(ended.pid)


def test_no_thread_of_a_process_has_a_priority_of_its_own() -> None:
    """One of lower priority holds Python's lock while it waits for a core, and every other thread waits with it."""
    sources = [*(Path(__file__).parents[1] / "src" / "stvla_ros").rglob("*.py")]
    assert len(sources) > 300
    assert [file.name for file in sources if "get_native_id" in file.read_text()] == []
