"""Table 2 with the scripted policy and the colour planner, in the simulator: killed in the middle, and taken up again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

SCENES = 6
"""One for each of the table's columns."""


def command(folder: Path) -> list[str]:
    options = ["--rows", "scripted-*-colour", "--limit", "1", "--jobs", "2", "--output", str(folder)]
    return [sys.executable, "-m", "stvla_ros.cli", "evaluate", "table2", *options]


def members(group: int) -> list[int]:
    """Processes of a process group."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, of = path.read_text().rpartition(")")[2].split()[:3]
        except OSError:  # it has just ended
            continue
        if int(of) == group and state != "Z":
            found.append(int(path.parent.name))
    return found


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_table_that_is_killed_loses_nothing_and_counts_nothing_twice(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    records = folder / "rows/scripted-reference-colour/episodes"
    with subprocess.Popen(
        command(folder), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, process_group=0
    ) as first:
        while first.poll() is None and len(list(records.glob("*.json"))) < 2:
            time.sleep(0.05)
        assert first.poll() is None, "it is in the middle"
        first.send_signal(signal.SIGKILL)
    assert first.returncode == -signal.SIGKILL
    kept = {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in records.glob("*.json")}
    assert 2 <= len(kept) < SCENES
    before = json.loads((folder / "table.json").read_text())["figures"][0]["rows"]
    assert not [row for row in before if "cells" in row], "a row that has only begun is no number"
    try:
        while members(first.pid):
            time.sleep(0.2)  # its workers notice at the end of their episode, and leave
    finally:
        for pid in members(first.pid):
            os.kill(pid, signal.SIGKILL)
    assert {path.name for path in records.glob("*.json")} == set(kept), "nobody but the command writes"

    second = subprocess.run(command(folder), capture_output=True, text=True, check=True)
    assert "Rows: 1 complete, 94 not run" in " ".join(second.stdout.split())
    now = {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in records.glob("*.json")}
    assert len(now) == SCENES
    assert {name: now[name] for name in kept} == kept, "what was done is neither lost nor done again"
    table = json.loads((folder / "table.json").read_text())
    assert table["limited"] == 1
    (row,) = [row for row in table["figures"][0]["rows"] if "cells" in row]
    assert row["row"] == "scripted-reference-colour"
    assert [cell["episodes"] for cell in row["cells"].values()] == [1] * SCENES
    successes = sum(
        json.loads(content)["judged"] and json.loads(content)["outcome"] == "OK" for content, _ in now.values()
    )
    assert sum(cell["successes"] for cell in row["cells"].values()) == successes >= SCENES - 1
    assert "LIMITED to 1 of 100" in (folder / "table.md").read_text()
