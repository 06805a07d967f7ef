"""Mask proposals in one frame: where to prompt the model, and which of its masks to accept."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np

from stvla_ros.perception.sam2.evidence import Evidence, Surface, Surroundings, reduced
from stvla_ros.perception.sam2.masks import MaskLimits, acceptable, grid_points, inner_points, overlaps, suppress
from stvla_ros.perception.sam2.network import Network, Picture, shrink, to_frame, to_model
from stvla_ros.types import F32, F64, I32, Bool

Proposal = tuple[Bool, float]
"""(H, W) mask and the IoU that the model predicts for it; 0 for what depth alone sees."""


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
        grid_side: Points along each side of the frame; None prompts one point in each region that depth sees.
    """

    def __init__(self, network: Network, limits: MaskLimits, double_iou: float, grid_side: int | None) -> None:
        self._network, self._limits, self._double_iou, self._grid_side = network, limits, double_iou, grid_side

    def propose(self, picture: Picture, evidence: Evidence, seen: Collection[Bool] = ()) -> list[Proposal]:
        """Masks of objects in a frame that are not tracked already (masks ``seen``)."""
        small = reduced(evidence.around, self._network.mask_shape)
        if self._grid_side is None:
            return self._from_regions(evidence.labels, picture, small, claimed(evidence.labels, seen))
        worth = evidence.around.shows(Surface.STANDING, Surface.BLIND)
        for mask in seen:
            worth &= ~mask
        return self._from_grid(picture, small, worth, self._grid_side)

    def _from_grid(self, picture: Picture, small: Surroundings, worth: Bool, side: int) -> list[Proposal]:
        """Automatic masks: accepted masks of all points, the best one of duplicates.

        ``worth`` excludes points on the bare table or a wall, whose masks would be dropped as background.
        """
        px = grid_points(picture.shape, side)
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
        """The mask for each region that the model is surest of and that fits it best.

        The model proposes a part, an object and a larger region; which one is the object, depth knows better.
        """
        ids = [int(i) for i in np.unique(labels) if i > 0 and i not in known]
        px = inner_points(labels, ids)
        found: list[Proposal] = []
        for key, at, (answer, predicted) in zip(ids, px, self._network.prompt(picture, px), strict=True):
            passed = self._passing(answer, predicted, at, picture, small)
            fit = overlaps(answer > 0, shrink(labels == key, self._network.mask_shape)[None])[1][:, 0]
            best = int(np.argmax(np.where(passed, predicted + fit, -1)))
            if passed[best]:
                found.append((to_frame(answer[best], picture.shape), float(predicted[best])))
        if not found:
            return []
        masks, scores = zip(*found, strict=True)
        return [found[i] for i in sorted(suppress(np.stack(masks), scores, self._double_iou))]

    def _passing(self, logits: F32, scores: F32, at: F64, picture: Picture, small: Surroundings) -> Bool:
        """(n,) which of (n, h, w) masks for one point of the frame contain that point and are acceptable."""
        h, w = self._network.mask_shape
        x, y = np.clip(np.rint(to_model(at, picture.shape, (h, w))[0]).astype(int), 0, (w - 1, h - 1))
        return acceptable(logits, scores, small, self._limits) & (logits[:, y, x] > 0)
