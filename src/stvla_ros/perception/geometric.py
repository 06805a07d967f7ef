"""The geometric segmenter: objects above the support plane, split by depth, shape and colour. It needs no weights."""

from __future__ import annotations

from dataclasses import dataclass

from stvla_ros.config import param
from stvla_ros.tabletop.instances import look
from stvla_ros.tabletop.outlines import at_full_resolution, with_tips
from stvla_ros.tabletop.regions import RegionConfig
from stvla_ros.tabletop.settled import SceneMemory
from stvla_ros.types import RgbdFrame, RobotState, Segments

WORK_PX = 320 * 240
"""Objects are told apart in about this many pixels; where they end is decided in all."""


@dataclass(frozen=True)
class GeometricConfig:
    """Settings of the geometric segmenter."""

    depth_step_m: float = param(
        0.012, "depth difference between neighbouring pixels that ends an object [m]", ge=0.002, le=0.1
    )
    min_area_px: int = param(60, "smaller regions (of a 640x480 image) are dropped", ge=1, le=10000)
    reach_m: float = param(1.3, "objects are searched for this far from the base along x and y [m]", ge=0.3, le=5.0)
    high_m: float = param(0.9, "objects are searched for up to this height above the table [m]", ge=0.1, le=3.0)
    robot_margin_m: float = param(0.012, "points this close to the arm's hulls belong to the arm [m]", ge=0.0, le=0.1)


class GeometricSegmenter:
    """Support plane, robot self-filter, regions connected in depth, then splits by concavity, colour and outline.

    Instances that have not changed since the last frames are not found anew (:mod:`stvla_ros.tabletop.settled`).
    """

    Config = GeometricConfig

    def __init__(self, config: GeometricConfig) -> None:
        self._config = config
        reach, high = config.reach_m, config.high_m
        self._regions = RegionConfig(
            config.depth_step_m, config.min_area_px, lower_m=(-reach, -reach, 0.0), upper_m=(reach, reach, high)
        )
        self._memory = SceneMemory()

    def refresh(self) -> None:
        """Find everything anew in the next frame."""
        self._memory.forget()

    def segment(self, frame: RgbdFrame, robot: RobotState) -> Segments:
        """Instances of one frame; a frame without any valid depth has none."""
        view = look(frame, robot, WORK_PX, self._config.robot_margin_m, self._regions, memory=self._memory)
        step, stride = self._config.depth_step_m, view.stride
        labels = with_tips(view.labels, view.depth_m, view.colours, step)
        labels = at_full_resolution(labels, view.depth_m, view.colours, frame.rgb, frame.depth_m, stride, step)
        return Segments(labels, tuple(range(1, int(labels.max(initial=0)) + 1)), view.notes)
