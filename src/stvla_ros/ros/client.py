"""The stack's client for other programs: goals, cancel, release, and the simulator's services."""

from __future__ import annotations

import queue
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import rclpy
from rclpy.client import Client
from rclpy.context import Context
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions
from std_srvs.srv import Trigger
from stvla_msgs.action import ExecuteTask, ReleaseObject
from stvla_msgs.msg import StopState as StopStateMsg
from stvla_msgs.msg import TaskState as TaskStateMsg
from stvla_msgs.srv import ResetScene, ScoreTask

from stvla_ros.config import ConfigError
from stvla_ros.errors import CancelToken, OutcomeCode, StageError
from stvla_ros.motion.approval import Approval
from stvla_ros.pipeline import Progress, TaskState
from stvla_ros.ros import qos, stop_state, task_state
from stvla_ros.ros.action_client import EXECUTOR_CANCEL_S, TASK_CANCEL_S, GoalCanceler, StageClient
from stvla_ros.ros.convert import keypose_from_msg, outcome_from_msg
from stvla_ros.ros.heartbeats import HeartbeatMonitor, Watch
from stvla_ros.ros.middleware import destroy_node, end_discovery, udp_only
from stvla_ros.ros.service_client import AGAIN_S, call
from stvla_ros.ros.task_state import state_from_msg
from stvla_ros.types import Outcome

TASK, TASK_ACTION = "task", "stvla/execute_task"
DEADLINE_S, RELEASE_S, SERVICE_S, RECOVER_S = 3600.0, 120.0, 30.0, 90.0
"""Time limits for a task, for a release, for an answer of the simulator, and for a recovery with all its steps."""

FOLLOWED_S = 2.0
"""Time limit for showing the last feedback: a terminal that hangs must not hold back the outcome."""

ANSWER_S = 5.0
"""Time limit of a second client that cancels the task when the first one cannot: discovery and one answer."""


@dataclass(frozen=True)
class GoalResult:
    """How a goal ended: the pipeline's ``TaskResult`` without the keyposes themselves, which do not come over ROS."""

    outcome: Outcome
    state: TaskState


class ClientNode(Node):
    """The node of a client.

    Attributes:
        broken: The exception that ended the thread which spins the node, a defect; None while it runs.
    """

    broken: BaseException | None = None


@contextmanager
def client_node(name: str = "stvla_client") -> Iterator[ClientNode]:
    """A node that spins in a thread, in its own ROS context, so that it does not disturb the rest of the process."""
    context = Context()
    with udp_only():
        rclpy.init(args=[], context=context, signal_handler_options=SignalHandlerOptions.NO)
        node = ClientNode(
            name, context=context, use_global_arguments=False, start_parameter_services=False, enable_rosout=False
        )
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(node)
    ending = threading.Event()
    thread = threading.Thread(target=_spin, args=(executor, node, ending), name=name, daemon=True)
    thread.start()
    try:
        yield node
    finally:
        ending.set()
        executor.create_task(lambda: None)  # ends the wait, which would fail when its handles are destroyed
        thread.join(2.0)
        executor.shutdown()
        end_discovery(node)
        destroy_node(node)
        context.try_shutdown()


def _spin(executor: SingleThreadedExecutor, node: ClientNode, ending: threading.Event) -> None:
    try:
        while not ending.is_set():
            executor.spin_once()
    except ExternalShutdownException:
        return
    except BaseException as error:  # noqa: BLE001 - SystemExit too: its end must be noticed
        node.broken = error


def wait_for_nodes(
    names: Iterable[str], timeout_s: float, give_up: Callable[[], bool] = lambda: False
) -> tuple[str, ...]:
    """Wait until all nodes send heartbeats; returns the names of those that do not."""
    with client_node() as node:
        return HeartbeatMonitor(node, timeout_s=1.0).wait_for(names, timeout_s, give_up)


def ask_stop_state(timeout_s: float) -> stop_state.StopState:
    """Ask a running stack whether the operator has stopped it; the state is unknown when no stack answers in time."""
    heard: queue.SimpleQueue[stop_state.StopState] = queue.SimpleQueue()
    end, newest = time.monotonic() + timeout_s, stop_state.StopState()
    with client_node() as node:
        hear = lambda message: heard.put(stop_state.state_from_msg(message))  # noqa: E731
        node.create_subscription(StopStateMsg, stop_state.TOPIC, hear, qos.LATCHED)
        while not newest.known and (left_s := end - time.monotonic()) > 0.0:
            try:
                newest = heard.get(timeout=left_s)
            except queue.Empty:
                break
    return newest


def run_goal(
    instruction: str,
    on_feedback: Callable[[Progress], None] = lambda _: None,
    cancel: CancelToken | None = None,
    connect_s: float = 20.0,
    approval: Approval = Approval.AUTOMATIC,
) -> GoalResult:
    """Send an instruction to the running stack and wait for the outcome.

    Args:
        instruction: The operator's words.
        on_feedback: Called at every change of phase, in a separate thread. When it raises, the task is canceled, and
            this function raises the same exception after the stack has confirmed the cancel.
        cancel: Cancels the task.
        connect_s: Time limit for finding a stack.
        approval: What each motion needs before it happens.

    Raises:
        ConnectionError: No stack is running, or it went away meanwhile.
    """
    cancel = cancel or CancelToken()
    with client_node() as node:
        action = StageClient(node, ExecuteTask, TASK_ACTION, TASK_CANCEL_S)
        monitor = HeartbeatMonitor(node, timeout_s=3.0)
        if monitor.wait_for([TASK], connect_s) or not _served(action, connect_s):
            raise ConnectionError("No stack is running (no heartbeat of the node 'task'): start one with `stvla up`.")
        followed = _Follower(on_feedback, cancel)
        watch = monitor.watch([TASK])
        lost = lambda: node.broken is not None or bool(watch.lost())  # noqa: E731
        with followed, _watching(node, watch, cancel):
            goal = ExecuteTask.Goal(instruction=instruction, approval=approval)
            result = _call(action, goal, followed.put, cancel, lost)
    if followed.error is not None:
        followed.error.add_note(f"The task ended with {result.outcome.code.name}: {result.outcome.sentence}")
        raise followed.error
    return result


class _Follower:
    """Passes feedback to the caller's function in a separate thread; a slow or failing function disturbs nothing."""

    def __init__(self, follow: Callable[[Progress], None], cancel: CancelToken) -> None:
        self._follow, self._cancel = follow, cancel
        self._messages: queue.SimpleQueue[ExecuteTask.Feedback | None] = queue.SimpleQueue()
        self.error: BaseException | None = None  # raised by the function
        self._thread = threading.Thread(target=self._work, name="follow task", daemon=True)

    def put(self, message: ExecuteTask.Feedback) -> None:
        """Queue a message, from any thread."""
        self._messages.put(message)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._messages.put(None)
        self._thread.join(FOLLOWED_S)

    def _work(self) -> None:
        try:
            while (message := self._messages.get()) is not None:
                self._follow(progress_from_msg(message))
        except BaseException as error:  # noqa: BLE001 - raised again in the caller's thread, when the arm stands still
            self.error = error
            self._cancel.cancel(sentence="Canceled: the program that followed the task failed.")


def _call(
    action: StageClient,
    goal: ExecuteTask.Goal,
    on_feedback: Callable[[ExecuteTask.Feedback], None],
    cancel: CancelToken,
    lost: Callable[[], bool],
) -> GoalResult:
    try:
        result = action.call(goal, cancel, DEADLINE_S, on_feedback, lost=lost)
    except StageError as error:
        if error.code in (OutcomeCode.NODE_LOST, OutcomeCode.SERVER_TIMEOUT):
            raise ConnectionError(error.sentence) from error
        return GoalResult(Outcome.of(error), TaskState(goal.instruction))
    return GoalResult(outcome_from_msg(result.outcome), state_from_msg(result.state))


@contextmanager
def _watching(node: ClientNode, watch: Watch, cancel: CancelToken) -> Iterator[None]:
    """Cancel when the task node dies or this client cannot receive any more: the answer would never come."""
    done = threading.Event()

    def look() -> None:
        while not done.wait(0.1):
            try:
                _raise_if_broken(node)
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


def _raise_if_broken(node: ClientNode) -> None:
    """Check that this client still receives. If not, it cannot cancel either: a second client cancels the task.

    Raises:
        StageError: NODE_LOST; says whether the task was canceled.
    """
    if (error := node.broken) is None:
        return
    canceled = cancel_all([TASK_ACTION], ANSWER_S)
    answered = (
        "The task was canceled."
        if canceled
        else "Nobody answered a request to cancel the task: `stvla stop` stops the arm."
    )
    traceback.print_exception(error)
    raise StageError(OutcomeCode.NODE_LOST, f"A defect ended this client's connection to the stack. {answered}")


def cancel_all(actions: list[str], timeout_s: float) -> bool:
    """Cancel every goal of some action servers, with a separate node; False when one did not answer in time."""
    end = time.monotonic() + timeout_s
    with client_node("stvla_cancel") as node:
        canceler = GoalCanceler(node, actions)
        while not canceler.ready() and time.monotonic() < end:
            time.sleep(0.02)
        canceler.cancel_all()
        return canceler.wait_until_answered(end - time.monotonic())


def _served(action: StageClient, timeout_s: float) -> bool:
    end = time.monotonic() + timeout_s
    while not action.available() and time.monotonic() < end:
        time.sleep(0.02)
    return action.available()


def progress_from_msg(message: ExecuteTask.Feedback) -> Progress:
    """Feedback as the pipeline's value."""
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


def release_object(tell: Callable[[str, float], None], cancel: CancelToken, connect_s: float) -> Outcome:
    """Place the object in the gripper on the table, and wait until that is done.

    Args:
        tell: Called with phase and elapsed seconds, from another thread.
        cancel: Stops the arm.
        connect_s: Time limit for finding an executor.

    Raises:
        ConnectionError: No executor answers, or it went away.
    """
    with client_node("release_client") as node:
        action = StageClient(node, ReleaseObject, "stvla/release_object", EXECUTOR_CANCEL_S)
        try:
            result = action.call(
                ReleaseObject.Goal(), cancel, RELEASE_S, lambda f: tell(f.phase, f.elapsed_s), connect_s
            )
        except StageError as error:
            if error.code in (OutcomeCode.NODE_LOST, OutcomeCode.SERVER_TIMEOUT):
                raise ConnectionError(error.sentence) from error
            return Outcome.of(error)
    return outcome_from_msg(result.outcome)


def recover_robot(connect_s: float) -> tuple[OutcomeCode, str]:
    """Make a robot that stopped itself ready again; nothing moves.

    Args:
        connect_s: Time limit for finding an executor.

    Returns:
        OK and what was done, or the outcome code and the sentence of the step that failed.

    Raises:
        ConnectionError: No executor answers.
    """
    with client_node("recover_client") as node:
        client = node.create_client(Trigger, "/stvla/recover")
        answer = _call_service(client, Trigger.Request(), connect_s, RECOVER_S, again_s=None)
    if answer.success:
        return OutcomeCode.OK, str(answer.message)
    name, _, sentence = str(answer.message).partition(": ")
    return OutcomeCode.__members__.get(name, OutcomeCode.CONTROLLER_FAILED), sentence or str(answer.message)


def last_instruction(timeout_s: float) -> str:
    """The instruction of the task that ran last, or runs; empty if the stack knows none, or none answers in time."""
    heard: queue.SimpleQueue[TaskStateMsg] = queue.SimpleQueue()
    with client_node("instruction_client") as node:
        node.create_subscription(TaskStateMsg, task_state.TOPIC, heard.put, qos.LATCHED_NEWEST)
        try:
            return str(heard.get(timeout=timeout_s).instruction)
        except queue.Empty:
            return ""


def reset_scene(task: str, seed: int, distractors: int = -1) -> str:
    """Lay out a new scene in the simulator; returns its instruction.

    Raises:
        ConfigError: The simulator refuses.
        ConnectionError: No simulator is running.
    """
    request = ResetScene.Request(task=task, seed=seed, distractors=distractors)
    with client_node("service_client") as node:
        answer = _call_service(node.create_client(ResetScene, "/sim/reset_scene"), request, SERVICE_S)
    if not answer.ok:
        raise ConfigError(answer.message)
    return str(answer.instruction)


@contextmanager
def judge() -> Iterator[Callable[[float], tuple[bool, str]]]:
    """Find the simulator; yields a function that returns its verdict and what it measured.

    The argument of the function says how much longer to look for the simulator [s]; without one it raises
    ConnectionError. Enter the context before a goal begins: discovery takes time, and a lost announcement is repeated
    only after 3 s (Fast DDS).
    """
    with client_node("judge") as node:
        client = node.create_client(ScoreTask, "/sim/score_task")

        def verdict(connect_s: float) -> tuple[bool, str]:
            answer = _call_service(client, ScoreTask.Request(), connect_s)
            return bool(answer.success), str(answer.detail)

        yield verdict


def _call_service(
    client: Client, request: Any, connect_s: float, answer_s: float = SERVICE_S, again_s: float | None = AGAIN_S
) -> Any:
    if not client.wait_for_service(connect_s):
        raise ConnectionError(f"No server of {client.srv_name} was found: its node is not running.")
    if (answer := call(client, request, answer_s, again_s)) is None:
        raise ConnectionError(f"{client.srv_name} did not answer within {answer_s:.0f} s.")
    return answer
