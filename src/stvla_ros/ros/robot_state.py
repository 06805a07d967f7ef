"""Arm states from joint states."""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from math import isfinite
from typing import NamedTuple

import numpy as np
from rclpy.node import Node
from sensor_msgs.msg import JointState

from stvla_ros.config import param
from stvla_ros.description.kinematics import tcp_pose
from stvla_ros.description.panda import ARM_JOINTS
from stvla_ros.description.robot import RobotConfig
from stvla_ros.errors import OutcomeCode, StageError
from stvla_ros.ros import qos
from stvla_ros.ros.convert import header, time_to_ns
from stvla_ros.ros.freshness import MAX_AHEAD_S, Arrival, Freshness, now
from stvla_ros.types import RobotState

FIRST_S = 1.0
"""How long a node that has just started waits for the first joint state."""


@dataclass(frozen=True)
class JointStateConfig:
    """How old joint states may be. Topics and names stand in the section ``robot``."""

    max_age_s: float = param(0.5, "a joint state older than this is stale [s]", ge=0.01, le=60.0)
    max_ahead_s: float = param(
        MAX_AHEAD_S, "a joint state with a stamp further in the future is refused [s]", ge=0.0, le=60.0
    )
    keep_s: float = param(2.0, "how long joint states are kept, for images that come late [s]", ge=0.1, le=60.0)


class _Sample(NamedTuple):
    """A message that was taken."""

    stamp_ns: int
    arrival: Arrival
    message: JointState


class _Part:
    """Arm or fingers: the samples of the last seconds, oldest first, and why the newest message was passed over, if it was."""

    def __init__(self, joints: Sequence[str], rule: Freshness, keep_s: float) -> None:
        self.joints, self.rule = tuple(joints), rule
        self._keep_ns = round(keep_s * 1e9)
        self.samples: deque[_Sample] = deque()
        self.refused: str | None = None

    def take(self, sample: _Sample) -> None:
        """Keep a message, or why it cannot be used.

        One that is a little older than the last is passed over; with one that is much older the clock was set back, and all
        begins anew.
        """
        self.refused = self.rule.ahead(sample.arrival) or message_fault(sample.message, self.joints)
        if self.refused:
            return
        if self.samples and sample.stamp_ns < self.samples[-1].stamp_ns:
            if self.samples[-1].stamp_ns - sample.stamp_ns < self.rule.max_ahead_s * 1e9:
                return
            self.samples.clear()
        self.samples.append(sample)
        while self.samples[0].stamp_ns < sample.stamp_ns - self._keep_ns:
            self.samples.popleft()

    def nearest(self, stamp_ns: int) -> _Sample:
        """The sample nearest to a stamp. Raises StageError STALE_STATE when it is too far away, or was not kept."""
        if stamp_ns < self.samples[-1].stamp_ns - self._keep_ns:
            late_s = (self.samples[-1].stamp_ns - stamp_ns) / 1e9
            raise _stale(
                f"The {self.rule.what} of {late_s:.2f} s ago was asked for; {self._keep_ns / 1e9:g} s are kept: the image came "
                "too late, or the clocks differ (synchronise them with chrony)."
            )
        i = bisect_left(self.samples, stamp_ns, key=lambda sample: sample.stamp_ns)
        around = (self.samples[j] for j in (i - 1, i) if 0 <= j < len(self.samples))
        found = min(around, key=lambda sample: abs(sample.stamp_ns - stamp_ns))
        away_s = abs(found.stamp_ns - stamp_ns) / 1e9
        if away_s > self.rule.max_age_s:
            raise _stale(
                f"The {self.rule.what} nearest to the image is {away_s:.2f} s away from it; "
                f"at most {self.rule.max_age_s:g} s is taken."
            )
        return found


class JointStates:
    """The newest arm state and those of the last seconds. Thread safe.

    Arm and fingers may come in messages of their own, on one topic or on two, and each is judged by the same rule. Messages
    without the joints in question are passed over (several publishers may share a topic).
    """

    def __init__(self, node: Node, config: JointStateConfig, robot: RobotConfig | None = None) -> None:
        self._node, self._config = node, config
        robot = robot or RobotConfig()
        self._arrived = threading.Condition()
        fingers = f"state of the finger joints {' and '.join(robot.finger_joints)}"
        self._arm = self._part("joint state", robot.joint_states, robot.arm_joints)
        self._fingers = self._part(fingers, robot.gripper_joint_states, robot.finger_joints)
        self._parts = (self._arm, self._fingers)
        topics: dict[str, list[_Part]] = {}
        for part in self._parts:
            topics.setdefault(part.rule.source, []).append(part)
        for topic, parts in topics.items():
            node.create_subscription(JointState, topic, partial(self._receive, parts), qos.STATE)

    def _part(self, what: str, topic: str, joints: Sequence[str]) -> _Part:
        source, limits = self._node.resolve_topic_name(topic), self._config
        return _Part(joints, Freshness(what, source, limits.max_age_s, limits.max_ahead_s), limits.keep_s)

    def _receive(self, parts: Sequence[_Part], message: JointState) -> None:
        stamp_ns = time_to_ns(message.header.stamp)
        sample = _Sample(stamp_ns, Arrival(stamp_ns, now(self._node)), message)
        with self._arrived:
            for part in parts:
                if part.joints[0] in message.name:
                    part.take(sample)
            self._arrived.notify_all()

    def age_s(self) -> float:
        """Age of the newest state, arm or fingers, whichever is older; infinite when there is none."""
        moment = now(self._node)
        with self._arrived:
            if not all(part.samples for part in self._parts):
                return float("inf")
            return max(part.samples[-1].arrival.age_s(moment) for part in self._parts)

    def state(self) -> RobotState:
        """The newest state. Raises StageError STALE_STATE when arm or fingers are older than ``max_age_s``."""
        self._wait()
        moment = now(self._node)
        with self._arrived:
            for part in self._parts:
                self._raise_if_missing(part)
                if fault := part.rule.stale(part.samples[-1].arrival, moment):
                    raise _stale(part.refused or fault)
        return self.newest()

    def newest(self) -> RobotState:
        """The newest state, however old it is. Raises StageError STALE_STATE when there is none."""
        self._wait()
        with self._arrived:
            for part in self._parts:
                self._raise_if_missing(part)
            arm, fingers = self._arm.samples[-1], self._fingers.samples[-1]
        return state_from_msg(arm.message, _width(fingers.message, self._fingers.joints), self._arm.joints)

    def at(self, stamp_ns: int) -> RobotState:
        """The state nearest to a stamp.

        Raises:
            StageError: STALE_STATE when none is within ``max_age_s`` of it, of the arm or of the fingers, or when it is older
                than what is kept.
        """
        self._wait()
        with self._arrived:
            for part in self._parts:
                self._raise_if_missing(part)
            arm, fingers = self._arm.nearest(stamp_ns), self._fingers.nearest(stamp_ns)
        return state_from_msg(arm.message, _width(fingers.message, self._fingers.joints), self._arm.joints)

    def _wait(self) -> None:
        """Give a node that has just started time to hear the first state."""
        with self._arrived:
            self._arrived.wait_for(lambda: all(part.samples or part.refused for part in self._parts), FIRST_S)

    def _raise_if_missing(self, part: _Part) -> None:
        """Raises StageError STALE_STATE when there is no state of a part at all."""
        if part.samples:
            return
        topic = part.rule.source
        if part.refused:
            raise _stale(part.refused)
        if not self._node.count_publishers(topic):
            raise _stale(f"No joint state: nobody publishes {topic}. Start the robot or the simulator.")
        if part is self._arm:
            raise _stale(f"No joint state with the joints {part.joints[0]} to {part.joints[-1]} came on {topic}.")
        raise _stale(f"No joint state with the fingers' joints {' and '.join(part.joints)} came on {topic}.")


def message_fault(message: JointState, joints: Sequence[str]) -> str | None:
    """Why a message that names some of these joints cannot be used, for the operator; None: it can."""
    names, positions, velocities = message.name, message.position, message.velocity
    if len(positions) != len(names) or len(velocities) not in (0, len(names)):
        return (
            f"A joint state with {len(names)} names, {len(positions)} positions and {len(velocities)} velocities cannot be "
            "used: look at the robot's driver."
        )
    for joint in joints:
        if joint not in names:
            return f"A joint state has {joints[0]} but not {joint}: look at the robot's driver."
        i = names.index(joint)
        if not isfinite(positions[i]):
            return f"The joint {joint} is not measured (NaN): look at the robot's driver."
    return None


def _width(message: JointState, fingers: Sequence[str]) -> float:
    """Distance between the fingers [m]: each has moved half of it."""
    return float(sum(message.position[message.name.index(finger)] for finger in fingers))


def _stale(sentence: str) -> StageError:
    return StageError(OutcomeCode.STALE_STATE, sentence)


def state_from_msg(message: JointState, gripper_m: float, joints: Sequence[str] = ARM_JOINTS) -> RobotState:
    """Arm state of a message that has all arm joints in any order; missing velocities (none, or NaN) count as 0."""
    order = [message.name.index(joint) for joint in joints]
    q = np.array(message.position)[order]
    dq = np.array(message.velocity)[order] if len(message.velocity) == len(message.name) else np.zeros(len(order))
    dq[~np.isfinite(dq)] = 0.0
    return RobotState(q, dq, tcp_pose(q), gripper_m, time_to_ns(message.header.stamp))


def state_to_msg(state: RobotState, robot: RobotConfig | None = None) -> JointState:
    """Arm and fingers in one message (each finger moves half the opening)."""
    robot = robot or RobotConfig()
    return JointState(
        header=header(state.stamp_ns, ""),
        name=[*robot.arm_joints, *robot.finger_joints],
        position=[*state.q_rad.tolist(), state.gripper_m / 2, state.gripper_m / 2],
        velocity=[*state.dq_rad_s.tolist(), 0.0, 0.0],
    )
