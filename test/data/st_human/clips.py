"""Small RGB-D clips of a hand made of boxes that carries a block, with their truth."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from ray_caster import LIGHT, Box, Scene, _hit_box, block, front_camera, plate

from stvla_ros.files import write_image
from stvla_ros.geometry.cameras import project, rays
from stvla_ros.types import F64, Camera

SKIN = (0.8, 0.6, 0.5)
FPS = 30.0


@dataclass(frozen=True)
class Clip:
    """Truth of a clip: frames of the action, and the block's middle in each frame [m, base frame]."""

    folder: Path
    camera: Camera
    start: int
    contact: int
    release: int
    end: int
    frames: int
    block_m: F64


def hand(at: F64, opening: float = 0.05) -> list[Box]:
    """A palm over ``at``, two fingers, and an arm towards the viewer."""
    x, y, z = at
    fingers = [
        Box((x, y + side * (opening / 2 + 0.008), z + 0.005), (0.022, 0.016, 0.07), 0.0, SKIN) for side in (-1, 1)
    ]
    palm = Box((x + 0.03, y, z + 0.055), (0.10, 0.09, 0.03), 0.0, SKIN)
    arm = [Box((x + 0.12 + 0.08 * k, y, z + 0.07 + 0.03 * k), (0.09, 0.06, 0.055), 0.0, SKIN) for k in range(8)]
    return [*fingers, palm, *arm]


def draw(camera: Camera, boxes: list[Box], depth: F64, rgb: F64) -> None:
    """Draw boxes over images (H, W) and (H, W, 3), each in its own window, so that a clip takes seconds."""
    direction, origin = rays(camera).astype(np.float64), camera.T_base_camera[:3, 3]
    signs = np.array([[a, b, c] for a in (-0.5, 0.5) for b in (-0.5, 0.5) for c in (-0.5, 0.5)])
    for box in boxes:
        px, ahead = project(camera, signs * box.size_m + box.centre_m)
        if ahead.min() < 0.05:
            continue
        (u0, v0), (u1, v1) = np.floor(px.min(axis=0)).astype(int), np.ceil(px.max(axis=0)).astype(int) + 1
        window = slice(max(v0, 0), max(v1, 0)), slice(max(u0, 0), max(u1, 0))
        some = direction[:, *window].reshape(3, -1).T
        if not len(some):
            continue
        t, normal = _hit_box(box, origin, some)
        shape = depth[window].shape
        hit = (t < depth[window].ravel()).reshape(shape)
        depth[window][hit] = t.reshape(shape)[hit]
        shade = 0.35 + 0.6 * np.maximum(normal @ LIGHT, 0.0)
        rgb[window][hit] = (np.array(box.rgb) * shade[:, None]).reshape(*shape, 3)[hit]


def _ease(a: F64, b: F64, n: int) -> F64:
    """(n, 3) from a to b, at rest at both ends; without a."""
    s = np.arange(1, n + 1)[:, None] / n
    return a + (b - a) * (10 * s**3 - 15 * s**4 + 6 * s**5)


def make_clip(
    folder: Path, noise_m: float = 0.001, told: dict[str, Any] | None = None, goal: tuple[float, float] = (0.45, 0.16)
) -> Clip:
    """A red block is carried onto a plate; written as a video's folder."""
    camera = front_camera(320, 240)
    start, target, far = np.array([0.5, -0.12, 0.02]), np.array([*goal, 0.028]), np.array([1.4, -0.05, 0.3])
    up = np.array([0.0, 0.0, 0.09])
    free, still = 6, 5
    hands, blocks = [], []

    def add(path: F64, carried: bool) -> None:
        for point in path:
            hands.append(point)
            blocks.append(point if carried else blocks[-1])

    blocks.append(start)
    add(_ease(far, start + up, 22), False)
    add(_ease(start + up, start, 8), False)
    add(np.repeat(start[None], still, axis=0), False)
    contact = len(hands) - 1
    add(_ease(start, start + up, 9), True)
    add(_ease(start + up, target + up, 18), True)
    add(_ease(target + up, target, 9), True)
    release = len(hands) - 1
    add(np.repeat(target[None], still, axis=0), False)
    add(_ease(target, target + up, 8), False)
    add(_ease(target + up, far, 22), False)
    steps: list[tuple[F64 | None, F64]] = [(None, start)] * free
    steps += list(zip(hands, blocks[1:], strict=True)) + [(None, target)] * free
    in_view = []
    still_scene, _ = Scene([*plate(0.45, 0.16), block("blue", 0.3, -0.05)]).render(camera)
    rng = np.random.default_rng(0)
    for name in ("rgb", "depth"):
        (folder / name).mkdir(parents=True)
    for i, (at, middle) in enumerate(steps):
        depth, rgb = still_scene.depth_m.astype(np.float64), still_scene.rgb / 255.0
        draw(camera, [block("red", *middle[:2], z=middle[2])], depth, rgb)
        bare = depth.copy()
        draw(camera, [] if at is None else hand(at), depth, rgb)
        in_view.append(bool((depth < bare).any()))
        depth += rng.normal(0.0, noise_m, depth.shape) * depth**2
        rgb += rng.normal(0.0, 3 / 255, rgb.shape)
        write_image(folder / "rgb" / f"{i:06d}.png", np.clip(rgb * 255 + 0.5, 0, 255).astype(np.uint8))
        image = np.rint(1000 * np.clip(depth, 0, 60)).astype(np.uint16)
        cv2.imwrite(str(folder / "depth" / f"{i:06d}.png"), image)
    K = camera.K
    (folder / "camera.json").write_text(json.dumps({
        "fx": K[0, 0], "fy": K[1, 1], "cx": K[0, 2], "cy": K[1, 2], "width_px": 320, "height_px": 240, "fps": FPS,
        "T_base_camera": camera.T_base_camera.tolist(),
    }))  # fmt: skip
    if told is not None:
        (folder / "video.json").write_text(json.dumps(told))
    shown = np.flatnonzero(in_view)
    return Clip(
        folder, camera, int(shown[0]), contact + free, release + free, int(shown[-1]), len(steps),
        np.array([middle for _, middle in steps]),
    )  # fmt: skip
