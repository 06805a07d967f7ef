"""The planner as a node: draws the path on the newest image when asked."""

from __future__ import annotations

import sys
from dataclasses import dataclass

from stvla_msgs.action import PlanTrace
from stvla_msgs.msg import RgbdFrame as RgbdFrameMsg
from stvla_msgs.msg import TracePlan as TracePlanMsg

from stvla_ros import registry
from stvla_ros.config import param
from stvla_ros.interfaces import Planner
from stvla_ros.pipeline import check_instruction
from stvla_ros.ros import qos
from stvla_ros.ros.action_server import Job
from stvla_ros.ros.convert import frame_to_msg, history_from_msg, ok_msg, plan_to_msg, time_to_ns
from stvla_ros.ros.frames import CameraConfig, RgbdReceiver
from stvla_ros.ros.robot_state import JointStateConfig, JointStates
from stvla_ros.ros.run import run
from stvla_ros.ros.stage_node import StageNode
from stvla_ros.types import PlanRequest


@dataclass(frozen=True)
class PlannerConfig:
    """Settings of the planner's node; the backend's own stand in a section of its name."""

    backend: str = param("colour", "what draws the path", choices=registry.names("planner"))
    camera: CameraConfig = param(CameraConfig(), "where images come from")  # noqa: RUF009
    joint_states: JointStateConfig = param(JointStateConfig(), "where arm states come from")  # noqa: RUF009


class PlannerNode(StageNode[PlannerConfig]):
    """Serves ``stvla/plan_trace``; publishes each plan on ``stvla/plan``.

    The image that a plan is drawn on goes out on ``stvla/plan_image``: the lifter needs that very image, and may have
    missed it, or could not keep all images while a slow model thinks.
    """

    def __init__(self) -> None:
        super().__init__("planner", PlannerConfig, backends={"backend": "planner"})
        self._planner: Planner = self.parameters.create("backend")
        self._frames = RgbdReceiver(self, self.config.camera)
        self._joints = JointStates(self, self.config.joint_states)
        self._plans = self.create_publisher(TracePlanMsg, "stvla/plan", qos.LATCHED)
        self._images = self.create_publisher(RgbdFrameMsg, "stvla/plan_image", qos.LATCHED_IMAGE)
        self.serve(PlanTrace, "stvla/plan_trace", self._plan)

    def _plan(self, job: Job) -> PlanTrace.Result:
        instruction = check_instruction(job.goal.instruction)
        frame = self._frames.wait(time_to_ns(job.goal.not_before), job.cancel)
        self._images.publish(frame_to_msg(frame))
        history = history_from_msg(job.goal.history)
        request = PlanRequest(instruction, frame, self._joints.at(frame.stamp_ns), history)
        plan = self.timed("plan", lambda: self._planner.plan(request))
        job.cancel.raise_if_set()
        message = plan_to_msg(plan, frame.camera.frame_id)
        self._plans.publish(message)
        return PlanTrace.Result(outcome=ok_msg(), plan=message)

    def ages(self) -> dict[str, str]:
        """Ages of image and arm state."""
        return {"image age [s]": f"{self._frames.age_s():.2f}", "joint state age [s]": f"{self._joints.age_s():.2f}"}


def main() -> int:
    """Entry point."""
    return run(PlannerNode)


if __name__ == "__main__":
    sys.exit(main())
