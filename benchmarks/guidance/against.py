"""Two runs on the same scenes, figure by figure: what changed, and what got worse."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

HIGH = ("f1", "precision", "recall", "iou", "kept", "found_percent", "distractors_removed", "hz")
"""Figures of which more is better, by a part of their name."""

LOW = (
    "wrong", "_mm", "rgb", "jump", "ms", "missed", "missing", "share", "percent", "spectrum", "gradients", "ghost",
    "false", "split", "merged", "cut", "turned", "lost", "late", "refused", "filled", "telea", "new_after",
)  # fmt: skip
"""Figures of which less is better; those of neither list only count something."""

TIMES = ("ms", "hz", "times_telea", "exponent_pixels", "exponent_objects", "cost_ms")
NOT_OURS = ("truth", "zeros", "rows", "telea", "navier-stokes", "biharmonic", "Telea", "Navier-Stokes", "warm-up")
PLACES = (
    "true_frame_percent",
    "sometimes_replaced_share",
    "unmasked_rgb",
    "unmasked_depth_mm",
    "f1_beyond_mm_from_tube",
)
"""Figures of the scenes, or of another cut through those above."""

SETTINGS = ("scenes", "noise", "seed")
EXACT, TIMED = 0.005, 0.10
"""Smaller relative changes are not worth a line: the scenes are the same, but CPU times scatter."""


def compare(before: dict[str, Any], after: dict[str, Any]) -> dict[str, list[tuple[str, float, float]]]:
    """Figures that got ``better`` and ``worse``, as name, before and after; the largest relative change first.

    Raises:
        ValueError: The runs are of other scenes.
    """
    pairs = {name: (before.get(name), after.get(name)) for name in SETTINGS}
    pairs |= {
        name: (count, after.get("counts", {}).get(name, count)) for name, count in before.get("counts", {}).items()
    }
    for name, (old, new) in pairs.items():
        if old != new:
            raise ValueError(f"The runs do not pair: {name} was {old}, now {new}.")
    was, now = dict(figures(before)), dict(figures(after))
    out: dict[str, list[tuple[str, float, float]]] = {"better": [], "worse": []}
    for path in (p for p in was if p in now):
        change = _gain(path, was[path], now[path])
        if abs(change) > (TIMED if any(part in TIMES for part in path) else EXACT):
            out["better" if change > 0 else "worse"].append((" / ".join(path), was[path], now[path]))
    return {name: sorted(rows, key=lambda r: -_relative(r[1], r[2])) for name, rows in out.items()}


def figures(tree: dict[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], float]]:
    """Every number of a run that has a better and a worse, with the names that lead to it."""
    for name, value in tree.items():
        if name in NOT_OURS or name in PLACES or (not path and name in (*SETTINGS, "counts", "load")):
            continue
        if isinstance(value, dict):
            yield from figures(value, (*path, name))
        elif isinstance(value, int | float) and _sign((*path, name)):
            yield (*path, name), float(value)


def _sign(path: tuple[str, ...]) -> int:
    """1 where more is better, -1 where less is, 0 for mere counts; the last telling name decides."""
    for name in reversed(path):
        if name in ("objects", "things", "frames", "instances", "asked", "ids"):
            return 0
        if any(part in name for part in HIGH):
            return 1
        if any(part in name for part in LOW) or name == "grain_ratio":
            return -1
    return 0


def _gain(path: tuple[str, ...], before: float, after: float) -> float:
    """Relative change to the better; a ratio of grain is better the nearer to 1."""
    if path[-1] == "grain_ratio":
        before, after = abs(before - 1), abs(after - 1)
    return _relative(before, after) * _sign(path) * (1 if after > before else -1)


def _relative(before: float, after: float) -> float:
    return abs(after - before) / max(abs(before), abs(after), 1e-3)


def show(console: Console, file: Path, results: dict[str, Any]) -> dict[str, Any]:
    """Print the changes since the run whose last line is in a file; returns them."""
    changes = compare(json.loads(file.read_text().splitlines()[-1]), results)
    for name, rows in changes.items():
        table = Table("figure", "before", "after", title=f"{len(rows)} figures got {name}")
        for figure, before, after in rows:
            table.add_row(figure, f"{before:.4g}", f"{after:.4g}")
        console.print(table)
    return changes
