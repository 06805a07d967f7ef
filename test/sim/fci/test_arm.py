"""The simulated arm behind its Control Interface, as genuine libfranka (pylibfranka) sees it."""

from collections.abc import Iterator
from dataclasses import replace
from importlib.util import find_spec
from typing import Any

import numpy as np
import pytest
from sim.fci.child import Child
from sim.fci.robots import serve, wait_until
from sim.motions import downward, inverse

from stvla_ros.description.kinematics import tcp_pose
from stvla_ros.description.panda import HOME_Q_RAD
from stvla_ros.sim.fci.cell import FciCell
from stvla_ros.sim.fci.server import FciServer
from stvla_ros.sim.fci.wire import RobotMode

pytestmark = pytest.mark.skipif(find_spec("pylibfranka") is None, reason="pylibfranka is not installed")


@pytest.fixture(scope="module")
def server(cell: FciCell) -> Iterator[FciServer]:
    server = serve(cell)
    yield server
    server.close()


@pytest.fixture(scope="module")
def library() -> Iterator[Child]:
    with Child("with_pylibfranka.py") as child:
        yield child


@pytest.fixture
def client(cell: FciCell, server: FciServer, library: Child) -> Iterator[Child]:
    """Connected to an arm at home."""
    cell.set_state(HOME_Q_RAD, 0.08)
    library.call("connect", host=server.config.hostname)
    yield library
    assert library.call("recover") == ""


def lag(run: dict[str, Any]) -> float:
    """Largest distance between the measured positions and those commanded before."""
    return max(float(np.abs(np.subtract(q, commanded)).max()) for _, q, commanded in run["log"])


def test_the_state_tells_the_truth_at_rest(client: Child) -> None:
    state = client.call("state")
    assert state["mode"] == "Idle"
    assert state["errors"] == state["last_errors"] == "[]"
    np.testing.assert_allclose(state["q"], HOME_Q_RAD, atol=1e-5)
    np.testing.assert_allclose(state["q_d"], HOME_Q_RAD, atol=1e-6)
    np.testing.assert_allclose(np.reshape(state["O_T_EE"], (4, 4)).T, tcp_pose(state["q"]), atol=1e-6)
    assert state["F_T_EE"][14] == pytest.approx(0.1034)
    assert state["m_ee"] == pytest.approx(0.76)
    assert state["control_command_success_rate"] == 0.0
    np.testing.assert_allclose(state["tau_ext_hat_filtered"], 0.0, atol=1e-3)
    np.testing.assert_allclose(state["tau_J"], client.call("gravity"), atol=0.01)


@pytest.mark.parametrize("interface", ["position", "velocity", "torque"])
def test_a_motion_is_followed(client: Child, interface: str) -> None:
    """Peak velocity 0.55 rad/s."""
    run = client.call("move", interface=interface, by=0.13, duration=0.44)
    assert run["error"] == ""
    assert lag(run) < 0.005
    assert len(run["log"]) >= 440
    end = client.call("rest")
    assert end["q"][0] == pytest.approx(0.13, abs=0.003)
    assert end["mode"] == "Idle"


def test_equal_runs_at_any_load(cell: FciCell, client: Child) -> None:
    """A client that is often late changes nothing: the robot waits."""
    runs = []
    for pause in (0.0, 0.03):
        cell.reset("pick_place", 0)
        run = client.call("move", by=0.2, duration=0.4, pause=pause)
        assert run["error"] == ""
        runs.append({round(t, 3): q for t, q, _ in run["log"]})
    assert len(runs[0].keys() & runs[1].keys()) > 395
    for t in runs[0].keys() & runs[1].keys():
        np.testing.assert_allclose(runs[0][t], runs[1][t], atol=1e-6)


REFLEXES = {
    "joint_position_motion_generator_start_pose_invalid": {"fault": "start", "size": 0.3},
    "joint_motion_generator_velocity_discontinuity": {"fault": "jump", "size": 0.1},
    "joint_motion_generator_acceleration_discontinuity": {"interface": "velocity", "fault": "jump", "size": 0.009},
    "joint_motion_generator_velocity_limits_violation": {"by": 1.2, "duration": 0.95},
    "joint_motion_generator_position_limits_violation": {"joint": 3, "by": -0.8, "duration": 0.9},
    "controller_torque_discontinuity": {"interface": "torque", "fault": "jump", "size": 10.0},
    "tau_J_range_violation": {"interface": "torque", "fault": "ramp", "size": 900.0, "joint": 5, "at": 0.02, "by": 0.0},
    "joint_velocity_violation": {
        "interface": "torque",
        "fault": "ramp",
        "size": 200.0,
        "joint": 3,
        "by": 0.0,
        "at": 0.05,
    },
}


@pytest.mark.parametrize("error", REFLEXES)
def test_a_wrong_command_is_a_reflex_until_recovery(client: Child, error: str) -> None:
    run = client.call("move", **REFLEXES[error])
    assert run["error"].startswith("ControlException: libfranka: Move command aborted: motion aborted by reflex!")
    assert f'"{error}"' in run["error"]
    after = client.call("rest")
    assert after["mode"] == "Reflex"
    assert error in after["errors"]
    assert error in after["last_errors"]
    assert after["took"] < 0.2, "comes to rest, in robot time"
    assert 'not possible in the current mode ("Reflex")' in client.call("move")["error"]
    assert client.call("recover") == ""
    after = client.call("state")
    assert (after["mode"], after["errors"]) == ("Idle", "[]")
    assert client.call("move", by=-0.02, duration=0.1)["error"] == ""
    assert client.call("state")["last_errors"] == "[]"


def test_the_end_of_a_motion_must_be_at_rest(client: Child) -> None:
    run = client.call("move", fault="finish")
    assert "Motion finished commanded, but the robot is still moving!" in run["error"]
    assert client.call("rest")["mode"] == "Reflex"


def test_a_silent_client(server: FciServer, client: Child) -> None:
    patient, server.config = server.config, replace(server.config, answer_limit_s=0.06)
    run = client.call("move", fault="silence", size=0.4)
    server.config = patient
    assert "communication_constraints_violation" in run["error"]
    assert client.call("rest")["mode"] == "Reflex"


@pytest.mark.parametrize("lost", [19, 20])
def test_lost_commands(cell: FciCell, server: FciServer, client: Child, lost: int) -> None:
    """The robot goes on with constant acceleration for 19 cycles; 20 are a reflex."""
    client.start("move", by=0.15, duration=1.0)
    wait_until(lambda: np.abs(cell.dq).max() > 0.1)
    server.lose = lost
    run = client.result()
    assert ("communication_constraints_violation" in run["error"]) == (lost == 20)
    if lost == 19:
        assert run["error"] == ""
        assert lag(run) < 0.005
        assert run["rate"] == pytest.approx(0.81)


def test_contact(cell: FciCell, client: Child) -> None:
    """The open hand is pressed onto the table: a push down is a negative force of the robot along z."""
    cell.set_state(inverse(downward(0.4, 0.25, 0.02)), 0.04)
    thresholds = {"felt_nm": [20.0] * 7, "hit_nm": [50.0] * 7, "felt_n": [10.0] * 6, "hit_n": [30.0] * 6}
    assert client.call("request", name="set_collision_behavior", **thresholds) == ""
    run = client.call("move", joint=1, by=0.15, duration=1.0)
    assert '"cartesian_reflex"' in run["error"]
    state = client.call("state")
    assert state["O_F_ext_hat_K"][2] < -10.0
    assert client.call("rest")["mode"] == "Reflex"
    assert client.call("recover") == ""
    assert client.call("move", joint=1, by=-0.1, duration=0.5)["error"] == ""
    np.testing.assert_allclose(client.call("state")["O_F_ext_hat_K"], 0.0, atol=0.1)
    thresholds |= {"hit_nm": [5.0] * 7, "hit_n": [500.0] * 6}
    assert client.call("request", name="set_collision_behavior", **thresholds) == ""
    assert '"joint_reflex"' in client.call("move", joint=1, by=0.2, duration=1.0)["error"]


def in_motion(cell: FciCell, client: Child) -> None:
    """A long motion has begun."""
    client.start("move", by=1.0, duration=4.0)
    wait_until(lambda: bool(np.abs(cell.dq).max() > 0.05))


def test_user_stop(cell: FciCell, server: FciServer, client: Child) -> None:
    in_motion(cell, client)
    server.user_stop(True)
    assert "Move command aborted: User Stop pressed!" in client.result()["error"]
    state = client.call("rest")
    assert (state["mode"], state["errors"]) == ("UserStopped", "[]")
    assert 'not possible in the current mode ("User stopped")' in client.call("move")["error"]
    assert 'not possible in the current mode ("User stopped")' in client.call("recover")
    server.user_stop(False)
    assert server.mode is RobotMode.IDLE
    assert client.call("recover") == ""
    assert client.call("move")["error"] == ""


def test_safety_function(cell: FciCell, server: FciServer, client: Child) -> None:
    in_motion(cell, client)
    server.safety_function(True)
    assert "preempted due to activated safety function!" in client.result()["error"]
    client.call("rest")
    for what in (client.call("move")["error"], client.call("recover")):
        assert "rejected due to activated safety function!" in what
    server.safety_function(False)
    assert server.mode is RobotMode.IDLE
    assert client.call("move")["error"] == ""


def test_a_scene_laid_out_in_motion_ends_it(cell: FciCell, server: FciServer, client: Child) -> None:
    in_motion(cell, client)
    cell.reset("pick_place", 1)
    assert "Move command aborted!" in client.result()["error"]
    np.testing.assert_allclose(client.call("state")["q_d"], HOME_Q_RAD, atol=1e-3)
    assert client.call("move")["error"] == ""


def test_settings(client: Child) -> None:
    turn = [0.0, 1.0, 0.0, 0.0, -1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.1, 0.2, 0.3, 1.0]
    inertia = [1e-3, 0.0, 0.0, 0.0, 1e-3, 0.0, 0.0, 0.0, 1e-3]
    requests: list[tuple[str, list[Any]]] = [
        ("set_load", [0.5, [0.0, 0.1, 0.2], inertia]),
        ("set_K", [turn]),
        ("set_joint_impedance", [[2000.0] * 7]),
        ("set_cartesian_impedance", [[1000.0] * 6]),
    ]
    for name, values in requests:
        assert client.call("request", name=name, **{str(i): v for i, v in enumerate(values)}) == ""
    state = client.call("state")
    assert state["m_load"] == 0.5
    np.testing.assert_allclose(state["F_x_Cload"], [0.0, 0.1, 0.2], atol=1e-6)
    np.testing.assert_allclose(state["EE_T_K"], turn, atol=1e-6)
    client.call("wait", seconds=0.2)
    empty = client.call("state")["O_F_ext_hat_K"]
    assert empty[2] == pytest.approx(-0.5 * 9.81, abs=0.3), "nothing is held: the hand seems to be pushed up"
    assert client.call("request", name="set_EE", T=turn) == ""
    state = client.call("state")
    T = tcp_pose(HOME_Q_RAD) @ np.reshape(turn, (4, 4)).T
    np.testing.assert_allclose(np.reshape(state["O_T_EE"], (4, 4)).T, T, atol=1e-5)
    bad = {"T": [2.0, *turn[1:]]}
    assert "rejected: invalid argument" in client.call("request", name="set_K", **bad)
    assert client.call("request", name="set_EE", T=list(np.eye(4).ravel())) == ""
    assert client.call("request", name="set_load", m=0.0, c=[0.0] * 3, i=[0.0] * 9) == ""


def test_what_is_not_simulated_is_refused(client: Child) -> None:
    for name in ("start_cartesian_pose_control", "start_cartesian_velocity_control"):
        assert "command rejected: command not possible" in client.call("start_cartesian", name=name)
    assert client.call("move")["error"] == ""


def test_a_second_client_is_refused_and_disturbs_nobody(server: FciServer, client: Child) -> None:
    client.start("move", by=0.1, duration=1.0)
    with Child("with_pylibfranka.py") as other:
        what = other.call("try_second", host=server.config.hostname)
    assert what.startswith("NetworkException")
    assert client.result()["error"] == ""


def test_a_client_that_dies_in_motion_leaves_an_arm_at_rest(cell: FciCell, server: FciServer, library: Child) -> None:
    library.call("disconnect")
    with Child("with_pylibfranka.py") as client:
        client.call("connect", host=server.config.hostname)
        in_motion(cell, client)
    wait_until(lambda: server.mode is RobotMode.IDLE and bool(np.abs(cell.dq).max() < 0.01))
    with Child("with_pylibfranka.py") as client:
        client.call("connect", host=server.config.hostname)
        assert client.call("move")["error"] == ""


@pytest.fixture(scope="module")
def bench() -> Iterator[FciCell]:
    """Another cell, for other servers: only one steps it."""
    made = FciCell()
    yield made
    made.close()


def test_a_lost_network(bench: FciCell) -> None:
    """Cut in motion: the arm stops by its own reflex. Killed: the client knows at once."""
    other = serve(bench)
    with Child("with_pylibfranka.py") as library:
        library.call("connect", host=other.config.hostname)
        in_motion(bench, library)
        patient, other.config = other.config, replace(other.config, answer_limit_s=0.1)
        other.connect(False)
        assert "NetworkException: libfranka: UDP receive: Timeout" in library.result()["error"]
        wait_until(lambda: other.mode is RobotMode.REFLEX)
        other.connect(True)
        other.config = patient
        library.call("connect", host=other.config.hostname)
        assert library.call("recover") == ""
        in_motion(bench, library)
        assert other.close()
        assert "NetworkException" in library.result()["error"]


def test_robot_time_follows_the_clock_and_skips_nothing(bench: FciCell) -> None:
    other = serve(bench, real_time=True, answer_limit_s=0.5)
    with Child("with_pylibfranka.py") as library:
        library.call("connect", host=other.config.hostname)
        run = library.call("move", duration=0.5)
        times = np.array([t for t, _, _ in run["log"]])
        behind = other.behind_s
    other.close()
    assert run["error"] == ""
    assert np.diff(times).max() == pytest.approx(0.001, abs=1e-9)
    assert behind > -0.01
