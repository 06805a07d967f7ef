"""Where the hand is in each frame. The backend ``depth`` needs no weights and does not know what a hand looks like.

What is nearer to the camera than the hand-free image, and reaches in from the image's border, is the arm, the hand and
what it holds; its end is the part that is farthest from where it enters. The backend ``mediapipe`` adds 21 keypoints of
the hand in there, by networks; in frames in which it finds none, what ``depth`` tells remains.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import cv2
import numpy as np

from stvla_ros.data.st_human.process.hand_models import have_models
from stvla_ros.data.st_human.process.hand_networks import Arm, HandNetworks, Keypoints
from stvla_ros.types import F32, U8, Bool

HandsName = Literal["depth", "mediapipe"]

NEARER_M = 0.012
"""What is nearer than the background by less is noise; grows with the square of the depth beyond 1 m."""

MIN_SHARE = 0.002
"""Smallest arm, as a share of the image."""

BRIDGE_PX = 5
"""Pixels without depth join what is nearer on both sides of them, if they are fewer."""

TIP = 0.06
"""The tip is this share of the arm's pixels, farthest from where it enters."""


@dataclass(frozen=True, eq=False)
class SeenHand:
    """A hand in one image.

    Attributes:
        mask: (H, W) arm, hand, and what it holds.
        tip_px: (2,) its end.
        enters_px: (2,) where it comes in at the border.
        tip_depth_m: Depth of its end.
    """

    mask: Bool
    tip_px: tuple[float, float]
    enters_px: tuple[float, float]
    tip_depth_m: float


class HandBackend(Protocol):
    """Finds the hand of one image after another."""

    name: str

    def find(self, depth_m: F32, background_m: F32) -> SeenHand | None:
        """The arm and the hand, or None.

        Args:
            depth_m: (H, W), NaN: unknown.
            background_m: (H, W) the same without a hand.
        """
        ...

    def keypoints(self, rgb: Callable[[], U8], hand: SeenHand | None, focal_px: float) -> Keypoints | None:
        """The hand's keypoints in the next image of a video, or None.

        Args:
            rgb: Reads its colours (H, W, 3), if they are needed.
            hand: What :meth:`find` told, perhaps of a smaller image.
            focal_px: Of the image with colours.
        """
        ...


class DepthHands:
    """The backend ``depth``."""

    name = "depth"

    def keypoints(self, rgb: Callable[[], U8], hand: SeenHand | None, focal_px: float) -> Keypoints | None:
        """None: depth does not show joints."""
        return None

    def find(self, depth_m: F32, background_m: F32) -> SeenHand | None:
        """See :class:`HandBackend`."""
        mask = in_front(depth_m, background_m)
        near = cv2.dilate(mask.astype(np.uint8), np.ones((BRIDGE_PX, BRIDGE_PX), np.uint8)).astype(bool)
        joined = mask | (
            near & ~np.isfinite(depth_m)
        )  # a finger before another one is cut off by unknown depth at its outline
        count, labels, stats, _ = cv2.connectedComponentsWithStats(joined.astype(np.uint8), connectivity=8)
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
        own = (labels == best) & mask
        ys, xs = np.nonzero(own & border)
        enters = np.array([xs.mean(), ys.mean()])
        ys, xs = np.nonzero(own)
        away = np.hypot(xs - enters[0], ys - enters[1])
        far = away >= np.quantile(away, 1.0 - TIP)
        tip = float(xs[far].mean()), float(ys[far].mean())
        return SeenHand(own, tip, (float(enters[0]), float(enters[1])), float(np.median(depth_m[ys[far], xs[far]])))


def in_front(depth_m: F32, background_m: F32) -> Bool:
    """(H, W) what is nearer than the background, without specks."""
    with np.errstate(invalid="ignore"):
        nearer = background_m - depth_m > NEARER_M * np.maximum(np.float32(1.0), background_m**2)
    return cv2.morphologyEx(nearer.astype(np.uint8), cv2.MORPH_OPEN, np.ones((3, 3), np.uint8)).astype(bool)


class MediapipeHands(DepthHands):
    """The backend ``mediapipe``: the arm by depth, and in it the hand's keypoints.

    Args:
        networks: Find the keypoints.
    """

    name = "mediapipe"

    def __init__(self, networks: HandNetworks) -> None:
        self._networks = networks

    def keypoints(self, rgb: Callable[[], U8], hand: SeenHand | None, focal_px: float) -> Keypoints | None:
        """See :class:`HandBackend`."""
        if hand is None:
            self._networks.forget()
            return None
        image = rgb()
        h, w = image.shape[:2]
        mask = cv2.resize(hand.mask.astype(np.uint8), (w, h), interpolation=cv2.INTER_NEAREST).astype(bool)
        tip, enters = (np.array(at) * (w / hand.mask.shape[1]) for at in (hand.tip_px, hand.enters_px))
        along = (tip - enters) / max(float(np.linalg.norm(tip - enters)), 1e-9)
        return self._networks.find(image, Arm(mask, tip, along, focal_px / hand.tip_depth_m))


def choose_hands(wanted: str, models: Path) -> HandsName:
    """The backend that ``auto`` means: ``mediapipe`` where its files are in a folder, else ``depth``; others stay."""
    if wanted == "auto":
        return "mediapipe" if have_models(models) else "depth"
    return "mediapipe" if wanted == "mediapipe" else "depth"


def make_hands(name: HandsName, models: Path) -> HandBackend:
    """A backend; ``models`` holds the files of ``mediapipe``. Raises VideoError: one is missing or wrong."""
    return MediapipeHands(HandNetworks.read(models)) if name == "mediapipe" else DepthHands()
