"""Topics that come faster than a node needs them: messages are taken at times, not one by one."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Any

from rclpy.callback_groups import CallbackGroup
from rclpy.exceptions import InvalidHandle
from rclpy.node import Node
from rclpy.qos import QoSProfile
from rclpy.serialization import deserialize_message

from stvla_ros.ros.freshness import STEADY

PERIOD_S = 0.02
"""A robot's driver publishes joint states at up to 1 kHz. To wake a Python node and to read a message costs 0.3 to 0.6 ms
of a core."""

NEWEST = 4
"""So many messages of one length are read each time, so that a topic of 100 Hz loses none."""


class _NotWaitedFor(CallbackGroup):
    """Keeps a subscription out of what the executor waits for."""

    def can_execute(self, entity: Any) -> bool:
        return False

    def beginning_execution(self, entity: Any) -> bool:
        return False

    def ending_execution(self, entity: Any) -> None:
        pass


def subscribe(node: Node, kind: Any, topic: str, receive: Callable[[Any], None], qos: QoSProfile) -> Callable[[], None]:
    """Receive the newest messages of a topic every :data:`PERIOD_S`, and whenever somebody asks.

    Publishers that share the topic do not hide each other, as long as their messages have different lengths, like those
    of an arm and of a hand. With simulation time each message is received when it comes, because its order to those on
    /clock counts; so is each of a bag.

    Args:
        node: Its executor must spin.
        kind: The message class.
        topic: Name of the topic.
        receive: Called with each message, by one thread at a time.
        qos: Its depth holds what comes in a period.

    Returns:
        A function that takes what has come now, from any thread.
    """
    if not isinstance(node, Node) or getattr(node.get_clock(), "ros_time_is_active", False):
        node.create_subscription(kind, topic, receive, qos)
        return lambda: None
    subscription = node.create_subscription(kind, topic, receive, qos, callback_group=_NotWaitedFor(), raw=True)
    taking = threading.Lock()

    def take() -> None:
        newest: dict[int, deque[bytes]] = {}
        with taking:
            try:
                with subscription.handle:
                    while (taken := subscription.handle.take_message(kind, True)) is not None:
                        newest.setdefault(len(taken[0]), deque(maxlen=NEWEST)).append(taken[0])
            except InvalidHandle:  # the node ends
                return
            for messages in newest.values():
                for message in messages:
                    receive(deserialize_message(message, kind))

    node.create_timer(PERIOD_S, take, clock=STEADY)
    return take
