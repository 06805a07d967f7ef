"""The last runs and recordings on disk. People choose from a list; no path comes from a client."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from stvla_ros.config import ConfigError
from stvla_ros.console.films import Film
from stvla_ros.files import read_json
from stvla_ros.types import U8

NEWEST = 20
STORYBOARD, STORYBOARD_PX, STORYBOARD_BYTES = "storyboard.png", (900, 1600), 50_000_000
"""A larger storyboard is shown smaller; a larger file is not read."""

FILM = "run.mp4"
REPORT, REPORT_BYTES = Path("replay") / "report.html", 6_000_000
"""Of a replay (``stvla replay``), in the run's folder; a larger one is not shown."""


@dataclass(frozen=True)
class PastRun:
    """One run.

    Attributes:
        folder: Its folder, found here.
        instruction: The operator's words; empty if none were recorded.
        outcome: Name of the outcome's code; empty: there is none.
        sentence: For the operator.
        seconds: How long it took; None: unknown.
        recorded: It has a recording, which can be replayed.
    """

    folder: Path
    instruction: str
    outcome: str
    sentence: str
    seconds: float | None
    recorded: bool

    @property
    def command(self) -> str:
        """What to type to see or do it again."""
        if self.recorded:
            return f"stvla replay {shlex.quote(str(self.folder))}"
        return f"stvla run {shlex.quote(self.instruction)}"

    @property
    def label(self) -> str:
        """What a list shows; unique, as it begins with the folder's name."""
        return f"{self.folder.name} {self.outcome or 'no outcome'}: {self.instruction[:60]}"


class Runs:
    """An index of a folder of runs (``stvla run``, ``stvla demo``) and recordings (``stvla record``).

    Args:
        root: The folder; it need not exist.
    """

    def __init__(self, root: Path) -> None:
        self._root = root

    def newest(self) -> dict[str, PastRun]:
        """The newest runs by their labels, newest first. Links and what is no run are left out."""
        try:
            folders = sorted((f for f in self._root.iterdir() if f.is_dir() and not f.is_symlink()), reverse=True)
        except OSError:
            return {}
        found: dict[str, PastRun] = {}
        for folder in folders:
            if (run := _read(folder)) is not None:
                found[run.label] = run
            if len(found) == NEWEST:
                break
        return found

    def storyboard(self, run: PastRun) -> U8 | None:
        """(H, W, 3) the run's pictures in rows; None if it has none."""
        file = run.folder / STORYBOARD
        try:
            if file.is_symlink() or file.stat().st_size > STORYBOARD_BYTES:
                return None
            bgr = cv2.imdecode(np.fromfile(file, np.uint8), cv2.IMREAD_COLOR)
        except (OSError, cv2.error):
            return None
        if bgr is None:
            return None
        height, width = bgr.shape[:2]
        share = min(STORYBOARD_PX[0] / width, STORYBOARD_PX[1] / height, 1.0)
        size = max(round(width * share), 1), max(round(height * share), 1)
        return np.ascontiguousarray(cv2.resize(bgr, size, interpolation=cv2.INTER_AREA)[:, :, ::-1])

    def report(self, run: PastRun) -> str | None:
        """The report of the run's newest replay, as a page of HTML; None if there is none to show."""
        file = run.folder / REPORT
        try:
            if file.is_symlink() or file.parent.is_symlink() or file.stat().st_size > REPORT_BYTES:
                return None
            return file.read_text("utf-8", errors="replace")
        except OSError:
            return None

    def film(self, run: PastRun) -> Film | None:
        """The run's film; None if it has none. Raises ConfigError when it is damaged."""
        file = run.folder / FILM
        return None if file.is_symlink() or not file.is_file() else Film(file)


def _read(folder: Path) -> PastRun | None:
    recording, summary = _values(folder / "run.json"), _values(folder / "summary.json")
    values = {**summary, **recording}
    if "instruction" not in values:
        return None
    words = str(values["instruction"])
    times = values.get("times_s")
    seconds = values.get("seconds", times.get("total") if isinstance(times, dict) else None)
    return PastRun(
        folder,
        words,
        str(values.get("outcome") or ""),
        str(values.get("sentence") or ""),
        float(seconds) if isinstance(seconds, int | float) else None,
        bool(recording),
    )


def _values(file: Path) -> Mapping[str, Any]:
    try:
        values = read_json(file)
    except ConfigError:  # there is none, or it is not ours
        return {}
    return values if isinstance(values, dict) else {}
