"""Running parts of the stack, and a client that gives orders and watches the joints."""

import os
import signal
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from threading import Event

import numpy as np
import pytest
import rclpy
import stalls
from rclpy.node import Node
from rclpy.publisher import Publisher
from sensor_msgs.msg import JointState
from std_srvs.srv import Trigger
from stvla_msgs.action import ExecuteKeypose
from stvla_msgs.srv import ListTasks, ResetScene, ScoreTask
from system.conftest import Spinner
from system.processes import Logs, Process, own_domain

from stvla_ros.description.braking import STILL_RAD_S
from stvla_ros.errors import CancelToken, OutcomeCode, StageError
from stvla_ros.motion.approval import Approval
from stvla_ros.ros import convert
from stvla_ros.ros.action_client import StageClient
from stvla_ros.ros.client import run_goal
from stvla_ros.ros.graph import GraphOptions, node_names
from stvla_ros.ros.heartbeats import HeartbeatMonitor
from stvla_ros.ros.robot_state import JointStateConfig, JointStates
from stvla_ros.ros.up import Stack
from stvla_ros.types import Keypose


def keypose(x, y, z, gripper_open=True, may_collide=False):
    """The hand pointing down."""
    T = np.diag([1.0, -1.0, -1.0, 1.0])
    T[:3, 3] = x, y, z
    return Keypose(T, gripper_open, may_collide)


FAR_LEFT, FAR_RIGHT = keypose(0.45, 0.4, 0.35), keypose(0.45, -0.4, 0.35)

SLOW = "roboplan.velocity_scale:=0.2"
"""A motion to FAR_LEFT takes twice the usual time: what must happen during it does, however late."""


SLACK = {
    f"{node}.joint_states.{limit}": value
    for node in ("executor", "planner", "guidance", "policy")
    for limit, value in (("max_age_s", "5.0"), ("keep_s", "10.0"))
}
"""A loaded test machine must not look like a robot that fell silent, where that is not on trial."""

MORE_SLACK = {
    **SLACK,
    **{f"{node}.camera.max_age_s": "5.0" for node in ("executor", "planner", "guidance")},
    "task.heartbeat_timeout_s": "10.0",
    "executor.safety.heartbeat_timeout_s": "5.0",
    "executor.safety.image_timeout_s": "10.0",
    "executor.executor.max_frame_age_s": "10.0",
}
"""The same for nodes and cameras, where a program beside the stack makes the machine slow."""


class Harness:
    """A ROS domain of its own with a client that watches the joints and asks services. Use as a context manager.

    Attributes:
        arguments: Command line of the nodes in this process.
    """

    arguments: tuple[str, ...] = ()

    def __enter__(self):
        self._domain = own_domain()
        self.domain = self._domain.__enter__()
        rclpy.init(args=list(self.arguments), domain_id=self.domain)
        self.spinner = Spinner()
        self.node = self.spinner.add(Node("bench"))
        self.speeds = deque(maxlen=3000)  # (time of arrival, largest joint speed)
        self.node.create_subscription(JointState, "joint_states", self._joints, 10)
        self.states = JointStates(self.node, JointStateConfig())
        self.heartbeats = HeartbeatMonitor(self.node, 1.0)
        self.pool = ThreadPoolExecutor(4)
        self._clients = {}
        self._client(
            Trigger, "/stvla/stop"
        )  # found while the executor starts: a motion may end while one is looked for
        return self

    def __exit__(self, *_):
        self.pool.shutdown(wait=True)
        self.spinner.close()
        rclpy.shutdown()
        self._domain.__exit__(None, None, None)

    def _joints(self, message):
        self.speeds.append((time.monotonic(), float(np.abs(message.velocity[:7]).max())))

    def speed(self):
        """Largest joint speed in the newest message."""
        return self.speeds[-1][1]

    def wait_for_motion(self, call, timeout_s=10.0):
        """Wait until the arm moves for ``call``."""
        until = stalls.clock() + timeout_s
        while not self.speeds or self.speed() < 0.2:
            assert not call.done(), call.result()
            assert stalls.clock() < until, "the arm does not move"
            time.sleep(0.005)

    def last_motion(self):
        """When a joint state with motion came last."""
        return max((at for at, speed in list(self.speeds) if speed >= STILL_RAD_S), default=0.0)

    def held_up_s(self, since):
        """Longest time without a joint state from then on, once they come again."""
        until = stalls.clock() + 10.0
        while time.monotonic() - self.speeds[-1][0] > 0.1:
            assert stalls.clock() < until, "no joint states any more"
            time.sleep(0.05)
        heard = [since, *(at for at, _ in list(self.speeds) if at > since)]
        return float(np.diff(heard).max(initial=0.0))

    def stands_still(self, for_s=1.0):
        """No motion from now on, seen in enough joint states."""
        start, late = time.monotonic(), stalls.clock() + 10.0
        time.sleep(for_s)
        while len(heard := [speed for at, speed in list(self.speeds) if at > start]) <= 10 * for_s:
            assert stalls.clock() < late, f"only {len(heard)} joint states came"
            stalls.time.sleep(0.01)
        return max(heard) < STILL_RAD_S

    def service(self, kind, name, request=None):
        """Ask until somebody answers: for 20 s after a kill, DDS takes the dead server for alive."""
        client = self._client(kind, name)
        answered, future = Event(), None
        for _ in range(8):
            assert client.wait_for_service(10.0)
            future = client.call_async(request or kind.Request())
            future.add_done_callback(lambda _: answered.set())
            if answered.wait(5.0):
                break
        assert future.done(), f"no answer from {name}"
        return future.result()

    def drop(self, end):
        """Destroy a publisher or subscription, between two waits of the thread that spins: in the midst it would fail."""
        destroy = self.node.destroy_publisher if isinstance(end, Publisher) else self.node.destroy_subscription
        self.spinner.executor.create_task(destroy, end)

    def _client(self, kind, name):
        if name not in self._clients:
            self._clients[name] = self.node.create_client(kind, name)
        return self._clients[name]

    def reset(self, task="pick_place", seed=0, distractors=-1):
        return self.service(
            ResetScene, "/sim/reset_scene", ResetScene.Request(task=task, seed=seed, distractors=distractors)
        )

    def score(self):
        return self.service(ScoreTask, "/sim/score_task")

    def tasks(self):
        return self.service(ListTasks, "/sim/list_tasks").tasks

    def stop(self):
        return self.service(Trigger, "/stvla/stop")

    def resume(self):
        return self.service(Trigger, "/stvla/resume")


class RobotHarness(Harness):
    """The simulated cell and the executor, each started by hand, and their client."""

    def __enter__(self):
        super().__enter__()
        self.remote = StageClient(self.node, ExecuteKeypose, "stvla/execute_keypose")
        self.processes, self._started = {}, []
        return self

    def __exit__(self, *_):
        for process in self._started:
            process.end()
        super().__exit__()

    def start(self, name, *parameters):
        """Start a node of the stack and wait for its heartbeat."""
        args = ["--ros-args", *(x for p in parameters for x in ("-p", p))] if parameters else []
        old = self.processes.get(name)
        assert old is None or old.popen.poll() is not None
        self.processes[name] = Process(f"stvla_ros.nodes.{name}", *args, domain=self.domain)
        self._started.append(self.processes[name])
        started = time.monotonic()
        until = stalls.clock() + 30.0
        while self.heartbeats.age_s(name) > min(0.5, time.monotonic() - started):  # not the last one of a killed node
            assert self.processes[name].popen.poll() is None, self.processes[name].output
            assert stalls.clock() < until, f"no heartbeat of {name}: {self.processes[name].output}"
            time.sleep(0.05)

    def kill(self, name):
        """kill -9."""
        self.processes[name].popen.kill()
        self.processes[name].popen.wait(10.0)

    def execute(self, pose, cancel=None, plan_id="", timeout_s=30.0, frame="panda_link0", approval=""):
        """Send a keypose and wait; returns (code, sentence)."""
        goal = ExecuteKeypose.Goal(keypose=convert.keypose_to_msg(pose, frame), plan_id=plan_id, approval=approval)
        try:
            outcome = self.remote.call(goal, cancel or CancelToken(), timeout_s, connect_s=10.0).outcome
        except StageError as error:
            return error.code, error.sentence
        return OutcomeCode(outcome.code), outcome.sentence

    def execute_later(self, pose, cancel=None, plan_id="", approval=""):
        """The same in another thread; returns a future."""
        return self.pool.submit(self.execute, pose, cancel, plan_id, approval=approval)


class StackHarness(Harness):
    """The whole stack under its supervisor, and the operator's client."""

    NODES = ("sim", "executor", "planner", "guidance", "policy", "task")

    def __init__(self, options=None):
        self._options = options or GraphOptions()

    def __enter__(self):
        super().__enter__()
        self.log = []
        self._logs = Logs(self._by_process)
        self._environment = pytest.MonkeyPatch()
        self._environment.setenv("ROS_DOMAIN_ID", str(self.domain))
        self.stack = Stack(
            self._options,
            say=lambda name, line: self.log.append(f"{name}: {line}"),
        )
        self.stack.start()
        try:
            self.wait_ready()
        except BaseException:
            self.__exit__()  # nobody else would, and every later test would find ROS initialized
            raise
        return self

    def __exit__(self, *_):
        self.stack.stop()
        self._logs.close()
        self._environment.undo()
        super().__exit__()

    def _by_process(self):
        lines = {name: [] for name in self.NODES}
        for name, line in (entry.split(": ", 1) for entry in list(self.log)):
            lines.setdefault(name, []).append(line)
        return {name: "\n".join(said) for name, said in lines.items()}

    def wait_ready(self, timeout_s=60.0):
        missing = self.heartbeats.wait_for(node_names(self._options), timeout_s)
        assert not missing, (missing, self.log)

    def kill(self, name):
        """kill -9."""
        os.kill(self.stack.pids()[name], signal.SIGKILL)

    def run(self, instruction, cancel=None, approval=Approval.AUTOMATIC):
        """Send a goal as ``stvla run`` does and wait; returns (code, sentence). A lost task node is NODE_LOST."""
        try:
            outcome = run_goal(instruction, cancel=cancel, connect_s=10.0, approval=approval).outcome
        except ConnectionError as error:
            return OutcomeCode.NODE_LOST, str(error)
        return outcome.code, outcome.sentence

    def run_later(self, instruction, cancel=None, approval=Approval.AUTOMATIC):
        """The same in another thread; returns a future."""
        return self.pool.submit(self.run, instruction, cancel, approval)
