"""Topics and actions that exist under the right name with another type, in a sentence."""

from __future__ import annotations

from typing import Any

from rclpy.node import Node

ACTION_FEEDBACK = "_FeedbackMessage"
"""Only an action's server publishes its feedback, with the type ``PACKAGE/action/NAME_FeedbackMessage``."""


def topic_type_mismatch(node: Node, topic: str, wanted: Any) -> str | None:
    """``/x is a a_msgs/msg/A, wanted b_msgs/msg/B`` where every publisher of a topic uses another type; else None."""
    return _mismatch(node, topic, topic, _name(wanted, "msg"))


def action_type_mismatch(node: Node, action: str, wanted: Any) -> str | None:
    """The same for the servers of an action."""
    action = node.resolve_topic_name(action)
    return _mismatch(node, action, f"{action}/_action/feedback", _name(wanted, "action"))


def _mismatch(node: Node, name: str, topic: str, wanted: str) -> str | None:
    publishers = node.get_publishers_info_by_topic(topic)
    found = sorted({publisher.topic_type.removesuffix(ACTION_FEEDBACK) for publisher in publishers})
    return f"{name} is a {' and a '.join(found)}, wanted {wanted}" if found and wanted not in found else None


def _name(cls: type, folder: str) -> str:
    """The type name of a message or action class, e.g. ``control_msgs/action/GripperCommand``."""
    return f"{cls.__module__.partition('.')[0]}/{folder}/{cls.__name__}"
