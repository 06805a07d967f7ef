"""``stvla doctor``: one line per requirement of this machine: ok, or missing and what to do.

``stvla doctor planner`` asks a planner where objects are in a known image, and says how far off its answers are.
``stvla doctor robot`` looks at the controllers, joint states and camera of a running robot, and moves nothing.
"""

from __future__ import annotations

import sys
from argparse import Namespace, _ArgumentGroup
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

from rich.console import Console

from stvla_ros import registry
from stvla_ros.commands import doctor_planner, doctor_robot
from stvla_ros.commands.arguments import MAX_SEED, Parser, add_override_argument, whole
from stvla_ros.config import ConfigError
from stvla_ros.ros.graph import ROBOTS

PACKAGES = ("numpy", "scipy", "cv2", "yaml", "rich", "PIL", "av")
WHAT = ("machine", "planner", "robot")
SETUP = "run `make setup`"


def add_arguments(parser: Parser) -> None:
    parser.add_argument(
        "what",
        nargs="?",
        choices=WHAT,
        default=WHAT[0],
        metavar="WHAT",
        help="what to check: machine (default), planner or robot",
    )
    group: _ArgumentGroup = parser.add_argument_group("for `stvla doctor planner`: does it point at what is there?")
    names = registry.names("planner")
    group.add_argument("--planner", choices=names, metavar="NAME", help=f"{', '.join(names)}; default: the file's")
    group.add_argument("--seed", type=whole(0, MAX_SEED), default=7, metavar="N", help="seed of the scene; default 7")
    group.add_argument(
        "--output",
        type=Path,
        default=doctor_planner.PICTURE,
        metavar="FILE",
        help=f"picture to write; default {doctor_planner.PICTURE}",
    )
    parser.add_argument(
        "--robot",
        choices=ROBOTS,
        default="real",
        metavar="KIND",
        help=f"for `stvla doctor robot`: {', '.join(ROBOTS)}; default real",
    )
    parser.add_argument(
        "--params",
        type=Path,
        metavar="FILE",
        help="for planner and robot: ROS 2 parameter file; none: default settings",
    )
    add_override_argument(parser)


def run(arguments: Namespace) -> int:
    if arguments.what == "planner":
        return doctor_planner.run(arguments)
    if arguments.what == "robot":
        return doctor_robot.run(arguments)
    if arguments.params is not None or arguments.overrides:
        raise ConfigError("stvla doctor: --params and --set are for `stvla doctor planner` and `stvla doctor robot`.")
    results = [check() for check in CHECKS]
    console = Console(highlight=False, soft_wrap=True)
    for name, good, detail in results:
        console.print(f"[green]ok[/]       {name}: {detail}" if good else f"[red]missing[/]  {name}: {detail}")
    return 0 if all(good for _, good, _ in results) else 1


Result = tuple[str, bool, str]


def _python() -> Result:
    found = ".".join(map(str, sys.version_info[:3]))
    return "Python", sys.version_info >= (3, 11), f"{found} at {sys.executable}; 3.11 or newer is needed"


def _imports(what: str, modules: tuple[str, ...], remedy: str) -> Result:
    for module in modules:
        try:
            import_module(module)
        except ImportError as error:
            return what, False, f"`import {module}` fails ({error}): {remedy}"
    return what, True, ", ".join(modules)


def _packages() -> Result:
    return _imports("Python packages", PACKAGES, SETUP)


def _ros() -> Result:
    return _imports("ROS 2", ("rclpy", "rclpy.action"), f"{SETUP}, or source /opt/ros/jazzy/setup.bash")


def _interfaces() -> Result:
    modules = ("stvla_msgs.action", "stvla_msgs.msg", "stvla_msgs.srv", "control_msgs.action", "tf2_msgs.msg")
    return _imports("ROS interfaces", modules, f"{SETUP}, or `colcon build` and source install/setup.bash")


def _rendering() -> Result:
    def draw() -> str:
        from stvla_ros.sim.opengl import choose_backend, make_context

        context = make_context(64, 64)
        context.make_current()
        context.free()
        return f"headless OpenGL through {choose_backend()}"

    return _try("Rendering", draw)


def _meshes() -> Result:
    def look() -> str:
        from stvla_ros.description.hulls import hull_meshes

        meshes = hull_meshes()
        return f"{len(meshes)} hulls in {next(iter(meshes.values())).parent}"

    return _try("Panda meshes", look)


def _motion() -> Result:
    return _imports("Motion planning", ("roboplan.core", "ruckig"), SETUP)


def _stack() -> Result:
    """Whether a stack is running, and whether the operator has stopped it; ok either way."""
    try:
        from stvla_ros.ros.client import ask_stop_state
        from stvla_ros.ros.qos import DISCOVERY_S
    except ImportError:
        return "Running stack", True, "cannot be looked for without ROS 2"
    state = ask_stop_state(DISCOVERY_S)
    return "Running stack", True, state.sentence() if state.known else f"none was heard within {DISCOVERY_S:g} s"


def _calibration() -> Result:
    """Whether the camera is where its transform says; ok as well when nothing can be compared."""
    try:
        from stvla_ros.commands.calibrate_check import calibration
    except ImportError as error:  # a package that another line reports
        return "Calibration", True, f"cannot be checked ({error})"
    return calibration()


def _try(what: str, work: Callable[[], str]) -> Result:
    try:
        return what, True, work()
    except (ConfigError, ImportError, OSError) as error:
        return what, False, f"{error} ({SETUP})"


CHECKS: tuple[Callable[[], Result], ...] = (
    _python,
    _packages,
    _ros,
    _interfaces,
    _rendering,
    _meshes,
    _motion,
    _stack,
    _calibration,
)
