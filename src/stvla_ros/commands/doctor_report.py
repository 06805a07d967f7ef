"""How every part of ``stvla doctor`` shows its findings: one line each, or JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable

from rich.console import Console
from rich.markup import escape

from stvla_ros.doctor.finding import Finding, State, good

COLOURS = {State.OK: "green", State.WARNING: "yellow", State.WRONG: "red", State.UNSEEN: "dim"}


def show(what: str, findings: Iterable[Finding], as_json: bool, console: Console) -> list[Finding]:
    """Print findings as they come, or all of them as one JSON object at the end; returns them.

    The object has ``what`` (the part of the doctor), ``good`` (nothing is wrong) and ``findings``, each with ``name``,
    ``state``, ``figure``, ``remedy``, ``value`` (a number or null) and ``unit``.
    """
    found = []
    for finding in findings:
        found.append(finding)
        if not as_json:
            console.print(line(finding), soft_wrap=True)
    if as_json:
        print(json.dumps({"what": what, "good": good(found), "findings": [f.as_json() for f in found]}))
    return found


def line(finding: Finding) -> str:
    """A finding in one line of rich's markup."""
    colour = COLOURS[finding.state]
    state = f"[{colour}]{finding.state}[/]{' ' * (9 - len(finding.state))}"
    return f"{state}{escape(finding.name)}: {escape(finding.sentence)}"


def code(findings: Iterable[Finding]) -> int:
    """The exit code: 1 if something is wrong."""
    return 0 if good(findings) else 1
