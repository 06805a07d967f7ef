"""What an operator sees while a command works: in a terminal one line that changes, elsewhere a line per change."""

from __future__ import annotations

import os
import queue
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import TYPE_CHECKING

from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as ProgressBar
from rich.spinner import Spinner

from stvla_ros.errors import CancelToken
from stvla_ros.pipeline import Progress, TaskState
from stvla_ros.types import Outcome

SHOWN_CHARS = 200

if TYPE_CHECKING:
    from stvla_ros.evaluate.episode import EpisodeRecord
    from stvla_ros.train.run import TrainingProgress, TrainingRun


def count_bar(console: Console, said: str = "{task.fields[figures]}") -> ProgressBar:
    """A bar with count, elapsed time, remaining time and a text; the text may use fields of the task."""
    return ProgressBar(
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(said),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=console,
    )


def shown(records: Iterable[EpisodeRecord], total: int, bad: str, done: int = 0) -> Iterator[EpisodeRecord]:
    """The records of an engine's videos, with a bar that counts them.

    Args:
        records: One for each video.
        total: How many there are, those that were done before included.
        bad: What a failed one is called.
        done: How many were done before.
    """
    failed = 0
    with count_bar(Console(file=sys.stderr), f"videos, [red]{{task.fields[bad]}} {bad}[/]") as bar:
        line = bar.add_task("", total=total, completed=done, bad=0)
        for record in records:
            failed += not record.success
            bar.update(line, advance=1, bad=failed)
            yield record


class LiveProgress:
    """Shows phase, sub-instruction, step, plan and elapsed time. Any thread may report.

    Args:
        console: Where to print.
        instruction: The operator's words.
        on_closed: Called once nobody can read the output any more: a closed pipe, a lost terminal, a full disk.
    """

    def __init__(self, console: Console, instruction: str, on_closed: Callable[[], None] = lambda: None) -> None:
        self._console, self._on_closed = console, on_closed
        self._instruction = instruction if len(instruction) <= SHOWN_CHARS else instruction[:SHOWN_CHARS] + "…"
        self._spinner = Spinner("dots", "starting")
        self._live = Live(self._spinner, console=console, refresh_per_second=8, transient=True)

    def __enter__(self) -> LiveProgress:
        with survive_closed_output(self._console, self._on_closed):
            self._console.print(f"[bold]{escape(self._instruction)}[/]")
            if self._console.is_terminal:
                self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with survive_closed_output(self._console, self._on_closed):
            self._live.stop()

    def say(self, text: str) -> None:
        """Show something other than a phase, e.g. that the goal is being canceled."""
        self._show(escape(text))

    def print_line(self, text: str) -> None:
        """Print a line that stays, above the one that changes."""
        with survive_closed_output(self._console, self._on_closed):
            self._live.console.print(text, markup=False, soft_wrap=True)

    def report(self, p: Progress) -> None:
        """Show a change of phase."""
        plan = f"  [dim]plan {escape(p.plan_id[:8])}[/]" if p.plan_id else ""
        task = f"[bold]{p.state.step}[/]: " if p.plan_id else ""
        what = f"[cyan]{escape(p.phase):<10}[/] {p.step:>2} keyposes  {task}{escape(p.sub_instruction)}"
        self._show(f"{p.elapsed_s:5.1f} s  {what}{plan}")

    def _show(self, markup: str) -> None:
        with survive_closed_output(self._console, self._on_closed):
            if self._console.is_terminal:
                self._spinner.update(text=markup)
            else:
                self._console.print(markup, soft_wrap=True)


@contextmanager
def survive_closed_output(console: Console, on_closed: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Print inside this: a failure to write does not end the command.

    After the first failure nothing is written any more, not even when the interpreter exits, and ``on_closed`` is
    called. (rich turns a broken pipe into SystemExit.)
    """
    try:
        yield
    except (OSError, SystemExit):
        console.quiet = True
        if console.file is sys.stdout:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        on_closed()


def show_outcome(console: Console, outcome: Outcome) -> None:
    """The last line: how the task ended, in colour."""
    colour = "green" if outcome.ok else "red"
    total_s = outcome.times_s.get("total")
    took = f" [dim]({total_s:.1f} s)[/]" if total_s is not None else ""
    console.print(f"[{colour}]{outcome.code.name}[/] {escape(outcome.sentence)}{took}", soft_wrap=True)


def show_task_state(console: Console, state: TaskState) -> None:
    """The steps that were done, and the planner's record."""
    if not state.plan_id:
        return
    total = f" of {state.step_total}" if state.step_total else ""
    said = "; ".join(state.sub_instructions)
    console.print(f"[dim]{len(state.sub_instructions)}{total} steps: {escape(said)}[/]", soft_wrap=True)
    p50, p95 = state.plan_latency_s or (float("nan"), float("nan"))
    odd = [f"{n} {what}" for n, what in ((state.failed_plans, "failed"), (state.stale_plans, "came too late")) if n]
    plans = ", ".join([f"{state.replans} plans after the first", *odd])
    console.print(f"[dim]{plans}; planner p50 {p50:.2f} s, p95 {p95:.2f} s[/]", soft_wrap=True)


SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
OUTPUT_CLOSED = "Canceled: nobody reads the output any more."
_REASONS: dict[int, str] = {signal.SIGHUP: "Canceled: the terminal was closed."}


@contextmanager
def cancel_on_signal(cancel: CancelToken, live: LiveProgress) -> Iterator[None]:
    """Ctrl-C, SIGTERM or a closed terminal (SIGHUP) cancels the goal; the command then waits for standstill.

    A second Ctrl-C or SIGTERM gives up waiting. SIGHUP may come several times, and is ignored under ``nohup``. The
    handler only queues the signal: the main thread that it interrupts may hold a lock that a cancel needs.
    """
    received: queue.SimpleQueue[int] = queue.SimpleQueue()  # its put is reentrant
    signals: list[int] = []

    def on_signal(number: int, frame: FrameType | None) -> None:
        if signals and number != signal.SIGHUP:
            raise KeyboardInterrupt
        signals.append(number)
        received.put(number)

    def work() -> None:
        while number := received.get():
            cancel.cancel(sentence=_REASONS.get(number, "Canceled by the operator."))
            live.say("canceling: waiting for standstill")

    thread = threading.Thread(target=work, name="cancel", daemon=True)
    thread.start()
    numbers = [number for number in SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
    previous = {number: signal.signal(number, on_signal) for number in numbers}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
        received.put(0)
        thread.join(1.0)


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
