"""One goal on an action server, for code that waits in a thread of its own."""

from __future__ import annotations

from threading import Event, Lock
from typing import Any

from action_msgs.msg import GoalStatus
from rclpy.action import ActionClient
from rclpy.task import Future


class ActionCall:
    """Sends a goal at once. Cancel works at any moment, also before the server has accepted.

    Attributes:
        accepted: None until the server has answered.
        status: A constant of ``action_msgs/msg/GoalStatus``; set when done.
        result: The action's result; None when the goal was rejected.
    """

    def __init__(self, client: ActionClient, goal: Any) -> None:
        self._lock, self._done = Lock(), Event()
        self._handle: Any = None
        self._cancel = False
        self.accepted: bool | None = None
        self.status = GoalStatus.STATUS_UNKNOWN
        self.result: Any = None
        client.send_goal_async(goal).add_done_callback(self._answered)

    def cancel(self) -> None:
        """Ask the server to cancel; returns at once."""
        with self._lock:
            self._cancel = True
            handle = self._handle
        if handle is not None:
            handle.cancel_goal_async()

    def wait(self, timeout_s: float) -> bool:
        """Wait for the end of the goal; False when the time passed first."""
        return self._done.wait(timeout_s)

    def _answered(self, future: Future) -> None:
        handle = future.result()
        self.accepted = handle.accepted
        if not handle.accepted:
            self._done.set()
            return
        with self._lock:
            self._handle = handle
            cancel = self._cancel
        handle.get_result_async().add_done_callback(self._ended)
        if cancel:
            handle.cancel_goal_async()

    def _ended(self, future: Future) -> None:
        answer = future.result()
        self.status, self.result = answer.status, answer.result
        self._done.set()
