"""The simulated hand behind its Control Interface, and motions of the arm, as genuine libfranka (franky) sees them."""

from collections.abc import Iterator
from importlib.util import find_spec

import numpy as np
import pytest
from sim.fci.child import Child
from sim.fci.robots import serve, wait_until
from sim.motions import downward, inverse, square_yaw

from stvla_ros.description.panda import HOME_Q_RAD
from stvla_ros.sim.fci.cell import FciCell
from stvla_ros.sim.fci.server import FciServer

pytestmark = pytest.mark.skipif(find_spec("franky") is None, reason="franky is not installed")


@pytest.fixture(scope="module")
def server(cell: FciCell) -> Iterator[FciServer]:
    """The hand is not homed, and moves in wall time, so that it can be interrupted."""
    server = serve(cell, homed=False)
    yield server
    server.close()


@pytest.fixture(scope="module")
def library() -> Iterator[Child]:
    with Child("with_franky.py") as child:
        yield child


@pytest.fixture
def client(server: FciServer, library: Child) -> Child:
    library.call("connect", host=server.config.hostname)
    return library


def do(client: Child, name: str, *values: float) -> object:
    return client.call("hand_call", name=name, values=values)


def test_a_hand_must_be_homed_first(client: Child) -> None:
    assert client.call("fingers")["max_width"] == 0.0
    assert do(client, "move", 0.05, 0.1) == "CommandException: libfranka gripper: Command failed!"
    assert do(client, "homing") is True
    assert client.call("fingers")["max_width"] == pytest.approx(0.08, abs=2e-4)


def test_move(client: Child) -> None:
    for width in (0.03, 0.07):
        assert do(client, "move", width, 0.1) is True
        assert client.call("fingers")["width"] == pytest.approx(width, abs=5e-4)
    assert do(client, "move", 0.09, 0.1) == "CommandException: libfranka gripper: Command failed!"
    assert client.call("fingers")["temperature"] > 0


def block_between_fingers(cell: FciCell) -> None:
    """The arm is around the first block, which is 4 cm wide."""
    name = cell.task.objects[0].name
    T = cell.truth().T_base_object[name]
    cell.set_state(inverse(downward(*T[:3, 3], square_yaw(T))), 0.079)


def test_grasp(cell: FciCell, client: Child) -> None:
    block_between_fingers(cell)
    assert do(client, "grasp", 0.02, 0.1, 20.0, 0.005, 0.005) is False, "the block is wider than that"
    wait_until(lambda: client.call("fingers")["width"] > 0.07)  # it lets go
    assert not client.call("fingers")["is_grasped"]
    assert do(client, "grasp", 0.0, 0.1, 20.0, 0.08, 0.08) is True
    held = client.call("fingers")
    assert held["is_grasped"]
    assert 0.02 < held["width"] < 0.06
    assert do(client, "grasp", held["width"], 0.1, 20.0, 0.005, 0.005) is True
    assert client.call("move", joint=1, by=-0.1) == ""
    assert client.call("fingers")["is_grasped"], "still, after a motion of the arm"
    assert do(client, "move", 0.075, 0.1) is True
    assert not client.call("fingers")["is_grasped"]


def test_nothing_between_the_fingers(cell: FciCell, client: Child) -> None:
    cell.set_state(HOME_Q_RAD, 0.079)
    assert do(client, "grasp", 0.04, 0.1, 20.0, 0.005, 0.005) is False
    assert do(client, "grasp", 0.0, 0.1, 20.0, 0.08, 0.08) is True, "as on a robot: the width decides"
    assert not client.call("fingers")["is_grasped"]


@pytest.mark.parametrize(
    ("how", "end"), [("brake", True), ("stop", "ControlException: libfranka: Move command preempted!")]
)
def test_a_motion_is_ended_early(cell: FciCell, client: Child, how: str, end: object) -> None:
    cell.set_state(HOME_Q_RAD, 0.079)
    ended = client.call("interrupt", joint=0, by=1.0, after=0.4, how=how)
    assert ended["end"] == end
    assert ended["speed"] > 0.2
    assert ended["took"] < 0.35
    assert client.call("arm")["mode"] == "Idle"
    assert client.call("move", joint=0, by=-0.1) == ""


def test_a_long_motion_arrives(cell: FciCell, client: Child) -> None:
    cell.set_state(HOME_Q_RAD, 0.079)
    assert client.call("move", joint=0, by=0.5) == ""
    np.testing.assert_allclose(client.call("arm")["q"], HOME_Q_RAD + 0.5 * np.eye(7)[0], atol=5e-3)


def test_a_task_is_done_through_libfranka(cell: FciCell, client: Child) -> None:
    """A block is put into the plate, and the score says so."""
    cell.reset("pick_place", 3)
    poses = cell.truth().T_base_object
    block, plate = poses[cell.task.objects[0].name], poses["plate"]
    above, around = block[:3, 3] + [0.0, 0.0, 0.12], block[:3, 3]
    target = plate[:3, 3] + [0.0, 0.0, 0.15]
    assert do(client, "move", 0.075, 0.1) is True
    q = HOME_Q_RAD
    for place, fingers in (
        (above, None),
        (around, 0.0),
        (above, None),
        (target, None),
        (target - [0, 0, 0.1], 0.07),
        (target, None),
    ):
        q = inverse(downward(*place, square_yaw(block)), q)
        assert client.call("go", q=q.tolist()) == ""
        if fingers is not None:
            name, values = ("grasp", [0.0, 0.1, 30.0, 0.08, 0.08]) if fingers == 0.0 else ("move", [fingers, 0.1])
            assert do(client, name, *values) is True
    assert cell.score().success, cell.score().detail
