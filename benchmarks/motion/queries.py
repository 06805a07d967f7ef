"""The queries, and a judge that shares only the arm's hulls with the planners."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import mujoco
import numpy as np

from stvla_ros.description.panda import BASE_LINK, HOME_Q_RAD
from stvla_ros.description.urdf import ALLOWED_PAIRS, urdf
from stvla_ros.geometry.se3 import tool_down
from stvla_ros.motion import ik
from stvla_ros.types import F64, CollisionWorld

VOXEL_M = 0.01
Boxes = list[tuple[F64, F64]]
"""Centres and edge lengths."""


@dataclass(frozen=True, eq=False)
class Query:
    """From joints to a tool pose among boxes on the table."""

    kind: str
    boxes: Boxes
    start_rad: F64
    T_base_tcp: F64


class Judge:
    """Says whether postures touch the boxes or the table: MuJoCo with the simulator's hulls."""

    def __init__(self, boxes: Boxes) -> None:
        spec = mujoco.MjSpec.from_string(urdf())
        for centre, size in [(np.array([0.0, 0.0, -0.05]), np.array([4.0, 4.0, 0.0999])), *boxes]:
            spec.worldbody.add_geom(type=mujoco.mjtGeom.mjGEOM_BOX, pos=centre, size=size / 2)
        for a, b in (*ALLOWED_PAIRS, ("world", BASE_LINK), ("world", "panda_link1")):
            spec.add_exclude(bodyname1=a, bodyname2=b)
        self._model = spec.compile()
        self._data = mujoco.MjData(self._model)
        self._data.qpos[7:9] = 0.04

    def free(self, q_rad: F64) -> bool:
        self._data.qpos[:7] = q_rad
        mujoco.mj_kinematics(self._model, self._data)
        mujoco.mj_collision(self._model, self._data)
        return bool(self._data.ncon == 0)

    def path_free(self, q_rad: F64, step_rad: float = 0.02) -> bool:
        return self.free(q_rad[0]) and all(self._segment_free(a, b, step_rad) for a, b in pairwise(q_rad))

    def _segment_free(self, a: F64, b: F64, step_rad: float) -> bool:
        count = max(1, int(np.ceil(np.abs(b - a).max() / step_rad)))
        return all(self.free(a + s * (b - a)) for s in np.linspace(0, 1, count + 1)[1:])


def make_queries(count: int, seed: int) -> list[Query]:
    """Half from home to a pose over the table, half from one side of a wall to the other.

    A query is kept if its start and at least one posture of its goal are free by the judge.
    """
    rng = np.random.default_rng(seed)
    makers = (_home, _wall)
    queries: list[Query] = []
    while len(queries) < count:
        query = makers[len(queries) % 2](rng)
        if query is not None:
            queries.append(query)
    return queries


def _home(rng: np.random.Generator) -> Query | None:
    boxes = [_block(rng, 0.06, 0.25) for _ in range(4)]
    goal = _pose(rng, rng.uniform(-0.35, 0.35))
    judge = Judge(boxes)
    if not judge.free(HOME_Q_RAD) or _posture(judge, goal, rng) is None:
        return None
    return Query("home", boxes, HOME_Q_RAD, goal)


def _wall(rng: np.random.Generator) -> Query | None:
    height = rng.uniform(0.20, 0.44)
    wall = np.array([rng.uniform(0.45, 0.55), 0.0, height / 2]), np.array([rng.uniform(0.08, 0.3), 0.05, height])
    boxes = [wall, *(_block(rng, 0.05, 0.2) for _ in range(2))]
    side = rng.choice([-1.0, 1.0])
    judge = Judge(boxes)
    goal = _pose(rng, -side * rng.uniform(0.15, 0.35))
    start = _posture(judge, _pose(rng, side * rng.uniform(0.15, 0.35)), rng)
    if start is None or _posture(judge, goal, rng) is None:
        return None
    return Query("wall", boxes, start, goal)


def _block(rng: np.random.Generator, small: float, tall: float) -> tuple[F64, F64]:
    size = np.array([*rng.uniform(small, 0.12, 2), rng.uniform(small, tall)])
    return np.array([rng.uniform(0.3, 0.75), rng.uniform(-0.45, 0.45), size[2] / 2]), size


def _pose(rng: np.random.Generator, y: float) -> F64:
    return tool_down([rng.uniform(0.38, 0.62), y, rng.uniform(0.08, 0.25)], rng.uniform(-np.pi, 0.0))


def _posture(judge: Judge, T: F64, rng: np.random.Generator) -> F64 | None:
    postures = ik.solve(T, ik.seeds(HOME_Q_RAD, 16, rng))
    return next((q for q in postures if judge.free(q)), None)


def voxels(boxes: Boxes) -> CollisionWorld:
    """What a perfect depth sensor would give: every voxel that a box touches."""
    cells = []
    for centre, size in boxes:
        low, high = np.floor((centre - size / 2) / VOXEL_M), np.ceil((centre + size / 2) / VOXEL_M)
        cells.append(np.stack(np.meshgrid(*map(np.arange, low, high), indexing="ij"), -1).reshape(-1, 3))
    index = np.unique(np.concatenate(cells), axis=0)
    return CollisionWorld(((index + 0.5) * VOXEL_M).astype(np.float32), VOXEL_M)
