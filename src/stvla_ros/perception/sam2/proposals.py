"""Mask proposals in one frame: where to prompt the model, and which of its masks to accept."""

from __future__ import annotations

from collections.abc import Collection

import cv2
import numpy as np

from stvla_ros.interfaces import Segmenter
from stvla_ros.perception.sam2.masks import MaskLimits, Surroundings, acceptable, grid_points, inner_points, suppress
from stvla_ros.perception.sam2.network import Network, Picture, to_frame, to_model
from stvla_ros.tabletop.regions import RegionConfig, above_plane
from stvla_ros.tabletop.support_plane import fit_support_plane
from stvla_ros.types import F32, F64, I32, Bool, RgbdFrame, RobotState

Proposal = tuple[Bool, float]
"""(H, W) mask and the IoU that the model predicts for it; 0 if the mask is not the model's."""


def surroundings(points_m: F32, arm: Bool) -> Surroundings:
    """Pixels above the table, from the (3, H, W) cloud without the (H, W) pixels of the arm."""
    table = fit_support_plane(np.where(arm, np.float32(np.nan), points_m))
    on_table = above_plane(points_m, table.height(points_m), table.noise_floor_m, RegionConfig())
    return Surroundings(np.isfinite(points_m[2]) & ~arm, on_table & ~arm)


def reduced(around: Surroundings, shape: tuple[int, int]) -> Surroundings:
    """The same at the (h, w) size of the model's masks."""
    size = shape[1], shape[0]
    known, there = (
        cv2.resize(image.view(np.uint8), size, interpolation=cv2.INTER_NEAREST).astype(bool)
        for image in (around.known, around.standing)
    )
    return Surroundings(known, there)


def claimed(labels: I32, seen: Collection[Bool]) -> set[int]:
    """Regions that are already tracked: for each mask the region that contains most of it."""
    regions: set[int] = set()
    for mask in seen:
        counts = np.bincount(np.maximum(labels[mask], 0), minlength=2)[1:]
        if counts.any():
            regions.add(int(counts.argmax()) + 1)
    return regions


class Proposer:
    """Prompts the model for masks.

    Args:
        network: The model.
        limits: Conditions for a mask.
        double_iou: Masks that overlap more are duplicates.
        regions: Segmenter whose regions are prompted; None prompts all over the frame.
        grid_side: Points along each side of the frame, without regions.
    """

    def __init__(
        self, network: Network, limits: MaskLimits, double_iou: float, regions: Segmenter | None, grid_side: int
    ) -> None:
        self._network, self._limits, self._double_iou = network, limits, double_iou
        self._regions, self._grid_side = regions, grid_side

    def propose(
        self,
        frame: RgbdFrame,
        robot: RobotState,
        picture: Picture,
        around: Surroundings,
        arm: Bool,
        seen: Collection[Bool] = (),
    ) -> list[Proposal]:
        """Masks of objects in a frame, except the (H, W) pixels of the arm and the masks already tracked."""
        small = reduced(around, self._network.mask_shape)
        if self._regions is None:
            taken = np.logical_or.reduce([arm, *seen])
            return self._from_grid(picture, small, (around.standing | ~around.known) & ~taken)
        labels = self._regions.segment(frame, robot).labels
        return self._from_regions(labels, picture, small, claimed(labels, seen))

    def _from_grid(self, picture: Picture, small: Surroundings, worth: Bool) -> list[Proposal]:
        """Automatic masks: accepted masks of all points, the best one of duplicates.

        ``worth`` excludes points on the bare table or a wall, whose masks would be dropped as background.
        """
        px = grid_points(picture.shape, self._grid_side)
        nearest = np.rint(px).astype(int)
        px = px[worth[nearest[:, 1], nearest[:, 0]]]
        logits: list[F32] = []
        scores: list[float] = []
        for at, (answer, predicted) in zip(px, self._network.prompt(picture, px), strict=True):
            passed = self._passing(answer, predicted, at, picture, small)
            logits += list(answer[passed])
            scores += predicted[passed].tolist()
        if not logits:
            return []
        kept = suppress(np.stack(logits) > 0, scores, self._double_iou)
        return [(to_frame(logits[i], picture.shape), scores[i]) for i in kept]

    def _from_regions(self, labels: I32, picture: Picture, small: Surroundings, known: set[int]) -> list[Proposal]:
        """The best mask for each region; the region itself if no mask is accepted, so that nothing is missed."""
        ids = [int(i) for i in np.unique(labels) if i > 0 and i not in known]
        px = inner_points(labels, ids)
        found: list[Proposal] = []
        for key, at, (answer, predicted) in zip(ids, px, self._network.prompt(picture, px), strict=True):
            passed = self._passing(answer, predicted, at, picture, small)
            best = int(np.argmax(np.where(passed, predicted, -1)))
            if passed[best]:
                found.append((to_frame(answer[best], picture.shape), float(predicted[best])))
            else:
                found.append((labels == key, 0.0))
        if not found:
            return []
        masks, scores = zip(*found, strict=True)
        return [found[i] for i in sorted(suppress(np.stack(masks), scores, self._double_iou))]

    def _passing(self, logits: F32, scores: F32, at: F64, picture: Picture, small: Surroundings) -> Bool:
        """(n,) which of (n, h, w) masks for one point of the frame contain that point and are acceptable."""
        h, w = self._network.mask_shape
        x, y = np.clip(np.rint(to_model(at, picture.shape, (h, w))[0]).astype(int), 0, (w - 1, h - 1))
        return acceptable(logits, scores, small, self._limits) & (logits[:, y, x] > 0)
