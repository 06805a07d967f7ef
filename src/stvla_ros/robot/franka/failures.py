"""libfranka's errors as typed outcomes with a sentence for the operator."""

from __future__ import annotations

import re
from collections.abc import Callable

from stvla_ros.errors import OutcomeCode, StageError
from stvla_ros.robot.franka.messages import Answer, Mode

MODES = {
    "Idle": Mode.IDLE,
    "Move": Mode.MOVING,
    "Guiding": Mode.GUIDING,
    "Reflex": Mode.REFLEX,
    "UserStopped": Mode.USER_STOPPED,
    "AutomaticErrorRecovery": Mode.OTHER,
    "Other": Mode.OTHER,
}
"""libfranka's name of a mode -> ours."""

CODES = {
    Mode.REFLEX: OutcomeCode.REFLEX,
    Mode.USER_STOPPED: OutcomeCode.USER_STOPPED,
    Mode.SAFETY_FUNCTION: OutcomeCode.SAFETY_FUNCTION,
    Mode.LOST: OutcomeCode.ROBOT_LOST,
}
"""Modes with an outcome of their own; in all others the robot merely is not ready: CONTROLLER_FAILED."""

READY = (Mode.IDLE, Mode.MOVING)
"""Modes in which the driver takes a motion."""

RECOVER = "`stvla recover`"


def error_names(text: str) -> tuple[str, ...]:
    """Names of errors in libfranka's text, e.g. ``["joint_reflex", "cartesian_reflex"]``."""
    return tuple(dict.fromkeys(re.findall(r'"([a-z_]+)"', text)))


def sentence(mode: Mode, errors: tuple[str, ...] = (), detail: str = "") -> str:
    """What is the matter with an arm in this mode, and what to do."""
    names = ", ".join(errors)
    return _SENTENCES[mode](names, detail)


_SENTENCES: dict[Mode, Callable[[str, str], str]] = {
    Mode.INACTIVE: lambda names, detail: "The driver is not connected to the robot: call /franka/activate.",
    Mode.IDLE: lambda names, detail: "Ready.",
    Mode.MOVING: lambda names, detail: "Moving.",
    Mode.REFLEX: lambda names, detail: (
        f"The robot stopped itself ({names or detail or 'it names no error'}): look at what it touched, then {RECOVER}."
    ),
    Mode.USER_STOPPED: lambda names, detail: (
        f"The robot's stop button is pressed: release it when it is safe, then {RECOVER}."
    ),
    Mode.SAFETY_FUNCTION: lambda names, detail: (
        f"A safety function of the robot is active: end it in Desk, then {RECOVER}."
    ),
    Mode.GUIDING: lambda names, detail: "Somebody guides the robot by hand: let go of its guiding button.",
    Mode.LOST: lambda names, detail: (
        f"The connection to the robot broke ({detail or 'no reason given'}): look at cable and control box, then call "
        "/franka/activate."
    ),
    Mode.OTHER: lambda names, detail: (
        f"The robot is in another mode{f' ({detail})' if detail else ''}: unlock its brakes and activate FCI in Desk."
    ),
}


def of_mode(mode: Mode, errors: tuple[str, ...] = (), said: str = "") -> StageError | None:
    """Why an arm in this mode takes no motion; None if it does.

    Args:
        mode: The arm's.
        errors: Names of its current errors.
        said: The driver's own sentence, which knows more; empty: there is none.
    """
    if mode in READY:
        return None
    return StageError(CODES.get(mode, OutcomeCode.CONTROLLER_FAILED), said or sentence(mode, errors))


def mode_of_text(text: str, robot_mode: Mode) -> Mode:
    """The mode that a refused or aborted command reports.

    libfranka says it in words ("User Stop pressed", "safety function"); otherwise the robot's mode decides, and an abort
    in any other mode is a reflex whose state has not arrived yet.
    """
    low = text.lower()
    if "safety function" in low:
        return Mode.SAFETY_FUNCTION
    if "user stop" in low or robot_mode is Mode.USER_STOPPED:
        return Mode.USER_STOPPED
    if "reflex" in low:
        return Mode.REFLEX
    return robot_mode


def of_command(text: str, robot_mode: Mode, errors: tuple[str, ...]) -> StageError:
    """The outcome of a command that the robot refused or aborted with this text."""
    mode = mode_of_text(text, robot_mode)
    named = errors or error_names(text)
    if mode in CODES:
        return StageError(CODES[mode], sentence(mode, named, _brief(text)))
    return StageError(
        OutcomeCode.CONTROLLER_FAILED,
        f"The robot did not carry out a command: {_brief(text)}. Its log in Desk says more.",
    )


def of_connection(text: str, hostname: str) -> StageError:
    """The outcome of a connection that could not be made."""
    low = text.lower()
    if "realtime" in low or "real-time" in low:
        advice = "run a kernel with PREEMPT_RT, or set franka.realtime to false for a simulated robot"
    elif "refused" in low:
        advice = "unlock the brakes and activate FCI in Desk, and check franka.hostname"
    elif "version" in low or "object size" in low:
        advice = "this libfranka is for an FR3 with system 5.9 or newer"
    else:
        advice = "check the cable, the network settings and franka.hostname"
    return StageError(OutcomeCode.ROBOT_LOST, f"No connection to the robot at {hostname} ({_brief(text)}): {advice}.")


def of_silence(hostname: str, seconds: float) -> StageError:
    """The outcome when nothing answers in time: libfranka would wait for ever."""
    return StageError(
        OutcomeCode.ROBOT_LOST,
        f"The robot at {hostname} did not answer within {seconds:g} s: another program may hold its only connection, or "
        "nothing is at this address. End that program, or check franka.hostname.",
    )


def of_start(answer: Answer | None, alive: bool, hostname: str, seconds: float) -> StageError:
    """The outcome of a connection that was answered with a failure, or not at all, perhaps by a process that died."""
    if answer is not None:
        return StageError(answer.code, answer.sentence)
    if alive:
        return of_silence(hostname, seconds)
    return StageError(
        OutcomeCode.CONTROLLER_FAILED,
        f"The process that talks to the robot at {hostname} ended while it connected: the log has its error.",
    )


def lost(detail: str) -> StageError:
    """The outcome of a broken connection."""
    return StageError(OutcomeCode.ROBOT_LOST, sentence(Mode.LOST, (), _brief(detail)))


def _brief(text: str) -> str:
    """One line without libfranka's prefix and full stop."""
    return " ".join(text.split()).removeprefix("libfranka: ").removeprefix("libfranka gripper: ").rstrip(".!")
