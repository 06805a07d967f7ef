"""The simulated cell as a ROS node: what a Panda behind ros2_control and a RealSense camera offer.

Physics keeps pace with the clock in one thread, images are drawn in a second and sent in a third; the executor's
thread answers requests.
"""

from __future__ import annotations

import queue
import sys
import time
from dataclasses import dataclass
from threading import Event, Thread

import numpy as np
from rclpy.node import Node
from sensor_msgs.msg import CameraInfo, Image, JointState
from stvla_msgs.srv import ListTasks, ResetScene, ScoreTask
from tf2_msgs.msg import TFMessage

from stvla_ros.config import param
from stvla_ros.description.robot import RobotConfig
from stvla_ros.errors import StageError
from stvla_ros.ros import convert, qos
from stvla_ros.ros.gripper_server import GripperServer
from stvla_ros.ros.robot_state import state_to_msg
from stvla_ros.ros.run import run
from stvla_ros.ros.simulated_robot import RealTime, SimulatedArm, SimulatedGripper
from stvla_ros.ros.stage_node import StageNode
from stvla_ros.ros.trajectory import Tolerances
from stvla_ros.ros.trajectory_server import TrajectoryServer
from stvla_ros.sim.cell import Cell, CellConfig
from stvla_ros.sim.tasks import TASKS
from stvla_ros.types import RgbdFrame, RobotState


@dataclass(frozen=True)
class SimConfig:
    """Settings of the simulated cell's node."""

    task: str = param("pick_place", "task laid out at the start", choices=tuple(TASKS))
    seed: int = param(0, "seed of the first scene", ge=0, le=2**31 - 1)
    distractors: int = param(-1, "objects that nobody asks for; -1: as the task prescribes", ge=-1, le=12)
    image_rate_hz: float = param(15.0, "images per second", ge=0.1, le=60.0)
    third_view_rate_hz: float = param(8.0, "images per second of the view for people", ge=0.1, le=60.0)
    joint_rate_hz: float = param(100.0, "joint states per second", ge=10.0, le=500.0)
    depth_encoding: str = param("16UC1", "16UC1: millimetres, 32FC1: metres", choices=("16UC1", "32FC1"))
    camera: str = param("camera/camera", "prefix of the camera's topics")
    cell: CellConfig = param(CellConfig(), "physics, camera and its defects")  # noqa: RUF009
    robot: RobotConfig = param(RobotConfig(), "names of what it offers; it always is a Panda")  # noqa: RUF009


class CameraPublisher:
    """Sends frames as realsense-ros does: colour, aligned depth and camera info with equal stamps.

    The sending thread is not the drawing one, and waits until a frame's latency has passed.
    """

    def __init__(self, node: Node, prefix: str, millimetres: bool, latency_s: float) -> None:
        self._color = node.create_publisher(Image, f"{prefix}/color/image_raw", qos.IMAGE)
        self._depth = node.create_publisher(Image, f"{prefix}/aligned_depth_to_color/image_raw", qos.IMAGE)
        self._info = node.create_publisher(CameraInfo, f"{prefix}/color/camera_info", qos.IMAGE)
        self._depth_image = convert.depth_to_image_mm if millimetres else convert.depth_to_image
        self._latency_ns = round(latency_s * 1e9)
        self._frames: queue.Queue[RgbdFrame | None] = queue.Queue(maxsize=4)
        self._thread = Thread(target=self._run, name="images", daemon=True)
        self._thread.start()
        self.sent = 0
        self.stamp_ns = 0
        """Stamp of the newest frame that was sent."""

    def send(self, frame: RgbdFrame) -> None:
        """Queue a frame; dropped when several wait already."""
        if not self._frames.full():
            self._frames.put(frame)

    def close(self) -> None:
        """End the thread."""
        self._frames.put(None)
        self._thread.join(1.0)

    def _run(self) -> None:
        while (frame := self._frames.get()) is not None:
            time.sleep(max(0.0, (frame.stamp_ns + self._latency_ns - time.time_ns()) * 1e-9))
            head = convert.header(frame.stamp_ns, frame.camera.frame_id)
            self._info.publish(convert.camera_to_info(frame.camera, head))
            self._color.publish(convert.rgb_to_image(frame.rgb, head))
            self._depth.publish(self._depth_image(frame.depth_m, head))
            self.sent, self.stamp_ns = self.sent + 1, frame.stamp_ns


class SimNode(StageNode[SimConfig]):
    """Publishes camera, joint states and transforms; serves the robot's two actions and the scene's services."""

    def __init__(self) -> None:
        super().__init__("sim", SimConfig)
        config = self.config
        self._cell = Cell(config.cell)
        self._cell.reset(config.task, config.seed, config.distractors)
        self._joints = self.create_publisher(JointState, config.robot.joint_states, qos.EVENT)
        latency_s = config.cell.sensor.latency_s if config.cell.sensor.enabled else 0.0
        self._camera = CameraPublisher(self, config.camera, config.depth_encoding == "16UC1", latency_s)
        self._third = self.create_publisher(Image, "~/third_view/image_raw", qos.IMAGE)
        self._send_transforms()
        limits = config.cell.controller
        tolerances = Tolerances(
            np.full(7, limits.path_tolerance_rad), np.full(7, limits.goal_tolerance_rad), limits.goal_time_s
        )
        self._arm = TrajectoryServer(
            self, config.robot.arm_action, config.robot.arm_joints, SimulatedArm(self._cell), tolerances
        )
        self._gripper = GripperServer(self, config.robot.gripper_action, SimulatedGripper(self._cell))
        self.create_service(ListTasks, "~/list_tasks", self._list_tasks)
        self.create_service(ResetScene, "~/reset_scene", self._reset_scene)
        self.create_service(ScoreTask, "~/score_task", self._score_task)
        self._time = RealTime(self._cell, self._send_joints, config.joint_rate_hz)
        self._joint_stamp_ns = 0
        self._end = Event()
        self._draw_thread = Thread(target=self._draw, name="draw", daemon=True)
        self._rates = (time.monotonic(), 0)

    def ready(self) -> None:
        """Start time, images and the heartbeat."""
        self._time.start()
        self._draw_thread.start()
        super().ready()

    def _send_transforms(self) -> None:
        self._static = self.create_publisher(TFMessage, "/tf_static", qos.LATCHED)
        camera = self._cell.camera
        self._static.publish(
            TFMessage(
                transforms=[
                    convert.matrix_to_transform(
                        camera.T_base_camera, self.config.robot.base_frame, camera.frame_id, self.now_ns()
                    )
                ]
            )
        )

    def _send_joints(self, state: RobotState) -> None:
        self._joints.publish(state_to_msg(state, self.config.robot))
        self._joint_stamp_ns = state.stamp_ns

    def _draw(self) -> None:
        period_s, third_s = 1.0 / self.config.image_rate_hz, 1.0 / self.config.third_view_rate_hz
        due = third_due = time.monotonic()
        while not self._end.wait(max(0.0, due - time.monotonic())):
            due = max(due + period_s, time.monotonic())
            frame = self._cell.render()
            stamp_ns = self._time.stamp_ns(frame.stamp_ns)
            self._camera.send(RgbdFrame(frame.rgb, frame.depth_m, frame.camera, stamp_ns))
            if self._third.get_subscription_count() and time.monotonic() >= third_due:
                third_due = max(third_due + third_s, time.monotonic())
                self._third.publish(
                    convert.rgb_to_image(self._cell.render_third(), convert.header(stamp_ns, "third_view"))
                )

    def _list_tasks(self, request: ListTasks.Request, response: ListTasks.Response) -> ListTasks.Response:
        response.tasks = list(TASKS)
        return response

    def _reset_scene(self, request: ResetScene.Request, response: ResetScene.Response) -> ResetScene.Response:
        try:
            response.instruction = self._cell.reset(request.task, int(request.seed), request.distractors)
            self._wait_until_seen(self._time.stamp_ns(self._cell.time_ns))
            response.ok = True
        except StageError as error:
            response.message = error.sentence
        return response

    def _wait_until_seen(self, stamp_ns: int) -> None:
        """Return when an image and a joint state of the new scene are out, so that nobody acts on the old one."""
        until = time.monotonic() + 2.0
        while min(self._camera.stamp_ns, self._joint_stamp_ns) < stamp_ns and time.monotonic() < until:
            time.sleep(0.01)
        time.sleep(0.05)  # their way to the receivers

    def _score_task(self, request: ScoreTask.Request, response: ScoreTask.Response) -> ScoreTask.Response:
        try:
            score = self._cell.score()
            response.success, response.detail = score.success, score.detail
        except StageError as error:
            response.detail = error.sentence
        return response

    def ages(self) -> dict[str, str]:
        """Real-time factor and image rate since the last diagnostics."""
        (then, sent), now = self._rates, (time.monotonic(), self._camera.sent)
        self._rates = now
        return {
            "real-time factor": f"{self._time.factor():.3f}",
            "image rate [Hz]": f"{(now[1] - sent) / max(now[0] - then, 1e-9):.1f}",
        }

    def close(self, timeout_s: float) -> bool:
        """End the threads and free the renderer."""
        self._end.set()
        done = self._time.close(timeout_s)
        if self._draw_thread.is_alive():
            self._draw_thread.join(timeout_s)
        self._camera.close()
        self._cell.close()
        return super().close(timeout_s) and done and not self._draw_thread.is_alive()


def main() -> int:
    """Entry point."""
    return run(SimNode)


if __name__ == "__main__":
    sys.exit(main())
