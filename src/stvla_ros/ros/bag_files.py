"""The files of a rosbag2: complete or cut off, with or without ``metadata.yaml``, a folder or a single file.

Uses the package ``rosbags``, because there is no wheel of rosbag2's reader. That package reads complete bags only;
what a killed recorder leaves behind is read here.
"""

from __future__ import annotations

import os
import shutil
import struct
from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from heapq import merge
from operator import itemgetter
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import quote

import apsw
from backports import zstd
from rosbags.interfaces import Connection
from rosbags.rosbag2 import ReaderError
from rosbags.rosbag2.reader import DirectoryReader
from rosbags.rosbag2.storage_mcap import McapReader, Schema
from rosbags.rosbag2.storage_sqlite3 import Sqlite3Reader

from stvla_ros.config import ConfigError

METADATA = "metadata.yaml"

ERRORS = (
    ReaderError,
    apsw.Error,
    zstd.ZstdError,
    struct.error,
    ArithmeticError,
    AttributeError,
    EOFError,
    LookupError,
    MemoryError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
)
"""Exceptions of the libraries for damaged files: ``rosbags`` does not check lengths, offsets and names; errors of the
middleware and of LZ4 are RuntimeErrors."""

_LATEST_NS = 2**31 * 1_000_000_000
"""No stamp can be later (builtin_interfaces/Time)."""

_MAGIC = b"\x89MCAP0\r\n"
_RECORDS = range(0x01, 0x0F)
"""Op codes of MCAP's records up to the end of its data (mcap.dev/spec)."""

_PACKED, _ZSTD = ".zstd", b"\x28\xb5\x2f\xfd"
"""Suffix of compressed files, and how zstd's frames begin (RFC 8878); a message in CDR begins with 0."""

CDR = ("cdr", "")
"""How ROS 2 encodes messages; old databases do not say it."""


class _NotRos2Error(ReaderError):
    """A file that is whole, but of something else."""


class _Schemas(dict[int, Schema]):
    """The schemas of an MCAP file; the library knows ROS 2's only, but a channel of others does no harm."""

    def __setitem__(self, key: int, schema: Schema) -> None:
        known = schema.encoding in ("ros2msg", "ros2idl", "omgidl")
        super().__setitem__(key, schema if known else schema._replace(encoding=""))


class _Mcap(McapReader):
    """An MCAP file, even if its recorder was interrupted before it wrote end and index, or wrote no index."""

    cut_off = False

    def __init__(self, path: Any) -> None:
        super().__init__(path)
        self.schemas = _Schemas()

    def _open(self) -> None:
        assert self.bio
        try:
            super()._open()
        except UnicodeDecodeError as error:
            raise _NotRos2Error(
                f"it has channels that are not of ROS (protobuf?): keep the others, e.g. mcap filter {self.path} -o NEW -y '/.*'"
            ) from error
        except ReaderError:
            if not self.data_start:
                self._check_profile()
            if not self.data_start or self._has_end():
                raise
            self.cut_off = True
            self.data_end = _end_of_records(self.bio, self.data_start)
        if self.cut_off or not self._indexed:
            self._count()

    def _check_profile(self) -> None:
        """Raises _NotRos2Error for an MCAP file of something else."""
        assert self.bio
        self.bio.seek(len(_MAGIC))
        op, _, size = struct.unpack("<BQI", self.bio.read(13).ljust(13, b"\0"))
        profile = self.bio.read(min(size, 100)).decode(errors="replace")
        if op == 1 and profile != "ros2":
            ros1 = ": convert it (rosbags-convert)" if profile == "ros1" else ""
            raise _NotRos2Error(f"it is an MCAP with the profile '{profile}', not 'ros2'{ros1}")

    def _has_end(self) -> bool:
        assert self.bio
        self.bio.seek(-len(_MAGIC), os.SEEK_END)
        return self.bio.read() == _MAGIC

    @property
    def _indexed(self) -> bool:
        """Whether all chunks list their contents; a file may have an index of chunks but none of messages."""
        return bool(self.chunks) and all(chunk.channel_count for chunk in self.chunks)

    def _count(self) -> None:
        """Read the whole file to get the contents of its summary."""
        self.meta_scan()
        assert self.statistics
        _, _, _, _, _, _, start_ns, end_ns, counts = self.statistics
        self.connections = [c._replace(msgcount=counts.get(c.id, 0)) for c in self.connections]
        self.metadata = self.metadata._replace(
            start_time=start_ns, end_time=end_ns + 1, message_count=sum(counts.values())
        )

    def messages(self, connections: Collection[Connection], start: int | None = None, stop: int | None = None) -> Any:
        """Messages in order of time; without an index, in the order of the file."""
        return (super().messages if self._indexed else self.messages_scan)(connections, start, stop)


def _end_of_records(file: Any, start: int) -> int:
    """Where the last complete record of a cut-off file ends; half a record or zeros may follow."""
    size, end = file.seek(0, os.SEEK_END), start
    while end + 9 <= size:
        file.seek(end)
        op, length = struct.unpack("<BQ", file.read(9))
        if op not in _RECORDS or end + 9 + length > size:
            break
        end += 9 + length
    return int(end)


class _Sqlite(Sqlite3Reader):
    """A database, even if its recorder was interrupted and left messages in the write-ahead log."""

    def open(self) -> None:
        path = Path(str(self.path))
        log = path.with_name(f"{path.name}-wal")
        unmerged = log.exists() and log.stat().st_size > 0
        # the library makes a URI of this and appends ?immutable=1, which would ignore the log
        self.path = Path(quote(str(path)) + ("?mode=ro#" if unmerged else ""))
        try:
            super().open()
        except ReaderError as error:
            if unmerged and isinstance(error.__cause__, (apsw.CantOpenError, apsw.ReadOnlyError)):
                raise ReaderError(
                    f"its recorder left messages in {log.name}, which can be read only if {path.parent} is writable: "
                    "copy the bag to a writable folder"
                ) from error
            raise


_FILES: Mapping[str, Any] = {".mcap": _Mcap, ".db3": _Sqlite}


class _Folder(DirectoryReader):
    STORAGE_PLUGINS: Mapping[str, Any] = {"mcap": _Mcap, "sqlite3": _Sqlite}


class BagFiles:
    """An open bag.

    Attributes:
        topics: Topic -> type -> number of messages. The type of messages that are not encoded in CDR says so.
        definitions: Topic and type -> the type's definition in the bag.
        start_ns: Record time of the first message; 0 when there is none.
        end_ns: Record time of the last message.
        cut_off: The recorder was interrupted; the complete part is read.
    """

    def __init__(self, readers: Collection[Any]) -> None:
        self._readers = filled = [reader for reader in readers if reader.metadata.message_count]
        self.start_ns = min((int(reader.metadata.start_time) for reader in filled), default=0)
        self.end_ns = max((int(reader.metadata.end_time) - 1 for reader in filled), default=0)
        if not 0 <= self.start_ns < _LATEST_NS:
            raise ReaderError(f"its first message has the time {self.start_ns} ns")
        self.cut_off = any(getattr(reader, "cut_off", False) for reader in readers)
        self.topics: dict[str, dict[str, int]] = {}
        self.definitions: dict[tuple[str, str], tuple[Any, str]] = {}
        for connection in (c for reader in readers for c in reader.connections):
            kinds, kind = self.topics.setdefault(connection.topic, {}), _kind(connection)
            kinds[kind] = kinds.get(kind, 0) + connection.msgcount
            if connection.msgdef.data:
                self.definitions[connection.topic, kind] = connection.msgdef.format, connection.msgdef.data

    def first(self, topic: str, kind: str) -> bytes | None:
        """The first message on a topic; None if there is none, or it is damaged."""
        try:
            return next((data for *_, data in self.messages({topic: kind})), None)
        except ERRORS:
            return None

    def messages(self, topics: Mapping[str, str]) -> Iterator[tuple[str, str, int, bytes]]:
        """Topic, type, record time [ns] and data of all messages on some topics (topic -> type), in order of time."""
        parts = []
        for reader in self._readers:
            wanted = [c for c in reader.connections if topics.get(c.topic) == _kind(c)]
            parts += [reader.messages(wanted)] * bool(wanted)
        for connection, recorded_ns, data in merge(*parts, key=itemgetter(1)):
            message = bytes(data)
            if message.startswith(_ZSTD):  # messages are compressed, and no metadata say so
                message = zstd.decompress(message)
            yield connection.topic, connection.msgtype, recorded_ns, message


def _kind(connection: Connection) -> str:
    """The type of a connection's messages."""
    encoding = str(getattr(connection.ext, "serialization_format", ""))
    return connection.msgtype if encoding in CDR else f"{connection.msgtype} in {encoding}"


@contextmanager
def opened(path: Path) -> Iterator[BagFiles]:
    """Open a bag: its folder, its ``metadata.yaml``, or a single file of one.

    Raises:
        ConfigError: It is not a rosbag2, or cannot be opened; the sentence says what was found and what to do.
    """
    path = path.parent if path.name == METADATA else path
    with ExitStack() as stack:
        try:
            readers = _readers(path, stack)
            for reader in readers:
                reader.open()
                stack.callback(reader.close)
            files = BagFiles([part for reader in readers for part in _parts(reader)])
        except ConfigError:
            raise
        except ERRORS as error:
            remedy = "" if isinstance(error, _NotRos2Error) else _remedy(path)
            raise ConfigError(f"{path}: wanted a rosbag2 that can be opened: {_why(error)}.{remedy}") from error
        yield files


def _parts(reader: Any) -> list[Any]:
    """The files of a folder, which describe their own contents: metadata that were edited (QoS) are not needed.
    Only if single messages are compressed, the folder's reader is used to decompress them."""
    whole = not isinstance(reader, _Folder) or reader.metadata.compression_mode == "message"
    return [reader] if whole else reader.storages


def _readers(path: Path, stack: ExitStack) -> list[Any]:
    """Readers of a bag's files, not opened yet. Raises ConfigError when there are none."""
    if not path.exists():
        raise ConfigError(f"{path}: wanted a rosbag2, found nothing.")
    if (path / METADATA).is_file():
        return [_Folder(path)]
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    found = [file for file in files if _form(file) in _FILES]
    if not found:
        raise ConfigError(f"{path}: wanted a rosbag2, {_other(path, files)}")
    if len({_form(file) for file in found}) > 1:
        raise ConfigError(f"{path}: wanted one rosbag2, found .mcap and .db3 files: name one of them.")
    written = [file for file in found if file.stat().st_size]  # the last of several may be empty
    if not written:
        raise ConfigError(f"{path}: wanted a rosbag2, found 0 bytes: its recorder wrote nothing.")
    return [_FILES[_form(file)](_unpacked(file, stack)) for file in written]


def _form(file: Path) -> str:
    """``.mcap`` or ``.db3``, whether the file is compressed or not."""
    packed = file.suffix.lower() == _PACKED
    return (file.with_suffix("") if packed else file).suffix.lower()


def _unpacked(file: Path, stack: ExitStack) -> Path:
    """The file itself, or a decompressed copy of it that lives as long as the stack."""
    if file.suffix.lower() != _PACKED:
        return file
    copy = Path(stack.enter_context(TemporaryDirectory()), file.stem)
    with zstd.open(file, "rb") as packed, copy.open("wb") as plain:
        shutil.copyfileobj(packed, plain)
    return copy


def _other(path: Path, files: Collection[Path]) -> str:
    """What was found instead of a rosbag2, and what to do."""
    if old := next((file for file in files if file.suffix == ".bag"), None):
        return f"found a ROS 1 bag: convert it (rosbags-convert --src {old} --dst {old.with_suffix('')} --dst-typestore ros2_jazzy)."
    bags = [file.name for file in files if file.is_dir() and (file / METADATA).is_file()]
    if bags:
        return f"found a folder of bags: name one of them, e.g. {path / bags[0]}."
    return f"found {', '.join(sorted(file.name for file in files)[:5]) or 'an empty folder'}."


def _remedy(path: Path) -> str:
    if not (path / METADATA).is_file():
        return f" Repair it: {REPAIR}."
    return (
        f" If the fault is in {METADATA}, delete it: the files are read without it, and `ros2 bag reindex {path}` writes it again. "
        f"If a file is damaged, repair it: {REPAIR}."
    )


REPAIR = "`mcap recover FILE -o NEW` for .mcap, `sqlite3 FILE .recover | sqlite3 NEW` for .db3"


def damaged(path: Path, read_s: float, total_s: float, error: Exception) -> ConfigError:
    """The error for damage that is found only while a bag is read."""
    return ConfigError(
        f"{path}: damaged: it could be read for {read_s:.1f} s of {total_s:.1f} s, then: {_why(error)}. Repair it: {REPAIR}; "
        "or record again."
    )


def _why(error: Exception) -> str:
    """A library's error in one line, with its class name if the text alone says too little."""
    text = " ".join(str(error).split()).rstrip(".")
    says_enough = isinstance(error, (ReaderError, OSError, ValueError, RuntimeError, apsw.Error, zstd.ZstdError))
    return text if says_enough and text else f"{type(error).__name__} {text}".strip()
