"""Lifted paths received from the guidance node."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict

from rclpy.node import Node
from stvla_msgs.msg import Trace3d as Trace3dMsg

from stvla_ros.errors import CancelToken, OutcomeCode, StageError
from stvla_ros.ros import qos
from stvla_ros.ros.convert import raise_unless_ok

KEPT_TRACES = 16


class TraceInbox:
    """Keeps the newest lifted paths by plan, and the errors of plans that could not be lifted."""

    def __init__(self, node: Node) -> None:
        self._arrived = threading.Condition()
        self._traces: OrderedDict[str, Trace3dMsg] = OrderedDict()
        node.create_subscription(Trace3dMsg, "stvla/trace", self._receive, qos.LATCHED)

    def _receive(self, message: Trace3dMsg) -> None:
        with self._arrived:
            self._traces[message.plan_id] = message
            while len(self._traces) > KEPT_TRACES:
                self._traces.popitem(last=False)
            self._arrived.notify_all()

    def wait(self, plan_id: str, timeout_s: float, cancel: CancelToken) -> Trace3dMsg:
        """Wait for the path lifted from a plan.

        Raises:
            StageError: The reason why it was not lifted; SERVER_TIMEOUT; the cancel's reason.
        """
        end = time.monotonic() + timeout_s
        release = cancel.on_cancel(self._wake)
        try:
            with self._arrived:
                while plan_id not in self._traces:
                    cancel.raise_if_set()
                    left = end - time.monotonic()
                    if left <= 0:
                        sentence = (
                            f"The guidance node did not lift plan '{plan_id}' within {timeout_s:g} s: look at its log."
                        )
                        raise StageError(OutcomeCode.SERVER_TIMEOUT, sentence)
                    self._arrived.wait(left)
                message = self._traces[plan_id]
        finally:
            release()
        raise_unless_ok(message.outcome)
        return message

    def _wake(self) -> None:
        with self._arrived:
            self._arrived.notify_all()
