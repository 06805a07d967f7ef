"""What the operator says about a lens and a pose: numbers or a file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from stvla_ros.camera.lens import lens_of
from stvla_ros.camera.place import place_of
from stvla_ros.config import ConfigError

WHOLE = (
    "image_width: 640\nimage_height: 480\ndistortion_model: rational_polynomial\n"
    "camera_matrix: {rows: 3, cols: 3, data: [600, 0, 320, 0, 610, 240, 0, 0, 1]}\n"
    "distortion_coefficients: {rows: 1, cols: 2, data: [0.1, -0.2]}\n"
)


def test_numbers() -> None:
    lens = lens_of("600,610,320.5,-2")
    np.testing.assert_array_equal(lens.K, [[600, 0, 320.5], [0, 610, -2], [0, 0, 1]])
    np.testing.assert_array_equal(lens.P[:, :3], lens.K)
    assert (lens.width_px, lens.height_px, lens.D.any()) == (0, 0, False)
    T = place_of("-1,0,0.5,0,0,0,1").T_base_camera()
    assert T is not None
    np.testing.assert_array_equal(T[:3, 3], (-1, 0, 0.5))


def test_a_camera_info_file(tmp_path: Path) -> None:
    file = tmp_path / "a,b.yaml"
    file.write_text(WHOLE)
    lens = lens_of(str(file))
    assert (lens.width_px, lens.height_px, lens.model) == (640, 480, "rational_polynomial")
    assert (lens.K[1, 1], list(lens.D)) == (610, [0.1, -0.2])


@pytest.mark.parametrize("text", ["600,600,320", "600,600,320,nan", "600,600,a,b", "1,2,3,4,5", "600"])
def test_numbers_that_are_no_lens(text: str) -> None:
    with pytest.raises(ConfigError, match=r"^intrinsics: wanted a camera_info file or four numbers fx,fy,cx,cy, got '"):
        lens_of(text)


@pytest.mark.parametrize("text", ["1,2", "0,0,0,0,0,0,inf", "a,b,c"])
def test_numbers_that_are_no_pose(text: str) -> None:
    with pytest.raises(ConfigError, match=r"^extrinsics: wanted a file or seven numbers"):
        place_of(text)


def test_a_pose_with_a_quaternion_of_zeros() -> None:
    with pytest.raises(ConfigError, match="wanted 3 numbers as translation_m and 4 as quaternion_xyzw"):
        place_of("0,0,0,0,0,0,0").T_base_camera()


@pytest.mark.parametrize(
    ("old", "new"), [("600, 0,", "600,"), ("image_width: 640\n", ""), ("[0.1", "[x"), ("camera_matrix", "matrix")]
)
def test_a_camera_info_file_that_lacks_something(tmp_path: Path, old: str, new: str) -> None:
    assert old in WHOLE
    (tmp_path / "lens.yaml").write_text(WHOLE.replace(old, new))
    with pytest.raises(ConfigError, match="wanted a camera_info file with image_width"):
        lens_of(str(tmp_path / "lens.yaml"))
