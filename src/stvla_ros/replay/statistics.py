"""Paired statistics of two sets of settings over many recordings: both decided on every one of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isfinite, nan
from statistics import median
from typing import Any

from scipy.stats import wilcoxon

from stvla_ros.replay.values import Comparison, Kind, Replay

LEAST_PAIRS = 6
"""With fewer unequal pairs Wilcoxon's test cannot find anything below 5 % (2 / 2 ** 5 is 6 %)."""

HEAD = ("from the recorded", "A", "B", "B - A", "A lower", "B lower", "equal", "p")

NAMES = {
    "keypose_mm": "keypose off, mm",
    "keypose_deg": "keypose off, °",
    "path_mm": "path RMSE, mm",
    "mask_iou": "mask IoU",
    "differ": "decisions that differ",
    "failed": "no answer",
    "cpu_s": "cpu time, s",
}
"""Figure of one replay -> its name in tables. All but the last two are from the recorded decisions; those with a unit of
length or angle, and of masks, are medians over the recording."""


def figures(comparison: Comparison, made: Replay) -> dict[str, float | None]:
    """Figures of one replay, from its comparison with the recording; None: does not apply."""
    of = comparison.differences
    values = {
        "keypose_mm": _median([d.position_mm for d in of if d.kind is Kind.PREDICT]),
        "keypose_deg": _median([d.rotation_deg for d in of if d.kind is Kind.PREDICT]),
        "path_mm": _median([d.path_rmse_mm for d in of if d.kind is Kind.PLAN]),
        "mask_iou": _median([d.mask_iou for d in of if d.kind is Kind.GUIDE]),
        "differ": float(sum(not d.equal for d in of)),
        "failed": float(sum(not d.outcome.ok for d in made.decisions)),
        "cpu_s": made.cpu_s,
    }
    return {name: value if isfinite(value) else None for name, value in values.items()}


def _median(values: Sequence[float]) -> float:
    known = [value for value in values if isfinite(value)]
    return median(known) if known else nan


def paired(rows: Sequence[tuple[Mapping[str, Any], Mapping[str, Any]]]) -> list[list[str]]:
    """A line of heads, then one line per figure.

    Args:
        rows: Per recording the :func:`figures` of A and of B.

    Returns:
        Medians over the recordings of A, of B and of the difference, how often each is lower, and the two-sided p of
        Wilcoxon's signed-rank test over the recordings.
    """
    lines = [list(HEAD)]
    for key, name in NAMES.items():
        pairs = [(a[key], b[key]) for a, b in rows if a.get(key) is not None and b.get(key) is not None]
        if pairs:
            lines.append([name, *_line([(float(a), float(b)) for a, b in pairs])])
    return lines


def _line(pairs: Sequence[tuple[float, float]]) -> list[str]:
    off = [b - a for a, b in pairs]
    unequal = [d for d in off if d != 0]
    p = f"{wilcoxon(unequal).pvalue:.3f}" if len(unequal) >= LEAST_PAIRS else "–"
    values = [median(a for a, _ in pairs), median(b for _, b in pairs), median(off)]
    counts = [sum(d > 0 for d in off), sum(d < 0 for d in off), sum(d == 0 for d in off)]
    return [f"{values[0]:.3g}", f"{values[1]:.3g}", f"{values[2]:+.3g}", *map(str, counts), p]
