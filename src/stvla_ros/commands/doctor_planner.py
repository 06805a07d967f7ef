"""``stvla doctor planner``: asks a planner for the objects in a known image, and says how its answers are wrong."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from stvla_ros.commands.exit_codes import NOT_CONFIRMED, of_outcome
from stvla_ros.errors import StageError
from stvla_ros.geometry.cameras import uv_to_px
from stvla_ros.types import F64, U8, Camera

if TYPE_CHECKING:
    from stvla_ros.evaluate.grounding import Answer, Grounding

PICTURE = Path("runs/doctor-planner.png")
EXPECTED, ANSWERED, PATH = (60, 220, 90), (235, 60, 50), (250, 200, 40)


def run(arguments: Namespace) -> int:
    """0: it points at the objects and draws a path between two; 4: it does not; 20 + n: it did not answer."""
    from stvla_ros.evaluate.grounding import check_grounding
    from stvla_ros.evaluate.stack import make_planner, read_settings
    from stvla_ros.sim.cell import Cell

    settings = read_settings(arguments.params, {"planner": arguments.planner}, dict(arguments.overrides), ("planner",))
    name, section = settings.backends["planner"], settings.sections["planner"]
    console, cell = Console(highlight=False), Cell()
    try:
        planner = make_planner(settings, cell)
        convention = section.get("coordinates", "norm1000")
        with console.status(f"asking {name}"):
            found = check_grounding(planner, cell, convention, arguments.seed)
    except StageError as error:
        console.print(f"[red]no answer[/] from planner {name}: {escape(str(error))}", soft_wrap=True)
        return of_outcome(error.code)
    finally:
        cell.close()
    _show(console, found)
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(arguments.output), picture(found)[..., ::-1])
    console.print(f"{arguments.output}: objects in green, the planner's points in red", soft_wrap=True)
    return 0 if found.diagnosis.good and found.path_hit else NOT_CONFIRMED


def _show(console: Console, found: Grounding) -> None:
    table = Table(box=None, padding=(0, 2, 0, 0))
    for heading in ("object", "expected", "answered", "off /1000", ""):
        table.add_column(heading)
    for answer in found.answers:
        expected = answer.target.uv
        given = "" if answer.numbers is None else "({:.4g}, {:.4g})".format(*answer.numbers)
        off = "" if answer.uv is None else "({:+.0f}, {:+.0f})".format(*(answer.uv - expected))
        mark = "[green]hit[/]" if answer.hit else f"[red]missed[/] {escape(answer.said[:60]) if not given else ''}"
        table.add_row(answer.target.name, "({:.0f}, {:.0f})".format(*expected), given, off, mark)
    console.print(table)
    good, path = found.diagnosis.good, found.path_hit
    console.print(f"[{'green' if good else 'red'}]pointing[/]: {escape(found.diagnosis.sentence)}", soft_wrap=True)
    console.print(f"[{'green' if path else 'red'}]path[/]: {escape(found.path_said)}", soft_wrap=True)


def picture(found: Grounding) -> U8:
    """The image with expected places (green), answers (red) and the path, below the diagnosis."""
    from stvla_ros.record.panels import strip

    camera, canvas = found.frame.camera, np.array(found.frame.rgb)
    for answer in found.answers:
        _mark(canvas, answer, camera)
    if found.path_uv is not None:
        points = np.rint(uv_to_px(found.path_uv, camera)).astype(np.int32)
        cv2.polylines(canvas, [points], False, PATH, 1, cv2.LINE_AA)
    return np.vstack([strip(found.diagnosis.sentence, canvas.shape[1]), canvas])


def _mark(canvas: U8, answer: Answer, camera: Camera) -> None:
    expected = _pixel(uv_to_px(answer.target.uv, camera))
    cv2.circle(canvas, expected, 5, EXPECTED, 1, cv2.LINE_AA)
    cv2.putText(canvas, answer.target.name, (expected[0] + 7, expected[1] - 5), 0, 0.36, EXPECTED, 1, cv2.LINE_AA)
    if answer.uv is None:
        return
    given = _pixel(uv_to_px(answer.uv, camera))
    cv2.line(canvas, expected, given, ANSWERED, 1, cv2.LINE_AA)
    cv2.drawMarker(canvas, given, ANSWERED, cv2.MARKER_TILTED_CROSS, 9, 2, cv2.LINE_AA)


def _pixel(px: F64) -> tuple[int, int]:
    x, y = np.clip(np.rint(px), -10_000, 10_000).astype(int)
    return int(x), int(y)
