"""The progress bar of long work, and of a training run."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

if TYPE_CHECKING:
    from stvla_ros.train.run import TrainingProgress, TrainingRun


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


def follow(
    run: TrainingRun, total: int, speed: str, sentence: Callable[[TrainingProgress], str], console: Console
) -> None:
    """Train to the end with a progress bar, and a line for every validation.

    Args:
        run: Ready to begin or to resume.
        total: What ``run.done`` grows to.
        speed: Format of the speed, such as ``{:.0f} samples/s``.
        sentence: Words for a validation.
        console: Where to print.
    """
    with count_bar(console) as bar:
        line = bar.add_task("", total=total, completed=run.done, figures="")

        def show(progress: TrainingProgress) -> None:
            figures = f"loss {progress.loss:.3f}  {speed.format(progress.per_s)}"
            bar.update(line, completed=progress.done, figures=figures)
            if progress.validation:
                bar.console.print(sentence(progress), soft_wrap=True, markup=False)

        run.run(show)


def figures_text(progress: TrainingProgress) -> str:
    """All figures of a validation."""
    return ", ".join(f"{name} {value:.3g}" for name, value in progress.validation.items())
