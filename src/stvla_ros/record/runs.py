"""The folder of recordings: one folder per run with ``run.json`` and a bag, and the room that they may take."""

from __future__ import annotations

import json
import shutil
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stvla_ros.config import ConfigError
from stvla_ros.files import read_json, written

RUN, BAG = "run.json", "bag"
FORMAT = "stvla run 1"
GB = 1e9


@dataclass(frozen=True)
class Run:
    """One recording.

    Attributes:
        folder: With ``run.json`` and ``bag/``.
        started: Local time, ISO 8601.
        instruction: The operator's words; empty if no goal was recorded.
        outcome: Name of the outcome's code; empty: none, or the recorder did not live to see it.
        sentence: For the operator.
        seconds: Length of the bag.
        size: Bytes on disk.
        complete: The recorder ended it; otherwise it is being written, or its recorder was killed.
    """

    folder: Path
    started: str
    instruction: str
    outcome: str
    sentence: str
    seconds: float
    size: int
    complete: bool


def write_run(folder: Path, values: Mapping[str, Any]) -> None:
    """Write ``run.json``. Raises ConfigError when there is no room for it."""
    with written(folder / RUN) as part:
        part.write_text(json.dumps({"format": FORMAT, **values}, indent=2, ensure_ascii=False) + "\n")


def read_runs(root: Path) -> list[Run]:
    """All recordings in a folder, oldest first. What others keep there is left out."""
    found = (_read(file) for file in root.glob(f"*/{RUN}"))
    return sorted((run for run in found if run is not None), key=lambda run: (run.started, run.folder.name))


def _read(file: Path) -> Run | None:
    try:
        values = read_json(file)
    except ConfigError:  # deleted meanwhile, or of somebody else
        return None
    if not isinstance(values, dict) or values.get("format") != FORMAT:
        return None
    return Run(
        file.parent,
        str(values.get("started", "")),
        str(values.get("instruction", "")),
        str(values.get("outcome", "")),
        str(values.get("sentence", "")),
        float(values.get("seconds", 0.0)),
        folder_size(file.parent),
        bool(values.get("complete")),
    )


def folder_size(folder: Path) -> int:
    """Bytes of all files in a folder; those that vanish meanwhile do not count."""
    size = 0
    for file in folder.rglob("*"):
        try:
            found = file.lstat()
        except OSError:
            continue
        size += found.st_size if stat.S_ISREG(found.st_mode) else 0
    return size


def make_room(root: Path, current: Path | None, quota: float) -> tuple[list[Path], int]:
    """Delete the oldest recordings until the others take at most ``quota`` bytes.

    Args:
        root: Folder of recordings.
        current: The one being written, which is neither deleted nor counted.
        quota: In bytes.

    Returns:
        Folders that were deleted, and the bytes that the others take.
    """
    others, deleted = [run for run in read_runs(root) if run.folder != current], []
    total = sum(run.size for run in others)
    while total > quota and others:
        oldest = others.pop(0)
        shutil.rmtree(oldest.folder, ignore_errors=True)
        total -= oldest.size
        deleted.append(oldest.folder)
    return deleted, total
