"""Trials on disk: one line of JSON each, appended when they end, so that an interrupted run can be resumed."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.chaos.faults import Fault, Trial

TRIALS, SETTINGS = "trials.jsonl", "settings.json"


def begin(folder: Path, wanted: dict[str, Any], resume: bool) -> list[Trial]:
    """Create or reopen the folder of a run; returns its trials.

    Raises:
        ValueError: It holds a run already and ``resume`` is not set, or one with other settings.
    """
    file = folder / SETTINGS
    if file.exists():
        if not resume:
            raise ValueError(f"{folder} holds a run already: give --resume to continue it, or another --output.")
        before = settings(folder)
        if before != wanted:
            raise ValueError(f"{folder} holds a run with {before}, not with {wanted}: give another --output.")
        return load(folder)
    folder.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(wanted) + "\n")
    return []


def settings(folder: Path) -> dict[str, Any]:
    """Those of a run."""
    return dict(json.loads((folder / SETTINGS).read_text()))


def append(folder: Path, trial: Trial) -> None:
    """Add a trial."""
    with (folder / TRIALS).open("a") as file:
        file.write(json.dumps({**asdict(trial), "wrong": trial.wrong()}) + "\n")


def load(folder: Path) -> list[Trial]:
    """The trials of a run. A last line that an interruption cut off is ignored and removed.

    Raises:
        ValueError: Another line cannot be read.
    """
    file = folder / TRIALS
    if not file.exists():
        return []
    *whole, rest = file.read_text().split("\n")
    if rest:
        file.write_text("".join(line + "\n" for line in whole))
    return [_trial(json.loads(line)) for line in whole]


def _trial(values: dict[str, Any]) -> Trial:
    values.pop("wrong")
    unprovoked = tuple(values.pop("unprovoked"))
    return Trial(**{**values, "fault": Fault(**values["fault"])}, unprovoked=unprovoked)
