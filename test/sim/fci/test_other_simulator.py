"""What our tests expect of a robot, an independent simulator of the same protocol does too: franky-sim, if installed."""

import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec

import numpy as np
import pytest
from sim.fci.child import Child
from sim.fci.robots import free_address

from stvla_ros.description.kinematics import tcp_pose

missing = [name for name in ("franky_sim", "pylibfranka") if find_spec(name) is None]
pytestmark = pytest.mark.skipif(bool(missing), reason=f"not installed: {missing}")


@pytest.fixture(scope="module")
def client() -> Iterator[Child]:
    host = free_address()
    command = [sys.executable, "-u", "-m", "franky_sim.run_server", "--simulator", "mujoco", "--hostname", host]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server, Child("with_pylibfranka.py") as child:
        assert server.stdout is not None
        while host not in server.stdout.readline():
            assert server.poll() is None
        child.call("connect", host=host)
        yield child
        server.kill()


def test_frames_and_hand(client: Child) -> None:
    state = client.call("state")
    assert state["mode"] == "Idle"
    np.testing.assert_allclose(np.reshape(state["O_T_EE"], (4, 4)).T, tcp_pose(state["q"]), atol=2e-3)
    assert state["F_T_EE"][14] == pytest.approx(0.1034)
    assert state["m_ee"] == pytest.approx(0.75, abs=0.03)


@pytest.mark.parametrize("interface", ["position", "velocity"])
def test_motions(client: Child, interface: str) -> None:
    """Its servos lag by 0.1 s times the speed."""
    run = client.call("move", interface=interface, by=0.1, duration=0.6)
    assert run["error"] == ""
    assert max(np.abs(np.subtract(q, commanded)).max() for _, q, commanded in run["log"]) < 0.06


def test_settings(client: Child) -> None:
    assert client.call("request", name="set_load", m=0.5, c=[0.0, 0.1, 0.2], i=[0.0] * 9) == ""
    assert client.call("state")["m_load"] == 0.5
