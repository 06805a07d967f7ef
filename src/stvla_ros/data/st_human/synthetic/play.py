"""How the hand moves: it comes into the image, closes, carries, opens and leaves, frame by frame.

Every stretch is a minimum-jerk motion (Flash and Hogan, The coordination of arm movements, 1985) that takes 0.35 s and a
share that grows with its length, about 0.45 m/s on the way, as arms do that reach at ease. The hand is open to a few
centimetres more than the thing, and turned as it will take it, at 65 % of the time that it needs to get there (Jeannerod,
The timing of natural prehension movements, 1984). It opens to the same width again when it lets go.
A thing moves rigidly with the hand from the frame in which both sides of the grip touch it to the last one in which they
do: there is no physics, and no slip.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from scipy.spatial.transform import Rotation, Slerp

from stvla_ros.geometry.se3 import inverse
from stvla_ros.sim.human.hand import POINT, REST, aimed, finger_frame, grip, grip_frame
from stvla_ros.sim.human.stage import Pose, Stage
from stvla_ros.types import F64

REACH_S, SPEED_M_S = 0.35, 0.45
CLOSING_S = 0.25
PRESHAPED = 0.65
WIDER_M, TIGHTER_M = 0.03, 0.03
"""The open hand is wider than the thing by this; it would close to a grip narrower by this if nothing were in it."""

BACK_M = 0.15
"""The inner point of an approach's curve lies so far before its end, in the direction of the grip, which is therefore that
in which it arrives. A retreat begins the same way."""

GRAVITY_M_S2 = 9.81

Path = Callable[[float], F64]


@dataclass(frozen=True, eq=False)
class Instant:
    """One frame: its phase, where everything is, and what the hand holds or pushes."""

    phase: str
    pose: Pose
    moved: str | None = None


@dataclass
class Play:
    """A video in the making.

    Attributes:
        stage: Where it plays.
        fps: Frames per second.
        pace: 1 is the usual speed.
        heading: (3,) level unit vector from the person to the table.
        things: (4, 4) ``T_base_thing`` of each, as of the newest frame.
        frames: All so far.
        contact: Index of the first frame in which the hand touches what it takes.
        release: Index of the last one.
    """

    stage: Stage
    fps: float
    pace: float
    heading: F64
    things: dict[str, F64]
    frames: list[Instant] = field(default_factory=list)
    contact: int = -1
    release: int = -1
    _hand: F64 = field(default_factory=lambda: np.eye(4))
    _posture: F64 = field(default_factory=REST.copy)
    _opened: F64 = field(default_factory=REST.copy)
    _ahead: F64 = field(
        default_factory=lambda: np.array([0.0, 0.0, -1.0])
    )  # direction of the grip, in the hand's frame

    def begin(self, near_m: F64, seconds: float) -> None:
        """Frames without a hand; it waits outside the image, on the way to a place."""
        self._hand, self._posture = self._outside(near_m), REST.copy()
        self.stand("clean", seconds)

    def stand(self, phase: str, seconds: float, moved: str | None = None) -> None:
        """Nothing moves."""
        for _ in range(max(1, round(seconds * self.fps))):
            self._append(phase, moved)

    def take(self, thing: str, at_m: F64, width_m: float, approach: F64, closing: F64) -> None:
        """Reach for a thing and close on it.

        Args:
            thing: Its name.
            at_m: (3,) middle of the grip, in the base frame.
            width_m: Of the thing there, from thumb to fingers.
            approach: (3,) direction in which the palm comes, as far as it is square to ``closing``: else thumb or fingers
                would come across the thing.
            closing: (3,) direction from the thumb to the fingers.
        """
        rig = self.stage.rig
        opened = grip(rig, width_m + WIDER_M)
        local = grip_frame(rig, opened)
        goal = aimed(local, at_m, approach, closing)
        opened = self.stage.opened_around(thing, Pose(goal, opened, self.things))
        pose = Pose(goal, opened, self.things)
        self._reach(goal, opened, goal[:3, :3] @ local[:3, 2])
        closed = self.stage.closed_on(thing, pose, grip(rig, max(width_m - TIGHTER_M, 0.0)))
        self._shape("grasp", closed)
        self._touched(thing)

    def _touched(self, thing: str) -> None:
        self.frames[-1] = replace(self.frames[-1], moved=thing)
        self.contact = len(self.frames) - 1

    def point(self, thing: str, at_m: F64, finger: F64, motion: F64, gap_m: float = 0.06) -> None:
        """Bring the tip of the index finger to where it touches a thing.

        Args:
            thing: Its name.
            at_m: (3,) a point of its surface.
            finger: (3,) unit vector along the finger, not straight up or down.
            motion: (3,) unit vector of the last stretch.
            gap_m: Length of that stretch.
        """
        local, up = finger_frame(self.stage.rig, POINT), np.array([0.0, 0.0, 1.0])
        before = aimed(local, at_m - gap_m * motion, finger, up - (up @ finger) * finger)
        self._reach(before, POINT, finger)
        start = Pose(before, POINT, self.things)
        goal = self.stage.moved_until_touch(thing, start, 2 * gap_m * motion, ("index",)).T_base_hand
        self._move("touch", self._seconds(before, goal), _arc(before, goal), lambda _: POINT)
        self._ahead = goal[:3, :3].T @ motion
        self._touched(thing)

    def carry(self, phase: str, thing: str, goal: F64, lift_m: float) -> None:
        """Bring the held thing to a pose, over the highest of both ends and ``lift_m`` more."""
        start = self.things[thing]
        T_hand_thing = inverse(self._hand) @ start
        rise = max(goal[2, 3] - start[2, 3], 0.0) + lift_m, max(start[2, 3] - goal[2, 3], 0.0) + lift_m
        path = _arc(
            start,
            goal,
            *((goal - start)[:3, 3] / 6 * side + [0, 0, up] for side, up in zip((1, -1), rise, strict=True)),
        )
        seconds = self._seconds(start, goal, sum(rise))
        self._move(phase, seconds, lambda s: path(s) @ inverse(T_hand_thing), lambda _: self._posture, thing)

    def lead(self, phase: str, thing: str, path: Path, seconds: float) -> None:
        """Move the held or touched thing along a path of poses, from where it is at 0 to its end at 1."""
        T_hand_thing = inverse(self._hand) @ self.things[thing]
        self._move(
            phase, seconds / self.pace, lambda s: path(s) @ inverse(T_hand_thing), lambda _: self._posture, thing
        )

    def let_go(self, others: Callable[[float], Mapping[str, F64]] | None = None) -> None:
        """Open the fingers; other things may move meanwhile, by seconds."""
        self.release = len(self.frames) - 1
        self._shape("release", self._opened, others)

    @property
    def seconds_since_release(self) -> float:
        """Of the newest frame."""
        return (len(self.frames) - 1 - self.release) / self.fps

    def leave(self, others: Callable[[float], Mapping[str, F64]] | None = None) -> None:
        """Take the hand out of the image; other things may move meanwhile, by seconds since it began."""
        if self.release < 0:
            self.release = len(self.frames) - 1
        goal = self._outside(self._hand[:3, 3])
        path = _arc(self._hand, goal, leaving_m=-BACK_M * self._hand[:3, :3] @ self._ahead)
        seconds = self._seconds(self._hand, goal)
        q = self._posture
        self._move(
            "retreat", seconds, path, lambda s: (1 - s) * q + s * REST,
            others=others,
        )  # fmt: skip

    def _reach(self, goal: F64, posture: F64, ahead: F64) -> None:
        """Come to a pose, open as far as a posture, and arrive in a direction."""
        self._ahead, self._opened = goal[:3, :3].T @ ahead, posture
        start, q = self._hand, self._posture

        def shaped(s: float) -> float:
            return min(s / _minimum_jerk(PRESHAPED), 1.0)

        path = _arc(start, goal, arriving_m=-BACK_M * ahead, turned=shaped)
        self._move("approach", self._seconds(start, goal), path, lambda s: q + shaped(s) * (posture - q))

    def _shape(self, phase: str, posture: F64, others: Callable[[float], Mapping[str, F64]] | None = None) -> None:
        T, q = self._hand, self._posture
        self._move(phase, CLOSING_S / self.pace, lambda _: T, lambda s: (1 - s) * q + s * posture, others=others)

    def _seconds(self, start: F64, goal: F64, more_m: float = 0.0) -> float:
        length = float(np.linalg.norm(goal[:3, 3] - start[:3, 3])) + more_m
        return (REACH_S + length / SPEED_M_S) / self.pace

    def _move(
        self, phase: str, seconds: float, hand: Path, posture: Path, carried: str | None = None,
        others: Callable[[float], Mapping[str, F64]] | None = None,
    ) -> None:  # fmt: skip
        count = max(2, round(seconds * self.fps))
        T_hand_thing = inverse(self._hand) @ self.things[carried] if carried else np.eye(4)
        for k in range(1, count + 1):
            s = _minimum_jerk(k / count)
            T, q = hand(s), posture(s)
            if carried:
                self.things[carried] = T @ T_hand_thing
            if others:
                self.things.update(others(k / self.fps))
            self.frames.append(Instant(phase, Pose(T, q, dict(self.things)), carried))
        self._hand, self._posture = self.frames[-1].pose.T_base_hand, self.frames[-1].pose.posture

    def _append(self, phase: str, moved: str | None) -> None:
        self.frames.append(Instant(phase, Pose(self._hand, self._posture, dict(self.things)), moved))

    def _outside(self, near_m: F64) -> F64:
        """(4, 4) relaxed hand beside the image, from where it comes to a place."""
        rig, camera = self.stage.rig, self.stage.camera
        local = finger_frame(rig, REST)
        margin = 0.3 * camera.width_px  # so far that its shadow is outside too
        for back in np.arange(0.2, 2.0, 0.02):
            at = near_m - back * self.heading
            at[2] += 0.08
            at[2] = max(at[2], 0.08) + 0.1 * back
            T = aimed(local, at, self.heading - [0, 0, 0.25], np.array([0.0, 0.0, 1.0]))
            points = self.stage.keypoints_m(Pose(T, REST, {}))
            seen = (inverse(camera.T_base_camera) @ np.column_stack([points, np.ones(len(points))]).T)[:3]
            u, v = (camera.K @ seen)[:2] / np.maximum(seen[2], 0.05)
            inside = (u > -margin) & (u < camera.width_px + margin) & (v > -margin) & (v < camera.height_px + margin)
            if not inside.any():
                return T
        raise ValueError("the hand finds no way out of the image")


def _minimum_jerk(t: float) -> float:
    return t**3 * (10 - 15 * t + 6 * t * t)


def _arc(
    start: F64, goal: F64, leaving_m: F64 | None = None, arriving_m: F64 | None = None,
    turned: Callable[[float], float] = lambda s: s,
) -> Path:  # fmt: skip
    """A cubic Bezier curve whose inner points lie at these offsets from its ends; without one, on the straight line.

    ``turned`` says how much of the turn is done by a share of the curve.
    """
    a, d = start[:3, 3], goal[:3, 3]
    b = a + ((d - a) / 3 if leaving_m is None else leaving_m)
    c = d + ((a - d) / 3 if arriving_m is None else arriving_m)
    turns = Slerp([0.0, 1.0], Rotation.from_matrix([start[:3, :3], goal[:3, :3]]))

    def at(s: float) -> F64:
        T = np.eye(4)
        T[:3, :3] = turns(turned(s)).as_matrix()
        T[:3, 3] = (1 - s) ** 3 * a + 3 * (1 - s) ** 2 * s * b + 3 * (1 - s) * s * s * c + s**3 * d
        return T

    return at


def fall(T: F64, floor_m: float) -> Path:
    """Poses of a thing that is let go, by seconds: it stops at a height."""

    def at(t: float) -> F64:
        fallen = T.copy()
        fallen[2, 3] = max(T[2, 3] - GRAVITY_M_S2 * t * t / 2, floor_m)
        return fallen

    return at


def about(point_m: F64, axis: F64, angle_rad: float, T: F64) -> Path:
    """Poses of a thing at T that turns about a line, from 0 to 1."""

    def at(s: float) -> F64:
        turn = np.eye(4)
        turn[:3, :3] = Rotation.from_rotvec(s * angle_rad * axis / np.linalg.norm(axis)).as_matrix()
        turn[:3, 3] = point_m - turn[:3, :3] @ point_m
        turned: F64 = turn @ T
        return turned

    return at


def along(points_m: Sequence[F64], T: F64) -> Path:
    """Poses of a thing at T that is shifted along corners, at the share of the length that is asked for."""
    corners = np.array([T[:3, 3], *points_m])
    length = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(corners, axis=0), axis=1))])

    def at(s: float) -> F64:
        moved = T.copy()
        moved[:3, 3] = [np.interp(s * length[-1], length, column) for column in corners.T]
        return moved

    return at
