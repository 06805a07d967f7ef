"""The operator console: a web page that shows what the robot is about to do, and lets people approve and stop it.

It moves nothing itself: goals go to the task node, approvals are enforced by the executor, and its stop is that of
``stvla stop``.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from stvla_ros.config import param
from stvla_ros.console.access import Access, TokenConfig
from stvla_ros.console.audit import AuditLog
from stvla_ros.console.page import Page
from stvla_ros.console.runs import Runs
from stvla_ros.console.session import Session
from stvla_ros.console.views import Views
from stvla_ros.description.robot import RobotConfig
from stvla_ros.motion.approval import APPROVALS, Approval
from stvla_ros.ros.console_stack import ConsoleFeed, ConsoleStack
from stvla_ros.ros.frames import CameraConfig
from stvla_ros.ros.robot_state import JointStateConfig
from stvla_ros.ros.run import run
from stvla_ros.ros.shared_memory import end_without_port
from stvla_ros.ros.stage_node import StageNode


@dataclass(frozen=True)
class ConsoleConfig:
    """Settings of the console node."""

    host: str = param("127.0.0.1", "address of the page; one that other computers reach needs a token")
    port: int = param(8080, "port of the page; 0: any free one", ge=0, le=65535)
    mode: str = param(Approval.EACH_KEYPOSE.value, "what the first goals ask for", choices=APPROVALS)
    audit: str = param("runs/console.jsonl", "file that says who said, approved, refused, stopped and released what")
    runs: str = param("runs", "folder whose runs and recordings the page lists")
    tokens: TokenConfig = param(TokenConfig(), "who may do what")  # noqa: RUF009
    camera: CameraConfig = param(CameraConfig(), "where images come from")  # noqa: RUF009
    joint_states: JointStateConfig = param(JointStateConfig(), "how old joint states may be")  # noqa: RUF009
    robot: RobotConfig = param(RobotConfig(), "which robot")  # noqa: RUF009


class ConsoleNode(StageNode[ConsoleConfig]):
    """Wires session, page and stack together."""

    def __init__(self) -> None:
        super().__init__("console", ConsoleConfig)
        config = self.config
        access = Access(config.host, config.tokens)
        self._audit, self._views = AuditLog(Path(config.audit).expanduser()), Views()
        self._stack = ConsoleStack(
            self, config.robot, self._tell, lambda plan_id, points: self._feed.draw(plan_id, points)
        )
        self.session = Session(self._stack, access, self._audit, Approval(config.mode))
        self._feed = ConsoleFeed(self, config.robot, config.camera, config.joint_states, self.session, self._views)
        runs = Runs(Path(config.runs).expanduser())
        self._page = Page(self.session, access, self._views, config.host, config.port, self._feed.offers, runs)
        end_without_port(self)

    def _tell(self, sentence: str) -> None:
        self.session.hear_stopping(sentence)
        self.get_logger().warning(f"Stop: {sentence}")

    def ready(self) -> None:
        """Say where the page is."""
        super().ready()
        self.get_logger().info(f"The operator console is at {self._page.address}")

    def ages(self) -> dict[str, str]:
        """Ages of image and joints, and who is there."""
        self._trouble = self._page.trouble
        return {**self._feed.ages(), "people": ", ".join(self.session.shown().people)}

    def close(self, timeout_s: float) -> bool:
        """End the goal that was given here, and serve no more."""
        self.session.close(timeout_s)
        self._page.close()
        self._feed.close(timeout_s)
        self._stack.button.close(timeout_s)
        return super().close(timeout_s)


def main() -> int:
    """Entry point."""
    return run(ConsoleNode)


if __name__ == "__main__":
    sys.exit(main())
