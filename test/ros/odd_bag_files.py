"""Writes bags as other programs leave them: with the package ``mcap``, or with sqlite3 by hand; ``rosbags`` reads them."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml
import zstandard
from mcap.writer import CompressionType, IndexType, Writer
from rclpy.serialization import serialize_message
from ros.bags import STORE, Told

NAME = "bag"


@dataclass(frozen=True)
class Row:
    """One message in a file; ``definition`` is the .msg text of its type, ``encoding`` that of its data."""

    at_ns: int
    topic: str
    kind: str
    data: bytes
    definition: str | None = None
    encoding: str = "cdr"


@lru_cache
def _definition(kind: str) -> str:
    return str(STORE.generate_msgdef(kind, ros_version=2)[0])


def rows_of(told: Iterable[Told | Row]) -> list[Row]:
    """The messages as bytes, in the middleware's own serialisation."""
    return [one if isinstance(one, Row) else _row(*one) for one in told]


def _row(at_ns: int, topic: str, message: Any) -> Row:
    kind = "/".join((type(message).__module__.split(".")[0], "msg", type(message).__name__))
    return Row(at_ns, f"/{topic.lstrip('/')}", kind, serialize_message(message))


def mcap(file: Path, told: Iterable[Told | Row], profile: str = "ros2", **how: Any) -> Path:
    """An MCAP file; ``how``: options of the writer."""
    writer, channels = Writer(str(file), **how), dict[tuple[str, str], int]()
    writer.start(profile=profile, library="odd_bags")
    for number, row in enumerate(rows_of(told)):
        key = row.topic, row.kind
        if key not in channels:
            text = row.definition if row.definition is not None else _definition(row.kind)
            schema = writer.register_schema(
                row.kind, "ros2msg" if row.encoding == "cdr" else "jsonschema", text.encode()
            )
            channels[key] = writer.register_channel(row.topic, row.encoding, schema)
        writer.add_message(channels[key], row.at_ns, row.data, row.at_ns, number)
    writer.finish()
    return file


BARE = {
    "compression": CompressionType.NONE,
    "index_types": IndexType.NONE,
    "repeat_channels": False,
    "repeat_schemas": False,
    "use_chunking": False,
    "use_statistics": False,
    "use_summary_offsets": False,
}
"""Options of an MCAP file without chunks, index and summary."""

LZ4 = {"compression": CompressionType.LZ4}

_FOXY = (
    "CREATE TABLE topics(id INTEGER PRIMARY KEY, name TEXT NOT NULL, type TEXT NOT NULL, "
    "serialization_format TEXT NOT NULL, offered_qos_profiles TEXT NOT NULL{more})",
    "CREATE TABLE messages(id INTEGER PRIMARY KEY, topic_id INTEGER NOT NULL, timestamp INTEGER NOT NULL, data BLOB NOT NULL)",
    "CREATE INDEX timestamp_idx ON messages (timestamp ASC)",
)
_JAZZY = (
    "CREATE TABLE schema(schema_version INTEGER PRIMARY KEY, ros_distro TEXT NOT NULL)",
    "INSERT INTO schema VALUES (4, 'jazzy')",
    "CREATE TABLE metadata(id INTEGER PRIMARY KEY, metadata_version INTEGER NOT NULL, metadata TEXT NOT NULL)",
    "CREATE TABLE message_definitions(id INTEGER PRIMARY KEY, topic_type TEXT NOT NULL, encoding TEXT NOT NULL, "
    "encoded_message_definition TEXT NOT NULL, type_description_hash TEXT NOT NULL)",
)


def db3(file: Path, told: Iterable[Told | Row], foxy: bool = False, packed: bool = False) -> Path:
    """A database as rosbag2's storage makes it in Jazzy or in Foxy; ``packed``: each message by zstd."""
    more = "" if foxy else ", type_description_hash TEXT NOT NULL"
    topics = dict[tuple[str, str], int]()
    database = sqlite3.connect(file)
    for statement in (*_FOXY, *(() if foxy else _JAZZY)):
        database.execute(statement.format(more=more))
    for row in rows_of(told):
        key = row.topic, row.kind
        if key not in topics:
            topics[key] = len(topics) + 1
            values = (topics[key], row.topic, row.kind, row.encoding, "", *(() if foxy else ("",)))
            database.execute(f"INSERT INTO topics VALUES ({', '.join('?' * len(values))})", values)
            if not foxy:
                text = row.definition if row.definition is not None else _definition(row.kind)
                values = (len(topics), row.kind, "ros2msg", text, "")
                database.execute("INSERT INTO message_definitions VALUES (?, ?, ?, ?, ?)", values)
        data = zstandard.compress(row.data) if packed else row.data
        insert = "INSERT INTO messages(topic_id, timestamp, data) VALUES (?, ?, ?)"
        database.execute(insert, (topics[key], row.at_ns, data))
    database.commit()
    database.close()
    return file


def metadata(folder: Path, files: Sequence[Path], told: Iterable[Told | Row], mode: str = "", version: int = 9) -> Path:
    """``metadata.yaml`` for a folder, as rosbag2 writes it."""
    rows = rows_of(told)
    first, last = min(row.at_ns for row in rows), max(row.at_ns for row in rows)
    counts: dict[tuple[str, str], int] = {}
    for row in rows:
        counts[row.topic, row.kind] = counts.get((row.topic, row.kind), 0) + 1
    topics = [
        {
            "topic_metadata": {
                "name": topic,
                "type": kind,
                "serialization_format": "cdr",
                "offered_qos_profiles": [] if version > 8 else "",
                "type_description_hash": "",
            },
            "message_count": count,
        }
        for (topic, kind), count in counts.items()
    ]
    time = {"starting_time": {"nanoseconds_since_epoch": first}, "duration": {"nanoseconds": last - first}}
    names = [file.name for file in files]
    info = {
        "version": version,
        "storage_identifier": "mcap" if ".mcap" in names[0] else "sqlite3",
        "relative_file_paths": names,
        **time,
        "message_count": len(rows),
        "topics_with_message_count": topics,
        "compression_format": "zstd" if mode else "",
        "compression_mode": mode,
        "files": [{"path": name, **time, "message_count": len(rows)} for name in names],
        "custom_data": None,
        "ros_distro": "jazzy",
    }
    (folder / "metadata.yaml").write_text(yaml.safe_dump({"rosbag2_bagfile_information": info}))
    return folder


def packed(file: Path) -> Path:
    """The file compressed by zstd, in its place."""
    whole = file.with_name(f"{file.name}.zstd")
    whole.write_bytes(zstandard.compress(file.read_bytes()))
    file.unlink()
    return whole
