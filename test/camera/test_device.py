"""Settings and lenses on the library's own objects."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyrealsense2 as rs
import pytest

from stvla_ros.camera.device import lens_maps, set_up, temperatures
from stvla_ros.camera.framesets import Counts, PairFilter
from stvla_ros.camera.place import PlaceConfig
from stvla_ros.camera.settings import ExposureConfig
from stvla_ros.config import ConfigError
from stvla_ros.geometry.se3 import pose, rotation_z, to_quaternion

D = (0.12, -0.2, 0.003, -0.002, 0.05)


def lens(model: str, coefficients: tuple[float, ...] = D) -> Any:
    out = rs.intrinsics()
    out.width, out.height, out.fx, out.fy, out.ppx, out.ppy = 160, 120, 150.0, 151.0, 80.5, 58.0
    out.model, out.coeffs = getattr(rs.distortion, model), list(coefficients)
    return out


def matrix(of: Any) -> np.ndarray:
    return np.array([[of.fx, 0, of.ppx], [0, of.fy, of.ppy], [0, 0, 1]])


@pytest.mark.parametrize(
    "model", ["brown_conrady", "modified_brown_conrady", "inverse_brown_conrady", "kannala_brandt4"]
)
def test_a_pixel_comes_from_where_the_library_projects_its_ray(model: str) -> None:
    it = lens(model)
    maps = lens_maps(matrix(it), it)
    assert maps is not None
    for x, y in ((0, 0), (159, 119), (10, 100), (80, 58), (140, 3)):
        ray = [(x - it.ppx) / it.fx, (y - it.ppy) / it.fy, 1.0]
        wanted = rs.rs2_project_point_to_pixel(it, ray)
        np.testing.assert_allclose((maps.x_px[y, x], maps.y_px[y, x]), wanted, atol=0.002)


def test_lenses_that_need_nothing_or_cannot_be_helped() -> None:
    it = lens("inverse_brown_conrady", (0.0,) * 5)
    assert lens_maps(matrix(it), it) is None
    it = lens("ftheta")
    with pytest.raises(ConfigError, match="distortion model ftheta, which is not known: use realsense-ros"):
        lens_maps(matrix(it), it)
    it = lens("inverse_brown_conrady", (-3.0, 0.0, 0.0, 0.0, 0.0))
    with pytest.raises(ConfigError, match="the image folds over: calibrate the camera again"):
        lens_maps(matrix(it), it)


class Cell:
    """A software device with the options of a D435's two sensors."""

    def __init__(self) -> None:
        self.device = rs.software_device()
        self.depth, self.color = self.device.add_sensor("Stereo Module"), self.device.add_sensor("RGB Camera")
        stream = rs.video_stream()
        stream.type, stream.fmt, stream.bpp, stream.fps, stream.intrinsics = (
            rs.stream.color, rs.format.rgb8, 3, 30, lens("none"),
        )  # fmt: skip
        self.color.add_video_stream(stream)
        ranges = {"enable_auto_exposure": (0, 1, 1, 1), "exposure": (1, 165000, 1, 8500), "gain": (16, 248, 1, 16)}
        more = {"emitter_enabled": (0, 2, 1, 1), "laser_power": (0, 360, 30, 150), "visual_preset": (0, 5, 1, 0)}
        for name, values in (ranges | more | {"global_time_enabled": (0, 1, 1, 0)}).items():
            self.depth.add_option(getattr(rs.option, name), self._range(*values), True)
        self.depth.add_read_only_option(rs.option.depth_units, 0.001)
        self.depth.add_read_only_option(rs.option.asic_temperature, 41.0)
        white = {"white_balance": (2800, 6500, 10, 4600), "enable_auto_white_balance": (0, 1, 1, 1)}
        of_color = ranges | {"exposure": (1, 10000, 1, 156), "gain": (0, 128, 1, 64)} | white
        for name, values in of_color.items():
            self.color.add_option(getattr(rs.option, name), self._range(*values), True)
        self.said: list[str] = []

    @staticmethod
    def _range(low: float, high: float, step: float, usual: float) -> Any:
        out = rs.option_range()
        out.min, out.max, out.step, out.default = low, high, step, usual
        return out

    def set_up(self, **exposure: Any) -> None:
        set_up(rs, self.device, ExposureConfig(**exposure), self.said.append)

    def get(self, sensor: Any, name: str) -> float:
        return float(sensor.get_option(getattr(rs.option, name)))


def test_exposure_gain_white_balance_and_pattern() -> None:
    cell = Cell()
    cell.set_up()
    assert cell.said == []
    assert cell.get(cell.depth, "enable_auto_exposure") == cell.get(cell.color, "enable_auto_white_balance") == 1
    assert cell.get(cell.depth, "global_time_enabled") == 1
    cell.set_up(
        color_us=12000,
        color_gain=70,
        white_balance_k=5000,
        depth_us=9000,
        depth_gain=32,
        emitter=False,
        preset="high_accuracy",
    )
    assert cell.said == []
    assert cell.get(cell.color, "exposure") == 120, "in units of 100 us"
    assert cell.get(cell.depth, "exposure") == 9000
    assert (cell.get(cell.color, "gain"), cell.get(cell.depth, "gain")) == (70, 32)
    assert (cell.get(cell.color, "white_balance"), cell.get(cell.color, "enable_auto_white_balance")) == (5000, 0)
    assert (cell.get(cell.depth, "emitter_enabled"), cell.get(cell.depth, "visual_preset")) == (0, 3)
    assert temperatures(rs, cell.device) == {"asic_temperature": 41.0}
    cell.set_up(depth_us=190000)
    assert cell.said == ["Stereo Module: exposure 190000 is not set: it takes 1 to 165000 in steps of 1."]


def test_a_sensor_without_an_option_is_named() -> None:
    device, said = rs.software_device(), []
    device.add_sensor("Stereo Module").add_read_only_option(rs.option.depth_units, 0.001)
    set_up(rs, device, ExposureConfig(), said.append)
    assert said == []
    set_up(rs, device, ExposureConfig(laser_mw=90), said.append)
    assert said == ["Stereo Module: laser_power 90 is not set: it has no such option."]


class _Frame:
    def __init__(self, number: int, ms: float, domain: str = "global_time") -> None:
        self.number, self.ms, self.domain = number, ms, getattr(rs.timestamp_domain, domain)

    def get_frame_number(self) -> int:
        return self.number

    def get_timestamp(self) -> float:
        return self.ms

    def get_frame_timestamp_domain(self) -> Any:
        return self.domain


class _Set:
    def __init__(self, color: _Frame | None, depth: _Frame | None) -> None:
        self.get_color_frame, self.get_depth_frame = lambda: color, lambda: depth


def test_pairs() -> None:
    """The pipeline joins the newest of each stream; a frameset without an image comes from librealsense's syncer."""
    counts = Counts()
    pairs = PairFilter(0.016, counts)
    f = _Frame
    given = [
        (f(1, 0), f(11, 0)), (f(2, 33), f(11, 0)), (f(2, 33), f(12, 34)), (f(2, 33), f(12, 34)), (f(3, 66), None),
        (None, f(13, 66)), (f(4, 100), f(14, 100, "hardware_clock")), (f(7, 200), f(17, 215)), (f(8, 233), f(18, float("nan"))),
        (f(1, 300), f(21, 300)),
    ]  # fmt: skip
    taken = [pairs.take(_Set(*both)) is not None for both in given]
    assert taken == [True, False, True, False, False, False, False, True, False, True]
    assert (counts.mixed, counts.incomplete, counts.lost, counts.unpaired) == (4, 2, 2, 3)


def test_place(tmp_path: Path) -> None:
    T = pose(rotation_z(0.3), (0.4, 0.2, 0.7))
    q, t = tuple(to_quaternion(T[:3, :3])), tuple(T[:3, 3])
    assert PlaceConfig().T_base_camera() is None
    np.testing.assert_allclose(PlaceConfig(translation_m=t, quaternion_xyzw=q).T_base_camera(), T, atol=1e-12)
    file = tmp_path / "calibration.yaml"
    file.write_text(f"camera: {{translation_m: {[float(v) for v in t]}, quaternion_xyzw: {[float(v) for v in q]}}}\n")
    np.testing.assert_allclose(PlaceConfig(file=str(file)).T_base_camera(), T, atol=1e-12)


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("other: 1\n", "wanted a calibration with the entry camera"),
        ("[1, 2]\n", "wanted a calibration .*found a list"),
        ("format: other-2\ncamera: {}\n", "wanted a calibration .*found the format 'other-2'"),
        ("camera: [\n", "found no YAML"),
        ("camera: {translation_m: [1, 2], quaternion_xyzw: [0, 0, 0, 1]}\n", "camera: wanted 3 numbers"),
        ("camera: {translation_m: [1, 2, .nan], quaternion_xyzw: [0, 0, 0, 1]}\n", "camera: wanted 3 numbers"),
        ("camera: {translation_m: [1, 2, 3], quaternion_xyzw: [0, 0, 0, 0]}\n", "not all zero"),
        ("camera: {translation_m: abc, quaternion_xyzw: [0, 0, 0, 1]}\n", "camera: wanted 3 numbers"),
    ],
)
def test_files_that_are_no_place(tmp_path: Path, text: str, match: str) -> None:
    file = tmp_path / "calibration.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=match):
        PlaceConfig(file=str(file)).T_base_camera()
