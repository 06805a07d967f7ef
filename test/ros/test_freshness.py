"""How old is an input? The one rule, and joint states under it: clocks that differ, silence, numbers that are none."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sensor_msgs.msg import JointState

from stvla_ros.description.panda import HOME_Q_RAD
from stvla_ros.description.robot import RobotConfig
from stvla_ros.errors import StageError
from stvla_ros.ros import robot_state
from stvla_ros.ros.convert import ns_to_time
from stvla_ros.ros.freshness import Arrival, Freshness, Instant
from stvla_ros.ros.robot_state import JointStateConfig, JointStates

START_NS = 1_700_000_000_000_000_000
ROBOT = RobotConfig()
REAL = RobotConfig(kind="real", model="fr3")


class Bench:
    """Joint states without a ROS graph, on clocks that the test sets. ``ns`` may be set back, ``s`` may not."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.ns, self.s = START_NS, 100.0
        self.topics: dict[str, Any] = {}
        monkeypatch.setattr(robot_state, "now", lambda node: Instant(self.ns, self.s))
        monkeypatch.setattr(robot_state, "FIRST_S", 0.0)

    def states(self, robot: RobotConfig = ROBOT, **settings: float) -> JointStates:
        return JointStates(self, JointStateConfig(**settings), robot)  # type: ignore[arg-type]

    def resolve_topic_name(self, name: str) -> str:
        return f"/{name.lstrip('/')}"

    def create_subscription(self, kind: Any, topic: str, callback: Any, profile: Any) -> None:
        self.topics[topic] = callback

    def count_publishers(self, topic: str) -> int:
        return 1

    def wait(self, seconds: float) -> None:
        self.ns += round(seconds * 1e9)
        self.s += seconds

    def send(
        self,
        arm: Any = HOME_Q_RAD,
        fingers: Any = (0.02, 0.02),
        ahead_s: float = 0.0,
        robot: RobotConfig = ROBOT,
        topic: str = "/joint_states",
        **changes: Any,
    ) -> None:
        """One message; an empty ``arm`` or ``fingers`` leaves these joints out."""
        names = [*(robot.arm_joints if len(arm) else ()), *(robot.finger_joints if len(fingers) else ())]
        message = JointState(name=names, position=[*map(float, arm), *map(float, fingers)], velocity=[0.0] * len(names))
        message.header.stamp = ns_to_time(self.ns + round(ahead_s * 1e9))
        for name, value in changes.items():
            setattr(message, name, value)
        self.topics[topic](message)


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Bench:
    return Bench(monkeypatch)


def stale(states: JointStates, match: str) -> None:
    with pytest.raises(StageError, match=f"STALE_STATE: {match}"):
        states.state()


# --- the rule ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stamp_s", "silent_s", "age_s", "sentence"),
    [
        (0.0, 0.3, 0.3, None),
        (-0.2, 0.2, 0.4, None),
        (0.09, 0.4, 0.4, None),
        (0.09, 0.6, 0.6, r"The newest image on /x is 0.60 s old; at most 0.5 s is taken\."),
        (-0.4, 0.2, 0.6, r"came 0.20 s ago with a stamp 0.60 s old.*clock of the machine .* is 0.4 s behind .*chrony"),
        (
            3.0,
            0.0,
            0.0,
            r"The clock of the machine that stamps /x is 3.0 s ahead.*: synchronise the clocks \(chrony\)\.",
        ),
        (3.0, 2.95, 2.95, r"is 3.0 s ahead"),
    ],
)
def test_the_larger_age_counts_and_the_future_is_refused(
    stamp_s: float, silent_s: float, age_s: float, sentence: str | None
) -> None:
    import re

    came = Instant(START_NS, 100.0)
    now = Instant(START_NS + round(silent_s * 1e9), 100.0 + silent_s)
    arrival = Arrival(START_NS + round(stamp_s * 1e9), came)
    assert arrival.age_s(now) == pytest.approx(age_s, abs=1e-6)
    fault = Freshness("image", "/x", 0.5).fault(arrival, now)
    assert (fault is None) if sentence is None else (fault is not None and re.search(sentence, fault)), fault


# --- joint states ------------------------------------------------------------------------------------------------


def test_a_robot_whose_clock_is_ahead_is_refused_at_once(bench: Bench) -> None:
    states = bench.states()
    bench.send(ahead_s=3.0)
    stale(states, r"The clock of the machine that stamps /joint_states is 3\.0 s ahead")
    bench.send()
    states.state()


def test_silence_is_noticed_from_the_arrival(bench: Bench) -> None:
    """A clock that is 0.4 s ahead, where that is allowed, does not make the silence 0.4 s shorter."""
    states = bench.states(max_ahead_s=1.0)
    bench.send(ahead_s=0.4)
    bench.wait(0.49)
    states.state()
    bench.wait(0.02)
    assert states.age_s() == pytest.approx(0.51)
    stale(states, r"The newest joint state on /joint_states is 0\.51 s old; at most 0\.5 s is taken")


def test_a_robot_whose_clock_is_behind_is_told_from_silence(bench: Bench) -> None:
    states = bench.states()
    bench.send(ahead_s=-3.0)
    stale(states, r".*a stamp 3\.00 s old.* 3\.0 s behind \(synchronise the clocks with chrony\)")


def test_a_clock_that_was_set_back_begins_anew(bench: Bench) -> None:
    states = bench.states()
    for _ in range(10):
        bench.send()
        bench.wait(0.01)
    bench.ns -= 3_000_000_000
    bench.send(arm=np.full(7, -0.5))
    assert (states.state().q_rad == -0.5).all()
    assert states.state().stamp_ns == bench.ns
    assert states.age_s() == 0.0


def test_states_are_kept_by_time(bench: Bench) -> None:
    """At 1 kHz too, the state nearest to an image of 1.9 s ago is found, and one of 2.1 s ago is not made up."""
    states = bench.states()
    for i in range(4000):
        bench.send(arm=np.full(7, i / 4000 - 1))
        bench.wait(0.001)
    last_ns = states.state().stamp_ns
    found = states.at(last_ns - 1_900_000_000)
    assert found.stamp_ns == last_ns - 1_900_000_000
    assert found.q_rad[0] == pytest.approx((3999 - 1900) / 4000 - 1)
    with pytest.raises(StageError, match=r"STALE_STATE: The joint state of 2\.10 s ago was asked for; 2 s are kept"):
        states.at(last_ns - 2_100_000_000)
    with pytest.raises(StageError, match=r"nearest to the image is 0\.60 s away"):
        states.at(last_ns + 600_000_000)


def test_silent_fingers_are_stale_too(bench: Bench) -> None:
    states = bench.states()
    bench.send(fingers=())
    stale(
        states,
        "No joint state with the fingers' joints panda_finger_joint1 and panda_finger_joint2 came on /joint_states",
    )
    bench.send(arm=())
    assert states.state().gripper_m == pytest.approx(0.04)
    for _ in range(6):
        bench.wait(0.1)
        bench.send(fingers=())
    stale(
        states,
        r"The newest state of the finger joints panda_finger_joint1 and panda_finger_joint2 on /joint_states is 0\.60",
    )
    with pytest.raises(StageError, match="finger joints"):
        states.at(bench.ns)


def test_arm_and_fingers_on_two_topics(bench: Bench) -> None:
    """A real robot's raw topics; the one that is stamped anew while the arm is silent is not listened to."""
    states = bench.states(REAL)
    assert set(bench.topics) == {"/franka/joint_states", "/franka_gripper/joint_states"}
    bench.send(fingers=(), robot=REAL, topic="/franka/joint_states")
    stale(states, "No joint state with the fingers' joints fr3_finger_joint1 .* came on /franka_gripper/joint_states")
    bench.send(arm=(), robot=REAL, topic="/franka_gripper/joint_states")
    np.testing.assert_array_equal(states.state().q_rad, HOME_Q_RAD)
    for _ in range(6):
        bench.wait(0.1)
        bench.send(arm=(), robot=REAL, topic="/franka_gripper/joint_states")
    stale(states, "The newest joint state on /franka/joint_states is 0.60 s old")


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"arm": [0, 0, 0, np.nan, 0, 0, 0]}, r"The joint panda_joint4 is not measured \(NaN\)"),
        ({"fingers": [0.02, np.inf]}, r"The joint panda_finger_joint2 is not measured \(NaN\)"),
        ({"position": [0.0] * 7}, "A joint state with 9 names, 7 positions and 9 velocities"),
        ({"velocity": [0.0] * 2}, "A joint state with 9 names, 9 positions and 2 velocities"),
        (
            {"name": ["panda_joint1", "x"], "position": [0.0] * 2, "velocity": []},
            "A joint state has panda_joint1 but not panda_joint2",
        ),
    ],
)
def test_messages_that_cannot_be_used_are_named(bench: Bench, changes: dict[str, Any], sentence: str) -> None:
    states = bench.states()
    bench.send(**changes)
    stale(states, sentence)
    bench.send()
    states.state()
    bench.wait(0.6)
    bench.send(**changes)
    stale(states, sentence)


def test_velocities_that_are_not_measured_count_as_none(bench: Bench) -> None:
    states = bench.states()
    bench.send(velocity=[np.nan] * 9)
    assert (states.state().dq_rad_s == 0).all()


def test_names_of_the_robot() -> None:
    assert ROBOT.arm_action == "/panda_arm_controller/follow_joint_trajectory"
    assert (ROBOT.base_frame, ROBOT.joint_states, ROBOT.gripper_joint_states) == ("panda_link0", *["joint_states"] * 2)
    assert REAL.arm_action == "/fr3_arm_controller/follow_joint_trajectory"
    assert REAL.gripper_action == "/franka_gripper/gripper_action"
    assert (REAL.base_frame, REAL.arm_joints[6], REAL.finger_joints[1]) == (
        "fr3_link0",
        "fr3_joint7",
        "fr3_finger_joint2",
    )
    own = RobotConfig(kind="real", joint_states="my/joint_states", base_frame="table")
    assert (own.joint_states, own.gripper_joint_states, own.base_frame) == (*["my/joint_states"] * 2, "table")
