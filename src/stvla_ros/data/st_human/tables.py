"""Many videos as Parquet, without loss: one row per video, per object and per action. No images.

::

    videos-00000.parquet     all of info.json but objects and actions
    objects-00000.parquet    the objects, with the video's id
    actions-00000.parquet    the actions, with the video's id; trajectory as list<struct>

Mappings, whose keys differ from row to row (slots, hashes), are JSON texts.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from stvla_ros.config import ConfigError
from stvla_ros.data.st_human.info import FORMAT, Action, SceneObject, VideoInfo
from stvla_ros.data.st_human.info_json import check_info, parse_info, plain_info
from stvla_ros.data.st_human.plain import FormatError
from stvla_ros.files import written

try:
    import pyarrow as pa
    import pyarrow.parquet as pq
except ImportError as error:
    raise ConfigError("ST-Human's tables need the Python package 'pyarrow': pip install pyarrow.") from error

ROWS_PER_FILE = 10_000

VIDEO, KIND = "video_id", b"stvla"
"""Column with the video's id; key of our entry in a file's metadata."""

TABLES: Mapping[str, type] = {"videos": VideoInfo, "objects": SceneObject, "actions": Action}
_NESTED = ("objects", "actions")


def write_tables(folder: Path, infos: Iterable[VideoInfo], rows_per_file: int = ROWS_PER_FILE) -> None:
    """Write all videos to a folder, each file complete or not at all.

    Raises:
        FormatError: A video does not follow the format, two have the same id, the folder holds tables already, or a file
            cannot be written.
    """
    if any(folder.glob("*.parquet")):
        raise FormatError(f"{folder}: wanted a folder without tables, found some: name a new one.")
    rows: dict[str, list[dict[str, Any]]] = {name: [] for name in TABLES}
    seen: set[str] = set()
    for info in infos:
        check_info(info, info.video.id)
        if info.video.id in seen:
            raise FormatError(f"Two videos have the id '{info.video.id}'.")
        seen.add(info.video.id)
        values = plain_info(info)
        for name in _NESTED:
            rows[name] += [{VIDEO: info.video.id, **entry} for entry in values.pop(name)]
        rows["videos"].append({VIDEO: info.video.id, **values})
    folder.mkdir(parents=True, exist_ok=True)
    for name, cls in TABLES.items():
        kinds = {field: kind for field, kind in get_type_hints(cls).items() if field not in _NESTED}
        schema = pa.schema(
            [pa.field(VIDEO, pa.string()), *(pa.field(field, _type(kind)) for field, kind in kinds.items())]
        )
        schema = schema.with_metadata({KIND: f"{FORMAT} {name}"})
        for number, first in enumerate(range(0, max(len(rows[name]), 1), rows_per_file)):
            part = rows[name][first : first + rows_per_file]
            packed = [{field: _packed(kinds.get(field, str), value) for field, value in row.items()} for row in part]
            with written(folder / f"{name}-{number:05d}.parquet", FormatError) as file:
                pq.write_table(pa.Table.from_pylist(packed, schema), file, compression="zstd")


def read_tables(folder: Path) -> Iterator[VideoInfo]:
    """All videos of a folder, in the order in which they were written, checked.

    Raises:
        FormatError: A table is missing or damaged, is of something else, or a video does not follow the format.
    """
    parts: dict[str, dict[str, list[dict[str, Any]]]] = {name: {} for name in _NESTED}
    for name in _NESTED:
        for row in _rows(folder, name):
            parts[name].setdefault(row.pop(VIDEO), []).append(row)
    for row in _rows(folder, "videos"):
        video = row.pop(VIDEO)
        yield parse_info(
            {**row, **{name: parts[name].pop(video, []) for name in _NESTED}}, f"{folder}: video '{video}'"
        )
    for name in _NESTED:
        for video in parts[name]:
            raise FormatError(f"{folder}: there are {name} of a video '{video}' that is not in the table of videos.")


def _rows(folder: Path, name: str) -> Iterator[dict[str, Any]]:
    files = sorted(folder.glob(f"{name}-*.parquet"))
    if not files:
        raise FormatError(f"{folder}: wanted {name}-00000.parquet, found none.")
    for number, path in enumerate(files):
        if path.name != f"{name}-{number:05d}.parquet":
            raise FormatError(f"{folder}: {name}-{number:05d}.parquet is missing, but {path.name} is there.")
        try:
            table = pq.read_table(path)
        except (pa.ArrowException, OSError) as error:
            raise FormatError(f"{path}: cannot be read as Parquet ({error}).") from error
        found = (table.schema.metadata or {}).get(KIND, b"").decode(errors="replace")
        if found != f"{FORMAT} {name}":
            raise FormatError(f"{path}: wanted a table '{FORMAT} {name}', found '{found or 'one of another program'}'.")
        kinds = get_type_hints(TABLES[name])
        for row in table.to_pylist():
            yield {field: _unpacked(kinds.get(field, str), value) for field, value in row.items()}


def _type(kind: Any) -> pa.DataType:
    """The Arrow type of a field's annotation."""
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (UnionType, Union):
        return _type(next(k for k in arguments if k is not NoneType))
    if origin is Literal:
        return _type(type(arguments[0]))
    if dataclasses.is_dataclass(kind):
        return pa.struct([pa.field(name, _type(inner)) for name, inner in get_type_hints(kind).items()])
    if origin is tuple:
        return pa.list_(_type(arguments[0]))
    if origin is not None:  # a mapping
        return pa.string()
    return {str: pa.string(), int: pa.int64(), float: pa.float64(), bool: pa.bool_()}[kind]


def _packed(kind: Any, value: Any) -> Any:
    return _through(kind, value, lambda mapping: json.dumps(mapping, ensure_ascii=False))


def _unpacked(kind: Any, value: Any) -> Any:
    return _through(kind, value, json.loads)


def _through(kind: Any, value: Any, change: Any) -> Any:
    """A value with its mappings changed."""
    origin, arguments = get_origin(kind), get_args(kind)
    if value is None:
        return None
    if origin in (UnionType, Union):
        return _through(next(k for k in arguments if k is not NoneType), value, change)
    if dataclasses.is_dataclass(kind):
        kinds = get_type_hints(kind)
        return {name: _through(kinds[name], inner, change) for name, inner in value.items()}
    if origin is tuple:
        return [_through(arguments[0], inner, change) for inner in value]
    return change(value) if origin is not None and origin is not Literal else value
