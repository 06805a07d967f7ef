"""What is found in the graph under a name, where what was wanted is not: the right name with another type."""

from __future__ import annotations

from typing import Any

from rclpy.node import Node

ACTION_FEEDBACK = "_FeedbackMessage"
"""An action's server alone publishes its feedback, of the type ``PACKAGE/action/NAME_FeedbackMessage``."""


def other_types(node: Node, topic: str, wanted: Any) -> str | None:
    """``/x is a a_msgs/msg/A, wanted b_msgs/msg/B``, where all who publish a topic do so with another type; else None."""
    return _other(node, topic, topic, _name(wanted, "msg"))


def other_action_types(node: Node, action: str, wanted: Any) -> str | None:
    """The same for the servers of an action."""
    action = node.resolve_topic_name(action)
    return _other(node, action, f"{action}/_action/feedback", _name(wanted, "action"))


def _other(node: Node, name: str, topic: str, wanted: str) -> str | None:
    publishers = node.get_publishers_info_by_topic(topic)
    found = sorted({publisher.topic_type.removesuffix(ACTION_FEEDBACK) for publisher in publishers})
    return f"{name} is a {' and a '.join(found)}, wanted {wanted}" if found and wanted not in found else None


def _name(kind: Any, room: str) -> str:
    """``control_msgs/action/GripperCommand`` of its class."""
    return f"{kind.__module__.partition('.')[0]}/{room}/{kind.__name__}"
