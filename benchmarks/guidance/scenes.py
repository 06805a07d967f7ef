"""Scenes of the guidance benchmark: tasks, cameras and moments drawn from one seed, and frames with their truth.

Easy scenes are those of the plain cell. Hard ones have the cell's hard look and a depth camera with a real one's faults.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from benchmarks.guidance.routes import Route, make_route
from stvla_ros.colours import COLOURS
from stvla_ros.description.kinematics import tcp_pose
from stvla_ros.description.panda import HOME_Q_RAD
from stvla_ros.geometry.cameras import project, px_to_uv
from stvla_ros.geometry.se3 import pose
from stvla_ros.motion.ik import solve
from stvla_ros.sim.camera import TripodCameraConfig, make_camera
from stvla_ros.sim.cell import Cell, CellConfig
from stvla_ros.sim.looks import dressed
from stvla_ros.sim.objects import BLOCK_M, Block, Bottle, SceneObject
from stvla_ros.sim.sensor import Sensor, SensorConfig
from stvla_ros.sim.stereo import Optics
from stvla_ros.sim.tasks import BASIC_TASKS, Task, make_task
from stvla_ros.sim.tasks.base import X_RANGE_M, Y_RANGE_M, random_block
from stvla_ros.types import F64, I32, RgbdFrame, RobotState, Segments

SCENES = ("easy", "hard")
LOOK_OF = {"easy": "plain", "hard": "hard"}
SIZES = ((640, 480), (256, 256))
MIN_VISIBLE_PX = 30
"""Of a 640x480 image: objects with fewer visible pixels do not count."""

ABOVE_M = 0.12
"""Height of the tool over the start at the moment ``above``."""

FEWEST, MOST = 3, 12
EDGE_SPOTS_M = ((0.45, 0.50), (0.45, -0.50), (0.10, 0.38), (0.10, -0.38), (-0.12, 0.40), (-0.12, -0.40))
"""Here the image of a bottle crosses the side or the far edge of the table."""


@dataclass(frozen=True)
class Setup:
    """Everything that decides a scene.

    Attributes:
        index: Number of the scene; also its seed.
        task: One of the cell's tasks.
        distractors: Number of objects that the task does not need.
        camera: Where from and how large.
        moment: What is seen besides the arm at home: the tool ``above`` the start, or the start object in the hand
            (``carry``).
        grip_m: How far below an object's top the tool takes hold.
        top_m: Height of the way across.
        bottles: How many bottles stand at the table's edges.
        neighbours: How many blocks stand close beside what the task is about.
        scenes: One of :data:`SCENES`; lay it in a cell of the same kind.
    """

    index: int
    task: str
    distractors: int
    camera: TripodCameraConfig
    moment: str
    grip_m: float
    top_m: float
    bottles: int = 0
    neighbours: int = 0
    scenes: str = "easy"


@dataclass(frozen=True, eq=False)
class View:
    """One frame with its truth.

    Attributes:
        setup: The scene.
        moment: ``home``, ``above`` or ``carry``.
        noise: The sensor's defects are on.
        frame: What the stack gets.
        ideal: The same without defects.
        optics: What the visible surfaces are made of.
        robot: The arm.
        labels: (H, W) true labels; -1 is the robot and what it holds.
        names: Object of each label from 1.
        surfaces: (N, 3) points all over each object.
        held: Name of what is in the hand, or "".
        route: The tool's true way.
    """

    setup: Setup
    moment: str
    noise: bool
    frame: RgbdFrame
    ideal: RgbdFrame
    optics: Optics
    robot: RobotState
    labels: I32
    names: tuple[str, ...]
    surfaces: dict[str, F64]
    held: str
    route: Route

    @property
    def size(self) -> str:
        return f"{self.frame.camera.width_px}x{self.frame.camera.height_px}"

    def true_segments(self) -> Segments:
        """The simulator's masks as a segmenter would give them."""
        return Segments(self.labels, tuple(int(i) for i in np.unique(self.labels) if i > 0))

    def again(self, stamp_ns: int, sensor: SensorConfig | None = None) -> RgbdFrame:
        """The same still scene at another time: the same image with other noise, by the scene's sensor or another."""
        camera = self.ideal.camera
        faulty = _sensor(sensor or sensor_config(self.setup.scenes), float(camera.K[0, 0]), self.setup.index)
        return RgbdFrame(*faulty(self.ideal.rgb, self.ideal.depth_m, stamp_ns, self.optics), camera, stamp_ns)

    def visible_px(self, name: str) -> int:
        return int((self.labels == 1 + self.names.index(name)).sum())

    def counted(self) -> list[str]:
        """Objects that show enough pixels, without what the robot holds."""
        least = MIN_VISIBLE_PX * self.labels.size / (640 * 480)
        return [n for n in self.names if n != self.held and self.visible_px(n) >= least]


def draw_setups(count: int, seed: int, scenes: str = "easy") -> list[Setup]:
    """Scenes over all tasks, sizes, numbers of objects and cameras, in turn; half of the easy ones with shadows."""
    draw = _hard_setup if scenes == "hard" else _setup
    return [draw(i, np.random.default_rng([seed, i])) for i in range(count)]


def _setup(index: int, rng: np.random.Generator) -> Setup:
    task = list(BASIC_TASKS)[index % len(BASIC_TASKS)]
    width, height = SIZES[index // len(BASIC_TASKS) % len(SIZES)]
    objects = int(rng.integers(FEWEST, MOST + 1))
    asked = len(make_task(task, index, 0).objects)
    moment = "carry" if task != "push_buttons" and rng.random() < 0.5 else "above"
    grip_m = 0.0 if task == "push_buttons" else float(rng.choice([0.0, 0.01, 0.02]))
    bottles, neighbours = int(rng.random() < 0.15), int(rng.choice([0, 0, 1, 2]))
    distractors = max(objects - asked - bottles - neighbours, 0)
    top_m = float(rng.uniform(0.07, 0.25))
    return Setup(index, task, distractors, _camera(rng, width, height), moment, grip_m, top_m, bottles, neighbours)


def _hard_setup(index: int, rng: np.random.Generator) -> Setup:
    """As an easy one, but nearer, with fewer blocks: household things come on top."""
    easy = _setup(index, rng)
    camera = _near_camera(rng, easy.camera.width_px, easy.camera.height_px)
    return replace(easy, camera=camera, distractors=min(easy.distractors, int(rng.integers(0, 4))), scenes="hard")


def _near_camera(rng: np.random.Generator, width: int, height: int) -> TripodCameraConfig:
    """A camera that looks down on the table from near by, as on a stand beside it."""
    while True:
        camera = TripodCameraConfig(
            width_px=width, height_px=height, fov_y_deg=float(rng.uniform(42.0, 58.0)), shadows=True,
            x_m=float(rng.uniform(0.85, 1.3)), y_m=float(rng.uniform(-0.4, 0.4)), z_m=float(rng.uniform(0.6, 1.0)),
            target_x_m=float(rng.uniform(0.38, 0.52)), target_y_m=float(rng.uniform(-0.06, 0.06)),
            target_z_m=float(rng.uniform(0.0, 0.08)),
        )  # fmt: skip
        if _shows_the_area(camera, high_m=0.2, nearest_m=0.4, margin=10):
            return camera


def _camera(rng: np.random.Generator, width: int, height: int) -> TripodCameraConfig:
    """A camera that sees the whole area of the objects and the space above it."""
    while True:
        camera = TripodCameraConfig(
            width_px=width, height_px=height, fov_y_deg=float(rng.uniform(38.0, 58.0)),
            x_m=float(rng.uniform(1.0, 1.6)), y_m=float(rng.uniform(-0.4, 0.4)), z_m=float(rng.uniform(0.6, 1.25)),
            target_x_m=float(rng.uniform(0.33, 0.5)), target_y_m=float(rng.uniform(-0.08, 0.08)),
            target_z_m=float(rng.uniform(0.05, 0.22)), shadows=bool(rng.random() < 0.5),
        )  # fmt: skip
        if _shows_the_area(camera, high_m=0.26, nearest_m=0.45, margin=20):
            return camera


def _shows_the_area(camera: TripodCameraConfig, high_m: float, nearest_m: float, margin: float) -> bool:
    """Whether the area of the objects up to a height is in the image, with a margin in 0..1000, and not too near."""
    corners = [(x, y, z) for x in X_RANGE_M for y in Y_RANGE_M for z in (0.0, high_m)]
    px, depth = project(make_camera(camera), corners)
    uv = px_to_uv(px, make_camera(camera))
    return bool(depth.min() > nearest_m and uv.min() > margin and uv.max() < 1000 - margin)


def sensor_config(scenes: str = "easy", noise: bool = True) -> SensorConfig:
    """The usual sensor of easy or hard scenes; without ``noise`` an ideal one."""
    return SensorConfig(enabled=noise, kind="stereo" if scenes == "hard" else "simple")


@lru_cache(maxsize=2)
def _sensor(config: SensorConfig, focal_px: float, seed: int) -> Sensor:
    """A sensor keeps what stays the same in all images of a scene."""
    return Sensor(config, focal_px, seed)


def cell_config(scenes: str = "easy", camera: TripodCameraConfig | None = None, noise: bool = True) -> CellConfig:
    """The cell of easy or hard scenes, whose ``reset`` gives a task with or without household things."""
    return CellConfig(camera=camera or TripodCameraConfig(), sensor=sensor_config(scenes, noise), look=LOOK_OF[scenes])


def make_cell(sensor: SensorConfig | None = None, scenes: str = "easy") -> Cell:
    """A cell whose sensor has defects; it also gives ideal images."""
    config = cell_config(scenes)
    return Cell(replace(config, sensor=sensor or config.sensor))


def lay(cell: Cell, setup: Setup) -> Task:
    """Set up a scene."""
    task = make_task(setup.task, setup.index, setup.distractors)
    rng = np.random.default_rng([setup.index, 1])
    colours = iter(rng.permutation([c for c in COLOURS if not any(o.name.startswith(f"{c}_") for o in task.objects)]))
    objects = [*task.objects]
    for spot in rng.permutation(EDGE_SPOTS_M)[: setup.bottles]:
        objects.append(Bottle(str(next(colours)), tuple(spot), float(rng.uniform(0.2, 0.26))))
    for _ in range(setup.neighbours):
        xy = _beside(rng, objects)
        if xy is not None:
            objects.append(random_block(rng, str(next(colours)), xy))
    task = replace(task, objects=tuple(objects))  # type: ignore[type-var]
    if setup.scenes == "hard":
        task = dressed(task, setup.index)
    cell.reset_to(task, setup.index, setup.camera)
    return task


def _beside(rng: np.random.Generator, objects: Sequence[SceneObject]) -> tuple[float, float] | None:
    """A free place close to one of the first two objects; None when there is none."""
    radius = Block("", (0.0, 0.0), 0.0).clearance_m
    for _ in range(100):
        near = objects[int(rng.integers(2))] if len(objects) > 1 else objects[0]
        angle, gap = rng.uniform(0, 2 * np.pi), rng.uniform(0.005, 0.07)
        away = near.clearance_m + radius + gap
        x, y = near.xy_m[0] + away * np.cos(angle), near.xy_m[1] + away * np.sin(angle)
        if all(np.hypot(x - o.xy_m[0], y - o.xy_m[1]) > radius + o.clearance_m + 0.004 for o in objects):
            return float(x), float(y)
    return None


def views(cell: Cell, setup: Setup, noises: tuple[bool, ...] = (False, True)) -> Iterator[View]:
    """Every frame of a scene: the arm at home and at the setup's moment, with and without noise."""
    task = lay(cell, setup)
    for moment in ("home", setup.moment):
        before = cell.truth().T_base_object
        route = make_route(task, before, setup.grip_m, setup.top_m, moment == "carry")
        held = task.objects[0].name if moment == "carry" else ""
        if not _move(cell, moment, route, held, setup.grip_m):
            continue
        ideal, noisy, optics = cell.render(ideal=True), cell.render(), cell.optics()
        truth, surfaces = cell.truth(), cell.surfaces()
        labels = np.where(truth.labels == 1, -1, truth.labels).astype(np.int32) if held else truth.labels
        for noise in noises:
            frame = noisy if noise else ideal
            yield View(
                setup, moment, noise, frame, ideal, optics, cell.state(), labels, truth.names, surfaces, held, route
            )


def _move(cell: Cell, moment: str, route: Route, held: str, grip_m: float) -> bool:
    """Set the arm to the pose of the moment; False if it cannot reach."""
    if moment == "home":
        return True
    tool = route.corners_m[0] + [0.0, 0.0, 0.0 if held else ABOVE_M]
    solutions = solve(pose(tcp_pose(HOME_Q_RAD)[:3, :3], tool), HOME_Q_RAD[None])
    if not len(solutions):
        return False
    centre = pose(np.eye(3), tool + np.array([0.0, 0.0, grip_m - BLOCK_M / 2]))
    cell.set_state(solutions[0], BLOCK_M if held else 0.08, {held: centre} if held else None)
    cell.step()
    return True
