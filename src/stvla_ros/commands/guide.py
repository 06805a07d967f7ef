"""``stvla guide``: what guidance does to a recording or a simulated scene."""

from __future__ import annotations

import json
import time
from argparse import Namespace, _ArgumentGroup
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from rich.console import Console
from rich.progress import track

from stvla_ros import registry
from stvla_ros.commands.arguments import MAX_SEED, Parser, add_look_argument, add_override_argument, overrides_of, whole
from stvla_ros.commands.exit_codes import of_outcome
from stvla_ros.commands.recordings import add_bag_arguments, hints_of, open_recording
from stvla_ros.config import ConfigError
from stvla_ros.data.recording import RecordedFrame
from stvla_ros.description.kinematics import tcp_pose
from stvla_ros.description.panda import HOME_Q_RAD, MAX_WIDTH_M
from stvla_ros.errors import StageError
from stvla_ros.evaluate.stack import BAG, StackSettings, read_settings
from stvla_ros.perception.guide import SpatialGuide
from stvla_ros.record.folder import make_run_folder
from stvla_ros.record.guidance_view import VIEWS, guidance_views
from stvla_ros.record.panels import fit, row, sheet
from stvla_ros.record.video import VideoWriter
from stvla_ros.sim.cell import Cell
from stvla_ros.types import Guidance, PlanRequest, RgbdFrame, RobotState, Trace3d

ROWS = 8
"""Frames on the sheet of pictures."""


def add_arguments(parser: Parser) -> None:
    source: _ArgumentGroup = parser.add_argument_group("source: a recording, or a simulated scene where none is given")
    source.add_argument("recording", nargs="?", type=Path, metavar="RECORDING", help="a recording, or a rosbag2")
    source.add_argument("--task", metavar="TASK", default="pick_place", help="scene; default pick_place")
    source.add_argument("--seed", type=whole(0, MAX_SEED), default=0, metavar="N", help="of the scene; default 0")
    source.add_argument(
        "--distractors", type=whole(0, 12), metavar="N", help="number of objects that the task does not need"
    )
    source.add_argument("--noise", action="store_true", help="imperfect camera")
    add_look_argument(source)
    source.add_argument("--frames", type=whole(1, 100_000), default=30, metavar="N", help="of the scene; default 30")
    parser.add_argument("--instruction", metavar="WORDS", help="required for a recording; default: the scene's own")
    parser.add_argument("--replan-s", type=float, default=0.0, metavar="S", help="plan again every S seconds; 0: never")
    parser.add_argument("--output", type=Path, metavar="DIR", help="default runs/<time>")
    for kind in ("planner", "segmenter"):
        names = registry.names(kind)
        parser.add_argument(f"--{kind}", choices=names, metavar="NAME", help=", ".join(names))
    parser.add_argument("--params", type=Path, metavar="FILE", help="ROS 2 parameter file; default: the defaults")
    add_bag_arguments(parser)
    add_override_argument(parser)


def run(arguments: Namespace) -> int:
    chosen = {k: getattr(arguments, k) for k in ("planner", "segmenter")}
    parts = ("planner", "segmenter", "guide", "cell" if arguments.recording is None else BAG)
    settings = read_settings(arguments.params, chosen, overrides_of(arguments), parts)
    if arguments.recording is None:
        return _run_scene(arguments, settings.with_noise() if arguments.noise else settings)
    if not arguments.instruction:
        raise ConfigError("stvla guide: a recording needs --instruction, e.g. 'Put the red block in the plate.'.")
    recording = open_recording(arguments.recording, settings, Console(), hints_of(arguments))
    return _write(arguments, settings, iter(recording), len(recording), arguments.instruction)


def _run_scene(arguments: Namespace, settings: StackSettings) -> int:
    cell = Cell(settings.cell)
    try:
        distractors = -1 if arguments.distractors is None else arguments.distractors
        instruction = arguments.instruction or cell.reset(arguments.task, arguments.seed, distractors)
        return _write(arguments, settings, still_frames(cell, arguments.frames), arguments.frames, instruction)
    except StageError as error:
        raise ConfigError(error.sentence) from error
    finally:
        cell.close()


def _write(
    arguments: Namespace, settings: StackSettings, frames: Iterator[RecordedFrame], count: int, instruction: str
) -> int:
    """Write film, sheet and decisions; the exit code is the last failure's, or 0."""
    folder = arguments.output or make_run_folder(Path("runs"))
    folder.mkdir(parents=True, exist_ok=True)
    console, album, failure = Console(), Album(folder, count, instruction), None
    try:
        guided = guide_frames(frames, instruction, settings, arguments.replan_s)
        for frame in track(guided, total=count, description="guiding", console=console, transient=True):
            album.add(frame)
            if isinstance(frame.result, StageError):
                failure = frame.result
    finally:
        album.close()
    console.print(f"{instruction}: {album.good} of {album.frames} frames guided, median {album.median_ms:.0f} ms.")
    if failure is not None:
        console.print(f"Last failure: {failure}", soft_wrap=True)
    console.print(f"{folder}/guidance.jpg, guidance.mp4, guidance.jsonl", soft_wrap=True)
    return 0 if failure is None else of_outcome(failure.code)


class Album:
    """Collects guided frames into a film, a sheet of pictures and a line of JSON each."""

    def __init__(self, folder: Path, count: int, title: str) -> None:
        self._folder, self._title = folder, title
        self._shown = set(np.linspace(0, count - 1, min(ROWS, count)).round().astype(int).tolist())
        self._film: VideoWriter | None = None
        self._rows: list[Any] = []
        self._lines = (folder / "guidance.jsonl").open("w")
        self._first_ns: int | None = None
        self._ms: list[float] = []
        self.frames = self.good = 0

    @property
    def median_ms(self) -> float:
        return float(np.median(self._ms)) if self._ms else float("nan")

    def add(self, guided: GuideResult) -> None:
        """One more frame."""
        first = self._first_ns = guided.frame.stamp_ns if self._first_ns is None else self._first_ns
        seconds = (guided.frame.stamp_ns - first) / 1e9
        line, caption = _decision(guided, seconds)
        self._lines.write(json.dumps(line) + "\n")
        if not isinstance(guided.result, StageError):
            self.good += 1
            self._ms.append(guided.ms)
        picture = row(_panels(guided), caption, VIEWS)
        picture = picture[: picture.shape[0] // 2 * 2]
        if self._film is None:
            self._film = VideoWriter(self._folder / "guidance.mp4", picture.shape[1], picture.shape[0])
        self._film.write(picture, seconds)
        if self.frames in self._shown:
            self._rows.append(picture)
        self.frames += 1

    def close(self) -> None:
        """Finish the files."""
        self._lines.close()
        if self._film is not None:
            self._film.close()
            picture = sheet(self._title, self._rows, VIEWS)
            cv2.imwrite(str(self._folder / "guidance.jpg"), picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 88])


def _panels(guided: GuideResult) -> dict[str, Any]:
    if isinstance(guided.result, StageError):
        return {VIEWS[0]: fit(guided.frame.rgb)}
    return {name: fit(view) for name, view in guidance_views(guided.frame, guided.result).items()}


def _decision(guided: GuideResult, seconds: float) -> tuple[dict[str, Any], str]:
    """The line about a frame, and its caption."""
    line: dict[str, Any] = {"t_s": round(seconds, 3), "replanned": guided.replanned, "ms": round(guided.ms, 2)}
    if isinstance(guided.result, StageError):
        return line | {"outcome": guided.result.code.name, "sentence": guided.result.sentence}, str(guided.result)
    g = guided.result
    kept, removed, notes = list(g.kept_ids), list(g.removed_ids), [*g.trace.notes, *g.notes]
    line |= {"outcome": "OK", "kept": kept, "removed": removed, "progress_m": round(g.progress_m, 4), "notes": notes}
    caption = f"{seconds:.1f} s   kept {kept}   removed {removed}   {guided.ms:.0f} ms   {' '.join(notes)}"
    return line, caption


@dataclass(frozen=True, eq=False)
class GuideResult:
    """One frame and its guidance.

    Attributes:
        frame: From the camera.
        result: The guidance, or why there is none.
        replanned: The planner looked at this frame.
        ms: Wall-clock milliseconds of the guide, planner not counted.
    """

    frame: RgbdFrame
    result: Guidance | StageError
    replanned: bool
    ms: float


def guide_frames(
    frames: Iterable[RecordedFrame], instruction: str, settings: StackSettings, replan_s: float = 0.0
) -> Iterator[GuideResult]:
    """Guide all frames. Plan on the first one, after a failure, and every ``replan_s`` seconds if that is not 0.

    Args:
        frames: In the order of their stamps. A frame without arm state counts as one without a robot, with the arm at
            home.
        instruction: What the planner is asked.
        settings: Of planner, segmenter and guide.
    """
    backends, sections = settings.backends, settings.sections
    planner = registry.create("planner", backends["planner"], sections.get("planner", {}))
    segmenter = registry.create("segmenter", backends["segmenter"], sections.get("segmenter", {}))
    guide = SpatialGuide(segmenter, settings.guide)
    trace: Trace3d | None = None
    next_plan_ns = 0
    for recorded in frames:
        frame, robot = recorded.frame, recorded.robot or _at_home(recorded.frame.stamp_ns)
        due = trace is None or (replan_s > 0 and frame.stamp_ns >= next_plan_ns)
        start = time.perf_counter()
        try:
            if due:
                plan = planner.plan(PlanRequest(instruction, frame, robot))
                start, next_plan_ns = time.perf_counter(), frame.stamp_ns + round(replan_s * 1e9)
                trace = guide.lift(plan, frame)
            assert trace is not None
            result: Guidance | StageError = guide.guide(trace, frame, robot)
        except StageError as error:
            result, trace = error, None
        yield GuideResult(frame, result, due, 1e3 * (time.perf_counter() - start))


def still_frames(cell: Cell, count: int, rate_hz: float = 15.0) -> Iterator[RecordedFrame]:
    """Frames of a simulated cell without motion."""
    for _ in range(count):
        cell.advance(1.0 / rate_hz)
        yield RecordedFrame(cell.render(), cell.state())


def _at_home(stamp_ns: int) -> RobotState:
    return RobotState(HOME_Q_RAD, np.zeros(7), tcp_pose(HOME_Q_RAD), MAX_WIDTH_M, stamp_ns)
