"""The progress bar of long work."""

from __future__ import annotations

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn


def count_bar(console: Console, said: str = "{task.fields[figures]}") -> Progress:
    """Bar, count, what is said beside it (fields of the task may stand in it), time gone and time left."""
    return Progress(
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(said),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=console,
    )
