"""``stvla doctor``: one line per check: its state, what was found, and what to do.

Without a word it looks at this machine, and at the stack that runs on it. ``planner`` asks a planner where objects are
in a known image. ``robot`` looks at the controllers of a running robot, ``stack`` listens to a running stack; both move
nothing. The name of a bag asks whether that recording will do.
"""

from __future__ import annotations

import sys
from argparse import Namespace, _ArgumentGroup
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path

from rich.console import Console

from stvla_ros import registry
from stvla_ros.commands import doctor_planner, doctor_report, doctor_robot, doctor_stack
from stvla_ros.commands.arguments import MAX_SEED, Parser, add_override_argument, whole
from stvla_ros.commands.recordings import add_bag_arguments
from stvla_ros.config import ConfigError, closest
from stvla_ros.doctor.finding import Finding, ok, wrong
from stvla_ros.ros.graph import ROBOTS

PACKAGES = ("numpy", "scipy", "cv2", "yaml", "rich", "PIL", "av")
PARTS: dict[str, Callable[[Namespace], int]] = {
    "planner": doctor_planner.run,
    "robot": doctor_robot.run,
    "stack": doctor_stack.run,
}
MACHINE = "machine"
SETUP = "run `make setup`"


def add_arguments(parser: Parser) -> None:
    parser.add_argument(
        "what",
        nargs="?",
        default=MACHINE,
        metavar="WHAT",
        help="what to check: machine (default), planner, robot, stack, or a bag: its folder or a single file",
    )
    parser.add_argument("--json", action="store_true", help="for machines: one JSON object")
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
        help="for all but the machine: ROS 2 parameter file; none: default settings, and for stack those of its nodes",
    )
    add_override_argument(parser)
    add_bag_arguments(parser)


def run(arguments: Namespace) -> int:
    if arguments.what in PARTS:
        return PARTS[arguments.what](arguments)
    if arguments.what != MACHINE:
        return _bag(arguments)
    if arguments.params is not None or arguments.overrides:
        raise ConfigError(
            "stvla doctor: --params and --set are for `stvla doctor planner`, `stvla doctor robot`, `stvla doctor stack` and bags."
        )
    console = Console(highlight=False, quiet=arguments.json)
    return doctor_report.code(doctor_report.show(MACHINE, _machine(), arguments.json, console))


def _bag(arguments: Namespace) -> int:
    path = Path(arguments.what)
    if not path.exists():
        words = (MACHINE, *PARTS)
        hint = closest(arguments.what, words)
        raise ConfigError(
            f"stvla doctor: wanted {', '.join(words)}, or a bag; '{arguments.what}' is none of them.{hint}"
        )
    from stvla_ros.commands import doctor_bag  # needs more packages than the machine may have

    return doctor_bag.run(arguments, path)


def _machine() -> Iterator[Finding]:
    for check in CHECKS:
        yield check()
    yield from doctor_stack.of_machine()


def _python() -> Finding:
    found = ".".join(map(str, sys.version_info[:3]))
    figure = f"{found} at {sys.executable}"
    return ok("Python", figure) if sys.version_info >= (3, 11) else wrong("Python", figure, "3.11 or newer is needed")


def _imports(what: str, modules: tuple[str, ...], remedy: str) -> Finding:
    for module in modules:
        try:
            import_module(module)
        except ImportError as error:
            return wrong(what, f"`import {module}` fails ({error})", remedy)
    return ok(what, ", ".join(modules))


def _packages() -> Finding:
    return _imports("Python packages", PACKAGES, SETUP)


def _ros() -> Finding:
    return _imports("ROS 2", ("rclpy", "rclpy.action"), f"{SETUP}, or source /opt/ros/jazzy/setup.bash")


def _interfaces() -> Finding:
    modules = ("stvla_msgs.action", "stvla_msgs.msg", "stvla_msgs.srv", "control_msgs.action", "tf2_msgs.msg")
    return _imports("ROS interfaces", modules, f"{SETUP}, or `colcon build` and source install/setup.bash")


def _rendering() -> Finding:
    def draw() -> str:
        from stvla_ros.sim.opengl import choose_backend, make_context

        context = make_context(64, 64)
        context.make_current()
        context.free()
        return f"headless OpenGL through {choose_backend()}"

    return _try("Rendering", draw)


def _meshes() -> Finding:
    def look() -> str:
        from stvla_ros.description.hulls import hull_meshes

        meshes = hull_meshes()
        return f"{len(meshes)} hulls in {next(iter(meshes.values())).parent}"

    return _try("Panda meshes", look)


def _motion() -> Finding:
    return _imports("Motion planning", ("roboplan.core", "ruckig"), SETUP)


def _try(what: str, work: Callable[[], str]) -> Finding:
    try:
        return ok(what, work())
    except (ConfigError, ImportError, OSError) as error:
        return wrong(what, str(error).rstrip("."), SETUP)


CHECKS: tuple[Callable[[], Finding], ...] = (
    _python,
    _packages,
    _ros,
    _interfaces,
    _rendering,
    _meshes,
    _motion,
)
