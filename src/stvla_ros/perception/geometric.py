"""Instances without weights: what stands on the table, split where depth or colour changes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from stvla_ros.config import param
from stvla_ros.geometry.cameras import depth_cloud
from stvla_ros.geometry.depths import without_specks
from stvla_ros.geometry.parts import PartsConfig, find_parts
from stvla_ros.geometry.selfmask import robot_pixels
from stvla_ros.types import RgbdFrame, RobotState, Segments


@dataclass(frozen=True)
class GeometricConfig:
    """Settings of the geometric segmenter."""

    depth_step_m: float = param(
        0.012, "depth difference of neighbouring pixels at which a thing ends [m]", ge=0.002, le=0.1
    )
    min_area_px: int = param(60, "smaller regions (of a 640x480 image) are dropped", ge=1, le=10000)
    robot_margin_m: float = param(0.012, "points this close to the arm's hulls are the arm [m]", ge=0.0, le=0.1)


class GeometricSegmenter:
    """Plane removal, height, connected components cut at depth steps, colour split, self-filter."""

    Config = GeometricConfig

    def __init__(self, config: GeometricConfig) -> None:
        self._config = config
        self._parts = PartsConfig(step_m=config.depth_step_m, min_area_px=config.min_area_px)

    def segment(self, frame: RgbdFrame, robot: RobotState) -> Segments:
        """Instances of one frame; a frame without any valid depth has none."""
        depth = without_specks(frame.depth_m)
        points = depth_cloud(frame.camera, depth)
        arm = robot_pixels(points, robot, self._config.robot_margin_m)
        parts = find_parts(frame.rgb, depth, points, arm, self._parts)
        labels = np.where(arm, np.int32(-1), parts.labels)
        return Segments(labels, tuple(range(1, parts.count + 1)))
