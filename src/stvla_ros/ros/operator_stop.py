"""The operator's stop, from a program outside the stack.

Everything that can stop the arm gets a request at once, and again until it answers: the executor and the task node,
which also keep the stop, and the controllers themselves. The controllers depend on no other process, so the arm stops
even if the executor hangs or is dead. They get requests until the executor has answered, because it may send them
another goal before that. Standstill is read from the joint states.

One thread, no parameters, no rosout, and few imports, because the operator is waiting.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import isnan
from pathlib import Path
from typing import Any

import rclpy
from action_msgs.srv import CancelGoal
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions
from sensor_msgs.msg import JointState
from std_srvs.srv import Trigger

from stvla_ros.config import build, read_parameters
from stvla_ros.description.braking import STILL_RAD_S
from stvla_ros.description.robot import RobotConfig
from stvla_ros.ros import qos
from stvla_ros.ros.middleware import end_discovery, udp_only

EXECUTOR, TASK = "executor", "task node"
KEEPERS = {EXECUTOR: "/stvla/stop", TASK: "/stvla/task/stop"}
"""The nodes that remember a stop, and the services that stop them."""

AGAIN_S = 0.2
"""Interval of requests to a silent server, and to the controllers while the executor may send them goals."""

STILL_S = 0.2
"""The arm stands still when no joint is faster than ``STILL_RAD_S`` over this time, by velocities and by positions."""

STILL_MESSAGES = 5
APART_S = 0.02
"""Positions are compared over at least this time: over 1 ms their noise would look like motion."""

EMERGENCY = "use the robot's emergency stop"

SILENT_S = 0.5
"""After this long without a joint state, standstill is not known."""


def robots(file: Path) -> tuple[RobotConfig, ...]:
    """The robot of a parameter file; both kinds, the simulated one first, when the file does not say which.

    Raises:
        ConfigError: The file cannot be used.
    """
    section = read_parameters(file).get("**", {}).get("robot", {})
    kinds = [section["kind"]] if "kind" in section else KINDS
    return tuple(build(RobotConfig, {**section, "kind": kind}, f"{file}: robot") for kind in kinds)


KINDS = ("sim", "real")
USUAL = tuple(RobotConfig(kind) for kind in KINDS)
"""The robots to look for without a usable parameter file."""


class Standstill:
    """Judges from joint states whether the arm stands still.

    Args:
        joints: Names of the arm's joints.
    """

    def __init__(self, joints: Sequence[str]) -> None:
        self._names = list(joints)
        self._stamp_ns = 0
        self._reference: tuple[int, list[float]] | None = None  # an earlier state to compare positions with
        self._heard: list[float] = []  # times of arrival since the last motion
        self.moving = False
        """In the newest joint state."""

    def receive(self, message: JointState) -> None:
        """Take a joint state; those without the arm's positions, and repeated ones, are ignored."""
        stamp_ns = message.header.stamp.sec * 1_000_000_000 + message.header.stamp.nanosec
        stamp_ns = stamp_ns or time.monotonic_ns()  # some drivers send no stamps
        complete = len(message.position) == len(message.name) and set(self._names) <= set(message.name)
        if not complete or stamp_ns == self._stamp_ns:
            return
        if stamp_ns < self._stamp_ns:  # a clock was set back, or a stamp was wrong: start over
            self._reference = None
            self._heard.clear()
        self._stamp_ns = stamp_ns
        order = [message.name.index(name) for name in self._names]
        with_velocities = len(message.velocity) == len(message.name)
        speeds = [abs(message.velocity[i]) for i in order if not isnan(message.velocity[i])] if with_velocities else []
        speeds += self._speeds(stamp_ns, [message.position[i] for i in order])
        self.moving = not all(speed < STILL_RAD_S for speed in speeds)  # NaN counts as motion
        if self.moving:
            self._heard.clear()
        self._heard.append(time.monotonic())

    def _speeds(self, stamp_ns: int, q: list[float]) -> list[float]:
        """Joint speeds from the positions of an earlier state, taken to be at least :data:`APART_S` earlier."""
        old_ns, old = self._reference or (stamp_ns, q)
        seconds = (stamp_ns - old_ns) * 1e-9
        if self._reference is None or seconds >= APART_S:
            self._reference = stamp_ns, q
        return [abs(now - before) / max(seconds, APART_S) for now, before in zip(q, old, strict=True)]

    def forget(self) -> None:
        """Ignore the joint states received so far."""
        self._heard.clear()

    @property
    def heard(self) -> bool:
        """Whether any joint state was received."""
        return self._stamp_ns > 0

    @property
    def confirmed(self) -> bool:
        """Whether the latest joint states show no motion."""
        at = self._heard
        return len(at) >= STILL_MESSAGES and at[-1] - at[0] >= STILL_S and time.monotonic() - at[-1] < SILENT_S


@dataclass
class StopResult:
    """The result of a stop.

    Attributes:
        answered: The answers, by the names in :data:`KEEPERS` and of the controllers.
        silent: Those that did not answer in time.
        standstill: Whether the arm stands still at the end.
        heard_joints: Whether any joint state was received.
    """

    answered: dict[str, str] = field(default_factory=dict)
    silent: tuple[str, ...] = ()
    standstill: bool = False
    heard_joints: bool = False

    @property
    def kept(self) -> bool:
        """Whether a node remembers the stop and rejects goals."""
        return any(name in self.answered for name in KEEPERS)

    def complaints(self, timeout_s: float) -> list[str]:
        """What is wrong, for the operator; empty: the arm stands still and the stop is kept."""
        if not self.answered:
            return [f"Nobody answered within {timeout_s:g} s: is a stack running? If the arm moves, {EMERGENCY}."]
        said = [f"No answer within {timeout_s:g} s: {', '.join(self.silent)}."] if self.silent else []
        if not self.standstill:
            why = "it still moves" if self.heard_joints else "no joint states came"
            return [*said, f"Standstill is not confirmed ({why}): {EMERGENCY}."]
        return said if self.kept else [*said, "No node keeps the stop: a stack that is started now may move the arm."]


def stop_arm(robots: Sequence[RobotConfig], timeout_s: float, say: Callable[[str], None]) -> StopResult:
    """Stop the arm now, and forbid motion until :func:`release_arm`. For the arguments see :class:`ArmStop`."""
    with ArmStop(robots) as arm:
        return arm.stop(timeout_s, say)


class ArmStop:
    """Stops the arm, again and again. Use as a context manager, in one thread.

    Whoever keeps one ready has found the servers before a stop is needed.

    Args:
        robots: Robots whose controllers may be running. When several publish joint states, the last one decides about
            standstill: a real robot's driver also publishes what looks like the simulated robot's joint states.
    """

    def __init__(self, robots: Sequence[RobotConfig]) -> None:
        self._node = node = _Node("stop")
        self._stills = {robot.joint_states: Standstill(robot.arm_joints) for robot in robots}
        keepers = [_RepeatedRequest(node, name, Trigger, service) for name, service in KEEPERS.items()]
        actions = {robot.arm_action: "arm controller" for robot in robots}
        actions |= {robot.gripper_action: "gripper controller" for robot in robots}
        self._controllers = [
            _RepeatedRequest(node, what, CancelGoal, f"{action}/_action/cancel_goal")
            for action, what in actions.items()
        ]
        self._requests = [*keepers, *self._controllers]
        for topic, judge in self._stills.items():
            node.ros.create_subscription(JointState, topic, judge.receive, qos.STATE)

    def __enter__(self) -> ArmStop:
        return self

    def __exit__(self, *_: object) -> None:
        self._node.__exit__()

    def stop(self, timeout_s: float, say: Callable[[str], None]) -> StopResult:
        """Stop the arm now, and forbid motion until :func:`release_arm`.

        Args:
            timeout_s: Time limit for answers and for standstill.
            say: Called at once with each piece of news for the operator.
        """
        until, announced = time.monotonic() + timeout_s, False
        result, names = StopResult(), {request.name for request in self._requests}
        for request in self._requests:
            request.begin()
        self._forget()
        still = next(iter(self._stills.values()))
        while time.monotonic() < until and not (still.confirmed and result.answered.keys() == names):
            still = next((judge for judge in reversed(self._stills.values()) if judge.heard), still)
            for request in self._requests:
                request.send(again=request in self._controllers and EXECUTOR not in result.answered)
            self._node.spin_once(0.02)
            for request in self._requests:
                if request.name not in result.answered and request.answer is not None:
                    result.answered[request.name] = getattr(request.answer, "message", "Canceled its goals.")
                    say(f"{request.name}: {result.answered[request.name]}")
                    self._forget()  # standstill must be seen after the answer
                    until = max(until, time.monotonic() + SILENT_S)
            if result.answered and announced != still.confirmed and (still.confirmed or still.moving):
                announced = still.confirmed
                say("The arm stands still." if announced else "The arm moves again.")
        result.standstill, result.heard_joints = still.confirmed, still.heard
        result.silent = tuple(sorted(names - result.answered.keys()))
        return result

    def _forget(self) -> None:
        for judge in self._stills.values():
            judge.forget()


def release_arm(timeout_s: float) -> str:
    """Allow motion again; returns the executor's answer. Raises ConnectionError when no executor answers in time."""
    until = time.monotonic() + timeout_s
    with _Node("release") as node:
        request = _RepeatedRequest(node, EXECUTOR, Trigger, "/stvla/resume")
        while request.answer is None and time.monotonic() < until:
            request.send()
            node.spin_once(0.02)
    if request.answer is None:
        raise ConnectionError(f"No executor answered within {timeout_s:g} s; nothing was released. Is a stack running?")
    return str(request.answer.message)


class _Node:
    """A node that its owner spins. Use as a context manager."""

    def __init__(self, name: str) -> None:
        self._context = Context()
        with udp_only():
            rclpy.init(args=[], context=self._context, signal_handler_options=SignalHandlerOptions.NO)
            self.ros = Node(
                f"stvla_{name}",
                context=self._context,
                use_global_arguments=False,
                start_parameter_services=False,
                enable_rosout=False,
            )
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self.ros)

    def __enter__(self) -> _Node:
        return self

    def __exit__(self, *_: object) -> None:
        self._executor.shutdown()
        end_discovery(self.ros)
        self.ros.destroy_node()
        self._context.try_shutdown()

    def spin_once(self, timeout_s: float) -> None:
        self._executor.spin_once(timeout_s)


class _RepeatedRequest:
    """A service request that is repeated until it is answered: messages may get lost while DDS discovers both ends."""

    def __init__(self, node: _Node, name: str, kind: Any, service: str) -> None:
        self.name = name
        self._kind, self._client = kind, node.ros.create_client(kind, service)
        self.begin()

    def begin(self) -> None:
        """Forget earlier requests: their answers do not count any more."""
        self.answer: Any = None
        self._sent_at = float("-inf")
        self._receive = self._receiver()

    def send(self, again: bool = False) -> None:
        """Send a request when it is due; ``again``: even if it was answered."""
        now = time.monotonic()
        if (self.answer is not None and not again) or now - self._sent_at < AGAIN_S:
            return
        if self._client.service_is_ready():
            self._sent_at = now
            self._client.call_async(self._kind.Request()).add_done_callback(self._receive)

    def _receiver(self) -> Callable[[Any], None]:
        def receive(future: Any) -> None:
            if self._receive is receive:
                self.answer = future.result()

        return receive
