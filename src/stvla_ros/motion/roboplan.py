"""Motion planning with RoboPlan: RRT-Connect and shortcuts in C++ against an octree of the depth image."""

from __future__ import annotations

import sys
import time
from itertools import pairwise
from types import ModuleType
from typing import Any

import numpy as np
from roboplan import core

from stvla_ros.description.kinematics import link_poses
from stvla_ros.description.panda import ARM_JOINTS, BASE_LINK, FINGER_LINKS, HAND_LINK, LINKS, TCP_LINK
from stvla_ros.description.robot import PANDA, ArmLimits
from stvla_ros.description.urdf import srdf, urdf
from stvla_ros.geometry.se3 import inverse
from stvla_ros.motion.ik import LIMIT_MARGIN_RAD
from stvla_ros.motion.planning import MotionPlannerConfig, plan_motion
from stvla_ros.types import F32, F64, CollisionWorld, JointPath, MotionRequest


def _import_rrt() -> Any:
    """``roboplan.rrt`` without the 3D viewer that it imports for a function which draws trees: together with what the
    viewer imports (pinocchio, trimesh, viser), that takes longer than all else that an executor needs."""
    viewer, there = "pinocchio.visualize", sys.modules.get("pinocchio.visualize")
    placeholder = ModuleType(viewer)
    placeholder.ViserVisualizer = object  # type: ignore[attr-defined]  # an annotation of that function
    sys.modules[viewer] = there or placeholder
    try:
        from roboplan import rrt
    finally:
        if there is None:
            del sys.modules[viewer]
    return rrt


rrt = _import_rrt()

_GROUP = "panda_arm"
_COLOUR = np.ones(4)
_STANDING_ON_TABLE = (BASE_LINK, "panda_link1")


class RoboplanPlanner:
    """Implements :class:`stvla_ros.interfaces.MotionPlanner`.

    Use one instance per thread: RoboPlan's scene holds scratch memory and must not be shared.
    """

    Config = MotionPlannerConfig

    def __init__(self, config: MotionPlannerConfig, arm: ArmLimits = PANDA) -> None:
        self._config = config
        self._space = _RoboplanSpace(config, arm)

    def reconfigure(self, config: MotionPlannerConfig) -> None:
        """Take over the live settings, for the next motion."""
        self._config = config

    def plan(self, request: MotionRequest) -> JointPath:
        return plan_motion(self._space, request, self._config)


class _RoboplanSpace:
    """The Panda's hulls, the table, an octree of voxels and the held box in a RoboPlan scene."""

    def __init__(self, config: MotionPlannerConfig, arm: ArmLimits) -> None:
        self._config, self.arm = config, arm
        self._world: CollisionWorld | None = None
        self._fingers_m = np.zeros(2)
        self._scene = core.Scene(
            "panda", core.loadUrdfSceneDescriptionFromXml(urdf(limits=arm.narrowed(LIMIT_MARGIN_RAD)), [])
        )
        self._scene.importSrdf(srdf())
        self._present: set[str] = set()
        if config.table:
            self._add_table(config.table_z_m)

    def set_world(self, world: CollisionWorld, gripper_m: float) -> None:
        """Replace what differs from the world before: most motions of a keypose share their voxels."""
        before, self._world = self._world, world
        self._fingers_m = np.full(2, gripper_m / 2)
        if before is world:
            return
        self._scene.setJointPositions(self._full(np.zeros(7)))
        self._remove("held")
        if before is None or not _same_voxels(before, world):
            self._remove("voxels")
            if len(world.voxels_m):
                self._add_voxels(world)
        if world.held is not None:
            self._add_held(world.held.T_frame_box, world.held.size_m)

    def is_free(self, q_rad: F64) -> bool:
        return not self._scene.hasCollisions(self._full(q_rad))

    def connects(self, start_rad: F64, goal_rad: F64) -> bool:
        return self._path_free(np.stack([start_rad, goal_rad]), self._config.check_step_rad)

    def search(self, start_rad: F64, goal_rad: F64, seconds: float) -> F64 | None:
        """Search with coarse checks and check the result finely; if it grazes something, search with fine checks."""
        deadline = time.monotonic() + seconds
        fine = self._config.check_step_rad
        for step in (3 * fine, fine):
            path = self._connect(start_rad, goal_rad, step, max(deadline - time.monotonic(), 0.01))
            if path is None or self._path_free(path, fine):
                return path
        return None

    def _connect(self, start_rad: F64, goal_rad: F64, step_rad: float, seconds: float) -> F64 | None:
        """RRT-Connect, then shortcuts."""
        options = rrt.RRTOptions(
            group_name=_GROUP, max_nodes=20000, max_connection_distance=1.0, collision_check_step_size=step_rad,
            max_planning_time=seconds, rrt_connect=True,
        )  # fmt: skip
        planner = rrt.RRT(self._scene, options)
        planner.setRngSeed(self._config.seed)
        try:
            path = planner.plan(_configuration(start_rad), _configuration(goal_rad))
        except RuntimeError:  # RoboPlan found no path
            return None
        shortcut = core.PathShortcuttingOptions(group_name=_GROUP, max_step_size=step_rad, seed=self._config.seed)
        return np.array(core.PathShortcutter(self._scene, shortcut).shortcut(path).positions)

    def _path_free(self, path_rad: F64, step_rad: float) -> bool:
        pairs = pairwise(self._full(q) for q in path_rad)
        return not any(core.hasCollisionsAlongPath(self._scene, a, b, step_rad, bisection=True) for a, b in pairs)

    def _full(self, q_rad: F64) -> F64:
        return np.concatenate([q_rad, self._fingers_m])

    def _remove(self, name: str) -> None:
        if name in self._present:
            self._scene.removeGeometry(name)
            self._present.discard(name)

    def _add(self, add: Any, name: str, frame: str, shape: Any, T: F64, ignore: tuple[str, ...]) -> None:
        """Add a geometry. RoboPlan also checks objects against each other; this switches it off for ``ignore``."""
        add(name, frame, shape, np.asfortranarray(T), _COLOUR)
        self._present.add(name)
        pairs = [(name, other) for other in ignore if other in LINKS or other in self._present]
        self._scene.setCollisions(pairs, False)

    def _add_table(self, z_m: float) -> None:
        T = np.eye(4)
        T[2, 3] = z_m - 0.05
        self._add(self._scene.addBoxGeometry, "table", "universe", core.Box(4.0, 4.0, 0.1), T, _STANDING_ON_TABLE)

    def _add_voxels(self, world: CollisionWorld) -> None:
        edge, centres = world.voxel_size_m, surface(world.voxels_m, world.voxel_size_m)
        boxes = np.empty((len(centres), 6))
        boxes[:, :3], boxes[:, 3:] = centres, (edge, 1.0, 0.5)  # edge, cost, threshold of occupancy
        tree = core.OcTree(list(boxes), edge)
        self._add(self._scene.addOcTreeGeometry, "voxels", "universe", tree, np.eye(4), (*_STANDING_ON_TABLE, "table"))

    def _add_held(self, T_tcp_box: F64, size_m: F64) -> None:
        box = core.Box(*(float(s) for s in size_m))
        touching = (HAND_LINK, *FINGER_LINKS, "panda_link7")
        self._add(self._scene.addBoxGeometry, "held", TCP_LINK, box, _T_JOINT_TCP @ T_tcp_box, touching)


def _tool_in_last_joint() -> F64:
    """RoboPlan 0.7 places a geometry relative to the joint that carries the named frame, not to the frame itself."""
    poses = link_poses(np.zeros(7))
    return inverse(poses["panda_link7"]) @ poses[TCP_LINK]


_T_JOINT_TCP = _tool_in_last_joint()


def _same_voxels(a: CollisionWorld, b: CollisionWorld) -> bool:
    return a.voxel_size_m == b.voxel_size_m and np.array_equal(a.voxels_m, b.voxels_m)


def surface(voxels_m: F32, size_m: float) -> F32:
    """The voxels that are not enclosed by others on all six sides.

    They hold back the arm as well as all do: its hulls and the held box are one connected body, and the base is
    outside, so a part of it inside an obstacle means another part in the obstacle's surface.

    Args:
        voxels_m: (N, 3) centres.
        size_m: Edge of a voxel.

    Returns:
        (M, 3) centres.
    """
    cell = np.floor(voxels_m / size_m).astype(np.int64)
    cell -= cell.min(axis=0) - 1
    shape = tuple(cell.max(axis=0) + 2)
    number = np.ravel_multi_index(cell.T, shape)
    taken = np.zeros(int(np.prod(shape)), dtype=bool)
    taken[number] = True
    sides = (1, shape[2], shape[1] * shape[2])
    enclosed = np.logical_and.reduce([taken[number + step] for side in sides for step in (-side, side)])
    return voxels_m[~enclosed]


def _configuration(q_rad: F64) -> Any:
    return core.JointConfiguration(list(ARM_JOINTS), q_rad)
