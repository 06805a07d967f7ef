"""What executed keyposes did: held, pressed in order, clear of a place."""

from dataclasses import replace

import numpy as np
import pytest
from ray_caster import home_robot

from stvla_ros.geometry.se3 import tool_down
from stvla_ros.tabletop.interaction import is_clear, is_holding, pressed_in_order
from stvla_ros.types import Keypose

PLACE = np.array([0.5, 0.1, 0.04])


def touch(x: float, y: float, *, gripper_open: bool = False) -> Keypose:
    return Keypose(tool_down([x, y, 0.04], 0.0), gripper_open, True)


def test_holding_follows_fingers_and_the_last_keypose() -> None:
    between = home_robot(0.04)
    assert is_holding(between, ())
    assert is_holding(between, (touch(0.5, 0.1),))
    assert not is_holding(between, (touch(0.5, 0.1, gripper_open=True),))
    assert not is_holding(home_robot(0.08), (touch(0.5, 0.1),))


@pytest.mark.parametrize(
    ("tool_m", "clear"), [((0.5, 0.1, 0.13), True), ((0.5, 0.1, 0.11), False), ((0.5, 0.23, 0.04), True)]
)
def test_clear_is_above_or_to_the_side_with_nothing_held(tool_m: tuple[float, float, float], clear: bool) -> None:
    at = replace(home_robot(0.08), T_base_tcp=tool_down(tool_m, 0.0))
    assert is_clear(at, (), PLACE, 0.08) is clear
    assert not is_clear(replace(at, gripper_m=0.04), (), PLACE, 0.08)


def test_only_presses_in_the_wanted_order_count() -> None:
    buttons = [PLACE, np.array([0.4, -0.1, 0.04])]
    first, second = touch(0.51, 0.1), touch(0.4, -0.1)
    assert pressed_in_order(buttons, (), 0.03) == 0
    assert pressed_in_order(buttons, (second, first), 0.03) == 1
    assert pressed_in_order(buttons, (first, second, first), 0.03) == 2
    assert pressed_in_order(buttons, (touch(0.51, 0.1, gripper_open=True),), 0.03) == 0


def test_a_contact_above_a_button_is_no_press() -> None:
    """A policy ended 10 mm above where it should: the planner went on to the next button, and this one was never pressed."""
    tops = [np.array([0.535, -0.148, 0.037])]
    for height, pressed in ((0.047, 0), (0.041, 1)):
        contact = Keypose(tool_down((0.533, -0.134, height), 0.0), gripper_open=False, may_collide=True)
        assert pressed_in_order(tops, (contact,), 0.03) == pressed
