"""The operator console's connection to the stack: its acts, its news, and what it looks at."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.node import Node
from rclpy.subscription import Subscription
from sensor_msgs.msg import Image
from stvla_msgs.msg import MotionProposal as MotionProposalMsg
from stvla_msgs.msg import StopState as StopStateMsg
from stvla_msgs.msg import TaskEnd as TaskEndMsg
from stvla_msgs.msg import TaskState as TaskStateMsg
from stvla_msgs.msg import Trace3d as Trace3dMsg
from stvla_msgs.msg import TracePlan as TracePlanMsg
from stvla_msgs.srv import ApproveMotion, UsePath
from visualization_msgs.msg import Marker, MarkerArray

from stvla_ros.console.edit import Drawn, drawn_through, place
from stvla_ros.console.offers import goals, objects_seen
from stvla_ros.console.session import Session
from stvla_ros.console.views import (
    BOXES,
    CLOUD,
    DRAWN,
    FRAME,
    GUIDED,
    JOINTS,
    LATENCIES,
    OBSTACLES,
    PATH,
    PLAN,
    RAW,
    Boxes,
    Cells,
    Cloud,
    PathView,
    Views,
)
from stvla_ros.description.robot import RobotConfig
from stvla_ros.errors import CancelToken, OutcomeCode, StageError
from stvla_ros.motion.approval import Approval
from stvla_ros.pipeline import Progress
from stvla_ros.ros import qos, stop_state, task_state
from stvla_ros.ros.approval_client import ANSWER_S
from stvla_ros.ros.approvals import SERVICE, TOPIC, proposal_from_msg
from stvla_ros.ros.client import run_goal
from stvla_ros.ros.convert import (
    image_to_rgb,
    outcome_from_msg,
    plan_from_msg,
    plan_to_msg,
    raise_unless_ok,
    time_to_ns,
)
from stvla_ros.ros.decisions import TASK_END
from stvla_ros.ros.frames import CameraConfig, RgbdReceiver
from stvla_ros.ros.freshness import STEADY, Arrival, now
from stvla_ros.ros.obstacles import TOPIC as OBSTACLE_TOPIC
from stvla_ros.ros.obstacles import centres_of
from stvla_ros.ros.operator_stop import ArmStop, StopResult, release_arm
from stvla_ros.ros.robot_state import JointStateConfig, JointStates
from stvla_ros.ros.service_client import call
from stvla_ros.ros.task_state import state_from_msg
from stvla_ros.types import F64, Camera, Outcome, TracePlan
from stvla_ros.view.rerun_log import decimated

CONNECT_S, STOP_S, PATH_S = 5.0, 5.0, 15.0
PATH_TRIES = 3
"""A path is sent so often when guidance lacks the image that it was drawn on: images are sent best effort."""

LATENCY_OF = {
    "plan latency [ms]": "planning",
    "guide latency [ms]": "guidance",
    "predict latency [ms]": "policy",
    "motion plan latency [ms]": "motion planning",
}
"""What is shown of the nodes' diagnostics, and how it is called on the page."""

TICK_S, LISTEN_S = 0.05, 0.5
PICTURE_S = 0.2
"""Pictures and clouds are decoded at most this often."""


class StopButton:
    """Stops the arm as ``stvla stop`` does, in a thread and a ROS context of its own, which found the servers before.

    Args:
        robot: Whose controllers are stopped.
        tell: Called with news, in that thread.
    """

    def __init__(self, robot: RobotConfig, tell: Callable[[str], None]) -> None:
        self._robot, self._tell = robot, tell
        self._pressed, self._ending = threading.Event(), False
        self._thread = threading.Thread(target=self._work, name="stop", daemon=True)
        self._thread.start()

    def press(self) -> None:
        """Stop; returns at once. A press during a stop begins another one after it."""
        self._pressed.set()

    def _work(self) -> None:
        with ArmStop([self._robot]) as arm:
            while True:
                self._pressed.wait()
                self._pressed.clear()
                if self._ending:
                    return
                result: StopResult = arm.stop(STOP_S, self._tell)
                for sentence in result.complaints(STOP_S):
                    self._tell(sentence)

    def close(self, timeout_s: float) -> None:
        """End the thread."""
        self._ending = True
        self._pressed.set()
        self._thread.join(timeout_s)


class ConsoleStack:
    """What the console asks of the stack (:class:`stvla_ros.console.session.Stack`).

    Args:
        node: Spins in a thread of its own.
        robot: Whose controllers a stop cancels.
        tell: News of a stop.
        draw: The plan of this id through other points (8, 3), on the newest image; raises StageError.
    """

    def __init__(
        self, node: Node, robot: RobotConfig, tell: Callable[[str], None], draw: Callable[[str, F64], TracePlan]
    ) -> None:
        self._draw = draw
        self._use_path = node.create_client(UsePath, "stvla/use_path")
        self._approve = node.create_client(ApproveMotion, SERVICE)
        self.button = StopButton(robot, tell)

    def goal(
        self, instruction: str, approval: Approval, cancel: CancelToken, report: Callable[[Progress], None]
    ) -> Outcome:
        """As ``stvla run``, without a film. Raises ConnectionError when no stack answers."""
        return run_goal(instruction, report, cancel, CONNECT_S, approval).outcome

    def answer(self, proposal_id: str, approve: bool, who: str, reason: str) -> tuple[bool, str]:
        """The executor's word on an answer. Raises ConnectionError."""
        request = ApproveMotion.Request(proposal_id=proposal_id, approve=approve, who=who, reason=reason)
        if not self._approve.wait_for_service(CONNECT_S) or (done := call(self._approve, request, ANSWER_S)) is None:
            raise ConnectionError("The executor did not take the answer in time: the motion goes on waiting.")
        return bool(done.success), str(done.message)

    def use_path(self, plan_id: str, points_m: F64, who: str) -> None:
        """The task node's word on a person's path. Raises StageError, ConnectionError."""
        for left in reversed(range(PATH_TRIES)):
            request = UsePath.Request(plan=plan_to_msg(self._draw(plan_id, points_m)), who=who)
            if (
                not self._use_path.wait_for_service(CONNECT_S)
                or (done := call(self._use_path, request, PATH_S)) is None
            ):
                raise ConnectionError("The task node did not take the path in time: the motion goes on waiting.")
            if left == 0 or done.outcome.code != OutcomeCode.STALE_IMAGE:  # guidance may have missed that image
                break
        raise_unless_ok(done.outcome)

    def stop(self) -> None:
        """Press the button."""
        self.button.press()

    def release(self) -> str:
        """The executor's sentence. Raises ConnectionError."""
        return release_arm(STOP_S)


class ConsoleFeed:
    """Everything that the console hears and sees.

    Args:
        node: Receives; its executor's thread does no more than to keep the newest message.
        robot: Names of joints and frames.
        camera: Where images come from.
        joints: How old joint states may be.
        session: Hears of tasks, proposals and stops.
        views: Get pictures, joints, paths.
    """

    def __init__(
        self,
        node: Node,
        robot: RobotConfig,
        camera: CameraConfig,
        joints: JointStateConfig,
        session: Session,
        views: Views,
    ) -> None:
        self._node, self._session, self._views = node, session, views
        self._stop = stop_state.StopState()
        self._frames = RgbdReceiver(node, camera, base_frame=robot.base_frame)
        self._joints = JointStates(node, joints, robot)
        self._overlay: tuple[Image, Arrival] | None = None
        self._markers: dict[str, Marker] = {}
        self._boxes: list[Marker] = []
        self._plan: TracePlan | None = None
        self._trace: Trace3dMsg | None = None
        self._obstacles: Subscription | None = None
        self._latencies: dict[str, float] = {}
        self._placed = ""
        self._ending = False
        node.create_timer(LISTEN_S, self._listen, clock=STEADY)
        node.create_subscription(DiagnosticArray, "/diagnostics", self._hear_diagnostics, qos.STATE)
        node.create_subscription(TracePlanMsg, "stvla/plan", self._hear_plan, qos.LATCHED)
        node.create_subscription(Trace3dMsg, "stvla/trace", self._hear_trace, qos.LATCHED)
        node.create_subscription(TaskStateMsg, task_state.TOPIC, self._hear_task, qos.LATCHED_NEWEST)
        node.create_subscription(TaskEndMsg, TASK_END, self._hear_end, qos.EVENT)
        node.create_subscription(MotionProposalMsg, TOPIC, self._hear_proposal, qos.LATCHED_NEWEST)
        node.create_subscription(StopStateMsg, stop_state.TOPIC, self._hear_stop, qos.LATCHED)
        node.create_subscription(MarkerArray, "stvla/markers", self._hear_markers, qos.LATCHED)
        node.create_subscription(Image, "stvla/overlay", self._hear_overlay, qos.IMAGE_BEST_EFFORT)
        self._thread = threading.Thread(target=self._look, name="look", daemon=True)
        self._thread.start()

    def _hear_task(self, message: TaskStateMsg) -> None:
        self._session.hear_task(state_from_msg(message), message.phase)

    def _hear_end(self, message: TaskEndMsg) -> None:
        with suppress(ValueError):  # a code of another version
            self._session.hear_end(message.state.instruction, outcome_from_msg(message.outcome))

    def _hear_proposal(self, message: MotionProposalMsg) -> None:
        with suppress(ValueError):  # of another version: the executor's log has it
            self._session.hear_proposal(proposal_from_msg(message))

    def _hear_stop(self, message: StopStateMsg) -> None:
        state = stop_state.state_from_msg(message)
        if state.stamp_ns > self._stop.stamp_ns:
            self._stop = state
            self._session.hear_stopped(state.stopped, state.sentence())

    def _hear_plan(self, message: TracePlanMsg) -> None:
        with suppress(ValueError):  # of another version
            self._plan = plan_from_msg(message)
            self._views.put(PLAN, self._plan)

    def _hear_diagnostics(self, message: DiagnosticArray) -> None:
        for status in message.status:
            for value in status.values:
                if value.key in LATENCY_OF:
                    with suppress(ValueError):
                        self._latencies[LATENCY_OF[value.key]] = float(value.value) * 1e-3
                        self._views.put(LATENCIES, dict(self._latencies))

    def _hear_trace(self, message: Trace3dMsg) -> None:
        self._trace = message

    def _place(self, camera: Camera) -> None:
        """Where the newest plan's waypoints are, once it is lifted."""
        plan, trace = self._plan, self._trace
        if plan is not None and trace is not None and trace.points and plan.plan_id == trace.plan_id != self._placed:
            self._placed = plan.plan_id
            start = trace.points[0]
            self._views.put(DRAWN, place(plan, np.array([start.x, start.y, start.z]), camera))

    def draw(self, plan_id: str, points_m: F64) -> TracePlan:
        """A plan through other points, on the newest image. Raises StageError INVALID_GOAL, STALE_IMAGE."""
        drawn: Drawn | None = self._views.get(DRAWN)[1]
        if drawn is None or drawn.plan.plan_id != plan_id:
            raise StageError(
                OutcomeCode.INVALID_GOAL, "The path that you edited is not the one that waits: edit it again."
            )
        return drawn_through(drawn.plan, points_m, self._frames.wait(0, CancelToken(), 0.0))

    def _hear_overlay(self, message: Image) -> None:
        self._overlay = message, Arrival(time_to_ns(message.header.stamp), now(self._node))

    def _hear_markers(self, message: MarkerArray) -> None:
        boxes = list(self._boxes)
        for marker in message.markers:
            if marker.ns in ("path", "tube"):
                self._markers[marker.ns] = marker
            elif marker.ns == "instances":
                boxes = [] if marker.action == Marker.DELETEALL else [*boxes, marker]
        if "path" in self._markers and "tube" in self._markers:
            self._views.put(PATH, path_from_markers(self._markers["path"], self._markers["tube"]))
        if boxes != self._boxes:
            self._boxes = boxes
            self._views.put(BOXES, boxes_from_markers(boxes))

    def _hear_obstacles(self, message: Marker) -> None:
        self._views.put(OBSTACLES, Cells(centres_of(message), message.scale.x))

    def _listen(self) -> None:
        """Subscribe to the obstacles while somebody looks at them. In the executor's thread: see ``drop``."""
        wanted = self._views.wanted(OBSTACLES) and not self._ending
        if wanted and self._obstacles is None:
            self._obstacles = self._node.create_subscription(Marker, OBSTACLE_TOPIC, self._hear_obstacles, qos.STATE)
        elif not wanted and self._obstacles is not None:
            self._node.destroy_subscription(self._obstacles)
            self._obstacles = None

    def _look(self) -> None:
        """Decode the newest pictures, and no others.

        At normal priority: on a busy computer a thread of lower priority shows what is old, and as it holds Python's lock
        while it waits for a core, a stop would wait with it.
        """
        due, seen_ns, overlay = 0.0, 0, None
        while not self._ending:
            time.sleep(TICK_S)
            with suppress(StageError):  # its age on the page says that there is none
                self._views.put(JOINTS, self._joints.newest(), self._joints.age_s())
            if time.monotonic() < due:
                continue
            if self._frames.stamp_ns not in (0, seen_ns):
                due = time.monotonic() + PICTURE_S
                with suppress(StageError):
                    frame, age_s = self._frames.wait(0, CancelToken(), 0.0), self._frames.age_s()
                    seen_ns = frame.stamp_ns
                    self._views.put(RAW, frame.rgb, age_s)
                    self._views.put(FRAME, frame, age_s)
                    self._place(frame.camera)
                    self._views.put(CLOUD, Cloud(*decimated(frame)), age_s)
            if self._overlay is not None and self._overlay is not overlay:
                due, overlay = time.monotonic() + PICTURE_S, self._overlay
                with suppress(ValueError):  # an unknown encoding
                    self._views.put(GUIDED, image_to_rgb(overlay[0]), overlay[1].age_s(now(self._node)))

    def offers(self) -> tuple[str, ...]:
        """Goals that the scene offers now; none when camera or joints are silent."""
        try:
            return goals(objects_seen(self._frames.wait(0, CancelToken(), 1.0), self._joints.state()))
        except StageError:
            return ()

    def ages(self) -> dict[str, str]:
        """For the diagnostics."""
        return {"image age [s]": f"{self._frames.age_s():.2f}", "joint state age [s]": f"{self._joints.age_s():.2f}"}

    def close(self, timeout_s: float) -> None:
        """End the thread."""
        self._ending = True
        self._thread.join(timeout_s)


def path_from_markers(line: Marker, tube: Marker) -> PathView:
    """The path as RViz shows it."""
    points = np.array([(p.x, p.y, p.z) for p in line.points], float).reshape(-1, 3)
    colours = np.array([(c.r, c.g, c.b) for c in line.colors], float).reshape(-1, 3)
    return PathView(points, np.round(255 * colours).astype(np.uint8), tube.scale.x / 2)


def boxes_from_markers(boxes: list[Marker]) -> Boxes:
    """The boxes around instances as RViz shows them: green ones are kept."""
    centres = [(m.pose.position.x, m.pose.position.y, m.pose.position.z) for m in boxes]
    sizes = [(m.scale.x, m.scale.y, m.scale.z) for m in boxes]
    kept = [m.color.g > m.color.r for m in boxes]
    return Boxes(np.array(centres, float).reshape(-1, 3), np.array(sizes, float).reshape(-1, 3), np.array(kept, bool))
