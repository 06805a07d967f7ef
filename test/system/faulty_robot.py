"""A robot whose controllers fail on demand, in the words of ros2_control, franka_ros2 and this stack's own driver."""

import time
from threading import Event, Timer

import rclpy
from control_msgs.action import FollowJointTrajectory, GripperCommand
from rcl_interfaces.msg import Log
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions
from rclpy.task import Future
from sensor_msgs.msg import JointState
from stvla_msgs.msg import RobotStatus
from system.conftest import Spinner
from system.kinematic_arm import KinematicArm, KinematicGripper
from system.processes import own_domain

from stvla_ros.description.panda import ARM_JOINTS, FINGER_JOINTS
from stvla_ros.description.robot import RobotConfig
from stvla_ros.errors import StageError
from stvla_ros.ros import qos
from stvla_ros.ros.backends.ros2_control import Ros2ControlConfig, Ros2ControlRobot
from stvla_ros.ros.controller_server import ControllerServer, TerminalState
from stvla_ros.ros.robot_state import JointStateConfig, JointStates
from stvla_ros.ros.trajectory import read_trajectory
from stvla_ros.types import TrajectoryTolerances

ARM, GRIPPER, STATES = (
    "/faulty_arm_controller/follow_joint_trajectory",
    "/faulty_gripper/gripper_action",
    "faulty/states",
)
Result = FollowJointTrajectory.Result
TIMES = {"goal_time_s": 0.5, "stop_timeout_s": 1.0, "gripper_timeout_s": 2.0}
ACCEPT_S = {"impatient": 0.3}


class FaultyRobot:
    """Controllers and joint states in one node, spun by one thread; ``client(kind)`` is the stack's end.

    The client ``impatient`` waits less for a goal to be accepted.

    Attributes:
        arm_fault: None, or called with the goal's path and cancel event; returns (terminal state, result). It may move
            ``arm`` meanwhile, and what it raises is the test's failure.
        gripper_fault: The same for the gripper, with the opening in metres.
        refuse: A sentence with which both controllers reject goals.
        accept_s: How long a controller thinks before it accepts a goal.
        states: ``live``, ``frozen`` (old values, new stamps) or ``silent``.
    """

    def __enter__(self):
        self._domain = own_domain()
        rclpy.init(domain_id=self._domain.__enter__(), signal_handler_options=SignalHandlerOptions.NO)
        self._spinner = Spinner()
        self.node, self._client_node = self._spinner.add(Node("faulty_robot")), self._spinner.add(Node("stack"))
        self.arm, self.gripper = KinematicArm(), KinematicGripper()
        self.work_as_usual()
        ControllerServer(self.node, FollowJointTrajectory, ARM, self._admit, self._follow)
        ControllerServer(self.node, GripperCommand, GRIPPER, self._admit, self._grip)
        self._states = self.node.create_publisher(JointState, STATES, 10)
        self._log = self.node.create_publisher(Log, "/rosout", 10)
        self._status = self.node.create_publisher(RobotStatus, "/franka/status", qos.LATCHED_NEWEST)
        self.node.create_timer(0.01, self._tell)
        states = JointStates(self._client_node, JointStateConfig(max_age_s=1.5), RobotConfig(joint_states=STATES))
        names = {"arm_action": ARM, "gripper_action": GRIPPER}
        self._clients = {
            kind: Ros2ControlRobot(
                self._client_node,
                states.state,
                Ros2ControlConfig(accept_timeout_s=ACCEPT_S.get(kind, 3.0), **TIMES),
                RobotConfig(kind=kind, model="panda", **names),
            )
            for kind in ("sim", "real", "franka", "impatient")
        }
        for client in self._clients.values():
            client.clear(10.0)
        return self

    def __exit__(self, *_):
        self._spinner.close()
        rclpy.shutdown()
        self._domain.__exit__(None, None, None)

    def client(self, kind):
        return self._clients[kind]

    def work_as_usual(self):
        """No faults, and a state that the client takes for young."""
        self.arm_fault = self.gripper_fault = self.refuse = None
        self.accept_s, self.states, self._frozen = 0.0, "live", None
        self.gripper.object_m = 0.0

    def wait_for_state(self):
        until = time.monotonic() + 5.0
        while time.monotonic() < until:
            try:
                return self.client("sim").state()
            except StageError:
                time.sleep(0.01)
        raise AssertionError("no joint state")

    def log(self, text, name="FrankaHardwareInterface", level=40):
        """As a driver's line in /rosout."""
        self._log.publish(Log(name=name, msg=text, level=level))

    def status(self, mode, sentence=""):
        """As this stack's own driver."""
        self._status.publish(RobotStatus(mode=mode, sentence=sentence))

    def _admit(self, goal):
        time.sleep(self.accept_s)
        return self.refuse

    def _follow(self, goal):
        path = read_trajectory(goal.request.trajectory, ARM_JOINTS, self.arm.q_rad())
        if self.arm_fault is not None:
            return self.arm_fault(path, goal.canceled)
        self.move(path, goal.canceled)
        return TerminalState.CANCELED if goal.canceled.is_set() else TerminalState.SUCCEEDED, Result()

    def move(self, path, canceled=None, share=1.0):
        """Follow a path for a share of its time, then stand still."""
        motion = self.arm.start(path, TrajectoryTolerances(path.q_rad[0], path.q_rad[0], 1.0))
        (canceled or Event()).wait(share * float(path.t_s[-1]) + 0.02)
        self.arm.stop(motion)

    def _grip(self, goal):
        width_m = 2 * goal.request.command.position
        if self.gripper_fault is not None:
            return self.gripper_fault(width_m, goal.canceled)
        self.gripper.move(width_m, 40.0)
        time.sleep(0.85)
        return TerminalState.SUCCEEDED, GripperCommand.Result(position=self.gripper.width_m() / 2, stalled=True)

    def _tell(self):
        if self.states == "silent":
            return
        half = self.gripper.width_m() / 2
        now = [*self.arm.q_rad(), half, half], [*self.arm.state()[1], 0.0, 0.0]
        if self.states == "frozen":
            now = self._frozen = self._frozen or now
        message = JointState(name=[*ARM_JOINTS, *FINGER_JOINTS], position=now[0], velocity=now[1])
        message.header.stamp = self.node.get_clock().now().to_msg()
        self._states.publish(message)


class SlowClient:
    """A service client whose requests are on their way for 0.1 s."""

    def __init__(self, client):
        self._client = client

    def service_is_ready(self):
        return self._client.service_is_ready()

    def call_async(self, request):
        answer = Future()

        def send():
            self._client.call_async(request).add_done_callback(lambda done: answer.set_result(done.result()))

        Timer(0.1, send).start()
        return answer

    def remove_pending_request(self, answer):
        """The real client forgets an answered request by itself."""
