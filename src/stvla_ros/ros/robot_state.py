"""Arm states from joint states, arm and gripper."""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from math import isfinite, pi, remainder
from typing import NamedTuple

import numpy as np
from rclpy.node import Node
from sensor_msgs.msg import JointState

from stvla_ros.config import param
from stvla_ros.description.kinematics import tcp_pose
from stvla_ros.description.panda import ARM_JOINTS, MAX_WIDTH_M
from stvla_ros.description.robot import LIMITS, RobotConfig
from stvla_ros.errors import OutcomeCode, StageError
from stvla_ros.ros import polling, qos
from stvla_ros.ros.convert import header, time_to_ns
from stvla_ros.ros.freshness import MAX_AHEAD_S, Arrival, Freshness, Instant, OutOfOrder, now
from stvla_ros.ros.type_mismatch import topic_type_mismatch
from stvla_ros.types import RobotState

FIRST_S = 1.0
"""How long a node that has just started waits for the first joint state."""

BEYOND_RAD = 1.0
"""A position that is further outside its joint's range is invalid: off by whole turns, in degrees, or from another
robot. A nearer one may be real, because the planning limits are narrower than the arm's; the motion planner refuses
it."""

BEYOND_M = 0.005
"""The same for a finger, whose zero is slightly off after homing."""

APART_M = 0.01
"""Fingers move together, so their positions differ by less. A joint_state_publisher fills in 0 for missing joints."""

JUMPS, JUMPS_S = 4, 2.0
"""This many jumps in this time [s] mean that messages contradict each other. One wrong message makes two."""

DRIVER = "look at the robot's driver."


@dataclass(frozen=True)
class JointStateConfig:
    """How old joint states may be. The section ``robot`` has topics and names."""

    max_age_s: float = param(0.5, "a joint state older than this is stale [s]", ge=0.01, le=60.0)
    max_ahead_s: float = param(
        MAX_AHEAD_S, "a joint state with a stamp further in the future is refused [s]", ge=0.0, le=60.0
    )
    keep_s: float = param(2.0, "how long joint states are kept, for images that come late [s]", ge=0.1, le=60.0)


@dataclass(frozen=True, eq=False)
class Joints:
    """Some joints of a robot, and their possible positions. Units are rad or m.

    Attributes:
        names: Names in the order of the robot's arrays.
        low: Lowest possible position of each joint.
        high: Highest possible position of each joint.
        speed: Highest possible speed [/s].
        jitter: Error of positions due to inexact stamps.
        alike: All joints move together, so that the position of one holds for all (mimic joints).
        unit: Unit, for sentences.
    """

    names: tuple[str, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    speed: float
    jitter: float
    alike: bool
    unit: str

    @classmethod
    def arm(cls, robot: RobotConfig) -> Joints:
        """The seven joints of an arm. Franka's fastest joint reaches 5.26 rad/s."""
        low, high = robot.limits.q_min_rad - BEYOND_RAD, robot.limits.q_max_rad + BEYOND_RAD
        return cls(robot.arm_joints, tuple(low.tolist()), tuple(high.tolist()), 6.0, 0.15, False, "rad")

    @classmethod
    def fingers(cls, robot: RobotConfig) -> Joints:
        """The two joints of a hand, each with half of the way. Franka's fingers reach 0.05 m/s, simulated ones more."""
        high = MAX_WIDTH_M / 2 + BEYOND_M
        return cls(robot.finger_joints, (-BEYOND_M,) * 2, (high,) * 2, 0.5, 0.01, True, "m")

    def positions(self, message: JointState) -> list[float]:
        """Positions in the order of ``names``.

        Raises:
            ValueError: A message that names some of these joints cannot be used; the sentence is for the operator.
        """
        names, sizes = message.name, (len(message.name), len(message.position), len(message.velocity))
        if sizes[1] != sizes[0] or sizes[2] not in (0, sizes[0]):
            raise ValueError(
                f"A joint state with {sizes[0]} names, {sizes[1]} positions and {sizes[2]} velocities cannot be used: {DRIVER}"
            )
        where = {name: i for i, name in enumerate(names)}
        if len(where) < len(names) and (twice := next((name for name in self.names if names.count(name) > 1), None)):
            raise ValueError(f"A joint state has {twice} more than once: {DRIVER}")
        present = [name for name in self.names if name in where]
        if len(present) < len(self.names) and not self.alike:
            missing = next(name for name in self.names if name not in where)
            raise ValueError(f"A joint state has {present[0]} but not {missing}: {DRIVER}")
        positions = [float(message.position[where.get(name, where[present[0]])]) for name in self.names]
        for name, q, low, high in zip(self.names, positions, self.low, self.high, strict=True):
            if not low <= q <= high:
                raise ValueError(self._impossible(name, q, low, high))
        self._raise_if_filled_up(positions)
        return positions

    def _impossible(self, name: str, q: float, low: float, high: float) -> str:
        if not isfinite(q):
            return f"The joint {name} is not measured (NaN): {DRIVER}"
        return f"The joint {name} is at {q:.5g} {self.unit}, where it cannot be{_turns(q, low, high)}: {DRIVER}"

    def _raise_if_filled_up(self, positions: Sequence[float]) -> None:
        """Raises ValueError for zeros that were filled in and not measured."""
        if self.alike and max(positions) - min(positions) > APART_M:
            apart = " and ".join(
                f"{name} at {q:.3f} {self.unit}" for name, q in zip(self.names, positions, strict=True)
            )
            raise ValueError(
                f"The fingers move together, but joint states have {apart}, so one is not measured: {DRIVER}"
            )
        if self.alike or any(positions):
            return
        for name, low, high in zip(self.names, self.low, self.high, strict=True):
            if not low + BEYOND_RAD <= 0.0 <= high - BEYOND_RAD:
                raise ValueError(
                    f"All joints are at 0, where {name} cannot be: they are not measured yet, or filled in: {DRIVER}"
                )

    def jump(self, before: Sequence[float], after: Sequence[float], seconds: float) -> str | None:
        """Which joint cannot have moved so far in a time, and its positions; None if all can."""
        limit = self.speed * seconds + self.jitter
        for name, a, b in zip(self.names, before, after, strict=True):
            if abs(b - a) > limit:
                return f"{name} at {a:.3f} and at {b:.3f} {self.unit} within {1e3 * seconds:.0f} ms"
        return None


def _turns(q: float, low: float, high: float) -> str:
    """A hint for a position that is off by a whole turn or in degrees. Those of fingers are too small for either."""
    what, other = ("a turn off", remainder(q, 2 * pi)) if abs(q) < 4 * pi else ("in degrees", q * pi / 180)
    possible = abs(q) > pi and low + BEYOND_RAD <= other <= high - BEYOND_RAD
    return f" ({what}? {other:.3f} rad would be possible)" if possible else ""


class _Sample(NamedTuple):
    """A message that can be used."""

    stamp_ns: int
    arrival: Arrival
    message: JointState
    positions: list[float]


class _Part:
    """Arm or fingers: the samples of the last seconds, oldest first, and why messages were refused.

    Attributes:
        joints: Its joints.
        rule: How old its messages may be.
        samples: The accepted messages.
        others: The names in the newest message without these joints.
    """

    def __init__(self, joints: Joints, rule: Freshness, keep_s: float) -> None:
        self.joints, self.rule = joints, rule
        self._keep_ns = round(keep_s * 1e9)
        self.samples: deque[_Sample] = deque()
        self.others: Sequence[str] | None = None
        self._refused: tuple[str, float] | None = None  # why the newest message was refused, and when
        self._before: _Sample | None = None  # the newest valid message, accepted or not
        self._out_of_order = OutOfOrder()
        self._jumps: deque[float] = deque(maxlen=JUMPS)  # times of the last jumps
        self._jump = ""

    def take(self, stamp_ns: int, arrival: Arrival, message: JointState) -> None:
        """Keep a message, or the reason why it cannot be used. A single wrong message does not hide the others."""
        try:
            sample = _Sample(stamp_ns, arrival, message, self.joints.positions(message))
            fault = self.rule.ahead(arrival) or self._jumped(sample)
        except ValueError as error:
            fault = str(error)
        self._refused = None if fault is None else (fault, arrival.at.monotonic_s)
        if fault is None and self._newer(sample):
            self.samples.append(sample)
            while self.samples[0].stamp_ns < stamp_ns - self._keep_ns:
                self.samples.popleft()

    def _jumped(self, sample: _Sample) -> str | None:
        """Why a message contradicts the one before it, if it does: a position far from both neighbours is wrong."""
        before, self._before = self._before, sample
        if before is None:
            return None
        seconds = abs(sample.stamp_ns - before.stamp_ns) / 1e9
        jump = self.joints.jump(before.positions, sample.positions, seconds)
        if jump is None:
            return None
        self._jump = jump
        self._jumps.append(sample.arrival.at.monotonic_s)
        return f"The {self.rule.what} on {self.rule.source} jumps faster than the joints can move: {jump}: {DRIVER}"

    def _newer(self, sample: _Sample) -> bool:
        """Whether a message is the newest sample; one that is out of order is not.

        All samples are forgotten when a clock was set back: this machine's, so that the newest sample is in the
        future, or that of the stamps, so that several messages in a row are older.
        """
        if not self.samples or sample.stamp_ns > self.samples[-1].stamp_ns:
            self._out_of_order.reset()
            return True
        if sample.stamp_ns == self.samples[-1].stamp_ns:
            self.samples.pop()
            return True
        future = Arrival(self.samples[-1].stamp_ns, sample.arrival.at).ahead_s > self.rule.max_ahead_s
        if not future and not self._out_of_order.clock_went_back():
            return False
        self.samples.clear()
        self._jumps.clear()  # of another time
        self._out_of_order.reset()
        return True

    def missing(self) -> str | None:
        """Why there is no sample although messages came; None when there is one, or no message had these joints."""
        return None if self.samples or self._refused is None else self._refused[0]

    def contradiction(self, moment: Instant) -> str | None:
        """How the latest messages contradict each other, if they do."""
        many = len(self._jumps) == JUMPS and moment.monotonic_s - self._jumps[0] < JUMPS_S
        return f"Messages on {self.rule.source} contradict each other: {self._jump}" if many else None

    def stale(self, moment: Instant) -> str | None:
        """Why the newest sample is too old: messages are refused, or none come; None if it is not."""
        fault = self.rule.stale(self.samples[-1].arrival, moment)
        if fault and self._refused and moment.monotonic_s - self._refused[1] <= self.rule.max_age_s:
            return self._refused[0]
        return fault

    def nearest(self, stamp_ns: int) -> _Sample:
        """The sample nearest to a stamp. Raises StageError STALE_STATE when it is too far away, or was not kept."""
        newest = self.samples[-1]
        if stamp_ns < newest.stamp_ns - self._keep_ns:
            late_s = (newest.stamp_ns - stamp_ns) / 1e9
            raise _stale(
                f"The {self.rule.what} of {late_s:.2f} s ago is needed, but only {self._keep_ns / 1e9:g} s are kept: the image "
                "came too late, or the clocks differ (synchronise them with chrony)."
            )
        i = bisect_left(self.samples, stamp_ns, key=lambda sample: sample.stamp_ns)
        around = (self.samples[j] for j in (i - 1, i) if 0 <= j < len(self.samples))
        found = min(around, key=lambda sample: abs(sample.stamp_ns - stamp_ns))
        away_s = abs(found.stamp_ns - stamp_ns) / 1e9
        if away_s > self.rule.max_age_s:
            raise _stale(
                self.rule.stale(newest.arrival, newest.arrival.at)  # it was already late at its arrival
                or f"The {self.rule.what} nearest to the image is {away_s:.2f} s away from it; "
                f"at most {self.rule.max_age_s:g} s is accepted."
            )
        return found


class JointStates:
    """The arm states of the last seconds. Thread safe.

    Arm and fingers may come in separate messages, on one topic or two; the same rules hold for both. Messages without
    the joints are ignored, because several publishers may share a topic. Messages with impossible positions are
    refused; the operator learns why when there are no valid ones.
    """

    def __init__(self, node: Node, config: JointStateConfig, robot: RobotConfig | None = None) -> None:
        self._node, self._config = node, config
        robot = robot or RobotConfig()
        self._arrived = threading.Condition()
        fingers = f"state of the finger joints {' and '.join(robot.finger_joints)}"
        self._arm = self._part("joint state", robot.joint_states, Joints.arm(robot))
        self._fingers = self._part(fingers, robot.gripper_joint_states, Joints.fingers(robot))
        self._parts = (self._arm, self._fingers)
        topics: dict[str, list[_Part]] = {}
        for part in self._parts:
            topics.setdefault(part.rule.source, []).append(part)
        self._take = [
            polling.subscribe(node, JointState, topic, partial(self._receive, parts), qos.FAST_STATE)
            for topic, parts in topics.items()
        ]

    def _part(self, what: str, topic: str, joints: Joints) -> _Part:
        source, limits = self._node.resolve_topic_name(topic), self._config
        return _Part(joints, Freshness(what, source, limits.max_age_s, limits.max_ahead_s), limits.keep_s)

    def _look(self) -> None:
        """Take what has come since the last time."""
        for take in self._take:
            take()

    def _receive(self, parts: Sequence[_Part], message: JointState) -> None:
        stamp_ns = time_to_ns(message.header.stamp)
        arrival = Arrival(stamp_ns, now(self._node))
        with self._arrived:
            for part in parts:
                if any(name in message.name for name in part.joints.names):
                    part.take(stamp_ns, arrival, message)
                else:
                    part.others = message.name
            self._arrived.notify_all()

    @property
    def heard(self) -> bool:
        """Whether messages with the arm's joints came, valid or not."""
        self._look()
        with self._arrived:
            return bool(self._arm.samples or self._arm.missing())

    def age_s(self) -> float:
        """Age of the newest state, arm or fingers, whichever is older; infinite when there is none."""
        self._look()
        moment = now(self._node)
        with self._arrived:
            if not all(part.samples for part in self._parts):
                return float("inf")
            return max(part.samples[-1].arrival.age_s(moment) for part in self._parts)

    def state(self) -> RobotState:
        """The newest state.

        Raises:
            StageError: STALE_STATE when arm or fingers are older than ``max_age_s``, or messages contradict each other.
        """
        self._wait()
        moment = now(self._node)
        with self._arrived:
            for part in self._parts:
                self._raise_if_missing(part)
                self._raise_if_contradictory(part, moment)
                if fault := part.stale(moment):
                    raise _stale(fault)
        return self.newest()

    def newest(self) -> RobotState:
        """The newest state, however old it is. Raises StageError STALE_STATE when there is none."""
        self._wait()
        with self._arrived:
            for part in self._parts:
                self._raise_if_missing(part)
            return _state(self._arm.samples[-1], self._fingers.samples[-1], self._arm.joints.names)

    def at(self, stamp_ns: int) -> RobotState:
        """The state nearest to a stamp.

        Raises:
            StageError: STALE_STATE when none is within ``max_age_s`` of it, of the arm or of the fingers, when it is
                older than what is kept, or when messages contradict each other.
        """
        self._wait()
        moment = now(self._node)
        with self._arrived:
            for part in self._parts:
                self._raise_if_missing(part)
                self._raise_if_contradictory(part, moment)
            return _state(self._arm.nearest(stamp_ns), self._fingers.nearest(stamp_ns), self._arm.joints.names)

    def _wait(self) -> None:
        """Take what has come; give a node that has just started time to receive the first state."""
        self._look()
        with self._arrived:
            self._arrived.wait_for(lambda: all(part.samples or part.missing() for part in self._parts), FIRST_S)

    def _raise_if_contradictory(self, part: _Part, moment: Instant) -> None:
        """Raises StageError STALE_STATE when messages contradict each other."""
        if fault := part.contradiction(moment):
            topic = part.rule.source
            publishers = self._node.count_publishers(topic)
            remedy = (
                f"{publishers} nodes publish there; only the robot's driver should (`ros2 topic info -v {topic}`)."
                if publishers > 1
                else DRIVER
            )
            raise _stale(f"{fault}: {remedy}")

    def _raise_if_missing(self, part: _Part) -> None:
        """Raises StageError STALE_STATE when there is no state of a part at all."""
        if part.samples:
            return
        if fault := part.missing():
            raise _stale(fault)
        topic, names = part.rule.source, part.joints.names
        if not self._node.count_publishers(topic):
            raise _stale(f"No joint state: nobody publishes {topic}. Start the robot or the simulator.")
        if fault := topic_type_mismatch(self._node, topic, JointState):
            raise _stale(f"No joint state: {fault}.")
        joints = f"joints {names[0]} to {names[-1]}" if part is self._arm else f"fingers' joints {' and '.join(names)}"
        raise _stale(f"No joint state with the {joints} came on {topic}{_found(part, self._arm.joints.names)}")


def _found(part: _Part, arm: Sequence[str]) -> str:
    """The end of the sentence about missing joints: what came instead, and what to do."""
    if part.others is None:
        return ", nor any other: look at the robot's driver (is its joint_state_broadcaster active?)."
    named = ", ".join(part.others[:4]) + (", ..." if len(part.others) > 4 else "") or "no names"
    if part.joints.names != arm:
        return f"; those that came have {named}: start the gripper's driver, or set robot.gripper_joint_states to its topic."
    endings = [name.rpartition("_")[2] for name in arm]
    prefixes = [name.removesuffix(f"_{endings[0]}") for name in part.others if name.endswith(f"_{endings[0]}")]
    prefix = next((p for p in prefixes if all(f"{p}_{ending}" in part.others for ending in endings)), None)
    setting = "robot.model" if prefix in LIMITS else "robot.prefix"
    return f"; those that came have {named}: set {f'{setting} to {prefix}' if prefix else 'robot.joint_states or robot.prefix'}."


def _state(arm: _Sample, fingers: _Sample, names: Sequence[str]) -> RobotState:
    width_m = min(max(sum(fingers.positions), 0.0), MAX_WIDTH_M)  # closed fingers read slightly below 0
    return state_from_msg(arm.message, width_m, names, fingers.stamp_ns)


def _stale(sentence: str) -> StageError:
    return StageError(OutcomeCode.STALE_STATE, sentence)


def state_from_msg(
    message: JointState, gripper_m: float, joints: Sequence[str] = ARM_JOINTS, gripper_stamp_ns: int = 0
) -> RobotState:
    """Arm state from a message with all arm joints in any order; missing velocities become NaN."""
    order = [message.name.index(joint) for joint in joints]
    q = np.array(message.position)[order]
    measured = len(message.velocity) == len(message.name)
    dq = np.array(message.velocity)[order] if measured else np.full(len(order), np.nan)
    dq[~np.isfinite(dq)] = np.nan
    return RobotState(q, dq, tcp_pose(q), gripper_m, time_to_ns(message.header.stamp), gripper_stamp_ns)


def state_to_msg(state: RobotState, robot: RobotConfig | None = None) -> JointState:
    """Arm and fingers in one message (each finger has half the opening); without velocities unless all are measured."""
    robot = robot or RobotConfig()
    measured = bool(np.isfinite(state.dq_rad_s).all())
    return JointState(
        header=header(state.stamp_ns, ""),
        name=[*robot.arm_joints, *robot.finger_joints],
        position=[*state.q_rad.tolist(), state.gripper_m / 2, state.gripper_m / 2],
        velocity=[*state.dq_rad_s.tolist(), 0.0, 0.0] if measured else [],
    )
