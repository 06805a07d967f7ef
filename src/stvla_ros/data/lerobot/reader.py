"""Reads a LeRobotDataset v3 of anybody: what it holds by its own description, and its episodes row by row."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from stvla_ros.config import ConfigError
from stvla_ros.data.lerobot.pixels import decoded, video_frames
from stvla_ros.files import read_json, said

_BATCH_ROWS = 16
_DAMAGED = (pa.ArrowException, OSError, KeyError, TypeError, ValueError)


class LeRobotError(ConfigError):
    """A folder that holds no LeRobotDataset v3, a damaged one, or one without what an episode needs."""


@dataclass(frozen=True, eq=False)
class LeRobotEpisode:
    """One episode of a set.

    Attributes:
        number: Its index.
        length: Number of its frames.
        instruction: Its first task; empty: none.
        row: Its row of ``meta/episodes``, without statistics.
    """

    number: int
    length: int
    instruction: str
    row: Mapping[str, Any]


class LeRobotSet:
    """A set on disk.

    Attributes:
        folder: Where it is.
        features: Name -> its entry in ``info.json``.
        fps: Frames per second.
        episodes: All of them, in order.

    Raises:
        LeRobotError: Another version or format, or damaged.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        path = folder / "meta" / "info.json"
        if not path.is_file():
            raise LeRobotError(
                f"{folder}: wanted a LeRobotDataset v3 (meta/info.json, data/, ...), found no {path.name}."
            )
        self._info = read_json(path, LeRobotError)
        version = self._info.get("codebase_version") if isinstance(self._info, dict) else None
        if not str(version).startswith("v3."):
            raise LeRobotError(
                f"{path}: wanted codebase_version v3.x, found {version}: convert the set with LeRobot's own "
                "convert_dataset_v21_to_v30."
            )
        try:
            self.features: dict[str, dict[str, Any]] = dict(self._info["features"])
            self.fps = float(self._info["fps"])
            self._data, self._video = str(self._info["data_path"]), self._info.get("video_path")
            total = int(self._info["total_episodes"])
        except _DAMAGED as error:
            raise LeRobotError(f"{path}: damaged ({error!r}): copy the set again.") from error
        self.episodes = self._read_episodes()
        if len(self.episodes) != total:
            raise LeRobotError(
                f"{folder}: wanted {total} episodes as in meta/info.json, found {len(self.episodes)} in meta/episodes."
            )

    def _read_episodes(self) -> list[LeRobotEpisode]:
        folder = self.folder / "meta" / "episodes"
        paths, found = sorted(folder.glob("*/*.parquet")), []
        for path in paths:
            table = _table(path)
            plain = [name for name in table.column_names if not name.startswith("stats/")]
            for row in table.select(plain).to_pylist():
                try:
                    words = next(iter(row.get("tasks") or ()), "")
                    found.append(LeRobotEpisode(int(row["episode_index"]), int(row["length"]), str(words), row))
                except _DAMAGED as error:
                    raise LeRobotError(f"{path}: damaged ({error!r}): copy the set again.") from error
        return sorted(found, key=lambda episode: episode.number)

    def rows(self, episode: LeRobotEpisode, names: Sequence[str], video: str | None = None) -> Iterator[dict[str, Any]]:
        """Rows of an episode in order, with images as arrays.

        Args:
            episode: One of this set.
            names: Features in its table.
            video: A feature stored as video, which each row gets as well.

        Raises:
            LeRobotError: A file is missing or damaged, or there are fewer rows than ``length``.
        """
        images = iter(self._frames(episode, video)) if video else None
        count = 0
        for row in self._table_rows(episode, names):
            for name in names:
                if self.features.get(name, {}).get("dtype") == "image":
                    row[name] = self._image(row[name], f"episode {episode.number}, frame {count}, {name}")
            if images is not None and video is not None:
                row[video] = next(images)
            count += 1
            yield row
        if count != episode.length:
            raise LeRobotError(
                f"{self.folder}: wanted {episode.length} frames of episode {episode.number}, found {count}: copy it again."
            )

    def _table_rows(self, episode: LeRobotEpisode, names: Sequence[str]) -> Iterator[dict[str, Any]]:
        path = self._path(self._data, episode, "data")
        try:
            with pq.ParquetFile(path, pre_buffer=False) as file:  # all of a long episode would be in memory
                columns = [*dict.fromkeys([*names, "episode_index"])]
                for batch in file.iter_batches(_BATCH_ROWS, columns=columns):
                    own = batch.filter(pc.equal(batch.column("episode_index"), episode.number))
                    yield from own.to_pylist()
        except FileNotFoundError as error:
            raise LeRobotError(f"{path}: missing, but meta/episodes names it: copy the set again.") from error
        except (pa.ArrowException, OSError) as error:
            raise LeRobotError(f"{path}: damaged ({said(error)}): copy the set again.") from error

    def _frames(self, episode: LeRobotEpisode, key: str) -> Iterator[Any]:
        path = self._path(str(self._video), episode, f"videos/{key}", key)
        from_s = float(episode.row.get(f"videos/{key}/from_timestamp") or 0.0)
        return video_frames(path, from_s, episode.length, self.fps)

    def _path(self, pattern: str, episode: LeRobotEpisode, columns: str, key: str = "") -> Path:
        try:
            chunk, file = (int(episode.row[f"{columns}/{part}_index"]) for part in ("chunk", "file"))
            return self.folder / pattern.format(video_key=key, chunk_index=chunk, file_index=file)
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise LeRobotError(f"{self.folder}: meta/episodes does not say where {columns} is ({error!r}).") from error

    def _image(self, value: Any, where: str) -> Any:
        data = (value or {}).get("bytes")
        if data is None:
            raise LeRobotError(f"{self.folder}: {where}: the image is not in the table.")
        return decoded(data, f"{self.folder}: {where}")


def _table(path: Path) -> pa.Table:
    try:
        return pq.read_table(path)
    except (pa.ArrowException, OSError) as error:
        raise LeRobotError(f"{path}: damaged ({said(error)}): copy the set again.") from error
