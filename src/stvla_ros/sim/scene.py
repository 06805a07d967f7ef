"""A cell as plain values, its scene as one MuJoCo model, and a renderer that draws it in another process."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import mujoco
import numpy as np

from stvla_ros.description.panda import BASE_LINK
from stvla_ros.sim.arm import add_panda
from stvla_ros.sim.camera import THIRD, TRIPOD, ThirdViewConfig, TripodCameraConfig, add_camera, add_tripod, make_camera
from stvla_ros.sim.looks import add_hard_surroundings
from stvla_ros.sim.materials import TABLE_HEIGHT_M, add_surroundings
from stvla_ros.sim.objects import SceneObject
from stvla_ros.sim.rendering import OVERSAMPLE, Renderer, set_quality
from stvla_ros.sim.sensor import Sensor, SensorConfig
from stvla_ros.sim.world import World
from stvla_ros.types import F32, F64, I32, U8, Camera, RgbdFrame

STATE = mujoco.mjtState.mjSTATE_INTEGRATION.value
"""All that moves, in MuJoCo's own order."""


def build_model(
    objects: Iterable[SceneObject],
    timestep_s: float,
    camera: TripodCameraConfig,
    third: ThirdViewConfig,
    look: str = "plain",
    seed: int = 0,
) -> mujoco.MjModel:
    """Compile a cell.

    Args:
        objects: What is on the table.
        timestep_s: Physics step.
        camera: The stack's camera.
        third: The view for people.
        look: One of :data:`stvla_ros.sim.LOOKS`.
        seed: Decides a hard look.

    Raises:
        ConfigError: The Panda's mesh package is not installed.
    """
    spec = mujoco.MjSpec()
    spec.modelname = "cell"
    spec.compiler.degree = False
    spec.compiler.balanceinertia = True  # the identified inertias do not all satisfy the triangle inequality
    spec.option.timestep = timestep_s
    spec.option.integrator = mujoco.mjtIntegrator.mjINT_IMPLICITFAST
    spec.option.cone = mujoco.mjtCone.mjCONE_ELLIPTIC
    spec.option.impratio = 10.0
    set_quality(
        spec, max(camera.width_px, OVERSAMPLE * third.width_px), max(camera.height_px, OVERSAMPLE * third.height_px)
    )
    if look == "hard":
        add_hard_surroundings(spec, seed)
    else:
        add_surroundings(spec)
    add_panda(spec)
    add_camera(spec, TRIPOD, camera)
    add_camera(spec, THIRD, third)
    add_tripod(spec, camera, -TABLE_HEIGHT_M)
    for item in objects:
        item.add(spec)
    return spec.compile()


@dataclass(frozen=True, eq=False)
class Scene:
    """The part of a cell that stays the same until the next reset. It can be pickled.

    Attributes:
        objects: What lies on the table.
        timestep_s: Physics step.
        camera: The stack's camera.
        third: The view for people.
        sensor: Defects of the camera.
        seed: Decides the sensor's noise and a hard look.
        look: One of :data:`stvla_ros.sim.LOOKS`.
    """

    objects: tuple[SceneObject, ...]
    timestep_s: float
    camera: TripodCameraConfig
    third: ThirdViewConfig
    sensor: SensorConfig
    seed: int
    look: str = "plain"

    @property
    def shadows(self) -> bool:
        """Objects cast shadows in the stack's camera; in a hard look always."""
        return self.camera.shadows or self.look != "plain"

    def model(self) -> mujoco.MjModel:
        """Compile it. Raises ConfigError when the Panda's mesh package is not installed."""
        return build_model(self.objects, self.timestep_s, self.camera, self.third, self.look, self.seed)


@dataclass(frozen=True, eq=False)
class SceneState:
    """A scene at one instant.

    Attributes:
        scene: What does not move; the same object until the next reset.
        physics: Its :data:`STATE`.
        stamp_ns: Simulated time.
    """

    scene: Scene
    physics: F64
    stamp_ns: int


def photograph(
    renderer: Renderer, sensor: Sensor, data: mujoco.MjData, camera: Camera, shadows: bool, stamp_ns: int
) -> tuple[U8, F32]:
    """(H, W, 3) colour and (H, W) depth of the stack's camera, with its defects."""
    size = camera.width_px, camera.height_px
    optics = renderer.optics(data, TRIPOD, *size) if sensor.needs_optics else None
    return sensor(*renderer.rgbd(data, TRIPOD, *size, shadows), stamp_ns, optics)


@dataclass(frozen=True, eq=False)
class CellTruth:
    """Ground truth, for scoring and tests only.

    Attributes:
        T_base_object: Pose of each object by name.
        labels: (H, W) int32 of the tripod camera: -1 the robot, 0 table and surroundings, i the i-th name of ``names``,
            from 1.
        names: Object names in the order of the labels.
        stamp_ns: Time of both.
    """

    T_base_object: dict[str, F64]
    labels: I32
    names: tuple[str, ...]
    stamp_ns: int


def truth_of(
    renderer: Renderer, data: mujoco.MjData, camera: Camera, names: tuple[str, ...], stamp_ns: int
) -> CellTruth:
    """Ground truth of one instant, as the stack's camera sees it."""
    model = data.model
    bodies = renderer.body_ids(data, TRIPOD, camera.width_px, camera.height_px)
    label = {BASE_LINK: -1, **{name: i for i, name in enumerate(names, 1)}}
    roots = [label.get(model.body(model.body_rootid[b]).name, 0) for b in range(model.nbody)]
    labels = np.array([*roots, 0], np.int32)[bodies]  # the last entry is for -1, where nothing is
    world = World(model, data)
    return CellTruth({n: world.pose(n) for n in names}, labels, names, stamp_ns)


class StateRenderer:
    """Draws states of scenes exactly as the cell itself would. Not thread safe."""

    def __init__(self) -> None:
        self._renderer = Renderer()
        self._scene: Scene | None = None

    def frame(self, state: SceneState) -> RgbdFrame:
        """As :meth:`stvla_ros.sim.cell.Cell.render`. Raises ConfigError without OpenGL on this machine."""
        data, camera = self._data_at(state), self._camera
        photo = photograph(self._renderer, self._sensor, data, camera, state.scene.shadows, state.stamp_ns)
        return RgbdFrame(*photo, camera, state.stamp_ns)

    def third(self, state: SceneState) -> U8:
        """As :meth:`stvla_ros.sim.cell.Cell.render_third`."""
        view = state.scene.third
        return self._renderer.rgb(self._data_at(state), THIRD, view.width_px, view.height_px)

    def truth(self, state: SceneState) -> CellTruth:
        """As :meth:`stvla_ros.sim.cell.Cell.truth`."""
        names = tuple(o.name for o in state.scene.objects)
        return truth_of(self._renderer, self._data_at(state), self._camera, names, state.stamp_ns)

    def close(self) -> None:
        """Free the renderer. Safe to call twice."""
        self._renderer.close()

    def _data_at(self, state: SceneState) -> mujoco.MjData:
        scene = state.scene
        if scene is not self._scene:
            self._data, self._camera = mujoco.MjData(scene.model()), make_camera(scene.camera)
            self._sensor = Sensor(scene.sensor, float(self._camera.K[0, 0]), scene.seed)
            self._scene = scene
        mujoco.mj_setState(self._data.model, self._data, state.physics, STATE)
        mujoco.mj_fwdPosition(self._data.model, self._data)
        return self._data
