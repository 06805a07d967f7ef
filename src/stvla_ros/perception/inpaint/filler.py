"""Fill frame after frame, reusing the structure of an unchanged hole."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from stvla_ros.config import param
from stvla_ros.errors import OutcomeCode, StageError
from stvla_ros.perception.inpaint.elevation import ElevationMap, Ground
from stvla_ros.perception.inpaint.grain import Copies, Plane
from stvla_ros.perception.inpaint.grid import Grid, Slices
from stvla_ros.perception.inpaint.hole import Sight, find_hole, raised_table, stray_depth, unlike_table
from stvla_ros.perception.inpaint.jitter import Jitter
from stvla_ros.perception.inpaint.layers import LOOSE, TABLE, pixels_beyond, split_layers
from stvla_ros.perception.inpaint.masks import and_not, as_mask, between, dilated, square_dilated
from stvla_ros.perception.inpaint.patch import GRAIN_CELLS, Cells, Patch, Pixels, View
from stvla_ros.perception.inpaint.shadows import BORDER, cast_shadows
from stvla_ros.perception.inpaint.surfaces import Surface, deepest, table_tolerance_m
from stvla_ros.tabletop.support_plane import SupportPlane
from stvla_ros.types import F32, U8, Bool, Camera, RgbdFrame

_MIN_STRIDE = 3
_MIN_FRINGE_PX = 4  # lens and sensor blur some pixels of a small image too
_MAX_CELLS = 6000
_REACH_CELLS = 16
_SHADED_SHARE = 0.2


@dataclass(frozen=True)
class FillConfig:
    """Settings of the fill."""

    grow_px: float = param(
        5.0, "greatest width of the fringe removed with a mask, in a 640 px wide image [px]", ge=0.0, le=50.0
    )
    feather_px: int = param(3, "soft edge around the hole [px]", ge=0, le=32)
    shadows: bool = param(True, "also remove the shadows that removed objects cast on the table")
    grain: float = param(
        1.0, "contrast of the grain of fills relative to that of the surface around them", ge=0.0, le=2.0
    )
    smooth_px: int = param(20, "the table's deviation from a plane is averaged over this many pixels", ge=1, le=200)


@dataclass(frozen=True, eq=False)
class Filled:
    """Outcome of :func:`fill`.

    Attributes:
        rgb: (H, W, 3).
        depth_m: (H, W).
        hidden: (H, W) pixels replaced in colour, depth, or both, without the feathered ones around them.
    """

    rgb: U8
    depth_m: F32
    hidden: Bool


class Filler:
    """Fills frame after frame. The structure of a hole is computed once and reused while the hole stays.

    It is reused if the camera has not moved and the mask only jitters (:class:`.jitter.Jitter`): what the mask gains at
    the rim is added to the hole, what it loses for a moment stays in it. Colours and depths always come from the current
    frame.
    """

    def __init__(self, config: FillConfig) -> None:
        self._config = config
        self._plan: _Plan | None = None

    def reset(self) -> None:
        """Forget the hole."""
        self._plan = None

    def fill(self, frame: RgbdFrame, remove: Bool, keep: Bool, table: SupportPlane, height_m: F32) -> Filled:
        """Replace pixels by the background behind them.

        Args:
            frame: The frame.
            remove: (H, W) pixels to remove.
            keep: (H, W) pixels that stay bit for bit (kept objects, the robot); they win over ``remove``.
            table: The support plane in this frame.
            height_m: (H, W) height of each pixel above the table, NaN where unknown.

        Raises:
            StageError: INTERNAL when masks or heights differ from the image in size.
        """
        _check_sizes(frame, remove, keep, height_m)
        kept = as_mask(keep)
        gone = and_not(as_mask(remove), kept)
        if not cv2.countNonZero(gone):
            self.reset()
            return Filled(frame.rgb, frame.depth_m, np.zeros(remove.shape, dtype=bool))
        plan = self._plan
        if plan is not None and plan.is_of(frame.camera):
            if plan.follows(gone, kept, frame.stamp_ns):
                return plan.paint(frame, kept, table, height_m)
            gone = and_not(gone | plan.steady(gone.shape), kept)
        copies = None if plan is None else plan.copies
        self._plan = plan = _Plan(self._config, frame, gone, kept, table, height_m, copies)
        return plan.paint(frame, kept, table, height_m)


def fill(
    frame: RgbdFrame, remove: Bool, keep: Bool, table: SupportPlane, height_m: F32, config: FillConfig | None = None
) -> Filled:
    """:meth:`Filler.fill` of a single frame."""
    return Filler(config or FillConfig()).fill(frame, remove, keep, table, height_m)


class _Plan:
    """A hole, the layers behind it, and their patches."""

    def __init__(
        self,
        config: FillConfig,
        frame: RgbdFrame,
        gone: U8,
        kept: U8,
        table: SupportPlane,
        height_m: F32,
        copies: Copies | None,
    ) -> None:
        self._camera, self._config = frame.camera, config
        self._grow = round(config.grow_px * frame.camera.width_px / 640)
        self._fringe = fringe = max(self._grow, _MIN_FRINGE_PX) if self._grow > 1 else self._grow
        stride = _stride(frame.camera, gone)
        self._grid = grid = Grid.around(gone, 3 * self._grow + config.feather_px + _REACH_CELLS * stride, stride)
        kept, height = kept[grid.window], height_m[grid.window]
        sight = Sight.of(frame.depth_m[grid.window], height, table_tolerance_m(table))
        self._wide = dilated(gone[grid.window], fringe)
        margin = self._fringed(kept) | self._wide
        view = View(frame.rgb[grid.window], height, and_not(sight.table, margin))
        seen = Cells.of(grid, view)
        ring = and_not(margin, gone[grid.window] | kept)
        unlike = unlike_table(view.rgb, ring, view.known, grid, seen.values[..., :3], seen.share)
        raised = raised_table(height, view.known, grid, seen.values[..., 3], seen.share)
        self._hole = find_hole(gone[grid.window], self._wide, kept, sight, height, fringe, unlike, raised)
        shadow = self._shadows(view, seen, kept, frame, table)
        closed = self._hole.depth | self._fringed(kept)
        shadow = and_not(shadow, self._fringed(kept) | self._hole.core | and_not(sight.other, self._hole.depth))
        colour = self._hole.core | shadow
        depth = self._hole.depth | shadow
        self._colour, self._depth, self._closed = colour, depth, colour | depth
        beyond = pixels_beyond(grid, height, and_not(sight.other, closed), table_tolerance_m(table))
        surface = and_not(sight.table, closed | shadow)
        near_px = 4 * fringe + GRAIN_CELLS * stride
        self._layers = split_layers(grid, self._closed, surface, beyond, frame.depth_m[grid.window], near_px)
        self._patches = {k: self._patch(k, colour, depth) for k in self._present()}
        self._hidden = np.zeros(gone.shape, dtype=bool)
        self._hidden[grid.window] = self._closed > 0
        self._first, self._copies = True, copies
        self._stamp_ns = frame.stamp_ns
        self._jitter = Jitter(self._hole, GRAIN_CELLS * stride, frame.camera.width_px)

    def _shadows(self, view: View, seen: Cells, kept: U8, frame: RgbdFrame, table: SupportPlane) -> U8:
        """Pixels in the shadow of removed objects."""
        grid = self._grid
        if not self._config.shadows:
            return np.zeros_like(view.known)
        ground = Ground.of(grid, frame.camera, table)
        depth_m = frame.depth_m[grid.window]
        things = ElevationMap.of(grid, frame.camera, view.deviation, depth_m, self._hole.raw, kept, ground)
        core = grid.share(self._hole.core) > 0
        strength = cast_shadows(seen.values[..., :3], seen.share > _SHADED_SHARE, core, things, ground)
        return between(grid.spread(strength), BORDER, 1e6)

    def _fringed(self, kept: U8) -> U8:
        """Kept pixels with a margin that may belong to them: their colours are not used for fills."""
        return square_dilated(kept, self._grow // 2)

    def _present(self) -> list[int]:
        labels = self._layers.labels
        return [TABLE] if labels is None else [int(k) for k in np.unique(labels[self._closed > 0])]

    def _patch(self, layer: int, colour: U8, depth: U8) -> tuple[Patch, Slices]:
        """The patch of a layer, and the part of the window that it covers."""
        grid, config = self._grid, self._config
        rows, columns = (slice(0, s.stop - s.start) for s in grid.window)
        part = (rows, columns)
        if self._layers.labels is not None:
            colour, depth = self._own(colour, layer), self._own(depth, layer)
            grid, part = grid.part(colour | depth, config.smooth_px + _REACH_CELLS * grid.stride)
        smooth_px = 1 if layer == LOOSE else config.smooth_px
        width = self._camera.width_px
        return Patch(grid, colour[part], depth[part], width, config.feather_px, smooth_px, layer == TABLE), part

    def _own(self, mask: U8, layer: int, part: Slices = (slice(None),) * 2) -> U8:
        """The pixels of a mask in a part of the window that belong to a layer."""
        labels = self._layers.labels
        return mask[part] if labels is None else mask[part] & as_mask(labels[part] == layer)

    @property
    def copies(self) -> Copies | None:
        """What the grain on the table was copied from, so that the next hole goes on with it."""
        table = self._patches.get(TABLE)
        return self._copies if table is None or table[0].copies is None else table[0].copies

    def is_of(self, camera: Camera) -> bool:
        """The camera has not moved."""
        return camera is self._camera or _same(camera, self._camera)

    def follows(self, gone: U8, kept: U8, stamp_ns: int) -> bool:
        """Whether this hole serves a mask, after its rim has been moved if need be."""
        window = self._grid.window
        inside = gone[window]
        if cv2.countNonZero(inside) != cv2.countNonZero(gone):
            return False
        elapsed_ns, self._stamp_ns = stamp_ns - self._stamp_ns, stamp_ns
        added = self._jitter.follow(inside, kept[window], elapsed_ns)
        if added is None:
            return False
        if cv2.countNonZero(added):
            self._widen(and_not(added, self._closed))
        return True

    def steady(self, shape: tuple[int, ...]) -> U8:
        """(H, W) what still belongs to the removed things, though a mask lacks it for a moment."""
        out = np.zeros(shape, dtype=np.uint8)
        out[self._grid.window] = self._jitter.steady
        return out

    def _widen(self, rim: U8) -> None:
        """Add pixels beside the hole."""
        self._colour, self._depth, self._closed = self._colour | rim, self._depth | rim, self._closed | rim
        self._wide = self._wide | rim
        self._hidden[self._grid.window] = self._closed > 0
        for layer, (patch, part) in self._patches.items():
            if cv2.countNonZero(self._own(rim, layer, part)):
                patch.cover(self._own(self._colour, layer, part), self._own(self._depth, layer, part))

    def _stray(self, frame: RgbdFrame, kept: U8, table: SupportPlane, height_m: F32) -> U8:
        """Pixels beside the hole whose depth is flying or lost in this frame."""
        window = self._grid.window
        sight = Sight.of(frame.depth_m[window], height_m[window], table_tolerance_m(table))
        return and_not(stray_depth(self._wide, kept, sight, height_m[window], self._fringe), self._closed)

    def paint(self, frame: RgbdFrame, kept: U8, table: SupportPlane, height_m: F32) -> Filled:
        """Fill this hole in a frame."""
        rgb, depth = frame.rgb.copy(), frame.depth_m.copy()
        kept_here = kept[self._grid.window]
        first, self._first = self._first, False
        stray = np.zeros_like(kept_here) if first else self._stray(frame, kept_here, table, height_m)
        open_ = ~(self._closed | stray | self._fringed(kept_here))
        for layer, (patch, part) in self._patches.items():
            surface = Surface.make(layer, self._layers.planes, frame.camera, table)
            view = _view(patch.grid, surface, frame, height_m, open_[part])
            colour, off = patch.smooth(view)
            if first and self._config.grain > 0 and surface.plane is not None and patch.coloured:
                plane = Plane.of(patch.grid, frame.camera, surface.plane)
                if plane is not None:
                    before = self._copies if layer == TABLE else None
                    patch.learn_grain(view, frame.rgb, plane, self._config.grain, before)
            patch.paint(rgb, view, colour, ~kept_here[part])
            beside = Pixels.of(self._own(stray, layer, part), patch.grid, frame.camera.width_px)
            for px in (patch.depth, beside):
                pick = px.where(~kept_here[part])
                behind = surface.depth(off.reshape(-1).take(px.inside[pick]), px.u[pick], px.v[pick])
                if not np.isfinite(behind).all():
                    behind[~np.isfinite(behind)] = deepest(frame.depth_m[patch.grid.window], open_[part])
                depth.reshape(-1)[px.full[pick]] = behind
        hidden = self._hidden & ~(kept > 0)
        hidden[self._grid.window] |= stray > 0
        return Filled(rgb, depth, hidden)


def _check_sizes(frame: RgbdFrame, *images: Bool | F32) -> None:
    for image in images:
        if image.shape != frame.depth_m.shape:
            raise StageError(
                OutcomeCode.INTERNAL,
                f"The fill wanted masks and heights of the image's {frame.depth_m.shape} pixels, got {image.shape}: "
                "segment the same frame that is filled.",
            )


def _view(grid: Grid, surface: Surface, frame: RgbdFrame, height_m: F32, open_: U8) -> View:
    """The visible part of a surface in a frame; if there is none, all visible pixels lend their colour."""
    rgb = frame.rgb[grid.window]
    deviation, known = surface.seen(grid, frame, height_m, open_)
    return View(rgb, deviation, known) if known.any() else View(rgb, np.zeros_like(deviation), open_)


def _stride(camera: Camera, gone: U8) -> int:
    """Edge of the cells, px: about 160 cells per row of a usual image, fewer for a large hole."""
    stride = max(round(camera.width_px / 160), _MIN_STRIDE)
    while cv2.countNonZero(gone) > _MAX_CELLS * stride**2:
        stride *= 2
    return stride


def _same(a: Camera, b: Camera) -> bool:
    size = (a.width_px, a.height_px) == (b.width_px, b.height_px)
    return size and np.array_equal(a.K, b.K) and np.array_equal(a.T_base_camera, b.T_base_camera)
