"""Lifting: exact on exact depth, never across an edge, refusals with figures."""

import numpy as np
import pytest
from drawn_plans import PICK_TO_PLATE, make_plan, plan_through
from tabletop import Scene, block, front_camera, plate

from stvla_ros.errors import OutcomeCode, StageError
from stvla_ros.geometry.cameras import back_project, px_to_uv, uv_to_px
from stvla_ros.geometry.paths import distance
from stvla_ros.perception.lift import LiftConfig, lift
from stvla_ros.types import DepthSource, RgbdFrame

SCENE = Scene([block("red", 0.5, 0.1, 0.4), *plate(0.45, -0.22)])


@pytest.mark.parametrize("noise", [0.0, 0.0015])
def test_a_drawn_path_comes_back(noise: float) -> None:
    frame, _ = SCENE.render(noise_m=noise)
    trace = lift(plan_through(PICK_TO_PLATE, frame), frame, LiftConfig())
    assert distance(PICK_TO_PLATE, trace.xyz_m).max() < 1e-6
    assert np.linalg.norm(np.diff(trace.xyz_m, axis=0), axis=1).max() <= 0.0201
    assert trace.source[0] == DepthSource.SENSOR
    assert (trace.source == DepthSource.MODEL).sum() == 7
    assert trace.notes == ()


def test_the_start_depth_is_the_sensors_not_the_models() -> None:
    frame, _ = SCENE.render()
    plan = plan_through(PICK_TO_PLATE, frame)
    trace = lift(make_plan(plan.uv, plan.depth_offset_m, start_m=3.0), frame, LiftConfig())
    np.testing.assert_allclose(trace.xyz_m[0], PICK_TO_PLATE[0], atol=1e-5)
    assert "The planner put the start 3.000 m from the camera" in trace.notes[0]


def test_a_start_at_the_rim_of_a_block_takes_the_blocks_depth() -> None:
    frame, ids = SCENE.render()
    rows, columns = np.nonzero(ids == 1)
    row = rows.min() + 1
    column = int(np.median(columns[rows == row]))
    uv = np.tile(px_to_uv([column, row], frame.camera), (8, 1))
    trace = lift(make_plan(uv, np.zeros(8)), frame, LiftConfig())
    expected = back_project(frame.camera, [column, row], frame.depth_m[row, column])
    assert np.linalg.norm(trace.xyz_m[0] - expected) < 0.012
    assert (
        np.linalg.norm(trace.xyz_m[0] - back_project(frame.camera, [column, row], frame.depth_m[row - 3, column]))
        > 0.03
    )


@pytest.mark.parametrize("bad", [np.nan, 0.0, np.inf])
def test_no_valid_depth_at_the_start(bad: float) -> None:
    frame, _ = SCENE.render()
    plan = plan_through(PICK_TO_PLATE, frame)
    depth = frame.depth_m.copy()
    x, y = np.round(uv_to_px(plan.uv[0], frame.camera)).astype(int)
    depth[y - 12 : y + 13, x - 12 : x + 13] = bad
    with pytest.raises(StageError, match=r"No valid depth within 8 px of the path's start at pixel") as caught:
        lift(plan, RgbdFrame(frame.rgb, depth, frame.camera, 0), LiftConfig())
    assert caught.value.code is OutcomeCode.LIFT_NO_DEPTH


def implausible(uv: np.ndarray, offset: np.ndarray) -> str:
    frame, _ = SCENE.render(front_camera(160, 120))
    with pytest.raises(StageError) as caught:
        lift(make_plan(uv, offset), frame, LiftConfig())
    assert caught.value.code is OutcomeCode.LIFT_IMPLAUSIBLE
    return caught.value.sentence


CENTRE = np.full((8, 2), 500.0)


def test_paths_out_of_the_workspace_are_refused_with_figures() -> None:
    assert "m outside the workspace" in implausible(CENTRE, np.linspace(0, 1.5, 8))
    assert "from the camera" in implausible(CENTRE, np.linspace(0, -2, 8))
    assert "span -3 to 500" in implausible(np.where(np.arange(8)[:, None] == 3, -3.0, CENTRE), np.zeros(8))
    assert "not finite" in implausible(CENTRE, np.array([0, np.nan, 0, 0, 0, 0, 0, 0]))
    assert "not finite" in implausible(np.where(np.arange(8)[:, None] == 3, np.inf, CENTRE), np.zeros(8))


def test_a_path_a_little_under_the_table_is_raised_to_it() -> None:
    frame, _ = SCENE.render()
    plan = plan_through(PICK_TO_PLATE - [0, 0, 0.05], frame)
    trace = lift(plan, frame, LiftConfig())
    assert trace.xyz_m[:, 2].min() >= -1e-6
    assert "2 waypoints up to 30 mm under the table were raised" in trace.notes[0]
