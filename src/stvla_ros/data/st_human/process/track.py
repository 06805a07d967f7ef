"""How the hand and what it holds move in one segment: registered clouds, what is gone and what has come, contact, release.

A hand and the thing in it move as one. The points around the hand's end in a frame where it holds the thing are the
reference; each frame's points are registered to them by point-to-plane ICP (Chen and Medioni 1992) with trimmed pairs,
forwards and backwards from there. Only what is nearer than the scene both before and after counts, so neither the thing at its old
place nor at its new one is part of the hand.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import cv2
import numpy as np
from scipy.ndimage import median_filter
from scipy.spatial import KDTree
from scipy.spatial.transform import Rotation

from stvla_ros.data.st_human.process.folder import HumanVideo
from stvla_ros.data.st_human.process.hand_networks import INDEX_TIP, THUMB_TIP
from stvla_ros.data.st_human.process.hands import HandBackend, in_front
from stvla_ros.data.st_human.process.lift import lift
from stvla_ros.data.st_human.process.scene import backproject, to_workspace
from stvla_ros.data.st_human.process.segments import Hands, Segment
from stvla_ros.geometry.paths import runs
from stvla_ros.geometry.se3 import inverse, pose
from stvla_ros.types import F32, F64, Bool

REACH_M = 0.14
"""Points this close to the hand's end are registered."""

POINTS, LEAST_POINTS = 500, 60
"""Registered per frame; with fewer a frame says nothing."""

PAIR_M = (0.03, 0.012)
"""Longest pairs of the first and the last round of ICP."""

PAIR_TURN_M, TARGET_POINTS = 0.008, 3000
"""Longest pairs of the last round for a hand that turns on the spot, and the points that it is registered to."""

ROUNDS, TRIM = 12, 0.95
"""Rounds, and the share of nearest pairs that counts: the farthest few are other things, but the next are at outlines,
which alone hold faces seen from the front against a shift sideways. Chosen on the tests' clip, where less loses the hand."""

NEIGHBOURS, SLIDE = 10, 0.1
"""Points that a normal is fitted to, and the weight of a pair's distance along the plane beside that across it.

Without the second a cloud would slide where its planes do not hold it, e.g. along a single face."""

GOOD_M, SURE_M = 0.006, 0.003
"""Root mean square of the pairs of a frame that is well registered, and of one that needs no other reference."""

BACK, BAD_M, BACK_M, DRIFT_M = 3, 0.005, 0.0025, 0.03
"""Every so many frames a hand that was badly registered since it left the first frame is compared with that again. If it looks as
it did there, by this root mean square, but was followed to a place so far off, it was lost: the frames since are unknown."""

MOVED = 0.06
"""Share of a thing's old place that is free when it has begun to move."""

STILL_M = 0.0015
"""A hand that stays within this stands still."""

SLOW_START = 1
"""Frames in which a hand that has begun to move is still within that: a minimum-jerk motion of 40 cm in a second (Flash and
Hogan 1985) needs 1.4 frames of 1/20 s."""

LOW_M = 0.006
"""Contact is near the lowest point of the hand's way to the thing."""

LEAST_CHANGE_PX = 12
"""Smaller changes are noise."""

BEHIND_M = 0.012
"""A pixel is free of what was there when it shows something so much farther away."""

VACATED = 4
"""Frames for which the place of a thing is free that was taken and brought back: fewer are noise at its outline."""

REACHING = 0.6
"""A hand that touches something shows at least this share of the most that is seen of it."""


@dataclass(frozen=True, eq=False)
class Change:
    """What differs between the hand-free scenes before and after, in every ``stride``-th pixel.

    Attributes:
        before_m: (h, w) depth.
        after_m: (h, w) depth.
        gone: (h, w) where something was that is or was away: a sponge that lies at its old place again counts.
        came: (h, w) where something is now that was not there before, or not all the time.
    """

    before_m: F32
    after_m: F32
    gone: Bool
    came: Bool


@dataclass(frozen=True, eq=False)
class Track:
    """A segment, frame by frame from its start.

    Attributes:
        T_ref: (N, 4, 4) motion of the hand from the reference frame to each frame, in the workspace; NaN: unknown.
        rms_m: (N,) of the pairs.
        tip_m: (N, 3) the hand's end, NaN: unknown.
        axis: (N, 3) from where the arm enters to its end, of unit length.
        left: (N,) share of what is gone afterwards that is already free.
        missing: (N,) share of what has come that is not there yet.
        reference: Index of the reference frame.
        fingers_m: (N, 2, 3) tips of thumb and index finger, NaN: not found, or not seen in depth.
    """

    T_ref: F64
    rms_m: F64
    tip_m: F64
    axis: F64
    left: F64
    missing: F64
    reference: int
    fingers_m: F64


def find_change(before_m: F32, after_m: F32, vacated: Bool | None = None) -> Change:
    """What differs between two hand-free depth images, (H, W) each, and what was ``vacated`` (H, W) between them."""
    gone, came = _large(in_front(before_m, after_m)), _large(in_front(after_m, before_m))
    if vacated is not None:
        back = _large(
            cv2.morphologyEx((vacated & ~gone).astype(np.uint8), cv2.MORPH_OPEN, np.ones((3, 3), np.uint8)) > 0
        )
        gone, came = gone | back, came | back
    return Change(before_m, after_m, gone, came)


def _large(mask: Bool) -> Bool:
    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    keep = stats[:, cv2.CC_STAT_AREA] >= LEAST_CHANGE_PX
    keep[0] = False
    return np.asarray(keep[labels]) if count > 1 else np.zeros(mask.shape, bool)


def find_vacated(video: HumanVideo, segment: Segment, before_m: F32, stride: int) -> Bool:
    """(h, w) where something stood before a segment and was away for a while, in every ``stride``-th pixel."""
    free = np.zeros(before_m.shape, np.int32)
    for frame in range(segment.start, segment.end + 1):
        with np.errstate(invalid="ignore"):
            free += video.depth_m(frame)[::stride, ::stride] - before_m > _behind(before_m)
    return np.asarray(free >= VACATED)


def _behind(depth_m: F32) -> F32:
    """How much farther away is not noise: grows with the square of the distance beyond 1 m."""
    return np.asarray(BEHIND_M * np.maximum(np.float32(1.0), depth_m**2), np.float32)


def follow(
    video: HumanVideo,
    segment: Segment,
    change: Change,
    hands: HandBackend,
    found: Hands,
    T_workspace_camera: F64,
    stride: int,
) -> Track:
    """Follow the hand, whose keypoints were ``found``, through a segment. Raises VideoError for a frame that cannot be read."""
    floor = np.fmin(change.before_m, change.after_m)
    n = segment.end - segment.start + 1
    clouds: list[F64] = []
    tip, axis = np.full((n, 3), np.nan), np.full((n, 3), np.nan)
    left, missing, area = np.zeros(n), np.zeros(n), np.zeros(n)
    fingers = np.full((n, 2, 3), np.nan)
    K = np.diag([1.0 / stride, 1.0 / stride, 1.0]) @ video.camera.K
    for i in range(n):
        depth = video.depth_m(segment.start + i)[::stride, ::stride]
        with np.errstate(invalid="ignore"):
            left[i] = _share(depth - change.before_m > _behind(change.before_m), change.gone & np.isfinite(depth))
            missing[i] = _share(depth - change.after_m > _behind(change.after_m), change.came & np.isfinite(depth))
        hand = hands.find(depth, floor)
        cloud = np.zeros((0, 3))
        if hand is not None:
            area[i] = np.count_nonzero(hand.mask)
            if found.score[segment.start + i] > 0.0:
                px, local = found.px[segment.start + i] / stride, found.local_m[segment.start + i]
                joints, measured = lift(px, local, depth, hand.mask, K)
                joints[~measured] = np.nan
                fingers[i] = to_workspace(T_workspace_camera, joints[[THUMB_TIP, INDEX_TIP]])
            points, at = _inner(video, depth, hand.mask, stride)
            cloud, tip[i], axis[i] = _end(points, at, hand.tip_px, hand.enters_px, T_workspace_camera)
        clouds.append(cloud)
    reference = _reference(left, missing, tip, area, clouds)
    T, rms = _register_all(clouds, tip, reference)
    return Track(T, rms, tip, axis, left, missing, reference, fingers)


def hand_cloud(video: HumanVideo, frame: int, change: Change, hands: HandBackend, T_workspace_camera: F64) -> F64:
    """(N, 3) what is seen of the hand in a frame, in the workspace; ``change`` is that of all pixels."""
    depth = video.depth_m(frame)
    hand = hands.find(depth, np.fmin(change.before_m, change.after_m))
    if hand is None:
        return np.zeros((0, 3))
    points, at = _inner(video, depth, hand.mask, 1)
    return to_workspace(T_workspace_camera, points[at[:, 0], at[:, 1]])


def _inner(video: HumanVideo, depth: F32, mask: Bool, stride: int) -> tuple[F32, np.ndarray]:
    """(h, w, 3) points of the camera's frame, and (K, 2) the rows and columns of a mask without its outline."""
    inner = cv2.erode(mask.astype(np.uint8), np.ones((3, 3), np.uint8)).astype(bool)
    return backproject(video, depth, stride).reshape(*depth.shape, 3), np.argwhere(inner & np.isfinite(depth))


def _share(mask: Bool, of: Bool) -> float:
    total = int(np.count_nonzero(of))
    return float(np.count_nonzero(mask & of)) / total if total else 0.0


def _end(
    points: F32, at: np.ndarray, tip_px: tuple[float, float], enters_px: tuple[float, float], T_workspace_camera: F64
) -> tuple[F64, F64, F64]:
    """The cloud around a hand's end in the workspace, the end, and the direction that it points to."""
    nothing = np.zeros((0, 3)), np.full(3, np.nan), np.full(3, np.nan)
    if len(at) < LEAST_POINTS:
        return nothing
    cloud = to_workspace(T_workspace_camera, points[at[:, 0], at[:, 1]])
    along = np.hypot(at[:, 1] - enters_px[0], at[:, 0] - enters_px[1])
    near = cloud[np.hypot(at[:, 1] - tip_px[0], at[:, 0] - tip_px[1]) <= np.quantile(along, 0.9) * 0.1 + 3.0]
    if not len(near):
        return nothing
    tip = np.median(near, axis=0)
    arm = np.median(cloud[along <= np.quantile(along, 0.3)], axis=0)
    direction = tip - arm
    cloud = cloud[((cloud - tip) ** 2).sum(axis=1) < REACH_M**2]
    return cloud, tip, direction / max(float(np.linalg.norm(direction)), 1e-9)


def _reference(left: F64, missing: F64, tip: F64, area: F64, clouds: list[F64]) -> int:
    """A frame in which the thing is held and well seen; if nothing was moved, the one where the hand stands stillest."""
    enough = np.array([len(cloud) >= LEAST_POINTS for cloud in clouds])
    held = (left > 0.5) & (missing > 0.5) & enough
    if held.any():
        return int(np.flatnonzero(held)[0])
    moving = (left > MOVED) & enough
    if moving.any():
        return int(np.flatnonzero(moving)[0])
    speed = np.full(len(tip), np.inf)
    speed[2:-2] = np.linalg.norm(tip[4:] - tip[:-4], axis=1)
    reaches = enough & (area >= REACHING * area.max(initial=0.0)) & np.isfinite(speed)
    return int(np.argmin(np.where(reaches, speed, np.inf))) if reaches.any() else int(np.argmax(area * enough))


def _register_all(clouds: list[F64], tip: F64, reference: int) -> tuple[F64, F64]:
    """Motion from the reference to each frame, and the root mean square of the pairs.

    Where the hand turns so far, or opens, that a frame fits the reference badly, the frame next to it is the reference
    from there on if it fits better: errors add up only from one such change to the next, and end where the hand is seen
    again as it was first.
    """
    n = len(clouds)
    T, rms = np.full((n, 4, 4), np.nan), np.full(n, np.nan)
    if len(clouds[reference]) < LEAST_POINTS:
        return T, rms
    first = Surface.of(clouds[reference])
    T[reference], rms[reference] = np.eye(4), 0.0
    for step in (1, -1):
        target, T_target = first, np.eye(4)
        last, speed, before, left = np.eye(4), np.zeros(3), reference, reference
        for i in range(reference + step, n if step > 0 else -1, step):
            if len(clouds[i]) < LEAST_POINTS:
                continue
            guess = last.copy()
            guess[:3, 3] += speed
            source = clouds[i][:: max(len(clouds[i]) // POINTS, 1)]
            T_i, rms[i] = _onto(source, target, T_target, guess)
            if rms[i] > 2 * GOOD_M and np.isfinite(tip[[i, before]]).all():  # lost: where its end has gone
                guess = T[before].copy()
                guess[:3, 3] += tip[i] - tip[before]
                T_i, rms[i] = _onto(source, target, T_target, guess)
            if rms[i] > SURE_M and before != reference:
                nearer = Surface.of(clouds[before])
                other, off = _onto(source, nearer, T[before], guess)
                if off < 0.7 * rms[i]:
                    left = i if target is first else left
                    T_i, rms[i], target, T_target = other, off, nearer, T[before]
            lost = target is not first and np.nanmax(rms[max(min(left, i) - BACK, 0) : max(left, i) + BACK]) > BAD_M
            if lost and (i - reference) % BACK == 0 and np.isfinite(tip[[i, reference]]).all():
                guess = np.eye(4)
                guess[:3, 3] = tip[i] - tip[reference]
                other, off = _onto(source, first, np.eye(4), guess)
                there = (other - T_i)[:3, :3] @ tip[reference] + (other - T_i)[:3, 3]
                if off < BACK_M and np.linalg.norm(there) > DRIFT_M:
                    T[max(min(left, i) - BACK, 0) : max(left, i) + BACK] = np.nan  # it was lost a little earlier
                    T_i, rms[i], target, T_target = other, off, first, np.eye(4)
            if rms[i] < 2 * GOOD_M:
                T[i], before = T_i, i
                speed = np.clip(T_i[:3, 3] - last[:3, 3], -0.06, 0.06)
                last = T_i
            else:
                last, speed = T[before], np.zeros(3)
    return T, rms


def _onto(source: F64, target: Surface, T_target: F64, guess: F64) -> tuple[F64, float]:
    """A frame's motion from the reference, by a surface whose own motion is ``T_target``, from a guess of it."""
    found, rms = register(source, target, T_target @ inverse(guess))
    return np.asarray(inverse(found) @ T_target), rms


@dataclass(frozen=True, eq=False)
class Surface:
    """A cloud that others are registered to.

    Attributes:
        tree: Its (M, 3) points.
        normals: (M, 3) of the planes through each point's neighbours, of either sign.
    """

    tree: KDTree
    normals: F64

    @classmethod
    def of(cls, points: F64) -> Surface:
        """The surface that points (M, 3) are on, with M of at least three."""
        tree = KDTree(points)
        near = points[tree.query(points, k=min(NEIGHBOURS, len(points)))[1]]
        near = near - near.mean(axis=1, keepdims=True)
        return cls(tree, np.linalg.eigh(np.swapaxes(near, 1, 2) @ near)[1][:, :, 0])


def register(source: F64, target: Surface, T_target_source: F64) -> tuple[F64, float]:
    """Trimmed point-to-plane ICP of points (N, 3) to a surface, from a guess.

    Returns:
        (4, 4) T_target_source and the root mean square of its pairs' distances [m]; infinite with too few pairs.
    """
    T = T_target_source
    rms = np.inf
    for longest in np.geomspace(*PAIR_M, ROUNDS):
        moved = source @ T[:3, :3].T + T[:3, 3]
        distance, index = target.tree.query(moved, distance_upper_bound=float(longest))
        found = np.isfinite(distance)
        if found.sum() < LEAST_POINTS // 2 or found.mean() < 0.25:
            return T, np.inf
        found &= distance <= np.quantile(distance[found], TRIM)
        pairs = index[found]
        T = _towards(moved[found], target.tree.data[pairs], target.normals[pairs]) @ T
        rms = float(np.sqrt((distance[found] ** 2).mean()))
    return T, rms


def _towards(a: F64, b: F64, normals: F64) -> F64:
    """(4, 4) the small motion that takes points (N, 3) towards the planes of others, in the least squares."""
    middle = a.mean(axis=0)
    arms = a - middle
    weights = normals[:, :, None] * normals[:, None] + SLIDE**2 * np.eye(3)
    J = np.zeros((len(a), 3, 6))  # of each point's motion by the rotation's vector and the shift
    J[:, :, 3:] = np.eye(3)
    J[:, (0, 1, 2), (1, 2, 0)] = arms[:, (2, 0, 1)]
    J[:, (0, 1, 2), (2, 0, 1)] = -arms[:, (1, 2, 0)]
    JW = np.swapaxes(J, 1, 2) @ weights
    step = np.linalg.solve((JW @ J).sum(axis=0), (JW @ (b - a)[:, :, None]).sum(axis=0)[:, 0])
    R = Rotation.from_rotvec(step[:3]).as_matrix()
    return pose(R, middle + step[3:] - R @ middle)


def register_about(source: F64, target: Surface, middle_m: F64, angle_rad: float) -> tuple[float, float]:
    """As :func:`register`, for points (N, 3) that only turn about the upright line through a point (3,), from a guess.

    A hand that turns on the spot slides along itself: with six degrees of freedom about half of its turn was found.

    Returns:
        The angle [rad], counter-clockwise from above, and the root mean square of the pairs' distances [m].
    """
    rms = np.inf
    for longest in np.geomspace(PAIR_M[0], PAIR_TURN_M, ROUNDS):
        arms = (source - middle_m) @ _about_up(angle_rad).T
        distance, index = target.tree.query(arms + middle_m, distance_upper_bound=float(longest))
        found = np.isfinite(distance)
        if found.sum() < LEAST_POINTS // 2 or found.mean() < 0.25:
            return angle_rad, np.inf
        found &= distance <= np.quantile(distance[found], TRIM)
        arm, normal = arms[found], target.normals[index[found]]
        apart = target.tree.data[index[found]] - arm - middle_m
        along = np.column_stack([-arm[:, 1], arm[:, 0], np.zeros(len(arm))])  # of each point's motion by the angle
        J = (normal * along).sum(axis=1)
        needed = J @ (normal * apart).sum(axis=1) + SLIDE**2 * (along * apart).sum()
        angle_rad += float(needed / (J @ J + SLIDE**2 * (along**2).sum()))
        rms = float(np.sqrt((distance[found] ** 2).mean()))
    return angle_rad, rms


def _about_up(angle_rad: float) -> F64:
    """(3, 3)."""
    return np.asarray(Rotation.from_euler("z", angle_rad).as_matrix())


def turning(track: Track, middle_m: F64, cloud: Callable[[int], F64]) -> tuple[Track, float]:
    """A track whose hand only turns about the upright line through a point, while it looks as in the reference frame.

    Args:
        track: By registering with all six degrees of freedom.
        middle_m: (3,) of the thing that is turned.
        cloud: Gives (N, 3) what is seen of the hand in a frame, counted from the segment's start.

    Returns:
        The track, and how far the hand turned in these frames [rad].
    """

    def seen(i: int, points: int) -> F64:
        near = cloud(i)
        near = near[((near - middle_m) ** 2).sum(axis=1) < REACH_M**2]
        return near[:: max(len(near) // points, 1)]

    first = seen(track.reference, TARGET_POINTS)
    if len(first) < LEAST_POINTS:
        return track, 0.0
    target, T, turned = Surface.of(first), track.T_ref.copy(), 0.0
    for step in (1, -1):
        angle, speed, i = 0.0, 0.0, track.reference + step
        while 0 <= i < len(T):
            source = seen(i, POINTS)
            back, rms = register_about(source, target, middle_m, -angle - speed)
            if not rms < SURE_M:
                break
            angle, speed = -back, -back - angle
            R = _about_up(angle)
            T[i] = pose(R, middle_m - R @ middle_m)
            i += step
        turned += step * angle
        last, rest = i - step, slice(i, None) if step > 0 else slice(0, max(i + 1, 0))
        T[rest] = track.T_ref[rest] @ inverse(track.T_ref[last]) @ T[last]  # what it did before or after is as it was
    return replace(track, T_ref=T), turned


def moments(track: Track, point_m: F64) -> tuple[int, int] | None:
    """Indices of contact and release: the hand's last standstill at the old place, and the first at the new one.

    Args:
        track: The segment.
        point_m: (N, 3) the grasp point through the segment, NaN: unknown.

    Returns:
        None if nothing moved, or the hand was lost.
    """
    moving, waiting = np.flatnonzero(track.left > MOVED), np.flatnonzero(track.missing > MOVED)
    if not len(moving):
        return None
    first = _standstill(point_m, int(moving[0]))
    if len(waiting):
        last = _standstill(point_m[::-1], len(point_m) - 1 - int(waiting[-1]))
    else:  # it has come nowhere: the hand took it away
        last = int(np.argmax(np.isfinite(point_m[::-1, 0])))
    if first is None or last is None:
        return None
    release = len(point_m) - 1 - last
    return (first, release) if first < release else None


def _standstill(point_m: F64, until: int) -> int | None:
    """The last index, up to shortly after ``until``, at which the point still stands where it stood lowest."""
    known = np.isfinite(point_m[:, 2])
    window = np.flatnonzero(known[: until + 2])
    if len(window) < 3:
        return None
    window = window[-45:]
    height = median_filter(point_m[window, 2], 5, mode="nearest")  # one wrong registration is no low point
    low = window[height < height.min() + LOW_M]
    speed = np.full(len(point_m), np.inf)
    inside = np.arange(1, len(point_m) - 1)
    speed[inside] = np.linalg.norm(point_m[inside + 1] - point_m[inside - 1], axis=1)
    speed[~np.isfinite(speed)] = np.inf
    slow = low[speed[low] <= 2.0 * speed[low].min() + STILL_M]
    slowest = int(slow[-1] if len(slow) else low[-1])  # a hand that pushes also stands before it comes to the thing
    still = np.linalg.norm(point_m - point_m[slowest], axis=1) < STILL_M
    span = next(((a, b) for a, b in runs(np.asarray(still)) if a <= slowest < b), (slowest, slowest + 1))
    return max(min(span[1] - 1, until + 1) - SLOW_START, 0)
