"""Figures of the trials: as JSON, as a table for the terminal and as one for the documentation."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from rich.table import Table

from benchmarks.chaos.faults import ALLOWED_S, HANG, KINDS, NO_STACK, ROBOT, VICTIMS, Trial

WORDS = {
    "kill": "`kill -9` of {}",
    "robot": "`kill -9` of the robot",
    "stop": "SIGSTOP of {} for 2 s",
    "camera": "the camera falls silent",
    "joints": "joint states jump",
    "clock": "the robot's clock is set back 10 s",
}
HEADINGS = (
    "fault",
    "trials",
    "typed end",
    "noticed after p50 / p99 [s]",
    "at rest after p50 / p99 [s]",
    "rest after noticing p99 / longest [s]",
    "next goal succeeds",
    "ends",
)


def summary(trials: Sequence[Trial]) -> dict[str, Any]:
    """All figures: over all trials, and per kind and victim."""
    rows = {}
    for kind in KINDS:
        for victim in VICTIMS[kind]:
            found = [t for t in trials if (t.fault.kind, t.fault.victim) == (kind, victim)]
            if found:
                rows[WORDS[kind].format("the robot" if victim == ROBOT else victim)] = figures(found)
    return {"all": figures(trials), "rows": rows, "wrong": {t.index: t.wrong() for t in trials if t.wrong()}}


def figures(trials: Sequence[Trial]) -> dict[str, Any]:
    """Counts, and seconds."""
    ended_early = [t for t in trials if t.code != "OK"]
    return {
        "trials": len(trials),
        "typed": sum(t.typed() for t in trials),
        "named": sum(t.named() for t in trials),
        "hangs": sum((t.code == HANG) + (t.next_code == HANG) for t in trials),
        "no_stack": sum(t.next_code == NO_STACK for t in trials),
        "false_ok": sum(t.code == "OK" and not t.judged for t in trials),
        "moving": sum(t.moving for t in trials),
        "noticed_s": percentiles([t.noticed_s for t in ended_early]),
        "rest_s": percentiles([t.rest_s for t in trials if t.moving]),
        "after_noticed_s": percentiles([t.after_noticed_s for t in trials]),
        "late": sum((t.after_noticed_s or 0.0) > ALLOWED_S for t in trials),
        "never_at_rest": sum(t.rest_s is None for t in trials),
        "heard_s": percentiles([t.next_heard_s for t in trials]),
        "next_s": percentiles([t.next_s for t in trials if t.next_ok]),
        "next_ok": sum(t.next_ok for t in trials),
        "next_codes": dict(Counter(t.next_code for t in trials if not t.next_ok)),
        "codes": dict(Counter(t.code for t in trials).most_common()),
        "unprovoked": dict(Counter(said.split(":")[0] for t in trials for said in t.unprovoked)),
        "restarts": sum(t.restarts for t in trials),
        "load": percentiles([t.load for t in trials]),
        "wall_s": percentiles([t.wall_s for t in trials]),
    }


def percentiles(values: Sequence[float | None]) -> dict[str, float | None]:
    """p50, p99 and the longest of those that exist; None if there are none."""
    there = [v for v in values if v is not None]
    if not there:
        return {"p50": None, "p99": None, "max": None}
    p50, p99 = np.percentile(there, [50, 99])
    return {"p50": round(float(p50), 2), "p99": round(float(p99), 2), "max": round(max(there), 2)}


def _cells(name: str, row: dict[str, Any]) -> tuple[str, ...]:
    n = row["trials"]
    return (
        name,
        str(n),
        f"{row['typed']}/{n}",
        _pair(row["noticed_s"], "p50", "p99"),
        _pair(row["rest_s"], "p50", "p99"),
        _pair(row["after_noticed_s"], "p99", "max"),
        f"{row['next_ok']}/{n}",
        ", ".join(f"{code} {count}" for code, count in row["codes"].items()),
    )


def _pair(values: dict[str, float | None], first: str, second: str) -> str:
    a, b = values[first], values[second]
    return "–" if a is None or b is None else f"{a:.2f} / {b:.2f}"


def table(figures_of: dict[str, Any]) -> Table:
    """For the terminal."""
    shown = Table(title="Faults during tasks", title_justify="left", box=None)
    for heading in HEADINGS:
        shown.add_column(heading.replace("`", ""), overflow="fold")
    for name, row in [*figures_of["rows"].items(), ("all", figures_of["all"])]:
        shown.add_row(*(cell.replace("`", "") for cell in _cells(name, row)))
    return shown


def markdown(name: str, settings: dict[str, Any], trials: Sequence[Trial]) -> str:
    """A heading, a table and the counts of a run, for docs/reliability.md."""
    found = summary(trials)
    every = found["all"]
    rows = [*found["rows"].items(), ("**all**", every)]
    lines = [f"| {' | '.join(HEADINGS)} |", "|" + "---|" * len(HEADINGS)]
    lines += [f"| {' | '.join(_cells(what, row))} |" for what, row in rows]
    return "\n".join([f"### {name}", "", _circumstances(settings, every), "", *lines, "", _counts(every)])


def _circumstances(settings: dict[str, Any], every: dict[str, Any]) -> str:
    changed = "".join(f", `{name}` {value}" for name, value in settings.get("set", {}).items())
    return (
        f"{every['trials']} trials of `{settings['task']}`{changed}, seed {settings['seed']}, beside {settings['burners']} busy loops; "
        f"load average p50 {every['load']['p50']}, longest trial {every['wall_s']['max']} s (p50 {every['wall_s']['p50']} s)."
    )


def _counts(every: dict[str, Any]) -> str:
    unprovoked = ", ".join(f"{code} {n}" for code, n in every["unprovoked"].items()) or "none"
    failed = ", ".join(f"{code} {n}" for code, n in every["next_codes"].items()) or "none"
    return (
        f"{every['hangs']} hangs, {every['no_stack']} clients that found no stack, {every['false_ok']} false successes, "
        f"{every['late']} motions more than {ALLOWED_S:g} s after the loss was noticed, {every['never_at_rest']} arms that "
        f"did not come to rest, {every['trials'] - every['named']} ends whose code does not name the fault, "
        f"{every['restarts']} restarts of the stack by the benchmark. Next goals that failed: {failed}. Goals that failed "
        f"without a fault: {unprovoked}. A new client heard all nodes {_pair(every['heard_s'], 'p50', 'p99')} s (p50 / p99) "
        "after all processes ran."
    )
