"""Success rates with their intervals, outcomes and times of many records, as JSON and as a table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from math import sqrt
from statistics import median

from rich.table import Table

from stvla_ros.evaluate.episode import EpisodeRecord
from stvla_ros.pipeline import percentiles

Z95 = 1.959963984540054
"""Normal quantile of a two-sided 95 % interval."""


def wilson(successes: int, n: int, z: float = Z95) -> tuple[float, float]:
    """Wilson's score interval of a rate (E. B. Wilson 1927); (0, 1) without trials.

    Unlike the normal interval it stays within 0..1 and has a width even at 0 and n successes.
    """
    if not 0 <= successes <= n:
        raise ValueError(f"wilson: wanted 0 <= successes <= n, got {successes} of {n}")
    if n == 0:
        return 0.0, 1.0
    rate, z2 = successes / n, z * z
    centre = (rate + z2 / (2 * n)) / (1 + z2 / n)
    half = z / (1 + z2 / n) * sqrt(rate * (1 - rate) / n + z2 / (4 * n * n))
    return max(0.0, centre - half), min(1.0, centre + half)


@dataclass(frozen=True)
class TaskReport:
    """One task over its seeds. Times are medians over the episodes; None where there were none.

    Attributes:
        task: Name.
        episodes: How many were run.
        successes: The simulator sees the goal reached and the stack said OK.
        rate: successes / episodes.
        interval95: Wilson.
        outcomes: Outcome code -> episodes. ``OK (judged failed)``: the stack reported success, the simulator did not.
        keyposes: Executed per episode.
        robot_s: Seconds per episode on the robot's clock.
        plan_p50_s: Wall seconds per plan (with lifting), over all plans of all episodes: the median,
        plan_p95_s: and the 95th percentile.
        predict_s: Wall seconds per keypose for guidance and policy.
        motion_plan_s: Wall seconds per keypose for inverse kinematics, collision-free path and timing.
        rlbench: Successes by RLBench's rule, whatever the stack reported; None where the task has no rule of its own.
        idle_share: Fraction of the time between first and last motion without motion.
        presses: Number of asked presses -> successes and episodes; empty for tasks without presses.
    """

    task: str
    episodes: int
    successes: int
    rate: float
    interval95: tuple[float, float]
    outcomes: dict[str, int]
    keyposes: float | None
    robot_s: float | None
    plan_p50_s: float | None
    plan_p95_s: float | None
    predict_s: float | None
    motion_plan_s: float | None
    idle_share: float | None
    rlbench: int | None = None
    presses: dict[int, tuple[int, int]] = field(default_factory=dict)


def report(task: str, records: Sequence[EpisodeRecord]) -> TaskReport:
    """Summarise the records of one task."""
    successes = sum(record.success for record in records)
    p50, p95 = percentiles([s for record in records for s in record.plan_times_s]) or (None, None)
    return TaskReport(
        task=task,
        episodes=len(records),
        successes=successes,
        rate=successes / len(records) if records else 0.0,
        interval95=wilson(successes, len(records)),
        outcomes=dict(Counter(map(_verdict, records)).most_common()),
        keyposes=_median(records, lambda r: r.keyposes),
        robot_s=_median(records, lambda r: r.robot_s),
        plan_p50_s=p50,
        plan_p95_s=p95,
        predict_s=_median(records, lambda r: _time(r, "predicting", r.keyposes)),
        motion_plan_s=_median(records, lambda r: _time(r, "motion_plan", r.keyposes)),
        idle_share=_median(records, lambda r: r.idle_share),
        rlbench=_by_rlbench(records),
        presses=_by_presses(records),
    )


def _by_rlbench(records: Sequence[EpisodeRecord]) -> int | None:
    verdicts = [r.rlbench for r in records if r.rlbench is not None]
    return sum(verdicts) if verdicts else None


def _by_presses(records: Sequence[EpisodeRecord]) -> dict[int, tuple[int, int]]:
    asked = [(int(r.facts["asked_presses"]), r.success) for r in records if "asked_presses" in r.facts]
    return {n: (asked.count((n, True)), sum(m == n for m, _ in asked)) for n in sorted({n for n, _ in asked})}


def _verdict(record: EpisodeRecord) -> str:
    return f"{record.outcome} (judged failed)" if record.outcome == "OK" and not record.judged else record.outcome


def _time(record: EpisodeRecord, phase: str, count: int) -> float | None:
    seconds = (record.times_s or {}).get(phase)
    return None if seconds is None or not count else seconds / count


def _median(records: Sequence[EpisodeRecord], of: Callable[[EpisodeRecord], float | None]) -> float | None:
    values = [value for record in records if (value := of(record)) is not None]
    return median(values) if values else None


def to_json(reports: Sequence[TaskReport]) -> list[dict[str, object]]:
    """Plain values for a file."""
    return [asdict(r) for r in reports]


def table(reports: Sequence[TaskReport], title: str) -> Table:
    """The figures as a table of 80 columns; its caption has outcomes other than OK, RLBench's verdicts and presses."""
    idle = any(r.idle_share is not None for r in reports)
    failures = [f"{r.task}: {_failures(r)}" for r in reports if r.successes < r.episodes]
    failures += [f"{r.task}: {r.rlbench}/{r.episodes} by RLBench's rule" for r in reports if r.rlbench is not None]
    failures += [f"{r.task}: {_presses(r)}" for r in reports if r.presses]
    result = Table(
        title=title,
        title_justify="left",
        caption="\n".join(failures),
        caption_justify="left",
        box=None,
        padding=(0, 1, 0, 0),
    )
    result.add_column("task", no_wrap=True)
    for name in (
        "success",
        "%  (95 %)",
        "key-\nposes",
        "episode\ns",
        "plan ms\np50/95",
        "predict\nms",
        "motion\nplan ms",
    ):
        result.add_column(name, justify="right", no_wrap=True)
    if idle:
        result.add_column("idle\n%", justify="right", no_wrap=True)
    for r in reports:
        low, high = (100 * bound for bound in r.interval95)
        result.add_row(
            r.task,
            f"{r.successes}/{r.episodes}",
            f"{100 * r.rate:.0f} ({low:.0f}–{high:.0f})",
            _show(r.keyposes, ".0f"),
            _show(r.robot_s, ".1f"),
            f"{_show(r.plan_p50_s, '.0f', 1000)}/{_show(r.plan_p95_s, '.0f', 1000)}",
            _show(r.predict_s, ".0f", 1000),
            _show(r.motion_plan_s, ".0f", 1000),
            *[_show(r.idle_share, ".0f", 100)] * idle,
        )
    return result


def _failures(r: TaskReport) -> str:
    return ", ".join(f"{name} {n}" for name, n in r.outcomes.items() if name != "OK")


def _presses(r: TaskReport) -> str:
    return "by presses " + ", ".join(f"{n}: {good}/{all_}" for n, (good, all_) in r.presses.items())


def _show(value: float | None, form: str, scale: float = 1.0) -> str:
    return "–" if value is None else format(value * scale, form)
