"""Every form in which a rosbag2 comes: whole, in parts, cut off, damaged; and what only looks like one."""

from __future__ import annotations

import random
import shutil
import sqlite3
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import lz4.frame
import pytest
from ros.bags import START, TENTH, TOPICS, shots, static, usual, write
from rosbags.rosbag2 import CompressionMode, StoragePlugin
from sensor_msgs.msg import CameraInfo, Image

from stvla_ros.config import ConfigError
from stvla_ros.data.recording import is_bag
from stvla_ros.ros.bag import CameraBag

MCAP, SQLITE = StoragePlugin.MCAP, StoragePlugin.SQLITE3
FRAMES = 20
ALL = 1 + 3 * FRAMES


def count(path: Path) -> int:
    assert is_bag(path)
    return len(list(CameraBag(path, TOPICS)))


def refused(path: Path) -> str:
    with pytest.raises(ConfigError) as caught:
        list(CameraBag(path, TOPICS))
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def the_file(folder: Path) -> Path:
    return next(file for file in folder.iterdir() if file.suffix in (".mcap", ".db3"))


@pytest.mark.parametrize("plugin", list(StoragePlugin))
@pytest.mark.parametrize("mode", list(CompressionMode))
def test_folders(tmp_path: Path, plugin: StoragePlugin, mode: CompressionMode) -> None:
    if plugin is SQLITE and mode is CompressionMode.STORAGE:
        pytest.skip("SQLite has no such compression")
    folder = usual(tmp_path / "bag", plugin=plugin, compressed=mode)
    assert count(folder) == count(folder / "metadata.yaml") == ALL


@pytest.mark.parametrize("plugin", list(StoragePlugin))
def test_a_single_file_a_folder_without_metadata_a_link_and_odd_names(tmp_path: Path, plugin: StoragePlugin) -> None:
    folder = usual(tmp_path / "bag", plugin=plugin)
    assert count(the_file(folder)) == ALL
    (folder / "metadata.yaml").unlink()
    assert count(folder) == ALL
    (tmp_path / "link").symlink_to(folder)
    assert count(tmp_path / "link") == ALL
    odd = folder.rename(tmp_path / "für Zoë #2 100%41?")
    assert count(odd) == count(the_file(odd)) == ALL
    odd.chmod(0o555)
    assert count(odd) == ALL
    odd.chmod(0o755)


@pytest.mark.parametrize("plugin", list(StoragePlugin))
def test_splits_without_metadata_are_read_in_order_of_time(tmp_path: Path, plugin: StoragePlugin) -> None:
    folder = tmp_path / "split"
    folder.mkdir()
    for part, name in ((0, "bag_9"), (1, "bag_10")):
        first_ns = START + part * 5 * TENTH
        whole = write(tmp_path / name, [(START, "tf_static", static()), *shots(5, first_ns, first_ns)], plugin)
        shutil.copy(the_file(whole), folder)
    (folder / f"bag_11{the_file(folder).suffix}").touch()  # the recorder was killed when it had just begun it
    images = [m.after_ns for m in CameraBag(folder, TOPICS) if m.topic == f"/{TOPICS.color}"]
    assert images == [i * TENTH for i in range(10)]


def test_a_cut_off_mcap_gives_what_is_whole(tmp_path: Path) -> None:
    """A recorder that was killed: no footer and no index, half a chunk, or the zeros of a file system that lost power."""
    whole = the_file(usual(tmp_path / "bag", count=60)).read_bytes()
    chunk_end = _end_of_first_chunk(whole)
    for name, data in {
        "no_footer": whole[:-20],
        "no_index": whole[: chunk_end + 5],
        "zeros": whole[:chunk_end] + bytes(5000),
        "half_a_record": whole[:chunk_end] + whole[chunk_end - 300 : chunk_end],
    }.items():
        file = tmp_path / f"{name}.mcap"
        file.write_bytes(data)
        assert count(file) == 1 + 3 * 60, name
        assert "its recorder was interrupted" in CameraBag(file, TOPICS).notes[0]
    file.write_bytes(whole[: chunk_end - 100])
    assert "found none that is complete" in refused(file)


def _records(data: bytes, at: int = 8) -> Iterator[tuple[int, int, bytes]]:
    """Op code, where it ends, and content of each record of an MCAP file (mcap.dev/spec)."""
    while at + 9 <= len(data):
        op, length = struct.unpack_from("<BQ", data, at)
        at += 9 + length
        yield op, at, data[at - length : at]


def _end_of_first_chunk(data: bytes) -> int:
    return next(end for op, end, _ in _records(data) if op == 0x06)


def _record(op: int, content: bytes) -> bytes:
    return struct.pack("<BQ", op, len(content)) + content


def test_an_mcap_without_chunks_with_lz4_and_without_an_index_of_messages(tmp_path: Path) -> None:
    """rosbag2's writer has options for both, and converters leave them; without an index messages stand in any order."""
    whole = the_file(usual(tmp_path / "bag")).read_bytes()
    magic, head_end = whole[:8], next(end for op, end, _ in _records(whole) if op == 0x01)
    chunk = next(content for op, _, content in _records(whole) if op == 0x06)
    first_ns, last_ns, size, _, name = struct.unpack_from("<QQQII", chunk)
    assert name == 0, "not compressed"
    inside = chunk[40:]
    assert len(inside) == size
    messages = [_record(op, content) for op, _, content in _records(inside, 0) if op == 0x05]
    others = b"".join(_record(op, content) for op, _, content in _records(inside, 0) if op != 0x05)
    no_summary = _record(0x0F, bytes(4)) + _record(0x02, bytes(20)) + magic
    mixed = [*messages[30:], *messages[:30]]
    for number, part in enumerate((messages, mixed)):
        file = tmp_path / f"no_chunks_{number}.mcap"
        file.write_bytes(whole[:head_end] + others + b"".join(part) + no_summary)
        assert count(file) == ALL

    packed = lz4.frame.compress(inside)
    lz4_chunk = struct.pack("<QQQII3sQ", first_ns, last_ns, size, 0, 3, b"lz4", len(packed)) + packed
    file = tmp_path / "lz4.mcap"
    file.write_bytes(whole[:head_end] + _record(0x06, lz4_chunk) + no_summary)
    assert count(file) == ALL

    data = whole[:head_end] + _record(0x06, chunk) + _record(0x0F, bytes(4))
    index = struct.pack("<QQQQIQI", first_ns, last_ns, head_end, 9 + len(chunk), 0, 0, 0) + struct.pack(
        "<QQ", size, size
    )
    footer = _record(0x02, struct.pack("<QQI", len(data), 0, 0))
    file = tmp_path / "no_message_index.mcap"
    file.write_bytes(data + _record(0x08, index) + footer + magic)
    assert count(file) == ALL


def test_messages_in_the_write_ahead_log_are_read(tmp_path: Path) -> None:
    """Its recorder was killed: the newest messages stand beside the database."""
    folder, file = tmp_path / "killed", the_file(usual(tmp_path / "bag", plugin=SQLITE))
    folder.mkdir()
    recorder = sqlite3.connect(file)
    assert recorder.execute("PRAGMA journal_mode=WAL").fetchone() == ("wal",)
    recorder.execute("PRAGMA wal_autocheckpoint=0")
    recorder.execute(
        "INSERT INTO messages(topic_id, timestamp, data) SELECT topic_id, timestamp + 1, data FROM messages"
    )
    recorder.commit()
    for part in file.parent.glob("*.db3*"):
        shutil.copy(part, folder)
    recorder.close()
    assert count(folder) == 2 * ALL


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("x.mcap", b"", "found 0 bytes"),
        ("x.db3", b"", "found 0 bytes"),
        ("x.mcap", b"no bag at all, but some text in a file", "File magic is invalid"),
        ("x.db3", b"no bag at all, but some text in a file", "file is not a database"),
        (
            "x.bag",
            b"#ROSBAG V2.0\n",
            r"a ROS 1 bag: convert it \(rosbags-convert --src .*x.bag --dst .*x --dst-typestore",
        ),
        ("x.db3.zstd", b"?", "wanted a rosbag2 that can be opened"),
        ("metadata.yaml", b"", "delete it: the files are read without"),
        ("metadata.yaml", b"a: [", "delete it: the files are read without"),
        ("metadata.yaml", b"\xff\xfe", "delete it: the files are read without"),
    ],
)
def test_what_is_no_bag_is_told_with_a_remedy(tmp_path: Path, name: str, content: bytes, sentence: str) -> None:
    (tmp_path / name).write_bytes(content)
    for path in (tmp_path / name, tmp_path):
        assert is_bag(path)
        with pytest.raises(ConfigError, match=sentence):
            CameraBag(path, TOPICS)


def test_folders_of_bags_empty_bags_and_nothing(tmp_path: Path) -> None:
    usual(tmp_path / "bags" / "first")
    assert not is_bag(tmp_path / "bags" / "none")
    (tmp_path / "bags" / "none").mkdir()
    assert "folder of bags: name one of them, e.g." in refused_folder(tmp_path / "bags")
    assert "found none" in refused(write(tmp_path / "empty", [], empty=(("tf_static", Image),)))
    assert "found nothing" in refused(tmp_path / "nowhere.mcap")


def refused_folder(path: Path) -> str:
    assert is_bag(path)
    return refused(path)


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (lambda meta: meta.replace("storage_identifier: mcap", "storage_identifier: ''"), "Storage plugin ''"),
        (lambda meta: meta.replace("storage_identifier: mcap", "storage_identifier: my_plugin"), "'my_plugin'"),
        (lambda meta: meta.replace(".mcap", "_1.mcap"), "files are missing"),
        (lambda meta: meta.replace("version: 9", "version: 99"), "version 99 not supported"),
        (lambda meta: meta.replace("serialization_format: cdr", "serialization_format: protobuf"), "protobuf"),
    ],
)
def test_metadata_that_is_wrong(tmp_path: Path, damage: Callable[[str], str], sentence: str) -> None:
    """``ros2 bag reindex`` has left the storage empty (ros2/rosbag2 2175); what is said helps: without metadata it is read."""
    folder = usual(tmp_path / "bag")
    meta = folder / "metadata.yaml"
    text = meta.read_text()
    assert damage(text) != text
    meta.write_text(damage(text))
    told = refused(folder)
    assert sentence in told
    assert "delete it: the files are read without" in told
    meta.unlink()
    assert count(folder) == ALL


def test_metadata_whose_qos_was_edited(tmp_path: Path) -> None:
    """As people do for /tf_static: what the files say counts."""
    for plugin in StoragePlugin:
        meta = usual(tmp_path / plugin.name, plugin=plugin) / "metadata.yaml"
        text = meta.read_text()
        profile = (
            "{history: keep_last, depth: 1, reliability: reliable, durability: transient_local, deadline: {sec: 0, nsec: 0}, "
            "lifespan: {sec: 0, nsec: 0}, liveliness: automatic, liveliness_lease_duration: {sec: 0, nsec: 0}, "
            "avoid_ros_namespace_conventions: false}"
        )
        meta.write_text(text.replace("offered_qos_profiles: []", f"offered_qos_profiles: [{profile}]"))
        assert meta.read_text() != text
        assert count(meta.parent) == ALL


def test_topics_that_are_missing_or_empty(tmp_path: Path) -> None:
    info = next(message for _, topic, message in shots(1) if topic == TOPICS.info)
    empty = ((TOPICS.color, Image), (TOPICS.depth, Image))
    told = refused(write(tmp_path / "empty", [(START, TOPICS.info, info)], empty=empty))
    assert f"/{TOPICS.color} (sensor_msgs/msg/Image, no messages)" in told
    assert told.endswith("Record these topics.")
    told = refused(write(tmp_path / "wrong", [(START, TOPICS.color, info)], empty=((TOPICS.info, CameraInfo),)))
    assert f"/{TOPICS.color} (sensor_msgs/msg/CameraInfo)" in told


def test_half_a_message_is_told_with_how_far_the_bag_could_be_read(tmp_path: Path) -> None:
    folder = usual(tmp_path / "bag", plugin=SQLITE)
    with sqlite3.connect(the_file(folder)) as database:
        first = "(SELECT id FROM messages ORDER BY timestamp LIMIT 1 OFFSET 30)"
        database.execute(f"UPDATE messages SET data = substr(data, 1, 40) WHERE id = {first}")
    database.close()
    told = refused(folder)
    assert "it could be read for 0.9 s of 1.9 s, then: a message on /camera/camera/" in told
    assert "sqlite3 FILE .recover" in told


def test_a_lost_page(tmp_path: Path) -> None:
    folder = usual(tmp_path / "bag", count=60, plugin=SQLITE)
    file = the_file(folder)
    data = bytearray(file.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 8192] = bytes(8192)
    file.write_bytes(data)
    told = refused(folder)
    assert "database disk image is malformed" in told
    assert "sqlite3 FILE .recover" in told


def test_random_damage_is_read_or_told(tmp_path: Path) -> None:
    rng = random.Random(0)
    files = [
        the_file(usual(tmp_path / f"{plugin.name}{mode.name}", count=6, plugin=plugin, compressed=mode))
        for plugin, mode in (
            (MCAP, CompressionMode.NONE),
            (MCAP, CompressionMode.STORAGE),
            (SQLITE, CompressionMode.NONE),
        )
    ]
    told = 0
    for _ in range(150):
        source = rng.choice(files)
        data = bytearray(source.read_bytes())
        if rng.random() < 0.3:
            del data[rng.randrange(len(data)) :]
        for _ in range(rng.randrange(20)):
            edge = rng.choice([0, max(0, len(data) - 3000), rng.randrange(len(data) + 1)])
            for k in range(edge, min(edge + rng.randrange(3000), len(data)), rng.randrange(1, 500)):
                data[k] = rng.randrange(256)
        file = tmp_path / f"damaged{source.suffix}"
        file.write_bytes(data)
        try:
            list(CameraBag(file, TOPICS))
        except ConfigError:
            told += 1
    assert told > 50
