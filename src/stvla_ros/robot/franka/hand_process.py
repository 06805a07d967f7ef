"""The process that talks to the hand: ``python -m stvla_ros.robot.franka.hand_process PIPE SOCKET``.

It is apart from the arm's, whose robot does not wait, and uses franky's bindings, which free Python's lock while the
fingers move. They cannot be loaded next to pylibfranka. Commands run in a thread of their own, so that a stop or another
command may interrupt them.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection
from threading import Condition, Lock, Thread
from typing import Any

import franky

from stvla_ros.errors import OutcomeCode, StageError
from stvla_ros.robot.franka import failures
from stvla_ros.robot.franka.config import FrankaConfig
from stvla_ros.robot.franka.messages import (
    Answer,
    Connect,
    End,
    Ended,
    Fingers,
    HaltHand,
    Home,
    Lost,
    MoveHand,
)

MEASURED_S = 1.0
"""How long to wait for a measurement of the fingers; a hand that is connected sends 10 to 30 per second."""

SAME_M = 0.0001
"""A width this close to the present one is reached."""


class HandProcess:
    """Carries out commands of the hand, the newest of which counts, and reports what its fingers do."""

    def __init__(self, requests: Connection) -> None:
        self._requests, self._sending = requests, Lock()
        self._hand: Any = None
        self._config = FrankaConfig()
        self._fingers = Fingers(0, 0.0, 0.0)
        self._measuring, self._lost = Condition(), False
        self._begun = self._measured = 0  # number of measurements
        self._work: Thread | None = None
        self._halted = False

    def run(self) -> None:
        """Serve until the node ends or the connection breaks."""
        self._send(Answer())
        if not self._connect(self._requests.recv()):
            return
        Thread(target=self._watch, name="fingers", daemon=True).start()
        while True:
            request = self._requests.recv()
            if isinstance(request, HaltHand):
                self._halt()
            elif isinstance(request, Home):
                self._begin(self._home)
            elif isinstance(request, MoveHand):
                self._begin(lambda command=request: self._move(command))  # type: ignore[misc]

    def _connect(self, request: Connect) -> bool:
        config = self._config = request.config
        try:
            self._hand = franky.Gripper(config.hostname)
            self._measure()
        except (franky.Exception, RuntimeError) as error:
            self._send(Answer.of(failures.of_connection(str(error), f"{config.hostname} (hand)")))
            return False
        self._send(Answer())
        return True

    def _begin(self, work: Callable[[], None]) -> None:
        """Start a command after the end of the one before, which is stopped."""
        if self._work is not None and self._work.is_alive():
            self._halt()
            self._work.join()
        self._halted = False
        self._work = Thread(target=work, name="command", daemon=True)
        self._work.start()

    def _halt(self) -> None:
        self._halted = True
        try:
            self._hand.stop()
        except (franky.Exception, RuntimeError):
            return  # the command that it should stop reports the same

    def _home(self) -> None:
        try:
            done = self._hand.homing()
        except (franky.Exception, RuntimeError) as error:
            self._send(Answer.of(_of_hand(str(error))))
            return
        self._measure_anew()
        self._send(Answer() if done else Answer.of(_of_hand("homing failed")))

    def _move(self, command: MoveHand) -> None:
        try:
            done, sentence = self._carry_out(command), ""
        except (franky.Exception, RuntimeError) as error:
            done, sentence = False, "" if self._halted else _of_hand(str(error)).sentence
        self._measure_anew()  # who hears of the end looks where the fingers are
        code = OutcomeCode.OK if not sentence else OutcomeCode.CONTROLLER_FAILED
        self._send(Ended(command.number, End.REACHED if done else End.FAILED, code, sentence))

    def _carry_out(self, command: MoveHand) -> bool:
        """Closing is a grasp, so that the fingers go on pressing whatever they meet. A grasp does not stop at its width if
        it meets nothing: wider, or to more than half of the largest width, is a move."""
        measured = self._measure_anew()
        hand, present_m = self._config.hand, self._fingers.width_m
        width_m = min(command.width_m, self._fingers.max_width_m or command.width_m)
        if measured and abs(width_m - present_m) < SAME_M:
            return True
        if width_m > min(present_m, self._fingers.max_width_m / 2):
            return bool(self._hand.move(width_m, hand.speed_m_s))
        force_n = command.force_n or hand.force_n
        return bool(self._hand.grasp(width_m, hand.speed_m_s, force_n, hand.epsilon_inner_m, hand.epsilon_outer_m))

    def _watch(self) -> None:
        """Report each measurement; the hand sends them at 10 to 30 Hz, and reading waits for the next one."""
        try:
            while True:
                self._measure()
        except (franky.Exception, RuntimeError) as error:
            with self._measuring:
                self._lost = True
                self._measuring.notify_all()
            self._send(Lost(failures.lost(f"hand: {error}").sentence))

    def _measure(self) -> None:
        self._begun += 1
        state = self._hand.state  # waits for the next one; older ones are thrown away
        fingers = Fingers(time.time_ns(), float(state.width), float(state.max_width))
        with self._measuring:
            self._fingers, self._measured = fingers, self._begun
            self._measuring.notify_all()
        self._send(fingers)

    def _measure_anew(self) -> bool:
        """Wait for a measurement that began after this call: the newest one may be of before the last command. False: none
        came in time."""
        with self._measuring:
            next_one = self._begun + 1
            return (
                self._measuring.wait_for(lambda: self._measured >= next_one or self._lost, MEASURED_S)
                and not self._lost
            )

    def _send(self, message: Any) -> None:
        with self._sending:
            self._requests.send(message)


def _of_hand(text: str) -> StageError:
    return StageError(
        OutcomeCode.CONTROLLER_FAILED,
        f"The hand did not carry out a command ({' '.join(text.split())}): home it (/franka/home_gripper), and look at "
        "its fingers.",
    )


def main() -> None:
    """Entry point. The node asks this process to end through its pipe, never by these signals."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    with suppress(EOFError, ConnectionError):  # the node has gone
        HandProcess(Connection(int(sys.argv[1]))).run()
    sys.stderr.flush()
    os._exit(0)  # franky's threads would abort the interpreter's own exit


if __name__ == "__main__":
    main()
