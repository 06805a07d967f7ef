"""The server's end of the actions of a robot's controllers, whose results carry no outcome of ours.

As everywhere in the stack, the node's executor thread only carries messages; the work is done, and waited for, in
other threads.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from threading import Thread
from typing import Any, TypeAlias

from rclpy.action import ActionServer, CancelResponse, GoalResponse
from rclpy.action.server import ServerGoalHandle
from rclpy.node import Node


class End(Enum):
    """How a goal ends."""

    SUCCEEDED = "succeed"
    CANCELED = "canceled"
    ABORTED = "abort"


Work: TypeAlias = Callable[[ServerGoalHandle], tuple[End, Any]]
"""Carries out a goal; ``handle.is_cancel_requested`` tells of a cancel. Returns its end and the Result message."""


class ControllerServer(ActionServer):
    """An action server that carries out each goal in a thread of its own, as controllers do.

    Args:
        node: Its executor must spin; one thread is enough.
        action_type: The action.
        name: Its name.
        admit: Says in a sentence why a goal is rejected; None accepts it.
        work: Carries out a goal. Several may run for a moment when a new goal replaces an old one.
    """

    def __init__(self, node: Node, action_type: Any, name: str, admit: Callable[[Any], str | None], work: Work) -> None:
        self._owner, self._result, self._admit, self._work = node, action_type.Result, admit, work
        super().__init__(
            node,
            action_type,
            name,
            execute_callback=lambda _: None,
            goal_callback=self._decide,
            cancel_callback=lambda _: CancelResponse.ACCEPT,
        )

    def _decide(self, goal: Any) -> GoalResponse:
        if refusal := self._admit(goal):
            self._owner.get_logger().error(refusal)
            return GoalResponse.REJECT
        return GoalResponse.ACCEPT

    def notify_execute(self, goal_handle: ServerGoalHandle, execute_callback: Any) -> None:
        """Called in the executor's thread when a goal has become EXECUTING."""
        Thread(target=self._carry_out, args=(goal_handle,), daemon=True).start()

    def _carry_out(self, handle: ServerGoalHandle) -> None:
        end, result = End.ABORTED, self._result()

        def finish(handle: ServerGoalHandle) -> Any:
            getattr(handle, end.value)()
            return result

        try:
            end, result = self._work(handle)
        finally:  # also after a defect, whose traceback goes to the log: the client gets an answer
            super().notify_execute(handle, finish)
