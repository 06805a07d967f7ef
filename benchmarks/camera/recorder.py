"""Recordings as librealsense's own recorder writes them, of a software device with two sensors."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyrealsense2 as rs

W, H = 424, 240
BASELINE_M = 0.015
"""Distance from the depth sensor's lens to the colour lens, along x."""

SERIAL = "012345678901"
RATE_HZ = 60
START_MS = 5_000.0


@dataclass(frozen=True)
class Rig:
    """What the recorded camera is."""

    serial: str = SERIAL
    width: int = W
    height: int = H
    rate_hz: int = RATE_HZ
    units_m: float = 0.001
    model: str = "brown_conrady"
    coefficients: tuple[float, ...] = (0.0,) * 5
    domain: str = "hardware_clock"
    color: str = "rgb8"

    def intrinsics(self, distorted: bool = True) -> Any:
        out = rs.intrinsics()
        out.width, out.height = self.width, self.height
        out.fx = out.fy = 0.9 * self.width
        out.ppx, out.ppy = (self.width - 1) / 2, (self.height - 1) / 2
        out.model = getattr(rs.distortion, self.model if distorted else "brown_conrady")
        out.coeffs = list(self.coefficients if distorted else (0.0,) * 5)
        return out


@dataclass(frozen=True)
class Shot:
    """One moment: what the two sensors send, and when."""

    rgb: np.ndarray | None
    depth: np.ndarray | None
    stamp_ms: float
    number: int
    depth_late_ms: float = 0.0
    pause_s: float = 1 / RATE_HZ


def shots(n: int, rgb: np.ndarray | None = None, depth: np.ndarray | None = None, rate_hz: int = RATE_HZ) -> list[Shot]:
    """Regular ones. Without images, grey that becomes lighter and a plane that comes nearer: image k says its number."""
    grey = [np.full((H, W, 3), k % 256, np.uint8) if rgb is None else rgb for k in range(n)]
    plane = [np.full((H, W), 1000 - k, np.uint16) if depth is None else depth for k in range(n)]
    pause_s = 1 / rate_hz
    return [Shot(grey[k], plane[k], START_MS + k * pause_s * 1e3, k + 1, pause_s=pause_s) for k in range(n)]


def record(path: Path, sent: Sequence[Shot], rig: Rig = Rig()) -> Path:
    """Let librealsense's recorder write what a device with these sensors sends, at its pace."""
    device = rs.software_device()
    device.register_info(rs.camera_info.name, "Intel RealSense D435")
    device.register_info(rs.camera_info.serial_number, rig.serial)
    device.register_info(rs.camera_info.product_line, "D400")
    kinds = {rs.stream.depth: (rs.format.z16, 2), rs.stream.color: (getattr(rs.format, rig.color), 3)}
    sensors, profiles = {}, {}
    for uid, (kind, (pixels, size)) in enumerate(kinds.items()):
        sensor = device.add_sensor("Stereo Module" if kind == rs.stream.depth else "RGB Camera")
        stream = rs.video_stream()
        stream.type, stream.uid, stream.fmt, stream.bpp, stream.fps = kind, uid, pixels, size, rig.rate_hz
        stream.width, stream.height = rig.width, rig.height
        stream.intrinsics = rig.intrinsics(distorted=kind == rs.stream.color)
        profiles[kind] = sensor.add_video_stream(stream)
        sensors[kind] = sensor
    sensors[rs.stream.depth].add_read_only_option(rs.option.depth_units, rig.units_m)
    sensors[rs.stream.depth].add_read_only_option(rs.option.stereo_baseline, 50.0)  # [mm]; for disparity
    to_color = rs.extrinsics()
    to_color.rotation, to_color.translation = [1, 0, 0, 0, 1, 0, 0, 0, 1], [-BASELINE_M, 0, 0]
    profiles[rs.stream.depth].register_extrinsics_to(profiles[rs.stream.color], to_color)
    device.create_matcher(rs.matchers.default)
    recorder = rs.recorder(str(path), device)
    recorded = recorder.query_sensors()
    for sensor in recorded:
        sensor.open(sensor.get_stream_profiles())
        sensor.start(lambda frame: None)
    due = time.monotonic()
    for shot in sent:
        due = max(due + shot.pause_s, time.monotonic() - 0.05)
        time.sleep(max(0.0, due - time.monotonic()))
        for kind, pixels, late_ms in (
            (rs.stream.depth, shot.depth, shot.depth_late_ms),
            (rs.stream.color, shot.rgb, 0),
        ):
            if pixels is not None:
                frame = rs.software_video_frame()
                frame.pixels, frame.bpp, frame.stride = pixels, kinds[kind][1], rig.width * kinds[kind][1]
                frame.timestamp, frame.domain = shot.stamp_ms + late_ms, getattr(rs.timestamp_domain, rig.domain)
                frame.frame_number, frame.profile = shot.number, profiles[kind].as_video_stream_profile()
                if kind == rs.stream.depth:
                    frame.depth_units = rig.units_m
                sensors[kind].on_video_frame(frame)
    time.sleep(0.1)  # the recorder writes in a thread of its own
    for sensor in recorded:
        sensor.stop()
        sensor.close()
    del recorder
    return path
