"""The cell as one MuJoCo model: surroundings, arm, cameras and the objects of a task."""

from __future__ import annotations

from collections.abc import Iterable

import mujoco

from stvla_ros.sim.arm import add_panda
from stvla_ros.sim.camera import THIRD, TRIPOD, CameraConfig, ThirdViewConfig, add_camera, add_tripod
from stvla_ros.sim.materials import TABLE_HEIGHT_M, add_surroundings
from stvla_ros.sim.objects import SceneObject


def build_model(
    objects: Iterable[SceneObject],
    timestep_s: float,
    camera: CameraConfig,
    third: ThirdViewConfig,
    shadow_map_px: int = 0,
    samples: int = 4,
) -> mujoco.MjModel:
    """Compile the cell.

    Args:
        objects: What lies on the table.
        timestep_s: Physics step.
        camera: The stack's camera.
        third: The view for people.
        shadow_map_px: Size of the shadow map; 0 draws no shadows.
        samples: Samples per pixel against jagged edges; 0 for none.

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
    screen, quality = getattr(spec.visual, "global"), spec.visual.quality
    screen.offwidth, screen.offheight = max(camera.width_px, third.width_px), max(camera.height_px, third.height_px)
    quality.offsamples = samples
    add_surroundings(spec, shadow_map_px)
    add_panda(spec)
    add_camera(spec, TRIPOD, camera)
    add_camera(spec, THIRD, third)
    add_tripod(spec, camera, -TABLE_HEIGHT_M)
    for thing in objects:
        thing.add(spec)
    return spec.compile()
