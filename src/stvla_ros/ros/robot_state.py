"""Arm states from joint states."""

from __future__ import annotations

import threading
import time
from bisect import bisect_left
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from rclpy.node import Node
from sensor_msgs.msg import JointState

from stvla_ros.config import param
from stvla_ros.description.kinematics import tcp_pose
from stvla_ros.description.panda import ARM_JOINTS, FINGER_JOINTS
from stvla_ros.errors import OutcomeCode, StageError
from stvla_ros.ros import qos
from stvla_ros.ros.convert import header, time_to_ns
from stvla_ros.types import RobotState

FIRST_S = 1.0
"""How long a node that has just started waits for the first joint state."""


@dataclass(frozen=True)
class JointStateConfig:
    """Where joint states come from."""

    topic: str = param("joint_states", "joint state topic with the arm's and the fingers' joints")
    prefix: str = param("panda", "what joint names start with: panda, or fr3 for the newer arm")
    max_age_s: float = param(0.5, "a joint state older than this is stale [s]", ge=0.01, le=60.0)


def joint_names(prefix: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Names of the seven joints of the arm and of the two fingers."""
    arm, fingers = (
        [f"{prefix}{name.removeprefix('panda')}" for name in names] for names in (ARM_JOINTS, FINGER_JOINTS)
    )
    return tuple(arm), tuple(fingers)


class JointStates:
    """The newest arm state and those of the last seconds. Thread safe.

    Messages without all joints of the arm are passed over (several publishers may share the topic); fingers may come
    in messages of their own, as franka_ros2 sends them.
    """

    def __init__(self, node: Node, config: JointStateConfig, keep: int = 400) -> None:
        self._node, self._config = node, config
        self._arm_names, self._finger_names = joint_names(config.prefix)
        self._arrived = threading.Condition()
        self._arm: deque[tuple[int, JointState]] = deque(maxlen=keep)
        self._fingers: deque[tuple[int, float]] = deque(maxlen=keep)
        self._subscription = node.create_subscription(JointState, config.topic, self._receive, qos.STATE)

    def _receive(self, message: JointState) -> None:
        stamp_ns = time_to_ns(message.header.stamp)
        if len(message.position) != len(message.name):
            return
        with self._arrived:
            if set(self._finger_names) <= set(message.name):
                width = sum(message.position[message.name.index(f)] for f in self._finger_names)
                self._fingers.append((stamp_ns, width))
            if set(self._arm_names) <= set(message.name):
                self._arm.append((stamp_ns, message))
                self._arrived.notify_all()

    def age_s(self) -> float:
        """Age of the newest state; infinite when there is none."""
        with self._arrived:
            newest = self._arm[-1][0] if self._arm else None
        return float("inf") if newest is None else (self._node.get_clock().now().nanoseconds - newest) / 1e9

    def state(self) -> RobotState:
        """The newest state. Raises StageError STALE_STATE when it is older than ``max_age_s``."""
        with self._arrived:
            self._arrived.wait_for(lambda: self._arm, FIRST_S)
        if self.age_s() > self._config.max_age_s:
            raise StageError(OutcomeCode.STALE_STATE, self._why())
        return self.at(2**62)

    def at(self, stamp_ns: int) -> RobotState:
        """The state nearest to a stamp. Raises StageError STALE_STATE when none is within ``max_age_s`` of it."""
        with self._arrived:
            self._arrived.wait_for(lambda: self._arm and self._fingers, FIRST_S)
            if not self._arm:
                raise StageError(OutcomeCode.STALE_STATE, self._why())
            found_ns, message = self._arm[_nearest(self._arm, stamp_ns)]
            if not self._fingers:
                names, topic = " and ".join(self._finger_names), self._subscription.topic_name
                raise StageError(
                    OutcomeCode.STALE_STATE, f"No joint state with the fingers' joints {names} came on {topic}."
                )
            width = self._fingers[_nearest(self._fingers, found_ns)][1]
        if stamp_ns != 2**62 and abs(found_ns - stamp_ns) > self._config.max_age_s * 1e9:
            raise StageError(
                OutcomeCode.STALE_STATE,
                f"The joint state nearest to the image is {abs(found_ns - stamp_ns) / 1e9:.2f} s away from it; "
                f"at most {self._config.max_age_s:g} s is taken.",
            )
        return state_from_msg(message, width, self._arm_names)

    def _why(self) -> str:
        topic = self._subscription.topic_name
        if not self._node.count_publishers(topic):
            return f"No joint state: nobody publishes {topic}. Start the robot or the simulator."
        if not self._arm:
            return f"No joint state with the joints {self._arm_names[0]} to {self._arm_names[-1]} came on {topic}."
        age_s = (time.time_ns() - self._arm[-1][0]) / 1e9
        return f"The newest joint state on {topic} is {age_s:.2f} s old; at most {self._config.max_age_s:g} s is taken."


def _nearest(row: deque[tuple[int, object]] | deque[tuple[int, float]], stamp_ns: int) -> int:
    i = bisect_left(row, stamp_ns, key=lambda item: item[0])
    if i == len(row):
        return i - 1
    return i if i == 0 or row[i][0] - stamp_ns <= stamp_ns - row[i - 1][0] else i - 1


def state_from_msg(message: JointState, gripper_m: float, joints: Sequence[str] = ARM_JOINTS) -> RobotState:
    """Arm state of a message that has all arm joints in any order; missing velocities count as 0."""
    order = [message.name.index(joint) for joint in joints]
    q = np.array(message.position)[order]
    dq = np.array(message.velocity)[order] if len(message.velocity) == len(message.name) else np.zeros(len(order))
    return RobotState(q, dq, tcp_pose(q), gripper_m, time_to_ns(message.header.stamp))


def state_to_msg(state: RobotState) -> JointState:
    """Arm and fingers in one message (each finger moves half the opening)."""
    return JointState(
        header=header(state.stamp_ns, ""),
        name=[*ARM_JOINTS, *FINGER_JOINTS],
        position=[*state.q_rad.tolist(), state.gripper_m / 2, state.gripper_m / 2],
        velocity=[*state.dq_rad_s.tolist(), 0.0, 0.0],
    )
