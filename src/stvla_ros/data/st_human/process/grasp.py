"""The hand as a gripper: where it takes a thing, its path through the segment, its pose, and the thing's new place."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from scipy.ndimage import median_filter
from scipy.spatial.transform import Rotation

from stvla_ros.data.st_human.process.lift import FLESH_M
from stvla_ros.data.st_human.process.segments import Segment
from stvla_ros.data.st_human.process.track import STILL_M, Surface, Track, moments, register
from stvla_ros.geometry.se3 import inverse, pose
from stvla_ros.geometry.smoothing import smooth_path
from stvla_ros.tabletop.relations import OrientedBox
from stvla_ros.types import F64, Bool

SPAN_M = 0.10
"""What is narrower is grasped across its middle; wider things at a rim."""

DEEP_M = 0.025
"""Fingers from above reach this far below the top of what they grasp, the length of a fingertip, or to its middle."""

CLOSE_M, CLOSE_POINTS, TIP_POINTS = 0.02, 12, 5
"""What is seen of the hand this close to a thing takes it, and the least numbers of its points that say how: of a hand, and of
a single finger, which is a few pixels wide."""

NEAR_M, LOWEST, KNOB_M = 0.04, 0.1, 0.015
"""What is seen of the hand this close to a thing is its fingers; the share of it that is lower than where they take it; a hand
that stays so far above the thing's top takes it by a knob."""

BESIDE, UPPER, SIDE_M = 0.8, 0.75, 0.011
"""A hand of whose close points such a share is below a thing's top takes it from the side. The upper ones of these are the
skin over the index finger, whose middle is half its thickness of 16 mm lower; that between it and the thumb, a little more."""

BALL = 1.3
"""What is narrower at its top is a ball if it is no higher than such a multiple of its width: it is taken where it is
widest, in its middle, as fingers slip off above that."""

CAP, NARROW = 0.12, 0.8
"""The uppermost share of a thing, and how much narrower that is than the whole of a ball: 0.65 for an exact one."""

GRAVITY_M_S2, WAITS_M = 9.81, 0.005
"""How things fall; and a hand that lets go of one stays within so much of where it is."""

OPEN_M, MARGIN_M = 0.08, 0.03
"""Widest opening of the gripper, and how much wider than the thing it is before the contact."""

SIGMA_M = (0.003, 0.003, 0.004)
"""Standard deviations of a registered position."""

TOUCH_M = 0.025
"""A thing is touched if the hand's end comes this close to its box."""

TURNING_M, TURN_DEG, TURNED_DEG = 0.012, 0.75, 6.0
"""A hand that turns a thing keeps the thing's middle within the first; it turns while it does so by more than the second in two
frames, from a whole turn of the third on."""

KNOB_GRIP_M, KNOB_WIDE = 0.01, 0.5
"""A knob is taken so far below its top; it is narrower than such a share of the lid."""


WRONG_M = 0.03
"""A hand was registered wrongly where its index finger is seen so far from where it should be."""

TILT_DEG, ROUND = 20.0, 1.15
"""A thing lies flat if it is tilted by less; it may be round if its sides differ by less than this ratio."""

LOST_M, FALL_M = 0.05, 0.03
"""A thing is sought so far around where the hand left it; a falling one, under so much more than its box."""

APART_M = 0.03
"""Nearer tips do not tell the direction between them: 3 mm of error are 15 degrees at 2 cm."""

AROUND = (12, 6)
"""Frames outside the contact and the release, and inside, in which keypoints tell where the fingers are."""

LEAST_FINGERS, SPREAD_M, TIP_TOUCHES_M = 4, 0.015, 0.02
"""Fewer such frames tell nothing, nor do frames that differ by more (median distance from their median), nor a tip that is
farther from the thing."""

INDEX_M = 0.005
"""Index and middle finger together oppose the thumb. They are a finger's breadth of 20 mm apart, so the middle between the
tips of thumb and index finger is a quarter of that beside the middle of the thing, on the index finger's side."""

UNSEEN_M, STEEP = 0.025, 0.5
"""A fingertip that touches a thing from above may be seen so much too high; and the least z of a finger that points down."""

POINTED = ("slide", "press", "touch")
"""Templates in which the tool point is a fingertip on the thing, not the middle between two."""


@dataclass(frozen=True, eq=False)
class Motion:
    """A segment as the motion of a gripper, frame by frame from its start, in the workspace.

    Attributes:
        contact: Index of the first contact.
        release: Index of the last one.
        xyz_m: (N, 3) smooth grasp point, NaN: unknown.
        sigma_m: (N,) its standard deviation.
        seen: (N,) frames with a measurement that was used.
        R: (N, 3, 3) rotation of the gripper: z out of the hand, y along the finger opening.
        width_m: (N,) opening.
        moved: Whether the thing moved.
        T_moved: (4, 4) motion of the thing from its old place to its new one.
        by_keypoints: Whether keypoints told where the fingers take it.
    """

    contact: int
    release: int
    xyz_m: F64
    sigma_m: F64
    seen: Bool
    R: F64
    width_m: F64
    moved: bool
    T_moved: F64
    by_keypoints: bool = False


def grasp_point(
    box: OrientedBox, tip_m: F64, hand_m: F64, template: str | None = None, eye_m: F64 | None = None,
    knob_m: F64 | None = None, ball: bool = False,
) -> F64:  # fmt: skip
    """(3,) where a hand takes a thing: the middle between the fingers, or the end of the finger that points.

    In its middle; along a side that is too wide for a hand, where the hand is; at its rim if both sides are too wide; in
    the middle above it if the hand stays above, as at a lid's knob.

    Args:
        box: The thing's box.
        tip_m: (3,) the hand's end.
        hand_m: (N, 3) what is seen of the hand; may be empty.
        template: If one of :data:`POINTED`, a finger touches or pushes the thing.
        eye_m: (3,) where the camera is.
        knob_m: (3,) the top of its knob in the box's frame, if it has one.
        ball: Whether it is round, see :func:`is_ball`.
    """
    to_box = inverse(box.T_workspace_box)
    away = distance_to_box(box, hand_m)
    half = box.size_m / 2
    if template in POINTED:
        point = _finger_end(hand_m[away < NEAR_M], eye_m)
        if point is None:
            nearest = hand_m[np.argsort(away)[:CLOSE_POINTS]].mean(axis=0) if len(hand_m) >= CLOSE_POINTS else tip_m
            local = np.clip((to_box @ np.append(nearest, 1.0))[:3], -half, half)
            return np.asarray((box.T_workspace_box @ np.append(local, 1.0))[:3])
        if template == "slide":  # the thing hides the end of what pushes it from behind
            point[2] = min(point[2], box.center_m[2])
            return point
        return _down_to(box, point, hand_m[away < NEAR_M])
    if knob_m is not None and min(box.size_m[:2]) >= SPAN_M:
        return np.asarray((box.T_workspace_box @ np.append(knob_m - [0.0, 0.0, KNOB_GRIP_M], 1.0))[:3])
    local = to_box @ np.append(tip_m, 1.0)
    narrow = int(np.argmin(box.size_m[:2]))
    point = np.clip(local[:3], -half, half)
    if box.size_m[narrow] < SPAN_M:
        point[narrow] = 0.0
        other = 1 - narrow
        if box.size_m[other] < SPAN_M:
            point[other] = 0.0
        else:
            fingers = hand_m[away < CLOSE_M] @ to_box[:3, :3].T + to_box[:3, 3]
            sides = [fingers[side * fingers[:, narrow] > 0.0, other] for side in (-1, 1)]
            seen = [float(np.median(side)) for side in sides if len(side) >= CLOSE_POINTS]
            point[other] = np.clip(np.mean(seen) if seen else point[other], -0.6 * half[other], 0.6 * half[other])
    point[2] = 0.0 if ball else half[2] - min(DEEP_M, half[2])
    close = hand_m[away < NEAR_M]
    if len(close) >= CLOSE_POINTS:
        lowest = float(np.quantile(close @ to_box[2, :3] + to_box[2, 3], LOWEST))
        beside = hand_m[away < CLOSE_M] @ to_box[2, :3] + to_box[2, 3]
        if lowest > half[2] + KNOB_M:
            point = np.array([0.0, 0.0, lowest])
        elif len(beside) >= CLOSE_POINTS and float(np.quantile(beside, BESIDE)) < half[2]:
            point[2] = max(float(np.quantile(beside, UPPER)) - SIDE_M, -half[2])
    return np.asarray((box.T_workspace_box @ np.append(point, 1.0))[:3])


def knob(box: OrientedBox, points: F64) -> F64 | None:
    """(3,) the top of a knob in a box's frame, from the thing's visible points (N, 3) in the workspace; None: it has none.

    A knob is what is much narrower than the rest and higher.
    """
    local = (points - box.center_m) @ box.T_workspace_box[:3, :3]
    top = float(np.quantile(local[:, 2], 0.995))
    upper = local[local[:, 2] > top - KNOB_M]
    low, high = np.quantile(upper[:, :2], 0.02, axis=0), np.quantile(upper[:, :2], 0.98, axis=0)
    if box.container or ((high - low) > KNOB_WIDE * box.size_m[:2]).any():
        return None
    return np.append((low + high) / 2, top)


def is_ball(box: OrientedBox, points: F64) -> bool:
    """Whether a thing is a ball, from its visible points (N, 3): narrower at its top, and about as high as wide."""
    if box.container or box.size_m[2] > BALL * float(min(box.size_m[:2])):
        return False
    local = (points - box.center_m) @ box.T_workspace_box[:3, :3]
    cap = local[local[:, 2] > float(np.quantile(local[:, 2], 0.995)) - CAP * box.size_m[2]]
    low, high = np.quantile(cap[:, :2], 0.02, axis=0), np.quantile(cap[:, :2], 0.98, axis=0)
    return bool(((high - low) < NARROW * box.size_m[:2]).all())


def _towards_index(arm: F64, side: Literal["left", "right"]) -> F64:
    """(3,) from the middle of a grip from above to that of thumb and index finger; ``arm`` (3,) is the arm's direction."""
    left = np.cross([0.0, 0.0, 1.0], arm)
    length = float(np.linalg.norm(left))
    if not length > 0.2:  # an arm from straight above does not tell, nor does one that is not seen
        return np.zeros(3)
    return np.asarray(left / length * (INDEX_M if side == "right" else -INDEX_M))


def _down_to(box: OrientedBox, point_m: F64, near_m: F64) -> F64:
    """(3,) a fingertip (3,) over a thing's top moved along its finger until its skin touches that.

    What is nearer to the thing than the depth's noise is no part of the hand's mask, so the end of a finger is seen too high.
    ``near_m`` (N, 3) is what is seen of the finger.
    """
    local = inverse(box.T_workspace_box) @ np.append(point_m, 1.0)
    over = local[2] - box.size_m[2] / 2 - FLESH_M
    if not 0.0 < over < UNSEEN_M or (np.abs(local[:2]) > box.size_m[:2] / 2 + FLESH_M).any():
        return point_m
    finger = np.linalg.svd(near_m - near_m.mean(axis=0), full_matrices=False)[2][0]
    if abs(finger[2]) < STEEP:
        finger = np.array([0.0, 0.0, 1.0])
    return np.asarray(point_m - over / finger[2] * finger)


def _finger_end(near_m: F64, eye_m: F64 | None) -> F64 | None:
    """(3,) the joint at the end of a finger that points down, from what is seen of the hand (N, 3) near a thing."""
    if len(near_m) < TIP_POINTS:
        return None
    skin = np.median(near_m[np.argsort(near_m[:, 2])[:CLOSE_POINTS]], axis=0)
    if eye_m is None:
        return np.asarray(skin)
    ray = skin - eye_m
    return np.asarray(skin + ray / np.linalg.norm(ray) * FLESH_M)


def fingers_at(track: Track, contact: int, release: int, box: OrientedBox) -> F64:
    """(2, 3) tips of thumb and index finger at the contact, NaN where keypoints do not tell.

    What is held hides the fingers, so frames shortly before and after count too, moved with the hand. The median of these
    frames must touch the thing's box: networks also see hands that are not there.
    """
    outside, inside = AROUND
    near = np.r_[contact - outside : contact + inside, release - inside : release + outside]
    near = near[(near >= 0) & (near < len(track.T_ref))]
    T = track.T_ref[contact] @ inverse(track.T_ref[near])
    there = np.einsum("nij,nkj->nki", T[:, :3, :3], track.fingers_m[near]) + T[:, None, :3, 3]
    out = np.full((2, 3), np.nan)
    for k in range(2):
        tip = there[np.isfinite(there[:, k, 0]), k]
        if len(tip) < LEAST_FINGERS:
            continue
        middle = np.median(tip, axis=0)
        agree = np.median(np.linalg.norm(tip - middle, axis=1)) < SPREAD_M
        if agree and distance_to_box(box, middle[None])[0] < TIP_TOUCHES_M:
            out[k] = middle
    return out


def finger_point(box: OrientedBox, guess_m: F64, fingers_m: F64, pointed: bool) -> F64 | None:
    """(3,) where fingers take a thing, or None where keypoints do not tell.

    The thumb is often hidden behind the hand or the thing. Then only the height is the index finger's, and the place along a
    side that is too wide for a hand; the rest is ``guess_m`` (3,), by depth alone.
    """
    thumb, index = fingers_m
    if not np.isfinite(index).all():
        return None
    if pointed:
        return np.asarray(index)
    if np.isfinite(thumb).all():
        return np.asarray((thumb + index) / 2)
    T = inverse(box.T_workspace_box)
    local, finger = (T[:3, :3] @ point + T[:3, 3] for point in (guess_m, index))
    local[2] = finger[2]
    other = int(np.argmax(box.size_m[:2]))
    if box.size_m[other] >= SPAN_M > box.size_m[1 - other]:
        local[other] = finger[other]
    return np.asarray(box.T_workspace_box[:3, :3] @ local + box.T_workspace_box[:3, 3])


def _kept_at_fingers(path: F64, track: Track, contact: int, index_m: F64) -> F64:
    """(N, 3) a path with the hand, moved to where the index finger is seen where the hand was registered wrongly or not at all."""
    if not np.isfinite(index_m).all():
        return path
    off = track.fingers_m[:, 1] - carried(track, contact, index_m)
    known = np.flatnonzero(np.isfinite(off[:, 0]))
    out = path.copy()
    off[known] = median_filter(off[known], (5, 1), mode="nearest")  # one wrong keypoint is no motion
    lost = known[np.linalg.norm(off[known], axis=1) > WRONG_M]
    out[lost] += off[lost]
    unknown = np.isnan(path[:, 0]) & np.isfinite(track.fingers_m[:, 1, 0])
    out[unknown] = track.fingers_m[unknown, 1] + path[contact] - index_m
    return out


def distance_to_box(box: OrientedBox, points_m: F64) -> F64:
    """(N,) distance of points (N, 3) from a box; 0 inside."""
    T = inverse(box.T_workspace_box)
    local = points_m @ T[:3, :3].T + T[:3, 3]
    return np.asarray(np.linalg.norm(np.maximum(np.abs(local) - box.size_m / 2, 0.0), axis=1))


def carried(track: Track, at: int, point_m: F64) -> F64:
    """(N, 3) a point that moves with the hand, from where it is at index ``at``."""
    T = track.T_ref @ inverse(track.T_ref[at])
    return np.asarray(T[:, :3, :3] @ point_m + T[:, :3, 3])


def make_motion(
    track: Track, segment: Segment, box: OrientedBox, fps: float, moved: bool,
    hand_at: Callable[[int], F64] = lambda _: np.zeros((0, 3)), template: str | None = None, eye_m: F64 | None = None,
    side: Literal["left", "right"] = "right", knob_m: F64 | None = None, ball: bool = False,
) -> Motion | None:  # fmt: skip
    """The motion of a gripper at a thing; None if the hand was lost where it matters.

    Args:
        track: How the hand moves.
        segment: When it is in view.
        box: The thing's, at its old place.
        fps: Frames per second.
        moved: Whether the thing was moved.
        hand_at: Gives (N, 3) what is seen of the hand in a frame of the video.
        template: Says whether a finger points or the hand turns, if it is known.
        eye_m: (3,) where the camera is.
        side: Which hand it is.
        knob_m: (3,) the top of the thing's knob in the box's frame, if it has one.
        ball: Whether the thing is round.
    """
    known = np.isfinite(track.T_ref[:, 0, 0])
    if not known[track.reference] or not np.isfinite(track.tip_m[track.reference]).all():
        return None
    pointed = template in POINTED or (template is None and not moved)
    how = "touch" if pointed and template is None else template
    if moved:
        end = carried(track, track.reference, track.tip_m[track.reference])
        found = moments(track, end)
    else:
        at = segment.start + track.reference
        point = grasp_point(box, track.tip_m[track.reference], hand_at(at), how, eye_m, knob_m, ball)
        end = carried(track, track.reference, point)
        found = _turning(track, box) if template == "turn" else None
        found = _touch(end, box) if found is None else found
    if found is None:
        return None
    contact, release = found
    if not known[contact] or not known[release]:
        return None
    tip = carried(track, track.reference, track.tip_m[track.reference])[contact]
    point = grasp_point(box, tip, hand_at(segment.start + contact), how, eye_m, knob_m, ball)
    if not pointed:
        point = point + _towards_index(track.axis[contact], side)
    fingers = fingers_at(track, contact, release, box)
    told = finger_point(box, point, fingers, pointed)
    point = point if told is None else told
    raw = _kept_at_fingers(carried(track, contact, point), track, contact, fingers[1])
    if template == "turn":  # what is turned stays where it is: all else is the registration's drift
        away = carried(track, contact, box.center_m) - box.center_m
        away[:contact], away[release:] = 0.0, away[release]
        raw = raw - away
    xyz, sigma, seen = _smooth(raw, track.rms_m, (contact, release), fps)
    if not np.isfinite(xyz[[contact, release]]).all():  # measured there, but rejected with nothing near to fill in from
        return None
    T_moved = track.T_ref[release] @ inverse(track.T_ref[contact]) if moved else np.eye(4)
    R = _rotations(track, contact, box, fingers)
    width = _aperture(fingers) if not pointed else 0.0
    width = width if np.isfinite(width) else min(float(min(box.size_m[:2])), OPEN_M)
    widths = np.array([_aperture(tips) for tips in track.fingers_m])
    widths[~np.isfinite(widths)] = min(width + MARGIN_M, OPEN_M)
    widths[contact : release + 1] = width
    return Motion(contact, release, xyz, sigma, seen, R, widths, moved, T_moved, told is not None)


def _turning(track: Track, box: OrientedBox) -> tuple[int, int] | None:
    """First and last index of a turn about up, during which the hand keeps the middle of a thing; None: no such turn."""
    middle = carried(track, track.reference, box.center_m)
    here = np.linalg.norm(middle - box.center_m, axis=1) < TURNING_M
    first = last = track.reference
    while first > 0 and here[first - 1]:
        first -= 1
    while last + 1 < len(here) and here[last + 1]:
        last += 1
    R = track.T_ref[first : last + 1, :3, :3]
    turn = np.degrees(np.unwrap(np.arctan2(R[:, 1, 0], R[:, 0, 0])))
    if len(turn) < 6:
        return None
    start, end = float(np.median(turn[:3])), float(np.median(turn[-3:]))
    if abs(end - start) < TURNED_DEG:
        return None
    half = int(np.argmax(np.abs(turn - start) > abs(end - start) / 2))
    slow = np.flatnonzero(np.abs(turn[2:] - turn[:-2]) < TURN_DEG) + 1
    before, after = slow[slow < half], slow[slow >= half]  # angles drift in between, so that only speed tells standing
    return (first + int(before[-1]), first + int(after[0])) if len(before) and len(after) else None


def _touch(end: F64, box: OrientedBox) -> tuple[int, int] | None:
    """First and last index at which the hand's end stands still at a thing that does not move."""
    away = np.nan_to_num(distance_to_box(box, end), nan=np.inf)
    nearest = int(np.argmin(away))
    if away[nearest] > 2 * TOUCH_M:
        return None
    still = np.linalg.norm(end - end[nearest], axis=1) < 2 * STILL_M
    first = last = nearest
    while first > 0 and still[first - 1]:
        first -= 1
    while last + 1 < len(still) and still[last + 1]:
        last += 1
    return first, last


def _smooth(raw: F64, rms: F64, corners: tuple[int, int], fps: float) -> tuple[F64, F64, Bool]:
    """Approach, held phase and retreat smoothed apart, as contact is a corner; they share the frames at their ends."""
    n = len(raw)
    xyz, sigma, seen = np.full((n, 3), np.nan), np.full(n, np.nan), np.zeros(n, bool)
    for a, b in ((0, corners[0]), corners, (corners[1], n - 1)):
        part = slice(a, b + 1)
        if b - a < 1 or not np.isfinite(raw[part]).all(axis=1).any():
            continue
        worse = np.clip(rms[part] / 0.003, 1.0, 4.0)
        deviation = np.array(SIGMA_M) * np.where(np.isfinite(worse), worse, 1.0)[:, None]
        smooth = smooth_path(np.arange(a, b + 1) / fps, raw[part], deviation)
        xyz[part], sigma[part] = smooth.xyz_m, smooth.sigma_m
        seen[part] = np.isfinite(smooth.xyz_m[:, 0]) & ~smooth.filled
    return xyz, sigma, seen


def _aperture(fingers_m: F64) -> float:
    """The gap between thumb and index finger, whose tips are (2, 3), within the gripper's; NaN if one is not known."""
    gap = float(np.linalg.norm(fingers_m[1] - fingers_m[0])) - 2 * FLESH_M
    return float(np.clip(gap, 0.0, OPEN_M)) if np.isfinite(gap) else np.nan


def _rotations(track: Track, contact: int, box: OrientedBox, fingers_m: F64) -> F64:
    """(N, 3, 3): z from the wrist to the fingers at the contact; y from thumb to index finger if both are known and well
    apart, else across the thing's narrow side; turned with the hand."""
    z = track.axis[contact] if np.isfinite(track.axis[contact]).all() else np.array([0.0, 0.0, -1.0])
    z = z + np.array([0.0, 0.0, -1.0])  # fingers bend down from the arm's direction
    z /= np.linalg.norm(z)
    y = fingers_m[1] - fingers_m[0]
    apart = float(np.linalg.norm(y))
    y = y / apart if apart > APART_M else box.T_workspace_box[:3, int(np.argmin(box.size_m[:2]))]
    y = y - (y @ z) * z
    if np.linalg.norm(y) < 0.2:
        y = np.cross(z, [1.0, 0.0, 0.0])
    y /= np.linalg.norm(y)
    start = np.column_stack([np.cross(y, z), y, z])
    turns = (track.T_ref @ inverse(track.T_ref[contact]))[:, :3, :3]
    known = np.isfinite(turns[:, 0, 0])
    out = np.empty((len(turns), 3, 3))
    nearest = np.abs(np.arange(len(turns))[:, None] - np.flatnonzero(known)).argmin(axis=1)
    filled = turns[np.flatnonzero(known)[nearest]]
    half = 4  # frames: about 0.3 s in all at 30 Hz
    for i in range(len(out)):
        out[i] = Rotation.from_matrix(filled[max(i - half, 0) : i + half + 1]).mean().as_matrix() @ start
    return out


def settled(points_m: F64, scene_m: F64, T_moved: F64) -> tuple[F64, float]:
    """A thing's motion made exact by registering its visible points to the scene afterwards.

    Args:
        points_m: (N, 3) its points at the old place.
        scene_m: (M, 3) points of the scene afterwards, only what has come.
        T_moved: (4, 4) its motion as the hand tells it.

    Returns:
        (4, 4) its motion, and how far it is from the hand's [m], infinite if nothing has come near.
    """
    if len(points_m) < 60 or len(scene_m) < 60:
        return T_moved, np.inf
    found, rms = register(points_m[:: max(len(points_m) // 800, 1)], Surface.of(scene_m), T_moved)
    middle = points_m.mean(axis=0)
    off = float(np.linalg.norm((found - T_moved)[:3, :3] @ middle + (found - T_moved)[:3, 3]))
    if not np.isfinite(rms):  # nothing is near: registering has not begun
        return T_moved, np.inf
    return (found, off) if off < LOST_M else (T_moved, off)


def arriving(motion: Motion, T_put: F64) -> Motion:
    """A motion whose held phase ends where the scene shows that the thing was put.

    What the hand's registration has drifted by from contact to release is spread evenly over the frames between them.

    Args:
        motion: By the hand.
        T_put: (4, 4) the thing's motion from its old place to its new one, from :func:`settled`.
    """
    first, last = motion.contact, motion.release
    drift = T_put[:3, :3] @ motion.xyz_m[first] + T_put[:3, 3] - motion.xyz_m[last]
    share = np.clip((np.arange(len(motion.xyz_m)) - first) / (last - first), 0.0, 1.0)
    return replace(motion, xyz_m=motion.xyz_m + share[:, None] * drift)


def fallen(box: OrientedBox, scene_m: F64) -> F64:
    """(4, 4) the fall of a thing that was let go where ``box`` is, to where it is seen in points (N, 3) below."""
    T = np.eye(4)
    local = (scene_m - box.center_m) @ box.T_workspace_box[:3, :3]
    below = scene_m[(np.abs(local[:, :2]) < box.size_m[:2] / 2 + FALL_M).all(axis=1), 2]
    if len(below) >= CLOSE_POINTS:
        T[2, 3] = min(float(np.quantile(below, 0.95)) - (box.center_m[2] + box.size_m[2] / 2), 0.0)
    return T


def let_go_before(motion: Motion, fall_m: float, fps: float) -> Motion:
    """A motion whose hand let go of what then fell so far: earlier by the time of the fall, if the hand stood there."""
    release = motion.release
    first = release - round(np.sqrt(2.0 * max(fall_m, 0.0) / GRAVITY_M_S2) * fps)
    away = np.linalg.norm(motion.xyz_m - motion.xyz_m[motion.release], axis=1)
    while release - 1 > motion.contact and release > first and away[release - 1] < WAITS_M:
        release -= 1
    return replace(motion, release=release)


def moved_box(box: OrientedBox, T_moved: F64) -> OrientedBox:
    """A box after a motion, lying flat on a side: tilts of less than :data:`TILT_DEG` are errors.

    A round thing that lies on its side has no face to lie on. Its box is turned about its axis until it lies flat.
    """
    T = T_moved @ box.T_workspace_box
    down = int(np.argmax(np.abs(T[2, :3])))
    round_about = down != 2 and box.size_m[0] < ROUND * box.size_m[1] < ROUND**2 * box.size_m[0]
    lies = (
        abs(T[2, 2]) < np.sin(np.radians(TILT_DEG)) if round_about else abs(T[2, down]) > np.cos(np.radians(TILT_DEG))
    )
    if lies:
        kept = 2 if round_about else (down + 1) % 3
        level = T[:3, kept].copy()  # stays, as far as it is level
        level[2] = 0.0
        level /= np.linalg.norm(level)
        up = np.array([0.0, 0.0, np.sign(T[2, down])])
        axes = np.empty((3, 3))
        axes[:, down] = up
        axes[:, kept] = level
        other = 3 - down - kept
        axes[:, other] = np.cross(axes[:, (other + 1) % 3], axes[:, (other + 2) % 3])
        T = pose(axes, T[:3, 3])
    return OrientedBox(T, box.size_m, box.container)
