"""Film and storyboard of one run, from images and events as they come."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from stvla_ros.record import panels
from stvla_ros.record.video import VideoWriter
from stvla_ros.types import U8

MAX_ROWS = 12
"""Of a longer storyboard every second row is dropped, so that it stays readable."""

STORYBOARD_SCALE = 0.75
"""Of the film's size, so that a dozen rows stay below 2 MB."""


class Recorder:
    """Keeps the newest image per view, writes them to the film at each :meth:`tick`, and marked ones to the storyboard.

    Frames go to the encoder at once, so that memory does not grow with the length of the run.
    """

    def __init__(self, directory: Path, title: str) -> None:
        """Film and storyboard go to ``directory`` (which exists) as ``run.mp4`` and ``storyboard.png``."""
        self._storyboard, self._title = directory / "storyboard.png", title
        self._views: dict[str, U8 | None] = dict.fromkeys(panels.VIEWS)
        self._status = title
        self._mark: str | None = None
        self._rows: list[U8] = []
        height = panels.HEIGHT_PX + panels.STRIP_PX
        self._video = VideoWriter(directory / "run.mp4", panels.WIDTH_PX * len(panels.VIEWS), height)
        self._start_s: float | None = None

    def show(self, view: str, rgb: U8) -> None:
        """The newest image (H, W, 3) of one of ``panels.VIEWS``."""
        self._views[view] = panels.fit(rgb)

    def say(self, status: str) -> None:
        """Set the line above the film's next frames."""
        self._status = status

    def mark(self, caption: str) -> None:
        """The next frame becomes a row of the storyboard."""
        self._mark = caption

    def tick(self, t_s: float) -> None:
        """Write one frame of the film; ``t_s`` is from any clock that never goes back."""
        self._start_s = t_s if self._start_s is None else self._start_s
        elapsed_s = t_s - self._start_s
        self._video.write(panels.row(self._views, f"{elapsed_s:5.1f} s   {self._status}"), elapsed_s)
        if self._mark is not None:
            self._rows.append(panels.row(self._views, f"{len(self._rows) + 1}.  {elapsed_s:.1f} s   {self._mark}"))
            self._mark = None

    def finish(self, verdict: str, t_s: float) -> None:
        """The last frame and the files. Call it once."""
        self.say(verdict)
        self.mark(verdict)
        self.tick(t_s)
        self._video.write(panels.row(self._views, verdict), t_s - (self._start_s or 0.0) + 1.0)
        self._video.close()
        rows = self._rows
        while len(rows) > MAX_ROWS:
            rows = [*rows[:-1:2], rows[-1]]
        board = Image.fromarray(panels.sheet(self._title, rows))
        size = round(board.width * STORYBOARD_SCALE), round(board.height * STORYBOARD_SCALE)
        part = self._storyboard.with_suffix(".part")
        board.resize(size, Image.Resampling.LANCZOS).save(part, "PNG")
        part.replace(self._storyboard)


class Reporter:
    """Puts changes of phase into the film's status line, and the start of every motion into the storyboard."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder

    def report(self, phase: str, sub_instruction: str, step: int) -> None:
        """``step`` keyposes are done and ``phase`` begins."""
        self._recorder.say(f"{phase}   {sub_instruction}   {step} keyposes done")
        if phase == "moving":
            self._recorder.mark(f"keypose {step + 1}   {sub_instruction}")
