"""Which processes of the stack go first when the machine is full.

Niceness alone does not say it: where Linux groups processes by session (``kernel.sched_autogroup_enabled``, on in many
distributions), it counts only within a session, and all sessions share the processors alike, however many programs one
has and however nice they are (man 7 sched, "The autogroup feature"). So each node is a session of its own, which other
programs cannot hold up, and what gives way lowers its session too.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from pathlib import Path

NICER = 10
"""Added to the niceness of what gives way; subtracted from that of robots if it is permitted (root, or limits.conf)."""

LAST = 19
"""The niceness of what gets only what is left."""

SWITCH_S = 0.001
"""Python's switch interval: a thread that computes lets the others run after this time."""


def raise_priority() -> int:
    """Give this process priority, and the threads and processes that it starts from now on, as controllers have on a
    robot. Returns how much the niceness was lowered, or 0."""
    sys.setswitchinterval(SWITCH_S)
    try:
        os.nice(-NICER)
    except PermissionError:
        return 0
    _renice_session(os.getpid(), -NICER)
    return NICER


def lower_priority(by: int = NICER) -> None:
    """Let this process give way to others: the threads and processes too that it starts from now on."""
    _renice_session(os.getpid(), os.nice(by))


def run_when_idle(pid: int) -> None:
    """Let another process run only when nobody else wants to, where the system can (Linux)."""
    with suppress(OSError, AttributeError):
        os.sched_setscheduler(pid, os.SCHED_IDLE, os.sched_param(0))
        _renice_session(pid, LAST)


def _renice_session(pid: int, niceness: int) -> None:
    """Set the niceness of a process's session among the others if the process leads it: other people's stay as they are."""
    with suppress(OSError):
        if os.getsid(pid) == pid:
            Path(f"/proc/{pid}/autogroup").write_text(str(niceness))
