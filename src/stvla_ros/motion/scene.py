"""The planning scene: obstacles by instance, fused over images and time, and what of them one motion may touch."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import numpy as np
from scipy.spatial import cKDTree

from stvla_ros.geometry.se3 import pose
from stvla_ros.motion.collision import (
    HIGH_M,
    LOW_M,
    Grid,
    Keys,
    Sight,
    Surface,
    VoxelConfig,
    columns_below,
    in_box,
    obstacle_surface,
    on_robot,
    seen_cells,
    shadow_behind,
)
from stvla_ros.motion.held import held_box
from stvla_ros.tabletop.instances import View, look
from stvla_ros.tabletop.regions import RegionConfig
from stvla_ros.types import F32, F64, I32, Bool, Box, CollisionWorld, RgbdFrame, RobotState

REGIONS = RegionConfig(lower_m=(*LOW_M[:2], 0.0), upper_m=HIGH_M)

TIPS = Box(pose(np.eye(3), [0.0, 0.0, -0.005]), np.array([0.024, 0.030, 0.050]))
"""In the tool frame: an instance in this box is what the fingertips close on, or press."""

BETWEEN_FINGERS = Box(pose(np.eye(3), [0.0, 0.0, -0.01]), np.array([0.10, 0.08, 0.06]))
"""In the tool frame: the space around and between the open fingers."""

SIGHTS = 4
"""So many recent images tell what is free behind an object that hides it now."""

APART_NS = 5_000_000_000
"""Of one camera, those images are at least this far apart, except for the newest: they shall tell of some time."""

STALE_SHARE = 0.1
"""An image that saw through more of an object was taken before the object came, and does not know what it hides."""

MOVED_SHARE = 0.15
"""An instance of which an image sees through more of its cells has moved."""

SET_BACK_NS = 1_000_000_000
"""Images of two cameras may come in the wrong order; never so late."""

ADOPTED = 2.1
"""A cell whose points belong to no instance belongs to one that is within this many edges."""

SAME_SHARE = 0.3
"""An instance that shares more of its cells with a remembered one is that one."""


@dataclass(frozen=True, eq=False)
class _Cells:
    """Occupied cells, ascending, without duplicates.

    Attributes:
        keys: (N,) numbers of the cells.
        ids: (N,) instance of each; 0 for none.
        stamps_ns: (N,) image by which it was last an obstacle.
        seen: (N,) whether that image shows it; otherwise it is only hidden.
    """

    keys: Keys
    ids: I32
    stamps_ns: Keys
    seen: Bool

    @staticmethod
    def of(keys: Keys, ids: I32, stamp_ns: int, seen: Bool) -> _Cells:
        keys, first = np.unique(keys, return_index=True)
        return _Cells(keys, ids[first], np.full(len(keys), stamp_ns, np.int64), seen[first])

    def only(self, keep: Bool) -> _Cells:
        return _Cells(*(getattr(self, f.name)[keep] for f in fields(self)))

    def joined(self, other: _Cells) -> _Cells:
        """Both; they have no cell in common."""
        pairs = ((getattr(self, f.name), getattr(other, f.name)) for f in fields(self))
        order = np.argsort(np.concatenate([self.keys, other.keys]), kind="stable")
        return _Cells(*(np.concatenate(pair)[order] for pair in pairs))


_NO_CELLS = _Cells(np.empty(0, np.int64), np.empty(0, np.int32), np.empty(0, np.int64), np.empty(0, bool))


class PlanningScene:
    """Everything that the cameras have seen around the arm.

    A cell is an obstacle from the image that shows it until an image sees through it; while nothing sees it, for at
    most ``memory_s``. Instances keep their ids from image to image as long as they stay in place.

    Attributes:
        config: Settings.
        view: The newest image's view; None before the first.
        surface: Obstacle points of the newest image; its labels are the ids of instances.
    """

    def __init__(self, config: VoxelConfig) -> None:
        self.config = config
        self._grid = Grid(config.size_m)
        self.clear()

    def clear(self) -> None:
        """Forget everything."""
        self.view: View | None = None
        self.surface = Surface(np.empty((0, 3), np.float32), np.empty(0, np.float32), np.empty(0, np.int32))
        self._sights: list[Sight] = []
        self._next_id = 1
        self._set(_NO_CELLS)

    @property
    def voxels_m(self) -> F32:
        """(V, 3) centres of occupied cells."""
        return self._voxels

    @property
    def ids(self) -> I32:
        """(V,) instance of each occupied cell; 0: none."""
        return self._cells.ids

    @property
    def cells(self) -> Keys:
        """(V,) keys of occupied cells, ascending."""
        return self._cells.keys

    def appeared(self, known: Keys) -> F32:
        """(V, 3) centres of occupied cells that are not among the ``known`` ones, nor beside one of them: a surface
        seen again lies a cell off here and there."""
        _, ny, nz = self._grid.shape.tolist()
        steps = np.array([(x * ny + y) * nz + z for x in (-1, 0, 1) for y in (-1, 0, 1) for z in (-1, 0, 1)])
        return self._voxels[~np.isin(self._cells.keys, np.add.outer(steps, known))]

    def observe(self, frame: RgbdFrame, robot: RobotState, held: Box | None = None, passing: bool = False) -> None:
        """Take in one image, of any camera. One much older than the newest means that the clock was set back.

        Args:
            frame: The image, with the camera's pose.
            robot: The arm at about the image's time.
            held: What the hand holds, in the tool frame.
            passing: The arm only passes by: what is remembered close to it stays. Otherwise a motion begins there, for
                which it must be free, with the margin of the self-filter.
        """
        c, grid = self.config, self._grid
        if self._sights and frame.stamp_ns < self._sights[-1].stamp_ns - SET_BACK_NS:
            self.clear()
        view = look(frame, robot, c.pixels, c.self_margin_m, REGIONS, exact=False)
        surface = obstacle_surface(view, robot, c, held)
        keys, labels = seen_cells(surface, grid, c.least_share)
        labels = _adopted(keys, labels, grid)
        surface = replace(surface, labels=_of_cells(surface, keys, labels, grid))
        sight = Sight.of(view, frame.stamp_ns)
        oldest_ns = frame.stamp_ns - round(c.memory_s * 1e9)
        self._sights = _spread([s for s in self._sights if s.stamp_ns > oldest_ns], sight)[1 - SIGHTS :]
        known = self._cells.only(self._cells.stamps_ns > oldest_ns)
        ids = self._ids_of(labels, keys, int(view.labels.max(initial=0)), known)
        behind, casters = self._hidden(keys, labels, surface, view)
        dark = ~self._seen_free(behind, casters, keys, labels, sight)
        every, owners = np.concatenate([keys, behind[dark]]), np.concatenate([labels, casters[dark]])
        new = _Cells.of(every, ids[owners], frame.stamp_ns, np.arange(len(every)) < len(keys))
        cells = new.joined(self._still_there(known, known.only(~np.isin(known.keys, new.keys)), sight))
        self.view, self.surface = view, replace(surface, labels=ids[surface.labels])
        self._sights.append(sight)
        self._set(cells.only(~self._on_arm(cells.keys, robot, held, 0.0 if passing else c.self_margin_m)))

    def world(
        self,
        touched: tuple[F64, ...] = (),
        left: tuple[F64, ...] = (),
        held: Box | None = None,
        here: F64 | None = None,
        ends_m: tuple[F64, ...] = (),
    ) -> CollisionWorld:
        """Obstacles of one motion. The same arguments give the same object until the scene changes.

        Args:
            touched: (4, 4) tool poses where contact is wanted. The instances at the fingertips there, those at
                ``ends_m``, and those that the held object is put on, may be touched, each as far as it is close.
            left: (4, 4) tool poses where there is contact already.
            held: The carried object, in the tool frame.
            here: (4, 4) tool pose at the start; the held object may touch whatever it touches there.
            ends_m: (3,) ends of the path that the keypose was predicted from.
        """
        where = (*touched, *left, *ends_m, *([] if here is None or held is None else [here]))
        key = len(touched), len(left), len(ends_m), id(held), b"".join(np.asarray(a).tobytes() for a in where)
        if key not in self._worlds:
            drop = np.zeros(len(self._voxels), dtype=bool)
            for T in touched:
                drop |= self._touchable(T, held, ends_m)
            for T in left:
                drop |= self._around(T) & self._of(self._ids_in(T, BETWEEN_FINGERS), T, BETWEEN_FINGERS)
            if held is not None and here is not None:
                drop |= in_box(self._voxels, here @ held.T_frame_box, held.size_m, 1.5 * self.config.size_m)
            voxels = np.ascontiguousarray(self._voxels[~drop]) if drop.any() else self._voxels
            self._worlds[key] = CollisionWorld(voxels, self.config.size_m, held)
        return self._worlds[key]

    def take(self, T_base_tcp: F64, width_m: float) -> Box:
        """The hand has closed on an instance: it is no obstacle any more, and moves with the hand.

        Args:
            T_base_tcp: (4, 4) tool pose.
            width_m: Finger distance when closed.

        Returns:
            Its box in the tool frame, from what images from before the grasp show of it.
        """
        inside = self._in(T_base_tcp, TIPS) & (self.ids > 0)
        counts = np.bincount(self.ids[inside])
        taken = int(counts.argmax()) if counts.any() else None
        points = self.surface.points_m if taken is None else self._points_of(taken)
        gap_m = max(0.01, 1.2 * self.config.size_m)  # between cells there is none
        held = held_box(points, T_base_tcp, width_m, gap_m, alone=taken is not None)
        gone = in_box(self._voxels, T_base_tcp @ held.T_frame_box, held.size_m, 0.5 * self.config.size_m)
        self._set(self._cells.only(~gone & (self.ids != (taken or -1))))
        return held

    def _points_of(self, instance: int) -> F32:
        """(N, 3) points of an instance: those of the newest image, and cells of earlier ones, which end inside it."""
        cells = self._voxels[(self.ids == instance) & self._cells.seen]
        inner = cells - 0.5 * self.config.size_m * np.sign(cells - cells.mean(axis=0)) if len(cells) else cells
        return np.concatenate([self.surface.points_m[self.surface.labels == instance], inner]).astype(np.float32)

    def _set(self, cells: _Cells) -> None:
        self._cells = cells
        self._voxels = self._grid.centres(cells.keys)
        self._worlds: dict[tuple[object, ...], CollisionWorld] = {}

    def _hidden(self, keys: Keys, labels: I32, surface: Surface, view: View) -> tuple[Keys, I32]:
        """Cells that count as occupied although nobody sees them, and the label of what hides each."""
        if self.config.unknown == "free" or not len(keys):
            return np.empty(0, np.int64), np.empty(0, np.int32)
        if self.config.unknown == "column":
            below, which = columns_below(keys, view.table, self._grid)
            return below, labels[which]
        return shadow_behind(surface, view, self._grid)

    def _seen_free(self, cells: Keys, casters: I32, keys: Keys, labels: I32, sight: Sight) -> Bool:
        """(N,) cells that this image, or another one since their caster is there, saw to be free."""
        centres, seen, edge = self._grid.centres(cells), self._grid.centres(keys), self.config.size_m
        out = sight.free(centres, edge)
        count = np.maximum(np.bincount(labels, minlength=1), 1)
        for earlier in self._sights:
            through = np.bincount(labels, weights=earlier.free(seen, edge), minlength=len(count))
            out |= earlier.free(centres, edge) & (through <= STALE_SHARE * count)[casters]
        return out

    def _still_there(self, known: _Cells, unseen: _Cells, sight: Sight) -> _Cells:
        """Those of the remembered cells, of which an image does not show ``unseen``, that it does not clear either.

        An instance that has moved away takes all its cells along, also those that nobody sees.
        """
        free = sight.free(self._grid.centres(unseen.keys), self.config.size_m)
        moved = np.bincount(unseen.ids, free, self._next_id) > MOVED_SHARE * np.bincount(known.ids, None, self._next_id)
        moved[0] = False
        return unseen.only(~free & ~moved[unseen.ids])

    def _on_arm(self, keys: Keys, robot: RobotState, held: Box | None, margin_m: float) -> Bool:
        """(N,) cells where the arm, or what it holds, is now."""
        centres = self._grid.centres(keys)
        out = on_robot(centres, robot, margin_m)
        if held is not None:
            out |= in_box(centres, robot.T_base_tcp @ held.T_frame_box, held.size_m, margin_m)
        return out

    def _ids_of(self, labels: I32, keys: Keys, labels_max: int, old: _Cells) -> I32:
        """(L + 1,) id of each label: that of the remembered instance in its place, or a new one; 0 for 0."""
        ids = np.zeros(labels_max + 1, np.int32)
        size = np.bincount(labels, minlength=labels_max + 1)
        _, here, there = np.intersect1d(keys, old.keys, assume_unique=True, return_indices=True)
        pairs, common = np.unique(labels[here].astype(np.int64) << 32 | old.ids[there], return_counts=True)
        for i in np.argsort(-common, kind="stable"):
            label, known = int(pairs[i] >> 32), int(pairs[i] & 0xFFFFFFFF)
            if label and known and not ids[label] and known not in ids and common[i] > SAME_SHARE * size[label]:
                ids[label] = known
        fresh = np.flatnonzero(ids[1:] == 0) + 1
        ids[fresh] = np.arange(self._next_id, self._next_id + len(fresh))
        self._next_id += len(fresh)
        return ids

    def _touchable(self, T: F64, held: Box | None, ends_m: tuple[F64, ...]) -> Bool:
        """(V,) cells that a motion into contact at ``T`` may touch."""
        ids = self._ids_in(T, TIPS)
        for end in ends_m:
            if np.linalg.norm(end - T[:3, 3]) <= self.config.target_radius_m:
                near = np.linalg.norm(self._voxels - end.astype(np.float32), axis=1) <= 1.5 * self.config.size_m
                ids |= set(self.ids[near].tolist())
        if held is None:
            return self._around(T) & self._of(ids, T, TIPS)
        edge, T_box = self.config.size_m, T @ held.T_frame_box
        x, y, z = held.size_m
        ids |= self._ids_in(T_box, Box(pose(np.eye(3), [0.0, 0.0, z / 2 + edge]), np.array([x, y, 3 * edge])))
        may = self._of(ids, T, TIPS)
        return (
            (self._around(T) & may)
            | (in_box(self._voxels, T_box, held.size_m, 1.5 * edge) & may)
            | in_box(self._voxels, T_box, held.size_m, 0.5 * edge)  # a cell is up to one edge larger than its thing
        )

    def _around(self, T: F64) -> Bool:
        """(V,) cells close enough to the tool that the hand may touch them there, if their instance may be touched."""
        near = np.linalg.norm(self._voxels - T[:3, 3].astype(np.float32), axis=1) <= self.config.target_radius_m
        return np.asarray(near | self._in(T, BETWEEN_FINGERS))

    def _of(self, ids: set[int], T: F64, box: Box) -> Bool:
        """(V,) cells of these instances, and those without one in a box at the tool."""
        return np.isin(self.ids, list(ids - {0})) | ((self.ids == 0) & self._in(T, box))

    def _ids_in(self, T: F64, box: Box) -> set[int]:
        return set(self.ids[self._in(T, box)].tolist())

    def _in(self, T: F64, box: Box) -> Bool:
        return in_box(self._voxels, T @ box.T_frame_box, box.size_m)


def _spread(sights: list[Sight], newest: Sight) -> list[Sight]:
    """Without the last one of the newest's camera, if that is close to the one before."""
    place = newest.camera.T_base_camera
    own = [s for s in sights if np.array_equal(s.camera.T_base_camera, place)]
    close = len(own) > 1 and own[-1].stamp_ns - own[-2].stamp_ns < APART_NS
    return [s for s in sights if not close or s is not own[-1]]


def _adopted(keys: Keys, labels: I32, grid: Grid) -> I32:
    """Labels in which cells without one have that of the nearest cell: segmentation loses edges of objects."""
    lost, own = np.flatnonzero(labels == 0), np.flatnonzero(labels)
    if not len(lost) or not len(own):
        return labels
    tree = cKDTree(grid.centres(keys[own]))
    away, nearest = tree.query(grid.centres(keys[lost]), distance_upper_bound=ADOPTED * grid.size_m)
    out = labels.copy()
    out[lost[np.isfinite(away)]] = labels[own[nearest[np.isfinite(away)]]]
    return out


def _of_cells(surface: Surface, keys: Keys, labels: I32, grid: Grid) -> I32:
    """Labels of points, in which points without one have that of their cell."""
    if not len(keys):
        return surface.labels
    cells = grid.keys(surface.points_m)
    at = np.searchsorted(keys, cells).clip(0, len(keys) - 1)
    return np.where((surface.labels == 0) & (keys[at] == cells), labels[at], surface.labels)


def coarser(voxels_m: F32, edge_m: float, most: int) -> tuple[F32, float]:
    """At most so many cells that contain all given ones: larger ones where there are too many.

    Args:
        voxels_m: (N, 3) centres of cells.
        edge_m: Their edge.
        most: At least 1.

    Returns:
        (M, 3) centres, and their edge.
    """
    centres = voxels_m
    while len(centres) > most:
        edge_m *= 2.0
        centres = ((np.unique(np.floor(voxels_m / edge_m), axis=0) + 0.5) * edge_m).astype(np.float32)
    return centres, edge_m
