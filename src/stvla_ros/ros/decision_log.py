"""Publishes what a node decided, for a recorder. Without one, nothing of it is computed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rclpy.node import Node

from stvla_ros.ros import qos
from stvla_ros.ros.decisions import outcome_of
from stvla_ros.types import Outcome


class Stopwatch:
    """Seconds since it was created or last restarted."""

    def __init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        self._start = time.perf_counter()

    @property
    def seconds(self) -> float:
        return time.perf_counter() - self._start


class DecisionLog:
    """A publisher of one kind of decision.

    Args:
        node: Publishes.
        message_type: Of the decision.
        topic: One of those in :mod:`stvla_ros.ros.decisions`.
    """

    def __init__(self, node: Node, message_type: Any, topic: str) -> None:
        self._out = node.create_publisher(message_type, topic, qos.EVENT)

    def tell(self, make: Callable[[], Any]) -> None:
        """Publish the message that ``make`` returns, if somebody listens."""
        if self._out.get_subscription_count():
            self._out.publish(make())

    @contextmanager
    def told(self, make: Callable[[Outcome, float], Any]) -> Iterator[Stopwatch]:
        """Publish a decision when the block ends, however it ends.

        Args:
            make: The message, from the outcome and the seconds since the block began or its stopwatch was restarted.
        """
        watch, error = Stopwatch(), None
        try:
            yield watch
        except BaseException as failure:
            error = failure
            raise
        finally:
            seconds = watch.seconds
            self.tell(lambda: make(outcome_of(error), seconds))
