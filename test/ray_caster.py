"""A tiny ray caster for tests: boxes and discs on a table, exact depth and object ids, matt shading."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from stvla_ros.colours import COLOURS
from stvla_ros.description.kinematics import tcp_pose
from stvla_ros.description.panda import HOME_Q_RAD
from stvla_ros.geometry.cameras import rays
from stvla_ros.tabletop.support_plane import SupportPlane
from stvla_ros.types import F32, F64, I32, Camera, RgbdFrame, RobotState

LIGHT = np.array([0.35, 0.25, 0.9]) / np.linalg.norm([0.35, 0.25, 0.9])
TABLE_RGB = (0.55, 0.48, 0.40)


def look_at(eye: tuple[float, float, float], target: tuple[float, float, float]) -> F64:
    """T_base_camera of an optical frame at ``eye`` that looks at ``target`` with the image upright."""
    z = np.subtract(target, eye) / np.linalg.norm(np.subtract(target, eye))
    x = np.cross(z, [0.0, 0.0, 1.0])
    x /= np.linalg.norm(x)
    T = np.eye(4)
    T[:3, :3], T[:3, 3] = np.column_stack([x, np.cross(z, x), z]), eye
    return T


def front_camera(width: int = 640, height: int = 480, fovy_deg: float = 45.0) -> Camera:
    f = height / 2 / np.tan(np.deg2rad(fovy_deg) / 2)
    K = np.array([[f, 0, (width - 1) / 2], [0, f, (height - 1) / 2], [0, 0, 1.0]])
    return Camera(K, width, height, look_at((1.2, 0.0, 0.7), (0.45, 0.0, 0.05)))


@dataclass(frozen=True)
class Box:
    centre_m: tuple[float, float, float]
    size_m: tuple[float, float, float]
    yaw_rad: float
    rgb: tuple[float, float, float]


@dataclass(frozen=True)
class Disc:
    """Upright cylinder from the table or ``bottom_m`` up."""

    xy_m: tuple[float, float]
    radius_m: float
    bottom_m: float
    top_m: float
    rgb: tuple[float, float, float]


@dataclass(frozen=True)
class Printed(Box):
    """A box with patches of other colours: each from a corner to the opposite one, in metres from the box's centre."""

    patches: tuple[tuple[tuple[float, float, float], tuple[float, float, float], tuple[float, float, float]], ...] = ()

    def paint(self, points_m: F64) -> F64:
        """(N, 3) colours at (N, 3) points in the base frame."""
        c, s = np.cos(self.yaw_rad), np.sin(self.yaw_rad)
        local = (points_m - self.centre_m) @ np.array([[c, -s, 0], [s, c, 0], [0, 0, 1.0]])
        out = np.tile(np.array(self.rgb), (len(local), 1))
        for lower, upper, rgb in self.patches:
            out[((local >= lower) & (local <= upper)).all(axis=1)] = rgb
        return out


def block(colour: str, x: float, y: float, yaw: float = 0.0, z: float = 0.02, size: float = 0.04) -> Box:
    return Box((x, y, z), (size, size, size), yaw, COLOURS[colour])


@dataclass
class Scene:
    """Objects get the ids 1, 2, ... in order."""

    things: list[Box | Disc] = field(default_factory=list)
    table: bool = True
    floor_m: float = -0.75

    def render(
        self, camera: Camera | None = None, noise_m: float = 0.0, seed: int = 0, stamp_ns: int = 0
    ) -> tuple[RgbdFrame, I32]:
        """The frame and the (H, W) ids."""
        camera = camera or front_camera()
        direction = rays(camera).reshape(3, -1).T.astype(np.float64)
        origin = camera.T_base_camera[:3, 3]
        best, ids, rgb = _ground(origin, direction, self.table, self.floor_m)
        for i, thing in enumerate(self.things, start=1):
            hits = _hit_box if isinstance(thing, Box) else _hit_disc
            t, normal = hits(thing, origin, direction)  # type: ignore[operator]
            hit = t < best
            best[hit], ids[hit] = t[hit], i
            ink = thing.rgb if not isinstance(thing, Printed) else thing.paint(origin + t[hit, None] * direction[hit])
            rgb[hit] = np.array(ink) * (0.35 + 0.6 * np.maximum(normal[hit] @ LIGHT, 0))[:, None]
        rng = np.random.default_rng(seed)
        shape = (camera.height_px, camera.width_px)
        depth = best.reshape(shape)
        if noise_m:
            depth = depth + rng.normal(0, noise_m, shape) * depth**2
            rgb = rgb + rng.normal(0, 3 / 255, rgb.shape)
        image = np.clip(rgb * 255 + 0.5, 0, 255).astype(np.uint8).reshape(*shape, 3)
        return RgbdFrame(image, depth.astype(np.float32), camera, stamp_ns), ids.reshape(shape)


def _ground(origin: F64, direction: F64, table: bool, floor_m: float):  # type: ignore[no-untyped-def]
    n = len(direction)
    with np.errstate(divide="ignore"):
        t = (floor_m - origin[2]) / direction[:, 2]
        t = np.where(t > 0, t, 8.0).clip(0, 8.0)
        rgb = np.tile([0.25, 0.27, 0.3], (n, 1))
        if table:
            top = -origin[2] / direction[:, 2]
            at = origin + top[:, None] * direction
            on = (top > 0) & (at[:, 0] > -0.4) & (at[:, 0] < 1.1) & (np.abs(at[:, 1]) < 0.8)
            t = np.where(on, top, t)
            rgb[on] = np.array(TABLE_RGB) * 0.89
    return t, np.zeros(n, dtype=np.int32), rgb


def _hit_box(box: Box, origin: F64, direction: F64):  # type: ignore[no-untyped-def]
    c, s = np.cos(box.yaw_rad), np.sin(box.yaw_rad)
    R = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1.0]])
    o, d, half = R.T @ (origin - box.centre_m), direction @ R, np.array(box.size_m) / 2
    with np.errstate(divide="ignore", invalid="ignore"):
        near, far = (-half * np.sign(d) - o) / d, (half * np.sign(d) - o) / d
    axis = near.argmax(axis=1)
    t = near.max(axis=1)
    ok = (t > 0) & (t < far.min(axis=1))
    normal = np.zeros_like(d)
    normal[np.arange(len(d)), axis] = -np.sign(d[np.arange(len(d)), axis])
    return np.where(ok, t, np.inf), normal @ R.T


def _hit_disc(disc: Disc, origin: F64, direction: F64):  # type: ignore[no-untyped-def]
    best = np.full(len(direction), np.inf)
    normal = np.zeros_like(direction)
    top = (disc.top_m - origin[2]) / direction[:, 2]
    at = origin[:2] + top[:, None] * direction[:, :2] - disc.xy_m
    on = (top > 0) & (np.einsum("ij,ij->i", at, at) < disc.radius_m**2)
    best[on], normal[on] = top[on], (0, 0, 1)
    o, d = origin[:2] - disc.xy_m, direction[:, :2]
    a, b, c = np.einsum("ij,ij->i", d, d), d @ o, o @ o - disc.radius_m**2
    root = b * b - a * c
    with np.errstate(invalid="ignore"):
        t = (-b - np.sqrt(root)) / a
    z = origin[2] + t * direction[:, 2]
    on = (root > 0) & (t > 0) & (z > disc.bottom_m) & (z < disc.top_m) & (t < best)
    side = (o + t[:, None] * d) / disc.radius_m
    best[on] = t[on]
    normal[on] = np.column_stack([side[on], np.zeros(on.sum())])
    return best, normal


def plate(x: float, y: float, rgb: tuple[float, float, float] = (0.9, 0.9, 0.88)) -> list[Box | Disc]:
    return [Disc((x, y), 0.085, 0.0, 0.008, rgb)]


def button(colour: str, x: float, y: float) -> list[Box | Disc]:
    return [Disc((x, y), 0.042, 0.0, 0.025, (0.2, 0.2, 0.22)), Disc((x, y), 0.022, 0.025, 0.037, COLOURS[colour])]


def home_robot(gripper_m: float = 0.08, q_rad: F64 | None = None, stamp_ns: int = 0) -> RobotState:
    q = HOME_Q_RAD if q_rad is None else q_rad
    return RobotState(q, np.zeros(7), tcp_pose(q), gripper_m, stamp_ns)


def with_holes(depth_m: F32, share: float, seed: int) -> F32:
    rng = np.random.default_rng(seed)
    out = depth_m.copy()
    out[rng.random(depth_m.shape) < share] = np.nan
    return out


def plane_depth(camera: Camera, table: SupportPlane, rays: F32) -> F32:
    """(H, W) depth at which each pixel's ray meets the table; NaN where it does not.

    ``rays`` is :func:`stvla_ros.geometry.cameras.rays` of the camera. The inverse of this depth is affine in the pixel.
    """
    o: F64 = camera.T_base_camera[:3, 3]
    slope = rays[2] - np.float32(table.a) * rays[0] - np.float32(table.b) * rays[1]
    above = np.float32(o[2] - table.a * o[0] - table.b * o[1] - table.c)
    with np.errstate(divide="ignore", invalid="ignore"):
        depth = -above / slope
    return np.asarray(np.where(depth > 0, depth, np.nan), dtype=np.float32)
