"""The simulated camera: a separate process next to the simulated robot's, like a camera driver in a real cell.

So rendering, conversion and sending of 1.5 MB per frame cannot delay physics and controllers. This file has both
ends. The camera requests the current state of the scene over a pipe, at its own rate, and reports each image sent;
the robot answers from a dedicated thread. When either process dies, the other one sees the end of the pipe: the
camera then ends, and the robot starts a new camera.
"""

from __future__ import annotations

import os
import queue
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from threading import Event, Lock, Thread
from typing import Any

import rclpy
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions
from sensor_msgs.msg import CameraInfo, Image

from stvla_ros.config import ConfigError
from stvla_ros.ros import SUPERVISOR, convert, qos
from stvla_ros.ros.graph import WRONG_PARAMETERS
from stvla_ros.ros.middleware import end_discovery
from stvla_ros.ros.run import after_suspension, end_with_supervisor, one_line
from stvla_ros.sim.scene import Scene, SceneState, StateRenderer
from stvla_ros.types import F64, RgbdFrame

RESTART_S = 1.0
"""Time from the end of a camera process to the start of the next."""

END_S = 1.0
"""Time limit for a camera process to end."""


@dataclass(frozen=True)
class CameraTopics:
    """Names of the topics of an RGB-D camera."""

    color: str
    depth: str
    info: str


def camera_topics(prefix: str) -> CameraTopics:
    """The topics as named by realsense-ros."""
    return CameraTopics(
        f"{prefix}/color/image_raw", f"{prefix}/aligned_depth_to_color/image_raw", f"{prefix}/color/camera_info"
    )


class CameraPublisher:
    """Sends frames like realsense-ros: colour, aligned depth and camera info with equal stamps.

    A separate thread sends them, after each frame's latency has passed.

    Args:
        node: Owner of the publishers.
        topics: Their names.
        millimetres: Send depth as 16UC1 instead of 32FC1.
        latency_s: Time from a frame's stamp to its sending.
        on_sent: Called in the sending thread with the stamp of each frame sent.
    """

    def __init__(
        self,
        node: Node,
        topics: CameraTopics,
        millimetres: bool,
        latency_s: float,
        on_sent: Callable[[int], None] = lambda _: None,
    ) -> None:
        self._color = node.create_publisher(Image, topics.color, qos.IMAGE)
        self._depth = node.create_publisher(Image, topics.depth, qos.IMAGE)
        self._info = node.create_publisher(CameraInfo, topics.info, qos.IMAGE)
        self._depth_image = convert.depth_to_image_mm if millimetres else convert.depth_to_image
        self._latency_ns, self._on_sent = round(latency_s * 1e9), on_sent
        self._frames: queue.Queue[RgbdFrame | None] = queue.Queue(maxsize=4)
        self._thread = Thread(target=self._run, name="images", daemon=True)
        self._thread.start()
        self.sent = 0

    def send(self, frame: RgbdFrame) -> None:
        """Queue a frame; it is dropped when the queue is full."""
        if not self._frames.full():
            self._frames.put(frame)

    def close(self) -> bool:
        """End the thread; False when it is stuck."""
        with suppress(queue.Full):
            self._frames.put(None, timeout=END_S / 2)
            self._thread.join(END_S / 2)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while (frame := self._frames.get()) is not None:
            time.sleep(max(0.0, (frame.stamp_ns + self._latency_ns - time.time_ns()) * 1e-9))
            head = convert.header(frame.stamp_ns, frame.camera.frame_id)
            self._info.publish(convert.camera_to_info(frame.camera, head))
            self._color.publish(convert.rgb_to_image(frame.rgb, head))
            self._depth.publish(self._depth_image(frame.depth_m, head))
            self.sent += 1
            self._on_sent(frame.stamp_ns)


@dataclass(frozen=True)
class SimulatedCameraConfig:
    """Settings of the camera process.

    Attributes:
        topics: Full names of the camera's topics.
        third_view: Full name of the topic of the spectator's view, rendered only for subscribers.
        rate_hz: Images per second.
        third_view_rate_hz: Images per second of the spectator's view.
        millimetres: Send depth as 16UC1 instead of 32FC1.
        latency_s: Time from an image's stamp to its sending.
        lower_priority: Niceness to add, which undoes the robot process's higher priority.
    """

    topics: CameraTopics
    third_view: str
    rate_hz: float
    third_view_rate_hz: float
    millimetres: bool
    latency_s: float
    lower_priority: int = 0


@dataclass(frozen=True, eq=False)
class _Present:
    """The robot's answer: the state of the scene, stamped by the clock. ``scene`` is None if it has not changed."""

    scene: Scene | None
    state: F64
    simulated_ns: int
    stamp_ns: int


class SimulatedCamera:
    """The robot's end: keeps a camera process alive and sends it the state of the scene.

    Args:
        config: Settings of the camera process.
        look: Returns the current state of the scene and its stamp by the clock. Called in a separate thread.
        say: Receives a sentence for the log when a process has died.
        refuse: Called when the process refuses to start (no OpenGL); it has printed why on stderr.
    """

    def __init__(
        self,
        config: SimulatedCameraConfig,
        look: Callable[[], tuple[SceneState, int]],
        say: Callable[[str], None],
        refuse: Callable[[], None],
    ) -> None:
        self._config, self._look, self._say, self._refuse = config, look, say, refuse
        self._end = Event()
        self._thread = Thread(target=self._run, name="camera", daemon=True)
        self.sent = 0
        """Number of images sent."""
        self.stamp_ns = 0
        """Stamp of the newest image sent."""
        self.pid: int | None = None

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def close(self, timeout_s: float) -> bool:
        """End the process; False on timeout."""
        self._end.set()
        if self._thread.is_alive():
            self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        """Starts all camera processes; each is bound to the lifetime of this thread."""
        while not self._end.is_set():
            code = self._live()
            if self._end.is_set():
                return
            if code == WRONG_PARAMETERS:
                self._refuse()
                return
            self._say(
                f"The simulated camera's process ended with "
                f"{f'exit code {code}' if code >= 0 else signal.Signals(-code).name}: no images until it is restarted."
            )
            self._end.wait(RESTART_S)

    def _live(self) -> int:
        """Run a camera process; returns its exit code."""
        ours, theirs = Pipe()
        with ours, theirs:
            process = subprocess.Popen(
                [sys.executable, "-m", __name__, str(theirs.fileno())],
                pass_fds=(theirs.fileno(),),
                env={**os.environ, SUPERVISOR: str(os.getpid())},
                start_new_session=True,  # Ctrl-C reaches only the robot's process, which ends this one
            )
            theirs.close()
            self.pid = process.pid
            with suppress(EOFError, ConnectionError):
                self._serve(ours)
            ours.close()  # which ends it
            try:
                return process.wait(END_S)
            except subprocess.TimeoutExpired:
                process.kill()
                return process.wait()

    def _serve(self, camera: Connection) -> None:
        camera.send(self._config)
        known: Scene | None = None
        while not self._end.is_set():
            if not camera.poll(0.1):
                continue
            sent_ns = camera.recv()
            if sent_ns is not None:
                self.sent, self.stamp_ns = self.sent + 1, sent_ns
                continue
            moment, stamp_ns = self._look()
            new = None if moment.scene is known else moment.scene
            camera.send(_Present(new, moment.physics, moment.stamp_ns, stamp_ns))
            known = moment.scene


# --- the camera's process ------------------------------------------------------------------------------------------


def main() -> int:
    """Entry point; the only argument is the pipe's file descriptor."""
    end_with_supervisor()
    threading.excepthook = _end_of_thread
    _at_signals(lambda *_: sys.exit(0))
    after_suspension(lambda: os._exit(1))
    robot = Connection(int(sys.argv[1]))
    Thread(target=_end_with, args=(robot.fileno(),), name="end with the robot", daemon=True).start()
    try:
        _show(robot)
    except (EOFError, ConnectionError):
        return 0
    except ConfigError as error:
        print(one_line(error), file=sys.stderr, flush=True)
        return WRONG_PARAMETERS
    return 0


def _end_of_thread(how: threading.ExceptHookArgs) -> None:
    """End the process when a thread fails; the robot's process starts another one."""
    threading.__excepthook__(how)
    os._exit(1)


def _at_signals(handler: Any) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, handler)


def _end_with(descriptor: int) -> None:
    """End this process after the robot's, even in a library call that cannot be interrupted."""
    poll = select.poll()
    poll.register(descriptor, 0)  # reports only the end of the pipe
    poll.poll()
    time.sleep(END_S / 2)
    os._exit(0)


def _show(robot: Connection) -> None:
    """Request, render and send until the pipe ends (EOFError or ConnectionError). Raises ConfigError without OpenGL."""
    config: SimulatedCameraConfig = robot.recv()
    os.nice(config.lower_priority)
    rclpy.init(args=[], signal_handler_options=SignalHandlerOptions.NO)
    node = Node("simulated_camera", use_global_arguments=False, start_parameter_services=False, enable_rosout=False)
    turn, artist = Lock(), StateRenderer()

    def on_sent(stamp_ns: int) -> None:
        with turn, suppress(ConnectionError):
            robot.send(stamp_ns)

    images = CameraPublisher(node, config.topics, config.millimetres, config.latency_s, on_sent)
    third = node.create_publisher(Image, config.third_view, qos.IMAGE)
    scene: Scene | None = None
    due = third_due = time.monotonic()
    try:
        while True:
            time.sleep(max(0.0, due - time.monotonic()))
            due = max(due + 1.0 / config.rate_hz, time.monotonic())
            with turn:
                robot.send(None)
            present: _Present = robot.recv()
            scene = present.scene or scene
            assert scene is not None
            moment = SceneState(scene, present.state, present.simulated_ns)
            images.send(replace(artist.frame(moment), stamp_ns=present.stamp_ns))
            if third.get_subscription_count() and time.monotonic() >= third_due:
                third_due = max(third_due + 1.0 / config.third_view_rate_hz, time.monotonic())
                third.publish(
                    convert.rgb_to_image(artist.third(moment), convert.header(present.stamp_ns, "third_view"))
                )
    finally:
        _at_signals(signal.SIG_IGN)  # the robot's end closes the pipe and sends a signal at the same time
        if not images.close():
            os._exit(0)
        artist.close()
        end_discovery(node)
        node.destroy_node()
        rclpy.shutdown()


if __name__ == "__main__":
    sys.exit(main())
