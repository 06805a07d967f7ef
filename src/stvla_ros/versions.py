"""The versions of everything that results depend on, for the files that keep results."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version

from stvla_ros import __version__

PACKAGES = ("numpy", "scipy", "mujoco", "roboplan-core", "ruckig", "ompl", "opencv-python-headless", "ros-rclpy")


def versions() -> dict[str, str]:
    """Versions of this project, of Python, and of the installed packages among :data:`PACKAGES`."""
    found = {"stvla": __version__, "python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
