"""What the machine must have: checks in one sentence each, and the system packages."""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

from report import SetupError, step

RENDERING = ("libegl1", "libgl1-mesa-dri", "libopengl0")
"""What EGL needs to render without a display (software rendering where there is no GPU)."""

OPENMP = ("libgomp1",)
"""For roboplan."""

USB = ("libusb-1.0-0",)
"""For pyrealsense2, whose wheel lacks it."""

GLIBC = (2, 34)
"""The wheels are manylinux_2_34 (libfranka) or older."""

FREE_BYTES = 5_000_000_000
"""The environment takes 2.7 GB, the downloads another 0.8 GB while it is made."""


def check(root: Path, fresh: bool) -> None:
    """Look for what a set-up cannot bring along.

    Raises:
        SetupError: Something is missing or too old.
    """
    _check_platform()
    _check_compiler()
    _check_no_other_ros()
    if not os.access(root, os.W_OK):
        raise SetupError(f"{root} cannot be written to: clone the repository to a folder of your own.")
    free = shutil.disk_usage(root).free
    if fresh and free < FREE_BYTES:
        raise SetupError(
            f"{root} has {free / 1e9:.1f} GB of free disk space, {FREE_BYTES / 1e9:.0f} GB are needed: make room."
        )


def _check_platform() -> None:
    if sys.platform != "linux" or platform.machine() != "x86_64":
        raise SetupError(
            f"The ROS 2 wheels are for Linux on x86_64, this is {sys.platform} on {platform.machine()}: use docker/ instead."
        )
    name, _, version = (os.confstr("CS_GNU_LIBC_VERSION") or "another C library").partition(" ")
    if name != "glibc" or tuple(int(part) for part in version.split(".")[:2]) < GLIBC:
        wanted = ".".join(map(str, GLIBC))
        raise SetupError(
            f"glibc {wanted} or newer is needed, this machine has {name} {version}: use Debian 12, Ubuntu 22.04 or newer."
        )


def _check_compiler() -> None:
    for variable, names in (("CC", ("cc", "gcc", "clang")), ("CXX", ("c++", "g++", "clang++"))):
        wanted = tuple(os.environ.get(variable, "").split()[:1]) or names
        if not any(shutil.which(name) for name in wanted):
            raise SetupError(
                f"No C/C++ compiler ({', '.join(wanted)}): install one (Debian, Ubuntu: apt install build-essential)."
            )


def _check_no_other_ros() -> None:
    for prefix in filter(None, os.environ.get("AMENT_PREFIX_PATH", "").split(":")):
        for rclpy in Path(prefix).glob("lib/python3.*/site-packages/rclpy"):
            if rclpy.parts[-3] != "python3.11":
                raise SetupError(
                    f"This shell has ROS 2 from {prefix} sourced: build with colcon as the README shows, or use a shell without it."
                )


def install_packages() -> None:
    """Install the system packages that are missing.

    Raises:
        SetupError: They cannot be installed from here.
    """
    missing = _missing_packages()
    if not missing:
        return
    command = f"apt-get install {' '.join(missing)}"
    if not shutil.which("apt-get"):
        raise SetupError(
            f"Missing system libraries, and this is not Debian or Ubuntu: install what they call {' '.join(missing)}."
        )
    with step(f"system packages {' '.join(missing)}"):
        apt = [
            *_as_root(command),
            "env",
            "DEBIAN_FRONTEND=noninteractive",
            "apt-get",
            "-q",
            "-o",
            "DPkg::Lock::Timeout=120",
        ]
        install = [*apt, "install", "-y", "--no-install-recommends", *missing]
        _quietly([*apt, "update"])
        if _quietly(install):
            raise SetupError(
                f"'{command}' failed (its words stand above): install these packages by hand, then try again."
            )


def _quietly(command: list[str]) -> int:
    """Run with errors shown only; the exit code."""
    return subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, check=False).returncode


def _as_root(command: str) -> list[str]:
    """What to put before a command that root must run."""
    if os.geteuid() == 0:
        return []
    ask = [] if sys.stdin.isatty() else ["-n"]
    if not shutil.which("sudo") or subprocess.run(["sudo", *ask, "true"], check=False).returncode:
        raise SetupError(
            f"System packages are missing and this user is neither root nor may use sudo: ask for '{command}'."
        )
    return ["sudo", *ask]


def _missing_packages() -> list[str]:
    wanted = [*RENDERING, *OPENMP, *USB]
    missing = [name for name in wanted if not _installed(name)]
    if not Path(sysconfig.get_path("include"), "Python.h").is_file():
        missing.append("python3.11-dev")
    if importlib.util.find_spec("ensurepip") is None:
        missing.append("python3.11-venv")
    return missing


LIBRARIES = {
    "libegl1": "libEGL.so.1",
    "libgl1-mesa-dri": "libEGL_mesa.so.0",
    "libopengl0": "libOpenGL.so.0",
    "libgomp1": "libgomp.so.1",
    "libusb-1.0-0": "libusb-1.0.so.0",
}
"""How to recognise a package where there is no dpkg."""


def _installed(package: str) -> bool:
    if shutil.which("dpkg-query"):
        query = ["dpkg-query", "-W", "-f", "${db:Status-Status}", package]
        return subprocess.run(query, capture_output=True, text=True, check=False).stdout == "installed"
    folders = ("/usr/lib64", "/usr/lib", "/usr/lib/x86_64-linux-gnu", "/lib64")
    return any(Path(folder, LIBRARIES[package]).exists() for folder in folders)
