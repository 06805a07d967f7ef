"""Makes episodes and recordings of a LeRobot set: our own come back as they were, others as far as they have what it takes.

An episode needs colour, depth aligned to it, the camera's intrinsics and pose, seven joints and the finger distance, and
words. A set of others has no plans and no keyposes: it becomes recordings, of which ``stvla collect --from`` makes episodes.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from stvla_ros.camera.lens import Lens
from stvla_ros.data.episode import PLANS, Episode
from stvla_ros.data.episode_index import parse_index
from stvla_ros.data.lerobot import features as ours
from stvla_ros.data.lerobot.pixels import decoded
from stvla_ros.data.lerobot.reader import LeRobotEpisode, LeRobotError, LeRobotSet
from stvla_ros.data.lerobot.writer import OURS
from stvla_ros.data.recording import RecordingWriter
from stvla_ros.description.kinematics import tcp_pose
from stvla_ros.files import parse_json
from stvla_ros.types import F32, F64, Camera, RgbdFrame, RobotState

_STATE = "7 joints [rad] and the distance of the fingers [m]"


@dataclass(frozen=True, eq=False)
class Columns:
    """Which features of a set are what, and what it lacks.

    Attributes:
        color: Feature with the camera's images.
        depth: Feature with depth aligned to them.
        state: Feature with joints and fingers.
        lens: The camera's lens where the set has none; without distortion, because a set does not say how to remove it.
        T_base_camera: (4, 4) camera pose where the set has none.
    """

    color: str = ""
    depth: str = ""
    state: str = ours.STATE
    lens: Lens | None = None
    T_base_camera: F64 | None = None


class Restorer:
    """Restores episodes of one set.

    Args:
        source: The set.
        columns: Names given by the user; an empty one is found.
        output: Gets ``episodes/`` and ``recordings/``.

    Raises:
        LeRobotError: The set lacks something; the sentence lists all of it.
    """

    def __init__(self, source: LeRobotSet, columns: Columns, output: Path) -> None:
        self._set, self._output = source, output
        cameras = {n: f for n, f in source.features.items() if f.get("dtype") in ("image", "video")}
        depths = [name for name, feature in cameras.items() if _is_depth(feature)]
        colors = [name for name in cameras if name not in depths and name != columns.depth]
        self._color = columns.color or _only(colors, ours.COLOR)
        self._depth = columns.depth or _only(depths, ours.DEPTH)
        self._state, self._lens, self._T = columns.state, columns.lens, columns.T_base_camera
        lacking = [*self._lacking(cameras, colors, depths)]
        if lacking:
            raise LeRobotError(f"{source.folder}: an episode needs more than this set has: {'; '.join(lacking)}.")
        self._video = self._color if cameras[self._color]["dtype"] == "video" else None
        optional = (ours.VELOCITY, ours.MATRIX, ours.CAMERA_POSE, ours.STAMP, ours.ROBOT_STAMP, "timestamp")
        needed = [self._depth, self._state, *(name for name in optional if name in source.features)]
        self._names = needed if self._video else [self._color, *needed]
        self._names_of = _unique_names(source)
        self._to_m = 0.001 if (cameras[self._depth].get("info") or {}).get("depth_unit") == "mm" else 1.0

    def _lacking(self, cameras: dict[str, Any], colors: list[str], depths: list[str]) -> Any:
        features = self._set.features
        if self._color not in cameras:
            yield f"one colour camera, found {', '.join(colors) or 'none'} (--color NAME)"
        if self._depth not in cameras:
            yield f"depth aligned to the colour image, found {', '.join(depths) or 'none'} (--depth NAME)"
        elif cameras[self._depth]["dtype"] != "image":
            yield f"depth without loss, found {self._depth} as a video of 12 bits (record it as raw images)"
        if (size := list(features.get(self._state, {}).get("shape", ()))) != [8]:
            names = features.get(self._state, {}).get("names")
            yield f"{_STATE} in {self._state}, found {f'{size} numbers {names}' if size else 'none'} (--state NAME)"
        if ours.MATRIX not in features:
            yield from self._lacking_lens(features.get(self._color, {}).get("shape", ()))
        if ours.CAMERA_POSE not in features and self._T is None:
            yield "the camera's pose in the robot's base frame (--extrinsics FILE or x,y,z,qx,qy,qz,qw)"

    def _lacking_lens(self, shape: Sequence[int]) -> Iterator[str]:
        if self._lens is None:
            yield "the camera's lens (--intrinsics FILE or fx,fy,cx,cy)"
            return
        width_px, height_px = self._lens.width_px, self._lens.height_px
        if self._lens.D.any():
            yield f"images without distortion, found {self._lens.model} in --intrinsics (rectify the images first)"
        if width_px and [height_px, width_px] not in (list(shape)[:2], list(shape)[1:]):  # channels last, or first
            yield f"a lens calibrated at the size of its images {list(shape)}, found {width_px}x{height_px} in --intrinsics"

    def restore(self, episode: LeRobotEpisode, report: Callable[[int], None] = lambda frames: None) -> Path:
        """Write one episode, or do nothing if it is there.

        Returns:
            Its folder below ``episodes/``, or below ``recordings/`` where the set has no plans and keyposes.

        Raises:
            LeRobotError: It is damaged.
            RecordingError: A number in it is not finite, or it cannot be written.
        """
        about = _about(self._set, episode)
        name = self._names_of[episode.number]
        plans = self._set.folder / "stvla" / "plans" / f"{episode.number:06d}.parquet"
        whole = about.get("episode") is not None and plans.is_file()
        folder = self._output / ("episodes" if whole else "recordings") / name
        if folder.exists():
            return folder
        part = folder.with_name(f"{name}.part")
        shutil.rmtree(part, ignore_errors=True)
        frame_id = str(about.get("frame_id") or "camera_color_optical_frame")
        try:
            self._write_frames(episode, part, frame_id, "" if whole else episode.instruction, report)
            if whole:
                _write_plans(plans, part / PLANS, frame_id)
                parse_index(about["episode"], f"{self._set.folder}: episode {episode.number}").write(part)
                Episode(part)  # complete and consistent, or an EpisodeError
            part.rename(folder)
        finally:
            shutil.rmtree(part, ignore_errors=True)
        return folder

    def _write_frames(
        self, episode: LeRobotEpisode, folder: Path, frame_id: str, words: str, report: Callable[[int], None]
    ) -> None:
        writer = RecordingWriter(folder, compress=True, instruction=words, deferred=True)
        for row in self._set.rows(episode, self._names, self._video):
            try:
                frame = self._frame(row, frame_id)
                writer.append(frame, self._robot(row, frame.stamp_ns))
            except (TypeError, ValueError) as error:
                where = f"{self._set.folder}: episode {episode.number}, frame {len(writer)}"
                raise LeRobotError(f"{where}: not usable ({error}).") from error
            report(1)
        writer.write_index()

    def _frame(self, row: dict[str, Any], frame_id: str) -> RgbdFrame:
        rgb, stamp = np.asarray(row[self._color]), row.get(ours.STAMP)
        given = self._lens.K if self._lens else None
        K = np.reshape(row[ours.MATRIX], (3, 3)) if ours.MATRIX in row else given
        T = np.reshape(row[ours.CAMERA_POSE], (4, 4)) if ours.CAMERA_POSE in row else self._T
        assert K is not None  # __init__ has checked
        assert T is not None
        camera = Camera(K, rgb.shape[1], rgb.shape[0], T, frame_id)
        stamp_ns = round(float(row.get("timestamp") or 0.0) * 1e9) if stamp is None else int(stamp)
        return RgbdFrame(rgb, self._metres(row[self._depth]), camera, stamp_ns)

    def _metres(self, depth: Any) -> F32:
        """float32 as stored; integers are millimetres (LeRobot), and 0 is no depth."""
        if depth.ndim != 2:
            raise ValueError(f"wanted depth with one channel, got {depth.shape}")
        if depth.dtype == np.float32:
            return np.asarray(depth * np.float32(self._to_m) if self._to_m != 1.0 else depth)
        return np.where(depth == 0, np.float32(np.nan), depth.astype(np.float32) * np.float32(0.001))

    def _robot(self, row: dict[str, Any], stamp_ns: int) -> RobotState:
        state = np.asarray(row[self._state], np.float64)
        dq = row.get(ours.VELOCITY) or [float("nan")] * 7
        own = row.get(ours.ROBOT_STAMP)
        return RobotState(
            state[:7], np.asarray(dq), tcp_pose(state[:7]), float(state[7]), stamp_ns if own is None else int(own)
        )


def _is_depth(feature: dict[str, Any]) -> bool:
    info = feature.get("info") or {}
    return bool(info.get("is_depth_map") or info.get("video.is_depth_map"))


def _only(names: list[str], preferred: str) -> str:
    """The preferred name, or the only one; empty if that leaves a choice."""
    return preferred if preferred in names else names[0] if len(names) == 1 else ""


def _unique_names(source: LeRobotSet) -> dict[int, str]:
    """Number of each episode -> name of its folder: its own, with the number where another has it (a merged set)."""
    own = {e.number: Path(str(_about(source, e).get("name") or "")).name for e in source.episodes}
    names: dict[int, str] = {}
    for number, name in own.items():
        numbered = f"{name or 'episode'}_{number:06d}"
        names[number] = name if name and name not in names.values() else numbered
    return names


def _about(source: LeRobotSet, episode: LeRobotEpisode) -> dict[str, Any]:
    text = episode.row.get(OURS)
    about = parse_json(text, f"{source.folder}: episode {episode.number}: {OURS}", LeRobotError) if text else {}
    if not isinstance(about, dict):
        raise LeRobotError(f"{source.folder}: episode {episode.number}: wanted {OURS} as an object, found {about!r}.")
    return about


def _write_plans(path: Path, folder: Path, frame_id: str) -> None:
    try:
        rows = pq.read_table(path).to_pylist()
        writer = RecordingWriter(folder, compress=True)
        for row in rows:
            rgb, depth = decoded(row["color_png"], f"{path}"), decoded(row["depth_tiff"], f"{path}")
            K, T = np.reshape(row["K"], (3, 3)), np.reshape(row["T_base_camera"], (4, 4))
            camera = Camera(K, rgb.shape[1], rgb.shape[0], T, frame_id)
            writer.append(RgbdFrame(rgb, depth, camera, int(row["stamp_ns"])))
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise LeRobotError(f"{path}: damaged ({error}): copy the set again.") from error
