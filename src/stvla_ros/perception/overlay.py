"""The path drawn on the image (paper 3.4.1): a thin translucent line, red where near, blue where far.

A pure function, identical pixel for pixel in every run: data collection and robot call it with the same arguments, so
a policy sees at run time what it saw in training.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from stvla_ros.geometry.cameras import calibration_fault, project, sampled
from stvla_ros.geometry.paths import arc_length, subdivide, valid_points
from stvla_ros.types import F32, F64, U8, Bool, Camera, Guidance, Trace3d

SEGMENTS = 64
"""The path is drawn in at least this many pieces of one colour each."""

NEAR_PLANE_M = 0.02
"""Anything nearer to the camera is clipped."""

_SHIFT = 4  # fractional bits of OpenCV's drawing coordinates


@dataclass(frozen=True, eq=False)
class _Strokes:
    """Straight pieces of the path inside the image.

    Attributes:
        px: (S, 2, 2) both ends in pixels.
        depth_m: (S,) depth of their midpoints.
        opacity: (S,) 0..255.
        thickness_px: (S,).
    """

    px: F64
    depth_m: F64
    opacity: npt.NDArray[np.intp]
    thickness_px: npt.NDArray[np.intp]


def draw_trace(
    rgb: U8,
    trace: Trace3d,
    camera: Camera,
    alpha: float = 0.6,
    *,
    depth_m: F32 | None = None,
    progress_m: float = 0.0,
    done_alpha: float = 0.15,
    hidden_m: float = 0.04,
) -> U8:
    """A copy of an image with the path on it.

    INVALID and non-finite points are skipped and their neighbours joined. Parts behind the camera or outside the image
    are clipped. Colours span the depths of the whole path, whichever part of it is drawn.

    Args:
        rgb: (H, W, 3) image of the camera.
        trace: The path.
        camera: Its camera.
        alpha: Opacity of the line.
        depth_m: (H, W) the sensor's depth of the frame: hidden parts are drawn thinner. None: nothing is hidden.
        progress_m: Executed length of the path, drawn faint.
        done_alpha: Opacity of the executed part, as a share of ``alpha``.
        hidden_m: Parts further behind the measured depth are hidden. The tool's place in a grasped object is not.

    Raises:
        ValueError: Image, depth and camera differ in size, or the calibration is invalid.
    """
    for name, image in (("rgb", rgb), ("depth", depth_m)):
        if image is not None and image.shape[:2] != (camera.height_px, camera.width_px):
            raise ValueError(
                f"wanted {name} of {camera.width_px}x{camera.height_px} px, got {image.shape[1]}x{image.shape[0]}"
            )
    fault = calibration_fault(camera)
    if fault is not None:
        raise ValueError(fault)
    out = rgb.copy()
    xyz = valid_points(trace)
    if len(xyz):
        strokes, span = _strokes(xyz, camera, alpha, alpha * done_alpha, depth_m, progress_m, hidden_m)
        _blend(out, strokes, _colours(strokes.depth_m, span))
    return out


def overlay(guidance: Guidance, alpha: float = 0.6) -> U8:
    """(H, W, 3) guided image with the path on it, for people. In mode "full" it is the policy's own image."""
    frame = guidance.frame
    if guidance.mode == "full":
        return frame.rgb
    return draw_trace(
        frame.rgb, guidance.trace, frame.camera, alpha, depth_m=frame.depth_m, progress_m=guidance.progress_m
    )


def _strokes(
    xyz_m: F64, camera: Camera, alpha: float, faint: float, depth_m: F32 | None, progress_m: float, hidden_m: float
) -> tuple[_Strokes, tuple[float, float]]:
    """Strokes in drawing order (executed part, hidden pieces, the rest), and the path's nearest and farthest depth."""
    stops, points = _stops(xyz_m, progress_m)
    depth = project(camera, points)[1]
    ends = _clipped_near(np.stack([points[:-1], points[1:]], axis=1), np.stack([depth[:-1], depth[1:]], axis=1))
    done = (stops[:-1] + stops[1:]) / 2 < progress_m
    px, _ = project(camera, ends)
    middle_px, middle = project(camera, ends.mean(axis=1))
    hidden = np.zeros(len(px), dtype=bool) if depth_m is None else middle > _median_depth(depth_m, middle_px) + hidden_m
    px, drawn = _inside_image(px, camera)
    order = np.lexsort([~hidden, ~done])
    order = order[drawn[order]]
    opacity = np.rint(255 * np.where(done, faint, alpha)).astype(np.intp)
    thin = max(round(camera.width_px / 640), 1)
    thickness = np.where(hidden, thin, max(round(camera.width_px / 213), thin + 1))
    front = depth[depth > NEAR_PLANE_M]
    span = (float(front.min()), float(front.max())) if len(front) else (0.0, 0.0)
    return _Strokes(px[order], middle[order], opacity[order], thickness[order]), span


def _median_depth(depth_m: F32, px: F64) -> F64:
    """(S,) median depth of 3x3 pixels, so that noise does not make pieces flicker; infinite where most have none."""
    around = px[:, None] + np.stack(np.meshgrid([-1, 0, 1], [-1, 0, 1]), axis=-1).reshape(9, 2)
    depth = sampled(depth_m, around.reshape(-1, 2)).reshape(-1, 9)
    return np.asarray(np.sort(np.where(np.isnan(depth), np.inf, depth), axis=1)[:, 4])


def _stops(xyz_m: F64, progress_m: float) -> tuple[F64, F64]:
    """(P,) arc lengths and (P, 3) points along the path: its own points, more in between, and the progress."""
    length = arc_length(xyz_m)
    fine, _ = subdivide(xyz_m, max(length[-1] / SEGMENTS, 1e-6))
    stops = np.union1d(arc_length(fine), np.clip(progress_m, 0.0, length[-1]))
    stops = np.repeat(stops, 2) if len(stops) == 1 else stops  # a path of zero length is a dot
    return stops, np.column_stack([np.interp(stops, length, axis) for axis in xyz_m.T])


def _clipped_near(ends_m: F64, depth_m: F64) -> F64:
    """(S, 2, 3) pieces clipped at the near plane; NaN where nothing is left."""
    out = ends_m.copy()
    for end in (0, 1):
        other = 1 - end
        cut = (depth_m[:, end] < NEAR_PLANE_M) & (depth_m[:, other] >= NEAR_PLANE_M)
        t = (NEAR_PLANE_M - depth_m[cut, other]) / (depth_m[cut, end] - depth_m[cut, other])
        out[cut, end] = ends_m[cut, other] + t[:, None] * (ends_m[cut, end] - ends_m[cut, other])
    out[(depth_m < NEAR_PLANE_M).all(axis=1)] = np.nan
    return out


def _inside_image(px: F64, camera: Camera) -> tuple[F64, Bool]:
    """Pieces (S, 2, 2) clipped slightly outside the image (Liang and Barsky), and which ones remain."""
    margin = camera.width_px / 50 + 4
    low, high = np.full(2, -margin), np.array([camera.width_px, camera.height_px]) + margin
    start, way = px[:, 0], px[:, 1] - px[:, 0]
    with np.errstate(divide="ignore", invalid="ignore"):
        t = np.stack([(low - start) / way, (high - start) / way])  # 0/0 where a piece runs along the border: outside
    parallel_inside = (way == 0) & (start > low) & (start < high)
    enter = np.where(parallel_inside, 0.0, t.min(axis=0)).max(axis=1).clip(0.0, None)
    leave = np.where(parallel_inside, 1.0, t.max(axis=0)).min(axis=1).clip(None, 1.0)
    with np.errstate(invalid="ignore"):
        left = enter <= leave  # False for NaN
    cut = np.stack([start + enter[:, None] * way, start + leave[:, None] * way], axis=1)
    return np.where(left[:, None, None], cut, 0.0), np.asarray(left)


def _colours(depth_m: F64, span_m: tuple[float, float]) -> U8:
    """(S, 3) RGB: red at the nearest, blue at the farthest."""
    t = np.clip((depth_m - span_m[0]) / max(span_m[1] - span_m[0], 1e-3), 0.0, 1.0)
    return np.column_stack([255 * (1 - t), np.full(len(t), 30.0), 255 * t]).astype(np.uint8)


def _blend(out: U8, strokes: _Strokes, colours: U8) -> None:
    """Draw into the image. Opacity and colour are drawn separately, within the path's bounding box, then blended."""
    if not len(strokes.px):
        return
    reach = int(strokes.thickness_px.max()) + 2
    low = np.maximum(np.floor(strokes.px.min(axis=(0, 1))).astype(int) - reach, 0)
    high = np.minimum(np.ceil(strokes.px.max(axis=(0, 1))).astype(int) + reach + 1, out.shape[1::-1])
    if (high <= low).any():
        return
    window = out[low[1] : high[1], low[0] : high[0]]
    cover = np.zeros(window.shape[:2], dtype=np.uint8)
    paint = np.zeros_like(window)
    corners = np.rint((strokes.px - low) * (1 << _SHIFT)).astype(int).tolist()
    pieces = zip(corners, colours.tolist(), strokes.opacity.tolist(), strokes.thickness_px.tolist(), strict=True)
    for (a, b), colour, opacity, thickness in pieces:
        cv2.line(paint, a, b, colour, thickness + 3, cv2.LINE_8, _SHIFT)
        cv2.line(cover, a, b, opacity, thickness, cv2.LINE_AA, _SHIFT)
    rows, columns = np.nonzero(cover)
    share = cover[rows, columns, None].astype(np.float32) / np.float32(255.0)
    under = window[rows, columns].astype(np.float32)
    window[rows, columns] = np.rint(under + share * (paint[rows, columns] - under)).astype(np.uint8)


def tube_pixels(camera: Camera, trace: Trace3d, radius_m: float) -> Bool:
    """(H, W) the spheres of the tube, projected."""
    px, depth = project(camera, trace.xyz_m[trace.source != 0])
    out = np.zeros((camera.height_px, camera.width_px), np.uint8)
    for (x, y), z in zip(px.tolist(), depth.tolist(), strict=True):
        if z > 0.05 and max(abs(x), abs(y)) < 1e4:
            cv2.circle(out, (round(x), round(y)), round(radius_m * camera.K[0, 0] / z), 1, -1)
    return out.astype(bool)
