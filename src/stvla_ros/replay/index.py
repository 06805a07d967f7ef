"""The report of a folder of recordings: one HTML page that links to the report of each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import nan
from pathlib import Path

from stvla_ros.replay.html import NUMBERS, cells, element, finite, joined, table, write_page
from stvla_ros.replay.values import Comparison


@dataclass(frozen=True)
class Row:
    """One recording of a folder report.

    Attributes:
        name: Of the recording.
        link: Its own report, relative to the index; empty: there is none.
        comparison: Of its decisions; None: it could not be replayed.
        problem: Why it could not be replayed.
    """

    name: str
    link: str
    comparison: Comparison | None = None
    problem: str = ""


def write_index(path: Path, headline: str, rows: Sequence[Row], statistics: Sequence[Sequence[object]] = ()) -> None:
    """Write the report of a folder of recordings: a table that links to the reports of each, worst first.

    Args:
        path: Of the HTML file.
        headline: The result in one sentence.
        rows: The recordings.
        statistics: Paired statistics over the recordings: a line of heads, then lines of cells; may be empty.

    Raises:
        ConfigError: The file cannot be written.
    """
    same = all(row.comparison is not None and row.comparison.first is None for row in rows)
    worst = sorted(rows, key=lambda row: -_severity(row))
    head = ("recording", "result", "decisions", "that differ", *(f"worst {name}" for name in NUMBERS))
    parts = [element("h1", headline, class_="same" if same else "parts")]
    if statistics:
        parts += [element("h2", "Over all recordings"), table(list(map(str, statistics[0])), statistics[1:])]
    parts += [element("h2", "Recordings, worst first"), table(head, map(_cells_of, worst), "text2")]
    write_page(path, headline, joined(parts))


def _severity(row: Row) -> float:
    if row.comparison is None:
        return float("inf")
    return max((d.severity for d in row.comparison.differences), default=0.0)


def _cells_of(row: Row) -> list[object]:
    name = element("a", row.name, href=row.link) if row.link else row.name
    if row.comparison is None:
        return [name, element("span", row.problem, class_="differs"), *[""] * (2 + len(NUMBERS))]
    differences = row.comparison.differences
    values = [max(finite(d.position_mm for d in differences), default=nan)]
    values.append(max(finite(d.rotation_deg for d in differences), default=nan))
    values.append(max(finite(d.path_rmse_mm for d in differences), default=nan))
    values.append(min(finite(d.mask_iou for d in differences), default=nan))
    count = sum(not d.equal for d in differences)
    return [name, row.comparison.headline, len(differences), count, *cells(values)]
