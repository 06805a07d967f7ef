"""Decides what is commanded in each cycle of a motion. Knows no libfranka, so tests step it by themselves."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from stvla_ros.description.braking import CREEP_S, STILL_RAD_S, STILL_S
from stvla_ros.description.robot import ArmLimits
from stvla_ros.errors import OutcomeCode
from stvla_ros.robot.franka.messages import End, Ended, Statistics
from stvla_ros.robot.franka.motion import CYCLE_S, Brake, Samples
from stvla_ros.types import F64, TrajectoryTolerances

STILL_CYCLES, CREEP_CYCLES = round(STILL_S / CYCLE_S), round(CREEP_S / CYCLE_S)

SETTLED_RAD_S = 0.02
"""Every joint slower than this at the end of a path, and it is reached."""


class Follower:
    """One motion: along the path, until it is reached or cannot be, or braked from wherever it is.

    Args:
        number: Of the motion.
        samples: The path; :meth:`begin` moves its start to the arm.
        tolerances: When it fails.
        limits: Of the brake.
        names: The joints, for sentences.
    """

    def __init__(
        self,
        number: int,
        samples: Samples,
        tolerances: TrajectoryTolerances,
        limits: ArmLimits,
        names: Sequence[str],
    ) -> None:
        self.number = number
        """Its number."""
        self._samples, self._limits, self._names = samples, limits, names
        self._last = len(samples.q) - 1
        self._path_rad, self._goal_rad = tolerances.path_rad.tolist(), tolerances.goal_rad.tolist()
        self._late_cycles = tolerances.goal_time_s / CYCLE_S
        self._brake: Brake | None = None
        self._sent, self._from = 0, 0  # cycle of the last command; of the last one before the brake
        self._moved = 0  # last cycle of a brake in which the arm was seen moving
        self._stood: int | None = None  # its first cycle in which it was not
        self._why: tuple[End, OutcomeCode, str] = (End.STOPPED, OutcomeCode.CANCELED, "Stopped on request.")
        self._worst_rad, self._missed, self._rate = 0.0, 0, 1.0
        self.command: list[float] = samples.q[0].tolist()
        """(7,) the last commanded positions."""
        self.velocity: list[float] = [0.0] * 7
        """(7,) their velocities."""
        self.cycle = 0
        """Cycles since the start."""
        self.ended: Ended | None = None
        """How the motion ended; the command of that cycle is its last one."""

    def begin(self, q_rad: F64) -> None:
        """Start from the position (7,) that the robot holds: the distance to the path's start fades."""
        self._samples = self._samples.starting_at(q_rad)
        self.command = self._samples.q[0].tolist()

    def step(self, cycles: int, q: list[float], dq: list[float], rate: float = 1.0) -> list[float]:
        """The command of this cycle.

        Args:
            cycles: Since the last command: 1, or more if the robot had to do without.
            q: (7,) measured positions.
            dq: (7,) measured velocities.
            rate: The robot's success rate.
        """
        self.cycle += cycles
        error = [abs(a - b) for a, b in zip(q, self.command, strict=True)]
        speed = max(map(abs, dq))
        self._count(cycles, max(error), rate)
        if self._brake is None and any(e > limit for e, limit in zip(error, self._path_rad, strict=True)):
            self._fail(f"Path tolerance violated: {self._worst(error, self._path_rad)}.")
        if self._brake is not None:
            self._braking(self._brake, speed, error)
        else:
            self._following(error, speed)
        self._sent = self.cycle
        return self.command

    def stop(self, code: OutcomeCode = OutcomeCode.CANCELED, sentence: str = "Stopped on request.") -> None:
        """Brake from the next command on; the reason of the first call counts."""
        if self._brake is None and self.ended is None:
            end = End.STOPPED if code is OutcomeCode.CANCELED else End.FAILED
            self._why = (end, code, sentence)
            self._begin_brake()

    def statistics(self, error_rad: float = 0.0) -> Statistics:
        """Figures so far; ``error_rad`` is the present error."""
        stop = self.cycle if self._stood is None else self._stood
        stop = stop - self._from if self._brake is not None else 0
        brake = 0 if self._brake is None else self._brake.cycles
        return Statistics(self.cycle, self._missed, self._worst_rad, error_rad, stop, brake, self._rate)

    def _begin_brake(self) -> None:
        k = min(self._sent, self._last)
        still = self._sent > self._last  # it holds the end: the samples' last velocity is that of the last cycle
        dq, ddq = (np.zeros(7), np.zeros(7)) if still else (self._samples.dq[k], self._samples.ddq[k])
        self._brake, self._from = Brake(np.array(self.command), dq, ddq, self._limits), self._sent
        self._moved = self._sent

    def _fail(self, sentence: str) -> None:
        self.stop(OutcomeCode.CONTROLLER_FAILED, sentence)

    def _braking(self, brake: Brake, speed: float, error: list[float]) -> None:
        n = self.cycle - self._from
        self.command, self.velocity = brake.at(n)
        self._moved = self.cycle if speed >= STILL_RAD_S else self._moved
        if self._stood is None and speed < STILL_RAD_S:
            self._stood = self.cycle
        still = self.cycle - self._moved >= STILL_CYCLES
        if n >= brake.cycles and (still or n > brake.cycles + CREEP_CYCLES):
            self._finish(*self._why, max(error))

    def _following(self, error: list[float], speed: float) -> None:
        k = min(self.cycle, self._last)
        self.command, self.velocity = self._samples.q[k].tolist(), self._samples.dq[k].tolist()
        late = self.cycle - self._last
        if late < 0:
            return
        if speed < SETTLED_RAD_S and all(e <= limit for e, limit in zip(error, self._goal_rad, strict=True)):
            self._finish(End.REACHED, OutcomeCode.OK, "", max(error))
        elif late > self._late_cycles:
            sentence = f"Goal tolerance violated: {self._worst(error, self._goal_rad)}."
            self._finish(End.FAILED, OutcomeCode.CONTROLLER_FAILED, sentence, max(error))

    def _finish(self, end: End, code: OutcomeCode, sentence: str, error_rad: float) -> None:
        self.ended = Ended(self.number, end, code, sentence, self.statistics(error_rad))

    def _count(self, cycles: int, error_rad: float, rate: float) -> None:
        self._missed += max(cycles - 1, 0)
        self._worst_rad = max(self._worst_rad, error_rad)
        self._rate = min(self._rate, rate) if self.cycle > 100 else self._rate  # it counts the last 100 commands

    def _worst(self, error: list[float], limit: list[float]) -> str:
        joint = max(range(7), key=lambda i: error[i] - limit[i])
        return f"{self._names[joint]} is {error[joint]:.3f} rad off, with {limit[joint]:.3f} allowed"
