"""Motion planning with OMPL's RRTConnect, and MuJoCo as collision checker."""

from __future__ import annotations

from functools import cache

import mujoco
import numpy as np
import numpy.typing as npt
from ompl import base, geometric, util

from stvla_ros.description.panda import BASE_LINK, FINGER_LINKS, TCP_LINK
from stvla_ros.description.robot import PANDA, ArmLimits
from stvla_ros.description.urdf import ALLOWED_PAIRS, urdf
from stvla_ros.motion.ik import LIMIT_MARGIN_RAD
from stvla_ros.motion.planning import MotionPlannerConfig, plan_motion
from stvla_ros.types import F32, F64, Box, CollisionWorld, JointPath, MotionRequest

Grid = npt.NDArray[np.int64]

MARGIN_M = 0.0002
"""Margin around obstacles: paths are checked at discrete steps, and an edge may graze something between two of them."""


class OmplPlanner:
    """Implements :class:`stvla_ros.interfaces.MotionPlanner`. One instance serves one thread."""

    Config = MotionPlannerConfig

    def __init__(self, config: MotionPlannerConfig, arm: ArmLimits = PANDA) -> None:
        self._config = config
        self._space = MujocoSpace(config, arm)

    def reconfigure(self, config: MotionPlannerConfig) -> None:
        """Take over the live settings, for the next motion."""
        self._config = config

    def plan(self, request: MotionRequest) -> JointPath:
        return plan_motion(self._space, request, self._config)


class MujocoSpace:
    """The Panda's hulls among boxes in a MuJoCo model, searched with OMPL.

    The model is recompiled for every world.
    """

    def __init__(self, config: MotionPlannerConfig, arm: ArmLimits = PANDA) -> None:
        self._config, self.arm = config, arm
        self._urdf = urdf()
        self._world: tuple[CollisionWorld, float] | None = None
        util.setLogLevel(util.LOG_WARN)
        _seed_once(config.seed)

    def set_world(self, world: CollisionWorld, gripper_m: float) -> None:
        if self._world is not None and self._world[0] is world and self._world[1] == gripper_m:
            return
        self._world = world, gripper_m
        self._model = self._compile(world)
        self._data = mujoco.MjData(self._model)
        self._data.qpos[7:9] = gripper_m / 2

    def is_free(self, q_rad: F64) -> bool:
        self._data.qpos[:7] = q_rad
        mujoco.mj_kinematics(self._model, self._data)
        mujoco.mj_collision(self._model, self._data)
        return bool(self._data.ncon == 0)

    def connects(self, start_rad: F64, goal_rad: F64) -> bool:
        """The middle first, then the middles of both halves, and so on: most collisions are found early."""
        count = max(1, int(np.ceil(np.abs(goal_rad - start_rad).max() / self._config.check_step_rad)))
        way = goal_rad - start_rad
        return all(self.is_free(start_rad + share * way) for share in _halving(count))

    def search(self, start_rad: F64, goal_rad: F64, seconds: float) -> F64 | None:
        """RRTConnect for at most ``seconds``, then OMPL's shortcuts for at most as long."""
        setup = self._setup(start_rad, goal_rad)
        setup.solve(seconds)
        if not setup.haveExactSolutionPath():
            return None
        setup.simplifySolution(seconds)
        path = np.array([[s[i] for i in range(7)] for s in setup.getSolutionPath().getStates()])
        path[0], path[-1] = start_rad, goal_rad
        return path

    def _setup(self, start_rad: F64, goal_rad: F64) -> geometric.SimpleSetup:
        space = base.RealVectorStateSpace(7)
        bounds = base.RealVectorBounds(7)
        inner = self.arm.narrowed(LIMIT_MARGIN_RAD)
        for i in range(7):
            bounds.setLow(i, float(min(inner.q_min_rad[i], start_rad[i])))
            bounds.setHigh(i, float(max(inner.q_max_rad[i], start_rad[i])))
        space.setBounds(bounds)
        setup = geometric.SimpleSetup(space)
        setup.setStateValidityChecker(lambda s: self.is_free(np.array([s[i] for i in range(7)])))
        info = setup.getSpaceInformation()
        info.setStateValidityCheckingResolution(self._config.check_step_rad / space.getMaximumExtent())
        setup.setPlanner(geometric.RRTConnect(info))
        setup.setStartAndGoalStates(_state(setup, start_rad), _state(setup, goal_rad))
        setup.setup()
        return setup

    def _compile(self, world: CollisionWorld) -> mujoco.MjModel:
        spec = mujoco.MjSpec.from_string(self._urdf)
        if self._config.table:
            _add_box(spec.worldbody, np.array([0.0, 0.0, self._config.table_z_m - 0.05]), np.array([4.0, 4.0, 0.1]))
        for centre, size in zip(*merge_voxels(world.voxels_m, world.voxel_size_m), strict=True):
            _add_box(spec.worldbody, centre, size)
        if world.held is not None:
            _hold(spec, world.held)
        for a, b in (*ALLOWED_PAIRS, ("world", BASE_LINK), ("world", "panda_link1")):
            spec.add_exclude(bodyname1=a, bodyname2=b)
        return spec.compile()


@cache
def _halving(count: int) -> tuple[float, ...]:
    """The shares 0/count to count/count, such that each part of the list covers the whole range evenly."""
    stride, order = 1 << max(count - 1, 1).bit_length(), dict.fromkeys((0, count))
    while stride := stride // 2:
        order.update(dict.fromkeys(range(stride, count, 2 * stride)))
    return tuple(i / count for i in order)


@cache
def _seed_once(seed: int) -> None:
    """OMPL's generators are seeded per process, before their first use."""
    if _seed_once.cache_info().misses == 1:
        util.RNG.setSeed(seed + 1)  # 0 means "by the clock" to OMPL


def _hold(spec: mujoco.MjSpec, held: Box) -> None:
    """Fix a box to the tool; it may touch the fingers (the hand is one body with the tool)."""
    quat = np.zeros(4)
    mujoco.mju_mat2Quat(quat, held.T_frame_box[:3, :3].ravel())
    _add_box(spec.body(TCP_LINK), held.T_frame_box[:3, 3], held.size_m, quat)
    for finger in FINGER_LINKS:
        spec.add_exclude(bodyname1=TCP_LINK, bodyname2=finger)


def _add_box(body: mujoco.MjsBody, centre_m: F64, size_m: F64, quat: F64 | None = None) -> None:
    turn = np.array([1.0, 0.0, 0.0, 0.0]) if quat is None else quat
    body.add_geom(type=mujoco.mjtGeom.mjGEOM_BOX, pos=centre_m, size=np.asarray(size_m) / 2, quat=turn, margin=MARGIN_M)


def _state(setup: geometric.SimpleSetup, q_rad: F64) -> base.State:
    state = setup.getStateSpace().allocState()
    for i in range(7):
        state[i] = float(q_rad[i])
    return state


def merge_voxels(voxels_m: F32, size_m: float) -> tuple[F64, F64]:
    """Voxels joined to few boxes that fill exactly the same space: MuJoCo has no octree.

    Runs of voxels are joined along z, equal runs then along x, and equal plates along y.

    Args:
        voxels_m: (N, 3) centres.
        size_m: Edge of a voxel.

    Returns:
        (B, 3) centres and (B, 3) full edge lengths.
    """
    if not len(voxels_m):
        return np.empty((0, 3)), np.empty((0, 3))
    cell = np.floor(voxels_m / size_m).astype(np.int64)
    first = cell.min(axis=0)
    shape = tuple(cell.max(axis=0) - first + 2)  # one more, so that no run goes on in the next column
    number = np.sort(np.ravel_multi_index((cell - first).T, shape))
    begins = np.diff(number, prepend=-2) > 1
    ends = np.append(begins[1:], True)
    low = np.stack(np.unravel_index(number[begins], shape), axis=1) + first
    high = np.stack(np.unravel_index(number[ends], shape), axis=1) + first + 1
    for axis in (0, 1):
        low, high = _join(low, high, axis)
    return (low + high) / 2 * size_m, (high - low) * size_m


def _join(low: Grid, high: Grid, axis: int) -> tuple[Grid, Grid]:
    """Join boxes that touch along ``axis`` and agree in the other two."""
    others = [i for i in range(3) if i != axis]
    order = np.lexsort([low[:, axis], *(side[:, i] for i in others for side in (low, high))])
    low, high = low[order], high[order]
    same = (low[1:, others] == low[:-1, others]).all(axis=1) & (high[1:, others] == high[:-1, others]).all(axis=1)
    begins = np.r_[True, ~same | (low[1:, axis] != high[:-1, axis])]
    ends = np.r_[begins[1:], True]
    joined = low[begins].copy(), high[begins].copy()
    joined[1][:, axis] = high[ends, axis]
    return joined
