"""Keyposes of a network are moved to the grasp that is seen, and to the path's end."""

from dataclasses import replace

import numpy as np
import pytest
from drawn_plans import PICK_TO_PLATE, plan_through
from policy.seen import observation
from ray_caster import Scene, block, front_camera, home_robot, plate

from stvla_ros.geometry.se3 import finger_yaw, pose, rotation_z, tool_down, wrap
from stvla_ros.perception.geometric import GeometricConfig, GeometricSegmenter
from stvla_ros.perception.guide import GuideConfig, SpatialGuide
from stvla_ros.policy.observation import seen_points
from stvla_ros.policy.refine import RELEASE_OFF_M
from stvla_ros.policy.refine import refined as refined_with
from stvla_ros.types import Keypose, Observation

WITHIN_M = 0.05
HELD = (Keypose(tool_down((0.5, 0.1, 0.2), 0.0), gripper_open=False),)


def refined(seen: Observation, given: Keypose) -> Keypose:
    return refined_with(seen, seen_points(seen)[0], given, WITHIN_M)


def turned_block(yaw: float) -> Observation:
    """A red block, turned, where the path begins; the arm at home."""
    frame, _ = Scene([block("red", 0.5, 0.1, yaw), *plate(0.45, -0.22)]).render(front_camera(320, 240))
    guide = SpatialGuide(GeometricSegmenter(GeometricConfig()), GuideConfig(mode="full"))
    trace = guide.lift(plan_through(PICK_TO_PLATE, frame), frame)
    robot = home_robot()
    return Observation(guide.guide(trace, frame, robot), robot, (), "Put the red block in the plate.")


def keypose(x: float, y: float, z: float, yaw: float, is_open: bool, touching: bool) -> Keypose:
    return Keypose(tool_down((x, y, z), yaw), is_open, touching)


@pytest.mark.parametrize("yaw", [-0.7, 0.0, 0.5])
@pytest.mark.parametrize(("z", "is_open", "touching"), [(0.12, True, False), (0.02, False, True)])
def test_a_way_to_a_grasp_ends_at_the_middle_with_fingers_on_opposite_faces(
    yaw: float, z: float, is_open: bool, touching: bool
) -> None:
    """The network is off by 2.5 cm and answers half-way between the two directions of a square."""
    given = keypose(0.52, 0.115, z, yaw + 0.6, is_open, touching)
    found = refined(turned_block(yaw), given)
    np.testing.assert_allclose(found.T_base_tcp[:2, 3], [0.5, 0.1], atol=0.003)
    assert abs(wrap(finger_yaw(found.T_base_tcp) - yaw, np.pi)) < 0.1  # of the two, the nearer one
    assert found.T_base_tcp[2, 3] == z
    assert (found.gripper_open, found.may_collide) == (is_open, touching)


def test_a_small_tilt_stays() -> None:
    given = keypose(0.51, 0.1, 0.02, 0.3, False, True)
    lean = pose([[1, 0, 0], [0, np.cos(0.05), -np.sin(0.05)], [0, np.sin(0.05), np.cos(0.05)]], [0, 0, 0])
    leaning = replace(given, T_base_tcp=given.T_base_tcp @ lean)
    found = refined(turned_block(0.0), leaning).T_base_tcp
    turn = wrap(finger_yaw(found) - finger_yaw(leaning.T_base_tcp))
    np.testing.assert_allclose(found[:3, :3], rotation_z(turn) @ leaning.T_base_tcp[:3, :3], atol=1e-9)
    assert found[2, 2] == pytest.approx(leaning.T_base_tcp[2, 2])


@pytest.mark.parametrize(("above_m", "wanted_m"), [(0.004, 0.004), (0.07, RELEASE_OFF_M), (-0.02, -RELEASE_OFF_M)])
def test_a_release_is_moved_to_the_path_s_end(above_m: float, wanted_m: float) -> None:
    seen = observation(HELD)
    x, y, z = seen.guidance.trace.xyz_m[-1].tolist()
    found = refined(seen, keypose(x + 0.02, y - 0.01, z + above_m, 0.4, True, True))
    np.testing.assert_allclose(found.T_base_tcp, tool_down((x, y, z + wanted_m), 0.4), atol=1e-6)


@pytest.mark.parametrize(
    ("history", "given"),
    [
        ((), keypose(0.56, 0.1, 0.12, 0.3, True, False)),  # 6 cm away: meant for something else
        ((), keypose(0.51, 0.1, 0.13, 0.3, False, False)),  # closes the hand to press
        (HELD, keypose(0.51, 0.1, 0.2, 0.3, False, False)),  # carries
        (HELD, keypose(0.51, 0.1, 0.04, 0.3, False, True)),  # presses
        (HELD, keypose(0.5, 0.1, 0.04, 0.3, True, True)),  # lets go, elsewhere than at the path's end
        (
            (keypose(0.5, 0.1, 0.04, 0.3, True, True),),
            keypose(0.51, 0.1, 0.2, 0.3, True, False),
        ),  # has let go: moves out
    ],
)
def test_other_keyposes_stay(history: tuple[Keypose, ...], given: Keypose) -> None:
    assert refined(observation(history), given) is given


@pytest.mark.parametrize("mode", ["mask_only", "off"])
def test_a_policy_that_does_not_see_the_path_is_not_helped_by_it(mode: str) -> None:
    given = keypose(0.51, 0.1, 0.02, 0.3, False, True)
    assert refined(observation(mode=mode), given) is given
    assert refined(observation(mode="full"), given) is not given
