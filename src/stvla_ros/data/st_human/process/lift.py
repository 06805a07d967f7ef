"""The hand's joints in 3D: keypoints of an image lifted by its depth, where depth shows them."""

from __future__ import annotations

import numpy as np

from stvla_ros.types import F32, F64, Bool

PATCH_PX, LEAST_PX = 3, 5
"""Half a side of the square around a keypoint in which depth is looked up, and the least number of the hand's pixels in it."""

NEAREST = 0.2
"""Of these pixels, the depth that such a share is nearer than: beside a finger's outline there is what is behind it."""

FLESH_M = 0.007
"""A joint is so much deeper than the skin over it; 6 to 8 mm at the tips of a rendered hand."""

HIDDEN_M = 0.025
"""A keypoint at which depth is off the hand's shape by more is hidden: its depth comes from the shape."""


def lift(px: F64, local_m: F64, depth_m: F32, mask: Bool, K: F64) -> tuple[F64, Bool]:
    """Joints of a hand in the camera's frame.

    A joint's place in the image is kept. Its depth is measured, or that of the networks' shape, scaled to the hand's size
    in the image and put at the median of what is measured.

    Args:
        px: (21, 2) keypoints.
        local_m: (21, 3) them about the hand's middle, along the camera's axes.
        depth_m: (H, W), NaN: unknown.
        mask: (H, W) the hand, the arm, and what it holds.
        K: (3, 3) intrinsics.

    Returns:
        (21, 3) joints [m], NaN if no depth is known at any, and (21,) which have their own depth.
    """
    z = np.array([_depth(at, depth_m, mask) for at in px])
    if not np.isfinite(z).any():
        return np.full((len(px), 3), np.nan), np.zeros(len(px), bool)
    focal = np.array([K[0, 0], K[1, 1]])
    across = np.sqrt(
        (((px - px.mean(axis=0)) / focal) ** 2).sum() / ((local_m - local_m.mean(axis=0))[:, :2] ** 2).sum()
    )
    shape = float(np.nanmedian(z)) * across * local_m[:, 2]
    expected = float(np.nanmedian(z - shape)) + shape
    with np.errstate(invalid="ignore"):
        measured = np.abs(z - expected) < HIDDEN_M
    z = np.where(measured, z, expected)
    return np.column_stack([(px - K[:2, 2]) / focal, np.ones(len(px))]) * z[:, None], measured


def _depth(at_px: F64, depth_m: F32, mask: Bool) -> float:
    """Depth of the joint at a pixel; NaN where the hand is not seen there."""
    x, y = (int(v) for v in np.round(at_px))
    patch = slice(max(y - PATCH_PX, 0), max(y + PATCH_PX + 1, 0)), slice(max(x - PATCH_PX, 0), max(x + PATCH_PX + 1, 0))
    own = depth_m[patch][mask[patch]]
    own = own[np.isfinite(own)]
    return float(np.quantile(own, NEAREST)) + FLESH_M if len(own) >= LEAST_PX else np.nan
