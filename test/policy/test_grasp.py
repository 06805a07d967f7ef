"""Where the fingers go."""

import numpy as np
import pytest
from ray_caster import Box, Disc, Scene, block

from stvla_ros.geometry.cameras import cloud
from stvla_ros.geometry.se3 import wrap
from stvla_ros.policy.grasp import Grasp, find_grasp, round_centre


def grasp(objects: list[Box | Disc], yaw_now: float = 0.0, noise_m: float = 0.0) -> Grasp | None:
    frame, _ = Scene(objects).render(noise_m=noise_m)
    points = cloud(frame).reshape(3, -1).T
    return find_grasp(points[np.isfinite(points[:, 2])], np.array([0.5, 0.1, 0.02]), yaw_now)


@pytest.mark.parametrize("yaw", [0.0, 0.3, 0.8, 1.4])
@pytest.mark.parametrize("noise", [0.0, 0.0012])
def test_fingers_close_on_opposite_faces(yaw: float, noise: float) -> None:
    found = grasp([block("red", 0.5, 0.1, yaw)], noise_m=noise)
    assert found is not None
    np.testing.assert_allclose(found.xyz_m, [0.5, 0.1, 0.04], atol=0.002 if noise == 0 else 0.005)
    assert abs(wrap(found.yaw_rad - yaw, np.pi / 2)) < (0.06 if noise == 0 else 0.15)


@pytest.mark.parametrize("yaw_now", [-1.5, -0.4, 0.4, 1.5])
def test_of_equal_grips_the_one_with_less_turning(yaw_now: float) -> None:
    found = grasp([block("red", 0.5, 0.1, 0.0)], yaw_now)
    assert found is not None
    assert abs(found.yaw_rad - yaw_now) < np.pi / 4 + 0.06


@pytest.mark.parametrize(("neighbour", "opening"), [((0.5, 0.16), 0.0), ((0.56, 0.1), np.pi / 2)])
def test_the_fingers_avoid_a_neighbour(neighbour: tuple[float, float], opening: float) -> None:
    for yaw_now in (0.0, np.pi / 2):
        found = grasp([block("red", 0.5, 0.1), block("blue", *neighbour)], yaw_now)
        assert found is not None
        assert abs(wrap(found.yaw_rad - opening, np.pi)) < 0.1


def test_nothing_there() -> None:
    assert grasp([]) is None
    assert grasp([block("red", 0.5, 0.25)]) is None
    assert find_grasp(np.zeros((0, 3), np.float32), np.array([0.5, 0.1, 0.02]), 0.0) is None


def seen_of(points: np.ndarray, normals: np.ndarray) -> np.ndarray:
    """The points of a surface that a camera in front and above sees."""
    return points[normals @ np.array([0.8, 0.0, 0.6]) > 0.0]


def test_the_centre_of_a_sphere_that_is_seen_from_one_side() -> None:
    normals = np.random.default_rng(0).normal(size=(900, 3))
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    centre = np.array([0.5, 0.1, 0.077])
    points = seen_of(centre + 0.03 * normals, normals).astype(np.float32)
    found = round_centre(points, centre + np.array([0.004, -0.003, 0.0]))
    assert found is not None
    np.testing.assert_allclose(found, centre[:2], atol=0.0005)


def test_the_centre_of_a_disc_is_that_of_its_top() -> None:
    rng = np.random.default_rng(1)
    radius, angle = 0.032 * np.sqrt(rng.uniform(size=900)), rng.uniform(-np.pi, np.pi, 900)
    top = np.stack([0.5 + radius * np.cos(angle), 0.1 + radius * np.sin(angle), np.full(900, 0.021)], axis=1)
    found = round_centre(top.astype(np.float32), np.array([0.503, 0.1, 0.012]))
    assert found is not None
    np.testing.assert_allclose(found, [0.5, 0.1], atol=0.001)


def test_nothing_there_has_no_centre() -> None:
    assert round_centre(np.zeros((0, 3), np.float32), np.array([0.5, 0.1, 0.02])) is None


@pytest.mark.parametrize("yaw", [0.0, 0.5, 1.2])
@pytest.mark.parametrize("yaw_now", [0.0, 1.5])
def test_a_box_longer_than_what_is_looked_at_first_is_gripped_across_its_narrow_side(
    yaw: float, yaw_now: float
) -> None:
    for size in ((0.04, 0.08, 0.05), (0.042, 0.066, 0.05)):
        frame, _ = Scene([Box((0.5, 0.1, 0.025), size, yaw, (0.8, 0.1, 0.1))]).render()
        points = cloud(frame).reshape(3, -1).T
        found = find_grasp(points[np.isfinite(points[:, 2])], np.array([0.5, 0.1, 0.03]), yaw_now)
        assert found is not None
        assert abs(wrap(found.yaw_rad - yaw, np.pi)) < 0.06
        np.testing.assert_allclose(found.xyz_m, [0.5, 0.1, 0.05], atol=0.003)


@pytest.mark.parametrize("yaw_now", [-1.0, 0.2, 1.3])
def test_a_round_top_is_gripped_without_turning(yaw_now: float) -> None:
    found = grasp([Disc((0.5, 0.1), 0.028, 0.0, 0.03, (0.1, 0.2, 0.8))], yaw_now)
    assert found is not None
    assert abs(wrap(found.yaw_rad - yaw_now, np.pi / 2)) < 1e-6


@pytest.mark.parametrize("yaw", [0.2, 0.5, 0.78])
def test_a_square_top_of_few_noisy_points_is_not_round(yaw: float) -> None:
    """Points of other pixels at its edge widen the rectangle around it: it fills no more of that than a disc would."""
    side = np.arange(-0.0193, 0.02, 0.0055)
    top = np.stack(np.meshgrid(side, side), axis=-1).reshape(-1, 2)
    top = np.vstack([top, [[0.025, 0.004], [-0.024, 0.002], [0.003, 0.0245]]])
    turn = np.array([[np.cos(yaw), -np.sin(yaw)], [np.sin(yaw), np.cos(yaw)]])
    points = np.column_stack([top @ turn.T + [0.5, 0.1], np.full(len(top), 0.045)]).astype(np.float32)
    found = find_grasp(points, np.array([0.5, 0.1, 0.04]), 0.0)
    assert found is not None
    assert abs(wrap(found.yaw_rad - yaw, np.pi / 2)) < 0.09
