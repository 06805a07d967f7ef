"""What a program with franky does to arm and hand. Runs as a child process: not in one with pylibfranka."""

from __future__ import annotations

import time
from typing import Any

import franky
from calls import serve

robot: Any = None
hand: Any = None


def connect(host: str) -> None:
    """Connect arm and hand, once more if need be."""
    global robot, hand
    robot = hand = None
    robot = franky.Robot(host, realtime_config=franky.RealtimeConfig.Ignore)
    robot.relative_dynamics_factor = franky.RelativeDynamicsFactor(0.2, 0.3, 0.3)
    hand = franky.Gripper(host)


def arm() -> dict[str, Any]:
    """The arm's state."""
    _, s = robot.state, robot.state
    return {"q": list(s.q), "dq": list(s.dq), "mode": str(s.robot_mode).rpartition(".")[2], "t": s.time.to_sec()}


def positions() -> list[float]:
    """Of now: an idle client's socket is full of old states, and the first reading takes the newest of those."""
    _ = robot.state
    return list(robot.state.q)


def outcome(call: Any, *arguments: Any) -> Any:
    """What a call returns, or what it throws."""
    try:
        return call(*arguments)
    except Exception as error:  # whatever the library throws is looked at  # noqa: BLE001
        return f"{type(error).__name__}: {error}"


def move(joint: int, by: float) -> str:
    """Move one joint; empty, or what the library throws."""
    q = positions()
    q[joint] += by
    return outcome(robot.move, franky.JointMotion(q)) or ""


def go(q: list[float], dynamics: float = 0.9) -> str:
    """Move to these positions; empty, or what the library throws."""
    robot.relative_dynamics_factor = franky.RelativeDynamicsFactor(dynamics, dynamics, dynamics)
    return outcome(robot.move, franky.JointMotion(q)) or ""


def interrupt(joint: int, by: float, after: float, how: str) -> dict[str, Any]:
    """Begin a motion, and end it early, by another motion (``brake``) or by ``stop``.

    Times are the robot's.
    """
    q = positions()
    q[joint] += by
    robot.move(franky.JointMotion(q), asynchronous=True)
    while not robot.is_in_control:  # before, two threads would read from one socket
        time.sleep(0.001)
    began = robot.state.time.to_sec()
    while robot.state.time.to_sec() - began < after:
        time.sleep(0.001)
    speed, asked = max(abs(v) for v in robot.state.dq), robot.state.time.to_sec()
    if how == "stop":
        robot.stop()
    else:
        robot.move(franky.JointStopMotion(franky.RelativeDynamicsFactor(1.0, 1.0, 1.0)), asynchronous=True)
    end = outcome(robot.join_motion)
    while max(abs(v) for v in robot.state.dq) > 0.01:
        pass
    return {"end": end, "speed": speed, "took": robot.state.time.to_sec() - asked}


def fingers() -> dict[str, Any]:
    """The hand's next state."""
    s = hand.state
    return {"width": s.width, "max_width": s.max_width, "is_grasped": s.is_grasped, "temperature": s.temperature}


def hand_call(name: str, values: list[float]) -> Any:
    """One command of the hand."""
    return outcome(getattr(hand, name), *values)


if __name__ == "__main__":
    serve(globals())
