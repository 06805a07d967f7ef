"""The figures of all answers as a table and as JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
from rich.table import Table

from stvla_ros.errors import OutcomeCode, StageError
from stvla_ros.evaluate.planner.question import Question
from stvla_ros.evaluate.planner.run import Reply
from stvla_ros.evaluate.planner.scoring import Judge

PERCENT = ("rate", "accuracy", "f1", "rouge_l", "bert_score", "answered")
"""Figures with these endings are fractions, shown in percent."""


@dataclass(frozen=True)
class Scored:
    """One answer with its figures.

    Attributes:
        question: What was asked.
        reply: What was answered.
        figures: Name -> value; of an answer that cannot be parsed, see :meth:`Judge.worst`.
        readable: It could be parsed.
    """

    question: Question
    reply: Reply
    figures: Mapping[str, float]
    readable: bool


@dataclass(frozen=True)
class GroupReport:
    """One row of the table.

    Attributes:
        group: Its name.
        asked: Questions.
        unreadable: Answers that could not be parsed, including refusals and late answers. Rates count them as wrong;
            errors (distances) leave them out.
        figures: Name -> mean over the questions; ``hit_rate_pooled`` is over all points of all answers.
        seconds: Median time of an answer.
    """

    group: str
    asked: int
    unreadable: int
    figures: dict[str, float]
    seconds: float


def scored(questions: Sequence[Question], replies: Mapping[str, Reply], judge: Judge) -> list[Scored]:
    """Figures of all questions that have a reply."""
    return [_score(q, replies[q.id], judge) for q in questions if q.id in replies]


def _score(question: Question, reply: Reply, judge: Judge) -> Scored:
    try:
        if reply.code == "OK":
            return Scored(question, reply, judge.figures(question.truth, reply.text, reply.size_px), True)
        if reply.code == OutcomeCode.GOAL_NOT_GROUNDED.name and (found := judge.refused(question.truth)):
            return Scored(question, reply, found, True)
    except StageError:
        pass
    return Scored(question, reply, judge.worst(question.truth), False)


def report(results: Sequence[Scored]) -> list[GroupReport]:
    """Rows by group, in the order in which they first appear."""
    groups = dict.fromkeys(result.question.group for result in results)
    return [_row(group, [r for r in results if r.question.group == group]) for group in groups]


def _row(group: str, results: Sequence[Scored]) -> GroupReport:
    figures = mean_figures(results)
    points = sum(r.figures.get("points", 0.0) for r in results)
    if points:
        figures["hit_rate_pooled"] = sum(r.figures.get("hits", 0.0) for r in results) / points
        figures["any_hit_rate_pooled"] = sum(r.figures.get("any_hits", 0.0) for r in results) / points
    if "distance" in figures:
        figures["median_distance"] = float(
            np.median([r.figures["distance"] for r in results if "distance" in r.figures])
        )
    unreadable = sum(not r.readable for r in results)
    return GroupReport(group, len(results), unreadable, figures, float(np.median([r.reply.seconds for r in results])))


def mean_figures(results: Sequence[Scored]) -> dict[str, float]:
    """Mean of every figure over the answers that have it; without the counts of points."""
    names = dict.fromkeys(name for r in results for name in r.figures if name not in ("hits", "points", "any_hits"))
    return {name: float(np.mean([r.figures[name] for r in results if name in r.figures])) for name in names}


def to_json(rows: Sequence[GroupReport], results: Sequence[Scored]) -> dict[str, object]:
    """Plain values for a file: rows, and every answer with its figures."""
    answers = [
        {
            "id": r.question.id,
            "group": r.question.group,
            "reply": r.reply.text,
            "code": r.reply.code,
            "readable": r.readable,
            "figures": dict(r.figures),
            "seconds": r.reply.seconds,
        }
        for r in results
    ]
    return {"groups": [asdict(row) for row in rows], "answers": answers}


def table(rows: Sequence[GroupReport], title: str) -> Table:
    """The figures, one line per group and figure, so that 80 columns are always enough."""
    result = Table(title=title, title_justify="left", box=None, padding=(0, 2, 0, 0))
    result.add_column("group", no_wrap=True)
    for name in ("asked", "unread", "figure", "value", "median s"):
        result.add_column(name, justify="left" if name == "figure" else "right", no_wrap=True)
    for row in rows:
        head = [row.group, str(row.asked), str(row.unreadable)]
        for name, value in row.figures.items() or {"": float("nan")}.items():
            result.add_row(*head, name, shown(name, value), f"{row.seconds:.2f}" if head[0] else "")
            head = ["", "", ""]
    return result


def shown(name: str, value: float) -> str:
    """A figure as text: fractions in percent, a dash for NaN."""
    if value != value:
        return "–"
    return f"{100 * value:.1f} %" if name.removesuffix("_pooled").endswith(PERCENT) else f"{value:.2f}"


def mean(results: Sequence[Scored], figure: str) -> float:
    """Mean of a figure over the answers that have it; NaN if none has."""
    values = [r.figures[figure] for r in results if figure in r.figures]
    return float(np.mean(values)) if values else float("nan")


def tagged(results: Sequence[Scored], tag: str, *values: str) -> list[Scored]:
    """The answers whose question has one of these values of a tag."""
    return [r for r in results if r.question.tags.get(tag) in values]


def accuracy(results: Sequence[Scored], compat: str) -> Mapping[str, float]:
    """Over all questions: strictly parsed, or (``embodied-r1``) with the letter anywhere in the answer."""
    return {"accuracy": mean(results, "loose_accuracy" if compat == "embodied-r1" else "accuracy")}
