"""A recording of our own stack as a task to decide again: every moment with what its stage was given, frames by stamp.

Stamps stay as they were recorded, because decisions name images by them. The bag is read once for the decisions, and
once per replay for the frames, which are streamed: memory does not grow with the recording.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

from rclpy.node import Node
from tf2_msgs.msg import TFMessage

from stvla_ros.config import ConfigError
from stvla_ros.data.bag_hints import BagHints, absolute
from stvla_ros.description.robot import RobotConfig
from stvla_ros.errors import OutcomeCode, StageError
from stvla_ros.replay.values import Decision, Kind, Moment
from stvla_ros.ros import decisions
from stvla_ros.ros.bag import Bag, BagMessage, CameraBag
from stvla_ros.ros.bag_frames import ARM_NS, BagListener, Follow
from stvla_ros.ros.bag_topics import COMPRESSED, IMAGE, JOINTS, STATIC
from stvla_ros.ros.convert import outcome_from_msg, time_to_ns, trace_from_msg
from stvla_ros.ros.decided_images import header_stamp_ns
from stvla_ros.ros.frames import CameraConfig, RgbdReceiver
from stvla_ros.ros.recorded_topics import GUIDANCE, KEYPOSE, MOTION, PLAN, TASK_END, TRACE, TYPES
from stvla_ros.ros.robot_state import JointStateConfig, JointStates
from stvla_ros.ros.run_settings import read_facts
from stvla_ros.types import Outcome, RgbdFrame, RobotState, Trace3d

KEEP_S = 2.0
"""Frames are kept for so long while the recording is read: an older one has it read again from its start."""

_LITTLE_ENDIAN = 1

_ORDER = {kind: i for i, kind in enumerate(Kind)}


class BagTask:
    """A :class:`stvla_ros.replay.values.RecordedTask` from a bag.

    Args:
        path: The bag; its ``run.json``, if there is one, is beside it.
        camera: Topics of the camera.
        robot: Topics and names of joints.
        follow: Iterates over the messages of the first reading, e.g. with a progress bar.
        hints: What the operator says about the bag, e.g. another pose of the camera.

    Raises:
        ConfigError: It is not a bag, has no decisions of our stack or no images, or a decision is damaged.
    """

    def __init__(
        self,
        path: Path,
        camera: CameraConfig,
        robot: RobotConfig,
        follow: Follow = lambda messages, _: messages,
        hints: BagHints | None = None,
    ) -> None:
        self.path, self._camera, self._robot, self._hints = path, camera, robot, hints
        facts = read_facts(path)
        self.name = facts.name
        self.settings: Mapping[str, Mapping[str, Any]] = facts.parameters
        self.versions = facts.versions
        self.derived = False
        told = _Told(path, robot, follow)
        self.seconds, self.outcome = told.seconds, told.outcome
        moments = _numbered(self._known(told))
        if not moments:
            raise ConfigError(f"{path}: wanted decisions of a task, found none: record one with stvla record.")
        self.notes: Sequence[str] = tuple(told.notes)
        self.instruction = told.instruction or next((m.instruction for m in moments if m.instruction), "")
        self.moments: Sequence[Moment] = [
            m if m.instruction else replace(m, instruction=self.instruction) for m in moments
        ]
        self._stamps = sorted({m.image_stamp_ns for m in self.moments if m.image_stamp_ns})
        self._reader = self._open()

    def _known(self, told: _Told) -> list[Moment]:
        """The moments, without those of plans from before the recording: such a path cannot be lifted again."""
        plans = {m.plan_id for m in told.moments if m.kind is Kind.PLAN and m.recorded and m.recorded.outcome.ok}
        traced = [told.with_trace(m) for m in told.moments]
        kept = [m for m in traced if m.kind is Kind.PLAN or not m.plan_id or m.plan_id in plans]
        if len(kept) < len(traced):
            count = len(traced) - len(kept)
            told.notes.append(f"{count} decisions on plans from before the recording are left out.")
        return kept

    def _open(self) -> _FrameReader:
        return _FrameReader(self.path, self._camera, self._robot, self._hints, self._stamps)

    def frame(self, stamp_ns: int) -> RgbdFrame:
        """See :meth:`stvla_ros.replay.values.RecordedTask.frame`."""
        if not self._reader.may_have(stamp_ns):
            self._reader = self._open()
        return self._reader.frame(stamp_ns)


def open_task(path: Path, camera: CameraConfig, robot: RobotConfig, **more: Any) -> BagTask:
    """See :class:`BagTask`; ``more`` are its other arguments."""
    return BagTask(path, camera, robot, **more)


@dataclass
class _Told:
    """What the decisions in a bag say, in the order in which they were published."""

    path: Path
    robot: RobotConfig
    follow: Follow
    moments: list[Moment] = field(default_factory=list)
    traces: dict[str, tuple[Trace3d | None, Outcome]] = field(default_factory=dict)
    instruction: str = ""
    outcome: Outcome | None = None

    def __post_init__(self) -> None:
        joints = {absolute(t): JOINTS for t in (self.robot.joint_states, self.robot.gripper_joint_states)}
        self._bag = Bag(self.path, {}, {**{topic: TYPES[topic] for topic in (*_READ, TRACE, TASK_END)}, **joints})
        self.seconds, self.notes = self._bag.seconds, list(self._bag.notes)
        if not {PLAN, KEYPOSE} & self._bag.topics.keys():
            raise ConfigError(
                f"{self.path}: wanted the decisions of a task ({PLAN}, {KEYPOSE}), found none: replay takes recordings "
                "of stvla record, or of ros2 bag record with the topics of stvla record --topics."
            )
        self._arm = _Arm(self._bag, self.robot)
        self._left: deque[tuple[int, int]] = deque()  # when the arm after a motion is known, and the motion's index
        try:
            self._read()
        except (StageError, ValueError) as error:
            raise ConfigError(f"{self.path}: a decision in it is damaged ({error}): take another recording.") from error
        except ConfigError as error:  # damage: what comes before it is decided again
            if not self.moments:
                raise
            self.notes.append(str(error))

    def _read(self) -> None:
        for entry in self.follow(self._bag, sum(self._bag.counts.values())):
            self._take(entry)
            while self._left and self._left[0][0] <= entry.after_ns:
                self._left_arm(self._left.popleft()[1])
        for _, index in self._left:
            self._left_arm(index)

    def _take(self, entry: BagMessage) -> None:
        topic, message = entry.topic, entry.message
        if topic in _READ:
            self.moments.append(_READ[topic](message))
            if topic == MOTION:
                self._left.append((entry.after_ns + ARM_NS, len(self.moments) - 1))
        elif topic == TRACE:
            outcome = outcome_from_msg(message.outcome)
            self.traces[message.plan_id] = (trace_from_msg(message) if outcome.ok else None), outcome
        elif topic == TASK_END:
            end = decisions.task_end_from_msg(message)
            self.outcome, self.instruction = end.outcome, end.state.instruction
        else:
            self._arm.hear(topic, message)

    def _left_arm(self, index: int) -> None:
        moment = self.moments[index]
        self.moments[index] = replace(moment, after=self._arm.at(moment.stamp_ns))

    def with_trace(self, moment: Moment) -> Moment:
        """A PLAN moment with its recorded path in 3D, if the recording has it."""
        recorded = moment.recorded
        if moment.kind is not Kind.PLAN or recorded is None or moment.plan_id not in self.traces:
            return moment
        trace, lifting = self.traces[moment.plan_id]
        if recorded.plan is None or recorded.plan.finished:
            return moment
        return replace(moment, recorded=replace(recorded, trace=trace, lifting=lifting))


class _Arm:
    """The arm's states in a bag, by stamp."""

    def __init__(self, bag: Bag, robot: RobotConfig) -> None:
        self._listener = BagListener(bag)
        self._joints = JointStates(cast(Node, self._listener), JointStateConfig(), robot)

    def hear(self, topic: str, message: Any) -> None:
        self._listener.nanoseconds = time_to_ns(message.header.stamp)
        self._listener.hear(topic, message)

    def at(self, stamp_ns: int) -> RobotState | None:
        """The state nearest to a time; None: not known."""
        if not self._joints.heard:
            return None
        try:
            return self._joints.at(stamp_ns)
        except StageError:
            return None


def _plan(message: Any) -> Moment:
    d = decisions.plan_decision_from_msg(message)
    plan = None if d.plan is None else replace(d.plan, image_stamp_ns=d.image_stamp_ns)
    return Moment(
        0,
        Kind.PLAN,
        d.stamp_ns,
        d.image_stamp_ns,
        d.robot,
        d.instruction,
        plan_id=plan.plan_id if plan else "",
        history=d.history,
        feedback=d.feedback,
        holding=d.holding,
        recorded=Decision(0, Kind.PLAN, d.outcome, d.seconds, plan=plan),
    )


def _guidance(message: Any) -> Moment:
    d = decisions.guidance_decision_from_msg(message)
    recorded = Decision(0, Kind.GUIDE, d.outcome, d.seconds, masking=d.masking)
    return Moment(0, Kind.GUIDE, d.image_stamp_ns, d.image_stamp_ns, d.robot, "", plan_id=d.plan_id, recorded=recorded)


def _keypose(message: Any) -> Moment:
    d = decisions.keypose_decision_from_msg(message)
    complete = d.outcome.ok and d.keypose is None
    return Moment(
        0,
        Kind.PREDICT,
        d.stamp_ns,
        d.image_stamp_ns,
        d.robot,
        d.instruction,
        plan_id=d.plan_id,
        history=d.history,
        recorded=Decision(0, Kind.PREDICT, d.outcome, d.seconds, keypose=d.keypose, path_complete=complete),
    )


def _motion(message: Any) -> Moment:
    d = decisions.motion_decision_from_msg(message)
    seconds = d.outcome.times_s.get("motion_plan", float("nan"))
    return Moment(
        0,
        Kind.MOVE,
        d.stamp_ns,
        d.image_stamp_ns,
        d.robot,
        "",
        plan_id=d.plan_id,
        keypose=d.keypose,
        recorded=Decision(0, Kind.MOVE, d.outcome, seconds, keypose=d.keypose, paths=d.paths),
    )


_READ: Mapping[str, Callable[[Any], Moment]] = {PLAN: _plan, GUIDANCE: _guidance, KEYPOSE: _keypose, MOTION: _motion}


def _numbered(moments: Iterable[Moment]) -> list[Moment]:
    """Moments in order of what they saw, numbered.

    A stage sees a newer image or the same one again, so the order of one kind is that in which its decisions were made.
    Between kinds the newest image seen so far decides: one without an image follows the one before it.
    """
    newest = dict.fromkeys(Kind, 0)
    keyed = []
    for i, moment in enumerate(moments):
        newest[moment.kind] = max(newest[moment.kind], moment.image_stamp_ns)
        keyed.append((newest[moment.kind], _ORDER[moment.kind], i, moment))
    ordered = [moment for *_, moment in sorted(keyed, key=lambda key: key[:3])]
    return [_with_number(moment, n) for n, moment in enumerate(ordered)]


def _with_number(moment: Moment, n: int) -> Moment:
    recorded = None if moment.recorded is None else replace(moment.recorded, number=n)
    return replace(moment, number=n, recorded=recorded)


class _WantedFrames(CameraBag):
    """A camera's bag in which images are decoded only if they are wanted; None stands for the others."""

    def __init__(self, stamps_ns: Collection[int], within_ns: int, *args: Any) -> None:
        self._wanted, self._within_ns = frozenset(stamps_ns), within_ns
        # the second of a pair has another stamp, so the stamps are put into bins and their neighbours taken as well
        width = self._bin_ns = max(1, within_ns)
        self._bins = {stamp_ns // width + side for stamp_ns in stamps_ns for side in (-1, 0, 1)}
        super().__init__(*args)

    def _read(self, stored: str, kind: str, data: bytes) -> Any:
        if kind in (IMAGE, COMPRESSED) and data[1] == _LITTLE_ENDIAN and not self._is_wanted(header_stamp_ns(data)):
            return None
        return super()._read(stored, kind, data)

    def _is_wanted(self, stamp_ns: int) -> bool:
        return stamp_ns in self._wanted or stamp_ns // self._bin_ns in self._bins

    def __iter__(self) -> Iterator[BagMessage]:
        return (entry for entry in super().__iter__() if entry.message is not None)


class _FrameReader:
    """The frames of one reading of a bag, made by the receiver that the nodes use, on its own time line."""

    def __init__(
        self, path: Path, camera: CameraConfig, robot: RobotConfig, hints: BagHints | None, stamps_ns: list[int]
    ) -> None:
        bag = _WantedFrames(stamps_ns, round(camera.pair_within_s * 1e9), path, camera, robot, False, hints)
        self._path, self._listener = path, BagListener(bag)
        node = cast(Node, self._listener)
        self._frames = RgbdReceiver(node, camera, None, robot.base_frame, KEEP_S)
        self._listener.nanoseconds = 0
        self._listener.hear(STATIC, TFMessage(transforms=list(bag.static_transforms.values())))
        self._messages = iter(bag)
        self._asked_ns, self._damage = 0, ""

    def may_have(self, stamp_ns: int) -> bool:
        """Whether a frame is still ahead, or kept."""
        return stamp_ns > self._asked_ns - round(KEEP_S * 1e9)

    def frame(self, stamp_ns: int) -> RgbdFrame:
        """Raises StageError STALE_IMAGE when the recording has no such frame."""
        self._asked_ns = max(self._asked_ns, stamp_ns)
        while self._frames.stamp_ns < stamp_ns and (entry := self._next()) is not None:
            self._hear(entry)
        try:
            return self._frames.at(stamp_ns, 0.0)
        except StageError as error:
            why = self._damage or self._frames.why_skipped
            raise StageError(
                OutcomeCode.STALE_IMAGE,
                f"The recording has no complete image of {stamp_ns / 1e9:.3f} s{f' ({why})' if why else ''}.",
            ) from error

    def _next(self) -> BagMessage | None:
        try:
            return next(self._messages, None)
        except ConfigError as error:
            self._damage = str(error).rstrip(".")
            return None

    def _hear(self, entry: BagMessage) -> None:
        if entry.topic == STATIC:
            return  # all of them hold from the beginning
        for stamped in getattr(entry.message, "transforms", [entry.message]):
            self._listener.nanoseconds = max(self._listener.nanoseconds, time_to_ns(stamped.header.stamp))
        self._listener.hear(entry.topic, entry.message)
