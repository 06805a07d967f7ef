"""One replay from its settings to its files: decisions with a hash, the comparison, ``replay.json``."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from stvla_ros.config import ConfigError
from stvla_ros.evaluate.stack import StackSettings
from stvla_ros.files import read_json, written
from stvla_ros.replay.canonical import canonical, decision_hash
from stvla_ros.replay.comparing import compare
from stvla_ros.replay.deciding import StageSet, decide, make_stages, repeatable
from stvla_ros.replay.values import Comparison, Decision, Difference, Kind, Mode, RecordedTask, Replay

FORMAT = "stvla replay 1"

Follow = Callable[[Iterable[Decision], int], Iterable[Decision]]
"""Iterates over decisions, given the number of moments, e.g. with a progress bar."""


@dataclass(frozen=True)
class Setup:
    """What one replay is made with.

    Attributes:
        name: For people.
        settings: Of the stages.
        recorded_plans: Use the plans of the recording instead of a planner.
        mode: What the stages are given.
        every_frame: Guide every frame again, not only those that keyposes need.
    """

    name: str
    settings: StackSettings
    recorded_plans: bool = False
    mode: Mode = Mode.TEACHER_FORCED
    every_frame: bool = False

    @property
    def frames(self) -> str:
        """Which frames are guided again."""
        return "every" if self.every_frame else "keyposes"


def replay(
    task: RecordedTask,
    setup: Setup,
    follow: Follow = lambda decisions, _: decisions,
    stages: StageSet | None = None,
) -> Replay:
    """Decide again on a recording.

    Args:
        task: The recording.
        setup: Settings and mode.
        follow: Iterates over the decisions.
        stages: In place of those that the settings name; new ones.

    Raises:
        ConfigError: A backend cannot be made.
    """
    stages = stages or make_stages(setup.settings, setup.recorded_plans)
    start = time.process_time()
    decisions = tuple(follow(decide(task, stages, setup.mode, setup.every_frame), len(task.moments)))
    cpu_s = time.process_time() - start
    notes = ["The recorded plans were used."] * setup.recorded_plans
    if not setup.every_frame and any(m.kind is Kind.GUIDE for m in task.moments):
        guided = sum(d.kind is Kind.GUIDE for d in decisions)
        total = sum(m.kind is Kind.GUIDE for m in task.moments)
        if guided < total:
            notes.append(f"{guided} of {total} guided frames were decided again: those that keyposes were made of.")
    return Replay(setup.name, setup.mode, decisions, decision_hash(decisions), cpu_s, tuple(notes))


def recorded(task: RecordedTask) -> list[Decision]:
    """What the stages answered in the recording, where they can answer again."""
    return [m.recorded for m in task.moments if m.recorded is not None and repeatable(m)]


def against_recorded(task: RecordedTask, made: Replay, every_frame: bool) -> Comparison:
    """A replay compared with the recording; masks count as equal if alike when not every frame was guided again."""
    return compare(task.moments, recorded(task), made.decisions, ("recorded", made.name), masks_alike=not every_frame)


def write_json(path: Path, task: RecordedTask, made: Iterable[Replay], comparison: Comparison, **more: Any) -> None:
    """Write ``replay.json``; NaN becomes null. Raises ConfigError when there is no room for it.

    Args:
        path: Of the file, which appears when it is complete.
        task: The recording.
        made: One replay, or two.
        comparison: Of it with the recording, or of the two.
        more: Further entries.
    """
    content = {
        "format": FORMAT,
        "recording": task.name,
        "instruction": task.instruction,
        "seconds": task.seconds,
        "headline": comparison.headline,
        "names": list(comparison.names),
        "hashes": list(comparison.hashes),
        **more,
        "versions": dict(task.versions),
        "notes": list(task.notes),
        "differences": [_plain(asdict(d)) for d in comparison.differences],
        "replays": [_replay(r) for r in made],
    }
    with written(path) as part:
        part.write_text(json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def _replay(made: Replay) -> dict[str, Any]:
    return {
        "name": made.name,
        "mode": str(made.mode),
        "hash": made.hash,
        "cpu_s": made.cpu_s,
        "notes": list(made.notes),
        "decisions": [
            {"number": d.number, "seconds": _plain(d.seconds), "sentence": d.outcome.sentence, **canonical(d)}
            for d in made.decisions
        ],
    }


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(v) for key, v in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value


def read_comparison(content: Mapping[str, Any]) -> Comparison:
    """The comparison in the content of a ``replay.json``. Raises ConfigError for another file."""
    try:
        differences = tuple(_difference(values) for values in content["differences"])
        a, b = content["names"]
        first, second = content["hashes"]
        return Comparison((a, b), (first, second), differences, content["headline"])
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigError("wanted the result of a replay, found another JSON file.") from error


def _difference(values: Mapping[str, Any]) -> Difference:
    names = {f.name for f in fields(Difference)}
    known: dict[str, Any] = {key: math.nan if value is None else value for key, value in values.items() if key in names}
    return replace(Difference(**known), kind=Kind(known["kind"]))


def read_result(path: Path) -> dict[str, Any] | None:
    """The content of a ``replay.json``; None when it is missing or not one."""
    if not path.is_file():
        return None
    try:
        content = read_json(path)
    except ConfigError:
        return None
    return content if isinstance(content, dict) and content.get("format") == FORMAT else None
