"""The stop that needs nobody's consent: cancel every goal on the robot's controllers."""

from __future__ import annotations

from collections.abc import Sequence

from action_msgs.srv import CancelGoal
from rclpy.node import Node
from rclpy.task import Future


class Stopper:
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
