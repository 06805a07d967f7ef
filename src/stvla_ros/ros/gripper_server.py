"""The action ``gripper_action`` of a gripper, with the behaviour of franka_gripper.

``command.position`` is half the opening in metres. A goal ends SUCCEEDED when the fingers have reached their target
(``reached_goal``) or hold something (``stalled``). A new goal replaces the running one, which ends ABORTED.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from threading import Lock
from typing import Protocol

from control_msgs.action import GripperCommand
from rclpy.node import Node

from stvla_ros.ros.controller_server import ControllerGoal, ControllerServer, TerminalState

POLL_S = FEEDBACK_S = 0.02
MAX_POSITION_M = 0.04
REACHED_M = 0.001
"""Half openings closer than this count as equal."""

STALLED_M_S = 0.002
STALLED_FOR_S = 0.1
"""Fingers that are slower than STALLED_M_S for this long have stopped."""

TIMEOUT_S = 4.0


class Gripper(Protocol):
    """A gripper that the action server moves. All methods are thread safe and return at once."""

    def width_m(self) -> float:
        """Current distance between the fingers."""
        ...

    def move(self, width_m: float, force_n: float) -> None:
        """Move to a width, and press with at most this force."""
        ...


@dataclass
class _Rest:
    """Detects when the fingers have stopped."""

    width_m: float
    since_s: float

    def update(self, width_m: float) -> bool:
        now = time.monotonic()
        if abs(width_m - self.width_m) > 2 * STALLED_M_S * STALLED_FOR_S:
            self.width_m, self.since_s = width_m, now
        return now - self.since_s > STALLED_FOR_S


class GripperServer:
    """Offers a :class:`Gripper` as GripperCommand action.

    Args:
        node: Owner of the action server.
        action: Name of the action.
        gripper: The gripper.
        halt: Stops the fingers of a gripper that can; otherwise they are sent where they are.
        ended: Whether the newest move has ended, as the gripper itself says it: None while it has not, False after a
            failure. Without it the fingers tell, by their rest.
    """

    def __init__(
        self,
        node: Node,
        action: str,
        gripper: Gripper,
        halt: Callable[[], None] | None = None,
        ended: Callable[[], bool | None] | None = None,
    ) -> None:
        self._gripper, self._halt, self._ended = gripper, halt, ended
        self._lock, self._newest = Lock(), 0
        self._server = ControllerServer(node, GripperCommand, action, _refusal, self._execute)

    def _execute(self, goal: ControllerGoal) -> tuple[TerminalState, GripperCommand.Result]:
        command = goal.request.command
        with self._lock:
            self._newest += 1
            number = self._newest
            self._gripper.move(2 * command.position, command.max_effort)

        def halt() -> None:
            with self._lock:
                if number != self._newest:
                    return
                if self._halt is not None:
                    self._halt()
                else:
                    self._gripper.move(self._gripper.width_m(), command.max_effort)

        goal.on_cancel(halt)
        with goal.publishing_feedback(
            FEEDBACK_S, lambda: GripperCommand.Feedback(position=self._gripper.width_m() / 2)
        ):
            reached, stalled = self._watch(goal, command.position, lambda: number != self._newest)
        goal.on_cancel(None)  # fingers that hold something keep pressing
        result = GripperCommand.Result(
            position=self._gripper.width_m() / 2, effort=command.max_effort, stalled=stalled, reached_goal=reached
        )
        if reached or stalled:
            return TerminalState.SUCCEEDED, result
        return TerminalState.CANCELED if goal.canceled.is_set() else TerminalState.ABORTED, result

    def _watch(self, goal: ControllerGoal, goal_m: float, replaced: Callable[[], bool]) -> tuple[bool, bool]:
        """Wait for the end of the motion. Returns (reached, stalled); both False when it ended otherwise."""
        until = time.monotonic() + TIMEOUT_S
        rest = _Rest(self._gripper.width_m(), time.monotonic())
        while time.monotonic() < until and not replaced():
            width = self._gripper.width_m()
            reached = bool(abs(width / 2 - goal_m) < REACHED_M)  # no NumPy bool: the middleware aborts on it
            if self._ended is not None:
                ended = self._ended()
                if ended is not None:
                    return ended and reached, ended and not reached
            elif reached or rest.update(width):
                return reached, not reached
            if goal.canceled.wait(POLL_S):
                break
        return False, False


def _refusal(goal: GripperCommand.Goal) -> str | None:
    position, effort = goal.command.position, goal.command.max_effort
    if 0.0 <= position <= MAX_POSITION_M and math.isfinite(effort) and effort >= 0.0:
        return None
    return (
        f"Gripper goal rejected: wanted half an opening of 0 to {MAX_POSITION_M} m and an effort of 0 N or more, "
        f"got {position} m and {effort} N."
    )
