"""Recordings for the Rerun viewer: camera, cloud, robot and decisions in the base frame, on one timeline.

==========================  =============================================================================
entity                      content
==========================  =============================================================================
``world/camera``            pose and intrinsics; ``image`` (JPEG), ``image/painted_out`` per series
``world/cloud``             coloured points of the depth image, decimated
``world/robot/<link>``      hulls of the links, at the measured joints
``world/path/<series>``     lifted path, and ``tube`` around it
``world/keypose/<series>``  gripper at the keypose
``plot/<stage>/<series>``   time that a stage took [ms]
``plot/arm/<joint>``        joint positions [rad]; ``plot/arm/fingers`` [mm]
``decisions/<series>``      what was decided, in words
==========================  =============================================================================
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from math import isfinite
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from stvla_ros.config import ConfigError
from stvla_ros.data.recording import RecordedFrame
from stvla_ros.description.hulls import hull_meshes, read_obj
from stvla_ros.description.kinematics import link_poses
from stvla_ros.errors import StageError
from stvla_ros.files import written
from stvla_ros.geometry.cameras import cloud
from stvla_ros.geometry.paths import valid_points
from stvla_ros.replay.pictures import FIRST, SECOND, gripper
from stvla_ros.replay.values import Decision, Masking, RecordedTask
from stvla_ros.types import F32, F64, U8, Keypose, RgbdFrame, RobotState, Trace3d

TIMELINE = "recording"
"""Seconds since the first frame."""

MOST_POINTS = 8000
"""Points of a cloud; about 120 kB."""

JPEG_QUALITY = 80
ROBOT_GREY = (190, 194, 200)
INSTALL = "stvla view needs the Python package 'rerun-sdk', which is missing: pip install rerun-sdk"


def rerun() -> Any:
    """The package. Raises ConfigError that says how to install it."""
    try:
        import rerun as package
    except ModuleNotFoundError as error:
        if error.name != "rerun":
            raise
        raise ConfigError(f"{INSTALL}.") from error
    return package


@contextmanager
def viewer(name: str) -> Iterator[RerunLog]:
    """A log that is shown in a viewer, which stays open.

    Raises:
        ConfigError: The package is missing, or the viewer cannot be started.
    """
    rr = rerun()
    stream = _stream(rr, name)
    try:
        stream.spawn(default_blueprint=_layout(rr))
    except RuntimeError as error:
        raise ConfigError(f"The Rerun viewer cannot be started ({error}): write a file with --output.") from error
    yield RerunLog(rr, stream)
    stream.flush()


@contextmanager
def file(path: Path, name: str) -> Iterator[RerunLog]:
    """A log that is written to an ``.rrd`` file, which appears when it is complete.

    Raises:
        ConfigError: The package is missing, or the file cannot be written.
    """
    rr = rerun()
    with written(path) as part:
        part.write_bytes(b"")  # rerun has no sentence for a place that cannot be written
        stream = _stream(rr, name)
        stream.save(part, default_blueprint=_layout(rr))
        try:
            yield RerunLog(rr, stream)
        finally:
            stream.flush()
            stream.disconnect()


def _stream(rr: Any, name: str) -> Any:
    stream = rr.RecordingStream("stvla")
    stream.set_log_time_enabled(False)
    stream.set_log_tick_enabled(False)
    stream.send_recording_name(name)
    return stream


def _layout(rr: Any) -> Any:
    """3D on the left; image, plots and words on the right."""
    b = rr.blueprint
    right = b.Vertical(
        b.Spatial2DView(origin="world/camera/image", name="camera"),
        b.TimeSeriesView(origin="plot", name="times [ms] and joints"),
        b.TextLogView(origin="decisions", name="decisions"),
    )
    return b.Blueprint(b.Horizontal(b.Spatial3DView(origin="world", name="3D"), right, column_shares=[3, 2]))


class RerunLog:
    """Logs values at their stamps. The first one is at time 0."""

    def __init__(self, rr: Any, stream: Any) -> None:
        self._rr, self._stream = rr, stream
        self._start_ns: int | None = None
        stream.log("world", rr.ViewCoordinates.RIGHT_HAND_Z_UP, static=True)
        for link, path in hull_meshes().items():
            vertices, faces, _ = read_obj(path)
            mesh = rr.Mesh3D(vertex_positions=vertices, triangle_indices=faces, albedo_factor=ROBOT_GREY)
            stream.log(f"world/robot/{link}", mesh, static=True)

    def frame(self, frame: RgbdFrame) -> None:
        """Image, camera and cloud."""
        rr, camera = self._rr, frame.camera
        self._at(frame.stamp_ns)
        self._pose("world/camera", camera.T_base_camera)
        size = [camera.width_px, camera.height_px]
        self._log("world/camera/image", rr.Pinhole(image_from_camera=camera.K, resolution=size))
        bgr = np.ascontiguousarray(frame.rgb[..., ::-1])
        _, jpeg = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
        self._log("world/camera/image", rr.EncodedImage(contents=jpeg.tobytes(), media_type="image/jpeg"))
        points, colours = decimated(frame)
        self._log("world/cloud", rr.Points3D(points, colors=colours, radii=0.002))

    def robot(self, robot: RobotState) -> None:
        """The links where the joints say, and the joints."""
        self._at(robot.stamp_ns)
        poses = link_poses(robot.q_rad, robot.gripper_m)
        for link in hull_meshes():
            self._pose(f"world/robot/{link}", poses[link])
        for joint, q in enumerate(robot.q_rad, 1):
            self._log(f"plot/arm/joint{joint}", self._rr.Scalars(float(q)))
        self._log("plot/arm/fingers", self._rr.Scalars(1e3 * robot.gripper_m))

    def decision(self, decision: Decision, stamp_ns: int, series: str, tube_radius_m: float) -> None:
        """What a stage decided at a time.

        Args:
            decision: The answer.
            stamp_ns: When it was given; of a cleaned frame, the image's stamp.
            series: ``recorded``, or the name of a replay.
            tube_radius_m: Around the path.
        """
        self._at(stamp_ns)
        if isfinite(decision.seconds):
            self._log(f"plot/{decision.kind}/{series}", self._rr.Scalars(1e3 * decision.seconds))
        if decision.trace is not None:
            self._path(decision.trace, series, tube_radius_m)
        if decision.masking is not None:
            self._painted_out(decision.masking, series)
        if decision.keypose is not None:
            self._keypose(decision.keypose, series)
        self._log(
            f"decisions/{series}", self._rr.TextLog(words(decision), level="INFO" if decision.outcome.ok else "ERROR")
        )

    def _path(self, trace: Trace3d, series: str, radius_m: float) -> None:
        points = valid_points(trace)
        line = self._rr.LineStrips3D([points], colors=[_colour(series)], radii=0.003)
        self._log(f"world/path/{series}", line)
        half = np.full((len(points), 3), radius_m)
        tube = self._rr.Ellipsoids3D(
            centers=points, half_sizes=half, colors=[(*_colour(series), 60)], line_radii=0.0005
        )
        self._log(f"world/path/{series}/tube", tube)

    def _keypose(self, keypose: Keypose, series: str) -> None:
        lines = self._rr.LineStrips3D(gripper(keypose), colors=[_colour(series)], radii=0.004)
        self._log(f"world/keypose/{series}", lines)

    def _painted_out(self, masking: Masking, series: str) -> None:
        if masking.removed is not None:
            entity = f"world/camera/image/painted_out/{series}"
            self._stream.log(entity, self._rr.AnnotationContext([(1, "painted out", _colour(series))]), static=True)
            self._log(entity, self._rr.SegmentationImage(masking.removed.astype(np.uint8), opacity=0.5))

    def _pose(self, entity: str, T: F64) -> None:
        self._log(entity, self._rr.Transform3D(translation=T[:3, 3], mat3x3=T[:3, :3]))

    def _log(self, entity: str, value: Any) -> None:
        self._stream.log(entity, value)

    def _at(self, stamp_ns: int) -> None:
        self._start_ns = stamp_ns if self._start_ns is None else self._start_ns
        self._stream.set_time(TIMELINE, duration=(stamp_ns - self._start_ns) / 1e9)


def decimated(frame: RgbdFrame) -> tuple[F32, U8]:
    """(N, 3) points of the base frame and (N, 3) colours of at most :data:`MOST_POINTS` pixels with depth, evenly."""
    step = max(int(np.ceil(np.sqrt(frame.depth_m.size / MOST_POINTS))), 1)
    points = cloud(frame)[:, ::step, ::step].reshape(3, -1).T
    known = np.isfinite(points).all(axis=1)
    return points[known], frame.rgb[::step, ::step].reshape(-1, 3)[known]


def log_frames(log: RerunLog, frames: Iterable[RecordedFrame], rate_hz: float) -> int:
    """Log camera frames with the arm's states, no more than ``rate_hz`` of them per second; returns their number."""
    count, due_ns = 0, 0
    for recorded in frames:
        stamp_ns = recorded.frame.stamp_ns
        if count and due_ns - stamp_ns >= 0:
            continue
        count, due_ns = count + 1, stamp_ns + int(0.95e9 / rate_hz)
        log.frame(recorded.frame)
        if recorded.robot is not None:
            log.robot(recorded.robot)
    return count


def log_task(
    log: RerunLog, task: RecordedTask, tube_radius_m: float, replays: Mapping[str, Mapping[int, Decision]] | None = None
) -> None:
    """Log a recorded task: every moment with its image, its arm, and what was decided, then and in replays.

    Args:
        task: The recording; its frames are read once, in order of time.
        tube_radius_m: Around paths.
        replays: Name -> number of the moment -> decision.
    """
    for moment in sorted(task.moments, key=lambda m: m.image_stamp_ns or m.stamp_ns):
        if moment.image_stamp_ns:
            with suppress(StageError):  # the recording lacks it: what was decided can be shown all the same
                log.frame(task.frame(moment.image_stamp_ns))
        if moment.robot is not None:
            log.robot(moment.robot)
        made = {"recorded": moment.recorded} | {n: by.get(moment.number) for n, by in (replays or {}).items()}
        for series, decision in made.items():
            if decision is not None:
                log.decision(decision, moment.stamp_ns, series, tube_radius_m)


def words(decision: Decision) -> str:
    """A decision in one line."""
    parts = [str(decision.kind), decision.outcome.code.name, decision.outcome.sentence]
    if decision.plan is not None:
        parts.append("the task is finished" if decision.plan.finished else decision.plan.sub_instruction)
    if decision.masking is not None:
        parts.append(f"kept {list(decision.masking.kept_ids)}, removed {list(decision.masking.removed_ids)}")
    if decision.keypose is not None:
        x, y, z = decision.keypose.T_base_tcp[:3, 3]
        parts.append(
            f"tool at ({x:.3f}, {y:.3f}, {z:.3f}) m, gripper {'open' if decision.keypose.gripper_open else 'closed'}"
        )
    if decision.path_complete:
        parts.append("nothing is left to do on the path")
    return "   ".join(filter(None, parts))


def _colour(series: str) -> tuple[int, int, int]:
    return FIRST if series == "recorded" else SECOND
