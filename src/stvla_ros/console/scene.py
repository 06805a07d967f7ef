"""The console's 3D view in one browser: robot, cloud, path, tube, and ghosts of what is proposed."""

from __future__ import annotations

import threading
from dataclasses import fields
from functools import cache, lru_cache
from typing import Any

import numpy as np

from stvla_ros.console.views import BOXES, CLOUD, JOINTS, OBSTACLES, PATH, Boxes, Cells, Cloud, PathView, Views
from stvla_ros.description.hulls import hull_meshes, read_obj, visual_meshes
from stvla_ros.description.kinematics import link_poses
from stvla_ros.description.panda import (
    ARM_JOINTS,
    BASE_LINK,
    FINGER_LINKS,
    HAND_LINK,
    HOME_Q_RAD,
    MAX_WIDTH_M,
    TCP_LINK,
)
from stvla_ros.description.panda import JOINTS as ROBOT_JOINTS
from stvla_ros.geometry.paths import resample
from stvla_ros.geometry.se3 import inverse, to_quaternion
from stvla_ros.motion.approval import Proposal
from stvla_ros.types import F64, I32, JointPath, RobotState

GHOST_ARM, GHOST_GRIPPER = (90, 160, 255), (255, 170, 40)
KEPT, REMOVED, TUBE = (26, 204, 51), (230, 51, 26), (51, 204, 102)
EDITED, OBSTACLE = (255, 90, 220), (230, 150, 50)
GIZMO_M = 0.06
GHOST_OPACITY, TUBE_OPACITY = 0.35, 0.15
MOVED_RAD, MOVED_M = 1e-3, 5e-4
"""The arm is drawn anew when a joint or the fingers have moved by more."""

CLOSED_M = 0.02
"""Opening of a ghost gripper that will be closed."""

BALLS = 24
"""The tube is drawn as so many balls."""

HAND = (HAND_LINK, *FINGER_LINKS)


@cache
def _hull(link: str) -> tuple[F64, I32]:
    vertices, faces, _ = read_obj(hull_meshes()[link])
    return vertices, faces


@cache
def _visual(link: str) -> list[tuple[F64, I32, tuple[int, int, int]]]:
    found = []
    for mesh in visual_meshes()[link]:
        vertices, faces, _ = read_obj(mesh.path)
        r, g, b = (round(255 * c) for c in mesh.rgba[:3])
        found.append((vertices, faces, (r, g, b)))
    return found


@cache
def _ball() -> tuple[F64, I32]:
    """Vertices (N, 3) and faces (M, 3) of a ball with radius 1."""
    from trimesh.creation import icosphere  # comes with viser

    ball = icosphere(subdivisions=2)
    return np.asarray(ball.vertices, np.float64), np.asarray(ball.faces, np.int32)


@lru_cache(maxsize=2)
def _in_parents(state: RobotState) -> dict[str, tuple[F64, F64]]:
    """Quaternion (w, x, y, z) and position (3,) of each link in its parent; computed once for all browsers."""
    poses = link_poses(state.q_rad, state.gripper_m)
    return {joint.child: _pose(inverse(poses[joint.parent]) @ poses[joint.child]) for joint in ROBOT_JOINTS}


def _pose(T: F64) -> tuple[F64, F64]:
    x, y, z, w = to_quaternion(T[:3, :3])
    return np.array([w, x, y, z]), T[:3, 3]


def at_fraction(paths: tuple[JointPath, ...], fraction: float) -> F64 | None:
    """(7,) joints after a share (0..1) of the time of several motions, one after another; None without a motion."""
    if not paths:
        return None
    ends = np.cumsum([float(path.t_s[-1]) for path in paths])
    t_s = min(max(fraction, 0.0), 1.0) * ends[-1]
    number = min(int(np.searchsorted(ends, t_s)), len(paths) - 1)
    path, start_s = paths[number], ends[number] - float(paths[number].t_s[-1])
    return np.array([np.interp(t_s - start_s, path.t_s, q) for q in path.q_rad.T])


def hand_poses(T_base_tcp: F64, open_m: float) -> dict[str, F64]:
    """``T_base_link`` of hand and fingers whose tool is at a pose."""
    poses = link_poses(HOME_Q_RAD, open_m)
    T = T_base_tcp @ inverse(poses[TCP_LINK])
    return {link: T @ poses[link] for link in HAND}


class Scene:
    """Draws into one browser's scene. Thread safe.

    Args:
        scene: ``scene`` of a viser client.
        views: What to draw.
    """

    def __init__(self, scene: Any, views: Views) -> None:
        self._scene, self._views = scene, views
        self._lock = threading.RLock()  # the page's clock draws, and each click in a thread of its own
        self._seen: dict[str, tuple[int, Any]] = {}
        self._drawn: RobotState | None = None
        self._hidden = {OBSTACLES}
        scene.set_up_direction("+z")
        scene.add_grid("/table", width=2.0, height=2.0, cell_size=0.1, position=(0.5, 0.0, -0.001))
        self._robot = self._links()
        self._path_line: Any = None
        self._tube: PathView | None = None  # as it is drawn
        self._gizmos: list[Any] = []
        self._line: F64 | None = None
        self._arm = {link: self._ghost(f"/ghost_arm/{link}", link, GHOST_ARM) for link in hull_meshes()}
        self._gripper = {link: self._ghost(f"/ghost_gripper/{link}", link, GHOST_GRIPPER) for link in HAND}

    def _links(self) -> dict[str, Any]:
        """Each link's frame within its parent's: when the arm moves, only what turns or slides is sent."""
        frames = {BASE_LINK: self._scene.add_frame("/robot", show_axes=False)}
        for joint in ROBOT_JOINTS:
            name = f"{frames[joint.parent].name}/{joint.child}"
            frames[joint.child] = self._scene.add_frame(name, show_axes=False)
        for link in hull_meshes():
            for number, (vertices, faces, colour) in enumerate(_visual(link)):
                name = f"{frames[link].name}/{number}"
                self._scene.add_mesh_simple(name, vertices, faces, color=colour, flat_shading=True)
        return frames

    def _ghost(self, name: str, link: str, colour: tuple[int, int, int]) -> Any:
        vertices, faces = _hull(link)
        return self._scene.add_mesh_simple(
            name,
            vertices,
            faces,
            color=colour,
            opacity=GHOST_OPACITY,
            flat_shading=True,
            cast_shadow=False,
            visible=False,
        )

    def show(self, name: str, visible: bool) -> None:
        """Show or hide a view that comes and goes: :data:`CLOUD`, :data:`PATH`, :data:`BOXES` or :data:`OBSTACLES`."""
        with self._lock:
            self._views.want(name, self, visible)
            (self._hidden.discard if visible else self._hidden.add)(name)
            self._seen.pop(name, None)
            if not visible:
                for part in _PARTS[name]:
                    self._scene.remove_by_name(f"/{part}")
                if name == PATH:
                    self._tube = None

    def refresh(self) -> None:
        """Draw what is new."""
        with self._lock:
            _, state = self._views.get(JOINTS)
            if state is not None and (self._drawn is None or _moved(state, self._drawn)):
                self._move(state)
            self._edit_line()
            for name, draw in (
                (CLOUD, self._cloud),
                (PATH, self._path),
                (BOXES, self._boxes),
                (OBSTACLES, self._cells),
            ):
                number, value = self._views.get(name)
                seen, drawn = self._seen.get(name, (0, None))
                if value is not None and name not in self._hidden and seen != number:
                    self._seen[name] = number, value
                    if drawn is None or not _same(value, drawn):  # the stack says the same again at the camera's rate
                        draw(value)

    def _move(self, state: RobotState) -> None:
        """Pose the robot. Only what has turned or slid is set: viser compares what it is given with what it has, slowly."""
        before, self._drawn = self._drawn, state
        turned = dict(zip(ARM_JOINTS, state.q_rad != before.q_rad, strict=True)) if before is not None else {}
        slid = before is not None and state.gripper_m != before.gripper_m
        poses = _in_parents(state)
        for joint in ROBOT_JOINTS:
            handle, (wxyz, position_m) = self._robot[joint.child], poses[joint.child]
            if before is None or turned.get(joint.name, False):
                handle.wxyz = wxyz
            if before is None or (slid and joint.kind == "prismatic"):
                handle.position = position_m

    def _cloud(self, cloud: Cloud) -> None:
        self._scene.add_point_cloud("/cloud", cloud.points_m, cloud.rgb, point_size=0.004, precision="float32")

    def _cells(self, cells: Cells) -> None:
        colour = np.full((len(cells.centres_m), 3), OBSTACLE, np.uint8)
        self._scene.add_point_cloud(
            "/obstacles",
            cells.centres_m,
            colour,
            point_size=cells.edge_m,
            point_shape="square",
            precision="float32",
        )

    def _path(self, path: PathView) -> None:
        points, rgb = path.points_m, path.rgb
        if len(points) < 2:
            return
        ends, colours = np.stack([points[:-1], points[1:]], 1), np.stack([rgb[:-1], rgb[1:]], 1)
        before = self._tube
        if (
            before is not None
            and before.tube_radius_m == path.tube_radius_m
            and np.array_equal(before.points_m, points)
        ):
            self._path_line.colors = colours  # the tool moves along it
            return
        self._tube = path
        self._path_line = self._scene.add_line_segments("/path", ends, colours, thickness=4.0, thickness_units="screen")
        vertices, faces = _ball()
        self._scene.add_batched_meshes_simple(
            "/tube", path.tube_radius_m * vertices, faces, np.tile((1.0, 0.0, 0.0, 0.0), (BALLS, 1)),
            resample(points, BALLS), batched_colors=TUBE, opacity=TUBE_OPACITY, lod="off",
            cast_shadow=False, receive_shadow=False,
        )  # fmt: skip

    def _boxes(self, boxes: Boxes) -> None:
        self._scene.remove_by_name("/boxes")
        for number, (centre, size, kept) in enumerate(zip(boxes.centres_m, boxes.sizes_m, boxes.kept, strict=True)):
            self._scene.add_box(
                f"/boxes/{number}", KEPT if kept else REMOVED, tuple(size), wireframe=True, position=centre,
                cast_shadow=False, receive_shadow=False,
            )  # fmt: skip

    def edit(self, points_m: F64 | None) -> None:
        """Let a person drag waypoints (N, 3), from these places on; None: no more."""
        with self._lock:
            self._scene.remove_by_name("/edit")
            self._line = None
            self._gizmos = [
                self._scene.add_transform_controls(
                    f"/edit/{number}", GIZMO_M, disable_rotations=True, depth_test=False, position=point
                )
                for number, point in enumerate(() if points_m is None else points_m, 1)
            ]
            for number, _ in enumerate(self._gizmos, 1):
                self._scene.add_label(f"/edit/{number}/number", str(number))

    def move(self, waypoint: int, point_m: F64) -> None:
        """Put a waypoint, from 0, that is edited at (3,)."""
        with self._lock:
            if waypoint < len(self._gizmos):
                self._gizmos[waypoint].position = point_m

    def edited(self) -> F64:
        """(N, 3) where the waypoints were dragged to; (0, 3) while nothing is edited."""
        with self._lock:
            return np.array([gizmo.position for gizmo in self._gizmos], float).reshape(-1, 3)

    def _edit_line(self) -> None:
        """The line through the gizmos follows them."""
        points = self.edited()
        if len(points) and (self._line is None or not np.array_equal(points, self._line)):
            self._line = points
            ends = np.stack([points[:-1], points[1:]], 1)
            self._scene.add_line_segments("/edit/line", ends, EDITED, thickness=3.0, thickness_units="screen")

    def propose(self, proposal: Proposal | None, fraction: float = 1.0) -> None:
        """Show a proposed motion as ghosts, the arm after a share of it; None hides them."""
        with self._lock:
            q_rad = at_fraction(proposal.paths, fraction) if proposal is not None else None
            for handle in (*self._gripper.values(), *self._arm.values()):
                handle.visible = False
            if proposal is not None:
                keypose = proposal.keypose
                _place(
                    self._gripper,
                    hand_poses(keypose.T_base_tcp, MAX_WIDTH_M if keypose.gripper_open else CLOSED_M),
                )
            if q_rad is not None:
                _place(self._arm, link_poses(q_rad, self._drawn.gripper_m if self._drawn else MAX_WIDTH_M))


_PARTS = {CLOUD: ("cloud",), PATH: ("path", "tube"), BOXES: ("boxes",), OBSTACLES: ("obstacles",)}


def _same(a: Any, b: Any) -> bool:
    """Whether two views of one kind show the same."""
    return all(np.array_equal(getattr(a, field.name), getattr(b, field.name)) for field in fields(a))


def _moved(a: RobotState, b: RobotState) -> bool:
    return bool(np.abs(a.q_rad - b.q_rad).max() > MOVED_RAD or abs(a.gripper_m - b.gripper_m) > MOVED_M)


def _place(handles: dict[str, Any], poses: dict[str, F64]) -> None:
    """Show links at ``T_base_link``."""
    for link, handle in handles.items():
        handle.wxyz, handle.position = _pose(poses[link])
        handle.visible = True
