"""The guide: lift a plan once, then clean every frame with it (paper 3.3.2) and follow the scene (4D)."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

import numpy as np

from stvla_ros.config import param
from stvla_ros.errors import OutcomeCode, StageError
from stvla_ros.geometry.cameras import calibration_fault, cloud
from stvla_ros.interfaces import Segmenter
from stvla_ros.perception.following import PathFollower
from stvla_ros.perception.inpaint import FillConfig, Filler
from stvla_ros.perception.lift import LiftConfig, lift
from stvla_ros.perception.overlay import draw_trace
from stvla_ros.perception.tracking import InstanceTracker, TrackerConfig
from stvla_ros.perception.tube import Relevance, TubeConfig
from stvla_ros.perception.unseen import placed
from stvla_ros.tabletop.support_plane import SupportPlane, fit_support_plane
from stvla_ros.types import (
    F32,
    GUIDANCE_MODES,
    Bool,
    Guidance,
    Instance,
    RgbdFrame,
    RobotState,
    Segments,
    Trace3d,
    TracePlan,
)

_FOLLOWED = 4
"""Number of plans kept at the same time: a new one is drawn while the old one is in use."""


@dataclass(frozen=True)
class GuideConfig(TubeConfig):
    """Settings of the guide."""

    mode: str = param(
        "full", "full: mask and path overlay; mask_only: mask; off: the camera's frame as it is", choices=GUIDANCE_MODES
    )
    overlay_alpha: float = param(0.6, "opacity of the drawn path", ge=0.0, le=1.0)
    lift: LiftConfig = param(LiftConfig(), "lifter")  # noqa: RUF009
    fill: FillConfig = param(FillConfig(), "filling of removed objects")  # noqa: RUF009
    tracker: TrackerConfig = param(TrackerConfig(), "instance ids over time")  # noqa: RUF009


class SpatialGuide:
    """Lift; then per frame segment, track, tube, fill, overlay.

    It remembers earlier frames: pass the frames of one camera in the order of their stamps, and call :meth:`reset`
    when that order breaks.
    """

    Config = GuideConfig

    def __init__(self, segmenter: Segmenter, config: GuideConfig) -> None:
        self._segmenter = segmenter
        self._config = config
        self.reset()

    def reset(self) -> None:
        """Forget all earlier frames."""
        self._segmenter.refresh()
        self._tracker = InstanceTracker(self._config.tracker)
        self._filler = Filler(self._config.fill)
        self._followed: OrderedDict[str, PathFollower] = OrderedDict()
        self._drawn_on: OrderedDict[str, RgbdFrame] = OrderedDict()  # by plan, until its first frame is guided

    def lift(self, plan: TracePlan, frame: RgbdFrame) -> Trace3d:
        """See :func:`stvla_ros.perception.lift.lift`. Raises LIFT_NO_DEPTH, LIFT_IMPLAUSIBLE."""
        trace = lift(plan, frame, self._config.lift)
        self._drawn_on[plan.plan_id] = frame
        _keep_newest(self._drawn_on)
        return trace

    def guide(self, trace: Trace3d, frame: RgbdFrame, robot: RobotState) -> Guidance:
        """Mask and fill one frame.

        Raises:
            StageError: MASK_EMPTY when neither an object nor the robot is in the tube, or the path has no valid point;
                SCENE_CHANGED when the object that the path was drawn for has moved; STALE_IMAGE for an invalid
                calibration.
        """
        fault = calibration_fault(frame.camera)
        if fault is not None:
            raise StageError(OutcomeCode.STALE_IMAGE, f"The camera's images cannot be used: {fault}.")
        follower = self._follower(trace)
        follower.advance(robot)
        if self._config.mode == "off":
            return self._guidance(follower, frame, Relevance((), ()), frame, None, ())
        points, found = cloud(frame), self._segments(frame, robot)
        table = _table(found, points)
        places, unseen = placed(found, points, frame.camera, table)
        segments = self._tracker.update(found, frame, places, robot)
        relevance = follower.relevance(segments, self._tracker.instances, places)
        moves = follower.check(frame, segments, relevance, points, table.noise_m)
        notes = (*moves, *found.notes, *unseen)
        if relevance.empty:
            raise StageError(OutcomeCode.MASK_EMPTY, self._empty(trace, segments))
        cleaned, removed_px = self._cleaned(frame, segments, relevance, table, points)
        return self._guidance(follower, frame, relevance, cleaned, removed_px, notes)

    def _segments(self, frame: RgbdFrame, robot: RobotState) -> Segments:
        segments = self._segmenter.segment(frame, robot)
        if segments.labels.shape != frame.depth_m.shape:
            name, wanted = type(self._segmenter).__name__, frame.depth_m.shape
            raise ValueError(f"{name}: wanted labels of the frame's size {wanted}, got {segments.labels.shape}")
        return segments

    def _follower(self, trace: Trace3d) -> PathFollower:
        known = self._followed.get(trace.plan_id)
        if known is None or known.trace is not trace:
            known = PathFollower(trace, self._config, self._drawn_on.pop(trace.plan_id, None))
            self._segmenter.refresh()
            self._followed[trace.plan_id] = known
            _keep_newest(self._followed)
        return known

    def _cleaned(
        self, frame: RgbdFrame, segments: Segments, relevance: Relevance, table: SupportPlane, points_m: F32
    ) -> tuple[RgbdFrame, Bool | None]:
        """The frame without the removed instances, and the pixels that were replaced."""
        if not relevance.removed:
            return frame, None
        decision = np.zeros(max(segments.ids) + 2, dtype=np.int8)  # per label; that of the robot, -1, is the last
        decision[[-1, *relevance.kept]] = 1
        decision[list(relevance.removed)] = 2
        decision_px = decision.take(segments.labels)
        filled = self._filler.fill(frame, decision_px == 2, decision_px == 1, table, table.height(points_m))
        return RgbdFrame(filled.rgb, filled.depth_m, frame.camera, frame.stamp_ns), filled.hidden

    def _guidance(
        self,
        follower: PathFollower,
        frame: RgbdFrame,
        relevance: Relevance,
        cleaned: RgbdFrame,
        removed_px: Bool | None,
        notes: tuple[str, ...],
    ) -> Guidance:
        config, trace = self._config, follower.trace
        if config.mode == "full":
            drawn = draw_trace(
                cleaned.rgb,
                trace,
                frame.camera,
                config.overlay_alpha,
                depth_m=cleaned.depth_m,
                progress_m=follower.progress_m,
            )
            cleaned = RgbdFrame(drawn, cleaned.depth_m, frame.camera, frame.stamp_ns)
        return Guidance(
            trace,
            config.tube_radius_m,
            relevance.kept,
            relevance.removed,
            cleaned,
            config.mode,
            self._instances(relevance),
            follower.progress_m,
            notes,
            removed_px,
        )

    def _instances(self, relevance: Relevance) -> tuple[Instance, ...]:
        decided = {*relevance.kept, *relevance.removed}
        return tuple(i for i in self._tracker.instances if i.id in decided)

    def _empty(self, trace: Trace3d, segments: Segments) -> str:
        x, y, z = trace.xyz_m[0]
        return (
            f"Nothing lies within {self._config.tube_radius_m * 100:.0f} cm of the path from ({x:.2f}, {y:.2f}, {z:.2f}) m; "
            f"{len(segments.ids)} instances lie elsewhere: plan again on a fresh image."
        )


def begins_task(before: TracePlan | None, plan: TracePlan) -> bool:
    """Whether a plan is the first one of a task, as far as plans say it: what the guide remembers is of another task."""
    return before is None or before.finished or before.instruction != plan.instruction


def _keep_newest(plans: OrderedDict[str, Any]) -> None:
    while len(plans) > _FOLLOWED:
        plans.popitem(last=False)


def _table(segments: Segments, points_m: F32) -> SupportPlane:
    """The support plane without objects and robot, fitted to about 80 columns of points."""
    step = max(segments.labels.shape[1] // 80, 1)
    labels, points = segments.labels[::step, ::step], points_m[:, ::step, ::step]
    return fit_support_plane(np.where(labels == 0, points, np.float32(np.nan)))
