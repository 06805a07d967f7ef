"""Finds two times in what was heard around a fault: when the stack noticed it, and when the arm stood. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from stvla_ros.errors import OutcomeCode

STILL_RAD_S = 0.01

ENDINGS = {3: "is being canceled", 5: "was canceled", 6: "was aborted"}
"""Status of an action's goal (action_msgs/GoalStatus) of a goal that ends before its time."""

SPEAKERS = ("task", "executor")
"""Nodes whose log reports a loss."""

_TROUBLE = re.compile(
    r"\[(WARN|ERROR|FATAL)\]|\b(" + "|".join(code.name for code in OutcomeCode if code is not OutcomeCode.OK) + r")\b"
)

Line = tuple[float, str, str]
"""Time of arrival [s, monotonic], process, text."""


def noticed(
    since: float,
    lines: Iterable[Line],
    statuses: Iterable[Mapping[str, Any]],
    ended: float | None,
    deaf: Sequence[str] = (),
) -> tuple[float | None, str]:
    """When the stack first showed, after ``since``, that it knows of a fault, and by what.

    It is the earliest of: a goal of the task, the executor, the arm or the gripper that is being or was canceled, or
    was aborted; a line with a warning, an error or the code of a failure in the log of task or executor; the client's
    end.

    Args:
        since: The fault, as all times: seconds of the monotonic clock.
        lines: Output of the stack.
        statuses: Changes of goals: ``at``, ``action``, ``status``, ``goal``.
        ended: When the client had the end; None when it had none, or a success.
        deaf: Nodes whose log does not count: one that was killed says, when it is back, what any new one says.
    """
    found = [(ended, "the client")] if ended is not None else []
    found += [
        (s["at"], f"{s['action']} {ENDINGS[s['status']]}")
        for s in statuses
        if s["at"] > since and s["status"] in ENDINGS
    ]
    found += [
        (at, f"log of {name}")
        for at, name, text in lines
        if at > since and name in SPEAKERS and name not in deaf and "RTPS_" not in text and _TROUBLE.search(text)
    ]
    return min(found, default=(None, ""))


def moved(since: float, joints: Iterable[tuple[float, float]]) -> list[float]:
    """Times, after ``since``, of joint states (arrival, largest speed in rad/s) that show motion."""
    return [at for at, speed in joints if at > since and speed >= STILL_RAD_S]
