"""The task node: takes an instruction, runs the ST-VLA loop over the other nodes, and returns a typed outcome."""

from __future__ import annotations

import sys
import threading
import time
from dataclasses import dataclass, replace
from functools import partial

from std_msgs.msg import Bool
from std_srvs.srv import Trigger
from stvla_msgs.action import ExecuteTask
from stvla_msgs.msg import TaskEnd as TaskEndMsg
from stvla_msgs.msg import TaskState as TaskStateMsg
from stvla_msgs.srv import UsePath

from stvla_ros.config import param
from stvla_ros.description.robot import RobotConfig
from stvla_ros.errors import CancelToken, OutcomeCode, StageError
from stvla_ros.pipeline import (
    EditedPaths,
    Hand,
    LoopConfig,
    Progress,
    TaskResult,
    TaskState,
    check_instruction,
    run_task,
    with_advice,
)
from stvla_ros.ros import qos, task_state
from stvla_ros.ros.action_client import TRANSPORT_S, GoalCanceler
from stvla_ros.ros.action_server import GoalHandle
from stvla_ros.ros.approvals import WHO_CHARS, approval_of, plain
from stvla_ros.ros.convert import keypose_to_msg, ok_msg, outcome_to_msg, plan_from_msg
from stvla_ros.ros.decision_log import DecisionLog
from stvla_ros.ros.decisions import TASK_END, TaskEnd, task_end_to_msg
from stvla_ros.ros.freshness import STEADY
from stvla_ros.ros.graph import CAMERA, SIM
from stvla_ros.ros.heartbeats import HeartbeatMonitor, LivenessReporter, Watch
from stvla_ros.ros.remote_stages import ApprovedStages, Deadlines, RemoteStages
from stvla_ros.ros.run import run
from stvla_ros.ros.slow_service import serve_slowly
from stvla_ros.ros.stage_node import StageNode
from stvla_ros.ros.stop_state import STOPPED, StopKeeper
from stvla_ros.types import Outcome

EXECUTOR = "executor"


@dataclass(frozen=True)
class TaskConfig(LoopConfig):
    """Settings of the task node; those of the loop may change between goals."""

    needs: tuple[str, ...] = param(("planner", "guidance", "policy", EXECUTOR), "a task ends when one of these is lost")
    heartbeat_timeout_s: float = param(1.5, "silence after which a node is lost [s]", ge=0.2, le=60.0)
    deadlines: Deadlines = param(Deadlines(), "longest time per stage")  # noqa: RUF009
    robot: RobotConfig = param(RobotConfig(), "which robot")  # noqa: RUF009


@dataclass(frozen=True)
class _Active:
    """The running task."""

    cancel: CancelToken
    watch: Watch
    stages: EditedPaths


class TaskNode(StageNode[TaskConfig]):
    """Serves ``stvla/execute_task``; a new goal preempts the old one. ``stvla/task_state`` has the state of the task.

    While a task runs, the node monitors the heartbeats of all nodes it needs. When one is lost, everything is
    canceled. When the executor is lost, this node stops the arm's controller, because no other node would. For the
    same case it accepts the operator's stop (``stvla/task/stop``) and keeps it for the next executor.
    """

    logs_success = True

    def __init__(self) -> None:
        super().__init__("task", TaskConfig)
        config = self.config
        self._monitor = HeartbeatMonitor(self, config.heartbeat_timeout_s)
        self._canceler = GoalCanceler(self, [config.robot.arm_action])
        self._stages = RemoteStages(
            self, config.deadlines, self._canceler, config.robot.base_frame, self._executor_lost
        )
        self._hand = Hand()
        self._lock = threading.Lock()
        self._missing: list[str] | None = None
        self._active: _Active | None = None
        self._idle = TaskState("")  # state at the end of the last task
        self.create_subscription(Bool, task_state.HOLDS_TOPIC, self._fingers, qos.LATCHED_NEWEST)
        self._state = self.create_publisher(TaskStateMsg, task_state.TOPIC, qos.LATCHED_NEWEST)
        self._ends = DecisionLog(self, TaskEndMsg, TASK_END)
        self._started = time.monotonic()
        self._stop_state = StopKeeper(self, self._halt, decides=True)
        self.create_service(Trigger, "stvla/task/stop", self._stop)
        serve_slowly(self, UsePath, "stvla/use_path", self._use_path)
        self.create_timer(0.05, self._watch, clock=STEADY)
        self._liveness = LivenessReporter(self._monitor, config.needs, (SIM.name, CAMERA.name))
        self.create_timer(0.1, self._log_liveness, clock=STEADY)
        self.create_timer(qos.DISCOVERY_S, self._look_for_controller, clock=STEADY)
        self.serve(ExecuteTask, "stvla/execute_task", self._execute, preempt=True)

    def ready(self) -> None:
        """Publish that no task runs, which replaces what an earlier node of this name left on the topic."""
        super().ready()
        self._publish(self._idle, task_state.IDLE)

    def _fingers(self, message: Bool) -> None:
        """The executor reports whether the gripper holds something."""
        self._hand.fingers(message.data)
        with self._lock:
            idle = self._active is None
        if idle and self._idle.holding != self._hand.holding:
            self._idle = replace(self._idle, holding=self._hand.holding)
            self._publish(self._idle, task_state.IDLE)

    def _log_liveness(self) -> None:
        for sentence in self._liveness.changes():
            self.get_logger().info(sentence)

    def _execute(self, goal_handle: GoalHandle) -> ExecuteTask.Result:
        started_ns = self.now_ns()
        try:
            result = self._carry_out(goal_handle)
        except StageError as error:  # before the task began
            result = TaskResult(Outcome.of(error), (), TaskState(""))
        holding = self._hand.holding
        self._idle = replace(result.state, holding=holding)
        outcome = replace(result.outcome, sentence=with_advice(result.outcome.sentence, holding))
        self.health["last outcome"] = outcome.code.name
        asked = replace(self._idle, instruction=goal_handle.request.instruction)
        self._ends.tell(lambda: task_end_to_msg(TaskEnd(started_ns, self.now_ns(), outcome, asked)))
        return ExecuteTask.Result(
            outcome=outcome_to_msg(outcome),
            keyposes=len(result.keyposes),
            replans=result.replans,
            state=self._publish(self._idle, task_state.IDLE),
        )

    def _carry_out(self, goal_handle: GoalHandle) -> TaskResult:
        instruction = check_instruction(goal_handle.request.instruction)
        approved = ApprovedStages(self._stages, approval_of(goal_handle.request.approval))
        stages = EditedPaths(approved, self._stages.lift, goal_handle.cancel)
        self._stop_state.raise_if_stopped()
        self._monitor.wait_for(self.config.needs, give_up=goal_handle.cancel.is_set)
        watch = self._monitor.watch(self.config.needs)
        watch.raise_if_lost()
        self._find_controller(goal_handle.cancel)
        with self._lock:
            self._stop_state.raise_if_stopped()
            self._active = _Active(goal_handle.cancel, watch, stages)
        try:
            tell = partial(self._report, goal_handle)
            return run_task(stages, instruction, self.config, goal_handle.cancel, tell, hand=self._hand)
        finally:
            with self._lock:
                self._active = None

    def _find_controller(self, cancel: CancelToken) -> None:
        """Wait for the arm's controller, and until it has answered the stops of earlier tasks, which could reach it late
        and stop this one. Without it no task starts: nobody could stop the arm if the executor were lost.

        Raises:
            StageError: CONTROLLER_FAILED; the cancel's reason.
        """
        end = time.monotonic() + qos.DISCOVERY_S
        while missing := self._canceler.missing():
            cancel.raise_if_set()
            if time.monotonic() > end:
                raise StageError(OutcomeCode.CONTROLLER_FAILED, _no_controller(missing))
            cancel.wait(0.05)
        self._canceler.wait_until_answered(TRANSPORT_S, cancel)

    def _look_for_controller(self) -> None:
        """Log when the arm's controller cannot be found, once per loss."""
        missing = self._canceler.missing()
        if missing and missing != self._missing:
            self.get_logger().warning(_no_controller(missing))
        self._missing = missing
        self.health["arm's controller"] = "not found" if missing else "found"

    def _publish(self, state: TaskState, phase: str) -> TaskStateMsg:
        message = task_state.state_to_msg(state, phase, self.now_ns())
        self._state.publish(message)
        return message

    def _report(self, goal_handle: GoalHandle, progress: Progress) -> None:
        feedback = ExecuteTask.Feedback(
            phase=progress.phase,
            sub_instruction=progress.sub_instruction,
            step=progress.step,
            plan_id=progress.plan_id,
            elapsed_s=progress.elapsed_s,
            state=self._publish(progress.state, progress.phase),
        )
        if progress.keypose is not None:
            feedback.keypose = keypose_to_msg(progress.keypose, self.config.robot.base_frame)
        goal_handle.publish_feedback(feedback)

    def _use_path(self, request: UsePath.Request, response: UsePath.Response) -> None:
        """Keep a person's path for when the motion that waits is refused; nothing moves by it."""
        who = plain(request.who, WHO_CHARS) or "somebody"
        with self._lock:
            active = self._active
        try:
            if active is None:
                raise StageError(OutcomeCode.INVALID_GOAL, "The path was not used: no task runs.")
            plan = active.stages.offer(plan_from_msg(request.plan))
        except StageError as error:
            response.outcome = outcome_to_msg(Outcome.of(error))
            self.get_logger().warning(f"The path of {who} is not used: {error}")
            return
        except Exception as error:  # noqa: BLE001 - whatever it is, the person gets an answer
            self._defect(error)
            sentence = "A defect while a person's path was checked; see the log of 'task'."
            response.outcome = outcome_to_msg(Outcome(OutcomeCode.INTERNAL, sentence))
            return
        response.outcome = ok_msg()
        self.get_logger().info(
            f"Path {plan.plan_id} of {who} comes next if the motion of {plain(request.plan.plan_id, WHO_CHARS)} is refused."
        )

    def _stop(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        try:
            self._stop_state.stop()
        finally:
            self._halt()
        response.success, response.message = True, "Stopped; the stop is kept for the next executor too."
        return response

    def _halt(self) -> None:
        """Stop, because the operator stopped this node or another one."""
        self._canceler.cancel_all()
        with self._lock:
            active = self._active
        if active is not None:
            active.cancel.cancel(OutcomeCode.CANCELED, STOPPED)

    def _executor_lost(self) -> bool:
        with self._lock:
            active = self._active
        return active is not None and EXECUTOR in active.watch.lost()

    def _watch(self) -> None:
        """End the running task when a node is lost. Runs in the executor's thread, in parallel to the task.

        While the executor is lost, each call stops the arm's controller again until the task has ended, whichever
        node was lost first: a single request can get lost, and repeated ones are harmless.
        """
        if time.monotonic() - self._started > qos.DISCOVERY_S:
            self._stop_state.assume_released()  # no executor has published a state
        with self._lock:
            active = self._active
        if active is None:
            return
        if EXECUTOR in active.watch.lost():
            self._canceler.cancel_all()
        if active.cancel.is_set():
            return
        try:
            active.watch.raise_if_lost()
        except StageError as error:
            self.get_logger().error(error.sentence)
            active.cancel.cancel(OutcomeCode.NODE_LOST, error.sentence)


def _no_controller(names: list[str]) -> str:
    return (
        f"No action server {' and '.join(names)} was found, so nobody could stop the arm if the executor were lost: start the "
        "robot's controllers, or set robot.arm_action in the parameter file."
    )


def main() -> int:
    """Entry point."""
    return run(TaskNode)


if __name__ == "__main__":
    sys.exit(main())
