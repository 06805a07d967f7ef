"""Images from a MuJoCo model: colour and depth in one pass, and instance masks.

An OpenGL context belongs to the thread that makes it current, so a :class:`Renderer` has its own thread and may
be called from any other.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import cv2
import mujoco
import numpy as np

from stvla_ros.sim.opengl import GlContext, make_context
from stvla_ros.sim.stereo import Optics
from stvla_ros.types import F32, I32, U8

T = TypeVar("T")
_MAX_GEOMS = 400
OVERSAMPLE = 2


def set_quality(spec: mujoco.MjSpec, width_px: int, height_px: int) -> None:
    """Prepare a model for images of up to this size.

    No multisampling: it would put depths of points off the pixel's centre into the depth buffer
    (half a millimetre on the table).
    """
    screen = getattr(spec.visual, "global")
    screen.offwidth, screen.offheight = width_px, height_px
    spec.visual.quality.offsamples = 0
    spec.visual.quality.shadowsize = 1024


class Renderer:
    """Draws the state of any model; a new model rebuilds the context (about 20 ms)."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="render")
        self._gl: GlContext | None = None
        self._context: mujoco.MjrContext | None = None
        self._scene: mujoco.MjvScene | None = None
        self._model: mujoco.MjModel | None = None

    def rgbd(
        self, data: mujoco.MjData, camera: str, width_px: int, height_px: int, shadows: bool = False
    ) -> tuple[U8, F32]:
        """(H, W, 3) colour and (H, W) depth [m] along the optical axis; infinite where nothing is.

        Raises:
            ConfigError: No OpenGL on this machine.
        """
        return self._call(lambda: self._rgbd(data, camera, width_px, height_px, shadows))

    def rgb(self, data: mujoco.MjData, camera: str, width_px: int, height_px: int) -> U8:
        """(H, W, 3) colour, with shadows and smooth edges: drawn at :data:`OVERSAMPLE` times the size and averaged."""
        return self._call(lambda: self._rgb(data, camera, width_px, height_px))

    def body_ids(self, data: mujoco.MjData, camera: str, width_px: int, height_px: int) -> I32:
        """(H, W) id of the model's body at each pixel, a skin's being its first bone; -1 where nothing is."""
        seen, model = self._call(lambda: self._seen_ids(data, camera, width_px, height_px)), data.model
        return np.concatenate([model.geom_bodyid, model.skin_bonebodyid[model.skin_boneadr], [-1]]).astype(np.int32)[
            seen
        ]

    def optics(self, data: mujoco.MjData, camera: str, width_px: int, height_px: int) -> Optics:
        """(H, W) gloss and opacity of the surface at each pixel, as the model's materials have them."""
        seen, model = self._call(lambda: self._seen_ids(data, camera, width_px, height_px)), data.model
        material, rgba = np.append(model.geom_matid, model.skin_matid), np.vstack([model.geom_rgba, model.skin_rgba])
        plain = material < 0
        opacity = np.where(plain, rgba[:, 3], model.mat_rgba[material, 3])
        gloss = np.where(plain, 0.0, model.mat_specular[material])
        # the last entry is for -1, where nothing is
        return Optics(
            *(np.append(values, last).astype(np.float32)[seen] for values, last in ((gloss, 0), (opacity, 1)))
        )

    def close(self) -> None:
        """Give the context back. Safe to call twice."""
        try:
            self._call(self._free)
        except RuntimeError:  # closed before
            return
        self._thread.shutdown()

    def _call(self, work: Callable[[], T]) -> T:
        return self._thread.submit(work).result()

    def _forget(self) -> None:
        if self._context is not None:
            self._context.free()
        self._context = self._scene = self._model = None

    def _free(self) -> None:
        self._forget()
        if self._gl is not None:
            self._gl.free()
        self._gl = None

    def _ready(self, model: mujoco.MjModel) -> tuple[mujoco.MjvScene, mujoco.MjrContext]:
        if self._context is None or self._scene is None or self._model is not model:
            self._forget()
            screen = model.vis.global_
            if self._gl is None:
                self._gl = make_context(screen.offwidth, screen.offheight)
                self._gl.make_current()
            self._context = mujoco.MjrContext(model, mujoco.mjtFontScale.mjFONTSCALE_100.value)
            mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN.value, self._context)
            self._context.readDepthMap = mujoco.mjtDepthMap.mjDEPTH_ZEROFAR
            self._scene, self._model = mujoco.MjvScene(model, _MAX_GEOMS), model
        return self._scene, self._context

    def _draw(
        self, data: mujoco.MjData, camera: str, rect: mujoco.MjrRect, segment: bool = False, shadows: bool = False
    ) -> mujoco.MjrContext:
        model = data.model
        scene, context = self._ready(model)
        view = mujoco.MjvCamera()
        view.type = mujoco.mjtCamera.mjCAMERA_FIXED
        view.fixedcamid = model.camera(camera).id
        everything = mujoco.mjtCatBit.mjCAT_ALL.value
        mujoco.mjv_updateScene(model, data, mujoco.MjvOption(), None, view, everything, scene)
        scene.flags[mujoco.mjtRndFlag.mjRND_SEGMENT] = segment
        scene.flags[mujoco.mjtRndFlag.mjRND_IDCOLOR] = segment
        scene.flags[mujoco.mjtRndFlag.mjRND_SHADOW] = shadows
        scene.flags[mujoco.mjtRndFlag.mjRND_REFLECTION] = not segment and bool(model.mat_reflectance.any())
        mujoco.mjr_render(rect, scene, context)
        return context

    def _rgbd(self, data: mujoco.MjData, camera: str, width_px: int, height_px: int, shadows: bool) -> tuple[U8, F32]:
        rect = mujoco.MjrRect(0, 0, width_px, height_px)
        context = self._draw(data, camera, rect, shadows=shadows)
        rgb, buffer = np.empty((height_px, width_px, 3), np.uint8), np.empty((height_px, width_px), np.float32)
        mujoco.mjr_readPixels(rgb, buffer, rect, context)
        return np.ascontiguousarray(rgb[::-1]), _metres(data.model, buffer[::-1])

    def _rgb(self, data: mujoco.MjData, camera: str, width_px: int, height_px: int) -> U8:
        w, h = OVERSAMPLE * width_px, OVERSAMPLE * height_px
        rect = mujoco.MjrRect(0, 0, w, h)
        context = self._draw(data, camera, rect, shadows=True)
        rgb = np.empty((h, w, 3), np.uint8)
        mujoco.mjr_readPixels(rgb, None, rect, context)
        return cv2.resize(rgb[::-1], (width_px, height_px), interpolation=cv2.INTER_AREA).astype(np.uint8, copy=False)

    def _seen_ids(self, data: mujoco.MjData, camera: str, width_px: int, height_px: int) -> I32:
        """(H, W) number of the geom at each pixel, or after all geoms that of the skin; -1: nothing."""
        rect = mujoco.MjrRect(0, 0, width_px, height_px)
        context = self._draw(data, camera, rect, segment=True)
        rgb = np.empty((height_px, width_px, 3), np.uint8)
        mujoco.mjr_readPixels(rgb, None, rect, context)
        code = rgb[::-1].astype(np.int32) @ np.array([1, 256, 65536], np.int32)  # 0 is the background
        assert self._scene is not None
        ids = np.full(self._scene.ngeom + 1, -1, np.int32)
        first = {int(mujoco.mjtObj.mjOBJ_GEOM): 0, int(mujoco.mjtObj.mjOBJ_SKIN): data.model.ngeom}
        for drawn in self._scene.geoms[: self._scene.ngeom]:
            if drawn.objtype in first and drawn.segid >= 0:
                ids[drawn.segid + 1] = first[drawn.objtype] + drawn.objid
        return ids[code]


def _metres(model: mujoco.MjModel, buffer: F32) -> F32:
    """Depth from the reversed z-buffer: 1 at the near plane, 0 at the far plane, where nothing is."""
    near, far = (plane * model.stat.extent for plane in (model.vis.map.znear, model.vis.map.zfar))
    depth = (near * far) / (near + buffer * np.float32(far - near))
    return np.where(buffer > 0.0, depth, np.inf).astype(np.float32)
