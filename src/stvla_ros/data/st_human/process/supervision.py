"""Samples of a processed video in the planners' words: pointing, paths, depth, relations, steps, progress (2D, 3D, 4D).

Images are hand-free, as a robot sees no human hand; only the remaining paths are asked in the middle of an action.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from stvla_ros.data.st_human.info import INFO, Action, VideoInfo
from stvla_ros.data.st_human.info_json import project, read_info
from stvla_ros.data.st_human.process.folder import CAMERA, HumanVideo, Told, VideoError
from stvla_ros.data.st_human.samples import IMAGE, Objects, Sample, conversation, write_image
from stvla_ros.evaluate.planner.answers import LETTERS
from stvla_ros.geometry.cameras import px_to_uv
from stvla_ros.geometry.depths import without_specks
from stvla_ros.geometry.paths import arc_length, resample
from stvla_ros.planning.depth_image import colourised_depth
from stvla_ros.planning.prompt import (
    depth_prompt,
    next_action_prompt,
    pointing_prompt,
    previous_action_prompt,
    progress_prompt,
    remaining_prompt,
    trace_prompt,
    write_offsets,
    write_points,
    write_progress,
)
from stvla_ros.types import F64, U8, WAYPOINTS, Camera, RgbdFrame

REMAINING = (0.25, 0.5, 0.75)
"""Shares of the held path at which the rest is asked for."""

CLEAR = 1.5
"""Questions are about relations at least so far from their threshold."""

SPATIAL = 4
"""Questions about relations per action."""

_SAID = {"left_of": "left of", "right_of": "right of", "in_front_of": "in front of", "on": "on", "in": "in",
         "behind": "behind", "under": "under", "near": "near"}  # fmt: skip
_OPTIONS = ("left of", "right of", "in front of", "behind", "on", "in")


class Frames:
    """Images of a video, written once each below ``root``.

    Args:
        root: Where samples go.
        video: Gives the images of a frame.
        prefix: Of the images' names, where several videos go to the same folder.
    """

    def __init__(self, root: Path, video: HumanVideo, prefix: str = "") -> None:
        self._root, self._video, self._prefix = root, video, prefix
        self._written: dict[str, str] = {}

    def colour(self, frame: int) -> str:
        """Path of a colour image."""
        return self._once(f"{frame:06d}", lambda: self._video.rgb(frame))

    def depth(self, frame: int) -> str:
        """Path of the colourised depth of a frame."""
        return self._once(f"{frame:06d}-depth", lambda: colourised_depth(self._frame(frame)))

    def _frame(self, frame: int) -> RgbdFrame:
        return RgbdFrame(self._video.rgb(frame), self._video.depth_m(frame), self._video.camera, 0)

    def depth_at(self, frame: int, px: F64) -> float:
        """Depth at a pixel [m]; NaN: unknown."""
        depth = without_specks(self._video.depth_m(frame))
        h, w = depth.shape
        x, y = np.rint(px).astype(int)
        window = depth[max(y - 2, 0) : min(y + 3, h), max(x - 2, 0) : min(x + 3, w)]
        window = window[np.isfinite(window)]
        return float(np.median(window)) if len(window) else float("nan")

    def _once(self, name: str, image: Callable[[], U8]) -> str:
        if name not in self._written:
            self._written[name] = write_image(self._root, self._prefix + name, image())
        return self._written[name]


def make_samples(info: VideoInfo, frames: Frames, root: Path) -> list[Sample]:
    """All samples of a video; what is outside the image, or has no answer, is left out."""
    samples: list[Sample] = []
    for number, action in enumerate(info.actions):
        for kind, (task, words, images, objects) in enumerate(_of(info, number, frames)):
            id_ = f"{info.video.id}-{action.id}-{task}-{kind}"
            samples.append(Sample(id_, task, conversation(*words), images, objects, root))
    return samples


def annotated_samples(infos: Sequence[VideoInfo], videos: Path, output: Path) -> list[Sample]:
    """Samples of corrected annotations, of all videos together; their images are written to ``output``.

    Args:
        infos: As people left them. Excluded videos give no samples.
        videos: Folder with the images of each: results of the pipeline, or videos of our own layout.
        output: Folder of the samples' file.

    Raises:
        VideoError: The images of a video are not below ``videos``, or cannot be read.
        FormatError: A file below ``videos`` is wrong.
    """
    places = {path.parent.name: path.parent for path in videos.rglob(CAMERA)}
    places |= {read_info(path).video.id: path.parent for path in videos.rglob(INFO)}
    samples: list[Sample] = []
    for info in infos:
        if info.excluded is not None:
            continue
        name = info.video.id
        if name not in places:
            raise VideoError(f"{videos}: wanted the images of the video '{name}' in a folder below, found none.")
        (fx, fy, cx, cy), (width, height) = info.camera.K, info.video.size_px
        K = np.array([[fx, 0.0, cx], [0.0, fy, cy], [0.0, 0.0, 1.0]])
        camera = Camera(K, width, height, np.eye(4))
        video = HumanVideo(places[name], info.video.frames, info.video.fps, camera, None, Told())
        samples += make_samples(info, Frames(output, video, f"{name}-"), output)
    return samples


_Made = tuple[str, tuple[str, ...], tuple[str, ...], Objects]


def _of(info: VideoInfo, number: int, frames: Frames) -> Iterator[_Made]:
    action = info.actions[number]
    done = [earlier.sentence for earlier in info.actions[:number]]
    goal, clean = info.video.instruction, frames.colour(action.clean_frame)
    yield from _pointing(info, action, clean)
    yield from _paths(info, action, frames, clean)
    yield from _spatial(info, action, frames)
    yield "next_action", (IMAGE + next_action_prompt(goal, done), action.sentence), (clean,), Objects()
    after = frames.colour(action.after_frame)
    yield "previous_action", (IMAGE + previous_action_prompt(goal), action.sentence), (after,), Objects()
    steps = len(info.actions)
    for image, k, finished in ((clean, number + 1, False), (after, min(number + 2, steps), number + 1 == steps)):
        past = done if image == clean else [*done, action.sentence]
        words = (IMAGE + progress_prompt(goal, past), write_progress(k, steps, finished))
        yield "progress", words, (image,), Objects(step=k, steps=steps, finished=finished)


def _pointing(info: VideoInfo, action: Action, image: str) -> Iterator[_Made]:
    for thing in _named(info, action):
        box = next((o.box for o in info.objects if o.id == thing), None)
        if box is None or action is not info.actions[0]:  # boxes are those of the first clean frame
            continue
        uv = _uv(info, np.array([box.center_m]))[0]
        if _inside(uv):
            x, y = (float(round(v)) for v in uv)
            words = (IMAGE + pointing_prompt(info.names[thing]), write_points(uv[None]))
            yield "pointing", words, (image,), Objects(point_2d=(x, y))
    if action.contact_points is not None:
        point = action.contact_points.initial
        uv = _uv(info, np.array([point.xyz_m]))[0]
        if point.object is not None and _inside(uv):
            words = (IMAGE + pointing_prompt(f"place to grasp the {info.names[point.object]}"), write_points(uv[None]))
            yield "pointing", words, (image,), Objects(point_2d=(float(round(uv[0])), float(round(uv[1]))))


def _named(info: VideoInfo, action: Action) -> list[str]:
    said = [value for value in action.slots.values() if isinstance(value, str) and value in info.names]
    return list(dict.fromkeys(said))


def _paths(info: VideoInfo, action: Action, frames: Frames, clean: str) -> Iterator[_Made]:
    """The whole held path on the clean image with its depth, then the rest of it from three moments on."""
    held = np.array([w.xyz_m for w in action.trajectory if action.contact_frame <= w.frame <= action.release_frame])
    at = [w.frame for w in action.trajectory if action.contact_frame <= w.frame <= action.release_frame]
    if len(held) < 3 or arc_length(held)[-1] < 0.02:
        return
    question = trace_prompt(action.sentence)
    whole = resample(held, WAYPOINTS)
    uv = _uv(info, whole)
    if _inside(uv):
        answer, objects = write_points(uv), Objects(traj_2d=_points(uv), step=action.step, steps=action.steps)
        yield "trajectory", (IMAGE + question, answer), (clean,), objects
        start = frames.depth_at(action.clean_frame, project(info.camera, [whole[0]])[0])
        if np.isfinite(start):
            offsets = whole[:, 2] - start
            depth = Objects(start_depth_m=start, depth_offset_mm=tuple(float(v) for v in np.rint(1000 * offsets)))
            turns = (IMAGE + question, answer, IMAGE + depth_prompt(start), write_offsets(offsets))
            yield "depth", turns, (clean, frames.depth(action.clean_frame)), depth
    s = arc_length(held)
    for share in REMAINING:
        k = int(np.searchsorted(s, share * s[-1]))
        rest = held[k:]
        if len(rest) < 3:
            continue
        uv = _uv(info, resample(rest, WAYPOINTS))
        if _inside(uv):
            words = (IMAGE + f"{question} {remaining_prompt(uv[0], [action.sentence])}", write_points(uv))
            yield (
                "trajectory", words, (frames.colour(at[k]),),
                Objects(traj_2d=_points(uv), step=action.step, steps=action.steps),
            )  # fmt: skip


def _spatial(info: VideoInfo, action: Action, frames: Frames) -> Iterator[_Made]:
    """Which word says where one thing is to another; a different answer's letter each time."""
    rng = random.Random(f"{info.video.id}-{action.id}")
    image = frames.colour(action.after_frame)
    clear = [r for r in action.relations.after if r.predicate in _SAID and r.margin >= CLEAR and len(r.objects) == 1]
    clear = [r for r in clear if _SAID[r.predicate] in _OPTIONS]
    rng.shuffle(clear)
    for k, relation in enumerate(clear[:SPATIAL]):
        right = _SAID[relation.predicate]
        wrong = rng.sample([word for word in _OPTIONS if word != right], 3)
        place = (k + rng.randrange(4)) % 4
        options = [*wrong[:place], right, *wrong[place:]]
        shown = " ".join(f"({LETTERS[i]}) {word}" for i, word in enumerate(options))
        a, b = info.names[relation.subject], info.names[relation.objects[0]]
        question = f"From the camera's view, where is the {a}? It is ... the {b}. {shown}"
        yield "spatial", (IMAGE + question, f"({LETTERS[place]}) {right}"), (image,), Objects()


def _uv(info: VideoInfo, points_m: F64) -> F64:
    """(N, 2) in 0..1000 of points in the camera's frame."""
    w, h = info.video.size_px
    return px_to_uv(project(info.camera, [tuple(p) for p in points_m]), Camera(np.eye(3), w, h, np.eye(4)))


def _inside(uv: F64) -> bool:
    return bool(np.isfinite(uv).all() and uv.min() >= 0.0 and uv.max() <= 1000.0)


def _points(uv: F64) -> tuple[tuple[float, float], ...]:
    return tuple((float(u), float(v)) for u, v in np.rint(uv))
