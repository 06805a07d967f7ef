"""What an operator sees while a task runs: one line that changes, or one line per change where output is no terminal."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType

from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.spinner import Spinner

from stvla_ros.errors import CancelToken
from stvla_ros.pipeline import Progress, TaskState
from stvla_ros.types import Outcome

SHOWN_CHARS = 200


class LiveProgress:
    """Shows phase, sub-instruction, step, plan and elapsed time. Reports may come from any thread."""

    def __init__(self, console: Console, instruction: str) -> None:
        self._console = console
        self._instruction = instruction if len(instruction) <= SHOWN_CHARS else instruction[:SHOWN_CHARS] + "…"
        self._spinner = Spinner("dots", "starting")
        self._live = Live(self._spinner, console=console, refresh_per_second=8, transient=True)

    def __enter__(self) -> LiveProgress:
        self._console.print(f"[bold]{escape(self._instruction)}[/]")
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def say(self, text: str) -> None:
        """Something other than a phase, e.g. that a cancel is under way."""
        self._show(escape(text))

    def report(self, p: Progress) -> None:
        """A change of phase."""
        plan = f"  [dim]plan {escape(p.plan_id[:8])}[/]" if p.plan_id else ""
        task = f"[bold]{p.state.step}[/]: " if p.plan_id else ""
        what = f"[cyan]{escape(p.phase):<10}[/] {p.step:>2} keyposes  {task}{escape(p.sub_instruction)}"
        self._show(f"{p.elapsed_s:5.1f} s  {what}{plan}")

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


def conclude_state(console: Console, state: TaskState) -> None:
    """What was done on the way, and how the planner fared."""
    if not state.plan_id:
        return
    total = f" of {state.step_total}" if state.step_total else ""
    said = "; ".join(state.sub_instructions)
    console.print(f"[dim]{len(state.sub_instructions)}{total} steps: {escape(said)}[/]", soft_wrap=True)
    p50, p95 = state.plan_latency_s or (float("nan"), float("nan"))
    odd = [f"{n} {what}" for n, what in ((state.failed_plans, "failed"), (state.stale_plans, "came too late")) if n]
    plans = ", ".join([f"{state.replans} plans after the first", *odd])
    console.print(f"[dim]{plans}; planner p50 {p50:.2f} s, p95 {p95:.2f} s[/]", soft_wrap=True)


@contextmanager
def canceling(cancel: CancelToken, live: LiveProgress) -> Iterator[None]:
    """Ctrl-C (or SIGTERM) cancels the goal, and the wait for standstill goes on; a second one gives up waiting."""

    def on_signal(number: int, frame: FrameType | None) -> None:
        if cancel.is_set():
            raise KeyboardInterrupt
        live.say("canceling: waiting for standstill")
        cancel.cancel()

    previous = {number: signal.signal(number, on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
