"""Paths of the tool."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from ray_caster import Scene, front_camera

from stvla_ros.planning.route import carry_route, draw, in_view, press_route

PLACE = st.tuples(st.floats(0.35, 0.65), st.floats(-0.3, 0.3))


@settings(deadline=None)
@given(PLACE, PLACE, st.floats(0.012, 0.2), st.floats(0.0, 0.15))
def test_carrying_goes_up_across_and_down(
    a: tuple[float, float], b: tuple[float, float], z: float, tall: float
) -> None:
    start, goal = np.array([*a, z]), np.array([*b, 0.03])
    obstacles = np.array([[*((start + goal) / 2)[:2], tall]])
    route = carry_route(start, goal, obstacles, 0.02, front_camera())
    assert route.shape == (8, 3)
    np.testing.assert_array_equal(route[[0, -1]], [start, goal])
    assert route[1:7, 2].min() >= min(z, goal[2]) - 1e-9
    top = route[:, 2].max()
    assert top >= goal[2] + 0.06 - 1e-9
    across = route[2:6]
    np.testing.assert_allclose(across[:, 2], across[0, 2], atol=1e-9)
    if in_view(front_camera(), np.array([[*a, tall + 0.09], [*b, tall + 0.09]])):
        assert top >= min(tall + 0.02 + 0.05, 0.42)


def test_pressing_starts_and_ends_on_the_cap() -> None:
    route = press_route(np.array([0.5, 0.1, 0.037]))
    np.testing.assert_array_equal(route[[0, -1]], [[0.5, 0.1, 0.037]] * 2)
    assert route[:, 2].max() > 0.15


def test_a_start_without_depth_cannot_be_drawn() -> None:
    frame, _ = Scene().render()
    assert draw(press_route(np.array([2.5, 0.0, 0.0])), frame) is None  # behind the camera
    assert draw(press_route(np.array([0.5, 3.0, 0.0])), frame) is None  # out of the picture
    drawn = draw(press_route(np.array([0.5, 0.0, 0.0])), frame)
    assert drawn is not None
    np.testing.assert_allclose(drawn[2][[0, -1]], 0.0, atol=1e-3)
