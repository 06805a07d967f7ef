"""The guidance node: lifts each new plan once, then cleans every camera frame with it.

Only the newest frame counts: a frame that arrives while another is cleaned replaces the waiting one, so that late
frames are dropped and never queued. A policy that waits for guidance on an older plan is served in between.
"""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass

from rclpy.clock import JumpThreshold, TimeJump
from rclpy.duration import Duration
from sensor_msgs.msg import Image
from std_msgs.msg import Header
from stvla_msgs.msg import Guidance as GuidanceMsg
from stvla_msgs.msg import GuidanceDecision as GuidanceDecisionMsg
from stvla_msgs.msg import GuidanceRequest
from stvla_msgs.msg import Trace3d as Trace3dMsg
from stvla_msgs.msg import TracePlan as TracePlanMsg
from visualization_msgs.msg import MarkerArray

from stvla_ros import registry
from stvla_ros.config import param
from stvla_ros.description.robot import RobotConfig
from stvla_ros.errors import OutcomeCode, StageError
from stvla_ros.perception.guide import GuideConfig, SpatialGuide, begins_task
from stvla_ros.perception.overlay import overlay
from stvla_ros.ros import decisions, qos
from stvla_ros.ros.convert import (
    failed_guidance_msg,
    failed_trace_msg,
    guidance_to_msg,
    plan_from_msg,
    rgb_to_image,
    time_to_ns,
    trace_to_msg,
)
from stvla_ros.ros.decision_log import DecisionLog
from stvla_ros.ros.decisions import GuidanceDecision, guidance_decision, guidance_decision_to_msg, outcome_of
from stvla_ros.ros.frames import CameraConfig, RgbdReceiver
from stvla_ros.ros.freshness import MAX_AHEAD_S
from stvla_ros.ros.markers import guidance_markers, path_markers
from stvla_ros.ros.robot_state import JointStateConfig, JointStates
from stvla_ros.ros.run import run
from stvla_ros.ros.shared_memory import end_without_port
from stvla_ros.ros.stage_node import RollingPercentiles, StageNode
from stvla_ros.types import Guidance, RgbdFrame, RobotState, Trace3d, TracePlan

SET_BACK = JumpThreshold(min_forward=None, min_backward=Duration(nanoseconds=-1_000_000))
KEPT_PLANS = 8
IMAGE_WAIT_S = 2.0
"""How much later than a plan its image may arrive."""


@dataclass(frozen=True)
class GuidanceConfig(GuideConfig):
    """Settings of the guidance node; the segmenter's own settings are in a section of its name."""

    segmenter: str = param("geometric", "what splits a frame into instances", choices=registry.names("segmenter"))
    max_rate_hz: float = param(
        30.0, "frames cleaned per second, at most; the camera's rate if that is lower", ge=0.1, le=120.0, live=True
    )
    marker_rate_hz: float = param(5.0, "markers per second, at most, for subscribers", ge=0.1, le=30.0, live=True)
    idle_s: float = param(20.0, "frames are cleaned for so long after the last plan or request [s]", ge=1.0, le=3600.0)
    keep_s: float = param(
        2.0,
        "images are kept for so long, for plans drawn on them; that of a plan in progress longer [s]",
        ge=0.0,
        le=60.0,
    )
    camera: CameraConfig = param(CameraConfig(), "where images come from")  # noqa: RUF009
    joint_states: JointStateConfig = param(JointStateConfig(), "how old arm states may be")  # noqa: RUF009
    robot: RobotConfig = param(RobotConfig(), "which robot")  # noqa: RUF009


@dataclass(frozen=True)
class _Request:
    """A policy waits for guidance on a plan."""

    plan_id: str
    not_before_ns: int
    until: float  # monotonic


class GuidanceNode(StageNode[GuidanceConfig]):
    """``stvla/plan`` in; ``stvla/trace``, ``stvla/guidance``, ``stvla/overlay`` and ``stvla/markers`` out.

    The executor's thread fills the inbox; one worker lifts and cleans. An older plan never replaces a newer one, but
    a policy that still follows the older one gets guidance on it.
    """

    def __init__(self) -> None:
        super().__init__("guidance", GuidanceConfig, backends={"segmenter": "segmenter"})
        config = self.config
        self._guide = SpatialGuide(self.parameters.create("segmenter"), config)
        self._inbox = threading.Condition()
        self._new_plans: list[TracePlan] = []
        self._new_stamps: list[int] = []
        self._requests: dict[str, _Request] = {}
        self._plans: OrderedDict[str, Trace3d | StageError] = OrderedDict()
        self._current: TracePlan | None = None
        self._began_anew = False
        self._active_until = 0.0
        self._next_frame = self._next_markers = 0.0  # monotonic
        self._done_stamp_ns = 0
        self._started_ns = self.now_ns()
        self._arrived = self._cleaned = 0  # frames while a plan was in use
        self._latency, self._age = RollingPercentiles(), RollingPercentiles()
        self._notes: tuple[str, ...] = ()
        self._failed: tuple[str, OutcomeCode] | None = None  # plan and reason, while guidance on it fails
        self._ending = False
        self._base_frame = config.robot.base_frame
        self._frames = RgbdReceiver(self, config.camera, self._frame_arrived, self._base_frame, config.keep_s)
        end_without_port(self)
        self._joints = JointStates(self, config.joint_states, config.robot)
        self._trace_out = self.create_publisher(Trace3dMsg, "stvla/trace", qos.LATCHED)
        self._guidance_out = self.create_publisher(GuidanceMsg, "stvla/guidance", qos.IMAGE)
        self._overlay_out = self.create_publisher(Image, "stvla/overlay", qos.IMAGE)
        self._markers_out = self.create_publisher(MarkerArray, "stvla/markers", qos.LATCHED)
        self._decisions = DecisionLog(self, GuidanceDecisionMsg, decisions.GUIDANCE)
        self._when_back = self.get_clock().create_jump_callback(SET_BACK, post_callback=self._time_set_back)
        self.create_subscription(TracePlanMsg, "stvla/plan", self._plan_arrived, qos.LATCHED)
        self.create_subscription(GuidanceRequest, "stvla/guidance_request", self._request_arrived, qos.EVENT)
        self.create_subscription(Header, "stvla/plan_stamp", self._stamp_arrived, qos.LATCHED)
        self._worker = threading.Thread(target=self._work, name="guide", daemon=True)
        self._worker.start()

    # --- inbox: the executor's thread -----------------------------------------------------------------------------

    def _time_set_back(self, _: TimeJump) -> None:
        """Simulation time begins anew: the plan in use would count as the newest until time has caught up."""
        self._began_anew = True

    def _plan_arrived(self, message: TracePlanMsg) -> None:
        with self._inbox:
            self._new_plans.append(plan_from_msg(message))
            self._active_until = time.monotonic() + self.config.idle_s
            self._inbox.notify()

    def _stamp_arrived(self, message: Header) -> None:
        """The planner begins to work on an image: keep it until the plan comes."""
        stamp_ns = time_to_ns(message.stamp)
        self._frames.pin(stamp_ns)
        with self._inbox:
            self._new_stamps.append(stamp_ns)
            self._inbox.notify()

    def _request_arrived(self, message: GuidanceRequest) -> None:
        not_before_ns = time_to_ns(message.not_before)
        now = time.monotonic()
        with self._inbox:
            old = self._requests.get(message.plan_id)
            if old is None or old.not_before_ns != not_before_ns:
                until = now + self.config.camera.timeout_s
                self._requests[message.plan_id] = _Request(message.plan_id, not_before_ns, until)
            self._active_until = now + self.config.idle_s
            self._inbox.notify()

    def _frame_arrived(self, stamp_ns: int) -> None:
        with self._inbox:
            self._arrived += self._in_use()
            self._inbox.notify()

    # --- the worker -----------------------------------------------------------------------------------------------

    def _work(self) -> None:
        while not self._ending:
            with self._inbox:
                plans, self._new_plans = self._new_plans, []
                stamps, self._new_stamps = self._new_stamps, []
                request = None if plans else self._next_request()
                due = not plans and request is None and self._frame_due()
                if not plans and not stamps and request is None and not due:
                    self._inbox.wait(0.1)
                    continue
            for stamp_ns in stamps:
                self._decode(stamp_ns)
            for plan in plans:
                self._take_plan(plan)
            if request is not None:
                self._answer(request)
            elif due and self._current is not None:
                self._clean(self._current.plan_id, 0)

    def _decode(self, stamp_ns: int) -> None:
        """Decode the image of a plan in progress while the pose of a moving camera is still known for it."""
        with contextlib.suppress(StageError):  # reported when the plan comes
            self._frames.at(stamp_ns, 0.0)

    def _next_request(self) -> _Request | None:
        """Take a request that can be answered now, or whose time is over, out of the inbox."""
        now = time.monotonic()
        for request in self._requests.values():
            fresh = self._frames.stamp_ns >= max(1, request.not_before_ns)
            if (fresh and request.plan_id in self._plans) or now > request.until:
                return self._requests.pop(request.plan_id)
        return None

    def _in_use(self) -> bool:
        """Whether a lifted plan is in use, i.e. was sent or requested recently."""
        current = self._current
        lifted = current is not None and isinstance(self._plans.get(current.plan_id), Trace3d)
        return lifted and time.monotonic() < self._active_until

    def _frame_due(self) -> bool:
        new = self._frames.stamp_ns not in (0, self._done_stamp_ns)  # or older: the camera's clock was set back
        return new and time.monotonic() >= self._next_frame and self._in_use()

    def _take_plan(self, plan: TracePlan) -> None:
        """Lift a plan and publish the result, even a failure, because the task node waits for it."""
        try:
            self._refuse_older(plan)
            if begins_task(self._current, plan):
                self._guide.reset()  # else what it decides would depend on the task before, which a recording lacks
            self._current = plan
            if plan.finished:
                return
            frame = self._image_of(plan)
            trace = self.timed("lift", lambda: self._guide.lift(plan, frame))
        except StageError as error:
            self._keep(plan.plan_id, error)
            self.get_logger().warning(f"Plan {plan.plan_id} refused: {error}")
            self._trace_out.publish(failed_trace_msg(plan, error, self._base_frame))
            return
        except Exception as error:  # noqa: BLE001 - the boundary of the node: a defect must be reported too
            self._defect(error)
            failure = StageError(OutcomeCode.INTERNAL, "A defect while lifting the path; see the log of 'guidance'.")
            self._keep(plan.plan_id, failure)
            self._trace_out.publish(failed_trace_msg(plan, failure, self._base_frame))
            return
        self._keep(plan.plan_id, trace)
        self._next_frame = self._next_markers = 0.0
        self._trace_out.publish(trace_to_msg(trace, plan.image_stamp_ns, self._base_frame))
        markers = path_markers(trace, self.config.tube_radius_m, plan.image_stamp_ns, self._base_frame)
        self._markers_out.publish(markers)
        self._log_notes(trace.notes)

    def _image_of(self, plan: TracePlan) -> RgbdFrame:
        """The image that a plan was drawn on. Raises StageError STALE_IMAGE."""
        before_start = plan.image_stamp_ns < self._started_ns
        try:
            return self._frames.at(plan.image_stamp_ns, 0.0 if before_start else IMAGE_WAIT_S)
        except StageError as error:
            raise StageError(
                error.code, f"Plan {plan.plan_id} cannot be lifted, plan again: {error.sentence}"
            ) from error

    def _refuse_older(self, plan: TracePlan) -> None:
        ahead = self._current is not None and self._current.image_stamp_ns > self.now_ns() + MAX_AHEAD_S * 1e9
        if ahead or self._began_anew:  # the clock was set back: that plan would be the newest until it catches up
            self._current, self._began_anew = None, False
        if self._current is not None and plan.image_stamp_ns < self._current.image_stamp_ns:
            age_s = (self._current.image_stamp_ns - plan.image_stamp_ns) / 1e9
            raise StageError(
                OutcomeCode.STALE_IMAGE, f"Plan {plan.plan_id} is {age_s:.2f} s older than the plan in use: ignored."
            )

    def _keep(self, plan_id: str, result: Trace3d | StageError) -> None:
        with self._inbox:
            self._plans[plan_id] = result
            while len(self._plans) > KEPT_PLANS:
                self._plans.popitem(last=False)

    def _answer(self, request: _Request) -> None:
        if request.plan_id not in self._plans:
            sentence = f"The guidance node does not know the plan {request.plan_id}."
            self._fail(request.plan_id, StageError(OutcomeCode.STALE_IMAGE, sentence), request.not_before_ns)
        elif self._frames.stamp_ns < max(1, request.not_before_ns):
            sentence = self._frames.why_stale(request.not_before_ns)
            self._fail(request.plan_id, StageError(OutcomeCode.STALE_IMAGE, sentence), request.not_before_ns)
        else:
            self._clean(request.plan_id, request.not_before_ns)

    def _clean(self, plan_id: str, not_before_ns: int) -> None:
        """Clean the newest frame with a plan's path and publish it, or publish why that failed."""
        self._next_frame = time.monotonic() + 1.0 / self.config.max_rate_hz
        self._done_stamp_ns = self._frames.stamp_ns
        start, frame, robot = time.perf_counter(), None, None
        try:
            trace = self._plans[plan_id]
            if isinstance(trace, StageError):
                raise StageError(trace.code, trace.sentence)
            frame = self._frames.capture()
            robot = self._joints.at(frame.stamp_ns)
            guidance = self.timed("guide", lambda: self._guide.guide(trace, frame, robot))
        except StageError as error:
            self._tell_failure(plan_id, frame, robot, error, time.perf_counter() - start)
            self._fail(plan_id, error, max(not_before_ns, self._done_stamp_ns))
        except Exception as error:  # noqa: BLE001 - the boundary of the node: a defect must be reported too
            self._defect(error)
            sentence = "A defect while cleaning a frame; see the log of 'guidance'."
            self._fail(plan_id, StageError(OutcomeCode.INTERNAL, sentence), max(not_before_ns, self._done_stamp_ns))
        else:
            seconds = time.perf_counter() - start
            self._publish(guidance)
            self._latency.add(1e3 * (time.perf_counter() - start))
            self._age.add((self.now_ns() - frame.stamp_ns) / 1e6)
            self._tell(guidance, robot, seconds)

    def _tell(self, guidance: Guidance, robot: RobotState, seconds: float) -> None:
        """For a recorder: what was decided. After the policy has got its frame."""
        camera_frame = guidance.frame.camera.frame_id
        self._decisions.tell(
            lambda: guidance_decision_to_msg(
                guidance_decision(guidance, robot, seconds), self._base_frame, camera_frame
            )
        )

    def _tell_failure(
        self, plan_id: str, frame: RgbdFrame | None, robot: RobotState | None, error: StageError, seconds: float
    ) -> None:
        """For a recorder: a frame that could not be cleaned. Without a frame nothing was decided."""
        if frame is not None:
            decision = GuidanceDecision(frame.stamp_ns, plan_id, robot, outcome_of(error), seconds=seconds)
            camera_frame = frame.camera.frame_id
            self._decisions.tell(lambda: guidance_decision_to_msg(decision, self._base_frame, camera_frame))

    def _publish(self, guidance: Guidance) -> None:
        message = guidance_to_msg(guidance, self._base_frame)
        self._guidance_out.publish(message)
        self._cleaned, self._failed = self._cleaned + 1, None
        self._log_notes(guidance.notes)
        if self._overlay_out.get_subscription_count():
            self._overlay_out.publish(self._overlay(guidance, message))
        if time.monotonic() >= self._next_markers and self._markers_out.get_subscription_count():
            self._next_markers = time.monotonic() + 1.0 / self.config.marker_rate_hz
            self._markers_out.publish(guidance_markers(guidance, self._base_frame))

    def _overlay(self, guidance: Guidance, message: GuidanceMsg) -> Image:
        """The image for people; in mode "full" it is the one that the policy gets."""
        if guidance.mode == "full":
            return message.rgb
        return rgb_to_image(overlay(guidance, self.config.overlay_alpha), message.header)

    def _log_notes(self, notes: tuple[str, ...]) -> None:
        """Log new notes."""
        for note in notes:
            if note not in self._notes:
                self.get_logger().warning(note)
        self._notes = notes

    def _fail(self, plan_id: str, error: StageError, stamp_ns: int) -> None:
        """Publish a failure, with the stamp of its image, or if no image is new enough, with the requested stamp."""
        failed = plan_id, error.code
        if failed != self._failed:  # not once per frame
            self.get_logger().warning(f"No guidance on plan {plan_id}: {error}")
        self._failed = failed
        self._guidance_out.publish(failed_guidance_msg(plan_id, error, stamp_ns))

    def ages(self) -> dict[str, str]:
        """Ages of image and arm state, and how well the node keeps up with the camera."""
        return {
            "image age [s]": f"{self._frames.age_s():.2f}",
            "joint state age [s]": f"{self._joints.age_s():.2f}",
            "guidance latency p50 / p95 [ms]": str(self._latency),
            "guidance age when sent p50 / p95 [ms]": str(self._age),
            "frames cleaned / arrived": f"{self._cleaned} / {self._arrived}",
            "images skipped": f"{self._frames.skipped} {self._frames.why_skipped}".rstrip(),
            "notes": " ".join(self._notes),
        }

    def close(self, timeout_s: float) -> bool:
        """End the worker."""
        with self._inbox:
            self._ending = True
            self._inbox.notify()
        self._worker.join(timeout_s)
        return super().close(timeout_s) and not self._worker.is_alive()


def main() -> int:
    """Entry point."""
    return run(GuidanceNode)


if __name__ == "__main__":
    sys.exit(main())
