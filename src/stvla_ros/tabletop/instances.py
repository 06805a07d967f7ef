"""Instances of one frame: objects above the support plane, split by depth, shape and colour. It needs no weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import cv2
import numpy as np

from stvla_ros.geometry.cameras import SATURATED_M, depth_cloud
from stvla_ros.geometry.components import bounding_slices, renumber, sizes
from stvla_ros.geometry.depths import denoise, valid_depth, without_specks
from stvla_ros.tabletop.benches import Bench, find_benches
from stvla_ros.tabletop.boundaries import refine_boundaries
from stvla_ros.tabletop.fragments import split_by_colour_and_shape
from stvla_ros.tabletop.regions import (
    RegionConfig,
    depth_regions,
    depth_step_m,
    large_regions,
    low_pixels,
    min_region_px,
)
from stvla_ros.tabletop.self_filter import robot_mask
from stvla_ros.tabletop.settled import SceneMemory, Still
from stvla_ros.tabletop.support_plane import SupportPlane, fit_support_plane
from stvla_ros.tabletop.surface_colours import colour_feature
from stvla_ros.tabletop.surroundings import without_surroundings
from stvla_ros.tabletop.table_colours import TableColours, colour_cells
from stvla_ros.tabletop.touching import baseline_px, concavity, split_at_concavities, split_at_constrictions
from stvla_ros.tabletop.transparent import with_transparent
from stvla_ros.tabletop.unmeasured import with_unmeasured
from stvla_ros.tabletop.walls import find_walls
from stvla_ros.types import F32, I32, U8, Bool, Camera, RgbdFrame, RobotState

Image = TypeVar("Image", U8, F32)


@dataclass(frozen=True, eq=False)
class View:
    """What a frame shows, in every ``stride``-th pixel.

    Attributes:
        camera: Of these pixels.
        stride: Subsampling of the frame.
        colours: (h, w, 4) features of the colours (:func:`stvla_ros.tabletop.surface_colours.colour_feature`).
        depth_m: (h, w) depth without specks and noise, NaN where unknown.
        points_m: (3, h, w) points in the base frame.
        labels: (h, w) int32, -1: the robot and what it holds; 0: table and surroundings; from 1: an instance.
        table: The support plane.
        notes: What cannot be known from this frame, one sentence each.
    """

    camera: Camera
    stride: int
    colours: F32
    depth_m: F32
    points_m: F32
    labels: I32
    table: SupportPlane
    notes: tuple[str, ...] = ()


def look(
    frame: RgbdFrame,
    robot: RobotState | None,
    pixels: int,
    robot_margin_m: float,
    config: RegionConfig,
    exact: bool = True,
    memory: SceneMemory | None = None,
) -> View:
    """Find the instances of a frame; one without any valid depth has none.

    Args:
        frame: The image.
        robot: The arm at about the image's time; None: there is none.
        pixels: Images with more pixels are subsampled to about this many.
        robot_margin_m: Points this close to the arm's hulls belong to the arm.
        config: Where objects are searched, and how they end.
        exact: Give every pixel along an object's edge to the object. Otherwise objects end where the depth does, in
            about two thirds of the time.
        memory: Of the frames before: what has not changed since is not found anew. None: every frame is for itself.
    """
    stride = max(round(float(np.sqrt(frame.depth_m.size / pixels))), 1)
    camera = shrunk(frame.camera, stride)
    rgb, depth = every_nth(frame.rgb, stride), every_nth(frame.depth_m, stride)
    depth = denoise(without_specks(np.where(valid_depth(depth, SATURATED_M), depth, np.float32(np.nan))))
    points = depth_cloud(camera, depth)
    arm = np.zeros(depth.shape, bool) if robot is None else robot_mask(points, robot, robot_margin_m)
    colours, still = colour_feature(rgb), None
    if memory is not None:
        still = memory.still(camera, frame.stamp_ns, colours, depth, arm)
        if still is not None and not still.open.any():
            labels = np.where(arm, np.int32(-1), still.labels)
            return View(camera, stride, colours, depth, points, labels, memory.table, memory.notes)
    table = fit_support_plane(points, arm, 3000 if exact else 2000)
    objects, notes = find_instances(rgb, colours, depth, points, arm, table, camera, config, exact, still)
    if memory is not None:
        memory.remember(objects, arm, still, table, notes)
    return View(camera, stride, colours, depth, points, np.where(arm, np.int32(-1), objects), table, notes)


def every_nth(image: Image, stride: int) -> Image:
    """Every ``stride``-th pixel of an image, in both directions from the first, in memory without gaps."""
    h, w = image.shape[:2]
    if stride == 1 or h % stride or w % stride:
        return np.ascontiguousarray(image[::stride, ::stride])
    return np.asarray(cv2.resize(image, (w // stride, h // stride), interpolation=cv2.INTER_NEAREST))  # a tenth of it


def shrunk(camera: Camera, stride: int) -> Camera:
    """The camera of every ``stride``-th pixel."""
    if stride == 1:
        return camera
    K = camera.K.copy()
    K[:2] /= stride
    size = -(-camera.width_px // stride), -(-camera.height_px // stride)
    return Camera(K, *size, camera.T_base_camera, camera.frame_id)


def find_instances(
    rgb: U8,
    colours: F32,
    depth_m: F32,
    points_m: F32,
    arm: Bool,
    table: SupportPlane,
    camera: Camera,
    config: RegionConfig,
    exact: bool = True,
    still: Still | None = None,
) -> tuple[I32, tuple[str, ...]]:
    """(H, W) labels 1..n of objects on the table, 0 elsewhere, and notes.

    Arguments as of :func:`stvla_ros.tabletop.regions.find_regions` and :func:`look`, the (H, W, 4) features of the
    colours, the (H, W) pixels of the arm, the camera of these pixels, and what has not changed since the last frames.
    """
    height = table.height(points_m)
    cells = colour_cells(rgb)
    exclude, benches = arm, list[Bench]()
    if exact:
        benches = find_benches(points_m, height, cells, arm, table, camera)
        for bench in benches:
            exclude = exclude | bench.mask
        exclude = exclude | find_walls(points_m, height, exclude, table, camera.T_base_camera[:3, 3])
    step_m = depth_step_m(table, config, depth_m)
    low = low_pixels(height, table, exclude)
    regions = depth_regions(depth_m, points_m, height, exclude, table, config, low, step_m)
    min_px = min_region_px(regions.size, config)
    level = (np.abs(height) < table.noise_floor_m) & ~exclude
    bare = TableColours.of(cells, level & (regions == 0), regions > 0) if exact else TableColours(None)
    like_table = bare.seen(cells)
    chord_px = baseline_px(depth_m, regions > 0, float(camera.K[0, 0])) if regions.any() else 0
    settled = _nothing if still is None else still.with_settled
    taken = exclude if still is None else exclude | (still.labels > 0)
    if still is not None:
        regions = large_regions(still.reopened(regions), min_px)
    frame = _Crop(colours, points_m, depth_m, height, taken, like_table, regions.shape[1], chord_px)
    regions = settled(_objects(regions, frame, table, step_m, min_px, exact))
    if not exact:
        return regions, ()
    regions = settled(
        without_surroundings(regions, points_m, height, like_table, exclude, camera, table, benches, min_px)
    )
    notes = tuple(
        f"A bench {100 * bench.height_m:.0f} cm above the support: nothing on it is an instance." for bench in benches
    )
    if bare.cells is None:
        return regions, (
            *notes,
            "The bare table is hardly seen: things without depth are not found.",
        )
    regions, glare = with_unmeasured(regions, colours, depth_m, level & (regions == 0), like_table, exclude, min_px)
    regions = settled(regions)
    regions = settled(with_transparent(regions, colours, depth_m, level & (regions == 0), exclude, min_px))
    if glare:
        notes += (f"Bright patches without depth ({glare}): highlights on the table, or things that mirror the light.",)
    return regions, notes


def _nothing(labels: I32) -> I32:
    """Nothing is settled."""
    return labels


def _objects(regions: I32, frame: _Crop, table: SupportPlane, step_m: float, min_px: int, exact: bool) -> I32:
    """(H, W) objects of the regions, split and refined in the part of the image that contains them."""
    window = bounding_slices(regions > 0)
    if window is None:
        return regions
    margin = regions.shape[1] // 20
    rows, columns = (slice(max(s.start - margin, 0), s.stop + margin) for s in window)
    found = frame.part(rows, columns).objects(regions[rows, columns].copy(), table, step_m, min_px, exact)
    regions[rows, columns] = found
    return renumber(regions, sizes(regions) >= min_px)


@dataclass(frozen=True, eq=False)
class _Crop:
    """The part of a frame that contains objects: images (h, w), colour features (h, w, 4) and points (3, h, w)."""

    colours: F32
    points_m: F32
    depth_m: F32
    height_m: F32
    exclude: Bool
    like_table: Bool
    width_px: int  # of the whole frame
    chord_px: int  # of the concavity

    def part(self, rows: slice, columns: slice) -> _Crop:
        """A part of it, without gaps in memory."""
        return _Crop(
            np.ascontiguousarray(self.colours[rows, columns]),
            self.points_m[:, rows, columns],
            np.ascontiguousarray(self.depth_m[rows, columns]),
            np.ascontiguousarray(self.height_m[rows, columns]),
            self.exclude[rows, columns],
            self.like_table[rows, columns],
            self.width_px,
            self.chord_px,
        )

    def objects(self, regions: I32, table: SupportPlane, step_m: float, min_px: int, exact: bool) -> I32:
        """(h, w) objects of the regions."""
        points, height, depth, noise = self.points_m, self.height_m, self.depth_m, table.noise_m
        bend = concavity(height, self.chord_px)
        regions = split_at_concavities(regions, self.colours, points, bend, depth, height, step_m, noise, min_px)
        objects = split_by_colour_and_shape(regions, self.colours, depth, points, bend, height, step_m, noise, min_px)
        objects = split_at_constrictions(objects, min_px)
        if not exact:
            return objects
        return refine_boundaries(
            objects, self.colours, depth, height, self.exclude, self.like_table, table, self.width_px
        )
