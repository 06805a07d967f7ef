"""What executed keyposes did to the objects: held, pressed, left alone. Planners and policies share these rules."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from stvla_ros.description.panda import FINGERTIP_M
from stvla_ros.tabletop.self_filter import may_hold
from stvla_ros.types import F64, Keypose, RobotState

PRESSED_M = 0.002
"""A contact that ends less far below a button's top does not count. The tasks' verdicts want 3 mm, as RLBench's do."""


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


def pressed_in_order(tops_m: Sequence[F64], history: Sequence[Keypose], radius_m: float) -> int:
    """How many of the buttons were pressed, counted in the wanted order.

    Args:
        tops_m: (3,) middle of the top of each button, not pressed, in the wanted order, in the base frame.
        history: Executed keyposes, oldest first.
        radius_m: A contact with closed fingers is a press if the fingertips end this close to the middle in the x-y plane,
            and below the top: with those of a policy that ends some millimetres too high, nothing is pressed.
    """
    step = 0
    for keypose in history:
        if step < len(tops_m) and keypose.may_collide and not keypose.gripper_open:
            T = keypose.T_base_tcp
            gap_m = T[:3, 3] + FINGERTIP_M * T[:3, 2] - tops_m[step]
            step += bool(np.hypot(gap_m[0], gap_m[1]) < radius_m and gap_m[2] < -PRESSED_M)
    return step


def released_at(history: Sequence[Keypose]) -> F64 | None:
    """(3,) place of the tool, in the base frame, where the hand last opened; None if it has not.

    Args:
        history: Executed keyposes, oldest first.
    """
    opened = [now for before, now in pairwise(history) if now.gripper_open and not before.gripper_open]
    return opened[-1].T_base_tcp[:3, 3] if opened else None
