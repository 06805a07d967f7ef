"""Conversion between messages and values, one pair of functions per value.

Conversion is exact both ways, except that a pose goes through a quaternion (rounding below 1e-12). Pixel buffers are
filled from ``bytes``: the message's setter checks any other sequence element by element, which takes 30-80 ms per
image. Reading makes no copy where the pixel layout allows it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from builtin_interfaces.msg import Time
from geometry_msgs.msg import Point, Pose, Quaternion, Transform, Vector3
from geometry_msgs.msg import TransformStamped as TransformMsg
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import Header
from stvla_msgs.msg import Guidance as GuidanceMsg
from stvla_msgs.msg import Instance as InstanceMsg
from stvla_msgs.msg import Keypose as KeyposeMsg
from stvla_msgs.msg import Outcome as OutcomeMsg
from stvla_msgs.msg import Trace3d as Trace3dMsg
from stvla_msgs.msg import TracePlan as TracePlanMsg

from stvla_ros.errors import OutcomeCode, StageError
from stvla_ros.geometry.se3 import from_quaternion, to_quaternion
from stvla_ros.types import F32, F64, U8, Camera, Guidance, Instance, Keypose, Outcome, RgbdFrame, Trace3d, TracePlan

# --- time, header, pose ------------------------------------------------------------------------------------------


def time_to_ns(time: Time) -> int:
    return int(time.sec) * 1_000_000_000 + int(time.nanosec)


def ns_to_time(stamp_ns: int) -> Time:
    return Time(sec=stamp_ns // 1_000_000_000, nanosec=stamp_ns % 1_000_000_000)


def header(stamp_ns: int, frame_id: str) -> Header:
    return Header(stamp=ns_to_time(stamp_ns), frame_id=frame_id)


def quaternion_to_matrix(q: Quaternion) -> F64:
    """(3, 3) rotation. Raises ValueError for a quaternion of length zero or with NaN."""
    return from_quaternion((q.x, q.y, q.z, q.w))


def matrix_to_quaternion(R: npt.NDArray[np.float64]) -> Quaternion:
    """Unit quaternion with w >= 0 of a (3, 3) rotation."""
    x, y, z, w = (float(v) for v in to_quaternion(R))
    return Quaternion(x=x, y=y, z=z, w=w)


def pose_to_matrix(pose: Pose) -> F64:
    """(4, 4) of a pose."""
    T = np.eye(4)
    T[:3, :3] = quaternion_to_matrix(pose.orientation)
    T[:3, 3] = pose.position.x, pose.position.y, pose.position.z
    return T


def matrix_to_pose(T: npt.NDArray[np.float64]) -> Pose:
    x, y, z = (float(v) for v in T[:3, 3])
    return Pose(position=Point(x=x, y=y, z=z), orientation=matrix_to_quaternion(T[:3, :3]))


def transform_to_matrix(transform: Transform) -> F64:
    """(4, 4) ``T_parent_child`` of a transform."""
    T = np.eye(4)
    T[:3, :3] = quaternion_to_matrix(transform.rotation)
    T[:3, 3] = transform.translation.x, transform.translation.y, transform.translation.z
    return T


def matrix_to_transform(
    T_parent_child: npt.NDArray[np.float64], parent: str, child: str, stamp_ns: int
) -> TransformMsg:
    x, y, z = (float(v) for v in T_parent_child[:3, 3])
    transform = Transform(translation=Vector3(x=x, y=y, z=z), rotation=matrix_to_quaternion(T_parent_child[:3, :3]))
    return TransformMsg(header=header(stamp_ns, parent), child_frame_id=child, transform=transform)


# --- outcome -----------------------------------------------------------------------------------------------------


def outcome_to_msg(outcome: Outcome) -> OutcomeMsg:
    return OutcomeMsg(
        code=int(outcome.code),
        sentence=outcome.sentence,
        phases=list(outcome.times_s),
        times_s=[float(t) for t in outcome.times_s.values()],
    )


def outcome_from_msg(msg: OutcomeMsg) -> Outcome:
    """Raises ValueError for a code that this version does not know."""
    return Outcome(OutcomeCode(msg.code), msg.sentence, dict(zip(msg.phases, msg.times_s, strict=True)))


def ok_msg(sentence: str = "", times_s: dict[str, float] | None = None) -> OutcomeMsg:
    return outcome_to_msg(Outcome(OutcomeCode.OK, sentence, times_s or {}))


def error_to_msg(error: StageError) -> OutcomeMsg:
    return outcome_to_msg(Outcome.of(error))


def raise_unless_ok(msg: OutcomeMsg) -> Outcome:
    """The outcome, or its StageError when it is a failure."""
    outcome = outcome_from_msg(msg)
    if not outcome.ok:
        raise StageError(outcome.code, outcome.sentence)
    return outcome


# --- images ------------------------------------------------------------------------------------------------------


def rgb_to_image(rgb: U8, head: Header) -> Image:
    """An ``rgb8`` image of (H, W, 3) uint8."""
    h, w, _ = rgb.shape
    return Image(header=head, height=h, width=w, encoding="rgb8", step=3 * w, data=rgb.tobytes())


def depth_to_image(depth_m: F32, head: Header) -> Image:
    """A ``32FC1`` image of (H, W) float32 metres; NaN stays NaN (REP-118)."""
    h, w = depth_m.shape
    return Image(header=head, height=h, width=w, encoding="32FC1", step=4 * w, data=depth_m.tobytes())


def depth_to_image_mm(depth_m: F32, head: Header) -> Image:
    """A ``16UC1`` image of (H, W) float32 metres, rounded to millimetres; unknown and above 65.535 m is 0 (REP-118)."""
    h, w = depth_m.shape
    mm = depth_m * np.float32(1000.0)
    np.rint(mm, out=mm)
    mm[~((mm >= 0) & (mm <= 65535))] = 0  # NaN too
    return Image(header=head, height=h, width=w, encoding="16UC1", step=2 * w, data=mm.astype("<u2").tobytes())


COLOURS: dict[str, tuple[int, int | None]] = {
    "rgb8": (3, None),
    "bgr8": (3, cv2.COLOR_BGR2RGB),
    "rgba8": (4, cv2.COLOR_RGBA2RGB),
    "bgra8": (4, cv2.COLOR_BGRA2RGB),
}
"""Colour encodings: bytes per pixel, and OpenCV's code for the way to RGB. A fourth byte is ignored."""

DEPTHS: dict[str, np.dtype[Any]] = {
    "16uc1": np.dtype(np.uint16),
    "mono16": np.dtype(np.uint16),
    "32fc1": np.dtype(np.float32),
}
"""Depth encodings in lower case: integers are millimetres, floats are metres (REP-118)."""

MAX_MM = 65535
"""Largest value of 16UC1 [mm]."""

NO_DEPTH_CAMERA_M = 20.0
"""A camera above a table sees something nearer than this: larger numbers are millimetres."""


def image_to_rgb(image: Image) -> U8:
    """(H, W, 3) uint8 of an ``rgb8`` (no copy), ``bgr8``, ``rgba8`` or ``bgra8`` image.

    Raises:
        ValueError: Another encoding, no pixels, or fewer bytes than the size says.
    """
    channels, to_rgb = _colour(image)
    pixels: U8 = _rows(image, np.dtype(np.uint8), channels).reshape(image.height, image.width, channels)
    return pixels if to_rgb is None else np.asarray(cv2.cvtColor(pixels, to_rgb), dtype=np.uint8)


def image_to_depth(image: Image) -> F32:
    """(H, W) float32 metres of a ``16UC1`` (millimetres) or ``32FC1`` (metres) image; 0 and infinite become NaN
    (REP-118).

    Raises:
        ValueError: Another encoding, no pixels, or fewer bytes than the size says.
    """
    raw = _rows(image, _depth(image), 1)
    depth = raw.astype(np.float32)
    if raw.dtype.kind == "u":
        depth *= np.float32(0.001)
    depth[(raw == 0) | ~np.isfinite(depth)] = np.nan
    return depth


def _colour(image: Image) -> tuple[int, int | None]:
    """Channels, and OpenCV's code for the way to RGB. Raises ValueError for another encoding."""
    encoding = image.encoding.lower()
    if encoding in COLOURS:
        return COLOURS[encoding]
    if encoding in ("8uc3", "8uc4"):
        why = "does not say whether red or blue comes first: make the driver use one of these"
    elif encoding.startswith("bayer"):
        why = "is a raw sensor pattern: use the topic of image_proc's debayer node (image_color)"
    elif encoding.startswith(("yuv", "uyvy", "yuyv", "nv")):
        why = "is not RGB: set the colour format of the camera's driver to RGB8"
    elif encoding.startswith(("mono", "8uc1", "16uc1", "32fc1")):
        why = "has no colour: set camera.color to the topic of the colour image"
    else:
        why = "is none of these: set the colour format of the camera's driver"
    raise ValueError(f"wanted a colour image in {', '.join(COLOURS)}, got encoding '{image.encoding}', which {why}")


def _depth(image: Image) -> np.dtype[Any]:
    """Data type of a depth image. Raises ValueError for another encoding."""
    encoding = image.encoding.lower()
    if encoding in DEPTHS:
        return DEPTHS[encoding]
    if encoding in COLOURS or encoding.startswith(("mono", "8uc")):
        why = "has no distances: set camera.depth to the topic of depth aligned to colour"
    else:
        why = "is none of these: set the depth format of the camera's driver"
    raise ValueError(f"wanted a depth image in 16UC1 (mm) or 32FC1 (m), got encoding '{image.encoding}', which {why}")


def _rows(image: Image, dtype: np.dtype[Any], channels: int) -> npt.NDArray[Any]:
    """(H, W * channels) of an image's buffer, without the padding at the end of rows."""
    used = _row_bytes(image, dtype, channels)
    rows = np.frombuffer(image.data, np.uint8, image.step * image.height).reshape(image.height, image.step)
    return np.ascontiguousarray(rows[:, :used]).view(dtype.newbyteorder(">" if image.is_bigendian else "<"))


def _row_bytes(image: Image, dtype: np.dtype[Any], channels: int) -> int:
    """Bytes of a row without its padding. Raises ValueError for no pixels, or fewer bytes than the size says."""
    if not image.width or not image.height:
        raise ValueError(f"wanted an image with pixels, got {image.width}x{image.height} {image.encoding}")
    used = int(image.width * channels * dtype.itemsize)
    if image.step < used or len(image.data) < image.step * image.height:
        raise ValueError(
            f"wanted {image.height} rows of at least {used} bytes for {image.width}x{image.height} {image.encoding}, "
            f"got {len(image.data)} bytes with step {image.step}"
        )
    return used


# --- camera and frame --------------------------------------------------------------------------------------------


def camera_to_info(camera: Camera, head: Header) -> CameraInfo:
    """A rectified pinhole: no distortion, P = [K | 0]."""
    P = np.hstack([camera.K, np.zeros((3, 1))])
    return CameraInfo(
        header=head,
        height=camera.height_px,
        width=camera.width_px,
        distortion_model="plumb_bob",
        d=[0.0] * 5,
        k=camera.K.reshape(-1),
        r=np.eye(3).reshape(-1),
        p=P.reshape(-1),
    )


def info_to_camera(info: CameraInfo, T_base_camera: F64) -> Camera:
    """A camera from its info message and its pose in the base frame.

    Raises:
        ValueError: A distorted, uncalibrated, binned or cropped camera: the stack's pinhole would be wrong.
    """
    if any(info.d):
        raise ValueError(
            f"wanted rectified images, but CameraInfo has distortion D = {[round(d, 4) for d in info.d]}: "
            "feed the topics of a rectified stream"
        )
    K = np.array(info.k, dtype=np.float64).reshape(3, 3)
    if not (K[0, 0] > 0 and K[1, 1] > 0 and K[2, 2] == 1.0):
        raise ValueError(
            f"wanted a calibrated camera, but CameraInfo has K = {K.reshape(-1).tolist()}: calibrate it, or set camera.info "
            "to the topic of the colour image's CameraInfo"
        )
    roi = info.roi
    cropped = (roi.x_offset, roi.y_offset, roi.width, roi.height) not in ((0, 0, 0, 0), (0, 0, info.width, info.height))
    if info.binning_x > 1 or info.binning_y > 1 or cropped:
        raise ValueError(
            f"wanted full images, but CameraInfo has binning ({info.binning_x}, {info.binning_y}) or a region of interest "
            f"({roi.width}x{roi.height} at {roi.x_offset}, {roi.y_offset}): turn both off in the camera's driver"
        )
    return Camera(K, info.width, info.height, T_base_camera, info.header.frame_id.lstrip("/"))


def check_frame(color: Image, depth: Image, info: CameraInfo) -> None:
    """Check, without decoding pixels, whether three messages make a frame.

    Raises:
        ValueError: The sizes differ, or an image cannot be used; the sentence says why.
    """
    if (depth.width, depth.height) != (color.width, color.height):
        raise ValueError(
            f"wanted depth aligned to colour, got colour {color.width}x{color.height}, depth {depth.width}x{depth.height}: "
            "turn on align_depth in the camera's driver, or set camera.depth to the topic of the aligned depth"
        )
    _row_bytes(color, np.dtype(np.uint8), _colour(color)[0])
    _row_bytes(depth, _depth(depth), 1)
    if (info.width, info.height) != (color.width, color.height):
        raise ValueError(
            f"wanted the CameraInfo of the colour image, got one of {info.width}x{info.height} for colour "
            f"{color.width}x{color.height}: set camera.info to its topic, or calibrate the camera for this size"
        )
    _check_metres(depth)


def _check_metres(depth: Image) -> None:
    """Raises ValueError when a floating-point image is in millimetres; checks some of its rows."""
    if _depth(depth).kind != "f":
        return
    rows = np.frombuffer(depth.data, np.uint8, depth.step * depth.height).reshape(depth.height, depth.step)
    some = np.ascontiguousarray(rows[:: max(1, depth.height // 16), : 4 * depth.width])
    values = some.view(np.dtype(np.float32).newbyteorder(">" if depth.is_bigendian else "<"))
    seen = values[(values > 0) & (values < MAX_MM)]
    seen = seen[np.abs(seen - MAX_MM / 1000) > 0.05]  # saturated values are no evidence
    if seen.size and seen.min() > NO_DEPTH_CAMERA_M:
        raise ValueError(
            f"wanted depth in metres as 32FC1, got {seen.min():.0f} and more, which are millimetres: "
            "set the camera's driver to 16UC1, or to metres (REP-118)"
        )


def frame_from_msgs(color: Image, depth: Image, info: CameraInfo, T_base_camera: F64) -> RgbdFrame:
    """An RGB-D frame from the messages of one exposure, with the stamp of the colour image.

    Raises:
        ValueError: The sizes differ, or a message cannot be used; the sentence says why.
    """
    check_frame(color, depth, info)
    camera = info_to_camera(info, T_base_camera)
    return RgbdFrame(image_to_rgb(color), image_to_depth(depth), camera, time_to_ns(color.header.stamp))


# --- keypose, plan, trace, guidance ------------------------------------------------------------------------------


def keypose_to_msg(keypose: Keypose, base_frame: str) -> KeyposeMsg:
    return KeyposeMsg(
        header=header(keypose.stamp_ns, base_frame),
        pose=matrix_to_pose(keypose.T_base_tcp),
        gripper_open=keypose.gripper_open,
        may_collide=keypose.may_collide,
    )


def keypose_from_msg(msg: KeyposeMsg, base_frame: str) -> Keypose:
    """Raises ValueError for an invalid pose, or one in another frame than the robot's base."""
    if msg.header.frame_id.lstrip("/") != base_frame:
        raise ValueError(f"wanted a pose in the frame {base_frame}, got one in '{msg.header.frame_id}'")
    return Keypose(pose_to_matrix(msg.pose), msg.gripper_open, msg.may_collide, time_to_ns(msg.header.stamp))


def history_to_msg(history: Sequence[Keypose], base_frame: str) -> list[KeyposeMsg]:
    return [keypose_to_msg(keypose, base_frame) for keypose in history]


def history_from_msg(msgs: Sequence[KeyposeMsg], base_frame: str) -> tuple[Keypose, ...]:
    """Raises StageError INVALID_GOAL for an invalid pose, or one in another frame than the robot's base."""
    try:
        return tuple(keypose_from_msg(msg, base_frame) for msg in msgs)
    except ValueError as error:
        raise StageError(
            OutcomeCode.INVALID_GOAL, f"The history has a keypose that cannot be used: {error}."
        ) from error


def plan_to_msg(plan: TracePlan, camera_frame: str = "camera_color_optical_frame") -> TracePlanMsg:
    return TracePlanMsg(
        header=header(plan.image_stamp_ns, camera_frame),
        plan_id=plan.plan_id,
        instruction=plan.instruction,
        sub_instruction=plan.sub_instruction,
        u=plan.uv[:, 0].copy(),
        v=plan.uv[:, 1].copy(),
        start_depth_m=float(plan.start_depth_m),
        depth_offset_m=plan.depth_offset_m.copy(),
        step_index=plan.step_index,
        step_total=plan.step_total or 0,
        finished=plan.finished,
        planner=plan.planner,
        raw_reply=plan.raw_reply,
    )


def plan_from_msg(msg: TracePlanMsg) -> TracePlan:
    return TracePlan(
        instruction=msg.instruction,
        sub_instruction=msg.sub_instruction,
        uv=np.stack([msg.u, msg.v], axis=1),
        start_depth_m=msg.start_depth_m,
        depth_offset_m=np.array(msg.depth_offset_m),
        step_index=msg.step_index,
        finished=msg.finished,
        planner=msg.planner,
        raw_reply=msg.raw_reply,
        image_stamp_ns=time_to_ns(msg.header.stamp),
        plan_id=msg.plan_id,
        step_total=int(msg.step_total) or None,
    )


def trace_to_msg(trace: Trace3d, stamp_ns: int, base_frame: str) -> Trace3dMsg:
    """``stamp_ns`` is the stamp of the image on which the path was lifted."""
    return Trace3dMsg(
        header=header(stamp_ns, base_frame),
        plan_id=trace.plan_id,
        sub_instruction=trace.sub_instruction,
        outcome=ok_msg(),
        points=[Point(x=float(x), y=float(y), z=float(z)) for x, y, z in trace.xyz_m],
        source=trace.source.tobytes(),
        notes=list(trace.notes),
    )


def failed_trace_msg(plan: TracePlan, error: StageError, base_frame: str) -> Trace3dMsg:
    return Trace3dMsg(
        header=header(plan.image_stamp_ns, base_frame),
        plan_id=plan.plan_id,
        sub_instruction=plan.sub_instruction,
        outcome=error_to_msg(error),
    )


def trace_from_msg(msg: Trace3dMsg) -> Trace3d:
    """Raises StageError with the message's outcome when it carries a failure."""
    raise_unless_ok(msg.outcome)
    xyz = np.array([(p.x, p.y, p.z) for p in msg.points], dtype=np.float32).reshape(-1, 3)
    source = np.frombuffer(bytes(msg.source), np.uint8)
    return Trace3d(xyz, source, msg.plan_id, msg.sub_instruction, tuple(msg.notes))


def instance_to_msg(instance: Instance, kept: bool) -> InstanceMsg:
    (x, y, z), (dx, dy, dz) = instance.centre_m.tolist(), instance.size_m.tolist()
    return InstanceMsg(id=instance.id, kept=kept, centre=Point(x=x, y=y, z=z), size=Vector3(x=dx, y=dy, z=dz))


def instance_from_msg(msg: InstanceMsg) -> Instance:
    centre = np.array([msg.centre.x, msg.centre.y, msg.centre.z])
    return Instance(msg.id, centre, np.array([msg.size.x, msg.size.y, msg.size.z]))


def guidance_to_msg(guidance: Guidance, base_frame: str) -> GuidanceMsg:
    frame = guidance.frame
    head = header(frame.stamp_ns, frame.camera.frame_id)
    return GuidanceMsg(
        header=head,
        trace=trace_to_msg(guidance.trace, frame.stamp_ns, base_frame),
        outcome=ok_msg(),
        mode=guidance.mode,
        tube_radius_m=guidance.tube_radius_m,
        kept_ids=list(guidance.kept_ids),
        removed_ids=list(guidance.removed_ids),
        instances=[instance_to_msg(i, i.id in guidance.kept_ids) for i in guidance.instances],
        progress_m=guidance.progress_m,
        notes=list(guidance.notes),
        rgb=rgb_to_image(frame.rgb, head),
        depth=depth_to_image(frame.depth_m, head),
        camera_info=camera_to_info(frame.camera, head),
        camera_pose=matrix_to_pose(frame.camera.T_base_camera),
    )


def failed_guidance_msg(plan_id: str, error: StageError, stamp_ns: int) -> GuidanceMsg:
    """Failed guidance: the outcome, and the request that it answers (plan and stamp asked for); no images."""
    return GuidanceMsg(
        header=header(stamp_ns, ""),
        trace=Trace3dMsg(plan_id=plan_id, outcome=error_to_msg(error)),
        outcome=error_to_msg(error),
    )


def guidance_from_msg(msg: GuidanceMsg) -> Guidance:
    """Raises StageError with the message's outcome when it carries a failure."""
    raise_unless_ok(msg.outcome)
    return Guidance(
        trace=trace_from_msg(msg.trace),
        tube_radius_m=msg.tube_radius_m,
        kept_ids=tuple(msg.kept_ids),
        removed_ids=tuple(msg.removed_ids),
        frame=frame_from_msgs(msg.rgb, msg.depth, msg.camera_info, pose_to_matrix(msg.camera_pose)),
        mode=msg.mode,
        instances=tuple(instance_from_msg(i) for i in msg.instances),
        progress_m=msg.progress_m,
        notes=tuple(msg.notes),
    )
