"""``python -m benchmarks.franka``: tracking and stops on the motions of tasks, through genuine libfranka in lock-step.

The motions of each task are planned in the simulated cell, then repeated through the driver's processes in front of the
network interface of a cell with nothing on the table: once to their ends, and as often as wanted with a stop at a random
moment. Times are the robot's: the server waits for the answer to each of its states, so that the load of the computer
changes none of them.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from dataclasses import asdict, dataclass

import numpy as np

from benchmarks.franka.tasks import BareTable, paths_of
from stvla_ros.description.panda import ARM_JOINTS
from stvla_ros.description.robot import PANDA
from stvla_ros.motion.timing import scaled_limits, time_curve
from stvla_ros.robot.franka.arm import FrankaArm
from stvla_ros.robot.franka.config import FrankaConfig
from stvla_ros.robot.franka.messages import End, Ended
from stvla_ros.sim.cell import Cell
from stvla_ros.sim.fci.cell import FciCell
from stvla_ros.sim.fci.server import FciConfig, FciServer
from stvla_ros.sim.tasks import BASIC_TASKS
from stvla_ros.types import F64, JointPath, TrajectoryTolerances

TOLERANCES = TrajectoryTolerances(np.full(7, 0.2), np.full(7, 0.01), 1.5)
LIMITS = scaled_limits(PANDA, 0.5, 0.3, 0.1)
"""Of the executor's settings."""


@dataclass(frozen=True)
class Figures:
    """The table; times are the robot's."""

    motions: int
    reached: int
    robot_time_s: float
    worst_tracking_error_mrad: float
    worst_end_error_mrad: float
    missed_cycles: int
    stops: int
    stops_while_moving: int
    standstill_p50_p95_p99_max_ms: tuple[float, ...]
    brake_p50_p95_p99_max_ms: tuple[float, ...]
    fastest_joint_when_stopped_rad_s: float
    failures: int
    cpu_us_per_cycle: float


class Trial:
    """An arm, and what became of its motions."""

    def __init__(self, arm: FrankaArm, rng: np.random.Generator) -> None:
        self._arm, self._rng = arm, rng
        self.ended: list[Ended] = []
        self.stops: list[tuple[Ended, float]] = []
        """Motions that were stopped, and the fastest joint at that moment [rad/s]."""

    def follow(self, path: JointPath) -> None:
        """Follow a path to its end."""
        self._go_to(path.q_rad[0])
        self.ended.append(self._carry_out(path, None)[0])

    def interrupt(self, path: JointPath) -> None:
        """Follow a path, and stop at a random moment."""
        self._go_to(path.q_rad[0])
        self.stops.append(self._carry_out(path, int(self._rng.uniform(1, max(2.0, 1000 * path.t_s[-1])))))

    def _go_to(self, q: F64) -> None:
        here = self.commanded()
        if np.abs(here - q).max() > 0.02:
            s = np.linspace(0.0, 1.0, 20)[:, None]
            self._carry_out(time_curve(here + s * (q - here), LIMITS), None)

    def commanded(self) -> F64:
        """(7,) where the arm is held."""
        while (state := self._arm.state) is None:
            time.sleep(0.01)
        return state.q_c

    def _carry_out(self, path: JointPath, stop_at: int | None) -> tuple[Ended, float]:
        number, speed = self._arm.start(path, TOLERANCES), 0.0
        while (ended := self._arm.ended(number)) is None:
            state = self._arm.state
            if stop_at is not None and state is not None and state.motion == number and state.cycle >= stop_at:
                self._arm.stop(number)
                speed, stop_at = float(np.abs(state.dq).max()), None
            time.sleep(0.0005)
        if ended.end is End.FAILED:
            print(f"{ended.code.name}: {ended.sentence}", flush=True)
            self._arm.recover()
        return ended, speed


def cpu_s(pid: int) -> float:
    """CPU time of a process so far."""
    with open(f"/proc/{pid}/stat") as file:
        fields = file.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def figures(trial: Trial, cpu: float) -> Figures:
    """The figures of a trial."""
    every = [*trial.ended, *(ended for ended, _ in trial.stops)]
    moving = [(e.statistics, speed) for e, speed in trial.stops if speed > 0.01]
    cycles = sum(e.statistics.cycles for e in every)
    return Figures(
        len(trial.ended),
        sum(e.end is End.REACHED for e in trial.ended),
        round(cycles / 1000, 1),
        round(1e3 * max(e.statistics.worst_error_rad for e in every), 2),
        round(1e3 * max(e.statistics.end_error_rad for e in trial.ended), 2),
        sum(e.statistics.missed for e in every),
        len(trial.stops),
        len(moving),
        _percentiles([s.stop_cycles for s, _ in moving]),
        _percentiles([s.brake_cycles for s, _ in moving]),
        round(max((speed for _, speed in moving), default=0.0), 2),
        sum(e.end is End.FAILED for e in every),
        round(1e6 * cpu / max(cycles, 1), 1),
    )


def _percentiles(values: list[int]) -> tuple[float, ...]:
    return tuple(np.percentile(values or [0], [50, 95, 99, 100]).round(1).tolist())


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.franka", description=__doc__)
    parser.add_argument("--episodes", type=int, default=1, help="of each task, whose motions are used")
    parser.add_argument("--stops", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--hostname", default="127.0.77.2", help="loopback address of the server")
    parser.add_argument("--velocity-scale", type=float, default=0.5, help="of the planned motions; default: roboplan's")
    given = parser.parse_args()
    planned = Cell()
    paths = [
        p
        for t in BASIC_TASKS
        for i in range(given.episodes)
        for p in paths_of(planned, t, given.seed + i, given.velocity_scale)
    ]
    print(f"{len(paths)} motions of {given.episodes} episode(s) of each task", flush=True)
    cell = FciCell()
    cell.reset_to(BareTable(), given.seed)
    server = FciServer(cell, FciConfig(hostname=given.hostname, real_time=False, answer_limit_s=10.0, homed=True))
    server.start()
    arm = FrankaArm(
        FrankaConfig(given.hostname, realtime=False, joint_rate_hz=1000.0, silence_s=5.0, connect_timeout_s=30.0),
        PANDA,
        ARM_JOINTS,
    )
    arm.connect()
    trial = Trial(arm, np.random.default_rng(given.seed))
    trial.commanded()
    began = cpu_s(arm.pid)
    for path in paths:
        trial.follow(path)
    for i in range(given.stops):
        trial.interrupt(paths[i % len(paths)])
    table = asdict(figures(trial, cpu_s(arm.pid) - began))
    arm.disconnect()
    server.close()
    print(*(f"{name.replace('_', ' '):>34}: {value}" for name, value in table.items()), sep="\n")
    print(json.dumps(table))


if __name__ == "__main__":
    main()
