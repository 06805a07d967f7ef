"""Segmenters with given answers or without memory, and the tube test with the guide's settings."""

from __future__ import annotations

from stvla_ros.perception.geometric import GeometricConfig, GeometricSegmenter
from stvla_ros.perception.tube import Relevance, TubeConfig, relevant
from stvla_ros.types import F32, RgbdFrame, RobotState, Segments, Trace3d


class GivenMasks:
    """Answers with the masks that were set last."""

    def __init__(self, segments: Segments) -> None:
        self.segments = segments

    def segment(self, frame: RgbdFrame, robot: RobotState) -> Segments:
        """The given masks, whatever the frame shows."""
        return self.segments

    def refresh(self) -> None:
        """Nothing: the masks are given."""


class Anew(GeometricSegmenter):
    """The geometric segmenter for frames that are not a series: nothing is taken over from the one before."""

    def __init__(self) -> None:
        super().__init__(GeometricConfig())

    def segment(self, frame: RgbdFrame, robot: RobotState) -> Segments:
        self.refresh()
        return super().segment(frame, robot)


def sort_instances(trace: Trace3d, segments: Segments, points_m: F32, config: TubeConfig) -> Relevance:
    """The tube test of a single frame, as the guide makes it on the first one of a plan."""
    radii = config.tube_radius_m, config.end_radius_m
    return relevant(trace, segments, points_m, *radii, end_domain_m=config.end_domain_m)
