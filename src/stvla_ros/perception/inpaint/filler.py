"""Filling one frame, and what is kept of it for the next."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from stvla_ros.config import param
from stvla_ros.geometry.tables import Table
from stvla_ros.perception.inpaint.grid import Grid, dilated
from stvla_ros.perception.inpaint.hole import find_hole
from stvla_ros.perception.inpaint.layers import LOOSE, TABLE, pixels_beyond, split_layers
from stvla_ros.perception.inpaint.patch import Patch, View
from stvla_ros.perception.inpaint.shade import cast_shadows, upscaled
from stvla_ros.perception.inpaint.surfaces import FAR_M, Surface, table_tolerance_m, valid_depth
from stvla_ros.types import F32, U8, Bool, Camera, RgbdFrame

_JITTER_PX = 2
_MAX_CELLS = 6000
_REACH_CELLS = 16
_SHADED_SHARE = 0.2


@dataclass(frozen=True)
class FillConfig:
    """Settings of the fill."""

    grow_px: float = param(5.0, "fringe around a mask that goes with it, in a 640 px wide image [px]", ge=0.0, le=50.0)
    feather_px: int = param(3, "soft edge around what is painted out [px]", ge=0, le=32)
    shadows: bool = param(True, "shadows that removed objects cast on the table go with them")
    smooth_px: int = param(20, "the table's deviation from a plane is averaged over so many pixels", ge=1, le=200)


@dataclass(frozen=True, eq=False)
class Filled:
    """Outcome of :func:`fill`.

    Attributes:
        rgb: (H, W, 3).
        depth_m: (H, W).
        hidden: (H, W) pixels that were replaced in colour, depth, or both; feathered ones around them not counted.
    """

    rgb: U8
    depth_m: F32
    hidden: Bool


class Filler:
    """Fills frame after frame. While the hole stays where it is, its structure is found once.

    The same hole serves again when the camera stands where it stood and the mask changed by no more than jitter of a
    pixel or two; its colours and depths always come from the frame at hand.
    """

    def __init__(self, config: FillConfig) -> None:
        self._config = config
        self._plan: _Plan | None = None

    def reset(self) -> None:
        """Forget what was kept."""
        self._plan = None

    def fill(self, frame: RgbdFrame, remove: Bool, keep: Bool, table: Table, height_m: F32) -> Filled:
        """Replace pixels by the background behind them.

        Args:
            frame: The image.
            remove: (H, W) pixels of what is painted out.
            keep: (H, W) pixels that must stay bit for bit (kept objects, the robot); they win over ``remove``.
            table: The table in this frame.
            height_m: (H, W) height of each pixel above the table, NaN where unknown.
        """
        kept = _as_mask(keep)
        gone = np.asarray(cv2.bitwise_and(_as_mask(remove), cv2.bitwise_not(kept)), dtype=np.uint8)
        if not cv2.countNonZero(gone):
            self.reset()
            return Filled(frame.rgb, frame.depth_m, np.zeros(remove.shape, dtype=bool))
        if self._plan is None or not self._plan.serves(frame.camera, gone, kept):
            self._plan = _Plan(self._config, frame, gone, kept, table, height_m)
        return self._plan.paint(frame, kept, table, height_m)


def fill(
    frame: RgbdFrame, remove: Bool, keep: Bool, table: Table, height_m: F32, config: FillConfig | int | None = None
) -> Filled:
    """:meth:`Filler.fill` of a single frame; an integer stands for a feather of that width."""
    if isinstance(config, int):
        config = FillConfig(feather_px=config)
    return Filler(config or FillConfig()).fill(frame, remove, keep, table, height_m)


def _as_mask(mask: Bool) -> U8:
    """0 and 255."""
    return np.ascontiguousarray(mask).view(np.uint8) * np.uint8(255)


class _Plan:
    """A hole, the layers behind it, and their patches."""

    def __init__(self, config: FillConfig, frame: RgbdFrame, gone: U8, kept: U8, table: Table, height_m: F32) -> None:
        self._camera = frame.camera
        width = frame.camera.width_px
        self._grow = grow = round(config.grow_px * width / 640)
        stride = max(round(width / 160), 1)
        while cv2.countNonZero(gone) > _MAX_CELLS * stride**2:
            stride *= 2
        self._grid = grid = Grid.around(gone, 3 * grow + config.feather_px + _REACH_CELLS * stride, stride)
        self._hole = find_hole(grid, gone, kept, frame.depth_m, height_m, grow)
        depth = self._hole.depth
        open_ = _and_not(cv2.bitwise_not(kept[grid.window]), depth)
        _, surface = Surface.make(0, [], frame.camera, table).seen(grid, frame, height_m, open_)
        shadow = self._shadows(frame, surface, kept) if config.shadows else np.zeros_like(depth)
        colour, open_, surface = self._hole.core | shadow, _and_not(open_, shadow), _and_not(surface, shadow)
        depth = depth | _and_not(colour, valid_depth(frame.depth_m[grid.window]))
        self._closed = colour | depth
        beyond = pixels_beyond(grid, height_m[grid.window], open_, table_tolerance_m(table))
        self._layers = split_layers(grid, self._closed, surface, beyond, frame.depth_m[grid.window])
        self._patches = {k: self._patch(config, k, colour, depth) for k in self._present()}
        self._hidden = np.zeros(gone.shape, dtype=bool)
        self._hidden[grid.window] = self._closed > 0

    def _shadows(self, frame: RgbdFrame, surface: U8, kept: U8) -> U8:
        grid = self._grid
        rgb = frame.rgb[grid.window]
        share = grid.share(surface)
        colour = grid.pooled(cv2.bitwise_and(rgb, rgb, mask=surface).astype(np.float32))
        colour /= np.maximum(share, 1e-6)[..., None]
        closed = self._hole.depth | kept[grid.window]
        cells = cast_shadows(colour, share > _SHADED_SHARE, grid.share(self._hole.core) > 0, grid.share(kept[grid.window]) > 0)
        return _and_not(upscaled(cells, grid.stride, surface.shape), closed)

    def _present(self) -> list[int]:
        labels = self._layers.labels
        return [TABLE] if labels is None else np.unique(labels[self._closed > 0]).tolist()

    def _patch(self, config: FillConfig, layer: int, colour: U8, depth: U8) -> Patch:
        if self._layers.labels is not None:
            own = (self._layers.labels == layer) * np.uint8(255)
            colour, depth = colour & own, depth & own
        smooth_px = 1 if layer == LOOSE else config.smooth_px
        return Patch(self._grid, colour, depth, self._camera.width_px, config.feather_px, smooth_px)

    def serves(self, camera: Camera, gone: U8, kept: U8) -> bool:
        """This hole is that of the mask, give or take its jitter, and the camera has not moved."""
        if camera is not self._camera and not _same(camera, self._camera):
            return False
        inside, keeps = gone[self._grid.window], kept[self._grid.window]
        if cv2.countNonZero(inside) != cv2.countNonZero(gone) or _and_not(inside, self._hole.limit).any():
            return False
        reached = dilated(inside, self._grow + _JITTER_PX) | keeps
        return not _and_not(self._hole.core, reached).any()

    def paint(self, frame: RgbdFrame, kept: U8, table: Table, height_m: F32) -> Filled:
        grid = self._grid
        rgb, depth = frame.rgb.copy(), frame.depth_m.copy()
        writable = np.asarray(cv2.bitwise_not(kept[grid.window]), dtype=np.uint8)
        open_ = _and_not(writable, self._closed)
        for layer, patch in self._patches.items():
            surface = Surface.make(layer, self._layers.planes, frame.camera, table)
            deviation, known = surface.seen(grid, frame, height_m, open_)
            if not known.any():  # nothing of the layer is seen: what is seen at all lends its colour
                deviation, known = np.zeros_like(deviation), open_ if open_.any() else np.full_like(open_, 255)
            view = View(frame.rgb[grid.window], deviation, known)
            colour, off = patch.smooth(view)
            patch.paint(rgb, view, colour, writable)
            pick = patch.depth.where(writable)
            px = patch.depth
            far = FAR_M
            depth.reshape(-1)[px.full[pick]] = surface.depth(
                off.reshape(-1)[px.inside[pick]], px.u[pick], px.v[pick], far
            )
        return Filled(rgb, depth, self._hidden & ~(kept > 0))


def _and_not(a: U8, b: U8) -> U8:
    return np.asarray(cv2.bitwise_and(a, cv2.bitwise_not(b)), dtype=np.uint8)


def _same(a: Camera, b: Camera) -> bool:
    size = (a.width_px, a.height_px) == (b.width_px, b.height_px)
    return size and np.array_equal(a.K, b.K) and np.array_equal(a.T_base_camera, b.T_base_camera)
