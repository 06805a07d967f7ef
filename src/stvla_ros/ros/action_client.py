"""Actions between processes: a call that is answered or fails typed, and a server whose work runs elsewhere.

Both sides keep rclpy in the executor's thread, which only carries messages; the work, and the waiting for it, happen in
other threads.

What the middleware may lose is asked for again. Two processes find each other endpoint by endpoint: a server may have
found the client's request writer and not yet its response reader. It then waits 100 ms, drops the answer, and rclpy drops
the goal ("Failed to send goal response"). So a goal that nobody has accepted in time is sent again under a new goal id,
and a result, or the answer to a cancel, is asked for until it comes.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from action_msgs.msg import GoalStatus
from action_msgs.srv import CancelGoal
from rclpy.action import ActionClient
from rclpy.node import Node
from rclpy.task import Future

from stvla_ros.errors import INTERRUPTED, CancelToken, OutcomeCode, StageError
from stvla_ros.ros.qos import DISCOVERY_S

ACCEPT_S = 1.0
"""A goal that is not accepted for so long is sent again. Accepting takes an executor's thread a few milliseconds."""

ASK_AGAIN_S = 1.0
"""How often a result, and the answer to a cancel, are asked for again."""

GONE_S = 1.0
"""How long a server must be absent to count as gone: the middleware says "absent" for a moment while any other node
with an endpoint of the same name comes or goes."""

MAX_STOP_S = 3.0
"""Upper bound of ``stop_timeout_s``, the time that a controller may take to stop. The timeouts below rest on it.

Each process waits longer for the confirmation of a cancel than the process below it:

    client > task node > executor > controller

"The arm still moves: use the emergency stop" comes from the executor, so nobody above it may give up before it can say so.
"""

TRANSPORT_S = 1.0
"""Time for an answer to get from one process to the next on a busy machine."""

EXECUTOR_CANCEL_S = 2 * MAX_STOP_S + TRANSPORT_S
"""The task node's wait for the executor, which first waits for the end of the controller's goal and then for the standstill
of the arm, each for up to :data:`MAX_STOP_S`."""

TASK_CANCEL_S = EXECUTOR_CANCEL_S + TRANSPORT_S
"""A client's wait for the task node."""

CANCEL_S = 2.0
"""The wait for a server that moves nothing (planner, policy): its answer says nothing about the arm."""

LOST_CANCEL_S = 2.0
"""The wait for a server that is gone or silent; it may only be slow. Meanwhile the arm is stopped without it."""


class SentGoal:
    """A goal on its way: sent at once, canceled at any moment, also before it is accepted.

    Args:
        node: Its executor must spin.
        client: Of the action.
        goal: Goal message.
        on_feedback: Called with Feedback messages in the executor's thread.
        resend: Send the goal again while nobody accepts it. The newest one counts, and older ones that are accepted
            late are canceled. Only for servers to which a goal that comes twice does no harm.

    Attributes:
        accepted: None until the server has answered.
        status: A constant of ``action_msgs/msg/GoalStatus``; set when done.
        result: The action's Result message; None when the goal was rejected.
    """

    def __init__(
        self,
        node: Node,
        client: ActionClient,
        goal: Any,
        on_feedback: Callable[[Any], None] | None = None,
        resend: bool = False,
    ) -> None:
        self._node, self._client, self._goal, self._resend = node, client, goal, resend
        self._forward = None if on_feedback is None else lambda message: on_feedback(message.feedback)
        self._done, self._canceled = threading.Event(), threading.Event()
        self._handle: Any = None
        self._sent = 0
        self._again_at = time.monotonic() + ACCEPT_S
        self.accepted: bool | None = None
        self.status = GoalStatus.STATUS_UNKNOWN
        self.result: Any = None
        self._post(self._send)

    def wait(self, timeout_s: float) -> bool:
        """Wait for the end of the goal; False when the time passed first. Call it again and again: it also asks again."""
        done = self._done.wait(timeout_s)
        if not done and time.monotonic() >= self._again_at:
            self._again_at = time.monotonic() + ASK_AGAIN_S
            self._post(self._ask_again)
        return done

    def cancel(self) -> None:
        """Ask the server to cancel, now or as soon as it has accepted; returns at once. Any thread."""
        self._canceled.set()
        self._post(self._cancel)

    def _post(self, work: Callable[[], None]) -> None:
        """Run in the executor's thread: rclpy's client would lose an answer that comes while another thread sends."""
        executor = self._node.executor
        if executor is not None:
            executor.create_task(work)

    def _send(self) -> None:
        if self._canceled.is_set():
            self.accepted, self.status = True, GoalStatus.STATUS_CANCELED
            self._done.set()
            return
        self._sent += 1
        future = self._client.send_goal_async(self._goal, feedback_callback=self._forward)
        future.add_done_callback(partial(self._answered, self._sent))

    def _ask_again(self) -> None:
        if self._done.is_set():
            return
        if self._handle is not None:
            self._ask_result()
            if self._canceled.is_set():
                self._cancel()
        elif self._resend:
            self._send()

    def _answered(self, number: int, future: Future) -> None:
        handle = future.result()
        if number != self._sent:  # a newer one has been sent
            if handle.accepted:
                handle.cancel_goal_async()
            return
        self.accepted = handle.accepted
        if not handle.accepted:
            self._done.set()
            return
        self._handle = handle
        self._ask_result()
        if self._canceled.is_set():
            self._cancel()

    def _ask_result(self) -> None:
        self._handle.get_result_async().add_done_callback(partial(self._ended, self._handle))

    def _cancel(self) -> None:
        if self._handle is not None and not self._done.is_set():
            self._handle.cancel_goal_async()

    def _ended(self, handle: Any, future: Future) -> None:
        if handle is self._handle and not self._done.is_set():
            answer = future.result()
            self.status, self.result = answer.status, answer.result
            self._done.set()


class StageClient:
    """One action of another node of the stack, called from worker threads: with a deadline, cancelable, never hanging.

    Args:
        node: Its executor must spin.
        action_type: The action.
        name: Its name.
        standstill_s: For a server that moves the arm: how long it may take to confirm a cancel by its answer, e.g.
            :data:`EXECUTOR_CANCEL_S`. None: it moves nothing.
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
        connect_s: float = DISCOVERY_S,
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
            StageError: The cancel's reason when it came before the goal was sent, or when a server that does not move the arm
                has not answered it in time, or CANCEL_UNCONFIRMED for one that does; SERVER_TIMEOUT at the deadline;
                NODE_LOST when the server is not there, went away, was restarted, or refused.
        """
        self._wait_for_server(cancel, connect_s)
        sent = SentGoal(self._node, self._client, goal, on_feedback, resend=True)
        release = cancel.on_cancel(sent.cancel)
        try:
            self._watch(sent, cancel, deadline_s, lost)
        finally:
            release()
        return self._result(sent, cancel)

    def _wait_for_server(self, cancel: CancelToken, connect_s: float) -> None:
        end = time.monotonic() + connect_s
        while not self.available():
            cancel.raise_if_set()
            if time.monotonic() > end:
                raise StageError(
                    OutcomeCode.NODE_LOST,
                    f"Nobody was found within {connect_s:g} s who serves the action '{self.name}': start its node.",
                )
            cancel.wait(0.02)
        cancel.raise_if_set()

    def _watch(self, sent: SentGoal, cancel: CancelToken, deadline_s: float, lost: Callable[[], bool]) -> None:
        """Return when the goal has ended. Raises StageError as :meth:`call`."""
        end = time.monotonic() + deadline_s
        canceled_at: float | None = None
        seen_at = time.monotonic()
        while not sent.wait(0.1):
            now = time.monotonic()
            seen_at = now if self.available() else seen_at
            if cancel.is_set():
                canceled_at = canceled_at or now
                grace_s = LOST_CANCEL_S if lost() else self._standstill_s or CANCEL_S
                if now - canceled_at > grace_s:
                    raise self._unconfirmed(cancel, grace_s)
            elif now > end:
                sent.cancel()
                raise StageError(OutcomeCode.SERVER_TIMEOUT, self._late(sent, deadline_s))
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

    def _late(self, sent: SentGoal, deadline_s: float) -> str:
        if sent.accepted is None:
            return f"'{self.name}' did not accept a goal within {deadline_s:g} s: look at the log of the node that serves it."
        return f"No answer from '{self.name}' within {deadline_s:g} s."

    def _result(self, sent: SentGoal, cancel: CancelToken) -> Any:
        if not sent.accepted:
            refusal = StageError(OutcomeCode.NODE_LOST, f"The server of '{self.name}' refused the goal.")
            raise cancel.explain(refusal)
        if sent.result is None:
            cancel.raise_if_set()  # before it was sent
        if sent.status == GoalStatus.STATUS_UNKNOWN:
            sentence = f"The node that serves '{self.name}' was restarted and does not know the goal."
            raise StageError(OutcomeCode.NODE_LOST, sentence)
        return sent.result

    def destroy(self) -> None:
        self._client.destroy()


class GoalCanceler:
    """Cancels all goals of some action servers, whoever sent them.

    A request without goal id and stamp cancels every goal (action_msgs/srv/CancelGoal). On that a
    trajectory controller brings the arm to a standstill and holds it.
    """

    def __init__(self, node: Node, actions: Sequence[str]) -> None:
        self._clients = {name: node.create_client(CancelGoal, f"{name}/_action/cancel_goal") for name in actions}

    def ready(self) -> bool:
        """Every action server has been found."""
        return all(client.service_is_ready() for client in self._clients.values())

    def cancel_all(self) -> list[Future]:
        """Ask every server that is there to cancel its goals; returns at once.

        Returns:
            One future per request, done when the server has answered.
        """
        return [client.call_async(CancelGoal.Request()) for client in self._clients.values()]

    def missing(self) -> list[str]:
        """Names of the action servers that have not been found."""
        return [name for name, client in self._clients.items() if not client.service_is_ready()]
