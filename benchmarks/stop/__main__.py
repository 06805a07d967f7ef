"""Cancel to standstill: the whole stack over ROS 2, canceled at random phases of a task.

The clock is the wall's. It starts when the client cancels (or the operator's stop is called) and ends with the last
joint state in which any joint moves at 0.01 rad/s or more, as it arrives here. Then the arm is watched for another
second: it must not move again. The last line is JSON.

``cold`` is what an operator types: ``stvla stop`` in a new process, from its start (interpreter, imports, discovery) to
standstill, while the executor is healthy, hung (SIGSTOP just before) or dead (SIGKILL just before).
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter, deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from threading import Event
from typing import Any

import numpy as np
from rclpy.node import Node
from rich.console import Console
from rich.progress import track
from rich.table import Table
from sensor_msgs.msg import JointState
from std_srvs.srv import Trigger
from stvla_msgs.action import ExecuteTask
from stvla_msgs.srv import ResetScene

from stvla_ros.errors import CancelToken, OutcomeCode
from stvla_ros.ros.action_client import StageClient
from stvla_ros.ros.client import client_node
from stvla_ros.ros.graph import GraphOptions
from stvla_ros.ros.operator_stop import release_arm
from stvla_ros.ros.up import Stack

STILL_RAD_S = 0.01
WATCH_S = 1.0
MESSAGES = 20
"""Number of joint states without motion that count as standstill."""

SILENCE_S = 20.0
PAUSE_S = 0.15
"""Stillness of this length between two motions makes the second one a motion after the stop."""

TRIES = 10
"""A task may end before its random moment, but not so often in a row."""

TARGET_S = 0.5

COLD = {"cold_healthy": None, "cold_hung": signal.SIGSTOP, "cold_dead": signal.SIGKILL}
"""What happens to the executor just before ``stvla stop``."""

WAYS = {"cancel": ("cancel",), "stop": ("stop",), "both": ("cancel", "stop"), "cold": tuple(COLD)}


@dataclass(frozen=True)
class Trial:
    """One stop.

    Attributes:
        after_s: When in the task.
        phase: The last phase that the task reported.
        moving: The arm moved when the stop was asked for.
        standstill_s: From then to the last motion; 0 when there was none.
        answer_s: From then to the task's result.
        code: The outcome.
        moved_again: The arm moved after it had come to rest; with ``stvla stop``, which takes effect some time after it
            was typed, after that had ended.
        command_s: How long ``stvla stop`` took; None for other ways.
        exit_code: Of ``stvla stop``.
    """

    after_s: float
    phase: str
    moving: bool
    standstill_s: float
    answer_s: float
    code: str
    moved_again: bool
    command_s: float | None = None
    exit_code: int | None = None


class JointWatch:
    """The largest joint speed over time, by arrival."""

    def __init__(self, node: Node) -> None:
        self._heard: deque[tuple[float, float]] = deque(maxlen=5000)
        node.create_subscription(JointState, "/joint_states", self._receive, 50)

    def _receive(self, message: JointState) -> None:
        self._heard.append((time.monotonic(), float(np.abs(message.velocity[:7]).max())))

    def moving(self) -> bool:
        """In the newest joint state."""
        return bool(self._heard) and self._heard[-1][1] >= STILL_RAD_S

    def motions(self, since_s: float) -> list[float]:
        """Times of arrival, after ``since_s``, of joint states that show motion."""
        return [at for at, speed in list(self._heard) if at > since_s and speed >= STILL_RAD_S]

    def heard(self, since_s: float) -> int:
        """How many joint states came after ``since_s``."""
        return sum(at > since_s for at, _ in list(self._heard))


class StoppedStack:
    """A running stack and the ways to stop it."""

    def __init__(self, node: Node, how: str, stack: Stack) -> None:
        self._how, self._stack = how, stack
        self._watch = JointWatch(node)
        self._remote = StageClient(node, ExecuteTask, "/stvla/execute_task")
        self._reset = node.create_client(ResetScene, "/sim/reset_scene")
        self._stop, self._resume = (node.create_client(Trigger, f"/stvla/{name}") for name in ("stop", "resume"))
        self._pool = ThreadPoolExecutor(1)

    def _lay(self, task: str, seed: int) -> str:
        """Reset the scene; returns its instruction."""
        if not self._reset.wait_for_service(10.0):
            raise ConnectionError("No service /sim/reset_scene.")
        done = Event()
        answer = self._reset.call_async(ResetScene.Request(task=task, seed=seed, distractors=-1))
        answer.add_done_callback(lambda _: done.set())
        if not done.wait(30.0) or not answer.result().ok:
            raise ConnectionError("The simulated cell does not reset the scene.")
        return str(answer.result().instruction)

    def _execute(self, instruction: str, cancel: CancelToken, phases: list[str]) -> str:
        """Send the goal; the name of the outcome's code."""
        goal = ExecuteTask.Goal(instruction=instruction)
        result = self._remote.call(goal, cancel, 120.0, lambda feedback: phases.append(feedback.phase))
        return OutcomeCode(result.outcome.code).name

    def trial(self, task: str, seed: int, after_s: float) -> Trial | None:
        """Reset the scene, give the goal, stop it after a while; None if the task ended before."""
        instruction = self._lay(task, seed)
        phases, cancel = ["sent"], CancelToken()
        reply = self._pool.submit(self._execute, instruction, cancel, phases)
        time.sleep(after_s)
        if reply.done():
            return None
        if self._how in COLD:
            return self._cold(reply, phases, after_s)
        phase, moving, asked = phases[-1], self._watch.moving(), time.monotonic()
        self._ask(cancel)
        return self._judge(reply, after_s, phase, moving, asked)

    def _cold(self, reply: Future[str], phases: list[str], after_s: float) -> Trial:
        """Run ``stvla stop`` with the executor in this condition; then repair the stack."""
        fate, executor = COLD[self._how], self._stack.pids()["executor"]
        phase, moving = phases[-1], self._watch.moving()
        if fate is not None:
            os.kill(executor, fate)
        asked = time.monotonic()
        command = subprocess.Popen(
            [sys.executable, "-m", "stvla_ros.cli", "stop"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        with ThreadPoolExecutor(1) as pool:
            ended = pool.submit(lambda: (command.communicate(timeout=60.0)[0], time.monotonic() - asked))
            try:
                trial = self._judge(reply, after_s, phase, moving, asked)
                said, command_s = ended.result()
            finally:
                if fate is signal.SIGSTOP:
                    os.kill(executor, signal.SIGCONT)
        if command.returncode:
            print(f"stvla stop ended with {command.returncode}:\n{said}", file=sys.stderr)
        self._stack.wait_ready(60.0)
        again = bool(self._watch.motions(asked + command_s))
        release_arm(30.0)
        return replace(trial, command_s=command_s, exit_code=command.returncode, moved_again=again)

    def _ask(self, cancel: CancelToken) -> None:
        if self._how == "cancel":
            cancel.cancel()
        else:
            self._stop.call_async(Trigger.Request())

    def _judge(self, reply: Future[str], after_s: float, phase: str, moving: bool, asked: float) -> Trial:
        code = reply.result(timeout=30.0)
        answer_s = time.monotonic() - asked
        standstill = self._standstill(asked)
        if self._how == "stop":
            self._resume.call_async(Trigger.Request())
            time.sleep(0.2)
        gaps = np.diff([asked, *self._watch.motions(asked)])
        again = bool(len(gaps) and gaps[1:].size and gaps[1:].max() > PAUSE_S)
        return Trial(after_s, phase, moving, standstill - asked, answer_s, code, again)

    def _standstill(self, asked: float) -> float:
        """When the last motion was seen, after a second and enough joint states without any."""
        until = time.monotonic() + SILENCE_S
        while time.monotonic() < until:
            last = max(self._watch.motions(asked), default=asked)
            if time.monotonic() > last + WATCH_S and self._watch.heard(last) >= MESSAGES:
                return last
            time.sleep(0.05)
        raise ConnectionError("The arm does not come to rest, or the joint states fell silent.")


def run(options: GraphOptions, trials: int, task: str, horizon_s: float, how: str, seed: int) -> list[Trial]:
    """Start a stack and stop it ``trials`` times."""
    rng = np.random.default_rng(seed)
    quiet: Callable[[str, str], None] = lambda name, line: None  # noqa: E731
    done: list[Trial] = []
    with Stack(options, say=quiet) as stack:
        stack.wait_ready(60.0)
        with client_node("stop_bench") as node:
            stopped = StoppedStack(node, how, stack)
            for i in track(range(trials), f"{how}, {task}"):
                for _ in range(TRIES):
                    trial = stopped.trial(task, seed + i, float(rng.uniform(0.0, horizon_s)))
                    if trial is not None:
                        break
                else:
                    raise ConnectionError(f"{TRIES} tasks in a row ended before they were stopped, after {i} stops.")
                done.append(trial)
    return done


def summary(trials: list[Trial]) -> dict[str, Any]:
    """Figures in seconds."""
    moving = [t.standstill_s for t in trials if t.moving]
    return {
        "trials": len(trials),
        "moving_when_asked": len(moving),
        "standstill_s": _percentiles([t.standstill_s for t in trials]),
        "standstill_when_moving_s": _percentiles(moving),
        "answer_s": _percentiles([t.answer_s for t in trials]),
        "moved_again": sum(t.moved_again for t in trials),
        "codes": dict(Counter(t.code for t in trials)),
        "phases": dict(Counter(t.phase for t in trials)),
        "command_s": _percentiles([t.command_s for t in trials if t.command_s is not None]),
        "exit_codes": dict(Counter(str(t.exit_code) for t in trials if t.exit_code is not None)),
    }


def _percentiles(values: list[float]) -> dict[str, float | None]:
    if not values:
        return {"p50": None, "p99": None, "max": None}
    p50, p99 = np.percentile(values, [50, 99])
    return {"p50": round(float(p50), 3), "p99": round(float(p99), 3), "max": round(max(values), 3)}


def table(rows: dict[str, dict[str, Any]]) -> Table:
    """For people."""
    shown = Table(title="From the command to standstill, wall time in seconds")
    for heading in (
        "how",
        "trials",
        "moving",
        "p50",
        "p99",
        "max",
        "p50 moving",
        "p99 moving",
        "moved again",
        "outcomes",
    ):
        shown.add_column(heading, justify="right")
    for how, row in rows.items():
        stand, moving = row["standstill_s"], row["standstill_when_moving_s"]
        cells = [row["trials"], row["moving_when_asked"], stand["p50"], stand["p99"], stand["max"]]
        cells += [moving["p50"], moving["p99"], row["moved_again"], row["codes"]]
        shown.add_row(how, *map(str, cells))
    return shown


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.stop", description=__doc__)
    parser.add_argument("--trials", type=int, default=50, help="stops per way of stopping (default 50)")
    parser.add_argument("--task", default="pick_place", help="task of the simulated cell (default pick_place)")
    parser.add_argument(
        "--horizon", type=float, default=12.0, help="latest time of a stop in the task [s] (default 12)"
    )
    parser.add_argument(
        "--how",
        choices=(*WAYS, *COLD),
        default="cancel",
        help="action cancel, /stvla/stop, or both; `stvla stop` with the executor healthy, hung and dead, or one of these",
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of scenes and times (default 0)")
    parser.add_argument("--domain", type=int, default=int(os.environ.get("ROS_DOMAIN_ID", "42")), help="ROS domain")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a setting, e.g. executor.executor.voxels.observe_hz=0",
    )
    options = parser.parse_args()
    graph = GraphOptions(overrides=dict(setting.split("=", 1) for setting in options.set))
    os.environ["ROS_DOMAIN_ID"] = str(options.domain)
    rows, kept = {}, {}
    for how in WAYS.get(options.how, (options.how,)):
        trials = run(graph, options.trials, options.task, options.horizon, how, options.seed)
        rows[how], kept[how] = summary(trials), [asdict(t) for t in trials]
    Console(width=140).print(table(rows))
    met = all(not r["moved_again"] and (how in COLD or r["standstill_s"]["p99"] <= TARGET_S) for how, r in rows.items())
    print(json.dumps({"benchmark": "stop", "target_p99_s": TARGET_S, "met": met, "rows": rows, "trials": kept}))


if __name__ == "__main__":
    main()
