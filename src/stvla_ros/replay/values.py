"""Values of a replay: what a recording says that the stages were given and decided, and what they decide now.

Plain values without ROS. Poses are in the robot's base frame; units are suffixes, as in :mod:`stvla_ros.types`.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from math import nan
from typing import Any, Protocol

import numpy as np

from stvla_ros.types import Bool, Guidance, JointPath, Keypose, Outcome, RgbdFrame, RobotState, Trace3d, TracePlan


class Kind(StrEnum):
    """Which stage decided."""

    PLAN = "plan"
    GUIDE = "guide"
    PREDICT = "predict"
    MOVE = "move"


class Mode(StrEnum):
    """What the stages are given in a replay."""

    TEACHER_FORCED = "teacher-forced"
    """Every step gets the recorded history and the recorded plan: a difference does not reach later steps."""

    FREE = "free"
    """Every step gets what the replay itself decided before. The camera and the arm stay the recorded ones."""


class PackedMask:
    """A field for a mask, kept as compressed bits: 1 kB instead of 300 kB, for recordings have thousands of them."""

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = f"_{name}"

    def __get__(self, instance: Any, owner: type | None = None) -> Bool | None:
        kept = None if instance is None else instance.__dict__[self._name]
        if kept is None:
            return None  # also the field's default
        shape, packed = kept
        bits = np.unpackbits(np.frombuffer(zlib.decompress(packed), np.uint8), count=shape[0] * shape[1])
        return np.asarray(bits.reshape(shape).astype(bool))

    def __set__(self, instance: Any, value: Bool | None) -> None:
        kept = None if value is None else (value.shape, zlib.compress(np.packbits(value).tobytes(), 1))
        instance.__dict__[self._name] = kept


@dataclass(frozen=True, eq=False)
class Masking:
    """What guidance did to one frame.

    Attributes:
        mode: One of :data:`stvla_ros.types.GUIDANCE_MODES`.
        kept_ids: Instances left in the image.
        removed_ids: Instances painted out.
        progress_m: Length of the path behind the tool.
        notes: Warnings for the operator.
        removed: (H, W) where the image was painted out; None: not known.
        digest: Hash of the cleaned colour and depth; empty: not known.
    """

    mode: str
    kept_ids: tuple[int, ...]
    removed_ids: tuple[int, ...]
    progress_m: float
    notes: tuple[str, ...] = ()
    removed: PackedMask = PackedMask()
    digest: str = ""

    @classmethod
    def of(cls, guidance: Guidance) -> Masking:
        """The masking of a cleaned frame. Hashes its pixels, which takes about 3 ms for 640x480."""
        return cls(
            guidance.mode,
            guidance.kept_ids,
            guidance.removed_ids,
            guidance.progress_m,
            guidance.notes,
            guidance.removed_px,
            guidance.frame.digest(),
        )


@dataclass(frozen=True, eq=False)
class Decision:
    """What a stage answered at one moment. Which fields are set depends on :attr:`kind`.

    Attributes:
        number: Index of the moment in :attr:`RecordedTask.moments`.
        kind: The stage.
        outcome: OK, or why there is no answer.
        seconds: Wall-clock time that the stage took; NaN: not known.
        plan: PLAN: the path on the image.
        trace: PLAN: the path lifted to 3D; None: it was refused, or is not known.
        lifting: PLAN: how the lifting ended; None: there was none (no plan, or the task is finished), or not known.
        masking: GUIDE: what was done to the frame.
        keypose: PREDICT: the next keypose; MOVE: the goal.
        path_complete: PREDICT: nothing is left to do on the path, and there is no keypose.
        paths: MOVE: joint motions, in the order in which they are sent to the arm.
    """

    number: int
    kind: Kind
    outcome: Outcome
    seconds: float = nan
    plan: TracePlan | None = None
    trace: Trace3d | None = None
    lifting: Outcome | None = None
    masking: Masking | None = None
    keypose: Keypose | None = None
    path_complete: bool = False
    paths: tuple[JointPath, ...] = ()


@dataclass(frozen=True, eq=False)
class Moment:
    """One time at which a stage decided, with what it was given.

    Attributes:
        number: Its index in :attr:`RecordedTask.moments`.
        kind: The stage.
        stamp_ns: When the stage answered; of a GUIDE moment, the image's stamp.
        image_stamp_ns: Stamp of the image; 0: there was none, and the moment cannot be repeated.
        robot: The arm as the stage saw it; None: there was none, and the moment cannot be repeated.
        instruction: The operator's words.
        plan_id: Plan in use: its own for PLAN, otherwise the one that is followed; empty: none.
        history: Executed keyposes, oldest first; all of them for PLAN, the last ones for PREDICT.
        feedback: PLAN: why the last path failed.
        holding: PLAN: what the gripper holds.
        keypose: MOVE: the goal.
        after: MOVE: the arm after the motion; None: not known.
        recorded: What the stage answered then; None: the moment was derived, nothing was decided then.
    """

    number: int
    kind: Kind
    stamp_ns: int
    image_stamp_ns: int
    robot: RobotState | None
    instruction: str
    plan_id: str = ""
    history: tuple[Keypose, ...] = ()
    feedback: str = ""
    holding: str = ""
    keypose: Keypose | None = None
    after: RobotState | None = None
    recorded: Decision | None = None


class RecordedTask(Protocol):
    """One recorded goal.

    Attributes:
        name: Of the recording, for people: the last part of its path.
        instruction: The operator's words.
        moments: In order of time; the moments of one kind are in the order in which their stage ran.
        seconds: Duration of the recording.
        derived: The recording has no decisions; the moments were chosen by a rule.
        outcome: How the task ended; None: not known.
        settings: Node -> parameter -> value, as recorded; empty: not known.
        versions: What the recording was made with, e.g. ``{"git commit": ...}``.
        notes: What the reader should know about the recording, one sentence each.
    """

    name: str
    instruction: str
    moments: Sequence[Moment]
    seconds: float
    derived: bool
    outcome: Outcome | None
    settings: Mapping[str, Mapping[str, Any]]
    versions: Mapping[str, str]
    notes: Sequence[str]

    def frame(self, stamp_ns: int) -> RgbdFrame:
        """The frame with this stamp. Fast for increasing stamps; an older one reads the recording again.

        Raises:
            StageError: STALE_IMAGE when the recording has no such frame.
        """
        ...


@dataclass(frozen=True)
class Difference:
    """How far one decision is from another at the same moment. NaN: does not apply, or one of the two is missing.

    Attributes:
        number: Index of the moment.
        kind: The stage.
        equal: Both count as the same decision, i.e. have the same canonical bytes (``replay.canonical``).
        sentence: What differs, for people; empty if equal.
        severity: For sorting: 0 equal; 1: 5 mm, 2 degrees, or 2 % of the mask; 100 and more: another kind of answer.
        position_mm: PREDICT and MOVE: between the two tool positions. PLAN: largest distance of the lifted paths.
        rotation_deg: PREDICT and MOVE: angle between the two tool poses.
        path_rmse_mm: PLAN: of the lifted paths; MOVE: of the tool along the joint motions, at equal shares of time.
        drawn_rmse: PLAN: of the waypoints on the image, in 0..1000 of its size.
        mask_iou: GUIDE: intersection over union of the painted pixels; 1 if neither painted any.
    """

    number: int
    kind: Kind
    equal: bool
    sentence: str = ""
    severity: float = 0.0
    position_mm: float = nan
    rotation_deg: float = nan
    path_rmse_mm: float = nan
    drawn_rmse: float = nan
    mask_iou: float = nan


@dataclass(frozen=True)
class Comparison:
    """Two series of decisions on the same recording.

    Attributes:
        names: Of the two, e.g. ``("recorded", "replayed")``.
        hashes: Decision hash of each.
        differences: One per moment that both decided, in order of time.
        headline: The result in one sentence: that all is equal, or where the two first part, and where most.
    """

    names: tuple[str, str]
    hashes: tuple[str, str]
    differences: tuple[Difference, ...] = field(default=())
    headline: str = ""

    @property
    def first(self) -> Difference | None:
        """The first moment at which the two part."""
        return next((d for d in self.differences if not d.equal), None)

    @property
    def worst(self) -> tuple[Difference, ...]:
        """All moments at which the two part, worst first."""
        return tuple(sorted((d for d in self.differences if not d.equal), key=lambda d: -d.severity))


@dataclass(frozen=True, eq=False)
class Replay:
    """One replay: every decision that the stages made again.

    Attributes:
        name: Of the settings, e.g. "replayed", or what differs from the recording: "policy=3dfa".
        mode: What the stages were given.
        decisions: In order of time.
        hash: SHA-256 over the canonical bytes of all decisions, in hexadecimal digits.
        cpu_s: Processor time of the replay, of all threads.
        notes: What the reader should know, e.g. that the recorded plans were used; one sentence each.
    """

    name: str
    mode: Mode
    decisions: tuple[Decision, ...]
    hash: str
    cpu_s: float = nan
    notes: tuple[str, ...] = ()
