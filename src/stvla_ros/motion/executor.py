"""Moves the tool to a keypose: build the world from depth, plan, follow, then actuate the gripper.

A keypose has RLBench's meaning, because the paper's policies are trained on it: the arm moves with the *old* gripper
state, and the gripper opens or closes at the target. ``may_collide`` means that the tool touches something at the
target. Then the last part of the motion is a straight line along the tool's axis, and so is the way out in the next
keypose.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from threading import Lock

import numpy as np

from stvla_ros.config import param
from stvla_ros.description.kinematics import tcp_pose
from stvla_ros.description.robot import OPEN_WIDTH_M, PANDA, ArmLimits
from stvla_ros.errors import CancelToken, OutcomeCode, StageError
from stvla_ros.geometry.cameras import cloud
from stvla_ros.geometry.paths import valid_points
from stvla_ros.geometry.se3 import backed_off, is_rotation, rotation_distance
from stvla_ros.interfaces import MotionPlanner, Robot
from stvla_ros.motion import press
from stvla_ros.motion.collision import Keys, VoxelConfig, in_box, on_robot
from stvla_ros.motion.held import held_box, with_hidden_part
from stvla_ros.motion.release import DROP_M, FINGER_M, free_places, hang, tool_over
from stvla_ros.motion.safety import PathSafety, PathSafetyConfig, spaced
from stvla_ros.motion.scene import PlanningScene
from stvla_ros.types import F32, F64, Box, JointPath, Keypose, MotionRequest, Outcome, RgbdFrame, RobotState, Trace3d

Consent = Callable[[tuple[JointPath, ...]], bool]
"""Says yes to motions by returning, and no by raising StageError; True: it took time."""


def agreed(paths: tuple[JointPath, ...]) -> bool:
    """Consent to everything."""
    return False


@dataclass(frozen=True)
class ExecutorConfig:
    """Settings of the executor. Speeds belong to the motion planner."""

    x_min_m: float = param(0.15, "workspace: smallest x of the tool [m]", ge=-1.0, le=1.0)
    x_max_m: float = param(0.85, "workspace: largest x of the tool [m]", ge=-1.0, le=1.0)
    y_min_m: float = param(-0.65, "workspace: smallest y of the tool [m]", ge=-1.0, le=1.0)
    y_max_m: float = param(0.65, "workspace: largest y of the tool [m]", ge=-1.0, le=1.0)
    z_min_m: float = param(0.0, "workspace: smallest z of the tool [m]", ge=-0.5, le=1.2)
    z_max_m: float = param(0.9, "workspace: largest z of the tool [m]", ge=-0.5, le=1.2)
    approach_m: float = param(0.1, "length of the straight way into contact [m]", ge=0.02, le=0.3)
    retreat_m: float = param(0.08, "length of the straight way out of contact [m]", ge=0.0, le=0.3)
    press_m: float = param(
        0.006, "a closed hand presses at most this far behind the surface that the camera sees [m]", ge=0.0, le=0.05
    )
    empty_width_m: float = param(0.004, "a closed gripper narrower than this holds nothing [m]", ge=0.0, le=0.03)
    symmetric_gripper: bool = param(True, "an empty hand may be rotated by half a turn about its axis")
    reach_tolerance_m: float = param(
        0.015, "a free motion that ends further than this from its goal has failed [m]", ge=0.001, le=0.1
    )
    release_clear_m: float = param(0.02, "`stvla release` keeps this much free table around [m]", ge=0.0, le=0.2)
    max_frame_age_s: float = param(2.0, "an image older than this is refused [s]", ge=0.05, le=60.0)
    voxels: VoxelConfig = param(VoxelConfig(), "obstacles from depth")  # noqa: RUF009
    path_safety: PathSafetyConfig = param(PathSafetyConfig(), "what every path is held to")  # noqa: RUF009


@dataclass(frozen=True, eq=False)
class _Leg:
    """One motion of a keypose: its goal, whether it is straight, where contact is wanted, and where it exists."""

    T_base_tcp: F64
    straight: bool
    touched: tuple[F64, ...] = ()
    left: tuple[F64, ...] = ()


@dataclass
class _Clock:
    """Seconds per phase."""

    times_s: dict[str, float] = field(
        default_factory=lambda: {"motion_plan": 0.0, "approval": 0.0, "motion": 0.0, "gripper": 0.0}
    )

    @contextmanager
    def __call__(self, phase: str) -> Iterator[None]:
        start = time.monotonic()
        try:
            yield
        finally:
            self.times_s[phase] += time.monotonic() - start


class PlannedExecutor:
    """Implements :class:`stvla_ros.interfaces.KeyposeExecutor` with a motion planner and a robot."""

    Config = ExecutorConfig

    def __init__(
        self,
        robot: Robot,
        planner: MotionPlanner,
        config: ExecutorConfig,
        open_width_m: float = OPEN_WIDTH_M,
        arm: ArmLimits = PANDA,
    ) -> None:
        self._robot, self._planner, self._config = robot, planner, config
        self._safety = PathSafety(config.path_safety, arm)
        self._open_width_m = open_width_m
        self._scene = PlanningScene(config.voxels)
        self._one_at_a_time = Lock()  # a preempted keypose may still be ending when the next one arrives
        self._scene_in_use = Lock()  # for a plan, or the hand is about to close on what the scene shows
        self._hand_ns: int | None = 0  # images from before show the hand with something else in it; None: from now on
        self._open: bool | None = None  # last commanded gripper state; None: unknown, look at the fingers
        self._held: Box | None = None
        self._grasp_m: F64 | None = None  # position of the tool when the fingers closed on it
        self._seen_whole = False  # an image showed the held object while it hung free
        self._contact: F64 | None = None  # tool pose of the last keypose that may touch
        self._turned = False  # the hand is rotated by half a turn relative to the last keypose
        self._recovered = False  # nothing has moved since the robot stopped itself and was recovered

    def execute(
        self,
        keypose: Keypose,
        frame: RgbdFrame,
        trace: Trace3d | None,
        cancel: CancelToken,
        consent: Consent = agreed,
    ) -> Outcome:
        """Move to the keypose, then actuate the gripper.

        If a grasp (the gripper closes at a keypose that may touch) finds nothing, the gripper opens again, so that the
        next attempt starts like this one, and GRASP_FAILED is raised. The same happens if the object is lost on the
        way.

        Args:
            keypose: The goal.
            frame: Current image of the scene, with the arm in it.
            trace: The path that the keypose was predicted from. Where the keypose may touch, so do the instances at the
                path's ends, if they are close.
            cancel: Stops the arm at once when set.
            consent: Asked once the motions are planned, before the first of them; whatever it raises ends the keypose.
                The planning scene takes in images meanwhile.

        Raises:
            StageError: KEYPOSE_OUT_OF_BOUNDS, STALE_IMAGE, NO_IK, NO_PATH, COLLISION, GRASP_FAILED,
                CONTROLLER_FAILED, what the robot raises, and the code of ``cancel``.
        """
        cancel.raise_if_set()
        self._check_keypose(keypose)
        clock = _Clock()
        forget = cancel.on_cancel(self._robot.stop)
        try:
            with self._one_at_a_time:
                self._reach(keypose, frame, cancel, clock, _ends(trace), consent)
        finally:
            forget()
        return Outcome(OutcomeCode.OK, "Keypose reached.", clock.times_s)

    @property
    def obstacles_m(self) -> F32:
        """(V, 3) centres of the cells that motions avoid, unless they may touch them; another array after each change."""
        return self._scene.voxels_m

    def reset(self) -> None:
        """Forget what is held and touched, after somebody else changed the scene."""
        with self._scene_in_use:
            self._open, self._held, self._contact, self._turned, self._hand_ns = None, None, None, False, None
            self._scene.clear()

    def observe(self, frame: RgbdFrame, robot: RobotState | None = None) -> bool:
        """Add an image to the scene between motions or during one: of another camera, or of the same one. The next
        motion avoids what it shows; the present one keeps its path.

        Args:
            frame: The image.
            robot: The arm at about the image's time; None: as it is now.

        Returns:
            False, and nothing is done: while a motion is planned, while the arm is in contact on purpose (the hand
            hides what it is about to close on), and for an image from before the hand last opened or closed.

        Raises:
            StageError: The robot's state is not known.
        """
        if not self._scene_in_use.acquire(blocking=False):
            return False
        try:
            if self._hand_ns is None:
                self._hand_ns = self._robot.state().stamp_ns
            if frame.stamp_ns < self._hand_ns:
                return False
            self._scene.observe(frame, robot or self._robot.state(), self._held, passing=True)
        finally:
            self._scene_in_use.release()
        return True

    def soften(self) -> None:
        """Make the next motions slow: the robot was stopped."""
        self._safety.soften()

    def recovered(self, state: RobotState) -> None:
        """The robot stopped itself here and was recovered: forget what was assumed, and leave what it may touch first.

        Until something has moved, no motion goes straight on into a contact: each begins with the way back along the
        tool's axis.

        Args:
            state: State of the robot, at rest.
        """
        self.reset()
        self.soften()
        self._contact, self._recovered = state.T_base_tcp, True

    def holds(self, state: RobotState) -> bool:
        """Whether the hand holds something: the fingers closed on it, or are half open for an unknown reason.

        Args:
            state: State of the robot while the gripper does not move.
        """
        c, width = self._config, state.gripper_m
        apart = c.empty_width_m <= width <= _OPEN * self._open_width_m
        return apart and (
            self._held is not None or self._open is None or (self._open and width < self._open_width_m / 2)
        )

    def release(self, look: Callable[[], RgbdFrame], cancel: CancelToken) -> Outcome:
        """Put the held object on the nearest free place of the table, open the hand, and move up. An empty hand only
        opens.

        Args:
            look: Returns a current image of the scene.
            cancel: Stops the arm at once when set.

        Raises:
            StageError: NO_PATH if the arm can reach no free place on the table (nothing has moved), and as
                :meth:`execute`.
        """
        cancel.raise_if_set()
        clock = _Clock()
        forget = cancel.on_cancel(self._robot.stop)
        try:
            with self._one_at_a_time:
                sentence = self._put_down(look, cancel, clock)
        finally:
            forget()
        return Outcome(OutcomeCode.OK, sentence, clock.times_s)

    def _put_down(self, look: Callable[[], RgbdFrame], cancel: CancelToken, clock: _Clock) -> str:
        frame, state = look(), self._robot.state()
        self._look_at_gripper(state)
        if self._held is None:
            with clock("gripper"):
                self._let_go(cancel)
            return "Nothing was in the gripper; it is open."
        with clock("motion_plan"):
            places = self._places(self._held, frame, state)
        there, why = False, "no part of it is seen to be free"
        for T in places:
            try:
                self._reach(Keypose(T, gripper_open=True, may_collide=True), look(), cancel, clock)
            except StageError as error:
                if error.code not in _NOT_PLANNED:
                    raise
                why = error.sentence
            else:
                there = True
                break
        if not there:
            raise StageError(
                OutcomeCode.NO_PATH,
                f"The object in the gripper cannot be put down on the table ({len(places)} places tried: "
                f"{why.rstrip('.')}): clear a part of the table, or take the object out by hand.",
            )
        state = self._robot.state()
        self._reach(Keypose(backed_off(state.T_base_tcp, self._config.approach_m), True), look(), cancel, clock)
        x, y = state.T_base_tcp[:2, 3]
        return f"Put down at ({x:.2f}, {y:.2f}) m; the gripper is open."

    def _places(self, held: Box, frame: RgbdFrame, state: RobotState) -> list[F64]:
        """(4, 4) tool poses, as in keyposes, from which the held object can be released."""
        c = self._config
        radius = max(float(np.hypot(*held.size_m[:2])) / 2, self._open_width_m / 2 + FINGER_M) + c.release_clear_m
        low, high = np.array([c.x_min_m, c.y_min_m, c.z_min_m]), np.array([c.x_max_m, c.y_max_m, c.z_max_m])
        height = hang(held, state, frame, self._grasp_m) + DROP_M
        with self._scene_in_use:
            self._scene.observe(frame, state, held)
            poses = [tool_over(p, state, height) for p in free_places(self._scene, state, radius, low, high)]
        return [T @ _HALF_TURN if self._turned else T for T in poses]

    def _reach(
        self,
        keypose: Keypose,
        frame: RgbdFrame,
        cancel: CancelToken,
        clock: _Clock,
        ends_m: tuple[F64, ...] = (),
        consent: Consent = agreed,
    ) -> None:
        """Move to the keypose, then actuate the gripper. The scene takes in images on the way to a contact, not in it."""
        with self._scene_in_use, clock("motion_plan"):
            state = self._robot.state()
            self._check_age(frame, state)
            self._look_at_gripper(state)
            self._look_below_held(frame, state)
            if keypose.may_collide and not keypose.gripper_open and not self._open and self._held is None:
                keypose = press.limited(keypose, frame, state, self._config.press_m)
            self._scene.observe(frame, state, self._held)
            paths = self._plan(keypose, state, ends_m, cancel)
            known = self._scene.cells
        with clock("approval"):
            waited = consent(tuple(paths))
        if waited:
            with self._scene_in_use:
                self._check_way(paths, state, known)
        free = len(paths) - keypose.may_collide
        with clock("motion"):
            self._contact = keypose.T_base_tcp if keypose.may_collide else None
            self._follow(paths[:free], cancel)
        with self._scene_in_use:
            with clock("motion"):
                self._follow(paths[free:], cancel)
            cancel.raise_if_set()
            self._check_arrival(keypose)
            with clock("gripper"):
                self._actuate(keypose, cancel)

    def _check_way(self, paths: list[JointPath], state: RobotState, known: Keys) -> None:
        """Refuse a motion if something has come into its way since it was planned: a person took time to approve it."""
        appeared, margin_m, held = self._scene.appeared(known), self._scene.config.size_m / 2, self._held
        for path in paths if len(appeared) else ():
            postures = path.q_rad[spaced(path.q_rad, _LOOK_STEP_RAD)]
            for q, T in zip(postures, tcp_pose(postures), strict=True):
                met = on_robot(appeared, replace(state, q_rad=q), margin_m)
                if held is not None:
                    met |= in_box(appeared, T @ held.T_frame_box, held.size_m, margin_m)
                if met.any():
                    raise StageError(
                        OutcomeCode.COLLISION,
                        "Something has come into the way of the motion while it waited for approval: plan again.",
                    )

    def _follow(self, paths: list[JointPath], cancel: CancelToken) -> None:
        for path in paths:
            cancel.raise_if_set()
            self._safety.follow(self._robot, path, cancel)
            self._recovered = False

    def _plan(
        self, keypose: Keypose, state: RobotState, ends_m: tuple[F64, ...], cancel: CancelToken
    ) -> list[JointPath]:
        """Paths of the first way that works. If none does, raises the failure of the first one."""
        failure: StageError | None = None
        for turned, way in self._ways(keypose, state):
            try:
                paths = self._plan_way(way, state, ends_m, cancel)
            except StageError as error:
                cancel.raise_if_set()
                if error.code not in _NOT_PLANNED:
                    raise
                failure = failure or error
            else:
                self._turned = turned
                return paths
        assert failure is not None
        raise failure

    def _plan_way(
        self, way: list[_Leg], state: RobotState, ends_m: tuple[F64, ...], cancel: CancelToken
    ) -> list[JointPath]:
        paths: list[JointPath] = []
        for leg, after in zip(way, [*way[1:], None], strict=True):
            cancel.raise_if_set()
            start, here = (paths[-1].q_rad[-1], None) if paths else (state.q_rad, state.T_base_tcp)
            world = self._scene.world(leg.touched, leg.left, self._held, here, ends_m if leg.touched else ())
            line = after.T_base_tcp if after is not None and after.straight else None
            request = MotionRequest(start, leg.T_base_tcp, world, leg.straight, state.gripper_m, cancel, line)
            paths.append(self._safety.checked(self._planner.plan(request), self._held, state.gripper_m))
        return paths

    def _ways(self, keypose: Keypose, state: RobotState) -> Iterator[tuple[bool, list[_Leg]]]:
        """Sequences of motions to a keypose, the simplest first, and whether they rotate the hand by half a turn."""
        for turned in self._turns(keypose, state):
            T = keypose.T_base_tcp @ _HALF_TURN if turned else keypose.T_base_tcp
            ways = self._ways_into_contact(T, state) if keypose.may_collide else self._ways_free(T, state)
            yield from ((turned, way) for way in ways)

    def _turns(self, keypose: Keypose, state: RobotState) -> tuple[bool, ...]:
        """Whether to rotate the hand by half a turn about its axis.

        An empty hand may do either; the smaller rotation is tried first. A hand that holds something keeps the choice
        of the grasp, so that the object rotates as the keyposes say.
        """
        if not self._config.symmetric_gripper:
            return (False,)
        if self._held is not None:
            return (self._turned,)
        here, T = state.T_base_tcp[:3, :3], keypose.T_base_tcp
        far = rotation_distance(here, T[:3, :3]) > rotation_distance(here, (T @ _HALF_TURN)[:3, :3])
        return (far, not far)

    def _ways_into_contact(self, T: F64, state: RobotState) -> Iterator[list[_Leg]]:
        touched = (T,)
        if self._held is not None and self._touching(state) and _turned_in_place(T, state.T_base_tcp):
            yield [_Leg(T, True, touched, self._touching(state))]
        if _on_axis(T, state.T_base_tcp) and not self._recovered:
            yield [_Leg(T, True, touched, self._touching(state))]
        for share in (1.0, 0.6, 0.3):
            before = backed_off(T, share * self._config.approach_m)
            yield [*self._way_out(state), _Leg(before, False), _Leg(T, True, touched)]

    def _ways_free(self, T: F64, state: RobotState) -> Iterator[list[_Leg]]:
        touching = self._touching(state)
        if touching and _on_axis(state.T_base_tcp, T):
            yield [_Leg(T, True, left=touching)]
        yield [*self._way_out(state), _Leg(T, False)]
        if touching:
            yield [_Leg(T, False, left=touching)]

    def _touching(self, state: RobotState) -> tuple[F64, ...]:
        """The tool's pose if the arm is still where the last keypose brought it into contact."""
        contact = self._contact
        near = contact is not None and np.linalg.norm(state.T_base_tcp[:3, 3] - contact[:3, 3]) < 0.03
        return (state.T_base_tcp,) if near else ()

    def _way_out(self, state: RobotState) -> list[_Leg]:
        touching = self._touching(state)
        if not touching or self._config.retreat_m == 0.0:
            return []
        return [_Leg(backed_off(state.T_base_tcp, self._config.retreat_m), True, left=touching)]

    def _look_at_gripper(self, state: RobotState) -> None:
        """Trust the fingers, not the last command: somebody else may have moved them, or a cancel stopped them."""
        width, open_m = state.gripper_m, self._open_width_m
        if self._open is None or (not self._open and width > _OPEN * open_m) or (self._open and width < open_m / 2):
            self._open, self._held, self._grasp_m, self._hand_ns = width > _OPEN * open_m, None, None, None
            if not self._open and width >= self._config.empty_width_m:  # holds an object that was never seen
                self._held = held_box(np.empty((0, 3), np.float32), state.T_base_tcp, width)

    def _look_below_held(self, frame: RgbdFrame, state: RobotState) -> None:
        """Once after a grasp, when the object hangs free: it may reach further down than could be seen before."""
        if self._held is None or self._grasp_m is None or self._seen_whole:
            return
        if state.T_base_tcp[2, 3] - self._grasp_m[2] > _FREE_M:
            points = cloud(frame).reshape(3, -1).T
            self._held = with_hidden_part(self._held, points, state.T_base_tcp, float(self._grasp_m[2]))
            self._seen_whole = True

    def _actuate(self, keypose: Keypose, cancel: CancelToken) -> None:
        state = self._robot.state()
        if self._held is not None and state.gripper_m < self._config.empty_width_m:
            self._let_go(cancel)
            raise StageError(OutcomeCode.GRASP_FAILED, "The object slipped out of the gripper on the way.")
        if keypose.gripper_open == self._open:
            return
        if keypose.gripper_open:
            self._let_go(cancel)
            return
        self._open, self._hand_ns = None, None  # unknown until the fingers stop
        width = self._robot.move_gripper(0.0, cancel)
        cancel.raise_if_set()
        self._open = False
        if width >= self._config.empty_width_m:
            self._held = self._scene.take(state.T_base_tcp, width)
            self._grasp_m, self._seen_whole = state.T_base_tcp[:3, 3], False
        elif keypose.may_collide:
            self._let_go(cancel)
            found = f"The gripper closed to {1000 * width:.1f} mm: nothing is between the fingers."
            raise StageError(OutcomeCode.GRASP_FAILED, found)

    def _let_go(self, cancel: CancelToken) -> None:
        self._held, self._open, self._hand_ns = None, None, None
        self._robot.move_gripper(self._open_width_m, cancel)
        self._open = True

    def _check_keypose(self, keypose: Keypose) -> None:
        T, c = keypose.T_base_tcp, self._config
        if not (np.isfinite(T).all() and is_rotation(T[:3, :3])):
            raise StageError(
                OutcomeCode.KEYPOSE_OUT_OF_BOUNDS, "The keypose is not a finite position and a proper rotation."
            )
        low, high = np.array([c.x_min_m, c.y_min_m, c.z_min_m]), np.array([c.x_max_m, c.y_max_m, c.z_max_m])
        if (T[:3, 3] < low).any() or (T[:3, 3] > high).any():
            found, a, b = (", ".join(f"{x:.2f}" for x in v) for v in (T[:3, 3], low, high))
            raise StageError(
                OutcomeCode.KEYPOSE_OUT_OF_BOUNDS,
                f"The keypose at ({found}) m is outside the workspace ({a}) to ({b}) m.",
            )

    def _check_age(self, frame: RgbdFrame, state: RobotState) -> None:
        age_s = (state.stamp_ns - frame.stamp_ns) / 1e9
        if age_s > self._config.max_frame_age_s:
            raise StageError(
                OutcomeCode.STALE_IMAGE,
                f"The image is {age_s:.1f} s old; at most {self._config.max_frame_age_s:g} s are allowed.",
            )

    def _check_arrival(self, keypose: Keypose) -> None:
        """Check that a free motion ended where it was planned; in contact, the surface decides."""
        if keypose.may_collide:
            return
        off = float(np.linalg.norm(self._robot.state().T_base_tcp[:3, 3] - keypose.T_base_tcp[:3, 3]))
        if off > self._config.reach_tolerance_m:
            raise StageError(
                OutcomeCode.CONTROLLER_FAILED,
                f"The arm stopped {100 * off:.1f} cm from the keypose: something holds it.",
            )


_OPEN = 0.95
"""A gripper counts as open from this share of its open width."""

_FREE_M = 0.06
"""An object that was lifted by this much hangs free."""

_NOT_PLANNED = frozenset({OutcomeCode.NO_IK, OutcomeCode.NO_PATH, OutcomeCode.COLLISION})
"""Failures before anything has moved."""

_LOOK_STEP_RAD = 0.1
"""Between postures at which an approved motion is checked again: the hand moves by about 5 cm, its own width."""

_HALF_TURN = np.diag([-1.0, -1.0, 1.0, 1.0])


def _ends(trace: Trace3d | None) -> tuple[F64, ...]:
    """(3,) start and end of a path."""
    points = np.empty((0, 3)) if trace is None else valid_points(trace)
    return (points[0], points[-1]) if len(points) else ()


def _turned_in_place(T: F64, T_before: F64, along_m: float = 0.05, aside_m: float = 0.015) -> bool:
    """Whether ``T`` differs from the pose before only by a turn about the tool's axis and a short way along it."""
    offset = T_before[:3, :3].T @ (T[:3, 3] - T_before[:3, 3])
    return bool(
        0.0 <= offset[2] + 0.005 <= along_m
        and np.hypot(offset[0], offset[1]) < aside_m
        and T[:3, 2] @ T_before[:3, 2] > np.cos(0.1)
    )


def _on_axis(T: F64, T_behind: F64, aside_m: float = 0.015, turned_rad: float = 0.3) -> bool:
    """Whether ``T_behind`` lies back along the tool axis of ``T`` with about the same orientation."""
    offset = T[:3, :3].T @ (T_behind[:3, 3] - T[:3, 3])
    return bool(
        offset[2] < 0
        and np.hypot(offset[0], offset[1]) < aside_m
        and rotation_distance(T[:3, :3], T_behind[:3, :3]) < turned_rad
    )
