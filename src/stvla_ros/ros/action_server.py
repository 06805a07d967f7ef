"""The server's end of an action: goals run in a worker thread, with a :class:`CancelToken`."""

from __future__ import annotations

import queue
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from rclpy.action import ActionServer, CancelResponse
from rclpy.action.server import ServerGoalHandle
from rclpy.node import Node
from rclpy.task import Task
from stvla_msgs.msg import Outcome as OutcomeMsg

from stvla_ros.errors import CancelToken, OutcomeCode, StageError
from stvla_ros.ros.convert import error_to_msg

ASKED_S = 0.5
"""A client asks for the result when it has heard that its goal is accepted. A server that ends waits this long for it."""


class DeferredServer(ActionServer):
    """rclpy's server for work in another thread: it reports each goal that begins, and any thread can finish it.

    rclpy itself would run the work in the executor's thread, which then hears no cancels, or poll a waiting coroutine
    at full CPU load.

    Args:
        begin: Called in the executor's thread for each accepted goal; must return at once.
        kwargs: Further arguments of rclpy's server, e.g. ``cancel_callback``.
    """

    def __init__(
        self, node: Node, action_type: Any, name: str, begin: Callable[[ServerGoalHandle], None], **kwargs: Any
    ) -> None:
        self._begin = begin
        self._ending: list[Task] = []
        self._untold: dict[bytes, float] = {}  # goals that ended lately, whose results nobody has got yet: when
        super().__init__(node, action_type, name, execute_callback=lambda _: None, **kwargs)

    def notify_execute(self, goal_handle: ServerGoalHandle, execute_callback: Any) -> None:
        """Called in the executor's thread when a goal starts EXECUTING."""
        self._begin(goal_handle)

    def finish(self, handle: ServerGoalHandle, end: Callable[[ServerGoalHandle], Any]) -> None:
        """End a goal: ``end`` sets its state and returns the Result message, in the executor's thread."""
        executor = self._node.executor
        if executor is not None:
            self._ending = [task for task in self._ending if not task.done()]
            now = time.monotonic()
            self._untold = {goal: at for goal, at in self._untold.items() if at > now - ASKED_S}
            self._untold[bytes(handle.goal_id.uuid)] = now
            answer = self._execute_goal(end, handle)
            try:
                self._ending.append(executor.create_task(answer))
            except AttributeError:  # rclpy's executor was shut down meanwhile: nobody can answer any more
                answer.close()

    def _send_result_response(self, request_header: Any, future: Any) -> None:
        """rclpy's, called in the executor's thread whenever a client gets a result."""
        super()._send_result_response(request_header, future)
        for goal in [goal for goal, known in self._result_futures.items() if known is future]:
            self._untold.pop(goal, None)

    def flush(self, timeout_s: float) -> bool:
        """Wait until the executor's thread has sent all answers; False on timeout. Goals whose clients have not asked for
        the result yet are waited for as long as :data:`ASKED_S` after their end."""
        until = time.monotonic() + timeout_s
        while any(not task.done() for task in self._ending):
            if time.monotonic() > until:
                return False
            time.sleep(0.002)
        while (now := time.monotonic()) < until and any(at > now - ASKED_S for at in list(self._untold.values())):
            time.sleep(0.002)
        return True


@dataclass(frozen=True)
class GoalHandle:
    """One accepted goal, as the code that works on it sees it.

    Attributes:
        request: The action's Goal message.
        cancel: Set by a cancel request, by preemption, and when the node ends.
        publish_feedback: Sends a Feedback message to the client, from any thread.
    """

    request: Any
    cancel: CancelToken
    publish_feedback: Callable[[Any], None]


Work = Callable[[GoalHandle], Any]
"""Works on a goal and returns the action's Result message; raises StageError."""

Ended = Callable[[Any, OutcomeMsg], None]


class StageServer:
    """Serves one action whose Result has a field ``outcome`` (stvla_msgs/Outcome).

    A StageError becomes the result's outcome. Any other exception becomes INTERNAL, and its traceback goes to the log.
    The goal's terminal state is SUCCEEDED for OK, CANCELED after a cancel request, and ABORTED otherwise.

    Args:
        node: Its executor must spin.
        action_type: The action.
        name: Its name.
        work: Runs in this server's thread, one goal at a time, in order of arrival.
        preempt: A new goal cancels the running one with PREEMPTED; otherwise it waits for its turn.
        on_end: Called in the worker's thread with each goal and its outcome, before the answer is sent.
    """

    def __init__(
        self, node: Node, action_type: Any, name: str, work: Work, preempt: bool = False, on_end: Ended | None = None
    ) -> None:
        self._node, self._type, self._work, self._preempt = node, action_type, work, preempt
        self._on_end = on_end or (lambda goal, outcome: None)
        self._lock = threading.Lock()
        self._active: dict[bytes, CancelToken] = {}
        self._queue: queue.SimpleQueue[ServerGoalHandle | None] = queue.SimpleQueue()
        self._closed = False
        self._server = DeferredServer(node, action_type, name, self._accept, cancel_callback=self._cancel)
        self._thread = threading.Thread(target=self._serve, name=f"work {name}", daemon=True)
        self._thread.start()

    @property
    def busy(self) -> bool:
        """Whether a goal is running or waiting."""
        return bool(self._active)

    def _accept(self, handle: ServerGoalHandle) -> None:
        with self._lock:
            older = list(self._active.values()) if self._preempt else []
            token = self._active[bytes(handle.goal_id.uuid)] = CancelToken()
            closed = self._closed
        for other in older:
            other.cancel(OutcomeCode.PREEMPTED, "A newer goal took over.")
        if closed:
            token.cancel(OutcomeCode.CANCELED, f"The node '{self._node.get_name()}' is ending.")
        self._queue.put(handle)

    def _cancel(self, handle: ServerGoalHandle) -> CancelResponse:
        """Accept even for a goal whose work is over: after a refusal, rclpy skips the next goal of the same request."""
        with self._lock:
            token = self._active.get(bytes(handle.goal_id.uuid))
        if token is not None:
            token.cancel()
        return CancelResponse.ACCEPT

    def _serve(self) -> None:
        while (handle := self._queue.get()) is not None:
            key = bytes(handle.goal_id.uuid)
            result = self._run(handle, self._active[key])
            self._on_end(handle.request, result.outcome)
            with self._lock:
                del self._active[key]
            self._server.finish(handle, partial(_terminate, result=result))

    def _run(self, handle: ServerGoalHandle, token: CancelToken) -> Any:
        try:
            token.raise_if_set()
            return self._work(GoalHandle(handle.request, token, handle.publish_feedback))
        except StageError as error:
            return self._type.Result(outcome=error_to_msg(error))
        except Exception:  # noqa: BLE001 - the boundary of the node: whatever it is, the client gets an answer
            self._node.get_logger().error(f"Defect in '{self._node.get_name()}':\n{traceback.format_exc()}")
            sentence = f"A defect in the node '{self._node.get_name()}'; the traceback is in its log."
            return self._type.Result(outcome=error_to_msg(StageError(OutcomeCode.INTERNAL, sentence)))

    def close(self, timeout_s: float) -> bool:
        """Cancel all goals and wait until the worker has ended and its answers are sent; False on timeout.

        The executor must still spin.
        """
        until = time.monotonic() + timeout_s
        with self._lock:
            self._closed = True
            tokens = list(self._active.values())
        for token in tokens:
            token.cancel(OutcomeCode.CANCELED, f"The node '{self._node.get_name()}' is ending.")
        self._queue.put(None)
        self._thread.join(timeout_s)
        return not self._thread.is_alive() and self._server.flush(max(0.0, until - time.monotonic()))


def _terminate(handle: ServerGoalHandle, result: Any) -> Any:
    """Set the goal's state by the outcome of its result."""
    if result.outcome.code == OutcomeCode.OK:
        handle.succeed()
    elif handle.is_cancel_requested:
        handle.canceled()
    else:
        handle.abort()
    return result
