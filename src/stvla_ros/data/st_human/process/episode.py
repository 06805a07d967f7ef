"""Puts together what was found in a video: ``info.json``, and for each action how far it can be trusted."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Literal

import numpy as np

from stvla_ros import __version__
from stvla_ros.data.st_human.info import (
    Action,
    Box,
    ContactPoint,
    ContactPoints,
    Environment,
    Provenance,
    Quality,
    Relation,
    Relations,
    SceneObject,
    Video,
    VideoInfo,
    Waypoint,
)
from stvla_ros.data.st_human.info import Camera as InfoCamera
from stvla_ros.data.st_human.info import (
    Motion as SaidMotion,
)
from stvla_ros.data.st_human.info_json import project
from stvla_ros.data.st_human.process.folder import DEPTH, RGB, HumanVideo
from stvla_ros.data.st_human.process.grasp import (
    CLOSE_POINTS,
    LOST_M,
    Motion,
    arriving,
    distance_to_box,
    fallen,
    is_ball,
    knob,
    let_go_before,
    make_motion,
    moved_box,
    settled,
)
from stvla_ros.data.st_human.process.hands import HandBackend
from stvla_ros.data.st_human.process.scene import Scene, Thing, backproject, taken_apart, to_workspace
from stvla_ros.data.st_human.process.segments import Hands, Segment
from stvla_ros.data.st_human.process.track import Change, Track, hand_cloud, turning
from stvla_ros.data.st_human.process.words import Seen, describe, things_of
from stvla_ros.data.st_human.templates import TEMPLATES, Gripper, SlotValue, expected_after
from stvla_ros.geometry.se3 import inverse, to_quaternion
from stvla_ros.tabletop.relations import OrientedBox, SpatialRelation, find_relations
from stvla_ros.types import F64, I32


@dataclass(frozen=True)
class RouteSettings:
    """When an episode goes to a person.

    Attributes:
        least_score: Episodes below go to a person.
        settle_m: The thing's new place by the hand's motion and by the scene differ by no more in a good episode.
        gap_frames: Frames without a measurement between contact and release that a good episode has at most.
        moved_share: Share of a thing's visible area that is gone when it was moved.
    """

    least_score: float = 0.6
    settle_m: float = 0.02
    gap_frames: int = 10
    moved_share: float = 0.3


SETTINGS = RouteSettings()

END_M = 0.1
"""The hand's end: what is seen of it within so much of the tip."""


SHOWS_M = 0.015
"""What is lower over the table hardly changes the depth when it goes."""

PART, ABOVE_M = 0.15, 0.003
"""Of what was taken for one thing, at least such a share of its pixels goes and stays when its upper part is taken off;
and what was so much higher than the rest is of that part."""


@dataclass
class Episode:
    """How far an action can be trusted: 1 is best. Each reason lowers the score; ``grasp`` says what told where it is taken."""

    action: str
    score: float = 1.0
    reasons: list[str] = field(default_factory=list)
    grasp: Literal["keypoints", "depth"] = "depth"
    weak_frames: list[tuple[int, int]] = field(default_factory=list)

    def doubt(self, factor: float, reason: str, frames: tuple[int, int] | None = None) -> None:
        """Lower the score, and say why and where."""
        self.score = round(self.score * factor, 3)
        self.reasons.append(reason)
        if frames is not None:
            self.weak_frames.append(frames)


def route(episode: Episode) -> str:
    """``audit`` or ``person``."""
    return "audit" if episode.score >= SETTINGS.least_score else "person"


@dataclass
class _World:
    """Things and where they are, as the actions change it."""

    things: dict[int, Thing]
    labels: I32
    places: list[tuple[str, F64]] = field(default_factory=list)

    def boxes(self) -> dict[str, OrientedBox]:
        return {thing.id: thing.box for thing in self.things.values()}


def make_info(
    video: HumanVideo,
    scene: Scene | None,
    segments: Sequence[Segment],
    tracks: Sequence[tuple[Track, Change]],
    template: str | None,
    hands: HandBackend,
    found: Hands,
    made_from: str,
) -> tuple[VideoInfo, list[Episode]]:
    """``info.json`` of a video.

    Args:
        video: The video.
        scene: Before the first action; None if there is none.
        segments: When a hand is in view.
        tracks: How it moves in each, and what changed (in all pixels).
        template: Of all actions; None: what people told, else the likeliest.
        hands: What finds hands.
        found: What it found.
        made_from: Hash of all that this depends on.

    Returns:
        The information, and how far each action can be trusted.
    """
    T = np.eye(4) if scene is None else scene.T_workspace_camera
    K = video.camera.K
    camera = InfoCamera((K[0, 0], K[1, 1], K[0, 2], K[1, 2]), tuple(float(v) for v in T.ravel()))
    world = _World(
        {} if scene is None else dict(scene.things), np.zeros((1, 1), np.int32) if scene is None else scene.labels
    )
    first_boxes = world.boxes()
    actions: list[Action] = []
    episodes: list[Episode] = []
    for k, (segment, (track, change)) in enumerate(zip(segments, tracks, strict=True)):
        episode = Episode(f"a{k + 1}")
        said = template or (video.told.templates[k] if k < len(video.told.templates) else video.told.template)
        action = _action(
            video, camera, T, world, first_boxes, segment, track, change, hands, found, said, episode, actions
        )
        if action is not None:
            actions.append(action)
        episodes.append(episode)
    steps = len(actions)
    actions = [
        replace(a, step=i, steps=steps, quality=_quality(a, e))
        for i, (a, e) in enumerate(
            zip(actions, [e for e in episodes if any(a.id == e.action for a in actions)], strict=True), 1
        )
    ]
    told = video.told
    instruction = told.instruction or " ".join(a.sentence for a in actions) or "Nothing happens."
    info = VideoInfo(
        Video(told.id or video.folder.name, told.task, instruction, video.frames, video.fps, RGB, DEPTH,
              (video.camera.width_px, video.camera.height_px)),
        camera,
        tuple(_object(thing, first_boxes[thing.id], 0 if scene is None else scene.frame, T) for thing in world.things.values()),
        tuple(actions),
        Provenance("stvla human process", __version__, made_from, (hands.name,), told.people, told.consent),
        Environment(),
        None if actions else "no action was found",
    )  # fmt: skip
    return info, episodes


def _quality(action: Action, episode: Episode) -> Quality:
    assert action.quality is not None
    return replace(action.quality, score=max(min(episode.score, 1.0), 0.0), flags=tuple(episode.reasons))


def _object(thing: Thing, box: OrientedBox, frame: int, T_workspace_camera: F64) -> SceneObject:
    T = inverse(T_workspace_camera) @ box.T_workspace_box
    return SceneObject(
        thing.id, thing.name, thing.category, thing.colour, None, (), thing.roles,
        Box(frame, _vector(T[:3, 3]), _vector(box.size_m), _quaternion(T[:3, :3])),
    )  # fmt: skip


def _vector(values: F64) -> tuple[float, float, float]:
    x, y, z = (float(v) for v in values)
    return x, y, z


def _quaternion(R: F64) -> tuple[float, float, float, float]:
    x, y, z, w = (float(v) for v in to_quaternion(R))
    return x, y, z, w


def _action(
    video: HumanVideo, camera: InfoCamera, T: F64, world: _World, first_boxes: dict[str, OrientedBox], segment: Segment,
    track: Track, change: Change, hands: HandBackend, found: Hands, template: str | None, episode: Episode,
    earlier: Sequence[Action],
) -> Action | None:  # fmt: skip
    """One action, and what it changes in the world; None if it cannot be told what was done."""
    if not world.things:
        episode.doubt(0.0, "no thing was found on the table", (segment.start, segment.end))
        return None
    label, share = _acted(world, change, to_workspace(T, backproject(video, change.before_m))[:, 2])
    moved = label is not None
    if label is not None and share < SETTINGS.moved_share:
        episode.doubt(0.6, f"only {100 * share:.0f} % of the thing's old place is free afterwards")

    @cache
    def hand_at(frame: int) -> F64:
        return hand_cloud(video, frame, change, hands, T)

    if label is None:
        label = _touched(world, hand_at(segment.start + track.reference), track.tip_m[track.reference])
    if template == "turn" and not moved:
        label, track = _turned(world, label, track, lambda i: hand_at(segment.start + i))
    if moved:
        whole, label = label, _taken_apart(video, T, world, label, change, segment)
        first_boxes |= {world.things[k].id: world.things[k].box for k in (whole, label) if whole != label}
    names = {thing.id: thing.name for thing in world.things.values()}
    thing = world.things[label]
    side = _side(video.told.hand, found, segment)
    own = _seen_of(video, T, world, label, change)
    knob_m = knob(thing.box, own) if len(own) >= CLOSE_POINTS else None
    ball = len(own) >= CLOSE_POINTS and is_ball(thing.box, own)
    motion = make_motion(track, segment, thing.box, video.fps, moved, hand_at, template, T[:3, 3], side, knob_m, ball)
    if motion is not None and motion.by_keypoints:
        episode.grasp = "keypoints"
    if motion is None:
        episode.doubt(0.0, "the hand was lost at contact or release", (segment.start, segment.end))
        return None
    before = world.boxes()
    relations_before = find_relations(before)
    if moved:
        put, fall_m = _settle(video, T, world, label, change, motion, episode)
        motion = let_go_before(motion, fall_m, video.fps) if put is None else arriving(motion, put)
    after = world.boxes()
    relations_after = find_relations(after)
    held = motion.xyz_m[motion.contact : motion.release + 1]
    known = held[np.isfinite(held[:, 0])]
    turn, tilt = _turns(track, motion)
    seen = Seen(
        thing.id, names, before, after, relations_before, relations_after,
        _through(held) if len(known) else thing.box.center_m[None], turn, tilt, world.places, video.told.slots,
    )  # fmt: skip
    name, slots, words, problem = describe(template, seen)
    if problem is not None:
        episode.doubt(0.3, problem)
    elif template is None:
        episode.doubt(0.8, "nobody named the template")
    _expect(name, slots, relations_after, episode)
    _judge(segment, motion, episode)
    world.places.append((thing.id, before[thing.id].center_m.copy()))
    contact, release = segment.start + motion.contact, segment.start + motion.release
    points = ContactPoints(
        _contact(camera, T, contact, motion.xyz_m[motion.contact], thing.id),
        _contact(camera, T, release, motion.xyz_m[motion.release], thing.id),
    )
    involved = set(things_of(name, slots))
    return Action(
        episode.action, name, slots, words, side,
        segment.start, contact, release, segment.end, segment.before[-1], segment.after[0], 1, 1,
        points, _trajectory(T, segment, motion, TEMPLATES[name].gripper),
        SaidMotion(
            angle_deg=round(abs(turn), 1) if name == "turn" else None,
            pattern=_pattern(known) if name == "wipe" else None,
            tilt_deg=round(tilt, 1) if name == "pour" else None,
            ratio=int(str(slots["percent"])) / 100 if name == "cut" else None,
        ),
        Relations(_relations(relations_before), _relations(relations_after)),
        depends_on=tuple(a.id for a in earlier if involved & set(things_of(a.template, a.slots))),
        quality=Quality(1.0, 0.0, _gap(motion)),
    )  # fmt: skip


def _through(path: F64) -> F64:
    """(N, 3) a path with its unknown points (NaN) on the straight line between the known ones: time counts there too."""
    known = np.flatnonzero(np.isfinite(path[:, 0]))
    return np.column_stack([np.interp(np.arange(len(path)), known, axis[known]) for axis in path.T])


def _side(told: str | None, found: Hands, segment: Segment) -> Literal["left", "right"]:
    """Which hand acts: as people told, else as keypoints show, else the right one."""
    if told is not None:
        return "left" if told == "left" else "right"
    return "left" if found.right_hand(segment.start, segment.end) is False else "right"


def _acted(world: _World, change: Change, height_m: F64) -> tuple[int | None, float]:
    """Label of the thing of whose old place most is free, and that share; None if nothing moved.

    Only what is so high over the table, (H * W,), that its absence can be seen counts: of a flat lid, that is its knob.
    """
    size = int(world.labels.max(initial=0)) + 1
    gone = np.bincount(world.labels[change.gone], minlength=size).astype(float)
    with np.errstate(invalid="ignore"):
        shows = height_m.reshape(change.before_m.shape) > SHOWS_M
    area = np.bincount(world.labels[shows | change.gone], minlength=size)
    gone[[label not in world.things for label in range(size)]] = 0.0
    if not gone.any():
        return None, 0.0
    best = int(gone.argmax())
    share = gone[best] / area[best]
    return (best, float(share)) if share > 0.1 and gone[best] > 25 else (None, 0.0)


def _turned(world: _World, label: int, track: Track, cloud: Callable[[int], F64]) -> tuple[int, Track]:
    """What a hand turns, by its label, and how: a hand hides what it turns, but turns about the middle of that alone.

    Args:
        world: The things.
        label: Of what the hand seems to touch.
        track: The hand.
        cloud: Gives (N, 3) what is seen of it in a frame, counted from the segment's start.
    """
    tip_m = track.tip_m[track.reference]
    near = {k for k, thing in world.things.items() if distance_to_box(thing.box, tip_m[None])[0] < END_M} | {label}
    found = {k: turning(track, world.things[k].box.center_m, cloud) for k in near}
    best = max(near, key=lambda k: abs(found[k][1]))
    return best, found[best][0]


def _taken_apart(video: HumanVideo, T: F64, world: _World, label: int, change: Change, segment: Segment) -> int:
    """The label of what was really moved: the upper part of what people told as two things, if the lower one stayed."""
    known = {thing.name for thing in world.things.values()}
    missing = [told for told in video.told.objects if told.name not in known]
    old = (world.labels == label) & np.isfinite(change.before_m) & np.isfinite(change.after_m)
    if not missing or not old.any():
        return label
    points, rest = (
        to_workspace(T, backproject(video, depth)).reshape(*old.shape, 3) for depth in (change.before_m, change.after_m)
    )
    taken, stays = old & change.gone, old & ~change.gone & (points[..., 2] > SHOWS_M)
    if min(taken.sum(), stays.sum()) < PART * old.sum():
        return label
    if np.quantile(points[stays][:, 2], 0.75) > np.quantile(points[taken][:, 2], 0.25):
        return label
    whole, lower = world.things[label], rest[old]
    top = float(np.quantile(lower[:, 2], 0.97))
    # Also over the rim, which is hardly farther away than what lay on it.
    taken |= old & (points[..., 2] > top + ABOVE_M)
    rgb = video.rgb(segment.before[-1])[taken]
    upper, lower_thing = taken_apart(video, whole, missing, T, points[taken], rgb, lower[lower[:, 2] > SHOWS_M])
    new = max(world.things) + 1
    world.things |= {new: replace(upper, label=new), label: lower_thing}
    world.labels = np.where(taken, new, world.labels).astype(np.int32)
    return new


def _touched(world: _World, hand_m: F64, tip_m: F64) -> int:
    """Label of the thing that the end of the hand (N, 3), which is at ``tip_m`` (3,), is nearest to; the arm touches nothing."""
    end = hand_m[np.linalg.norm(hand_m - tip_m, axis=1) < END_M]

    def away(box: OrientedBox) -> float:
        if not len(end):
            return np.inf
        return float(np.sort(distance_to_box(box, end))[:CLOSE_POINTS].mean())

    return min(world.things, key=lambda label: away(world.things[label].box))


def _seen_of(video: HumanVideo, T: F64, world: _World, label: int, change: Change) -> F64:
    """(N, 3) what was seen of a thing before the action, in the workspace."""
    points = to_workspace(T, backproject(video, change.before_m))
    return points[(world.labels.ravel() == label) & np.isfinite(points[:, 2])]


def _settle(
    video: HumanVideo, T: F64, world: _World, label: int, change: Change, motion: Motion, episode: Episode
) -> tuple[F64 | None, float]:
    """Move a thing to its new place in the world.

    Returns:
        Its motion (4, 4) if the scene tells where the hand put it, and how far it fell [m].
    """
    thing = world.things[label]
    old = world.labels == label
    points = to_workspace(T, backproject(video, change.before_m)).reshape(*old.shape, 3)
    scene = to_workspace(T, backproject(video, change.after_m)).reshape(*old.shape, 3)
    own = points[old & np.isfinite(change.before_m)]
    came = change.came & np.isfinite(change.after_m)
    T_moved, off = settled(own, scene[came], motion.T_moved)
    put = T_moved if off < LOST_M else None
    fall_m = 0.0
    if off >= LOST_M:  # let go above where it is now
        dropped = fallen(moved_box(thing.box, motion.T_moved), scene[came]) @ motion.T_moved
        there, again = settled(own, scene[came], dropped)
        if again < LOST_M:
            fall_m = float(moved_box(thing.box, motion.T_moved).center_m[2] - moved_box(thing.box, there).center_m[2])
            T_moved, off = there, 0.0
    if not np.isfinite(off):
        episode.doubt(0.5, "nothing has come where the thing was put")
    elif off > SETTINGS.settle_m:
        episode.doubt(0.5, f"hand and scene disagree about the new place by {1000 * off:.0f} mm")
    box = moved_box(thing.box, T_moved)
    world.things[label] = replace(thing, box=box)
    labels = world.labels.copy()
    labels[old & change.gone] = 0
    for other, below in world.things.items():
        if other != label:
            free = old & change.gone & np.isfinite(change.after_m)
            inside = distance_to_box(below.box, scene[free]) < 0.006
            part = labels[free]
            part[inside] = other
            labels[free] = part
    near = np.zeros(old.shape, bool)
    near[came] = distance_to_box(box, scene[came]) < 0.02
    labels[near] = label
    world.labels = labels
    return put, fall_m


def _turns(track: Track, motion: Motion) -> tuple[float, float]:
    """Turn about up from contact to release (counter-clockwise from above), and the largest tilt, in degrees."""
    R = (track.T_ref @ inverse(track.T_ref[motion.contact]))[motion.contact : motion.release + 1, :3, :3]
    R = R[np.isfinite(R[:, 0, 0])]
    turn = float(np.degrees(np.arctan2(R[-1, 1, 0], R[-1, 0, 0])))
    tilt = float(np.degrees(np.arccos(np.clip(R[:, 2, 2], -1.0, 1.0))).max())
    return turn, tilt


def _pattern(path: F64) -> Literal["linear", "circular"]:
    """``circular`` if a stroke encloses an area, ``linear`` otherwise."""
    if len(path) < 3:
        return "linear"
    spread = np.linalg.svd(path[:, :2] - path[:, :2].mean(axis=0), compute_uv=False)
    return "circular" if spread[1] > 0.5 * spread[0] else "linear"


def _expect(name: str, slots: Mapping[str, SlotValue], relations: Sequence[SpatialRelation], episode: Episode) -> None:
    """Doubt an action after which what its template promises does not hold."""
    for subject, predicate, objects, wanted in expected_after(name, slots):
        if predicate == "held":
            continue
        holds = any(
            r.subject == subject and r.predicate == predicate and (not objects or set(r.objects) <= set(objects))
            for r in relations
        )
        if holds != wanted:
            said = f"{subject} {predicate} {' and '.join(objects)}".rstrip()
            episode.doubt(0.5, f"'{said}' should {'' if wanted else 'not '}hold afterwards")


def _gap(motion: Motion) -> int:
    """Frames without a measurement between contact and release."""
    return int(np.count_nonzero(~motion.seen[motion.contact : motion.release + 1]))


def _judge(segment: Segment, motion: Motion, episode: Episode) -> None:
    gap = _gap(motion)
    lost = ~np.isfinite(motion.xyz_m[motion.contact : motion.release + 1, 0])
    if lost.any():
        at = np.flatnonzero(lost) + segment.start + motion.contact
        episode.doubt(0.5, f"the hand is lost in {len(at)} frames while it holds the thing", (int(at[0]), int(at[-1])))
    elif gap > SETTINGS.gap_frames:
        at = np.flatnonzero(~motion.seen[motion.contact : motion.release + 1]) + segment.start + motion.contact
        episode.doubt(0.7, f"{gap} frames between contact and release are filled in", (int(at[0]), int(at[-1])))
    if motion.release - motion.contact < 4 and motion.moved:
        episode.doubt(0.5, "the thing was held for less than 5 frames")


def _contact(camera: InfoCamera, T: F64, frame: int, xyz_m: F64, thing: str) -> ContactPoint:
    point = _vector((inverse(T) @ np.append(xyz_m, 1.0))[:3])
    x, y = (float(v) for v in project(camera, [point])[0])
    return ContactPoint(frame, (x, y), point, thing, None, "auto")


def _trajectory(T: F64, segment: Segment, motion: Motion, gripper: Gripper) -> tuple[Waypoint, ...]:
    """Every frame in which the hand is known."""
    T_camera = inverse(T)
    out = []
    source: Literal["auto", "interpolated", "object"]
    for i in np.flatnonzero(np.isfinite(motion.xyz_m[:, 0])):
        xyz = (T_camera @ np.append(motion.xyz_m[i], 1.0))[:3]
        held = motion.contact <= i <= motion.release
        closed = held or gripper is Gripper.CLOSED or (gripper is Gripper.CLOSES and i > motion.release)
        source = "interpolated" if not motion.seen[i] else "object" if held and motion.moved else "auto"
        out.append(
            Waypoint(
                segment.start + int(i), _vector(xyz), _quaternion(T_camera[:3, :3] @ motion.R[i]), 1 if closed else 0,
                float(motion.width_m[i]), float(motion.sigma_m[i]), source,
            )
        )  # fmt: skip
    return tuple(out)


def _relations(found: Sequence[SpatialRelation]) -> tuple[Relation, ...]:
    return tuple(Relation(r.subject, r.predicate, r.objects, round(r.margin, 3)) for r in found)
