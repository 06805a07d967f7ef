"""The hand, as the node sees it."""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock
from typing import Any

from stvla_ros.errors import OutcomeCode, StageError
from stvla_ros.robot.franka import failures
from stvla_ros.robot.franka.config import FrankaConfig
from stvla_ros.robot.franka.messages import End, Ended, Fingers, HaltHand, Home, Lost, MoveHand
from stvla_ros.robot.franka.process import ChildProcess

MODULE = "stvla_ros.robot.franka.hand_process"

HOMED_M = 0.01
"""A hand that has found its largest width reports more than this; before, zero."""

HOMING_S = 30.0
"""How long homing may take."""

CLOSE_S = 1.0


class FrankaHand:
    """A Franka Hand. All methods are thread safe; only those that say so wait.

    Args:
        config: Its address and settings.
        on_fingers: Called with each measurement, in a thread of the hand's.
        on_failure: Called with a sentence when a command failed or the connection broke, in the same thread.

    Attributes:
        homing: The hand finds its largest width now; it takes no other command.
    """

    def __init__(
        self, config: FrankaConfig, on_fingers: Callable[[Fingers], None], on_failure: Callable[[str], None]
    ) -> None:
        self._config, self._on_fingers, self._on_failure = config, on_fingers, on_failure
        self._lock, self._newest = Lock(), 0
        self.homing = False
        self._child: ChildProcess | None = None
        self._fingers = Fingers(0, 0.0, 0.0)
        self._last: Ended | None = None

    @property
    def _address(self) -> str:
        return f"{self._config.hostname} (hand)"

    @property
    def homed(self) -> bool:
        """Whether it has found its largest width since power-on; False as long as it is not connected."""
        return self._connected() and self._fingers.max_width_m > HOMED_M

    def connect(self) -> None:
        """Connect; the fingers do not move. Waits. Raises StageError ROBOT_LOST or CONTROLLER_FAILED."""
        if self._connected():
            return
        child = ChildProcess(MODULE, self._take, self._end)
        child.connect(self._config, self._address)
        self._child = child

    def disconnect(self) -> None:
        """End the connection. A hand that holds something keeps it."""
        child, self._child = self._child, None
        if child is not None:
            child.close(CLOSE_S)

    def home(self) -> None:
        """Find the largest width: the fingers open and close. Waits. Raises StageError."""
        if self._child is None or not self._child.alive:
            raise StageError(OutcomeCode.CONTROLLER_FAILED, failures.sentence(failures.Mode.INACTIVE))
        self.homing = True
        try:
            self._child.demand(Home(), HOMING_S, self._address)
        finally:
            self.homing = False

    # --- stvla_ros.ros.gripper_server.Gripper ------------------------------------------------------------------------

    def width_m(self) -> float:
        """The newest measured distance between the fingers."""
        return self._fingers.width_m

    def move(self, width_m: float, force_n: float) -> None:
        """Move to a width, and press with at most this force. Homing is not interrupted: the move fails."""
        with self._lock:
            self._newest += 1
            number = self._newest
            child = self._child if self._connected() else None
            if child is not None and not self.homing:
                child.send(MoveHand(number, width_m, force_n))
                return
        reason = "The hand is not connected." if child is None else "The hand is being homed: wait for its end."
        self._take(Ended(number, End.FAILED, OutcomeCode.CONTROLLER_FAILED, reason))

    def halt(self) -> None:
        """Stop the fingers where they are."""
        if self._child is not None:
            self._child.send(HaltHand())

    def ended(self) -> bool | None:
        """Whether the newest command has ended, and how: None while it runs, False after a failure."""
        last = self._last
        if last is None or last.number < self._newest:
            return None
        return last.end is End.REACHED

    def _connected(self) -> bool:
        return self._child is not None and self._child.alive

    def _take(self, message: Any) -> None:
        if isinstance(message, Fingers):
            self._fingers = message
            self._on_fingers(message)
        elif isinstance(message, Ended):
            self._last = message
            if message.sentence:
                self._on_failure(message.sentence)
        elif isinstance(message, Lost):
            self._on_failure(message.sentence)

    def _end(self) -> None:
        self._take(Ended(self._newest, End.FAILED, OutcomeCode.ROBOT_LOST, "The connection to the hand broke."))
