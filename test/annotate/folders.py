"""Folders of small videos for the annotation tool's tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
from data.st_human.videos import info

from stvla_ros.data.st_human.info_json import write_info

FRAMES = (0, 1, 69)
"""Frames that have images; the videos have 70."""


def make_videos(folder: Path, number: int = 2) -> Path:
    """Results of a pipeline: two actions each."""
    colour = np.full((480, 640, 3), 90, np.uint8)
    depth = np.full((480, 640), 800, np.uint16)
    depth[:, 320:] = 40_000  # needs all 16 bits
    for n in range(number):
        video = folder / f"v{n:04d}"
        write_info_of(video, n)
        for frame in FRAMES if n == 0 else ():
            for name, image in ((f"rgb/{frame:06d}.jpg", colour), (f"depth/{frame:06d}.png", depth)):
                (video / name).parent.mkdir(exist_ok=True)
                assert cv2.imwrite(str(video / name), image)
    return folder


def write_info_of(folder: Path, number: int) -> None:
    folder.mkdir(parents=True)
    write_info(folder / "info.json", info(f"v{number:04d}", f"cup_{number}"))


def changed(document: dict[str, Any], **fields: Any) -> dict[str, Any]:
    """An annotation with other fields of its first action."""
    first, *rest = document["actions"]
    return {**document, "actions": [{**first, **fields}, *rest]}
