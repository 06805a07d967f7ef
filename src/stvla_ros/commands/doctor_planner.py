"""``stvla doctor planner``: asks a planner for the objects in a known image, and says how its answers are wrong."""

from __future__ import annotations

import time
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
from rich.console import Console

from stvla_ros.commands import doctor_report
from stvla_ros.commands.exit_codes import NOT_CONFIRMED, of_outcome
from stvla_ros.doctor.finding import Finding, ok, told, warning, wrong
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
    console, cell = Console(highlight=False, quiet=arguments.json), Cell()
    try:
        planner = make_planner(settings, cell)
        convention = section.get("coordinates", "norm1000")
        start = time.perf_counter()
        with console.status(f"asking {name}"):
            found = check_grounding(planner, cell, convention, arguments.seed)
    except StageError as error:
        silent = [wrong(f"Planner {name}", f"no answer: {error}", "docs/troubleshooting.md explains the sentence")]
        doctor_report.show("planner", silent, arguments.json, console)
        return of_outcome(error.code)
    finally:
        cell.close()
    doctor_report.show("planner", _findings(found, time.perf_counter() - start), arguments.json, console)
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(arguments.output), picture(found)[..., ::-1])
    console.print(f"{arguments.output}: objects in green, the planner's points in red", soft_wrap=True)
    return 0 if found.diagnosis.good and found.path_hit else NOT_CONFIRMED


def _findings(found: Grounding, seconds: float) -> Iterator[Finding]:
    """One for each object, then those of the whole."""
    yield from map(_pointed, found.answers)
    good, path = found.diagnosis.good, found.path_hit
    yield ok("Pointing", found.diagnosis.sentence) if good else told("Pointing", found.diagnosis.sentence)
    yield ok("Path", found.path_said) if path else told("Path", found.path_said)
    each = seconds / (len(found.answers) + 1)
    yield ok("Time", f"{each:.2f} s for each of {len(found.answers) + 1} questions", value=each, unit="s")


def _pointed(answer: Answer) -> Finding:
    """A miss alone is a warning: the verdict is that of the pointing as a whole."""
    name, expected = answer.target.name, answer.target.uv
    figure = "expected ({:.0f}, {:.0f})".format(*expected)
    if answer.numbers is None or answer.uv is None:
        return warning(name, f"{figure}, answered '{answer.said[:60]}'", "no point can be read from that")
    figure += ", answered ({:.4g}, {:.4g})".format(*answer.numbers)
    figure += ", off by ({:+.0f}, {:+.0f}) of 1000".format(*(answer.uv - expected))
    off = float(np.abs(answer.uv - expected).max())
    return ok(name, f"{figure}: hit", value=off) if answer.hit else warning(name, figure, "missed", off)


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
