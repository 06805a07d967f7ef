"""The cell's two cameras: the tripod camera of the stack, and a view for people."""

from __future__ import annotations

from dataclasses import dataclass

import mujoco
import numpy as np

from stvla_ros.config import param
from stvla_ros.types import F64, Camera

TRIPOD, THIRD = "tripod", "third"
_FLIP = np.diag([1.0, -1.0, -1.0])  # MuJoCo looks along -z with y up; the optical frame along z with y down


@dataclass(frozen=True)
class TripodCameraConfig:
    """A pinhole camera on a tripod in front of the robot, looking at the table."""

    width_px: int = param(640, "image width [px]", ge=64, le=1920)
    height_px: int = param(480, "image height [px]", ge=48, le=1080)
    fov_y_deg: float = param(42.5, "vertical field of view [deg] (RealSense D435 colour: 42)", ge=20.0, le=90.0)
    x_m: float = param(1.32, "position in the base frame [m]", ge=0.6, le=3.0)
    y_m: float = param(0.0, "position in the base frame [m]", ge=-2.0, le=2.0)
    z_m: float = param(0.92, "height over the table [m]", ge=0.2, le=2.5)
    target_x_m: float = param(0.38, "point that it looks at [m]", ge=-0.5, le=1.0)
    target_y_m: float = param(0.0, "point that it looks at [m]", ge=-1.0, le=1.0)
    target_z_m: float = param(0.23, "point that it looks at [m]", ge=-0.5, le=1.0)
    shadows: bool = param(False, "objects cast shadows in its image")


@dataclass(frozen=True)
class ThirdViewConfig:
    """A view from the side, for people; the stack never sees it."""

    width_px: int = param(480, "image width [px]", ge=64, le=1920)
    height_px: int = param(360, "image height [px]", ge=48, le=1080)
    fov_y_deg: float = param(38.0, "vertical field of view [deg]", ge=20.0, le=90.0)
    x_m: float = param(1.35, "position in the base frame [m]", ge=-3.0, le=3.0)
    y_m: float = param(-1.15, "position in the base frame [m]", ge=-3.0, le=3.0)
    z_m: float = param(0.85, "height over the table [m]", ge=0.2, le=2.5)
    target_x_m: float = param(0.27, "point that it looks at [m]", ge=-0.5, le=1.0)
    target_y_m: float = param(0.0, "point that it looks at [m]", ge=-1.0, le=1.0)
    target_z_m: float = param(0.25, "point that it looks at [m]", ge=-0.5, le=1.0)


View = TripodCameraConfig | ThirdViewConfig


def make_camera(config: View) -> Camera:
    """The pinhole of a view; its principal point is the image's centre."""
    focal = config.height_px / 2 / np.tan(np.radians(config.fov_y_deg) / 2)
    K = np.array([[focal, 0.0, config.width_px / 2 - 0.5], [0.0, focal, config.height_px / 2 - 0.5], [0.0, 0.0, 1.0]])
    return Camera(K, config.width_px, config.height_px, look_at(config))


def look_at(config: View) -> F64:
    """(4, 4) ``T_base_camera`` of the optical frame, with the horizon level."""
    eye = np.array([config.x_m, config.y_m, config.z_m])
    forward = np.array([config.target_x_m, config.target_y_m, config.target_z_m]) - eye
    forward /= np.linalg.norm(forward)
    right = np.cross(forward, [0.0, 0.0, 1.0])
    right /= np.linalg.norm(right)
    T = np.eye(4)
    T[:3, 0], T[:3, 1], T[:3, 2], T[:3, 3] = right, np.cross(forward, right), forward, eye
    return T


def add_camera(spec: mujoco.MjSpec, name: str, config: View) -> None:
    """Add a view to the model."""
    T = look_at(config)
    quat = np.zeros(4)
    mujoco.mju_mat2Quat(quat, (T[:3, :3] @ _FLIP).ravel())
    spec.worldbody.add_camera(name=name, pos=T[:3, 3], quat=quat, fovy=config.fov_y_deg)


def add_tripod(spec: mujoco.MjSpec, config: TripodCameraConfig, floor_z_m: float) -> None:
    """The camera's housing and stand, for the view of people; it touches nothing."""
    seen = {"contype": 0, "conaffinity": 0, "group": 2}
    T = look_at(config)
    quat = np.zeros(4)
    mujoco.mju_mat2Quat(quat, T[:3, :3].ravel())
    body = spec.worldbody.add_body(name="camera_housing", pos=T[:3, 3] - 0.02 * T[:3, 2], quat=quat)
    body.add_geom(type=mujoco.mjtGeom.mjGEOM_BOX, size=[0.045, 0.0125, 0.0125], rgba=[0.82, 0.83, 0.85, 1.0], **seen)
    foot, top = [config.x_m + 0.02, config.y_m, floor_z_m], [config.x_m + 0.02, config.y_m, config.z_m - 0.02]
    spec.worldbody.add_geom(
        type=mujoco.mjtGeom.mjGEOM_CAPSULE,
        fromto=[*foot, *top],
        size=[0.011, 0, 0],
        rgba=[0.15, 0.15, 0.16, 1.0],
        **seen,
    )
