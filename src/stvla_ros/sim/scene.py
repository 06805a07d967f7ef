"""The cell as one MuJoCo model: surroundings, arm, cameras and the objects of a task."""

from __future__ import annotations

from collections.abc import Iterable

import mujoco

from stvla_ros.sim.arm import add_panda
from stvla_ros.sim.camera import THIRD, TRIPOD, CameraConfig, ThirdViewConfig, add_camera, add_tripod
from stvla_ros.sim.materials import TABLE_HEIGHT_M, add_surroundings
from stvla_ros.sim.objects import SceneObject
from stvla_ros.sim.rendering import OVERSAMPLE, set_quality


def build_model(
    objects: Iterable[SceneObject],
    timestep_s: float,
    camera: CameraConfig,
    third: ThirdViewConfig,
) -> mujoco.MjModel:
    """Compile the cell.

    Args:
        objects: What lies on the table.
        timestep_s: Physics step.
        camera: The stack's camera.
        third: The view for people.

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
    add_surroundings(spec)
    add_panda(spec)
    add_camera(spec, TRIPOD, camera)
    add_camera(spec, THIRD, third)
    add_tripod(spec, camera, -TABLE_HEIGHT_M)
    for thing in objects:
        thing.add(spec)
    return spec.compile()
