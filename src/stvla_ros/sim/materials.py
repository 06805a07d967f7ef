"""Light, floor, table and their surfaces. Block and button colours are in :mod:`stvla_ros.colours`."""

from __future__ import annotations

import mujoco
import numpy as np

from stvla_ros.sim.textures import add_texture, rgb_role
from stvla_ros.types import U8

TABLE_TOP = "table_top"
TABLE_CENTRE_XY_M = (0.27, 0.0)
TABLE_HALF_XY_M = (0.55, 0.60)
TABLE_HEIGHT_M = 0.72
_TABLE_RGB = (0.82, 0.74, 0.63)  # light beech
_FLOOR_RGB = (0.37, 0.38, 0.39)


def add_surroundings(spec: mujoco.MjSpec) -> None:
    """Add lights, sky, floor and the table, whose top is the plane z = 0."""
    _add_light(spec)
    roles = add_texture(spec, "beech", wood_grain(256, _TABLE_RGB))
    spec.add_material(name="beech", textures=roles, texuniform=True, texrepeat=[1.0, 1.0], specular=0.05, shininess=0.1)
    spec.add_material(name="steel", rgba=[0.35, 0.37, 0.40, 1.0], specular=0.3)
    _add_floor(spec)
    add_table(spec, "beech")


def wood_grain(size_px: int, rgb: tuple[float, float, float]) -> U8:
    """(size, size, 3) faint stripes along one axis; always the same image."""
    rng = np.random.default_rng(7)
    stripes = np.cumsum(rng.normal(size=size_px))
    stripes -= np.linspace(stripes[0], stripes[-1], size_px)  # the ends meet, so tiles do too
    stripes /= np.abs(stripes).max()
    wave = np.sin(np.linspace(0.0, 2.0 * np.pi, size_px))
    shift = np.rint(3.0 * wave).astype(int)
    grain = np.stack([np.roll(stripes, s) for s in shift]) * 0.03 + rng.normal(scale=0.006, size=(size_px, size_px))
    image = np.clip(np.array(rgb) * (1.0 + grain[..., None]), 0.0, 1.0)
    return (255 * image).astype(np.uint8)


def _add_light(spec: mujoco.MjSpec) -> None:
    """Soft light from all sides, more from above: a surface that faces up shows about its own colour."""
    visual = spec.visual
    visual.headlight.active = 1
    visual.headlight.ambient, visual.headlight.diffuse, visual.headlight.specular = [0.42] * 3, [0.18] * 3, [0.05] * 3
    set_clipping(spec)
    spec.worldbody.add_light(
        name="ceiling",
        type=mujoco.mjtLightType.mjLIGHT_DIRECTIONAL,
        pos=[0.55, 0.35, 1.2],
        dir=[-0.25, -0.25, -1.0],
        diffuse=[0.48] * 3,
        specular=[0.25] * 3,
        castshadow=True,
    )
    add_sky(spec)


def set_clipping(spec: mujoco.MjSpec) -> None:
    """Near and far planes of depth and shadows."""
    visual = spec.visual
    visual.map.znear, visual.map.zfar, visual.map.shadowclip = 0.02, 12.0, 2.0
    spec.stat.extent, spec.stat.center = 1.0, [0.4, 0.0, 0.1]  # near and far planes are in units of the extent


def add_sky(spec: mujoco.MjSpec) -> None:
    """A light grey background."""
    sky = spec.add_texture(
        name="sky", type=mujoco.mjtTexture.mjTEXTURE_SKYBOX, builtin=mujoco.mjtBuiltin.mjBUILTIN_GRADIENT
    )
    sky.rgb1, sky.rgb2, sky.width, sky.height = [0.80, 0.84, 0.88], [0.62, 0.65, 0.69], 64, 384


def _add_floor(spec: mujoco.MjSpec) -> None:
    floor = spec.add_texture(
        name="floor", type=mujoco.mjtTexture.mjTEXTURE_2D, builtin=mujoco.mjtBuiltin.mjBUILTIN_CHECKER
    )
    floor.rgb1, floor.rgb2, floor.width, floor.height = _FLOOR_RGB, tuple(0.97 * c for c in _FLOOR_RGB), 64, 64
    spec.add_material(name="floor", emission=0.6, textures=rgb_role("floor"), texuniform=True, texrepeat=[1.0, 1.0])
    spec.worldbody.add_geom(
        name="floor",
        type=mujoco.mjtGeom.mjGEOM_PLANE,
        size=[6.0, 6.0, 0.1],
        pos=[0.0, 0.0, -TABLE_HEIGHT_M],
        material="floor",
    )


def add_table(spec: mujoco.MjSpec, top: str) -> mujoco.MjsBody:
    """The table, whose top is the plane z = 0. Its materials are ``top`` and ``steel``."""
    (x, y), (half_x, half_y) = TABLE_CENTRE_XY_M, TABLE_HALF_XY_M
    table = spec.worldbody.add_body(name="table")
    box = mujoco.mjtGeom.mjGEOM_BOX
    table.add_geom(
        name=TABLE_TOP,
        type=box,
        pos=[x, y, -0.02],
        size=[half_x, half_y, 0.02],
        material=top,
        friction=[0.8, 0.01, 0.001],
    )
    leg_z = (TABLE_HEIGHT_M - 0.04) / 2
    for sx in (-1, 1):
        for sy in (-1, 1):
            leg = [x + sx * (half_x - 0.06), y + sy * (half_y - 0.06), -0.04 - leg_z]
            table.add_geom(type=box, pos=leg, size=[0.025, 0.025, leg_z], material="steel", contype=0, conaffinity=0)
    return table
