"""Found instances against the true ones, matched one to one, by kind of thing; and instances where nothing is."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy.optimize import linear_sum_assignment
from scipy.spatial import cKDTree

from benchmarks.guidance.scenes import View
from stvla_ros.sim.household import Household
from stvla_ros.sim.objects import SceneObject
from stvla_ros.types import F64, I32, Bool

TOUCHING_M = 0.006
"""Two things touch when points all over their surfaces, 4 mm apart, come this close."""

BLACK = 0.1
"""Largest value of black paint."""

FALSE_SHARE = 0.5
"""An instance is false when less of it lies on things or on the robot."""


@dataclass
class Matches:
    """Sums over frames.

    Attributes:
        iou: Per kind of thing, of each true instance; 0 where none was matched.
        false: Instances on bare table, floor or wall.
        false_share: Their share of the frame, per frame.
        frames: How many.
    """

    iou: dict[str, list[float]] = field(default_factory=dict)
    false: int = 0
    false_share: list[float] = field(default_factory=list)
    frames: int = 0

    def add(self, labels: I32, truth: I32, kinds: Mapping[int, Iterable[str]]) -> None:
        """Add a frame.

        Args:
            labels: (H, W) instances above 0.
            truth: (H, W) true ones; -1 is the robot.
            kinds: Of each true label that counts.
        """
        for label, iou in matched_iou(labels, truth, list(kinds)).items():
            for kind in ("all", *kinds[label]):
                self.iou.setdefault(kind, []).append(iou)
        false = false_instances(labels, truth != 0)
        self.false += len(false)
        self.false_share.append(float(np.isin(labels, false).mean()))
        self.frames += 1

    def summary(self) -> dict[str, Any]:
        return {
            "frames": self.frames,
            "iou": {kind: _iou(values) for kind, values in sorted(self.iou.items())},
            "false_per_frame": round(self.false / max(self.frames, 1), 3),
            "false_percent_of_frame": round(100 * float(np.mean(self.false_share or [0.0])), 3),
        }


def _iou(values: list[float]) -> dict[str, float]:
    found = 100 * float(np.mean(np.array(values) >= 0.5))
    return {"mean": round(float(np.mean(values)), 4), "found_percent": round(found, 2), "things": len(values)}


def matched_iou(labels: I32, truth: I32, wanted: list[int]) -> dict[int, float]:
    """Intersection over union of each true label with the instance that the best one-to-one matching gives it."""
    found = np.unique(labels[labels > 0])
    iou = np.zeros((len(wanted), len(found)))
    for i, label in enumerate(wanted):
        mine = truth == label
        inside = np.bincount(labels[mine & (labels > 0)], minlength=int(labels.max(initial=0)) + 1)
        areas = np.bincount(labels[labels > 0], minlength=len(inside))
        iou[i] = inside[found] / np.maximum(mine.sum() + areas[found] - inside[found], 1)
    rows, columns = linear_sum_assignment(-iou)
    best = dict.fromkeys(wanted, 0.0)
    best.update({wanted[i]: float(iou[i, k]) for i, k in zip(rows, columns, strict=True)})
    return best


def false_instances(labels: I32, things: Bool) -> list[int]:
    """Instances that lie mostly where nothing is."""
    found = np.unique(labels[labels > 0])
    return [int(i) for i in found if things[labels == i].mean() < FALSE_SHARE]


def kinds_of(view: View, objects: Iterable[SceneObject]) -> dict[int, tuple[str, ...]]:
    """Of each label that counts: what it is, how it looks where that is hard to see, and whether it touches another."""
    side_by_side = {name: view.surfaces[name] for name in view.counted() if kind_of(name) != "inside"}
    close, looks = touching(side_by_side), {o.name: _look(o) for o in objects}
    return {
        1 + view.names.index(name): (kind_of(name), *looks[name], *(["touching"] if name in close else []))
        for name in view.counted()
    }


def kind_of(name: str) -> str:
    """``bowl`` of ``white_bowl_7``, ``block`` of ``red_block``."""
    return name.rstrip("_0123456789").split("_")[-1]


def _look(thing: SceneObject) -> list[str]:
    if not isinstance(thing, Household):
        return []
    dark = max(thing.finish.rgb) < BLACK
    return [*(["transparent"] if thing.finish.opacity < 1.0 else []), *(["black surface"] if dark else [])]


def touching(surfaces_m: Mapping[str, F64]) -> set[str]:
    """Names of things that touch another one."""
    trees, out = {name: cKDTree(points) for name, points in surfaces_m.items()}, set()
    for a, points in surfaces_m.items():
        near = (b for b in trees if b != a)
        if any(np.isfinite(trees[b].query(points, distance_upper_bound=TOUCHING_M)[0]).any() for b in near):
            out.add(a)
    return out
