"""Recordings of RGB-D frames with arm states: a folder of ordinary files, written and read back exactly.

::

    recording.json   format, size, optical frame, instruction (if known); per frame: stamp, K, T_base_camera, joints,
                     gripper (null: not measured)
    000000.png       colour
    000000.npy       depth, float32 metres, NaN where unknown;
    000000.npz       or the same compressed, as array ``depth_m``
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np

from stvla_ros.config import ConfigError
from stvla_ros.description.kinematics import tcp_pose
from stvla_ros.files import read_arrays, read_image, read_json, write_image, written
from stvla_ros.types import Camera, RgbdFrame, RobotState

INDEX = "recording.json"
FORMAT = "stvla-recording-1"
BAG_FILES = (".mcap", ".db3", ".zstd", ".bag")


class RecordingError(ConfigError):
    """A folder that holds no valid recording; the message says what was found instead."""


@dataclass(frozen=True, eq=False)
class RecordedFrame:
    """A frame, and the state of the arm if it was recorded."""

    frame: RgbdFrame
    robot: RobotState | None


class RecordingWriter:
    """Writes frames into a new folder.

    Args:
        folder: Created if missing.
        compress: Write depth as ``.npz``: a third to a tenth of the size and still exact, but too slow for a live
            camera.
        resume: Go on with a recording that is already in the folder.
        instruction: What was done in it; empty: not known.
        deferred: Leave the index to :meth:`write_index`, because nobody reads the folder before the last frame. Writing
            it after each frame takes a time that grows with the number of frames.

    Raises:
        RecordingError: The folder is not empty, or holds no recording to go on with.
    """

    def __init__(
        self,
        folder: Path,
        compress: bool = False,
        resume: bool = False,
        instruction: str = "",
        deferred: bool = False,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._about = {"instruction": instruction} if instruction else {}
        self._compress, self._deferred = compress, deferred
        self._entries: list[dict[str, Any]] = []
        self._size: tuple[int, int] | None = None
        self._frame_id = ""
        if resume and (folder / INDEX).exists():
            index = _read_index(folder)
            self._entries, self._size = index["frames"], (index["width_px"], index["height_px"])
        elif any(folder.iterdir()):
            raise RecordingError(f"{folder}: wanted an empty or new folder for the recording, found files in it.")

    def append(self, frame: RgbdFrame, robot: RobotState | None = None) -> None:
        """Write one frame; the index is up to date after each, unless it is deferred.

        Raises:
            RecordingError: A number of the camera or the arm is NaN (only velocities may be), or the frame cannot be
                written. Earlier frames stay readable.
        """
        number, camera = f"{len(self._entries):06d}", frame.camera
        size = camera.width_px, camera.height_px
        if self._size not in (None, size):
            raise RecordingError(
                f"{self._folder}: wanted frames of {self._size} px as those before, got {size}: use another folder."
            )
        self._size = size
        entry, suffix = _entry(frame, robot), "npz" if self._compress else "npy"
        with written(self._folder / f"{number}.png", RecordingError) as part:
            write_image(part, frame.rgb)
        with written(self._folder / f"{number}.{suffix}", RecordingError) as part, part.open("wb") as file:
            if self._compress:
                np.savez_compressed(file, depth_m=frame.depth_m)
            else:
                np.save(file, frame.depth_m)
        self._entries.append(entry)
        self._frame_id = camera.frame_id
        if not self._deferred:
            self.write_index()

    def write_index(self) -> None:
        """Write the index of all frames so far; there must be one. Raises RecordingError as :meth:`append`."""
        assert self._size is not None
        index = {
            "format": FORMAT,
            "width_px": self._size[0],
            "height_px": self._size[1],
            "frame_id": self._frame_id,
            **self._about,
            "frames": self._entries,
        }
        with written(self._folder / INDEX, RecordingError) as part:
            part.write_text(json.dumps(index, indent=1, allow_nan=False), encoding="utf-8")

    def __len__(self) -> int:
        return len(self._entries)


class Recording(Sequence[RecordedFrame]):
    """Frames of a folder, read on access.

    Raises:
        RecordingError: The folder is missing, damaged, or holds no recording.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._index = _read_index(folder)
        self._entries: list[dict[str, Any]] = self._index["frames"]

    @property
    def instruction(self) -> str:
        """What was done in it; empty: not known."""
        return str(self._index.get("instruction", ""))

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[RecordedFrame]:
        return (self[i] for i in range(len(self)))

    def __getitem__(self, i: Any) -> Any:
        if isinstance(i, slice):
            return [self[k] for k in range(*i.indices(len(self)))]
        entry, number = self._entries[i], f"{range(len(self))[i]:06d}"
        try:
            camera = Camera(
                np.array(entry["K"]),
                self._index["width_px"],
                self._index["height_px"],
                np.array(entry["T_base_camera"]),
                self._index["frame_id"],
            )
            frame = RgbdFrame(self._color(number), self._depth(number), camera, int(entry["stamp_ns"]))
            return RecordedFrame(frame, _robot(entry))
        except RecordingError:
            raise
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise RecordingError(f"{self._folder}: frame {number} is damaged ({error}).") from error

    def robot(self, i: int) -> RobotState | None:
        """State of the arm at a frame, without reading its images."""
        try:
            return _robot(self._entries[i])
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise RecordingError(f"{self._folder}: frame {range(len(self))[i]:06d} is damaged ({error}).") from error

    def _color(self, number: str) -> Any:
        return read_image(self._folder / f"{number}.png", RecordingError, "a PNG image")

    def _depth(self, number: str) -> Any:
        path = self._folder / f"{number}.npz"
        if not path.exists():
            path = path.with_suffix(".npy")
        arrays = read_arrays(path, RecordingError, "depth as a NumPy array")
        name = "" if path.suffix == ".npy" else "depth_m"
        if name not in arrays:
            raise RecordingError(
                f"{path}: wanted depth as a NumPy array 'depth_m', found {', '.join(map(repr, arrays)) or 'none'}."
            )
        depth = arrays[name]
        if depth.dtype.kind != "f":  # integers do not tell their unit
            raise RecordingError(
                f"{path}: wanted depth in metres as float32, found {depth.dtype}: convert it (millimetres: divide by 1000)."
            )
        return np.ascontiguousarray(depth, np.float32)


def is_bag(path: Path) -> bool:
    """Whether a path is a rosbag rather than a recording, by its name: a bag's folder, its ``metadata.yaml``, or a bag
    file.

    ROS 1 bags and folders of bags count too: the reader of bags says what to do with them.
    """
    if not path.is_dir():
        return path.name == "metadata.yaml" or path.suffix.lower() in BAG_FILES
    if (path / INDEX).exists():
        return False
    return any(
        (place / "metadata.yaml").is_file() or place.suffix.lower() in BAG_FILES for place in (path, *path.iterdir())
    )


def _read_index(folder: Path) -> dict[str, Any]:
    path = folder / INDEX
    if not folder.is_dir():
        raise RecordingError(
            f"{folder}: wanted a folder with a recording, found {'a file' if folder.exists() else 'nothing'}."
        )
    if not path.is_file():
        found = ", ".join(sorted(p.name for p in folder.iterdir())[:5]) or "nothing"
        raise RecordingError(f"{folder}: wanted a recording ({INDEX}, 000000.png, 000000.npy, ...), found {found}.")
    index = read_json(path, RecordingError)
    if not isinstance(index, dict) or index.get("format") != FORMAT:
        other = index.get("format") if isinstance(index, dict) else type(index).__name__
        raise RecordingError(f"{path}: wanted format '{FORMAT}', found '{other}'.")
    missing = {"width_px", "height_px", "frame_id", "frames"} - set(index)
    if missing or not isinstance(index["frames"], list) or not index["frames"]:
        raise RecordingError(
            f"{path}: has no frames." if not missing else f"{path}: lacks {', '.join(sorted(missing))}."
        )
    return index


def _entry(frame: RgbdFrame, robot: RobotState | None) -> dict[str, Any]:
    """A frame's entry in the index. JSON has no NaN: a velocity that was not measured is null."""
    camera = frame.camera
    entry: dict[str, Any] = {
        "stamp_ns": frame.stamp_ns,
        "K": camera.K.tolist(),
        "T_base_camera": camera.T_base_camera.tolist(),
    }
    if robot is not None:
        entry |= {"q_rad": robot.q_rad.tolist(), "gripper_m": robot.gripper_m, "robot_stamp_ns": robot.stamp_ns}
    for name, value in entry.items():
        if not np.isfinite(value).all():
            raise RecordingError(f"{name}: wanted finite numbers to record, found {value}.")
    if robot is not None:
        entry["dq_rad_s"] = [v if isfinite(v) else None for v in robot.dq_rad_s.tolist()]
    return entry


def _robot(entry: dict[str, Any]) -> RobotState | None:
    """Raises KeyError, TypeError or ValueError for a damaged entry."""
    if "q_rad" not in entry:
        return None
    q, dq = np.array(entry["q_rad"], np.float64), np.array(entry["dq_rad_s"], np.float64)  # null becomes NaN
    if not (np.isfinite(q).all() and isfinite(entry["gripper_m"])):
        raise ValueError("the arm's joints or fingers are not measured")
    return RobotState(q, dq, tcp_pose(q), entry["gripper_m"], entry["robot_stamp_ns"])
