"""What rises above the support plane and is no thing on it: bumps of bare table, chairs behind it, walls around it, and
what stands on benches beside it."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from stvla_ros.geometry.components import member_pixels, renumber
from stvla_ros.tabletop.benches import Bench
from stvla_ros.tabletop.hollow import ways
from stvla_ros.tabletop.support_plane import SupportPlane, feet_px
from stvla_ros.tabletop.table_colours import large_parts
from stvla_ros.types import F32, I32, Bool, Camera

MAX_LIKE = 0.75
"""A region may be bare table if a larger share of it has the table's colours, or lies along its edge."""

EDGE_PX = 3
"""Width of that edge: there, depth is a mixture of the table's and of what is seen past it."""

ARM = 1 / 100
"""Width of the strip along the robot where a stereo camera smears its depth over the table, as a share of the image's
width."""

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

MIN_SUPPORT = 0.02
"""Where less of the image shows the support, nothing is known about what stands on it."""

SAMPLE = 200
"""Points per region whose feet are looked for."""

AROUND_WAYS, AROUND_SHARE, GRID_PX = 5, 0.5, 96
"""A region is around the support if from this share of the support's pixels this many of eight straight ways in the
image meet it; looked up in an image of at most this many pixels' width."""


def without_surroundings(
    labels: I32, points_m: F32, height_m: F32, like_table: Bool, exclude: Bool, camera: Camera, table: SupportPlane,
    benches: list[Bench], min_px: int,
) -> I32:  # fmt: skip
    """Labels 1..m without regions that are no things on the table.

    Args:
        labels: (H, W) regions 1..n, 0 for the rest, -1 for the robot.
        points_m: (3, H, W) points in the base frame.
        height_m: (H, W) height above the table.
        like_table: (H, W) pixels with a colour of the table.
        exclude: (H, W) pixels that belong to no object (the robot).
        camera: Of these pixels.
        table: The support plane.
        benches: Beside the support.
        min_px: Smallest object.
    """
    count = int(labels.max(initial=0))
    members = member_pixels(labels, count)
    level = (labels == 0) & (np.abs(height_m) < table.noise_floor_m)
    support = large_parts(level)
    past = (labels == 0) & (height_m < -PAST_M)
    other = past | (level & ~support & ~like_table)
    off = np.zeros(count, dtype=bool)
    if np.count_nonzero(support) > MIN_SUPPORT * support.size:
        off = _off_the_support(members, points_m, camera, table, support, other)
        for bench in benches:  # the contact of a thing with what it stands on is just outside of it
            masks = (_dilated(mask, EDGE_PX) for mask in (support, bench.mask))
            off |= _off_the_support(members, points_m, camera, bench.plane, *masks)
    height, like = height_m.ravel(), like_table.ravel()
    edge = _dilated(past, EDGE_PX).ravel()
    strip = (_dilated(exclude, round(ARM * labels.shape[1])) & like_table).ravel()
    bare = [
        _is_bare(height, pixels, like.take(pixels) | edge.take(pixels), table, min_px)
        or np.count_nonzero(strip.take(pixels)) > MAX_LIKE * len(pixels)
        for pixels in members
    ]
    labels = renumber(labels, np.array([True, *(~off & ~np.array(bare, dtype=bool))]))
    around = _around(labels, support)
    return renumber(labels, ~around)


def _dilated(mask: Bool, radius: int) -> Bool:
    square = np.ones((2 * radius + 1, 2 * radius + 1), np.uint8)
    return np.asarray(cv2.dilate(mask.astype(np.uint8), square)) > 0


def _is_bare(height_m: F32, pixels: npt.NDArray[np.intp], like: Bool, table: SupportPlane, min_px: int) -> bool:
    """Some pixels (N,) of a frame are a bump in the measured table: no higher than noise can explain, and (N,) they
    look like the table."""
    if not len(like) or np.count_nonzero(like) < MAX_LIKE * len(like):
        return False
    if len(like) > SMALL_PX * min_px:
        return False
    floors = TINY_FLOORS if len(like) < TINY_PX * min_px else LOW_FLOORS
    known = height_m.take(pixels)
    known = known[np.isfinite(known)]
    return not len(known) or float(np.quantile(known, 0.9)) < floors * table.noise_floor_m


def _off_the_support(
    members: list[npt.NDArray[np.intp]], points_m: F32, camera: Camera, table: SupportPlane, support: Bool, other: Bool
) -> npt.NDArray[np.bool_]:
    """(n,) regions under whose points the camera sees something else than the support.

    Args:
        members: Pixels of each region.
        points_m: (3, H, W) points.
        camera: Of these pixels.
        table: The plane on which the feet are.
        support: (H, W) pixels that show the support.
        other: (H, W) pixels that show something else that is no nearer: past its edge, another thing of its height, or
            the bench on whose plane the feet are.
    """
    some = [pixels[:: max(len(pixels) // SAMPLE, 1)] for pixels in members]
    owner = np.repeat(np.arange(len(some)), [len(pixels) for pixels in some])
    points = points_m.reshape(3, -1)[:, np.concatenate([np.zeros(0, dtype=np.intp), *some])]
    at, inside = feet_px(points, table, camera)
    known, on, off = (
        np.bincount(owner[mask], minlength=len(some))
        for mask in (np.isfinite(points).all(axis=0), inside & support[at], inside & other[at])
    )
    return np.asarray((off > MAX_OFF * (on + off)) & (on + off > MIN_FEET * known))


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
