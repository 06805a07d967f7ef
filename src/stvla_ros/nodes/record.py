"""The recorder: writes every task as a rosbag2, in a process of its own at low priority.

It only listens. Whatever happens to it or to its disk, the stack goes on; what is wrong is in its log and in
``/diagnostics``.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from rclpy.event_handler import SubscriptionEventCallbacks

from stvla_ros.config import param
from stvla_ros.description.robot import RobotConfig
from stvla_ros.priority import lower_priority
from stvla_ros.ros.bag_topics import message_class
from stvla_ros.ros.frames import CameraConfig
from stvla_ros.ros.freshness import STEADY
from stvla_ros.ros.node_parameters import ParameterSurvey
from stvla_ros.ros.recorded_topics import Topic, recorded_topics
from stvla_ros.ros.run import run, stop
from stvla_ros.ros.shared_memory import end_without_port
from stvla_ros.ros.stage_node import StageNode
from stvla_ros.ros.task_recorder import RecordSettings, TaskRecorder
from stvla_ros.versions import git_commit, versions

LOOK_S = 0.2
SILENT = SubscriptionEventCallbacks(use_default_callbacks=False)
"""Some topics have two readers, because no single one fits all publishers; that the other does not fit is no news."""


@dataclass(frozen=True)
class RecordConfig(RecordSettings):
    """Settings of the record node."""

    goals: int = param(0, "the node ends after so many recordings; 0: it goes on", ge=0)
    camera: CameraConfig = param(CameraConfig(), "where images come from")  # noqa: RUF009
    robot: RobotConfig = param(RobotConfig(), "which robot")  # noqa: RUF009


class RecordNode(StageNode[RecordConfig]):
    """Subscribes to everything that a recording needs, serialized, and hands it to a :class:`TaskRecorder`."""

    def __init__(self) -> None:
        super().__init__("record", RecordConfig)
        config = self.config
        topics = recorded_topics(config.camera, config.robot)
        facts = {"versions": versions(), "git_commit": git_commit()}
        self._recorder = TaskRecorder(config, topics, facts, self._say, round(config.camera.pair_within_s * 1e9))
        self._survey = ParameterSurvey(self, self._recorder.know)
        self._surveyed = 0
        for topic in topics:
            self._subscribe(topic)
        end_without_port(self)
        self.create_timer(LOOK_S, self._look, clock=STEADY)

    def _subscribe(self, topic: Topic) -> None:
        kind, receive = message_class(topic.kind), partial(self._receive, topic.name)
        for profile in topic.readers:
            self.create_subscription(kind, topic.name, receive, profile, raw=True, event_callbacks=SILENT)

    def _receive(self, topic: str, data: bytes) -> None:
        self._recorder.take(topic, data, self.now_ns())

    def ready(self) -> None:
        """Start the recording."""
        super().ready()
        self._recorder.start()

    def _look(self) -> None:
        """Survey the parameters for each new bag, and end when enough is recorded."""
        recorder, config = self._recorder, self.config
        self._trouble = recorder.trouble
        if recorder.begun != self._surveyed:
            self._surveyed = recorder.begun
            self._survey.ask()
        if config.goals and recorder.kept >= config.goals:
            stop()
        elif config.when == "now" and recorder.begun and recorder.trouble:
            stop(1)

    def _say(self, sentence: str, wrong: bool) -> None:
        log = self.get_logger()
        say: Callable[[str], object] = log.error if wrong else log.info
        say(sentence)

    def ages(self) -> dict[str, str]:
        """Where the bag is written."""
        return {"recording": str(self._recorder.folder or "none"), "recordings kept": str(self._recorder.kept)}

    def close(self, timeout_s: float) -> bool:
        """Complete the bag."""
        done = self._recorder.close(timeout_s)
        return super().close(timeout_s) and done


def main() -> int:
    """Entry point."""
    lower_priority()
    return run(RecordNode)


if __name__ == "__main__":
    sys.exit(main())
