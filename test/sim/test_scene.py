"""Images drawn from plain values, as another process does, are those of the cell itself, bit for bit."""

import pickle

import numpy as np
import pytest

from stvla_ros.description.panda import HOME_Q_RAD
from stvla_ros.sim.camera import TripodCameraConfig
from stvla_ros.sim.cell import Cell, CellConfig
from stvla_ros.sim.scene import StateRenderer
from stvla_ros.sim.sensor import SensorConfig
from stvla_ros.types import JointPath


@pytest.mark.parametrize("noise", [False, True])
def test_another_process_would_draw_the_same_pixels(noise: bool) -> None:
    camera = TripodCameraConfig(width_px=160, height_px=120)
    cell, elsewhere = Cell(CellConfig(camera=camera, sensor=SensorConfig(enabled=noise))), StateRenderer()
    for task, seed in (("pick_place", 3), ("push_buttons", 0), ("stack_cube", 1)):
        cell.reset(task, seed)
        away = HOME_Q_RAD + np.linspace(0.0, 0.2, 21)[:, None]
        cell.follow(JointPath(away, np.full((21, 7), 0.2), np.linspace(0.0, 1.0, 21)))
        for _ in range(3):
            cell.advance(0.2)
            moment, frame, third = pickle.loads(pickle.dumps(cell.scene_state())), cell.render(), cell.render_third()
            drawn = elsewhere.frame(moment)
            assert drawn.stamp_ns == frame.stamp_ns == cell.time_ns
            np.testing.assert_array_equal(drawn.rgb, frame.rgb)
            np.testing.assert_array_equal(drawn.depth_m, frame.depth_m)
            np.testing.assert_array_equal(drawn.camera.T_base_camera, frame.camera.T_base_camera)
            np.testing.assert_array_equal(elsewhere.third(moment), third)
    elsewhere.close()
    cell.close()


def test_the_scene_is_the_same_object_until_the_next_reset() -> None:
    cell = Cell()
    cell.reset("pick_place", 0)
    before = cell.scene_state()
    cell.advance(0.1)
    after = cell.scene_state()
    assert after.scene is before.scene
    assert after.stamp_ns > before.stamp_ns
    assert not np.array_equal(after.physics, before.physics)
    cell.reset("pick_place", 0)
    assert cell.scene_state().scene is not before.scene
    cell.close()
