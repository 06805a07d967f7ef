"""The task as a node: an instruction in, the ST-VLA loop over the other nodes, a typed outcome out."""

from __future__ import annotations

import sys
import threading
from dataclasses import dataclass, replace
from functools import partial

from std_msgs.msg import Bool
from stvla_msgs.action import ExecuteTask
from stvla_msgs.msg import TaskState as TaskStateMsg

from stvla_ros.config import param
from stvla_ros.errors import CancelToken, OutcomeCode, StageError
from stvla_ros.pipeline import (
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
from stvla_ros.ros.action_server import Job
from stvla_ros.ros.convert import keypose_to_msg, outcome_to_msg
from stvla_ros.ros.heartbeats import HeartbeatMonitor, Watch
from stvla_ros.ros.remote_stages import Deadlines, RemoteStages
from stvla_ros.ros.run import run
from stvla_ros.ros.stage_node import StageNode
from stvla_ros.ros.stopper import Stopper
from stvla_ros.types import Outcome

EXECUTOR = "executor"


@dataclass(frozen=True)
class TaskConfig(LoopConfig):
    """Settings of the task's node; those of the loop may change between goals."""

    needs: tuple[str, ...] = param(("planner", "guidance", "policy", EXECUTOR), "nodes without which a task ends")
    heartbeat_timeout_s: float = param(1.5, "a node silent for so long is lost [s]", ge=0.2, le=60.0)
    deadlines: Deadlines = param(Deadlines(), "longest time per stage")  # noqa: RUF009
    arm_action: str = param("panda_arm_controller/follow_joint_trajectory", "the arm's controller, for stopping it")


@dataclass(frozen=True)
class _Active:
    """The task being carried out."""

    cancel: CancelToken
    watch: Watch


class TaskNode(StageNode[TaskConfig]):
    """Serves ``stvla/execute_task``; a new goal preempts the old one. ``stvla/task_state`` says where the task stands.

    While a task runs it listens to the heartbeats of all nodes it needs. When one is lost everything is canceled; when
    it is the executor, the arm's controller is told to stop, for nobody else would do so.
    """

    def __init__(self) -> None:
        super().__init__("task", TaskConfig)
        config = self.config
        self._monitor = HeartbeatMonitor(self, config.heartbeat_timeout_s)
        self._stopper = Stopper(self, [config.arm_action])
        self._stages = RemoteStages(self, config.deadlines, self._stopper)
        self._hand = Hand()
        self._lock = threading.Lock()
        self._active: _Active | None = None
        self._idle = TaskState("")  # where the last task ended
        self.create_subscription(Bool, task_state.HOLDS_TOPIC, self._fingers, qos.LATCHED_NEWEST)
        self._state = self.create_publisher(TaskStateMsg, task_state.TOPIC, qos.LATCHED_NEWEST)
        self.create_timer(0.05, self._watch)
        self.serve(ExecuteTask, "stvla/execute_task", self._execute, preempt=True)

    logs_success = True

    def ready(self) -> None:
        """Tell that no task runs, whatever an earlier node of this name left on the topic."""
        super().ready()
        self._publish(self._idle, task_state.IDLE)

    def _fingers(self, message: Bool) -> None:
        """The executor says whether the gripper holds something."""
        self._hand.fingers(message.data)
        with self._lock:
            idle = self._active is None
        if idle and self._idle.holding != self._hand.holding:
            self._idle = replace(self._idle, holding=self._hand.holding)
            self._publish(self._idle, task_state.IDLE)

    def _execute(self, job: Job) -> ExecuteTask.Result:
        try:
            result = self._carry_out(job)
        except StageError as error:  # before anything was begun
            result = TaskResult(Outcome(error.code, error.sentence), (), TaskState(""))
        holding = self._hand.holding
        self._idle = replace(result.state, holding=holding)
        outcome = replace(result.outcome, sentence=with_advice(result.outcome.sentence, holding))
        self.health["last outcome"] = outcome.code.name
        return ExecuteTask.Result(
            outcome=outcome_to_msg(outcome),
            keyposes=len(result.keyposes),
            replans=result.replans,
            state=self._publish(self._idle, task_state.IDLE),
        )

    def _carry_out(self, job: Job) -> TaskResult:
        instruction = check_instruction(job.goal.instruction)
        self._monitor.wait_for(self.config.needs, 2.0)
        watch = self._monitor.watch(self.config.needs)
        watch.raise_if_lost()
        with self._lock:
            self._active = _Active(job.cancel, watch)
        try:
            tell = partial(self._report, job)
            return run_task(self._stages, instruction, self.config, job.cancel, tell, hand=self._hand)
        finally:
            with self._lock:
                self._active = None

    def _publish(self, state: TaskState, phase: str) -> TaskStateMsg:
        message = task_state.state_to_msg(state, phase, self.now_ns())
        self._state.publish(message)
        return message

    def _report(self, job: Job, progress: Progress) -> None:
        feedback = ExecuteTask.Feedback(
            phase=progress.phase,
            sub_instruction=progress.sub_instruction,
            step=progress.step,
            plan_id=progress.plan_id,
            elapsed_s=progress.elapsed_s,
            state=self._publish(progress.state, progress.phase),
        )
        if progress.keypose is not None:
            feedback.keypose = keypose_to_msg(progress.keypose)
        job.feedback(feedback)

    def _watch(self) -> None:
        """End the running task when a node is lost. Runs in the executor's thread, beside the task.

        For a lost executor the arm is told to stop at every look until the task has ended, whichever node was lost
        first: a single request can get lost, and the answer of a controller that stands still already is harmless.
        """
        with self._lock:
            active = self._active
        if active is None:
            return
        if EXECUTOR in active.watch.lost():
            self._stopper.cancel_all()
        if active.cancel.is_set():
            return
        try:
            active.watch.raise_if_lost()
        except StageError as error:
            self.get_logger().error(error.sentence)
            active.cancel.cancel(OutcomeCode.NODE_LOST, error.sentence)


def main() -> int:
    """Entry point."""
    return run(TaskNode)


if __name__ == "__main__":
    sys.exit(main())
