"""The executor: the only node that moves the robot, and the one that stops it.

Before and during every motion it looks at the age of all that the motion rests on: joint states, camera image, the
lifted path, and the heartbeat of the task node that gives the orders. Nothing gates a stop: the operator's word, a
cancel and a lost heartbeat all go straight to the controllers.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Event, Lock, Thread
from typing import Any

import numpy as np
from std_msgs.msg import Bool
from std_srvs.srv import Trigger
from stvla_msgs.action import ExecuteKeypose, ReleaseObject
from stvla_msgs.msg import TaskState as TaskStateMsg

from stvla_ros.config import param
from stvla_ros.errors import CancelToken, OutcomeCode, StageError
from stvla_ros.motion.executor import ExecutorConfig, PlannedExecutor
from stvla_ros.ros import convert, qos, task_state
from stvla_ros.ros.action_server import Job
from stvla_ros.ros.backends.ros2_control import Ros2ControlConfig, Ros2ControlRobot
from stvla_ros.ros.frames import CameraConfig, RgbdReceiver
from stvla_ros.ros.heartbeats import HeartbeatMonitor, Watch
from stvla_ros.ros.robot_state import JointStateConfig, JointStates, joint_names
from stvla_ros.ros.run import run
from stvla_ros.ros.stage_node import StageNode
from stvla_ros.ros.traces import TraceInbox
from stvla_ros.types import RgbdFrame, RobotState, Trace3d

GUARD_PERIOD_S = 0.05
FEEDBACK_PERIOD_S = 0.2
FINGERS_PERIOD_S = 0.2
TRACE_WAIT_S = 1.0
"""How much later than its keypose a path may come."""


@dataclass(frozen=True)
class SafetyConfig:
    """How old inputs may become before and during a motion."""

    supervisor: str = param("task", "node whose heartbeat must not stop; empty: none, for tests of the executor alone")
    heartbeat_timeout_s: float = param(1.0, "silence after which the supervisor counts as lost [s]", ge=0.2, le=10.0)
    image_timeout_s: float = param(2.0, "the motion stops when the newest image is older [s]", ge=0.1, le=30.0)
    trace_timeout_s: float = param(120.0, "a path drawn on an image older than this is refused [s]", ge=1.0, le=3600.0)


@dataclass(frozen=True)
class ExecutorNodeConfig:
    """Settings of the executor node."""

    motion: str = param("roboplan", "motion planner")
    safety: SafetyConfig = param(SafetyConfig(), "ages")  # noqa: RUF009
    executor: ExecutorConfig = param(ExecutorConfig(), "from keypose to motions")  # noqa: RUF009
    robot: Ros2ControlConfig = param(Ros2ControlConfig(), "the robot's controllers")  # noqa: RUF009
    camera: CameraConfig = param(CameraConfig(), "where images come from")  # noqa: RUF009
    joint_states: JointStateConfig = param(JointStateConfig(), "where joint states come from")  # noqa: RUF009


class ExecutorNode(StageNode[ExecutorNodeConfig]):
    """Serves ``stvla/execute_keypose``, ``stvla/release_object``, and the operator's ``stvla/stop`` and ``stvla/resume``."""

    def __init__(self) -> None:
        super().__init__("executor", ExecutorNodeConfig, backends={"motion": "motion"})
        config = self.config
        self._frames = RgbdReceiver(self, config.camera)
        self._joints = JointStates(self, config.joint_states)
        self._traces = TraceInbox(self)
        self._heartbeats = HeartbeatMonitor(self, config.safety.heartbeat_timeout_s)
        arm_joints, _ = joint_names(config.joint_states.prefix)
        self._robot = Ros2ControlRobot(self, self._joints.state, config.robot, arm_joints)
        self._executor = PlannedExecutor(self._robot, self.parameters.create("motion"), config.executor)
        self._lock = Lock()
        self._running: CancelToken | None = None
        self._stopped = False
        self._ended, self._cleared = Event(), Event()
        self._trouble_at_start = "The robot's controllers have not answered yet."
        self._left: RobotState | None = None  # how the last motion left the robot
        self._holds: bool | None = None  # as last told
        self._task_phase = task_state.IDLE
        self._fingers = Thread(target=self._watch_fingers, name="fingers", daemon=True)
        self._holds_out = self.create_publisher(Bool, task_state.HOLDS_TOPIC, qos.LATCHED_NEWEST)
        self.create_subscription(TaskStateMsg, task_state.TOPIC, self._task_state, qos.LATCHED_NEWEST)
        self.create_service(Trigger, "stvla/stop", self._stop)
        self.create_service(Trigger, "stvla/resume", self._resume)
        self.serve(ExecuteKeypose, "stvla/execute_keypose", self._work, preempt=True)
        self.serve(ReleaseObject, "stvla/release_object", self._release)

    def ready(self) -> None:
        """Cancel what an earlier executor may have left running, then take goals."""
        Thread(target=self._clear, name="clear", daemon=True).start()
        self._fingers.start()
        super().ready()

    def _clear(self) -> None:
        while not self._ended.is_set() and not self._cleared.is_set():
            try:
                self._robot.clear(5.0)
                self._cleared.set()
            except StageError as error:
                self._trouble_at_start = error.sentence
                self.get_logger().warning(error.sentence)
                self._ended.wait(0.5)

    def _task_state(self, message: TaskStateMsg) -> None:
        self._task_phase = message.phase

    def _watch_fingers(self) -> None:
        """While nothing moves, tell when what the gripper holds was taken out of it or put into it."""
        while not self._ended.wait(FINGERS_PERIOD_S):
            left = self._left
            try:
                state = self._joints.state()
            except StageError:
                continue  # told by whoever needs the state
            with self._lock:
                same = self._running is None and self._left is left
            if same and self._executor.holds(state) != self._holds:
                self._tell_fingers(state)

    def _tell_fingers(self, state: RobotState) -> None:
        self._holds = self._executor.holds(state)
        self._holds_out.publish(Bool(data=self._holds))

    def _stop(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        self._robot.stop()
        with self._lock:
            self._stopped, running = True, self._running
        if running is not None:
            running.cancel(OutcomeCode.CANCELED, "Stopped by the operator.")
        self.get_logger().warning("Stopped by the operator.")
        response.success, response.message = True, "Stopped. Nothing moves until /stvla/resume is called."
        return response

    def _resume(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        with self._lock:
            self._stopped = False
        response.success, response.message = True, "Motion is allowed again."
        return response

    def _trace(self, plan_id: str, cancel: CancelToken) -> Trace3d:
        """The path of a plan. Raises StageError as :meth:`TraceInbox.wait`, and STALE_IMAGE when it is old."""
        message = self._traces.wait(plan_id, TRACE_WAIT_S, cancel)
        age_s = (self.now_ns() - convert.time_to_ns(message.header.stamp)) * 1e-9
        limit_s = self.config.safety.trace_timeout_s
        if age_s > limit_s:
            raise StageError(
                OutcomeCode.STALE_IMAGE,
                f"The path was drawn on an image {age_s:.0f} s old; at most {limit_s:g} s are taken: plan again.",
            )
        return convert.trace_from_msg(message)

    def _work(self, job: Job) -> ExecuteKeypose.Result:
        if not self._cleared.wait(3.0):
            raise StageError(OutcomeCode.CONTROLLER_FAILED, self._trouble_at_start)
        keypose = _read_keypose(job.goal)
        frame = self._frames.wait(self._left.stamp_ns if self._left else 0, job.cancel)
        with self._guarded(job):
            trace = None
            if job.goal.plan_id:
                trace = self._trace(job.goal.plan_id, job.cancel)
            state = self._joints.state()
            if self._moved_by_others(state):
                self._executor.reset()
            try:
                outcome = self.timed("keypose", lambda: self._executor.execute(keypose, frame, trace, job.cancel))
            finally:
                self._leave()
        return ExecuteKeypose.Result(outcome=convert.outcome_to_msg(outcome))

    def _leave(self) -> None:
        """Note how a motion left the robot, and tell what the gripper holds before the motion's own answer goes out."""
        self._left = self._joints.at(2**62)
        self._tell_fingers(self._left)

    def _release(self, job: Job) -> ReleaseObject.Result:
        """Put down what is held. Refused while a task runs: the task would go on with a hand that it believes full."""
        if not self._cleared.wait(3.0):
            raise StageError(OutcomeCode.CONTROLLER_FAILED, self._trouble_at_start)
        if self._task_phase != task_state.IDLE:
            raise StageError(OutcomeCode.INVALID_GOAL, "A task is running: cancel it first, then release.")

        def told(feedback: ExecuteKeypose.Feedback) -> None:
            job.feedback(ReleaseObject.Feedback(phase=feedback.phase, elapsed_s=feedback.elapsed_s))

        def look() -> RgbdFrame:
            return self._frames.wait(self.now_ns(), job.cancel)

        with self._guarded(Job(job.goal, job.cancel, told)):
            if self._moved_by_others(self._joints.state()):
                self._executor.reset()
            try:
                outcome = self.timed("release", lambda: self._executor.release(look, job.cancel))
            finally:
                self._leave()
        return ReleaseObject.Result(outcome=convert.outcome_to_msg(outcome))

    def _moved_by_others(self, state: RobotState) -> bool:
        """The robot does not stand as the last motion left it: by hand, by another program, or a scene laid anew."""
        left = self._left
        return left is None or bool(
            np.abs(state.q_rad - left.q_rad).max() > 0.02 or abs(state.gripper_m - left.gripper_m) > 0.003
        )

    @contextmanager
    def _guarded(self, job: Job) -> Iterator[None]:
        """Refuse to begin, or cancel on the way, when an input is too old or the operator said stop."""
        watch = self._heartbeats.watch(filter(None, [self.config.safety.supervisor]))
        self._check(watch)
        with self._lock:
            if self._stopped:
                raise StageError(OutcomeCode.CANCELED, "Stopped by the operator: call /stvla/resume first.")
            if self._running is not None:
                raise StageError(
                    OutcomeCode.INVALID_GOAL, "The arm carries out another order: wait for its end or cancel it."
                )
            self._running = job.cancel
        done = Event()
        guard = Thread(target=self._guard, args=(job, watch, done), name="guard", daemon=True)
        guard.start()
        try:
            yield
        finally:
            done.set()
            guard.join()
            with self._lock:
                self._running = None

    def _guard(self, job: Job, watch: Watch, done: Event) -> None:
        started = told = time.monotonic()
        while not done.wait(GUARD_PERIOD_S):
            try:
                self._check(watch)
            except StageError as error:
                job.cancel.cancel(error.code, error.sentence)
                return
            if time.monotonic() - told > FEEDBACK_PERIOD_S:
                told = time.monotonic()
                job.feedback(ExecuteKeypose.Feedback(phase=self._robot.activity, elapsed_s=told - started))

    def _check(self, watch: Watch) -> None:
        """Raises StageError STALE_STATE, STALE_IMAGE or NODE_LOST."""
        watch.raise_if_lost()
        self._joints.state()
        age_s, most_s = self._frames.age_s(), self.config.safety.image_timeout_s
        if age_s > most_s:
            raise StageError(
                OutcomeCode.STALE_IMAGE,
                f"The newest camera image is {age_s:.1f} s old; at most {most_s:g} s are taken while the arm moves.",
            )

    def ages(self) -> dict[str, str]:
        """Ages of the inputs."""
        ages = {"joint state": self._joints.age_s(), "image": self._frames.age_s()}
        if self.config.safety.supervisor:
            ages["supervisor"] = self._heartbeats.age_s(self.config.safety.supervisor)
        return {f"{name} age [s]": f"{age_s:.3f}" for name, age_s in ages.items()}

    def close(self, timeout_s: float) -> bool:
        """Stop the arm and end."""
        self._ended.set()
        self._robot.stop()
        closed = super().close(timeout_s)
        if self._fingers.is_alive():
            self._fingers.join(timeout_s)  # it publishes: not after the node is gone
        return closed


def _read_keypose(goal: ExecuteKeypose.Goal) -> Any:
    try:
        return convert.keypose_from_msg(goal.keypose)
    except ValueError as error:
        raise StageError(OutcomeCode.KEYPOSE_OUT_OF_BOUNDS, f"The keypose cannot be used: {error}.") from error


def main() -> int:
    """Entry point."""
    return run(ExecutorNode)


if __name__ == "__main__":
    sys.exit(main())
