"""Contact is derived from what is seen and from what the gripper does."""

from dataclasses import replace

import numpy as np
import pytest
from policy.seen import observation
from ray_caster import home_robot

from stvla_ros.geometry.se3 import tool_down
from stvla_ros.policy.contact import done_there, touches
from stvla_ros.policy.observation import seen_points
from stvla_ros.types import Keypose, Observation

HOLDING = (Keypose(tool_down((0.5, 0.1, 0.02), 0.0), gripper_open=False, may_collide=True),)


def seen_touches(seen: Observation, T: np.ndarray, is_open: bool) -> bool:
    return touches(seen, seen_points(seen), T, is_open)


def pose(x: float, y: float, z: float) -> np.ndarray:
    return tool_down((x, y, z), 0.0)


def test_a_grasp_touches_and_the_way_above_does_not() -> None:
    assert seen_touches(observation(), pose(0.5, 0.1, 0.02), False)
    assert not seen_touches(observation(), pose(0.5, 0.1, 0.12), True)


def test_a_press_on_what_is_seen_touches() -> None:
    assert seen_touches(observation(), pose(0.5, 0.1, 0.042), False)


def test_letting_go_touches_wherever_it_happens() -> None:
    assert seen_touches(observation(HOLDING), pose(0.45, -0.22, 0.1), True)
    assert not seen_touches(observation(HOLDING), pose(0.45, -0.22, 0.2), False)


@pytest.mark.parametrize(("z", "expected"), [(0.07, True), (0.17, False)])
def test_fingers_close_on_a_thing_whose_surface_is_far_from_the_tool(z: float, expected: bool) -> None:
    """The glass of a bulb, 60 mm thick: the nearest seen point is 30 mm from its middle."""
    angle = np.linspace(0.0, np.pi, 40)
    glass_m = np.stack([0.5 + 0.03 * np.sin(angle), 0.1 + 0.03 * np.cos(angle), np.full(40, 0.07)], 1).astype(
        np.float32
    )
    none_m = np.empty((0, 3), np.float32)
    assert touches(observation(), (glass_m, none_m), pose(0.5, 0.1, z), False) is expected


@pytest.mark.parametrize(
    ("gripper_m", "z", "expected"), [(0.05, 0.235, True), (0.0, 0.235, False), (0.05, 0.29, False)]
)
def test_what_is_held_touches_before_the_tool_does(gripper_m: float, z: float, expected: bool) -> None:
    """A bulb that goes down into a socket: its base is there when the tool is still 35 mm above the rim."""
    seen = observation(HOLDING)
    seen = replace(seen, robot=home_robot(gripper_m))
    angle = np.linspace(0.0, 2.0 * np.pi, 40)
    circle = np.stack([np.cos(angle), np.sin(angle)], 1)
    rim_m = np.column_stack([circle * 0.018 + (0.45, -0.1), np.full(40, 0.2)]).astype(np.float32)
    tool = seen.robot.T_base_tcp
    below_m = np.column_stack([circle * 0.013, np.linspace(0.0, 0.034, 40)])
    held_m = (below_m @ tool[:3, :3].T + tool[:3, 3]).astype(np.float32)
    assert touches(seen, (rim_m, held_m), pose(0.45, -0.1, z), False) is expected


def test_an_open_hand_in_free_air_touches_nothing() -> None:
    opened = (Keypose(pose(0.45, -0.22, 0.05), gripper_open=True, may_collide=True),)
    assert not seen_touches(observation(opened), pose(0.45, -0.22, 0.2), True)


GOAL, AWAY = (0.45, -0.22), (0.5, 0.1)


def keypose(xy: tuple[float, float], z: float, is_open: bool, touching: bool) -> Keypose:
    return Keypose(pose(*xy, z), is_open, touching)


def test_what_was_done_at_the_end_is_not_done_again() -> None:
    release, up = keypose(GOAL, 0.04, True, True), keypose(GOAL, 0.18, True, False)
    again = keypose(GOAL, 0.03, False, True)
    assert done_there(observation((release, up)), again)
    assert not done_there(observation((release,)), again)  # has not moved off: a correction
    assert not done_there(observation((release, up)), keypose(GOAL, 0.3, True, False))  # out of sight
    assert not done_there(observation((release, up)), keypose(AWAY, 0.02, False, True))  # another thing
    assert not done_there(observation(()), again)


def test_what_was_done_at_the_start_does_not_end_the_path() -> None:
    grasp, lift = keypose(AWAY, 0.02, False, True), keypose(AWAY, 0.2, False, False)
    assert not done_there(observation((grasp, lift)), keypose(GOAL, 0.04, True, True))
    assert not done_there(observation((grasp, lift)), keypose(AWAY, 0.02, False, True))
