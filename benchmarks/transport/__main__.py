"""Camera to guidance between two processes: rgb8 + 16UC1 + CameraInfo, our DDS profile and the defaults.

The clock starts when the camera hands over the frame (arrays) and stops when the receiver holds all three messages of
it, so conversion, serialisation, transport and pairing are all inside. A memcpy of the same bytes is the yardstick.
A second table has the bytes of each message that carries an image. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
from rclpy.serialization import serialize_message
from rich.console import Console
from rich.table import Table

from benchmarks.transport.ends import scene
from stvla_ros.description.robot import RobotConfig
from stvla_ros.ros import convert
from stvla_ros.types import Guidance, RgbdFrame, Trace3d

PIXEL_BYTES = 3 + 2
"""rgb8 and 16UC1."""

SETTINGS: dict[str, dict[str, str | None]] = {
    "ours": {},
    "ours, asynchronous": {"RMW_FASTRTPS_PUBLICATION_MODE": "ASYNCHRONOUS"},
    "defaults": {"FASTRTPS_DEFAULT_PROFILES_FILE": None, "RMW_FASTRTPS_PUBLICATION_MODE": None},
}
"""Changes to the environment of both processes; None removes a variable."""


def memcpy_ms(size: int, repetitions: int = 300) -> np.ndarray:
    """(repetitions,) milliseconds for one copy of ``size`` bytes, from memory that no cache holds."""
    sources, target = np.ones((64, size), np.uint8), np.empty(size, np.uint8)
    took = []
    for index in range(repetitions):
        start = time.perf_counter()
        np.copyto(target, sources[index % len(sources)])
        took.append((time.perf_counter() - start) * 1e3)
    return np.array(took)


def message_bytes(width_px: int, height_px: int) -> dict[str, int]:
    """Serialised size of each message that carries an image, by topic."""
    rgb, depth_m, camera = scene(width_px, height_px)
    head = convert.header(1, camera.frame_id)
    trace = Trace3d(np.zeros((100, 3), np.float32), np.zeros(100, np.uint8), "a plan", "pick up the red block")
    guidance = Guidance(trace, 0.05, (1, 2), (3,), RgbdFrame(rgb, depth_m, camera, 1), "full")
    messages = {
        "colour": convert.rgb_to_image(rgb, head),
        "depth, 16UC1": convert.depth_to_image_mm(depth_m, head),
        "depth, 32FC1": convert.depth_to_image(depth_m, head),
        "stvla/guidance": convert.guidance_to_msg(guidance, RobotConfig().base_frame),
        "stvla/overlay": convert.rgb_to_image(rgb, head),
    }
    return {name: len(serialize_message(message)) for name, message in messages.items()}


def measure(
    changes: Mapping[str, str | None], frames: int, rate_hz: float, domain: int, size: tuple[int, int] = (640, 480)
) -> dict[str, Any]:
    """Run both ends with some settings; latencies in milliseconds and counts."""
    env = {**os.environ, "ROS_DOMAIN_ID": str(domain), "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST"}
    for name, value in changes.items():
        env.pop(name, None)
        if value is not None:
            env[name] = value
    command = [sys.executable, "-m", "benchmarks.transport.ends"]
    with subprocess.Popen([*command, "receive"], env=env, stdout=subprocess.PIPE, text=True) as reader:
        try:
            words = [*command, "publish", str(frames), str(rate_hz), *map(str, size)]
            done = subprocess.run(
                words, env=env, stdout=subprocess.PIPE, text=True, check=True, timeout=60 + frames / rate_hz
            )
            output, _ = reader.communicate(timeout=60)
        finally:
            reader.kill()
    received = json.loads(output)
    return {
        "sent": json.loads(done.stdout)["sent"],
        "received": len(received["latencies_ms"]),
        **percentiles(np.array(received["latencies_ms"])),
    }


def percentiles(values_ms: np.ndarray) -> dict[str, float | None]:
    """p50, p95 and p99 in milliseconds; None without measurements."""
    if not len(values_ms):
        return {"p50_ms": None, "p95_ms": None, "p99_ms": None}
    return {f"p{q}_ms": round(float(np.percentile(values_ms, q)), 3) for q in (50, 95, 99)}


def table(rows: Mapping[str, Mapping[str, Any]], size: tuple[int, int]) -> Table:
    """For people."""
    shown = Table(title=f"Camera frame to guidance process, {size[0]}x{size[1]} RGB-D")
    columns = ("p50_ms", "p95_ms", "p99_ms", "times_memcpy", "received", "sent")
    for heading in ("setting", *columns):
        shown.add_column(heading, justify="left" if heading == "setting" else "right")
    for name, row in rows.items():
        shown.add_row(name, *("-" if row.get(column) is None else str(row[column]) for column in columns))
    return shown


def bytes_table(sizes: Mapping[str, int]) -> Table:
    """For people."""
    shown = Table(title="Messages with images")
    for heading in ("message", "bytes"):
        shown.add_column(heading, justify="left" if heading == "message" else "right")
    for name, size in sizes.items():
        shown.add_row(name, f"{size:,}")
    return shown


def main() -> None:
    """Measure all settings."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.transport", description=__doc__)
    parser.add_argument("--frames", type=int, default=300, help="frames per setting (default 300)")
    parser.add_argument("--rate", type=float, default=15.0, help="frames per second (default 15, the camera's)")
    parser.add_argument("--domain", type=int, default=int(os.environ.get("ROS_DOMAIN_ID", "42")), help="ROS domain")
    parser.add_argument("--size", default="640x480", help="of the images [px] (default 640x480)")
    options = parser.parse_args()
    width_px, height_px = size = tuple(map(int, options.size.split("x")))
    image_bytes = width_px * height_px * PIXEL_BYTES
    rows: dict[str, dict[str, Any]] = {"memcpy": percentiles(memcpy_ms(image_bytes))}
    for name, changes in SETTINGS.items():
        rows[name] = measure(changes, options.frames, options.rate, options.domain, size)
        if rows[name]["p50_ms"] is not None:
            rows[name]["times_memcpy"] = round(rows[name]["p50_ms"] / rows["memcpy"]["p50_ms"], 1)
    messages = message_bytes(width_px, height_px)
    Console(width=120).print(table(rows, size), bytes_table(messages))
    figures = {"rate_hz": options.rate, "size_px": size, "bytes": image_bytes, "messages": messages, "rows": rows}
    print(json.dumps({"benchmark": "transport", **figures}))


if __name__ == "__main__":
    main()
