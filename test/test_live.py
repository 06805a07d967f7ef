"""What an operator reads while a task runs and after it."""

from __future__ import annotations

from dataclasses import replace

from rich.console import Console

from stvla_ros.commands.live import LiveProgress, conclude_state
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
    conclude_state(console, TaskState("Push."))
    assert console.export_text() == ""
    done = replace(STATE, sub_instructions=("push [one]", "push two"), plan_times_s=(1.0, 3.0), failed_plans=2)
    conclude_state(console, done)
    text = console.export_text()
    assert "2 of 2 steps: push [one]; push two" in text
    assert "1 plans after the first, 2 failed; planner p50 2.00 s, p95 2.90 s" in text
    assert "too late" not in text
