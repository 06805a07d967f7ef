"""Renders episodes again, from the physics' states: other light, table, floor, paints and clutter, another camera.

The motion is the expert's own. The path of each plan is the same in space and drawn on the new image; a view counts only if
guidance accepts it there, and if the words are still true for who looks through the new camera.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from stvla_ros.data.arrange.environment import STREAM
from stvla_ros.data.arrange.questions import write_questions
from stvla_ros.data.episode import Episode, EpisodeWriter
from stvla_ros.data.replay import observations
from stvla_ros.errors import OutcomeCode, StageError
from stvla_ros.evaluate.episode import EpisodeRecord, EpisodeSpec
from stvla_ros.evaluate.stack import StackSettings, make_guide
from stvla_ros.files import read_arrays, setting
from stvla_ros.geometry.cameras import back_project, uv_to_px
from stvla_ros.planning.route import draw, in_view
from stvla_ros.sim.camera import TripodCameraConfig
from stvla_ros.sim.looks import dressed
from stvla_ros.sim.scene import Scene, SceneState, StateRenderer
from stvla_ros.sim.tasks import make_task
from stvla_ros.sim.tasks.arrange import Arrange, viewer_of
from stvla_ros.tabletop.start_depth import start_depth
from stvla_ros.types import F64, RgbdFrame, TracePlan

AROUND_RAD, UP_RAD, DISTANCE = 0.3, 0.1, (0.92, 1.1)
"""The camera goes around what it looks at by up to this, up or down, and nearer or farther by a factor."""


def moved_camera(config: TripodCameraConfig, rng: np.random.Generator) -> TripodCameraConfig:
    """Another place of the camera; it looks at the same point."""
    target = np.array([config.target_x_m, config.target_y_m, config.target_z_m])
    away = np.array([config.x_m, config.y_m, config.z_m]) - target
    distance = float(np.linalg.norm(away) * rng.uniform(*DISTANCE))
    around = np.arctan2(away[1], away[0]) + rng.uniform(-AROUND_RAD, AROUND_RAD)
    up = np.arcsin(away[2] / np.linalg.norm(away)) + rng.uniform(-UP_RAD, UP_RAD)
    eye = target + distance * np.array([np.cos(up) * np.cos(around), np.cos(up) * np.sin(around), np.sin(up)])
    return replace(config, x_m=float(eye[0]), y_m=float(eye[1]), z_m=float(eye[2]))


@dataclass(frozen=True)
class ViewsSetup:
    """Makes :class:`Views` in a worker process.

    Attributes:
        settings: Of the episodes.
        folder: Of the dataset.
        count: Views of each episode besides the cell's own.
    """

    settings: StackSettings
    folder: Path
    count: int

    @contextmanager
    def open(self) -> Iterator[Views]:
        """Nothing is opened before the first episode."""
        made = Views(self)
        try:
            yield made
        finally:
            made.close()


class Views:
    """Writes the views of one episode after another, and the questions about each."""

    def __init__(self, setup: ViewsSetup) -> None:
        self._setup, self._renderer = setup, StateRenderer()

    def close(self) -> None:
        """Free the renderer."""
        self._renderer.close()

    def run(self, spec: EpisodeSpec) -> EpisodeRecord:
        """Render an episode again. The record's facts count views, refused ones and questions.

        Raises:
            ConfigError: The episode or its states cannot be read, or are not of this scene.
        """
        name, folder = Path(spec.file_name).stem, self._setup.folder
        episode = Episode(folder / "episodes" / name)
        with setting("", "Delete it and the episode's record to collect it again."):
            saved = read_arrays(folder / "states" / f"{name}.npz", wanted="states of an episode")
        states = dict(zip(saved["stamp_ns"].tolist(), saved["physics"], strict=True))
        task, scene = self._scene(spec)
        asked = self._ask(name, scene, episode, states)
        refused: Counter[str] = Counter()
        for number in range(1, self._setup.count + 1):
            view = f"{name}-v{number}"
            rng = np.random.default_rng([spec.seed, STREAM, number])
            other = replace(scene, camera=moved_camera(scene.camera, rng), seed=int(rng.integers(1 << 31)), look="hard")
            try:
                self._write(folder / "episodes" / view, task, other, episode, states)
            except StageError as error:
                refused[error.code.name] += 1
                continue
            asked += self._ask(view, other, Episode(folder / "episodes" / view), states)
        facts = {
            "views": float(self._setup.count - refused.total()),
            "refused": float(refused.total()),
            "questions": float(asked),
        }
        why = ", ".join(f"{code} {count}" for code, count in refused.items()) or "none"
        return EpisodeRecord(
            spec.task, spec.seed, episode.instruction, "OK", f"Refused views: {why}.", True, "", facts=facts
        )

    def _scene(self, spec: EpisodeSpec) -> tuple[Arrange, Scene]:
        cell = self._setup.settings.cell
        task = make_task(spec.task, spec.seed, spec.distractors)
        task = dressed(task, spec.seed) if cell.look == "hard" else task
        assert isinstance(task, Arrange)
        return task, Scene(task.objects, cell.timestep_s, cell.camera, cell.third, cell.sensor, spec.seed, cell.look)

    def _ask(self, name: str, scene: Scene, episode: Episode, states: dict[int, F64]) -> int:
        frame, plan = episode.plan_frame(0), episode.plans[0]
        truth = self._renderer.truth(SceneState(scene, states[frame.stamp_ns], frame.stamp_ns))
        return write_questions(self._setup.folder / "questions", name, frame, truth, plan)

    def _write(self, folder: Path, task: Arrange, scene: Scene, episode: Episode, states: dict[int, F64]) -> None:
        """Write one view, unless it is there.

        Raises:
            StageError: It shows no episode of this task: see the module.
        """
        if folder.is_dir():
            return
        part = folder.with_name(f"{folder.name}.part")
        shutil.rmtree(part, ignore_errors=True)
        try:
            self._render(part, task, scene, episode, states)
            for _ in observations(Episode(part), make_guide(self._setup.settings)):
                pass
            part.rename(folder)
        finally:
            shutil.rmtree(part, ignore_errors=True)

    def _render(self, part: Path, task: Arrange, scene: Scene, episode: Episode, states: dict[int, F64]) -> None:
        def seen(frame: RgbdFrame) -> RgbdFrame:
            return self._renderer.frame(SceneState(scene, states[frame.stamp_ns], frame.stamp_ns))

        writer, plans = EpisodeWriter(part), []
        for number, plan in enumerate(episode.plans):
            before = episode.plan_frame(number)
            after = seen(before)
            plans.append(redrawn(plan, before, after))
            writer.add_plan(plans[-1], after)
        last = SceneState(scene, states[before.stamp_ns], before.stamp_ns)
        truth = self._renderer.truth(last)
        if plan.finished and not task.holds(truth.T_base_object, viewer_of(after.camera.T_base_camera)):
            raise StageError(OutcomeCode.INVALID_GOAL, f"From this camera the block is not {task.where}.")
        for guided, record in zip(episode.guided_frames(), episode.content.frames, strict=True):
            writer.add_frame(plans[guided.plan], seen(guided.frame), guided.robot)
            if record.keypose is not None:
                writer.add_keypose(record.keypose, record.done_ns, record.executed)
        writer.close(episode.task, episode.seed, episode.instruction, episode.outcome)


def redrawn(plan: TracePlan, before: RgbdFrame, after: RgbdFrame) -> TracePlan:
    """A plan with the same path in space, drawn on another image of the same instant.

    Raises:
        StageError: LIFT_NO_DEPTH when that image does not show where the path begins, or all of it.
    """
    if plan.finished:
        return plan
    px = uv_to_px(plan.uv, before.camera)
    start_m = plan.start_depth_m if np.isfinite(plan.start_depth_m) else start_depth(before, px[0])
    route_m = back_project(before.camera, px, start_m + plan.depth_offset_m)
    drawn = draw(route_m, after) if in_view(after.camera, route_m) else None
    if drawn is None:
        raise StageError(OutcomeCode.LIFT_NO_DEPTH, "The other camera does not see the whole path.")
    uv, depth_m, offset_m = drawn
    return replace(plan, uv=uv, start_depth_m=depth_m, depth_offset_m=offset_m)
