"""Whether a bag will do: to be replayed, to become demonstrations, to stand in for the camera."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from stvla_ros.doctor.camera import check_depth
from stvla_ros.doctor.finding import Finding, State, ok, told, unseen, warning, wrong
from stvla_ros.doctor.streams import ANOTHER_TIME_S, Source, Stream, check_rate
from stvla_ros.types import F32

PAIRED, WITH_ARM = 0.9, 0.95
"""Shares of the colour images that should make a frame, and of the frames that should have the arm's state."""

APART_S = 0.1
"""Clocks of camera and arm that differ by more pair an image with a state of another moment."""

SHORT_S = 3.0
"""No demonstration is shorter."""


@dataclass(frozen=True, eq=False)
class BagView:
    """What was found in a bag.

    Attributes:
        seconds: From the first to the last message.
        fault: Why it cannot be used at all; empty if it can.
        damage: Why only a part could be read; empty if all was read.
        notes: What its reader says about it.
        streams: Topic -> its messages; they arrived when they were recorded.
        sources: Topic -> what it should be like.
        images: Number of colour images.
        frames: Number of frames that they made with depth, camera info and the camera's pose.
        with_arm: Number of frames that have the arm's state.
        depth_m: (N, H, W) some depth images, metres, NaN where there is none; None: none was read.
        clocks_s: Topic -> record time after stamp, median [s].
        words: The goal's instruction, if it is a bag of this stack.
        decisions: Number of keyposes that this stack decided and executed in it.
        outcome: How the goal ended; empty if the bag does not say.
        succeeded: Whether it ended with OK.
        keyposes: Number of keyposes that are found in the motion; None: not looked for.
        keyposes_fault: Why none can be found; empty if they can.
    """

    seconds: float = 0.0
    fault: str = ""
    damage: str = ""
    notes: Sequence[str] = ()
    streams: Mapping[str, Stream] = field(default_factory=dict)
    sources: Mapping[str, Source] = field(default_factory=dict)
    images: int = 0
    frames: int = 0
    with_arm: int = 0
    depth_m: F32 | None = None
    clocks_s: Mapping[str, float] = field(default_factory=dict)
    words: str = ""
    decisions: int = 0
    outcome: str = ""
    succeeded: bool = False
    keyposes: int | None = None
    keyposes_fault: str = ""


def check_bag(view: BagView) -> list[Finding]:
    """All findings, and at the end what the bag will do for."""
    if view.fault:
        return [
            told("Contents", view.fault),
            *(wrong(use, "not usable", "see above") for use in (CAMERA, COLLECT, REPLAY)),
        ]
    found = [_length(view), *_topics(view), _frames(view), _arm(view)]
    found += [check_depth(view.depth_m)] if view.depth_m is not None else []
    found += [_clocks(view), *_notes(view)]
    return [*found, *_uses(view, found)]


CAMERA, COLLECT, REPLAY = "For the camera node", "For `stvla collect`", "For a replay of decisions"


def _length(view: BagView) -> Finding:
    name, figure = "Length", f"{view.seconds:.1f} s"
    if view.damage:
        return told(name, view.damage)
    if view.seconds < SHORT_S:
        return warning(name, f"{figure}: too short for a task", "record again", view.seconds, "s")
    return ok(name, figure, value=view.seconds, unit="s")


def _topics(view: BagView) -> Iterator[Finding]:
    for topic, stream in view.streams.items():
        if topic in view.sources and len(stream.at_s):
            yield check_rate(stream, view.sources[topic])


def _frames(view: BagView) -> Finding:
    name, share = "Frames", view.frames / max(view.images, 1)
    figure = f"{view.frames} of {view.images} colour images have depth, camera info and the camera's pose"
    if share >= PAIRED:
        return ok(name, figure, value=share)
    return warning(name, figure, "the notes say why the others have not", share)


def _arm(view: BagView) -> Finding:
    name, share = "Arm's state", view.with_arm / max(view.frames, 1)
    figure = f"known at {view.with_arm} of {view.frames} frames"
    if share >= WITH_ARM:
        return ok(name, figure, value=share)
    remedy = "record the driver's joint states of arm and gripper, or name them with --remap OLD:=NEW"
    return (warning if view.with_arm else wrong)(name, figure, remedy, share)


def _clocks(view: BagView) -> Finding:
    """Whether all stamps are of one clock: those of camera and arm are compared with each other."""
    name, late = "Clocks", view.clocks_s
    if len(late) < 2:
        return unseen(name, "only one topic has stamps")
    first, last = min(late, key=lambda t: late[t]), max(late, key=lambda t: late[t])
    apart = late[last] - late[first]
    if apart > APART_S:
        what = "are of another time than" if apart > ANOTHER_TIME_S else f"are {apart:.2f} s older than"
        return wrong(
            name,
            f"when recorded, the stamps on {last} {what} those on {first}, so images and states do not belong together",
            "synchronise the clocks (chrony) and record again",
            apart,
            "s",
        )
    return ok(name, f"all within {apart * 1e3:.0f} ms", value=apart, unit="s")


def _notes(view: BagView) -> Iterator[Finding]:
    for note in view.notes:
        yield warning("Note", note.rstrip("."), "")


def _uses(view: BagView, found: Sequence[Finding]) -> Iterator[Finding]:
    """What the bag will do for."""
    bad = [f.name for f in found if f.state is State.WRONG]
    because = f"because of: {', '.join(bad)}"
    if view.frames:
        yield ok(CAMERA, f"yes: {view.frames} frames", "set camera.path to it and start with --camera recorded")
    else:
        yield wrong(CAMERA, "no: it has no usable frame", "see Frames")
    yield _collect(view, bad, because)
    yield _replay(view, bad, because)


def _collect(view: BagView, bad: Sequence[str], because: str) -> Finding:
    if bad or view.damage:
        return wrong(COLLECT, f"no, {because}", "mend that, or record again")
    if view.decisions:
        figure = f"{view.decisions} keyposes as the stack decided, '{view.words}', {view.outcome or 'without an end'}"
        if view.succeeded:
            return ok(COLLECT, f"yes: {figure}", value=float(view.decisions))
        return warning(COLLECT, f"only as a failure: {figure}", "--failures takes it too", float(view.decisions))
    if view.keyposes:
        return ok(COLLECT, f"yes: {view.keyposes} keyposes in the motion", "say with --instruction what was done")
    return wrong(COLLECT, f"no: {view.keyposes_fault.rstrip('.') or 'no keyposes are in it'}", "record a whole task")


def _replay(view: BagView, bad: Sequence[str], because: str) -> Finding:
    if bad:
        return wrong(REPLAY, f"no, {because}", "mend that, or record again")
    if view.decisions:
        return ok(REPLAY, f"yes: {view.decisions} decided keyposes")
    return warning(
        REPLAY,
        "only its sensors: it has no decisions of this stack to compare with",
        "record the topics below /stvla too",
    )
