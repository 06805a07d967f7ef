"""The operator's stop as the stack remembers it: latched on ``stvla/stopped``, kept by the executor and by the task node.

Each keeps the newest word and says it again, so that it outlives either: a restarted executor learns it from the task node
before it takes goals, and a restarted task node from the executor. When both are gone at a time it is forgotten, as with
the whole stack; then no task is left either that could go on, and only a new goal of the operator's moves the arm.

Words are ordered by their stamps, and whoever speaks makes a stamp later than all that it has heard. Two stamps stand for
no word of an operator: :data:`NOTHING_NS` and :data:`NEVER_NS`.
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
"""Stamp of one that knows nothing yet, and waits for another's word."""

NEVER_NS = 1
"""Stamp of the word that motion is allowed because nobody has heard otherwise: every operator's word is later."""

STOPPED = "Stopped by the operator: `stvla stop --release` (or the service /stvla/resume) allows motion again."
"""Why a goal ends, or is refused."""


@dataclass(frozen=True)
class StopState:
    """Whether the operator has stopped the stack.

    Attributes:
        stamp_ns: When it was last stopped or released (Unix time).
        stopped: Nothing may move.
        reason: One sentence.
    """

    stamp_ns: int = NOTHING_NS
    stopped: bool = False
    reason: str = "Nothing is known yet."

    @property
    def known(self) -> bool:
        return self.stamp_ns > NOTHING_NS

    def sentence(self) -> str:
        """For the operator."""
        if not self.stopped:
            return "motion is allowed"
        at = time.strftime("%H:%M:%S", time.localtime(self.stamp_ns // 1_000_000_000))
        return f"stopped since {at}. {self.reason}"


class StopKeeper:
    """What a node knows of the operator's stop. Thread safe.

    Args:
        node: Its executor must spin.
        on_stop: Called when the stop came from another node, in the executor's thread.
        decides: When this node knows nothing and hears one that knows nothing either, motion is allowed: both are new.
    """

    def __init__(self, node: Node, on_stop: Callable[[], None], decides: bool = False) -> None:
        self._on_stop, self._decides = on_stop, decides
        self._lock = threading.Lock()
        self._state = StopState()
        self._known = threading.Event()
        self._publisher = node.create_publisher(StopStateMsg, TOPIC, LATCHED_NEWEST)
        # a reader keeps so many of all who speak: with one, this node's own question would push out the answer
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
        """Raises StageError CANCELED, with what allows motion again."""
        if self._state.stopped:
            raise StageError(OutcomeCode.CANCELED, self._state.reason)

    def ask(self) -> None:
        """Say that this node knows nothing, if it is so, for one that can then say what holds."""
        if not self._state.known:
            self._publish(self._state)

    def assume_released(self) -> None:
        """Nobody who could know says otherwise: motion is allowed until an operator's word is heard. Nothing when one was."""
        self._keep(StopState(NEVER_NS, False, "Nobody has stopped it."))

    def wait_known(self, timeout_s: float) -> bool:
        """Sleep until it is known whether the stack is stopped; False when the time passed first."""
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
        """Keep and tell what is newer than what is known; False when it is not."""
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
