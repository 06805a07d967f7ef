"""What a node and the processes of arm and hand tell each other.

Requests and replies go through a pipe as pickled dataclasses. The arm's process reads it only while the arm stands
still. Beside it, a socket carries small packets in both directions that may be lost and never wait: the arm's state, and
the node's sign of life with the number of the newest motion that is to stop.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import Enum, IntEnum, auto

import numpy as np

from stvla_ros.description.robot import ArmLimits
from stvla_ros.errors import OutcomeCode, StageError
from stvla_ros.robot.franka.config import FrankaConfig
from stvla_ros.robot.franka.motion import Samples
from stvla_ros.types import F64, TrajectoryTolerances


class Mode(IntEnum):
    """The modes of ``stvla_msgs/RobotStatus``."""

    INACTIVE = 0
    IDLE = 1
    MOVING = 2
    REFLEX = 3
    USER_STOPPED = 4
    SAFETY_FUNCTION = 5
    GUIDING = 6
    LOST = 7
    OTHER = 8


class End(Enum):
    """How a motion ended."""

    REACHED = auto()
    STOPPED = auto()  # on request, at standstill
    FAILED = auto()


@dataclass(frozen=True)
class Connect:
    """Connect to the robot and configure it."""

    config: FrankaConfig


@dataclass(frozen=True, eq=False)
class Follow:
    """Follow a path, as soon as the arm stands still.

    Attributes:
        motion: Its number, above all earlier ones.
        samples: The path.
        tolerances: When the motion fails.
        limits: Of its brake.
        names: The seven joints, for sentences.
    """

    motion: int
    samples: Samples
    tolerances: TrajectoryTolerances
    limits: ArmLimits
    names: tuple[str, ...]


@dataclass(frozen=True)
class Recover:
    """Clear the robot's errors."""


@dataclass(frozen=True)
class Home:
    """Find the hand's largest opening; the fingers move."""


@dataclass(frozen=True)
class MoveHand:
    """Move the fingers.

    Attributes:
        number: Of this command, from 1.
        width_m: Wanted distance between the fingers.
        force_n: Force when they close; 0: the configured one.
    """

    number: int
    width_m: float
    force_n: float


@dataclass(frozen=True)
class HaltHand:
    """Stop the fingers."""


@dataclass(frozen=True)
class Answer:
    """The end of a request: OK, or a code and a sentence."""

    code: OutcomeCode = OutcomeCode.OK
    sentence: str = ""

    @staticmethod
    def of(error: StageError) -> Answer:
        """The answer to a request that failed."""
        return Answer(error.code, error.sentence)


@dataclass(frozen=True)
class Condition:
    """The arm's condition has changed.

    Attributes:
        mode: Its mode.
        errors: The robot's names of its current errors.
    """

    mode: Mode
    errors: tuple[str, ...] = ()


@dataclass(frozen=True)
class Lost:
    """The connection to the robot, or to its hand, broke; the process has ended or is about to."""

    sentence: str


@dataclass(frozen=True)
class Statistics:
    """Figures of one motion, in robot time.

    Attributes:
        cycles: Its length in cycles of 1 ms.
        missed: Cycles without a command from this process.
        worst_error_rad: Largest difference of a measured from its commanded position.
        end_error_rad: The same at the end.
        stop_cycles: Cycles from the last command before the brake until the arm was first seen at rest; 0: not stopped.
        brake_cycles: The same until the commands stood still.
        success_rate: The robot's share of commands that came in time, the lowest during the motion.
    """

    cycles: int = 0
    missed: int = 0
    worst_error_rad: float = 0.0
    end_error_rad: float = 0.0
    stop_cycles: int = 0
    brake_cycles: int = 0
    success_rate: float = 1.0


@dataclass(frozen=True)
class Ended:
    """A motion, or a command of the hand, has ended.

    Attributes:
        number: Of which one.
        end: How.
        code: Why, if it failed.
        sentence: The same for the operator.
        statistics: Of a motion.
    """

    number: int
    end: End
    code: OutcomeCode = OutcomeCode.OK
    sentence: str = ""
    statistics: Statistics = Statistics()


@dataclass(frozen=True)
class Fingers:
    """A measurement of the hand: when, the distance of its fingers, the one that homing found (0 before it)."""

    stamp_ns: int
    width_m: float
    max_width_m: float


_STATE = struct.Struct("<qqqd7d7d7d7d")
_LIFE = struct.Struct("<qq")


@dataclass(frozen=True, eq=False)
class ArmState:
    """The arm as measured.

    Attributes:
        stamp_ns: When it arrived here, by the computer's clock.
        motion: Number of the motion in progress; 0: none.
        cycle: Its cycle.
        success_rate: Share of the last 100 commands that came in time.
        q: (7,) measured positions.
        dq: (7,) measured velocities.
        q_c: (7,) commanded positions.
        dq_c: (7,) commanded velocities.
    """

    stamp_ns: int
    motion: int
    cycle: int
    success_rate: float
    q: F64
    dq: F64
    q_c: F64
    dq_c: F64

    @classmethod
    def unpack(cls, packet: bytes) -> ArmState:
        """From a packet."""
        stamp, motion, cycle, rate, *values = _STATE.unpack(packet)
        q, dq, q_c, dq_c = np.array(values).reshape(4, 7)
        return cls(stamp, motion, cycle, rate, q, dq, q_c, dq_c)


def pack_state(
    stamp_ns: int, motion: int, cycle: int, rate: float, q: list[float], dq: list[float], q_c: list[float],
    dq_c: list[float],
) -> bytes:  # fmt: skip
    """A packet with an :class:`ArmState`, made from what libfranka gives, which costs microseconds."""
    return _STATE.pack(stamp_ns, motion, cycle, rate, *q, *dq, *q_c, *dq_c)


def pack_life(count: int, stop: int) -> bytes:
    """A node's sign of life: a counter, and the number of the newest motion that is to stop."""
    return _LIFE.pack(count, stop)


def unpack_life(packet: bytes) -> tuple[int, int]:
    """Counter and number of :func:`pack_life`."""
    count, stop = _LIFE.unpack(packet)
    return count, stop
