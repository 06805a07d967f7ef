"""How a robot that stopped itself is made ready again. Nothing here moves the arm.

=================  ====================================================================================
kind of robot      steps
=================  ====================================================================================
sim                none: the simulated arm is ready for the next trajectory
franka, franka_sim service ``/franka/recover`` of this stack's own driver
real               franka_ros2: 1. action ``/action_server/error_recovery``, 2. the hardware component that
                   the reflex has deactivated becomes active, 3. its controllers become active, in this order
                   (franka_hardware's documentation, 3.4)
=================  ====================================================================================
"""

from __future__ import annotations

import queue
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from typing import Any, Protocol

from action_msgs.msg import GoalStatus
from rclpy.action import ActionClient
from rclpy.node import Node
from std_srvs.srv import Trigger

from stvla_ros.config import param
from stvla_ros.description.robot import RobotConfig
from stvla_ros.ros import qos
from stvla_ros.ros.action_client import SentGoal
from stvla_ros.ros.backends.controller_results import failed, typed
from stvla_ros.ros.backends.driver_reports import OWN_DRIVER
from stvla_ros.ros.service_client import AGAIN_S, call_by_name, drop

RECOVER = "/franka/recover"
ROBOT_STATE, STATE_S = "/franka_robot_state_broadcaster/robot_state", 1.0
"""franka_ros2's topic with the robot's own errors, and how long to wait for a message."""

ACTIVE = "active"
STRICT = 2
"""Strictness of controller_manager_msgs/srv/SwitchController: nothing is switched unless everything can be."""

BROADCASTER = "Broadcaster"
"""In the type of every controller that only publishes what is measured."""


@dataclass(frozen=True)
class RecoveryConfig:
    """How a robot behind franka_ros2 is recovered."""

    error_recovery: str = param("/action_server/error_recovery", "franka_ros2's action that clears the robot's errors")
    controller_manager: str = param("/controller_manager", "node that activates hardware and controllers")
    timeout_s: float = param(10.0, "how long each step may take [s]", ge=1.0, le=60.0)


class Recovery(Protocol):
    """A way to recover a robot."""

    def run(self) -> str:
        """Make the robot ready again; returns what was done. Raises StageError with the step that failed."""
        ...


def recovery_of(node: Node, robot: RobotConfig, config: RecoveryConfig) -> Recovery:
    """The way for a kind of robot."""
    if robot.kind in OWN_DRIVER:
        return DriverRecovery(node, config.timeout_s)
    return FrankaRos2Recovery(node, robot, config) if robot.kind == "real" else NothingToRecover()


class NothingToRecover:
    """The simulated arm."""

    def run(self) -> str:
        return "Nothing to recover: the simulated arm is ready."


class DriverRecovery:
    """This stack's own driver."""

    def __init__(self, node: Node, timeout_s: float) -> None:
        self._node, self._timeout_s = node, timeout_s

    def run(self) -> str:
        """Raises StageError: the driver's own, or CONTROLLER_FAILED."""
        try:
            answer = call_by_name(self._node, Trigger, RECOVER, Trigger.Request(), self._timeout_s, again_s=None)
        except ConnectionError as error:
            raise failed(f"{error}: is the node franka running? Look at its log.") from error
        if not answer.success:
            raise typed(answer.message) or failed(f"The robot's driver did not recover it: {answer.message}")
        return str(answer.message) or "Recovered."


@dataclass(frozen=True)
class Types:
    """Message classes of packages that only a machine with ros2_control or franka_ros2 has."""

    ListHardwareComponents: Any
    SetHardwareComponentState: Any
    ListControllers: Any
    SwitchController: Any
    ErrorRecovery: Any | None = None
    FrankaRobotState: Any | None = None

    @classmethod
    def load(cls) -> Types:
        """Import them; without franka_msgs there are no ``ErrorRecovery`` and no ``FrankaRobotState``.

        Raises:
            StageError: CONTROLLER_FAILED when controller_manager_msgs is missing.
        """
        try:
            services = import_module("controller_manager_msgs.srv")
        except ImportError as error:
            raise failed(
                "Recovery needs the Python package controller_manager_msgs: install ros-jazzy-controller-manager-msgs, or start "
                "the stack from a shell with the robot's workspace sourced."
            ) from error
        try:
            franka = (
                import_module("franka_msgs.action").ErrorRecovery,
                import_module("franka_msgs.msg").FrankaRobotState,
            )
        except ImportError:
            franka = None, None
        return cls(
            services.ListHardwareComponents,
            services.SetHardwareComponentState,
            services.ListControllers,
            services.SwitchController,
            *franka,
        )


class FrankaRos2Recovery:
    """The three steps of franka_ros2. For another ros2_control robot, which serves no such action, the last two.

    Args:
        node: Its executor must spin in another thread.
        robot: Names the arm's action, and by it the arm's controller.
        config: Settings.
        load: Returns the message classes, when they are needed.
    """

    def __init__(
        self, node: Node, robot: RobotConfig, config: RecoveryConfig, load: Callable[[], Types] = Types.load
    ) -> None:
        self._node, self._config, self._load = node, config, load
        self._arm_controller = robot.arm_action.rpartition("/")[0].rpartition("/")[2]

    def run(self) -> str:
        """Raises StageError CONTROLLER_FAILED: the step that failed, and what to do."""
        types = self._load()
        done = [
            self._clear_errors(types.ErrorRecovery),
            self._activate_hardware(types),
            self._activate_controllers(types),
        ]
        sentence = f"Recovered: {', '.join(filter(None, done)) or 'everything was active'}."
        errors = self._last_errors(types.FrankaRobotState)
        return f"{sentence} The last motion ended with {', '.join(errors)}." if errors else sentence

    def _clear_errors(self, kind: Any | None) -> str:
        action = self._config.error_recovery
        if not self._node.get_publishers_info_by_topic(f"{action}/_action/feedback"):
            return ""  # another ros2_control robot
        if kind is None:
            raise failed(
                f"The action {action} needs the Python package franka_msgs: start the stack from a shell with franka_ros2's "
                "workspace sourced."
            )
        client = ActionClient(self._node, kind, action)
        try:
            self._call(client, kind.Goal(), action)
        finally:
            drop(self._node, client.destroy)
        return "the robot's errors are cleared"

    def _call(self, client: ActionClient, goal: Any, action: str) -> None:
        limit_s = self._config.timeout_s
        if not client.wait_for_server(limit_s):
            raise failed(f"No action server {action} within {limit_s:g} s: look at franka_ros2's log.")
        sent = SentGoal(self._node, client, goal, resend=True)
        if not sent.wait(limit_s):
            sent.cancel()
            raise failed(f"{action} did not end within {limit_s:g} s: look at franka_ros2's log.")
        if sent.status != GoalStatus.STATUS_SUCCEEDED:
            raise failed(
                f"{action} failed: is the robot's stop button pressed, a safety function active, or a joint beyond its limit? "
                "Clear that at the robot, then `stvla recover` again."
            )

    def _activate_hardware(self, types: Types) -> str:
        listed = self._ask(types.ListHardwareComponents, "list_hardware_components")
        idle = [part.name for part in listed.component if part.state.label != ACTIVE]
        for name in idle:
            request = types.SetHardwareComponentState.Request(name=name)
            request.target_state.label = ACTIVE
            answer = self._ask(types.SetHardwareComponentState, "set_hardware_component_state", request)
            if not answer.ok:
                raise failed(
                    f"The hardware component {name} did not become active, it is {answer.state.label}: look at the log of "
                    f"{self._config.controller_manager}, then `stvla recover` again."
                )
        return _active(idle)

    def _activate_controllers(self, types: Types) -> str:
        listed = self._ask(types.ListControllers, "list_controllers").controller
        if self._arm_controller not in [controller.name for controller in listed]:
            raise failed(
                f"{self._config.controller_manager} has not loaded the arm's controller {self._arm_controller}: start it "
                "(`ros2 run controller_manager spawner`), or set robot.arm_action to the one that is loaded."
            )
        wanted = [
            c.name for c in listed if c.state != ACTIVE and (BROADCASTER in c.type or c.name == self._arm_controller)
        ]
        if wanted:
            request = types.SwitchController.Request(activate_controllers=wanted, strictness=STRICT)
            request.timeout.sec = int(self._config.timeout_s)
            answer = self._ask(types.SwitchController, "switch_controller", request)
            if not answer.ok:
                raise failed(
                    f"The controllers {', '.join(wanted)} did not become active ({answer.message or 'no reason given'}): look at "
                    f"the log of {self._config.controller_manager}; does another controller move the arm?"
                )
        return _active(wanted)

    def _last_errors(self, kind: Any | None) -> list[str]:
        """libfranka's names of the last motion's errors, which the state broadcaster can tell now that it is active."""
        if kind is None or not self._node.get_publishers_info_by_topic(ROBOT_STATE):
            return []
        heard: queue.SimpleQueue[Any] = queue.SimpleQueue()
        subscription = self._node.create_subscription(kind, ROBOT_STATE, heard.put, qos.STATE)  # 1 kHz: not for long
        try:
            errors = heard.get(timeout=STATE_S).last_motion_errors
        except queue.Empty:
            return []
        finally:
            drop(self._node, partial(self._node.destroy_subscription, subscription))
        return [name for name in errors.get_fields_and_field_types() if getattr(errors, name) is True]

    def _ask(self, kind: Any, service: str, request: Any = None) -> Any:
        name = f"{self._config.controller_manager}/{service}"
        request = request or kind.Request()
        again_s = AGAIN_S if service.startswith("list_") else None
        try:
            return call_by_name(self._node, kind, name, request, self._config.timeout_s, again_s)
        except ConnectionError as error:
            raise failed(
                f"{error}: start the robot's drivers and look at their log, or set "
                "executor.controllers.recovery.controller_manager."
            ) from error


def _active(names: Sequence[str]) -> str:
    return f"{' and '.join(names)} {'is' if len(names) == 1 else 'are'} active" if names else ""
