"""The robot and the camera for ``stvla calibrate``: a node of the command's own, next to the drivers and no stack."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event

import numpy as np
from tf2_msgs.msg import TFMessage

from stvla_ros import registry
from stvla_ros.calibration.board import BoardConfig
from stvla_ros.calibration.cell import CalibrationArm
from stvla_ros.calibration.report import StaticTransform
from stvla_ros.calibration.session import SessionConfig, at_rest
from stvla_ros.calibration.solve import CalibrationError
from stvla_ros.config import build
from stvla_ros.data.recording import RecordedFrame
from stvla_ros.errors import CancelToken
from stvla_ros.evaluate.stack import StackSettings
from stvla_ros.interfaces import Robot
from stvla_ros.ros import qos
from stvla_ros.ros.backends.ros2_control import Ros2ControlConfig, Ros2ControlRobot
from stvla_ros.ros.client import client_node, wait_for_nodes
from stvla_ros.ros.convert import matrix_to_transform
from stvla_ros.ros.frames import CameraConfig, RgbdReceiver
from stvla_ros.ros.robot_state import JointStateConfig, JointStates
from stvla_ros.types import F64, Camera

EXECUTOR = "executor"
SETTLE_S = 0.5
"""From standstill to the exposure of an image: the arm and the tripod still swing."""

CONNECT_S = 20.0
"""How long to wait for the first image."""

TRANSFORM_S = 2.0
"""How much later than the first image its camera's transform may come."""


@contextmanager
def live_arm(settings: StackSettings, file: Path | None, guess: F64 | None, moves: bool) -> Iterator[CalibrationArm]:
    """Listen to the camera and the joint states; with ``moves``, also send motions to the controllers.

    Args:
        settings: Of the robot.
        file: Parameter file, whose section ``executor`` has topics, ages and controllers.
        guess: (4, 4) rough ``T_base_camera``, used where TF has none.
        moves: The arm will be moved: no executor may run at the same time.

    Raises:
        CalibrationError: An executor is running, or no transform and no guess is there.
        StageError: STALE_IMAGE, STALE_STATE.
    """
    if moves and not wait_for_nodes([EXECUTOR], qos.DISCOVERY_S):
        raise CalibrationError(
            "A stack is running, whose executor may move the arm too: end `stvla up` first, and leave the robot's driver and "
            "the camera running."
        )
    own = registry.read_nodes(file).get(EXECUTOR, {})
    with client_node("stvla_calibrate") as node:
        frames = RgbdReceiver(
            node, build(CameraConfig, own.get("camera", {}), "executor.camera"), base_frame=settings.robot.base_frame
        )
        joints = JointStates(
            node, build(JointStateConfig, own.get("joint_states", {}), "executor.joint_states"), settings.robot
        )
        controllers = build(Ros2ControlConfig, own.get("controllers", {}), "executor.controllers")
        robot = Ros2ControlRobot(node, joints.state, controllers, settings.robot)
        base = settings.robot.base_frame
        camera, root = _first(frames, base, guess)
        cancel = CancelToken()

        def look() -> RecordedFrame:
            settled_ns = node.get_clock().now().nanoseconds + round(SETTLE_S * 1e9)
            return at_rest(lambda: frames.wait(settled_ns, cancel, CONNECT_S + SETTLE_S), joints.state)

        optical = camera.frame_id
        T_root_camera = np.eye(4) if root == optical else frames.transforms.lookup(root, optical, 0)
        names = SessionConfig(BoardConfig(), base, optical, root, tuple(T_root_camera.ravel().tolist()))
        try:
            with _ctrl_c(cancel, robot):
                yield CalibrationArm(robot, look, camera, names, cancel)
        finally:
            if moves:
                robot.stop()


@contextmanager
def _ctrl_c(cancel: CancelToken, robot: Robot) -> Iterator[None]:
    """Ctrl-C stops the arm; a second one ends the command."""

    def on_signal(*_: object) -> None:
        if cancel.is_set():
            raise KeyboardInterrupt
        cancel.cancel()

    forget = cancel.on_cancel(robot.stop)
    previous = signal.signal(signal.SIGINT, on_signal)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)
        forget()


def _first(frames: RgbdReceiver, base: str, guess: F64 | None) -> tuple[Camera, str]:
    """The camera of the first frame, with TF's pose or else the guess, and the root of its frames."""
    end, waiting_since = time.monotonic() + CONNECT_S, None
    while time.monotonic() < end:
        if frames.age_s() < float("inf"):
            break
        if (optical := frames.unplaced_frame) is not None:
            waiting_since = waiting_since or time.monotonic()
            if time.monotonic() - waiting_since > TRANSFORM_S:
                return _guessed(frames, base, optical, guess)
        time.sleep(0.05)
    if frames.age_s() == float("inf") and (optical := frames.unplaced_frame) is not None:
        return _guessed(frames, base, optical, guess)
    camera = frames.capture().camera
    return camera, frames.transforms.root(base, camera.frame_id)


def _guessed(frames: RgbdReceiver, base: str, optical: str, guess: F64 | None) -> tuple[Camera, str]:
    if guess is None:
        raise CalibrationError(
            f"TF has no transform from {base} to the camera's frame {optical}: say with --guess X,Y,Z,TX,TY,TZ where the "
            "camera is and a point it looks at, to 10 cm."
        )
    root = frames.transforms.root(base, optical)  # before the guess, which is no frame of the driver's
    frames.transforms.add(TFMessage(transforms=[matrix_to_transform(guess, base, optical, 1)]), True)
    return frames.wait(0, CancelToken(), CONNECT_S).camera, root


def publish_static(transform: StaticTransform, say: Callable[[str], None]) -> int:
    """Publish a transform on /tf_static until Ctrl-C or SIGTERM; returns 0."""
    ended = Event()
    before = {number: signal.signal(number, lambda *_: ended.set()) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        with client_node("stvla_static_transform") as node:
            publisher = node.create_publisher(TFMessage, "/tf_static", qos.LATCHED)
            T, parent, child = transform.T_parent_child, transform.parent, transform.child
            publisher.publish(TFMessage(transforms=[matrix_to_transform(T, parent, child, time.time_ns())]))
            say(f"Publishing {parent} -> {child} on /tf_static until Ctrl-C.")
            ended.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return 0
