"""What a rosbag2 of our own stack says about its goal: words, plans, executed keyposes and outcome, for learning."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from stvla_ros.config import ConfigError
from stvla_ros.data.bag_hints import BagHints, absolute
from stvla_ros.data.demonstration import DecidedStep, DecidedTask
from stvla_ros.description.robot import RobotConfig
from stvla_ros.errors import StageError
from stvla_ros.ros import decisions
from stvla_ros.ros.bag import Bag, BagMessage
from stvla_ros.ros.bag_frames import BagRecording, Follow
from stvla_ros.ros.convert import time_to_ns
from stvla_ros.ros.decisions import KeyposeDecision, MotionDecision, PlanDecision, TaskEnd
from stvla_ros.ros.frames import CameraConfig
from stvla_ros.ros.recorded_topics import KEYPOSE, MOTION, PLAN, TASK_END, TYPES
from stvla_ros.types import Keypose, RobotState, TracePlan

FROM_MSG: dict[str, Callable[[Any], PlanDecision | KeyposeDecision | MotionDecision | TaskEnd]] = {
    PLAN: decisions.plan_decision_from_msg,
    KEYPOSE: decisions.keypose_decision_from_msg,
    MOTION: decisions.motion_decision_from_msg,
    TASK_END: decisions.task_end_from_msg,
}

SAME = 1e-6
"""Two keyposes are the same if no number of their matrices differs by more; messages round to about 1e-16."""


class Stamps:
    """How far the frames of a bag were moved in time: :class:`BagRecording` puts every clock on the recorder's."""

    def __init__(self, color: str, follow: Follow) -> None:
        self._color, self._follow = absolute(color), follow
        self._moved_ns: dict[int, int] = {}

    def __call__(self, messages: Iterable[BagMessage], count: int) -> Iterator[BagMessage]:
        """Iterate as the first reading does; a colour image has another stamp when its receiver is done with it."""
        for entry in self._follow(messages, count):
            before_ns = self._stamp(entry)
            yield entry
            if before_ns is not None:
                self._moved_ns[before_ns] = (self._stamp(entry) or 0) - before_ns

    def _stamp(self, entry: BagMessage) -> int | None:
        return time_to_ns(entry.message.header.stamp) if entry.topic == self._color else None

    def shift_ns(self, stamp_ns: int) -> int:
        """What was added to the stamps of that time: as for the nearest image."""
        if not self._moved_ns:
            return 0
        return self._moved_ns[min(self._moved_ns, key=lambda known: abs(known - stamp_ns))]


def open_decided(
    path: Path,
    camera: CameraConfig,
    robot: RobotConfig,
    follow: Follow = lambda messages, _: messages,
    hints: BagHints | None = None,
) -> tuple[BagRecording, DecidedTask | None]:
    """The frames of a bag, and what our stack decided in it; None if it is not of our stack.

    Raises:
        ConfigError: See :class:`BagRecording`; or a decision in it is damaged.
    """
    stamps = Stamps(camera.color, follow)
    recording = BagRecording(path, camera, robot, stamps, hints)
    try:
        bag = Bag(path, {MOTION: TYPES[MOTION]}, {name: TYPES[name] for name in FROM_MSG if name != MOTION})
    except ConfigError:  # nothing was executed, or it is a bag of somebody else
        return recording, None
    try:
        return recording, _decided(bag, stamps)
    except (StageError, ValueError) as error:
        raise ConfigError(f"{path}: a decision in it is damaged ({error}): take another recording.") from error


def _decided(bag: Bag, stamps: Stamps) -> DecidedTask:
    """Raises StageError or ValueError for a damaged decision, ConfigError for a damaged bag."""
    plans: dict[str, TracePlan] = {}
    predicted: list[KeyposeDecision] = []
    steps: list[DecidedStep] = []
    words, outcome = "", None
    for decision in (FROM_MSG[entry.topic](entry.message) for entry in bag):
        if isinstance(decision, TaskEnd):
            outcome, words = decision.outcome, decision.state.instruction or words
        elif isinstance(decision, PlanDecision) and decision.plan is not None:
            image_ns = decision.image_stamp_ns + stamps.shift_ns(decision.image_stamp_ns)
            plans[decision.plan.plan_id] = replace(decision.plan, image_stamp_ns=image_ns)
            words = words or decision.instruction
        elif isinstance(decision, KeyposeDecision) and decision.keypose is not None:
            predicted.append(decision)
        elif isinstance(decision, MotionDecision) and decision.outcome.ok:
            steps += _step(decision, predicted, stamps)
    return DecidedTask(words, outcome, tuple(plans.values()), tuple(steps))


def _step(motion: MotionDecision, predicted: Sequence[KeyposeDecision], stamps: Stamps) -> list[DecidedStep]:
    """The step of one motion; none if the policy did not predict it (an operator's motion, a putting down)."""
    keypose = motion.keypose
    source = next((d for d in reversed(predicted) if d.keypose is not None and _same(d.keypose, keypose)), None)
    if source is None:
        return []
    shift_ns = stamps.shift_ns(source.image_stamp_ns)
    moved = replace(keypose, stamp_ns=keypose.stamp_ns + shift_ns if keypose.stamp_ns else 0)
    robot = source.robot and _moved(source.robot, shift_ns)
    return [DecidedStep(source.image_stamp_ns + shift_ns, robot, source.plan_id, moved, motion.stamp_ns + shift_ns)]


def _moved(robot: RobotState, shift_ns: int) -> RobotState:
    gripper_ns = robot.gripper_stamp_ns + shift_ns if robot.gripper_stamp_ns else 0
    return replace(robot, stamp_ns=robot.stamp_ns + shift_ns, gripper_stamp_ns=gripper_ns)


def _same(a: Keypose, b: Keypose) -> bool:
    """Policies do not stamp their keyposes, so poses tell them apart; of equal ones the newest prediction counts."""
    return a.gripper_open == b.gripper_open and bool(np.allclose(a.T_base_tcp, b.T_base_tcp, atol=SAME))
