"""One plan over time (4D): stable decisions, progress along the path, and whether the plan still fits the scene."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from stvla_ros.errors import OutcomeCode, StageError
from stvla_ros.geometry.cameras import project, sampled
from stvla_ros.geometry.paths import arc_length, distance, valid_points
from stvla_ros.perception.tracking import gap
from stvla_ros.perception.tube import Relevance, TubeConfig, relevant
from stvla_ros.types import F32, F64, Camera, Instance, RgbdFrame, RobotState, Segments, Trace3d

MOVED_M = 0.02
"""An object whose box moved this far since its decision is decided again."""

GROWN_M = 0.015
"""A removed object whose visible part grew this much is decided again: the tube may touch the newly visible part."""

ON_PATH_M = 0.10
"""The tool follows the path when it is this close to it. This close to the start it may move the object there."""

GONE_SHARE = 0.6
"""An object is gone when the camera sees through this share of its former surface: a shift by half its size."""

_ANCHORS = 200


class PathFollower:
    """Follows one plan from its first frame on.

    Args:
        trace: The lifted path.
        config: Settings of the tube.
        drawn_on: The frame that the path was drawn on, if available: motion since then is noticed too.

    Raises:
        StageError: MASK_EMPTY for a path without any valid point.
    """

    def __init__(self, trace: Trace3d, config: TubeConfig, drawn_on: RgbdFrame | None = None) -> None:
        self.trace = trace
        self._drawn_on = drawn_on
        self._config = config
        self._points = valid_points(trace)
        if not len(self._points):
            raise StageError(
                OutcomeCode.MASK_EMPTY, f"The path of plan {trace.plan_id} has no valid point: plan again."
            )
        self._lengths = arc_length(self._points)
        self._decided: dict[int, tuple[bool, Instance]] = {}
        self._ends: dict[str, F64] | None = None
        self._appeared: set[str] = set()  # ends with an object that was not there when the path was drawn
        self._first_camera: Camera | None = None
        self._started = False
        self.progress_m = 0.0
        """Length of the path that the tool has completed, m."""

    def relevance(self, segments: Segments, instances: Sequence[Instance], points_m: F32) -> Relevance:
        """The tube test. The decision on an object stays as long as the object does not move."""
        now = {i.id: i for i in instances}
        settled = self._settled(segments, now)
        kept = tuple(i for i in segments.ids if settled.get(i))
        if kept and len(settled) == len(segments.ids):
            return Relevance(kept, tuple(i for i in segments.ids if not settled[i]))
        before = {i: kept for i, (kept, _) in self._decided.items()}
        fresh = relevant(
            self.trace,
            segments,
            points_m,
            self._config.tube_radius_m,
            self._config.end_radius_m,
            before,
            self._config.hysteresis_m,
            self._config.end_domain_m,
        )
        keep = {i for i in segments.ids if settled.get(i, i in fresh.kept)}
        for i, instance in now.items():
            if i not in settled:
                self._decided[i] = i in keep, instance
        removed = tuple(i for i in segments.ids if i not in keep)
        return Relevance(tuple(sorted(keep)), removed, fresh.empty and not keep)

    def _settled(self, segments: Segments, now: Mapping[int, Instance]) -> dict[int, bool]:
        """Decisions that remain valid: the object has not moved, or has no depth in this frame."""
        if not self._decided:
            return {}
        out = {}
        for i in segments.ids:
            kept, then = self._decided.get(i, (False, None))
            if i not in now or (then is not None and _same(then, now[i], kept)):
                out[i] = kept
        return out

    def advance(self, robot: RobotState) -> None:
        """Advance :attr:`progress_m` to the tool; it never decreases."""
        tool = robot.T_base_tcp[:3, 3]
        self._started |= bool(np.linalg.norm(tool - self._points[0]) < ON_PATH_M)
        if not self._started or len(self._points) < 2:
            return
        feet, lengths = self._feet(tool)
        ahead = lengths >= self.progress_m
        if not ahead.any() or (away := np.linalg.norm(feet - tool, axis=1))[ahead].min() > ON_PATH_M:
            return
        close = ahead & (away <= away[ahead].min() + 0.005)  # the first of equally near places: a path may return
        self.progress_m = float(lengths[close].min())

    def _feet(self, tool: F64) -> tuple[F64, F64]:
        """Point nearest to the tool on each segment, and its arc length."""
        a, d = self._points[:-1], np.diff(self._points, axis=0)
        square = np.maximum(np.einsum("ij,ij->i", d, d), 1e-18)
        t = np.clip(np.einsum("ij,ij->i", tool - a, d) / square, 0.0, 1.0)
        return a + t[:, None] * d, self._lengths[:-1] + t * np.diff(self._lengths)

    def check(
        self, frame: RgbdFrame, segments: Segments, relevance: Relevance, points_m: F32, noise_m: float
    ) -> tuple[str, ...]:
        """Check that the path still fits the scene it was drawn for.

        Returns:
            Notes for the operator.

        Raises:
            StageError: SCENE_CHANGED when the object at the path's start (until the tool is there) or at its end has
                moved.
        """
        tolerance_m = max(0.006, 4 * noise_m)
        if self._ends is None:
            self._ends = self._anchors(segments, relevance, points_m)
            self._first_camera = frame.camera
            self._appeared = {e for e, points in self._ends.items() if self._new(points, tolerance_m)}
        for end, anchors in self._ends.items():
            watched = end == "end" or not self._started
            if watched and (end in self._appeared or gone(anchors, frame, tolerance_m) > GONE_SHARE):
                x, y, z = np.median(anchors, axis=0)
                raise StageError(
                    OutcomeCode.SCENE_CHANGED,
                    f"The object at the path's {end}, ({x:.2f}, {y:.2f}, {z:.2f}) m, has moved since the path was drawn: "
                    "plan again on a fresh image.",
                )
        return self._camera_note(frame.camera)

    def _new(self, anchors_m: F64, tolerance_m: float) -> bool:
        """The frame that the path was drawn on does not show these points."""
        return self._drawn_on is not None and gone(anchors_m, self._drawn_on, tolerance_m) > GONE_SHARE

    def _anchors(self, segments: Segments, relevance: Relevance, points_m: F32) -> dict[str, F64]:
        """Points of the kept objects nearest to each end of the path; one object serves one end only."""
        clouds = {i: _points_of(segments, i, points_m) for i in relevance.kept}
        clouds = {i: points for i, points in clouds.items() if len(points)}
        out: dict[str, F64] = {}
        for end, at in (("start", self._points[:1]), ("end", self._points[-1:])):
            away = {i: float(distance(points, at).min()) for i, points in clouds.items()}
            nearest = min(away, key=away.__getitem__, default=None)
            if nearest is not None and away[nearest] <= self._config.end_radius_m:
                out[end] = clouds.pop(nearest)
        return out

    def _camera_note(self, camera: Camera) -> tuple[str, ...]:
        assert self._first_camera is not None
        then, now = self._first_camera.T_base_camera, camera.T_base_camera
        shift = float(np.linalg.norm(now[:3, 3] - then[:3, 3]))
        turn = float(np.arccos(np.clip((np.trace(then[:3, :3].T @ now[:3, :3]) - 1) / 2, -1, 1)))
        if shift < 0.003 and turn < 0.005:
            return ()
        return (
            f"The camera moved {shift * 100:.1f} cm and turned {np.degrees(turn):.1f} deg since the path was drawn.",
        )


def _points_of(segments: Segments, instance: int, points_m: F32) -> F64:
    """(N, 3) a sample of the valid points of an instance."""
    points = points_m.reshape(3, -1)[:, np.flatnonzero(segments.labels == instance)].T
    points = points[np.isfinite(points[:, 2])]
    return points[:: max(len(points) // _ANCHORS, 1)].astype(np.float64)


def gone(anchors_m: F64, frame: RgbdFrame, tolerance_m: float) -> float:
    """Share of (N, 3) surface points at which the camera now measures something further away.

    Points that are hidden, outside the image or without depth do not count; 0 when less than a fifth remains.
    """
    px, expected = project(frame.camera, anchors_m)
    measured = sampled(frame.depth_m, px)
    through = measured > expected + tolerance_m
    there = np.abs(measured - expected) <= tolerance_m
    known = int(through.sum() + there.sum())
    return float(through.sum() / known) if known >= 0.2 * len(anchors_m) else 0.0


def _same(then: Instance, now: Instance, kept: bool) -> bool:
    """The object has not moved since its decision, as far as is visible."""
    boxes = [(i.centre_m - i.size_m / 2, i.centre_m + i.size_m / 2) for i in (then, now)]
    grown = bool((now.size_m - then.size_m).max() > GROWN_M)
    return gap(boxes[0], boxes[1]) < MOVED_M and (kept or not grown)
