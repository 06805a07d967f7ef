"""What rises above the support and is no thing on it."""

import numpy as np
import pytest
from ray_caster import Scene, front_camera

from stvla_ros.geometry.cameras import cloud
from stvla_ros.tabletop.support_plane import SupportPlane
from stvla_ros.tabletop.surroundings import without_surroundings

ARM = np.s_[40:60, 60:80]


@pytest.mark.parametrize(("width", "like_table", "stays"), [(2, True, False), (2, False, True), (12, True, True)])
def test_a_thin_strip_along_the_robot_in_the_colours_of_the_table_is_its_smeared_depth(
    width: int, like_table: bool, stays: bool
) -> None:
    camera, table = front_camera(160, 120), SupportPlane()
    points = cloud(Scene().render(camera)[0])
    labels, exclude = np.zeros((120, 160), dtype=np.int32), np.zeros((120, 160), dtype=bool)
    exclude[ARM], labels[40:60, 80 : 80 + width] = True, 1
    points = points + np.array([0.0, 0.0, 0.03], dtype=np.float32)[:, None, None] * (labels == 1)
    colours = np.ones(labels.shape, dtype=bool)
    colours[labels == 1] = like_table
    found = without_surroundings(labels, points, table.height(points), colours, exclude, camera, table, [], min_px=4)
    assert np.array_equal(found, labels if stays else np.zeros_like(labels))
