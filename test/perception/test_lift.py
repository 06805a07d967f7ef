"""Lifting on ray-cast scenes: exact where the drawing is exact, repaired or refused in words where it cannot be right."""

from dataclasses import replace

import numpy as np
import pytest
from drawn_plans import PICK_TO_PLATE, make_plan
from ray_caster import Box, Scene, block, front_camera, plate, with_holes

from stvla_ros.errors import OutcomeCode, StageError
from stvla_ros.geometry.cameras import project, px_to_uv, uv_to_px
from stvla_ros.geometry.paths import distance, resample
from stvla_ros.perception.lift import LiftConfig, lift
from stvla_ros.tabletop.start_depth import start_depth
from stvla_ros.types import Camera, DepthSource, RgbdFrame, Trace3d, TracePlan

SCENE = Scene([block("red", 0.5, 0.1, 0.4), *plate(0.45, -0.22)])
CONFIG = LiftConfig()
ROUND = CONFIG.round_m


def drawn(points_m: np.ndarray, frame: RgbdFrame, exact: RgbdFrame | None = None) -> TracePlan:
    """The plan of somebody who draws these tool positions; offsets refer to the start depth of an exact image."""
    px, depth = project(frame.camera, points_m)
    return make_plan(px_to_uv(px, frame.camera), depth - start_depth(exact or frame, px[0]))


def way(*corners_m: tuple[float, float, float]) -> np.ndarray:
    """Eight points at equal steps along a polyline."""
    return resample(np.array(corners_m), 8)


def depth_of(trace: Trace3d, camera: Camera) -> np.ndarray:
    return project(camera, trace.xyz_m)[1]


# --- exact drawings ----------------------------------------------------------------------------------------------


def test_a_drawn_path_comes_back() -> None:
    frame, _ = SCENE.render()
    trace = lift(drawn(PICK_TO_PLATE, frame), frame, CONFIG)
    np.testing.assert_allclose(trace.xyz_m[[0, -1]], PICK_TO_PLATE[[0, -1]], atol=1e-6)
    assert distance(PICK_TO_PLATE, trace.xyz_m).max() < ROUND + 1e-6
    assert distance(trace.xyz_m, PICK_TO_PLATE).max() < ROUND + 1e-6
    assert np.linalg.norm(np.diff(trace.xyz_m, axis=0), axis=1).max() <= 0.0201
    assert trace.source[0] == DepthSource.SENSOR
    assert (trace.source == DepthSource.MODEL).sum() == 7
    assert trace.notes == ()


@pytest.mark.parametrize("seed", range(4))
def test_noise_and_holes_move_the_path_by_millimetres(seed: int) -> None:
    exact, _ = SCENE.render()
    noisy, _ = SCENE.render(noise_m=0.0015, seed=seed)
    frame = replace(noisy, depth_m=with_holes(noisy.depth_m, 0.2, seed))
    trace = lift(drawn(PICK_TO_PLATE, frame, exact), frame, CONFIG)
    off = resample(trace.xyz_m, 50) - resample(PICK_TO_PLATE, 50)
    assert np.sqrt((off**2).sum(axis=1).mean()) < 0.004
    assert trace.notes == ()


def test_without_rounding_the_corners_stay() -> None:
    frame, _ = SCENE.render()
    trace = lift(drawn(PICK_TO_PLATE, frame), frame, LiftConfig(round_m=0.0))
    assert distance(PICK_TO_PLATE, trace.xyz_m).max() < 1e-6


def test_the_start_depth_is_the_sensors_not_the_models() -> None:
    frame, _ = SCENE.render()
    plan = drawn(PICK_TO_PLATE, frame)
    trace = lift(replace(plan, start_depth_m=3.0), frame, CONFIG)
    np.testing.assert_allclose(trace.xyz_m[0], PICK_TO_PLATE[0], atol=1e-5)
    assert "The planner put the start 3.000 m from the camera" in trace.notes[0]


def test_offsets_are_the_depth_of_the_tool_against_the_surface_at_the_start() -> None:
    frame, _ = SCENE.render()
    plan = drawn(PICK_TO_PLATE, frame)
    x, y = np.rint(uv_to_px(plan.uv[0], frame.camera)).astype(int)
    depth = depth_of(lift(plan, frame, CONFIG), frame.camera)
    assert depth[0] - frame.depth_m[y, x] == pytest.approx(plan.depth_offset_m[0], abs=0.002)
    assert depth[-1] - depth[0] == pytest.approx(plan.depth_offset_m[-1] - plan.depth_offset_m[0], abs=1e-6)


def test_a_path_of_one_place_is_legal_and_says_so() -> None:
    frame, _ = SCENE.render()
    uv = drawn(PICK_TO_PLATE, frame).uv
    trace = lift(make_plan(np.tile(uv[0], (8, 1)), np.zeros(8)), frame, CONFIG)
    assert len(trace.xyz_m) == 2
    np.testing.assert_array_equal(trace.xyz_m[0], trace.xyz_m[1])
    assert trace.notes == ("All waypoints coincide: the tool acts in place.",)


def test_coincident_neighbours_are_one_point() -> None:
    frame, _ = SCENE.render()
    points = PICK_TO_PLATE[[0, 0, 2, 2, 2, 5, 7, 7]]
    trace = lift(drawn(points, frame), frame, CONFIG)
    assert np.linalg.norm(np.diff(trace.xyz_m, axis=0), axis=1).min() > 1e-4
    assert (trace.source == DepthSource.MODEL).sum() == 3


# --- against the sensor ------------------------------------------------------------------------------------------

WALL = Box((0.5, 0.0, 0.17), (0.06, 0.5, 0.34), 0.0, (0.6, 0.6, 0.62))
POST = Box((0.55, 0.0, 0.1), (0.06, 0.10, 0.2), 0.0, (0.1, 0.6, 0.6))
START = block("red", 0.7, -0.3)
SMALL = front_camera(320, 240)
FACE = 0.53  # x of the wall's face towards the camera


def lifted(points: np.ndarray, *things: Box, noise_m: float = 0.0, config: LiftConfig = CONFIG) -> Trace3d:
    exact, _ = Scene(list(things)).render(SMALL)
    frame, _ = Scene(list(things)).render(SMALL, noise_m=noise_m)
    return lift(drawn(points, frame, exact), frame, config)


def refused(points: np.ndarray, *things: Box, noise_m: float = 0.0) -> str:
    with pytest.raises(StageError) as caught:
        lifted(points, *things, noise_m=noise_m)
    assert caught.value.code is OutcomeCode.LIFT_IMPLAUSIBLE
    return caught.value.sentence


NOISES = pytest.mark.parametrize("noise", [0.0, 0.0015])


@NOISES
def test_a_path_deep_into_a_wall_is_refused_with_figures(noise: float) -> None:
    through = way((0.7, -0.3, 0.03), (0.7, -0.2, 0.15), (0.62, -0.1, 0.15), (0.3, 0.1, 0.15))
    assert "it runs into a wall at (" in refused(through, WALL, START, noise_m=noise)


@NOISES
def test_a_path_a_little_inside_a_wall_is_moved_in_front_of_it(noise: float) -> None:
    inside = way((0.7, -0.3, 0.03), (0.7, -0.2, 0.12), (0.51, -0.1, 0.12), (0.51, 0.1, 0.12), (0.7, 0.2, 0.12))
    trace = lifted(inside, WALL, START, noise_m=noise)
    assert trace.xyz_m[:, 0].min() > FACE - 0.006
    assert "inside a surface and moved in front of it" in trace.notes[0]
    assert (trace.source == DepthSource.SENSOR).sum() > 10
    want, got = (project(SMALL, p)[0] for p in (inside, trace.xyz_m))
    assert distance(want, got).max() < 4.0, "points move along their rays: the drawing stays, but for rounded corners"


@NOISES
def test_a_path_that_passes_behind_a_thing_stays(noise: float) -> None:
    behind = way((0.7, -0.3, 0.03), (0.4, -0.3, 0.1), (0.4, 0.3, 0.1))
    trace = lifted(behind, POST, START, noise_m=noise)
    assert trace.notes == ()
    assert distance(trace.xyz_m, behind).max() < 0.006


def test_a_path_that_ends_behind_a_thing_stays() -> None:
    behind = way((0.7, -0.3, 0.03), (0.42, -0.3, 0.1), (0.42, 0.0, 0.05))
    assert lifted(behind, POST, START).notes == ()


def test_a_path_deep_through_a_thing_stays_and_says_so() -> None:
    through = way((0.7, -0.3, 0.03), (0.75, -0.1, 0.1), (0.75, 0.0, 0.1), (0.35, 0.0, 0.1))
    trace = lifted(through, POST, START)
    assert "The path runs into an object at (" in trace.notes[0]
    assert distance(trace.xyz_m, through).max() < 0.006


@NOISES
def test_a_path_that_grazes_the_table_stays(noise: float) -> None:
    along = way((0.7, -0.3, 0.03), (0.6, -0.1, 0.004), (0.6, 0.3, 0.004))
    trace = lifted(along, START, noise_m=noise)
    assert trace.notes == ()
    assert np.abs(trace.xyz_m[-10:, 2] - 0.004).max() < 0.004


def test_the_ends_may_enter_what_is_grasped_and_filled() -> None:
    into = way((0.7, -0.3, 0.015), (0.7, -0.3, 0.2), (0.55, 0.0, 0.26), (0.55, 0.0, 0.175))
    trace = lifted(into, POST, START)
    assert trace.notes == ()
    np.testing.assert_allclose(trace.xyz_m[[0, -1]], into[[0, -1]], atol=1e-5)


def test_the_hand_above_the_start_is_no_obstacle() -> None:
    """While something is carried the camera sees the hand in front of the path."""
    hand = Box((0.7, -0.3, 0.24), (0.06, 0.2, 0.32), 0.0, (0.9, 0.9, 0.9))
    carry = way((0.7, -0.3, 0.1), (0.7, -0.3, 0.3), (0.5, 0.2, 0.3), (0.5, 0.2, 0.05))
    trace = lifted(carry, hand)
    assert trace.notes == ()
    assert distance(trace.xyz_m, carry).max() < 0.004


def test_a_wall_close_to_the_start_is_one_all_the_same() -> None:
    close = block("red", 0.6, 0.0)
    through = way((0.6, 0.0, 0.03), (0.6, 0.0, 0.12), (0.3, 0.0, 0.14))
    assert "it runs into a wall at (" in refused(through, WALL, close)


def test_holes_in_a_surface_do_not_hide_that_a_path_runs_into_it() -> None:
    exact, _ = Scene([WALL, START]).render(SMALL)
    through = way((0.7, -0.3, 0.03), (0.7, -0.2, 0.15), (0.62, -0.1, 0.15), (0.3, 0.1, 0.15))
    for seed in range(3):
        frame = replace(exact, depth_m=with_holes(exact.depth_m, 0.4, seed))
        with pytest.raises(StageError, match="runs into a wall"):
            lift(drawn(through, frame, exact), frame, CONFIG)


def test_one_wrong_number_is_interpolated() -> None:
    frame, _ = SCENE.render()
    plan = drawn(PICK_TO_PLATE, frame)
    offset = plan.depth_offset_m.copy()
    offset[4] += 0.35
    trace = lift(make_plan(plan.uv, offset), frame, CONFIG)
    assert "Waypoint 5 was 0.3" in trace.notes[0]
    assert "interpolated" in trace.notes[0]
    assert distance(trace.xyz_m, PICK_TO_PLATE).max() < 0.02
    assert (trace.source == DepthSource.MODEL).sum() == 6


def test_two_wrong_numbers_are_not() -> None:
    frame, _ = SCENE.render()
    plan = drawn(PICK_TO_PLATE, frame)
    offset = plan.depth_offset_m.copy()
    offset[[3, 4]] -= 0.8
    with pytest.raises(StageError, match="LIFT_IMPLAUSIBLE"):
        lift(make_plan(plan.uv, offset), frame, CONFIG)


def test_a_path_a_little_under_the_table_is_raised_to_it() -> None:
    frame, _ = SCENE.render()
    low = PICK_TO_PLATE.copy()
    low[[6, 7], 2] = -0.01, -0.03
    trace = lift(drawn(low, frame), frame, CONFIG)
    assert trace.xyz_m[:, 2].min() >= -1e-6
    assert trace.notes == ("2 waypoints up to 30 mm below the table were raised to it.",)


def test_a_camera_under_the_table_is_refused() -> None:
    frame, _ = SCENE.render(SMALL)
    plan = drawn(PICK_TO_PLATE, frame)
    T = frame.camera.T_base_camera.copy()
    T[2, 3] -= 0.72
    sunk = replace(frame, camera=replace(frame.camera, T_base_camera=T))
    with pytest.raises(StageError, match="below the table, and so does the camera"):
        lift(plan, sunk, LiftConfig(sink_m=2.0))


# --- bad input ---------------------------------------------------------------------------------------------------

CENTRE = np.full((8, 2), 500.0)
ZERO = np.zeros(8)
NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("uv", "offset", "sentence"),
    [
        (CENTRE, np.linspace(0, 1.5, 8), "m outside the workspace"),
        (CENTRE, np.linspace(0, -2, 8), "from the camera"),
        (np.where(np.arange(8)[:, None] == 3, -3.0, CENTRE), ZERO, "span -3 to 500"),
        (np.where(np.arange(8)[:, None] == 3, 1200.0, CENTRE), ZERO, "span 500 to 1200"),
        (CENTRE, np.array([0, NAN, 0, 0, 0, 0, 0, 0]), "not finite"),
        (np.where(np.arange(8)[:, None] == 3, INF, CENTRE), ZERO, "not finite"),
        (np.where(np.arange(8)[:, None] < 4, CENTRE, [900.0, 500.0]), ZERO, "from waypoint 4 to 5 it jumps 0."),
    ],
)
def test_paths_that_cannot_be_right(uv: np.ndarray, offset: np.ndarray, sentence: str) -> None:
    frame, _ = SCENE.render(front_camera(160, 120))
    with pytest.raises(StageError, match=sentence) as caught:
        lift(make_plan(uv, offset), frame, LiftConfig(jump_m=0.3))
    assert caught.value.code is OutcomeCode.LIFT_IMPLAUSIBLE


@pytest.mark.parametrize("bad", [NAN, 0.0, -0.7, INF, -INF, 65.535])
@pytest.mark.parametrize("everywhere", [False, True])
def test_no_valid_depth_at_the_start(bad: float, everywhere: bool) -> None:
    frame, _ = SCENE.render()
    plan = drawn(PICK_TO_PLATE, frame)
    depth = frame.depth_m.copy()
    x, y = np.round(uv_to_px(plan.uv[0], frame.camera)).astype(int)
    depth[(slice(None),) if everywhere else np.s_[y - 12 : y + 13, x - 12 : x + 13]] = bad
    with pytest.raises(StageError, match=r"No valid depth within 8 px of the path's start at pixel") as caught:
        lift(plan, replace(frame, depth_m=depth), CONFIG)
    assert caught.value.code is OutcomeCode.LIFT_NO_DEPTH


@pytest.mark.parametrize("bad", [NAN, 0.0, -0.7, INF, -INF, 65.535])
def test_invalid_depth_elsewhere_changes_nothing(bad: float) -> None:
    frame, _ = SCENE.render()
    plan = drawn(PICK_TO_PLATE, frame)
    depth = np.full_like(frame.depth_m, bad)
    x, y = np.round(uv_to_px(plan.uv[0], frame.camera)).astype(int)
    around = np.s_[y - 9 : y + 10, x - 9 : x + 10]
    depth[around] = frame.depth_m[around]
    np.testing.assert_array_equal(
        lift(plan, replace(frame, depth_m=depth), CONFIG).xyz_m, lift(plan, frame, CONFIG).xyz_m
    )


def _changed(matrix: np.ndarray, place: tuple[int, int], value: float) -> np.ndarray:
    out = matrix.copy()
    out[place] = value
    return out


@pytest.mark.parametrize(
    ("field", "place", "value", "sentence"),
    [
        ("K", (0, 0), 0.0, "wanted intrinsics with positive focal lengths"),
        ("K", (1, 1), -500.0, "wanted intrinsics with positive focal lengths"),
        ("K", (0, 2), NAN, "wanted intrinsics"),
        ("K", (2, 2), 0.0, "wanted intrinsics"),
        ("T_base_camera", (0, 3), NAN, "wanted a rigid transform"),
        ("T_base_camera", (0, 0), 2.0, "wanted a rigid transform"),
        ("T_base_camera", (3, 3), 0.0, "wanted a rigid transform"),
    ],
)
def test_cameras_that_are_none(field: str, place: tuple[int, int], value: float, sentence: str) -> None:
    frame, _ = SCENE.render(front_camera(160, 120))
    plan = drawn(PICK_TO_PLATE, frame)
    camera = replace(frame.camera, **{field: _changed(getattr(frame.camera, field), place, value)})
    with pytest.raises(StageError, match=sentence) as caught:
        lift(plan, replace(frame, camera=camera), CONFIG)
    assert caught.value.code is OutcomeCode.LIFT_IMPLAUSIBLE


def test_sizes_that_differ_make_no_frame() -> None:
    frame, _ = SCENE.render(front_camera(160, 120))
    for wrong in ({"depth_m": frame.depth_m[:-1]}, {"rgb": frame.rgb[:, :-1]}, {"camera": front_camera(160, 121)}):
        with pytest.raises(ValueError, match="RgbdFrame"):
            replace(frame, **wrong)  # type: ignore[arg-type]
