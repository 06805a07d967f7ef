"""StageNode: a mailbox around one stage.

The executor's thread receives messages and keeps the newest of each; the stage works in threads of its own. So cancels,
heartbeats and parameter requests are handled while a model thinks.
"""

from __future__ import annotations

import time
import traceback
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, Generic, TypeVar

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.node import Node
from stvla_msgs.msg import Outcome as OutcomeMsg

from stvla_ros.config import ConfigError
from stvla_ros.errors import OutcomeCode, StageError
from stvla_ros.ros import qos
from stvla_ros.ros.action_server import StageServer, Work
from stvla_ros.ros.convert import header
from stvla_ros.ros.freshness import STEADY
from stvla_ros.ros.heartbeats import HeartbeatSender
from stvla_ros.ros.middleware import destroy_node
from stvla_ros.ros.params import Parameters

C = TypeVar("C")

EXPECTED = frozenset({OutcomeCode.OK, OutcomeCode.CANCELED, OutcomeCode.PREEMPTED})
"""Intended outcomes, logged as information."""

FAULTS = frozenset(
    {
        OutcomeCode.REFLEX,
        OutcomeCode.USER_STOPPED,
        OutcomeCode.SAFETY_FUNCTION,
        OutcomeCode.ROBOT_LOST,
        OutcomeCode.CAMERA_MOVED,
        OutcomeCode.NODE_LOST,
        OutcomeCode.CONTROLLER_FAILED,
        OutcomeCode.INTERNAL,
        OutcomeCode.CANCEL_UNCONFIRMED,
    }
)
"""Outcomes after which someone should look at the robot or the software, logged as errors. All others are warnings."""

LOGGED_CHARS = 200


class StageNode(Node, Generic[C]):
    """A node with typed settings, a heartbeat, diagnostics, and actions that run in worker threads.

    Args:
        name: Node name.
        config: Settings dataclass, see :class:`stvla_ros.ros.params.Parameters`.
        backends: Setting that names a backend -> its kind in the registry.

    Raises:
        ConfigError: A parameter is wrong.
    """

    logs_success = False
    """Whether successful goals are logged too."""

    def __init__(self, name: str, config: type[C], backends: Mapping[str, str] | None = None) -> None:
        try:
            super().__init__(name, automatically_declare_parameters_from_overrides=True)
        except ValueError as error:  # rcl reads an empty list or section as a parameter without a value
            if "PARAMETER_NOT_SET" not in str(error):
                raise
            raise ConfigError(
                f"{name}: a setting has no value (an empty list or section?): leave it out. {error}."
            ) from error
        try:
            self.parameters = Parameters(self, config, backends)
        except ConfigError:
            self.destroy_node()
            raise
        self.health: dict[str, str] = {}
        """Shown in the diagnostics, e.g. latencies and ages."""
        self._trouble = ""
        self._servers: list[StageServer] = []
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", qos.EVENT)
        self._diagnostics_timer = self.create_timer(1.0, self._diagnose, clock=STEADY)
        self._heartbeat: HeartbeatSender | None = None

    @property
    def config(self) -> C:
        """The settings, including live changes."""
        return self.parameters.config

    def ready(self) -> None:
        """The node's stage is loaded: start the heartbeat. Called once by :func:`stvla_ros.ros.run.run`."""
        self._heartbeat = HeartbeatSender(self)

    def serve(self, action_type: Any, name: str, work: Work, preempt: bool = False) -> StageServer:
        """Serve an action in a worker thread of its own, see :class:`StageServer`."""
        server = StageServer(self, action_type, name, work, preempt, self._log_end)
        self._servers.append(server)
        return server

    def _log_end(self, goal: Any, outcome: OutcomeMsg) -> None:
        """Log the end of a goal, because its client may be dead. Successes are logged only by nodes that ask for it."""
        code, instruction = OutcomeCode(outcome.code), getattr(goal, "instruction", "")
        if code is OutcomeCode.OK and not self.logs_success:
            return
        line = f"'{instruction[:LOGGED_CHARS]}': " if instruction else ""
        line += f"{code.name}: {outcome.sentence}"
        log = self.get_logger()
        if code in EXPECTED:
            log.info(line)
        elif code in FAULTS:
            log.error(line)
        else:
            log.warning(line)

    def now_ns(self) -> int:
        return int(self.get_clock().now().nanoseconds)

    def timed(self, what: str, work: Callable[[], Any]) -> Any:
        """Do some work and note its latency and its failure for the diagnostics."""
        start = time.perf_counter()
        try:
            result = work()
        except StageError as error:
            self._trouble = str(error)
            raise
        self._trouble = ""
        self.health[f"{what} latency [ms]"] = f"{(time.perf_counter() - start) * 1e3:.1f}"
        return result

    def _defect(self, error: BaseException) -> None:
        """Log a defect that a worker of this node survived."""
        self._trouble = f"defect: {error!r}"
        self.get_logger().error(f"Defect in '{self.get_name()}':\n{''.join(traceback.format_exception(error))}")

    def _diagnose(self) -> None:
        status = DiagnosticStatus(
            level=DiagnosticStatus.WARN if self._trouble else DiagnosticStatus.OK,
            name=f"stvla: {self.get_fully_qualified_name().lstrip('/')}",
            message=self._trouble or "working" if any(s.busy for s in self._servers) else self._trouble or "ready",
            values=[KeyValue(key=k, value=v) for k, v in {**self.health, **self.ages()}.items()],
        )
        self._diagnostics.publish(DiagnosticArray(header=header(self.now_ns(), ""), status=[status]))

    def ages(self) -> dict[str, str]:
        """Ages of the inputs for the diagnostics; overridden by nodes that have inputs."""
        return {}

    def close(self, timeout_s: float) -> bool:
        """End all work while ROS still runs; False when some is still busy after ``timeout_s``."""
        end = time.monotonic() + timeout_s
        closed = [server.close(max(0.0, end - time.monotonic())) for server in self._servers]
        return all(closed)

    def destroy_node(self) -> None:
        """Destroy everything of the node, after the executor's last spin."""
        destroy_node(self)


class RollingPercentiles:
    """Percentiles of the last values of one quantity, for the diagnostics."""

    def __init__(self, size: int = 100) -> None:
        self._values: deque[float] = deque(maxlen=size)

    def add(self, value: float) -> None:
        """Add a value."""
        self._values.append(value)

    def __str__(self) -> str:
        """Median and 95th percentile; empty before the first value."""
        if not self._values:
            return ""
        return " / ".join(f"{v:.1f}" for v in np.percentile(list(self._values), [50, 95]))
