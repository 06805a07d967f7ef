"""The newest of everything that is looked at, with its age."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from weakref import WeakSet

from stvla_ros.types import F32, F64, U8, Bool

OLD_S = 1.0
"""Whoever looks at something older than this is told so."""

RAW, GUIDED, JOINTS, CLOUD, PATH, BOXES = "camera", "guided", "joints", "cloud", "path", "boxes"
PLAN, LATENCIES = "plan", "latencies"
"""The newest plan, and a mapping from what takes time to the seconds that it took last."""

OBSTACLES = "obstacles"
"""What motions are planned around; it is sent only while somebody looks (:meth:`Views.want`)."""

FRAME = "frame"
"""The newest :class:`stvla_ros.types.RgbdFrame`, whose picture is :data:`RAW`."""

DRAWN = "drawn"
"""The newest plan with its waypoints in space: :class:`stvla_ros.console.edit.Drawn`."""


@dataclass(frozen=True, eq=False)
class Cloud:
    """Points (N, 3) of the base frame [m], and their colours (N, 3)."""

    points_m: F32
    rgb: U8


@dataclass(frozen=True, eq=False)
class Cells:
    """Centres (N, 3) of occupied cells in the base frame, and their edge [m]."""

    centres_m: F32
    edge_m: float


@dataclass(frozen=True, eq=False)
class PathView:
    """The lifted path.

    Attributes:
        points_m: (N, 3) in the base frame, from start to goal.
        rgb: (N, 3) colours: red to blue, grey behind the tool.
        tube_radius_m: Around it.
    """

    points_m: F64
    rgb: U8
    tube_radius_m: float


@dataclass(frozen=True, eq=False)
class Boxes:
    """Boxes around instances: centres and edges (N, 3) along the base frame's axes [m], and whether each is kept (N,)."""

    centres_m: F64
    sizes_m: F64
    kept: Bool


class Views:
    """Newest values by name. Thread safe: one writer per name, any number of readers.

    Args:
        clock: Seconds, monotonic.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._lock = clock, threading.Lock()
        self._values: dict[str, tuple[int, float, Any]] = {}
        self._wanted: dict[str, WeakSet[object]] = {}

    def want(self, name: str, who: object, wants: bool) -> None:
        """Say whether somebody looks at what is only sent then; who is gone looks no more."""
        with self._lock:
            people = self._wanted.setdefault(name, WeakSet())
            (people.add if wants else people.discard)(who)

    def wanted(self, name: str) -> bool:
        """Whether anybody looks at it."""
        with self._lock:
            return bool(len(self._wanted.get(name, ())))

    def put(self, name: str, value: Any, age_s: float = 0.0) -> None:
        """Keep a value that was measured so long ago."""
        with self._lock:
            number = self._values.get(name, (0, 0.0, None))[0] + 1
            self._values[name] = number, self._clock() - age_s, value

    def get(self, name: str) -> tuple[int, Any]:
        """Number of the value (0: none has come yet), by which a reader sees what is new to it, and the value."""
        number, _, value = self._values.get(name, (0, 0.0, None))
        return number, value

    def age_s(self, name: str) -> float:
        """Age of the newest value; infinite before the first one."""
        number, at, _ = self._values.get(name, (0, 0.0, None))
        return self._clock() - at if number else float("inf")


def caption(what: str, age_s: float) -> str:
    """The line above a picture: a warning where it is old."""
    if age_s == float("inf"):
        return f"{what}: nothing has come yet"
    return f"{what}: OLD, {age_s:.0f} s" if age_s > OLD_S else what
