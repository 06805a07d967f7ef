"""Pairs colour and depth images of one exposure by their stamps.

Images with equal stamps belong together. Drivers without a synchroniser stamp the two a few milliseconds apart; then
the nearest ones belong together, within a tolerance. A pair is returned as soon as no nearer partner can arrive, so
that colour is never paired with the depth of another exposure. Since each stream is in order, this is certain once
the stream that is behind has passed the other's stamp, or earlier when its frames are known to come too slowly.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Generic, Literal, TypeAlias, TypeVar

from stvla_ros.ros.freshness import OutOfOrder

T = TypeVar("T")
Stream: TypeAlias = Literal["color", "depth"]

KEPT = 16
"""Messages of a stream that may wait for a partner: half a second at 30 Hz, for depth that takes long to compute."""

SPACINGS = 8
"""The frame time of a stream is the smallest of this many intervals."""


@dataclass
class _Waiting(Generic[T]):
    """The messages of one stream without a partner, by stamp, in order of arrival."""

    messages: dict[int, T] = field(default_factory=dict)
    newest_ns: int = 0
    paired_ns: int = 0
    out_of_order: OutOfOrder = field(default_factory=OutOfOrder)
    spacings_ns: deque[int] = field(default_factory=lambda: deque(maxlen=SPACINGS))

    def add(self, stamp_ns: int, message: T) -> int:
        """Add a message; returns how many messages are dropped for it."""
        if self.newest_ns and stamp_ns > self.newest_ns:
            self.spacings_ns.append(stamp_ns - self.newest_ns)
        self.newest_ns = max(self.newest_ns, stamp_ns)
        self.messages[stamp_ns] = message
        if len(self.messages) <= KEPT:
            return 0
        del self.messages[next(iter(self.messages))]
        return 1

    def nearest(self, stamp_ns: int) -> int:
        return min(self.messages, key=lambda own_ns: (abs(own_ns - stamp_ns), own_ns))

    def brings_nearer(self, behind_ns: int, ahead_ns: int) -> bool:
        """Whether a later message of this stream may be nearer to ``ahead_ns`` than the one at ``behind_ns``."""
        return self.newest_ns < ahead_ns and min(self.spacings_ns, default=0) < 2 * (ahead_ns - behind_ns)

    def take(self, stamp_ns: int) -> tuple[T, int]:
        """The message of a pair, and how many older ones are dropped."""
        message, older = self.messages.pop(stamp_ns), [own_ns for own_ns in self.messages if own_ns < stamp_ns]
        for own_ns in older:
            del self.messages[own_ns]
        self.paired_ns = stamp_ns
        return message, len(older)


class Pairing(Generic[T]):
    """Pairs the messages of two streams as they arrive. Each pair is newer than the last, unless the clock was set
    back.

    Args:
        within_ns: How far apart the stamps of a pair may be.
    """

    def __init__(self, within_ns: int) -> None:
        self._within_ns = within_ns
        self.dropped = 0
        """Messages that came too late for a pair, or whose partner never came."""
        self.begin_anew()

    def begin_anew(self) -> None:
        """Forget all messages, because a clock was set back."""
        self._streams: dict[Stream, _Waiting[T]] = {"color": _Waiting(), "depth": _Waiting()}

    @property
    def paired_ns(self) -> int:
        """Stamp of the last pair's colour image; 0 when there was none."""
        return self._streams["color"].paired_ns

    def waiting(self, stream: Stream) -> int:
        """Number of messages of a stream without a partner."""
        return len(self._streams[stream].messages)

    def gap_ns(self) -> int | None:
        """Smallest distance of the stamps of a colour and a depth image without partner; None without any."""
        color, depth = self._streams["color"], self._streams["depth"]
        if not depth.messages:
            return None
        return min((abs(depth.nearest(own_ns) - own_ns) for own_ns in color.messages), default=None)

    def add(self, stream: Stream, stamp_ns: int, message: T) -> list[tuple[T, T]]:
        """Take a message. Returns the pairs of colour and depth that are certain now, the oldest first."""
        own = self._streams[stream]
        if stamp_ns <= own.paired_ns:
            if stamp_ns == own.paired_ns or not own.out_of_order.clock_went_back():  # an equal one is a repeat
                self.dropped += 1
                return []
            self.begin_anew()
            own = self._streams[stream]
        own.out_of_order.reset()
        self.dropped += own.add(stamp_ns, message)
        return self._clear()

    def _clear(self) -> list[tuple[T, T]]:
        color, depth = self._streams["color"], self._streams["depth"]
        pairs = []
        for color_ns in sorted(color.messages):
            if not depth.messages:
                break
            depth_ns = depth.nearest(color_ns)
            if abs(depth_ns - color_ns) > self._within_ns or color.nearest(depth_ns) != color_ns:
                continue
            behind, (behind_ns, ahead_ns) = color if color_ns < depth_ns else depth, sorted((color_ns, depth_ns))
            if behind_ns != ahead_ns and behind.brings_nearer(behind_ns, ahead_ns):
                continue
            (c, given_up), (d, more) = color.take(color_ns), depth.take(depth_ns)
            self.dropped += given_up + more
            pairs.append((c, d))
        return pairs
