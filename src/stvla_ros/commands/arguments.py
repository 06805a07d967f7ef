"""Parsing of command lines: what is wrong is refused in one sentence that names the closest valid word."""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from stvla_ros import registry
from stvla_ros.config import ConfigError, closest
from stvla_ros.sim import LOOKS

if TYPE_CHECKING:
    from stvla_ros.evaluate.workers import Engine
    from stvla_ros.ros.graph import GraphOptions

ENGINES = ("local", "ray")
MODES = ("separate", "composed")
MAX_SEED = 2**32 - 1

NEGATIVE = re.compile(r"-\.?\d")
"""How an argument begins that is a negative number, or a list of numbers."""


class Parser(argparse.ArgumentParser):
    """argparse, except that every error is a ConfigError of one sentence."""

    def __init__(self, prog: str, description: str, epilog: str = "", **more: Any) -> None:
        more.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        super().__init__(prog=prog, description=description, epilog=epilog, allow_abbrev=False, **more)
        self._negative_number_matcher = NEGATIVE  # otherwise --extrinsics -0.1,0,... would be two options

    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{message[:1].upper()}{message[1:]}; see {self.prog} --help.")

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is not None and value not in action.choices:
            what = "/".join(action.option_strings) or action.metavar or action.dest
            raise ConfigError(f"{what}: '{value}' is not known.{closest(str(value), map(str, action.choices))}")

    def parse_checked(self, arguments: Sequence[str]) -> argparse.Namespace:
        """Parse a command line.

        Raises:
            ConfigError: An argument is unknown, missing or malformed.
        """
        parsed, extra = self.parse_known_args(arguments)
        if extra:
            valid = self._options_of(parsed.command)
            word = extra[0].split("=")[0]
            hint = closest(word, valid) if word.startswith("-") else f" See stvla {parsed.command} --help."
            raise ConfigError(f"stvla {parsed.command}: '{extra[0]}' is not understood.{hint}")
        return parsed

    def _options_of(self, command: str) -> list[str]:
        subparsers = next(a for a in self._actions if isinstance(a, argparse._SubParsersAction))
        return [option for action in subparsers.choices[command]._actions for option in action.option_strings]


def whole(low: int, high: int) -> Callable[[str], int]:
    """An argument type: a whole number from ``low`` to ``high``."""

    def parse(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"wanted a whole number, got '{text}'") from None
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"wanted {low} to {high}, got {value}")
        return value

    return parse


def folder(text: str) -> Path:
    """An argument type: a folder to write to, which exists or can be made."""
    path = Path(text)
    nearest = next(place for place in (path, *path.absolute().parents) if place.exists())
    if not nearest.is_dir() or not os.access(nearest, os.W_OK):
        raise argparse.ArgumentTypeError(f"wanted a writable folder, but {nearest} is not one")
    return path


def share(text: str) -> float:
    """An argument type: a number from 0 to 1."""
    try:
        value = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"wanted a number from 0 to 1, got '{text}'") from None
    if not 0.0 <= value <= 1.0:
        raise argparse.ArgumentTypeError(f"wanted 0 to 1, got {text}")
    return value


def positive(text: str) -> float:
    """A finite number above 0, for argparse."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0.0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"wanted a number above 0, got '{text}'")
    return value


def check_tasks(names: str | None) -> tuple[str, ...]:
    """Task names from ``a,b``; None: the basic ones. Raises ConfigError that names the closest valid task."""
    from stvla_ros.sim.tasks import BASIC_TASKS, TASKS

    chosen = tuple(dict.fromkeys(name.strip() for name in names.split(","))) if names is not None else BASIC_TASKS
    for name in chosen:
        if name not in TASKS:
            raise ConfigError(f"task: '{name}' is not known.{closest(name, TASKS)}")
    return chosen


def add_engine_arguments(parser: Parser, default_jobs: str) -> None:
    """``--engine`` and ``--jobs``, for episodes in parallel."""
    parser.add_argument(
        "--engine",
        choices=ENGINES,
        default=ENGINES[0],
        help="where episodes run; local (default): processes of this machine; ray: workers on a Ray cluster, which the"
        " variable RAY_ADDRESS names or which runs here",
    )
    parser.add_argument(
        "--jobs", type=whole(1, 1024), metavar="N", help=f"episodes at the same time; default: {default_jobs}"
    )


def engine_of(arguments: argparse.Namespace, settings: Mapping[str, Any], output: Path | None) -> tuple[Engine, int]:
    """The engine that the options of :func:`add_engine_arguments` choose, and how many episodes it runs at once.

    Args:
        arguments: The parsed options.
        settings: Plain settings of the episodes; workers need the files that they name.
        output: Folder that workers write to; None: they write nothing.

    Raises:
        ConfigError: There is no such engine here.
    """
    from stvla_ros.evaluate.workers import run_episodes

    if arguments.engine == ENGINES[0]:
        return run_episodes, arguments.jobs or os.cpu_count() or 1
    from stvla_ros.evaluate.cluster import RayEngine

    engine = RayEngine(settings, output)
    return engine, arguments.jobs or engine.cores


def add_stack_arguments(parser: Parser, defaults: Mapping[str, str] | None = None) -> None:
    """The options that choose the stack: backends, processes, parameters.

    Args:
        parser: Gets them.
        defaults: Kind of backend -> what help says of its default, if that is not the parameter file's.
    """
    for kind in registry.BACKENDS:
        names, default = registry.names(kind), (defaults or {}).get(kind, "the parameter file's")
        parser.add_argument(f"--{kind}", choices=names, metavar="NAME", help=f"{', '.join(names)}; default: {default}")
    parser.add_argument(
        "--mode",
        choices=MODES,
        default=MODES[0],
        help="separate (default): one process per node; composed: planner, guidance, policy and task in one process",
    )
    parser.add_argument("--params", type=Path, metavar="FILE", help="ROS 2 parameter file; default config/stvla.yaml")
    add_look_argument(parser)
    add_override_argument(parser)


def add_look_argument(parser: Parser | argparse._ArgumentGroup) -> None:
    """``--look``, for the simulated cell."""
    parser.add_argument(
        "--look",
        choices=LOOKS,
        default=LOOKS[0],
        help="of the simulated table; hard: grain, gloss, mixed light, household things, and a stereo camera's depth where"
        " the camera is imperfect",
    )


def overrides_of(arguments: argparse.Namespace) -> dict[str, str]:
    """Parameters that ``--look`` and ``--set`` replace; ``--set`` has the last word."""
    hard = {"sim.cell.look": "hard", "sim.cell.sensor.kind": "stereo"} if arguments.look == "hard" else {}
    return {**hard, **dict(arguments.overrides)}


def add_override_argument(parser: Parser) -> None:
    """``--set``, for single parameters."""
    parser.add_argument(
        "--set",
        dest="overrides",
        type=assignment,
        action="append",
        default=[],
        metavar="NODE.PARAMETER=VALUE",
        help="override one parameter of the file, e.g. policy.3dfa.checkpoint=best.safetensors; repeatable",
    )


def assignment(text: str) -> tuple[str, str]:
    """An argument type: ``node.parameter=value``."""
    name, equals, value = text.partition("=")
    if not equals or "." not in name:
        raise argparse.ArgumentTypeError(f"wanted NODE.PARAMETER=VALUE, got '{text}'")
    return name.strip(), value


def stack_options(arguments: argparse.Namespace, robot: str = "sim", camera: str = "auto") -> GraphOptions:
    """The stack that the options of :func:`add_stack_arguments` choose, with its parameter file checked.

    Raises:
        ConfigError: The parameter file is wrong.
    """
    from stvla_ros.ros.graph import GraphOptions, check_parameter_file, default_parameters

    backends = {kind: getattr(arguments, kind) for kind in registry.BACKENDS}
    file = arguments.params or default_parameters()
    check_parameter_file(file)
    return GraphOptions(robot, camera, arguments.mode, file, backends, overrides_of(arguments))
