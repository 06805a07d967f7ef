"""Priority of the processes that control a robot over those that compute."""

from __future__ import annotations

import os
import sys

NICER = 10
"""Subtracted from the process's niceness if that is permitted (root, or a limit in limits.conf)."""

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
    return NICER
