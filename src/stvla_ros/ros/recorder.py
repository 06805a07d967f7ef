"""Films a running stack, in a separate process at low priority, so that nothing waits for the encoder."""

from __future__ import annotations

import contextlib
import os
import time
from functools import partial
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions
from sensor_msgs.msg import Image

from stvla_ros.priority import lower_priority
from stvla_ros.record.recorder import Recorder, Reporter
from stvla_ros.ros import qos
from stvla_ros.ros.convert import image_to_rgb

TOPICS = {
    "camera": "/camera/camera/color/image_raw",
    "guidance": "/stvla/overlay",
    "third view": "/sim/third_view/image_raw",
}
PERIOD_S = 0.125
FINISH_S = 60.0
"""Time limit for the last frames, at low priority on a busy machine."""


class RecordingProcess:
    """Controls the recorder's process. Use it as a context manager; without :meth:`finish` the film says so."""

    def __init__(self, folder: Path, title: str) -> None:
        """Start filming into the existing ``folder``, in this process's ROS domain."""
        context = get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_record, args=(folder, title, theirs), name="recorder", daemon=True)
        self._process.start()
        theirs.close()

    def __enter__(self) -> RecordingProcess:
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    def wait_for_images(self, timeout_s: float) -> bool:
        """Wait for the camera's first image; False when none came, and the film begins with whatever comes."""
        try:
            return bool(self._pipe.poll(timeout_s) and self._pipe.recv() == "images")
        except (EOFError, OSError):
            return False

    def report(self, phase: str, sub_instruction: str, step: int) -> None:
        """Report a change of phase, see :class:`stvla_ros.record.recorder.Reporter`."""
        self._send((phase, sub_instruction, step))

    def finish(self, verdict: str) -> None:
        """Show the verdict at the end of the film, and wait until the files are complete."""
        self._send(verdict)
        self._end()

    def _send(self, message: str | tuple[str, str, int]) -> None:
        with contextlib.suppress(OSError):  # a recorder that died must not end the run
            self._pipe.send(message)

    def _end(self) -> None:
        self._pipe.close()
        self._process.join(FINISH_S)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()


class _Views:
    """The newest image of each view, decoded only when a frame of the film is due."""

    def __init__(self, node: Node) -> None:
        self._messages: dict[str, Image] = {}
        for view, topic in TOPICS.items():
            node.create_subscription(Image, topic, partial(self._messages.__setitem__, view), qos.IMAGE_BEST_EFFORT)

    def __contains__(self, view: str) -> bool:
        return view in self._messages

    def show(self, recorder: Recorder) -> None:
        """Pass new images to the recorder."""
        while self._messages:
            view, message = self._messages.popitem()
            with contextlib.suppress(ValueError):  # with an unknown encoding the panel stays as it is
                recorder.show(view, image_to_rgb(message))


def _record(folder: Path, title: str, pipe: Connection) -> None:
    """The recorder's process."""
    os.setsid()  # Ctrl-C is for the operator's process, which ends this one
    lower_priority()
    rclpy.init(args=[], signal_handler_options=SignalHandlerOptions.NO)
    node = Node("recorder", namespace="stvla")
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    recorder = Recorder(folder, title)
    try:
        _loop(executor, _Views(node), recorder, pipe)
    except (EOFError, OSError):
        recorder.finish("The run ended early.", time.monotonic())
    rclpy.try_shutdown()


def _loop(executor: SingleThreadedExecutor, views: _Views, recorder: Recorder, pipe: Any) -> None:
    """Run until asked to finish, or until the other end closes (EOFError)."""
    reporter, due, started = Reporter(recorder), time.monotonic(), False
    while True:
        executor.spin_once(timeout_sec=max(0.0, min(due - time.monotonic(), 0.05)))
        if not started and "camera" in views:
            pipe.send("images")
            started = True
        while pipe.poll():
            message = pipe.recv()
            views.show(recorder)
            if isinstance(message, str):
                recorder.finish(message, time.monotonic())
                return
            reporter.report(*message)
            due = time.monotonic()
        if started and time.monotonic() >= due:
            due = max(due + PERIOD_S, time.monotonic())
            views.show(recorder)
            recorder.tick(time.monotonic())
