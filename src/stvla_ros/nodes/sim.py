"""The simulated cell as a ROS node, with the interfaces of a Panda behind ros2_control and a RealSense camera.

Instead of the robot's two actions and joint states it can offer the robot's own network interface
(:mod:`stvla_ros.sim.fci`), for a driver that uses libfranka.

Physics runs at the speed of the clock in one thread, and joint states are sent in a second one. The executor's thread
receives requests, and cancels take effect in it. A separate process renders and sends images
(:mod:`stvla_ros.ros.simulated_camera`).
"""

from __future__ import annotations

import gc
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from threading import Lock

import numpy as np
from sensor_msgs.msg import JointState
from std_srvs.srv import SetBool
from stvla_msgs.srv import ListTasks, ResetScene, ScoreTask
from tf2_msgs.msg import TFMessage

from stvla_ros.config import param
from stvla_ros.description.robot import RobotConfig
from stvla_ros.errors import OutcomeCode, StageError
from stvla_ros.priority import raise_priority
from stvla_ros.ros import convert, qos
from stvla_ros.ros.freshness import STEADY
from stvla_ros.ros.graph import WRONG_PARAMETERS
from stvla_ros.ros.gripper_server import GripperServer
from stvla_ros.ros.robot_state import state_to_msg
from stvla_ros.ros.run import run, stop
from stvla_ros.ros.simulated_camera import CameraTopics, SimulatedCamera, SimulatedCameraConfig, camera_topics
from stvla_ros.ros.simulated_robot import RealTime, SimulatedArm, SimulatedGripper
from stvla_ros.ros.slow_service import serve_slowly
from stvla_ros.ros.stage_node import StageNode
from stvla_ros.ros.trajectory_server import TrajectoryServer
from stvla_ros.sim.cell import Cell, CellConfig
from stvla_ros.sim.fci.cell import FciCell
from stvla_ros.sim.fci.server import FciConfig, FciServer
from stvla_ros.sim.scene import SceneState
from stvla_ros.sim.tasks import TASKS
from stvla_ros.types import RobotState, TrajectoryTolerances

SEEN_S = 4.0
"""Time limit for an image of a new scene, even from a camera that was restarted."""

FIRST_IMAGE_S = 20.0
"""How long the heartbeat waits for the first image."""


@dataclass(frozen=True)
class SimConfig:
    """Settings of the simulated cell's node."""

    task: str = param("pick_place", "task laid out at the start", choices=tuple(TASKS))
    seed: int = param(0, "seed of the first scene", ge=0, le=2**31 - 1)
    distractors: int = param(-1, "number of objects that the task does not need; -1: the task's default", ge=-1, le=12)
    image_rate_hz: float = param(15.0, "images per second", ge=0.1, le=60.0)
    third_view_rate_hz: float = param(8.0, "images per second of the view for people", ge=0.1, le=60.0)
    joint_rate_hz: float = param(100.0, "joint states per second", ge=10.0, le=500.0)
    depth_encoding: str = param("16UC1", "16UC1: millimetres, 32FC1: metres", choices=("16UC1", "32FC1"))
    camera: str = param("camera/camera", "prefix of the camera's topics")
    interface: str = param(
        "ros2_control",
        "what moves the robot. ros2_control: its two actions; fci: its network interface, for libfranka",
        choices=("ros2_control", "fci"),
    )
    fci: FciConfig = param(FciConfig(), "the network interface")  # noqa: RUF009
    cell: CellConfig = param(CellConfig(), "physics, camera and its defects")  # noqa: RUF009
    robot: RobotConfig = param(RobotConfig(), "names of what it offers; it always is a Panda")  # noqa: RUF009


class SimNode(StageNode[SimConfig]):
    """Publishes images, joint states and transforms; serves the robot's two actions and the services of the scene."""

    def __init__(self) -> None:
        self._raised = raise_priority()  # before there are threads: they inherit it
        super().__init__("sim", SimConfig)
        config = self.config
        self._fci: FciServer | None = None
        self._cell = FciCell(config.cell) if config.interface == "fci" else Cell(config.cell)
        self._cell.reset(config.task, config.seed, config.distractors)
        self._joint_stamp_ns = sys.maxsize  # nobody waits for joint states that are not sent
        self._time = self._serve_fci(self._cell) if isinstance(self._cell, FciCell) else self._serve_ros2_control()
        self._camera = SimulatedCamera(
            self._camera_config(), self._look, self.get_logger().error, lambda: stop(WRONG_PARAMETERS)
        )
        self._send_transforms()
        self._laying = Lock()
        self.create_service(ListTasks, "~/list_tasks", self._list_tasks)
        serve_slowly(self, ResetScene, "~/reset_scene", self._reset_scene, self._laying)
        serve_slowly(self, ScoreTask, "~/score_task", self._score_task, self._laying)
        self._rates = (time.monotonic(), 0)

    def _serve_ros2_control(self) -> RealTime:
        """Offer the two actions and joint states."""
        config = self.config
        self._joints = self.create_publisher(JointState, config.robot.joint_states, qos.EVENT)
        self._joint_stamp_ns = 0
        limits = config.cell.controller
        tolerances = TrajectoryTolerances(
            np.full(7, limits.path_tolerance_rad), np.full(7, limits.goal_tolerance_rad), limits.goal_time_s
        )
        self._arm = TrajectoryServer(
            self, config.robot.arm_action, config.robot.arm_joints, SimulatedArm(self._cell), tolerances
        )
        self._gripper = GripperServer(self, config.robot.gripper_action, SimulatedGripper(self._cell))
        return RealTime(self._cell, self._send_joints, config.joint_rate_hz)

    def _serve_fci(self, cell: FciCell) -> FciServer:
        """Offer the robot's network interface, and what happens to a robot besides its clients' requests."""
        fci = self._fci = FciServer(cell, self.config.fci, self.config.robot.model)
        self._offer("~/user_stop", fci.user_stop)
        self._offer("~/safety_function", fci.safety_function)
        self._offer("~/network", fci.connect)
        return fci

    def _offer(self, name: str, switch: Callable[[bool], None]) -> None:
        def answer(request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
            switch(request.data)
            response.success = True
            return response

        self.create_service(SetBool, name, answer)

    def ready(self) -> None:
        """Start time and images; the heartbeat begins with the first image."""
        gc.collect()
        gc.freeze()  # permanent objects: searching them would block all threads for tens of milliseconds
        self._time.start()
        self._camera.start()
        self._late = time.monotonic() + FIRST_IMAGE_S
        self._starting = self.create_timer(0.02, self._begin, clock=STEADY)

    def _begin(self) -> None:
        if self._camera.sent or time.monotonic() > self._late:
            self.destroy_timer(self._starting)
            super().ready()

    def _camera_config(self) -> SimulatedCameraConfig:
        config, topics = self.config, camera_topics(self.config.camera)
        name = self.resolve_topic_name
        return SimulatedCameraConfig(
            topics=CameraTopics(name(topics.color), name(topics.depth), name(topics.info)),
            third_view=name("~/third_view/image_raw"),
            rate_hz=config.image_rate_hz,
            third_view_rate_hz=config.third_view_rate_hz,
            millimetres=config.depth_encoding == "16UC1",
            latency_s=config.cell.sensor.latency_s if config.cell.sensor.enabled else 0.0,
            lower_priority=self._raised,
        )

    def _look(self) -> tuple[SceneState, int]:
        moment = self._cell.scene_state()
        return moment, self._time.stamp_ns(moment.stamp_ns)

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

    def _list_tasks(self, request: ListTasks.Request, response: ListTasks.Response) -> ListTasks.Response:
        response.tasks = list(TASKS)
        return response

    def _reset_scene(self, request: ResetScene.Request, response: ResetScene.Response) -> None:
        try:
            response.instruction = self._cell.reset(request.task, int(request.seed), request.distractors)
            self._wait_until_seen(time.time_ns())
            response.ok = True
        except StageError as error:
            response.message = error.sentence

    def _wait_until_seen(self, since_ns: int) -> None:
        """Wait until an image and a joint state of the new scene were sent, so that nobody acts on the old ones.

        Raises:
            StageError: STALE_IMAGE when none came.
        """
        until = time.monotonic() + SEEN_S
        while min(self._camera.stamp_ns, self._joint_stamp_ns) < since_ns:
            if time.monotonic() > until:
                raise StageError(
                    OutcomeCode.STALE_IMAGE,
                    f"The scene is laid out, but no image of it was sent within {SEEN_S:g} s: look at the simulator's log.",
                )
            time.sleep(0.01)
        time.sleep(0.05)  # transport to the receivers

    def _score_task(self, request: ScoreTask.Request, response: ScoreTask.Response) -> None:
        try:
            score = self._cell.score()
            response.success, response.detail = score.success, score.detail
        except StageError as error:
            response.detail = error.sentence

    def ages(self) -> dict[str, str]:
        """Real-time factor and image rate since the last diagnostics."""
        (then, sent), now = self._rates, (time.monotonic(), self._camera.sent)
        self._rates = now
        fci = self._fci
        robot = {"robot mode": fci.mode.name, "behind the clock [s]": f"{fci.behind_s:.3f}"} if fci else {}
        return {
            "real-time factor": f"{self._time.factor():.3f}",
            "image rate [Hz]": f"{(now[1] - sent) / max(now[0] - then, 1e-9):.1f}",
            **robot,
        }

    def close(self, timeout_s: float) -> bool:
        """End the threads and the camera process."""
        gc.unfreeze()
        done = [self._camera.close(timeout_s), self._time.close(timeout_s)]
        self._cell.close()
        return super().close(timeout_s) and all(done)


def main() -> int:
    """Entry point."""
    return run(SimNode)


if __name__ == "__main__":
    sys.exit(main())
