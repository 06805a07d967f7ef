"""Renders many scenes of the simulated cell with one compiled model in which objects are only moved."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import mujoco
import numpy as np

from stvla_ros.description.panda import ARM_JOINTS, BASE_LINK, FINGER_JOINTS
from stvla_ros.planning.heatmap.words import PALETTE
from stvla_ros.sim.camera import TRIPOD, ThirdViewConfig, TripodCameraConfig, look_at, make_camera
from stvla_ros.sim.rendering import Renderer
from stvla_ros.sim.scene import build_model
from stvla_ros.train.scenes.objects import PlacedObject, all_objects, body_names
from stvla_ros.types import F32, F64, I32, U8, Camera

IMAGE_PX = 256
"""Width and height that the small planners see. Images of other shapes are stretched, as coordinates of 0..1000 are."""

LARGEST_PX = (640, 480)
CLOTHS = 6
_FLIP = np.diag([1.0, -1.0, -1.0])
_AWAY_M = (0.0, 0.0, -50.0)
_UPRIGHT = np.array([1.0, 0.0, 0.0, 0.0])


@dataclass(frozen=True, eq=False)
class Appearance:
    """Everything else that changes how a scene looks.

    Attributes:
        camera: Pose, and the size to render before the image is resized to :data:`IMAGE_PX`.
        light_dir: (3,) direction of the ceiling light.
        light: Strength of the ceiling light, of the ambient light, and of the light at the camera.
        tint: (3,) factors for the table's colour.
        cloth: Index of the table's texture, below :data:`CLOTHS`; 0 is the cell's own.
        q_rad: (7,) joint positions of the arm.
        gripper_m: Distance between the fingers.
    """

    camera: TripodCameraConfig
    light_dir: F64
    light: tuple[float, float, float]
    tint: F64
    cloth: int
    q_rad: F64
    gripper_m: float


@dataclass(frozen=True, eq=False)
class RenderedScene:
    """One rendered scene at :data:`IMAGE_PX`.

    Attributes:
        rgb: (256, 256, 3).
        depth_m: (256, 256), NaN beyond the sensor's range.
        labels: (256, 256) -1: robot, 0: surroundings, i: the i-th object, from 1.
        camera: Of this image, after resizing.
    """

    rgb: U8
    depth_m: F32
    labels: I32
    camera: Camera


class _Cloths:
    """Further textures for the table; a scene object, so that they can be added to the model."""

    name, xy_m, clearance_m = "cloths", (0.0, 0.0), 0.0

    def add(self, spec: mujoco.MjSpec) -> None:
        rng = np.random.default_rng(11)
        for i in range(1, CLOTHS):
            coarse = rng.uniform(0.55, 1.0, (2 ** (i + 1), 2 ** (i + 1), 1)) * rng.uniform(0.6, 1.0, 3)
            mode = cv2.INTER_NEAREST if i % 2 else cv2.INTER_CUBIC
            image = cv2.resize(coarse.astype(np.float32), (256, 256), interpolation=mode)
            texture = spec.add_texture(name=f"cloth_{i}", type=mujoco.mjtTexture.mjTEXTURE_2D)
            texture.height = texture.width = 256
            texture.nchannel = 3
            texture.data = (255 * np.clip(image, 0, 1)).astype(np.uint8).tobytes()


class SceneRenderer:
    """Renders with one model that contains all objects of any scene."""

    def __init__(self) -> None:
        objects = all_objects()
        largest = TripodCameraConfig(width_px=LARGEST_PX[0], height_px=LARGEST_PX[1])
        self._model = build_model([*objects, _Cloths()], 0.002, largest, ThirdViewConfig(width_px=64, height_px=48))
        self._data = mujoco.MjData(self._model)
        self._renderer = Renderer()
        m = self._model
        self._arm = np.array([m.joint(n).qposadr[0] for n in ARM_JOINTS])
        self._fingers = np.array([m.joint(n).qposadr[0] for n in FINGER_JOINTS])
        beech = m.material("beech")
        self._cloths = [int(beech.texid[mujoco.mjtTextureRole.mjTEXROLE_RGB]), *self._cloth_ids()]
        self._paint = {c: m.material(f"paint_{c}").id for c in PALETTE}
        for o in objects:
            self._move(o.name, _AWAY_M, _UPRIGHT)

    def _cloth_ids(self) -> list[int]:
        return [self._model.texture(f"cloth_{i}").id for i in range(1, CLOTHS)]

    def render(self, objects: Sequence[PlacedObject], appearance: Appearance) -> RenderedScene:
        """Render one scene.

        Raises:
            ConfigError: There is no OpenGL on this machine.
        """
        names = body_names(objects)
        for o, name in zip(objects, names, strict=True):
            self._move(name, o.origin_m, o.quat)
            self._repaint(name, o)
        self._dress(appearance)
        mujoco.mj_kinematics(self._model, self._data)
        mujoco.mj_camlight(self._model, self._data)
        size = appearance.camera.width_px, appearance.camera.height_px
        rgb, depth = self._renderer.rgbd(self._data, TRIPOD, *size, appearance.camera.shadows)
        bodies = self._renderer.body_ids(self._data, TRIPOD, IMAGE_PX, IMAGE_PX) if size[0] == size[1] else None
        if bodies is None:
            bodies = _squared(self._renderer.body_ids(self._data, TRIPOD, *size))
        for name in names:
            self._move(name, _AWAY_M, _UPRIGHT)
        area = cv2.INTER_AREA if min(size) > IMAGE_PX else cv2.INTER_LINEAR
        small = rgb if size == (IMAGE_PX, IMAGE_PX) else cv2.resize(rgb, (IMAGE_PX, IMAGE_PX), interpolation=area)
        depth = np.where(depth <= 4.0, depth, np.float32(np.nan))
        return RenderedScene(
            np.asarray(small, np.uint8),
            _squared(depth),
            self._labels(bodies, names),
            squared(make_camera(appearance.camera)),
        )

    def close(self) -> None:
        """Free the renderer."""
        self._renderer.close()

    def _move(self, name: str, xyz_m: Sequence[float], quat: F64) -> None:
        body = self._model.body(name)
        if body.jntnum[0]:
            address = self._model.jnt_qposadr[body.jntadr[0]]
            self._data.qpos[address : address + 7] = [*xyz_m, *quat]
        else:
            body.pos[:], body.quat[:] = xyz_m, quat

    def _repaint(self, name: str, o: PlacedObject) -> None:
        if o.kind not in ("jar", "holder"):
            return
        m, body = self._model, self._model.body(name).id
        painted = (m.geom_bodyid == body) & np.isin(m.geom_matid, [*self._paint.values()])
        m.geom_matid[painted] = self._paint[o.colour]

    def _dress(self, appearance: Appearance) -> None:
        m, T = self._model, look_at(appearance.camera)
        camera, light = m.camera(TRIPOD), m.light("ceiling")
        camera.pos[:], camera.fovy[:] = T[:3, 3], appearance.camera.fov_y_deg
        quat = np.zeros(4)
        mujoco.mju_mat2Quat(quat, (T[:3, :3] @ _FLIP).ravel())
        camera.quat[:] = quat
        light.dir[:] = appearance.light_dir / np.linalg.norm(appearance.light_dir)
        light.diffuse[:] = appearance.light[0]
        m.vis.headlight.ambient[:], m.vis.headlight.diffuse[:] = appearance.light[1], appearance.light[2]
        beech = m.material("beech")
        beech.rgba[:3] = appearance.tint
        beech.texid[mujoco.mjtTextureRole.mjTEXROLE_RGB] = self._cloths[appearance.cloth]
        self._data.qpos[self._arm], self._data.qpos[self._fingers] = appearance.q_rad, appearance.gripper_m / 2

    def _labels(self, bodies: I32, objects: Sequence[str]) -> I32:
        m = self._model
        label = np.zeros(m.nbody + 1, np.int32)  # the last one is for -1: no body
        for name, value in {BASE_LINK: -1, **{name: i for i, name in enumerate(objects, 1)}}.items():
            label[:-1][m.body_rootid == m.body(name).id] = value
        return label[bodies]


def squared(camera: Camera) -> Camera:
    """Camera of an image that was stretched to :data:`IMAGE_PX` squared."""
    K = camera.K.copy()
    for row, size in enumerate((camera.width_px, camera.height_px)):
        scale = IMAGE_PX / size
        K[row, row] *= scale
        K[row, 2] = (K[row, 2] + 0.5) * scale - 0.5
    return Camera(K, IMAGE_PX, IMAGE_PX, camera.T_base_camera)


def _squared(image: np.ndarray) -> np.ndarray:
    if image.shape == (IMAGE_PX, IMAGE_PX):
        return image
    return cv2.resize(image, (IMAGE_PX, IMAGE_PX), interpolation=cv2.INTER_NEAREST)
