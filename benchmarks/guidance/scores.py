"""Precision, recall and F1 of decisions, for both classes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Verdict:
    """One object in one frame.

    Attributes:
        group: Values of the frame by name (task, noise, size, ...).
        object: Its name.
        asked: The task is about it.
        relevant: True answer: it must stay.
        kept: What was decided.
        distance_m: True distance from the way.
        cause: Why a wrong decision was wrong; empty for right ones.
    """

    group: dict[str, Any]
    object: str
    asked: bool
    relevant: bool
    kept: bool
    distance_m: float
    cause: str = ""

    @property
    def right(self) -> bool:
        return self.relevant == self.kept


SHORT = ("f1", "kept_f1", "removed_f1", "objects", "wrong")


def f1_scores(verdicts: Sequence[Verdict]) -> dict[str, float]:
    """Both classes; ``f1`` is the smaller of the two."""
    both = sum(v.relevant and v.kept for v in verdicts)
    neither = sum(not v.relevant and not v.kept for v in verdicts)
    kept_wrongly = sum(not v.relevant and v.kept for v in verdicts)
    lost = sum(v.relevant and not v.kept for v in verdicts)
    kept, removed = _class(both, kept_wrongly, lost), _class(neither, lost, kept_wrongly)
    out = {f"kept_{k}": v for k, v in kept.items()} | {f"removed_{k}": v for k, v in removed.items()}
    return {"f1": min(kept["f1"], removed["f1"]), **out, "objects": len(verdicts), "wrong": kept_wrongly + lost}


def _class(hits: int, false: int, missed: int) -> dict[str, float]:
    precision = hits / (hits + false) if hits + false else 1.0
    recall = hits / (hits + missed) if hits + missed else 1.0
    f1 = 2 * hits / (2 * hits + false + missed) if hits + false + missed else 1.0
    return {"precision": round(precision, 4), "recall": round(recall, 4), "f1": round(f1, 4)}


def task_scores(verdicts: Sequence[Verdict], radius_m: float) -> dict[str, float]:
    """The simpler truth: the task's objects stay, what is farther than the radius from the path goes."""
    asked = [v for v in verdicts if v.asked]
    others = [v for v in verdicts if not v.asked and v.distance_m > radius_m]
    return {
        "asked_kept": round(_share(v.kept for v in asked), 4),
        "distractors_removed": round(_share(not v.kept for v in others), 4),
        "asked": len(asked),
        "distractors": len(others),
    }


def _share(values: Iterable[bool]) -> float:
    values = list(values)
    return sum(values) / len(values) if values else 1.0


def breakdown(verdicts: Sequence[Verdict], names: Sequence[str]) -> dict[str, dict[str, dict[str, float]]]:
    """F1 scores per value of each group name."""
    out: dict[str, dict[str, dict[str, float]]] = {}
    for name in names:
        values = sorted({str(v.group[name]) for v in verdicts})
        scores = {value: f1_scores([v for v in verdicts if str(v.group[name]) == value]) for value in values}
        out[name] = {value: {k: found[k] for k in SHORT} for value, found in scores.items()}
    return out


def margins(
    verdicts: Sequence[Verdict], radius_m: float, limits_m: Sequence[float] = (0.0, 0.005, 0.01)
) -> dict[str, float]:
    """The smaller F1 over objects at least so far from the tube's surface, by millimetres."""
    return {
        f"{1000 * limit:.0f}": f1_scores([v for v in verdicts if abs(v.distance_m - radius_m) >= limit])["f1"]
        for limit in limits_m
    }


def counts(values: Iterable[str], key: Callable[[str], str] = str) -> dict[str, int]:
    """How often each value occurs, most frequent first."""
    found: dict[str, int] = {}
    for value in values:
        found[key(value)] = found.get(key(value), 0) + 1
    return dict(sorted(found.items(), key=lambda item: -item[1]))
