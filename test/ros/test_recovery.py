"""The steps of a recovery: their order, what is left alone, and the sentence of each that fails."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from stvla_ros.description.robot import RobotConfig
from stvla_ros.errors import OutcomeCode, StageError
from stvla_ros.ros.backends.controller_results import stopped_itself, typed
from stvla_ros.ros.backends.recovery import (
    DriverRecovery,
    FrankaRos2Recovery,
    NothingToRecover,
    RecoveryConfig,
    Types,
    recovery_of,
)

ROBOT = RobotConfig(kind="real", model="fr3")


class Request(SimpleNamespace):
    """A message that takes any field."""

    def __init__(self, **fields: Any) -> None:
        super().__init__(**{"target_state": SimpleNamespace(label=""), "timeout": SimpleNamespace(sec=0), **fields})


SERVICES = ("ListHardwareComponents", "SetHardwareComponentState", "ListControllers", "SwitchController")


def types(recovery: Any = "ErrorRecovery") -> Types:
    return Types(
        *(SimpleNamespace(Request=Request, __name__=name) for name in SERVICES), recovery and SimpleNamespace(Goal=dict)
    )


class FrankaRos2(FrankaRos2Recovery):
    """Against a controller manager that is a dictionary."""

    def __init__(self, recovery: Any = "ErrorRecovery", served: bool = True) -> None:
        self.done: list[str] = []
        self.answers: dict[str, bool] = {}
        self.hardware = {"FrankaHardwareInterface": "unconfigured"}
        self.controllers = {
            "joint_state_broadcaster": ("joint_state_broadcaster/JointStateBroadcaster", "inactive"),
            "franka_robot_state_broadcaster": (
                "franka_robot_state_broadcaster/FrankaRobotStateBroadcaster",
                "inactive",
            ),
            "fr3_arm_controller": ("joint_trajectory_controller/JointTrajectoryController", "inactive"),
            "gravity_compensation": ("franka_example_controllers/GravityCompensation", "inactive"),
        }
        node: Any = SimpleNamespace(get_publishers_info_by_topic=lambda topic: [1] if served else [])
        super().__init__(node, ROBOT, RecoveryConfig(), lambda: types(recovery))

    def _clear_errors(self, kind: Any | None) -> str:
        if self._node.get_publishers_info_by_topic("") and kind is not None:
            self.done.append("error_recovery")
            return "the robot's errors are cleared"
        return super()._clear_errors(kind)

    def _ask(self, kind: Any, service: str, request: Any = None) -> Any:
        ok = self.answers.get(service, True)
        if service == "list_hardware_components":
            parts = [SimpleNamespace(name=n, state=SimpleNamespace(label=s)) for n, s in self.hardware.items()]
            return SimpleNamespace(component=parts)
        if service == "list_controllers":
            return SimpleNamespace(
                controller=[SimpleNamespace(name=n, type=t, state=s) for n, (t, s) in self.controllers.items()]
            )
        if service == "set_hardware_component_state":
            self.done.append(f"{request.name} {request.target_state.label}")
            self.hardware[request.name] = request.target_state.label
            return SimpleNamespace(ok=ok, state=SimpleNamespace(label="unconfigured"))
        assert service == "switch_controller"
        self.done.append(" ".join(request.activate_controllers))
        return SimpleNamespace(ok=ok, message="claimed by gravity_compensation")


def test_three_steps_in_their_order() -> None:
    robot = FrankaRos2()
    assert robot.run() == (
        "Recovered: the robot's errors are cleared, FrankaHardwareInterface is active, joint_state_broadcaster and "
        "franka_robot_state_broadcaster and fr3_arm_controller are active."
    )
    assert robot.done == [
        "error_recovery",
        "FrankaHardwareInterface active",
        "joint_state_broadcaster franka_robot_state_broadcaster fr3_arm_controller",
    ]


def test_what_is_active_is_left_alone_and_so_is_a_robot_without_errors_to_clear() -> None:
    robot = FrankaRos2(served=False)
    robot.hardware = dict.fromkeys(robot.hardware, "active")
    robot.controllers = {n: (t, "active") for n, (t, _) in robot.controllers.items()}
    assert robot.run() == "Recovered: everything was active."
    assert robot.done == []


@pytest.mark.parametrize(
    ("service", "words"),
    [
        ("set_hardware_component_state", "FrankaHardwareInterface did not become active, it is unconfigured"),
        ("switch_controller", r"did not become active \(claimed by gravity_compensation\).*another controller"),
    ],
)
def test_a_step_that_fails_ends_the_recovery(service: str, words: str) -> None:
    robot = FrankaRos2()
    robot.answers[service] = False
    with pytest.raises(StageError, match=words) as error:
        robot.run()
    assert error.value.code is OutcomeCode.CONTROLLER_FAILED
    assert not (service.startswith("set") and any("controller" in step for step in robot.done))


def test_an_arm_controller_that_is_not_loaded_is_told() -> None:
    robot = FrankaRos2()
    del robot.controllers["fr3_arm_controller"]
    with pytest.raises(StageError, match=r"has not loaded the arm's controller fr3_arm_controller"):
        robot.run()


def test_missing_message_packages_are_told() -> None:
    with pytest.raises(StageError, match="needs the Python package franka_msgs"):
        FrankaRos2(recovery=None).run()
    try:
        import controller_manager_msgs.srv  # noqa: F401
    except ImportError:
        with pytest.raises(StageError, match="needs the Python package controller_manager_msgs"):
            Types.load()


def test_each_kind_of_robot_has_its_way() -> None:
    node: Any = None
    for kind, way in {"sim": NothingToRecover, "franka": DriverRecovery, "franka_sim": DriverRecovery}.items():
        assert type(recovery_of(node, RobotConfig(kind=kind), RecoveryConfig())) is way
    assert type(recovery_of(node, ROBOT, RecoveryConfig())) is FrankaRos2Recovery
    assert "ready" in NothingToRecover().run()


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ('libfranka: Move command aborted: motion aborted by reflex! ["cartesian_reflex"]', OutcomeCode.REFLEX),
        ("libfranka: Move command aborted: User Stop pressed!", OutcomeCode.USER_STOPPED),
        (
            'libfranka: Move command rejected: not possible in the current mode ("User stopped")!',
            OutcomeCode.USER_STOPPED,
        ),
        ("Move command aborted due to activated safety function! Please disable all", OutcomeCode.SAFETY_FUNCTION),
        ("libfranka: UDP receive: Timeout", OutcomeCode.ROBOT_LOST),
        ("libfranka: Connection to FCI refused.", OutcomeCode.ROBOT_LOST),
        ("libfranka: Move command preempted!", None),
    ],
)
def test_libfrankas_texts(text: str, code: OutcomeCode | None) -> None:
    error = stopped_itself(text)
    assert (error and error.code) is code
    if error is not None:
        assert text.rstrip(".") in error.sentence


def test_texts_that_begin_with_a_code() -> None:
    error = typed("USER_STOPPED: The stop button is pressed: release it.")
    assert error is not None
    assert (error.code, error.sentence) == (OutcomeCode.USER_STOPPED, "The stop button is pressed: release it.")
    for other in ("", "REFLEX", "REFLEX: ", "Reflex: contact of 40 N", "joint: limit"):
        assert typed(other) is None
