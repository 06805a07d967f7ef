"""Places of instances that the depth camera does not see: black, transparent or glossy things.

What stands on the table touches it at the lowest edge of its image. There the pixel's ray meets the support plane, and
the thing is taken for an upright screen at that distance. That is the front of the thing, give or take the few
centimetres by which a mask's edge is off: enough to tell whether a path passes it, not to grasp it.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from stvla_ros.geometry.cameras import rays
from stvla_ros.geometry.components import member_pixels
from stvla_ros.tabletop.support_plane import SupportPlane
from stvla_ros.types import F32, F64, Camera, Segments

SEEN_SHARE = 0.1
"""With fewer pixels that have depth, these are flying pixels at the edge or the background behind it."""

FOOT_SHARE = 0.05
"""The lowest pixels of an instance, by which it stands, are this share of its rows."""

MAX_SLOPE = 0.02
"""A ray that falls less than this per metre meets no table within reach."""


def unseen(segments: Segments, points_m: F32) -> tuple[int, ...]:
    """Ids of the instances that have depth in less than a tenth of their pixels, counted in every second row and column."""
    if not segments.ids:
        return ()
    labels, z = segments.labels[::2, ::2].ravel(), points_m[2, ::2, ::2].ravel()
    some = np.flatnonzero(labels > 0)
    codes = 2 * labels.take(some) + np.isfinite(z.take(some))
    blind_px, seen_px = np.bincount(codes, minlength=2 * segments.ids[-1] + 2).reshape(-1, 2).T
    return tuple(i for i in segments.ids if seen_px[i] < SEEN_SHARE * (seen_px[i] + blind_px[i]))


def placed(segments: Segments, points_m: F32, camera: Camera, table: SupportPlane) -> tuple[F32, tuple[str, ...]]:
    """Points in which instances without depth have a place.

    Args:
        segments: Instances of the frame.
        points_m: (3, H, W) its points in the base frame, NaN where unknown.
        camera: Its camera.
        table: The support plane.

    Returns:
        (3, H, W) points: those given, unless an instance has none; and a note that says so. An instance whose lowest
        pixels do not look at the table (it stands behind it, or hangs) stays without a place.
    """
    ids = unseen(segments, points_m)
    if not ids:
        return points_m, ()
    out, placed_ids = points_m.copy(), 0
    members, flat, direction = member_pixels(segments.labels, max(ids)), out.reshape(3, -1), rays(camera)
    for i in ids:
        screen = _screen(members[i - 1], direction.reshape(3, -1), camera, table)
        if screen is not None:
            flat[:, members[i - 1]] = screen
            placed_ids += 1
    return out, _notes(placed_ids, len(ids) - placed_ids)


def _screen(pixels: npt.NDArray[np.intp], direction: F32, camera: Camera, table: SupportPlane) -> F32 | None:
    """(3, N) points of some pixels on an upright plane through their foot; None where that is not on the table."""
    eye: F64 = camera.T_base_camera[:3, 3]
    row = pixels // camera.width_px
    foot = row >= row.max() - FOOT_SHARE * np.ptp(row)
    down = np.median(direction[:, pixels[foot]].astype(np.float64), axis=1)
    fall, above = -float(table.gradient @ down), float(table.gradient @ eye - table.c)
    if above <= 0 or fall <= MAX_SLOPE * float(np.linalg.norm(down)):
        return None
    forward = down[:2] / max(float(np.hypot(*down[:2])), 1e-9)
    away = above / fall * float(forward @ down[:2])
    approach = forward.astype(np.float32) @ direction[:2, pixels]
    depth = np.float32(away) / np.maximum(approach, np.float32(1e-3))
    return np.asarray(eye.astype(np.float32)[:, None] + depth * direction[:, pixels], dtype=np.float32)


def _notes(placed_ids: int, others: int) -> tuple[str, ...]:
    """One sentence each for instances with a place and without."""
    notes = []
    if placed_ids:
        notes.append(
            f"{placed_ids} instances have no depth: their places are estimated from where they meet the table."
        )
    if others:
        notes.append(f"{others} instances have neither depth nor a foot on the table: their places are unknown.")
    return tuple(notes)
