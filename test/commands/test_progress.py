"""What an operator reads while a task runs and after it."""

from __future__ import annotations

import io
import signal
import subprocess
import sys
from dataclasses import replace

import pytest
from rich.console import Console

from stvla_ros.commands.progress import LiveProgress, cancel_on_signal, show_task_state, survive_closed_output
from stvla_ros.errors import CancelToken, OutcomeCode, StageError
from stvla_ros.pipeline import Progress, TaskState

STATE = TaskState("Push both.", "push the red button", 0, 2, False, ("push the red button",), "plan-1", 3, 1)


def test_the_line_tells_step_total_and_sub_instruction() -> None:
    console = Console(record=True, width=120, force_terminal=False)
    live = LiveProgress(console, "Push both.")
    with live:
        live.report(Progress("planning", "", 0, "", None, 0.0, TaskState("Push both.")))
        live.report(Progress("moving", "push the red button", 3, "plan-1", None, 1.5, STATE))
        live.report(
            Progress("moving", "push it", 3, "plan-2", None, 2.0, replace(STATE, step_index=1, step_total=None))
        )
    first, second, third = console.export_text().splitlines()[1:]
    assert "step" not in first, "before the first plan nobody knows"
    assert "3 keyposes  step 1 of 2: push the red button" in second
    assert "step 2: push" in third


def test_the_end_tells_what_was_done_and_how_the_planner_fared() -> None:
    console = Console(record=True, width=120, force_terminal=False)
    show_task_state(console, TaskState("Push."))
    assert console.export_text() == ""
    done = replace(STATE, sub_instructions=("push [one]", "push two"), plan_times_s=(1.0, 3.0), failed_plans=2)
    show_task_state(console, done)
    text = console.export_text()
    assert "2 of 2 steps: push [one]; push two" in text
    assert "1 plans after the first, 2 failed; planner p50 2.00 s, p95 2.90 s" in text
    assert "too late" not in text


class Closed(io.StringIO):
    """Nobody reads it any more: a pipe, a terminal, a disk."""

    def __init__(self, error: OSError) -> None:
        super().__init__()
        self._error = error

    def write(self, text: str) -> int:
        raise self._error


@pytest.mark.parametrize("error", [OSError(5, "Input/output error"), OSError(28, "No space left on device")])
def test_what_cannot_be_printed_does_not_matter_but_is_told(error: OSError) -> None:
    unread: list[bool] = []
    console = Console(file=Closed(error), force_terminal=False)
    with LiveProgress(console, "Push both.", lambda: unread.append(True)) as live:
        live.report(Progress("moving", "push the red button", 3, "plan-1", None, 1.5, STATE))
        live.say("canceling")
    with survive_closed_output(console):
        show_task_state(console, STATE)
    assert unread == [True]


def test_a_closed_pipe_cancels_and_the_exit_is_the_commands_own() -> None:
    """``stvla run ... | head -1``: rich makes SystemExit of it, which ended the thread that heard the stack."""
    program = """
import sys
from rich.console import Console
from stvla_ros.commands.progress import OUTPUT_CLOSED, LiveProgress, survive_closed_output
from stvla_ros.errors import CancelToken
from stvla_ros.pipeline import Progress, TaskState
console, cancel = Console(), CancelToken()
with LiveProgress(console, "Push both.", lambda: cancel.cancel(sentence=OUTPUT_CLOSED)) as live:
    sys.stdin.readline()
    for i in range(3):
        live.report(Progress("moving", "push", i, "id", None, 1.0, TaskState("push")))
with survive_closed_output(console):
    console.print("done")
sys.exit(40 if cancel.is_set() else 1)
"""
    pipe = subprocess.PIPE
    child = subprocess.Popen([sys.executable, "-c", program], stdin=pipe, stdout=pipe, stderr=pipe, text=True)
    assert child.stdin
    assert child.stdout
    assert child.stderr
    assert "Push both." in child.stdout.readline()
    child.stdout.close()
    child.stdin.close()
    assert child.wait(60.0) == 40
    assert child.stderr.read() == ""
    child.stderr.close()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signals_cancel_and_the_wait_goes_on(number: signal.Signals) -> None:
    cancel, before = CancelToken(), signal.getsignal(number)
    live = LiveProgress(Console(record=True, width=120, force_terminal=False), "Push both.")
    with cancel_on_signal(cancel, live):
        signal.raise_signal(number)
        assert cancel.wait(10.0)
        signal.raise_signal(signal.SIGHUP)  # a closing terminal may say so twice
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(number) is before
    with pytest.raises(StageError) as error:
        cancel.raise_if_set()
    assert error.value.code is OutcomeCode.CANCELED
    assert ("terminal" in error.value.sentence) == (number == signal.SIGHUP)


def test_a_signal_that_comes_amid_the_tokens_own_locks_does_not_hang() -> None:
    """In a process of its own: a handler that takes such a lock would wait for ever for the thread that it interrupts."""
    program = """
import signal, sys
from rich.console import Console
from stvla_ros.commands.progress import LiveProgress, cancel_on_signal
from stvla_ros.errors import CancelToken
cancel = CancelToken()
with cancel_on_signal(cancel, LiveProgress(Console(quiet=True), "Push both.")):
    with cancel._lock:
        signal.raise_signal(signal.SIGTERM)
    sys.exit(0 if cancel.wait(10.0) else 1)
"""
    assert subprocess.run([sys.executable, "-c", program], timeout=60.0).returncode == 0


def test_nohup_is_respected() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        cancel = CancelToken()
        with cancel_on_signal(cancel, LiveProgress(Console(quiet=True), "Push both.")):
            signal.raise_signal(signal.SIGHUP)
        assert not cancel.is_set()
    finally:
        signal.signal(signal.SIGHUP, before)
