"""What has not changed since it was looked at: instances of a still scene are not found anew in every frame.

No two noisy images of a still scene are alike in any pixel, but the means of small blocks are: their colours within a
few percent, their inverse depths within what a stereo camera is off by (its disparity has the same noise at every
distance). A block that differs by more is looked at again, and so is one that the arm no longer hides. What was seen
before the arm hid it counts as unchanged until it is seen again.

One noisy frame may be wrong. So a block is settled only when two looks in a row found the same, or after
:data:`MOST_LOOKS`; and everything is looked at again from time to time.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from stvla_ros.tabletop.support_plane import SupportPlane
from stvla_ros.types import F32, I32, Bool, Camera

BLOCK_PX = 8
"""Edge of a block."""

MAX_COLOUR = 0.06
"""A block has changed if its mean colour feature is off by more, after what all blocks share (exposure) is taken off.
In noisy images of still scenes 99.9 % are within 0.04; things of different colours differ by 0.26."""

MAX_INVERSE_1M, MAX_OF_SPREAD = 0.008, 0.6
"""A block has changed if its mean inverse depth, 1/m, is off by more than this (8 mm at 1 m), and by more than this share
of its deviation: at an edge, which side a pixel shows differs from frame to frame."""

MIN_KNOWN, MAX_FLIPPED = 0.25, 0.6
"""Depths are compared where both frames have so many of a block's; a block has changed if more of its pixels have lost
or gained their depth."""

MIN_LOOKS, MOST_LOOKS = 2, 5
"""Looks after which a block is settled: if the last two agree; and in any case."""

RENEW_NS = 3_000_000_000
"""Everything is looked at again so long after it was last."""

SAME_IOU, MAX_OTHER = 0.8, 0.2
"""Two looks found the same thing if its masks overlap so far; they disagree on a block if more of its pixels belong to
things that only one of them found."""

ARM_PX = 2
"""So near to the arm, pixels mix it with what is behind."""


@dataclass(frozen=True, eq=False)
class Still:
    """What is known of a frame before it is looked at.

    Attributes:
        labels: (h, w) int32, 1..n: instances that have not changed; 0: elsewhere.
        open: (h, w) pixels to look at: blocks that changed or are not settled, and what was found there before.
    """

    labels: I32
    open: Bool

    def reopened(self, regions: I32) -> I32:
        """The regions (h, w) that lie in open pixels, without settled instances; labels as they are, 0 elsewhere.

        Beside a settled instance only open pixels count: along its outline, others are its own noise.
        """
        near = cv2.dilate((self.labels > 0).view(np.uint8), np.ones((5, 5), np.uint8)) > 0
        regions = np.where(near & ~self.open | (self.labels > 0), 0, regions)
        return self.only_open(regions)

    def only_open(self, labels: I32) -> I32:
        """Labels (h, w) of which no pixel is open become 0."""
        touched = np.bincount(labels[self.open & (labels > 0)], minlength=int(labels.max(initial=0)) + 1) > 0
        return np.where(touched.take(np.maximum(labels, 0)), labels, 0)

    def with_settled(self, labels: I32) -> I32:
        """Labels 1..m (h, w) of what was found in open pixels, and after them the settled instances."""
        found = np.where(self.labels > 0, 0, self.only_open(labels))
        names = np.zeros(int(found.max(initial=0)) + 1, dtype=np.int32)
        present = np.flatnonzero(np.bincount(found.ravel(), minlength=1)[1:]) + 1
        names[present] = np.arange(1, len(present) + 1)
        return np.where(self.labels > 0, self.labels + np.int32(len(present)), names.take(found)).astype(np.int32)


class SceneMemory:
    """Remembers what the last frames of one camera showed. :meth:`forget` when a new scene or a new plan begins.

    It forgets by itself when the camera has moved, the size of the images changes, or a frame is older than the last.
    """

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Forget all frames."""
        self._camera: Camera | None = None
        self._labels: I32
        self._blocks: _Blocks
        self._looks: npt.NDArray[np.uint8]
        self._agreed: Bool
        self._stamp_ns = self._renewed_ns = 0
        self.table: SupportPlane
        """The support plane and ..."""
        self.notes: tuple[str, ...] = ()
        """... the notes of the last look."""

    def still(self, camera: Camera, stamp_ns: int, colours: F32, depth_m: F32, arm: Bool) -> Still | None:
        """What need not be looked at again; None if nothing is remembered.

        Args:
            camera: Of these pixels.
            stamp_ns: Of the frame.
            colours: (h, w, 4) features of the colours.
            depth_m: (h, w) depth, NaN where unknown.
            arm: (h, w) pixels of the robot and what it holds.
        """
        self._now, self._hidden = _Blocks.of(colours, depth_m), _blocks_with(arm, ARM_PX)
        if self._camera is None or stamp_ns < self._stamp_ns or not _same(self._camera, camera):
            self.forget()
            self._camera, self._renewed_ns = camera, stamp_ns
            self._blocks, self._labels = self._now, np.zeros(depth_m.shape, dtype=np.int32)
            self._looks, self._agreed = np.zeros(self._hidden.shape, np.uint8), np.zeros(self._hidden.shape, bool)
        elif stamp_ns - self._renewed_ns > RENEW_NS:
            self._looks[:], self._renewed_ns = 0, stamp_ns
        self._stamp_ns = stamp_ns
        self._looks[self._blocks.changed(self._now, ~self._hidden) & ~self._hidden] = 0
        settled = self._settled()
        self._open = ~settled & ~self._hidden
        if not settled.any():
            return None
        opened = _spread(self._open, depth_m.shape)
        again = np.zeros(int(self._labels.max(initial=0)) + 1, dtype=bool)
        again[np.unique(self._labels[opened])] = True
        again[0] = False
        reopened = again.take(self._labels)
        return Still(_renumbered(np.where(reopened | arm, 0, self._labels)), (opened | reopened) & ~arm)

    def remember(
        self, labels: I32, arm: Bool, still: Still | None, table: SupportPlane, notes: tuple[str, ...]
    ) -> None:
        """Remember a look.

        Args:
            labels: (h, w) all instances, 1..n, settled or found; 0 elsewhere.
            arm: (h, w) as given to :meth:`still`.
            still: What it gave.
            table: The support plane.
            notes: Of the look.
        """
        looked = self._open if still is None else self._open | (_blocks_with(still.open, 0) & ~self._hidden)
        before, now = (np.where(arm, 0, image) for image in (self._labels, labels))
        self._agreed = np.where(looked, _share(_differ(before, now)) <= MAX_OTHER, self._agreed)
        self._looks[looked] = np.minimum(self._looks[looked] + 1, MOST_LOOKS)
        self._blocks = self._blocks.replaced(self._now, self._open)
        behind = _behind(self._labels, labels, arm)
        lost = _blocks_with(arm & (self._labels > 0) & (behind == 0), 0) | ~self._settled()
        self._looks[self._hidden & lost] = 0
        self._labels = np.where(arm, behind, labels)
        self.table, self.notes = table, notes

    def _settled(self) -> Bool:
        return np.asarray((self._looks >= MOST_LOOKS) | (self._agreed & (self._looks >= MIN_LOOKS)))


@dataclass(frozen=True, eq=False)
class _Blocks:
    """Means over blocks.

    Attributes:
        colour: (rows, columns, 4) features of the colours.
        known: (rows, columns) share of the pixels with depth.
        inverse: (rows, columns) inverse depth of these, 1/m.
        spread: (rows, columns) its standard deviation over a block and the eight around it.
    """

    colour: F32
    known: F32
    inverse: F32
    spread: F32

    @classmethod
    def of(cls, colours: F32, depth_m: F32) -> _Blocks:
        valid = np.isfinite(depth_m)
        inverse = np.where(valid, 1 / np.where(valid, depth_m, np.float32(1)), np.float32(0))
        known, total, square = (_mean(image) for image in (valid.astype(np.float32), inverse, inverse * inverse))
        around, mean, squares = (cv2.blur(image, (3, 3)) for image in (known, total, square))
        count = np.maximum(around, np.float32(1e-6))
        variance = squares / count - (mean / count) ** 2
        spread = np.asarray(np.sqrt(np.maximum(variance, 0)), dtype=np.float32)
        inverse = np.asarray(total / np.maximum(known, np.float32(1e-6)), dtype=np.float32)
        return cls(_mean(colours), known, inverse, spread)

    def changed(self, now: _Blocks, seen: Bool) -> Bool:
        """(rows, columns) blocks that differ; what all ``seen`` ones share in colour is taken off."""
        off = now.colour - self.colour
        shared = np.median(off[seen], axis=0) if seen.any() else np.float32(0)
        colour = np.linalg.norm(off - shared, axis=2) > MAX_COLOUR
        both = (self.known > MIN_KNOWN) & (now.known > MIN_KNOWN)
        depth = np.abs(now.inverse - self.inverse) > np.maximum(MAX_INVERSE_1M, MAX_OF_SPREAD * self.spread)
        return np.asarray(colour | (both & depth) | (np.abs(now.known - self.known) > MAX_FLIPPED))

    def replaced(self, now: _Blocks, where: Bool) -> _Blocks:
        """Those of ``now`` in some blocks (rows, columns)."""
        pairs = ((self.colour, now.colour), (self.known, now.known), (self.inverse, now.inverse))
        colour, known, inverse = (np.where(where if a.ndim == 2 else where[..., None], b, a) for a, b in pairs)
        return _Blocks(colour, known, inverse, np.where(where, now.spread, self.spread))


def _mean(image: F32) -> F32:
    """Mean over each block; of blocks that the image cuts, over what is in it."""
    down, right = (-n % BLOCK_PX for n in image.shape[:2])
    if down or right:
        image = np.asarray(cv2.copyMakeBorder(image, 0, down, 0, right, cv2.BORDER_REPLICATE), dtype=np.float32)
    size = image.shape[1] // BLOCK_PX, image.shape[0] // BLOCK_PX
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), dtype=np.float32)


def _share(mask: Bool) -> F32:
    return _mean(mask.astype(np.float32))


def _blocks_with(mask: Bool, margin_px: int) -> Bool:
    """(rows, columns) blocks with pixels of a mask, or so near to one."""
    wide = cv2.dilate(mask.view(np.uint8), np.ones((2 * margin_px + 1,) * 2, np.uint8)).view(bool)
    return np.asarray(_share(wide) > 0)


def _spread(blocks: Bool, shape: tuple[int, ...]) -> Bool:
    """(h, w) the pixels of some blocks."""
    return blocks.repeat(BLOCK_PX, axis=0)[: shape[0]].repeat(BLOCK_PX, axis=1)[:, : shape[1]]


def _renumbered(labels: I32) -> I32:
    present = np.flatnonzero(np.bincount(labels.ravel(), minlength=1)[1:]) + 1
    names = np.zeros(int(labels.max(initial=0)) + 1, dtype=np.int32)
    names[present] = np.arange(1, len(present) + 1)
    return np.asarray(names.take(labels))


def _differ(a: I32, b: I32) -> Bool:
    """(h, w) pixels of things that only one of two looks found."""
    na, nb = int(a.max(initial=0)) + 1, int(b.max(initial=0)) + 1
    shared = np.bincount((a * nb + b).ravel(), minlength=na * nb).reshape(na, nb)
    union = shared.sum(axis=1, keepdims=True) + shared.sum(axis=0, keepdims=True) - shared
    same = shared > SAME_IOU * union
    same[0], same[:, 0] = False, False
    lost, fresh = ~same.any(axis=1), ~same.any(axis=0)
    lost[0] = fresh[0] = False
    return np.asarray(lost.take(a) | fresh.take(b))


def _behind(before: I32, labels: I32, arm: Bool) -> I32:
    """(h, w) instances behind the arm: those seen there before, under the label that they have beside the arm, or a new
    one if they are hidden altogether. 0 where that is another thing now."""
    na, nb = int(before.max(initial=0)) + 1, int(labels.max(initial=0)) + 1
    beside = np.flatnonzero(~arm)
    shared = np.bincount(before.take(beside) * nb + labels.take(beside), minlength=na * nb).reshape(na, nb)
    seen, name = shared.sum(axis=1), shared.argmax(axis=1)
    name[shared[np.arange(na), name] <= SAME_IOU * seen] = 0
    hidden = np.flatnonzero(seen == 0)
    name[hidden] = np.arange(nb, nb + len(hidden))
    name[0] = 0
    return np.where(arm, name.astype(np.int32).take(before), np.int32(0))


def _same(a: Camera, b: Camera) -> bool:
    size = (a.width_px, a.height_px) == (b.width_px, b.height_px)
    return size and np.array_equal(a.K, b.K) and np.array_equal(a.T_base_camera, b.T_base_camera)
