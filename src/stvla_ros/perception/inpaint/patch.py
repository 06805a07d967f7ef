"""The hidden pixels of one layer: their membrane, and how they are painted into a frame."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from stvla_ros.perception.inpaint.grain import Copies, Plane, detail
from stvla_ros.perception.inpaint.grid import Grid, Membrane, along_gradients, normalised_blur
from stvla_ros.perception.inpaint.sources import Sources, ghosts, odd_cells
from stvla_ros.tabletop.instances import every_nth
from stvla_ros.types import F32, U8, Bool

Indices = npt.NDArray[np.intp]

_KNOWN_SHARE = 0.25
"""A cell has a value if the layer is visible in at least this share of it."""

_LOST_SHARE = 0.1
"""A cell at the boundary of a membrane that shows less than this takes the value of those beside it."""

_LOST_BOUNDARY = 0.1
"""A membrane is reused until more than this share of its boundary does, or ..."""

_GAINED_SHARE = 0.6
"""... a cell at the hole that had no value shows more than this."""

_GRADIENT_CELLS, _BESIDE_CELLS = 11, 5

GRAIN_CELLS = 2
"""Grain is copied for so many cells around the hole, which serve when its rim moves."""

_CLEAN_SHARE = 0.999
"""A cell lends its grain if the layer is visible in all of it."""


@dataclass(frozen=True, eq=False)
class View:
    """The visible part of a layer in one frame, over the patch's window.

    Attributes:
        rgb: (h, w, 3).
        deviation: (h, w) of the visible pixels from the layer's plane.
        known: (h, w) pixels that show the layer, not 0.
    """

    rgb: U8
    deviation: F32
    known: U8


@dataclass(frozen=True, eq=False)
class Cells:
    """A view averaged over cells.

    Attributes:
        values: (rows, columns, 4) mean colour and deviation of the pixels that show the layer.
        share: (rows, columns) share of each cell that shows it.
    """

    values: F32
    share: F32

    @classmethod
    def of(cls, grid: Grid, view: View) -> Cells:
        share = grid.share(view.known)
        rgb = cv2.bitwise_and(view.rgb, view.rgb, mask=view.known).astype(np.float32)
        deviation = np.asarray(cv2.copyTo(view.deviation, view.known), dtype=np.float32)  # 0 elsewhere
        values = np.dstack([grid.pooled(rgb), grid.pooled(deviation)])
        values /= np.maximum(share, 1e-6)[..., None]
        return cls(values, share)

    def smoothed(self, size: int) -> F32:
        """Values with the deviation averaged over a square of ``size`` cells."""
        out = self.values.copy()
        out[..., 3:] = normalised_blur(self.values[..., 3:], self.share, size)[0]
        return out


@dataclass(frozen=True, eq=False)
class Pixels:
    """A set of pixels of a window.

    Attributes:
        inside: (N,) flat indices in the window.
        full: (N,) flat indices in the image.
        u: (N,) column in the image.
        v: (N,) row in the image.
    """

    inside: Indices
    full: Indices
    u: F32
    v: F32

    @classmethod
    def of(cls, mask: U8, grid: Grid, width_px: int) -> Pixels:
        rows, columns = grid.window
        inside = np.flatnonzero(mask > 0)
        v, u = np.divmod(inside, mask.shape[1])
        v, u = v + rows.start, u + columns.start
        return cls(inside, v * width_px + u, u.astype(np.float32), v.astype(np.float32))

    def where(self, mask: U8) -> Bool | slice:
        """Those on a mask over the window; a slice if all are, which costs nothing to apply."""
        chosen = mask.reshape(-1).take(self.inside) > 0
        return slice(None) if chosen.all() else chosen


class Patch:
    """Everything that is reused while the hole stays: pixels, feather, factorised membrane.

    Args:
        grid: Cells over the window.
        colour: (h, w) pixels whose colour is replaced; this and the other mask are 0 and 255.
        depth: (h, w) pixels whose depth is replaced.
        width_px: Width of the image.
        feather_px: Width of the feather around the hole.
        smooth_px: Edge of the square over which the deviation from the plane is averaged.
        uniform: The layer is of one material: visible pixels of another colour beside the hole lend it none.
    """

    def __init__(
        self, grid: Grid, colour: U8, depth: U8, width_px: int, feather_px: int, smooth_px: int, uniform: bool = True
    ) -> None:
        self.grid, self._uniform = grid, uniform
        self._width_px, self._feather_px = width_px, feather_px
        self._texture: F32 | None = None
        self._grain: tuple[F32, F32] | None = None
        self.cover(colour, depth)
        self._smooth_cells = 2 * round(smooth_px / grid.stride / 2) + 1
        self._membrane: Membrane | None = None
        self._means: F32
        self._clean: Bool
        self._ghosts: Bool = np.zeros_like(self._hidden)
        self.copies: Copies | None = None

    def cover(self, colour: U8, depth: U8) -> None:
        """Replace these pixels from now on; the membrane and the grain stay."""
        grid, width_px = self.grid, self._width_px
        self.colour = Pixels.of(colour, grid, width_px)
        self.depth = Pixels.of(depth, grid, width_px)
        weight = feather(colour, self._feather_px)
        self.soft = Pixels.of(weight, grid, width_px)
        t = weight.reshape(-1)[self.soft.inside].astype(np.float32) / np.float32(256)
        self.soft_weight = (t * t * (3 - 2 * t))[:, None]
        self._hidden: Bool = grid.share(colour | depth) > 0
        self._take_grain()

    @property
    def coloured(self) -> bool:
        """It replaces the colour of at least a cell: of less, nobody sees the grain."""
        return len(self.colour.inside) >= self.grid.stride**2

    def _take_grain(self) -> None:
        if self._texture is not None:
            flat = self._texture.reshape(-1, 3)
            self._grain = flat.take(self.colour.inside, axis=0), flat.take(self.soft.inside, axis=0)

    def smooth(self, view: View, cells: Cells | None = None) -> tuple[F32, F32]:
        """The layer continued into the hole: colour (h, w, 3) and deviation (h, w); ``cells`` are those of the view."""
        seen = cells or Cells.of(self.grid, view)
        continued = self._continued(seen.smoothed(self._smooth_cells), seen.share, view.rgb)
        *colour, deviation = cv2.split(continued)
        rgb = np.asarray(cv2.merge(colour), dtype=np.float32)
        return self.grid.spread(rgb), self.grid.spread(np.asarray(deviation, dtype=np.float32))

    def learn_grain(self, view: View, rgb: U8, plane: Plane, contrast: float, before: Copies | None) -> None:
        """Copy the surface's grain from a frame, once: so it stays while the hole does.

        Args:
            view: The visible part of the surface.
            rgb: (H, W, 3) the image.
            plane: Coordinates on the surface.
            contrast: Of the grain, relative to what is seen.
            before: Copies of an earlier hole on the same surface.
        """
        ahead = plane.ahead()
        sources = Sources.of(self.grid, view.rgb, self._means, self._clean & ahead)
        if not sources.strength:
            return
        wide = cv2.dilate(self._hidden.astype(np.uint8), np.ones((2 * GRAIN_CELLS + 1,) * 2, np.uint8)) > 0
        self.copies = Copies.of(plane, wide & ahead, sources, before)
        texture = detail(plane, self.copies, rgb, sources)
        share = contrast * sources.strength
        self._texture = np.asarray(
            cv2.addWeighted(texture, share, texture, 0, 1 - share, dst=texture), dtype=np.float32
        )
        self._take_grain()

    def paint(self, rgb: U8, view: View, colour: F32, writable: U8) -> None:
        """Write the colours and their feather into an image (H, W, 3).

        Args:
            rgb: Written to.
            view: The frame.
            colour: From :meth:`smooth`.
            writable: (h, w) pixels that are not kept.
        """
        flat, smooth = rgb.reshape(-1, 3), colour.reshape(-1, 3)
        soft = self.soft.where(view.known & writable)
        full, weight = self.soft.full[soft], self.soft_weight[soft]
        around, behind = flat.take(full, axis=0), smooth.take(self.soft.inside[soft], axis=0)
        pick = self.colour.where(writable)
        new, at = smooth.take(self.colour.inside[pick], axis=0), self.colour.full[pick]
        if self._grain is not None:
            limits = _range(view)
            new, behind = _limited(new * self._grain[0][pick], limits), _limited(behind * self._grain[1][soft], limits)
        _put(flat, at, _rounded(new))
        _put(flat, full, _rounded(weight * behind + (1 - weight) * around))

    def _continued(self, values: F32, share: F32, rgb: U8) -> F32:
        membrane = self._membrane
        if membrane is None or not self._is_reusable(membrane, share):
            self._membrane = membrane = self._new_membrane(values, share)
        known = (share >= _LOST_SHARE) & ~self._ghosts
        weight = known.ravel().astype(np.float32)
        mean = weight @ values.reshape(-1, 4) / weight.sum() if known.any() else np.append(rgb.mean(axis=(0, 1)), 0)
        cells = np.asarray(cv2.copyTo(values, known.view(np.uint8)), dtype=np.float32)  # 0 elsewhere
        cells[membrane.unknown] = membrane.solve(_with_lost(values, known, membrane.boundary, mean), mean)
        valid = known | membrane.unknown
        around = normalised_blur(cells, valid.astype(np.float32), 3)[0]
        return np.asarray(cv2.copyTo(cells, valid.view(np.uint8), around), dtype=np.float32)

    def _new_membrane(self, values: F32, share: F32) -> Membrane:
        known = share >= _KNOWN_SHARE
        learns = self._membrane is None and self.coloured  # the grain, once
        if self._uniform or learns:
            odd, foreign = odd_cells(values[..., :3], known)
            self._means, self._clean = values[..., :3], (share > _CLEAN_SHARE) & ~odd
            if self._uniform:
                self._ghosts = ghosts(foreign, known, self._hidden & ~known)
        known &= ~self._ghosts
        unknown = self._hidden & ~known
        near = cv2.dilate(unknown.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
        self._unused = np.flatnonzero(near & ~known & ~self._ghosts)
        return Membrane(unknown, known, along_gradients(values[..., :3], known, _GRADIENT_CELLS))

    def _is_reusable(self, membrane: Membrane, share: F32) -> bool:
        flat = share.ravel()
        lost = np.count_nonzero(flat[membrane.boundary] < _LOST_SHARE)
        if lost > _LOST_BOUNDARY * len(membrane.boundary) or (flat[self._unused] >= _GAINED_SHARE).any():
            return False
        blind = ~(membrane.unknown | (share >= _LOST_SHARE))
        return not (self._hidden & (cv2.erode(blind.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0)).any()


def _with_lost(values: F32, known: Bool, boundary: Indices, mean: npt.NDArray[np.floating]) -> F32:
    """Values in which cells of the boundary that show nothing have the mean of those around them that do."""
    lost = boundary[~known.ravel()[boundary]]
    if not len(lost):
        return values
    around, weight = normalised_blur(values, known.astype(np.float32), _BESIDE_CELLS)
    values = values.copy()
    flat = values.reshape(-1, values.shape[-1])
    flat[lost] = np.where(weight.reshape(-1, 1)[lost] > 0, around.reshape(flat.shape)[lost], mean)
    return values


def _put(flat: U8, at: Indices, colours: U8) -> None:
    """Write colours (N, 3) into an image (n, 3): each as one item of three bytes, which is three times as fast."""
    flat.view("V3")[:, 0][at] = colours.view("V3")[:, 0]


def _rounded(colour: F32) -> U8:
    return np.asarray(colour + np.float32(0.5)).astype(np.uint8)


def _range(view: View) -> npt.NDArray[np.float64]:
    """(2, 3) least and greatest colour of the visible pixels, of which every fourth is read."""
    known = every_nth(view.known, 2)
    if not cv2.countNonZero(known):
        return np.array([[0.0] * 3, [255.0] * 3])
    channels = cv2.split(every_nth(view.rgb, 2))
    return np.array([cv2.minMaxLoc(channel, known)[:2] for channel in channels]).T


def _limited(colour: F32, limits: npt.NDArray[np.float64]) -> F32:
    """Colours (N, 3) within the limits."""
    columns = (
        np.clip(colour[:, k], *limits[:, k].tolist()) for k in range(3)
    )  # by column: broadcasting over three is slow
    return np.column_stack([*columns])


def feather(mask: U8, width_px: int) -> U8:
    """Weights around a mask of 0 and 255: up to 255 next to it, falling to 0 beyond ``width_px``, 0 inside."""
    blur = width_px // 2
    near = cv2.dilate(mask, np.ones((3, 3), np.uint8), iterations=width_px - blur)
    soft = cv2.boxFilter(near, -1, (2 * blur + 1, 2 * blur + 1), borderType=cv2.BORDER_REPLICATE)
    return np.asarray(cv2.bitwise_and(soft, cv2.bitwise_not(mask)), dtype=np.uint8)
