"""The arm behind its Control Interface: modes, motions, reflexes, recovery, and its state of every millisecond."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from ruckig import Trajectory

from stvla_ros.description.braking import fastest_stop
from stvla_ros.sim.fci import wire
from stvla_ros.sim.fci.cell import FciCell
from stvla_ros.sim.fci.limits import CYCLE_S, FciLimits, Reference
from stvla_ros.sim.fci.model import robot_model
from stvla_ros.sim.fci.state import ArmState, Thresholds
from stvla_ros.sim.fci.wire import (
    ArmRequest,
    ControllerMode,
    Error,
    GeneratorMode,
    MoveStatus,
    RecoveryStatus,
    RobotMode,
    SetStatus,
    StopStatus,
)
from stvla_ros.types import F64

MISSED_CYCLES = 20
"""Missing commands in a row that end a motion: Franka Control Interface documentation."""

START_CYCLES = 200
"""How long the first command may be missing."""

RECOVERY_CYCLES = 50
"""How long a recovery takes at least."""

RANGE_RAD = 0.002
"""Distance from the ends of the range at which a brake ends."""

_HISTORY = (1 << 100) - 1
Answer = Callable[[int, int, int, bytes], None]


@dataclass
class Motion:
    """One Move request.

    Attributes:
        number: The request's; None: its client is gone.
        generator: What moves the reference.
        controller: What makes torques of it.
        after: Number of the last state before it. Commands that answer that one or older ones are not for this motion.
        started: A command has arrived.
        missed: Commands missing in a row.
        ending: How it ends when the arm is at rest, which it is being brought to.
        stop: Number of the StopMove request that ends it.
    """

    number: int | None
    generator: GeneratorMode
    controller: ControllerMode
    after: int
    started: bool = False
    missed: int = 0
    ending: MoveStatus | None = None
    stop: int | None = None


class Arm:
    """Everything that the arm's port does, except the network.

    :meth:`control` before and :meth:`observe` after each step of the physics; :meth:`request` in between.

    Attributes:
        state: What the client receives.
        mode: The arm's mode.
        motion: The running one.
    """

    def __init__(self, cell: FciCell, limits: FciLimits) -> None:
        self._cell, self._limits = cell, limits
        self.state = ArmState(cell)
        self.mode = RobotMode.IDLE
        self.motion: Motion | None = None
        self._answer: Answer = lambda *_: None
        self._reference = Reference(limits, cell.q)
        self._layout = cell.layout
        self._brake: tuple[Trajectory, float] | None = None
        self._recovery: tuple[int | None, int] | None = None
        self._user_stop = self._safety = False
        self._received = _HISTORY
        self._model = robot_model(limits).encode()

    # The session

    def connect(self, answer: Answer) -> None:
        """A client is there; answers go to it."""
        self._answer = answer

    def disconnect(self) -> None:
        """The client is gone: the arm comes to rest. The next one is not told what this one asked for."""
        self._answer = lambda *_: None
        if self.motion is not None:
            self._stop(MoveStatus.ABORTED)
            self.motion.number = self.motion.stop = None
        if self._recovery is not None:
            self._recovery = (None, self._recovery[1])

    def request(self, request: int, number: int, payload: bytes) -> None:
        """Do what the client asks for.

        Raises:
            struct.error: The payload has the wrong size.
            ValueError: No such request.
        """
        kind = ArmRequest(request)
        self._look_round()
        if kind is ArmRequest.MOVE:
            self._move(number, payload)
        elif kind is ArmRequest.STOP_MOVE:
            self._stop_move(number)
        elif kind is ArmRequest.AUTOMATIC_ERROR_RECOVERY:
            self._recover(number)
        elif kind is ArmRequest.GET_ROBOT_MODEL:
            self._answer(kind, number, 0, self._model)
        elif kind in _SETTERS:
            self._tell(kind, number, self._set(kind, payload))
        else:
            raise ValueError("this client is connected")

    def _tell(self, kind: ArmRequest, number: int | None, status: int) -> None:
        if number is not None:
            self._answer(kind, number, status, b"")

    # Tests' hooks

    def user_stop(self, pressed: bool) -> None:
        """Press or release the user stop."""
        self._user_stop = pressed
        if pressed:
            self._halt(MoveStatus.EMERGENCY_ABORTED, StopStatus.EMERGENCY_ABORTED, RecoveryStatus.EMERGENCY_ABORTED)
        self._choose_mode()

    def safety_function(self, active: bool) -> None:
        """Activate or deactivate a safety function, such as a protective stop."""
        self._safety = active
        if active:
            move, stop = MoveStatus.PREEMPTED_BY_SAFETY_FUNCTION, StopStatus.REJECTED_BY_SAFETY_FUNCTION
            self._halt(move, stop, RecoveryStatus.REJECTED_BY_SAFETY_FUNCTION)
        self._choose_mode()

    def _halt(self, move: MoveStatus, stop: StopStatus, recovery: RecoveryStatus) -> None:
        if self.motion is not None:
            self._start_brake()
            self._end(move, RobotMode.OTHER, stop)
        self._end_recovery(recovery)

    def _choose_mode(self) -> None:
        """The mode of an arm in which nothing goes on."""
        if self._safety:
            self.mode = RobotMode.OTHER
        elif self._user_stop:
            self.mode = RobotMode.USER_STOPPED
        else:
            self.mode = RobotMode.REFLEX if self.state.value["errors"].any() else RobotMode.IDLE

    # Requests

    def _move(self, number: int, payload: bytes) -> None:
        values = wire.MOVE.unpack(payload)
        controller, generator, asynchronous = ControllerMode(values[0]), GeneratorMode(values[1] + 1), values[8]
        fits = (generator is not GeneratorMode.NONE) or controller is ControllerMode.EXTERNAL
        ready = self.mode is RobotMode.IDLE and self._brake is None
        status = MoveStatus.NOT_POSSIBLE
        if self._safety:
            status = MoveStatus.REJECTED_BY_SAFETY_FUNCTION
        elif ready and fits and generator in _GENERATORS and not asynchronous:
            status = MoveStatus.MOTION_STARTED
            self._reference.rest(self._reference.q)
            self._received = _HISTORY
            self.state.value["reflex_reason"] = False
            after = int(self.state.value["message_id"])
            self.motion, self.mode = Motion(number, generator, controller, after), RobotMode.MOVE
        self._tell(ArmRequest.MOVE, number, status)

    def _stop_move(self, number: int) -> None:
        motion = self.motion
        if motion is None or motion.stop is not None:
            status = StopStatus.REJECTED_BY_SAFETY_FUNCTION if self._safety else StopStatus.SUCCESS
            self._tell(ArmRequest.STOP_MOVE, number, status)
        else:
            motion.stop = number
            self._stop(MoveStatus.PREEMPTED if motion.ending is None else motion.ending)

    def _recover(self, number: int) -> None:
        status = RecoveryStatus.SUCCESS
        if self._safety:
            status = RecoveryStatus.REJECTED_BY_SAFETY_FUNCTION
        elif self.mode is RobotMode.REFLEX:
            self._recovery, self.mode = (number, RECOVERY_CYCLES), RobotMode.AUTOMATIC_ERROR_RECOVERY
            return
        elif self.mode is not RobotMode.IDLE:
            status = RecoveryStatus.NOT_POSSIBLE
        self._tell(ArmRequest.AUTOMATIC_ERROR_RECOVERY, number, status)

    def _end_recovery(self, status: RecoveryStatus) -> None:
        if self._recovery is not None:
            (number, _), self._recovery = self._recovery, None
            self._tell(ArmRequest.AUTOMATIC_ERROR_RECOVERY, number, status)

    def _set(self, kind: ArmRequest, payload: bytes) -> SetStatus:
        values = np.array(_SETTERS[kind].unpack(payload), dtype=np.float64)
        if self._safety:
            return SetStatus.REJECTED_BY_SAFETY_FUNCTION
        if self.mode is not RobotMode.IDLE:  # non-realtime commands run outside of motions
            return SetStatus.NOT_POSSIBLE
        if not np.isfinite(values).all() or (kind in _NOT_NEGATIVE and (values < 0.0).any()):
            return SetStatus.INVALID_ARGUMENT
        return self._store(kind, values)

    def _store(self, kind: ArmRequest, values: F64) -> SetStatus:
        if kind is ArmRequest.SET_COLLISION_BEHAVIOR:
            torques, forces = values[:28].reshape(4, 7), values[28:].reshape(4, 6)
            self.state.thresholds = Thresholds(*np.hstack([torques, forces]))
        elif kind in (ArmRequest.SET_EE_TO_K, ArmRequest.SET_NE_TO_EE):
            T = values.reshape(4, 4).T
            if not np.allclose(T[:3, :3] @ T[:3, :3].T, np.eye(3), atol=1e-3) or not np.allclose(T[3], [0, 0, 0, 1]):
                return SetStatus.INVALID_ARGUMENT
            self.state.set_frame("EE_T_K" if kind is ArmRequest.SET_EE_TO_K else "NE_T_EE", T)
        elif kind is ArmRequest.SET_LOAD:
            if values[0] < 0.0:
                return SetStatus.INVALID_ARGUMENT
            self.state.set_load(float(values[0]), values[1:4], values[4:])
        return SetStatus.SUCCESS

    # Each millisecond

    def control(self, command: np.void | None) -> None:
        """Drive the joints for the next millisecond.

        Args:
            command: The client's answer to the last state; None when there is none.
        """
        self._look_round()
        motion = self.motion
        if self._brake is not None:
            self._follow_brake()
        elif motion is not None:
            self._follow_client(motion, command)
        if self._recovery is not None:
            self._go_on_recovering(*self._recovery)
        if self._brake is None and self.motion is not None and self.motion.controller is ControllerMode.EXTERNAL:
            self._cell.push(self._reference.tau)
        else:
            self._cell.drive(self._reference.q, self._reference.dq)

    def _follow_client(self, motion: Motion, command: np.void | None) -> None:
        if command is not None and command["message_id"] <= motion.after:
            command = None  # the last motion's, held up on the way: it would end this one
        self._received = (self._received << 1 | (command is not None)) & _HISTORY if motion.started else _HISTORY
        if command is None:
            motion.missed += 1
            if motion.missed >= (MISSED_CYCLES if motion.started else START_CYCLES):
                self._reflex([Error.COMMUNICATION_CONSTRAINTS])
            elif motion.started:
                self._reference.extrapolate()
            return
        motion.missed, motion.started = 0, True
        wrong = self._take(motion, command)
        finished = command["motion_generation_finished"] or command["torque_command_finished"]
        if finished and not wrong and motion.generator is not GeneratorMode.NONE:
            wrong = self._reference.finish()
        if wrong:
            self._reflex(wrong)
        elif finished:
            self._stop(MoveStatus.SUCCESS)

    def _take(self, motion: Motion, command: np.void) -> list[Error]:
        reference, wrong = self._reference, []
        if motion.generator is GeneratorMode.JOINT_POSITION:
            wrong = reference.position(command["q_c"].copy())
        elif motion.generator is GeneratorMode.JOINT_VELOCITY:
            wrong = reference.velocity(command["dq_c"].copy())
        else:
            reference.set(self._cell.q.copy(), self._cell.dq.copy(), np.zeros(7))
        if motion.controller is ControllerMode.EXTERNAL:
            wrong += reference.torque(command["tau_J_d"].copy())
        return wrong

    def _look_round(self) -> None:
        """Where the scene was laid out anew, whatever moved has ended."""
        if self._cell.layout != self._layout:
            self._layout, self._brake = self._cell.layout, None
            self._reference.rest(self._cell.q)
            self.state.forget()
            if self.motion is not None:
                self._end(MoveStatus.ABORTED, RobotMode.IDLE)

    # Ends of motions

    def _reflex(self, errors: list[Error]) -> None:
        self.state.value["errors"][errors] = True
        self.state.value["reflex_reason"][errors] = True
        if Error.JOINT_REFLEX in errors or Error.CARTESIAN_REFLEX in errors:
            self._reference.rest(self._cell.q)  # push no further
            self._brake = None
        else:
            self._start_brake()
        self._end(MoveStatus.REFLEX_ABORTED, RobotMode.REFLEX, StopStatus.REFLEX_ABORTED)

    def _stop(self, ending: MoveStatus) -> None:
        """Bring the arm to rest; the motion ends then."""
        assert self.motion is not None
        if self.motion.ending is None:
            self._start_brake()
        self.motion.ending = ending

    def _end(self, move: MoveStatus, mode: RobotMode, stop: StopStatus = StopStatus.ABORTED) -> None:
        """End the motion at once, and tell the client."""
        motion = self.motion
        assert motion is not None
        self.motion, self.mode = None, mode
        self._tell(ArmRequest.MOVE, motion.number, move)
        self._tell(ArmRequest.STOP_MOVE, motion.stop, stop)

    def _start_brake(self) -> None:
        """Come to rest within the limits: from the reference, or from the measured motion where torques moved the arm."""
        reference, motion = self._reference, self.motion
        if motion is not None and motion.controller is ControllerMode.EXTERNAL:
            reference.set(self._cell.q.copy(), self._cell.dq.copy(), np.zeros(7))
        self._brake = (fastest_stop(reference.q, reference.dq, reference.ddq, self._limits.arm), 0.0)

    def _follow_brake(self) -> None:
        assert self._brake is not None
        trajectory, t = self._brake
        t += CYCLE_S
        q, dq, ddq = trajectory.at_time(min(t, trajectory.duration))
        self._brake = (trajectory, t)
        self._reference.set(*self._within_range(np.array(q), np.array(dq), np.array(ddq)))
        if t >= trajectory.duration:
            self._brake = None
            self._reference.rest(self._reference.q)
            if self.motion is not None and self.motion.ending is not None:
                self._end(self.motion.ending, RobotMode.IDLE, StopStatus.SUCCESS)

    def _within_range(self, q: F64, dq: F64, ddq: F64) -> tuple[F64, F64, F64]:
        """A brake ends at the ends of the joints' range at the latest, from where the arm can move back."""
        low, high = self._limits.arm.q_min_rad + RANGE_RAD, self._limits.arm.q_max_rad - RANGE_RAD
        free = (q > low) & (q < high)
        return np.clip(q, low, high), dq * free, ddq * free

    def _go_on_recovering(self, number: int | None, cycles: int) -> None:
        if cycles > 0 or self._brake is not None:
            self._recovery = (number, cycles - 1)
        else:
            self.mode = RobotMode.IDLE
            self.state.value["errors"] = False
            self._end_recovery(RecoveryStatus.SUCCESS)

    def observe(self) -> None:
        """Measure, watch for collisions, and write the state."""
        state, cell = self.state, self._cell
        collisions = state.feel(self._reference)
        if self.motion is not None and (errors := self._reference.measured(cell.q, cell.dq) + collisions):
            self._reflex(errors)
        state.measure(self._reference)
        motion, value = self.motion, state.value
        value["motion_generator_mode"] = GeneratorMode.IDLE if motion is None else motion.generator
        value["controller_mode"] = ControllerMode.OTHER if motion is None else motion.controller
        value["robot_mode"] = self.mode
        value["control_command_success_rate"] = 0.0 if motion is None else self._received.bit_count() / 100


_GENERATORS = (GeneratorMode.JOINT_POSITION, GeneratorMode.JOINT_VELOCITY, GeneratorMode.NONE)
"""The motions that are simulated; Cartesian ones are refused, as are asynchronous ones."""

_NOT_NEGATIVE = (
    ArmRequest.SET_COLLISION_BEHAVIOR,
    ArmRequest.SET_JOINT_IMPEDANCE,
    ArmRequest.SET_CARTESIAN_IMPEDANCE,
)
_SETTERS = {
    ArmRequest.SET_COLLISION_BEHAVIOR: wire.COLLISION_BEHAVIOR,
    ArmRequest.SET_JOINT_IMPEDANCE: wire.JOINT_IMPEDANCE,
    ArmRequest.SET_CARTESIAN_IMPEDANCE: wire.CARTESIAN_IMPEDANCE,
    ArmRequest.SET_GUIDING_MODE: wire.GUIDING_MODE,
    ArmRequest.SET_EE_TO_K: wire.TRANSFORM,
    ArmRequest.SET_NE_TO_EE: wire.TRANSFORM,
    ArmRequest.SET_LOAD: wire.LOAD,
}
