"""What a program with pylibfranka does to the robot. Runs as a child process: the library keeps the interpreter's lock."""

from __future__ import annotations

import time
from typing import Any

import pylibfranka as franka
from calls import serve

ERRORS = (franka.ControlException, franka.CommandException, franka.NetworkException, RuntimeError)

robot: Any = None


def connect(host: str) -> float:
    """Connect; returns how long it took."""
    global robot
    began = time.monotonic()
    robot = None
    robot = franka.Robot(host, franka.RealtimeConfig.kIgnore)
    return time.monotonic() - began


def disconnect() -> None:
    """Close the connection."""
    global robot
    robot = None


def try_second(host: str) -> str:
    """Connect once more; returns what happened."""
    try:
        franka.Robot(host, franka.RealtimeConfig.kIgnore)
    except ERRORS as error:
        return f"{type(error).__name__}: {error}"
    return "connected"


def state() -> dict[str, Any]:
    """The next state, as plain values: the first reading of an idle client takes an old one from its full socket."""
    robot.read_once()
    return plain(robot.read_once())


def plain(s: Any) -> dict[str, Any]:
    names = (
        "q", "dq", "q_d", "dq_d", "tau_J", "tau_ext_hat_filtered", "O_F_ext_hat_K", "O_T_EE", "F_T_EE", "NE_T_EE", "EE_T_K",
        "m_ee", "m_load", "F_x_Cload", "control_command_success_rate",
    )  # fmt: skip
    values = {name: getattr(s, name) for name in names}
    lists = {k: v if isinstance(v, float) else list(v) for k, v in values.items()}
    mode = str(s.robot_mode).rpartition(".")[2]
    errors = {"errors": str(s.current_errors), "last_errors": str(s.last_motion_errors)}
    return {**lists, **errors, "mode": mode, "t": s.time.to_sec()}


def gravity() -> list[float]:
    """Of the model that the robot serves, for the current state."""
    return list(robot.load_model().gravity(robot.read_once()))


def request(name: str, **values: Any) -> str:
    """One request; empty, or what the library throws."""
    try:
        getattr(robot, name)(*values.values())
    except ERRORS as error:
        return f"{type(error).__name__}: {error}"
    return ""


def smooth(x: float) -> tuple[float, float]:
    """From 0 to 1 with zero slope and curvature at both ends, and the slope."""
    x = min(max(x, 0.0), 1.0)
    return x**3 * (10.0 - 15.0 * x + 6.0 * x * x), 30.0 * (x * (1.0 - x)) ** 2


def move(
    interface: str = "position",
    joint: int = 0,
    by: float = 0.1,
    duration: float = 0.4,
    fault: str = "",
    at: float = 0.2,
    size: float = 0.0,
    pause: float = 0.0,
) -> dict[str, Any]:
    """Move one joint smoothly, with one mistake or none.

    Args:
        interface: position, velocity or torque.
        joint: Which one.
        by: How far, rad.
        duration: How long, s of robot time.
        fault: jump, start, silence, finish: see :func:`command`.
        at: When, s.
        size: How large; of silence in seconds.
        pause: Every 50th answer comes so much later, s.
    """
    start = {
        "position": robot.start_joint_position_control,
        "velocity": robot.start_joint_velocity_control,
        "torque": lambda _: robot.start_torque_control(),
    }[interface]
    log: list[tuple[float, list[float], list[float]]] = []
    error, commanded, control = "", [0.0] * 7, None
    rates: list[float] = []
    try:
        control = start(franka.ControllerMode.JointImpedance)
        s, _ = control.readOnce()
        t, home, began = 0.0, list(s.q_d), s.time.to_sec()
        while True:
            if fault == "silence" and abs(t - at) < 5e-4:
                time.sleep(size)
            if pause and len(log) % 50 == 49:
                time.sleep(pause)
            now, commanded = command(interface, s, home, joint, by, t, duration, fault, at, size)
            now.motion_finished = t >= duration or (fault == "finish" and t >= at)
            control.writeOnce(now)
            if now.motion_finished:
                break
            s, _ = control.readOnce()
            t = s.time.to_sec() - began
            log.append((t, list(s.q), list(commanded)))
            rates.append(s.control_command_success_rate)
    except ERRORS as exception:
        error = f"{type(exception).__name__}: {exception}"
        exception.__traceback__ = None
    del control
    return {"error": error, "log": log, "rate": min(rates, default=1.0)}


def command(
    interface: str,
    s: Any,
    home: list[float],
    joint: int,
    by: float,
    t: float,
    duration: float,
    fault: str,
    at: float,
    size: float,
) -> tuple[Any, list[float]]:
    """The command for one cycle, and the reference position in it.

    A ``jump`` adds ``size`` from ``at`` on, a ``start`` from the beginning; a ``ramp`` is a torque that grows from
    ``at`` on by so much per second, and nothing else.
    """
    way, slope = smooth(t / duration)
    extra = size if (fault == "jump" and t >= at) or fault == "start" else 0.0
    extra += size * max(t - at, 0.0) if fault == "ramp" else 0.0
    q, dq = list(home), [0.0] * 7
    q[joint] += by * way
    dq[joint] = by * slope / duration
    if interface == "position":
        sent = list(q)
        sent[joint] += extra
        return franka.JointPositions(sent), q
    if interface == "velocity":
        dq[joint] += extra
        return franka.JointVelocities(dq), q
    stiff, damp = (600.0, 600.0, 600.0, 600.0, 250.0, 150.0, 50.0), (50.0, 50.0, 50.0, 50.0, 30.0, 25.0, 15.0)
    tau = [k * (a - b) + d * (v - w) for k, a, b, d, v, w in zip(stiff, q, s.q, damp, dq, s.dq, strict=True)]
    tau[joint] = extra if fault == "ramp" else tau[joint] + extra
    return franka.Torques(tau), q


def start_cartesian(name: str) -> str:
    """Ask for a Cartesian motion; returns what the library throws."""
    try:
        getattr(robot, name)(franka.ControllerMode.JointImpedance)
    except ERRORS as error:
        return f"{type(error).__name__}: {error}"
    return ""


def rest() -> dict[str, Any]:
    """Wait until the joints stand still; returns the state, and how long that took in robot time."""
    robot.read_once()
    s = robot.read_once()
    began = s.time.to_sec()
    while max(abs(v) for v in s.dq) > 0.01:
        s = robot.read_once()
    return {**plain(s), "took": s.time.to_sec() - began}


def wait(seconds: float) -> None:
    """In robot time."""
    until = robot.read_once().time.to_sec() + seconds
    while robot.read_once().time.to_sec() < until:
        pass


def recover() -> str:
    """Automatic error recovery."""
    return request("automatic_error_recovery")


if __name__ == "__main__":
    serve(globals())
