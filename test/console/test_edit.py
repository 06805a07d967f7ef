"""Waypoints in space and on the image, and what the lifter makes of them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from drawn_plans import PICK_TO_PLATE, plan_through
from ray_caster import Scene, block, front_camera, plate

from stvla_ros.console.camera_view import vertical_fov
from stvla_ros.console.edit import drawn_through, pixel_of, place, placed
from stvla_ros.errors import OutcomeCode, StageError
from stvla_ros.geometry.cameras import back_project, project
from stvla_ros.perception.lift import LiftConfig, lift
from stvla_ros.types import Camera, RgbdFrame

PLATE = plate(0.45, -0.22)


def frame(with_block: bool = True) -> RgbdFrame:
    boxes = [block("red", 0.5, 0.1)] if with_block else []
    return Scene([*boxes, *PLATE]).render(front_camera())[0]


def test_a_plans_waypoints_are_where_it_was_drawn_through() -> None:
    seen = frame()
    plan = plan_through(PICK_TO_PLATE, seen)
    start_m = lift(plan, seen, LiftConfig()).xyz_m[0].astype(float)
    np.testing.assert_allclose(place(plan, start_m, seen.camera).points_m, PICK_TO_PLATE, atol=0.002)


def test_an_edited_path_is_lifted_through_its_points_although_its_first_object_has_gone() -> None:
    """The depths are relative to the start's, which is deeper once the block is in the hand."""
    plan, points = plan_through(PICK_TO_PLATE, frame()), PICK_TO_PLATE.copy()
    points[-1] += (0.0, 0.03, 0.01)
    for seen in (frame(), frame(with_block=False)):
        drawn = drawn_through(plan, points, seen)
        assert (drawn.plan_id, drawn.image_stamp_ns) == (plan.plan_id, seen.stamp_ns)
        trace = lift(drawn, seen, LiftConfig())
        np.testing.assert_allclose(trace.xyz_m[-1], points[-1], atol=0.002)
        for point in points:
            assert np.linalg.norm(trace.xyz_m - point, axis=1).min() < 0.012


def test_a_click_puts_a_waypoint_on_its_pixel_and_as_high_above_what_is_seen_there() -> None:
    seen, last = frame(), len(PICK_TO_PLATE) - 1
    on_plate = np.array([0.42, -0.24, 0.008])
    px, _ = project(seen.camera, on_plate)
    ray = on_plate - seen.camera.T_base_camera[:3, 3]
    np.testing.assert_allclose(pixel_of(7.0 * ray, seen.camera), px, atol=1e-9)
    point = placed(PICK_TO_PLATE, last, px, seen)
    np.testing.assert_allclose(project(seen.camera, point)[0], px, atol=1e-6)
    assert point[2] == pytest.approx(PICK_TO_PLATE[last, 2], abs=0.003)
    points = np.vstack([PICK_TO_PLATE[:last], point])
    trace = lift(drawn_through(plan_through(PICK_TO_PLATE, seen), points, seen), seen, LiftConfig())
    end_px, _ = project(seen.camera, trace.xyz_m[-1])
    assert np.abs(end_px - px).max() < 1.0


def test_the_first_waypoint_stays_on_a_surface() -> None:
    seen = frame()
    plan = plan_through(PICK_TO_PLATE, seen)
    start_m = lift(plan, seen, LiftConfig()).xyz_m[:1].astype(float)
    px, _ = project(seen.camera, np.array([0.45, -0.22, 0.008]))
    assert placed(start_m, 0, px, seen)[2] == pytest.approx(0.008, abs=0.002)


def test_a_waypoint_that_something_hides_is_put_on_what_is_clicked() -> None:
    hand = block("blue", 0.8, -0.1, z=0.3, size=0.3)
    seen = Scene([hand, *PLATE]).render(front_camera())[0]
    px, _ = project(seen.camera, np.array([0.5, 0.3, 0.0]))
    assert placed(PICK_TO_PLATE, 5, px, seen)[2] == pytest.approx(0.0, abs=0.002)


def test_a_click_where_there_is_no_depth() -> None:
    seen, last = frame(), PICK_TO_PLATE[-1]
    here, there = project(seen.camera, last)[0], project(seen.camera, np.array([0.5, 0.2, 0.0]))[0]
    for px, which in ((here, "of its old place"), (there, "that was clicked")):
        depth_m, (x, y) = seen.depth_m.copy(), np.rint(px).astype(int)
        depth_m[y - 12 : y + 13, x - 12 : x + 13] = np.nan
        with pytest.raises(StageError, match=rf"no valid depth near the pixel \({x}, {y}\) {which}") as caught:
            placed(PICK_TO_PLATE, 7, there, replace(seen, depth_m=depth_m))
        assert caught.value.code is OutcomeCode.LIFT_NO_DEPTH


@pytest.mark.parametrize("direction", [(np.nan, 0, 0), (np.inf, 0, 0), (0, 0, 0), (1, 0, 0.6), (-1, 3, 0), (0, 0, 1)])
def test_a_ray_that_is_not_in_the_picture(direction: tuple[float, float, float]) -> None:
    with pytest.raises(StageError, match="click on the camera's picture") as caught:
        pixel_of(direction, front_camera())
    assert caught.value.code is OutcomeCode.INVALID_GOAL


@pytest.mark.parametrize("aspect", [0.5, 4 / 3, 1.7, 3.0])
@pytest.mark.parametrize("principal", [(319.5, 239.5), (250.0, 300.0)])
def test_a_view_holds_the_whole_picture_and_hardly_more(aspect: float, principal: tuple[float, float]) -> None:
    """Corners in the view's own units: 1 is its border."""
    camera = Camera(np.array([[600.0, 0, principal[0]], [0, 500.0, principal[1]], [0, 0, 1]]), 640, 480, np.eye(4))
    x, y, z = back_project(camera, [(-0.5, -0.5), (639.5, 479.5)], np.ones(2)).T
    half = np.tan(vertical_fov(camera, aspect) / 2)
    reach = np.abs([x / z / half / aspect, y / z / half])
    assert reach.max() == pytest.approx(1.0)
