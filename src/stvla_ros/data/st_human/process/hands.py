"""Where the hand is in each frame. The backend ``depth`` needs no weights and does not know what a hand looks like.

What is nearer to the camera than the hand-free image, and reaches in from the image's border, is the arm, the hand and
what it holds; its end is the part that is farthest from where it enters. A backend that knows hands can take its place.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import cv2
import numpy as np

from stvla_ros.types import F32, U8, Bool

NEARER_M = 0.012
"""What is nearer than the background by less is noise; grows with the square of the depth beyond 1 m."""

MIN_SHARE = 0.002
"""Smallest arm, as a share of the image."""

TIP = 0.06
"""The tip is this share of the arm's pixels, farthest from where it enters."""


@dataclass(frozen=True, eq=False)
class SeenHand:
    """A hand in one image.

    Attributes:
        mask: (H, W) arm, hand, and what it holds.
        tip_px: (2,) its end.
        enters_px: (2,) where it comes in at the border.
    """

    mask: Bool
    tip_px: tuple[float, float]
    enters_px: tuple[float, float]


class HandBackend(Protocol):
    """Finds the hand of one image."""

    name: str

    def find(self, rgb: U8 | None, depth_m: F32, background_m: F32) -> SeenHand | None:
        """The hand, or None.

        Args:
            rgb: (H, W, 3) colours; None for a backend with ``colours`` False.
            depth_m: (H, W), NaN: unknown.
            background_m: (H, W) the same without a hand.
        """
        ...


class DepthHands:
    """The backend ``depth``."""

    name = "depth"

    def find(self, rgb: U8 | None, depth_m: F32, background_m: F32) -> SeenHand | None:
        """See :class:`HandBackend`."""
        mask = in_front(depth_m, background_m)
        count, labels, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
        if count < 2:
            return None
        border = np.zeros(labels.shape, bool)
        border[:2], border[-2:], border[:, :2], border[:, -2:] = True, True, True, True
        touching = np.bincount(labels[border & mask], minlength=count)
        area = np.where(touching > 0, stats[:, cv2.CC_STAT_AREA], 0)
        area[0] = 0
        best = int(area.argmax())
        if area[best] < MIN_SHARE * mask.size:
            return None
        own = labels == best
        ys, xs = np.nonzero(own & border)
        enters = np.array([xs.mean(), ys.mean()])
        ys, xs = np.nonzero(own)
        away = np.hypot(xs - enters[0], ys - enters[1])
        far = away >= np.quantile(away, 1.0 - TIP)
        return SeenHand(own, (float(xs[far].mean()), float(ys[far].mean())), (float(enters[0]), float(enters[1])))


def in_front(depth_m: F32, background_m: F32) -> Bool:
    """(H, W) what is nearer than the background, without specks."""
    with np.errstate(invalid="ignore"):
        nearer = background_m - depth_m > NEARER_M * np.maximum(np.float32(1.0), background_m**2)
    return cv2.morphologyEx(nearer.astype(np.uint8), cv2.MORPH_OPEN, np.ones((3, 3), np.uint8)).astype(bool)


BACKENDS = {"depth": DepthHands}
