"""What can be heard of a running stack, its camera and its robot in a few seconds, without disturbing them."""

from __future__ import annotations

import struct
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.utilities import get_rmw_implementation_identifier
from sensor_msgs.msg import CameraInfo, Image, JointState
from stvla_msgs.msg import Heartbeat
from stvla_msgs.msg import StopState as StopStateMsg

from stvla_ros import registry
from stvla_ros.config import EVERY_NODE, SHARED, build, nest
from stvla_ros.description.robot import RobotConfig
from stvla_ros.doctor.streams import Stream
from stvla_ros.errors import CancelToken, StageError
from stvla_ros.ros import heartbeats, qos, stop_state
from stvla_ros.ros.client import client_node
from stvla_ros.ros.convert import time_to_ns
from stvla_ros.ros.frames import CameraConfig, RgbdReceiver
from stvla_ros.ros.robot_state import JointStateConfig, JointStates
from stvla_ros.ros.robot_view import parameters_of
from stvla_ros.ros.type_mismatch import topic_type_mismatch
from stvla_ros.types import RgbdFrame, RobotState

ASKED = ("executor", "planner", "policy", "camera")
"""Nodes whose settings are asked for."""

SETTLE_S = 0.5
"""After the first heartbeat, the others follow within this time."""

OURS = "stvla: "
"""How the names of our nodes begin in diagnostics."""

FRAME_S = 10.0
"""How long to wait for a frame whose parts get lost on their way to this program."""

COLOR, DEPTH, INFO, ARM, FINGERS = "color", "depth", "info", "arm", "fingers"

Nodes = Mapping[str, Mapping[str, Any]]
"""Node -> its settings, nested; those of all nodes under :data:`stvla_ros.config.EVERY_NODE`."""


@dataclass(frozen=True)
class Report:
    """A node's own view of itself: what troubles it (empty: nothing), and its figures by name."""

    trouble: str
    values: Mapping[str, str]


@dataclass(frozen=True)
class StackView:
    """What was heard.

    Attributes:
        rmw: The middleware of this process.
        nodes: Settings that were used: those of the running nodes, or of a parameter file.
        beats: Node -> its heartbeats, by the system clock.
        streams: What a topic has (:data:`COLOR`, ...) -> its messages.
        frame: The newest image; None: there is none that can be used.
        camera_fault: Why the images cannot be used, if they cannot.
        state: The arm's state, at the image's stamp if there is one.
        joints_fault: Why the joint states cannot be used, if they cannot.
        stop: The operator's stop.
        reports: Node -> its newest diagnostics.
    """

    rmw: str = "rmw_fastrtps_cpp"
    nodes: Nodes = field(default_factory=dict)
    beats: Mapping[str, Stream] = field(default_factory=dict)
    streams: Mapping[str, Stream] = field(default_factory=dict)
    frame: RgbdFrame | None = None
    camera_fault: str | None = None
    state: RobotState | None = None
    joints_fault: str | None = None
    stop: stop_state.StopState = field(default_factory=stop_state.StopState)
    reports: Mapping[str, Report] = field(default_factory=dict)

    @property
    def silent(self) -> bool:
        """Whether neither a stack nor a camera nor a robot was heard."""
        return not self.beats and not any(len(s.at_s) or s.publishers for s in self.streams.values())


def look_at_stack(given: Nodes | None, discovery_s: float, listen_s: float) -> StackView:
    """Listen to whatever runs in this ROS domain.

    Args:
        given: Settings that name the topics; None: those of the running nodes, else the defaults.
        discovery_s: How long to wait for a first heartbeat.
        listen_s: How long to listen to the topics, from when they are known.

    Raises:
        ConfigError: A setting of a running node is unknown here: it is of another version.
    """
    with client_node("stvla_doctor") as node:
        clock = _SystemClock()
        beats: dict[str, _Tap] = defaultdict(lambda: _Tap(heartbeats.TOPIC, clock))
        stops: list[StopStateMsg] = []
        reports: dict[str, Report] = {}
        hear: Callable[[Any], None] = lambda message: beats[message.node].stamped(message)  # noqa: E731
        node.create_subscription(Heartbeat, heartbeats.TOPIC, hear, qos.HEARTBEAT)
        node.create_subscription(StopStateMsg, stop_state.TOPIC, stops.append, qos.LATCHED)
        node.create_subscription(DiagnosticArray, "/diagnostics", partial(_note, reports), qos.STATE)
        _wait(lambda: bool(beats), discovery_s)
        time.sleep(SETTLE_S if beats else 0.0)
        nodes = given if given is not None else _settings(node, [name for name in ASKED if name in beats])
        _use_time_of(node, nodes)
        view = _listen(node, nodes, listen_s)
        states = [stop_state.state_from_msg(message) for message in stops]
        return StackView(
            get_rmw_implementation_identifier(),
            nodes,
            {name: tap.stream(node) for name, tap in sorted(dict(beats).items())},
            stop=max(states, key=lambda state: state.stamp_ns, default=stop_state.StopState()),
            reports=dict(reports),
            **view,
        )


def robot_of(nodes: Nodes) -> RobotConfig:
    """The robot's names. Raises ConfigError for a wrong setting."""
    shared = nodes.get("executor", {}).get(SHARED) or nodes.get(EVERY_NODE, {}).get(SHARED, {})
    return build(RobotConfig, shared, SHARED)


def camera_of(nodes: Nodes) -> CameraConfig:
    """The camera's topics, as the executor reads them. Raises ConfigError for a wrong setting."""
    return build(CameraConfig, nodes.get("executor", {}).get("camera", {}), "executor.camera")


def _wait(condition: Callable[[], bool], seconds: float) -> None:
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.02)


def _settings(node: Node, names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """The settings of running nodes; the defaults for all others."""
    nodes = registry.read_nodes(None)
    for name in names:
        told = parameters_of(node, f"/{name}")
        if told is not None:
            nodes[name] = nest(told)
    return nodes


def _use_time_of(node: Node, nodes: Nodes) -> None:
    """Use simulation time if the executor does, or if somebody publishes it and there is no executor."""
    used = nodes.get("executor", {}).get("use_sim_time", bool(node.count_publishers("/clock")))
    if used:
        node.set_parameters([Parameter("use_sim_time", Parameter.Type.BOOL, True)])


def _listen(node: Node, nodes: Nodes, seconds: float) -> dict[str, Any]:
    """The fields of :class:`StackView` that come from the camera and the robot."""
    robot, camera = robot_of(nodes), camera_of(nodes)
    wanted: dict[str, tuple[str, Any]] = {
        COLOR: (camera.color, Image),
        DEPTH: (camera.depth, Image),
        INFO: (camera.info, CameraInfo),
        ARM: (robot.joint_states, JointState),
    }
    if robot.gripper_joint_states != robot.joint_states:
        wanted[FINGERS] = (robot.gripper_joint_states, JointState)
    taps = {part: _Tap(node.resolve_topic_name(topic), node.get_clock()) for part, (topic, _) in wanted.items()}
    heard = [
        node.create_subscription(kind, topic, taps[part].raw, qos.IMAGE_BEST_EFFORT, raw=True)
        for part, (topic, kind) in wanted.items()
    ]
    time.sleep(seconds)
    streams = {part: tap.stream(node, wanted[part][1]) for part, tap in taps.items()}
    for subscription in heard:  # each reader gets images of its own
        node.destroy_subscription(subscription)
    return {"streams": streams, **_now(node, camera, robot, bool(len(streams[COLOR].at_s)))}


def _now(node: Node, camera: CameraConfig, robot: RobotConfig, images: bool) -> dict[str, Any]:
    """The newest frame and the arm's state at its stamp, or why there is none."""
    joints = JointStates(node, JointStateConfig(), robot)
    frames = RgbdReceiver(node, camera, base_frame=robot.base_frame)
    frame, camera_fault = _tried(lambda: frames.wait(0, CancelToken(), FRAME_S if images else SETTLE_S))
    state, joints_fault = _tried(lambda: joints.at(frame.stamp_ns) if frame else joints.state())
    return {"frame": frame, "camera_fault": camera_fault, "state": state, "joints_fault": joints_fault}


def _tried(look: Callable[[], Any]) -> tuple[Any, str | None]:
    """What ``look`` returns, and why it does not."""
    try:
        return look(), None
    except StageError as error:
        return None, error.sentence


def _note(reports: dict[str, Report], message: DiagnosticArray) -> None:
    for status in message.status:
        if status.name.startswith(OURS):
            trouble = "" if status.level == DiagnosticStatus.OK else status.message
            values = {value.key: value.value for value in status.values}
            reports[status.name.removeprefix(OURS)] = Report(trouble, values)


class _SystemClock:
    """Heartbeats are stamped by the system clock, with simulation time too."""

    def now(self) -> _SystemClock:
        return self

    @property
    def nanoseconds(self) -> int:
        return time.time_ns()


class _Tap:
    """Notes stamp, arrival and size of each message on a topic."""

    def __init__(self, topic: str, clock: Any) -> None:
        self._topic, self._clock, self._since = topic, clock, time.monotonic()
        self._lock = threading.Lock()
        self._seen: list[tuple[int, int, int]] = []

    def raw(self, data: bytes) -> None:
        """Take a message in CDR whose first field is a header: 4 bytes of encapsulation, seconds, nanoseconds."""
        seconds, nanoseconds = struct.unpack_from("<iI" if data[1] & 1 else ">iI", data, 4)
        self._add(seconds * 1_000_000_000 + nanoseconds, len(data))

    def stamped(self, message: Any) -> None:
        """Take a message with a header."""
        self._add(time_to_ns(message.header.stamp), 0)

    def _add(self, stamp_ns: int, size: int) -> None:
        at_ns = int(self._clock.now().nanoseconds)
        with self._lock:
            self._seen.append((at_ns, stamp_ns, size))

    def stream(self, node: Node, kind: Any = None) -> Stream:
        """What was noted; for a ``kind`` of message also who publishes it, and which topics have the same type."""
        with self._lock:
            seen = np.array(self._seen, dtype=np.int64).reshape(-1, 3)
        at_s, stamp_s = seen[:, 0] / 1e9, seen[:, 1] / 1e9
        now_s = self._clock.now().nanoseconds / 1e9
        found = node.get_publishers_info_by_topic(self._topic) if kind else []
        return Stream(
            self._topic,
            at_s,
            stamp_s,
            now_s,
            time.monotonic() - self._since,
            int(seen[:, 2].sum()),
            tuple(sorted({publisher.node_name for publisher in found})),
            (topic_type_mismatch(node, self._topic, kind) or "") if kind else "",
            _alike(node, kind) if kind and not found else (),
        )


def _alike(node: Node, kind: type) -> tuple[str, ...]:
    """Topics that somebody publishes with this type of messages."""
    wanted = f"{kind.__module__.partition('.')[0]}/msg/{kind.__name__}"
    return tuple(
        topic for topic, kinds in node.get_topic_names_and_types() if wanted in kinds and node.count_publishers(topic)
    )
