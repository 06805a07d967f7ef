"""What a recording of a task consists of: its topics, their types, and how they are read."""

from __future__ import annotations

from dataclasses import dataclass

from rclpy.qos import HistoryPolicy, QoSProfile

from stvla_ros.data.bag_hints import absolute
from stvla_ros.description.robot import RobotConfig
from stvla_ros.ros import decisions, qos, stop_state, task_state
from stvla_ros.ros.bag_topics import IMAGE, INFO, JOINTS, STATIC, TF
from stvla_ros.ros.frames import CameraConfig

PLAN, GUIDANCE, KEYPOSE, MOTION = (
    f"/{name}" for name in (decisions.PLAN, decisions.GUIDANCE, decisions.KEYPOSE, decisions.MOTION)
)
TRACE, TASK_STATE, TASK_END = "/stvla/trace", f"/{task_state.TOPIC}", f"/{decisions.TASK_END}"

_DEPTH = 100
"""Messages that wait in a reader: a recorder at low priority comes late."""

_IMAGES = 30
"""The same for images: two seconds of a camera at 15 Hz, 46 MB at 640x480, which are used only when it is late."""


@dataclass(frozen=True)
class Topic:
    """One recorded topic.

    Attributes:
        name: Absolute.
        kind: Its type, e.g. ``sensor_msgs/msg/Image``.
        readers: How it is read; publishers of some topics differ, and no single reader fits all of them.
        latched: So many of the last messages from before a recording belong to it.
        what: ``color``, ``depth``, ``info`` or ``joints``, without which nothing can be decided again; ``decision``;
            otherwise empty.
    """

    name: str
    kind: str
    readers: tuple[QoSProfile, ...]
    latched: int = 0
    what: str = ""

    @property
    def is_image(self) -> bool:
        return self.what in ("color", "depth")

    @property
    def needed(self) -> bool:
        """Whether a recording without it is of little use."""
        return self.what in ("color", "depth", "info", "joints")


def _deep(profile: QoSProfile, depth: int = _DEPTH) -> QoSProfile:
    return QoSProfile(
        history=HistoryPolicy.KEEP_LAST, depth=depth, reliability=profile.reliability, durability=profile.durability
    )


_EVENT, _STATE, _IMAGE = _deep(qos.EVENT), _deep(qos.STATE), _deep(qos.IMAGE_BEST_EFFORT, _IMAGES)

_FIXED = (
    Topic("/tf", TF, (_STATE,)),
    Topic(STATIC, TF, (qos.STATIC_LATCHED, qos.STATIC_VOLATILE), latched=100),
    Topic("/stvla/plan", "stvla_msgs/msg/TracePlan", (qos.LATCHED,), latched=8),
    Topic(TRACE, "stvla_msgs/msg/Trace3d", (qos.LATCHED,), latched=8),
    Topic(PLAN, "stvla_msgs/msg/PlanDecision", (_EVENT,), what="decision"),
    Topic(GUIDANCE, "stvla_msgs/msg/GuidanceDecision", (_EVENT,), what="decision"),
    Topic(KEYPOSE, "stvla_msgs/msg/KeyposeDecision", (_EVENT,), what="decision"),
    Topic(MOTION, "stvla_msgs/msg/MotionDecision", (_EVENT,), what="decision"),
    Topic(TASK_END, "stvla_msgs/msg/TaskEnd", (_EVENT,)),  # before the state: of two that wait, it is read first
    Topic(TASK_STATE, "stvla_msgs/msg/TaskState", (_deep(qos.LATCHED_NEWEST),), latched=1),
    Topic(f"/{stop_state.TOPIC}", "stvla_msgs/msg/StopState", (qos.LATCHED_NEWEST,), latched=1),
    Topic("/diagnostics", "diagnostic_msgs/msg/DiagnosticArray", (_EVENT,)),
)

TYPES = {topic.name: topic.kind for topic in _FIXED}
"""Topic -> its type, of all but the camera's images and the joint states, whose names are settings."""


def recorded_topics(camera: CameraConfig, robot: RobotConfig) -> tuple[Topic, ...]:
    """All topics of a recording, each once.

    The images that a policy sees (``/stvla/guidance``) are not among them: they follow from the camera's and the
    decisions.
    """
    joints = dict.fromkeys(absolute(name) for name in (robot.joint_states, robot.gripper_joint_states))
    return (
        Topic(absolute(camera.color), IMAGE, (_IMAGE,), what="color"),
        Topic(absolute(camera.depth), IMAGE, (_IMAGE,), what="depth"),
        Topic(absolute(camera.info), INFO, (_IMAGE, qos.LATCHED_NEWEST), latched=1, what="info"),
        *(Topic(name, JOINTS, (_STATE,), what="joints") for name in joints),
        *_FIXED,
    )


def offered_qos(topic: Topic) -> dict[str, object]:
    """The profile with which a player should publish a topic, as rosbag2 writes it (version 9 of its metadata)."""
    never = {"sec": 9223372036, "nsec": 854775807}
    return {
        "history": "keep_last",
        "depth": topic.readers[0].depth,
        "reliability": "reliable",
        "durability": "transient_local" if topic.latched else "volatile",
        "deadline": never,
        "lifespan": never,
        "liveliness": "automatic",
        "liveliness_lease_duration": never,
        "avoid_ros_namespace_conventions": False,
    }
