"""What is exported: an episode, or a recording with the keyposes found in it, as rows of a table."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from stvla_ros.data.demonstration import DecidedTask
from stvla_ros.data.episode import Episode
from stvla_ros.data.keyposes import discover_keyframes
from stvla_ros.data.lerobot.features import TRACE_POINTS, Row
from stvla_ros.data.recording import Recording, RecordingError
from stvla_ros.errors import StageError
from stvla_ros.geometry.paths import resample, valid_points
from stvla_ros.perception.lift import LiftConfig, lift
from stvla_ros.types import F64, RgbdFrame, TracePlan


class Source(Protocol):
    """One episode of a set.

    Attributes:
        name: Unique in the set.
        instruction: The operator's words.
        success: Whether it ended well.
    """

    @property
    def name(self) -> str: ...

    @property
    def instruction(self) -> str: ...

    @property
    def success(self) -> bool: ...

    def __len__(self) -> int:
        """Number of rows."""
        ...

    def __iter__(self) -> Iterator[Row]:
        """Rows in order of time."""
        ...

    def plan_frames(self) -> Iterator[RgbdFrame]:
        """The frames that plans were drawn on, unless they are among the rows."""
        ...

    def entry(self) -> dict[str, Any]:
        """What it has besides its frames: plain values."""
        ...


@dataclass(frozen=True, eq=False)
class EpisodeSource:
    """An episode: its guided frames. Frames that no keypose was predicted from have the next keypose as action."""

    episode: Episode
    lifting: LiftConfig

    @property
    def name(self) -> str:
        return self.episode.folder.name

    @property
    def instruction(self) -> str:
        return self.episode.instruction

    @property
    def success(self) -> bool:
        return self.episode.outcome.code == 0 and self.episode.outcome.judged is not False

    def __len__(self) -> int:
        return len(self.episode.content.frames)

    def __iter__(self) -> Iterator[Row]:
        records = self.episode.content.frames
        executed = [i for i, record in enumerate(records) if record.keypose is not None]
        traces: dict[int, F64 | None] = {}
        for i, guided in enumerate(self.episode.guided_frames()):
            k = min(int(np.searchsorted(executed, i)), len(executed) - 1)
            record, plan = records[executed[k]], self.episode.plans[guided.plan]
            if guided.plan not in traces:
                traces[guided.plan] = lifted(plan, self.episode.plan_frame(guided.plan), self.lifting)
            assert record.keypose is not None
            yield Row(
                guided.frame, guided.robot, record.keypose, record.done_ns, k, guided.step is not None,
                guided.plan, plan, traces[guided.plan],
            )  # fmt: skip

    def plan_frames(self) -> Iterator[RgbdFrame]:
        return (self.episode.plan_frame(i) for i in range(len(self.episode.plans)))

    def entry(self) -> dict[str, Any]:
        frame_id = self.episode.plan_frame(0).camera.frame_id
        return {"name": self.name, "frame_id": frame_id, "episode": self.episode.content.plain()}


class RecordingSource:
    """A recording at the camera's rate, with the keyposes that it shows: executed ones, or found by PerAct's rule.

    Args:
        name: Of the episode.
        recording: Frames; those before the first and after the last with a state of the arm are left out.
        instruction: What was done.
        decided: What our own stack recorded besides; None: nothing.
        lifting: How plans are lifted.

    Raises:
        ConfigError: A frame in between lacks the arm's state, or no keypose can be found.
    """

    def __init__(
        self,
        name: str,
        recording: Recording,
        instruction: str,
        decided: DecidedTask | None = None,
        lifting: LiftConfig = LiftConfig(),  # noqa: B008 - frozen
    ) -> None:
        self.name, self.instruction, self.recording, self._lifting = name, instruction, recording, lifting
        self._plans: Sequence[TracePlan] = decided.plans if decided else ()
        self._from_stamps: set[int] = set()
        self._from_frames: set[int] = set()  # stamps and indices of the frames that keyposes were predicted from
        if decided and decided.steps:
            self._steps = [(step.keypose, step.done_ns) for step in decided.steps]
            self._from_stamps = {step.image_stamp_ns for step in decided.steps}
            self.success = decided.outcome is not None and decided.outcome.ok
        else:
            found = discover_keyframes(recording)
            self._steps, self._from_frames = [(s.keypose, s.done_ns) for s in found], {s.frame for s in found}
            self.success = True  # a demonstration is one of success

    def __len__(self) -> int:
        return len(self.recording)

    def __iter__(self) -> Iterator[Row]:
        done = [done_ns for _, done_ns in self._steps]
        began = [plan.image_stamp_ns for plan in self._plans]
        traces: dict[int, F64 | None] = {}
        for i, recorded in enumerate(self.recording):
            if recorded.robot is None:
                raise RecordingError(f"{self.name}: frame {i} lacks the state of the arm: record the joint states too.")
            frame, robot = recorded.frame, recorded.robot
            k = min(bisect_right(done, robot.stamp_ns), len(done) - 1)
            p = bisect_right(began, frame.stamp_ns) - 1
            if p >= 0 and p not in traces:
                exact = frame.stamp_ns == began[p]
                traces[p] = lifted(self._plans[p], frame, self._lifting) if exact else None
            keypose, done_ns = self._steps[k]
            here = i in self._from_frames or frame.stamp_ns in self._from_stamps
            plan = self._plans[p] if p >= 0 else None
            yield Row(frame, robot, keypose, done_ns, k, here, p, plan, traces.get(p))

    def plan_frames(self) -> Iterator[RgbdFrame]:
        return iter(())

    def entry(self) -> dict[str, Any]:
        return {"name": self.name, "frame_id": self.recording[0].frame.camera.frame_id, "episode": None}


def lifted(plan: TracePlan, frame: RgbdFrame, config: LiftConfig) -> F64 | None:
    """(TRACE_POINTS, 3) path of a plan in the base frame; None if it cannot be lifted, or the task is finished."""
    if plan.finished:
        return None
    try:
        points = valid_points(lift(plan, frame, config))
    except StageError:
        return None
    return resample(points, TRACE_POINTS) if len(points) > 1 else None


def rate_hz(recording: Recording) -> int:
    """Whole frames per second of a recording, by the median time between its states of the arm; at least 1."""
    stamps = [robot.stamp_ns for i in range(len(recording)) if (robot := recording.robot(i)) is not None]
    between = np.diff(np.unique(stamps))
    return max(1, round(1e9 / float(np.median(between)))) if len(between) else 1
