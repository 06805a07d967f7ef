"""Whole things: outlines of the model's masks, corrected by depth and colour."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from stvla_ros.geometry.components import fill_holes, member_pixels
from stvla_ros.perception.sam2.evidence import (
    FRINGE_PX,
    Evidence,
    Surface,
    Surroundings,
    counts,
    disc,
    is_glass,
    is_low,
)
from stvla_ros.types import F32, I32, U8, Bool


def completed(owner: I32, regions: Sequence[int | None], evidence: Evidence) -> I32:
    """Things with their notches and hollows filled, and without what they spill over the table.

    Args:
        owner: (H, W) number of each pixel's thing, from 1.
        regions: Region of each thing, 0 for none of its own; None leaves the thing as it is.
        evidence: What depth says about the frame.
    """
    out = owner.copy()
    members = member_pixels(owner, len(regions))
    margin = 4 * evidence.around.pixels(FRINGE_PX)
    for i, pixels in sorted(enumerate(members, start=1), key=lambda item: len(item[1])):
        region = regions[i - 1]
        if not len(pixels) or region is None:
            continue
        here = window_of(pixels, owner.shape, margin)
        local = near_pixels(evidence, here)
        mask = owner[here] == i
        whole = _without_spill(_closed(mask, out[here], region, local), region, local)
        out[here][mask & ~whole] = 0
        out[here][whole & (out[here] == 0)] = i
    return out


def window_of(pixels: npt.NDArray[np.intp], shape: tuple[int, ...], margin: int) -> tuple[slice, slice]:
    rows, columns = np.divmod(pixels, shape[1])
    return (
        slice(max(int(rows.min()) - margin, 0), int(rows.max()) + margin + 1),
        slice(max(int(columns.min()) - margin, 0), int(columns.max()) + margin + 1),
    )


def near_pixels(evidence: Evidence, here: tuple[slice, slice]) -> Local:
    """The evidence in a window."""
    around = evidence.around
    return Local(around.part(here), evidence.rgb[here], evidence.labels[here], around.pixels(FRINGE_PX))


@dataclass(frozen=True, eq=False)
class Local:
    """The evidence near one thing, and the width of fringes there."""

    around: Surroundings
    rgb: U8
    labels: I32
    fringe_px: int


def _closed(mask: Bool, owner: I32, region: int, local: Local) -> Bool:
    """The mask, its region's pixels along its edge that look like it, and what its outline encloses if that is smaller."""
    free = (owner == 0) & (local.labels != -1)
    near = cv2.dilate(mask.astype(np.uint8), disc(local.fringe_px)).astype(bool) & free & ~mask
    near &= (local.labels == region) & (region > 0)
    out = mask | (near & alike(mask, near, local))
    hollow = fill_holes(out) & ~out & free
    return out | hollow if hollow.sum() <= out.sum() else out


def alike(mask: Bool, near: Bool, local: Local) -> Bool:
    """Pixels whose colour is nearer to that of the mask around them, if it is, than to that of the bare table there.

    The depth of a fringe is that of the thing beside it, but its colour is the table's.
    """
    bare = local.around.shows(Surface.SUPPORT) & (local.labels == 0) & ~mask
    away = [_colour_distance(local.rgb, of, 2 * local.fringe_px) for of in (mask, bare)]
    return np.asarray(near & ((away[0] < away[1]) | ~np.isfinite(away[0])))


def _colour_distance(rgb: U8, of: Bool, radius: int) -> F32:
    """(h, w) distance of each colour from the mean of the pixels ``of`` within a radius; inf where there are none."""
    size = (2 * radius + 1, 2 * radius + 1)
    count = cv2.boxFilter(of.astype(np.float32), -1, size, normalize=False, borderType=cv2.BORDER_CONSTANT)
    inside = np.where(of[..., None], rgb, 0).astype(np.float32)
    total = cv2.boxFilter(inside, -1, size, normalize=False, borderType=cv2.BORDER_CONSTANT)
    away = np.linalg.norm(rgb - total / np.maximum(count, 1)[..., None], axis=2)
    return np.where(count > 0.5, away, np.float32(np.inf)).astype(np.float32)


def _without_spill(mask: Bool, region: int, local: Local) -> Bool:
    """The mask without its parts on the bare table, further from what stands there than a foot is high."""
    around = local.around
    known = counts(mask, around)
    stands = known[Surface.STANDING] >= 0.5 * (known.sum() - known[Surface.BLIND])
    if not stands and (is_low(mask, around) or is_glass(mask, around)):
        return mask
    solid = mask & ((local.labels == region) if region else around.shows(Surface.STANDING, Surface.BLIND))
    if not solid.any():
        return mask
    body = _hull(solid)  # the bottom of a bowl is as high as the table, its rim is not
    kernels = disc(max(local.fringe_px // 3, 1)), _downwards(around, 2 * local.fringe_px)
    near = np.logical_or.reduce([cv2.dilate(body, kernel) > 0 for kernel in kernels])
    return mask & (near | ~around.shows(Surface.SUPPORT, Surface.ELSEWHERE))


def _hull(mask: Bool) -> U8:
    outline, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    return np.asarray(
        cv2.fillConvexPoly(np.zeros(mask.shape, np.uint8), cv2.convexHull(np.concatenate(outline)), 1), dtype=np.uint8
    )


def _downwards(around: Surroundings, length_px: int) -> U8:
    """Structuring element that extends a mask downwards: the foot of a thing is within the noise of the table."""
    kernel = np.zeros((2 * length_px + 1, 2 * length_px + 1), dtype=np.uint8)
    up = [round(length_px * (1 - along)) for along in around.down]
    return np.asarray(cv2.line(kernel, (length_px, length_px), (up[0], up[1]), 1), dtype=np.uint8)
