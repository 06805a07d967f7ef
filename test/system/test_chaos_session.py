"""The chaos benchmark's hands: what its simulator falsifies, when it strikes, and that all is undone. Nothing spins here."""

import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import pytest
from sensor_msgs.msg import JointState

from benchmarks.chaos import faulty_sim
from benchmarks.chaos import session as chaos_session
from benchmarks.chaos.faults import Fault
from benchmarks.chaos.faulty_sim import FaultyJoints, FaultySim
from benchmarks.chaos.session import ATTEMPTS, Session
from stvla_ros.ros.convert import header, time_to_ns

STAMP_NS = 1_764_339_000_000_000_000


@pytest.fixture
def falsify(tmp_path, monkeypatch):
    """Sets what fails now."""
    monkeypatch.setenv(faulty_sim.FAULT, str(tmp_path / "fault"))
    (tmp_path / "fault").write_text("")
    return (tmp_path / "fault").write_text


def joints():
    return JointState(header=header(STAMP_NS, ""), position=[0.1, 0.2], velocity=[0.0, 0.0])


@pytest.fixture
def sent(falsify):
    """What comes out of the publisher of joint states while a fault is on."""
    messages = []
    publisher = FaultyJoints(SimpleNamespace(publish=messages.append, topic_name="/t"), faulty_sim.Fault())
    assert publisher.topic_name == "/t"

    def send(name):
        falsify(name)
        messages.clear()
        publisher.publish(joints())
        return messages

    return send


@pytest.fixture
def look():
    """What the camera's process gets to see: (scene state, stamp)."""
    sim = FaultySim.__new__(FaultySim)
    sim._cell = SimpleNamespace(scene_state=lambda: SimpleNamespace(stamp_ns=5))
    sim._time = SimpleNamespace(stamp_ns=lambda simulated_ns: STAMP_NS + simulated_ns)
    sim._context = SimpleNamespace(ok=lambda: True)
    return sim._look


def test_without_a_fault_all_passes(sent, look):
    assert sent("") == [joints()]
    assert look()[1] == STAMP_NS + 5


def test_a_silent_camera_leaves_the_joints(sent, look, falsify):
    assert sent("camera") == [joints()]
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(look)
        with pytest.raises(TimeoutError):
            answer.result(0.3)
        falsify("")
        assert answer.result(30.0)[1] == STAMP_NS + 5, "and sees again"


def test_joints_jump_and_images_do_not(sent, look):
    assert list(sent("joints")[0].position) == pytest.approx([0.4, 0.2])
    assert look()[1] == STAMP_NS + 5


def test_a_clock_set_back_dates_all_ten_seconds_back(sent, look):
    assert time_to_ns(sent("clock")[0].header.stamp) == STAMP_NS - 10_000_000_000
    assert look()[1] == STAMP_NS + 5 - 10_000_000_000
    assert sent("") == [joints()], "and is right again"


class FakeClient:
    """A client of a task that has told these things already."""

    pid = 0

    def __init__(self, *events):
        self._events = [{"event": "phase", "at": 0.0, **e} if "phase" in e else {"event": "end", **e} for e in events]
        self.said, self.ended, self.gone = ["Traceback", "ValueError: no"], True, False

    def events(self):
        return self._events

    def wait(self, done, timeout_s):
        return done(self._events)

    def __exit__(self, *_):
        self.gone = True


DONE = {"code": "OK", "sentence": "Done.", "judged": True}
FAILED = {"code": "NO_PATH", "sentence": "No path.", "judged": False}
MOVING = {"phase": "moving"}


@pytest.fixture
def session(tmp_path, monkeypatch):
    """A session without a stack, to which clients can be given."""
    made = Session(tmp_path, "pick_place")
    made.restarted = 0
    made._stack = SimpleNamespace(pids=lambda: {"planner": 0})
    monkeypatch.setattr(chaos_session, "dump_stacks", lambda pids, folder: None)
    made.clients = []
    monkeypatch.setattr(made, "_client", lambda scene: made.clients.pop(0))

    def restart():
        made.restarted += 1

    monkeypatch.setattr(made, "_restart", restart)
    return made


def fault(kind="kill", victim="planner", occurrence=2):
    return Fault(kind, victim, "moving", occurrence, 0.0, 0)


def test_strikes_at_the_occurrence_that_was_drawn(session):
    session.clients = [FakeClient(MOVING, {"phase": "predicting"}, MOVING)]
    wanted = session.clients[0]
    midst = session._midst(0, fault())
    assert midst.client is wanted
    assert not wanted.gone
    assert midst.unprovoked == []


def test_a_goal_that_ends_too_soon_is_given_again(session):
    soon, wanted = FakeClient(MOVING, DONE), FakeClient(MOVING)
    session.clients = [soon, wanted]
    midst = session._midst(0, fault())
    assert midst.client is wanted, "at the first occurrence this time"
    assert soon.gone
    assert midst.unprovoked == [], "a success is no failure"


def test_failures_before_the_fault_are_noted_and_end_with_a_new_stack(session):
    session.clients = [*(FakeClient(FAILED) for _ in range(ATTEMPTS)), FakeClient(MOVING, MOVING)]
    assert session._midst(0, fault()).unprovoked == ["NO_PATH: No path."] * ATTEMPTS
    assert session.restarted == 1


def test_a_stack_that_does_nothing_is_given_up(session):
    session.clients = [FakeClient(FAILED) for _ in range(100)]
    with pytest.raises(ConnectionError, match="No task reached 'moving': NO_PATH"):
        session._midst(0, fault())


def test_a_client_that_dies_is_told_from_one_that_hangs(session):
    client = FakeClient(MOVING)
    assert session._ended(0, client, 0.0)["code"] == "DIED"
    assert session._ended(0, client, 0.0)["sentence"] == "ValueError: no"
    client.ended = False
    assert session._ended(0, client, 0.0)["code"] == "HANG"


def state(pid):
    """The letter of a process's state: R or S runs, T is stopped."""
    return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]


@pytest.fixture
def victim(session):
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], process_group=0)
    session._stack = SimpleNamespace(pids=lambda: {"planner": process.pid})
    yield process
    process.kill()
    process.wait()


def test_kills(session, victim):
    with session._done(fault()):
        assert victim.wait(30.0) == -9


def test_stops_for_a_while(session, victim, monkeypatch):
    monkeypatch.setattr(chaos_session, "STOP_S", 0.2)
    with session._done(fault("stop")):
        began = time.monotonic()
        while state(victim.pid) != "T":
            assert time.monotonic() < began + 30.0
    assert state(victim.pid) != "T"
    assert victim.poll() is None


def test_what_the_simulator_falsifies_is_set_right(session, tmp_path):
    with session._done(fault("camera", "sim")):
        assert (tmp_path / "fault").read_text() == "camera"
    assert (tmp_path / "fault").read_text() == ""
