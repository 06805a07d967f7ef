"""Action chunks: what their numbers mean, their statistics, and the keyposes that they become.

========  ==============================================================================================================
``kind``  one step of a chunk (docs/decisions/0011-action-chunks.md)
========  ==============================================================================================================
keypose   10 numbers: position in the base frame [m], first two columns of the tool's rotation, 1 for an open gripper
delta     7 numbers, as in OXE and LIBERO: change of the tool's position [m] and rotation vector [rad], both along the
          axes of the base frame, and 1 for an open gripper
========  ==============================================================================================================
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.spatial.transform import Rotation

from stvla_ros.config import ConfigError
from stvla_ros.files import said
from stvla_ros.geometry.se3 import pose
from stvla_ros.types import F64, Bool

KEYPOSE, DELTA = "keypose", "delta"
DIMENSIONS = {KEYPOSE: 10, DELTA: 7}

INSTRUCTION = "{instruction}"
"""Its place in the template of an action sample's text."""

STATISTICS = ("q01", "q99", "min", "max", "mean", "std")

CONSTANT = 1e-4
"""A number that varies by less is constant: its noise is not blown up to the range of the others."""

MIN_COLUMN = 0.1
"""Columns of a predicted rotation that are shorter, or closer to parallel, give no direction."""


@dataclass(frozen=True, eq=False)
class ActionStatistics:
    """Of the actions of one embodiment; arrays are (D,) float64.

    Attributes:
        mask: False where actions are not normalised (the gripper).
        q01: 1st percentile.
        q99: 99th percentile.
        min: Smallest value.
        max: Largest value.
        mean: Mean.
        std: Standard deviation.
    """

    mask: npt.NDArray[np.bool_]
    q01: npt.NDArray[np.float64]
    q99: npt.NDArray[np.float64]
    min: npt.NDArray[np.float64]
    max: npt.NDArray[np.float64]
    mean: npt.NDArray[np.float64]
    std: npt.NDArray[np.float64]

    @classmethod
    def of(cls, actions: npt.ArrayLike) -> ActionStatistics:
        """Of actions (N, D) whose last number is the gripper."""
        rows = np.asarray(actions, np.float64)
        low, high = np.quantile(rows, (0.01, 0.99), axis=0)
        mask = np.arange(rows.shape[1]) < rows.shape[1] - 1
        return cls(mask, low, high, rows.min(0), rows.max(0), rows.mean(0), rows.std(0))

    def normalised(self, raw: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Actions (..., D) from ``q01``..``q99`` to -1..1, and clipped to that; constant numbers become 0."""
        given = np.asarray(raw, np.float64)
        span = self.q99 - self.q01
        scaled = 2 * (given - self.q01) / np.where(span > CONSTANT, span, 1.0) - 1
        return np.where(self.mask, np.where(span > CONSTANT, np.clip(scaled, -1.0, 1.0), 0.0), given)

    def raw(self, normalised: npt.ArrayLike, quantiles: bool = True) -> npt.NDArray[np.float64]:
        """Actions (..., D) in their own units, from actions that are normalised to -1..1, and clipped to that.

        Args:
            normalised: (..., D).
            quantiles: By ``q01`` and ``q99`` (OXE); otherwise by ``min`` and ``max`` (LIBERO, simulation).
        """
        given = np.asarray(normalised, np.float64)
        low, high = (self.q01, self.q99) if quantiles else (self.min, self.max)
        scaled = low + (np.clip(given, -1.0, 1.0) + 1) / 2 * (high - low)
        return np.where(self.mask, scaled, given)

    def entry(self) -> dict[str, Any]:
        """As in ``dataset_statistics.json``; the inverse of :func:`statistics_from`."""
        return {"action": {name: array.tolist() for name, array in asdict(self).items()}}


def statistics_from(entry: Any, size: int, where: str) -> ActionStatistics:
    """Statistics of one embodiment, as read from ``dataset_statistics.json``.

    Raises:
        ConfigError: An entry is missing, has another number of dimensions than ``size``, is not finite, or a lower
            bound is above the upper one.
    """
    try:
        action = entry["action"]
        arrays = {name: np.array(action[name], np.float64) for name in STATISTICS}
        mask = np.array(action["mask"])
    except (LookupError, TypeError, ValueError) as error:
        raise ConfigError(f"{where}: wanted 'action' with mask, {', '.join(STATISTICS)} ({said(error)}).") from error
    shapes = {name: array.shape for name, array in [*arrays.items(), ("mask", mask)]}
    odd = [name for name, shape in shapes.items() if shape != (size,)]
    if odd or mask.dtype != bool:
        name = odd[0] if odd else "mask"
        raise ConfigError(
            f"{where}: '{name}' is {shapes[name]} of {mask.dtype if name == 'mask' else 'numbers'}, wanted ({size},)."
        )
    if not all(np.isfinite(array).all() for array in arrays.values()):
        raise ConfigError(f"{where}: a statistic is not finite.")
    if (arrays["q01"] > arrays["q99"]).any() or (arrays["min"] > arrays["max"]).any():
        raise ConfigError(f"{where}: a lower bound is above its upper bound.")
    return ActionStatistics(mask=mask, **arrays)


@dataclass(frozen=True, eq=False)
class ToolPose:
    """One step of a chunk.

    Attributes:
        T_base_tcp: (4, 4) where the tool goes.
        gripper_open: Gripper state after that.
    """

    T_base_tcp: F64
    gripper_open: bool


def rows(poses: Sequence[ToolPose], kind: str) -> F64:
    """Steps as (N, D): N poses for ``keypose``, the N - 1 ways between N poses for ``delta``."""
    if kind == KEYPOSE:
        found = [[*p.T_base_tcp[:3, 3], *p.T_base_tcp[:3, :2].T.ravel(), float(p.gripper_open)] for p in poses]
    else:
        found = [
            [
                *(b.T_base_tcp[:3, 3] - a.T_base_tcp[:3, 3]),
                *Rotation.from_matrix(b.T_base_tcp[:3, :3] @ a.T_base_tcp[:3, :3].T).as_rotvec(),
                float(b.gripper_open),
            ]
            for a, b in pairwise(poses)
        ]
    return np.array(found, np.float64).reshape(-1, DIMENSIONS[kind])


def chunk_at(steps: F64, first: int, length: int, kind: str) -> tuple[F64, Bool]:
    """The chunk of an episode that begins at one of its steps.

    After the episode's end the tool stays where it is and the gripper as it is. (The published code has zeros there,
    before normalisation: a closed gripper, and for absolute numbers the origin.) These steps do not count in a loss.

    Args:
        steps: (N, D) of the whole episode.
        first: Index of the first step.
        length: T.
        kind: Of the actions.

    Returns:
        (T, D), and (T,) False after the end.
    """
    known = steps[first : first + length]
    held = steps[-1].copy()
    if kind == DELTA:
        held[:-1] = 0.0
    filled = np.concatenate([known, np.repeat(held[None], length - len(known), 0)])
    return filled, np.arange(length) < len(known)


def tool_poses(chunk: F64, kind: str, T_base_tcp: F64) -> list[ToolPose]:
    """The keyposes that a chunk becomes, for the executor.

    Absolute steps are keyposes. Deltas are added up from where the tool is; a keypose is where the gripper changes and
    where the chunk ends, because the executor comes to rest at each.

    Args:
        chunk: (T, D) in its own units.
        kind: Of the actions.
        T_base_tcp: (4, 4) where the tool is; absolute steps do not depend on it.

    Raises:
        ValueError: A number is not finite, or six numbers give no rotation.
    """
    if not np.isfinite(chunk).all():
        raise ValueError("a number of the chunk is not finite")
    is_open = chunk[:, -1] > 0.5
    if kind == KEYPOSE:
        return [ToolPose(pose(_rotation(row[3:9]), row[:3]), bool(o)) for row, o in zip(chunk, is_open, strict=True)]
    R, t = T_base_tcp[:3, :3], T_base_tcp[:3, 3]
    found = []
    for k, row in enumerate(chunk):
        R, t = Rotation.from_rotvec(row[3:6]).as_matrix() @ R, t + row[:3]
        if k + 1 == len(chunk) or is_open[k] != is_open[k + 1]:
            found.append(ToolPose(pose(R, t), bool(is_open[k])))
    return found


def _rotation(sixd: F64) -> F64:
    """(3, 3) of two columns (6,), by Gram-Schmidt (arXiv 1812.07035)."""
    first, second = sixd[:3], sixd[3:]
    lengths = np.linalg.norm(first), np.linalg.norm(second)
    if min(lengths) < MIN_COLUMN or np.linalg.norm(np.cross(first, second)) < MIN_COLUMN * lengths[0] * lengths[1]:
        raise ValueError(f"{np.round(sixd, 3).tolist()} are not two columns of a rotation")
    x = first / lengths[0]
    z = np.cross(x, second)
    z /= np.linalg.norm(z)
    return np.stack([x, np.cross(z, x), z], 1)


def filled_in(template: str, instruction: str) -> str:
    """The text of an action sample: a template with an instruction, without full stop and capital at its beginning."""
    words = instruction.strip().rstrip(".")
    return template.replace(INSTRUCTION, words[:1].lower() + words[1:])


def check_template(template: Any, where: str) -> str:
    """A template that names its instruction.

    Raises:
        ConfigError: It does not.
    """
    if not isinstance(template, str) or INSTRUCTION not in template:
        raise ConfigError(
            f"{where}: the prompt '{str(template)[:80]}' has no place for the instruction, {INSTRUCTION}."
        )
    return template
