"""The 21 keypoints of a hand in a colour image, by MediaPipe's two networks: one finds palms, one finds joints in a crop.

The networks' files come from ``stvla human fetch-hands`` and are run by OpenCV. What is done before and after them follows the
graphs of MediaPipe (Zhang et al. 2020, "MediaPipe Hands: On-device Real-time Hand Tracking", and the ``.pbtxt`` files of
``mediapipe/modules/palm_detection`` and ``hand_landmark``). Pixels: the centre of the first one is (0, 0).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from stvla_ros.data.st_human.process.hand_models import LANDMARKS, PALM, check_models
from stvla_ros.types import F32, F64, U8, Bool

JOINTS = 21
WRIST, THUMB_TIP, INDEX_KNUCKLE, INDEX_TIP, MIDDLE_KNUCKLE, RING_KNUCKLE = 0, 4, 5, 8, 9, 13
"""Of the 21 keypoints: wrist, then four of the thumb, index, middle, ring and little finger, from the palm outwards."""

PALM_SIDE_PX, CROP_SIDE_PX = 192, 224
"""Sides of the networks' square inputs."""

GRIDS = ((8, 2), (16, 6))
"""Stride [px] of the palm network's grids, and how many anchors are in the middle of each of their cells."""

PALM_SCORE, SAME_PALM = 0.3, 0.3
"""Least score of a palm, and the overlap (intersection over union) from which two are the same.

MediaPipe wants a score of 0.5; here the arm is known, and the other network judges what is found."""

PRESENCE = 0.5
"""Least score of a hand in a crop: below it is lost."""

PALM_CROP, JOINTS_CROP = (2.6, -0.5), (2.0, -0.1)
"""Side of a crop in sides of what it is made of, and its shift along the hand: of a palm, and of the last joints."""

HAND_MIDDLE_M, ARM_CROP_M, PALM_M = 0.07, 0.26, 0.03
"""From the end of the arm to the hand's middle; side of a crop by the arm alone; how far beside the arm a palm may be."""

WAYS = (0.6, 0.4, None)
"""Side [m] of the square at the arm's end that is searched for a palm, in turn; None: the arm's direction is taken.

In 24 images of six synthetic videos the joints were then found in 14, 12 and 8; in squares as large as the arm or the
image in almost none, as the hand is too small in them."""

STABLE = (0, 1, 2, 3, 5, 6, 9, 10, 13, 14, 17, 18)
"""Keypoints that the next crop is made of: without the fingers' ends, which move most."""

Network = Callable[[F32], Sequence[F32]]
"""From an image (N, N, 3), RGB in 0 to 1, to the network's outputs in the order of their names."""


@dataclass(frozen=True, eq=False)
class Arm:
    """What depth tells of the place of a hand.

    Attributes:
        mask: (H, W) arm, hand, and what it holds.
        tip_px: (2,) its end.
        along: (2,) unit vector from where it comes in to its end.
        px_per_m: Pixels of a metre across the view at its end.
    """

    mask: Bool
    tip_px: F64
    along: F64
    px_per_m: float


@dataclass(frozen=True, eq=False)
class Palm:
    """A palm.

    Attributes:
        box_px: (4,) centre, width and height.
        points_px: (7, 2) wrist, knuckles of index, middle, ring and little finger, the thumb's two first joints.
        score: 0 to 1.
    """

    box_px: F64
    points_px: F64
    score: float


@dataclass(frozen=True, eq=False)
class Crop:
    """A turned square of an image.

    Attributes:
        center_px: (2,).
        side_px: Its side.
        turn_rad: By which it is turned, clockwise in the image; 0: the fingers point up.
    """

    center_px: F64
    side_px: float
    turn_rad: float

    @property
    def to_image(self) -> F64:
        """(2, 3) from pixels of the network's input to those of the image."""
        scale = self.side_px / CROP_SIDE_PX
        c, s = scale * np.cos(self.turn_rad), scale * np.sin(self.turn_rad)
        R = np.array([[c, -s], [s, c]])
        middle = np.full(2, (CROP_SIDE_PX - 1) / 2)
        return np.column_stack([R, self.center_px - R @ middle])


@dataclass(frozen=True, eq=False)
class Keypoints:
    """A hand in an image.

    Attributes:
        px: (21, 2) in the image.
        local_m: (21, 3) about the hand's middle, along the camera's axes, from the network: shape, not place.
        score: That there is a hand, 0 to 1.
        right: How sure it is that it is a right hand and no left one, 0 to 1.
    """

    px: F64
    local_m: F64
    score: float
    right: float


class HandNetworks:
    """Finds the hand of one image after another: a palm only where the last image's hand is lost.

    Args:
        palm: Outputs (1, 2016, 18) and (1, 2016, 1).
        landmarks: Outputs (1, 63), (1, 1), (1, 1) and (1, 63).
    """

    def __init__(self, palm: Network, landmarks: Network) -> None:
        self._palm, self._landmarks = palm, landmarks
        self._next: Crop | None = None
        self._tries = 0

    @classmethod
    def read(cls, folder: Path) -> HandNetworks:
        """The networks of a folder. Raises VideoError: a file is missing or is another one."""
        check_models(folder)
        return cls(_read(folder / PALM, 2), _read(folder / LANDMARKS, 4))

    def find(self, rgb: U8, arm: Arm) -> Keypoints | None:
        """The hand at the end of the next image's arm, or None. In an image without it, one way to find it is tried.

        Args:
            rgb: (H, W, 3).
            arm: What depth tells.
        """
        found = self._in(rgb, self._next, arm) if self._next is not None else None
        if found is None:
            crop = self._searched(rgb, arm, WAYS[self._tries % len(WAYS)])
            found = self._in(rgb, crop, arm) if crop is not None else None
            self._tries = 0 if found is not None else self._tries + 1
        self._next = None if found is None else joints_crop(found.px)
        return found

    def forget(self) -> None:
        """The hand has left the view: it may come back elsewhere."""
        self._next, self._tries = None, 0

    def _in(self, rgb: U8, crop: Crop, arm: Arm) -> Keypoints | None:
        """The hand of a crop; one whose palm is not on the arm is none."""
        joints, presence, right, local = self._landmarks(cut_out(rgb, crop))
        if float(presence[0, 0]) < PRESENCE:
            return None
        found = decode_joints(joints, float(presence[0, 0]), float(right[0, 0]), local, crop)
        palm = found.px[[WRIST, INDEX_KNUCKLE, MIDDLE_KNUCKLE]].mean(axis=0)
        return found if _inside(arm.mask, palm, PALM_M * arm.px_per_m) else None

    def _searched(self, rgb: U8, arm: Arm, square_m: float | None) -> Crop | None:
        """Where the hand may be: by the best palm in a square at the arm's end, or from the arm's direction alone."""
        middle = arm.tip_px - HAND_MIDDLE_M * arm.px_per_m * arm.along
        if square_m is None:
            return Crop(middle, ARM_CROP_M * arm.px_per_m, _turn(arm.along))
        scale = square_m * arm.px_per_m / PALM_SIDE_PX
        to_image = np.column_stack([scale * np.eye(2), middle - scale * (PALM_SIDE_PX - 1) / 2])
        boxes, scores = self._palm(_warped(rgb, to_image, PALM_SIDE_PX))
        palms = decode_palms(boxes[0], scores[0, :, 0], to_image)
        return next((palm_crop(p) for p in palms if _inside(arm.mask, p.box_px[:2], PALM_M * arm.px_per_m)), None)


def _read(path: Path, outputs: int) -> Network:
    network = cv2.dnn.readNetFromTFLite(
        str(path), cv2.dnn.ENGINE_CLASSIC
    )  # the newer engines of OpenCV 5.0 refuse these
    names = ["Identity", *(f"Identity_{k}" for k in range(1, outputs))]

    def run(image: F32) -> Sequence[F32]:
        network.setInput(np.ascontiguousarray(image.transpose(2, 0, 1)[None]))
        return [np.asarray(output, np.float32) for output in network.forward(names)]

    return run


def anchors() -> F64:
    """(2016, 2) x and y of the palm network's anchors, as shares of its input's side."""
    out = []
    for stride, each in GRIDS:
        cells = PALM_SIDE_PX // stride
        y, x = np.divmod(np.arange(cells * cells), cells)
        out.append(np.repeat((np.stack([x, y], axis=1) + 0.5) / cells, each, axis=0))
    return np.concatenate(out)


def decode_palms(raw: F32, logits: F32, to_image: F64) -> list[Palm]:
    """The palms of the palm network's outputs, best first.

    Args:
        raw: (2016, 18) centre, size and 7 points relative to the anchors, in pixels of the input; sizes are absolute.
        logits: (2016,) of the scores.
        to_image: (2, 3) from pixels of the input to those of the image, without a turn.
    """
    score = 1.0 / (1.0 + np.exp(-np.clip(logits.astype(np.float64), -100.0, 100.0)))
    good = np.flatnonzero(score >= PALM_SCORE)
    if not len(good):
        return []
    at = raw[good].astype(np.float64).reshape(-1, 9, 2)
    at[:, [0, *range(2, 9)]] += anchors()[good, None] * PALM_SIDE_PX - 0.5  # edges count from 0, centres from 1/2
    corners = np.concatenate([at[:, 0] - at[:, 1] / 2, at[:, 1]], axis=1)
    kept = np.asarray(cv2.dnn.NMSBoxes(corners.tolist(), score[good].tolist(), PALM_SCORE, SAME_PALM)).ravel()
    scale, shift = to_image[0, 0], to_image[:, 2]
    return [
        Palm(np.append(at[k, 0] * scale + shift, at[k, 1] * scale), at[k, 2:] * scale + shift, float(score[good[k]]))
        for k in kept
    ]


def palm_crop(palm: Palm) -> Crop:
    """Where the whole hand is, from its palm: the wrist below, the middle finger's knuckle above."""
    turn = _turn(palm.points_px[2] - palm.points_px[0])
    return _moved(palm.box_px[:2], palm.box_px[2:], turn, PALM_CROP)


def joints_crop(px: F64) -> Crop:
    """Where the hand is in the next image, from its keypoints (21, 2) in this one."""
    fingers = (px[INDEX_KNUCKLE] + px[RING_KNUCKLE]) / 4 + px[MIDDLE_KNUCKLE] / 2
    turn = _turn(fingers - px[WRIST])
    c, s = np.cos(turn), np.sin(turn)
    R = np.array([[c, -s], [s, c]])
    upright = px[list(STABLE)] @ R
    low, high = upright.min(axis=0), upright.max(axis=0)
    return _moved(R @ ((low + high) / 2), high - low, turn, JOINTS_CROP)


def _turn(along: F64) -> float:
    """Clockwise turn [rad] from up to a direction (2,) in the image."""
    return float(np.arctan2(along[0], -along[1]))


def _moved(center_px: F64, size_px: F64, turn_rad: float, how: tuple[float, float]) -> Crop:
    scale, shift = how
    up = np.array([np.sin(turn_rad), -np.cos(turn_rad)])
    return Crop(center_px - shift * size_px[1] * up, scale * float(size_px.max()), turn_rad)


def cut_out(rgb: U8, crop: Crop) -> F32:
    """(224, 224, 3) a crop of an image, in 0 to 1; black outside the image."""
    return _warped(rgb, crop.to_image, CROP_SIDE_PX)


def _warped(rgb: U8, to_image: F64, side: int) -> F32:
    how = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return np.asarray(cv2.warpAffine(rgb, to_image, (side, side), flags=how), np.float32) / np.float32(255.0)


def decode_joints(joints: F32, presence: float, right: float, local: F32, crop: Crop) -> Keypoints:
    """The keypoints of the joint network's outputs.

    Args:
        joints: (1, 63) x and y in pixels of the crop, and a relative depth, of each keypoint.
        presence: That there is a hand.
        right: That it is a right one, if the image is not mirrored.
        local: (1, 63) [m] about the hand's middle, along the crop's axes.
        crop: Of the image.
    """
    in_crop = joints.reshape(JOINTS, 3)[:, :2].astype(np.float64) - 0.5  # edges count from 0
    to_image = crop.to_image
    c, s = np.cos(crop.turn_rad), np.sin(crop.turn_rad)
    R = np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])
    return Keypoints(
        in_crop @ to_image[:, :2].T + to_image[:, 2], local.reshape(JOINTS, 3).astype(np.float64) @ R.T, presence, right
    )


def _inside(mask: Bool, at_px: F64, reach_px: float) -> bool:
    """Whether a place is in a mask, or as near to it as that."""
    reach = max(int(reach_px), 1)
    x, y = (int(v) for v in np.round(at_px))
    return bool(mask[max(y - reach, 0) : max(y + reach + 1, 0), max(x - reach, 0) : max(x + reach + 1, 0)].any())
