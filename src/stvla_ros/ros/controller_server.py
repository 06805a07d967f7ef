"""Action servers of the simulated robot's controllers, whose results have no ``stvla_msgs/Outcome``.

As everywhere in the stack, the node's executor thread only carries messages; the work runs in other threads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from enum import Enum
from threading import Event, Lock, Thread
from typing import Any, TypeAlias

from rclpy._rclpy_pybind11 import InvalidHandle, RCLError
from rclpy.action import CancelResponse, GoalResponse
from rclpy.action.server import ServerGoalHandle
from rclpy.node import Node

from stvla_ros.ros.action_server import DeferredServer


class TerminalState(Enum):
    """How a goal ends."""

    SUCCEEDED = "succeed"
    CANCELED = "canceled"
    ABORTED = "abort"


class ControllerGoal:
    """One accepted goal, as the code that works on it sees it. Thread safe.

    Attributes:
        request: The action's Goal message.
        canceled: Set as soon as a client requests a cancel.
    """

    def __init__(self, handle: ServerGoalHandle) -> None:
        self.request = handle.request
        self.canceled = Event()
        self._handle, self._lock = handle, Lock()
        self._act: Callable[[], None] | None = None

    def on_cancel(self, act: Callable[[], None] | None) -> None:
        """Set what a cancel does, in the callback of the request, or now after an earlier one; None: nothing."""
        with self._lock:
            self._act = act
            if act is not None and self.canceled.is_set():
                act()

    def cancel(self) -> None:
        """A client requests a cancel."""
        with self._lock:
            self.canceled.set()
            if self._act is not None:
                self._act()

    @contextmanager
    def publishing_feedback(self, period_s: float, feedback: Callable[[], Any]) -> Iterator[None]:
        """Publish feedback from a separate thread while the context is open, so that the work never waits for it."""
        over = Event()

        def publish() -> None:
            with suppress(InvalidHandle, RCLError):  # the node has ended
                while not over.wait(period_s):
                    self._handle.publish_feedback(feedback())

        thread = Thread(target=publish, name="feedback", daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join(period_s)


Work: TypeAlias = Callable[[ControllerGoal], tuple[TerminalState, Any]]
"""Works on a goal; returns its terminal state and the Result message."""


class ControllerServer:
    """An action server that runs each goal in a thread of its own, as controllers do.

    Args:
        node: Its executor must spin; one thread is enough.
        action_type: The action.
        name: Its name.
        admit: Returns a sentence that says why a goal is rejected; None accepts it.
        work: Works on a goal. Several may run for a moment when a new goal replaces an old one.
    """

    def __init__(self, node: Node, action_type: Any, name: str, admit: Callable[[Any], str | None], work: Work) -> None:
        self._owner, self._result, self._admit, self._work = node, action_type.Result, admit, work
        self._goals: dict[bytes, ControllerGoal] = {}
        self._server = DeferredServer(
            node, action_type, name, self._begin, goal_callback=self._decide, cancel_callback=self._cancel
        )

    def _decide(self, goal: Any) -> GoalResponse:
        if refusal := self._admit(goal):
            self._owner.get_logger().error(refusal)
            return GoalResponse.REJECT
        return GoalResponse.ACCEPT

    def _cancel(self, handle: ServerGoalHandle) -> CancelResponse:
        if (goal := self._goals.get(_id(handle))) is not None:
            goal.cancel()
        return CancelResponse.ACCEPT

    def _begin(self, handle: ServerGoalHandle) -> None:
        goal = self._goals[_id(handle)] = ControllerGoal(handle)
        Thread(target=self._carry_out, args=(handle, goal), daemon=True).start()

    def _carry_out(self, handle: ServerGoalHandle, goal: ControllerGoal) -> None:
        end, result = TerminalState.ABORTED, self._result()

        def finish(handle: ServerGoalHandle) -> Any:
            self._goals.pop(_id(handle), None)
            getattr(handle, end.value)()
            return result

        try:
            end, result = self._work(goal)
        finally:  # after a defect too, whose traceback goes to the log: the client gets an answer
            self._server.finish(handle, finish)


def _id(handle: ServerGoalHandle) -> bytes:
    return bytes(handle.goal_id.uuid)
