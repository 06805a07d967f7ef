"""Sums that several sets share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from stvla_ros.evaluate.planner.report import Scored


def mean(results: Sequence[Scored], figure: str) -> float:
    """Mean of a figure over the answers that have it; NaN where none has."""
    values = [r.figures[figure] for r in results if figure in r.figures]
    return float(np.mean(values)) if values else float("nan")


def tagged(results: Sequence[Scored], tag: str, *values: str) -> list[Scored]:
    """The answers whose question has one of these values."""
    return [r for r in results if r.question.tags.get(tag) in values]


def accuracy(results: Sequence[Scored], compat: str) -> Mapping[str, float]:
    """Over all questions: strictly read, or (``embodied-r1``) with the letter anywhere in the answer."""
    return {"accuracy": mean(results, "loose_accuracy" if compat == "embodied-r1" else "accuracy")}


def pooled(results: Sequence[Scored], hits: str) -> float:
    """Points inside over all points of all answers; 0 when there are none."""
    points = sum(r.figures.get("points", 0.0) for r in results)
    return sum(r.figures.get(hits, 0.0) for r in results) / points if points else 0.0


def hit_rate(results: Sequence[Scored], compat: str) -> Mapping[str, float]:
    """Mean over the questions; over all points with mask > 0 (``embodied-r1``); or with soft masks (``robopoint``)."""
    if compat == "embodied-r1":
        return {"hit_rate_pooled": pooled(results, "any_hits")}
    return {"hit_rate": mean(results, "soft_hit_rate" if compat == "robopoint" else "hit_rate")}
