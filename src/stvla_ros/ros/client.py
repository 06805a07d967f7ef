"""What a program outside the graph needs: wait for nodes, give an instruction, follow and cancel it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import rclpy
from rclpy.context import Context
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions
from stvla_msgs.action import ExecuteTask

from stvla_ros.errors import CancelToken, OutcomeCode, StageError
from stvla_ros.pipeline import Progress, TaskState
from stvla_ros.ros.actions import ActionCaller
from stvla_ros.ros.convert import keypose_from_msg, outcome_from_msg
from stvla_ros.ros.heartbeats import HeartbeatMonitor
from stvla_ros.ros.task_state import state_from_msg
from stvla_ros.ros.udp_only import udp_only
from stvla_ros.types import Outcome

TASK = "task"
DEADLINE_S = 3600.0


@dataclass(frozen=True)
class GoalResult:
    """How a goal ended."""

    outcome: Outcome
    keyposes: int
    replans: int
    state: TaskState


@contextmanager
def client_node(name: str = "stvla_client") -> Iterator[Node]:
    """A node that spins in a thread, in a ROS context of its own (usable beside anything else in the process)."""
    context = Context()
    with udp_only():
        rclpy.init(args=[], context=context, signal_handler_options=SignalHandlerOptions.NO)
        node = Node(
            name, context=context, use_global_arguments=False, start_parameter_services=False, enable_rosout=False
        )
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(node)
    thread = threading.Thread(target=_spin, args=(executor,), name=name, daemon=True)
    thread.start()
    try:
        yield node
    finally:
        executor.shutdown()
        thread.join(2.0)
        node.destroy_node()
        context.try_shutdown()


def _spin(executor: SingleThreadedExecutor) -> None:
    try:
        while executor.get_nodes():
            executor.spin_once()
    except ExternalShutdownException:
        return


def wait_for_nodes(
    names: Iterable[str], timeout_s: float, give_up: Callable[[], bool] = lambda: False
) -> tuple[str, ...]:
    """Sleep until all nodes send heartbeats; the names of those that do not."""
    with client_node() as node:
        return HeartbeatMonitor(node, timeout_s=1.0).wait_for(names, timeout_s, give_up)


def run_goal(
    instruction: str,
    on_feedback: Callable[[Progress], None] = lambda _: None,
    cancel: CancelToken | None = None,
    connect_s: float = 20.0,
) -> GoalResult:
    """Give the running stack an instruction and wait for the outcome.

    Args:
        instruction: The operator's words.
        on_feedback: Called at every change of phase, from another thread.
        cancel: Cancels the task at the stack.
        connect_s: How long to wait for a stack to answer.

    Raises:
        ConnectionError: No stack is running, or it went away meanwhile.
    """
    cancel = cancel or CancelToken()
    with client_node() as node:
        remote = ActionCaller(node, ExecuteTask, "stvla/execute_task", moves_robot=True)
        monitor = HeartbeatMonitor(node, timeout_s=3.0)
        if monitor.wait_for([TASK], connect_s) or not _served(remote, connect_s):
            raise ConnectionError("No stack is running (no node 'task' is heard): start one with `stvla up`.")
        with _watching(monitor, cancel):
            return _call(remote, instruction, on_feedback, cancel)


def _call(
    remote: ActionCaller, instruction: str, on_feedback: Callable[[Progress], None], cancel: CancelToken
) -> GoalResult:
    goal = ExecuteTask.Goal(instruction=instruction)
    try:
        result = remote.call(goal, cancel, DEADLINE_S, lambda message: on_feedback(progress_from_msg(message)))
    except StageError as error:
        if error.code in (OutcomeCode.NODE_LOST, OutcomeCode.SERVER_TIMEOUT):
            raise ConnectionError(error.sentence) from error
        return GoalResult(Outcome(error.code, error.sentence), 0, 0, TaskState(instruction))
    state = state_from_msg(result.state)
    return GoalResult(outcome_from_msg(result.outcome), int(result.keyposes), int(result.replans), state)


@contextmanager
def _watching(monitor: HeartbeatMonitor, cancel: CancelToken) -> Iterator[None]:
    """Give up when the task node dies: its answer would never come."""
    watch, done = monitor.watch([TASK]), threading.Event()

    def look() -> None:
        while not done.wait(0.1):
            try:
                watch.raise_if_lost()
            except StageError as error:
                cancel.cancel(error.code, error.sentence)
                return

    thread = threading.Thread(target=look, name="watch task", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def _served(remote: ActionCaller, timeout_s: float) -> bool:
    end = time.monotonic() + timeout_s
    while not remote.available() and time.monotonic() < end:
        time.sleep(0.02)
    return remote.available()


def progress_from_msg(message: ExecuteTask.Feedback) -> Progress:
    """Feedback as the pipeline's own value."""
    predicted = bool(message.keypose.header.frame_id)
    return Progress(
        message.phase,
        message.sub_instruction,
        int(message.step),
        message.plan_id,
        keypose_from_msg(message.keypose, message.keypose.header.frame_id) if predicted else None,
        message.elapsed_s,
        state_from_msg(message.state),
    )
