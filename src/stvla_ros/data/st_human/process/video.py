"""Processes one video: hand-free scene, hand, segments, contact, path, relations, words, samples; resumable by stages.

Each stage leaves a file in the result's folder, and ``stages.json`` keeps the hash of all that it depends on: input
images, settings, the program, and the stages before. A stage is run again when its hash has changed or its file is
missing.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from stvla_ros.data.st_human.info_json import write_info
from stvla_ros.data.st_human.plain import to_plain
from stvla_ros.data.st_human.process.episode import SETTINGS, Episode, make_info, route
from stvla_ros.data.st_human.process.folder import CAMERA, DEPTH, RGB, TOLD, HumanVideo, VideoError, open_video
from stvla_ros.data.st_human.process.hand_models import models_folder
from stvla_ros.data.st_human.process.hands import HandsName, make_hands
from stvla_ros.data.st_human.process.scene import Scene, find_table, find_things
from stvla_ros.data.st_human.process.segments import Hands, Segment, find_hands, find_segments, median_depth
from stvla_ros.data.st_human.process.supervision import Frames, make_samples
from stvla_ros.data.st_human.process.track import Change, Track, find_change, find_vacated, follow
from stvla_ros.data.st_human.readers.layouts import Readers
from stvla_ros.data.st_human.readers.source import import_video
from stvla_ros.data.st_human.samples_json import write_samples
from stvla_ros.files import digest, read_arrays, read_json, written

WORK_WIDTH_PX = 480
"""The hand is followed in images of about this width."""

QUALITY, SAMPLES, STAGES, HANDS = "quality.json", "samples.json", "stages.json", "hands.npz"
_ARRAYS = ("T_ref", "rms_m", "tip_m", "axis", "left", "missing", "fingers_m")
_HANDS = ("seen", "px", "local_m", "score", "right")


@dataclass(frozen=True)
class ProcessSettings:
    """What is asked for.

    Attributes:
        hands: Name of the backend that finds hands.
        hand_models: Folder of the files of ``mediapipe``; empty: where ``stvla human fetch-hands`` puts them.
        template: Of all actions; overrides what ``video.json`` says.
        samples: Also write samples with their images.
    """

    hands: HandsName = "depth"
    hand_models: str = ""
    template: str | None = None
    samples: bool = True


@dataclass
class Report:
    """How a video went.

    Attributes:
        frames: In the video.
        seconds: Of each stage that was run.
        actions: How many were found.
        accepted: How many go to audit.
        samples: How many were written.
        notes: What could not be used, one sentence each.
    """

    frames: int = 0
    seconds: dict[str, float] = field(default_factory=dict)
    actions: int = 0
    accepted: int = 0
    samples: int = 0
    notes: list[str] = field(default_factory=list)


@cache
def _program() -> str:
    here = Path(__file__).parent
    return "".join(digest(folder, (".py",)) for folder in (here, here.parent / "readers"))


class Stages:
    """The stages of one result.

    Args:
        folder: Of the result.
        seconds: Gets the time of each stage that is run.
    """

    def __init__(self, folder: Path, seconds: dict[str, float]) -> None:
        self._path, self._seconds = folder / STAGES, seconds
        known = read_json(self._path, VideoError) if self._path.exists() else {}
        self._known: dict[str, str] = known if isinstance(known, dict) else {}

    def run(self, name: str, depends_on: Any, files: list[Path], work: Callable[[], None]) -> str:
        """Run a stage unless its files are there and made from the same; returns its hash."""
        text = json.dumps([name, depends_on, _program()], sort_keys=True)
        wanted = hashlib.sha256(text.encode()).hexdigest()
        if self._known.get(name) != wanted or not all(path.exists() for path in files):
            start = time.perf_counter()
            work()
            self._seconds[name] = round(time.perf_counter() - start, 3)
            self._known[name] = wanted
            with written(self._path, VideoError) as part:
                part.write_text(json.dumps(self._known, indent=1) + "\n")
        return wanted


def process_video(
    source: Path,
    output: Path,
    settings: ProcessSettings,
    on_frame: Callable[[int], None] = lambda _: None,
    readers: Readers | None = None,
) -> Report:
    """Process a video.

    Args:
        source: Its folder; see :mod:`stvla_ros.data.st_human.process.folder` and
            :mod:`stvla_ros.data.st_human.readers.layouts`.
        output: Folder of the result: ``info.json``, ``quality.json``, ``samples.json`` with images, the stages' files.
            It gets links to the images of a video of our own layout, and those of another as they are read.
        settings: What is asked for.
        on_frame: Gets the number of each frame that was searched for a hand.
        readers: Of videos in other layouts; None: those of all but bags.

    Raises:
        VideoError: The folder is no video that can be processed; the message names the file.
        FormatError: The result cannot be written.
    """
    cv2.setNumThreads(1)
    report = Report()
    stages = Stages(output, report.seconds)
    found = (readers or Readers()).open(source)
    if found is not None:
        imported = [output / CAMERA, output / TOLD]
        stages.run("import", [found.digest(), found.fps, found.unit_m], imported, partial(import_video, found, output))
        source = output
    start = time.perf_counter()
    video = open_video(source)
    report.frames = video.frames
    output.mkdir(parents=True, exist_ok=True)
    for name in ("rgb", "depth"):
        _link(output / name, source / name)
    images = [digest(source / name) for name in (CAMERA, "rgb", "depth")]
    report.seconds["read and check"] = round(time.perf_counter() - start, 3)
    hands = make_hands(settings.hands, Path(settings.hand_models) if settings.hand_models else models_folder())
    stride = max(round(video.camera.width_px / WORK_WIDTH_PX), 1)

    seen_file = output / HANDS

    def look_for_hands() -> None:
        found = find_hands(video, hands, stride, on_frame)
        _save(seen_file, {name: getattr(found, name) for name in _HANDS})

    made = stages.run("hands", [images, settings.hands, stride], [seen_file], look_for_hands)
    seen = Hands(**{name: array for name, array in read_arrays(seen_file, VideoError).items() if name in _HANDS})
    segments, unused = find_segments(seen.seen)
    report.notes = [*(found.notes if found else ()), *unused]
    track_files = [output / f"track-{k:02d}.npz" for k in range(len(segments))]
    scene = _scene(video, segments)

    def follow_hands() -> None:
        assert scene is not None
        for segment, path in zip(segments, track_files, strict=True):
            before, after = (median_depth(video, frames) for frames in (segment.before, segment.after))
            small = before[::stride, ::stride], after[::stride, ::stride]
            vacated = find_vacated(video, segment, small[0], stride)
            change = find_change(small[0], small[1], vacated)
            track = follow(video, segment, change, hands, seen, scene.T_workspace_camera, stride)
            arrays = {name: getattr(track, name) for name in _ARRAYS} | {"reference": np.array(track.reference)}
            _save(path, arrays | {"before_m": before, "after_m": after, "vacated": vacated})

    if segments:
        made = stages.run("follow", [made], track_files, follow_hands)
    told = (source / TOLD).read_text() if (source / TOLD).exists() else ""
    info_file, quality_file, sample_file = output / "info.json", output / QUALITY, output / SAMPLES

    def assemble() -> None:
        tracks = [_load(path) for path in track_files]
        info, episodes = make_info(video, scene, segments, tracks, settings.template, hands, seen, made)
        info = replace(info, video=replace(info.video, rgb=RGB, depth=DEPTH))
        write_info(info_file, info)
        _write_quality(quality_file, episodes, segments, seen if settings.hands != "depth" else None, report.notes)

    made = stages.run(
        "assemble", [made, told, settings.template, asdict(SETTINGS)], [info_file, quality_file], assemble
    )

    if settings.samples:

        def supervise() -> None:
            from stvla_ros.data.st_human.info_json import read_info

            frames = Frames(output, video)
            write_samples(sample_file, make_samples(read_info(info_file), frames, output))

        stages.run("samples", [made], [sample_file], supervise)
        report.samples = len(read_json(sample_file))
    quality = read_json(quality_file)
    report.actions = len(quality["episodes"])
    report.accepted = sum(episode["route"] == "audit" for episode in quality["episodes"])
    return report


def _scene(video: HumanVideo, segments: list[Segment]) -> Scene | None:
    """The table and the things on it before the first action; None without any action."""
    if not segments:
        return None
    first = segments[0]
    depth = median_depth(video, first.before)
    frame = first.before[-1]
    return find_things(video, frame, video.rgb(frame), depth, find_table(video, depth))


def _link(path: Path, target: Path) -> None:
    """A link to the images, so that the paths of ``info.json`` hold from the result's folder too."""
    if path.resolve() == target.resolve():
        return
    if path.is_symlink():
        path.unlink()
    if path.exists():  # the result is in the video's own folder
        return
    path.symlink_to(os.path.relpath(target.resolve(), path.parent.resolve()))


def _save(path: Path, arrays: Mapping[str, Any]) -> None:
    with written(path, VideoError) as part, part.open("wb") as file:
        np.savez_compressed(file, **arrays)


def _load(path: Path) -> tuple[Track, Change]:
    arrays = read_arrays(path, VideoError)
    track = Track(**{name: arrays[name] for name in _ARRAYS}, reference=int(arrays["reference"]))
    h, w = arrays["before_m"].shape
    vacated = cv2.resize(arrays["vacated"].astype(np.uint8), (w, h), interpolation=cv2.INTER_NEAREST) > 0
    return track, find_change(arrays["before_m"], arrays["after_m"], vacated)


def _write_quality(
    path: Path, episodes: list[Episode], segments: list[Segment], hands: Hands | None, notes: list[str]
) -> None:
    """``hands`` says in which frames keypoints were found; None: none were sought."""
    content = {
        "episodes": [
            {
                "id": e.action,
                "score": e.score,
                "route": route(e),
                "reasons": list(e.reasons),
                "weak_frames": e.weak_frames,
                "grasp": e.grasp,
                "without_keypoints": None if hands is None else hands.without_keypoints(segment),
            }
            for e, segment in zip(episodes, segments, strict=True)
        ],
        "notes": notes,
    }
    with written(path, VideoError) as part:
        part.write_text(json.dumps(to_plain(content), indent=1) + "\n")
