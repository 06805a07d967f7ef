"""Pictures of the wrong decisions that are farthest from the tube's surface."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from benchmarks.guidance.decisions import Figures, visible_plan
from benchmarks.guidance.pictures import drawn_plan
from benchmarks.guidance.scenes import View, make_cell, views
from benchmarks.guidance.scores import Verdict
from stvla_ros.perception.geometric import GeometricConfig, GeometricSegmenter
from stvla_ros.record.guidance_view import KEPT, REMOVED
from stvla_ros.types import I32, U8

COUNT = 24
TUBE_M = 0.05


def draw_worst(
    figures: Figures, folder: Path, kinds: tuple[str, ...] = ("true", "geometric"), scenes: str = "easy"
) -> None:
    """Write one PNG per wrong decision: the path, and the segmenter's masks with the object's true outline."""
    folder.mkdir(parents=True, exist_ok=True)
    wrong = [(kind, v) for kind in kinds for v in figures.verdicts.get(kind, []) if not v.right]
    wrong.sort(key=lambda pair: -abs(pair[1].distance_m - TUBE_M))
    cell = make_cell(scenes=scenes)
    try:
        for rank, (kind, verdict) in enumerate(wrong[:COUNT]):
            setup = figures.setups[verdict.group["scene"]]
            for view in views(cell, setup, (verdict.group["noise"],)):
                if view.moment == verdict.group["moment"]:
                    name = f"{rank:02d}_{kind}_{setup.index}_{view.moment}_{verdict.object}.png"
                    cv2.imwrite(str(folder / name), draw(view, verdict)[..., ::-1])
    finally:
        cell.close()


def draw(view: View, verdict: Verdict) -> U8:
    """(H, W, 3) the plan next to the masks."""
    plan = visible_plan(view)
    left = view.frame.rgb.copy() if plan is None else drawn_plan(view.frame, plan)
    right = coloured(GeometricSegmenter(GeometricConfig()).segment(view.frame, view.robot).labels)
    mine = (view.labels == 1 + view.names.index(verdict.object)).astype(np.uint8)
    outline, _ = cv2.findContours(mine, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    for image in (left, right):
        cv2.drawContours(image, outline, -1, KEPT if verdict.relevant else REMOVED, 1)
    words = f"{verdict.object}: {1000 * verdict.distance_m:.0f} mm, {'kept' if verdict.kept else 'removed'}; {verdict.cause}"
    cv2.putText(right, words, (4, 14), cv2.FONT_HERSHEY_SIMPLEX, 0.4, (255, 255, 255), 1, cv2.LINE_AA)
    return np.hstack([left, right])


def coloured(labels: I32) -> U8:
    """A colour per instance; the robot is grey."""
    palette = np.random.default_rng(3).integers(60, 255, (int(labels.max()) + 2, 3)).astype(np.uint8)
    palette[0], palette[1] = (110, 110, 110), (0, 0, 0)
    return np.asarray(palette[labels + 1])
