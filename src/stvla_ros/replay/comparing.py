"""Compares two series of decisions on the same recording: how far apart, where first, where most."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from math import nan

import numpy as np

from stvla_ros.description.kinematics import tcp_pose
from stvla_ros.errors import OutcomeCode
from stvla_ros.geometry.se3 import rotation_distance
from stvla_ros.replay.canonical import DRAWN, Form, alike, canonical, hash_of, sampled
from stvla_ros.replay.values import Comparison, Decision, Difference, Kind, Masking, Moment
from stvla_ros.types import F64, Keypose, Trace3d

OTHER_ANSWER = 100.0
"""Severity of another kind of answer: failure instead of a keypose, an open instead of a closed hand."""

OTHER_STEP = 50.0
"""Severity of another sub-instruction."""

POSITION_MM, ROTATION_DEG, MASK_SHARE, DRAWN_UNITS = 5.0, 2.0, 0.02, 10.0
"""These differences have severity 1."""

LEAST_SHIFT_MM, SHIFT_SHARE = 2.0, 0.25
"""A shift that is at least so long, and varies by less than this share of itself, counts as one and the same."""


@dataclass(frozen=True)
class _Part:
    """One way in which two decisions differ."""

    severity: float
    sentence: str


def compare(
    moments: Sequence[Moment],
    a: Iterable[Decision],
    b: Iterable[Decision],
    names: tuple[str, str],
    masks_alike: bool = False,
) -> Comparison:
    """Compare two series. Moments that only one of them decided are left out, also of the hashes.

    Args:
        moments: Of the recording.
        a: First series, by number.
        b: Second series.
        names: Of the two.
        masks_alike: Masks count as equal if they are :func:`stvla_ros.replay.canonical.alike`: one of the two guided
            fewer frames, so its guide remembered less.
    """
    others = {decision.number: decision for decision in b}
    pairs = [(decision, others[decision.number]) for decision in a if decision.number in others]
    forms = [_forms(x, y) for x, y in pairs]
    hashes = hash_of(x for x, _ in forms), hash_of(y for _, y in forms)

    def same(kind: Kind, f: Form, g: Form) -> bool:
        return f == g or (masks_alike and kind is Kind.GUIDE and alike(f, g))

    differences = tuple(difference(x, y, same(x.kind, f, g)) for (x, y), (f, g) in zip(pairs, forms, strict=True))
    comparison = Comparison(names, hashes, differences)
    return replace(comparison, headline=headline(moments, comparison, _shift_mm(pairs)))


def _forms(a: Decision, b: Decision) -> tuple[Form, Form]:
    """Canonical forms of two decisions, without the lifting of a path unless it is known of both."""
    f, g = canonical(a), canonical(b)
    if _lifting_unknown(a) or _lifting_unknown(b):
        for form in (f, g):
            form.pop("lifting", None)
            form.pop("path", None)
    return f, g


def _lifting_unknown(decision: Decision) -> bool:
    """A recording may lack how a path was lifted, or it was not lifted because it came too late."""
    if decision.plan is None or decision.plan.finished:
        return False
    return decision.lifting is None or decision.lifting.code is OutcomeCode.STALE_IMAGE


def difference(a: Decision, b: Decision, equal: bool) -> Difference:
    """How far two decisions at the same moment are apart; ``equal``: their canonical forms are."""
    found = Difference(a.number, a.kind, equal)
    parts: list[_Part] = []
    if a.outcome.code is not b.outcome.code:
        parts.append(_Part(OTHER_ANSWER, f"{a.outcome.code.name} became {_said(b)}"))
    if a.kind is Kind.PLAN:
        found = _plans(found, a, b, parts)
    elif a.kind is Kind.GUIDE and a.masking and b.masking:
        found = _maskings(found, a.masking, b.masking, parts)
    elif a.keypose and b.keypose:
        found = _keyposes(found, a.keypose, b.keypose, parts)
    elif a.path_complete != b.path_complete:
        parts.append(_Part(OTHER_ANSWER, f"{_answer(a)} became {_answer(b)}"))
    if a.kind is Kind.MOVE:
        found = _motions(found, a, b, parts)
    if equal:
        return found
    parts.sort(key=lambda part: -part.severity)
    sentence = "; ".join(part.sentence for part in parts) or "differs by less than the numbers shown here"
    return replace(found, sentence=sentence, severity=max([part.severity for part in parts], default=0.01))


def _said(decision: Decision) -> str:
    sentence = f" ({decision.outcome.sentence})" if decision.outcome.sentence else ""
    return decision.outcome.code.name + sentence


def _answer(decision: Decision) -> str:
    return "'path complete'" if decision.path_complete else "a keypose"


def _plans(found: Difference, a: Decision, b: Decision, parts: list[_Part]) -> Difference:
    p, q = a.plan, b.plan
    if p is not None and q is not None:
        if p.finished != q.finished:
            said = ["finished" if plan.finished else "not finished" for plan in (p, q)]
            parts.append(_Part(OTHER_ANSWER, f"the task is {said[1]} instead of {said[0]}"))
        elif not p.finished:
            drawn = float(np.sqrt(np.mean(np.sum((p.uv - q.uv) ** 2, axis=1))))
            found = replace(found, drawn_rmse=drawn)
            parts += [_Part(drawn / DRAWN_UNITS, f"the drawn path is {drawn:.1f} of 1000 off")] * (drawn >= 0.05)
        if p.sub_instruction != q.sub_instruction and not p.finished and not q.finished:
            parts.append(_Part(OTHER_STEP, f"'{p.sub_instruction}' became '{q.sub_instruction}'"))
    unknown = _lifting_unknown(a) or _lifting_unknown(b)
    if a.lifting and b.lifting and a.lifting.code is not b.lifting.code and not unknown:
        parts.append(_Part(OTHER_ANSWER, f"lifting: {a.lifting.code.name} became {b.lifting.code.name}"))
    if a.trace is None or b.trace is None:
        return found
    off = _offsets_m(a.trace, b.trace)
    if off is None:
        return found
    apart_mm = 1e3 * np.linalg.norm(off, axis=1)
    rmse, most = float(np.sqrt(np.mean(apart_mm**2))), float(apart_mm.max())
    if most >= 0.05:
        parts.append(_Part(rmse / POSITION_MM, f"the lifted path is {rmse:.1f} mm off (at most {most:.1f} mm)"))
    return replace(found, path_rmse_mm=rmse, position_mm=most)


def _offsets_m(a: Trace3d, b: Trace3d) -> F64 | None:
    """(N, 3) from path to path at equal shares of their points; None when one has no valid point."""
    p, q = (trace.xyz_m[trace.source != 0].astype(np.float64) for trace in (a, b))
    if not len(p) or not len(q):
        return None
    return np.asarray(_spread(q, len(p)) - p)


def _spread(points: F64, count: int) -> F64:
    """(count, D) points at equal shares of the (N, D) points' number."""
    at, found = np.linspace(0, 1, count), np.linspace(0, 1, len(points))
    return np.stack([np.interp(at, found, axis) for axis in points.T], axis=1)


def _maskings(found: Difference, a: Masking, b: Masking, parts: list[_Part]) -> Difference:
    if a.mode != b.mode:
        parts.append(_Part(OTHER_STEP, f"guidance mode {a.mode} became {b.mode}"))
    if (len(a.kept_ids), len(a.removed_ids)) != (len(b.kept_ids), len(b.removed_ids)):
        counts = [f"{len(m.kept_ids)} kept and {len(m.removed_ids)} removed" for m in (a, b)]
        parts.append(_Part(10.0, f"{counts[0]} became {counts[1]}"))
    ahead_mm = 1e3 * (b.progress_m - a.progress_m)
    if abs(ahead_mm) >= 0.05:
        parts.append(_Part(abs(ahead_mm) / POSITION_MM / 4, f"progress along the path is {ahead_mm:+.1f} mm off"))
    overlap = iou(a, b)
    if overlap < 1.0:
        parts.append(_Part((1 - overlap) / MASK_SHARE, f"the masks share {100 * overlap:.2f} %"))
    return replace(found, mask_iou=overlap)


def iou(a: Masking, b: Masking) -> float:
    """Intersection over union of the painted pixels; 1 if neither painted any."""
    masks = [m.removed for m in (a, b) if m.removed is not None]
    if len(masks) == 2 and masks[0].shape == masks[1].shape:
        union = np.count_nonzero(masks[0] | masks[1])
        return float(np.count_nonzero(masks[0] & masks[1]) / union) if union else 1.0
    return 0.0 if any(mask.any() for mask in masks) else 1.0


def _keyposes(found: Difference, a: Keypose, b: Keypose, parts: list[_Part]) -> Difference:
    p, q = a.T_base_tcp, b.T_base_tcp
    apart_mm = 1e3 * float(np.linalg.norm(p[:3, 3] - q[:3, 3]))
    turned_deg = float(np.degrees(rotation_distance(p[:3, :3], q[:3, :3])))
    if a.gripper_open != b.gripper_open:
        parts.append(_Part(OTHER_ANSWER, f"the hand {'opens' if b.gripper_open else 'closes'} instead"))
    if a.may_collide != b.may_collide:
        parts.append(_Part(OTHER_STEP, f"contact is {'wanted' if b.may_collide else 'not wanted'} now"))
    if apart_mm >= 0.05 or turned_deg >= 0.005:
        severity = max(apart_mm / POSITION_MM, turned_deg / ROTATION_DEG)
        parts.append(_Part(severity, f"the keypose is {apart_mm:.1f} mm and {turned_deg:.2f} deg off"))
    return replace(found, position_mm=apart_mm, rotation_deg=turned_deg)


def _motions(found: Difference, a: Decision, b: Decision, parts: list[_Part]) -> Difference:
    if len(a.paths) != len(b.paths):
        parts.append(_Part(5.0, f"{len(a.paths)} motions became {len(b.paths)}"))
    if not a.paths or not b.paths:
        return found
    ways = [np.concatenate([_tool_m(sampled(path)) for path in d.paths]) for d in (a, b)]
    p, q = (_spread(way, max(map(len, ways))) for way in ways)
    rmse = float(1e3 * np.sqrt(np.mean(np.sum((p - q) ** 2, axis=1))))
    if rmse >= 0.05:
        parts.append(_Part(rmse / POSITION_MM / 2, f"the tool's way is {rmse:.1f} mm off"))
    seconds = [sum(float(path.t_s[-1]) for path in d.paths) for d in (a, b)]
    if abs(seconds[1] - seconds[0]) >= 0.01:
        parts.append(_Part(0.1, f"the motion takes {seconds[1]:.2f} s instead of {seconds[0]:.2f} s"))
    return replace(found, path_rmse_mm=rmse)


def _tool_m(q_rad: F64) -> F64:
    return np.stack([tcp_pose(q)[:3, 3] for q in q_rad])


def _shift_mm(pairs: Sequence[tuple[Decision, Decision]]) -> F64 | None:
    """(3,) the shift between lifted paths that were drawn alike, if it is one and the same for all their points."""
    alike = [(a.trace, b.trace) for a, b in pairs if a.trace and b.trace and _drawn_alike(a, b)]
    found = [offset for offset in (_offsets_m(p, q) for p, q in alike) if offset is not None]
    if not found:
        return None
    every = 1e3 * np.concatenate(found)
    shift = np.asarray(np.median(every, axis=0))
    size = float(np.linalg.norm(shift))
    same = np.median(np.linalg.norm(every - shift, axis=1)) < SHIFT_SHARE * size
    return shift if size >= LEAST_SHIFT_MM and same else None


def _drawn_alike(a: Decision, b: Decision) -> bool:
    return a.plan is not None and b.plan is not None and bool(np.abs(a.plan.uv - b.plan.uv).max() < DRAWN)


def headline(moments: Sequence[Moment], comparison: Comparison, shift_mm: F64 | None = None) -> str:
    """The result in one sentence: that all is equal, or where the two first part, and where most."""
    a, b = comparison.names
    count, first = len(comparison.differences), comparison.first
    if not count:
        return f"Nothing to compare: no moment was decided both {a} and {b}."
    if first is None:
        return f"All {count} decisions are equal ({a} and {b})."
    worst, apart = comparison.worst[0], len(comparison.worst)
    said = f"{b} parts from {a} first at {_where(moments, first)}: {first.sentence}"
    said += f"; {apart} of {count} decisions differ"
    if worst.number != first.number:
        said += f", most at {_where(moments, worst)}: {worst.sentence}"
    if shift_mm is not None:
        x, y, z = (round(v) for v in shift_mm)
        said += f". The same drawn path is lifted ({x:+d}, {y:+d}, {z:+d}) mm off, as if the camera stood elsewhere"
    return (said if "=" in b else said[0].upper() + said[1:]) + "."


def _where(moments: Sequence[Moment], d: Difference) -> str:
    """Kind, moment and time since the first image."""
    start_ns = next((m.image_stamp_ns for m in moments if m.image_stamp_ns), 0)
    moment = next((m for m in moments if m.number == d.number), None)
    seconds = (moment.image_stamp_ns - start_ns) / 1e9 if moment is not None and moment.image_stamp_ns else nan
    return f"{seconds:.2f} s ({d.kind}, moment {d.number})"
