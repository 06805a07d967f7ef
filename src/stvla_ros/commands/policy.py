"""``stvla policy``: describes policy checkpoints, and converts released ones to our format."""

from __future__ import annotations

import json
from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from stvla_ros.commands.arguments import Parser, whole
from stvla_ros.config import ConfigError

if TYPE_CHECKING:
    from stvla_ros.policy.checkpoint.inspection import Inspection
    from stvla_ros.policy.checkpoint.reading import Reading

UNKNOWN = "[yellow]not in the file[/]"


def add_arguments(parser: Parser) -> None:
    from stvla_ros.policy.checkpoint.policy_file import FRAMES
    from stvla_ros.policy.checkpoint.reading import PRESETS
    from stvla_ros.policy.network.config import CHOICES

    verbs = parser.add_subparsers(dest="verb", metavar="inspect|convert", required=True, parser_class=_VerbParser)
    show = verbs.add_parser("inspect", help="describe a checkpoint, and what must be given to use it")
    show.add_argument("file", type=Path, metavar="FILE", help="a file of `stvla train`, or a released .pth")
    show.add_argument("--json", action="store_true", help="for machines")
    convert = verbs.add_parser("convert", help="write a released checkpoint in our format")
    convert.add_argument("file", type=Path, metavar="FILE", help="a released .pth")
    convert.add_argument("output", type=Path, metavar="OUT", help="a new .safetensors file")
    option = convert.add_argument
    option(
        "--as", dest="published", choices=tuple(PRESETS), metavar="NAME", help=f"a published file: {', '.join(PRESETS)}"
    )
    option("--ema", action="store_true", help="take the moving average of the weights, if training kept one")
    option("--cameras", type=_names, metavar="NAME,...", help="in the order of training")
    option("--image-px", type=whole(32, 4096), metavar="N", help="width and height of the images")
    option("--heads", type=whole(1, 1024), metavar="N", help="attention heads")
    option("--subsample-factor", type=whole(1, 10**6), metavar="N", help="one image token in N is kept")
    option("--denoiser", choices=CHOICES["denoiser"], metavar="NAME", help="flow or ddpm")
    option("--steps", type=whole(1, 10**5), metavar="N", help="denoising steps; for ddpm the number used in training")
    option("--hands", type=whole(1, 2), metavar="N", help="1 or 2")
    option("--quaternion", metavar="ORDER", help="xyzw; wxyz_literal if quaternion_format was wxyz on xyzw data")
    option("--frame", choices=FRAMES, metavar="NAME", help="frame of positions: base or rlbench")
    option("--bounds", type=Path, metavar="FILE", help="workspace bounds, {task: [[min], [max]]}; needs --task")
    option("--task", metavar="NAME", help="the task of the training if it was a single one, else all")
    option("--buffer", type=float, metavar="M", help="margin around the bounds, metres")


def run(arguments: Namespace) -> int:
    return _inspect(arguments) if arguments.verb == "inspect" else _convert(arguments)


class _VerbParser(Parser):
    """A parser for ``inspect`` or ``convert``."""

    def __init__(self, **how: Any) -> None:
        super().__init__(how.pop("prog"), how.pop("description", ""), **how)


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _convert(arguments: Namespace) -> int:
    from stvla_ros.policy.checkpoint.released import as_policy_file, open_released, reading_as

    output: Path = arguments.output
    if output.suffix != ".safetensors":
        raise ConfigError(f"OUT: '{output}' should end in .safetensors.")
    if output.exists():
        raise ConfigError(f"OUT: {output} exists already: choose another name, or delete it.")
    released = open_released(arguments.file, average=arguments.ema)
    policy = as_policy_file(released, reading_as(released, arguments.published, _given(arguments)))
    policy.save(output)
    n = policy.network
    Console().print(
        f"{output}: {released.code}, {', '.join(policy.cameras)}, {n.denoiser} {n.steps}, quaternion {policy.quaternion}",
        soft_wrap=True,
        markup=False,
    )
    return 0


def _given(arguments: Namespace) -> Reading:
    """What the options say."""
    from stvla_ros.policy.checkpoint.bounds import read_bounds
    from stvla_ros.policy.checkpoint.reading import Reading

    if (arguments.bounds is None) != (arguments.task is None):
        raise ConfigError("--bounds and --task go together: a file, and the training's single task or 'all'.")
    bounds = None
    if arguments.bounds is not None:
        low, high = (tuple(map(float, corner)) for corner in read_bounds(arguments.bounds, arguments.task))
        bounds = (low, high)
    same = ("cameras", "image_px", "heads", "subsample_factor", "denoiser", "steps", "hands", "quaternion", "frame")
    given = {name: getattr(arguments, name) for name in same}
    return Reading(**given, bounds_m=bounds, buffer_m=arguments.buffer)  # type: ignore[arg-type]


def _inspect(arguments: Namespace) -> int:
    from stvla_ros.policy.checkpoint.inspection import inspect

    found = inspect(arguments.file)
    if arguments.json:
        print(json.dumps(found.as_json()))
        return 0
    console = Console()
    console.print(_table(found))
    if found.needs:
        console.print(
            f"To use it: stvla policy convert {found.file} OUT.safetensors {_how(found)}", soft_wrap=True, markup=False
        )
    return 0


def _how(found: Inspection) -> str:
    options = "\n  ".join(found.needs)
    published = (
        f"--as {' or '.join(found.presets)}, if it is that published file; else\n  " if found.presets else "\n  "
    )
    return published + options


def _table(found: Inspection) -> Table:
    table = Table(title=escape(found.file), show_header=False, title_justify="left")
    for name, value in found.as_json().items():
        if name not in ("file", "needs", "presets"):
            table.add_row(name.replace("_", " "), _shown(value))
    return table


def _shown(value: Any) -> str:
    if value is None:
        return UNKNOWN
    if isinstance(value, dict):
        return ", ".join(f"{key} {_shown(entry)}" for key, entry in value.items()) or "-"
    if isinstance(value, (list, tuple)):
        return escape(", ".join(map(str, value))) or "-"
    return f"{value:,}" if isinstance(value, int) and value > 9999 else escape(str(value)) or "-"
