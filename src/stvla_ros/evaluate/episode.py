"""Which episode to run, and the record of how it went."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

from stvla_ros.config import ConfigError
from stvla_ros.errors import OutcomeCode
from stvla_ros.files import read_json, setting, written


@dataclass(frozen=True, order=True)
class EpisodeSpec:
    """A scene: a task, the seed, and how many objects the task does not need (-1: the task's own number)."""

    task: str
    seed: int
    distractors: int = -1

    @property
    def file_name(self) -> str:
        more = f"-{self.distractors}-distractors" if self.distractors >= 0 else ""
        return f"{self.task}-{self.seed:04d}{more}.json"


@dataclass(frozen=True)
class EpisodeRecord:
    """How one episode went.

    Attributes:
        task: Name of the task.
        seed: Of the scene.
        instruction: What was asked.
        outcome: Name of the stack's outcome code.
        sentence: The stack's sentence; for a defect, the end of its traceback.
        judged: The simulator's verdict.
        detail: What the simulator measured.
        keyposes: Executed.
        replans: Plans after the first.
        robot_s: Seconds of the robot's clock (the simulator's, or real ones over ROS).
        times_s: Wall seconds per phase.
        plan_times_s: Wall seconds of each accepted plan, lifting included.
        disturbance: How the scene was disturbed, in one sentence; empty without a disturbance.
        rlbench: The verdict by RLBench's rule, where the task has a stricter one of its own; else None.
        facts: What the simulator measured, by name.
        distractors: Of the scene; see :class:`EpisodeSpec`.
        idle_share: See :func:`stvla_ros.record.summary.idle_share`; None without a live robot.
    """

    task: str
    seed: int
    instruction: str
    outcome: str
    sentence: str
    judged: bool
    detail: str
    keyposes: int = 0
    replans: int = 0
    robot_s: float = 0.0
    times_s: dict[str, float] | None = None
    idle_share: float | None = None
    plan_times_s: list[float] = field(default_factory=list)
    disturbance: str = ""
    rlbench: bool | None = None
    facts: dict[str, float] = field(default_factory=dict)
    distractors: int = -1

    @property
    def scene(self) -> EpisodeSpec:
        """The scene that it went through."""
        return EpisodeSpec(self.task, self.seed, self.distractors)

    @property
    def success(self) -> bool:
        """The simulator sees the goal reached *and* the stack said so itself."""
        return self.judged and self.outcome == OutcomeCode.OK.name

    def write(self, folder: Path) -> None:
        """Write the record under its episode's name; a reader never sees half of it."""
        with written(folder / self.scene.file_name) as part:
            part.write_text(json.dumps(asdict(self), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def defect(episode: EpisodeSpec, sentence: str) -> EpisodeRecord:
    """The record of an episode that a defect of this software ended."""
    code, unjudged = OutcomeCode.INTERNAL.name, "not judged"
    return EpisodeRecord(
        episode.task, episode.seed, "", code, sentence, False, unjudged, distractors=episode.distractors
    )


def read_record(path: Path) -> EpisodeRecord:
    """Read a record. One of an older version may lack the newest fields.

    Raises:
        ConfigError: The file is not such a record.
    """
    with setting("", "Delete it to run the episode again."):
        content = read_json(path)
    try:
        since = {"plan_times_s", "disturbance", "rlbench", "facts", "distractors"} - set(content)
        return EpisodeRecord(**{f.name: content[f.name] for f in fields(EpisodeRecord) if f.name not in since})
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(
            f"{path}: not the record of an episode ({error!r}): delete it to run the episode again."
        ) from error
