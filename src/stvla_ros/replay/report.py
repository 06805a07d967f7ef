"""The report of a replay: one HTML file that stands alone, from the verdict down to pictures of every step."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import isfinite, nan
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from stvla_ros.description.kinematics import tcp_pose
from stvla_ros.errors import StageError
from stvla_ros.perception.guide import GuideConfig
from stvla_ros.replay import pictures
from stvla_ros.replay.html import NUMBERS, Html, Series, cells, element, finite, joined, plot, table, write_page
from stvla_ros.replay.values import Comparison, Decision, Difference, Kind, Mode, Moment, RecordedTask, Replay
from stvla_ros.types import F64, U8, Bool, Keypose, Outcome, Trace3d

MOST_PICTURED = 60
"""Steps with pictures; each takes about 50 kB, so a report stays below 5 MB."""

MOST_FRAMES = 12
"""Guided frames that become steps of their own: those that differ most. All of them are in the plots."""


@dataclass(frozen=True, eq=False)
class Side:
    """One of the two series of decisions that a report compares.

    Attributes:
        name: For people.
        decisions: Number of the moment -> decision.
        mode: What its stages were given; None: these are the recorded decisions.
        notes: What the reader should know about it.
        cpu_s: Processor time; NaN: not known.
    """

    name: str
    decisions: Mapping[int, Decision]
    mode: Mode | None = None
    notes: Sequence[str] = ()
    cpu_s: float = nan

    @classmethod
    def recorded(cls, task: RecordedTask, name: str = "recorded") -> Side:
        return cls(name, {m.number: m.recorded for m in task.moments if m.recorded is not None})

    @classmethod
    def of(cls, replay: Replay) -> Side:
        decisions = {decision.number: decision for decision in replay.decisions}
        return cls(replay.name, decisions, replay.mode, replay.notes, replay.cpu_s)


def write_report(path: Path, task: RecordedTask, comparison: Comparison, first: Side, second: Side) -> None:
    """Write the report of two series of decisions on one recording.

    Args:
        path: Of the HTML file; replaced as a whole.
        task: The recording; its frames are read once, in order of time.
        comparison: Of the two series.
        first: Usually what was recorded.
        second: Usually what was replayed.

    Raises:
        ConfigError: The file cannot be written.
    """
    report = _Report(task, comparison, first, second)
    same = comparison.first is None
    verdict = element("h1", comparison.headline, class_="same" if same else "parts")
    body = [verdict, report.facts(), report.summary(), report.plots(), report.steps()]
    write_page(path, f"{task.name}: {' and '.join(comparison.names)}", joined(body))


@dataclass(eq=False)
class _Report:
    """Makes the parts of a report."""

    task: RecordedTask
    comparison: Comparison
    first: Side
    second: Side
    differences: dict[int, Difference] = field(init=False)

    def __post_init__(self) -> None:
        self.differences = {d.number: d for d in self.comparison.differences}
        self._moments = {moment.number: moment for moment in self.task.moments}
        self._start_ns = min((m.stamp_ns for m in self.task.moments), default=0)
        self._plans = {m.plan_id: m.number for m in self.task.moments if m.kind is Kind.PLAN and m.plan_id}
        self._frames = {(m.image_stamp_ns, m.plan_id): m.number for m in self.task.moments if m.kind is Kind.GUIDE}
        given = self.task.settings.get("guidance", {}).get("tube_radius_m", GuideConfig().tube_radius_m)
        self._radius_m = float(given)

    def facts(self) -> Html:
        task, names, hashes = self.task, self.comparison.names, self.comparison.hashes
        ended = "not known" if task.outcome is None else _said(task.outcome)
        modes = [f"{side.name}: {side.mode}" for side in (self.first, self.second) if side.mode is not None]
        known: list[tuple[str, object]] = [
            ("instruction", task.instruction),
            ("recording", f"{task.name}, {task.seconds:.1f} s, {len(task.moments)} decisions"),
            ("its outcome", ended),
            ("mode", "; ".join(modes) or "recorded"),
            *(
                (f"hash, {name}", element("span", text, class_="hash"))
                for name, text in zip(names, hashes, strict=True)
            ),
            *(("time", _speed(task, side)) for side in (self.first, self.second) if isfinite(side.cpu_s)),
            *((name, text) for name, text in task.versions.items()),
            *(("note", note) for note in (*task.notes, *self.first.notes, *self.second.notes)),
        ]
        if task.derived:
            known.append(("note", "The recording has no decisions: the moments were chosen by a rule."))
        items = [joined([element("dt", name), element("dd", value)]) for name, value in known]
        return element("dl", *items, class_="facts")

    def summary(self) -> Html:
        """One line per stage."""
        head = ("stage", "decisions", "that differ", *(f"worst {n}" for n in NUMBERS), *self._heads("median ms"))
        rows = [self._summary_row(kind) for kind in Kind if any(m.kind is kind for m in self.task.moments)]
        return joined([element("h2", "Stages"), table(head, rows)])

    def _summary_row(self, kind: Kind) -> list[object]:
        found = [d for d in self.comparison.differences if d.kind is kind]
        values = [max(finite(getattr(d, n) for d in found), default=nan) for n in _FIELDS[:3]]
        values.append(min(finite(d.mask_iou for d in found), default=nan))
        times = [self._milliseconds(side, kind) for side in (self.first, self.second)]
        medians = [f"{median(t):.1f}" if t else "–" for t in (finite(ms) for ms in times)]
        return [str(kind), len(found), sum(not d.equal for d in found), *cells(values), *medians]

    def _heads(self, what: str) -> tuple[str, str]:
        return f"{what}, {self.first.name}", f"{what}, {self.second.name}"

    def _milliseconds(self, side: Side, kind: Kind) -> list[float]:
        return [1e3 * d.seconds for d in side.decisions.values() if d.kind is kind]

    def plots(self) -> Html:
        """Differences and latencies over time; a plot without values is left out."""
        shown = [
            plot(title, [self._over_time(title, name, kind)], self._end_s, top) for title, name, kind, top in _PLOTS
        ]
        for kind in Kind:
            sides = zip((self.first, self.second), ("first", "second"), strict=True)
            shown.append(
                plot(f"time of {kind} [ms]", [self._latency(s, style, kind) for s, style in sides], self._end_s)
            )
        return joined([element("h2", "Over time"), element("div", *shown, class_="plots")])

    @property
    def _end_s(self) -> float:
        return max((self._t_s(m) for m in self.task.moments), default=1.0)

    def _t_s(self, moment: Moment) -> float:
        return (moment.stamp_ns - self._start_ns) / 1e9

    def _over_time(self, title: str, name: str, kind: Kind) -> Series:
        found = [d for d in self.comparison.differences if d.kind is kind and d.number in self._moments]
        times = [self._t_s(self._moments[d.number]) for d in found]
        return Series(title, "difference", times, [getattr(d, name) for d in found])

    def _latency(self, side: Side, style: str, kind: Kind) -> Series:
        made = [d for d in side.decisions.values() if d.kind is kind and d.number in self._moments]
        times = [self._t_s(self._moments[d.number]) for d in made]
        return Series(side.name, style, times, [1e3 * d.seconds for d in made])

    def steps(self) -> Html:
        """All steps, in order of time or worst first, each with its pictures."""
        shown = self._shown()
        pictured = self._pictured(shown)
        rank = {d.number: i for i, d in enumerate(self.comparison.worst)}
        opened = next((m.number for m in shown if m.number in rank), None)
        articles = [
            self._step(m, i, rank.get(m.number, len(rank) + i), m.number == opened, pictured.get(m.number, Html("")))
            for i, m in enumerate(shown)
        ]
        heads = ("", "step", "t [s]", "stage", "what differs", *NUMBERS, *(f"ms, {s.name}" for s in self._sides))
        head = element("div", *(element("span", text) for text in heads), class_="row head")
        choice = [
            element("input", type="radio", name="order", id="time", checked=True, class_="screen"),
            element("label", " in order of time", for_="time", class_="screen"),
            element("input", type="radio", name="order", id="worst", class_="screen"),
            element("label", " worst first", for_="worst", class_="screen"),
        ]
        steps = element("div", head, *articles, class_="steps")
        keys = element(
            "p", "Click a step to open it. Right and left arrow keys go from step to step.", class_="small screen"
        )
        return joined([element("h2", "Steps"), self._legend(), self._left_out(shown), keys, *choice, steps])

    @property
    def _sides(self) -> tuple[Side, Side]:
        return self.first, self.second

    def _legend(self) -> Html:
        keys = [
            element("span", s.name, class_=f"key {c}") for s, c in zip(self._sides, ("first", "second"), strict=True)
        ]
        keys.append(element("span", "painted out by both", class_="key both"))
        keys.append(element("span", f"tube, {100 * self._radius_m:g} cm around the path", class_="key tube"))
        return element("p", *keys, " What only one of the two painted out has its colour.")

    def _shown(self) -> list[Moment]:
        """Moments that become steps: all but the frames, and the frames that differ most."""
        frames = [d.number for d in self.comparison.worst if d.kind is Kind.GUIDE][:MOST_FRAMES]
        return [m for m in self.task.moments if m.kind is not Kind.GUIDE or m.number in frames]

    def _left_out(self, shown: Sequence[Moment]) -> Html:
        frames = [d for d in self.comparison.differences if d.kind is Kind.GUIDE]
        differ, listed = sum(not d.equal for d in frames), sum(m.kind is Kind.GUIDE for m in shown)
        if not frames:
            return Html("")
        more = f" The {listed} that differ most are steps below." if listed < differ else ""
        return element("p", f"Guidance cleaned {len(frames)} frames; {differ} differ.{more}", class_="small")

    def _pictured(self, shown: Sequence[Moment]) -> dict[int, Html]:
        """Pictures by number of the moment: of those that differ most, then of the others, in one pass over the frames."""
        rank = {d.number: i for i, d in enumerate(self.comparison.worst)}
        chosen = sorted(shown, key=lambda m: (rank.get(m.number, len(rank)), m.stamp_ns))
        out = {m.number: element("p", "No picture, to keep the report small.", class_="small") for m in shown}
        for moment in sorted(chosen[:MOST_PICTURED], key=lambda m: m.image_stamp_ns):
            out[moment.number] = self._pictures(moment)
        return out

    def _pictures(self, moment: Moment) -> Html:
        if moment.image_stamp_ns == 0:
            return element("p", "No picture: the stage had no image.", class_="small")
        try:
            frame = self.task.frame(moment.image_stamp_ns)
        except StageError as error:
            return element("p", f"No picture: {error.sentence}", class_="small")
        a, b = (side.decisions.get(moment.number) for side in self._sides)
        shown: list[tuple[str, U8 | Html]] = [("camera", pictures.camera_picture(frame))]
        if moment.kind is Kind.PLAN:
            plans = (None if a is None else a.plan, None if b is None else b.plan)
            traces = (None if a is None else a.trace, None if b is None else b.trace)
            shown.append(("paths as drawn", pictures.plan_picture(frame, plans)))
            shown.append(("lifted path: height over way [mm]", pictures.side_view(traces)))
            return _figures(shown)
        if moment.kind is not Kind.MOVE:
            shown.append(("path, tube and mask", self._guided(moment, frame)))
        if moment.kind is Kind.MOVE:
            shown.append(("way of the tool", pictures.motion_picture(frame, (_tool_path(a), _tool_path(b)))))
        if moment.kind is not Kind.GUIDE:
            keyposes = (None if a is None else a.keypose, None if b is None else b.keypose)
            shown.append(("keyposes, enlarged", pictures.keypose_picture(frame, keyposes)))
        return _figures(shown)

    def _guided(self, moment: Moment, frame: Any) -> U8:
        number = self._frames.get((moment.image_stamp_ns, moment.plan_id), -1)
        made = [side.decisions.get(number) for side in self._sides]
        masks: list[Bool | None] = [
            d.masking.removed if d is not None and d.masking is not None else None for d in made
        ]
        fitting = [m if m is not None and m.shape == frame.depth_m.shape else None for m in masks]
        traces = (self._path(self.first, moment), self._path(self.second, moment))
        return pictures.guidance_picture(frame, traces, self._radius_m, (fitting[0], fitting[1]))

    def _path(self, side: Side, moment: Moment) -> Trace3d | None:
        """The path that a side followed at a moment: the recorded one unless it replans for itself."""
        number = self._plans.get(moment.plan_id, -1)
        then = self._moments[number].recorded if number in self._moments else None
        if side.mode is not Mode.FREE and then is not None and then.trace is not None:
            return then.trace
        made = side.decisions.get(number)
        return None if made is None else made.trace

    def _step(self, moment: Moment, time: int, worst: int, opened: bool, images: Html) -> Html:
        difference = self.differences.get(moment.number)
        equal = difference is None or difference.equal
        decisions = [side.decisions.get(moment.number) for side in self._sides]
        sentence = "equal" if equal else (difference.sentence if difference is not None else "")
        if difference is None:
            sentence = "only one of the two decided"
        values = [getattr(difference, name) for name in _FIELDS] if difference is not None else [nan] * len(_FIELDS)
        times = [nan if d is None else 1e3 * d.seconds for d in decisions]
        names = ["", moment.number, f"{self._t_s(moment):.2f}", str(moment.kind)]
        row = [element("span", name) for name in names]
        row.append(element("span", sentence, class_=None if equal else "differs"))
        row += [element("span", cell) for cell in cells([*values, *times])]
        columns = [self._told(s, d, c) for s, d, c in zip(self._sides, decisions, ("first", "second"), strict=True)]
        content = element("div", images, self._given(moment), element("div", *columns, class_="two"), class_="content")
        return element(
            "details",
            element("summary", element("div", *row, class_="row")),
            content,
            id=f"step-{moment.number}",
            class_="same" if equal else "parts",
            open=opened,
            style=f"--time: {time}; --worst: {worst}",
        )

    def _given(self, moment: Moment) -> Html:
        words = [f"Instruction: {moment.instruction}", *[f"holding {moment.holding}"] * bool(moment.holding)]
        words += [f"feedback: {moment.feedback}"] * bool(moment.feedback)
        words += [f"{len(moment.history)} keyposes before"] if moment.kind in (Kind.PLAN, Kind.PREDICT) else []
        return element("p", "; ".join(words), class_="small")

    def _told(self, side: Side, decision: Decision | None, style: str) -> Html:
        lines = ["No decision."] if decision is None else list(_lines(decision))
        parts = [element("p", line) for line in lines]
        if decision is not None and decision.plan is not None and decision.plan.raw_reply:
            parts.append(element("pre", decision.plan.raw_reply))
        return element("div", element("h3", side.name), *parts, class_=style)


_FIELDS = ("position_mm", "rotation_deg", "path_rmse_mm", "mask_iou")

_PLOTS: tuple[tuple[str, str, Kind, float | None], ...] = (
    ("keyposes: position [mm]", "position_mm", Kind.PREDICT, None),
    ("keyposes: rotation [°]", "rotation_deg", Kind.PREDICT, None),
    ("lifted paths: RMSE [mm]", "path_rmse_mm", Kind.PLAN, None),
    ("motions: RMSE of the tool's way [mm]", "path_rmse_mm", Kind.MOVE, None),
    ("masks: intersection over union", "mask_iou", Kind.GUIDE, 1.0),
)


def _speed(task: RecordedTask, side: Side) -> str:
    factor = f", {task.seconds / side.cpu_s:.1f} times real time" if side.cpu_s > 0 else ""
    return f"{side.name}: {side.cpu_s:.2f} s of processor time{factor}"


def _said(outcome: Outcome) -> str:
    return f"{outcome.code.name}: {outcome.sentence}" if outcome.sentence else outcome.code.name


def _figures(shown: Sequence[tuple[str, U8 | Html]]) -> Html:
    def content(caption: str, picture: U8 | Html) -> Html:
        if isinstance(picture, Html):
            return picture
        height, width = picture.shape[:2]
        uri = pictures.data_uri(picture)
        return element("img", src=uri, alt=caption, width=width, height=height, loading="lazy", decoding="async")

    figures = (element("figure", content(*one), element("figcaption", one[0])) for one in shown)
    return element("div", *figures, class_="pictures")


def _lines(decision: Decision) -> Iterable[str]:
    """What a decision says, one line each."""
    if not decision.outcome.ok:
        yield _said(decision.outcome)
    if decision.lifting is not None and not decision.lifting.ok:
        yield f"lifting: {_said(decision.lifting)}"
    if (plan := decision.plan) is not None:
        yield "the task is finished" if plan.finished else f"step {plan.step_index}: {plan.sub_instruction}"
    if decision.trace is not None:
        yield from decision.trace.notes
    if (masking := decision.masking) is not None:
        painted = "" if masking.removed is None else f", {masking.removed.mean():.1%} of the image painted out"
        yield f"kept {list(masking.kept_ids)}, removed {list(masking.removed_ids)}{painted}"
        yield f"{masking.progress_m:.3f} m of the path done"
        yield from masking.notes
    if decision.keypose is not None:
        yield _pose(decision.keypose)
    if decision.path_complete:
        yield "nothing is left to do on the path"
    if decision.paths:
        yield f"{len(decision.paths)} motions, {sum(float(path.t_s[-1]) for path in decision.paths):.2f} s"


def _pose(keypose: Keypose) -> str:
    x, y, z = keypose.T_base_tcp[:3, 3]
    hand = f"gripper {'open' if keypose.gripper_open else 'closed'}, contact {'allowed' * keypose.may_collide or 'avoided'}"
    return f"tool at ({x:.4f}, {y:.4f}, {z:.4f}) m, {hand}"


def _tool_path(decision: Decision | None) -> F64 | None:
    """(N, 3) places of the tool along the joint motions."""
    if decision is None or not decision.paths:
        return None
    return np.asarray(tcp_pose(np.concatenate([path.q_rad for path in decision.paths]))[:, :3, 3])
