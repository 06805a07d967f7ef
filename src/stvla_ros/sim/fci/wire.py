"""The Franka Control Interface on the wire: protocol version 10 of the arm (FR3), version 3 of the hand.

Numbers, layouts and names: libfranka-common, headers ``research_interface/robot/{rbk_types,service_types,error}.h`` and
``research_interface/gripper/types.h``. Everything is little-endian and packed. Matrices are column-major.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from struct import Struct

import numpy as np

ARM_PORT, HAND_PORT = 1337, 1338
ARM_VERSION, HAND_VERSION = 10, 3


class ArmRequest(IntEnum):
    """Requests to the arm."""

    CONNECT = 0
    MOVE = 1
    STOP_MOVE = 2
    SET_COLLISION_BEHAVIOR = 3
    SET_JOINT_IMPEDANCE = 4
    SET_CARTESIAN_IMPEDANCE = 5
    SET_GUIDING_MODE = 6
    SET_EE_TO_K = 7
    SET_NE_TO_EE = 8
    SET_LOAD = 9
    AUTOMATIC_ERROR_RECOVERY = 10
    GET_ROBOT_MODEL = 11


class HandRequest(IntEnum):
    """Requests to the hand."""

    CONNECT = 0
    HOMING = 1
    GRASP = 2
    MOVE = 3
    STOP = 4


class RobotMode(IntEnum):
    """Mode of the arm in its state."""

    OTHER = 0
    IDLE = 1
    MOVE = 2
    GUIDING = 3
    REFLEX = 4
    USER_STOPPED = 5
    AUTOMATIC_ERROR_RECOVERY = 6


class GeneratorMode(IntEnum):
    """Motion generator in the arm's state. A Move request counts from 0 = JOINT_POSITION."""

    IDLE = 0
    JOINT_POSITION = 1
    JOINT_VELOCITY = 2
    CARTESIAN_POSITION = 3
    CARTESIAN_VELOCITY = 4
    NONE = 5


class ControllerMode(IntEnum):
    """Controller in the arm's state and in a Move request."""

    JOINT_IMPEDANCE = 0
    CARTESIAN_IMPEDANCE = 1
    EXTERNAL = 2
    OTHER = 3


class MoveStatus(IntEnum):
    """Answers to Move."""

    SUCCESS = 0
    MOTION_STARTED = 1
    PREEMPTED = 2
    PREEMPTED_BY_SAFETY_FUNCTION = 3
    REJECTED_BY_SAFETY_FUNCTION = 4
    NOT_POSSIBLE = 5
    SINGULAR_START = 6
    INVALID_ARGUMENT = 7
    REFLEX_ABORTED = 8
    EMERGENCY_ABORTED = 9
    INPUT_ERROR_ABORTED = 10
    ABORTED = 11


class StopStatus(IntEnum):
    """Answers to StopMove."""

    SUCCESS = 0
    NOT_POSSIBLE = 1
    REJECTED_BY_SAFETY_FUNCTION = 2
    EMERGENCY_ABORTED = 3
    REFLEX_ABORTED = 4
    ABORTED = 5


class SetStatus(IntEnum):
    """Answers to the Set requests."""

    SUCCESS = 0
    NOT_POSSIBLE = 1
    INVALID_ARGUMENT = 2
    REJECTED_BY_SAFETY_FUNCTION = 3


class RecoveryStatus(IntEnum):
    """Answers to AutomaticErrorRecovery."""

    SUCCESS = 0
    NOT_POSSIBLE = 1
    REJECTED_BY_SAFETY_FUNCTION = 2
    MANUAL_RECOVERY_REQUIRED = 3
    REFLEX_ABORTED = 4
    EMERGENCY_ABORTED = 5
    ABORTED = 6


class HandStatus(IntEnum):
    """Answers of the hand."""

    SUCCESS = 0
    FAIL = 1
    UNSUCCESSFUL = 2
    ABORTED = 3


CONNECTED, INCOMPATIBLE = 0, 1
"""Answers to Connect."""


class Error(IntEnum):
    """Place of an error in the arm's state; those that this server raises."""

    JOINT_POSITION_LIMITS = 0
    JOINT_VELOCITY = 3
    JOINT_REFLEX = 6
    CARTESIAN_REFLEX = 7
    START_POSE_INVALID = 11
    COMMANDED_POSITION_LIMITS = 12
    COMMANDED_VELOCITY_LIMITS = 13
    VELOCITY_DISCONTINUITY = 14
    ACCELERATION_DISCONTINUITY = 15
    COMMUNICATION_CONSTRAINTS = 25
    TORQUE_DISCONTINUITY = 32
    TORQUE_RANGE = 34


ERRORS = 41

_F = "<f4"
ARM_STATE = np.dtype(
    [
        ("message_id", "<u8"),
        *((name, _F, 16) for name in ("O_T_EE", "O_T_EE_d", "F_T_EE", "EE_T_K", "F_T_NE", "NE_T_EE")),
        ("m_ee", _F),
        ("I_ee", _F, 9),
        ("F_x_Cee", _F, 3),
        ("m_load", _F),
        ("I_load", _F, 9),
        ("F_x_Cload", _F, 3),
        ("elbow", _F, 2),
        ("elbow_d", _F, 2),
        *((name, _F, 7) for name in ("tau_J", "tau_J_d", "dtau_J", "q", "q_d", "dq", "dq_d", "ddq_d", "joint_contact")),
        ("cartesian_contact", _F, 6),
        ("joint_collision", _F, 7),
        ("cartesian_collision", _F, 6),
        ("tau_ext_hat_filtered", _F, 7),
        *((name, _F, 6) for name in ("O_F_ext_hat_K", "K_F_ext_hat_K", "O_dP_EE_d")),
        ("O_ddP_O", _F, 3),
        *((name, _F, 2) for name in ("elbow_c", "delbow_c", "ddelbow_c")),
        ("O_T_EE_c", _F, 16),
        ("O_dP_EE_c", _F, 6),
        ("O_ddP_EE_c", _F, 6),
        ("theta", _F, 7),
        ("dtheta", _F, 7),
        ("accelerometer_top", _F, (6, 3)),
        ("accelerometer_bottom", _F, (6, 3)),
        ("motion_generator_mode", "u1"),
        ("controller_mode", "u1"),
        ("errors", "?", ERRORS),
        ("reflex_reason", "?", ERRORS),
        ("robot_mode", "u1"),
        ("control_command_success_rate", _F),
    ]
)
"""The arm's state, sent every millisecond."""

COMMAND = np.dtype(
    [
        ("message_id", "<u8"),
        ("q_c", "<f8", 7),
        ("dq_c", "<f8", 7),
        ("O_T_EE_c", "<f8", 16),
        ("O_dP_EE_c", "<f8", 6),
        ("elbow_c", "<f8", 2),
        ("valid_elbow", "?"),
        ("motion_generation_finished", "?"),
        ("tau_J_d", "<f8", 7),
        ("torque_command_finished", "?"),
    ]
)
"""The client's answer to a state."""

HAND_STATE = np.dtype(
    [("message_id", "<u4"), ("width", "<f8"), ("max_width", "<f8"), ("is_grasped", "?"), ("temperature", "<u2")]
)

CONNECT = Struct("<HH")
MOVE = Struct("<II6d?7d")
COLLISION_BEHAVIOR = Struct("<52d")
JOINT_IMPEDANCE = Struct("<7d")
CARTESIAN_IMPEDANCE = Struct("<6d")
GUIDING_MODE = Struct("<7?")
TRANSFORM = Struct("<16d")
LOAD = Struct("<13d")
HAND_GRASP = Struct("<5d")
HAND_MOVE = Struct("<2d")


@dataclass(frozen=True)
class Port:
    """How one of the two services frames its messages: header, status and version."""

    number: int
    version: int
    header: Struct
    status: Struct

    def answer(self, request: int, number: int, status: int, extra: bytes = b"") -> bytes:
        """A response: header, status and what the request asked for."""
        body = self.status.pack(status) + extra
        return self.header.pack(request, number, self.header.size + len(body)) + body


ARM = Port(ARM_PORT, ARM_VERSION, Struct("<III"), Struct("<B"))
HAND = Port(HAND_PORT, HAND_VERSION, Struct("<HII"), Struct("<H"))

LONGEST_REQUEST = 4096


class Link:
    """One client's connection: requests over TCP, states and commands over UDP. Never blocks."""

    def __init__(self, port: Port, tcp: socket.socket, udp: socket.socket) -> None:
        self.tcp, self.udp = tcp, udp
        self.port = port
        self.open = True
        self._bytes = self._answers = b""
        tcp.setblocking(False)
        tcp.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def requests(self) -> Iterator[tuple[int, int, bytes]]:
        """What has arrived: (request, its number, payload). A closed or garbled connection is no longer open."""
        self._receive()
        size = self.port.header.size
        while len(self._bytes) >= size:
            request, number, length = self.port.header.unpack_from(self._bytes)
            if not size <= length <= LONGEST_REQUEST:
                self.open = False
                return
            if len(self._bytes) < length:
                return
            payload, self._bytes = self._bytes[size:length], self._bytes[length:]
            yield request, number, payload

    def _receive(self) -> None:
        """Take everything, to the end of a closed connection."""
        try:
            while received := self.tcp.recv(65536):
                self._bytes += received
        except BlockingIOError:
            return
        except OSError:
            pass
        self.open = False

    def answer(self, request: int, number: int, status: int, extra: bytes = b"") -> None:
        """Respond at the next :meth:`flush`."""
        self._answers += self.port.answer(request, number, status, extra)

    def flush(self) -> None:
        """Send the responses; a client that takes none is lost."""
        answers, self._answers = self._answers, b""
        try:
            if answers:
                self.tcp.sendall(answers)
        except OSError:
            self.open = False

    def greet(self, number: int, payload: bytes) -> bool:
        """Answer Connect, and send states to the client's UDP port from now on. False: another protocol version."""
        version, udp_port = CONNECT.unpack(payload)
        good = bool(version == self.port.version)
        self.answer(0, number, CONNECTED if good else INCOMPATIBLE, Struct("<H").pack(self.port.version))
        if good:
            self.udp.connect((self.tcp.getpeername()[0], udp_port))
        return good

    def close(self) -> None:
        """End it, after the last responses. Safe to call twice."""
        self.flush()
        self.open = False
        self.tcp.close()
        self.udp.close()
