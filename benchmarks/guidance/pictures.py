"""One row of pictures per scene: the input, the tube, the output in colour and depth, and the truth behind."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

from benchmarks.guidance.decisions import view_truth, visible_plan
from benchmarks.guidance.given import sort_instances
from benchmarks.guidance.scenes import Setup, View, draw_setups, make_cell, views
from stvla_ros.errors import StageError
from stvla_ros.geometry.cameras import cloud, uv_to_px
from stvla_ros.perception.geometric import GeometricConfig, GeometricSegmenter
from stvla_ros.perception.guide import GuideConfig, SpatialGuide
from stvla_ros.perception.tube import Relevance
from stvla_ros.record.guidance_view import KEPT, REMOVED, TUBE, coloured_depth, tube_pixels
from stvla_ros.sim.camera import TripodCameraConfig
from stvla_ros.sim.cell import Cell
from stvla_ros.types import U8, RgbdFrame, Segments, Trace3d, TracePlan

COLUMNS = ("path as drawn", "tube; kept green, removed red", "guided colour", "guided depth", "truth without them")
TILE_PX = (256, 192)
SCENES: dict[str, tuple[Setup, bool]] = {
    "pick_and_place": (Setup(2, "pick_place", 5, TripodCameraConfig(), "home", 0.01, 0.18), False),
    "noise": (Setup(5, "pick_place", 5, TripodCameraConfig(), "home", 0.01, 0.18), True),
    "shadows": (Setup(8, "pick_place", 5, TripodCameraConfig(shadows=True), "home", 0.01, 0.18), True),
    "stack": (Setup(3, "stack_cube", 6, TripodCameraConfig(y_m=0.35, shadows=True), "home", 0.01, 0.2), False),
    "buttons": (Setup(7, "push_buttons", 5, TripodCameraConfig(), "home", 0.0, 0.16), True),
    "twelve_objects": (Setup(4, "stack_cube", 10, TripodCameraConfig(z_m=1.1), "home", 0.02, 0.2), True),
    "side_edge": (Setup(0, "pick_place", 3, TripodCameraConfig(shadows=True), "home", 0.01, 0.2, bottles=2), True),
    "far_edge": (Setup(12, "stack_cube", 3, TripodCameraConfig(z_m=0.7, shadows=True), "home", 0.01, 0.2, bottles=3), False),
    "above_the_start": (Setup(14, "push_buttons", 4, TripodCameraConfig(y_m=-0.3), "above", 0.0, 0.15), True),
    "carrying": (Setup(17, "pick_place", 6, TripodCameraConfig(width_px=256, height_px=256), "carry", 0.02, 0.2), True),
}  # fmt: skip
HARD_TILE_PX = (320, 240)
HARD = {
    "hard_bowls_and_bin": 0, "hard_dark_wood": 1, "hard_black_things": 2, "hard_tablecloth": 6, "hard_mat": 7, "hard_bin": 8,
    "hard_white_table": 12, "hard_tray": 13, "hard_glass": 14, "hard_cable": 18, "hard_crowded": 19, "hard_lamp": 25,
}  # fmt: skip
"""Numbers of scenes that :func:`benchmarks.guidance.scenes.draw_setups` draws from seed 0."""


def chosen(scenes: str) -> dict[str, tuple[Setup, bool]]:
    """By file name, the scenes to draw, and whether the sensor has its defects."""
    if scenes == "easy":
        return SCENES
    setups = draw_setups(1 + max(HARD.values()), 0, "hard")
    return {name: (replace(setups[index], moment="home"), True) for name, index in HARD.items()}


def draw_all(folder: Path, scenes: str = "easy") -> list[str]:
    """Write one JPEG per scene; returns what could not be drawn, one sentence each."""
    folder.mkdir(parents=True, exist_ok=True)
    problems, cell = [], make_cell(scenes=scenes)
    try:
        for name, (setup, noise) in chosen(scenes).items():
            view = [v for v in views(cell, setup, (noise,)) if v.moment == setup.moment][-1]
            plan = visible_plan(view)
            if plan is None:
                problems.append(f"{name}: the start is hidden.")
                continue
            try:
                row = draw_row(cell, view, plan, TILE_PX if scenes == "easy" else HARD_TILE_PX)
            except StageError as error:
                problems.append(f"{name}: {error}")
                continue
            cv2.imwrite(str(folder / f"{name}.jpg"), row[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 88])
    finally:
        cell.close()
    return problems


def draw_row(cell: Cell, view: View, plan: TracePlan, tile_px: tuple[int, int]) -> U8:
    """(H, W, 3) the five columns of one scene, with their names; the cell still holds the view's scene."""
    frame, config = view.frame, GuideConfig()
    segmenter = GeometricSegmenter(GeometricConfig())
    guide = SpatialGuide(segmenter, config)
    trace = guide.lift(plan, frame)
    segments = segmenter.segment(frame, view.robot)
    found = sort_instances(trace, segments, cloud(frame), config)
    guidance = guide.guide(trace, frame, view.robot)
    stay = {*view_truth(view, config).relevant, view.held}
    truth = cell.render(hidden=[name for name in view.names if name not in stay], ideal=not view.noise)
    near, far = np.nanpercentile(view.ideal.depth_m[cloud(view.ideal)[2] > -0.05], [1, 99])  # the floor is dark
    tiles = [
        drawn_plan(frame, plan),
        drawn_tube(frame, trace, segments, found, config.tube_radius_m),
        guidance.frame.rgb,
        coloured_depth(guidance.frame.depth_m, float(near), float(far)),
        truth.rgb,
    ]
    return np.hstack([_tile(image, name, tile_px) for image, name in zip(tiles, COLUMNS, strict=True)])


def drawn_plan(frame: RgbdFrame, plan: TracePlan) -> U8:
    """The eight waypoints on the image."""
    out, px = frame.rgb.copy(), np.rint(uv_to_px(plan.uv, frame.camera)).astype(np.int32)
    width = frame.camera.width_px
    cv2.polylines(out, [px.reshape(-1, 1, 2)], False, (255, 220, 0), max(width // 200, 1), cv2.LINE_AA)
    for x, y in px.tolist():
        cv2.circle(out, (x, y), max(width // 100, 2), (255, 120, 0), -1, cv2.LINE_AA)
    return out


def drawn_tube(frame: RgbdFrame, trace: Trace3d, segments: Segments, found: Relevance, radius_m: float) -> U8:
    """Masks by their fate, and the tube's outline over them."""
    out = frame.rgb.astype(np.float32)
    for ids, colour in ((found.kept, KEPT), (found.removed, REMOVED)):
        mask = np.isin(segments.labels, ids)
        out[mask] = 0.35 * out[mask] + 0.65 * np.array(colour, np.float32)
    image, tube = out.astype(np.uint8), tube_pixels(frame.camera, trace, radius_m)
    image[tube] = (0.75 * image[tube] + 0.25 * np.array(TUBE)).astype(np.uint8)
    outline, _ = cv2.findContours(tube.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(image, outline, -1, TUBE, max(frame.camera.width_px // 320, 1), cv2.LINE_AA)
    return image


def _tile(image: U8, name: str, tile_px: tuple[int, int]) -> U8:
    width, height = tile_px
    scale = min(width / image.shape[1], height / image.shape[0])
    small = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    tile = np.full((height + 18, width + 4, 3), 255, np.uint8)
    x = (width - small.shape[1]) // 2
    tile[18 : 18 + small.shape[0], x : x + small.shape[1]] = small
    cv2.putText(tile, name, (4, 13), cv2.FONT_HERSHEY_SIMPLEX, 0.4, (40, 40, 40), 1, cv2.LINE_AA)
    return tile
