"""What a keypose network gets to see: square, finite, with a history of executed keyposes."""

from dataclasses import replace

import numpy as np
import pytest
from policy.seen import observation, with_depth
from ray_caster import home_robot

from stvla_ros.errors import OutcomeCode, StageError
from stvla_ros.geometry.se3 import tool_down
from stvla_ros.policy.observation import MAX_INVALID, PATH_POINTS, history_rows, path_points, policy_input
from stvla_ros.types import Keypose

A, B, C, D = (Keypose(tool_down((0.1 * i, 0.0, 0.3), 0.2), gripper_open=i % 2 == 0) for i in range(1, 5))
START = tool_down((0.3, 0.0, 0.5), 0.0)


def test_shapes_and_finiteness() -> None:
    seen = policy_input(observation(), None, 128)
    assert seen.rgb.shape == seen.xyz_m.shape == (3, 128, 128)
    assert np.isfinite(seen.xyz_m).all()
    assert seen.instruction == "Put the red block in the plate."


def test_pixels_show_what_lies_at_their_points() -> None:
    """The red block's pixels have the red block's points."""
    seen = policy_input(observation(mode="mask_only"), None, 256)
    r, g, b = seen.rgb.astype(int)
    red = (r > 120) & (g < 60) & (b < 60)
    assert red.sum() > 20
    place = np.median(seen.xyz_m[:, red], axis=1)
    np.testing.assert_allclose(place, [0.5, 0.1, 0.03], atol=0.02)


def test_removed_things_are_gone_and_the_path_is_drawn() -> None:
    def green(mode: str) -> int:
        r, g, b = policy_input(observation(mode=mode), None, 256).rgb.astype(int)
        return int(((g > 70) & (r < 50) & (b < 50)).sum())

    assert green("off") > 20
    assert green("mask_only") == green("full") == 0
    plain, drawn = (policy_input(observation(mode=mode), None, 256).rgb for mode in ("mask_only", "full"))
    assert (plain != drawn).any(axis=0).sum() > 50


def test_the_path_is_known_where_it_is_drawn() -> None:
    whole = observation()
    seen = policy_input(whole, None, 64).path_m
    ends = whole.guidance.trace.xyz_m[[0, -1]]
    np.testing.assert_allclose(seen[[0, -1]], ends, atol=1e-6)
    steps = np.linalg.norm(np.diff(seen, axis=0), axis=1)
    assert steps.max() < 0.06
    for mode in ("mask_only", "off"):
        assert np.isnan(policy_input(observation(mode=mode), None, 64).path_m).all()


def test_what_is_done_of_the_path_is_left_out() -> None:
    whole = observation()
    half = replace(whole, guidance=replace(whole.guidance, progress_m=0.2))
    first, later = (path_points(seen.guidance) for seen in (whole, half))
    np.testing.assert_allclose(first[-1], later[-1], atol=1e-6)
    shorter = [np.linalg.norm(np.diff(points, axis=0), axis=1).sum() for points in (first, later)]
    assert shorter[0] - shorter[1] == pytest.approx(0.2, abs=0.02)
    beyond = replace(whole, guidance=replace(whole.guidance, progress_m=9.0))
    np.testing.assert_allclose(path_points(beyond.guidance), np.tile(first[-1], (PATH_POINTS, 1)), atol=1e-6)


def test_holes_in_depth_are_closed() -> None:
    seen = observation()
    depth = seen.guidance.frame.depth_m.copy()
    depth[::3] = np.nan
    whole, holed = (policy_input(o, None, 128).xyz_m for o in (seen, with_depth(seen, depth)))
    assert np.isfinite(holed).all()
    assert np.median(np.linalg.norm(whole - holed, axis=0)) < 0.01


@pytest.mark.parametrize("value", [np.nan, 0.0, -1.0, np.inf])
def test_no_depth_is_a_typed_outcome(value: float) -> None:
    seen = observation()
    with pytest.raises(StageError, match="lacks depth") as caught:
        policy_input(with_depth(seen, np.full(seen.guidance.frame.depth_m.shape, value)), None, 128)
    assert caught.value.code is OutcomeCode.NO_DEPTH


def test_too_little_depth_is_refused_just_enough_is_not() -> None:
    seen = observation()
    depth = seen.guidance.frame.depth_m.copy()
    h, w = depth.shape
    left = (w - h) // 2  # the square begins here
    for share, refused in ((MAX_INVALID - 0.05, False), (MAX_INVALID + 0.05, True)):
        bad = depth.copy()
        bad[:, : left + round(share * h)] = np.nan
        if refused:
            with pytest.raises(StageError):
                policy_input(with_depth(seen, bad), None, 128)
        else:
            policy_input(with_depth(seen, bad), None, 128)


@pytest.mark.parametrize("words", ["", "   "])
def test_empty_words_are_a_typed_outcome(words: str) -> None:
    with pytest.raises(StageError) as caught:
        policy_input(observation(words=words), None, 128)
    assert caught.value.code is OutcomeCode.INVALID_GOAL


@pytest.mark.parametrize(
    ("history", "start", "wanted"),
    [
        ((), START, ["now", "now", "now"]),
        ((A,), START, ["start", "start", "now"]),
        ((A, B), START, ["start", "a", "now"]),
        ((A, B, C), START, ["a", "b", "now"]),
        ((A, B, C, D), START, ["b", "c", "now"]),
        ((A,), None, ["now", "now", "now"]),
        ((A, B), None, ["a", "a", "now"]),
    ],
)
def test_history_has_the_start_each_keypose_and_the_present(
    history: tuple[Keypose, ...], start: np.ndarray | None, wanted: list[str]
) -> None:
    """One row per executed keypose, as in RLBench's datasets: the present pose stands for the last of them."""
    robot = home_robot()
    places = {"start": START, "now": robot.T_base_tcp} | {n: k.T_base_tcp for n, k in zip("abcd", (A, B, C, D))}
    rows = history_rows(history, robot, start)
    np.testing.assert_allclose(rows[:, :3], [places[name][:3, 3] for name in wanted], atol=1e-6)


def test_the_newest_row_has_the_gripper_as_it_was_commanded() -> None:
    assert history_rows((A, B), home_robot(), START)[-1, 7] == float(B.gripper_open)
    assert history_rows((), home_robot(gripper_m=0.08), None)[-1, 7] == 1.0
    assert history_rows((), home_robot(gripper_m=0.0), None)[-1, 7] == 0.0
