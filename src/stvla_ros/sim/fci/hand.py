"""The hand behind its Control Interface: commands, their answers, and its state."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from stvla_ros.description.panda import MAX_WIDTH_M
from stvla_ros.sim.fci import wire
from stvla_ros.sim.fci.cell import FciCell
from stvla_ros.sim.fci.limits import CYCLE_S
from stvla_ros.sim.fci.wire import HandRequest, HandStatus

SPEED_M_S = 0.1
"""Largest speed of both fingers together: Franka Hand, data sheet (50 mm/s per finger)."""

FORCE_N = (1.0, 70.0)
"""Range of the grasping force per finger: Franka Hand, data sheet."""

STATE_CYCLES = 50
"""Cycles from one state to the next."""

NEAR_M = 0.0005
STILL_CYCLES, STILL_M = 50, 0.0001
"""Fingers that move less than this within these cycles are blocked or have arrived."""

TEMPERATURE = 30
Answer = Callable[[int, int, int, bytes], None]


@dataclass
class Task:
    """A command in progress.

    Attributes:
        request: What was asked for.
        number: Of the request; None: its client is gone.
        width_m: That was asked for.
        target_m: Where the fingers go.
        window_m: Accepted widths of a grasp.
        closed_m: Homing: the width found with closed fingers; None: still closing.
    """

    request: HandRequest
    number: int | None
    width_m: float
    target_m: float
    window_m: tuple[float, float] = (-1.0, 1.0)
    closed_m: float | None = None


class Hand:
    """Everything that the hand's port does, except the network. :meth:`control` before each step of the physics."""

    def __init__(self, cell: FciCell, homed: bool) -> None:
        self._cell = cell
        self.record = np.zeros(1, wire.HAND_STATE)
        self.state = self.record[0]
        self.state["temperature"] = TEMPERATURE
        self.state["max_width"] = MAX_WIDTH_M if homed else 0.0
        self._answer: Answer = lambda *_: None
        self._task: Task | None = None
        self._window_m: tuple[float, float] | None = None
        self._speed_m_s, self._force_n = SPEED_M_S, 30.0
        self._be_elsewhere()

    @property
    def moving(self) -> bool:
        """A command is in progress."""
        return self._task is not None

    def connect(self, answer: Answer) -> None:
        """A client is there; answers go to it."""
        self._answer = answer

    def disconnect(self) -> None:
        """The client is gone; the fingers go on, and the next one is not told what this one asked for."""
        self._answer = lambda *_: None
        if self._task is not None:
            self._task.number = None

    def request(self, request: int, number: int, payload: bytes) -> None:
        """Begin what the client asks for; a running command is aborted by it.

        Raises:
            struct.error: The payload has the wrong size.
            ValueError: No such request.
        """
        kind = HandRequest(request)
        self._look_round()
        self._abort()
        if kind is HandRequest.HOMING:
            self._begin(Task(kind, number, 0.0, 0.0), SPEED_M_S / 2, FORCE_N[0] * 5)
        elif kind is HandRequest.MOVE:
            width, speed = wire.HAND_MOVE.unpack(payload)
            self._begin(Task(kind, number, width, width), speed, 30.0)
        elif kind is HandRequest.GRASP:
            width, inner, outer, speed, force = wire.HAND_GRASP.unpack(payload)
            self._begin(Task(kind, number, width, 0.0, (width - inner, width + outer)), speed, force)
        elif kind is HandRequest.STOP:
            self._stay(self._cell.width_m)
            self._answer(kind, number, HandStatus.SUCCESS, b"")
        else:
            raise ValueError("this client is connected")

    def control(self) -> None:
        """Drive the fingers for the next millisecond."""
        self._look_round()
        way = self._target_m - self._reference_m
        step = self._speed_m_s * CYCLE_S
        self._reference_m += min(max(way, -step), step)
        self._cell.close_hand(self._reference_m, self._force_n)
        if self._task is not None:
            self._watch(self._task)

    def observe(self) -> bool:
        """Write the state; False when none is due."""
        state = self.state
        state["message_id"] += 1
        if state["message_id"] % STATE_CYCLES:
            return False
        width = state["width"] = self._cell.width_m
        held = self._window_m is not None and self._window_m[0] < width < self._window_m[1]
        state["is_grasped"] = held and self._cell.fingers_touch()
        return True

    def _begin(self, task: Task, speed_m_s: float, force_n: float) -> None:
        possible = task.request is HandRequest.HOMING or 0.0 <= task.width_m <= self.state["max_width"] + 1e-6
        if not (possible and speed_m_s > 0.0 and force_n > 0.0):
            self._tell(task, HandStatus.FAIL)
            return
        self._task, self._window_m = task, None
        self._speed_m_s, self._force_n = min(speed_m_s, SPEED_M_S), min(max(force_n, FORCE_N[0]), FORCE_N[1])
        self._from_m = self._cell.width_m
        self._go(task.target_m)

    def _go(self, target_m: float) -> None:
        self._reference_m, self._target_m = self._cell.width_m, target_m
        self._was_m, self._still = self._cell.width_m, 0

    def _stay(self, width_m: float) -> None:
        self._window_m = None
        self._go(width_m)

    def _look_round(self) -> None:
        if self._cell.layout != self._layout:
            self._abort()
            self._be_elsewhere()

    def _be_elsewhere(self) -> None:
        self._layout = self._cell.layout
        self._stay(self._cell.width_m)

    def _abort(self) -> None:
        if self._task is not None:
            self._finish(HandStatus.ABORTED)

    def _finish(self, status: HandStatus) -> None:
        task, self._task = self._task, None
        assert task is not None
        self._tell(task, status)

    def _tell(self, task: Task, status: HandStatus) -> None:
        if task.number is not None:
            self._answer(task.request, task.number, status, b"")

    def _watch(self, task: Task) -> None:
        """Look whether the fingers have come to rest."""
        width = self._cell.width_m
        self._still += 1
        pushing = self._reference_m == self._target_m or abs(width - self._reference_m) > NEAR_M
        if not pushing or abs(width - self._was_m) > STILL_M:
            self._was_m, self._still = width, 0
        arrived = abs(width - task.target_m) < NEAR_M and self._reference_m == self._target_m
        if self._still < (10 if arrived else STILL_CYCLES):
            return
        if task.request is HandRequest.HOMING:
            self._home(task, width)
        elif task.request is HandRequest.MOVE:
            self._finish(HandStatus.SUCCESS if arrived else HandStatus.UNSUCCESSFUL)
        else:
            self._hold(task, width)

    def _home(self, task: Task, width_m: float) -> None:
        if task.closed_m is None:
            task.closed_m, task.target_m = width_m, MAX_WIDTH_M
            self._go(MAX_WIDTH_M)
        else:
            self.state["max_width"] = min(max(width_m - task.closed_m, 0.0), MAX_WIDTH_M)
            self._finish(HandStatus.SUCCESS)

    def _hold(self, task: Task, width_m: float) -> None:
        """Keep the grasp if the width is in its window; otherwise let go."""
        if task.window_m[0] < width_m < task.window_m[1]:
            self._window_m = task.window_m
            self._finish(HandStatus.SUCCESS)
        else:
            self._stay(max(self._from_m, width_m))
            self._finish(HandStatus.UNSUCCESSFUL)
