"""``stvla console``: the operator console for a running stack, a web page."""

from __future__ import annotations

import subprocess
import sys
from argparse import Namespace
from pathlib import Path

from stvla_ros.commands.arguments import Parser, add_override_argument, whole
from stvla_ros.commands.record import wait
from stvla_ros.config import SHARED, ConfigError
from stvla_ros.ros.graph import ROBOTS, guest_arguments


def add_arguments(parser: Parser) -> None:
    parser.add_argument("--port", type=whole(0, 65535), metavar="N", help="port of the page; default: console.port")
    parser.add_argument("--robot", choices=ROBOTS, help="as in stvla up; default: the parameter file's, or sim")
    parser.add_argument("--params", type=Path, metavar="FILE", help="ROS 2 parameter file; default config/stvla.yaml")
    add_override_argument(parser)


def run(arguments: Namespace) -> int:
    """The console's exit code."""
    port = {"console.port": str(arguments.port)} if arguments.port is not None else {}
    kind = {f"{SHARED}.kind": arguments.robot} if arguments.robot else {}
    changes = {**port, **kind, **dict(arguments.overrides)}
    words = guest_arguments(arguments.params, changes)
    for name in changes:
        if name.split(".")[0] not in (SHARED, "console"):
            raise ConfigError(f"--set {name}: the console reads console.NAME and robot.NAME only: leave it out.")
    return wait(subprocess.Popen([sys.executable, "-m", "stvla_ros.nodes.console", "--ros-args", *words]))
