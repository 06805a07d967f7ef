"""Finds videos below a folder and opens each by its layout."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from stvla_ros.data.recording import BAG_FILES, INDEX, Recording
from stvla_ros.data.st_human.process.folder import CAMERA, VideoError
from stvla_ros.data.st_human.readers.films import is_hoi4d, is_taco, open_hoi4d, open_taco
from stvla_ros.data.st_human.readers.images import (
    FolderHints,
    is_dex_ycb,
    is_folder,
    is_h2o,
    open_dex_ycb,
    open_folder,
    open_h2o,
)
from stvla_ros.data.st_human.readers.source import VideoSource, recorded

LOOKED_FOR = {
    "own folder": "camera.json, rgb/000000.png, depth/000000.png",
    "recording": "recording.json",
    "rosbag2": "metadata.yaml or a .mcap or .db3 file",
    "DexYCB": "color_*.jpg, with meta.yml in the folder above",
    "H2O": "cam_intrinsics.txt, rgb, depth",
    "HOI4D": "align_rgb, align_depth",
    "TACO": "Egocentric_RGB_Videos/(action, tool, object)/<sequence>/color.mp4",
    "other folder": "color, colour or rgb and depth, or *color.* and *depth.png; with camera.json, camera_intrinsic.json, "
    "intrinsic.json, intrinsics.json or --intrinsics",
}
"""Layout -> what tells it, for people."""

OWN = "own folder"


def _no_bags(path: Path) -> VideoSource:
    raise VideoError(f"{path}: wanted a video, found a bag, which only a command can open.")


@dataclass(frozen=True)
class Readers:
    """All readers, with what people say about their videos. Workers get it pickled.

    Attributes:
        folder: About folders of no known data set.
        open_bag: Opens a rosbag2: that needs the messages of ROS.
    """

    folder: FolderHints = field(default_factory=FolderHints)
    open_bag: Callable[[Path], VideoSource] = _no_bags

    def layout(self, path: Path) -> str | None:
        """One of :data:`LOOKED_FOR`; None if a path is no video."""
        if not path.is_dir():
            return "rosbag2" if path.is_file() and _is_bag_file(path) else None
        given = self.folder.any and is_folder(path, self.folder)
        tests: dict[str, Callable[[Path], bool]] = {
            "recording": lambda p: (p / INDEX).is_file(),
            "rosbag2": lambda p: any(_is_bag_file(place) for place in p.iterdir() if place.is_file()),
            "DexYCB": is_dex_ycb,
            "H2O": is_h2o,
            "HOI4D": is_hoi4d,
            "TACO": is_taco,
            OWN: lambda p: not given and (p / CAMERA).is_file() and not (p / "color").is_dir(),
            "other folder": lambda p: is_folder(p, self.folder),
        }
        return next((name for name, fits in tests.items() if fits(path)), None)

    def find(self, top: Path, output: Path | None = None) -> list[Path]:
        """The video that a path is, or all below it, sorted; nothing below ``output`` is one.

        Raises:
            VideoError: There is none; the message lists what was looked for.
        """
        if self.layout(top) is not None:
            return [top]
        found: list[Path] = []
        skipped = None if output is None else output.resolve()
        for here, folders, _ in os.walk(top):
            place = Path(here)
            if place != top and (place.resolve() == skipped or place.name.startswith(".")):
                folders.clear()
            elif place != top and self.layout(place) is not None:
                found.append(place)
                folders.clear()
        if not found:
            wanted = "; ".join(f"{name} ({files})" for name, files in LOOKED_FOR.items())
            raise VideoError(f"{top}: wanted an RGB-D video or a folder of them, found none. Looked for: {wanted}.")
        return sorted(found)

    def open(self, path: Path) -> VideoSource | None:
        """Open a video and check what can be checked without its images; None: it is one of our own folders.

        Raises:
            VideoError: It is no video, or a file is missing or wrong.
        """
        layout = self.layout(path)
        if layout == OWN:
            return None
        openers: dict[str | None, Callable[[Path], VideoSource]] = {
            "recording": _recording,
            "rosbag2": self.open_bag,
            "DexYCB": open_dex_ycb,
            "H2O": open_h2o,
            "HOI4D": open_hoi4d,
            "TACO": open_taco,
            "other folder": lambda p: open_folder(p, self.folder),
        }
        if layout not in openers:
            raise VideoError(f"{path}: wanted an RGB-D video, found none.")
        return openers[layout](path)


def _is_bag_file(path: Path) -> bool:
    return path.name == "metadata.yaml" or path.suffix.lower() in BAG_FILES


def _recording(path: Path) -> VideoSource:
    recording = Recording(path)
    return recorded(path, recording, words=recording.instruction)
