"""Writes a LeRobotDataset v3, episode by episode; an interrupted export resumes, and what is complete can be loaded."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from stvla_ros.config import ConfigError
from stvla_ros.data.lerobot import statistics
from stvla_ros.data.lerobot.features import COLOR, DEFAULTS, DEPTH, FEATURES, Feature, Row
from stvla_ros.data.lerobot.pixels import VideoFile, png_bytes, tiff_bytes, video_info
from stvla_ros.data.lerobot.source import Source
from stvla_ros.files import keep_settings, read_json, written
from stvla_ros.types import RgbdFrame

VERSION = "v3.0"
CHUNK_FILES = 1000
"""Files per ``chunk-NNN`` folder (LeRobot's default)."""

NAME = "chunk-{chunk_index:03d}/file-{file_index:03d}"
DATA, EPISODES = f"data/{NAME}.parquet", f"meta/episodes/{NAME}.parquet"
VIDEO = f"videos/{{video_key}}/{NAME}.mp4"
OURS = "stvla/source"
"""Column of ``meta/episodes`` with what an episode has besides its frames, as JSON."""

_BATCH = 16
_IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
_SCALARS = {"float64": pa.float64(), "float32": pa.float32(), "int64": pa.int64(), "bool": pa.bool_()}

Report = Callable[[int], None]
"""Gets the number of frames that were written."""


@dataclass(frozen=True)
class Options:
    """What all episodes of a set have in common.

    Attributes:
        color: One of :data:`stvla_ros.data.lerobot.pixels.CODECS`.
        fps: Frames per second of the timestamps and videos.
    """

    color: str
    fps: int


class LeRobotWriter:
    """Writes episodes into a folder, after those that are there.

    Args:
        folder: Created if missing.
        options: Must be those of the episodes that are there.

    Raises:
        ConfigError: The folder holds something else, or episodes of other options, or cannot be written.
    """

    def __init__(self, folder: Path, options: Options) -> None:
        self._folder, self._options = folder, options
        if (folder / "meta" / "info.json").exists() and not (folder / "stvla" / "settings.json").exists():
            raise ConfigError(f"{folder}: holds a LeRobot set that was not exported here: choose another --output.")
        keep_settings(folder / "stvla" / "settings.json", asdict(options), "a set exported")
        self._records = [read_json(path) for path in sorted((folder / "stvla" / "episodes").glob("*.json"))]
        self._tasks = list(dict.fromkeys(record["instruction"] for record in self._records))

    @property
    def names(self) -> set[str]:
        """Names of the episodes that are there."""
        return {record["name"] for record in self._records}

    def __len__(self) -> int:
        return len(self._records)

    def add(self, source: Source, report: Report = lambda frames: None) -> None:
        """Write one episode.

        Raises:
            ConfigError: The source cannot be read, its images have another size than those before, or a file cannot
                be written. Nothing of it counts then.
        """
        number = len(self._records)
        first = sum(record["length"] for record in self._records)
        if source.instruction not in self._tasks:
            self._tasks.append(source.instruction)
        task = self._tasks.index(source.instruction)
        rows = _Columns(len(source), first, number, task, self._options.fps)
        size = self._write(source, rows, number, report)
        self._write_plans(source, number)
        record = {
            "name": source.name,
            "instruction": source.instruction,
            "length": rows.count,
            "size_px": size,
            "source": source.entry(),
            "stats": rows.statistics(),
        }
        with written(self._folder / "stvla" / "episodes" / f"{number:06d}.json") as part:
            part.write_text(json.dumps(record, ensure_ascii=False), encoding="utf-8")
        self._records.append(record)

    def _path(self, pattern: str, number: int) -> Path:
        return self._folder / pattern.format(video_key=COLOR, **_place(number))

    def _write(self, source: Source, columns: _Columns, number: int, report: Report) -> list[int]:
        """Data and video of an episode; the size of its images."""
        rows, size = iter(source), [0, 0]
        in_table = self._options.color == "png"
        schema = _schema(in_table)
        with ExitStack() as files:
            data = files.enter_context(written(self._path(DATA, number)))
            table = files.enter_context(pq.ParquetWriter(data, schema, compression="snappy"))
            video: VideoFile | None = None
            while batch := list(islice(rows, _BATCH)):
                if not columns.count:
                    size = self._checked_size(source, batch[0].frame)
                    if not in_table:
                        part = files.enter_context(written(self._path(VIDEO, number)))
                        video = VideoFile(part, self._options.color, self._options.fps, (size[0], size[1]))
                        files.callback(video.close)
                for row in batch:
                    self._checked_size(source, row.frame, size)
                    if video:
                        video.write(row.frame.rgb)
                table.write_table(pa.table(columns.batch(batch, source.success, in_table), schema))
                report(len(batch))
            if columns.count != len(source):
                raise ConfigError(f"{source.name}: wanted {len(source)} frames, found {columns.count}.")
        return size

    def _checked_size(self, source: Source, frame: RgbdFrame, own: list[int] | None = None) -> list[int]:
        size = [frame.camera.width_px, frame.camera.height_px]
        wanted = own or (self._records[0]["size_px"] if self._records else size)
        if size != wanted:
            raise ConfigError(f"{source.name}: wanted images of {wanted} px as those before, found {size}.")
        if self._options.color == "lossy" and (size[0] % 2 or size[1] % 2):
            raise ConfigError(f"{source.name}: a lossy video needs an even width and height, found {size}.")
        return size

    def _write_plans(self, source: Source, number: int) -> None:
        frames = list(source.plan_frames())
        if not frames:
            return
        columns = {
            "color_png": [png_bytes(frame.rgb) for frame in frames],
            "depth_tiff": [tiff_bytes(frame.depth_m) for frame in frames],
            "K": [frame.camera.K.ravel().tolist() for frame in frames],
            "T_base_camera": [frame.camera.T_base_camera.ravel().tolist() for frame in frames],
            "stamp_ns": [frame.stamp_ns for frame in frames],
        }
        with written(self._folder / "stvla" / "plans" / f"{number:06d}.parquet") as part:
            pq.write_table(pa.table(columns), part)

    def close(self) -> None:
        """Write ``meta/``, so that the set can be loaded; more episodes may follow later.

        Raises:
            ConfigError: There is no episode, or a file cannot be written.
        """
        if not self._records:
            raise ConfigError(f"{self._folder}: no episode could be exported.")
        self._write_table(self._folder / EPISODES.format(chunk_index=0, file_index=0), self._episodes())
        tasks = pa.table({"task_index": pa.array(range(len(self._tasks)), pa.int64()), "task": self._tasks})
        self._write_table(self._folder / "meta" / "tasks.parquet", tasks.replace_schema_metadata(_PANDAS))
        self._write_json("stats.json", statistics.together([record["stats"] for record in self._records]))
        self._write_json("info.json", self._info())  # last: with it the set is complete

    def _write_table(self, path: Path, table: pa.Table) -> None:
        with written(path) as part:
            pq.write_table(table, part)

    def _write_json(self, name: str, content: Mapping[str, Any]) -> None:
        with written(self._folder / "meta" / name) as part:
            part.write_text(json.dumps(content, indent=4, ensure_ascii=False) + "\n", encoding="utf-8")

    def _episodes(self) -> pa.Table:
        rows, start = [], 0
        for number, record in enumerate(self._records):
            rows.append(self._episode(number, record, start))
            start += record["length"]
        return pa.Table.from_pylist(rows)

    def _episode(self, number: int, record: Mapping[str, Any], start: int) -> dict[str, Any]:
        place, length = _place(number), record["length"]
        row = {
            "episode_index": number,
            "tasks": [record["instruction"]],
            "length": length,
            **{f"data/{name}": value for name, value in place.items()},
            "dataset_from_index": start,
            "dataset_to_index": start + length,
            "meta/episodes/chunk_index": 0,
            "meta/episodes/file_index": 0,
        }
        if self._options.color != "png":
            row |= {f"videos/{COLOR}/{name}": value for name, value in place.items()}
            row |= {f"videos/{COLOR}/from_timestamp": 0.0, f"videos/{COLOR}/to_timestamp": length / self._options.fps}
        stats = record["stats"]
        # without depth: the editing tools of LeRobot before 0.6 take every image's statistics for three channels
        common = set.intersection(*(set(r["stats"]) for r in self._records)) - {DEPTH}
        row |= {f"stats/{f}/{kind}": value for f in sorted(common) for kind, value in stats[f].items()}
        return {**row, OURS: json.dumps(record["source"], ensure_ascii=False)}

    def _info(self) -> dict[str, Any]:
        lengths, in_table = [record["length"] for record in self._records], self._options.color == "png"
        width, height = self._records[0]["size_px"]
        color: dict[str, Any] = {
            "dtype": "image" if in_table else "video",
            "shape": [height, width, 3],
            "names": ["height", "width", "channels"],
        }
        if not in_table:
            color["info"] = video_info(self._path(VIDEO, 0), self._options.fps)
        depth = {
            "dtype": "image",
            "shape": [height, width, 1],
            "names": ["height", "width", "channels"],
            "info": {"is_depth_map": True, "depth_unit": "m"},
        }
        plain = {name: feature.entry() for name, feature in FEATURES.items()}
        defaults = {name: {**feature.entry(), "names": None} for name, feature in DEFAULTS.items()}
        return {
            "codebase_version": VERSION,
            "robot_type": "panda",
            "total_episodes": len(lengths),
            "total_frames": sum(lengths),
            "total_tasks": len(self._tasks),
            "chunks_size": CHUNK_FILES,
            "data_files_size_in_mb": 100,
            "video_files_size_in_mb": 200,
            "fps": self._options.fps,
            "splits": {"train": f"0:{len(lengths)}"},
            "data_path": DATA,
            "video_path": None if in_table else VIDEO,
            "features": {COLOR: color, DEPTH: depth, **plain, **defaults},
        }


class _Columns:
    """The columns of one episode, in batches, and what its statistics need."""

    def __init__(self, length: int, first: int, episode: int, task: int, fps: int) -> None:
        self.count = 0
        self._first, self._episode, self._task, self._fps, self._length = first, episode, task, fps, length
        self._numbers: dict[str, list[Any]] = {name: [] for name in (*FEATURES, *DEFAULTS)}
        self._sampled = set(np.linspace(0, length - 1, min(length, statistics.SAMPLES)).round().astype(int).tolist())
        self._images: dict[str, list[Any]] = {COLOR: [], DEPTH: []}

    def batch(self, rows: list[Row], success: bool, in_table: bool) -> dict[str, pa.Array]:
        made: dict[str, list[Any]] = {name: [] for name in self._numbers}
        for row in rows:
            for name, value in (row.values(self.count == self._length - 1, success) | self._indices()).items():
                made[name].append(value)
            if self.count in self._sampled:
                self._images[COLOR].append(row.frame.rgb)
                self._images[DEPTH].append(row.frame.depth_m)
            self.count += 1
        for name, values in made.items():
            self._numbers[name] += values
        columns: dict[str, pa.Array] = {}
        if in_table:
            columns[COLOR] = _images(png_bytes(row.frame.rgb) for row in rows)
        columns[DEPTH] = _images(tiff_bytes(row.frame.depth_m) for row in rows)
        types = {**FEATURES, **DEFAULTS}
        return columns | {name: pa.array(values, _type(types[name])) for name, values in made.items()}

    def _indices(self) -> dict[str, Any]:
        return {
            "timestamp": self.count / self._fps,
            "frame_index": self.count,
            "episode_index": self._episode,
            "index": self._first + self.count,
            "task_index": self._task,
        }

    def statistics(self) -> dict[str, statistics.Stats]:
        made = {name: statistics.of_images(images) for name, images in self._images.items()}
        made |= {name: statistics.of_numbers(values) for name, values in self._numbers.items()}
        return {name: stats for name, stats in made.items() if stats is not None}


def _place(number: int) -> dict[str, int]:
    return {"chunk_index": number // CHUNK_FILES, "file_index": number % CHUNK_FILES}


def _type(feature: Feature) -> pa.DataType:
    scalar, size = _SCALARS[feature.dtype], len(feature.names)
    return scalar if size == 1 else pa.list_(scalar, size)


def _images(data: Iterator[bytes]) -> pa.Array:
    return pa.array([{"bytes": one, "path": None} for one in data], _IMAGE)


def _schema(color_in_table: bool) -> pa.Schema:
    images = [(COLOR, _IMAGE)] * color_in_table + [(DEPTH, _IMAGE)]
    return pa.schema(images + [(name, _type(feature)) for name, feature in (FEATURES | DEFAULTS).items()])


def _column(name: str, pandas: str, numpy: str) -> dict[str, Any]:
    return {"name": name, "field_name": name, "pandas_type": pandas, "numpy_type": numpy, "metadata": None}


_PANDAS = {
    "pandas": json.dumps(
        {
            "index_columns": ["task"],
            "column_indexes": [],
            "columns": [_column("task_index", "int64", "int64"), _column("task", "unicode", "object")],
            "creator": {"library": "pyarrow", "version": pa.__version__},
            "pandas_version": "2.2.0",
        }
    )
}
"""LeRobot reads tasks with pandas and looks for the words in the index, which only this metadata names."""
