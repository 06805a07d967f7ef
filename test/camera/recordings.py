"""Cameras that play recordings, and what they show."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import stalls
from ray_caster import Scene, block, look_at

from benchmarks.camera.recorder import BASELINE_M, RATE_HZ, H, Rig, W
from stvla_ros.camera.realsense import RealSenseCamera
from stvla_ros.camera.settings import RealSenseConfig
from stvla_ros.types import Camera, RgbdFrame


def scene(rig: Rig) -> tuple[RgbdFrame, np.ndarray]:
    """Blocks on a table: the frame that a pinhole at the colour lens sees, and depth [units] as the depth lens sees it."""
    lens = rig.intrinsics(distorted=False)
    K = np.array([[lens.fx, 0, lens.ppx], [0, lens.fy, lens.ppy], [0, 0, 1]])
    T = look_at((1.2, 0.0, 0.7), (0.45, 0.0, 0.05))
    world = Scene([block("red", 0.5, 0.1, 0.4), block("green", 0.4, -0.15, size=0.08, z=0.04)])
    frame, _ = world.render(Camera(K, rig.width, rig.height, T))
    T_depth = T.copy()
    T_depth[:3, 3] -= BASELINE_M * T[:3, 0]
    seen, _ = world.render(Camera(K, rig.width, rig.height, T_depth))
    return frame, np.rint(seen.depth_m / rig.units_m).astype(np.uint16)


class Watched:
    """A camera, and what it gave and said."""

    def __init__(self, config: RealSenseConfig, **more: Any) -> None:
        self.frames: list[RgbdFrame] = []
        self.times: list[float] = []
        self.said: list[str] = []
        self.plugged: dict[Path, Any] = {}
        self.camera = RealSenseCamera(config, on_frame=self._on_frame, say=self.said.append, **more)

    def _on_frame(self, frame: RgbdFrame) -> None:
        self.frames.append(frame)
        self.times.append(time.monotonic())

    def plug(self, path: Path) -> Any:
        """Plug in the camera of a recording: librealsense lists its device, by its serial number, and says so."""
        self.plugged[path] = self.camera.context.load_device(str(path))  # listed for as long as somebody holds it
        return self.plugged[path]

    def unplug(self, path: Path) -> None:
        """librealsense forgets the device and reports that it was removed."""
        self.camera.context.unload_device(str(path))
        del self.plugged[path]

    def until(self, what: Any, timeout_s: float = 10.0) -> None:
        """Wait for a condition."""
        end = stalls.clock() + timeout_s
        while not what():
            assert stalls.clock() < end, (self.said, self.camera.trouble, self.camera.diagnostics())
            time.sleep(0.005)

    def levels(self) -> list[int]:
        """The numbers that the grey images say."""
        return [int(frame.rgb[0, 0, 0]) for frame in self.frames]


@contextmanager
def watching(config: RealSenseConfig, **more: Any) -> Iterator[Watched]:
    watched = Watched(config, **more)
    try:
        yield watched
    finally:
        assert watched.camera.close(10.0), "the reading thread does not end"


def settings(**changes: Any) -> RealSenseConfig:
    """For a camera of :class:`Rig` that is plugged in, without filters."""
    plain = replace(RealSenseConfig().filters, spatial=False)
    usual = {"size": f"{W}x{H}", "rate_hz": RATE_HZ, "filters": plain, "retry_s": 0.1, "timeout_s": 0.0}
    return RealSenseConfig(**{**usual, **changes})
