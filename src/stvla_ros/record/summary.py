"""``summary.json``: what was asked, how it ended, how long it took, and with which settings and versions."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from stvla_ros.pipeline import TaskState
from stvla_ros.types import Outcome
from stvla_ros.versions import versions

SCHEMA = 1


@dataclass(frozen=True)
class Summary:
    """One run.

    Attributes:
        instruction: The operator's words.
        outcome: Name of the outcome code; only ``OK`` means that the stack reports success.
        outcome_code: Its number.
        sentence: One sentence for the operator.
        success: The simulator's verdict; None without a judgement.
        success_detail: What the simulator measured.
        task: Name of the simulated task, if any.
        seed: Of the scene.
        keyposes: Executed.
        replans: Plans accepted after the first.
        times_s: Seconds per phase; ``total`` is the whole episode.
        idle_share: Fraction of the time between first and last motion in which neither arm nor gripper moved.
        state: The state of the task at its end, see :func:`state_summary`.
        events: Changes of phase: elapsed seconds, phase, keyposes, step of the task, sub-instruction.
        parameters: Parameter file, backends and the settings of all stages.
        versions: Of the packages that matter.
    """

    instruction: str
    outcome: str
    outcome_code: int
    sentence: str
    success: bool | None
    success_detail: str
    task: str
    seed: int | None
    keyposes: int
    replans: int
    times_s: Mapping[str, float]
    idle_share: float | None
    state: Mapping[str, Any] = field(default_factory=dict)
    events: tuple[Mapping[str, Any], ...] = ()
    parameters: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=versions)
    schema: int = SCHEMA

    def write(self, directory: Path) -> Path:
        """Write ``summary.json``."""
        path = directory / "summary.json"
        path.write_text(json.dumps(asdict(self), indent=2, ensure_ascii=False) + "\n")
        return path


def state_summary(state: TaskState) -> dict[str, Any]:
    """Steps, sub-instructions and plans of a task, with p50 and p95 of the planner's latency."""
    p50, p95 = state.plan_latency_s or (None, None)
    return {
        **asdict(state),
        "plan_times_s": [round(t, 4) for t in state.plan_times_s],
        "plan_p50_s": p50,
        "plan_p95_s": p95,
    }


def idle_share(outcome: Outcome, events: tuple[Mapping[str, Any], ...]) -> float | None:
    """Fraction of the time from the start of the first to the end of the last motion without motion.

    Args:
        outcome: Its times need ``motion``; ``gripper`` counts as motion.
        events: Changes of phase (``elapsed_s``, ``phase``).

    Returns:
        0 to 1; None if nothing moved.
    """
    starts = [event["elapsed_s"] for event in events if event["phase"] == "moving"]
    if not starts or "motion" not in outcome.times_s:
        return None
    after = [event["elapsed_s"] for event in events if event["elapsed_s"] > starts[-1]]
    end = after[0] if after else outcome.times_s.get("total", starts[-1])
    span = end - starts[0]
    busy = outcome.times_s["motion"] + outcome.times_s.get("gripper", 0.0)
    return min(1.0, max(0.0, 1.0 - busy / span)) if span > 0 else None
