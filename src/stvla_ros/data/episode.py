"""Episodes: what the policy saw at each step, the plan it followed, and the keypose that was executed.

A folder::

    recording.json, 000000.png, 000000.npz, ...   guided frames, with the arm's state (recording.py)
    plans/                                        frames that the plans were drawn on, in the same form
    episode.json                                  plans, keyposes, instruction, outcome (episode_index.py)

Everything is stored exactly: replaying guidance on an episode gives the policy's input bit for bit (replay.py).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from stvla_ros.data.episode_index import INDEX, EpisodeError, EpisodeIndex, FrameRecord, Verdict, read_index
from stvla_ros.data.recording import Recording, RecordingWriter
from stvla_ros.types import HISTORY, Keypose, RgbdFrame, RobotState, TracePlan

__all__ = [
    "Episode",
    "EpisodeError",
    "EpisodeStep",
    "EpisodeWriter",
    "GuidedFrame",
    "Verdict",
    "find_episodes",
    "has_episodes",
]

PLANS = "plans"


@dataclass(frozen=True, eq=False)
class EpisodeStep:
    """One executed keypose, and what it was predicted from.

    Attributes:
        frame: The camera's image before guidance.
        robot: State of the arm at about that time.
        plan: The path in use.
        plan_frame: The frame that the path was drawn on.
        keypose: The keypose that the policy wanted.
        history: Keyposes of the same step of the task, executed before, oldest first, at most
            :data:`stvla_ros.types.HISTORY`; stamped when they ended.
    """

    frame: RgbdFrame
    robot: RobotState
    plan: TracePlan
    plan_frame: RgbdFrame
    keypose: Keypose
    history: tuple[Keypose, ...]


@dataclass(frozen=True, eq=False)
class GuidedFrame:
    """One guided frame, whether or not it led to a keypose.

    Attributes:
        frame: The camera's image before guidance.
        robot: State of the arm at about that time.
        plan: Index of the plan in use.
        step: Index of the step predicted from it; None if no keypose was executed.
    """

    frame: RgbdFrame
    robot: RobotState
    plan: int
    step: int | None


class Episode(Sequence[EpisodeStep]):
    """The steps of an episode; images are read on access.

    Attributes:
        folder: Where it is stored.
        task: Name of the task; empty for a demonstration on a robot.
        seed: Seed of the scene; 0 for a demonstration on a robot.
        instruction: The operator's words.
        outcome: How it ended.
        plans: All plans; the last one is "finished" if the planner said so.
        keyposes: All executed keyposes.
        content: All of it except images and arm.

    Raises:
        RecordingError: The folder holds no episode, or a damaged one (its subclass EpisodeError).
    """

    def __init__(self, folder: Path) -> None:
        index = read_index(folder)
        self.content = index
        self.folder, self.task, self.seed = folder, index.task, index.seed
        self.instruction, self.outcome, self.plans = index.instruction, index.outcome, index.plans
        self._records = index.frames
        self._frames, self._drawings = Recording(folder), Recording(folder / PLANS)
        for name, frames, wanted in (("", self._frames, len(self._records)), (PLANS, self._drawings, len(self.plans))):
            if len(frames) != wanted:
                raise EpisodeError(f"{folder / name}: wanted {wanted} frames as in {INDEX}, found {len(frames)}.")
        self._steps = tuple(n for n, record in enumerate(self._records) if record.keypose is not None)
        if not self._steps:
            raise EpisodeError(f"{self.folder}: no keypose was executed in it: delete the folder.")

    @property
    def keyposes(self) -> tuple[Keypose, ...]:
        return tuple(self._keypose(n) for n in self._steps)

    def __len__(self) -> int:
        return len(self._steps)

    def __getitem__(self, i: Any) -> Any:
        if isinstance(i, slice):
            return [self[k] for k in range(*i.indices(len(self)))]
        i = range(len(self))[i]
        n = self._steps[i]
        plan = self._records[n].plan
        return EpisodeStep(
            self._frames[n].frame,
            self._robot(n),
            self.plans[plan],
            self.plan_frame(plan),
            self._keypose(n),
            self.history(i),
        )

    def plan_frame(self, number: int) -> RgbdFrame:
        """The frame that a plan was drawn on."""
        frame: RgbdFrame = self._drawings[number].frame
        return frame

    def history(self, i: int) -> tuple[Keypose, ...]:
        """Keyposes executed before step ``i``, as the policy received them."""
        known = self._records[self._steps[i]].history
        before = [self._records[n] for n in self._steps[max(i - (HISTORY if known is None else known), 0) : i]]
        return tuple(past for record in before if (past := record.past))

    def guided_frames(self) -> Iterator[GuidedFrame]:
        """Every guided frame, in order. Guidance keeps state between frames, so a replay needs all of them."""
        step = {n: i for i, n in enumerate(self._steps)}
        for n, record in enumerate(self._records):
            yield GuidedFrame(self._frames[n].frame, self._robot(n), record.plan, step.get(n))

    def _robot(self, n: int) -> RobotState:
        robot = self._frames.robot(n)
        if robot is None:
            raise EpisodeError(f"{self.folder}: frame {n:06d} lacks the state of the arm.")
        return robot

    def _keypose(self, n: int) -> Keypose:
        keypose = self._records[n].keypose
        assert keypose is not None
        return keypose


class EpisodeWriter:
    """Writes an episode while it happens. The folder counts as an episode only after :meth:`close`.

    Raises:
        RecordingError: The folder is not empty.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._frames = RecordingWriter(folder, compress=True)
        self._drawings = RecordingWriter(folder / PLANS, compress=True)
        self._plans: list[TracePlan] = []
        self._records: list[FrameRecord] = []

    def add_plan(self, plan: TracePlan, frame: RgbdFrame) -> None:
        """Add a plan that was drawn on ``frame``."""
        self._drawings.append(frame)
        self._plans.append(plan)

    def add_frame(self, plan: TracePlan, frame: RgbdFrame, robot: RobotState, history: int = HISTORY) -> None:
        """Add a frame that was guided with ``plan``, after :meth:`add_plan` of that plan.

        Args:
            plan: In use.
            frame: Before guidance.
            robot: At about that time.
            history: How many keyposes the policy was told, at most.
        """
        number = next(i for i, known in enumerate(self._plans) if known.plan_id == plan.plan_id)
        executed = sum(record.keypose is not None for record in self._records)
        self._frames.append(frame, robot)
        self._records.append(FrameRecord(number, history=history if history < min(executed, HISTORY) else None))

    def add_keypose(self, keypose: Keypose, done_ns: int, executed: Keypose | None = None) -> None:
        """Add the keypose that was predicted from the last frame, and where the robot was sent if it was elsewhere."""
        self._records[-1] = replace(self._records[-1], keypose=keypose, done_ns=done_ns, executed=executed)

    def close(self, task: str, seed: int, instruction: str, outcome: Verdict) -> None:
        """Write the index, which makes the folder an episode."""
        EpisodeIndex(task, seed, instruction, outcome, tuple(self._plans), tuple(self._records)).write(self._folder)


def has_episodes(folder: Path) -> bool:
    """Whether :func:`find_episodes` would find some."""
    return bool(_paths(folder))


def _paths(folder: Path) -> list[Path]:
    found = sorted(path.parent for pattern in (f"*/{INDEX}", f"episodes/*/{INDEX}") for path in folder.glob(pattern))
    return [path for path in found if path.suffix != ".part"]


def find_episodes(folder: Path) -> list[Episode]:
    """All episodes of a dataset, or directly in ``folder``, by name.

    Raises:
        RecordingError: There are none, or one is damaged.
    """
    episodes = [Episode(path) for path in _paths(folder)]
    if not episodes:
        raise EpisodeError(
            f"{folder}: wanted a folder with episodes (*/{INDEX}, from `stvla collect`) or, for training, published data "
            "(a zarr group, or <task>+<variation>/ep<k>.dat), found neither."
        )
    return episodes
