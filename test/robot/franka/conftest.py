"""Arm and hand in front of the simulated cell's network interface, in lock-step: figures do not depend on the load."""

import os
import time

import numpy as np
import pytest

from stvla_ros.config import ConfigError
from stvla_ros.description.panda import ARM_JOINTS, HOME_Q_RAD
from stvla_ros.description.robot import PANDA
from stvla_ros.motion.timing import scaled_limits, time_curve
from stvla_ros.robot.franka.arm import FrankaArm
from stvla_ros.robot.franka.config import FrankaConfig
from stvla_ros.sim.fci.cell import FciCell
from stvla_ros.sim.fci.server import FciConfig, FciServer
from stvla_ros.types import TrajectoryTolerances

TOLERANCES = TrajectoryTolerances(np.full(7, 0.2), np.full(7, 0.01), 1.5)
UP = np.array([0.4, -0.3, -0.3, 0.2, 0.3, 0.3, 0.4])
"""From home to a posture higher up."""


def serve(cell, **settings):
    """A server at a free loopback address."""
    settings = {"real_time": False, "answer_limit_s": 10.0, "homed": True, **settings}
    for i in range(100):
        address = f"127.{1 + os.getpid() % 250}.{1 + os.getpid() // 250 % 250}.{102 + i}"
        try:
            server = FciServer(cell, FciConfig(address, **settings))
        except ConfigError:
            continue
        server.start()
        return server
    raise AssertionError("no free address")


def settings_for(server, **settings):
    settings = {"connect_timeout_s": 20.0, "silence_s": 5.0, "joint_rate_hz": 1000.0, **settings}
    return FrankaConfig(hostname=server.config.hostname, realtime=False, **settings)


class Rig:
    """An arm with what a test does to it."""

    def __init__(self, server, **settings):
        self.server = server
        self.modes = []
        self.arm = FrankaArm(settings_for(server, **settings), PANDA, ARM_JOINTS, on_change=self._changed)

    def _changed(self):
        self.modes.append(self.arm.report().mode)

    def connect(self):
        self.arm.connect()
        wait_until(lambda: self.arm.state is not None)
        return self

    def path(self, goal=HOME_Q_RAD, scales=(0.5, 0.3, 0.1)):
        start = self.arm.state.q_c
        s = np.linspace(0.0, 1.0, 20)[:, None]
        return time_curve(start + s * (goal - start), scaled_limits(PANDA, *scales))

    def start(self, goal=HOME_Q_RAD, **how):
        return self.arm.start(self.path(goal, **how), TOLERANCES)

    def end(self, number):
        wait_until(lambda: self.arm.ended(number) is not None)
        return self.arm.ended(number)

    def reach(self, cycle, number):
        """Wait for a cycle of a motion."""
        wait_until(
            lambda: self.arm.ended(number) or (self.arm.state.motion == number and self.arm.state.cycle >= cycle)
        )
        assert self.arm.ended(number) is None

    def move(self, goal=HOME_Q_RAD, **how):
        return self.end(self.start(goal, **how))


def wait_until(condition):
    """The test's own time limit ends what never comes."""
    while not condition():
        time.sleep(0.001)


@pytest.fixture(scope="module")
def cell():
    made = FciCell()
    made.reset("pick_place", 0)
    yield made
    made.close()


@pytest.fixture(scope="module")
def server(cell):
    made = serve(cell)
    yield made
    made.close()


@pytest.fixture(scope="module")
def connected(server):
    made = Rig(server)
    yield made
    made.arm.disconnect()


@pytest.fixture
def rig(connected):
    """Connected and at home; a reflex or stop of the test before is cleared."""
    connected.connect().arm.recover()
    if np.abs(connected.arm.state.q_c - HOME_Q_RAD).max() > 0.001:
        assert connected.move().end.name == "REACHED"
    connected.modes.clear()
    yield connected
    connected.server.user_stop(False)
    connected.server.safety_function(False)
