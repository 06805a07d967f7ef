"""What rises above the support plane and is no thing on it: bumps of bare table, chairs behind it, walls around it."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from stvla_ros.geometry.cameras import project
from stvla_ros.geometry.components import member_pixels, renumber
from stvla_ros.tabletop.hollow import ways
from stvla_ros.tabletop.support_plane import SupportPlane
from stvla_ros.tabletop.table_colours import large_parts
from stvla_ros.types import F32, I32, Bool, Camera

MAX_LIKE = 0.75
"""A region may be bare table if a larger share of it has the table's colours."""

SMALL_PX = 15
"""Bumps of noise are smaller than this multiple of the smallest object. What is larger was measured often enough."""

LOW_FLOORS = 2.5
"""The upper tenth of a bump of noise is below this multiple of the noise floor."""

TINY_PX, TINY_FLOORS = 4, 6.0
"""Flying pixels at an edge reach up higher, but are fewer."""

PAST_M = 0.03
"""A pixel shows something behind the support plane if it is measured this far below."""

MAX_OFF, MIN_FEET = 0.5, 0.1
"""A region stands off the table if of its visible feet a larger share is not on the support; and the smallest share of
feet that must be visible: others are hidden, outside the image, or without depth."""

SAMPLE = 200
"""Points per region whose feet are looked for."""

AROUND_WAYS, AROUND_SHARE, GRID_PX = 5, 0.5, 96
"""A region is around the support if from this share of the support's pixels this many of eight straight ways in the
image meet it; looked up in an image of at most this many pixels' width."""


def without_surroundings(
    labels: I32, points_m: F32, height_m: F32, like_table: Bool, camera: Camera, table: SupportPlane, min_px: int
) -> I32:  # fmt: skip
    """Labels 1..m without regions that are no things on the table.

    Args:
        labels: (H, W) regions 1..n, 0 for the rest, -1 for the robot.
        points_m: (3, H, W) points in the base frame.
        height_m: (H, W) height above the table.
        like_table: (H, W) pixels with a colour of the table.
        camera: Of these pixels.
        table: The support plane.
        min_px: Smallest object.
    """
    flat, height, like = points_m.reshape(3, -1), height_m.ravel(), like_table.ravel()
    level = (labels == 0) & (np.abs(height_m) < table.noise_floor_m)
    support = large_parts(level)
    past = (labels == 0) & (height_m < -PAST_M)
    feet = Feet(camera, table, support, past | (level & ~support & ~like_table))
    keep = np.ones(int(labels.max(initial=0)) + 1, dtype=bool)
    for label, pixels in enumerate(member_pixels(labels, len(keep) - 1), start=1):
        keep[label] = not (
            _is_bare(height[pixels], like[pixels], table, min_px) or _is_off(flat[:, pixels], feet)
        )
    labels = renumber(labels, keep)
    around = _around(labels, support)
    return renumber(labels, ~around)


def _is_bare(height_m: F32, like: Bool, table: SupportPlane, min_px: int) -> bool:
    """A bump in the measured table: no higher than noise can explain, and it looks like the table."""
    if not len(like) or np.count_nonzero(like) < MAX_LIKE * len(like):
        return False
    if len(like) > SMALL_PX * min_px:
        return False
    floors = TINY_FLOORS if len(like) < TINY_PX * min_px else LOW_FLOORS
    known = height_m[np.isfinite(height_m)]
    return not len(known) or float(np.quantile(known, 0.9)) < floors * table.noise_floor_m


def _is_off(points_m: F32, feet: Feet) -> bool:
    """Where the feet of these points would be, the camera sees something else than the support."""
    some = points_m[:, :: max(points_m.shape[1] // SAMPLE, 1)]
    some = some[:, np.isfinite(some[2])]
    on, off = feet.seen(some)
    return off > MAX_OFF * (on + off) and on + off > MIN_FEET * some.shape[1]


@dataclass(frozen=True, eq=False)
class Feet:
    """Looks for the support under points.

    Attributes:
        camera: Of the pixels.
        table: The support plane.
        support: (H, W) pixels that show it.
        other: (H, W) pixels that show something else that is no nearer: past its edge, or another thing of its height.
    """

    camera: Camera
    table: SupportPlane
    support: Bool
    other: Bool

    def seen(self, points_m: F32) -> tuple[int, int]:
        """Of (3, N) points, how many have their foot where the support is seen, and where something else is seen."""
        feet = points_m.astype(np.float64)
        feet[2] = self.table.a * feet[0] + self.table.b * feet[1] + self.table.c
        px, _ = project(self.camera, feet.T)
        h, w = self.support.shape
        x, y = np.rint(np.nan_to_num(px, nan=-1e6)).T
        inside = (x >= 0) & (x < w) & (y >= 0) & (y < h)
        at = y[inside].astype(np.intp), x[inside].astype(np.intp)
        return int(np.count_nonzero(self.support[at])), int(np.count_nonzero(self.other[at]))


def _around(labels: I32, support: Bool) -> npt.NDArray[np.bool_]:
    """(n + 1,) regions that surround the support, as the walls of a bin do in which the support is the floor."""
    count = int(labels.max(initial=0))
    out = np.zeros(count + 1, dtype=bool)
    step = max(labels.shape[1] // GRID_PX, 1)
    small, support = labels[::step, ::step], support[::step, ::step]
    total = int(np.count_nonzero(support))
    wide = max(small.shape) / 2
    for label in range(1, count + 1):
        own = small == label
        if not total or _extent(own) < wide:
            continue
        out[label] = np.count_nonzero(ways(own)[support] >= AROUND_WAYS) > AROUND_SHARE * total
    return out


def _extent(own: Bool) -> int:
    """Longer edge of the bounding box."""
    _, _, w, h = cv2.boundingRect(own.astype(np.uint8))
    return max(w, h)
