"""Ranges of the driver's settings."""

import pytest

from stvla_ros.config import ConfigError, build
from stvla_ros.robot.franka.config import FrankaConfig


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"collision": {"contact_torque_nm": 30.0, "collision_torque_nm": 20.0}}, "contact_torque_nm is 30"),
        ({"collision": {"collision_force_n": 500.0}}, "collision_force_n: wanted"),
        ({"load": {"com_m": [0.0, 0.0]}}, "load.com_m: wanted 3 numbers"),
        ({"load": {"inertia_kgm2": [float("nan")] * 9}}, "load.inertia_kgm2: wanted 9 numbers"),
        ({"load": {"mass_kg": 9.0}}, "mass_kg: wanted"),
        ({"joint_impedance_nm_rad": [3000.0] * 6}, "joint_impedance_nm_rad: wanted 7 numbers"),
        ({"velocity_scale": 0.0}, "velocity_scale: wanted"),
        ({"hand": {"epsilon_outer_m": 0.2}}, "epsilon_outer_m: wanted"),
    ],
)
def test_wrong_settings_get_a_sentence(values, says):
    with pytest.raises(ConfigError, match=says):
        build(FrankaConfig, values, "franka")


def test_settings_are_read():
    config = build(FrankaConfig, {"load": {"mass_kg": 0.5, "com_m": [0.0, 0.0, 0.05]}}, "franka")
    assert config.load.com_m == (0.0, 0.0, 0.05)
    assert not config.activate_at_start
