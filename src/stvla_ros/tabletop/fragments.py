"""Split-and-merge of regions by colour and shape: separate objects, or one object with a print on it?

A region of the depth image may contain several touching objects. Colour says where one may end, shape says whether it
does. Two neighbouring fragments of different colour remain separate if

* one stands on the other: it begins where the other ends, and the seam is level;
* one stands in the other, which is low and flat (a block in a plate);
* each has its own top face, at different heights;
* the surface is concave along the seam, and each stands on the support by itself, or one stands inside the other, as a
  fruit does in a bowl;
* they stand side by side: both are of one colour, compact and mostly bounded by the region's outline, neither lies
  between two fragments of the same colour, and the seam follows an edge of the rectangle that one of them fills when
  seen from above, as between blocks that are pushed together.

Anything else (a print, a label, a handle of another colour) is one object. So is a low boss in the middle of a wider
base, like the cap of a button. In doubt fragments merge: a wrong merge keeps a neighbour visible, a wrong split paints
out half an object.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from itertools import combinations

import cv2
import numpy as np
import numpy.typing as npt
from scipy.ndimage import find_objects

from stvla_ros.geometry.components import connected, flat_indices, met_pairs, nearest_label, renumber, sizes
from stvla_ros.geometry.components import solidity as mask_solidity
from stvla_ros.tabletop.regions import TRAY_TOP_M, classify_pixels, min_area_rectangle
from stvla_ros.types import F32, F64, I32, U8, Bool

MIN_SHARE = 0.04
"""Fragments that cover a smaller share of their region are print."""

FACE_M = 0.006
"""Points this close below the top of a fragment form its top face."""

MIN_TOP_SHARE = 0.3
"""A fragment has a top face if at least this share of it belongs to that face."""

MIN_RISE_M = 0.010
"""Smallest height difference between the top faces of two objects."""

MAX_BOSS_M = 0.017
"""A cap rises at most this far above its base."""

MIN_SOLIDITY, MIN_OUTLINE, MIN_PURITY, MAX_SEAM_M, MAX_ASPECT = 0.76, 0.34, 0.88, 0.004, 2.6
"""Of objects side by side: smallest share of the convex hull, of the border that is outline, and of pixels of the
main colour; largest distance of the seam from an edge; largest ratio of length to width."""

MIN_CREASE_M = 0.003
"""The surface is concave along a seam if half of the seam lies this far below the chords over it."""

INSIDE_OUTLINE = 0.1
"""A fragment lies inside another if less of its border is outline of the region."""

RISE_M = 0.006
"""What rises by more over the lower part of its seam stands in the thing around it."""

ON_SUPPORT_M = 0.01
"""A fragment stands on the support if it is visible down to this height."""

SAMPLE_PX = 1000
"""Fragments are measured at about this many of their pixels."""

SAME_COLOUR = 0.12
"""Colours (see :func:`stvla_ros.tabletop.surface_colours.colour_feature`) that differ by less are the same."""


@dataclass(frozen=True, eq=False)
class Fragment:
    """A part of a region that has one colour. Its properties are measured on demand: most decisions need few of them.

    Attributes:
        label: Its label among the pieces of its region.
        near: (h + 2, w + 2) labels of the region's pieces in the fragment's window, padded by one pixel; 0 is outside.
        colours: (h, w, 4) features of the window's colours (:func:`stvla_ros.tabletop.surface_colours.colour_feature`).
        points_m: (3 or more, h, w) points of the window in the base frame.
        heights_m: (h, w) heights of the window above the table.
        area_px: Number of its pixels.
        purity: Share of its pixels that have its colour. The rest is print.
        neighbours: Other fragments of the region that it touches.
    """

    label: int
    near: I32
    colours: F32
    points_m: F32
    heights_m: F32
    area_px: int
    purity: float
    neighbours: list[Fragment] = field(default_factory=list)

    @cached_property
    def own(self) -> U8:
        """(h, w) 1 at its pixels."""
        return np.asarray(self.near[1:-1, 1:-1] == self.label).astype(np.uint8)

    @cached_property
    def _some(self) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
        return _evenly(self.own)

    @cached_property
    def height_m(self) -> F32:
        """5, 10, 50, 90 and 97 % quantiles of its height above the table."""
        heights = np.sort(self.heights_m[self._some])
        return np.asarray(heights[[int(q * (len(heights) - 1)) for q in (0.05, 0.1, 0.5, 0.9, 0.97)]])

    @property
    def top_m(self) -> float:
        return float(self.height_m[4])

    @cached_property
    def flat(self) -> bool:
        """It has a top face."""
        return bool((self.heights_m[self._some] > self.top_m - FACE_M).mean() > MIN_TOP_SHARE)

    @cached_property
    def solidity(self) -> float:
        """Share of its convex hull that it fills."""
        return mask_solidity(self.own)

    @cached_property
    def outline(self) -> float:
        """Share of its border that is the region's outline."""
        own = cv2.copyMakeBorder(self.own, 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
        ring = cv2.dilate(own, np.ones((3, 3), np.uint8)) > own
        return int(np.count_nonzero(ring & (self.near == 0))) / max(int(np.count_nonzero(ring)), 1)

    @cached_property
    def colour(self) -> npt.NDArray[np.floating]:
        """(F,) features of its median colour."""
        rows, columns = self._some
        few = slice(None, None, max(len(rows) // 100, 1))
        return np.asarray(np.median(self.colours[rows[few], columns[few]], axis=0))

    @cached_property
    def inlaid(self) -> bool:
        """It lies between two fragments of the same colour."""
        colours = [other.colour for other in self.neighbours]
        return any(float(np.linalg.norm(p - q)) < SAME_COLOUR for p, q in combinations(colours, 2))

    @cached_property
    def _rectangle(self) -> tuple[F64, F64, float]:
        return _footprint(self.own, self.points_m[:2])

    @property
    def centre_m(self) -> F64:
        """(2,) centre of the smallest rectangle around its footprint."""
        return self._rectangle[0]

    @property
    def size_m(self) -> tuple[float, float]:
        """Long and short edge of that rectangle."""
        edges = self._rectangle[1]
        return float(edges.max()), float(edges.min())

    def edge_distance(self, xy_m: npt.NDArray[np.floating]) -> npt.NDArray[np.floating]:
        """(N,) distance of (2, N) points to the nearest of the lines through the edges of that rectangle."""
        centre, edges, turn = self._rectangle
        c, s = np.cos(turn), np.sin(turn)
        local = np.abs(np.array([[c, s], [-s, c]]) @ (xy_m - centre[:, None]))
        return np.asarray(np.abs(local - edges[:, None] / 2).min(axis=0))


def split_by_colour_and_shape(
    regions: I32, colours: F32, depth_m: F32, points_m: F32, bend_m: F32, height_m: F32, step_m: float, noise_m: float,
    min_px: int,
) -> I32:  # fmt: skip
    """Split regions where their colour changes and their shape says that two objects meet.

    Args:
        regions: (H, W) regions 1..n connected in depth, 0 elsewhere.
        colours: (H, W, 4) features of the colours (:func:`stvla_ros.tabletop.surface_colours.colour_feature`).
        depth_m: (H, W) depth.
        points_m: (3, H, W) points in the base frame.
        bend_m: (H, W) concavity of the surface (:func:`stvla_ros.tabletop.touching.concavity`).
        height_m: (H, W) height above the table.
        step_m: Depth step that ends an object.
        noise_m: Standard deviation of the heights.
        min_px: Smallest object.

    Returns:
        (H, W) labels 1..m of objects, 0 outside the regions.
    """

    def divide(own: Bool, window: tuple[slice, slice]) -> I32 | None:
        area = int(np.count_nonzero(own))
        if area < 2 * min_px:
            return None
        inside = np.flatnonzero(own)
        at = flat_indices(inside, own.shape[1], window, regions.shape[1])
        kinds = classify_pixels(colours.reshape(-1, 4).take(at, axis=0), height_m.take(at), min_px)
        if not kinds.any():
            return None
        classes = np.zeros(own.shape, dtype=np.uint8)
        classes.reshape(-1)[inside] = kinds
        smooth = np.asarray(cv2.medianBlur(classes, 5), dtype=np.uint8)
        pieces = connected(own, depth_m[window], step_m, smooth)
        pieces = np.where(smooth == classes, pieces, 0)  # thin parts go where they fit best
        return renumber(pieces, sizes(pieces) >= max(min_px, MIN_SHARE * area))

    return split_and_merge(
        regions,
        colours,
        np.concatenate([points_m, bend_m[None]]),
        height_m,
        divide,
        lambda a, b, seam: not _are_separate(a, b, seam, noise_m),
    )


def split_and_merge(
    regions: I32,
    colours: F32,
    points_m: F32,
    height_m: F32,
    divide: Callable[[Bool, tuple[slice, slice]], I32 | None],
    same: Callable[[Fragment, Fragment, F32], bool],
) -> I32:
    """Split regions into pieces, then merge neighbours that belong to the same object.

    Args:
        regions: (H, W) regions 1..n, 0 elsewhere.
        colours: (H, W, 4) features of the colours.
        points_m: (3 or more, H, W) points in the base frame, and further properties for ``same``.
        height_m: (H, W) height above the table.
        divide: Returns the pieces 1..k of a region, given its mask and the mask's window in the image; pixels 0 go to
            the nearest piece. None for a single piece.
        same: Whether two neighbours are one object, given the ``points_m`` (3 or more, N) along their seam.

    Returns:
        (H, W) labels 1..m that cover the regions.
    """
    out, count = regions.copy(), int(regions.max(initial=0))
    first_new = count + 1
    for region, window in enumerate(find_objects(regions), start=1):
        own = regions[window] == region
        pieces = divide(own, window)
        if pieces is None or pieces.max() < 2:
            continue
        parts = _merged(own, pieces, colours[window], points_m[(slice(None), *window)], height_m[window], same)
        for part in range(2, int(parts.max()) + 1):
            count += 1
            out[window][parts == part] = count
    return renumber(out, sizes(out) > 0) if count >= first_new else regions


def _merged(
    own: Bool, pieces: I32, colours: F32, points_m: F32, height_m: F32, same: Callable[[Fragment, Fragment, F32], bool]
) -> I32:
    """(h, w) objects 1..n of one region."""
    grown = _spread(own, pieces, colours, height_m)
    known, seams = _fragments(grown, pieces, colours, points_m, height_m), _seams(grown)
    for i, j in seams:
        known[i - 1].neighbours.append(known[j - 1])
        known[j - 1].neighbours.append(known[i - 1])
    parent = np.arange(len(known) + 1)
    for (a, b), seam in sorted(seams.items(), key=lambda item: -len(item[1])):
        if parent[a] != parent[b] and same(known[a - 1], known[b - 1], points_m[:, *np.divmod(seam, own.shape[1])]):
            parent[parent == parent[b]] = parent[a]
    merged = parent[grown].astype(np.int32)
    return renumber(merged, sizes(merged) > 0)


def _spread(own: Bool, pieces: I32, colours: F32, height_m: F32) -> I32:
    """(h, w) labels of all pixels of a region, from those of its pieces.

    The pieces flood the pixels between them; they meet where colour and height change most (watershed: Meyer 1991).
    """
    warm, light = colours[..., 0] - colours[..., 2], colours[..., 3]
    picture = np.stack([100 * warm + 128, 400 * light + 220, 1000 * np.nan_to_num(height_m)], axis=2)
    outside = int(pieces.max()) + 1
    markers = np.where(own, pieces, outside).astype(np.int32)
    cv2.watershed(np.clip(picture, 0, 255).astype(np.uint8), markers)
    markers[(markers < 0) | ~own] = 0
    return np.where(own, nearest_label(np.where(pieces > 0, pieces, markers % outside)), 0).astype(np.int32)


def _fragments(grown: I32, pieces: I32, colours: F32, points_m: F32, height_m: F32) -> list[Fragment]:
    """Fragments 1..n of a region; ``pieces`` are their core pixels, ``grown`` all of them."""
    area, firm = sizes(grown), sizes(pieces)
    around = np.asarray(cv2.copyMakeBorder(grown, 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0), dtype=np.int32)
    found = []
    for label, (rows, columns) in enumerate(find_objects(grown), start=1):
        near = around[rows.start : rows.stop + 2, columns.start : columns.stop + 2]
        points, share = points_m[:, rows, columns], float(firm[label] / area[label])
        found.append(
            Fragment(label, near, colours[rows, columns], points, height_m[rows, columns], int(area[label]), share)
        )
    return found


def _seams(pieces: I32) -> dict[tuple[int, int], npt.NDArray[np.intp]]:
    """Flat indices of the pixels where two pieces meet, per pair."""
    width = pieces.shape[1]
    found = []
    for a, b, step in ((pieces[:, 1:], pieces[:, :-1], 1), (pieces[1:], pieces[:-1], 0)):
        low, high, where = met_pairs(a, b)
        y, x = np.divmod(where, a.shape[1])
        found.append(np.stack([low, high, y * width + x + 1 if step else (y + 1) * width + x]))
    low, high, at = np.concatenate(found, axis=1)
    key = low * (int(pieces.max()) + 1) + high
    return {(int(low[k][0]), int(high[k][0])): at[k] for k in (np.flatnonzero(key == v) for v in np.unique(key))}


def _evenly(mask: Bool | U8) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Rows and columns of about :data:`SAMPLE_PX` evenly spaced pixels of a mask."""
    rows, columns = np.nonzero(mask)  # in raster order
    every = slice(None, None, max(len(rows) // SAMPLE_PX, 1))
    return rows[every], columns[every]


def _footprint(own: U8, xy_m: F32) -> tuple[F64, F64, float]:
    """Smallest rectangle around a piece seen from above. Pixels along its outline mix two depths and do not count."""
    inner = np.asarray(cv2.erode(own, np.ones((3, 3), np.uint8), borderValue=0), dtype=np.uint8)
    firm = inner if np.count_nonzero(inner) > 0.4 * np.count_nonzero(own) else own
    rows, columns = _evenly(firm)
    xy = xy_m[:, rows, columns]
    off = np.abs(xy - np.sort(xy, axis=1)[:, xy.shape[1] // 2, None])
    away = np.maximum(off[0], off[1])
    xy = xy[:, away <= np.sort(away)[int(0.99 * len(away))] * 1.05]
    return min_area_rectangle(xy[:, :: max(xy.shape[1] // 400, 1)].T)


def _are_separate(a: Fragment, b: Fragment, seam_m: F32, noise_m: float) -> bool:
    """Two fragments are separate objects."""
    upper, lower = (a, b) if a.top_m >= b.top_m else (b, a)
    rise = upper.top_m - lower.top_m
    if is_boss(a, b, seam_m):
        return False
    slack = 0.006 + 2 * noise_m
    above = rise > 0.015 and upper.height_m[1] > lower.height_m[3] - slack
    stacked = above and lower.outline > MIN_OUTLINE and float(np.std(seam_m[2])) < slack
    in_a_plate = rise > 0.012 and lower.top_m < TRAY_TOP_M and lower.height_m[3] - lower.height_m[1] < 0.013
    own_tops = rise > MIN_RISE_M + 4 * noise_m and a.flat and b.flat
    if stacked or in_a_plate or own_tops or _creased(a, b, seam_m, noise_m):
        return True
    return _side_by_side(a, b, seam_m[:3], noise_m)


def _creased(a: Fragment, b: Fragment, seam_m: F32, noise_m: float) -> bool:
    """The seam is concave, and each stands by itself: on the support, or one inside the other."""
    if _quantile(seam_m[3], 0.5) < MIN_CREASE_M + noise_m / 2:
        return False
    inner = a if a.outline < b.outline else b
    if inner.outline < INSIDE_OUTLINE:
        return stands_in(inner, seam_m, noise_m)
    return bool(max(a.height_m[0], b.height_m[0]) < ON_SUPPORT_M + 2 * noise_m)


def _quantile(values: npt.NDArray[np.floating], share: float) -> float:
    """The lower of the two values around a quantile: faster than NumPy's on a few hundred."""
    return float(np.sort(values)[int(share * (len(values) - 1))])


def stands_in(inner: Fragment, seam_m: F32, noise_m: float) -> bool:
    """A fragment rises over the lower part of the seam around it, as the bottom of a bowl does not."""
    return bool(inner.height_m[2] > _quantile(seam_m[2], 0.25) + RISE_M + noise_m)


def is_boss(a: Fragment, b: Fragment, seam_m: F32) -> bool:
    """One fragment is a low cap in the middle of the other, a wider base; ``seam_m`` (3 or more, N) is their seam."""
    upper, lower = (a, b) if a.top_m >= b.top_m else (b, a)
    rise = max(upper.top_m - lower.top_m, upper.height_m[2] - _quantile(seam_m[2], 0.25))
    if rise >= MAX_BOSS_M:
        return False
    centred = np.hypot(*(upper.centre_m - lower.centre_m)) < 0.25 * lower.size_m[0]
    return bool(centred and lower.size_m[0] > 1.25 * upper.size_m[0])


def _side_by_side(a: Fragment, b: Fragment, seam_m: F32, noise_m: float) -> bool:
    for part in (a, b):
        if part.purity < MIN_PURITY or part.outline < MIN_OUTLINE or part.solidity < MIN_SOLIDITY:
            return False
    for part in (a, b):
        if part.size_m[0] > MAX_ASPECT * part.size_m[1] or part.inlaid:
            return False
    off = min(_quantile(part.edge_distance(seam_m[:2]), 0.7) for part in (a, b))
    return off < MAX_SEAM_M + noise_m
