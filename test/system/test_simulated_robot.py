"""Time in the simulated robot: it passes whatever becomes of the messages about it. No messages are sent here."""

import time
from threading import Event, Thread

import numpy as np
import pytest

from stvla_ros.description.panda import HOME_Q_RAD
from stvla_ros.ros.simulated_robot import RealTime
from stvla_ros.sim import scene
from stvla_ros.sim.cell import Cell
from stvla_ros.types import JointPath


@pytest.fixture
def cell():
    made = Cell()
    made.reset("pick_place", 0)
    yield made
    made.close()


def wait(condition, timeout_s=20.0):
    until = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.005)


def test_physics_and_a_stop_go_on_while_a_joint_state_is_stuck_on_its_way(cell):
    gate, sent = Event(), []

    def send(state):
        sent.append(state)
        gate.wait(60.0)

    real = RealTime(cell, send, 100.0)
    real.start()
    wait(lambda: sent)
    path = HOME_Q_RAD + 0.5 * np.linspace(0.0, 1.0, 51)[:, None] * np.eye(7)[0]
    cell.follow(JointPath(path, np.full((51, 7), 0.05) * np.eye(7)[0], np.linspace(0.0, 10.0, 51)))
    wait(lambda: cell.state().q_rad[0] > HOME_Q_RAD[0] + 0.01)
    cell.cancel()
    wait(lambda: not cell.moving)
    assert len(sent) == 1
    assert cell.state().q_rad[0] < HOME_Q_RAD[0] + 0.4, "it was stopped on its way"
    gate.set()
    wait(lambda: len(sent) > 2)
    assert sent[1].stamp_ns > sent[0].stamp_ns + 100_000_000, "then the newest is sent, not what has piled up"
    assert real.close(5.0)


def test_stamps_rise_and_never_lead_the_clock_also_when_a_scene_is_laid(cell):
    seen = []
    real = RealTime(cell, lambda state: seen.append((time.time_ns(), state.stamp_ns)), 200.0)
    real.start()
    looked, end = [], Event()

    def look():
        while not end.wait(0.001):
            stamp_ns = real.stamp_ns(cell.time_ns)
            looked.append((time.time_ns(), stamp_ns))

    watcher = Thread(target=look)
    watcher.start()
    for seed in range(4):
        cell.reset("pick_place", seed)  # settles for 0.1 s of its own time, in much less of ours
        count = len(seen)
        wait(lambda count=count: len(seen) > count + 5)
    end.set()
    watcher.join()
    assert real.close(5.0)
    for name, pairs in (("joint state", seen), ("image", looked)):
        now, stamps = np.array(pairs).T
        assert (stamps <= now).all(), f"a {name} came from the future"
    assert (np.diff([stamp for _, stamp in seen]) > 0).all(), "joint states go back in time"


def test_the_table_is_laid_beside_running_physics(cell, monkeypatch):
    """Only the exchange of the scene holds physics up, not the compilation of the new one."""
    gate, began, add_surroundings = Event(), Event(), scene.add_surroundings

    def slowly(spec):
        began.set()
        gate.wait(60.0)
        add_surroundings(spec)

    monkeypatch.setattr(scene, "add_surroundings", slowly)  # a part of every scene's compilation
    laying = Thread(target=cell.reset, args=("stack_cube", 1))
    laying.start()
    assert began.wait(20.0)
    before = cell.time_ns
    Thread(target=cell.advance, args=(0.05,), daemon=True).start()
    wait(lambda: cell.time_ns >= before + 50_000_000)
    gate.set()
    laying.join(20.0)
    assert cell.instruction.startswith("Stack")
