"""Listens to the robot in its own process and prints each joint state's largest speed and goal changes as JSON.

Times are of arrival here, by the monotonic clock that all processes of a machine share.
"""

from __future__ import annotations

import json
import threading
import time
from functools import partial

from action_msgs.msg import GoalStatusArray
from rclpy.node import Node
from rclpy.qos import qos_profile_action_status_default
from sensor_msgs.msg import JointState

from stvla_ros.description.robot import RobotConfig
from stvla_ros.ros import qos
from stvla_ros.ros.client import client_node
from stvla_ros.ros.run import end_with_supervisor

ACTIONS = {
    "task": "/stvla/execute_task",
    "keypose": "/stvla/execute_keypose",
    "arm": RobotConfig().arm_action,
    "gripper": RobotConfig().gripper_action,
}


class Observer:
    """Listens, and prints."""

    def __init__(self, node: Node) -> None:
        self._status: dict[bytes, int] = {}
        node.create_subscription(JointState, "/joint_states", self._joints, qos.STATE)
        for name, action in ACTIONS.items():
            topic = f"{action}/_action/status"
            node.create_subscription(
                GoalStatusArray, topic, partial(self._goals, name), qos_profile_action_status_default
            )

    def _joints(self, message: JointState) -> None:
        _say(at=time.monotonic(), speed=round(max(map(abs, message.velocity[:7]), default=0.0), 5))

    def _goals(self, action: str, message: GoalStatusArray) -> None:
        at = time.monotonic()
        for goal in message.status_list:
            key = bytes(goal.goal_info.goal_id.uuid)
            if self._status.get(key) != goal.status:
                self._status[key] = goal.status
                _say(at=at, action=action, status=goal.status, goal=key.hex()[:8])


def _say(**values: object) -> None:
    print(json.dumps(values), flush=True)


def main() -> None:
    """Entry point: until killed."""
    end_with_supervisor()
    with client_node("chaos_observer") as node:
        _observer = Observer(node)
        threading.Event().wait()


if __name__ == "__main__":
    main()
