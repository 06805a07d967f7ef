"""Canonical form of decisions, for hashes and golden files.

Two decisions count as the same when their canonical forms are equal. The form has no ids and no times of a clock, so it
is the same in every replay. Lengths are whole tenths of a millimetre and angles whole hundredths of a degree: rounding of
the last bits, which differs between processors, seldom reaches it. Masks are exact. Sentences are left out: they repeat
numbers.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from stvla_ros.description.kinematics import tcp_pose
from stvla_ros.replay.values import Decision, Kind, Masking
from stvla_ros.types import F64, Bool, JointPath, Keypose, Trace3d, TracePlan

LENGTH_M = 1e-4
"""Lengths are rounded to this."""

ANGLE_RAD = float(np.radians(0.01))
"""Angles, and entries of rotation matrices, are rounded to this."""

DRAWN = 0.1
"""Waypoints on the image are rounded to this, in 0..1000 of its size."""

SECONDS = 0.01
"""Durations of joint motions are rounded to this."""

SHARES = 9
"""A joint motion is described at so many equal shares of its time, ends included."""

BLOCKS = 4
"""The painted pixels are also counted in so many rows and columns of blocks, to tell one lost pixel from many."""

ROUNDED = frozenset(
    {"drawn", "start", "offsets", "points", "progress", "position", "rotation", "ends", "seconds", "joints"}
)
"""Parts of a form that are rounded numbers."""

FEW_PX, MASK_SHARE = 8, 0.02
"""Painted pixels of a block may differ by so many, or by this share of them."""

MISSING = "missing"

Form = dict[str, Any]
"""Canonical form of a decision: JSON of whole numbers, words and null (NaN)."""


def canonical(decision: Decision) -> Form:
    """The canonical form of a decision."""
    form: Form = {"kind": str(decision.kind)}
    if decision.kind is not Kind.MOVE or not decision.paths:
        form["outcome"] = decision.outcome.code.name
    if decision.plan is not None:
        form["plan"] = _plan(decision.plan)
    if decision.lifting is not None:
        form["lifting"] = decision.lifting.code.name
    if decision.trace is not None:
        form["path"] = _trace(decision.trace)
    if decision.masking is not None:
        form["mask"] = _masking(decision.masking)
    if decision.kind is Kind.PREDICT:
        form["complete"] = decision.path_complete
    if decision.keypose is not None:
        form["keypose"] = _keypose(decision.keypose)
    if decision.kind is Kind.MOVE:
        form["ends"] = [whole(tcp_pose(path.q_rad[-1])[:3, 3], LENGTH_M) for path in decision.paths]
        form["ways"] = [_way(path) for path in decision.paths]
    return form


def canonical_bytes(form: Form) -> bytes:
    """The bytes of a canonical form."""
    return json.dumps(form, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode()


def alike(a: Form, b: Form) -> bool:
    """Whether two forms are the same up to one step of rounding, and masks up to :data:`FEW_PX` of each block.

    Rounding of the last bits differs between processors; a value on the edge of two steps falls on either side of it.
    """
    return not apart(a, b)


def apart(a: Form, b: Form) -> list[str]:
    """Names of the parts in which two forms differ by more than :func:`alike` allows, e.g. ``keypose.position``."""
    return list(_apart(a, b, ""))


def _apart(a: Any, b: Any, name: str) -> Iterator[str]:
    if a == b:
        return
    if isinstance(a, dict) and isinstance(b, dict):
        for key in sorted({*a, *b}):
            if key == "bits" and not (a.get("pixels") is None or b.get("pixels") is None):
                continue  # the pixels are compared by their numbers
            yield from _apart(a.get(key, MISSING), b.get(key, MISSING), f"{name}.{key}".lstrip("."))
    elif not _near(a, b, name.rpartition(".")[2]):
        yield name


def _near(a: Any, b: Any, key: str) -> bool:
    if isinstance(a, list) and isinstance(b, list):
        if key == "ways":
            return len(a) == len(b) and not any(list(_apart(p, q, key)) for p, q in zip(a, b, strict=True))
        return len(a) == len(b) and all(_near(p, q, key) for p, q in zip(a, b, strict=True))
    if not isinstance(a, int) or not isinstance(b, int) or isinstance(a, bool):
        return bool(a == b)
    return abs(a - b) <= (1 if key in ROUNDED else max(FEW_PX, MASK_SHARE * max(a, b)) if key == "pixels" else 0)


def decision_hash(decisions: Iterable[Decision]) -> str:
    """SHA-256 over the canonical bytes of decisions, one line each: 64 hexadecimal digits."""
    return hash_of(canonical(decision) for decision in decisions)


def hash_of(forms: Iterable[Form]) -> str:
    """:func:`decision_hash` of canonical forms."""
    digest = hashlib.sha256()
    for form in forms:
        digest.update(canonical_bytes(form) + b"\n")
    return digest.hexdigest()


def whole(values: npt.ArrayLike, step: float) -> list[int | None]:
    """Values in whole steps, in one list; NaN is None."""
    steps = np.asarray(values, dtype=np.float64).ravel() / step
    return [round(float(x)) if np.isfinite(x) else None for x in steps]


def sampled(path: JointPath, shares: int = SHARES) -> F64:
    """(shares, 7) positions at equal shares of the path's time [rad]."""
    t = np.linspace(path.t_s[0], path.t_s[-1], shares)
    return np.stack([np.interp(t, path.t_s, q) for q in path.q_rad.T], axis=1)


def _plan(plan: TracePlan) -> Form:
    form: Form = {"finished": plan.finished, "step": plan.step_index, "steps": plan.step_total}
    if plan.finished:
        return form  # its path has no meaning
    return form | {
        "does": plan.sub_instruction,
        "drawn": whole(plan.uv, DRAWN),
        "start": whole(plan.start_depth_m, LENGTH_M),
        "offsets": whole(plan.depth_offset_m, LENGTH_M),
    }


def _trace(trace: Trace3d) -> Form:
    return {"points": whole(trace.xyz_m, LENGTH_M), "source": [int(s) for s in trace.source]}


def _masking(masking: Masking) -> Form:
    painted = masking.removed
    return {
        "mode": masking.mode,
        "kept": len(masking.kept_ids),
        "removed": len(masking.removed_ids),
        "progress": whole(masking.progress_m, LENGTH_M),
        "pixels": None if painted is None else blocks(painted),
        "bits": None if painted is None else _bits(painted),
    }


def blocks(painted: Bool) -> list[int]:
    """Number of painted pixels in each block of the image, row by row."""
    rows = (np.array_split(row, BLOCKS, axis=1) for row in np.array_split(painted, BLOCKS))
    return [int(np.count_nonzero(block)) for row in rows for block in row]


def _bits(painted: Bool) -> str | None:
    """Hash of a mask; None if it is empty, which is the same as no mask."""
    if not painted.any():
        return None
    return hashlib.sha256(repr(painted.shape).encode() + np.packbits(painted).tobytes()).hexdigest()


def _keypose(keypose: Keypose) -> Form:
    T = keypose.T_base_tcp
    return {
        "position": whole(T[:3, 3], LENGTH_M),
        "rotation": whole(T[:3, :3], ANGLE_RAD),
        "open": keypose.gripper_open,
        "contact": keypose.may_collide,
    }


def _way(path: JointPath) -> Form:
    return {"seconds": whole(path.t_s[-1], SECONDS), "joints": whole(sampled(path), ANGLE_RAD)}
