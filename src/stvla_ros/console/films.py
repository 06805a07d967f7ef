"""Films of past runs: the frame that somebody looks at is decoded, and no other is kept.

At normal priority: a thread of lower priority holds Python's lock while it waits for a core, and a stop would wait with it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import av
import numpy as np

from stvla_ros.config import ConfigError
from stvla_ros.files import said
from stvla_ros.types import U8

FILM_PX = 768
"""Wider films are shown smaller."""

MOST_PX = 4096 * 4096
"""Of a frame. What claims to be larger is no film of a run, and is not decoded."""

JUMP_S = 3.0
"""A moment this little ahead is reached by decoding, others from the keyframe before them."""

PERIOD_S = 0.2
"""A film that plays shows a frame at most so often."""


class Film:
    """A film on the disk. One thread uses it.

    Args:
        file: MP4.

    Raises:
        ConfigError: It is missing or damaged.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._now: av.VideoFrame | None = None
        self._next: av.VideoFrame | None = None
        try:
            self._container = av.open(str(file), format="mp4")  # of itself it would follow a playlist to other files
        except (av.FFmpegError, OSError, ValueError) as error:
            raise self._damaged(error) from error
        try:
            self._stream = self._container.streams.video[0]
            width, height = self._stream.width, self._stream.height
            if not 0 < width * height <= MOST_PX:
                raise ValueError(f"{width} x {height} pixels")
            share = min(FILM_PX / width, 1.0)
            self._size = round(width * share), max(round(height * share), 1)
            self._base_s = float(self._stream.time_base or 1)
            self.seconds = (self._stream.duration or 0) * self._base_s
            """How long it takes."""
            self._stream.thread_count = 1  # the stack needs the other cores
            self._seek(0.0)
        except (av.FFmpegError, OSError, ValueError, IndexError) as error:
            self.close()
            raise self._damaged(error) from error

    def _damaged(self, error: Exception) -> ConfigError:
        return ConfigError(f"{self._file}: the film cannot be shown ({said(error)}).")

    def _seek(self, t_s: float) -> None:
        self._container.seek(int(t_s / self._base_s), stream=self._stream)
        self._frames: Iterator[av.VideoFrame] = self._container.decode(self._stream)
        self._now, self._next = None, next(self._frames, None)

    def at(self, t_s: float) -> U8:
        """(H, W, 3) what the film shows at a time [s]: its last frame after its end, its first before its beginning.

        Raises:
            ConfigError: It is damaged there.
        """
        try:
            if self._now is None or not _time_s(self._now) <= t_s <= _time_s(self._now) + JUMP_S:
                self._seek(min(max(t_s, 0.0), self.seconds))
            while self._next is not None and (self._now is None or _time_s(self._next) <= t_s):
                self._now, self._next = self._next, next(self._frames, None)
            if self._now is None:
                raise ValueError("there is no frame")
            width, height = self._size
            return np.asarray(self._now.to_ndarray(format="rgb24", width=width, height=height), np.uint8)
        except (av.FFmpegError, OSError, ValueError) as error:
            self._now = None
            raise self._damaged(error) from error

    def close(self) -> None:
        """Close the file."""
        self._container.close()


def _time_s(frame: av.VideoFrame) -> float:
    return frame.time or 0.0


class Player:
    """Shows a film to one person, in a thread that closes it.

    Args:
        film: Not used by anybody else.
        show: Gets frames and their times [s], in that thread.
        tell: Gets the sentence when the film is damaged; it plays no more.
        clock: Seconds, monotonic.
    """

    def __init__(
        self,
        film: Film,
        show: Callable[[U8, float], None],
        tell: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._film, self._show, self._tell, self._clock = film, show, tell, clock
        self._changed = threading.Condition()
        self._wanted: float | None = 0.0
        self._begun: float | None = None  # the clock's time at which the film began, or would have
        self._at_s, self._ending = 0.0, False
        self._thread = threading.Thread(target=self._work, name="film", daemon=True)
        self._thread.start()

    def seek(self, t_s: float) -> None:
        """Show a moment, and pause there. Of many, the newest is shown."""
        with self._changed:
            self._wanted, self._begun = t_s, None
            self._changed.notify()

    def toggle(self) -> None:
        """Pause; or go on, from the beginning at the end."""
        with self._changed:
            if self._begun is not None:
                self._begun = None
            else:
                self._begun = self._clock() - (self._at_s if self._at_s < self._film.seconds else 0.0)
            self._changed.notify()

    def _work(self) -> None:
        while (t_s := self._next_s()) is not None:
            try:
                picture = self._film.at(t_s)
            except ConfigError as error:
                self._begun = None
                self._tell(str(error))
            else:
                self._show(picture, t_s)
        self._film.close()

    def _next_s(self) -> float | None:
        """Wait until a moment is to be shown; None: no more."""
        with self._changed:
            if self._begun is not None:
                self._changed.wait_for(lambda: self._ending or self._begun is None, PERIOD_S)
            self._changed.wait_for(lambda: self._ending or self._wanted is not None or self._begun is not None)
            if self._ending:
                return None
            if self._wanted is not None:
                self._at_s, self._wanted = self._wanted, None
            elif self._begun is not None:
                self._at_s = min(self._clock() - self._begun, self._film.seconds)
                if self._at_s >= self._film.seconds:
                    self._begun = None
            return self._at_s

    def close(self, timeout_s: float) -> None:
        """End the thread."""
        with self._changed:
            self._ending = True
            self._changed.notify()
        if threading.current_thread() is not self._thread:
            self._thread.join(timeout_s)
