"""The guide: lift a plan once, then clean every frame with it (paper 3.3.2)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from stvla_ros.config import param
from stvla_ros.errors import OutcomeCode, StageError
from stvla_ros.geometry.cameras import cloud
from stvla_ros.geometry.tables import fit_table
from stvla_ros.interfaces import Segmenter
from stvla_ros.perception.inpaint import fill
from stvla_ros.perception.lift import LiftConfig, lift
from stvla_ros.perception.overlay import draw_trace
from stvla_ros.perception.tube import Relevance, relevant
from stvla_ros.types import F32, Guidance, RgbdFrame, RobotState, Segments, Trace3d, TracePlan

MODES = ("full", "mask_only", "off")


@dataclass(frozen=True)
class GuideConfig:
    """Settings of the guide."""

    mode: str = param(
        "full", "full: mask and path overlay; mask_only: mask; off: the camera's frame as it is", choices=MODES
    )
    tube_radius_m: float = param(0.05, "r: instances nearer to the path than this stay [m]", ge=0.005, le=0.5)
    end_radius_m: float = param(0.10, "reach of the end rule [m]", ge=0.0, le=0.5)
    feather_px: int = param(3, "soft edge around what is painted out [px]", ge=0, le=32)
    overlay_alpha: float = param(0.6, "opacity of the drawn path", ge=0.0, le=1.0)
    lift: LiftConfig = param(LiftConfig(), "lifter")  # noqa: RUF009


class SpatialGuide:
    """Lift, segment, tube, fill, overlay."""

    Config = GuideConfig

    def __init__(self, segmenter: Segmenter, config: GuideConfig) -> None:
        self._segmenter = segmenter
        self._config = config

    def lift(self, plan: TracePlan, frame: RgbdFrame) -> Trace3d:
        """See :func:`stvla_ros.perception.lift.lift`. Raises LIFT_NO_DEPTH, LIFT_IMPLAUSIBLE."""
        return lift(plan, frame, self._config.lift)

    def guide(self, trace: Trace3d, frame: RgbdFrame, robot: RobotState) -> Guidance:
        """Mask and fill one frame. Raises MASK_EMPTY when neither an object nor the robot is in the tube."""
        if self._config.mode == "off":
            return self._guidance(trace, frame, Relevance((), (), True), frame)
        points = cloud(frame)
        segments = self._segmenter.segment(frame, robot)
        relevance = relevant(trace, segments, points, self._config.tube_radius_m, self._config.end_radius_m)
        if not relevance.kept and not relevance.robot_inside:
            raise StageError(OutcomeCode.MASK_EMPTY, self._empty(trace, segments))
        return self._guidance(trace, frame, relevance, self._cleaned(frame, points, segments, relevance))

    def _cleaned(self, frame: RgbdFrame, points_m: F32, segments: Segments, relevance: Relevance) -> RgbdFrame:
        if not relevance.removed:
            return frame
        labels = segments.labels
        fate = np.zeros(max(segments.ids) + 2, dtype=np.int8)  # per label + 1: robot, background, instances
        fate[[0, *(i + 1 for i in relevance.kept)]] = 1
        fate[[i + 1 for i in relevance.removed]] = 2
        fate_px = fate[labels + 1]
        table = fit_table(np.where(labels == 0, points_m, np.float32(np.nan)))
        filled = fill(frame, fate_px == 2, fate_px == 1, table, table.height(points_m), self._config.feather_px)
        return RgbdFrame(filled.rgb, filled.depth_m, frame.camera, frame.stamp_ns)

    def _guidance(self, trace: Trace3d, frame: RgbdFrame, relevance: Relevance, cleaned: RgbdFrame) -> Guidance:
        overlay = draw_trace(cleaned.rgb, trace, frame.camera, self._config.overlay_alpha)
        if self._config.mode == "full":
            cleaned = RgbdFrame(overlay, cleaned.depth_m, frame.camera, frame.stamp_ns)
        return Guidance(trace, self._config.tube_radius_m, relevance.kept, relevance.removed, cleaned, overlay)

    def _empty(self, trace: Trace3d, segments: Segments) -> str:
        x, y, z = trace.xyz_m[0]
        return (
            f"Nothing lies within {self._config.tube_radius_m * 100:.0f} cm of the path from ({x:.2f}, {y:.2f}, {z:.2f}) m; "
            f"{len(segments.ids)} instances lie elsewhere: plan again on a fresh image."
        )
