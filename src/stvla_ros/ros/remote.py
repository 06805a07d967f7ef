"""Calls of actions from worker threads: with a deadline, cancelable, never hanging."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from typing import Any

from action_msgs.msg import GoalStatus
from rclpy.action import ActionClient
from rclpy.action.client import ClientGoalHandle
from rclpy.node import Node
from rclpy.task import Future

from stvla_ros.errors import INTERRUPTED, CancelToken, OutcomeCode, StageError
from stvla_ros.ros import graces

GONE_S = 1.0
"""How long a server must be absent to count as gone: the middleware says "absent" for a moment while any other node
with an endpoint of the same name comes or goes."""


class Remote:
    """One action on another node.

    All rclpy calls are made in the executor's thread: its client loses an answer that arrives while another thread is
    still between sending and remembering the request.

    Args:
        node: Its executor must spin.
        action_type: The action.
        name: Its name.
        standstill_s: For a server that moves the arm: how long it may take to confirm a cancel by its answer, see
            :mod:`stvla_ros.ros.graces`. None: it moves nothing.
    """

    def __init__(self, node: Node, action_type: Any, name: str, standstill_s: float | None = None) -> None:
        self._node, self.name, self._standstill_s = node, name, standstill_s
        self._client = ActionClient(node, action_type, name)

    def available(self) -> bool:
        """A server is there."""
        return bool(self._client.server_is_ready())

    def call(
        self,
        goal: Any,
        cancel: CancelToken,
        deadline_s: float,
        on_feedback: Callable[[Any], None] | None = None,
        connect_s: float = 3.0,
        lost: Callable[[], bool] = lambda: False,
    ) -> Any:
        """Send a goal and wait for its result.

        Args:
            goal: Goal message.
            cancel: Cancels the goal at the server, at once.
            deadline_s: Longest time for the answer.
            on_feedback: Called with Feedback messages in the executor's thread.
            connect_s: Longest time for the server to appear.
            lost: The server is known to be gone: its answer to a cancel is hardly waited for.

        Returns:
            The Result message.

        Raises:
            StageError: The reason of the cancel; CANCEL_UNCONFIRMED when the server moves the arm and has not answered a
                cancel in time; SERVER_TIMEOUT at the deadline; NODE_LOST when the server is not there, went away, or
                refused.
        """
        self._wait_for_server(cancel, connect_s)
        call = _Call(self._node, self._client, goal, on_feedback)
        release = cancel.on_cancel(call.cancel)
        try:
            return self._result(call, cancel, deadline_s, lost)
        finally:
            release()

    def _wait_for_server(self, cancel: CancelToken, connect_s: float) -> None:
        end = time.monotonic() + connect_s
        while not self.available():
            cancel.raise_if_set()
            if time.monotonic() > end:
                raise StageError(OutcomeCode.NODE_LOST, f"Nobody serves the action '{self.name}': start its node.")
            cancel.wait(0.02)
        cancel.raise_if_set()

    def _result(self, call: _Call, cancel: CancelToken, deadline_s: float, lost: Callable[[], bool]) -> Any:
        end = time.monotonic() + deadline_s
        canceled_at: float | None = None
        seen_at = time.monotonic()
        while True:
            answer = call.wait(0.1)
            now = time.monotonic()
            seen_at = now if self.available() else seen_at
            if isinstance(answer, StageError):
                raise cancel.explain(answer)
            if answer is not None:
                return answer
            if cancel.is_set():
                canceled_at = canceled_at or now
                grace_s = graces.LOST_S if lost() else self._standstill_s or graces.UNMOVING_S
                if now - canceled_at > grace_s:
                    raise self._unconfirmed(cancel, grace_s)
            elif now > end:
                call.cancel()
                sentence = f"No answer from '{self.name}' within {deadline_s:g} s."
                raise StageError(OutcomeCode.SERVER_TIMEOUT, sentence)
            elif now - seen_at > GONE_S:
                raise StageError(OutcomeCode.NODE_LOST, f"The node that serves '{self.name}' went away.")

    def _unconfirmed(self, cancel: CancelToken, grace_s: float) -> StageError:
        """What to tell when nobody answered a cancel."""
        reason = cancel.explain(StageError(OutcomeCode.CANCELED, "Canceled."))
        if self._standstill_s is None:
            return reason
        code = OutcomeCode.CANCEL_UNCONFIRMED if reason.code in INTERRUPTED else reason.code
        return StageError(
            code,
            f"{reason.sentence} '{self.name}' has not confirmed within {grace_s:g} s that the arm stands still: "
            "look at the arm, keep the emergency stop within reach.",
        )

    def destroy(self) -> None:
        self._client.destroy()


class _Call:
    """One goal on its way: sent, accepted, answered; canceled in any of these states."""

    def __init__(self, node: Node, client: ActionClient, goal: Any, on_feedback: Callable[[Any], None] | None) -> None:
        self._node, self._client, self._goal = node, client, goal
        self._on_feedback = on_feedback
        self._answers: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._handle: ClientGoalHandle | None = None
        self._canceled = threading.Event()
        self._post(self._send)

    def wait(self, timeout_s: float) -> Any:
        """The Result message, a StageError, or None after the timeout."""
        try:
            return self._answers.get(timeout=timeout_s)
        except queue.Empty:
            return None

    def cancel(self) -> None:
        """Ask the server to cancel, now or as soon as it has accepted. Any thread."""
        self._canceled.set()
        self._post(self._cancel)

    def _post(self, work: Callable[[], None]) -> None:
        executor = self._node.executor
        if executor is not None:
            executor.create_task(work)

    def _send(self) -> None:
        if self._canceled.is_set():
            self._answers.put(StageError(OutcomeCode.CANCELED, "Canceled before it was sent."))
            return
        feedback = self._on_feedback
        forward = None if feedback is None else lambda message: feedback(message.feedback)
        self._client.send_goal_async(self._goal, feedback_callback=forward).add_done_callback(self._sent)

    def _sent(self, future: Future) -> None:
        handle = future.result()
        if not handle.accepted:
            self._answers.put(StageError(OutcomeCode.NODE_LOST, "The server refused the goal."))
            return
        self._handle = handle
        handle.get_result_async().add_done_callback(self._answered)
        if self._canceled.is_set():
            self._cancel()

    def _cancel(self) -> None:
        if self._handle is not None:
            self._handle.cancel_goal_async()

    def _answered(self, future: Future) -> None:
        response = future.result()
        if response.status == GoalStatus.STATUS_UNKNOWN:
            self._answers.put(StageError(OutcomeCode.NODE_LOST, "The server was restarted and does not know the goal."))
        else:
            self._answers.put(response.result)
