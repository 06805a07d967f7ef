"""Refine object boundaries: pixels within the noise of the table, or without depth, but of an object's colour."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt
from scipy.ndimage import find_objects

from stvla_ros.geometry.components import connected, flat_indices, met_pairs, renumber, sizes
from stvla_ros.tabletop.hollow import whole_hollows
from stvla_ros.tabletop.support_plane import SupportPlane
from stvla_ros.types import F32, I32, U8, Bool

RIM = 1 / 70
"""Width of the rim to examine, as a share of the image's width."""

MAX_ROUNDS = 4
"""A rim that is wider is examined up to this often: where an object tapers off, as a banana does, its depth sinks
into the table's long before the object ends."""

MAX_RATIO = 0.5
"""A pixel at the table's height joins an object if its ratio (:func:`_colour_ratio`) is less."""

MAX_RATIO_NO_DEPTH = 0.8
"""The same for a pixel without depth."""

FRINGE = 1 / 110
"""Width of the fringe where a depth camera smears an object over the table, as a share of the image's width."""

MAX_FRINGE = 0.65
"""Largest share of an object that is fringe."""

MIN_SEAM_PX, SAME_COLOUR = 4, 0.12
"""Objects are one if they meet in this many grown pixels and their mean colours differ by less."""

MAX_CRUMB = 0.05
"""Parts of an object that are a smaller share of its largest part, and were joined to it by a fringe, are none of it."""

MAX_HALF_WIDTH, MAX_AREA, MIN_CONTACT = 1 / 180, 0.15, 0.33
"""Of a sliver: largest half width as a share of the image's width; largest area as a share of its neighbour's; smallest
share of the pixels around it that belong to the neighbour."""

MIN_CONTRAST = 0.08
"""Smallest distance between the colour features of object and table."""


def refine_boundaries(
    labels: I32,
    colours: F32,
    depth_m: F32,
    height_m: F32,
    exclude: Bool,
    like_table: Bool,
    table: SupportPlane,
    width_px: int,
) -> I32:
    """Labels without the fringe that looks like the table, each object extended over pixels around it that look like it.

    Args:
        labels: (H, W) objects 1..n, 0 elsewhere.
        colours: (H, W, 4) features of the colours (:func:`stvla_ros.tabletop.surface_colours.colour_feature`).
        depth_m: (H, W) depth, NaN where unknown.
        height_m: (H, W) height above the table, NaN where unknown.
        exclude: (H, W) pixels that belong to no object (the robot).
        like_table: (H, W) pixels with a colour of the table.
        table: The support plane.
        width_px: Width of the whole image, of which the arrays may be a crop.
    """
    labels = _without_fringe(labels, colours, like_table, exclude, width_px)
    labels = whole_hollows(_merge_slivers(labels, width_px), height_m, like_table, exclude, width_px)
    radius = max(round(RIM * width_px), 2)
    low, unknown = np.abs(height_m) < table.noise_floor_m + 0.002, np.isnan(depth_m)
    low, unknown = low & ~like_table, unknown & ~like_table
    firm = fronts = labels
    for _ in range(MAX_ROUNDS):
        labels, fronts = _grown(labels, fronts, colours, low, unknown, exclude, like_table, radius)
        if not fronts.any():
            break
    return _joined(labels, firm, colours)


def _joined(labels: I32, firm: I32, colours: F32) -> I32:
    """Labels in which objects of one colour are one if they touch where both were grown: a crumpled cloth, a black mug.

    ``firm`` are the labels before they were grown.
    """
    grown = np.where(firm == 0, labels, 0)
    count = int(labels.max(initial=0)) + 1
    seams = np.zeros((count, count), dtype=np.int64)  # pairs in order of labels
    for a, b in ((grown[:, 1:], grown[:, :-1]), (grown[1:], grown[:-1])):
        low, high = met_pairs(a, b)[:2]
        seams += np.bincount(low * count + high, minlength=count**2).reshape(count, count)
    pairs, owner = np.argwhere(seams >= MIN_SEAM_PX), np.arange(count)
    if not len(pairs):
        return labels
    for a, b in pairs:
        if _colour_gap(labels, colours, a, b) < SAME_COLOUR:
            owner[owner == owner[b]] = owner[a]
    return renumber(owner[labels].astype(np.int32), np.isin(np.arange(len(owner)), owner))


def _colour_gap(labels: I32, colours: F32, a: int, b: int) -> float:
    """Distance between the mean colours of two objects."""
    first, second = (colours.reshape(-1, 4).take(np.flatnonzero(labels == i), axis=0).mean(axis=0) for i in (a, b))
    return float(np.linalg.norm(first - second))


def _without_fringe(labels: I32, colours: F32, like_table: Bool, exclude: Bool, width_px: int) -> I32:
    """Labels without the pixels along an object's outline that look like the table and not like the object."""
    object_px, table = labels > 0, (labels == 0) & ~exclude
    width = max(round(FRINGE * width_px), 1)
    fringe = object_px & like_table & _dilated(table, width)
    if not fringe.any():
        return labels
    at = np.flatnonzero(fringe)
    to_object, have_object = _distance(colours, object_px & ~like_table, at, 2 * width)
    to_table, have_table = _distance(colours, table & like_table, at, 2 * width)
    at = at[have_object & have_table & (to_table < MAX_RATIO * to_object)]
    owner = labels.take(at)
    solid = np.bincount(owner, minlength=int(labels.max()) + 1) < MAX_FRINGE * sizes(labels)  # else it looks like table
    out = labels.copy()
    out.reshape(-1)[at[solid[owner]]] = 0
    return _without_crumbs(out)


def _without_crumbs(labels: I32) -> I32:
    """Labels without what a removed fringe cut off: parts that are a small share of their object's largest."""
    parts = connected(labels > 0, labels.astype(np.float32), 0.5)
    area = sizes(parts)
    owner = np.zeros(len(area), dtype=np.int32)
    at = np.flatnonzero(parts)
    owner[parts.take(at)] = labels.take(at)
    if len(np.unique(owner)) == len(owner):  # one part each
        return labels
    largest = np.zeros(int(labels.max(initial=0)) + 1, dtype=np.int64)
    np.maximum.at(largest, owner[1:], area[1:])
    crumb = area < MAX_CRUMB * largest[owner]
    crumb[0] = False
    return np.where(crumb[parts], 0, labels).astype(np.int32)


def _grown(
    labels: I32, fronts: I32, colours: F32, low: Bool, unknown: Bool, exclude: Bool, like_table: Bool, radius: int
) -> tuple[I32, I32]:
    """Labels grown over the rims around ``fronts`` (same labels), and new fronts where a rim continues."""
    out, further = labels.copy(), np.zeros(labels.shape, dtype=np.int32)
    best = np.full(labels.shape, np.inf, dtype=np.float32)
    nobody = (labels == 0) & ~exclude
    free, bare = nobody & (unknown | low), nobody & like_table if like_table.any() else nobody
    for label, window in enumerate(find_objects(fronts), start=1):
        if window is None:
            continue
        rows, columns = (slice(max(s.start - 2 * radius, 0), s.stop + 2 * radius) for s in window)
        here = rows, columns
        own, front = labels[here] == label, (fronts[here] == label).astype(np.uint8)
        ring = _dilated(front, radius) & free[here] & ~own
        if not ring.any():
            continue
        table = bare[here] & ~_dilated(own, radius)
        at, ratio = _like_object(own, ring, table, unknown[here], np.ascontiguousarray(colours[here]), radius)
        there = flat_indices(at, own.shape[1], here, labels.shape[1])
        closer = ratio < best.take(there)
        at, there = at[closer], there[closer]
        best.reshape(-1)[there] = ratio[closer]
        out.reshape(-1)[there] = label
        far = ~_dilated(front, max(radius - 2, 1)).take(at)
        further.reshape(-1)[there[far]] = label
    return out, further


def _merge_slivers(labels: I32, width_px: int) -> I32:
    """Merge thin slivers into a much larger neighbour: its steep side or smeared edge, cut off by a depth step."""
    area = sizes(labels)
    out = labels.copy()
    thick = max(MAX_HALF_WIDTH * width_px, 1.5)
    for label, window in enumerate(find_objects(labels), start=1):
        if window is None or area[label] > MAX_AREA * area.max():
            continue
        here = tuple(slice(max(s.start - 2, 0), s.stop + 2) for s in window)
        own = (labels[here] == label).astype(np.uint8)
        wide = cv2.copyMakeBorder(own, 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
        if cv2.distanceTransform(wide, cv2.DIST_L2, 3).max() > thick:
            continue
        ring = cv2.dilate(own, np.ones((5, 5), np.uint8)).astype(bool) & (own == 0)
        near = np.bincount(np.maximum(out[here][ring], 0), minlength=1)
        near[0] = 0
        other = int(near.argmax())
        if near[other] > MIN_CONTACT * ring.sum() and area[label] < MAX_AREA * area[other]:
            out[here][own == 1] = other
    return out


def _like_object(
    own: Bool, ring: Bool, table: Bool, unknown: Bool, colours: F32, radius: int
) -> tuple[npt.NDArray[np.intp], F32]:
    """(N,) flat indices of the rim pixels that join an object, and their colour distance to it over that to the table."""
    at = np.flatnonzero(ring)
    to_object, have_object = _distance(colours, own, at, radius)
    to_table, have_table = _distance(colours, table, at, 2 * radius)
    if not have_table.all() and table.any():  # in the middle of a wide thing
        every = colours.reshape(-1, 4)
        off = every.take(at[~have_table], axis=0) - every.take(np.flatnonzero(table), axis=0).mean(axis=0)
        to_table[~have_table] = np.sqrt(np.einsum("ij,ij->i", off, off))
        have_table[:] = True
    ratio = np.asarray(to_object / np.maximum(to_table, np.float32(1e-6)), dtype=np.float32)
    limit = np.where(unknown.take(at), np.float32(MAX_RATIO_NO_DEPTH), np.float32(MAX_RATIO))
    like = have_object & have_table & (to_table >= MIN_CONTRAST) & (ratio < limit)
    at, ratio = at[like], ratio[like]
    if not len(at):
        return at, ratio
    take = own.astype(np.uint8)
    take.reshape(-1)[at] = 1
    take = np.asarray(cv2.medianBlur(take, 3), dtype=np.uint8) & ring.view(np.uint8)
    joins = (take.take(at) > 0) & _touching(take, own, at)
    return at[joins], ratio[joins]


def _dilated(mask: Bool | U8, radius: int) -> Bool:
    """A mask dilated by a square."""
    square = cv2.getStructuringElement(cv2.MORPH_RECT, (2 * radius + 1, 2 * radius + 1))
    return cv2.dilate(mask.view(np.uint8), square).view(bool)


def _distance(colours: F32, of: Bool, at: npt.NDArray[np.intp], radius: int) -> tuple[F32, Bool]:
    """Distance of the colours at the flat indices ``at``, in order, to the mean colour of the pixels ``of`` around
    each."""
    if not len(at):
        return np.zeros(0, dtype=np.float32), np.zeros(0, dtype=bool)
    width = of.shape[1]
    top = max(int(at[0]) // width - radius, 0)
    rows = slice(top, int(at[-1]) // width + radius + 1)  # no other rows matter
    colours, of, at = colours[rows], of[rows], at - top * width
    size, weight = (2 * radius + 1, 2 * radius + 1), of.view(np.uint8)
    total = np.asarray(cv2.boxFilter(cv2.copyTo(colours, weight), -1, size, normalize=False), dtype=np.float32)
    count = np.asarray(cv2.boxFilter(weight, cv2.CV_32F, size, normalize=False), dtype=np.float32).take(at)
    mean = total.reshape(-1, 4).take(at, axis=0) / np.maximum(count, 1)[:, None]
    off = colours.reshape(-1, 4).take(at, axis=0) - mean
    return np.sqrt(np.einsum("ij,ij->i", off, off)), count > 2


def _touching(take: U8, own: Bool, at: npt.NDArray[np.intp]) -> Bool:
    """(N,) whether the pixels at the flat indices ``at`` are connected to the object through pixels of ``take``."""
    count, parts = cv2.connectedComponents(take | own, connectivity=4, ltype=cv2.CV_32S)
    touched = np.zeros(count, dtype=bool)
    touched[parts[own]] = True
    return np.asarray(touched[parts.take(at)])
