"""The versions of everything that results depend on, for the files that keep results."""

from __future__ import annotations

import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

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


def git_commit() -> str:
    """The commit of the sources, with ``-dirty`` after it when they were changed; empty for an installed package."""
    here = Path(__file__).parent
    command = ["git", "-C", str(here), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        inside = subprocess.run(["git", "-C", str(here), "ls-files", "versions.py"], capture_output=True, timeout=5.0)
        done = subprocess.run(command, capture_output=True, text=True, timeout=5.0)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 and inside.stdout else ""
