"""The operator's stop, as the stack remembers it: latched on ``stvla/stopped``, kept by the executor and the task node.

Each of the two keeps the newest state and publishes it again, so that the stop survives the loss of either: a restarted
executor learns it from the task node before it accepts goals, and a restarted task node learns it from the executor.
When both are gone at the same time, the stop is forgotten; but then no task is left that could continue, and only a
new goal from the operator moves the arm.

States are ordered by their stamps, and every new state gets a stamp later than all earlier ones. Two stamps mean that
no operator has spoken: :data:`NOTHING_NS` and :data:`NEVER_NS`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from stvla_msgs.msg import StopState as StopStateMsg

from stvla_ros.errors import OutcomeCode, StageError
from stvla_ros.ros.qos import LATCHED, LATCHED_NEWEST

if TYPE_CHECKING:
    from builtin_interfaces.msg import Time
    from rclpy.node import Node

TOPIC = "stvla/stopped"

NOTHING_NS = 0
"""Stamp of a node that knows nothing yet and waits for another node."""

NEVER_NS = 1
"""Stamp of the assumption that motion is allowed because no node knows otherwise. Every operator's stop is later."""

STOPPED = "Stopped by the operator: `stvla stop --release` (or the service /stvla/resume) allows motion again."
"""Why a goal ends or is rejected."""


@dataclass(frozen=True)
class StopState:
    """Whether the operator has stopped the stack.

    Attributes:
        stamp_ns: When it was last stopped or released (Unix time).
        stopped: Whether motion is forbidden.
        reason: One sentence.
    """

    stamp_ns: int = NOTHING_NS
    stopped: bool = False
    reason: str = "Nothing is known yet."

    @property
    def known(self) -> bool:
        return self.stamp_ns > NOTHING_NS

    def sentence(self) -> str:
        """The state in words, for the operator."""
        if not self.stopped:
            return "motion is allowed"
        at = time.strftime("%H:%M:%S", time.localtime(self.stamp_ns // 1_000_000_000))
        return f"stopped since {at}. {self.reason}"


class StopKeeper:
    """What a node knows about the operator's stop. Thread safe.

    Args:
        node: Its executor must spin.
        on_stop: Called when the stop came from another node, in the executor's thread.
        decides: Whether this node allows motion when neither it nor another node knows anything: then both are new.
    """

    def __init__(self, node: Node, on_stop: Callable[[], None], decides: bool = False) -> None:
        self._on_stop, self._decides = on_stop, decides
        self._lock = threading.Lock()
        self._state = StopState()
        self._known = threading.Event()
        self._publisher = node.create_publisher(StopStateMsg, TOPIC, LATCHED_NEWEST)
        # the depth counts the messages of all publishers: with 1, this node's own question would push out the answer
        node.create_subscription(StopStateMsg, TOPIC, self._receive, LATCHED)

    @property
    def state(self) -> StopState:
        return self._state

    def stop(self) -> None:
        """The operator says stop."""
        self._say(True, STOPPED)

    def release(self) -> None:
        """The operator allows motion again."""
        self._say(False, "Released by the operator.")

    def raise_if_stopped(self) -> None:
        """Raises StageError CANCELED, which says how to allow motion again."""
        if self._state.stopped:
            raise StageError(OutcomeCode.CANCELED, self._state.reason)

    def ask(self) -> None:
        """If this node knows nothing, publish that, so that a node which knows the state publishes it again."""
        if not self._state.known:
            self._publish(self._state)

    def assume_released(self) -> None:
        """Allow motion because no other node can know of a stop. Has no effect when the state is known."""
        self._keep(StopState(NEVER_NS, False, "Nobody has stopped it."))

    def wait_known(self, timeout_s: float) -> bool:
        """Wait until it is known whether the stack is stopped; False on timeout."""
        return self._known.wait(timeout_s)

    def _say(self, stopped: bool, reason: str) -> None:
        with self._lock:
            later_ns = max(time.time_ns(), self._state.stamp_ns + 1)
        self._keep(StopState(later_ns, stopped, reason))

    def _receive(self, message: StopStateMsg) -> None:
        state = state_from_msg(message)
        if self._keep(state) and state.stopped:
            self._on_stop()
        elif self._decides and not state.known:
            self.assume_released()

    def _keep(self, state: StopState) -> bool:
        """Keep and publish a state that is newer than the known one; False when it is not."""
        with self._lock:
            if state.stamp_ns <= self._state.stamp_ns:
                return False
            self._state = state
        self._known.set()
        self._publish(state)
        return True

    def _publish(self, state: StopState) -> None:
        message = StopStateMsg(stopped=state.stopped, reason=state.reason)
        _stamp(message.header.stamp, state.stamp_ns)
        self._publisher.publish(message)


def state_from_msg(message: StopStateMsg) -> StopState:
    """The message as a value."""
    stamp = message.header.stamp
    return StopState(stamp.sec * 1_000_000_000 + stamp.nanosec, message.stopped, message.reason)


def _stamp(stamp: Time, stamp_ns: int) -> None:
    stamp.sec, stamp.nanosec = divmod(stamp_ns, 1_000_000_000)
