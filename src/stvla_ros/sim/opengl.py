"""An OpenGL context without a display: EGL where a driver answers, else OSMesa.

PyOpenGL binds to one of the two at its first import and cannot change afterwards, so EGL is tried here with
ctypes before anything imports it.
"""

from __future__ import annotations

import ctypes
import os
from functools import cache
from typing import Any, Protocol

from stvla_ros.config import ConfigError, closest

BACKENDS = ("egl", "osmesa")
_PLATFORM_DEVICE = 0x313F  # EGL_PLATFORM_DEVICE_EXT
_INSTALL = "apt-get install --no-install-recommends libegl1 libgl1-mesa-dri libopengl0 (or libosmesa6)"


class GlContext(Protocol):
    """What MuJoCo's context classes offer."""

    def make_current(self) -> None: ...

    def free(self) -> None: ...


@cache
def choose_backend() -> str:
    """``egl`` or ``osmesa``: ``$MUJOCO_GL`` if set, else the first that works here.

    Raises:
        ConfigError: ``$MUJOCO_GL`` names something else, or neither is installed.
    """
    asked = os.environ.get("MUJOCO_GL", "").lower()
    if asked:
        if asked not in BACKENDS:
            raise ConfigError(
                f"MUJOCO_GL: wanted one of {', '.join(BACKENDS)}, got '{asked}'.{closest(asked, BACKENDS)}"
            )
        return asked
    if egl_works():
        return "egl"
    if osmesa_works():
        return "osmesa"
    raise ConfigError(f"Rendering needs OpenGL without a display, and neither EGL nor OSMesa works: {_INSTALL}.")


def egl_works() -> bool:
    """True when an EGL device can be initialised and the OpenGL library that goes with it is there."""
    try:
        egl = ctypes.CDLL("libEGL.so.1")
        ctypes.CDLL("libOpenGL.so.0")
    except OSError:
        return False
    query = _extension(egl, "eglQueryDevicesEXT", ctypes.c_uint, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)
    display = _extension(
        egl, "eglGetPlatformDisplayEXT", ctypes.c_void_p, ctypes.c_uint, ctypes.c_void_p, ctypes.c_void_p
    )
    if query is None or display is None:
        return False
    devices, count = (ctypes.c_void_p * 16)(), ctypes.c_int(0)
    if not query(16, devices, ctypes.byref(count)):
        return False
    egl.eglInitialize.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p]
    displays = [display(_PLATFORM_DEVICE, devices[i], None) for i in range(count.value)]
    return any(d is not None and egl.eglInitialize(d, None, None) for d in displays)


def osmesa_works() -> bool:
    """True when the library is there."""
    return any(_loads(f"libOSMesa.so{version}") for version in (".8", ".6", ""))


def _loads(library: str) -> bool:
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True


def _extension(egl: ctypes.CDLL, name: str, result: Any, *arguments: Any) -> Any:
    """An extension function of EGL; None if the driver lacks it."""
    egl.eglGetProcAddress.restype = ctypes.c_void_p
    address = egl.eglGetProcAddress(name.encode())
    return ctypes.CFUNCTYPE(result, *arguments)(address) if address else None


def make_context(width_px: int, height_px: int) -> GlContext:
    """A new context; it belongs to the thread that makes it current.

    Raises:
        ConfigError: No backend works.
    """
    backend = choose_backend()
    os.environ["MUJOCO_GL"] = backend  # MuJoCo's C part looks here for its OpenGL functions
    try:
        if backend == "egl":
            from mujoco.egl import GLContext
        else:
            from mujoco.osmesa import GLContext
        context: GlContext = GLContext(width_px, height_px)
    except (ImportError, AttributeError, RuntimeError, OSError) as error:
        raise ConfigError(f"Rendering with MUJOCO_GL={backend} failed ({error}): {_INSTALL}.") from error
    return context
