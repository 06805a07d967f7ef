"""A table's figures, from the episodes on disk: values, JSON, Markdown."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from stvla_ros.evaluate.episode import EpisodeRecord, EpisodeSpec
from stvla_ros.evaluate.oracle import NAME as ORACLE
from stvla_ros.evaluate.report import wilson
from stvla_ros.files import written
from stvla_ros.tables.failures import CLASSES, failure
from stvla_ros.tables.protocol import ARMS, Column, Row
from stvla_ros.tables.run import Table, no_weights
from stvla_ros.tables.statistics import Pairs, holm, macro, macro_over_trainings, pairs
from stvla_ros.versions import git_commit, versions

NOT_RUN = "not run"


@dataclass(frozen=True)
class Cell:
    """One row in one column.

    Attributes:
        results: Success by scene, in the column's order: the simulator's strict verdict, and the stack said so.
        rlbench: The second verdict by scene; None where the task has none.
        failures: Class -> episodes.
    """

    results: tuple[bool, ...]
    rlbench: tuple[bool, ...] | None
    failures: Mapping[str, int]


def cell(records: Sequence[EpisodeRecord]) -> Cell:
    """The cell of these records."""
    found = Counter(name for record in records if (name := failure(record)))
    verdicts = [record.rlbench for record in records if record.rlbench is not None]
    # a crash has no verdict: where the others have one, it counts as a failure
    rlbench = tuple(bool(record.rlbench) for record in records) if verdicts else None
    return Cell(
        tuple(record.success for record in records), rlbench, {name: found[name] for name in CLASSES if found[name]}
    )


@dataclass(frozen=True)
class Comparison:
    """Two rows on the scenes of a group.

    Attributes:
        first: The row that is expected to be better.
        second: The other one.
        group: Of columns.
        columns: Column's key -> its scenes.
        points: Macro average of the first minus that of the second, in percentage points.
        p_holm: p of all columns together, corrected for the number of comparisons of the table.
    """

    first: Row
    second: Row
    group: str
    columns: Mapping[str, Pairs]
    points: float
    p_holm: float

    @property
    def together(self) -> Pairs:
        """The sum over the columns."""
        return sum(self.columns.values(), Pairs(0, 0, 0))


@dataclass(frozen=True)
class Figures:
    """Everything that a table says, for the first ``scenes`` scenes of each column.

    Attributes:
        table: Where it comes from.
        scenes: Per cell.
        cells: Row -> column's key -> cell; only rows that have all their episodes.
        reasons: Row -> why it was not run.
    """

    table: Table
    scenes: int
    cells: Mapping[Row, Mapping[str, Cell]]
    reasons: Mapping[Row, str]

    def columns(self, group: str) -> list[Column]:
        """The columns of a group that can be run."""
        return [c for c in self.table.protocol.columns if c.group == group and not c.missing]

    def results(self, row: Row, group: str) -> list[tuple[bool, ...]]:
        """Successes of a row by column and scene."""
        return [self.cells[row][column.key].results for column in self.columns(group)]

    def comparisons(self) -> list[Comparison]:
        """All comparisons whose rows were run."""
        found = [
            (a, b, group)
            for a, b in self.table.protocol.compared()
            for group in self.table.protocol.groups
            if a in self.cells and b in self.cells and self.columns(group)
        ]
        counted = [
            {c.key: pairs(self.cells[a][c.key].results, self.cells[b][c.key].results) for c in self.columns(group)}
            for a, b, group in found
        ]
        ps = holm([sum(columns.values(), Pairs(0, 0, 0)).p for columns in counted])
        return [
            Comparison(a, b, group, columns, 100 * (self.macro(a, group)[0] - self.macro(b, group)[0]), p)
            for (a, b, group), columns, p in zip(found, counted, ps, strict=True)
        ]

    def macro(self, row: Row, group: str) -> tuple[float, float, float]:
        """Macro average of a row over a group, with its interval."""
        return macro(self.results(row, group))

    def trainings(self) -> Iterator[tuple[str, str, int, tuple[float, float, float]]]:
        """Stack, group, number of trainings, and macro average over several trainings with its interval."""
        stacks = dict.fromkeys(row.stack for row in self.cells if row.seed >= 0)
        for stack in stacks:
            rows = [row for row in self.cells if row.stack == stack]
            for group in self.table.protocol.groups if len(rows) > 1 else ():
                if self.columns(group):
                    yield stack, group, len(rows), macro_over_trainings([self.results(r, group) for r in rows])


def figures(table: Table, found: Mapping[Row, Mapping[EpisodeSpec, EpisodeRecord]], scenes: int) -> Figures:
    """What the episodes of all rows say.

    Args:
        table: Prepared.
        found: The records of each row (:meth:`Table.records`).
        scenes: Per cell, at most ``table.limit``.
    """
    cells: dict[Row, dict[str, Cell]] = {}
    reasons: dict[Row, str] = {}
    for row, records in found.items():
        if all(scene in records for column in table.scenes.values() for scene in column):
            cells[row] = {key: cell([records[s] for s in column[:scenes]]) for key, column in table.scenes.items()}
        else:
            reasons[row] = table.why_not(row, len(records))
    return Figures(table, scenes, cells, reasons)


def write(table: Table) -> Figures:
    """Write ``table.json``, ``table.md`` and ``table.png``; the figures of all scenes.

    Raises:
        ConfigError: A record is damaged, or a file cannot be written.
    """
    from stvla_ros.tables.plot import draw

    protocol = table.protocol
    counts = [table.limit, *([protocol.first] if 0 < protocol.first < table.limit else [])]
    found = {row: table.records(row) for row in protocol.all_rows()}
    every = [figures(table, found, count) for count in counts]
    content = {
        "protocol": protocol.plain(),
        "limited": None if table.complete else table.limit,
        "versions": versions(),
        "commit": git_commit(),
        "figures": [_plain(one) for one in every],
    }
    with written(table.folder / "table.json") as part:
        part.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    with written(table.folder / "table.md") as part:
        part.write_text("\n".join(_markdown(every)) + "\n", encoding="utf-8")
    draw(every[0], table.folder / "table.png")
    return every[0]


def limited(table: Table) -> str:
    """What every output of a table with too few scenes must say; empty for a complete one."""
    if table.complete:
        return ""
    return f"LIMITED to {table.limit} of {table.protocol.scenes} scenes a cell: a trial, not the protocol's table"


def rate(results: Sequence[bool]) -> str:
    """Counts, per cent and Wilson's 95 % interval: ``45/50 90 % (79–96)``."""
    low, high = wilson(sum(results), len(results))
    share = 100 * sum(results) / len(results)
    return f"{sum(results)}/{len(results)} {share:.0f} % ({100 * low:.0f}–{100 * high:.0f})"


def average(mean: tuple[float, float, float]) -> str:
    """A macro average with its interval: ``90 % (79–96)``."""
    middle, low, high = (100 * value for value in mean)
    return f"{middle:.0f} % ({low:.0f}–{high:.0f})"


def _plain(one: Figures) -> dict[str, Any]:
    groups = one.table.protocol.groups
    return {
        "scenes": one.scenes,
        "rows": [
            {"row": row.name, "not_run": one.reasons[row]}
            if row in one.reasons
            else {
                "row": row.name,
                "cells": {key: _plain_cell(value) for key, value in one.cells[row].items()},
                "macro": {group: one.macro(row, group) for group in groups if one.columns(group)},
            }
            for row in one.table.protocol.all_rows()
        ],
        "columns_not_run": {c.key: c.missing for c in one.table.protocol.columns if c.missing},
        "comparisons": [
            {
                "rows": [c.first.name, c.second.name],
                "group": c.group,
                "points": c.points,
                **_plain_pairs(c.together),
                "p_holm": c.p_holm,
                "columns": {key: _plain_pairs(value) for key, value in c.columns.items()},
            }
            for c in one.comparisons()
        ],
        "over_trainings": [
            {"stack": stack, "group": group, "trainings": count, "macro": mean}
            for stack, group, count, mean in one.trainings()
        ],
    }


def _plain_cell(value: Cell) -> dict[str, Any]:
    n = len(value.results)
    second = value.rlbench
    return {
        "episodes": n,
        "successes": sum(value.results),
        "interval95": wilson(sum(value.results), n),
        "rlbench": None if second is None else sum(second),
        "rlbench_interval95": None if second is None else wilson(sum(second), n),
        "failures": dict(value.failures),
    }


def _plain_pairs(value: Pairs) -> dict[str, Any]:
    return {
        "scenes": value.scenes,
        "only_first": value.only_first,
        "only_second": value.only_second,
        "p": value.p,
    }


def _markdown(every: Sequence[Figures]) -> Iterator[str]:
    table = every[0].table
    protocol = table.protocol
    yield from (f"# {protocol.title}", "")
    if said := limited(table):
        yield from (f"**{said}.**", "")
    camera = "an imperfect camera" if protocol.noise else "a perfect camera"
    yield from (
        f"Protocol `{protocol.name}`, scenes per cell: {table.limit}, {camera}, the same scenes in every row. Success: the "
        "simulator's strict verdict, and the stack itself said so. Intervals: 95 %, Wilson's. A macro average is the mean "
        "over the columns of a group; groups are never averaged.",
        "",
    )
    for one in every:
        if len(every) > 1:
            yield from (f"# {'All' if one is every[0] else 'The first'} {one.scenes} scenes a cell", "")
        for group in protocol.groups:
            yield from _group(one, group)
        yield from _trainings(one)
        yield from _comparisons(one)
        yield from _failures(one)
    yield from _not_run(every[0])
    yield from ("## Planners", "", "| planner | backend | |", "|---|---|---|")
    for name, choice in protocol.planners.items():
        marked = " **Sees the simulator's state.**" if choice.backend == ORACLE else ""
        yield f"| {name} | {choice.backend} | {choice.says}{marked} |"
    words = [f"{name} {value}" for name, value in versions().items()]
    yield from ("", f"Versions: {', '.join(words)}; commit {git_commit() or 'unknown'}.")


def _head(words: Sequence[str]) -> tuple[str, str]:
    return f"| {' | '.join(words)} |", f"|{'---|' * len(words)}"


def _group(one: Figures, group: str) -> Iterator[str]:
    columns = [c for c in one.table.protocol.columns if c.group == group]
    second = one.table.protocol.rlbench
    for title, of_rlbench in ((f"## {group}", False), (f"### {group}, {second}", True)):
        lines = [_line(one, row, columns, group, of_rlbench) for row in one.cells]
        if of_rlbench and not any("/" in word for line in lines for word in line):
            continue
        if not of_rlbench:
            empty = [NOT_RUN] * (len(columns) + 1)
            lines += [[name, ARMS[row.arm].guidance, *empty] for name, row, _ in _rows_not_run(one)]
        yield from (title, "")
        yield from _head(["row", "guidance", *(c.name for c in columns), *([] if of_rlbench else ["macro"])])
        yield from (f"| {' | '.join(line)} |" for line in lines)
        yield ""


def _line(one: Figures, row: Row, columns: Sequence[Column], group: str, of_rlbench: bool) -> list[str]:
    words = [f"`{row.name}`", ARMS[row.arm].guidance]
    for column in columns:
        found = one.cells[row].get(column.key)
        results = found and (found.rlbench if of_rlbench else found.results)
        words.append(NOT_RUN if found is None else rate(results) if results else "–")
    if not of_rlbench:
        words.append(average(one.macro(row, group)) if one.columns(group) else NOT_RUN)
    return words


def _trainings(one: Figures) -> Iterator[str]:
    found = list(one.trainings())
    if found:
        yield from ("## Over trainings", "", "Bootstrap in two levels: trainings, then scenes.", "")
        yield from _head(["stack", "group", "trainings", "macro"])
        yield from (f"| `{s}` | {group} | {n} | {average(mean)} |" for s, group, n, mean in found)
        yield ""


def _comparisons(one: Figures) -> Iterator[str]:
    protocol = one.table.protocol
    yield from ("## Paired comparisons", "")
    first, second, group = protocol.primary
    yield from (
        f"Primary, fixed before running: `{first}` against `{second}`, {group}. McNemar's exact test over the scenes of a "
        "group (stratified by column), corrected by Holm for all comparisons here.",
        "",
    )
    found = one.comparisons()
    if not found:
        yield from ("None: no two rows that the protocol compares were run.", "")
        return
    yield from _head(["first", "second", "group", "points", "only first", "only second", "scenes", "p", "p (Holm)"])
    for c in found:
        both, mark = c.together, " (primary)" if (c.first.stack, c.second.stack, c.group) == protocol.primary else ""
        yield (
            f"| `{c.first.name}`{mark} | `{c.second.name}` | {c.group} | {c.points:+.1f} | {both.only_first} | "
            f"{both.only_second} | {both.scenes} | {both.p:.3g} | {c.p_holm:.3g} |"
        )
    yield ""


def _failures(one: Figures) -> Iterator[str]:
    lines = [
        f"| `{row.name}` | {key} | {' | '.join(str(value.failures.get(name, '')) for name in CLASSES)} |"
        for row, cells in one.cells.items()
        for key, value in cells.items()
        if value.failures
    ]
    if lines:
        yield from ("## Failures", "", *_head(["row", "column", *CLASSES]), *lines, "")
        yield from ("`rows/<row>/results.json` has a command for each of them that runs it again with a film.", "")


def _not_run(one: Figures) -> Iterator[str]:
    missing = [column for column in one.table.protocol.columns if column.missing]
    if one.reasons or missing:
        yield from ("## Not run", "", "| what | why |", "|---|---|")
        yield from (f"| column {column.key} | {column.missing} |" for column in missing)
        yield from (f"| {name} | {why} |" for name, _, why in _rows_not_run(one))
        yield ""


def _rows_not_run(one: Figures) -> Iterator[tuple[str, Row, str]]:
    """Name, first row and reasons of the stacks with trainings that were not run, all of those in one."""
    stacks: dict[str, list[Row]] = {}
    for row in one.reasons:
        stacks.setdefault(row.stack, []).append(row)
    for stack, rows in stacks.items():
        seeds = ", ".join(str(row.seed) for row in rows if row.seed >= 0)
        missing = [[] if one.table.records(row) else one.table.missing(row) for row in rows]
        why = (
            no_weights(file for files in missing for file in files)
            if all(missing)
            else "; ".join(dict.fromkeys(one.reasons[row] for row in rows))
        )
        yield f"`{stack}`" + (f", training {seeds}" if seeds else ""), rows[0], why
