"""A child process that talks to the robot, as its parent sees it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from multiprocessing.connection import Connection, Pipe, wait
from threading import Lock, Thread
from typing import Any

from stvla_ros.errors import OutcomeCode, StageError
from stvla_ros.robot.franka import failures
from stvla_ros.robot.franka.config import FrankaConfig
from stvla_ros.robot.franka.messages import Answer, Connect

START_S = 30.0
"""How long Python and libfranka may take to load on a busy computer."""

POLL_S = 0.02
"""Interval of the signs of life."""


class ChildProcess:
    """Starts a module as a process, and reads what it sends in a thread of its own.

    Args:
        module: What to run. Its first message is an :class:`Answer`.
        on_message: Receives every message but the answers to :meth:`ask`.
        on_packet: Receives every packet of the socket.
        on_end: Called once, when the process has ended by itself.
        on_poll: Called every :data:`POLL_S` at least, with a function that sends a packet and never waits.

    Raises:
        StageError: CONTROLLER_FAILED when it does not start.
    """

    def __init__(
        self,
        module: str,
        on_message: Callable[[Any], None],
        on_end: Callable[[], None],
        on_packet: Callable[[bytes], None] = lambda packet: None,
        on_poll: Callable[[Callable[[bytes], None]], None] = lambda send: None,
    ) -> None:
        self._on_message, self._on_end, self._on_packet, self._on_poll = on_message, on_end, on_packet, on_poll
        self._pipe, pipe = Pipe()
        self._wire, wire = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._wire.setblocking(False)
        self._sending, self._asking = Lock(), Lock()
        self._answer: Answer | None = None
        self._closing = self._gone = False
        self._open = [self._wire]
        with wire:
            self._process = subprocess.Popen(
                [sys.executable, "-m", module, str(pipe.fileno()), str(wire.fileno())],
                pass_fds=(pipe.fileno(), wire.fileno()),
                stdin=subprocess.DEVNULL,
            )
            pipe.close()
        self._thread = Thread(target=self._read, name=module.rpartition(".")[2], daemon=True)
        self._thread.start()
        if self._wait(START_S) is None:
            self.kill()
            raise StageError(
                OutcomeCode.CONTROLLER_FAILED,
                f"The process {module} did not start: the log has its error. Are libfranka's bindings installed "
                "(pylibfranka, franky-control)?",
            )

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether it runs and listens."""
        return not self._gone

    def send(self, request: Any) -> None:
        """Send a request. It is ignored after the end of the process, which ``on_end`` tells."""
        with self._sending:
            try:
                self._pipe.send(request)
            except OSError:
                self._gone = True

    def ask(self, request: Any, timeout_s: float) -> Answer | None:
        """Send a request and wait for its answer; None when none came in time or the process has ended."""
        with self._asking:
            self._answer = None
            self.send(request)
            return self._wait(timeout_s)

    def connect(self, config: FrankaConfig, address: str) -> None:
        """Have it connect to the robot; a process that cannot is killed.

        Args:
            config: The robot's settings.
            address: Of what it connects to, for sentences.

        Raises:
            StageError: ROBOT_LOST when nothing answers in time, or the connection is refused; CONTROLLER_FAILED when the
                process has ended.
        """
        answer = self.ask(Connect(config), config.connect_timeout_s)
        if answer is None or answer.code is not OutcomeCode.OK:
            alive = self.alive
            self.kill()
            raise failures.of_start(answer, alive, address, config.connect_timeout_s)

    def demand(self, request: Any, timeout_s: float, address: str) -> None:
        """Send a request that must succeed. Raises StageError: its answer's, or ROBOT_LOST when none came in time."""
        answer = self.ask(request, timeout_s)
        if answer is None:
            raise failures.of_silence(address, timeout_s)
        if answer.code is not OutcomeCode.OK:
            raise StageError(answer.code, answer.sentence)

    def send_packet(self, packet: bytes) -> None:
        """Send a packet if there is room for it."""
        try:
            self._wire.send(packet)
        except OSError:
            return  # the process is busy, and the next one says the same; or it has ended

    def kill(self) -> None:
        """End it at once. Only for a process that hangs, or whose arm stands still."""
        self._closing = True
        self._process.kill()
        self._process.wait()
        self._thread.join(1.0)

    def close(self, timeout_s: float) -> bool:
        """Close its pipe: it brakes and ends. Returns whether it ended in time; otherwise it is killed."""
        self._closing = True
        self._wire.close()
        with self._sending:
            _shut(self._pipe)
        try:
            self._process.wait(timeout_s)
            return True
        except subprocess.TimeoutExpired:
            self.kill()
            return False

    def _wait(self, timeout_s: float) -> Answer | None:
        until = time.monotonic() + timeout_s
        while self._answer is None and not self._gone and time.monotonic() < until:
            time.sleep(0.002)
        return self._answer

    def _read(self) -> None:
        try:
            while not self._closing:
                ready = wait([self._pipe, *self._open], POLL_S)
                self._on_poll(self.send_packet)
                if self._wire in ready:
                    self._read_packets()
                if self._pipe in ready:
                    self._dispatch(self._pipe.recv())
        except (EOFError, OSError):
            pass  # it has ended, or this side closes
        self._gone = True
        if not self._closing:
            self._process.wait()
            self._on_end()

    def _dispatch(self, message: Any) -> None:
        if isinstance(message, Answer):
            self._answer = message
        else:
            self._on_message(message)

    def _read_packets(self) -> None:
        while True:
            try:
                packet = self._wire.recv(1024)
            except BlockingIOError:
                return
            if not packet:  # its last messages are still in the pipe
                self._open = []
                return
            self._on_packet(packet)


def _shut(pipe: Connection) -> None:
    """Both ends see the end, even while another thread reads here."""
    try:
        with socket.socket(fileno=os.dup(pipe.fileno())) as end:
            end.shutdown(socket.SHUT_RDWR)
    except OSError:
        return  # closed already
