"""Makes a video: draws a scene by its seed, plays it, and writes frames and truth.

A folder::

    rgb/000000.png     colour
    depth/000000.png   depth, uint16 millimetres, 0 where nothing is measured; same pixels as colour
    camera.json        fx, fy, cx, cy, width_px, height_px, fps, T_base_camera (z up, table at z = 0)
    truth.json         what happens, in words and frame numbers; what every thing is
    truth.npz          where everything is in every frame

Whoever judges a pipeline gives it the first three only.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import cv2
import numpy as np

from stvla_ros.data.st_human.synthetic.kinds import KINDS, Draft, NoRoomError, Task
from stvla_ros.data.st_human.synthetic.play import Play
from stvla_ros.data.st_human.synthetic.things import Thing
from stvla_ros.data.st_human.templates import TemplateError, expected_after, sentence
from stvla_ros.files import write_image, written
from stvla_ros.geometry.se3 import inverse
from stvla_ros.sim.camera import TripodCameraConfig, make_camera
from stvla_ros.sim.human.rig import FINGERS, Rig, read_rig
from stvla_ros.sim.human.stage import SKIN_TONES, Stage
from stvla_ros.sim.sensor import SensorConfig
from stvla_ros.sim.things import GLAZES, WHITES
from stvla_ros.tabletop.relations import find_relations
from stvla_ros.types import F64, I32, U8

FORMAT = "stvla-synthetic-hand-1"
CAMERA, TRUTH, ARRAYS = "camera.json", "truth.json", "truth.npz"
RGB, DEPTH = "rgb/{:06d}.png", "depth/{:06d}.png"

DRAWS = 60
"""Scenes that are drawn for a video before it is given up."""

CLEAN_S = 0.5
"""Without a hand at both ends."""

TOUCH_M = 0.001
"""A finger nearer than this touches."""

DISTRACTORS = (1, 4)
HAND_SCALE = (0.92, 1.08)
"""Hand lengths from a small woman's (5th percentile) to a large man's (95th; Greiner, Hand Anthropometry of U.S. Army
Personnel, 1991: 165 to 211 mm) around the rig's."""

_HAND = 255
_BESIDE = ("tin", "carton", "cup", "bowl", "fruit", "book", "flask", "block", "mug", "can")


@dataclass(frozen=True)
class VideoSettings:
    """What all videos of a folder share.

    Attributes:
        width_px: Of the images.
        height_px: Of the images.
        fps: Frames per second.
        noise: The camera has its defects.
        look: One of :data:`stvla_ros.sim.LOOKS`.
    """

    width_px: int = 640
    height_px: int = 480
    fps: int = 20
    noise: bool = False
    look: str = "plain"

    @property
    def sensor(self) -> SensorConfig:
        """The camera's defects: a stereo camera's on a hard look, as elsewhere."""
        return SensorConfig(enabled=self.noise, kind="stereo" if self.look == "hard" else "simple")


class NotShownError(Exception):
    """No drawn scene of this kind and seed could be played; the message says what was wrong with the last one."""


@dataclass(frozen=True, eq=False)
class _Scene:
    draft: Draft
    task: Task
    camera: TripodCameraConfig
    rig: Rig


@dataclass(frozen=True, eq=False)
class Played:
    """A video before it is drawn.

    Attributes:
        stage: Where it plays.
        play: Its frames.
        things: In the order of ``T_camera_object``.
        truth: Content of ``truth.json`` as far as it is known without images.
        arrays: Content of ``truth.npz``, likewise.
    """

    stage: Stage
    play: Play
    things: Sequence[Thing]
    truth: dict[str, Any]
    arrays: dict[str, Any]


@contextmanager
def played(kind: str, seed: int, settings: VideoSettings) -> Iterator[Played]:
    """Draw scenes by a seed until one can be played as its sentence says.

    Args:
        kind: One of :data:`stvla_ros.data.st_human.synthetic.kinds.KINDS`.
        seed: Decides everything else.
        settings: Size, noise and look.

    Raises:
        NotShownError: No scene could be drawn.
    """
    fault = ""
    for attempt in range(DRAWS):
        rng = np.random.default_rng([seed, zlib.crc32(kind.encode()), attempt])
        try:
            scene = _draw(kind, rng, settings)
        except NoRoomError as error:
            fault = str(error)
            continue
        stage = _stage(scene, rng, settings, seed * DRAWS + attempt)
        try:
            play = Play(
                stage, settings.fps, float(rng.uniform(0.85, 1.2)), scene.draft.heading, dict(scene.draft.poses)
            )
            play.begin(play.things[scene.task.moved][:3, 3], CLEAN_S)
            scene.task.perform(play)
            play.stand("clean", CLEAN_S)
            truth, arrays, fault = _judged(scene, play, kind, seed, settings)
            if not fault:
                yield Played(stage, play, scene.draft.things, truth, arrays)
                return
        finally:
            stage.close()
    raise NotShownError(f"{kind} {seed}: {DRAWS} scenes drawn, none fits: {fault}")


def make_video(kind: str, seed: int, settings: VideoSettings, folder: Path) -> dict[str, Any]:
    """Write a video. The same kind, seed and settings give the same bytes.

    Args:
        kind: See :func:`played`.
        seed: See :func:`played`.
        settings: See :func:`played`.
        folder: Where to; it appears when all is written. One that exists is left as it is.

    Returns:
        The content of ``truth.json``.

    Raises:
        NotShownError: No scene could be drawn.
        ConfigError: No OpenGL on this machine.
    """
    with played(kind, seed, settings) as video:
        # of this process alone: a worker whose command was killed may still draw the same video
        with TemporaryDirectory(suffix=".part", prefix=f"{folder.name}.", dir=folder.parent) as part:
            truth = _write(Path(part) / folder.name, video, settings)
            if not folder.exists():
                (Path(part) / folder.name).rename(folder)
        return truth


def _stage(scene: _Scene, rng: np.random.Generator, settings: VideoSettings, seed: int) -> Stage:
    things = scene.draft.things
    boxed = {t.id for t in things if t.kind == "lid" or (t.container and t.id != scene.task.moved)}
    elbow = np.array([0.45, 0.0, 0.24]) - 0.75 * scene.draft.heading
    skin = SKIN_TONES[int(rng.integers(len(SKIN_TONES)))]
    sleeve = (*GLAZES, *WHITES)[int(rng.integers(9))], float(rng.uniform(0.05, 0.3))
    items = [thing.item for thing in things]
    return Stage(scene.rig, items, boxed, elbow, scene.camera, settings.look, settings.sensor, skin, sleeve, seed)


def _draw(kind: str, rng: np.random.Generator, settings: VideoSettings) -> _Scene:
    """A scene, with a camera that looks at the table from about where people put one, and a person at one of its sides."""
    azimuth, elevation = rng.uniform(-0.4, 0.4), np.radians(rng.uniform(38, 62))
    distance = rng.uniform(0.78, 0.98)
    target = np.array([0.45, 0.0, 0.04]) + rng.uniform([-0.02, -0.03, 0.0], [0.02, 0.03, 0.03])
    eye = target + distance * np.array(
        [np.cos(azimuth) * np.cos(elevation), np.sin(azimuth) * np.cos(elevation), np.sin(elevation)]
    )
    camera = TripodCameraConfig(
        width_px=settings.width_px, height_px=settings.height_px, fov_y_deg=float(rng.uniform(41, 46)),
        x_m=float(eye[0]), y_m=float(eye[1]), z_m=float(eye[2]),
        target_x_m=float(target[0]), target_y_m=float(target[1]), target_z_m=float(target[2]),
        shadows=bool(rng.random() < 0.7),
    )  # fmt: skip
    right = make_camera(camera).T_base_camera[:3, 0]
    rig = read_rig("right" if rng.random() < 0.7 else "left", round(float(rng.uniform(*HAND_SCALE)), 3))
    person = azimuth + rng.choice([-1.0, 1.0]) * rng.uniform(0.5, 2.0)
    heading = -np.array([np.cos(person), np.sin(person), 0.0])
    draft = Draft(rng, heading, right / np.linalg.norm(right))
    task = KINDS[kind](draft)
    needed = len(draft.things)
    for _ in range(int(rng.integers(DISTRACTORS[0], DISTRACTORS[1] + 1))):
        try:
            draft.put(draft.add(*_BESIDE))
        except NoRoomError:
            break
    draft.things = [thing for thing in draft.things if thing.id in draft.poses]
    if len(draft.things) < needed:
        raise NoRoomError("a thing has no place")
    return _Scene(draft, task, camera, rig)


def _judged(
    scene: _Scene, play: Play, kind: str, seed: int, settings: VideoSettings
) -> tuple[dict[str, Any], dict[str, Any], str]:
    """The truth in words and in numbers, and what is wrong with it; empty: nothing."""
    stage, task = play.stage, scene.task
    things = [thing for thing in scene.draft.things if thing.part_of is None]
    names = {thing.id: thing.name for thing in things}
    try:
        said = sentence(task.template, task.slots, names)
    except TemplateError as error:
        return {}, {}, str(error)
    before, after = (_relations(stage, things, play.frames[n].pose.T_base_thing) for n in (0, -1))
    held = {(r["subject"], r["predicate"], *r["objects"]) for r in after}
    for subject, predicate, objects, holds in expected_after(task.template, task.slots):
        for one in ((subject, predicate, *o) for o in (zip(objects) if objects else [()])):
            if (one in held) != holds:
                return {}, {}, f"'{said}' does not end with {' '.join(one)}"
    arrays = _motion(play, scene)
    gap = arrays["finger_gap_m"]
    contact, release = play.contact, play.release
    thumb, index, middle = gap[contact][:3]
    missed = index if task.template in POINTED else max(thumb, min(index, middle))
    if missed > TOUCH_M:
        return {}, {}, f"the hand misses the {task.moved} by {1000 * missed:.1f} mm"
    if gap[:contact].min() <= 0.0 or gap[release + 1 :].min() <= 0.0:
        return {}, {}, "the hand touches what it takes before it takes it, or after it lets go"
    if gap.min() < -TOUCH_M:
        return {}, {}, "the hand is inside what it takes"
    if _hidden(play, scene):
        return {}, {}, "the arm hides what the hand does"
    if _passes_through(play, scene):
        return {}, {}, "the hand passes through another thing"
    phases: list[dict[str, Any]] = []
    for n, frame in enumerate(play.frames):
        if not phases or phases[-1]["name"] != frame.phase:
            phases.append({"name": frame.phase, "first": n, "last": n})
        phases[-1]["last"] = n
    truth = {
        "format": FORMAT, "kind": kind, "seed": seed, "sentence": said, "template": task.template,
        "slots": {k: list(v) if isinstance(v, tuple) else v for k, v in task.slots.items()},
        "motion": dict(task.motion), "hand": scene.rig.side, "frames": len(play.frames), "settings": asdict(settings),
        "contact_frame": contact, "release_frame": release, "phases": phases, "moved": task.moved,
        "contact_points": {
            name: _point(stage, arrays["grip_m"][n], n) for name, n in (("initial", contact), ("final", release))
        },
        "relations": {"before": before, "after": after},
        "objects": [
            {
                "id": thing.id, "name": thing.name, "kind": thing.kind, "part_of": thing.part_of,
                "size_m": (thing.high_m - thing.low_m).round(5).tolist(),
                "center_m": ((thing.high_m + thing.low_m) / 2).round(5).tolist(), "container": thing.container,
            }
            for thing in scene.draft.things
        ],
    }  # fmt: skip
    return truth, arrays, ""


def _point(stage: Stage, at_m: F64, frame: int) -> dict[str, Any]:
    u, v, w = stage.camera.K @ at_m
    return {"frame": frame, "xyz_m": at_m.round(5).tolist(), "px": [round(float(u / w), 2), round(float(v / w), 2)]}


def workspace(T_base_camera: F64) -> F64:
    """(4, 4) ``T_base_workspace``: x to the viewer's right, y away, z up."""
    x = T_base_camera[:3, 0] * [1.0, 1.0, 0.0]
    x /= np.linalg.norm(x)
    T = np.eye(4)
    T[:3, 0], T[:3, 1] = x, np.cross([0.0, 0.0, 1.0], x)
    return T


def _relations(stage: Stage, things: Sequence[Thing], poses: Any) -> list[dict[str, Any]]:
    T = inverse(workspace(stage.camera.T_base_camera))
    found = find_relations({thing.id: thing.box(T @ poses[thing.id]) for thing in things})
    return [
        {"subject": r.subject, "predicate": r.predicate, "objects": list(r.objects), "margin": round(r.margin, 3)}
        for r in found
    ]


def _motion(play: Play, scene: _Scene) -> dict[str, Any]:
    """Everything per frame that needs no image, in the camera's frame."""
    stage, moved = play.stage, scene.task.moved
    T_camera_base = inverse(stage.camera.T_base_camera)
    ids = [thing.id for thing in scene.draft.things]
    hand, things, gap, grips = [], [], [], []
    for frame in play.frames:
        stage.place(frame.pose)
        points = stage.keypoints_m(frame.pose) @ T_camera_base[:3, :3].T + T_camera_base[:3, 3]
        hand.append(points)
        things.append(np.stack([T_camera_base @ frame.pose.T_base_thing[i] for i in ids]))
        gap.append([stage.gap_m(moved, (finger,)) for finger in FINGERS])
        grips.append(points[8] if scene.task.template in POINTED else (points[4] + points[8]) / 2)
    return {
        "hand_points_m": np.array(hand, np.float32),
        "T_camera_hand": np.array([T_camera_base @ frame.pose.T_base_hand for frame in play.frames], np.float32),
        "posture_rad": np.array([frame.pose.posture for frame in play.frames], np.float32),
        "T_camera_object": np.array(things, np.float32),
        "finger_gap_m": np.array(gap, np.float32),
        "grip_m": np.array(grips, np.float32),
        "moved": np.array([frame.moved is not None for frame in play.frames]),
    }


POINTED = ("slide", "press", "touch")
"""Kinds whose tool point is the tip of the index finger; of the others, the middle between thumb and index tip."""

_THROUGH_M = 0.008


def _hidden(play: Play, scene: _Scene) -> bool:
    """Whether the forearm is before thumb tip, index tip or the taken thing, at contact or release: nobody films so."""
    moved = next(thing for thing in scene.draft.things if thing.id == scene.task.moved)
    for frame in (play.frames[play.contact].pose, play.frames[play.release].pose):
        play.stage.place(frame)
        middle = frame.T_base_thing[moved.id] @ np.append((moved.low_m + moved.high_m) / 2, 1.0)
        if play.stage.behind_the_arm(np.vstack([play.stage.keypoints_m(frame)[[4, 8]], middle[:3]])):
            return True
    return False


def _passes_through(play: Play, scene: _Scene) -> bool:
    """Whether the hand is deep inside a thing that the action is not about."""
    others = [t.id for t in scene.draft.things if t.id != scene.task.moved and t.part_of is None]
    for frame in play.frames[::3]:
        play.stage.place(frame.pose)
        if any(play.stage.gap_m(other, far_m=0.02) < -_THROUGH_M for other in others):
            return True
    return False


def _write(folder: Path, video: Played, settings: VideoSettings) -> dict[str, Any]:
    stage, play, truth = video.stage, video.play, video.truth
    for below in ("rgb", "depth"):
        (folder / below).mkdir(parents=True)
    labels = np.empty((len(play.frames), settings.height_px, settings.width_px), np.uint8)
    for n, frame in enumerate(play.frames):
        stage.place(frame.pose)
        rgb, depth = stage.photo(1 + round(n * 1e9 / settings.fps))
        write_image(folder / RGB.format(n), rgb)
        (folder / DEPTH.format(n)).write_bytes(_depth_png(depth))
        labels[n] = _labelled(stage.labels(), video.things)
    seen = np.flatnonzero((labels == _HAND).any(axis=(1, 2)))
    truth |= {
        "start_frame": int(seen[0]), "end_frame": int(seen[-1]),
        "clean_frame": int(seen[0]) - 1, "after_frame": int(seen[-1]) + 1,
    }  # fmt: skip
    K = stage.camera.K
    camera = {
        "fx": K[0, 0], "fy": K[1, 1], "cx": K[0, 2], "cy": K[1, 2], "width_px": settings.width_px,
        "height_px": settings.height_px, "fps": settings.fps, "T_base_camera": stage.camera.T_base_camera.tolist(),
    }  # fmt: skip
    hand = np.packbits((labels == _HAND).reshape(len(labels), -1), axis=1)
    with written(folder / ARRAYS) as file, file.open("wb") as opened:
        np.savez_compressed(opened, **video.arrays, labels=labels, hand_mask=hand)
    for name, content in ((CAMERA, camera), (TRUTH, truth)):
        (folder / name).write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return truth


def _labelled(labels: I32, things: Sequence[Thing]) -> U8:
    """(H, W) 255 the hand, i the i-th thing from 1, a part counting as what it belongs to, 0 anything else."""
    ids = [thing.id for thing in things]
    number = [0, *(1 + ids.index(thing.part_of or thing.id) for thing in things), _HAND]
    return np.array(number, np.uint8)[labels]


def _depth_png(depth_m: Any) -> bytes:
    millimetres = np.rint(np.nan_to_num(1000.0 * depth_m, nan=0.0, posinf=0.0))
    done, data = cv2.imencode(
        ".png", np.clip(millimetres, 0, 65535).astype(np.uint16), [cv2.IMWRITE_PNG_COMPRESSION, 3]
    )
    assert done
    return data.tobytes()
