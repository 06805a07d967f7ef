"""Writes a rosbag2 in MCAP, chunk by chunk, so that a killed process or a full disk loses no more than a second.

The package ``mcap`` writes the file: chunks of about 1 MB, compressed with zstd. :meth:`BagWriter.flush` ends a chunk
early. What is behind the last complete chunk when the process dies, readers skip; index, summary and ``metadata.yaml``
are written at the end, and readers make do without (:mod:`stvla_ros.ros.bag_files`).
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from mcap.writer import CompressionType, Writer

from stvla_ros.ros.bag_topics import message_class
from stvla_ros.ros.recorded_topics import Topic, offered_qos

PROFILE = "ros2"
VERSION = 9
"""Of ``metadata.yaml``, as rosbag2 of ROS 2 Jazzy writes it."""

_RULE = "=" * 80
_PRIMITIVES = {"double": "float64", "float": "float32", "boolean": "bool", "octet": "byte"}
"""Types of generated Python classes -> types in ``.msg`` files, where they differ (ROS 2's IDL mapping)."""

_FIELD = re.compile(r"(?:sequence<(?P<of>.+?)(?:, (?P<bound>\d+))?>|(?P<plain>[^\[]+)(?P<size>\[\d+\])?)$")


class BagWriter:
    """One bag: a folder with one ``.mcap`` file and, once it is closed, ``metadata.yaml``.

    Args:
        folder: Is created.
        topics: What can be written; a topic appears in the bag with its first message.

    Raises:
        OSError: The folder or the file cannot be written.
    """

    def __init__(self, folder: Path, topics: Iterable[Topic]) -> None:
        folder.mkdir(parents=True)
        self._folder, self._file = folder, folder / f"{folder.name}_0.mcap"
        self._topics = {topic.name: topic for topic in topics}
        self._channels: dict[str, int] = {}
        self._schemas: dict[str, int] = {}
        self._stream = self._file.open("wb")
        self._mcap = Writer(self._stream, compression=CompressionType.ZSTD)
        self._mcap.start(PROFILE)
        self.counts: dict[str, int] = {}
        """Topic -> number of messages."""
        self.start_ns = self.end_ns = 0
        self._safe = 0
        self.flush()

    @property
    def size(self) -> int:
        """Bytes on disk, without the chunk in progress."""
        return self._safe

    def write(self, topic: str, data: bytes, log_ns: int) -> None:
        """Add a serialized message. Raises OSError when the disk is full."""
        channel = self._channels.get(topic)
        if channel is None:
            channel = self._channels[topic] = self._register(self._topics[topic])
        self._mcap.add_message(channel, log_ns, data, log_ns, self.counts.get(topic, 0))
        if not self.counts:
            self.start_ns = self.end_ns = log_ns
        self.counts[topic] = self.counts.get(topic, 0) + 1
        self.start_ns, self.end_ns = min(self.start_ns, log_ns), max(self.end_ns, log_ns)

    def note(self, name: str, values: Mapping[str, Any]) -> None:
        """Add a metadata record; values that are not text are written as JSON. Raises OSError."""
        texts = {k: v if isinstance(v, str) else json.dumps(v) for k, v in values.items()}
        self._mcap.flush()
        self._mcap.add_metadata(name, texts)
        self.flush()

    def flush(self) -> None:
        """Hand all that was written to the operating system. Raises OSError when the disk is full."""
        self._mcap.flush()
        self._safe = self._stream.tell()

    def close(self) -> None:
        """Complete the file and write ``metadata.yaml``.

        Raises:
            OSError: The disk is full; the bag ends with the last flush, and can be read.
        """
        try:
            self.flush()
            self._mcap.finish()
            self._stream.close()
            self._safe = self._file.stat().st_size
            part = self._folder / "metadata.yaml.part"
            part.write_text(yaml.safe_dump(self._metadata(), sort_keys=False))
            part.replace(self._folder / "metadata.yaml")
        except OSError:
            self.abort()
            raise

    def abort(self) -> None:
        """End the file where everything was complete, after a failure; frees the room of half a chunk."""
        with contextlib.suppress(OSError, ValueError):  # what it still holds does not fit, or it is closed
            self._stream.close()
        with contextlib.suppress(OSError):
            os.truncate(self._file, self._safe)
            (self._folder / "metadata.yaml.part").unlink(missing_ok=True)

    def _register(self, topic: Topic) -> int:
        schema = self._schemas.get(topic.kind)
        if schema is None:
            text = message_definition(topic.kind).encode()
            schema = self._schemas[topic.kind] = self._mcap.register_schema(topic.kind, "ros2msg", text)
        profiles = yaml.safe_dump([offered_qos(topic)], sort_keys=False).strip()
        return self._mcap.register_channel(topic.name, "cdr", schema, {"offered_qos_profiles": profiles})

    def _metadata(self) -> dict[str, Any]:
        span = {
            "duration": {"nanoseconds": self.end_ns - self.start_ns},
            "starting_time": {"nanoseconds_since_epoch": self.start_ns},
            "message_count": sum(self.counts.values()),
        }
        return {
            "rosbag2_bagfile_information": {
                "version": VERSION,
                "storage_identifier": "mcap",
                **span,
                "topics_with_message_count": [
                    {"topic_metadata": _topic_metadata(self._topics[name]), "message_count": count}
                    for name, count in self.counts.items()
                ],
                "compression_format": "",
                "compression_mode": "",
                "relative_file_paths": [self._file.name],
                "files": [{"path": self._file.name, **span}],
                "custom_data": None,
                "ros_distro": os.environ.get("ROS_DISTRO", "jazzy"),
            }
        }


def _topic_metadata(topic: Topic) -> dict[str, Any]:
    return {
        "name": topic.name,
        "type": topic.kind,
        "serialization_format": "cdr",
        "offered_qos_profiles": [offered_qos(topic)],
        "type_description_hash": "",
    }


def message_definition(kind: str) -> str:
    """The definition of a message with those of all messages in it, as MCAP's encoding ``ros2msg`` wants it.

    Made from the generated class, because that is where the message is; comments, constants and defaults, which no
    reader of data needs, are not in it.
    """
    parts = [_fields(kind)]
    parts += [f"{_RULE}\nMSG: {_short(other)}\n{_fields(other)}" for other in _nested(kind, set())]
    return "".join(parts)


def _fields(kind: str) -> str:
    fields = message_class(kind).get_fields_and_field_types()
    return "".join(f"{_type(text)} {name}\n" for name, text in fields.items())


def _nested(kind: str, seen: set[str]) -> Iterator[str]:
    """Types of a message's fields and theirs, each once."""
    for text in message_class(kind).get_fields_and_field_types().values():
        base = _base(text)
        if "/" in base and base not in seen:
            seen.add(base)
            yield base
            yield from _nested(base, seen)


def _base(text: str) -> str:
    """Full name of a field's element type: ``std_msgs/msg/Header`` for ``sequence<std_msgs/Header>``."""
    match = _FIELD.match(text)
    assert match is not None, text
    name = match["of"] or match["plain"]
    package, slash, message = name.partition("/")
    return f"{package}/msg/{message}" if slash else name


def _type(text: str) -> str:
    """A field's type as in a ``.msg`` file: ``float64[7]``, ``string[<=3]``, ``std_msgs/Header[]``."""
    match = _FIELD.match(text)
    assert match is not None, text
    base = _short(_base(text))
    base = _PRIMITIVES.get(base, base).replace("string<", "string<=").rstrip(">")
    if match["of"]:
        return f"{base}[<={match['bound']}]" if match["bound"] else f"{base}[]"
    return base + (match["size"] or "")


def _short(kind: str) -> str:
    return kind.replace("/msg/", "/")
