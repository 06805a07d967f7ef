"""Faults: what is done to a stack, when, and how a task may end then. Pure: nothing here touches a process."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from stvla_ros.errors import OutcomeCode

BRAIN = ("planner", "guidance", "policy", "executor", "task")
ROBOT = "sim"
"""The simulator stands for the robot and its camera."""

NODES = (*BRAIN, ROBOT)

VICTIMS = {
    "kill": BRAIN,
    "robot": (ROBOT,),
    "stop": NODES,
    "camera": (ROBOT,),
    "joints": (ROBOT,),
    "clock": (ROBOT,),
}
"""Kind of fault -> the nodes that it hits: kill -9 of a node, kill -9 of the robot, SIGSTOP of either for
:data:`STOP_S`, no more images, joint states that jump, the robot's clock set back."""

KINDS = tuple(VICTIMS)

STOP_S = 2.0
JUMP_S = 0.5
JUMP_RAD = 0.3
CLOCK_BACK_S = 10.0

PHASES = {"planning": (1, 0.4), "predicting": (4, 0.3), "moving": (4, 2.0)}
"""Phase of a task, as its feedback names it -> how often it occurs in a task at least, and its typical length [s]."""

SCENES = 20
"""Scenes have the seeds 0 to this minus 1."""

ALLOWED_S = 0.5
"""From the moment when the loss is noticed to standstill."""

NO_STACK = "NO_STACK"
"""A client found no stack; not an outcome of a task."""

CONNECTION = "CONNECTION"
"""The client reports that the task node is gone; so ends a task whose own node is lost."""

DIED = "DIED"
"""The client ended without a message, by a defect of its own."""

HANG = "HANG"
"""No answer at all."""

STALE = frozenset({"STALE_STATE", "STALE_IMAGE"})
EXPECTED: dict[str, frozenset[str]] = {
    "kill": frozenset({"NODE_LOST"}),
    "robot": STALE | {"NODE_LOST", "CONTROLLER_FAILED"},
    "stop": STALE | {"NODE_LOST", "CONTROLLER_FAILED"},
    "camera": frozenset({"STALE_IMAGE"}),
    "joints": frozenset(code.name for code in OutcomeCode) - {"INTERNAL"},
    "clock": STALE,
}
"""Kind -> the codes that name the fault. Other typed codes are shown, and not counted as wrong."""


@dataclass(frozen=True)
class Fault:
    """What is done in one trial.

    Attributes:
        kind: See :data:`VICTIMS`.
        victim: The node.
        phase: Phase of the task.
        occurrence: Which occurrence of that phase, from 1.
        delay_s: Time from the start of the phase.
        scene: Seed of the scene of the task.
    """

    kind: str
    victim: str
    phase: str
    occurrence: int
    delay_s: float
    scene: int


def draw(seed: int, index: int, kinds: Sequence[str], victims: Sequence[str] = NODES) -> Fault:
    """The fault of trial ``index``; the same arguments give the same fault.

    Kinds and victims come in rounds, each in its own order, so that every pair is equally frequent.
    """
    pairs = [(kind, victim) for kind in kinds for victim in VICTIMS[kind] if victim in victims]
    turn, place = divmod(index, len(pairs))
    kind, victim = pairs[np.random.default_rng([seed, turn, 0]).permutation(len(pairs))[place]]
    rng = np.random.default_rng([seed, index, 1])
    phase = tuple(PHASES)[rng.integers(len(PHASES))]
    most, length_s = PHASES[phase]
    delay_s = round(float(rng.uniform(0.0, length_s)), 3)
    return Fault(kind, victim, phase, int(rng.integers(1, most + 1)), delay_s, int(rng.integers(SCENES)))


@dataclass(frozen=True)
class Trial:
    """One fault and its consequences. Times in seconds, from the fault.

    Attributes:
        index: Number of the trial.
        fault: What was done.
        moving: The arm moved just before.
        code: How the task ended: an outcome's code, or :data:`CONNECTION`, :data:`DIED`, :data:`HANG`.
        sentence: What it said.
        judged: The simulator's verdict, where the task says OK.
        end_s: Until the client had the end; None for a hang.
        noticed_s: Until the stack first showed that it knows; None when it did not.
        noticed_by: By what.
        able_s: Until the robot could be told: a robot that is itself frozen cannot be stopped before it thaws.
        rest_s: Until the last motion of the arm, 0 without any; None when it did not come to rest.
        up_s: Until all processes ran again.
        next_code: How the next goal ended; also :data:`NO_STACK`.
        next_sentence: What it said.
        next_judged: The simulator's verdict.
        next_heard_s: From all processes running to a new client having heard all nodes; None when it did not.
        next_s: From then to the next goal's end.
        unprovoked: Ends, other than success, of goals to which nothing was done yet: code and sentence.
        restarts: How often the stack had to be started anew.
        load: The machine's load average at the end.
        wall_s: The whole trial.
    """

    index: int
    fault: Fault
    moving: bool
    code: str
    sentence: str
    judged: bool | None
    end_s: float | None
    noticed_s: float | None
    noticed_by: str
    able_s: float
    rest_s: float | None
    up_s: float | None
    next_code: str
    next_sentence: str
    next_judged: bool
    next_heard_s: float | None
    next_s: float | None
    unprovoked: tuple[str, ...] = field(default=())
    restarts: int = 0
    load: float = 0.0
    wall_s: float = 0.0

    @property
    def next_ok(self) -> bool:
        """The next goal succeeded, and the stack said so."""
        return self.next_code == "OK" and self.next_judged

    @property
    def after_noticed_s(self) -> float | None:
        """Time from noticing the loss, with the robot reachable, to standstill; negative: it stood before.

        None if there is no such time: the task was done, nothing was noticed, or the arm never rested.
        """
        if self.code == "OK" or self.noticed_s is None or self.rest_s is None:
            return None
        return self.rest_s - max(self.noticed_s, self.able_s)

    def typed(self) -> bool:
        """The task ended as it may: with a code, or by the loss of its own node."""
        lost = self.code == CONNECTION and self.fault.victim == "task"
        return lost or (self.code in OutcomeCode.__members__ and self.code != "INTERNAL")

    def named(self) -> bool:
        """The outcome names the fault, or the task was completed despite it."""
        done = self.code == "OK" and bool(self.judged)
        lost = self.code == CONNECTION and self.fault.victim == "task"
        return done or lost or (self.code in EXPECTED[self.fault.kind] and self.code != "OK")

    def wrong(self) -> tuple[str, ...]:
        """What went wrong, in words; empty for a good trial."""
        after_s = self.after_noticed_s
        found = {
            "hang": self.code == HANG,
            "untyped end": self.code != HANG and not self.typed(),
            "claims a success that is none": self.code == "OK" and not self.judged,
            "never at rest": self.rest_s is None,
            f"moved more than {ALLOWED_S:g} s after": after_s is not None and after_s > ALLOWED_S,
            "the client found no stack": self.next_code == NO_STACK,
            "the next goal hung": self.next_code == HANG,
            "the next goal failed": self.next_code not in (NO_STACK, HANG) and not self.next_ok,
            "a goal failed without a fault": bool(self.unprovoked),
        }
        return tuple(words for words, so in found.items() if so)
