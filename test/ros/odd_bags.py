"""A table of odd bags: what each is, how it is made, what the operator says about it.

``python -m ros.odd_bags`` (with ``test`` on PYTHONPATH) writes what is read of each, and what is said, to docs/bags.md.
"""

from __future__ import annotations

import re
import sqlite3
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from mcap.writer import CompressionType
from ros.bags import START, TENTH, TOPICS, H, Told, W
from ros.odd_bag_files import BARE, LZ4, Row, db3, mcap, metadata, packed, rows_of
from ros.odd_messages import (
    COLOR,
    DEPTH,
    FRAMES,
    INFO,
    JOINTS,
    RGB,
    S,
    another_camera,
    both,
    changed,
    coded,
    colour,
    depth,
    depth_inverse,
    depth_png,
    depth_rvl,
    framed,
    jumps_back,
    later,
    padded,
    renamed,
    simulated,
    split_joints,
    squeezed,
    usual,
    without,
)
from sensor_msgs.msg import Image

from stvla_ros.camera.place import place_of
from stvla_ros.config import ConfigError
from stvla_ros.data.bag_hints import bag_hints
from stvla_ros.data.recording import RecordedFrame
from stvla_ros.description.robot import RobotConfig
from stvla_ros.ros.bag_frames import BagRecording

DOC = Path(__file__).resolve().parents[2] / "docs" / "bags.md"
MARK = "<!-- The rest is written by test/ros/odd_bags.py -->\n"
HEAD = "| bag | read | said |\n|---|---|---|\n"

Make = Callable[[Path], Path]


@dataclass(frozen=True)
class OddBag:
    """A bag.

    Attributes:
        name: What is odd about it.
        make: Writes it into an empty folder, and returns the path to open.
        remap: As ``--remap``.
        extrinsics: As ``--extrinsics``.
        intrinsics: As ``--intrinsics``.
        exact: Whether its pixels are those that were recorded (JPEG's are not).
    """

    name: str
    make: Make
    remap: tuple[str, ...] = ()
    extrinsics: str = ""
    intrinsics: str = ""
    exact: bool = True


def file_of(told: Sequence[Told | Row], **how: Any) -> Make:
    return lambda folder: mcap(folder / "my_bag.mcap", told, **how)


ZED = {
    COLOR: "zed/rgb/image_rect_color",
    DEPTH: "zed/depth/depth_registered",
    INFO: "zed/rgb/camera_info",
    JOINTS: "panda/joint_states",
}
LEFT = {COLOR: "left/color/image_raw", DEPTH: "left/depth/image_raw", INFO: "left/color/camera_info"}
RIGHT = {topic: name.replace("left", "right") for topic, name in LEFT.items()}
TWO = both(renamed(usual(), LEFT), *renamed(without(usual(), "tf_static", JOINTS), RIGHT))
POSE = "0.5,0,0.8,1,0,0,0"

STRANGE = (
    Row(START, "/franka/state", "franka_msgs/msg/FrankaRobotState", b"\0\1\0\0" + bytes(40), "int64 something"),
    Row(START, "/audio", "audio_common_msgs/msg/AudioData", b"\0\1\0\0" + bytes(8), "uint8[] data"),
    Row(START, "/notes", "my_notes", b"{}", "{}", "json"),
)

OLD_INFO = """std_msgs/Header header
uint32 height
uint32 width
string distortion_model
float64[] d
float64[9] k
float64[9] r
float64[12] p
uint32 binning_x
================================================================================
MSG: std_msgs/Header
builtin_interfaces/Time stamp
string frame_id
================================================================================
MSG: builtin_interfaces/Time
int32 sec
uint32 nanosec
"""


def old_infos() -> list[Told | Row]:
    """Camera infos of a type that ends earlier than ours; CDR of what both have is the same."""
    rows: list[Row] = rows_of(usual())
    cut = [replace(row, data=row.data[:-20], definition=OLD_INFO) for row in rows if row.topic == f"/{INFO}"]
    return sorted([*(row for row in rows if row.topic != f"/{INFO}"), *cut], key=lambda row: row.at_ns)


# --- files ------------------------------------------------------------------------------------------------------------


def folder_of(write: Callable[..., Path], name: str, mode: str = "", version: int = 9, **how: Any) -> Make:
    """A folder with metadata and one file; ``mode``: of rosbag2's compression."""

    def make(folder: Path) -> Path:
        file = write(folder / name, usual(), **how)
        file = packed(file) if mode == "FILE" else file
        return metadata(folder, [file], usual(), mode, version)

    return make


def bare_folder(write: Callable[..., Path], name: str, pack: bool = False, **how: Any) -> Make:
    """A folder without metadata."""

    def make(folder: Path) -> Path:
        file = write(folder / name, usual(), **how)
        if pack:
            packed(file)
        return folder

    return make


def split(write: Callable[..., Path], names: tuple[str, str], with_metadata: bool) -> Make:
    def make(folder: Path) -> Path:
        half = START + FRAMES // 2 * TENTH
        parts = [one for one in usual() if one[0] < half], [one for one in usual() if one[0] >= half]
        files = [write(folder / name, part) for name, part in zip(names, parts, strict=True)]
        return metadata(folder, files, usual()) if with_metadata else folder

    return make


def cut(make: Make, share: float, tail: bytes = b"") -> Make:
    """A file of which only the beginning is left."""

    def cut_file(folder: Path) -> Path:
        file = make(folder)
        data = file.read_bytes()
        file.write_bytes(data[: int(len(data) * share)] + tail)
        return file

    return cut_file


def with_log(folder: Path) -> Path:
    """A database whose recorder was killed: everything stands in the write-ahead log."""
    (folder / "made").mkdir()
    file = db3(folder / "made" / "my_bag.db3", usual())
    recorder = sqlite3.connect(file)
    recorder.execute("PRAGMA journal_mode=WAL")
    recorder.execute("PRAGMA wal_autocheckpoint=0")
    recorder.execute("UPDATE messages SET id = id + 1000")
    recorder.commit()
    for part in (folder / "made").iterdir():
        (folder / part.name).write_bytes(part.read_bytes())
    recorder.close()
    return folder / "my_bag.db3"


def damaged_message(folder: Path) -> Path:
    file = db3(folder / "my_bag.db3", usual())
    with sqlite3.connect(file) as database:
        database.execute("UPDATE messages SET data = substr(data, 1, 30) WHERE id = (SELECT max(id) - 7 FROM messages)")
    database.close()
    return file


def text_file(name: str, content: bytes) -> Make:
    def make(folder: Path) -> Path:
        (folder / name).write_bytes(content)
        return folder / name

    return make


def lost_file(folder: Path) -> Path:
    metadata(folder, [file := mcap(folder / "my_bag.mcap", usual())], usual())
    file.unlink()
    return folder


def folder_of_bags(folder: Path) -> Path:
    for name in ("monday", "tuesday"):
        (folder / name).mkdir()
        metadata(folder / name, [mcap(folder / name / "x.mcap", usual())], usual())
    (folder / "metadata.yaml").unlink(missing_ok=True)
    return folder


def last_is_empty(folder: Path) -> Path:
    mcap(folder / "my_bag_0.mcap", usual())
    (folder / "my_bag_1.mcap").touch()
    return folder


def half_jpeg(image: Image) -> bytes:
    whole = coded(".png")(image)
    return whole[: len(whole) // 2] if image.data[0] == RGB[0] + 3 else whole


MM, RAW = "16UC1; compressedDepth", {"compression": CompressionType.NONE}

FILE_BAGS = (
    OddBag("MCAP with chunks of zstd, metadata.yaml", folder_of(mcap, "my_bag_0.mcap")),
    OddBag("MCAP with chunks of LZ4, no metadata.yaml", bare_folder(mcap, "my_bag_0.mcap", **LZ4)),
    OddBag("MCAP without chunks, index and summary", file_of(usual(), **BARE)),
    OddBag("MCAP, messages not in order of time, with an index", file_of(usual()[::-1])),
    OddBag("MCAP, messages not in order of time, without an index", file_of(usual()[::-1], **BARE)),
    OddBag("MCAP, cut off in the middle (chunks)", cut(file_of(usual(), chunk_size=8000, **RAW), 0.5)),
    OddBag("MCAP, cut off in the middle (no chunks)", cut(file_of(usual(), **BARE), 0.5)),
    OddBag("MCAP, cut off, then zeros", cut(file_of(usual(), **BARE), 0.7, bytes(3000))),
    OddBag("MCAP, cut off in its first chunk", cut(file_of(usual(), **RAW), 0.5)),
    OddBag("MCAP, split, metadata.yaml", split(mcap, ("my_bag_0.mcap", "my_bag_1.mcap"), True)),
    OddBag("MCAP, split, no metadata.yaml, parts 9 and 10", split(mcap, ("my_bag_9.mcap", "my_bag_10.mcap"), False)),
    OddBag("MCAP, split, the last part has 0 bytes", last_is_empty),
    OddBag("MCAP in zstd (by file), no metadata.yaml", bare_folder(mcap, "my_bag_0.mcap", pack=True)),
    OddBag("sqlite3 of Jazzy, metadata.yaml", folder_of(db3, "my_bag_0.db3")),
    OddBag("sqlite3 of Foxy, metadata.yaml (version 4)", folder_of(db3, "my_bag_0.db3", version=4, foxy=True)),
    OddBag("sqlite3 of Foxy, no metadata.yaml", bare_folder(db3, "my_bag_0.db3", foxy=True)),
    OddBag("sqlite3, split, metadata.yaml", split(db3, ("my_bag_0.db3", "my_bag_1.db3"), True)),
    OddBag("sqlite3, split, no metadata.yaml", split(db3, ("my_bag_9.db3", "my_bag_10.db3"), False)),
    OddBag("sqlite3 in zstd by file, metadata.yaml", folder_of(db3, "my_bag_0.db3", mode="FILE")),
    OddBag("sqlite3 in zstd by file, no metadata.yaml", bare_folder(db3, "my_bag_0.db3", pack=True)),
    OddBag("sqlite3 in zstd by message, metadata.yaml", folder_of(db3, "my_bag_0.db3", mode="MESSAGE", packed=True)),
    OddBag("sqlite3 in zstd by message, no metadata.yaml", bare_folder(db3, "my_bag_0.db3", packed=True)),
    OddBag("sqlite3 of a killed recorder, with its write-ahead log", with_log),
    OddBag("sqlite3, cut off in the middle", cut(lambda folder: db3(folder / "my_bag.db3", usual()), 0.5)),
    OddBag("sqlite3, a message cut short", damaged_message),
)

TOPIC_BAGS = (
    OddBag("names of a ZED camera", file_of(renamed(usual(), ZED))),
    OddBag("two cameras of one kind", file_of(TWO)),
    OddBag(
        "two cameras of one kind, two topics named",
        file_of(TWO),
        (f"{RIGHT[COLOR]}:={COLOR}", f"{RIGHT[DEPTH]}:={DEPTH}"),
    ),
    OddBag("two cameras of one kind, colour named", file_of(TWO), (f"{RIGHT[COLOR]}:={COLOR}",)),
    OddBag("two cameras, one with our names", file_of(both(usual(), *without(TWO, "tf_static", JOINTS)))),
    OddBag("a topic named that is not there", file_of(usual()), (f"left/image:={COLOR}",)),
    OddBag("a hint without `:=`", file_of(usual()), ("left/image",)),
    OddBag("franka_ros2: arm and fingers on own topics", file_of(split_joints())),
    OddBag("transforms in a namespace", file_of(renamed(usual(), {"tf_static": "robot1/tf_static"}))),
    OddBag("types that are not installed, JSON beside", file_of([*STRANGE, *usual()])),
    OddBag("camera info of an older definition", file_of(old_infos())),
)

IMAGE_BAGS = (
    OddBag("`bgr8`", file_of(changed(usual(), COLOR, colour(lambda a: a[..., ::-1], "bgr8")))),
    OddBag(
        "`rgba8`",
        file_of(changed(usual(), COLOR, colour(lambda a: np.dstack([a, np.full((H, W), 9, np.uint8)]), "rgba8"))),
    ),
    OddBag("`mono8` (an infrared image)", file_of(changed(usual(), COLOR, colour(lambda a: a[..., 0], "mono8")))),
    OddBag("`yuv422_yuy2`", file_of(changed(usual(), COLOR, colour(lambda a: a[..., :2], "yuv422_yuy2")))),
    OddBag("depth in `mono16`", file_of(changed(usual(), DEPTH, depth(lambda a: a, "mono16")))),
    OddBag(
        "depth in `32FC1`, NaN",
        file_of(
            changed(
                usual(),
                DEPTH,
                depth(lambda a: np.where(a > 0, a.astype(np.float32) / 1000, np.float32(np.nan)), "32FC1"),
            )
        ),
    ),
    OddBag(
        "depth in `16UC1`, big-endian",
        file_of(changed(usual(), DEPTH, depth(lambda a: a.astype(">u2"), "16UC1", is_bigendian=1))),
    ),
    OddBag("padded rows", file_of(changed(changed(usual(), COLOR, padded), DEPTH, padded))),
    OddBag(
        "`compressed`: JPEG",
        file_of(squeezed(usual(), COLOR, "/compressed", "rgb8; jpeg compressed bgr8", coded(".jpg"))),
        exact=False,
    ),
    OddBag(
        "`compressed`: PNG",
        file_of(squeezed(usual(), COLOR, "/compressed", "rgb8; png compressed bgr8", coded(".png"))),
    ),
    OddBag(
        "`compressed` with other names",
        file_of(renamed(squeezed(renamed(usual(), ZED), ZED[COLOR], "/compressed", "png", coded(".png")), {})),
    ),
    OddBag(
        "`compressed`, one image damaged",
        file_of(squeezed(usual(), COLOR, "/compressed", "rgb8; png compressed bgr8", half_jpeg)),
    ),
    OddBag(
        "`compressedDepth`: PNG",
        file_of(squeezed(usual(), DEPTH, "/compressedDepth", f"{MM} png", depth_png)),
    ),
    OddBag(
        "`compressedDepth`: RVL",
        file_of(squeezed(usual(), DEPTH, "/compressedDepth", f"{MM} rvl", depth_rvl)),
    ),
    OddBag(
        "`compressedDepth`: PNG of `32FC1`",
        file_of(squeezed(usual(), DEPTH, "/compressedDepth", "32FC1; compressedDepth png", depth_inverse)),
    ),
    OddBag(
        "`compressed` in a codec that is not known",
        file_of(squeezed(usual(), COLOR, "/compressed", "rgb8; avif compressed", lambda _: b"\0\0\0\x1cftypavif")),
    ),
)

LACKING_BAGS = (
    OddBag("no `/tf_static`", file_of(without(usual(), "tf_static"))),
    OddBag("no `/tf_static`, pose given", file_of(without(usual(), "tf_static")), extrinsics=POSE),
    OddBag("no camera info", file_of(without(usual(), INFO))),
    OddBag("no camera info, lens given", file_of(without(usual(), INFO)), intrinsics="30,30,15.5,11.5"),
    OddBag("no depth", file_of(without(usual(), DEPTH))),
    OddBag("no colour", file_of(without(usual(), COLOR))),
    OddBag("no joint states", file_of(without(usual(), JOINTS))),
    OddBag("only joint states", file_of([one for one in usual() if one[1] == JOINTS])),
    OddBag(
        "camera info once, at the beginning", file_of([one for one in usual() if one[1] != INFO or one[0] == START])
    ),
    OddBag(
        "depth that is not aligned (another size)",
        file_of(
            changed(
                usual(),
                DEPTH,
                lambda m: Image(
                    header=m.header, height=H // 2, width=W, encoding="16UC1", step=2 * W, data=bytes(m.data)[: H * W]
                ),
            )
        ),
    ),
)

TIME_BAGS = (
    OddBag("a frame that has no transform", file_of(framed("cam0_optical"))),
    OddBag("a frame that has no transform, pose given", file_of(framed("cam0_optical")), extrinsics=POSE),
    OddBag("no frame in the camera info", file_of(framed("", INFO))),
    OddBag("no frame at all", file_of(framed(""))),
    OddBag("stamps of images are 0", file_of(another_camera(lambda ns: 0))),
    OddBag("stamps by a clock 2 min behind", file_of(another_camera(lambda ns: ns - 120 * S))),
    OddBag("stamps in simulated time", file_of(later(JOINTS, simulated, another_camera(simulated)))),
    OddBag("stamps that jump back 1 min in the middle", file_of(another_camera(jumps_back))),
    OddBag("the arm's clock 1 h ahead", file_of(later(JOINTS, lambda ns: ns + 3600 * S))),
    OddBag("depth 50 ms after colour", file_of(later(DEPTH, lambda ns: ns + 50_000_000))),
)

OTHER_BAGS = (
    OddBag("an MCAP without messages", file_of([])),
    OddBag("a file of 0 bytes", text_file("my_bag.mcap", b"")),
    OddBag("text with the name of a bag", text_file("my_bag.db3", b"No bag at all, but some text.")),
    OddBag("a bag of ROS 1", text_file("my_bag.bag", b"#ROSBAG V2.0\n")),
    OddBag("an MCAP of ROS 1", file_of(usual(), profile="ros1")),
    OddBag("an MCAP of other software", file_of([STRANGE[2]], profile="")),
    OddBag("`metadata.yaml` without its file", lost_file),
    OddBag("a folder of bags", folder_of_bags),
    OddBag("an empty folder", lambda folder: folder),
    OddBag("nothing", lambda folder: folder / "nowhere.mcap"),
)

SECTIONS = {
    "Files": FILE_BAGS,
    "Topics": TOPIC_BAGS,
    "Images": IMAGE_BAGS,
    "What is missing": LACKING_BAGS,
    "Frames and time": TIME_BAGS,
    "No bag": OTHER_BAGS,
}
BAGS = tuple(odd for bags in SECTIONS.values() for odd in bags)
"""All of them; their names are different."""


def opened(odd: OddBag, folder: Path) -> tuple[list[RecordedFrame], list[str]]:
    """The frames of a bag and the notes about it; or no frame and the error. ``BAG`` stands for its path."""
    path = odd.make(folder)
    try:
        place = place_of(odd.extrinsics) if odd.extrinsics else None
        frames = BagRecording(path, TOPICS, RobotConfig(), hints=bag_hints(odd.remap, place, odd.intrinsics))
        return list(frames), [_short(note, path) for note in frames.notes]
    except ConfigError as error:
        return [], [_short(str(error), path)]


def _short(text: str, path: Path) -> str:
    return (
        re.sub(re.escape(str(path)), "BAG", text)
        .replace(str(path.parent), "FOLDER")
        .replace(str(path.with_suffix("")), "BAG")
    )


def line(odd: OddBag, frames: list[RecordedFrame], said: list[str]) -> str:
    """A line of the table."""
    given = [f"`--remap {pair}`" for pair in odd.remap]
    given += [f"`--extrinsics {odd.extrinsics}`"] * bool(odd.extrinsics) + [f"`--intrinsics {odd.intrinsics}`"] * bool(
        odd.intrinsics
    )
    states = sum(frame.robot is not None for frame in frames)
    read = f"{len(frames)} frames, {states} arm states" if frames else "nothing"
    words = " ".join(text if text.endswith(".") else f"{text}." for text in said) or "-"
    return f"| {'; '.join([odd.name, *given])} | {read} | {words.replace('|', chr(92) + '|')} |"


def table() -> str:
    """The tables for the page."""
    text = ""
    for section, bags in SECTIONS.items():
        text += f"\n### {section}\n\n{HEAD}"
        for odd in bags:
            with tempfile.TemporaryDirectory() as folder:
                text += line(odd, *opened(odd, Path(folder))) + "\n"
    return text


if __name__ == "__main__":
    DOC.write_text(DOC.read_text().split(MARK)[0] + MARK + table())
