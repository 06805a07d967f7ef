"""Turns a demonstration recorded on a robot into an episode: finds its keyposes, and plans on its frames afterwards."""

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
from stvla_ros.types import Keypose, PlanRequest, RgbdFrame, RobotState, TracePlan


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
