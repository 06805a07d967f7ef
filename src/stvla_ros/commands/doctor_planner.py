"""``stvla doctor planner``: asks a planner for what is in a known image, and says how its answers are off."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from stvla_ros.commands.exit_codes import NOT_CONFIRMED, of_outcome
from stvla_ros.errors import StageError

if TYPE_CHECKING:
    from stvla_ros.evaluate.grounding import Grounding

PICTURE = Path("runs/doctor-planner.png")


def run(arguments: Namespace) -> int:
    """0: it points at things and draws a path between them; 4: it does not; 20 + n: no answer at all."""
    from stvla_ros.evaluate.grounding import look
    from stvla_ros.evaluate.stack import make_planner, read_settings
    from stvla_ros.record.grounding_view import picture
    from stvla_ros.sim.cell import Cell

    settings = read_settings(arguments.params, {"planner": arguments.planner}, dict(arguments.overrides), ("planner",))
    name, section = settings.backends["planner"], settings.sections["planner"]
    console, cell = Console(highlight=False), Cell()
    try:
        planner = make_planner(settings, cell)
        convention = section.get("coordinates", "norm1000")
        with console.status(f"asking {name}"):
            found = look(planner, cell, convention, arguments.seed)
    except StageError as error:
        console.print(f"[red]no answer[/] from planner {name}: {escape(str(error))}", soft_wrap=True)
        return of_outcome(error.code)
    finally:
        cell.close()
    _show(console, found)
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(arguments.output), picture(found)[..., ::-1])
    console.print(f"{arguments.output}: green where things are, red where the planner points", soft_wrap=True)
    return 0 if found.verdict.good and found.path_hit else NOT_CONFIRMED


def _show(console: Console, found: Grounding) -> None:
    table = Table(box=None, padding=(0, 2, 0, 0))
    for heading in ("thing", "expected", "answered", "off /1000", ""):
        table.add_column(heading)
    for answer in found.answers:
        expected = answer.target.uv
        given = "" if answer.numbers is None else "({:.4g}, {:.4g})".format(*answer.numbers)
        off = "" if answer.uv is None else "({:+.0f}, {:+.0f})".format(*(answer.uv - expected))
        mark = "[green]hit[/]" if answer.hit else f"[red]missed[/] {escape(answer.said[:60]) if not given else ''}"
        table.add_row(answer.target.name, "({:.0f}, {:.0f})".format(*expected), given, off, mark)
    console.print(table)
    good, path = found.verdict.good, found.path_hit
    console.print(f"[{'green' if good else 'red'}]pointing[/]: {escape(found.verdict.sentence)}", soft_wrap=True)
    console.print(f"[{'green' if path else 'red'}]path[/]: {escape(found.path_said)}", soft_wrap=True)
