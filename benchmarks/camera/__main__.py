"""The RealSense camera on recordings of librealsense's recorder: how fast it recovers, and what the node costs.

Faults: a camera plays a recording that is plugged into librealsense's context; it is unplugged, falls silent, and so on,
several times at random moments. *Noticed* is the time from the fault to the sentence, *recovered* from the end of its
cause (or from the fault, where the camera helps itself) to the next frame, both by the wall clock.

Node: the camera node plays a noisy recording at its pace into a receiver in another process. *Latency* is the time from
librealsense's frameset to the complete frame at the receiver: filters, alignment, messages, transport, pairing. The node's
CPU time includes librealsense's player, which reads the recording; its share is measured alone, too. *Dropped* are frames
lost, without depth, or with a wrong stamp, by the node's own counts. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyrealsense2 as rs
from rich.console import Console
from rich.table import Table

from benchmarks.camera.recorder import RATE_HZ, SERIAL, H, Rig, W, record, shots
from stvla_ros.camera.realsense import RealSenseCamera
from stvla_ros.camera.settings import RealSenseConfig
from stvla_ros.errors import StageError
from stvla_ros.ros.middleware import private_domain
from stvla_ros.types import RgbdFrame

PATIENCE_S = 20.0
NODE = "stvla_ros.nodes.camera"


class Rehearsal:
    """A camera, its recording plugged in, and when its frames came."""

    def __init__(self, path: Path, **settings: Any) -> None:
        usual = {"serial": SERIAL, "size": f"{W}x{H}", "rate_hz": RATE_HZ, "timeout_s": 0.0, "max_age_s": 0.3}
        self.times: list[float] = []
        self.said: list[tuple[float, str]] = []
        self.path = path
        self.camera = RealSenseCamera(
            RealSenseConfig(**{**usual, **settings}),
            on_frame=self._on_frame,
            say=lambda sentence: self.said.append((time.monotonic(), sentence)),
        )
        self.plug()
        self.wait(lambda: len(self.times) > 5)

    def _on_frame(self, frame: RgbdFrame) -> None:
        self.times.append(time.monotonic())

    def plug(self) -> None:
        self.device = self.camera.context.load_device(str(self.path))

    def unplug(self) -> None:
        self.camera.context.unload_device(str(self.path))
        self.device = None

    def wait(self, what: Callable[[], Any]) -> None:
        """Raises TimeoutError."""
        until = time.monotonic() + PATIENCE_S
        while not what():
            if time.monotonic() > until:
                raise TimeoutError(f"{self.camera.trouble} {self.camera.diagnostics()}")
            time.sleep(0.002)

    def heard(self, words: str, since: float) -> float:
        """When a sentence with these words came."""
        self.wait(lambda: any(at > since and words in sentence for at, sentence in self.said))
        return next(at for at, sentence in self.said if at > since and words in sentence)

    def next_frame(self, since: float) -> float:
        """When the first frame after some time came."""
        self.wait(lambda: self.times[-1] > since)
        return next(at for at in self.times if at > since)

    def code(self) -> str:
        """What whoever asks for a frame gets, once the last one is stale."""
        self.wait(lambda: self.camera.trouble)
        try:
            self.camera.capture()
        except StageError as error:
            return error.code.name
        return "OK"


@dataclass(frozen=True)
class Times:
    """One trial of one fault [s]."""

    code: str
    noticed_s: float
    recovered_s: float


def unplugged(it: Rehearsal) -> Times:
    """Unplugged, and after a while plugged in again."""
    start = time.monotonic()
    it.unplug()
    noticed_s = it.heard("was unplugged", start) - start
    code = it.code()
    back = time.monotonic()
    it.plug()
    return Times(code, noticed_s, it.next_frame(back) - back)


def silent(it: Rehearsal) -> Times:
    """The streams stop without a word; the camera is started again."""
    start = time.monotonic()
    it.device.pause()
    said = it.heard("has sent no images", start)
    return Times(it.code(), said - start, it.next_frame(said) - start)


FAULTS: dict[str, tuple[Callable[[Rehearsal], Times], dict[str, Any]]] = {
    "unplugged and plugged in": (unplugged, {}),
    "silent, silent_s 1": (silent, {}),
    "silent, silent_s 0.3": (silent, {"silent_s": 0.3}),
}


def measure_faults(folder: Path, trials: int) -> dict[str, dict[str, Any]]:
    """All figures of :data:`FAULTS`."""
    path, found, rng = record(folder / "faults.db3", shots(120)), {}, np.random.default_rng(0)
    for name, (fault, settings) in FAULTS.items():
        done = []
        for _ in range(trials):
            it = Rehearsal(path, **settings)
            time.sleep(float(rng.uniform(0.0, 0.3)))
            done.append(fault(it))
            it.camera.close()
        recovered = [times.recovered_s for times in done]
        found[name] = {
            "trials": trials,
            "codes": sorted({times.code for times in done}),
            "noticed p50 [s]": _round(np.median([times.noticed_s for times in done])),
            "recovered p50 [s]": _round(np.median(recovered)),
            "recovered longest [s]": _round(max(recovered)),
        }
    return found


def noisy(width: int, height: int, rate_hz: int, seconds: float, folder: Path) -> Path:
    """A recording of images that compress badly, as a camera's do."""
    rng, rig = np.random.default_rng(0), replace(Rig(), width=width, height=height, rate_hz=rate_hz)
    y, x = np.mgrid[0:height, 0:width]
    smooth = (127 + 100 * np.sin(x / 40) * np.sin(y / 40))[..., None]
    rgb = [(smooth + rng.normal(0, 4, (height, width, 3))).clip(0, 255).astype(np.uint8) for _ in range(8)]
    depth = [(900 + x / 4 + rng.normal(0, 3, (height, width))).astype(np.uint16) for _ in range(8)]
    sent = shots(round(seconds * rate_hz), rgb[0], depth[0], rate_hz)
    sent = [replace(shot, rgb=rgb[k % 8], depth=depth[k % 8]) for k, shot in enumerate(sent)]
    return record(folder / f"{width}x{height}.db3", sent, rig)


def measure_node(path: Path, seconds: float, spatial: bool) -> dict[str, Any]:
    """Rate, latency and CPU share of the node that plays a recording."""
    import rclpy
    from diagnostic_msgs.msg import DiagnosticArray
    from rclpy.executors import SingleThreadedExecutor
    from rclpy.node import Node

    from stvla_ros.ros.frames import CameraConfig, RgbdReceiver

    with private_domain():
        settings = {"source": "realsense", "realsense.file": path, "realsense.filters.spatial": str(spatial).lower()}
        words = [word for name, value in settings.items() for word in ("-p", f"{name}:={value}")]
        words += ["-p", "place.translation_m:=[1.0, 0.0, 0.5]", "-p", "place.quaternion_xyzw:=[0.0, 0.0, 0.0, 1.0]"]
        rclpy.init()
        node, executor = Node("benchmark"), SingleThreadedExecutor()
        executor.add_node(node)
        process = subprocess.Popen([sys.executable, "-m", NODE, "--ros-args", *words])
        late_s: list[float] = []
        sent: list[tuple[float, int, int, float]] = []
        receiver = RgbdReceiver(node, CameraConfig(), lambda ns: late_s.append((time.time_ns() - ns) / 1e9))

        def on_diagnostics(message: DiagnosticArray) -> None:
            values = {v.key: v.value for v in message.status[0].values}
            dropped = sum(map(int, re.findall(r"\d+", values["dropped"])))
            sent.append((time.monotonic(), int(values["images"]), dropped, _cpu_s(process.pid)))

        node.create_subscription(DiagnosticArray, "/diagnostics", on_diagnostics, 10)
        try:
            _spin(executor, lambda: receiver.stamp_ns and len(sent) > 3)
            del late_s[:], sent[:-1]
            _spin(executor, lambda: sent[-1][0] - sent[0][0] > seconds)
        finally:
            process.terminate()
            process.wait(10.0)
            executor.shutdown()
            rclpy.shutdown()
    (start, before, dropped_before, cpu_before), (end, after, dropped_after, cpu_after) = sent[0], sent[-1]
    ms = 1e3 * np.array(late_s)
    return {
        "sent [Hz]": _round((after - before) / (end - start), 1),
        "dropped": dropped_after - dropped_before,
        "received [Hz]": _round(len(ms) / (end - start), 1),
        "p50 [ms]": _round(np.median(ms), 1),
        "p95 [ms]": _round(np.quantile(ms, 0.95), 1),
        "CPU/image [ms]": _round(1e3 * (cpu_after - cpu_before) / (after - before), 1),
        "CPU [% of a core]": _round(100 * (cpu_after - cpu_before) / (end - start), 1),
    }


def player_share(path: Path, seconds: float) -> float:
    """CPU share of librealsense alone, which reads the recording and delivers its images [% of one core]."""
    request, pipeline = rs.config(), rs.pipeline()
    request.enable_device_from_file(str(path), repeat_playback=True)
    pipeline.start(request)
    try:
        start, used = time.monotonic(), time.process_time()
        while time.monotonic() < start + seconds:
            pipeline.wait_for_frames()
        return _round(100 * (time.process_time() - used) / (time.monotonic() - start), 1)
    finally:
        pipeline.stop()


def _spin(executor: Any, until: Callable[[], bool]) -> None:
    """Spin until a condition holds. Raises TimeoutError."""
    end = time.monotonic() + 60.0
    while not until():
        if time.monotonic() > end:
            raise TimeoutError("The node has sent no images for 60 s: is this machine too busy?")
        executor.spin_once(timeout_sec=0.05)


def _cpu_s(pid: int) -> float:
    """User and system time of a process so far [s]."""
    words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")


def _round(value: Any, digits: int = 2) -> float:
    return round(float(value), digits)


def show(title: str, rows: dict[str, dict[str, Any]]) -> None:
    """Print a table with one line per row."""
    table = Table(title=title)
    names = list(next(iter(rows.values())))
    for name in ("", *names):
        table.add_column(name)
    for row, values in rows.items():
        table.add_row(row, *(", ".join(v) if isinstance(v, list) else str(v) for v in values.values()))
    Console().print(table)


def main() -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.camera", description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=10, help="of each fault; 0: none")
    parser.add_argument("--sizes", nargs="*", default=["640x480", "1280x720"], help="of the images")
    parser.add_argument("--seconds", type=float, default=10.0, help="of each run of the node; 0: none")
    arguments = parser.parse_args()
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        if arguments.trials:
            results["faults"] = measure_faults(folder, arguments.trials)
            show("faults", results["faults"])
        if arguments.seconds:
            results["node"], results["player"] = {}, {}
            for width, height in (map(int, size.split("x")) for size in arguments.sizes):
                path = noisy(width, height, 30, 5.0, folder)
                for spatial in (True, False):
                    name = f"{width}x{height}, {'defaults' if spatial else 'no spatial filter'}"
                    results["node"][name] = measure_node(path, arguments.seconds, spatial)
                results["player"][f"{width}x{height}"] = player_share(path, arguments.seconds)
            show("node, 30 Hz", results["node"])
            print(f"of which librealsense's player, which a camera has not [% of one core]: {results['player']}")
    print(json.dumps(results))
    return 0


if __name__ == "__main__":
    sys.exit(main())
