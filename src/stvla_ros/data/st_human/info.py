"""``info.json``, version 1: what is known about one RGB-D video of a hand at a table.

One file per video is the truth; tables and training samples are made from it. Frame numbers, from 0, are the key
everywhere. Positions are in metres in the camera's optical frame (x right, y down, z forward), rotations are
quaternions x, y, z, w, and as in the paper (arXiv 2603.13788) ``gripper`` is 0 when open and 1 when closed.
:mod:`stvla_ros.data.st_human.info_json` reads, checks and writes such files.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

INFO = "info.json"
FORMAT: Literal["st-human-1"] = "st-human-1"

TASKS = 14
"""The paper's kinds of tasks; ``video.task`` is a number from 1 to this."""

RELATIONS = (
    "left_of", "right_of", "in_front_of", "behind", "near", "touching", "on", "in", "under", "between",
    "held", "upright", "upside_down", "on_its_side",
)  # fmt: skip
"""Predicates, as the camera sees them. The last four are about one object; ``between`` has two."""

ROLES = ("container", "tool", "support", "control", "flexible", "distractor")

Vector: TypeAlias = tuple[float, float, float]
Quaternion: TypeAlias = tuple[float, float, float, float]


@dataclass(frozen=True)
class Video:
    """The recording.

    Attributes:
        id: Unique in the data set.
        task: Kind of task, 1 to 14.
        instruction: Goal of the whole video.
        frames: Number of frames.
        fps: Frames per second.
        rgb: Relative path of colour image ``i`` by ``%``-formatting, e.g. ``rgb/%06d.jpg``.
        depth: The same of depth images: 16 bits, in units of ``camera.depth_unit_m``.
        size_px: Width and height.
        stamps_ns: Relative path of a file with one stamp per line; None: evenly spaced.
        hashes: Relative path -> SHA-256.
    """

    id: str
    task: int
    instruction: str
    frames: int
    fps: float
    rgb: str
    depth: str
    size_px: tuple[int, int]
    stamps_ns: str | None = None
    hashes: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Camera:
    """Where a pixel looks.

    Attributes:
        K: fx, fy, cx, cy [px]; the centre of the first pixel is (0, 0).
        distortion: Coefficients in OpenCV's order, up to 8; empty: undistorted images.
        depth_unit_m: Metres per unit of the depth images; 0 in them means unknown.
        depth_aligned: Whether depth has colour's pixels.
        T_workspace_camera: (4, 4) row by row: camera to table (x right, y away from the viewer, z up).
        moving: Whether it moves; then ``poses`` is the relative path of its poses, one (4, 4) per frame.
    """

    K: tuple[float, float, float, float]
    T_workspace_camera: tuple[float, ...]
    depth_unit_m: float = 0.001
    distortion: tuple[float, ...] = ()
    depth_aligned: bool = True
    moving: bool = False
    poses: str | None = None


@dataclass(frozen=True)
class Environment:
    """The paper's axes of variation, in words; None where nobody noted it."""

    lighting: str | None = None
    texture: str | None = None
    distractors: int | None = None


@dataclass(frozen=True)
class Box:
    """An oriented box at a frame: centre, size along its axes, rotation."""

    frame: int
    center_m: Vector
    size_m: Vector
    quat_xyzw: Quaternion


@dataclass(frozen=True)
class SceneObject:
    """A thing on the table. Its ``id`` is that of the instance: the same cup has the same id in all videos."""

    id: str
    name: str
    category: str
    colour: str | None = None
    material: str | None = None
    parts: tuple[str, ...] = ()
    roles: tuple[str, ...] = ()
    box: Box | None = None


@dataclass(frozen=True)
class ContactPoint:
    """Where an action begins or ends to touch something.

    Attributes:
        frame: When.
        px: Its pixel: the projection of ``xyz_m``.
        xyz_m: Its position.
        object: Id of what is touched; None: free space.
        part: Part of that object.
        source: Who says so.
    """

    frame: int
    px: tuple[float, float]
    xyz_m: Vector
    object: str | None = None
    part: str | None = None
    source: Literal["manual", "auto"] = "manual"


@dataclass(frozen=True)
class ContactPoints:
    """The first and the last one of an action."""

    initial: ContactPoint
    final: ContactPoint


@dataclass(frozen=True)
class Waypoint:
    """Pose of the hand as a gripper at a frame, with the standard deviation of its position."""

    frame: int
    xyz_m: Vector
    quat_xyzw: Quaternion
    gripper: Literal[0, 1]
    width_m: float
    sigma_m: float
    source: Literal["manual", "auto", "interpolated", "object"]


@dataclass(frozen=True)
class Motion:
    """What a path does not say: angle turned, pattern of a stroke, tilt of a vessel, ratio of a cut."""

    angle_deg: float | None = None
    pattern: Literal["linear", "circular"] | None = None
    tilt_deg: float | None = None
    ratio: float | None = None


@dataclass(frozen=True)
class Relation:
    """``subject predicate objects``, e.g. cup on plate; ``margin`` is how clearly: 1 is the threshold."""

    subject: str
    predicate: str
    objects: tuple[str, ...] = ()
    margin: float = 1.0


@dataclass(frozen=True)
class Relations:
    """At the frame before the action without a hand, and at the one after it."""

    before: tuple[Relation, ...] = ()
    after: tuple[Relation, ...] = ()


@dataclass(frozen=True)
class Quality:
    """How much an automatic result can be trusted; ``score`` from 0 to 1."""

    score: float
    reprojection_px: float
    gap_frames: int
    flags: tuple[str, ...] = ()


@dataclass(frozen=True)
class Review:
    """The newest verdict of a person; the history is in the annotation tool's database."""

    tier: Literal["00", "01", "10"]
    state: str
    revision: int
    by: str
    at: str
    reason: str | None = None


@dataclass(frozen=True)
class Action:
    """One action of a hand: the paper's episode.

    Attributes:
        id: Unique in the video.
        template: One of :data:`stvla_ros.data.st_human.templates.TEMPLATES`.
        slots: Its slots.
        sentence: The template's canonical sentence.
        hand: Which hand touches.
        start_frame: First frame with the hand in view.
        contact_frame: First contact.
        release_frame: Last contact.
        end_frame: Last frame with the hand in view.
        clean_frame: A frame without a hand before it: what a robot would see.
        after_frame: A frame without a hand after it.
        step: Its place in the task, from 1.
        steps: Number of steps of the task.
        contact_points: None: not known yet.
        trajectory: By frame.
        wordings: Other sentences that mean the same.
        depends_on: Ids of earlier actions that it needs.
    """

    id: str
    template: str
    slots: Mapping[str, str | int | tuple[str, ...]]
    sentence: str
    hand: Literal["left", "right"]
    start_frame: int
    contact_frame: int
    release_frame: int
    end_frame: int
    clean_frame: int
    after_frame: int
    step: int
    steps: int
    contact_points: ContactPoints | None = None
    trajectory: tuple[Waypoint, ...] = ()
    motion: Motion = Motion()
    relations: Relations = Relations()
    wordings: tuple[str, ...] = ()
    depends_on: tuple[str, ...] = ()
    success: bool = True
    quality: Quality | None = None
    review: Review | None = None


@dataclass(frozen=True)
class Provenance:
    """What made the file, whose hands it shows, and under which consent."""

    tool: str
    version: str
    settings_hash: str = ""
    models: tuple[str, ...] = ()
    people: tuple[str, ...] = ()
    consent: str | None = None


@dataclass(frozen=True)
class VideoInfo:
    """All of ``info.json``. ``excluded`` is the reason why the video is not used; None: it is."""

    video: Video
    camera: Camera
    objects: tuple[SceneObject, ...]
    actions: tuple[Action, ...]
    provenance: Provenance
    environment: Environment = Environment()
    excluded: str | None = None
    format: Literal["st-human-1"] = FORMAT

    @property
    def names(self) -> dict[str, str]:
        """Id -> name of each object."""
        return {thing.id: thing.name for thing in self.objects}
