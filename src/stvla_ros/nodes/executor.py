"""The executor: the only node that moves the robot, and the one that stops it.

Before and during every motion it checks the age of everything that the motion depends on: joint states, camera image,
lifted path, and the heartbeat of the task node that sends the goals. Nothing delays a stop: an operator's stop, a
cancel and a lost heartbeat go straight to the controllers.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from threading import Event, Lock, Thread

from std_msgs.msg import Bool
from std_srvs.srv import Trigger
from stvla_msgs.action import ExecuteKeypose, ReleaseObject
from stvla_msgs.msg import Keypose as KeyposeMsg
from stvla_msgs.msg import MotionDecision as MotionDecisionMsg
from stvla_msgs.msg import TaskState as TaskStateMsg

from stvla_ros.calibration.drift import DriftCheck, DriftConfig
from stvla_ros.config import param
from stvla_ros.description.robot import RobotConfig
from stvla_ros.errors import CancelToken, OutcomeCode, StageError
from stvla_ros.motion.approval import APPROVAL_S, Approval, ApprovalConfig
from stvla_ros.motion.executor import Consent, ExecutorConfig, PlannedExecutor
from stvla_ros.motion.followed import FollowedPaths
from stvla_ros.ros import convert, decisions, qos, task_state
from stvla_ros.ros.action_server import GoalHandle
from stvla_ros.ros.approvals import Approvals, approval_of
from stvla_ros.ros.backends.ros2_control import Ros2ControlConfig, Ros2ControlRobot
from stvla_ros.ros.decision_log import DecisionLog
from stvla_ros.ros.decisions import MotionDecision, motion_decision_to_msg
from stvla_ros.ros.frames import CameraConfig, RgbdReceiver
from stvla_ros.ros.freshness import STEADY
from stvla_ros.ros.heartbeats import HeartbeatMonitor, LivenessReporter, Watch
from stvla_ros.ros.motion_guard import guard, publishing_feedback
from stvla_ros.ros.obstacles import ObstacleMarkers
from stvla_ros.ros.robot_state import JointStateConfig, JointStates
from stvla_ros.ros.run import run
from stvla_ros.ros.scene_observer import SceneObserver
from stvla_ros.ros.shared_memory import end_without_port
from stvla_ros.ros.slow_service import serve_slowly
from stvla_ros.ros.stage_node import StageNode
from stvla_ros.ros.stop_state import STOPPED, StopKeeper
from stvla_ros.ros.tf import TransformError
from stvla_ros.ros.traces import TraceInbox
from stvla_ros.types import Keypose, Outcome, RgbdFrame, RobotState, Trace3d

FINGERS_PERIOD_S = 0.2
TRANSFORM_WAIT_S = 1.0
"""How much later than a keypose the transform of its frame may come."""

TRACE_WAIT_S = qos.DISCOVERY_S
"""How much later than a keypose its path may come: a restarted executor must first discover the guidance node."""

DEFECT = "A defect in the executor; the traceback is in its log."

CLEAR_S = qos.DISCOVERY_S + 2.0
"""How long a goal waits while an executor that has just started finds the controllers and brings the arm to rest."""


@dataclass(frozen=True)
class SafetyConfig:
    """How old inputs may become before and during a motion."""

    supervisor: str = param("task", "node whose heartbeat is required; empty: none, to test the executor alone")
    heartbeat_timeout_s: float = param(1.0, "silence after which the supervisor is lost [s]", ge=0.2, le=10.0)
    image_timeout_s: float = param(2.0, "the motion stops when the newest image is older [s]", ge=0.1, le=30.0)
    trace_timeout_s: float = param(120.0, "a path drawn on an older image is refused [s]", ge=1.0, le=3600.0)


@dataclass(frozen=True)
class ExecutorNodeConfig:
    """Settings of the executor node."""

    motion: str = param("roboplan", "motion planner")
    safety: SafetyConfig = param(SafetyConfig(), "ages")  # noqa: RUF009
    executor: ExecutorConfig = param(ExecutorConfig(), "from keypose to motions")  # noqa: RUF009
    controllers: Ros2ControlConfig = param(Ros2ControlConfig(), "how the robot's controllers are used")  # noqa: RUF009
    camera: CameraConfig = param(CameraConfig(), "where images come from")  # noqa: RUF009
    joint_states: JointStateConfig = param(JointStateConfig(), "how old joint states may be")  # noqa: RUF009
    calibration: DriftConfig = param(DriftConfig(), "when the camera's transform is refused")  # noqa: RUF009
    robot: RobotConfig = param(RobotConfig(), "which robot")  # noqa: RUF009
    approval: ApprovalConfig = param(ApprovalConfig(), "a person's consent to motions")  # noqa: RUF009


class ExecutorNode(StageNode[ExecutorNodeConfig]):
    """Serves ``stvla/execute_keypose``, ``stvla/release_object``, ``stvla/approve_motion``, ``stvla/stop``,
    ``stvla/resume`` and ``stvla/recover``."""

    def __init__(self) -> None:
        super().__init__("executor", ExecutorNodeConfig, backends={"motion": "motion"})
        config, robot = self.config, self.config.robot
        self._frames = RgbdReceiver(self, config.camera, base_frame=robot.base_frame)
        end_without_port(self)
        self._joints = JointStates(self, config.joint_states, robot)
        self._traces = TraceInbox(self)
        self._heartbeats = HeartbeatMonitor(self, config.safety.heartbeat_timeout_s)
        self._liveness = LivenessReporter(self._heartbeats, (), tuple(filter(None, [config.safety.supervisor])))
        self.create_timer(0.1, self._log_liveness, clock=STEADY)
        self._robot = Ros2ControlRobot(self, self._joints.state, config.controllers, robot)
        motion = self.parameters.create("motion", robot.limits)
        self._followed = FollowedPaths(self._robot)
        self._executor = PlannedExecutor(self._followed, motion, config.executor, robot.open_width_m, robot.limits)
        voxels, observe = config.executor.voxels, self._executor.observe
        self._observer = SceneObserver(self._frames, self._joints, observe, voxels, self._scene_is_of_use, self._defect)
        ObstacleMarkers(self, lambda: self._executor.obstacles_m, voxels.size_m, robot.base_frame, self.now_ns)
        self._decisions = DecisionLog(self, MotionDecisionMsg, decisions.MOTION)
        self._drift = DriftCheck(config.calibration)
        self._approvals = Approvals(self, robot, self.now_ns)
        self._lock = Lock()
        self._running: CancelToken | None = None
        self._stop_state = StopKeeper(self, self._halt)
        self._ended, self._cleared = Event(), Event()
        self._trouble_at_start = "The robot's controllers have not answered yet."
        self._left: RobotState | None = None  # how the last motion left the robot
        self._holds: bool | None = None  # as last published
        self._task_phase = task_state.IDLE
        self._fingers = Thread(target=self._watch_fingers, name="fingers", daemon=True)
        self._holds_out = self.create_publisher(Bool, task_state.HOLDS_TOPIC, qos.LATCHED_NEWEST)
        self.create_subscription(TaskStateMsg, task_state.TOPIC, self._task_state, qos.LATCHED_NEWEST)
        self.create_service(Trigger, "stvla/stop", self._stop)
        self.create_service(Trigger, "stvla/resume", self._resume)
        serve_slowly(self, Trigger, "stvla/recover", self._recover)
        self.serve(ExecuteKeypose, "stvla/execute_keypose", self._work, preempt=True)
        self.serve(ReleaseObject, "stvla/release_object", self._release)

    def ready(self) -> None:
        """Cancel goals of an earlier executor, and ask whether the operator has stopped the stack."""
        if self.config.safety.supervisor:
            self._stop_state.ask()
        else:  # there is no node that could know of a stop
            self._stop_state.assume_released()
        Thread(target=self._clear, name="clear", daemon=True).start()
        self._fingers.start()
        self._observer.start()
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
        if message.phase == task_state.IDLE:
            self._drift.begin_task()
        self._task_phase = message.phase

    def _watch_fingers(self) -> None:
        """While nothing moves, publish when an object is taken out of the gripper or put into it."""
        while not self._ended.wait(FINGERS_PERIOD_S):
            left = self._left
            try:
                state = self._joints.state()
            except StageError:
                continue  # reported where the state is needed
            with self._lock:
                same = self._running is None and self._left is left
            if same and self._executor.holds(state) != self._holds:
                self._publish_holds(state)

    def _publish_holds(self, state: RobotState) -> None:
        self._holds = self._executor.holds(state)
        self._holds_out.publish(Bool(data=self._holds))

    def _stop(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        try:
            self._stop_state.stop()
        finally:
            self._halt()
        response.success, response.message = True, "Stopped. Nothing moves until `stvla stop --release`."
        return response

    def _halt(self) -> None:
        """Stop, because the operator stopped this node or another one."""
        self._robot.stop()
        self._executor.soften()
        with self._lock:
            running = self._running
        if running is not None:
            running.cancel(OutcomeCode.CANCELED, STOPPED)
        self.get_logger().warning("Stopped by the operator.")

    def _resume(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        self._stop_state.release()
        response.success, response.message = True, "Motion is allowed again."
        return response

    def _recover(self, request: Trigger.Request, response: Trigger.Response) -> None:
        """Make a robot that stopped itself ready again. Nothing moves, and the operator's stop stays in force.

        The next keypose needs an image from after the recovery, and its motion leaves what the robot may touch first.
        """
        try:
            with self._alone(CancelToken()):
                sentence = self._robot.recover()
                self._left = self._joints.state()
                self._executor.recovered(self._left)
        except StageError as error:
            response.success, response.message = False, str(error)
            self.get_logger().error(f"Not recovered: {error}")
            return
        except Exception as error:  # noqa: BLE001 - whatever it is, the operator gets an answer
            self._defect(error)
            response.success, response.message = False, f"INTERNAL: {DEFECT}"
            return
        if self._stop_state.state.stopped:
            sentence += " The operator's stop is still in force: `stvla stop --release` ends it."
        response.success, response.message = True, sentence
        self.get_logger().info(sentence)

    @contextmanager
    def _alone(self, cancel: CancelToken) -> Iterator[None]:
        """Only one at a time uses the arm. Raises StageError INVALID_GOAL while another does."""
        with self._lock:
            if self._running is not None:
                raise StageError(
                    OutcomeCode.INVALID_GOAL, "The arm is executing another goal: wait for its end or cancel it."
                )
            self._running = cancel
        try:
            yield
        finally:
            with self._lock:
                self._running = None

    def _read_keypose(self, message: KeyposeMsg, cancel: CancelToken) -> Keypose:
        """The keypose in the base frame; one in another frame is transformed by TF.

        Raises:
            StageError: KEYPOSE_OUT_OF_BOUNDS for an invalid pose, or a frame unknown to TF; the cancel's reason.
        """
        frame, base = message.header.frame_id.lstrip("/"), self.config.robot.base_frame
        try:
            keypose = convert.keypose_from_msg(message, frame or base)
            if frame == base:
                return keypose
            T = self._frames.transforms.wait(base, frame, keypose.stamp_ns, TRANSFORM_WAIT_S, cancel)
        except (ValueError, TransformError) as error:
            raise StageError(OutcomeCode.KEYPOSE_OUT_OF_BOUNDS, f"The keypose cannot be used: {error}.") from error
        return replace(keypose, T_base_tcp=T @ keypose.T_base_tcp)

    def _trace(self, plan_id: str, cancel: CancelToken) -> Trace3d:
        """The path of a plan. Raises StageError like :meth:`TraceInbox.wait`, and STALE_IMAGE when it is old."""
        message = self._traces.wait(plan_id, TRACE_WAIT_S, cancel)
        age_s = (self.now_ns() - convert.time_to_ns(message.header.stamp)) * 1e-9
        limit_s = self.config.safety.trace_timeout_s
        if age_s > limit_s:
            raise StageError(
                OutcomeCode.STALE_IMAGE,
                f"The path was drawn on an image {age_s:.0f} s old; at most {limit_s:g} s are accepted: plan again.",
            )
        return convert.trace_from_msg(message)

    def _work(self, goal_handle: GoalHandle) -> ExecuteKeypose.Result:
        if not self._cleared.wait(CLEAR_S):
            raise StageError(OutcomeCode.CONTROLLER_FAILED, self._trouble_at_start)
        keypose = self._read_keypose(goal_handle.request.keypose, goal_handle.cancel)
        plan_id, robot = goal_handle.request.plan_id, self.config.robot
        frame: RgbdFrame | None = None
        state: RobotState | None = None
        done: Outcome | None = None
        self._followed.paths = ()

        def decision(outcome: Outcome, _: float) -> MotionDecisionMsg:
            given = plan_id, keypose, frame.stamp_ns if frame else 0, state, self._followed.paths
            return motion_decision_to_msg(
                MotionDecision(self.now_ns(), *given, done or outcome), robot.base_frame, robot.arm_joints
            )

        with self._decisions.told(decision):
            frame = self._frames.wait(self._left_ns(), goal_handle.cancel)
            with self._guarded(goal_handle):
                trace = self._trace(plan_id, goal_handle.cancel) if plan_id else None
                state = self._joints.state()
                self._drift(frame, self._joints.at(frame.stamp_ns))
                if self._moved_by_others(state):
                    self._executor.reset()
                consent = self._consent(goal_handle, keypose)
                try:
                    done = self.timed(
                        "keypose", lambda: self._executor.execute(keypose, frame, trace, goal_handle.cancel, consent)
                    )
                finally:
                    self._leave()
        self.health["motion plan latency [ms]"] = f"{1e3 * done.times_s.get('motion_plan', 0.0):.1f}"
        return ExecuteKeypose.Result(outcome=convert.outcome_to_msg(done))

    def _consent(self, goal_handle: GoalHandle, keypose: Keypose) -> Consent:
        """What the goal asks for or this node is set to, whichever is stricter. Raises StageError INVALID_GOAL."""
        request, config = goal_handle.request, self.config.approval
        approval = approval_of(request.approval).stricter(Approval(config.at_least))
        wait_s = request.approval_s if 0.0 < request.approval_s <= APPROVAL_S else config.wait_s
        return lambda paths: self._approvals.desk.require(
            approval, request.plan_id, keypose, paths, wait_s, goal_handle.cancel
        )

    def _activity(self) -> str:
        return "waiting for approval" if self._approvals.desk.waits else self._robot.activity

    def _leave(self) -> None:
        """Note the state after a motion, and publish what the gripper holds before the motion's result is sent."""
        self._left = self._joints.newest()
        self._publish_holds(self._left)

    def _left_ns(self) -> int:
        """When the last motion ended; 0 if nothing has moved, or the clock was set back (a restarted simulation)."""
        left_ns = self._left.stamp_ns if self._left else 0
        return left_ns if left_ns <= self.now_ns() + self.config.joint_states.max_ahead_s * 1e9 else 0

    def _release(self, goal_handle: GoalHandle) -> ReleaseObject.Result:
        """Put down the held object. Rejected while a task runs, which would not know that the gripper is empty."""
        if not self._cleared.wait(CLEAR_S):
            raise StageError(OutcomeCode.CONTROLLER_FAILED, self._trouble_at_start)
        if self._task_phase != task_state.IDLE:
            raise StageError(OutcomeCode.INVALID_GOAL, "A task is running: cancel it first, then release.")

        def publish(feedback: ExecuteKeypose.Feedback) -> None:
            goal_handle.publish_feedback(ReleaseObject.Feedback(phase=feedback.phase, elapsed_s=feedback.elapsed_s))

        def look() -> RgbdFrame:
            return self._frames.wait(self.now_ns(), goal_handle.cancel)

        with self._guarded(GoalHandle(goal_handle.request, goal_handle.cancel, publish)):
            if self._moved_by_others(self._joints.state()):
                self._executor.reset()
            try:
                outcome = self.timed("release", lambda: self._executor.release(look, goal_handle.cancel))
            finally:
                self._leave()
        return ReleaseObject.Result(outcome=convert.outcome_to_msg(outcome))

    def _scene_is_of_use(self) -> bool:
        """Whether a motion may need what the camera shows now. Before the first one, the scene is cleared."""
        remembered_ns = self.config.executor.voxels.memory_s * 1e9
        return self._running is not None or 0 < self._left_ns() > self.now_ns() - remembered_ns

    def _moved_by_others(self, state: RobotState) -> bool:
        """Whether the robot has changed since the last motion: by hand, by another program, or by a new scene."""
        return self._left is None or state.moved_since(self._left)

    @contextmanager
    def _guarded(self, goal_handle: GoalHandle) -> Iterator[None]:
        """Refuse to start a motion, or cancel it, when an input is too old or the operator has stopped the stack.

        Raises:
            StageError: Like :meth:`_check`; CANCELED while the operator's stop is in force; NODE_LOST when a new
                executor has not learned whether it is; what the robot's driver reports when that is not ready.
        """
        self._stop_state.raise_if_stopped()  # first of all checks: the operator expects this answer
        supervisors = [name for name in [self.config.safety.supervisor] if name]
        self._robot.raise_if_not_ready()
        self._heartbeats.wait_for(supervisors, give_up=goal_handle.cancel.is_set)
        watch = self._heartbeats.watch(supervisors)
        self._check(watch)
        if not self._stop_state.wait_known(qos.DISCOVERY_S):
            raise StageError(
                OutcomeCode.NODE_LOST,
                f"The executor was restarted, and the node '{self.config.safety.supervisor}' did not say within "
                f"{qos.DISCOVERY_S:g} s whether the operator has stopped the stack. Look at its log, then send the goal again.",
            )
        with self._alone(goal_handle.cancel):
            self._stop_state.raise_if_stopped()  # after which _halt finds the running goal
            with (
                guard(lambda: self._check(watch), goal_handle.cancel, self._robot.stop, self._defect),
                publishing_feedback(goal_handle, self._activity, self._defect),
            ):
                yield

    def _check(self, watch: Watch) -> None:
        """Raises StageError STALE_STATE, STALE_IMAGE or NODE_LOST."""
        watch.raise_if_lost()
        self._joints.state()
        if fault := self._frames.fault(self.config.safety.image_timeout_s):
            raise StageError(OutcomeCode.STALE_IMAGE, fault)

    def _log_liveness(self) -> None:
        """Log whether the task node is alive. It logs this for all other nodes."""
        for sentence in self._liveness.changes():
            self.get_logger().info(sentence)

    def ages(self) -> dict[str, str]:
        """Ages of the inputs, and how many images the planning scene got besides those that motions begin with."""
        ages = {"joint state": self._joints.age_s(), "image": self._frames.age_s()}
        if self.config.safety.supervisor:
            ages["supervisor"] = self._heartbeats.age_s(self.config.safety.supervisor)
        images = {"further images in the planning scene": str(self._observer.images)}
        return {**{f"{name} age [s]": f"{age_s:.3f}" for name, age_s in ages.items()}, **images}

    def close(self, timeout_s: float) -> bool:
        """Stop the arm and end all work."""
        self._ended.set()
        self._robot.stop()
        closed = super().close(timeout_s)
        self._observer.close(timeout_s)
        if self._fingers.is_alive():
            self._fingers.join(timeout_s)  # it publishes, which must not happen after the node is destroyed
        return closed


def main() -> int:
    """Entry point."""
    return run(ExecutorNode)


if __name__ == "__main__":
    sys.exit(main())
