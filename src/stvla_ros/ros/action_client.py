"""The client's end of an action: a call that gets an answer or fails with a typed error, and how to cancel goals.

rclpy stays in the executor's thread, which only carries messages; callers wait in other threads.

The middleware may lose messages. Two processes discover each other endpoint by endpoint: a server may have found the
client's request writer but not yet its response reader. It then waits 100 ms, drops the answer, and rclpy drops the
goal ("Failed to send goal response"). So a goal that nobody has accepted in time is sent again under a new goal id,
and requests for a result and for a cancel are repeated until they are answered.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

from action_msgs.msg import GoalStatus
from action_msgs.srv import CancelGoal
from rclpy.action import ActionClient
from rclpy.node import Node
from rclpy.task import Future

from stvla_ros.errors import INTERRUPTED, CancelToken, OutcomeCode, StageError
from stvla_ros.ros.qos import DISCOVERY_S

ACCEPT_S = 1.0
"""A goal that is not accepted within this time is sent again. Accepting takes a few milliseconds."""

ASK_AGAIN_S = 1.0
"""Interval at which requests for a result and for a cancel are repeated."""

CANCEL_AGAIN_S = 0.2
"""The same interval during a cancel: an arm has little time to confirm that it stands still, and several requests or
answers in a row may get lost."""

GONE_S = 1.0
"""A server counts as gone when it is absent for this long: the middleware reports it absent for a moment whenever
another node with an endpoint of the same name comes or goes."""

MAX_STOP_S = 3.0
"""Upper bound of ``stop_timeout_s``, the time that a controller may take to stop. The timeouts below rest on it.

Each process waits longer for the confirmation of a cancel than the process below it:

    client > task node > executor > controller

"The arm still moves: use the emergency stop" comes from the executor, so nobody above it may give up before it can
say so.
"""

TRANSPORT_S = 1.0
"""Time for an answer to get from one process to the next, on a busy machine."""

EXECUTOR_CANCEL_S = 2 * MAX_STOP_S + TRANSPORT_S
"""The task node's wait for the executor, which first waits for the end of the controller's goal and then for the
standstill of the arm, each for up to :data:`MAX_STOP_S`."""

TASK_CANCEL_S = EXECUTOR_CANCEL_S + TRANSPORT_S
"""A client's wait for the task node."""

CANCEL_S = 2.0
"""The wait for a server that moves nothing (planner, policy): its answer says nothing about the arm."""

LOST_CANCEL_S = 2.0
"""The wait for a server that is gone or silent; it may only be slow. Meanwhile the arm is stopped without it."""


class SentGoal:
    """A goal that is sent at once and can be canceled at any time, even before it is accepted.

    Args:
        node: Its executor must spin.
        client: Of the action.
        goal: Goal message.
        on_feedback: Called with Feedback messages in the executor's thread.
        resend: Send the goal again while nobody accepts it. The newest one counts; older ones that are accepted late
            are canceled. Only for servers that can safely get a goal twice.

    Attributes:
        accepted: None until the server has answered.
        cancel_answered: The server has answered a cancel request. It may still be bringing the goal to its end.
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
        self._asked_at = time.monotonic()
        self.accepted: bool | None = None
        self.cancel_answered = False
        self.status = GoalStatus.STATUS_UNKNOWN
        self.result: Any = None
        self._post(self._send)

    def wait(self, timeout_s: float) -> bool:
        """Wait for the end of the goal; False on timeout. Call it repeatedly: it also repeats lost requests."""
        done = self._done.wait(timeout_s)
        if not done and time.monotonic() - self._asked_at >= self._patience_s():
            self._asked_at = time.monotonic()
            self._post(self._ask_again)
        return done

    def _patience_s(self) -> float:
        if self._handle is None:
            return ACCEPT_S
        return CANCEL_AGAIN_S if self._canceled.is_set() else ASK_AGAIN_S

    def cancel(self) -> None:
        """Ask the server to cancel, now or as soon as it has accepted; returns at once. Any thread."""
        self._canceled.set()
        self._post(self._cancel)

    def _post(self, work: Callable[[], None]) -> None:
        """Run in the executor's thread: rclpy's client would lose an answer that arrives while another thread sends."""
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
            self._handle.cancel_goal_async().add_done_callback(self._hear_cancel)

    def _hear_cancel(self, future: Future) -> None:
        self.cancel_answered = True

    def _ended(self, handle: Any, future: Future) -> None:
        if handle is self._handle and not self._done.is_set():
            answer = future.result()
            self.status, self.result = answer.status, answer.result
            self._done.set()


class StageClient:
    """Calls one action of another node of the stack from worker threads. Calls have a deadline and can be canceled.

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
        """Whether a server was found."""
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
            cancel: Cancels the goal at the server at once.
            deadline_s: Time limit for the answer.
            on_feedback: Called with Feedback messages in the executor's thread.
            connect_s: Time limit for finding the server.
            lost: Whether the server is known to be gone; its answer to a cancel is then waited for only briefly.

        Returns:
            The Result message.

        Raises:
            StageError: The cancel's reason when it came before the goal was sent, or when a server that does not move
                the arm did not answer it in time; CANCEL_UNCONFIRMED when a server that moves the arm did not;
                SERVER_TIMEOUT at the deadline; NODE_LOST when the server was not found, went away, was restarted, or
                rejected the goal.
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
                    f"No server of the action '{self.name}' was found within {connect_s:g} s: start its node.",
                )
            cancel.wait(0.02)
        cancel.raise_if_set()

    def _watch(self, sent: SentGoal, cancel: CancelToken, deadline_s: float, lost: Callable[[], bool]) -> None:
        """Return when the goal has ended. Raises StageError like :meth:`call`."""
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
        """The error for a cancel that nobody answered."""
        reason = cancel.explain(StageError(OutcomeCode.CANCELED, "Canceled."))
        if self._standstill_s is None:
            return reason
        code = OutcomeCode.CANCEL_UNCONFIRMED if reason.code in INTERRUPTED else reason.code
        return StageError(
            code,
            f"{reason.sentence} '{self.name}' has not confirmed within {grace_s:g} s that the arm stands still: "
            "look at the arm and keep the emergency stop within reach.",
        )

    def _late(self, sent: SentGoal, deadline_s: float) -> str:
        if sent.accepted is None:
            return f"'{self.name}' did not accept a goal within {deadline_s:g} s: look at the log of the node that serves it."
        return f"No answer from '{self.name}' within {deadline_s:g} s."

    def _result(self, sent: SentGoal, cancel: CancelToken) -> Any:
        if not sent.accepted:
            rejection = StageError(OutcomeCode.NODE_LOST, f"The server of '{self.name}' rejected the goal.")
            raise cancel.explain(rejection)
        if sent.result is None:
            cancel.raise_if_set()  # it came before the goal was sent
        if sent.status == GoalStatus.STATUS_UNKNOWN:
            sentence = f"The node that serves '{self.name}' was restarted and does not know the goal."
            raise StageError(OutcomeCode.NODE_LOST, sentence)
        return sent.result


class _Asked(NamedTuple):
    answer: Future
    at_s: float
    again_s: float


class GoalCanceler:
    """Cancels all goals of some action servers, no matter who sent them. Needs nobody's consent.

    A request without goal id and stamp cancels every goal (action_msgs/srv/CancelGoal). A trajectory controller then
    brings the arm to a standstill and holds it.

    With a stamp it would spare goals that are accepted later. But the server compares the stamp with its own clock: if
    that is ahead, even by milliseconds, the stop would spare the goal it is meant for. A stop may cancel too much, never
    too little. So who sends goals later waits for the answers first (:meth:`wait_until_answered`).
    """

    def __init__(self, node: Node, actions: Sequence[str]) -> None:
        self._clients = {name: node.create_client(CancelGoal, f"{name}/_action/cancel_goal") for name in actions}
        self._asked: dict[str, _Asked] = {}  # the newest request to each server

    def ready(self) -> bool:
        """Whether every action server was found."""
        return all(client.service_is_ready() for client in self._clients.values())

    def cancel_all(self) -> None:
        """Ask every server to cancel its goals; returns at once."""
        for name in self._clients:
            self._ask(name, CANCEL_AGAIN_S)

    def _ask(self, name: str, again_s: float) -> None:
        self._asked[name] = _Asked(self._clients[name].call_async(CancelGoal.Request()), time.monotonic(), again_s)

    def wait_until_answered(self, timeout_s: float, cancel: CancelToken | None = None) -> bool:
        """Wait until the servers have answered the newest request: an unanswered one could cancel a goal that is sent
        later. A server takes requests in their order, so that with the newest, all are done. Repeats requests.

        Returns:
            False when one has no answer after ``timeout_s``, e.g. from a server that died. It is not waited for again.

        Raises:
            StageError: The cancel's reason.
        """
        end = time.monotonic() + timeout_s
        while (left := self._unanswered()) and (now := time.monotonic()) < end:
            if cancel is not None:
                cancel.raise_if_set()
            for name, asked in left.items():
                if now > asked.at_s + asked.again_s:
                    self._clients[name].remove_pending_request(asked.answer)
                    self._ask(name, 2 * asked.again_s)
            time.sleep(0.002)
        for name, asked in left.items():
            if self._asked.get(name) is asked:
                del self._asked[name]
        return not left

    def _unanswered(self) -> dict[str, _Asked]:
        return {name: asked for name, asked in list(self._asked.items()) if not asked.answer.done()}

    def missing(self) -> list[str]:
        """Names of the action servers that were not found."""
        return [name for name, client in self._clients.items() if not client.service_is_ready()]
