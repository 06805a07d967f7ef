"""The result of one check, the same for every part of ``stvla doctor``."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any


class State(StrEnum):
    """How a check ended. Only :attr:`WRONG` makes the command fail."""

    OK = "ok"
    WARNING = "warning"
    WRONG = "wrong"
    UNSEEN = "unseen"


@dataclass(frozen=True)
class Finding:
    """The result of one check.

    Attributes:
        name: What was checked.
        state: How it ended.
        figure: What was found, with its number where there is one.
        remedy: What to do; empty when there is nothing to do.
        value: The number of ``figure``, for programs; None when it has none.
        unit: Unit of ``value``; empty for a count or a share of 1.
    """

    name: str
    state: State
    figure: str
    remedy: str = ""
    value: float | None = None
    unit: str = ""

    @property
    def sentence(self) -> str:
        """Figure and remedy in one line."""
        return f"{self.figure}; {self.remedy}." if self.remedy else self.figure

    def as_json(self) -> dict[str, Any]:
        """Plain values, under the names of the attributes."""
        return {**asdict(self), "state": str(self.state)}


def ok(name: str, figure: str, remedy: str = "", value: float | None = None, unit: str = "") -> Finding:
    """Nothing is wrong."""
    return Finding(name, State.OK, figure, remedy, value, unit)


def warning(name: str, figure: str, remedy: str, value: float | None = None, unit: str = "") -> Finding:
    """It works, but not as well as it should."""
    return Finding(name, State.WARNING, figure, remedy, value, unit)


def wrong(name: str, figure: str, remedy: str, value: float | None = None, unit: str = "") -> Finding:
    """It does not work."""
    return Finding(name, State.WRONG, figure, remedy, value, unit)


def unseen(name: str, figure: str, remedy: str = "") -> Finding:
    """It could not be looked at."""
    return Finding(name, State.UNSEEN, figure, remedy)


def told(name: str, sentence: str) -> Finding:
    """Wrong, as a part of the stack says it: the fault, then after a colon or in a second sentence what to do."""
    text = sentence.strip().rstrip(".")
    figure, mark, remedy = max((text.rpartition(mark) for mark in (": ", ". ")), key=lambda parts: len(parts[0]))
    return wrong(name, figure, remedy[:1].lower() + remedy[1:]) if mark else wrong(name, text, "")


def good(findings: Iterable[Finding]) -> bool:
    """Whether none is wrong."""
    return all(finding.state is not State.WRONG for finding in findings)
