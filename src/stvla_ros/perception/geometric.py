"""Instances without weights: what stands on the table, split where depth ends or colour and shape say so."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from stvla_ros.config import param
from stvla_ros.geometry.cameras import SATURATED_M, depth_cloud
from stvla_ros.geometry.components import bounding_slices, renumber, sizes
from stvla_ros.geometry.depths import steady, usable, without_specks
from stvla_ros.tabletop.boundaries import absorb_fringe
from stvla_ros.tabletop.concavities import cut_creases
from stvla_ros.tabletop.constrictions import cut_necks
from stvla_ros.tabletop.fragments import split_colours
from stvla_ros.tabletop.regions import LEAST_PX, PartsConfig, find_regions, least_px, low_pixels, step_m
from stvla_ros.tabletop.self_filter import robot_pixels
from stvla_ros.tabletop.support_plane import Table, fit_table
from stvla_ros.tabletop.surface_colours import colour_feature
from stvla_ros.types import F32, I32, U8, Bool, Camera, RgbdFrame, RobotState, Segments

WORK_PX = 640 * 480
"""Larger images are looked at in steps of two or more pixels."""

CROWDED_PX = 30_000
"""Where more pixels stand above the table, things are told apart in steps of two or more pixels, which bounds the time."""

FINE_M = 0.002
"""Such steps are no longer than this on the things: creases are bends over centimetres."""


@dataclass(frozen=True)
class GeometricConfig:
    """Settings of the geometric segmenter."""

    depth_step_m: float = param(
        0.012, "depth difference of neighbouring pixels at which a thing ends [m]", ge=0.002, le=0.1
    )
    min_area_px: int = param(60, "smaller regions (of a 640x480 image) are dropped", ge=1, le=10000)
    reach_m: float = param(1.3, "things are looked for this far from the base along x and y [m]", ge=0.3, le=5.0)
    high_m: float = param(0.9, "things are looked for up to this height above the table [m]", ge=0.1, le=3.0)
    robot_margin_m: float = param(0.012, "points this close to the arm's hulls are the arm [m]", ge=0.0, le=0.1)


class GeometricSegmenter:
    """Plane removal, height, connected components cut at depth steps, colour split judged by shape, self-filter."""

    Config = GeometricConfig

    def __init__(self, config: GeometricConfig) -> None:
        self._config = config
        reach, high = config.reach_m, config.high_m
        self._parts = PartsConfig(
            config.depth_step_m, config.min_area_px, lower_m=(-reach, -reach, 0.0), upper_m=(reach, reach, high)
        )

    def segment(self, frame: RgbdFrame, robot: RobotState) -> Segments:
        """Instances of one frame; a frame without any valid depth has none."""
        stride = max(round(np.sqrt(frame.depth_m.size / WORK_PX)), 1)
        camera = shrunk(frame.camera, stride)
        rgb, depth = frame.rgb[::stride, ::stride], frame.depth_m[::stride, ::stride]
        depth = steady(without_specks(np.where(usable(depth, SATURATED_M), depth, np.float32(np.nan))))
        points = depth_cloud(camera, depth)
        arm = robot_pixels(points, robot, self._config.robot_margin_m)
        labels = np.where(
            arm,
            np.int32(-1),
            find_instances(np.ascontiguousarray(rgb), depth, points, arm, float(camera.K[0, 0]), self._parts),
        )
        h, w = frame.depth_m.shape
        labels = labels.repeat(stride, axis=0)[:h].repeat(stride, axis=1)[:, :w] if stride > 1 else labels
        return Segments(labels, tuple(range(1, int(labels.max(initial=0)) + 1)))


def shrunk(camera: Camera, stride: int) -> Camera:
    """The camera of every ``stride``-th pixel."""
    if stride == 1:
        return camera
    K = camera.K.copy()
    K[:2] /= stride
    size = -(-camera.width_px // stride), -(-camera.height_px // stride)
    return Camera(K, *size, camera.T_base_camera, camera.frame_id)


def find_instances(rgb: U8, depth_m: F32, points_m: F32, exclude: Bool, focal_px: float, config: PartsConfig) -> I32:
    """(H, W) labels 1..n of things on the table, 0 elsewhere. Arguments as of :func:`stvla_ros.tabletop.regions.find_parts`."""
    table = fit_table(points_m, exclude)
    height = table.height(points_m)
    low = low_pixels(height, table, exclude)
    regions = find_regions(depth_m, points_m, height, exclude, table, config, low)
    window = bounding_slices(regions > 0)
    if window is None:
        return regions
    margin, least = regions.shape[1] // 20, least_px(regions.size, config)
    here = tuple(slice(max(s.start - margin, 0), s.stop + margin) for s in window)
    stride = crowd_stride(regions, depth_m, focal_px)
    some = tuple(slice(s.start, s.stop, stride) for s in here)
    cut = _Cut(
        colour_feature(rgb[some]),
        points_m[:, *some],
        depth_m[some],
        height[some],
        exclude[some],
        regions.shape[1] // stride,
        focal_px / stride,
    )
    step = step_m(table, config, depth_m[::stride, ::stride])
    things = cut.things(regions[some].copy(), table, step, max(least // stride**2, LEAST_PX))
    regions[here] = spread(things, regions[here], stride)
    return renumber(regions, sizes(regions) >= least)


def crowd_stride(regions: I32, depth_m: F32, focal_px: float) -> int:
    """Pixels from one that is looked at to the next when things are told apart."""
    wanted = round(np.sqrt(np.count_nonzero(regions) / CROWDED_PX))
    if wanted < 2:
        return 1
    distance = float(np.median(depth_m[regions > 0][::16]))
    return max(min(wanted, int(FINE_M * focal_px / distance)), 1)


def spread(things: I32, regions: I32, stride: int) -> I32:
    """(h, w) things that were found in every ``stride``-th pixel of some regions, in all pixels."""
    if stride == 1:
        return things
    h, w = regions.shape
    out = things.repeat(stride, axis=0)[:h].repeat(stride, axis=1)[:, :w]
    width = 2 * stride - 1  # pixels of a region that lie before the first that was looked at
    near = cv2.dilate(out.astype(np.uint16), np.ones((width, width), np.uint8))
    return np.where((regions > 0) & (out == 0), near, out).astype(np.int32)


@dataclass(frozen=True, eq=False)
class _Cut:
    """The part of a frame that holds things; images (h, w), features of colours (h, w, 4) and points (3, h, w)."""

    colours: F32
    points_m: F32
    depth_m: F32
    height_m: F32
    exclude: Bool
    width_px: int  # of the whole frame
    focal_px: float

    def things(self, regions: I32, table: Table, step_m: float, least: int) -> I32:
        """(h, w) things of the regions."""
        points, height, depth, noise = self.points_m, self.height_m, self.depth_m, table.noise_m
        regions = cut_creases(regions, self.colours, points, height, depth, self.focal_px, step_m, noise, least)
        things = split_colours(regions, self.colours, depth, points, height, step_m, noise, least)
        return absorb_fringe(cut_necks(things, least), self.colours, depth, height, self.exclude, table, self.width_px)
