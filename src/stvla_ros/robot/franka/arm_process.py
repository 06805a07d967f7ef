"""The process that talks to the arm: ``python -m stvla_ros.robot.franka.arm_process PIPE SOCKET``.

It has one thread and nothing else in it, because libfranka's bindings hold Python's lock while they wait, and the
robot wants a command every millisecond. Python's garbage collector is off. It never starts by itself: a
:class:`stvla_ros.robot.franka.arm.FrankaArm` starts it, and it ends with that.
"""

from __future__ import annotations

import gc
import signal
import socket
import sys
import time
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
import pylibfranka as libfranka

from stvla_ros.errors import OutcomeCode
from stvla_ros.robot.franka import failures
from stvla_ros.robot.franka.config import FrankaConfig
from stvla_ros.robot.franka.follower import Follower
from stvla_ros.robot.franka.messages import (
    Answer,
    Condition,
    Connect,
    End,
    Ended,
    Follow,
    Lost,
    Mode,
    Recover,
    pack_state,
    unpack_life,
)

CONFIRM_STATES = 500
"""How many states, one per millisecond, it may take until they show why the robot aborted a motion, that it has recovered,
or that it is at rest after a stop."""

Refused = (libfranka.ControlException, libfranka.CommandException, libfranka.InvalidOperationException)
"""The connection stands, but the robot did not do what it was told."""

Broken = (libfranka.FrankaException, RuntimeError)
"""Anything else: exceptions of the library under libfranka come through untranslated, as RuntimeError."""


class ArmProcess:
    """Serves requests while the arm stands still; listens only for a stop while it moves."""

    def __init__(self, requests: Connection, wire: socket.socket) -> None:
        self._requests, self._wire = requests, wire
        wire.setblocking(False)
        self._robot: Any = None
        self._config = FrankaConfig()
        self._every, self._cycle = 10, 0
        self._life, self._stop, self._silent = 0, 0, 0
        self._state: Any = None
        self._condition = Condition(Mode.INACTIVE)
        self._configured = False

    def run(self) -> None:
        """Serve until the node ends or the connection breaks."""
        self._requests.send(Answer())
        if not self._connect(self._requests.recv()):
            return
        gc.collect()
        gc.freeze()
        gc.disable()
        try:
            while self._serve():
                self._observe()
        except Broken as error:
            self._requests.send(Lost(failures.lost(str(error)).sentence))

    # --- requests, while the arm stands still ---------------------------------------------------------------------

    def _connect(self, request: Connect) -> bool:
        config = self._config = request.config
        kind = libfranka.RealtimeConfig.kEnforce if config.realtime else libfranka.RealtimeConfig.kIgnore
        try:
            self._robot = libfranka.Robot(config.hostname, kind)
            self._observe()
            self._configure()
        except Broken as error:
            self._requests.send(Answer.of(failures.of_connection(str(error), config.hostname)))
            return False
        self._every = max(1, round(1000 / config.joint_rate_hz))
        self._requests.send(Answer())
        return True

    def _configure(self) -> None:
        """Set thresholds, stiffness and load, unless the robot takes none now: then after its recovery."""
        if self._configured or self._condition.mode is not Mode.IDLE:
            return
        c, load = self._config.collision, self._config.load
        self._robot.set_collision_behavior(
            [c.contact_torque_nm] * 7, [c.collision_torque_nm] * 7, [c.contact_force_n] * 6, [c.collision_force_n] * 6
        )  # the form with 4 arguments sets the thresholds of constant speed and of acceleration alike
        self._robot.set_joint_impedance(list(self._config.joint_impedance_nm_rad))
        self._robot.set_load(load.mass_kg, list(load.com_m), list(load.inertia_kgm2))
        self._configured = True

    def _serve(self) -> bool:
        """Answer one request, if there is one. False when the node has gone."""
        if not self._requests.poll():
            return True
        try:
            request = self._requests.recv()
        except EOFError:
            return False
        if isinstance(request, Follow):
            self._requests.send(self._follow(request))
        elif isinstance(request, Recover):
            self._requests.send(self._recover())
        return True

    def _recover(self) -> Answer:
        self._observe_while(Mode.OTHER, Mode.MOVING)
        if self._condition.mode is Mode.USER_STOPPED:
            return Answer(OutcomeCode.USER_STOPPED, failures.sentence(Mode.USER_STOPPED))
        try:
            self._robot.automatic_error_recovery()
        except Refused as error:
            return Answer.of(failures.of_command(str(error), self._condition.mode, self._condition.errors))
        if (why := self._ready()) is not None:
            return why
        self._configure()
        return Answer()

    def _ready(self) -> Answer | None:
        """None when the arm is ready for a motion; otherwise why it is not."""
        self._observe_while(Mode.REFLEX, Mode.OTHER, Mode.MOVING)
        mode, errors = self._condition.mode, self._condition.errors
        if mode is Mode.IDLE:
            return None
        code = failures.CODES.get(mode, OutcomeCode.CONTROLLER_FAILED)
        return Answer(code, failures.sentence(mode, errors))

    # --- a motion -------------------------------------------------------------------------------------------------

    def _follow(self, request: Follow) -> Ended:
        self._observe()
        if self._condition.mode is not Mode.IDLE and (why := self._ready()):
            return Ended(request.motion, End.FAILED, why.code, why.sentence)
        self._configure()
        apart = float(np.abs(np.array(self._state.q_d) - request.samples.q[0]).max())
        if apart > self._config.start_tolerance_rad:
            return Ended(
                request.motion,
                End.FAILED,
                OutcomeCode.CONTROLLER_FAILED,
                f"The path starts {apart:.3f} rad from the arm; at most {self._config.start_tolerance_rad:g} is allowed: "
                "plan from the current joint state.",
            )
        follower = Follower(request.motion, request.samples, request.tolerances, request.limits, request.names)
        try:
            self._control(follower)
        except Refused as error:
            return self._aborted(follower, str(error))
        except Broken as error:
            lost = failures.lost(str(error))
            self._requests.send(Ended(request.motion, End.FAILED, lost.code, lost.sentence, follower.statistics()))
            raise
        assert follower.ended is not None
        return follower.ended

    def _control(self, follower: Follower) -> None:
        """Command the robot until the motion has ended. The control object must not outlive this call: while it exists,
        the robot expects commands."""
        self._silent = 0
        control = self._robot.start_joint_position_control(libfranka.ControllerMode.JointImpedance)
        state, _ = control.readOnce()
        follower.begin(np.array(state.q_d))
        cycles = 0
        while True:
            q, dq, rate = list(state.q), list(state.dq), state.control_command_success_rate
            command = libfranka.JointPositions(follower.step(cycles, q, dq, rate))
            command.motion_finished = follower.ended is not None
            control.writeOnce(command)
            self._send(cycles, follower, q, dq, rate)
            if follower.ended is not None:
                return
            state, duration = control.readOnce()
            cycles = round(duration.to_sec() * 1000)
            self._look_for_a_stop(follower, cycles)

    def _look_for_a_stop(self, follower: Follower, cycles: int) -> None:
        self._silent += cycles
        self._listen()
        if self._stop >= follower.number:
            follower.stop()
        elif self._silent > self._config.silence_s * 1000:
            follower.stop(
                OutcomeCode.CONTROLLER_FAILED,
                f"The node 'franka' was silent for {self._config.silence_s:g} s: look at its log and at the load.",
            )

    def _listen(self) -> None:
        """Read one sign of life; the socket's end stops every motion."""
        try:
            packet = self._wire.recv(64)
        except BlockingIOError:
            return
        except ConnectionError:
            packet = b""
        if not packet:
            self._stop = sys.maxsize
            return
        life, stop = unpack_life(packet)
        self._stop = max(self._stop, stop)
        self._silent = 0 if life != self._life else self._silent
        self._life = life

    def _aborted(self, follower: Follower, text: str) -> Ended:
        """The robot ended a motion: wait for the state that says why."""
        self._observe_while(Mode.MOVING, Mode.IDLE)
        why = failures.of_command(text, self._condition.mode, self._condition.errors)
        return Ended(follower.number, End.FAILED, why.code, why.sentence, follower.statistics())

    # --- reports ----------------------------------------------------------------------------------------------------

    def _observe(self) -> None:
        """Read the robot's state once; report it, and the arm's condition when that has changed."""
        state = self._state = self._robot.read_once()
        errors = failures.error_names(str(state.current_errors)) if state.current_errors else ()
        condition = Condition(failures.MODES.get(state.robot_mode.name, Mode.OTHER), errors)
        if condition != self._condition:
            self._condition = condition
            self._requests.send(condition)
        self._send(1, None, list(state.q), list(state.dq), state.control_command_success_rate)
        self._listen()

    def _observe_while(self, *modes: Mode) -> None:
        """Read the robot's state until it is in none of these modes, at most :data:`CONFIRM_STATES` times."""
        for _ in range(CONFIRM_STATES):
            self._observe()
            if self._condition.mode not in modes:
                return

    def _send(self, cycles: int, follower: Follower | None, q: list[float], dq: list[float], rate: float) -> None:
        self._cycle += cycles
        if self._cycle < self._every:
            return
        self._cycle %= self._every
        motion, cycle, q_c, dq_c = (
            (0, 0, list(self._state.q_d), [0.0] * 7)
            if follower is None
            else (follower.number, follower.cycle, follower.command, follower.velocity)
        )
        try:
            self._wire.send(pack_state(time.time_ns(), motion, cycle, rate, q, dq, q_c, dq_c))
        except (BlockingIOError, ConnectionError):
            return  # nobody reads; requests and signs of life tell whether the node has gone


def main() -> None:
    """Entry point. The node asks this process to end through its pipe, never by these signals."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    pipe, wire = (int(word) for word in sys.argv[1:3])
    try:
        ArmProcess(Connection(pipe), socket.socket(fileno=wire)).run()
    except (BrokenPipeError, EOFError):
        return  # the node has gone


if __name__ == "__main__":
    main()
