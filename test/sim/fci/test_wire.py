"""The protocol byte by byte, where a library does not go: other versions, garbled messages, two answers at once."""

import socket
from collections.abc import Iterator
from contextlib import suppress
from typing import Self
from xml.etree import ElementTree

import numpy as np
import pytest
from sim.fci.robots import serve, wait_until

from stvla_ros.sim.fci import wire
from stvla_ros.sim.fci.cell import FciCell
from stvla_ros.sim.fci.server import FciServer
from stvla_ros.sim.fci.wire import ArmRequest, Error, HandRequest, HandStatus, MoveStatus, Port, RobotMode, StopStatus


@pytest.fixture(scope="module")
def server(cell: FciCell) -> Iterator[FciServer]:
    server = serve(cell)
    yield server
    server.close()


class Raw:
    """A client of plain sockets."""

    def __init__(self, server: FciServer, port: Port) -> None:
        self._port = port
        self.tcp = socket.create_connection((server.config.hostname, port.number), 10.0)
        self.udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.udp.bind(("0.0.0.0", 0))
        self.udp.settimeout(10.0)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.tcp.close()
        self.udp.close()

    def ask(self, request: int, number: int, payload: bytes = b"") -> None:
        size = self._port.header.size + len(payload)
        self.tcp.sendall(self._port.header.pack(request, number, size) + payload)

    def answer(self) -> tuple[int, int, bytes]:
        """Request, its number, and the body."""
        request, number, size = self._port.header.unpack(self._read(self._port.header.size))
        return request, number, self._read(size - self._port.header.size)

    def _read(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            more = self.tcp.recv(size - len(data))
            assert more, "the connection was closed"
            data += more
        return data

    def connect(self, version: int | None = None) -> bytes:
        version = self._port.version if version is None else version
        self.ask(0, 0, wire.CONNECT.pack(version, self.udp.getsockname()[1]))
        return self.answer()[2]

    def closed(self) -> bool:
        try:
            return self.tcp.recv(1) == b""
        except ConnectionResetError:
            return True


def test_sizes() -> None:
    """As in libfranka: ``sizeof`` of the packed structures."""
    sizes = (wire.ARM_STATE.itemsize, wire.COMMAND.itemsize, wire.HAND_STATE.itemsize, wire.MOVE.size)
    assert sizes == (1377, 371, 23, 113)


@pytest.mark.parametrize("port", [wire.ARM, wire.HAND], ids=["arm", "hand"])
def test_another_version_is_told_ours(server: FciServer, port: Port) -> None:
    with Raw(server, port) as client:
        body = client.connect(version=5)
        assert body == port.status.pack(wire.INCOMPATIBLE) + bytes([port.version, 0])
        assert client.closed()
    with Raw(server, port) as client:
        assert client.connect() == port.status.pack(wire.CONNECTED) + bytes([port.version, 0])


GARBLED = {
    "not connected": (ArmRequest.GET_ROBOT_MODEL, b"", False),
    "connect twice": (ArmRequest.CONNECT, wire.CONNECT.pack(10, 1), True),
    "unknown request": (77, b"", True),
    "short payload": (ArmRequest.MOVE, b"\0" * 7, True),
    "long payload": (ArmRequest.SET_LOAD, b"\0" * 5000, True),
    "unknown controller": (ArmRequest.MOVE, wire.MOVE.pack(9, 0, *[0.0] * 6, False, *[0.0] * 7), True),
}


@pytest.mark.parametrize("what", GARBLED)
def test_what_is_garbled_closes_the_connection(server: FciServer, what: str) -> None:
    request, payload, connect = GARBLED[what]
    with Raw(server, wire.ARM) as client:
        if connect:
            client.connect()
        client.ask(request, 1, payload)
        while True:
            try:
                client.answer()
            except (AssertionError, ConnectionResetError):
                break
    with Raw(server, wire.ARM) as client:
        assert client.connect()[0] == wire.CONNECTED, "the next one is served"


def test_a_second_client_is_reset_and_the_first_goes_on(server: FciServer) -> None:
    with Raw(server, wire.ARM) as client:
        client.connect()
        with suppress(ConnectionResetError), Raw(server, wire.ARM) as second:
            assert second.closed()
        client.ask(ArmRequest.GET_ROBOT_MODEL, 7)
        assert client.answer()[:2] == (ArmRequest.GET_ROBOT_MODEL, 7)


def test_requests_in_pieces_and_several_at_once(server: FciServer) -> None:
    with Raw(server, wire.ARM) as client:
        client.connect()
        message = wire.ARM.header.pack(ArmRequest.STOP_MOVE, 3, 12)
        for byte in message:
            client.tcp.sendall(bytes([byte]))
        assert client.answer() == (ArmRequest.STOP_MOVE, 3, b"\0")
        client.tcp.sendall(message + wire.ARM.header.pack(ArmRequest.AUTOMATIC_ERROR_RECOVERY, 4, 12))
        assert [client.answer()[1] for _ in range(2)] == [3, 4]


def test_states_count_milliseconds(server: FciServer) -> None:
    with Raw(server, wire.ARM) as client:
        client.connect()
        records = [np.frombuffer(client.udp.recv(2048), wire.ARM_STATE)[0] for _ in range(20)]
    assert np.diff([r["message_id"] for r in records]).tolist() == [1] * 19


def test_the_model_is_an_arm_without_a_hand(server: FciServer) -> None:
    with Raw(server, wire.ARM) as client:
        client.connect()
        client.ask(ArmRequest.GET_ROBOT_MODEL, 1)
        body = client.answer()[2]
    robot = ElementTree.fromstring(body[1:])
    joints = [joint.get("name") for joint in robot.iter("joint") if joint.get("type") == "revolute"]
    assert joints == [f"joint{i}" for i in range(1, 8)]
    assert len(list(robot.iter("position_based_velocity_limits"))) == 7
    assert "link8" in {link.get("name") for link in robot.iter("link")}


def test_commands_that_are_not_numbers_are_a_reflex(cell: FciCell, server: FciServer) -> None:
    """libfranka refuses to send them; others may not."""
    with Raw(server, wire.ARM) as client:
        client.connect()
        client.ask(ArmRequest.MOVE, 1, wire.MOVE.pack(0, 0, *[0.0] * 6, False, *[0.0] * 7))
        assert client.answer()[2] == bytes([MoveStatus.MOTION_STARTED])
        command = np.zeros(1, wire.COMMAND)
        command["q_c"] = np.nan
        modes = []
        while RobotMode.REFLEX not in modes:
            data, address = client.udp.recvfrom(2048)
            state = np.frombuffer(data, wire.ARM_STATE)[0]
            modes.append(state["robot_mode"])
            command["message_id"] = state["message_id"]
            client.udp.sendto(command.tobytes(), address)
        assert modes.count(RobotMode.MOVE) < 100
        assert state["errors"][Error.VELOCITY_DISCONTINUITY] or state["errors"][Error.START_POSE_INVALID]
        assert client.answer()[2] == bytes([MoveStatus.REFLEX_ABORTED])
        assert np.isfinite(cell.q).all()
        client.ask(ArmRequest.AUTOMATIC_ERROR_RECOVERY, 2)
        assert client.answer()[1:] == (2, b"\0")


def test_a_command_for_the_last_motion_does_not_end_the_next(server: FciServer) -> None:
    """A client answers several states with the end of a motion; the last answer may arrive when the next has begun."""
    with Raw(server, wire.ARM) as client:
        client.connect()
        data, address = client.udp.recvfrom(2048)
        client.ask(ArmRequest.MOVE, 1, wire.MOVE.pack(0, 0, *[0.0] * 6, False, *[0.0] * 7))
        assert client.answer()[2] == bytes([MoveStatus.MOTION_STARTED])
        state, command = np.frombuffer(data, wire.ARM_STATE)[0], np.zeros(1, wire.COMMAND)
        command["message_id"], command["q_c"] = state["message_id"], state["q_d"]
        command["motion_generation_finished"] = True
        client.udp.sendto(command.tobytes(), address)
        modes = [np.frombuffer(client.udp.recv(2048), wire.ARM_STATE)[0]["robot_mode"] for _ in range(40)]
        assert modes[-10:] == [RobotMode.MOVE] * 10
        client.ask(ArmRequest.STOP_MOVE, 2)
        assert [client.answer()[2] for _ in range(2)] == [bytes([MoveStatus.PREEMPTED]), bytes([StopStatus.SUCCESS])]


def test_a_new_client_is_not_told_what_the_last_one_asked_for(server: FciServer) -> None:
    """Numbers of requests begin anew: an old answer would be taken for a new one."""
    with Raw(server, wire.ARM) as client, Raw(server, wire.HAND) as hand:
        client.connect()
        client.ask(ArmRequest.MOVE, 1, wire.MOVE.pack(0, 0, *[0.0] * 6, False, *[0.0] * 7))
        client.answer()
        hand.connect()
        hand.ask(HandRequest.MOVE, 1, wire.HAND_MOVE.pack(0.079, 0.01))
    with Raw(server, wire.ARM) as client, Raw(server, wire.HAND) as hand:
        client.connect()
        hand.connect()
        wait_until(lambda: server.mode is RobotMode.IDLE and not server.hand_moves)
        client.ask(ArmRequest.STOP_MOVE, 7)
        hand.ask(HandRequest.STOP, 7)
        assert client.answer()[1] == hand.answer()[1] == 7


def test_stop_answers_the_pending_move_of_the_hand(server: FciServer) -> None:
    with Raw(server, wire.HAND) as client:
        client.connect()
        client.ask(HandRequest.MOVE, 1, wire.HAND_MOVE.pack(0.01, 0.0001))
        wait_until(lambda: server.hand_moves)
        client.ask(HandRequest.STOP, 2)
        answers = [client.answer() for _ in range(2)]
    assert [(number, body) for _, number, body in answers] == [
        (1, wire.HAND.status.pack(HandStatus.ABORTED)),
        (2, wire.HAND.status.pack(HandStatus.SUCCESS)),
    ]


def test_a_new_command_of_the_hand_aborts_the_running_one(server: FciServer) -> None:
    with Raw(server, wire.HAND) as client:
        client.connect()
        client.ask(HandRequest.GRASP, 1, wire.HAND_GRASP.pack(0.01, 0.005, 0.005, 0.0001, 10.0))
        client.ask(HandRequest.MOVE, 2, wire.HAND_MOVE.pack(0.08, 0.1))
        answers = [client.answer() for _ in range(2)]
    assert [(number, body) for _, number, body in answers] == [
        (1, wire.HAND.status.pack(HandStatus.ABORTED)),
        (2, wire.HAND.status.pack(HandStatus.SUCCESS)),
    ]
