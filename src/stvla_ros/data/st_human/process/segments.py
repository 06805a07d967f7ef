"""When a hand is in view: the actions of a video whose hand leaves between them, and the hand-free images around each."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

from stvla_ros.data.st_human.process.folder import HumanVideo, VideoError
from stvla_ros.data.st_human.process.hand_networks import JOINTS
from stvla_ros.data.st_human.process.hands import HandBackend, in_front
from stvla_ros.geometry.paths import runs
from stvla_ros.types import F32, F64, Bool

FREE = 5
"""Hand-free frames whose median is the background, at most."""

GAP, LEAST = 3, 8
"""Frames: a hand that is lost for fewer is still there, and one that is seen for fewer is none."""


@dataclass(frozen=True)
class Segment:
    """A hand in view, with hand-free frames before and after.

    Attributes:
        start: First frame with the hand.
        end: Last frame with it.
        before: Hand-free frames before it, the last one nearest.
        after: Hand-free frames after it.
    """

    start: int
    end: int
    before: tuple[int, ...]
    after: tuple[int, ...]


def median_depth(video: HumanVideo, frames: tuple[int, ...]) -> F32:
    """(H, W) median depth [m] of frames without a hand, NaN where none has any."""
    return _median([video.depth_m(frame) for frame in frames])


def _median(images: list[F32]) -> F32:
    """The median of what is known, without a warning where nothing is."""
    stack = np.sort(np.stack(images), axis=0)  # NaN last
    known = np.isfinite(stack).sum(axis=0)
    middle = np.maximum(known - 1, 0) // 2
    return np.asarray(np.take_along_axis(stack, middle[None], axis=0)[0], np.float32)


@dataclass(frozen=True, eq=False)
class Hands:
    """The hand in each frame of a video.

    Attributes:
        seen: (N,) whether there is one.
        px: (N, 21, 2) its keypoints, NaN: not found.
        local_m: (N, 21, 3) them about the hand's middle, along the camera's axes.
        score: (N,) that they are a hand's; 0: not found.
        right: (N,) that it is a right one, NaN: not found.
    """

    seen: Bool
    px: F64
    local_m: F64
    score: F64
    right: F64

    @classmethod
    def none(cls, frames: int) -> Hands:
        """No hand in so many frames."""
        return cls(
            np.zeros(frames, bool), np.full((frames, JOINTS, 2), np.nan), np.full((frames, JOINTS, 3), np.nan),
            np.zeros(frames), np.full(frames, np.nan),
        )  # fmt: skip

    def right_hand(self, first: int, last: int) -> bool | None:
        """Whether frames ``first`` to ``last`` show a right hand: the networks' mean, as single frames flicker; None: unknown."""
        votes = self.right[first : last + 1]
        known = np.isfinite(votes)
        return bool(votes[known].mean() > 0.5) if known.any() else None

    def without_keypoints(self, segment: Segment) -> list[tuple[int, int]]:
        """First and last frames of the parts of a segment in which depth alone tells of the hand."""
        missing = self.score[segment.start : segment.end + 1] == 0.0
        return [(segment.start + a, segment.start + b - 1) for a, b in runs(missing)]


def find_hands(
    video: HumanVideo, hands: HandBackend, stride: int, on_frame: Callable[[int], None] = lambda _: None
) -> Hands:
    """The hand in each frame. The first frames must not show one.

    Args:
        video: The video.
        hands: Finds the hand.
        stride: Every so many pixels are looked at.
        on_frame: Gets the number of each frame that is done.

    Raises:
        VideoError: The first frames show a hand, or a frame cannot be read.
    """
    free: deque[F32] = deque(maxlen=FREE)
    first = [video.depth_m(frame)[::stride, ::stride] for frame in range(min(FREE, video.frames))]
    background = start = _median(first)
    out, gone = Hands.none(video.frames), 0
    for frame in range(video.frames):
        depth = video.depth_m(frame)[::stride, ::stride]
        hand = hands.find(depth, background)
        found = hands.keypoints(partial(video.rgb, frame), hand, float(video.camera.K[0, 0]))
        if found is not None:
            out.px[frame], out.local_m[frame], out.score[frame], out.right[frame] = (
                found.px, found.local_m, found.score, found.right,
            )  # fmt: skip
        if hand is not None:
            out.seen[frame] = True
            gone = 0
        else:
            gone += 1
            free.append(depth)
            if gone == FREE:  # the scene as the hand has left it
                background = _median(list(free))
        on_frame(frame)
    if not out.seen.all() and hands.find(start, background) is not None and _reaches_in(start, background):
        raise VideoError(
            f"{video.folder}: wanted a hand-free scene in the first {FREE} frames, found a hand in them: begin to record "
            "before the hand comes into view, or cut the beginning."
        )
    return out


def _reaches_in(start: F32, end: F32) -> bool:
    """Whether what was there at the start and not at the end touches the border widely, as an arm does."""
    mask = in_front(start, end)
    rim = np.concatenate([mask[0], mask[-1], mask[:, 0], mask[:, -1]])
    return bool(rim.mean() > 0.01)


def hand_spans(seen: Bool) -> list[tuple[int, int]]:
    """First and last frame of each stay of a hand in view, without short gaps and glimpses; ``seen`` is (T,)."""
    filled = seen.copy()
    for a, b in runs(~seen):
        if a > 0 and b < len(seen) and b - a < GAP:
            filled[a:b] = True
    return [(a, b - 1) for a, b in runs(filled) if b - a >= LEAST]


def find_segments(seen: Bool) -> tuple[list[Segment], list[str]]:
    """The segments, and one sentence for each that lacks a hand-free frame before or after it."""
    spans = hand_spans(seen)
    segments, notes = [], []
    for k, (start, end) in enumerate(spans):
        earliest = spans[k - 1][1] + 1 if k else 0
        latest = spans[k + 1][0] if k + 1 < len(spans) else len(seen)
        before = tuple(t for t in range(max(earliest, start - FREE - 1), start - 1) if not seen[t])
        after = tuple(t for t in range(end + 2, min(latest, end + 2 + FREE)) if not seen[t])
        if before and after:
            segments.append(Segment(start, end, before, after))
        else:
            side = "after" if before else "before"
            notes.append(f"Frames {start} to {end}: no hand-free frame {side} them, so this is no complete action.")
    return segments, notes
