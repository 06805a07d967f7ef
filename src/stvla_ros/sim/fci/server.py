"""The server: one thread that answers clients, steps the physics, and sends a state every millisecond."""

from __future__ import annotations

import select
import socket
import struct
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from threading import Event, Thread

import numpy as np

from stvla_ros.config import ConfigError, param
from stvla_ros.sim.fci import wire
from stvla_ros.sim.fci.arm import Arm
from stvla_ros.sim.fci.cell import STEP_S, FciCell
from stvla_ros.sim.fci.hand import Hand
from stvla_ros.sim.fci.limits import LIMITS
from stvla_ros.sim.fci.wire import Link, Port, RobotMode
from stvla_ros.types import U8

GIVE_UP_S = 0.1
"""A server that is further behind the clock does not catch up: its time runs slower for a while, and skips nothing."""

START_S = 0.02
"""Wait for the answer to the first state of a motion; twice and four times as long for further ones.

libfranka answers none before its second state, and another thread of the client may read one instead. So states must
come, but few of them: a client that is held up here must not find that much robot time has passed, or its first step
would be a jump.
"""


@dataclass(frozen=True)
class FciConfig:
    """Settings of the simulated robot's network interface."""

    hostname: str = param("127.0.0.2", "address to listen at; a loopback address 127.x.y.z needs no set-up")
    real_time: bool = param(
        True, "robot time follows the clock; false: while something moves, it runs as fast as the client answers"
    )
    answer_limit_s: float = param(
        0.5, "wait so long for the answer to a state before it counts as missing [s]; a robot: 0.001", ge=0.001, le=10.0
    )
    homed: bool = param(False, "the hand knows its width without homing")


class FciServer:
    """Serves one client of the arm and one of the hand.

    Args:
        cell: The simulated cell. Only this server's thread steps it.
        config: Settings.
        model: Whose limits hold: ``panda`` or ``fr3``.

    Attributes:
        network: The cable is plugged in.
        lose: So many of the client's next answers get lost.

    Raises:
        ConfigError: The address cannot be listened at.
    """

    def __init__(self, cell: FciCell, config: FciConfig | None = None, model: str = "panda") -> None:
        self.config = config or FciConfig()
        self._cell = cell
        self._arm, self._hand = Arm(cell, LIMITS[model]), Hand(cell, self.config.homed)
        self.network, self.lose = True, 0
        self._doors = [
            _Door(wire.ARM, self._arm, self.config.hostname),
            _Door(wire.HAND, self._hand, self.config.hostname),
        ]
        self._state = self._arm.state.record.view(np.uint8)
        self._hand_state = self._hand.record.view(np.uint8)
        self._calls: deque[Callable[[], None]] = deque()
        self._end = Event()
        self._thread = Thread(target=self._run, name="fci", daemon=True)
        self._start = self._due = time.monotonic()
        self._steps, self._window = 0, (self._start, 0)
        self._wall_ns = time.time_ns()
        self._missed = False

    def start(self) -> None:
        """Begin."""
        self._start = self._due = time.monotonic()
        self._window = (self._start, 0)
        self._thread.start()

    def close(self, timeout_s: float = 2.0) -> bool:
        """End, and close all connections; False when the thread did not end in time."""
        self._end.set()
        if self._thread.is_alive():
            self._thread.join(timeout_s)
        for door in self._doors:
            door.close()
        return not self._thread.is_alive()

    def user_stop(self, pressed: bool) -> None:
        """Press or release the user stop; returns when the arm has taken it."""
        self._between_steps(lambda: self._arm.user_stop(pressed))

    def safety_function(self, active: bool) -> None:
        """Activate or deactivate a safety function of the robot; returns when the arm has taken it."""
        self._between_steps(lambda: self._arm.safety_function(active))

    def _between_steps(self, call: Callable[[], None]) -> None:
        """Have the server's thread do this, and wait for it: a request that a client sends now meets its effect."""
        done = Event()
        self._calls.extend((call, done.set))
        while self._thread.is_alive() and not done.wait(0.1):
            pass

    def connect(self, connected: bool) -> None:
        """Plug the network cable in or out; out: nothing is sent or received, and connections stay."""
        self.network = connected

    @property
    def behind_s(self) -> float:
        """How far robot time has fallen behind the clock since the start, s."""
        return time.monotonic() - self._start - self._steps * STEP_S

    @property
    def mode(self) -> RobotMode:
        """The arm's mode."""
        return self._arm.mode

    @property
    def hand_moves(self) -> bool:
        """A command of the hand is in progress."""
        return self._hand.moving

    def factor(self) -> float:
        """Real-time factor since the last call."""
        (then, steps), self._window = self._window, (time.monotonic(), self._steps)
        return (self._window[1] - steps) * STEP_S / max(self._window[0] - then, 1e-9)

    def stamp_ns(self, simulated_ns: int) -> int:
        """The clock's time of a simulated time; never ahead of the clock."""
        return min(simulated_ns - self._cell.time_ns + self._wall_ns, time.time_ns())

    def _run(self) -> None:
        while not self._end.is_set():
            self._cycle()

    def _cycle(self) -> None:
        command = self._exchange()
        while self._calls:
            self._calls.popleft()()
        with self._cell.held():
            self._arm.control(command)
            self._hand.control()
            self._cell.step()
            self._arm.observe()
            due = self._hand.observe()
        self._steps += 1
        self._wall_ns = time.time_ns()
        if self.network:
            arm, hand = self._doors
            arm.send(self._state)
            hand.send(self._hand_state if due else None)

    def _exchange(self) -> np.void | None:
        """Serve requests until the next step is due; returns the client's command for it."""
        motion, command = self._arm.motion, None
        began, newest = time.monotonic(), int(self._arm.state.value["message_id"])
        give_up = began + self._patience_s()
        while not self._end.is_set():
            now = time.monotonic()
            due = self._due if self.config.real_time or not (motion or self._hand.moving) else began
            waiting = command is None and self._waits_for_client()
            until = max(due, give_up) if waiting else due
            self._serve(max(until - now, 0.0))
            over = time.monotonic() >= until
            command = command if command is not None else self._doors[0].command(newest, late=over)
            if over or self._calls or self._arm.motion is not motion:
                break
        self._missed = command is None and self._waits_for_client()
        if command is not None and self.lose > 0:
            self.lose, command = self.lose - 1, None
        now = time.monotonic()
        self._due = max(self._due + STEP_S, now - GIVE_UP_S) if self.config.real_time else now + STEP_S
        return command

    def _patience_s(self) -> float:
        """How long to wait for the answer to the last state."""
        motion, limit_s = self._arm.motion, self.config.answer_limit_s
        if motion is not None and not motion.started:
            return min(limit_s, START_S * 2 ** min(motion.missed, 2))
        return STEP_S if self._missed else limit_s

    def _waits_for_client(self) -> bool:
        motion = self._arm.motion
        return motion is not None and motion.ending is None and self._doors[0].link is not None

    def _serve(self, timeout_s: float) -> None:
        """Wait for something to arrive, and serve requests."""
        if not self.network:
            self._end.wait(timeout_s)
            return
        ready, _, _ = select.select([fd for door in self._doors for fd in door.sockets()], [], [], timeout_s)
        for door in self._doors:
            door.serve(ready)


class _Door:
    """One port: who is connected to it."""

    def __init__(self, port: Port, device: Arm | Hand, hostname: str) -> None:
        self._port, self._device, self._hostname = port, device, hostname
        self.link: Link | None = None
        self._greeted = False
        self._command: np.void | None = None
        self._listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            self._listener.bind((hostname, port.number))
        except OSError as error:
            self._listener.close()
            raise ConfigError(
                f"The robot's network interface cannot listen at {hostname}:{port.number} ({error.strerror}): "
                "choose another address 127.x.y.z, or end the process that uses it."
            ) from error
        self._listener.listen()
        self._listener.setblocking(False)

    def sockets(self) -> list[socket.socket]:
        """Where something may arrive."""
        return [self._listener] if self.link is None else [self._listener, self.link.tcp, self.link.udp]

    def serve(self, ready: list[socket.socket]) -> None:
        """Do what clients ask for."""
        knock = self._listener in ready
        if self.link is not None:
            self._read(self.link, knock or self.link.tcp in ready, self.link.udp in ready)
        if knock:  # last: a client that connects anew has closed its old connection before
            self._accept()

    def _read(self, link: Link, tcp: bool, udp: bool) -> None:
        try:
            for request, number, payload in link.requests() if tcp else ():
                self._request(link, request, number, payload)
        except (struct.error, ValueError):  # not this protocol
            link.open = False
        if udp:
            self._receive(link)
        if not link.open:
            self._leave()

    def command(self, newest: int, late: bool) -> np.void | None:
        """The answer to the newest state if it is there, or one to an older state where it is too late for that."""
        command = self._command
        if command is None or not (late or command["message_id"] == newest):
            return None
        self._command = None
        return command

    def send(self, state: U8 | None) -> None:
        """Send a state to the client, if there is one, and then the responses, whose effect the state shows."""
        if self.link is None:
            return
        if state is not None and self._greeted:
            with suppress(OSError):  # nobody listens there, or its buffer is full: states get lost on a network
                self.link.udp.send(state.data)
        self.link.flush()

    def close(self) -> None:
        """Close everything. Safe to call twice."""
        self._listener.close()
        if self.link is not None:
            self._leave()

    def _accept(self) -> None:
        try:
            client, _ = self._listener.accept()
        except OSError:
            return
        if self.link is not None:  # a robot has one client: reset, since libfranka waits for ever for an answer
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            client.close()
            return
        udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        udp.bind((self._hostname, 0))
        udp.setblocking(False)
        self.link, self._greeted = Link(self._port, client, udp), False

    def _request(self, link: Link, request: int, number: int, payload: bytes) -> None:
        if not self._greeted:
            self._greeted = request == 0 and link.greet(number, payload)
            link.open = link.open and self._greeted
            self._device.connect(link.answer)
        else:
            self._device.request(request, number, payload)

    def _receive(self, link: Link) -> None:
        try:
            data = link.udp.recv(2048)
        except OSError:
            return
        if self._port is wire.ARM and len(data) == wire.COMMAND.itemsize:
            self._command = np.frombuffer(data, wire.COMMAND)[0]

    def _leave(self) -> None:
        assert self.link is not None
        self.link.close()
        self.link, self._greeted, self._command = None, False, None
        self._device.disconnect()
