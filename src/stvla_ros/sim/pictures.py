"""What can be seen of a cell at a moment, as plain values, and who draws it: in another process too."""

from __future__ import annotations

from dataclasses import dataclass

import mujoco

from stvla_ros.sim.camera import THIRD, TRIPOD, CameraConfig, ThirdViewConfig, make_camera
from stvla_ros.sim.objects import SceneObject
from stvla_ros.sim.rendering import Renderer
from stvla_ros.sim.scene import build_model
from stvla_ros.sim.sensor import Sensor, SensorConfig
from stvla_ros.types import F64, U8, RgbdFrame

STATE = mujoco.mjtState.mjSTATE_INTEGRATION.value
"""All that moves, in MuJoCo's own order."""


@dataclass(frozen=True, eq=False)
class Scene:
    """All of a cell that stays as it is until the table is laid anew. It can be pickled.

    Attributes:
        objects: What lies on the table.
        timestep_s: Physics step.
        camera: The stack's camera.
        third: The view for people.
        sensor: Defects of the camera.
        seed: Decides the sensor's noise.
    """

    objects: tuple[SceneObject, ...]
    timestep_s: float
    camera: CameraConfig
    third: ThirdViewConfig
    sensor: SensorConfig
    seed: int

    def model(self) -> mujoco.MjModel:
        """Compile it. Raises ConfigError when the Panda's mesh package is not installed."""
        return build_model(self.objects, self.timestep_s, self.camera, self.third)


@dataclass(frozen=True, eq=False)
class Moment:
    """A scene at one instant.

    Attributes:
        scene: What does not move; the same object as long as the table is not laid anew.
        state: :data:`STATE` of the physics.
        stamp_ns: Simulated time.
    """

    scene: Scene
    state: F64
    stamp_ns: int


class Photographer:
    """Draws moments exactly as the cell itself would. Not thread safe."""

    def __init__(self) -> None:
        self._renderer = Renderer()
        self._scene: Scene | None = None

    def frame(self, moment: Moment) -> RgbdFrame:
        """As :meth:`stvla_ros.sim.cell.Cell.render`. Raises ConfigError without OpenGL on this machine."""
        data, camera = self._data_at(moment), self._camera
        rgb, depth_m = self._renderer.rgbd(data, TRIPOD, camera.width_px, camera.height_px, moment.scene.camera.shadows)
        return RgbdFrame(*self._sensor(rgb, depth_m, moment.stamp_ns), camera, moment.stamp_ns)

    def third(self, moment: Moment) -> U8:
        """As :meth:`stvla_ros.sim.cell.Cell.render_third`."""
        view = moment.scene.third
        return self._renderer.rgb(self._data_at(moment), THIRD, view.width_px, view.height_px)

    def close(self) -> None:
        """Free the renderer. Safe to call twice."""
        self._renderer.close()

    def _data_at(self, moment: Moment) -> mujoco.MjData:
        scene = moment.scene
        if scene is not self._scene:
            self._data, self._camera = mujoco.MjData(scene.model()), make_camera(scene.camera)
            self._sensor = Sensor(scene.sensor, float(self._camera.K[0, 0]), scene.seed)
            self._scene = scene
        mujoco.mj_setState(self._data.model, self._data, moment.state, STATE)
        mujoco.mj_fwdPosition(self._data.model, self._data)
        return self._data
