"""SAM's masks and the geometric segmenter's regions become one set of instances.

SAM knows outlines and what belongs together by its looks; depth knows what stands where. Hence, in this order:

1. A mask that shows the bare table, the floor or a wall is dropped.
2. A mask over two things that depth sees apart (a gap between them that nothing nearer hides) is split.
3. What depth sees and no mask covers becomes a piece of its own; fringes of flying pixels do not.
4. A piece that does not stand by itself (a cap, a label, the barrel of a drill) joins the thing that carries it, if
   depth sees one region there. Two pieces that both stand on the table stay two.
5. Each thing is completed: hollows are closed, notches filled from its region, spills over the table cut.

Where depth sees two touching things and SAM one, or the other way round, nothing here can know: SAM is followed and a
note says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import cv2
import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree

from stvla_ros.geometry.components import bounding_slices, fill_holes, nearest_label
from stvla_ros.perception.sam2.completion import alike, completed, near_pixels, window_of
from stvla_ros.perception.sam2.evidence import FRINGE_PX, LOW_M, Evidence, below, disc, may_be_thing
from stvla_ros.perception.sam2.masks import MaskLimits, paint
from stvla_ros.types import F32, F64, I32, Bool

UNIT_SHARE = 0.15
"""A mask covers a region when this share of the region lies in it."""

CRUMB_SHARE = 0.02
"""Smaller shares of a mask are no thing that it covers."""

OWN_SHARE = 0.6
"""A mask belongs to a region that holds this share of its labelled pixels."""

APART_M = 0.02
"""Surfaces further apart than this are not connected; visible surfaces of one thing are nearer, unless it is hidden."""

NEAREST_SHARE = 0.01
"""Two surfaces are as far apart as this share of the one comes near the other: single flying pixels do not bridge."""

NESTED_SHARE = 0.8
"""A mask with this share of its pixels in another one lies in it."""

STEP_M, CONTINUOUS_SHARE = 0.012, 0.7
"""Two surfaces are one where their depths differ by less, along at least this share of their border."""

OVER_M, OVER_SHARE = 0.010, 0.7
"""A piece is above another one when this share of its points, seen from above, is not further than this beside it."""

SAMPLE = 400
"""Points of a piece that are compared with others."""


@dataclass(frozen=True, eq=False)
class Thing:
    """One instance.

    Attributes:
        mask: (H, W), overlapping no other.
        source: Index of the mask that it came from; None: from depth alone.
    """

    mask: Bool
    source: int | None


@dataclass(frozen=True, eq=False)
class _Piece:
    """A mask on its way, with the region that it belongs to (0: none) and the index of the given mask."""

    mask: Bool
    source: int | None
    region: int


@dataclass
class _Doubts:
    """What SAM and depth see differently, counted."""

    flat: int = 0
    apart: int = 0
    joined: int = 0
    together: set[int] = field(default_factory=set)

    def notes(self) -> tuple[str, ...]:
        said = (
            (self.flat, "{} outlines of the model show the bare table in depth and were dropped."),
            (self.apart, "{} masks of the model covered things that depth sees apart and were split."),
            (self.joined, "{} parts that the model sees as things of their own were joined to what carries them."),
            (
                len(self.together),
                "{} masks of the model cover what depth sees as touching things: each is kept as one.",
            ),
        )
        return tuple(sentence.format(count) for count, sentence in said if count)


def fuse(masks: Sequence[Bool], evidence: Evidence, limits: MaskLimits) -> tuple[list[Thing], tuple[str, ...]]:
    """Instances of a frame from a model's masks and the geometric segmenter's regions (see the module docstring).

    Without masks the result is the geometric segmenter's. Nothing but the frame decides: the same masks and evidence
    give the same instances.

    Args:
        masks: (H, W) masks, the more trustworthy of equal ones first; they may overlap.
        evidence: What depth says about the frame.
        limits: Conditions for an instance; its largest share of background and smallest area count here.

    Returns:
        Instances without overlap, those with a source in its order, then those from depth; and notes.
    """
    doubts = _Doubts()
    pieces: list[_Piece] = []
    seen = [mask & (evidence.labels != -1) for mask in masks]
    for i, mask in enumerate(seen):
        if mask.any() and may_be_thing(mask, evidence.around, limits.background):
            parts = _unclaimed(_parts(mask, evidence, doubts), [*seen[:i], *seen[i + 1 :]])
            pieces += [_Piece(part, i, _region(part, evidence.labels)) for part in parts]
        elif mask.any():
            doubts.flat += 1
    pieces += _missed(pieces, evidence, limits)
    pieces = _with_their_carriers(pieces, evidence, doubts)
    owner = paint(evidence.labels.shape, [piece.mask for piece in pieces])
    whole = completed(owner, [_own_region(piece, pieces) for piece in pieces], evidence)
    least = max(int(limits.min_area * evidence.labels.size), 6)
    things = [Thing(whole == i, piece.source) for i, piece in enumerate(pieces, start=1)]
    return [thing for thing in things if np.count_nonzero(thing.mask) >= least], doubts.notes()


def _own_region(piece: _Piece, pieces: Sequence[_Piece]) -> int | None:
    """The region in which a piece may grow: one that it shares with no other. None for what depth alone sees."""
    if piece.source is None:
        return None
    return piece.region if sum(other.region == piece.region for other in pieces) == 1 else 0


def _inside(labels: I32, mask: Bool) -> npt.NDArray[np.intp]:
    """(L + 1,) pixels of each label in a mask."""
    return np.bincount(np.maximum(labels[mask], 0), minlength=int(labels.max(initial=0)) + 1)


def _region(mask: Bool, labels: I32) -> int:
    """The region to which a mask belongs; 0 for none."""
    found = _inside(labels, mask)
    found[0] = 0
    best = int(found.argmax())
    return best if found[best] and found[best] >= OWN_SHARE * found.sum() else 0


# --- masks over several things -----------------------------------------------------------------------------------------


def _parts(mask: Bool, evidence: Evidence, doubts: _Doubts) -> list[Bool]:
    """The mask, divided between things that depth sees apart, the largest first."""
    labels = evidence.labels
    found, sizes = _inside(labels, mask), np.bincount(np.maximum(labels, 0).ravel())
    found[0] = 0
    units = np.flatnonzero((found > 0) & (found >= UNIT_SHARE * sizes) & (found >= CRUMB_SHARE * mask.sum()))
    if len(units) < 2:
        return [mask]
    group = {int(u): int(u) for u in units}
    pixels = {u: np.flatnonzero((mask & (labels == u)).ravel()) for u in group}
    for k, a in enumerate(group):
        for b in list(group)[k + 1 :]:
            if group[a] != group[b] and _connected(pixels[a], pixels[b], evidence):
                joined = group[b]
                group = {u: group[a] if g == joined else g for u, g in group.items()}
    if len(set(group.values())) == 1:
        doubts.together.add(int(units[0]))
        return [mask]
    doubts.apart += 1
    seeds = np.zeros(labels.shape, dtype=np.int32)
    for u, g in group.items():
        seeds.reshape(-1)[pixels[u]] = g
    owner = np.where(mask, nearest_label(seeds), 0)
    return sorted((owner == g for g in sorted(set(group.values()))), key=lambda part: -int(part.sum()))


def _unclaimed(parts: list[Bool], others: Sequence[Bool]) -> list[Bool]:
    """The parts of a divided mask that no other mask shows; one that was not divided stays."""
    if len(parts) == 1:
        return parts
    return [p for p in parts if all((p & other).sum() < 0.5 * min(p.sum(), max(other.sum(), 1)) for other in others)]


def _connected(a: npt.NDArray[np.intp], b: npt.NDArray[np.intp], evidence: Evidence) -> bool:
    """Whether two sets of pixels may show one thing: their surfaces meet, or something nearer hides what is between."""
    points = evidence.points_m.reshape(3, -1)
    near, i, j = _closest(points, a, b)
    if near <= APART_M or not np.isfinite(near):
        return True
    width = evidence.labels.shape[1]
    ends = np.array([[a[i] // width, a[i] % width], [b[j] // width, b[j] % width]], dtype=np.float64)
    between = np.rint(np.linspace(ends[0], ends[1], 11)[1:-1]).astype(int)
    rows, columns = between.T
    nearest = min(evidence.depth_m.ravel()[a[i]], evidence.depth_m.ravel()[b[j]])
    hidden = (evidence.depth_m[rows, columns] < nearest - APART_M) | (evidence.labels[rows, columns] == -1)
    return bool(np.mean(hidden) > 0.5)


def _closest(flat_m: F32, a: npt.NDArray[np.intp], b: npt.NDArray[np.intp]) -> tuple[float, int, int]:
    """Distance between the points of two sets of pixels, and the nearest of each; NaN if one has no depth."""
    a_known, b_known = (np.flatnonzero(np.isfinite(flat_m[2, pixels])) for pixels in (a, b))
    if not len(a_known) or not len(b_known):
        return float("nan"), 0, 0
    some = a_known[:: max(len(a_known) // (4 * SAMPLE), 1)]
    away, at = cKDTree(flat_m[:, b[b_known]].T).query(flat_m[:, a[some]].T)
    best = int(away.argmin())
    return float(np.quantile(away, NEAREST_SHARE)), int(some[best]), int(b_known[at[best]])


# --- things without a mask ---------------------------------------------------------------------------------------------


def _missed(pieces: Sequence[_Piece], evidence: Evidence, limits: MaskLimits) -> list[_Piece]:
    """Regions, or what is left of them, that no mask covers."""
    labels, width = evidence.labels, evidence.around.pixels(FRINGE_PX)
    free = labels > 0
    for piece in pieces:
        free &= ~piece.mask
    left, sizes = _inside(labels, free), np.bincount(np.maximum(labels, 0).ravel())
    least = max(limits.min_area * labels.size, 6)
    found = []
    for region in np.flatnonzero(left >= least):
        if region == 0:
            continue
        rest = free & (labels == region)
        if left[region] < sizes[region]:
            rest = _thick(rest, width)
            rest = _thick(_unlike_table(rest, evidence), width)
        if rest.sum() >= least:
            found.append(_Piece(rest, None, int(region)))
    return found


def _unlike_table(rest: Bool, evidence: Evidence) -> Bool:
    """The pixels of what masks leave of regions that look like the rest of their region, not like the table beside."""
    pixels = np.flatnonzero(rest)
    if not len(pixels):
        return rest
    here = window_of(pixels, rest.shape, 4 * evidence.around.pixels(FRINGE_PX))
    region = evidence.labels[here] == evidence.labels.ravel()[pixels[0]]
    out = np.zeros_like(rest)
    out[here] = alike(region & ~rest[here], rest[here], near_pixels(evidence, here))
    return out


def _thick(mask: Bool, width: int) -> Bool:
    """The mask without strips narrower than twice the width."""
    window = bounding_slices(mask)
    out = np.zeros_like(mask)
    if window is not None:
        inside = cv2.copyMakeBorder(mask[window].astype(np.uint8), *(width,) * 4, cv2.BORDER_CONSTANT, value=0)
        opened = cv2.morphologyEx(inside, cv2.MORPH_OPEN, disc(width))
        out[window] = opened[width:-width, width:-width].astype(bool)
    return out


# --- parts of things ---------------------------------------------------------------------------------------------------


def _with_their_carriers(pieces: list[_Piece], evidence: Evidence, doubts: _Doubts) -> list[_Piece]:
    """The pieces, those that do not stand by themselves joined to the largest one of their region that carries them."""
    order = sorted(range(len(pieces)), key=lambda i: (int(pieces[i].mask.sum()), -i))
    kept = dict(enumerate(pieces))
    for k, i in enumerate(order):
        part = kept[i]
        for j in reversed(order[k + 1 :]):
            carrier = kept[j]
            if part.region and part.region == carrier.region and _is_one(part, carrier, evidence):
                doubts.joined += None not in (part.source, carrier.source) and not _nested(part.mask, carrier.mask)
                named = carrier.source if carrier.source is not None else part.source
                kept[j] = replace(carrier, mask=carrier.mask | part.mask, source=named)
                del kept[i]
                break
    return sorted(kept.values(), key=lambda piece: (piece.source is None, piece.source or 0))


def _is_one(a: _Piece, b: _Piece, evidence: Evidence) -> bool:
    """Whether two pieces of one region, the smaller first, are one thing: one is in the other, or does not stand by itself.

    What the model did not see as a thing of its own (it has no source) is then a part of what it saw.
    """
    if a.source is None and _nested(a.mask, fill_holes(b.mask)):
        return True  # the bottom of a bowl
    if not _continuous(a.mask, b.mask, evidence):
        return False
    if _nested(a.mask, b.mask):
        return True
    part, carrier = sorted((a, b), key=lambda piece: -_lowest(piece.mask, evidence))
    if not _lowest(part.mask, evidence) > LOW_M:
        return False
    if None in (a.source, b.source):
        return True
    return _floats(part.mask, carrier.mask, evidence) or _over(
        _points(part.mask, evidence), _points(carrier.mask, evidence)
    )


def _continuous(a: Bool, b: Bool, evidence: Evidence) -> bool:
    """The surfaces of two masks go on into each other along most of their common border, as those of content and bowl don't."""
    reach = evidence.around.pixels(3)
    here = window_of(np.flatnonzero(a), a.shape, 2 * reach)
    known = a[here] & np.isfinite(evidence.depth_m[here])
    size = (2 * reach + 1, 2 * reach + 1)
    count = cv2.boxFilter(known.astype(np.float32), -1, size, normalize=False, borderType=cv2.BORDER_CONSTANT)
    depth = np.where(known, evidence.depth_m[here], np.float32(0))
    mean = cv2.boxFilter(depth, -1, size, normalize=False, borderType=cv2.BORDER_CONSTANT) / np.maximum(count, 1)
    border = (count > 0.5) & b[here] & ~a[here] & np.isfinite(evidence.depth_m[here])
    step = np.abs(mean - evidence.depth_m[here])[border]
    return len(step) > 0 and bool(np.mean(step < STEP_M) >= CONTINUOUS_SHARE)


def _lowest(mask: Bool, evidence: Evidence) -> float:
    """Height of the lowest points of a mask above the table, m; 0 without depth, as if it stood there."""
    height = evidence.around.height_m[mask]
    height = height[np.isfinite(height)]
    return float(np.quantile(height, 0.05)) if len(height) else 0.0


def _nested(mask: Bool, other: Bool) -> bool:
    return bool((mask & other).sum() >= NESTED_SHARE * mask.sum())


def _floats(mask: Bool, carrier: Bool, evidence: Evidence) -> bool:
    """The camera looks past most of the mask's lower edge, at something further away: nothing hides a foot."""
    step = evidence.around.pixels(6)
    under = below(mask, evidence.around, step) & ~carrier
    depth = evidence.depth_m[mask]
    far = evidence.depth_m[under] > float(np.nanmedian(depth)) + APART_M
    return bool(np.count_nonzero(far) > 0.5 * below(mask, evidence.around, step).sum())


def _points(mask: Bool, evidence: Evidence) -> F64:
    """(N, 3) some points of a mask."""
    points: F32 = evidence.points_m[:, mask]
    points = points[:, np.isfinite(points[2])]
    return points[:, :: max(points.shape[1] // SAMPLE, 1)].T.astype(np.float64)


def _over(points_m: F64, others_m: F64) -> bool:
    """Whether points are mostly above others, seen along z: within the circle around those, whose back is not visible."""
    if not len(points_m) or not len(others_m):
        return False
    centre, radius = cv2.minEnclosingCircle((others_m[:, :2] * 1000).astype(np.float32))
    beside = np.hypot(*(points_m[:, :2] - np.array(centre) / 1000).T)
    return bool(np.mean(beside < radius / 1000 + OVER_M) >= OVER_SHARE)
