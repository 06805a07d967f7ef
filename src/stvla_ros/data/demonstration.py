"""Turns a recording into an episode.

Of a demonstration on a robot only frames and arm are known: its keyposes are found, and plans drawn on its frames
afterwards. A recording of our own stack has what the stages decided: plans, keyposes and outcome are taken from there.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field, replace
from pathlib import Path

from stvla_ros import registry
from stvla_ros.config import ConfigError
from stvla_ros.data.episode import Episode, EpisodeWriter, Verdict
from stvla_ros.data.keyposes import Keyframe, discover_keyframes
from stvla_ros.data.recording import Recording
from stvla_ros.data.replay import observations
from stvla_ros.errors import OutcomeCode, StageError
from stvla_ros.evaluate.stack import StackSettings
from stvla_ros.interfaces import Planner
from stvla_ros.perception.guide import SpatialGuide
from stvla_ros.types import Keypose, Outcome, PlanRequest, RgbdFrame, RobotState, TracePlan

NEAR_NS = 100_000_000
"""The frame of a decision may be missing in the recording; the one before stands for it, if it is no older than this."""


@dataclass(frozen=True, eq=False)
class DecidedStep:
    """A keypose that the policy predicted and the executor carried out.

    Attributes:
        image_stamp_ns: Stamp of the image that it was predicted from.
        robot: The arm as the policy saw it; None: not recorded.
        plan_id: Plan in use.
        keypose: The keypose, stamped when it was predicted.
        done_ns: When its motion ended.
    """

    image_stamp_ns: int
    robot: RobotState | None
    plan_id: str
    keypose: Keypose
    done_ns: int


@dataclass(frozen=True, eq=False)
class DecidedTask:
    """What a recording of our own stack says about its goal. Stamps are on the time line of its frames.

    Attributes:
        instruction: The operator's words.
        outcome: How the task ended; None: the recording ends before.
        plans: In order of time; ``image_stamp_ns`` is the frame that each was drawn on.
        steps: In order of time.
    """

    instruction: str
    outcome: Outcome | None
    plans: tuple[TracePlan, ...]
    steps: tuple[DecidedStep, ...]


def write_decided(
    source: Path, task: DecidedTask, recording: Recording, folder: Path, failures: bool = False
) -> Episode:
    """Make an episode of what the stack itself planned, predicted and executed.

    Args:
        source: Of the recording, for messages.
        task: What the stages decided.
        recording: The frames.
        folder: The new episode; it appears when it is complete.
        failures: Take tasks too that did not succeed.

    Raises:
        ConfigError: The task did not end with OK, and ``failures`` is not set; nothing was executed, or the frame of a
            decision is missing; or the folder exists.
    """
    if folder.exists():
        raise ConfigError(f"{folder} exists: delete it, or choose another --output.")
    if not failures and (task.outcome is None or not task.outcome.ok):
        how = "its end is missing" if task.outcome is None else f"{task.outcome.code.name}: {task.outcome.sentence}"
        raise ConfigError(f"{source}: not a successful task ({how}): --failures takes it too.")
    plans = {plan.plan_id: i for i, plan in enumerate(task.plans)}
    steps = [step for step in task.steps if step.plan_id in plans]
    if not steps:
        raise ConfigError(f"{source}: wanted keyposes that were executed along a recorded plan, found none.")
    wanted = [plan.image_stamp_ns for plan in task.plans] + [step.image_stamp_ns for step in steps]
    frames = _frames_at(source, recording, wanted)
    part = folder.with_name(f"{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    try:
        writer = EpisodeWriter(part)
        for plan in task.plans:
            writer.add_plan(plan, frames[plan.image_stamp_ns][0])
        for step in steps:
            frame, seen = frames[step.image_stamp_ns]
            robot = step.robot or seen
            if robot is None:
                raise ConfigError(f"{source}: the state of the arm is missing at {step.image_stamp_ns / 1e9:.3f} s.")
            writer.add_frame(task.plans[plans[step.plan_id]], frame, robot)
            writer.add_keypose(step.keypose, step.done_ns)
        code, sentence = (OutcomeCode.CANCELED, "The recording ends before the task.")
        if task.outcome is not None:
            code, sentence = task.outcome.code, task.outcome.sentence
        writer.close("", 0, task.instruction, Verdict(code, sentence))
        part.rename(folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return Episode(folder)


def _frames_at(source: Path, recording: Recording, stamps: list[int]) -> dict[int, tuple[RgbdFrame, RobotState | None]]:
    """Stamp -> the frame with it, or the last one before it; the recording is read once."""
    due, found = sorted(set(stamps)), dict[int, tuple[RgbdFrame, RobotState | None]]()
    before: tuple[RgbdFrame, RobotState | None] | None = None

    def take(until_ns: float) -> None:
        """The frames due before ``until_ns`` are the one before."""
        while due and due[0] < until_ns:
            if before is None or due[0] - before[0].stamp_ns > NEAR_NS:
                raise ConfigError(
                    f"{source}: the image of {due[0] / 1e9:.3f} s, from which the stack decided, is missing in it: take "
                    "another recording."
                )
            found[due.pop(0)] = before

    for recorded in recording:
        take(recorded.frame.stamp_ns)
        before = recorded.frame, recorded.robot
        if not due:
            break
    take(float("inf"))
    return found


def write_demonstration(
    source: Path, instruction: str, settings: StackSettings, folder: Path, recording: Recording | None = None
) -> Episode:
    """Find keyframes, plan on their frames as the loop would have, and check that guidance accepts every step.

    Args:
        source: Folder of a recording with the arm's state in every frame.
        instruction: What was demonstrated.
        settings: Planner, segmenter and guide; the loop's settings say after how many keyposes to plan again.
        folder: The new episode; it appears when it is complete.
        recording: The frames, where ``source`` is a bag instead of a recording's folder.

    Raises:
        ConfigError: ``source`` is no recording, or no keyframes can be found in it; the folder exists; or the planner
            or the guide refuses a frame.
    """
    if folder.exists():
        raise ConfigError(f"{folder} exists: delete it, or choose another --output.")
    recording = Recording(source) if recording is None else recording
    try:
        steps = discover_keyframes(recording)
    except ConfigError as error:
        raise ConfigError(f"{source}: {error}") from error
    part = folder.with_name(f"{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    try:
        _write(recording, steps, instruction, settings, part)
        _check(Episode(part), settings)
        part.rename(folder)
    except StageError as error:
        raise ConfigError(f"{source}: not an episode of '{instruction}': {error}") from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return Episode(folder)


def _write(recording: Recording, steps: list[Keyframe], instruction: str, settings: StackSettings, part: Path) -> None:
    planner = registry.create("planner", settings.backends["planner"], settings.sections.get("planner", {}))
    writer = EpisodeWriter(part)
    drawing = _Drawing(planner, instruction, settings.loop.keyposes_per_plan, writer)
    for step in steps:
        recorded = recording[step.frame]
        plan = drawing.plan(recorded.frame, recorded.robot)
        writer.add_frame(plan, recorded.frame, recorded.robot)
        writer.add_keypose(step.keypose, step.done_ns)
        drawing.history.append(replace(step.keypose, stamp_ns=step.done_ns))
    writer.close("", 0, instruction, Verdict(OutcomeCode.OK, f"Demonstrated in {len(steps)} keyposes."))


@dataclass
class _Drawing:
    """The plan in use, replaced as often as in the loop."""

    planner: Planner
    instruction: str
    keyposes_per_plan: int
    writer: EpisodeWriter
    history: list[Keypose] = field(default_factory=list)
    newest: TracePlan | None = None

    def plan(self, frame: RgbdFrame, robot: RobotState) -> TracePlan:
        """A new plan if one is due; the old one if the planner sees nothing to draw (the object is hidden, or done)."""
        if self.newest is not None and len(self.history) % self.keyposes_per_plan:
            return self.newest
        try:
            plan = self.planner.plan(PlanRequest(self.instruction, frame, robot, tuple(self.history)))
        except StageError:
            if self.newest is None:
                raise
            return self.newest
        if not plan.finished:
            self.writer.add_plan(plan, frame)
            self.newest = plan
        if self.newest is None:
            raise StageError(OutcomeCode.NO_PROGRESS, "The planner considers the task finished in the first frame.")
        return self.newest


def _check(episode: Episode, settings: StackSettings) -> None:
    """Raises StageError if guidance would refuse a step."""
    segmenter = registry.create("segmenter", settings.backends["segmenter"], settings.sections.get("segmenter", {}))
    for _ in observations(episode, SpatialGuide(segmenter, settings.guide)):
        pass
