"""A golden file: the decisions on one recording, to be found again by every later version.

It is JSON with one decision per line in canonical form, so that a change of it can be read in a diff.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from stvla_ros.config import ConfigError
from stvla_ros.files import read_json, written
from stvla_ros.replay.canonical import ANGLE_RAD, DRAWN, LENGTH_M, Form, apart, canonical, hash_of
from stvla_ros.replay.running import Setup
from stvla_ros.replay.values import RecordedTask, Replay

FORMAT = "stvla golden 1"


@dataclass(frozen=True)
class Verdict:
    """How a replay compares with a golden file.

    Attributes:
        same: The decisions are the golden ones.
        sentence: For people: what is equal and how well, or where the two first part.
    """

    same: bool
    sentence: str


def write_golden(path: Path, task: RecordedTask, setup: Setup, made: Replay) -> None:
    """Write a golden file. Raises ConfigError when it cannot be written."""
    head = {
        "format": FORMAT,
        "recording": task.name,
        "mode": str(setup.mode),
        "frames": setup.frames,
        "hash": made.hash,
    }
    steps = [json.dumps({"step": d.number, **canonical(d)}, separators=(",", ":")) for d in made.decisions]
    lines = [f' "{name}": {json.dumps(value)},' for name, value in head.items()]
    text = "\n".join(["{", *lines, ' "decisions": [', ",\n".join(f"  {step}" for step in steps), " ]", "}"])
    with written(path) as part:
        part.write_text(text + "\n")


def check_golden(path: Path, task: RecordedTask, setup: Setup, made: Replay) -> Verdict:
    """Compare a replay with a golden file.

    The hash decides. If it differs, the decisions are compared one by one, up to one step of rounding
    (:func:`stvla_ros.replay.canonical.alike`), so that another processor's last bits fail no test.

    Raises:
        ConfigError: It is no golden file, is damaged, or was made in another mode.
    """
    content = _read(path)
    for name, now in (("mode", str(setup.mode)), ("frames", setup.frames)):
        if content.get(name) != now:
            raise ConfigError(f"{path}: it was made with {name} '{content.get(name)}', this replay with '{now}'.")
    if content["hash"] == made.hash:
        return Verdict(True, f"All {len(made.decisions)} decisions are the golden ones.")
    golden = {form.pop("step"): form for form in content["decisions"]}
    now_forms = {d.number: canonical(d) for d in made.decisions}
    for number in sorted({*golden, *now_forms}):
        if said := _said(golden.get(number), now_forms.get(number)):
            return Verdict(False, f"{_where(task, number)}: {said}.")
    return Verdict(
        True, f"All {len(now_forms)} decisions are the golden ones, up to rounding: the hash is {made.hash}."
    )


def _read(path: Path) -> dict[str, Any]:
    content = read_json(path)
    wanted = isinstance(content, dict) and content.get("format") == FORMAT
    if not wanted or not isinstance(content.get("decisions"), list):
        raise ConfigError(f"{path}: wanted a golden file of stvla replay, found another JSON file.")
    decisions = content["decisions"]
    if not all(isinstance(form, dict) and isinstance(form.get("step"), int) for form in decisions):
        raise ConfigError(f"{path}: a decision in it has no number: write the file again.")
    forms = [{k: v for k, v in form.items() if k != "step"} for form in decisions]
    if hash_of(forms) != content.get("hash"):
        raise ConfigError(f"{path}: its hash does not fit its decisions: it was edited; write it again.")
    return content


def _where(task: RecordedTask, number: int) -> str:
    start_ns = next((m.image_stamp_ns for m in task.moments if m.image_stamp_ns), 0)
    moment = next((m for m in task.moments if m.number == number), None)
    if moment is None:
        return f"Step {number}"
    return f"Step {number} ({moment.kind}, {(moment.image_stamp_ns - start_ns) / 1e9:.2f} s)"


def _said(golden: Form | None, now: Form | None) -> str:
    """How a decision differs from the golden one; empty if it does not."""
    if golden is None or now is None:
        return "it is new" if golden is None else "it is missing"
    return "; ".join(_part(golden, now, name) for name in apart(golden, now))


_UNITS = {
    "position": (1e3 * LENGTH_M, "mm"),
    "points": (1e3 * LENGTH_M, "mm"),
    "ends": (1e3 * LENGTH_M, "mm"),
    "start": (1e3 * LENGTH_M, "mm"),
    "offsets": (1e3 * LENGTH_M, "mm"),
    "progress": (1e3 * LENGTH_M, "mm"),
    "drawn": (DRAWN, "of 1000"),
    "rotation": (float(np.degrees(ANGLE_RAD)), "deg"),
}
"""Part of a form -> one step of its numbers, and the unit."""


def _part(golden: Form, now: Form, name: str) -> str:
    a, b = _at(golden, name), _at(now, name)
    key = name.rpartition(".")[2]
    if key in _UNITS:
        p, q = (np.ravel(np.array(v, dtype=np.float64)) if isinstance(v, list) else np.empty(0) for v in (a, b))
        if len(p) == len(q) and len(p):
            step, unit = _UNITS[key]
            size = np.linalg.norm(p - q) if key == "position" else np.nanmax(np.abs(p - q))
            return f"{name} is {step * float(size):.1f} {unit} off"
    if isinstance(a, (str, int)) and isinstance(b, (str, int)):
        return f"{name} is {json.dumps(b)} instead of {json.dumps(a)}"
    return f"{name} differs"


def _at(form: Mapping[str, Any], name: str) -> Any:
    for key in name.split("."):
        form = form.get(key, {}) if isinstance(form, Mapping) else {}
    return form
