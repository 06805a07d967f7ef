"""Reads files of :mod:`stvla_ros.data.st_human.info` with strict checks, and writes them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path, PurePosixPath
from typing import Any

import cv2
import numpy as np

from stvla_ros.config import ConfigError, closest
from stvla_ros.data.st_human import templates
from stvla_ros.data.st_human.info import (
    FORMAT,
    INFO,
    RELATIONS,
    ROLES,
    TASKS,
    Action,
    Camera,
    Quaternion,
    Vector,
    Video,
    VideoInfo,
)
from stvla_ros.data.st_human.plain import FormatError, from_plain, to_plain, wrong
from stvla_ros.files import read_json, written

REPROJECTION_PX = 1.0
"""A contact point's pixel is the projection of its position to within this."""

QUATERNION = 1e-3
"""A quaternion's length may differ from 1 by this."""

_ALONE = RELATIONS[-4:]


def read_info(path: Path) -> VideoInfo:
    """Read and check an ``info.json``.

    Raises:
        FormatError: It is missing, is not JSON, or does not follow the format.
    """
    return parse_info(read_json(path, FormatError, f"an {INFO} of ST-Human"), str(path))


def parse_info(value: Any, where: str = INFO) -> VideoInfo:
    """The content of an ``info.json`` from plain JSON values, checked. Raises FormatError."""
    if isinstance(value, dict) and value.get("format") != FORMAT:
        raise wrong(f"{where}: format", f"'{FORMAT}'", value.get("format"))
    info = from_plain(VideoInfo, value, where)
    check_info(info, where)
    return info


def plain_info(info: VideoInfo) -> dict[str, Any]:
    """Plain JSON values of an ``info.json``."""
    values: dict[str, Any] = to_plain(info)
    return {"format": values.pop("format"), **values}


def write_info(path: Path, info: VideoInfo) -> None:
    """Write an ``info.json``, complete or not at all.

    Raises:
        FormatError: It does not follow the format, or cannot be written.
    """
    check_info(info, str(path))
    with written(path, FormatError) as part:
        part.write_text(json.dumps(plain_info(info), ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


def check_info(info: VideoInfo, where: str = INFO) -> None:
    """Raise FormatError unless all parts agree with each other."""
    _check_video(info.video, f"{where}: video")
    _check_camera(info.camera, f"{where}: camera")
    _check_objects(info, f"{where}: objects")
    last = -1
    earlier: list[str] = []
    for action in info.actions:
        here = f"{where}: action '{action.id}'"
        if action.id in earlier:
            raise FormatError(f"{here}: an earlier action has the same id.")
        if action.start_frame <= last:
            raise wrong(
                f"{here}.start_frame", f"a frame after the end of the action before it ({last})", action.start_frame
            )
        _check_words(action, info.names, here)
        _check_times(action, info.video.frames, here)
        _check_points(action, info, here)
        _check_relations(action, set(info.names), here)
        _check_order(action, earlier, here)
        last = action.end_frame
        earlier.append(action.id)


def _check_video(video: Video, where: str) -> None:
    _within(video.task, 1, TASKS, f"{where}.task")
    for name in ("id", "instruction"):
        if not getattr(video, name).strip():
            raise wrong(f"{where}.{name}", "some text", getattr(video, name))
    if video.frames < 1 or not video.fps > 0.0 or min(video.size_px) < 1:
        raise FormatError(f"{where}: wanted at least one frame and pixel and more than 0 fps.")
    for name in ("rgb", "depth"):
        pattern = getattr(video, name)
        try:
            numbered = pattern % 1 != pattern % 2
        except (TypeError, ValueError):
            numbered = False
        if not numbered:
            raise wrong(f"{where}.{name}", "a path with a place for the frame's number, e.g. rgb/%06d.jpg", pattern)
    for path in (video.rgb, video.depth, video.stamps_ns, *video.hashes):
        _check_path(path, where)


def _check_path(path: str | None, where: str) -> None:
    if path is not None and (not path or "\\" in path or PurePosixPath(path).is_absolute() or ".." in path.split("/")):
        raise wrong(where, "paths relative to the video's folder, with / and without ..", path)


def _check_camera(camera: Camera, where: str) -> None:
    fx, fy, _, _ = camera.K
    if not (fx > 0.0 and fy > 0.0):
        raise wrong(f"{where}.K", "positive focal lengths fx, fy, then cx, cy", list(camera.K))
    if len(camera.distortion) not in (0, 4, 5, 8):
        raise wrong(f"{where}.distortion", "0, 4, 5 or 8 coefficients", list(camera.distortion))
    if not 1e-5 <= camera.depth_unit_m <= 0.01:
        raise wrong(f"{where}.depth_unit_m", "metres per unit, e.g. 0.001 for millimetres", camera.depth_unit_m)
    T = np.array(camera.T_workspace_camera)
    if T.size != 16 or not _is_pose(T.reshape(4, 4)):
        raise wrong(f"{where}.T_workspace_camera", "16 numbers, row by row, of a rotation and a translation", list(T))
    if camera.moving != (camera.poses is not None):
        raise FormatError(f"{where}: wanted 'poses' exactly if the camera is moving.")
    _check_path(camera.poses, f"{where}.poses")


def _is_pose(T: np.ndarray) -> bool:
    rotation = T[:3, :3]
    proper = np.allclose(rotation @ rotation.T, np.eye(3), atol=1e-4) and np.linalg.det(rotation) > 0.0
    return bool(proper and np.array_equal(T[3], [0.0, 0.0, 0.0, 1.0]))


def _check_objects(info: VideoInfo, where: str) -> None:
    if len(info.names) < len(info.objects):
        twin = next(thing.id for i, thing in enumerate(info.objects) if thing.id in [o.id for o in info.objects[:i]])
        raise FormatError(f"{where}: two objects have the id '{twin}'.")
    with _told(where):
        templates.check_names(info.names)
    for thing in info.objects:
        here = f"{where}: '{thing.id}'"
        for role in thing.roles:
            if role not in ROLES:
                raise FormatError(f"{here}: unknown role '{role}'.{closest(role, ROLES)}")
        if thing.box is not None:
            _within(thing.box.frame, 0, info.video.frames - 1, f"{here}.box.frame")
            if min(thing.box.size_m) <= 0.0:
                raise wrong(f"{here}.box.size_m", "positive sizes in metres", list(thing.box.size_m))
            _check_quaternion(thing.box.quat_xyzw, f"{here}.box")


@contextmanager
def _told(where: str) -> Iterator[None]:
    """Errors of templates become FormatErrors that begin with the place."""
    try:
        yield
    except ConfigError as error:
        raise FormatError(f"{where}: {error}") from error


def _check_words(action: Action, names: Mapping[str, str], where: str) -> None:
    with _told(where):
        said = templates.sentence(action.template, action.slots, names)
        readings = [templates.read(wording, names) for wording in action.wordings]
    if said != action.sentence:
        raise wrong(f"{where}.sentence", f"the template's sentence '{said}'", action.sentence)
    for wording, reading in zip(action.wordings, readings, strict=True):
        if reading != (action.template, dict(action.slots)):
            raise wrong(f"{where}.wordings", f"sentences that mean '{said}'", wording)
    for name in templates.TEMPLATES[action.template].motion:
        if action.trajectory and getattr(action.motion, name) is None:
            raise FormatError(f"{where}.motion: '{action.template}' needs '{name}'.")
    if action.motion.ratio is not None:
        _within(action.motion.ratio, 0.0, 1.0, f"{where}.motion.ratio")


def _check_times(action: Action, frames: int, where: str) -> None:
    order = ("clean_frame", "start_frame", "contact_frame", "release_frame", "end_frame", "after_frame")
    for name in order:
        _within(getattr(action, name), 0, frames - 1, f"{where}.{name}")
    for name, later in pairwise(order):
        hand_free = name == "clean_frame" or later == "after_frame"
        before, after = getattr(action, name), getattr(action, later)
        if before > after or (hand_free and before == after):
            raise wrong(
                f"{where}.{later}", f"a frame {'after' if hand_free else 'not before'} {name} ({before})", after
            )


def _check_points(action: Action, info: VideoInfo, where: str) -> None:
    points = action.contact_points
    for name in ("initial", "final") if points is not None else ():
        point, here = getattr(points, name), f"{where}.contact_points.{name}"
        _within(point.frame, action.start_frame, action.end_frame, f"{here}.frame")
        thing = next((o for o in info.objects if o.id == point.object), None)
        if point.object is not None and thing is None:
            raise FormatError(f"{here}.object: no object '{point.object}'.{closest(point.object, info.names)}")
        if point.part is not None and point.part not in (thing.parts if thing else ()):
            raise wrong(f"{here}.part", f"a part of '{point.object}'", point.part)
        off = np.linalg.norm(np.subtract(project(info.camera, [point.xyz_m])[0], point.px))
        if not off <= REPROJECTION_PX:
            raise FormatError(
                f"{here}.px: wanted the projection of xyz_m to within {REPROJECTION_PX:g} px, found one that is {off:.1f} px "
                "away: is the position in metres in the camera's frame?"
            )
    last = -1
    for i, waypoint in enumerate(action.trajectory):
        here = f"{where}.trajectory[{i}]"
        _within(waypoint.frame, action.start_frame, action.end_frame, f"{here}.frame")
        if waypoint.frame <= last:
            raise wrong(f"{here}.frame", f"a frame after the one before it ({last})", waypoint.frame)
        last = waypoint.frame
        _check_quaternion(waypoint.quat_xyzw, here)
        if not (waypoint.xyz_m[2] > 0.0 and waypoint.width_m >= 0.0 and waypoint.sigma_m >= 0.0):
            raise FormatError(
                f"{here}: wanted a position in front of the camera, and a width and deviation that are not negative."
            )


def _check_relations(action: Action, known: set[str], where: str) -> None:
    for name in ("before", "after"):
        for relation in getattr(action.relations, name):
            here = f"{where}.relations.{name}"
            if relation.predicate not in RELATIONS:
                raise FormatError(
                    f"{here}: unknown predicate '{relation.predicate}'.{closest(relation.predicate, RELATIONS)}"
                )
            for thing in (relation.subject, *relation.objects):
                if thing not in known:
                    raise FormatError(f"{here}: no object '{thing}'.{closest(thing, known)}")
            count = 0 if relation.predicate in _ALONE else 2 if relation.predicate == "between" else 1
            if len(relation.objects) != count:
                raise wrong(
                    f"{here}: {relation.predicate}",
                    f"{count} object{'' if count == 1 else 's'}",
                    list(relation.objects),
                )


def _check_order(action: Action, earlier: Sequence[str], where: str) -> None:
    _within(action.step, 1, action.steps, f"{where}.step")
    for needed in action.depends_on:
        if needed not in earlier:
            raise wrong(f"{where}.depends_on", "ids of earlier actions", needed)
    if action.quality is not None:
        _within(action.quality.score, 0.0, 1.0, f"{where}.quality.score")


def _within(value: float, least: float, most: float, where: str) -> None:
    if not least <= value <= most:
        raise wrong(where, f"{least:g} to {most:g}", value)


def _check_quaternion(quaternion: Quaternion, where: str) -> None:
    if abs(float(np.linalg.norm(quaternion)) - 1.0) > QUATERNION:
        raise wrong(f"{where}.quat_xyzw", "a quaternion x, y, z, w of length 1", list(quaternion))


def project(camera: Camera, points_m: Iterable[Vector]) -> np.ndarray:
    """(N, 2) pixels of (N, 3) positions in the camera's frame, by OpenCV's model."""
    fx, fy, cx, cy = camera.K
    points = np.asarray(list(points_m), np.float64).reshape(-1, 1, 3)
    matrix = np.array([[fx, 0.0, cx], [0.0, fy, cy], [0.0, 0.0, 1.0]])
    lens = np.array(camera.distortion) if camera.distortion else np.zeros(4)
    return cv2.projectPoints(points, np.zeros(3), np.zeros(3), matrix, lens)[0].reshape(-1, 2)
