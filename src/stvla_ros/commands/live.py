"""What an operator sees while a task runs: one line that changes, or one line per change where output is no terminal."""

from __future__ import annotations

import time
from types import TracebackType

from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.spinner import Spinner

from stvla_ros.types import Outcome


class LiveProgress:
    """Shows phase, sub-instruction, step, plan and elapsed time. Reports may come from any thread."""

    def __init__(self, console: Console, instruction: str) -> None:
        self._console, self._instruction = console, instruction
        self._spinner = Spinner("dots", "starting")
        self._live = Live(self._spinner, console=console, refresh_per_second=8, transient=True)
        self._started = time.monotonic()

    def __enter__(self) -> LiveProgress:
        self._console.print(f"[bold]{escape(self._instruction)}[/]")
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._live.stop()

    def say(self, text: str) -> None:
        """Something other than a phase, e.g. that a cancel is under way."""
        self._show(escape(text))

    def report(self, phase: str, sub_instruction: str, step: int, plan_id: str, elapsed_s: float) -> None:
        """A change of phase."""
        plan = f"  [dim]plan {escape(plan_id[:8])}[/]" if plan_id else ""
        self._show(f"{elapsed_s:5.1f} s  [cyan]{escape(phase):<10}[/] {step:>2} keyposes  {escape(sub_instruction)}{plan}")

    def _show(self, markup: str) -> None:
        if self._console.is_terminal:
            self._spinner.update(text=markup)
        else:
            self._console.print(markup, soft_wrap=True)


def conclude(console: Console, outcome: Outcome) -> None:
    """The last line: how it ended, in colour."""
    colour = "green" if outcome.ok else "red"
    total_s = outcome.times_s.get("total")
    took = f" [dim]({total_s:.1f} s)[/]" if total_s is not None else ""
    console.print(f"[{colour}]{outcome.code.name}[/] {escape(outcome.sentence)}{took}", soft_wrap=True)
