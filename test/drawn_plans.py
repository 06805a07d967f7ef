"""Plans drawn through given points in space."""

import numpy as np

from stvla_ros.geometry.cameras import project, px_to_uv
from stvla_ros.tabletop.start_depth import start_depth
from stvla_ros.types import RgbdFrame, TracePlan

PICK_TO_PLATE = np.array(
    [
        [0.5, 0.1, 0.02],
        [0.5, 0.1, 0.1],
        [0.5, 0.1, 0.2],
        [0.48, 0, 0.2],
        [0.46, -0.1, 0.2],
        [0.45, -0.22, 0.2],
        [0.45, -0.22, 0.1],
        [0.45, -0.22, 0.03],
    ]
)


def plan_through(points_m: np.ndarray, frame: RgbdFrame) -> TracePlan:
    px, depth = project(frame.camera, points_m)
    start = start_depth(frame, px[0])
    offset = depth - (start if np.isfinite(start) else depth[0])
    return make_plan(px_to_uv(px, frame.camera), offset)


def make_plan(uv: np.ndarray, offset_m: np.ndarray, start_m: float = float("nan")) -> TracePlan:
    return TracePlan(
        "Put the red block in the plate.", "pick up the red block", uv, start_m, offset_m, 0, False, "test", "", 0, "p1"
    )
