"""Regions above the support plane, split where depth or colour changes; shared by segmenters and planners."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from stvla_ros.geometry.components import connected, member_pixels, renumber, sizes
from stvla_ros.tabletop.support_plane import SupportPlane, fit_support_plane
from stvla_ros.tabletop.surface_colours import colour_clusters, colour_feature
from stvla_ros.types import F32, F64, I32, U8, Bool

NOISY_M = 0.0008
"""With more noise than this in the heights, single pixels do not count."""

MIN_MEAN_HEIGHT_M = 0.0028
"""Lowest mean height that can be distinguished from the table."""

WIDE = 1 / 16
"""Width of the wider of the squares over which heights are averaged, as a share of the image's width: noise that
neighbouring pixels share hides a plate or a cloth in the narrower ones. What they find is at least as large as they
are."""

MIN_FURTHER = 0.25
"""Smallest share of a low thing that only wide squares find: strips between things are a smaller share of them."""

MAX_TALL = 0.1
"""Largest share of a low thing that is higher than a tray."""

MIN_REGION_PX = 6
"""Smallest region, however coarse the image."""

TRAY_TOP_M = 0.022
"""Plates and trays are lower than this; anything higher stands in them."""


@dataclass(frozen=True)
class RegionConfig:
    """Settings of :func:`find_regions`, in metres of the base frame.

    Attributes:
        step_m: Depth difference between neighbouring pixels that ends an object.
        min_area_px: Smaller regions of a 640x480 image are noise. Scales with the image's area.
        lower_m: Lower corner of the volume to search.
        upper_m: Upper corner.
    """

    step_m: float = 0.012
    min_area_px: int = 60
    lower_m: tuple[float, float, float] = (0.05, -0.9, 0.0)
    upper_m: tuple[float, float, float] = (1.1, 0.9, 0.6)


@dataclass(frozen=True, eq=False)
class Regions:
    """Regions of one frame.

    Attributes:
        labels: (H, W) int32, 0 for no region, else 1..count.
        count: Number of regions.
        height_m: (H, W) float32 height above the table.
        points_m: (3, H, W) float32 in the base frame.
        table: The support plane.
    """

    labels: I32
    count: int
    height_m: F32
    points_m: F32
    table: SupportPlane

    def members(self) -> list[npt.NDArray[np.intp]]:
        """Flat pixel indices of each region, in order of label."""
        return member_pixels(self.labels, self.count)


def find_regions(rgb: U8, depth_m: F32, points_m: F32, exclude: Bool, config: RegionConfig) -> Regions:
    """Regions above the table that are connected in depth and of one colour.

    Args:
        rgb: (H, W, 3) image.
        depth_m: (H, W) depth, without specks (:func:`stvla_ros.geometry.depths.without_specks`).
        points_m: (3, H, W) points of the same pixels in the base frame.
        exclude: (H, W) pixels to ignore (the robot).
        config: Settings.
    """
    table = fit_support_plane(points_m, exclude)
    height = table.height(points_m)
    labels = depth_regions(depth_m, points_m, height, exclude, table, config)
    labels = split_by_colour(rgb, depth_m, height, labels, table, config)
    return Regions(labels, int(labels.max(initial=0)), height, points_m, table)


def depth_regions(
    depth_m: F32,
    points_m: F32,
    height_m: F32,
    exclude: Bool,
    table: SupportPlane,
    config: RegionConfig,
    low: tuple[Bool, Bool] | None = None,
    step_m: float | None = None,
) -> I32:
    """(H, W) labels 1..n of regions above the table that are connected in depth.

    Both kinds of :func:`low_pixels` count too where they connect to pixels that are clearly above the table; the further
    ones only in low things that largely consist of them: beside tall things the table is measured too high. A depth
    step of ``step_m`` ends a region; :func:`depth_step_m` of the image when not given.
    """
    mask = above_plane(points_m, height_m, table.noise_floor_m, config) & ~exclude
    if table.noise_m > NOISY_M:
        mask = _opened(mask)
    min_px = min_region_px(mask.size, config)
    if low is None:
        return large_regions(connected(mask, depth_m, depth_step_m(table, config)), min_px)
    step_m = step_m or depth_step_m(table, config, depth_m)
    near, further = low
    labels = connected(mask | near, depth_m, step_m)
    further = further & (labels == 0)
    if further.any():
        labels = _with_further(labels, further, depth_m, height_m, step_m)
    high = np.bincount(labels[mask], minlength=int(labels.max()) + 1)
    return renumber(labels, (sizes(labels) >= min_px) & (high >= max(0.5 * min_px, 4)))


def _with_further(labels: I32, further: Bool, depth_m: F32, height_m: F32, step_m: float) -> I32:
    """Labels with the ``further`` pixels of low things. What is taller stands in them, and is a region of its own."""
    area = sizes(labels)
    tall = np.bincount(labels[(height_m > TRAY_TOP_M) & (labels > 0)], minlength=len(area)) > MAX_TALL * area
    wider = connected((labels > 0) | further, depth_m, step_m, tall.take(labels).view(np.uint8))
    area_px = sizes(wider)
    low = np.bincount(wider[further], minlength=len(area_px)) > MIN_FURTHER * area_px
    low &= area_px > (WIDE * labels.shape[1]) ** 2  # bumps of an uneven table are smaller
    return np.where(low.take(wider), wider + np.int32(len(area)), labels)


def low_pixels(height_m: F32, table: SupportPlane, exclude: Bool) -> tuple[Bool, Bool]:
    """Pixels whose mean height over their surroundings is above the table although each one is within the noise.

    Pixels clearly above the table are left out of the mean, so that tall objects do not spread.

    Returns:
        (H, W) those whose mean over narrow squares is, and (H, W) further ones whose mean over wide squares is.
    """
    flat = (np.abs(height_m) < table.noise_floor_m) & ~exclude
    if table.noise_m <= NOISY_M or not flat.any():
        return np.zeros(height_m.shape, dtype=bool), np.zeros(height_m.shape, dtype=bool)
    widths = 2 * (height_m.shape[1] // 128) + 3, 2 * round(WIDE * height_m.shape[1] / 2) + 1
    narrow, wide = (_mean_height(height_m, flat, width) for width in widths)
    low = flat & (narrow > max(MIN_MEAN_HEIGHT_M, 4 * _spread(narrow, flat, table)))
    further = (wide > max(MIN_MEAN_HEIGHT_M, 3 * _spread(wide, flat, table))) & (narrow > MIN_MEAN_HEIGHT_M)
    return np.asarray(low), np.asarray(flat & further & ~low)


def _mean_height(height_m: F32, flat: Bool, width: int) -> F32:
    """(H, W) mean height of the ``flat`` pixels in a square around each pixel; 0 where they are less than a quarter."""
    total = cv2.boxFilter(np.where(flat, height_m, np.float32(0)), -1, (width, width), normalize=False)
    count = cv2.boxFilter(flat.view(np.uint8), cv2.CV_32F, (width, width), normalize=False)
    return np.where(count > width * width / 4, total / np.maximum(count, 1), np.float32(0))


def _spread(mean_m: F32, flat: Bool, table: SupportPlane) -> float:
    """Robust standard deviation of mean heights on the table."""
    seen = mean_m[::3, ::3][flat[::3, ::3]]
    return 1.4826 * float(np.median(np.abs(seen - np.median(seen)))) if len(seen) else table.noise_m


def split_by_colour(
    rgb: U8, depth_m: F32, height_m: F32, labels: I32, table: SupportPlane, config: RegionConfig
) -> I32:
    """(H, W) labels 1..n of regions, split where their colour changes or where a block stands in a plate."""
    min_px = min_region_px(labels.size, config)
    classes = classify_regions(rgb, height_m, labels, min_px)
    if not classes.any():
        return labels
    kind = labels * 64 + classes  # at most 16 classes
    return large_regions(connected(labels > 0, depth_m, depth_step_m(table, config), kind), min_px)


def min_region_px(image_px: int, config: RegionConfig) -> int:
    """Smallest region in an image of this many pixels."""
    return max(int(config.min_area_px * image_px / (640 * 480)), MIN_REGION_PX)


def depth_step_m(table: SupportPlane, config: RegionConfig, depth_m: F32 | None = None) -> float:
    """Depth step that ends an object; larger with noise, and between the rows of a coarse image of a level surface."""
    step = config.step_m + 4 * table.noise_m
    if depth_m is None or len(depth_m) < 2:
        return step
    recede = np.abs(np.diff(depth_m[:, ::4], axis=0))
    recede = recede[np.isfinite(recede)]
    return max(step, 2 * float(np.median(recede))) if len(recede) else step


def _opened(mask: Bool) -> Bool:
    """The mask without parts narrower than two pixels. With equal anchors an even kernel would shift it."""
    square = np.ones((2, 2), np.uint8)
    inner = cv2.erode(mask.astype(np.uint8), square, anchor=(1, 1), borderType=cv2.BORDER_REPLICATE)
    return np.asarray(cv2.dilate(inner, square, anchor=(0, 0))).astype(bool)


def above_plane(points_m: F32, height_m: F32, floor_m: float, config: RegionConfig) -> Bool:
    """(H, W) pixels above the table and inside the volume of interest."""
    x, y, _ = points_m
    lower, upper = config.lower_m, config.upper_m
    inside = (height_m > max(floor_m, lower[2])) & (height_m < upper[2])
    return np.asarray(inside & (x > lower[0]) & (x < upper[0]) & (y > lower[1]) & (y < upper[1]))


def large_regions(labels: I32, min_px: int) -> I32:
    """Regions of at least so many pixels, renumbered."""
    return renumber(labels, sizes(labels) >= min_px)


def classify_regions(rgb: U8, height_m: F32, labels: I32, min_px: int) -> U8:
    """(H, W) class of each pixel within its region: 0 where the region is one object.

    A region is bisected by 2-means of its colours as long as both halves are large and clearly differ. Pixels high
    above a low, flat object (a block in a plate of the same colour) get a class of their own.
    """
    classes = np.zeros(labels.shape, dtype=np.uint8)
    flat_rgb, flat_height, flat = rgb.reshape(-1, 3), height_m.ravel(), classes.reshape(-1)
    for pixels in member_pixels(labels, int(labels.max(initial=0))):
        if len(pixels) >= 2 * min_px:
            flat[pixels] = classify_pixels(colour_feature(flat_rgb[pixels]), flat_height[pixels], min_px)
    return np.asarray(cv2.medianBlur(classes, 5) if classes.any() else classes, dtype=np.uint8) * (labels > 0)


def classify_pixels(feature: F32, height_m: F32, min_px: int) -> U8:
    """(N,) class below 16 of each pixel of one region, given the (N, 4) colour features and (N,) heights."""
    colours = colour_clusters(feature, min_px, depth=3)
    return np.asarray(colours + 8 * _standing_in(colours, height_m, min_px), dtype=np.uint8)  # at most 8 colours


def _standing_in(colours: U8, height_m: F32, min_px: int) -> U8:
    """(N,) 1 where a pixel is high above a cluster that is mostly low and flat."""
    out = np.zeros(len(colours), dtype=np.uint8)
    for colour in range(int(colours.max()) + 1):
        own = colours == colour
        tall = own & (height_m > TRAY_TOP_M)
        if min_px <= tall.sum() < 0.5 * own.sum():
            low, middle = np.quantile(height_m[own], [0.1, 0.5])
            out[tall] = middle - low < 0.008  # else this is a side whose top is not visible
    return out


def min_area_rectangle(xy_m: npt.NDArray[np.floating]) -> tuple[F64, F64, float]:
    """Smallest-area rectangle around points seen from above.

    Args:
        xy_m: (N, 2) points, N >= 3.

    Returns:
        (2,) centre, (2,) edge lengths, and the direction of the first edge in rad.
    """
    (cx, cy), (w, h), angle = cv2.minAreaRect(np.ascontiguousarray(xy_m * 1000.0, dtype=np.float32))
    return np.array([cx, cy]) / 1000.0, np.array([w, h]) / 1000.0, float(np.deg2rad(angle))
