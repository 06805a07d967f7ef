"""Waypoints in space and on the image, and what the lifter makes of them."""

from __future__ import annotations

import numpy as np
from drawn_plans import PICK_TO_PLATE, plan_through
from ray_caster import Scene, block, front_camera, plate

from stvla_ros.console.edit import drawn_through, place
from stvla_ros.perception.lift import LiftConfig, lift
from stvla_ros.types import RgbdFrame

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
