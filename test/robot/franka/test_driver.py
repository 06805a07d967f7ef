"""The driver's processes with genuine libfranka in front of the simulated network interface."""

import os
import signal
import socket
import time
from threading import Thread

import numpy as np
import pytest
from robot.franka.conftest import TOLERANCES, UP, Rig, serve, settings_for, wait_until

from stvla_ros.description.panda import HOME_Q_RAD
from stvla_ros.description.robot import PANDA
from stvla_ros.errors import OutcomeCode, StageError
from stvla_ros.robot.franka import arm as arm_module
from stvla_ros.robot.franka.hand import FrankaHand
from stvla_ros.robot.franka.messages import End, Mode
from stvla_ros.robot.franka.motion import Samples


def test_a_motion_keeps_its_times_to_10_mrad(rig):
    path = rig.path(HOME_Q_RAD + UP)
    ended = rig.end(rig.arm.start(path, TOLERANCES))
    assert ended.end is End.REACHED
    assert ended.statistics.cycles == pytest.approx(1000 * path.t_s[-1], abs=50)
    assert ended.statistics.worst_error_rad < 0.010
    assert ended.statistics.missed == 0
    assert rig.arm.report().mode is Mode.IDLE
    assert Mode.MOVING in rig.modes


def test_stops_at_random_moments_are_quick_and_never_a_reflex(rig):
    rng = np.random.default_rng(0)
    took = []
    for i in range(6):
        path = rig.path(HOME_Q_RAD + UP * (i % 2 == 0))
        number = rig.arm.start(path, TOLERANCES)
        rig.reach(rng.uniform(1, 900 * path.t_s[-1]), number)
        rig.arm.stop(number)
        ended = rig.end(number)
        assert (ended.end, ended.code) == (End.STOPPED, OutcomeCode.CANCELED)
        took.append(ended.statistics.stop_cycles)
        assert np.abs(rig.arm.state.dq).max() < 0.01
    assert max(took) <= 120


def test_a_new_motion_brings_the_old_one_to_rest_first(rig):
    old = rig.start(HOME_Q_RAD + UP)
    rig.reach(200, old)
    path = rig.path(HOME_Q_RAD)  # from where the arm is now, which is not where it will have stopped
    new = rig.arm.start(path, TOLERANCES)
    assert rig.end(old).end is End.STOPPED
    assert rig.end(new).code in (OutcomeCode.OK, OutcomeCode.CONTROLLER_FAILED)
    assert rig.move().end is End.REACHED


def test_paths_that_the_robot_would_refuse_do_not_reach_it(rig):
    elsewhere = rig.path(HOME_Q_RAD + UP)
    assert "starts 0.200 rad from the arm" in rig.end(rig.arm.start(_moved(elsewhere, 0.2), TOLERANCES)).sentence
    fast = rig.path(HOME_Q_RAD + UP, scales=(1.0, 1.0, 1.0))
    ended = rig.end(rig.arm.start(_moved(fast, 0.0, faster=2.0), TOLERANCES))
    assert (ended.code, ended.statistics.cycles) == (OutcomeCode.CONTROLLER_FAILED, 0)
    assert "is allowed" in ended.sentence
    assert rig.arm.report().mode is Mode.IDLE


def _moved(path, by_rad, faster=1.0):
    return type(path)(path.q_rad + by_rad, path.dq_rad_s * faster, path.t_s / faster)


@pytest.mark.parametrize(
    ("error", "spoil"),
    [
        ("joint_motion_generator_velocity_discontinuity", lambda q: q + 0.02 * (np.arange(len(q)) > 50)[:, None]),
        ("joint_motion_generator_acceleration_discontinuity", lambda q: q + 8e-6 * (np.arange(len(q)) > 50)[:, None]),
        ("cartesian_reflex", lambda q: q + np.outer(_ease(len(q)), np.eye(7)[1]) * 1.8),  # into the table
    ],
)
def test_every_reflex_is_typed_and_recovered_and_the_next_motion_succeeds(rig, monkeypatch, error, spoil):
    monkeypatch.setattr(arm_module, "check", lambda *_: None)
    still = np.zeros((4000, 7))
    q = spoil(still + rig.arm.state.q_c)
    monkeypatch.setattr(arm_module, "sample", lambda path: Samples(q, still, still))
    ended = rig.end(rig.start())
    monkeypatch.undo()
    assert (ended.end, ended.code) == (End.FAILED, OutcomeCode.REFLEX)
    assert error in ended.sentence
    assert rig.arm.report().mode is Mode.REFLEX
    assert error in rig.arm.report().errors
    refused = rig.end(rig.start(rig.arm.state.q_c + 0.01))
    assert refused.code is OutcomeCode.REFLEX
    rig.arm.recover()
    assert rig.move(HOME_Q_RAD).end is End.REACHED


def _ease(n):
    x = np.linspace(0.0, 1.0, n)
    return x**3 * (10.0 - 15.0 * x + 6.0 * x**2)


def test_a_silent_driver_is_a_reflex_of_communication(cell):
    server = serve(cell, real_time=True, answer_limit_s=0.05)
    rig = Rig(server).connect()
    try:
        number = rig.start(HOME_Q_RAD + UP)
        wait_until(lambda: rig.arm.state.motion == number or rig.arm.ended(number))
        os.kill(rig.arm.pid, signal.SIGSTOP)
        time.sleep(3.0)
        os.kill(rig.arm.pid, signal.SIGCONT)
        ended = rig.end(number)
        assert ended.code is OutcomeCode.REFLEX
        assert "communication_constraints_violation" in ended.sentence
        rig.arm.recover()
        assert rig.arm.report().mode is Mode.IDLE
    finally:
        rig.arm.disconnect()
        server.close()


@pytest.mark.parametrize(
    ("press", "code", "mode"),
    [
        ("user_stop", OutcomeCode.USER_STOPPED, Mode.USER_STOPPED),
        ("safety_function", OutcomeCode.SAFETY_FUNCTION, None),
    ],
)
def test_stop_button_and_safety_function(rig, press, code, mode):
    number = rig.start(HOME_Q_RAD + UP)
    rig.reach(200, number)
    getattr(rig.server, press)(True)
    assert rig.end(number).code is code
    if mode is not None:
        wait_until(lambda: rig.arm.report().mode is mode)
        with pytest.raises(StageError, match="release it") as caught:
            rig.arm.recover()
        assert caught.value.code is code
    getattr(rig.server, press)(False)
    wait_until(lambda: rig.arm.report().mode is not mode)
    rig.arm.recover()
    assert rig.move().end is End.REACHED


def test_a_cut_network_and_a_server_that_ends(cell):
    server = serve(
        cell, real_time=True, answer_limit_s=0.05
    )  # a robot that misses its client for 20 cycles stops itself
    rig = Rig(server).connect()
    try:
        number = rig.start(HOME_Q_RAD + UP)
        rig.reach(200, number)
        server.connect(False)
        ended = rig.end(number)
        assert ended.code is OutcomeCode.ROBOT_LOST
        wait_until(lambda: rig.arm.report().mode is Mode.LOST)
        assert "/franka/activate" in rig.arm.report().sentence
        assert rig.end(rig.start()).code is OutcomeCode.ROBOT_LOST
        server.connect(True)
        rig.connect()
        rig.arm.recover()
        number = rig.start(HOME_Q_RAD)
        rig.reach(50, number)
    finally:
        server.close()
    assert rig.end(number).code is OutcomeCode.ROBOT_LOST
    wait_until(lambda: rig.arm.report().mode is Mode.LOST)
    with pytest.raises(StageError, match="activate FCI") as caught:
        rig.arm.connect()
    assert caught.value.code is OutcomeCode.ROBOT_LOST
    assert rig.arm.report().mode is Mode.INACTIVE


def test_a_second_client_gets_a_sentence_in_time(rig):
    second = Rig(rig.server, connect_timeout_s=3.0)
    with pytest.raises(StageError) as caught:
        second.arm.connect()
    assert caught.value.code is OutcomeCode.ROBOT_LOST
    assert rig.move(HOME_Q_RAD + 0.1 * UP).end is End.REACHED


def test_a_robot_that_accepts_and_never_answers(server):
    """As a robot does whose only connection is taken; libfranka waits for ever."""
    with socket.create_server((server.config.hostname.rpartition(".")[0] + ".99", 1337)) as taken:
        mute = Rig(server)
        mute.arm._config = type(mute.arm._config)(
            hostname=taken.getsockname()[0], realtime=False, connect_timeout_s=1.0
        )
        with pytest.raises(StageError, match="another program may hold its only connection") as caught:
            mute.arm.connect()
    assert caught.value.code is OutcomeCode.ROBOT_LOST
    assert mute.arm.pid == 0


def test_a_killed_process_is_a_lost_robot_and_activating_again_helps(rig):
    number = rig.start(HOME_Q_RAD + UP)
    rig.reach(200, number)
    os.kill(rig.arm.pid, signal.SIGKILL)
    assert rig.end(number).code is OutcomeCode.ROBOT_LOST
    rig.connect()
    rig.arm.recover()
    assert rig.move().end is End.REACHED


def test_a_silent_node_makes_the_arm_brake(server, connected):
    connected.arm.disconnect()
    rig = Rig(server, silence_s=0.1).connect()
    try:
        rig.arm.recover()
        rig.arm._give_life = lambda send: None  # the child's thread has it already
        rig.arm._child._on_poll = lambda send: None
        ended = rig.move(HOME_Q_RAD + UP)
        assert ended.code is OutcomeCode.CONTROLLER_FAILED
        assert "was silent for 0.1 s" in ended.sentence
        assert rig.arm.report().mode is Mode.IDLE
    finally:
        rig.arm.disconnect()


def test_deactivating_in_motion_brakes(rig):
    number = rig.start(HOME_Q_RAD + UP)
    rig.reach(300, number)
    assert rig.arm.disconnect(10.0)
    rig.connect()
    assert rig.arm.report().mode is Mode.IDLE, "it stopped itself: the connection ended before the brake"
    assert np.abs(rig.arm.state.dq).max() < 0.01


def test_homing_is_not_interrupted_by_a_move(server):
    failures = []
    hand = FrankaHand(settings_for(server), lambda fingers: None, failures.append)
    hand.connect()
    server.network = False  # so that homing lasts
    homing = Thread(target=hand.home)
    homing.start()
    try:
        wait_until(lambda: hand.homing)
        hand.move(0.0, 20.0)
        assert hand.ended() is False
        assert failures == ["The hand is being homed: wait for its end."]
    finally:
        server.network = True
        homing.join()
    assert hand.homed
    hand.move(0.078, 0.0)
    assert finished(hand)
    wait_until(lambda: abs(hand.width_m() - 0.078) < 0.001)
    hand.disconnect()


@pytest.fixture(scope="module")
def hand(server):
    failures = []
    made = FrankaHand(settings_for(server), lambda fingers: None, failures.append)
    made.connect()
    made.home()
    yield made
    made.disconnect()
    assert failures == []


def finished(hand):
    wait_until(lambda: hand.ended() is not None)
    return hand.ended()


def test_the_hand_opens_closes_and_halts(hand):
    assert hand.homed
    hand.move(0.0, 20.0)  # on air, with wide epsilons: judged by its width
    assert finished(hand)
    wait_until(lambda: hand.width_m() < 0.002)
    hand.move(0.05, 0.0)
    assert finished(hand)
    wait_until(lambda: abs(hand.width_m() - 0.05) < 0.001)
    hand.move(0.0, 20.0)
    hand.halt()
    finished(hand)
    hand.move(0.078, 0.0)
    assert finished(hand)


def test_a_stop_of_the_arm_does_not_wait_for_the_hand(rig, hand):
    number = rig.start(HOME_Q_RAD + UP)
    rig.reach(200, number)
    hand.move(0.0 if hand.width_m() > 0.04 else 0.078, 0.0)
    asked = time.monotonic()
    rig.arm.stop(number)
    assert time.monotonic() - asked < 0.5
    ended = rig.end(number)
    assert ended.end is End.STOPPED
    assert ended.statistics.stop_cycles <= 120
    finished(hand)


def test_a_stop_from_another_thread_during_the_start(rig):
    number = rig.arm.newest() + 1
    thread = Thread(target=rig.start, args=(HOME_Q_RAD + UP,))
    thread.start()
    rig.arm.stop(number)
    thread.join()
    assert rig.end(number).end is End.STOPPED
    assert (np.abs(rig.arm.state.q_c - HOME_Q_RAD) < PANDA.velocity).all()
