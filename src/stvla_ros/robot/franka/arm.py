"""The arm, as the node sees it: it starts motions and stops them; a process of its own carries them out."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from threading import Lock
from typing import Any

from stvla_ros.description.robot import ArmLimits
from stvla_ros.errors import OutcomeCode, StageError
from stvla_ros.robot.franka import failures
from stvla_ros.robot.franka.config import FrankaConfig
from stvla_ros.robot.franka.messages import (
    ArmState,
    Condition,
    End,
    Ended,
    Follow,
    Lost,
    Mode,
    Recover,
    pack_life,
)
from stvla_ros.robot.franka.process import ChildProcess
from stvla_ros.robot.franka.sampling import check, sample
from stvla_ros.types import JointPath, TrajectoryTolerances

MODULE = "stvla_ros.robot.franka.arm_process"

REST_S = 2.0
"""How long an arm that brakes may take to stand still before another motion begins."""

RECOVERY_S = 10.0
"""How long a recovery may take: the robot moves its joints back into their limits if they left them."""


@dataclass(frozen=True)
class Report:
    """The arm's condition for people.

    Attributes:
        mode: The mode.
        errors: The robot's names of its current errors.
        sentence: What is the matter, and what to do.
        success_rate: Share of the last commands that came in time; NaN: none was sent.
    """

    mode: Mode
    errors: tuple[str, ...]
    sentence: str
    success_rate: float


class FrankaArm:
    """A Franka's arm. All methods are thread safe.

    Args:
        config: The robot's address and settings.
        limits: Of its joints.
        names: Of its joints, for sentences.
        on_state: Called with each state, ``config.joint_rate_hz`` times in a second, in a thread of the arm's.
        on_change: Called when :meth:`report` has changed, and after every motion, in any thread.
    """

    def __init__(
        self,
        config: FrankaConfig,
        limits: ArmLimits,
        names: Sequence[str],
        on_state: Callable[[ArmState], None] = lambda state: None,
        on_change: Callable[[], None] = lambda: None,
    ) -> None:
        self._config, self._limits, self._names = config, limits, tuple(names)
        self._on_state, self._on_change = on_state, on_change
        self._lock = Lock()
        self._child: ChildProcess | None = None
        self._newest, self._running, self._stop, self._life = 0, 0, 0, 0
        self._ended: dict[int, Ended] = {}
        self._state: ArmState | None = None
        self._condition, self._lost = Condition(Mode.INACTIVE), ""
        self._rate = float("nan")

    # --- connection ----------------------------------------------------------------------------------------------

    def connect(self) -> None:
        """Connect and configure the robot; nothing moves. Does nothing when connected.

        Raises:
            StageError: ROBOT_LOST when nothing answers in time, or the connection is refused; CONTROLLER_FAILED when the
                process does not start.
        """
        if self._child is not None and self._child.alive:
            return
        self._condition, self._lost, self._state = Condition(Mode.INACTIVE), "", None
        try:
            child = ChildProcess(MODULE, self._take, self._end, self._take_packet, self._give_life)
        finally:
            self._condition = Condition(Mode.INACTIVE)
        try:
            child.connect(self._config, self._config.hostname)
        except StageError:
            self._set(Condition(Mode.INACTIVE))
            raise
        self._child = child

    def disconnect(self, timeout_s: float = REST_S) -> bool:
        """Brake if the arm moves, then end the connection. Returns whether that came in time."""
        child, self._child = self._child, None
        closed = child is None or child.close(timeout_s)
        self._finish_all(StageError(OutcomeCode.CONTROLLER_FAILED, failures.sentence(Mode.INACTIVE)))
        self._lost = ""
        self._set(Condition(Mode.INACTIVE))
        return closed

    def recover(self) -> None:
        """Clear the robot's errors. Nothing moves, but joints that left their limits go back.

        Raises:
            StageError: USER_STOPPED, SAFETY_FUNCTION or REFLEX when the reason persists; CONTROLLER_FAILED when inactive;
                ROBOT_LOST.
        """
        self._connected().demand(Recover(), RECOVERY_S, self._config.hostname)

    @property
    def pid(self) -> int:
        """Process id of what talks to the robot; 0 when inactive."""
        return self._child.pid if self._child is not None else 0

    def report(self) -> Report:
        """The arm's condition."""
        mode, errors = self._condition.mode, self._condition.errors
        if mode is Mode.IDLE and self._running and self._running not in self._ended:
            mode = Mode.MOVING
        text = self._lost if mode is Mode.LOST else failures.sentence(mode, errors)
        return Report(mode, errors, text, self._rate)

    # --- motion -----------------------------------------------------------------------------------------------------

    @property
    def state(self) -> ArmState | None:
        """The newest state; None before the first."""
        return self._state

    def start(self, path: JointPath, tolerances: TrajectoryTolerances) -> int:
        """Bring a running motion to rest, then follow a path; returns the number of the new motion.

        Why a motion could not begin is in its :meth:`ended`, like every other failure.
        """
        with self._lock:
            self._newest += 1
            number, before = self._newest, self._running
            self._stop = max(self._stop, before)
        try:
            samples = sample(path)
            check(samples, self._limits, self._names, self._config.velocity_scale)
            child = self._connected()
            self._wait_for_rest(before)
            with self._lock:
                if number != self._newest:
                    return number
                self._running = number
                child.send(Follow(number, samples, tolerances, self._limits, self._names))
            self._on_change()
        except StageError as error:
            self._take(Ended(number, End.FAILED, error.code, error.sentence))
        return number

    def stop(self, motion: int) -> None:
        """Bring the arm to rest if this motion is still running. Returns at once."""
        with self._lock:
            self._stop = max(self._stop, motion)
        if (child := self._child) is not None:
            self._give_life(child.send_packet)

    def newest(self) -> int:
        """Number of the newest motion."""
        return self._newest

    def ended(self, motion: int) -> Ended | None:
        """How a motion ended; None while it runs."""
        return self._ended.get(motion)

    def _wait_for_rest(self, motion: int) -> None:
        until = time.monotonic() + REST_S
        while motion and motion not in self._ended:
            if time.monotonic() > until:
                raise StageError(
                    OutcomeCode.CONTROLLER_FAILED,
                    f"The arm did not come to rest within {REST_S:g} s: use the emergency stop.",
                )
            time.sleep(0.002)

    def _connected(self) -> ChildProcess:
        if self._child is None or not self._child.alive:
            mode = self._condition.mode
            code = failures.CODES.get(mode, OutcomeCode.CONTROLLER_FAILED)
            raise StageError(code, self.report().sentence)
        return self._child

    # --- messages, in the child's thread -----------------------------------------------------------------------------

    def _take(self, message: Any) -> None:
        if isinstance(message, Ended):
            self._ended[message.number] = message
            for old in [n for n in self._ended if n < message.number - 100]:
                del self._ended[old]
            self._on_change()
        elif isinstance(message, Lost):
            self._lost = message.sentence
        elif isinstance(message, Condition):
            self._set(message)

    def _take_packet(self, packet: bytes) -> None:
        state = self._state = ArmState.unpack(packet)
        if state.motion:
            self._rate = state.success_rate
        self._on_state(state)

    def _give_life(self, send: Callable[[bytes], None]) -> None:
        self._life += 1
        send(pack_life(self._life, self._stop))

    def _end(self) -> None:
        """The process has ended by itself."""
        self._lost = self._lost or failures.lost("the process that talks to the robot has ended").sentence
        self._finish_all(StageError(OutcomeCode.ROBOT_LOST, self._lost))
        self._set(Condition(Mode.LOST))

    def _finish_all(self, error: StageError) -> None:
        with self._lock:
            running = self._running
        if running and running not in self._ended:
            self._take(Ended(running, End.FAILED, error.code, error.sentence))

    def _set(self, condition: Condition) -> None:
        if condition != self._condition:
            self._condition = condition
            self._on_change()
