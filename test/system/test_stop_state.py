"""The operator's stop as it is remembered, and as it is given from outside: no process is started here."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rclpy.node import Node
from sensor_msgs.msg import JointState

from stvla_ros.commands.exit_codes import UNREACHABLE, of_outcome
from stvla_ros.commands.stop import report
from stvla_ros.description.robot import RobotConfig
from stvla_ros.errors import OutcomeCode, StageError
from stvla_ros.ros import operator_stop
from stvla_ros.ros.action_client import EXECUTOR_CANCEL_S, TASK_CANCEL_S
from stvla_ros.ros.backends.ros2_control import Ros2ControlConfig
from stvla_ros.ros.graph import default_parameters
from stvla_ros.ros.operator_stop import KEEPERS, USUAL, Standstill, StopResult, robots
from stvla_ros.ros.stop_state import STOPPED, TOPIC, StopKeeper


class Bus:
    """A latched topic: every reader gets what comes, and what each writer said last before it joined."""

    def __init__(self) -> None:
        self.readers: dict[str, Callable[[Any], None]] = {}
        self.latched: dict[str, Any] = {}

    def keeper(self, name: str, halts: list[str], **more: bool) -> StopKeeper:
        bus = self

        class FakeNode:
            def create_publisher(self, *_: Any) -> Any:
                return self

            def publish(self, message: Any) -> None:
                bus.latched[name] = message
                for read in list(bus.readers.values()):
                    read(message)

            def create_subscription(self, kind: Any, topic: str, read: Callable[[Any], None], qos: Any) -> None:
                bus.readers[name] = read

        keeper = StopKeeper(FakeNode(), lambda: halts.append(name), **more)  # type: ignore[arg-type]
        for message in list(self.latched.values()):
            self.readers[name](message)
        return keeper

    def kill(self, name: str) -> None:
        self.readers.pop(name)
        self.latched.pop(name, None)


@pytest.fixture
def bus() -> Bus:
    return Bus()


def test_a_new_stack_is_not_stopped(bus: Bus) -> None:
    halts: list[str] = []
    task = bus.keeper("task", halts, decides=True)
    executor = bus.keeper("executor", halts)
    assert not executor.wait_known(0.0)
    executor.ask()
    assert executor.wait_known(0.0)
    assert (executor.state.stopped, task.state.stopped, halts) == (False, False, [])


def test_a_stop_survives_the_executor_and_then_the_task_node(bus: Bus) -> None:
    halts: list[str] = []
    task = bus.keeper("task", halts, decides=True)
    executor = bus.keeper("executor", halts)
    executor.ask()
    executor.stop()
    assert halts == ["task"]
    assert task.state.stopped
    bus.kill("executor")
    executor = bus.keeper("executor", halts)
    executor.ask()
    assert executor.state.stopped
    with pytest.raises(StageError, match="--release") as error:
        executor.raise_if_stopped()
    assert error.value.code is OutcomeCode.CANCELED
    bus.kill("task")
    task = bus.keeper("task", halts, decides=True)
    assert task.state.stopped
    executor.release()
    assert not task.state.stopped
    bus.kill("executor")
    executor = bus.keeper("executor", halts)
    executor.ask()
    assert executor.state.known
    assert not executor.state.stopped


def test_a_stop_that_only_the_task_node_took_reaches_the_next_executor_and_one_that_hung(bus: Bus) -> None:
    halts: list[str] = []
    task = bus.keeper("task", halts, decides=True)
    hung = bus.keeper("executor", halts)
    hung.ask()
    read = bus.readers.pop("executor")
    task.stop()
    assert not hung.state.stopped
    read(bus.latched["task"])
    assert hung.state.stopped
    assert halts == ["executor"], "and its motion ends"


def test_nobodys_assumption_overrides_an_operators_word(bus: Bus) -> None:
    """A task node that was restarted while the executor could not be heard assumes that motion is allowed."""
    halts: list[str] = []
    executor = bus.keeper("executor", halts)
    executor.stop()
    bus.latched.clear()
    read = bus.readers.pop("executor")
    task = bus.keeper("task", halts, decides=True)
    task.assume_released()
    read(bus.latched["task"])
    assert executor.state.stopped
    executor.stop()
    assert task.state.stopped


def test_its_own_question_does_not_push_out_the_answer(ros: Any) -> None:
    """What others have latched arrives before a new node spins, and before it asks: both must be heard."""
    told = StopKeeper(ros.add(Node("task")), lambda: None, decides=True)
    told.stop()
    node = Node("executor")
    keeper = StopKeeper(node, lambda: None)
    until = time.monotonic() + 20.0
    while node.count_publishers(TOPIC) < 2:
        assert time.monotonic() < until
        time.sleep(0.01)
    time.sleep(1.0)  # the latched message is on its way; nothing tells of its arrival but taking it
    keeper.ask()
    ros.add(node)
    assert keeper.wait_known(20.0)
    assert keeper.state.stopped


def test_a_clock_that_lags_does_not_lose_a_stop(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    halts: list[str] = []
    task, executor = bus.keeper("task", halts, decides=True), bus.keeper("executor", halts)
    executor.release()
    monkeypatch.setattr(time, "time_ns", lambda: 1_000_000_000)
    task.stop()
    assert executor.state.stopped
    assert executor.state.reason == STOPPED


# --- standstill ----------------------------------------------------------------------------------------------------


def joints(t_s: float, q: float = 0.0, dq: float | None = 0.0, prefix: str = "panda") -> JointState:
    names = [f"{prefix}_joint{i}" for i in range(7, 0, -1)]
    message = JointState(name=["gripper", *names], position=[t_s, *[q] * 7])
    if dq is not None:
        message.velocity = [9.0, *[dq] * 7]
    message.header.stamp.sec, message.header.stamp.nanosec = 1, round(t_s * 1e9)
    return message


def only_names(t_s: float) -> JointState:
    message = joints(t_s, dq=None)
    message.position = [0.0] * 3
    return message


def judged(
    monkeypatch: pytest.MonkeyPatch, states: list[JointState], prefix: str = "panda", late_s: float = 0.0
) -> bool:
    """The verdict after joint states that came when they are stamped."""
    clock = [0.0]
    monkeypatch.setattr(operator_stop.time, "monotonic", lambda: clock[0])
    still = Standstill(RobotConfig(prefix=prefix).arm_joints)
    for state in states:
        clock[0] = state.header.stamp.nanosec * 1e-9
        still.receive(state)
    clock[0] += late_s
    return still.confirmed


TIMES = [float(t) for t in np.arange(0.0, 0.4, 0.01)]


def test_standstill_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    assert judged(monkeypatch, [joints(t) for t in TIMES])
    assert judged(monkeypatch, [joints(t, dq=None) for t in TIMES]), "a gripper's fingers may move"
    assert judged(monkeypatch, [joints(t, prefix="fr3") for t in TIMES], "fr3")
    assert judged(monkeypatch, [joints(t, dq=0.5) for t in TIMES[:5]] + [joints(t) for t in TIMES[5:]])
    assert judged(monkeypatch, [joints(t, dq=float("nan")) for t in TIMES]), "NaN is not measured, as none is"
    assert judged(monkeypatch, [joints(0.9), *(joints(t) for t in TIMES)]), "one stamp was of the future"


def test_standstill_without_stamps_is_judged_by_arrival(monkeypatch: pytest.MonkeyPatch) -> None:
    for q, stands in ((0.0, True), (0.5, False)):
        still = Standstill(RobotConfig().arm_joints)
        for t in TIMES:
            monkeypatch.setattr(operator_stop.time, "monotonic", lambda t=t: t)
            monkeypatch.setattr(operator_stop.time, "monotonic_ns", lambda t=t: 1 + round(t * 1e9))
            message = joints(t, q=q * t, dq=None)
            message.header.stamp.sec = message.header.stamp.nanosec = 0
            still.receive(message)
        assert (still.confirmed, still.moving) == (stands, not stands)


@pytest.mark.parametrize(
    "states",
    [
        [],
        [joints(t) for t in TIMES[:10]],  # too short a time
        [joints(t, dq=0.5) for t in TIMES],
        [joints(t, q=0.5 * t, dq=None) for t in TIMES],  # without velocities
        [joints(t, q=0.5 * t) for t in TIMES],  # with velocities that say nothing
        [joints(t) for t in TIMES[:-5]] + [joints(t, dq=0.5) for t in TIMES[-5:]],
        [joints(t, q=0.5 * t, dq=float("nan")) for t in TIMES],  # with velocities that are not measured
        [joints(t, q=float("nan")) for t in TIMES],
        [only_names(t) for t in TIMES],
        [joints(t, q=0.5 * (i % 2)) for i, t in enumerate(TIMES)],  # two robots
        [joints(t - 0.3 * (i % 2) + 0.3) for i, t in enumerate(TIMES)],  # two clocks
        [joints(0.1)] * 50,  # the same state again and again
        [joints(t, prefix="fr3") for t in TIMES],  # another arm
    ],
)
def test_standstill_is_not_believed(monkeypatch: pytest.MonkeyPatch, states: list[JointState]) -> None:
    assert not judged(monkeypatch, states)


def test_silence_is_no_standstill(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not judged(monkeypatch, [joints(t) for t in TIMES], late_s=1.0)


# --- what `stvla stop` says ------------------------------------------------------------------------------------------

EVERYONE = {**dict.fromkeys(KEEPERS, "Stopped."), "arm controller": "", "gripper controller": ""}


@pytest.mark.parametrize(
    ("stopped", "code", "words"),
    [
        (StopResult(EVERYONE, (), True, True), 0, []),
        (StopResult({"task node": "", "arm controller": ""}, ("executor",), True, True), 0, ["No answer", "executor"]),
        (
            StopResult(EVERYONE, (), False, True),
            of_outcome(OutcomeCode.CANCEL_UNCONFIRMED),
            ["moves", "emergency stop"],
        ),
        (StopResult(EVERYONE, (), False, False), of_outcome(OutcomeCode.CANCEL_UNCONFIRMED), ["no joint", "emergency"]),
        (StopResult({"arm controller": ""}, tuple(KEEPERS), True, True), UNREACHABLE, ["No node keeps the stop"]),
        (StopResult({}, tuple(EVERYONE), False, True), UNREACHABLE, ["Nobody answered", "emergency stop"]),
    ],
)
def test_stop_is_honest(capsys: pytest.CaptureFixture[str], stopped: StopResult, code: int, words: list[str]) -> None:
    assert report(stopped, 5.0) == code
    said = capsys.readouterr().out
    assert all(word in said for word in words), said
    assert bool(said) == bool(words)


def test_names_come_from_the_parameter_file(parameter_file: Callable[[str], Path]) -> None:
    """A file that does not say which kind of robot it is leaves both to be looked for."""
    assert robots(default_parameters()) == (RobotConfig("sim"), RobotConfig("real")) == USUAL
    text = "/**:\n  ros__parameters:\n    robot: {kind: real, prefix: fr3, gripper_action: /g/grip}\n"
    assert robots(parameter_file(text)) == (RobotConfig("real", prefix="fr3", gripper_action="/g/grip"),)


# --- cancel timeouts -----------------------------------------------------------------------------------------------


def test_cancel_timeouts_nest() -> None:
    """A client gives up later than the task node, that later than the executor, that later than the controllers."""
    most_s = Ros2ControlConfig.__dataclass_fields__["stop_timeout_s"].metadata["le"]
    until_the_goal_ended = until_the_arm_stands = most_s
    assert until_the_goal_ended + until_the_arm_stands < EXECUTOR_CANCEL_S < TASK_CANCEL_S
