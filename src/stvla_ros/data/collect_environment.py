"""The environment of evaluation, recording its episodes as they happen."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from scipy.spatial.transform import Rotation

from stvla_ros.data.episode import EpisodeWriter, Verdict
from stvla_ros.description.panda import HOME_Q_RAD, MAX_WIDTH_M
from stvla_ros.errors import CancelToken, OutcomeCode
from stvla_ros.evaluate.cell_environment import CellEnvironment, CellEnvironmentSetup, WatchedCell
from stvla_ros.evaluate.episode import EpisodeRecord
from stvla_ros.evaluate.episode import EpisodeSpec as Scene
from stvla_ros.evaluate.stack import StackSettings
from stvla_ros.motion import ik
from stvla_ros.pipeline import LocalStages, Progress
from stvla_ros.sim.cell import Cell
from stvla_ros.types import Keypose, Outcome, RgbdFrame, TracePlan

SLIP_M = (0.005, 0.010)
"""How far a keypose slips: as far as a trained policy misses."""

STREAM = 0x5119
"""Of random numbers, besides the scene's seed: slips do not change the scene."""


class LastFrameCell(WatchedCell):
    """A simulated cell that keeps the last rendered frame."""

    last: RgbdFrame | None = None

    def render(self, hidden: Collection[str] = (), ideal: bool = False) -> RgbdFrame:
        self.last = super().render(hidden, ideal)
        return self.last


class Slips:
    """Sends the robot a little beside some of its keyposes, for demonstrations of how to go on from there.

    A policy's own keyposes are off by millimetres, which demonstrations without noise never show (DART, arXiv
    1703.09327).
    """

    def __init__(self, seed: int) -> None:
        self._random = np.random.default_rng([seed, STREAM])

    def __call__(self, keypose: Keypose) -> Keypose:
        """The keypose moved by 5 to 10 mm; horizontally and by half of it where it touches something."""
        way = self._random.normal(size=3) * [1.0, 1.0, not keypose.may_collide]
        length = self._random.uniform(*SLIP_M) * (0.5 if keypose.may_collide else 1.0)
        T = keypose.T_base_tcp.copy()
        T[:3, 3] += way * (length / np.linalg.norm(way))
        return replace(keypose, T_base_tcp=T)


START_M = np.array([[0.33, -0.25, 0.15], [0.62, 0.25, 0.45]])
"""Where the tool starts: over the table, from as low as a press ends up to the height at home."""


def start_elsewhere(cell: Cell, seed: int) -> None:
    """Set the arm to where an earlier task may have left it: the tool straight down anywhere in :data:`START_M`, turned by
    any angle, the gripper open or closed, nothing touched.

    A policy that is trained only from home reads a closed gripper there as a press that is half done.
    """
    random = np.random.default_rng([seed, STREAM, 2])
    objects = [o.name for o in cell.task.objects] if cell.task else []
    for _ in range(50):
        T = np.eye(4)
        T[:3, :3] = Rotation.from_euler("xz", [np.pi, random.uniform(-np.pi / 2, np.pi / 2)]).as_matrix()
        T[:3, 3] = random.uniform(*START_M)
        width_m = MAX_WIDTH_M if random.random() < 0.5 else 0.0
        postures = ik.solve(T, HOME_Q_RAD[None])
        if len(postures):
            cell.set_state(postures[0], width_m)
            if not any(cell.robot_touches(name) for name in objects):
                return
    cell.set_state(HOME_Q_RAD, MAX_WIDTH_M)


class RecordingStages(LocalStages):
    """Stages that record the frames they see and the keyposes they execute.

    Args:
        stages: The stages.
        cell: Renders their frames.
        writer: Of the episode.
        slips: Replaces the policy's keyposes; those of the policy are recorded as the right ones. None: nothing slips.
    """

    def __init__(
        self, stages: LocalStages, cell: LastFrameCell, writer: EpisodeWriter, slips: Slips | None = None
    ) -> None:
        vars(self).update(vars(stages))
        self._cell, self._writer, self._slips = cell, writer, slips
        self._wanted: Keypose | None = None

    def plan(
        self,
        instruction: str,
        history: tuple[Keypose, ...],
        not_before_ns: int,
        cancel: CancelToken,
        feedback: str = "",
    ) -> TracePlan:
        plan = super().plan(instruction, history, not_before_ns, cancel, feedback)
        assert self._cell.last is not None
        self._writer.add_plan(plan, self._cell.last)
        return plan

    def predict(
        self, plan: TracePlan, history: tuple[Keypose, ...], not_before_ns: int, cancel: CancelToken
    ) -> Keypose | None:
        self._cell.last, robot = None, self._cell.state()
        try:
            self._wanted = super().predict(plan, history, not_before_ns, cancel)
            if self._slips is None or self._wanted is None:
                return self._wanted
            return self._slips(self._wanted)
        finally:
            if self._cell.last is not None:
                self._writer.add_frame(plan, self._cell.last, robot, len(history))

    def execute(self, plan: TracePlan, keypose: Keypose, cancel: CancelToken) -> Outcome:
        wanted, self._wanted = self._wanted, None
        outcome = super().execute(plan, keypose, cancel)
        if wanted is None:  # the loop's own way home, which is no answer to a frame
            return outcome
        if self._slips is None:
            self._writer.add_keypose(keypose, self.now_ns())
        else:
            self._writer.add_keypose(replace(wanted, stamp_ns=keypose.stamp_ns), self.now_ns(), keypose)
        return outcome


@dataclass(frozen=True)
class CollectEnvironmentSetup:
    """Makes a :class:`CollectEnvironment` in a worker process.

    Attributes:
        settings: Settings of all stages and of the cell.
        folder: Where each successful episode gets its folder.
        recoveries: Share of the episodes in which keyposes slip.
        starts: Share of the episodes in which the arm starts elsewhere than at home.
    """

    settings: StackSettings
    folder: Path
    recoveries: float = 0.0
    starts: float = 0.0

    @contextmanager
    def open(self) -> Iterator[CollectEnvironment]:
        """Raises ConfigError when the cell or a backend cannot be created."""
        cell = LastFrameCell(self.settings.cell)
        try:
            yield CollectEnvironment(self, cell)
        finally:
            cell.close()


class CollectEnvironment(CellEnvironment):
    """Keeps the folder of every episode that the simulator judges successful, and nothing of the others."""

    def __init__(self, setup: CollectEnvironmentSetup, cell: LastFrameCell) -> None:
        super().__init__(CellEnvironmentSetup(setup.settings), cell)
        self._folder, self._seen, self._collection = setup.folder, cell, setup

    def _carry_out(
        self, episode: Scene, instruction: str, stages: LocalStages, report: Callable[[Progress], None]
    ) -> EpisodeRecord:
        final = self._folder / Path(episode.file_name).stem
        part = final.with_name(f"{final.name}.part")
        for left in (part, final):
            shutil.rmtree(left, ignore_errors=True)
        writer = EpisodeWriter(part)
        try:
            slip, start = np.random.default_rng([episode.seed, STREAM, 1]).random(2)
            slips = Slips(episode.seed) if slip < self._collection.recoveries else None
            if start < self._collection.starts:
                start_elsewhere(self._seen, episode.seed)
            written = RecordingStages(stages, self._seen, writer, slips)
            record = super()._carry_out(episode, instruction, written, report)
            if record.success and record.keyposes:
                verdict = Verdict(OutcomeCode[record.outcome], record.sentence, record.judged, record.detail)
                writer.close(episode.task, episode.seed, instruction, verdict)
                part.rename(final)
            return record
        finally:
            shutil.rmtree(part, ignore_errors=True)
