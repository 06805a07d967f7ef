"""What executed keyposes did to the objects: held, pressed, left alone. Planners and policies share these rules."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from stvla_ros.tabletop.self_filter import may_hold
from stvla_ros.types import F64, Keypose, RobotState


def is_holding(robot: RobotState, history: Sequence[Keypose]) -> bool:
    """An object is between the fingers, judged by the finger distance and the last executed keypose."""
    return may_hold(robot) and (not history or not history[-1].gripper_open)


def is_clear(robot: RobotState, history: Sequence[Keypose], place_m: F64, clear_m: float) -> bool:
    """The tool holds nothing and is clear of a place: ``clear_m`` above it, or 1.5 times as far to the side.

    Args:
        robot: Arm state.
        history: Executed keyposes, oldest first.
        place_m: (3,) in the base frame.
        clear_m: Clearance.
    """
    gap = robot.T_base_tcp[:3, 3] - place_m
    return bool(gap[2] > clear_m or np.hypot(gap[0], gap[1]) > 1.5 * clear_m) and not is_holding(robot, history)


def pressed_in_order(centres_m: Sequence[F64], history: Sequence[Keypose], radius_m: float) -> int:
    """How many of the buttons were pressed, counted in the wanted order.

    Args:
        centres_m: (3,) centre of each button, in the wanted order.
        history: Executed keyposes, oldest first.
        radius_m: A contact with closed fingers presses the button whose centre is this close in the x-y plane.
    """
    step = 0
    for keypose in history:
        if step < len(centres_m) and keypose.may_collide and not keypose.gripper_open:
            step += bool(np.hypot(*(keypose.T_base_tcp[:2, 3] - centres_m[step][:2])) < radius_m)
    return step


def released_at(history: Sequence[Keypose]) -> F64 | None:
    """(3,) place of the tool, in the base frame, where the hand last opened; None if it has not.

    Args:
        history: Executed keyposes, oldest first.
    """
    opened = [now for before, now in pairwise(history) if now.gripper_open and not before.gripper_open]
    return opened[-1].T_base_tcp[:3, 3] if opened else None
