"""Our ROS packages, built by colcon on top of the wheels."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import wheels
from environment import Environment
from report import run, step
from stamps import Stamp, digest, files_below

WHEEL_INTERFACES = ("control_msgs", "tf2_msgs")
"""Packages that have no wheel; built from ``src/wheel_interfaces`` where the genuine ones are absent."""


def absent_interfaces(overlay: Path, prefixes: str) -> list[str]:
    """Those of :data:`WHEEL_INTERFACES` that no prefix other than the overlay provides.

    Args:
        overlay: Where ours are installed.
        prefixes: ``AMENT_PREFIX_PATH``.
    """
    others = [Path(prefix) for prefix in prefixes.split(":") if prefix and Path(prefix) != overlay]
    index = "share/ament_index/resource_index/packages"
    return [name for name in WHEEL_INTERFACES if not any((prefix / index / name).is_file() for prefix in others)]


def build_interfaces(root: Path, venv: Path, environment: Environment) -> str:
    """Build stvla_msgs and what else of interfaces is absent; the key of the result is returned.

    Raises:
        SetupError: The build failed.
    """
    ours = absent_interfaces(environment.overlay, os.environ.get("AMENT_PREFIX_PATH", ""))
    folders = [root / "src" / "stvla_msgs", *(root / "src" / "wheel_interfaces" / name for name in ours)]
    key = digest(*wheels.base(venv), files=[root / "requirements" / "ros.txt", *files_below(*folders)])
    stamp = Stamp(venv, "interfaces")
    if stamp.holds(key):
        return key
    with step(f"ROS interfaces with colcon: {', '.join(folder.name for folder in folders)}", "about a minute"):
        stamp.clear()
        for folder in (environment.overlay, venv / "build"):  # colcon leaves what a package no longer has
            shutil.rmtree(folder, ignore_errors=True)
        _colcon(root, venv, environment, folders, "interfaces", "--cmake-args", "-DBUILD_TESTING=OFF")
        stamp.set(key)
    return key


def build_package(root: Path, venv: Path, environment: Environment, interfaces: str) -> None:
    """Install stvla_ros with links to the sources: edits need no new set-up, new files in launch/ or config/ do.

    Raises:
        SetupError: The build failed.
    """
    facts = [interfaces, *(str(path) for name in ("launch", "config") for path in files_below(root / name))]
    key = digest(*facts, files=[root / name for name in ("setup.py", "setup.cfg", "package.xml")])
    stamp = Stamp(venv, "package")
    if stamp.holds(key):
        return
    with step("stvla_ros with colcon"):
        stamp.clear()
        _colcon(root, venv, environment, [root], "package", "--symlink-install")
        command = venv / "bin" / "stvla"
        command.unlink(missing_ok=True)
        command.symlink_to(environment.overlay / "lib" / "stvla_ros" / "stvla")
        stamp.set(key)


def _colcon(root: Path, venv: Path, environment: Environment, folders: list[Path], name: str, *options: str) -> None:
    log = venv / "log"
    command: list[str | Path] = [venv / "bin" / "colcon", "--log-base", log / "colcon"]
    command += ["build", "--base-paths", *folders]
    places: list[str | Path] = [
        "--build-base",
        venv / "build",
        "--install-base",
        environment.overlay,
        "--merge-install",
    ]
    events = ["--event-handlers", "console_direct+"]
    failure = f"colcon could not build {', '.join(folder.name for folder in folders)}."
    run([*command, *places, *events, *options], log / f"{name}.log", failure, environment.applied(os.environ), root)
