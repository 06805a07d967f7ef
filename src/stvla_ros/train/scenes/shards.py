"""Rendered scenes on disk, in shards: rendering is resumable, and arrays are read back.

::

    scenes.json            split, scenes per shard, format
    <split>-00012.npz      scenes 12 * PER_SHARD and on
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from stvla_ros.config import ConfigError
from stvla_ros.description.kinematics import tcp_pose
from stvla_ros.files import read_arrays, read_json, setting, written
from stvla_ros.planning.depth_image import colourised_depth
from stvla_ros.planning.heatmap.words import ACTIONS, KINDS, MAX_STEPS, PALETTE, Goal, Name
from stvla_ros.train.scenes.ground_truth import GroundTruth, ground_truth
from stvla_ros.train.scenes.layouts import MAX_OBJECTS, PHASES, Layout, make_layout
from stvla_ros.train.scenes.renderer import IMAGE_PX, RenderedScene, SceneRenderer
from stvla_ros.types import F32, U8, Camera, RgbdFrame, RobotState

FORMAT = "stvla-scenes-3"
PER_SHARD = 100
LABEL_STEP = 4
"""Labels are stored for every fourth pixel."""

WIDE_PX = (192, 288)
"""Height and width of a 4:3 image as Qwen3-VL's processor makes it."""


def render(folder: Path, split: str, count: int) -> Iterator[int]:
    """Render the first ``count`` scenes of a split, shard by shard; existing shards are kept.

    Yields:
        How many scenes there are, after every scene or shard.

    Raises:
        ConfigError: The folder holds another format, or there is no OpenGL on this machine.
    """
    folder.mkdir(parents=True, exist_ok=True)
    _check(folder)
    renderer, done = SceneRenderer(), 0
    try:
        for shard in range(-(-count // PER_SHARD)):
            path = folder / f"{split}-{shard:05d}.npz"
            if not path.exists():
                for done in _fill(renderer, path, split, shard):
                    yield done
            done = (shard + 1) * PER_SHARD
            yield done
    finally:
        renderer.close()


def _check(folder: Path) -> None:
    path = folder / "scenes.json"
    wanted = {"format": FORMAT, "per_shard": PER_SHARD, "image_px": IMAGE_PX}
    if path.exists() and read_json(path) != wanted:
        raise ConfigError(f"{folder}: holds scenes of another format: choose another --output, or delete the folder.")
    with written(path) as part:
        part.write_text(json.dumps(wanted) + "\n")


def _fill(renderer: SceneRenderer, path: Path, split: str, shard: int) -> Iterator[int]:
    rows: list[dict[str, Any]] = []
    for i in range(shard * PER_SHARD, (shard + 1) * PER_SHARD):
        layout = make_layout(split, i)
        rendered = renderer.render(layout.objects, layout.appearance)
        rows.append(_row(layout, rendered, ground_truth(layout, rendered)))
        yield i + 1
    images = {name: [row.pop(name) for row in rows] for name in ("rgb", "depth")}
    arrays = {name: np.stack([row[name] for row in rows]) for name in rows[0]}
    for name, files in images.items():
        arrays[name] = np.concatenate(files)
        arrays[f"{name}_end"] = np.cumsum([len(f) for f in files])
    with written(path) as part, part.open("wb") as file:
        np.savez(file, allow_pickle=False, **arrays)


def _row(layout: Layout, rendered: RenderedScene, truth: GroundTruth) -> dict[str, Any]:
    n = len(layout.objects)
    millimetres = np.nan_to_num(rendered.depth_m * 1000).round().astype(np.uint16)
    level = [cv2.IMWRITE_PNG_COMPRESSION, 1]
    offset = LABEL_STEP // 2
    return {
        "rgb": cv2.imencode(".png", rendered.rgb[..., ::-1], level)[1],
        "depth": cv2.imencode(".png", millimetres, level)[1],
        "labels": rendered.labels[offset::LABEL_STEP, offset::LABEL_STEP].astype(np.int8),
        "seed": np.int64(layout.seed),
        "K": rendered.camera.K,
        "T_base_camera": rendered.camera.T_base_camera,
        "tool_m": layout.tool_m,
        "q_rad": layout.appearance.q_rad,
        "gripper_m": np.float64(layout.appearance.gripper_m),
        "action": np.int8(ACTIONS.index(layout.goal.action)),
        "named": np.int8(len(layout.goal.names)),
        "moment": np.int8(PHASES.index(layout.phase)),
        "kind": _padded(np.array([KINDS.index(o.kind) for o in layout.objects], np.int8), -1),
        "colour": _padded(np.array([PALETTE.index(o.colour) if o.colour else -1 for o in layout.objects], np.int8), -1),
        "uv": _padded(truth.uv.astype(np.float32), np.nan),
        "visible_px": _padded(truth.visible_px, 0),
        "point_m": _padded(np.array([o.point_m for o in layout.objects], np.float32), np.nan),
        "count": np.int8(n),
        "path_uv": truth.path_uv.astype(np.float32),
        "start_depth_m": truth.start_depth_m.astype(np.float32),
        "offset_m": truth.offset_m.astype(np.float32),
    }


def _padded(values: np.ndarray, fill: float) -> np.ndarray:
    out = np.full((MAX_OBJECTS, *values.shape[1:]), fill, values.dtype)
    out[: len(values)] = values
    return out


@dataclass(frozen=True, eq=False)
class Scenes:
    """Rendered scenes in memory; images stay compressed until they are read.

    Attributes:
        arrays: As :func:`render` writes them, concatenated over the shards.
        images: PNG files of ``rgb`` and ``depth``, one per scene.
    """

    arrays: dict[str, np.ndarray]
    images: dict[str, list[np.ndarray]]

    def __len__(self) -> int:
        return len(self.arrays["seed"])

    def rgb(self, index: int) -> U8:
        """(256, 256, 3)."""
        return np.asarray(_decoded(self.images["rgb"][index], cv2.IMREAD_COLOR_RGB), np.uint8)

    def depth_m(self, index: int) -> F32:
        """(256, 256) in steps of a millimetre; NaN: unknown."""
        raw = _decoded(self.images["depth"][index], cv2.IMREAD_UNCHANGED).astype(np.float32)
        return np.where(raw > 0, raw / 1000, np.float32(np.nan))

    def frame(self, index: int) -> RgbdFrame:
        """Colour and depth with their camera."""
        return RgbdFrame(self.rgb(index), self.depth_m(index), self.camera(index), 0)

    def robot(self, index: int) -> RobotState:
        """The arm at rest and its gripper."""
        q, gripper = self.arrays["q_rad"][index], float(self.arrays["gripper_m"][index])
        return RobotState(q, np.zeros_like(q), tcp_pose(q), gripper, 0)

    def camera(self, index: int) -> Camera:
        """The camera, without reading the image."""
        return Camera(self.arrays["K"][index], IMAGE_PX, IMAGE_PX, self.arrays["T_base_camera"][index])

    def depth_image(self, index: int) -> U8:
        """(256, 256, 3) colourised depth."""
        return colourised_depth(self.frame(index))

    def goal(self, index: int) -> Goal:
        """The scene's task."""
        named = int(self.arrays["named"][index])
        return Goal(ACTIONS[self.arrays["action"][index]], tuple(self.name(index, i) for i in range(named)))

    def name(self, index: int, which: int) -> Name:
        """Name of one of a scene's objects."""
        colour = int(self.arrays["colour"][index, which])
        return Name(KINDS[self.arrays["kind"][index, which]], PALETTE[colour] if colour >= 0 else "")

    def phase(self, index: int) -> str:
        """What has happened already in a scene: one of :data:`stvla_ros.train.scenes.layouts.PHASES`."""
        return PHASES[self.arrays["moment"][index]]

    def steps(self, index: int) -> int:
        """Steps of a scene's task that have a path."""
        return int(np.isfinite(self.arrays["path_uv"][index, :MAX_STEPS, 0, 0]).sum())

    def cells(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """(64, 64) what each cell shows: kind + 2 (0 the robot, 1 surroundings), and colour or -1."""
        label = self.arrays["labels"][index].astype(int)
        kind = np.concatenate([[0, 1], self.arrays["kind"][index] + 2])
        colour = np.concatenate([[-1, -1], self.arrays["colour"][index]])
        return kind[label + 1], colour[label + 1]

    def shape_px(self, index: int) -> tuple[int, int]:
        """Height and width that Qwen3-VL's processor gives an image of this scene's camera: square, or 4:3."""
        camera = self.camera(index)
        return WIDE_PX if camera.K[1, 1] > 1.1 * camera.K[0, 0] else (camera.height_px, camera.width_px)


def resized(image: U8, shape_px: tuple[int, int]) -> U8:
    """An (H, W, 3) image of another height and width."""
    if image.shape[:2] == shape_px:
        return image
    return np.asarray(cv2.resize(image, shape_px[::-1], interpolation=cv2.INTER_LINEAR), np.uint8)


def colour_jitter(rgb: U8, rng: np.random.Generator) -> F32:
    """An image of values 0..1 with a little more or less light, another tint, and noise."""
    gain = rng.normal(1.0, 0.08) * rng.normal(1.0, 0.03, 3)
    noise = rng.standard_normal(rgb.shape, np.float32) * np.float32(rng.uniform(0, 4))
    return np.asarray(np.clip(rgb * gain.astype(np.float32) + noise, 0, 255) / np.float32(255), np.float32)


def _decoded(png: np.ndarray, how: int) -> np.ndarray:
    image = cv2.imdecode(png, how)
    if image is None:
        raise ConfigError("scenes: an image in a shard cannot be read: delete the shard and render it again.")
    return image


def load(folder: Path, split: str, max_scenes: int | None = None) -> Scenes:
    """Read the scenes of a split.

    Raises:
        ConfigError: There are none, or a shard is damaged.
    """
    files = sorted(folder.glob(f"{split}-[0-9][0-9][0-9][0-9][0-9].npz"))
    files = files if max_scenes is None else files[: -(-max_scenes // PER_SHARD)]
    if not files:
        raise ConfigError(
            f"{folder}: no scenes of the split '{split}': `stvla scenes --split {split} --output {folder}`."
        )
    parts: list[dict[str, np.ndarray]] = []
    for file in files:
        with setting("", "Delete it and render it again."):
            parts.append(read_arrays(file, wanted="a shard of scenes"))
        if (odd := parts[-1].keys() ^ parts[0].keys()) or "rgb_end" not in parts[0]:
            raise ConfigError(
                f"{file}: arrays {', '.join(sorted(odd)) or 'rgb_end'} are missing here or in {files[0].name}."
            )
    images = {name: [png for part in parts for png in _cut(part, name)] for name in ("rgb", "depth")}
    return Scenes({name: np.concatenate([p[name] for p in parts]) for name in parts[0]}, images)


def _cut(part: dict[str, np.ndarray], name: str) -> list[np.ndarray]:
    return np.split(part.pop(name), part.pop(f"{name}_end")[:-1])
