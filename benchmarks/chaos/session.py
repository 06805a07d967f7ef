"""One stack that lives through all trials, like a robot's, and the faults."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.chaos import faulty_sim
from benchmarks.chaos.faults import (
    BRAIN,
    DIED,
    HANG,
    JUMP_S,
    ROBOT,
    SCENES,
    STOP_S,
    Fault,
    Trial,
)
from benchmarks.chaos.programs import Event, Program, dump_stacks, signal_node
from benchmarks.chaos.watching import Line, moved, noticed
from stvla_ros.ros.graph import GraphOptions
from stvla_ros.ros.middleware import private_domain
from stvla_ros.ros.stack_environment import READY_S
from stvla_ros.ros.up import MAX_DELAY_S, Stack

HANG_S = 60.0
"""A goal that has not ended this long after a fault hangs."""

LASTING_S = HANG_S + 30.0
"""The camera and the clock are repaired when the task has ended, at the latest after this time."""

GOAL_S = 90.0
"""The same for a whole goal, from the start of its client."""

UP_S = MAX_DELAY_S + 5.0
REST_S = MAX_DELAY_S + 15.0  # a robot that was killed has to come back first
WATCH_S = 1.0
MESSAGES = 20
"""Seconds and number of joint states without motion that count as rest."""

ATTEMPTS, STACKS = 3, 4
"""Goals in a row that may end before their fault until the stack is restarted, and how many restarts."""


@dataclass
class _Midst:
    """A task that has reached the time of its fault."""

    client: Program
    unprovoked: list[str] = field(default_factory=list)


class Session:
    """A stack in its own ROS domain, and an observer. Use as a context manager.

    Args:
        folder: For the logs of trials that went wrong.
        task: Name of the task.
        options: Which stack.
    """

    def __init__(self, folder: Path, task: str, options: GraphOptions | None = None) -> None:
        self._folder, self._task, self._options = folder, task, options or GraphOptions()
        self._lines: list[Line] = []
        self._clients: list[Program] = []
        self._fault_file = folder.resolve() / "fault"
        self._open = ExitStack()
        self._running = ExitStack()
        self._restarts = 0
        self._undone = 0.0  # when the fault was undone

    def __enter__(self) -> Session:
        self._open.enter_context(private_domain())
        try:
            self._start()
        except BaseException:
            self._open.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._running.close()
        self._open.close()

    def _start(self) -> None:
        self._set_fault("")
        with ExitStack() as running:
            env = {faulty_sim.FAULT: str(self._fault_file)}
            programs = {ROBOT: faulty_sim.__name__}
            self._stack = running.enter_context(Stack(self._options, None, self._hear, env, programs))
            self._stack.wait_ready(READY_S)
            self._observer = running.enter_context(Program("benchmarks.chaos.observer"))
            self._running = running.pop_all()

    def _restart(self) -> None:
        self._restarts += 1
        self._running.close()
        self._start()

    def _hear(self, process: str, text: str) -> None:
        self._lines.append((time.monotonic(), process, text))

    def _set_fault(self, word: str) -> None:
        new = self._fault_file.with_suffix(".new")
        new.write_text(word)
        os.replace(new, self._fault_file)

    # --- a trial ---------------------------------------------------------------------------------------------------

    def trial(self, index: int, fault: Fault) -> Trial:
        """Give a goal, apply the fault, watch the goal's end, and give the next one.

        Raises:
            ConnectionError: Even new stacks do not begin the task.
        """
        begun = time.monotonic()
        self._lines, self._restarts, self._clients = [], 0, []
        self._observer.forget()
        try:
            midst = self._midst(index, fault)
            with midst.client:
                trial = self._watched(index, fault, midst, begun)
        except BaseException:
            self._keep(index)
            raise
        if trial.wrong():
            self._keep(index)
        return trial

    def _watched(self, index: int, fault: Fault, midst: _Midst, begun: float) -> Trial:
        moving = bool(moved(time.monotonic() - 0.1, self._joints()))
        since = time.monotonic()
        with self._done(fault):
            end = self._ended(index, midst.client, HANG_S)
            rest = self._rest(since)
        deaf = (fault.victim,) if fault.kind in ("kill", "robot") else ()
        statuses = [e for e in self._observer.events() if "status" in e]
        at, by = noticed(since, self._lines, statuses, None if end["code"] in ("OK", HANG) else end["at"], deaf)
        up_s, following, heard_s, next_s = self._next(index, fault, hung=end["code"] == HANG)
        return Trial(
            index=index,
            fault=fault,
            moving=moving,
            code=end["code"],
            sentence=end["sentence"],
            judged=end["judged"] if end["code"] == "OK" else None,
            end_s=None if end["code"] == HANG else _after(since, end["at"]),
            noticed_s=_after(since, at),
            noticed_by=by,
            able_s=round(self._undone - since, 3) if fault.kind == "stop" and fault.victim == ROBOT else 0.0,
            rest_s=_after(since, rest),
            up_s=up_s,
            next_code=following["code"],
            next_sentence=following["sentence"],
            next_judged=following["judged"],
            next_heard_s=heard_s,
            next_s=next_s,
            unprovoked=tuple(midst.unprovoked),
            restarts=self._restarts,
            load=round(os.getloadavg()[0], 1),
            wall_s=round(time.monotonic() - begun, 1),
        )

    def _midst(self, index: int, fault: Fault) -> _Midst:
        """A task at the moment of the fault.

        A goal that succeeds before that moment is given again, with the first occurrence of the phase; so is one that
        fails, and it is noted.
        """
        unprovoked: list[str] = []
        occurrence = fault.occurrence
        for attempt in range(STACKS * ATTEMPTS):
            if attempt and attempt % ATTEMPTS == 0:
                self._restart()
            client = self._client(fault.scene)
            reached = client.wait(_phase(fault.phase, occurrence), GOAL_S)
            if reached is not None:
                time.sleep(max(0.0, reached["at"] + fault.delay_s - time.monotonic()))
                if _end(client.events()) is None and fault.victim in self._stack.pids():
                    return _Midst(client, unprovoked)
            end, occurrence = self._ended(index, client, 0.0), 1
            if not end["judged"]:
                unprovoked.append(f"{end['code']}: {end['sentence']}")
            client.__exit__()
        raise ConnectionError(f"No task reached '{fault.phase}': {', '.join(unprovoked) or 'they end too soon'}.")

    def _client(self, scene: int) -> Program:
        client = Program("benchmarks.chaos.client", self._task, str(scene))
        self._clients.append(client)
        return client

    @contextmanager
    def _done(self, fault: Fault) -> Iterator[None]:
        """Apply the fault now, and undo it in time, at the latest at the end."""
        if fault.kind in ("kill", "robot"):
            signal_node(self._stack.pids()[fault.victim], signal.SIGKILL)
            yield
            return
        lasting_s = {"stop": STOP_S, "joints": JUMP_S}.get(fault.kind)
        undo = self._begin(fault)
        timer = threading.Timer(lasting_s or LASTING_S, undo)
        timer.start()
        try:
            yield
        finally:
            if lasting_s is None:
                timer.cancel()
                undo()
            timer.join()

    def _begin(self, fault: Fault) -> Callable[[], None]:
        """Apply a fault that can be undone; returns what undoes it."""
        if fault.kind == "stop":
            pid = self._stack.pids()[fault.victim]
            signal_node(pid, signal.SIGSTOP)
        else:
            self._set_fault(fault.kind)

        def undo() -> None:
            if fault.kind == "stop":
                signal_node(pid, signal.SIGCONT)
            else:
                self._set_fault("")
            self._undone = time.monotonic()

        return undo

    def _joints(self) -> list[tuple[float, float]]:
        return [(e["at"], e["speed"]) for e in self._observer.events() if "speed" in e]

    def _rest(self, since: float) -> float | None:
        """Time of the last motion, at least ``since``; None if the arm does not come to rest, or is not heard."""
        until = time.monotonic() + REST_S
        while time.monotonic() < until:
            joints = self._joints()
            last = max(moved(since, joints), default=since)
            if time.monotonic() > last + WATCH_S and sum(at > last for at, _ in joints) >= MESSAGES:
                return last
            time.sleep(0.05)
        return None

    # --- afterwards ------------------------------------------------------------------------------------------------

    def _next(self, index: int, fault: Fault, hung: bool) -> tuple[float | None, Event, float | None, float | None]:
        """Seconds until all processes run; the next goal's end; seconds to hear all nodes, and then to the end."""
        started = time.monotonic()
        if hung:
            self._restart()
        names = {ROBOT, *BRAIN}
        while self._stack.pids().keys() != names and time.monotonic() < started + UP_S:
            time.sleep(0.05)
        up = time.monotonic()
        with self._client((fault.scene + 1) % SCENES) as client:
            end = self._ended(index, client, GOAL_S)
            heard = next((e["at"] for e in client.events() if e["event"] == "heard"), None)
        if end["code"] == HANG:
            self._restart()
        next_s = None if heard is None or end["code"] == HANG else _after(heard, end["at"])
        return round(up - started, 3), end, _after(up, heard), next_s

    def _ended(self, index: int, client: Program, timeout_s: float) -> Event:
        """The end that a client reports, or that it died or hangs; then the stacks of all threads are kept."""
        end = client.wait(_end, timeout_s)
        if end is not None:
            return end
        now = time.monotonic()
        if client.ended:
            return {"code": DIED, "sentence": "".join(client.said[-1:]), "judged": False, "at": now}
        dump_stacks({**self._stack.pids(), "client": client.pid}, self._kept(index))
        return {"code": HANG, "sentence": f"No end within {timeout_s:g} s.", "judged": False, "at": now}

    def _kept(self, index: int) -> Path:
        folder = self._folder / f"trial-{index:04d}"
        folder.mkdir(exist_ok=True)
        return folder

    def _keep(self, index: int) -> None:
        """All output and messages of a trial that went wrong."""
        folder = self._kept(index)
        with (folder / "stack.log").open("w") as file:
            file.writelines(f"{at:.3f} {name}: {text}\n" for at, name, text in self._lines)
        with (folder / "clients.log").open("w") as file:
            for client in self._clients:
                file.writelines(f"{line}\n" for line in [*map(str, client.events()), *client.said, ""])
        with (folder / "robot.log").open("w") as file:
            file.writelines(f"{event}\n" for event in self._observer.events())


def _end(events: list[Event]) -> Event | None:
    return next((e for e in events if e["event"] == "end"), None)


def _phase(phase: str, occurrence: int) -> Callable[[list[Event]], Event | None]:
    """Finds the n-th start of a phase; the end ends the search, see :meth:`Program.wait`."""

    def find(events: list[Event]) -> Event | None:
        return next(iter([e for e in events if e.get("phase") == phase][occurrence - 1 :]), None)

    return find


def _after(since: float, at: float | None) -> float | None:
    return None if at is None else round(at - since, 3)
