"""Pictures of one moment of a replay: the camera's image with what two series of decisions made of it.

The first series is a thick blue line, the second a thin orange one on top of it: equal decisions are an orange line with
a blue border, and the two can be told apart without colours. Colours: M. Okabe and K. Ito, "Color Universal Design".
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from stvla_ros.geometry.cameras import project, uv_to_px
from stvla_ros.geometry.paths import valid_points
from stvla_ros.perception.overlay import tube_pixels
from stvla_ros.replay.html import Html, element
from stvla_ros.types import F64, U8, Bool, Camera, Keypose, RgbdFrame, Trace3d, TracePlan

FIRST, SECOND = (0, 114, 178), (230, 159, 0)
THICK_PX, THIN_PX = 7, 3
BOTH, TUBE = (40, 40, 40), (255, 255, 255)
WIDTH_PX = 400
QUALITY = 78
"""Of WebP: about 12 kB per picture."""

OPEN_M, CLOSED_M, FINGER_M, STEM_M = 0.08, 0.02, 0.045, 0.11
"""The gripper's glyph: finger distance of an open and of a closed hand, length of the fingers, and with the wrist."""

LEAST_ZOOM = 0.25
"""A window is at least this share of the image wide."""


@dataclass(frozen=True, eq=False)
class Canvas:
    """A window of an image, enlarged, with the camera that would have taken it.

    Attributes:
        rgb: (h, w, 3), to draw on.
        camera: Of ``rgb``.
        corner_px: (2,) top left corner of the window in the image, pixels.
        size_px: (2,) width and height of the window in the image, pixels.
    """

    rgb: U8
    camera: Camera
    corner_px: F64
    size_px: F64

    def cut(self, mask: Bool) -> Bool:
        """(h, w) the window of a (H, W) mask of the image."""
        return _window(mask.astype(np.uint8), self.corner_px, self.size_px, self.rgb.shape[1::-1], 0).astype(bool)

    def to_px(self, image_px: npt.ArrayLike) -> F64:
        """(..., 2) pixels of the canvas of (..., 2) pixels of the image."""
        scale = self.rgb.shape[1] / self.size_px[0]
        return np.asarray((np.asarray(image_px) + 0.5 - self.corner_px) * scale - 0.5)


def canvas(frame: RgbdFrame, around_m: F64 | None = None, width_px: int = WIDTH_PX) -> Canvas:
    """A canvas of the whole image, or of the window around points (N, 3) of the base frame."""
    camera = frame.camera
    corner, size = np.zeros(2), np.array([camera.width_px, camera.height_px], float)
    if around_m is not None and len(around_m):
        corner, size = _zoomed(camera, around_m)
    scale = width_px / size[0]
    shape = (width_px, round(size[1] * scale))
    K = np.diag([scale, scale, 1.0])
    K[:2, 2] = scale * (0.5 - corner) - 0.5
    cropped = Camera(K @ camera.K, *shape, camera.T_base_camera, camera.frame_id)
    rgb = _window(frame.rgb, corner, size, shape, cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    return Canvas(rgb, cropped, corner, size)


def _zoomed(camera: Camera, around_m: F64) -> tuple[F64, F64]:
    """Corner and size of the window around points, of the image's shape; the whole image if none is in front."""
    whole = np.array([camera.width_px, camera.height_px], float)
    px, _ = project(camera, around_m)
    px = px[np.isfinite(px).all(axis=1)].clip(0, whole)
    if not len(px):
        return np.zeros(2), whole
    low, high = px.min(axis=0), px.max(axis=0)
    share = float(np.clip(1.3 * ((high - low) / whole).max(), LEAST_ZOOM, 1.0))
    size = whole * share
    return np.clip((low + high) / 2 - size / 2, 0, whole - size), size


def _window(image: U8, corner: F64, size: F64, shape: tuple[int, ...], how: int) -> U8:
    low = np.floor(corner).astype(int)
    high = np.maximum(np.ceil(corner + size).astype(int), low + 1)
    return np.ascontiguousarray(cv2.resize(image[low[1] : high[1], low[0] : high[0]], shape[:2], interpolation=how))


def camera_picture(frame: RgbdFrame) -> U8:
    """(h, w, 3) the camera's image."""
    return canvas(frame).rgb


def guidance_picture(
    frame: RgbdFrame,
    traces: tuple[Trace3d | None, Trace3d | None],
    radius_m: float,
    masks: tuple[Bool | None, Bool | None],
) -> U8:
    """(h, w, 3) path, tube (bright) and what was painted out: by both dark, by one alone in its colour."""
    view = canvas(frame)
    for trace in traces[:1] if traces[0] is not None else traces[1:]:
        if trace is not None and len(valid_points(trace)):
            _tint(view.rgb, tube_pixels(view.camera, trace, radius_m), TUBE, 0.35)
    first, second = (view.cut(mask) if mask is not None else None for mask in masks)
    if first is not None and second is not None:
        _tint(view.rgb, first & second, BOTH, 0.75)
        _tint(view.rgb, first & ~second, FIRST, 0.7)
        _tint(view.rgb, second & ~first, SECOND, 0.7)
    elif first is not None or second is not None:
        _tint(view.rgb, np.asarray(first if first is not None else second), BOTH, 0.75)
    _draw_both(view, [None if trace is None else valid_points(trace) for trace in traces])
    return view.rgb


def plan_picture(frame: RgbdFrame, plans: tuple[TracePlan | None, TracePlan | None]) -> U8:
    """(h, w, 3) the paths as the planners drew them on the image; a square is where a path starts."""
    view = canvas(frame)
    for plan, colour, thick in zip(plans, (FIRST, SECOND), (THICK_PX, THIN_PX), strict=True):
        if plan is not None and not plan.finished and np.isfinite(plan.uv).all():
            px = view.to_px(uv_to_px(plan.uv, frame.camera))
            _line(view.rgb, px, colour, thick)
            _square(view.rgb, px[0], colour, thick)
    return view.rgb


def keypose_picture(frame: RgbdFrame, keyposes: tuple[Keypose | None, Keypose | None], zoom: bool = True) -> U8:
    """(h, w, 3) the grippers at the two keyposes, in the window around them."""
    strips = [[] if keypose is None else gripper(keypose) for keypose in keyposes]
    around = np.array([point for strip in strips for line in strip for point in line]).reshape(-1, 3)
    view = canvas(frame, around if zoom else None)
    for lines, colour, thick in zip(strips, (FIRST, SECOND), (THICK_PX, THIN_PX), strict=True):
        for line in lines:
            _line(view.rgb, project(view.camera, line)[0], colour, thick)
    return view.rgb


def motion_picture(frame: RgbdFrame, tool_paths: tuple[F64 | None, F64 | None]) -> U8:
    """(h, w, 3) the tool's paths (N, 3) in the base frame."""
    view = canvas(frame)
    _draw_both(view, tool_paths)
    return view.rgb


def gripper(keypose: Keypose) -> list[F64]:
    """Lines (N, 3) of a gripper at a keypose, in the base frame: fingers as wide as after the move, and the wrist."""
    half = (OPEN_M if keypose.gripper_open else CLOSED_M) / 2
    fork = [(0, -half, 0), (0, -half, -FINGER_M), (0, half, -FINGER_M), (0, half, 0)]
    stem = [(0, 0, -FINGER_M), (0, 0, -STEM_M)]
    T = keypose.T_base_tcp
    return [np.array(line, float) @ T[:3, :3].T + T[:3, 3] for line in (fork, stem)]


def data_uri(rgb: U8) -> str:
    """The picture as a ``data:`` address (WebP)."""
    _, data = cv2.imencode(".webp", np.ascontiguousarray(rgb[..., ::-1]), [cv2.IMWRITE_WEBP_QUALITY, QUALITY])
    return f"data:image/webp;base64,{base64.b64encode(data.tobytes()).decode()}"


def _draw_both(view: Canvas, lines_m: Sequence[F64 | None]) -> None:
    for line, colour, thick in zip(lines_m, (FIRST, SECOND), (THICK_PX, THIN_PX), strict=True):
        if line is not None and len(line):
            px = project(view.camera, line)[0]
            _line(view.rgb, px, colour, thick)
            _square(view.rgb, px[0], colour, thick)


def _tint(image: U8, where: Bool, colour: tuple[int, int, int], share: float) -> None:
    image[where] = ((1 - share) * image[where] + share * np.array(colour)).astype(np.uint8)


def _line(image: U8, px: F64, colour: tuple[int, int, int], thick: int) -> None:
    px = px[np.isfinite(px).all(axis=1) & (np.abs(px) < 1e4).all(axis=1)]
    if len(px):
        corners = np.rint(px * 16).astype(np.int32)[:, None]
        cv2.polylines(image, [corners], False, colour, thick, cv2.LINE_AA, 4)


def _square(image: U8, px: F64, colour: tuple[int, int, int], thick: int) -> None:
    if np.isfinite(px).all() and (np.abs(px) < 1e4).all():
        x, y = np.rint(px).astype(int).tolist()
        cv2.rectangle(image, (x - thick, y - thick), (x + thick, y + thick), colour, -1, cv2.LINE_AA)


def side_view(traces: tuple[Trace3d | None, Trace3d | None]) -> Html:
    """Height of lifted paths over the horizontal way, one scale for both axes and paths."""
    lines = [None if t is None or not len(t.xyz_m) else _profile(t) for t in traces]
    known = [line for line in lines if line is not None]
    if not known:
        return element("p", "No lifted path.", class_="small")
    low, high = np.min([x.min(axis=0) for x in known], axis=0), np.max([x.max(axis=0) for x in known], axis=0)
    scale = 300 / max((high - low).max() * 1.1, 1.0)
    place: Callable[[F64], F64] = lambda line: np.column_stack([  # noqa: E731
        50 + (line[:, 0] - low[0]) * scale, 270 - (line[:, 1] - low[1]) * scale
    ])  # fmt: skip
    parts = [
        element("polyline", points=" ".join(f"{x:.1f},{y:.1f}" for x, y in place(line)), class_=style)
        for line, style in zip(lines, ("first", "second"), strict=True)
        if line is not None
    ]
    parts += [element("text", f"{v:.0f}", x=44, y=f"{270 - (v - low[1]) * scale + 4:.0f}", text_anchor="end")
              for v in {float(low[1]), float(high[1])}]  # fmt: skip
    parts.append(
        element("text", f"{high[0]:.0f}", x=f"{50 + (high[0] - low[0]) * scale:.0f}", y=290, text_anchor="middle")
    )
    return element("svg", *parts, viewBox="0 0 400 300", role="img", aria_label="height over way of the lifted paths")


def _profile(trace: Trace3d) -> F64:
    """(T, 2) horizontal way from the start, and height, millimetres."""
    xyz = np.asarray(trace.xyz_m, np.float64)
    way = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(xyz[:, :2], axis=0), axis=1))])
    return 1e3 * np.column_stack([way, xyz[:, 2]])
