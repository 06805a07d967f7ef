"""What stands on a table, split where depth or colour changes: the machinery under segmenter and planner."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from stvla_ros.geometry.components import connected, member_pixels, renumber, sizes
from stvla_ros.tabletop.support_plane import Table, fit_table
from stvla_ros.tabletop.surface_colours import colour_clusters, colour_feature
from stvla_ros.types import F32, F64, I32, U8, Bool

NOISY_M = 0.0008
"""Noise of the heights above which single pixels do not count."""

LEAST_M = 0.0028
"""Lowest mean height that is told from the table."""

LEAST_PX = 6
"""No region is smaller, however coarse the image."""

LOW_M = 0.022
"""Plates and trays end below this height; what is higher stands in them."""


@dataclass(frozen=True)
class PartsConfig:
    """Settings of :func:`find_parts`, in metres of the base frame.

    Attributes:
        step_m: Depth difference between neighbouring pixels at which one thing ends.
        min_area_px: Smaller regions of a 640x480 image are noise; scaled with the image's area.
        lower_m: Corner of the volume in which things are looked for.
        upper_m: Opposite corner.
    """

    step_m: float = 0.012
    min_area_px: int = 60
    lower_m: tuple[float, float, float] = (0.05, -0.9, 0.0)
    upper_m: tuple[float, float, float] = (1.1, 0.9, 0.6)


@dataclass(frozen=True, eq=False)
class Parts:
    """Regions of one frame.

    Attributes:
        labels: (H, W) int32, 0 is no part, 1..count.
        count: Number of parts.
        height_m: (H, W) float32 height above the table.
        points_m: (3, H, W) float32 in the base frame.
        table: The plane that was removed.
    """

    labels: I32
    count: int
    height_m: F32
    points_m: F32
    table: Table

    def members(self) -> list[npt.NDArray[np.intp]]:
        """Flat pixel indices of each part, in order of label."""
        return member_pixels(self.labels, self.count)


def find_parts(rgb: U8, depth_m: F32, points_m: F32, exclude: Bool, config: PartsConfig) -> Parts:
    """Regions above the table that are connected in depth and of one colour.

    Args:
        rgb: (H, W, 3) image.
        depth_m: (H, W) depth, without specks (:func:`stvla_ros.geometry.depths.without_specks`).
        points_m: (3, H, W) its cloud in the base frame.
        exclude: (H, W) pixels of no interest (the robot).
        config: Settings.
    """
    table = fit_table(points_m, exclude)
    height = table.height(points_m)
    labels = find_regions(depth_m, points_m, height, exclude, table, config)
    pieces = colour_pieces(rgb, depth_m, height, labels, table, config)
    return Parts(pieces, int(pieces.max(initial=0)), height, points_m, table)


def find_regions(
    depth_m: F32,
    points_m: F32,
    height_m: F32,
    exclude: Bool,
    table: Table,
    config: PartsConfig,
    low: Bool | None = None,
) -> I32:
    """(H, W) labels 1..n of what stands on the table and is connected in depth.

    ``low`` are pixels that count too where they connect to others that are clearly above the table.
    """
    mask = standing(points_m, height_m, table.floor_m, config) & ~exclude
    if table.noise_m > NOISY_M:
        mask = _opened(mask)
    least = least_px(mask.size, config)
    if low is None:
        return _large(connected(mask, depth_m, step_m(table, config)), least)
    labels = connected(mask | low, depth_m, step_m(table, config, depth_m))
    high = np.bincount(labels[mask], minlength=int(labels.max()) + 1)
    return renumber(labels, (sizes(labels) >= least) & (high >= max(0.5 * least, 4)))


def low_pixels(height_m: F32, table: Table, exclude: Bool) -> Bool:
    """(H, W) pixels that are above the table on average over their surroundings, though noise hides it singly.

    Only what is not clearly above the table is averaged, so that tall things do not spread.
    """
    flat = (np.abs(height_m) < table.floor_m) & ~exclude
    if table.noise_m <= NOISY_M or not flat.any():
        return np.zeros(height_m.shape, dtype=bool)
    width = 2 * (height_m.shape[1] // 128) + 3
    total = cv2.boxFilter(np.where(flat, height_m, np.float32(0)), -1, (width, width), normalize=False)
    count = cv2.boxFilter(flat.astype(np.float32), -1, (width, width), normalize=False)
    mean = total / np.maximum(count, 1)
    seen = mean[::3, ::3][flat[::3, ::3]]
    noise = 1.4826 * float(np.median(np.abs(seen - np.median(seen)))) if len(seen) else table.noise_m
    return np.asarray(flat & (count > width * width / 4) & (mean > max(LEAST_M, 4 * noise)))


def colour_pieces(rgb: U8, depth_m: F32, height_m: F32, labels: I32, table: Table, config: PartsConfig) -> I32:
    """(H, W) labels 1..n of regions, halved where their colour changes or where a block stands in a plate."""
    least = least_px(labels.size, config)
    classes = split_classes(rgb, height_m, labels, least)
    if not classes.any():
        return labels
    kind = labels * 64 + classes  # at most 16 classes
    return _large(connected(labels > 0, depth_m, step_m(table, config), kind), least)


def least_px(image_px: int, config: PartsConfig) -> int:
    """Smallest region in an image of this many pixels."""
    return max(int(config.min_area_px * image_px / (640 * 480)), LEAST_PX)


def step_m(table: Table, config: PartsConfig, depth_m: F32 | None = None) -> float:
    """Depth step at which a thing ends: noise makes steps too, and so do level surfaces in the rows of a coarse image."""
    step = config.step_m + 4 * table.noise_m
    if depth_m is None or len(depth_m) < 2:
        return step
    recede = np.abs(np.diff(depth_m[:, ::4], axis=0))
    recede = recede[np.isfinite(recede)]
    return max(step, 2 * float(np.median(recede))) if len(recede) else step


def _opened(mask: Bool) -> Bool:
    """Without what is narrower than two pixels. The anchors differ, else an even kernel moves everything by one pixel."""
    square = np.ones((2, 2), np.uint8)
    inner = cv2.erode(mask.astype(np.uint8), square, anchor=(1, 1), borderType=cv2.BORDER_REPLICATE)
    return np.asarray(cv2.dilate(inner, square, anchor=(0, 0))).astype(bool)


def standing(points_m: F32, height_m: F32, floor_m: float, config: PartsConfig) -> Bool:
    """(H, W) pixels above the table and inside the volume of interest."""
    x, y, _ = points_m
    lower, upper = config.lower_m, config.upper_m
    inside = (height_m > max(floor_m, lower[2])) & (height_m < upper[2])
    return np.asarray(inside & (x > lower[0]) & (x < upper[0]) & (y > lower[1]) & (y < upper[1]))


def _large(labels: I32, least: int) -> I32:
    return renumber(labels, sizes(labels) >= least)


def split_classes(rgb: U8, height_m: F32, labels: I32, least: int) -> U8:
    """(H, W) class of each pixel within its label: 0 where a label is one thing.

    A label is halved by two means of its colours for as long as the halves differ clearly and are both large;
    what stands up from a low, flat thing (a block in a plate of its own colour) is a class of its own.
    """
    classes = np.zeros(labels.shape, dtype=np.uint8)
    flat_rgb, flat_height, flat = rgb.reshape(-1, 3), height_m.ravel(), classes.reshape(-1)
    for pixels in member_pixels(labels, int(labels.max(initial=0))):
        if len(pixels) >= 2 * least:
            flat[pixels] = pixel_classes(colour_feature(flat_rgb[pixels]), flat_height[pixels], least)
    return np.asarray(cv2.medianBlur(classes, 5) if classes.any() else classes, dtype=np.uint8) * (labels > 0)


def pixel_classes(feature: F32, height_m: F32, least: int) -> U8:
    """(N,) class below 16 of the pixels of one region, given their (N, 4) colour features and (N,) heights."""
    colours = colour_clusters(feature, least, depth=3)
    return np.asarray(colours + 8 * _standing_in(colours, height_m, least), dtype=np.uint8)  # at most 8 colours


def _standing_in(colours: U8, height_m: F32, least: int) -> U8:
    """(N,) 1 where a pixel is high above a cluster that is mostly low and flat."""
    out = np.zeros(len(colours), dtype=np.uint8)
    for colour in range(int(colours.max()) + 1):
        own = colours == colour
        tall = own & (height_m > LOW_M)
        if least <= tall.sum() < 0.5 * own.sum():
            low, middle = np.quantile(height_m[own], [0.1, 0.5])
            out[tall] = middle - low < 0.008  # else it is a side, seen without a top
    return out


def top_rectangle(xy_m: npt.NDArray[np.floating]) -> tuple[F64, F64, float]:
    """Smallest rectangle around points seen from above.

    Args:
        xy_m: (N, 2) points, N >= 3.

    Returns:
        (2,) centre, (2,) edge lengths, and the direction of the first edge in rad.
    """
    (cx, cy), (w, h), angle = cv2.minAreaRect(np.ascontiguousarray(xy_m * 1000.0, dtype=np.float32))
    return np.array([cx, cy]) / 1000.0, np.array([w, h]) / 1000.0, float(np.deg2rad(angle))
