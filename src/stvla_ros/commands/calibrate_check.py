"""``stvla calibrate --check``: whether the camera still is where its transform says, without a board."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Iterable

import numpy as np
from rich.console import Console

from stvla_ros import registry
from stvla_ros.calibration.cell import CalibrationArm
from stvla_ros.calibration.drift import measure
from stvla_ros.calibration.postures import swing
from stvla_ros.calibration.session import poses_folder
from stvla_ros.calibration.solve import CalibrationError
from stvla_ros.commands.exit_codes import NOT_CONFIRMED
from stvla_ros.commands.recordings import hints_of, open_recording
from stvla_ros.data.recording import RecordedFrame
from stvla_ros.evaluate.stack import StackSettings
from stvla_ros.types import RgbdFrame, RobotState

POSTURES = 4
"""In simulation; over ROS the arm stays where it is unless --poses says more."""

SLOW = {"velocity_scale": 0.2, "acceleration_scale": 0.2}
"""Shares of the arm's limits."""

View = tuple[RgbdFrame, RobotState]


def ask(console: Console, question: str) -> bool:
    """True for Enter; False for q and at the end of the input."""
    try:
        return not console.input(f"[bold]{question}[/] ").strip().lower().startswith("q")
    except EOFError:
        return False


def report(views: list[View], arguments: Namespace, console: Console) -> int:
    """Print the drift; 0 if it is within the limits."""
    drift = measure(views)
    console.print(f"Drift: {drift}, from {drift.points} points of the arm, {100 * drift.share:.0f} % of those in view.")
    if drift.exceeds(arguments.limit_mm / 1000, np.radians(arguments.limit_deg)):
        console.print(
            f"[red]Too much[/] (allowed {arguments.limit_mm:g} mm, {arguments.limit_deg:g} deg): calibrate again with a "
            "board, or look whether camera or robot was moved."
        )
        return NOT_CONFIRMED
    console.print("[green]The camera is where its transform says.[/]")
    return 0


def recorded_views(arguments: Namespace, settings: StackSettings, console: Console) -> list[View]:
    """Views of a recording: frames with a resting arm, in different postures.

    Raises:
        ConfigError: There is none.
    """
    return _distinct(
        open_recording(poses_folder(arguments.source), settings, console, hints_of(arguments)),
        arguments.poses or 2 * POSTURES,
    )


def live_views(arm: CalibrationArm, arguments: Namespace, settings: StackSettings, console: Console) -> list[View]:
    """Views of an arm: guided by hand, or moved a little by the planner.

    Raises:
        StageError: Of the robot and the camera.
    """
    taken: list[RecordedFrame] = []
    if arguments.by_hand:
        while ask(console, "Enter: take this posture; q: done"):
            taken.append(arm.look())
    else:
        count = arguments.poses or (POSTURES if arguments.sim else 1)
        section = {**settings.sections["motion"], **SLOW}
        motion = settings.backends["motion"]
        planner = registry.create("motion", motion, section, settings.robot.limits) if count > 1 else None
        taken = swing(arm.robot, planner, arm.look, count, settings.executor.voxels, arguments.seed, arm.cancel)
    if not taken:
        raise CalibrationError("No posture was taken: nothing can be compared.")
    return [(t.frame, t.robot) for t in taken if t.robot is not None]


def _distinct(frames: Iterable[RecordedFrame], count: int) -> list[View]:
    found: list[View] = []
    for recorded in frames:
        robot = recorded.robot
        if robot is None or np.nanmax(np.abs(robot.dq_rad_s), initial=0.0) > 0.02:
            continue
        if all(np.abs(robot.q_rad - other.q_rad).max() > 0.1 for _, other in found):
            found.append((recorded.frame, robot))
        if len(found) >= count:
            break
    if not found:
        raise CalibrationError("The recording has no frame with a resting arm: nothing can be compared.")
    return found
