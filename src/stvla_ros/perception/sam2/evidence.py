"""What depth shows at each pixel, and whether a mask can be a thing there."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import cv2
import numpy as np
import numpy.typing as npt

from stvla_ros.geometry.components import bounding_slices
from stvla_ros.tabletop.regions import MIN_MEAN_HEIGHT_M, RegionConfig, above_plane
from stvla_ros.tabletop.support_plane import SupportPlane, fit_support_plane
from stvla_ros.types import F32, F64, I32, U8, Bool, Camera

BLIND_SHARE = 0.9
"""A mask with a larger share without depth has none: what is left are flying pixels at its edge."""

GLASS_SHARE = 0.2
"""With this share, and three times that of the pixels around it, the camera looks through or is dazzled by a thing."""

RIM_SHARE = 0.6
"""A hollow thing stands along this share of its outline, though its bottom may be within the noise of the table."""

LOW_M = 0.02
"""What is low, or a foot, is lower than this."""

FOOT_SHARE = 0.6
"""A thing without depth has the table, or something that stands on it, below this share of its lower edge."""

FRINGE_PX = 6.0
"""Half the width of strips, in an image 640 wide, that are flying pixels and shadows of the sensor, not things."""

WIDE_PX = 640
"""Widths of rims and rings are given in pixels of an image this wide."""


class Surface(IntEnum):
    """What a pixel shows."""

    ROBOT = 0
    BLIND = 1  # no depth
    SUPPORT = 2  # the table, within the noise of its height
    STANDING = 3  # above the table
    ELSEWHERE = 4  # floor and walls: below the table, or outside the workspace


@dataclass(frozen=True, eq=False)
class Surroundings:
    """What the depth image shows.

    Attributes:
        surface: (h, w) of :class:`Surface`.
        height_m: (h, w) height above the table, NaN where unknown.
        width_px: Width of the whole image, of which this may be a part.
        down: Direction of a falling object in the middle of the image, a unit vector (x, y).
    """

    surface: U8
    height_m: F32
    width_px: int
    down: tuple[float, float] = (0.0, 1.0)

    def shows(self, *surfaces: Surface) -> Bool:
        """(h, w) pixels that show one of these."""
        return np.isin(self.surface, surfaces)

    def part(self, here: tuple[slice, slice]) -> Surroundings:
        """A window of it."""
        return Surroundings(self.surface[here], self.height_m[here], self.width_px, self.down)

    def pixels(self, px_at_640: float) -> int:
        """So many pixels of an image 640 wide, in this one; at least 1."""
        return max(round(px_at_640 * self.width_px / WIDE_PX), 1)


@dataclass(frozen=True, eq=False)
class Evidence:
    """What depth says about a frame.

    Attributes:
        around: Surface at each pixel.
        rgb: (H, W, 3) image.
        points_m: (3, H, W) points in the base frame.
        depth_m: (H, W) depth.
        labels: (H, W) the geometric segmenter's: -1 the robot, 0 none, 1... regions.
    """

    around: Surroundings
    rgb: U8
    points_m: F32
    depth_m: F32
    labels: I32


def surroundings(points_m: F32, arm: Bool, camera: Camera) -> Surroundings:
    """From the (3, H, W) cloud and the (H, W) pixels of the arm."""
    table = fit_support_plane(np.where(arm, np.float32(np.nan), points_m))
    height, config = table.height(points_m), RegionConfig()
    surface = np.full(arm.shape, Surface.ELSEWHERE, dtype=np.uint8)
    surface[_in_workspace(points_m, config) & (np.abs(height) <= table.noise_floor_m)] = Surface.SUPPORT
    surface[above_plane(points_m, height, table.noise_floor_m, config)] = Surface.STANDING
    surface[~np.isfinite(height)] = Surface.BLIND
    surface[arm] = Surface.ROBOT
    return Surroundings(surface, height, camera.width_px, _down(camera, table))


def _in_workspace(points_m: F32, config: RegionConfig) -> Bool:
    x, y, _ = points_m
    (x_low, y_low, _), (x_high, y_high, _) = config.lower_m, config.upper_m
    return np.asarray((x > x_low) & (x < x_high) & (y > y_low) & (y < y_high))


def _down(camera: Camera, table: SupportPlane) -> tuple[float, float]:
    """(0, 1) for a camera that looks straight down: there nothing hides its own foot."""
    fall: F64 = -(camera.T_base_camera[:3, :3].T @ table.gradient.astype(np.float64))[:2]
    length = float(np.hypot(*fall))
    return (float(fall[0] / length), float(fall[1] / length)) if length > 0.1 else (0.0, 1.0)


def reduced(around: Surroundings, shape: tuple[int, int]) -> Surroundings:
    """The same at the (h, w) size of the model's masks."""
    size = shape[1], shape[0]
    surface, height = (cv2.resize(i, size, interpolation=cv2.INTER_NEAREST) for i in (around.surface, around.height_m))
    return Surroundings(
        np.asarray(surface, dtype=np.uint8), np.asarray(height, dtype=np.float32), shape[1], around.down
    )


def counts(mask: Bool, around: Surroundings) -> npt.NDArray[np.intp]:
    """(5,) pixels of an (h, w) mask per :class:`Surface`."""
    return np.bincount(around.surface[mask], minlength=len(Surface))


def may_be_thing(mask: Bool, around: Surroundings, background: float) -> bool:
    """Whether depth allows that a mask (h, w) is a thing: it stands above the table, or depth cannot tell.

    At most the share ``background`` of its known pixels is table, floor or wall. More is allowed for

    * a hollow thing, whose outline stands around a bottom within the table's noise;
    * a low thing, which is on average higher than the table around it;
    * a thing without depth, or through which the camera sees the table in places (glass), above a foot on the table.
      What has neither depth nor a foot has no place in the scene.
    """
    found = counts(mask, around)
    seen = int(found.sum() - found[Surface.ROBOT])
    known = seen - int(found[Surface.BLIND])
    if found[Surface.BLIND] > BLIND_SHARE * seen:
        return has_foot(mask, around)
    if known - found[Surface.STANDING] <= background * known:
        return known > 0
    return _has_rim(mask, around) or is_low(mask, around) or (is_glass(mask, around) and has_foot(mask, around))


def _window(mask: Bool, margin: int) -> tuple[slice, slice]:
    found = bounding_slices(mask) or (slice(0, 1), slice(0, 1))
    rows, columns = (slice(max(s.start - margin, 0), s.stop + margin) for s in found)
    return rows, columns


def disc(radius: int) -> U8:
    """Structuring element."""
    return np.asarray(cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1)), dtype=np.uint8)


def _has_rim(mask: Bool, around: Surroundings) -> bool:
    width = around.pixels(5)
    here = _window(mask, 1)
    inside = mask[here].astype(np.uint8)
    rim = (inside > cv2.erode(inside, disc(width), borderValue=0)).astype(bool)
    found = np.bincount(around.surface[here][rim], minlength=len(Surface))
    known = int(found[Surface.SUPPORT] + found[Surface.STANDING] + found[Surface.ELSEWHERE])
    return known > 0 and bool(found[Surface.STANDING] >= RIM_SHARE * known)


def is_low(mask: Bool, around: Surroundings) -> bool:
    """A plate, a sheet of card: on average higher than the table beside it by more than a mean can be wrong."""
    here, ring = _ring(mask, around)
    height, table = around.height_m[here], around.surface[here] == Surface.SUPPORT
    beside = height[ring & table]
    level = height[mask[here] & (table | (around.surface[here] == Surface.STANDING))]
    if len(beside) < 0.3 * np.count_nonzero(ring) or not len(level) or np.quantile(level, 0.9) > LOW_M:
        return False
    return float(np.median(level) - np.median(beside)) > MIN_MEAN_HEIGHT_M


def is_glass(mask: Bool, around: Surroundings) -> bool:
    """Depth is missing in much of the mask, and not beside it: a hole in the depth that has the outline of a thing."""
    here, ring = _ring(mask, around)
    blind = around.surface[here] == Surface.BLIND
    share = float(blind[mask[here]].mean())
    return share > GLASS_SHARE and share > 3 * float(blind[ring].mean() if ring.any() else 1.0)


def _ring(mask: Bool, around: Surroundings) -> tuple[tuple[slice, slice], Bool]:
    """A window around a mask, and the pixels in it that lie near beside the mask."""
    gap, width = around.pixels(3), around.pixels(10)
    here = _window(mask, gap + width)
    inside = mask[here].astype(np.uint8)
    return here, (cv2.dilate(inside, disc(gap + width)) > cv2.dilate(inside, disc(gap))).astype(bool)


def below(mask: Bool, around: Surroundings, step_px: int) -> Bool:
    """(h, w) pixels right below the mask: it, moved downwards by a step, without itself."""
    dx, dy = (round(step_px * along) for along in around.down)
    h, w = mask.shape
    moved = np.zeros_like(mask)
    moved[max(dy, 0) : h + min(dy, 0), max(dx, 0) : w + min(dx, 0)] = mask[
        max(-dy, 0) : h - max(dy, 0), max(-dx, 0) : w - max(dx, 0)
    ]
    return moved & ~mask


def has_foot(mask: Bool, around: Surroundings) -> bool:
    """Below the mask's lower edge are mostly the table and what stands on it."""
    found = counts(below(mask, around, around.pixels(6)), around)
    on_table = found[Surface.SUPPORT] + found[Surface.STANDING]
    return bool(on_table > 0 and on_table >= FOOT_SHARE * found.sum())
