"""How old is an input? The one rule, and joint states under it: clocks that differ, silence, numbers that are none."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from sensor_msgs.msg import JointState

from stvla_ros.description.panda import HOME_Q_RAD
from stvla_ros.description.robot import RobotConfig
from stvla_ros.errors import OutcomeCode, StageError
from stvla_ros.ros import robot_state
from stvla_ros.ros.convert import ns_to_time
from stvla_ros.ros.freshness import OLDER_IN_A_ROW, PAUSE_S, Arrival, Freshness, Instant, OutOfOrder, why_in_future
from stvla_ros.ros.robot_state import JointStateConfig, JointStates

START_NS = 1_700_000_000_000_000_000
ROBOT = RobotConfig()
REAL = RobotConfig(kind="real", model="fr3")


class Harness:
    """Joint states without a ROS graph, on clocks that the test sets. ``ns`` may be set back, ``s`` may not."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.ns, self.s = START_NS, 100.0
        self.topics: dict[str, Any] = {}
        self.publishers, self.kind = 1, "sensor_msgs/msg/JointState"
        monkeypatch.setattr(robot_state, "now", lambda node: Instant(self.ns, self.s))
        monkeypatch.setattr(robot_state, "FIRST_S", 0.0)

    def states(self, robot: RobotConfig = ROBOT, **settings: float) -> JointStates:
        return JointStates(self, JointStateConfig(**settings), robot)  # type: ignore[arg-type]

    def resolve_topic_name(self, name: str) -> str:
        return f"/{name.lstrip('/')}"

    def create_subscription(self, kind: Any, topic: str, callback: Any, profile: Any) -> None:
        self.topics[topic] = callback

    def count_publishers(self, topic: str) -> int:
        return self.publishers

    def get_publishers_info_by_topic(self, topic: str) -> list[Any]:
        return [SimpleNamespace(topic_type=self.kind)]

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
def harness(monkeypatch: pytest.MonkeyPatch) -> Harness:
    return Harness(monkeypatch)


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
        (0.09, 0.6, 0.6, r"The newest image on /x is 0.60 s old; at most 0.5 s is accepted\."),
        (-0.2, 0.4, 0.6, r"The newest image on /x is 0.60 s old; at most 0.5 s is accepted\."),
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


def test_a_robot_whose_clock_is_ahead_is_refused_at_once(harness: Harness) -> None:
    states = harness.states()
    harness.send(ahead_s=3.0)
    stale(states, r"The clock of the machine that stamps /joint_states is 3\.0 s ahead")
    harness.send()
    states.state()


def test_silence_is_noticed_from_the_arrival(harness: Harness) -> None:
    """A clock that is 0.4 s ahead, where that is allowed, does not make the silence 0.4 s shorter."""
    states = harness.states(max_ahead_s=1.0)
    harness.send(ahead_s=0.4)
    harness.wait(0.49)
    states.state()
    harness.wait(0.02)
    assert states.age_s() == pytest.approx(0.51)
    stale(states, r"The newest joint state on /joint_states is 0\.51 s old; at most 0\.5 s is accepted")


def test_a_robot_whose_clock_is_behind_is_told_from_silence(harness: Harness) -> None:
    states = harness.states()
    harness.send(ahead_s=-3.0)
    stale(states, r".*a stamp 3\.00 s old.* 3\.0 s behind \(synchronise the clocks with chrony\)")


def test_a_clock_that_was_set_back_begins_anew(harness: Harness) -> None:
    states = harness.states()
    for _ in range(10):
        harness.send()
        harness.wait(0.01)
    harness.ns -= 3_000_000_000
    harness.send(arm=np.full(7, -0.5))
    assert (states.state().q_rad == -0.5).all()
    assert states.state().stamp_ns == harness.ns
    assert states.age_s() == 0.0


def test_states_are_kept_by_time(harness: Harness) -> None:
    """At 1 kHz too, the state nearest to an image of 1.9 s ago is found, and one of 2.1 s ago is not made up."""
    states = harness.states()
    for i in range(4000):
        harness.send(arm=np.full(7, i / 4000 - 1))
        harness.wait(0.001)
    last_ns = states.state().stamp_ns
    found = states.at(last_ns - 1_900_000_000)
    assert found.stamp_ns == last_ns - 1_900_000_000
    assert found.q_rad[0] == pytest.approx((3999 - 1900) / 4000 - 1)
    with pytest.raises(
        StageError, match=r"STALE_STATE: The joint state of 2\.10 s ago is needed, but only 2 s are kept"
    ):
        states.at(last_ns - 2_100_000_000)
    with pytest.raises(StageError, match=r"nearest to the image is 0\.60 s away"):
        states.at(last_ns + 600_000_000)


def test_one_glitch_hides_none_of_the_others(harness: Harness) -> None:
    """Stamps of the future, of the past, of 1970, none; a number that is none; zeros; each alone among good ones."""
    states = harness.states(max_ahead_s=1.0)
    glitches: list[dict[str, Any]] = [
        {"ahead_s": 30.0}, {"ahead_s": 1e8}, {"ahead_s": 0.5}, {"ahead_s": -30.0}, {"ahead_s": -harness.ns / 1e9},
        {"arm": [0.0] * 7}, {"arm": np.array(HOME_Q_RAD) - 0.5}, {"arm": [np.nan] * 7}, {"fingers": [0.04, 0.04]},
        {"position": []},
    ]  # fmt: skip
    for glitch in glitches:
        for i in range(250):
            harness.wait(0.01)
            harness.send(**glitch if i == 100 else {})
            state = states.state()
            np.testing.assert_array_equal(state.q_rad, HOME_Q_RAD)
            assert state.gripper_m == pytest.approx(0.04)
            bench_s = abs(harness.ns - states.at(harness.ns).stamp_ns) / 1e9
            assert bench_s < (0.6 if glitch == {"ahead_s": 0.5} else 0.05), glitch
    assert states.at(harness.ns - 500_000_000).stamp_ns == harness.ns - 500_000_000


def test_the_last_message_tells_why_only_while_messages_come(harness: Harness) -> None:
    """A glitch and then silence is silence."""
    states = harness.states()
    harness.send()
    harness.send(ahead_s=30.0)
    harness.wait(0.51)
    stale(states, r"The newest joint state on /joint_states is 0\.51 s old")
    harness.send(ahead_s=30.0)
    stale(states, r"The clock of the machine that stamps /joint_states is 30\.0 s ahead")


@pytest.mark.parametrize(
    ("ahead_s", "sentence"),
    [
        (-START_NS / 1e9, r"The newest joint state on /joint_states came 0\.00 s ago without a stamp \(it is 0\).*: make its driver"),
        (-START_NS / 1e9 + 12, r"The stamps on /joint_states are of 1970-01-01 00:00:12, but here it is 2023-11-14 22:13:20"),
        (-5e7, "The stamps on /joint_states are of 2022-04-15 05:20:00, but here it is 2023.*use_sim_time to the same value"),
        (3e8, "The stamps on /joint_states are of 2033-05-18 03:33:20, but here it is 2023"),
        (31.0, r"The clock of the machine that stamps /joint_states is 31\.0 s ahead"),
        (-31.0, r".*a stamp 31\.00 s old.* 31\.0 s behind"),
    ],
)  # fmt: skip
def test_the_sentence_tells_which_clock_is_wrong(harness: Harness, ahead_s: float, sentence: str) -> None:
    states = harness.states()
    harness.send(ahead_s=ahead_s)
    stale(states, sentence)
    with pytest.raises(StageError, match=f"STALE_STATE: {sentence}"):
        states.at(harness.ns)


def test_before_the_first_clock_message_nothing_has_an_age(harness: Harness) -> None:
    """With use_sim_time the node's clock stands at 0 until /clock comes, whatever the stamps are."""
    states = harness.states()
    start_ns, harness.ns = harness.ns, 0
    for ahead_s in (0.0, 12.0, start_ns / 1e9):
        harness.send(ahead_s=ahead_s)
        stale(states, "Simulation time has not begun: use_sim_time is true and no /clock has come")
    harness.ns = 5_000_000_000
    harness.send()
    states.state()


def test_a_simulation_that_begins_anew(harness: Harness) -> None:
    """/clock and all stamps go back, and the arm is elsewhere: the first message is doubted, the second is believed."""
    harness.ns = 100_000_000_000
    states = harness.states()
    harness.send()
    harness.ns = 1_000_000_000
    for _ in range(2):
        harness.wait(0.01)
        harness.send(arm=np.array(HOME_Q_RAD) + 0.5)
    np.testing.assert_array_equal(states.state().q_rad, np.array(HOME_Q_RAD) + 0.5)
    harness.wait(0.51)
    stale(states, r"The newest joint state on /joint_states is 0\.51 s old")


def test_a_robot_whose_clock_is_corrected_begins_anew(harness: Harness) -> None:
    """It was 30 s ahead, where that is allowed, and is set right while we listen: we do not wait for 30 s."""
    states = harness.states(max_ahead_s=40.0)
    harness.send(ahead_s=30.0)
    for _ in range(10):
        harness.wait(0.01)
        harness.send()
    assert states.state().stamp_ns == harness.ns


def test_our_own_clock_is_set_forward(harness: Harness) -> None:
    """The messages are not late: their clock is not accused."""
    states = harness.states()
    harness.send()
    harness.ns += 30_000_000_000
    stale(states, r"The newest joint state on /joint_states is 30\.00 s old; at most 0\.5 s is accepted\.$")


def test_two_robots_on_one_topic_are_noticed(harness: Harness) -> None:
    """One at home, one elsewhere, or a joint_state_publisher that fills up; at the same rate, or at rates of 10 to 1."""
    for other, often in ((np.array(HOME_Q_RAD) + 0.4, 1), (np.array([0, 0, 0, -1.57, 0, 1.57, 0]), 10)):
        states = harness.states()
        harness.publishers = 2
        for i in range(50):
            harness.wait(0.01)
            harness.send()
            if i % often == 0:
                harness.wait(0.001)
                harness.send(arm=other)
        told = r"Messages on /joint_states contradict each other: panda_joint\d at .* ms: 2 nodes publish there; only"
        stale(states, told)
        with pytest.raises(StageError, match=told):
            states.at(harness.ns)
        for _ in range(250):
            harness.wait(0.01)
            harness.send()
        states.state()


def test_one_driver_that_contradicts_itself_is_told(harness: Harness) -> None:
    states = harness.states()
    for i in range(20):
        harness.wait(0.01)
        harness.send(arm=np.array(HOME_Q_RAD) + 0.6 * (i % 2))
    stale(states, r"Messages on /joint_states contradict each other: .*: look at the robot's driver\.$")


def test_fast_motion_is_no_jump(harness: Harness) -> None:
    """5 rad/s at 100 Hz, with every tenth message lost and stamps 10 ms off; and fingers at 0.2 m/s each at 10 Hz."""
    states, rng = harness.states(), np.random.default_rng(0)
    for i in range(100):
        harness.wait(0.01)
        if i % 10 == 5:
            continue
        q = np.array(HOME_Q_RAD) - [0, 0, 0, 0, 0, 0, 0.05 * (i % 50)]
        if i % 50 == 0:
            harness.wait(1.0)
        harness.send(arm=q, fingers=(), ahead_s=-float(rng.uniform(0, 0.01)))
        if i % 10 == 0:
            harness.send(arm=(), fingers=[0.02 * (i // 10 % 3)] * 2)
    np.testing.assert_array_equal(states.state().q_rad, q)


def test_messages_in_wrong_order_are_skipped(harness: Harness) -> None:
    states = harness.states()
    for i in range(100):
        harness.wait(0.01)
        harness.send(arm=np.array(HOME_Q_RAD) + 0.001 * i, ahead_s=-0.03 if i % 3 == 2 else 0.0)
    assert states.state().stamp_ns == harness.ns
    stamps = [states.at(harness.ns - k * 10_000_000).stamp_ns for k in range(90)]
    assert stamps == sorted(stamps, reverse=True)


def test_a_mimic_finger_tells_of_both(harness: Harness) -> None:
    """Only one finger joint is published, as by a controller that knows the other as its mimic."""
    for finger in ROBOT.finger_joints:
        states = harness.states()
        harness.send(fingers=())
        harness.send(name=[finger], position=[0.013], velocity=[])
        assert states.state().gripper_m == pytest.approx(0.026)


def test_closed_fingers_a_little_below_0_are_closed(harness: Harness) -> None:
    states = harness.states()
    harness.send(fingers=[-0.0004, -0.0003])
    assert states.state().gripper_m == 0.0
    harness.wait(0.1)
    harness.send(fingers=[0.0403, 0.0401])
    assert states.state().gripper_m == 0.08


def test_when_the_fingers_were_measured_is_told(harness: Harness) -> None:
    states = harness.states()
    harness.send(arm=())
    fingers_ns = harness.ns
    harness.wait(0.2)
    harness.send(fingers=())
    assert (states.state().stamp_ns, states.state().gripper_stamp_ns) == (harness.ns, fingers_ns)


@pytest.mark.parametrize(
    ("names", "sentence"),
    [
        (REAL.arm_joints, "came on /joint_states; those that came have fr3_joint1, fr3_joint2, .*: set robot.model to fr3"),
        ([f"left_{n}" for n in REAL.arm_joints], ".*those that came have left_fr3_joint1.*: set robot.prefix to left_fr3"),
        (["joint1", "joint2"], "came on /joint_states; those that came have joint1, joint2: set robot.joint_states or robot.pre"),
        ([], "came on /joint_states; those that came have no names: set robot.joint_states or robot.prefix"),
    ],
)  # fmt: skip
def test_other_names_are_told(harness: Harness, names: Sequence[str], sentence: str) -> None:
    states = harness.states()
    harness.send(name=list(names), position=[0.0] * len(names), velocity=[])
    stale(states, f"No joint state with the joints panda_joint1 to panda_joint7 .*{sentence}")


def test_what_cannot_be_used_has_been_heard(harness: Harness) -> None:
    """A recorder must not go on without the arm's state because that is refused."""
    states = harness.states()
    harness.send(arm=())
    assert not states.heard
    harness.send(ahead_s=30.0)
    assert states.heard
    harness.send()
    assert states.heard


def test_a_topic_of_another_type_is_told(harness: Harness) -> None:
    states = harness.states()
    stale(
        states,
        r"No joint state with the joints .* came on /joint_states, nor any other: .* joint_state_broadcaster active",
    )
    harness.kind = "franka_msgs/msg/FrankaRobotState"
    stale(
        states, "No joint state: /joint_states is a franka_msgs/msg/FrankaRobotState, wanted sensor_msgs/msg/JointState"
    )
    harness.publishers = 0
    stale(states, "No joint state: nobody publishes /joint_states")


def fuzz_joint_states(harness: Harness, count: int, seed: int) -> int:
    """Mutated messages: never an exception but StageError, never a state that breaks the rules. Returns how many gave a state."""
    rng, states, given = np.random.default_rng(seed), harness.states(), 0
    codes = set()
    odd = [np.nan, np.inf, -np.inf, 0.0, -1.0, 1e300, 6.6, -45.0, 0.078, 5e-324]
    every = [*ROBOT.arm_joints, *ROBOT.finger_joints, "x", "", "fr3_joint1"]
    for _ in range(count):
        harness.wait(float(rng.choice([0.001, 0.01, 0.1, 0.6], p=[0.5, 0.4, 0.08, 0.02])))
        if rng.random() < 0.002:
            harness.ns += int(rng.integers(-(10**11), 10**11))
        names = list(every[:9])
        fields = {"position": [*HOME_Q_RAD, 0.02, 0.02], "velocity": [0.0] * 9, "effort": [0.0] * 9}
        ahead_s = 0.0
        for _ in range(int(rng.integers(0, 4))):
            field, i = fields[str(rng.choice(list(fields)))], int(rng.integers(0, 9))
            match int(rng.integers(0, 6)):
                case 0:
                    field[i % len(field) : (i % len(field)) + 1] = [float(rng.choice(odd))] if field else []
                case 1:
                    del field[int(rng.integers(0, len(field) + 1)) :]
                case 2:
                    field.append(float(rng.choice(odd)))
                case 3:
                    names[i % len(names)] = str(rng.choice(every))
                case 4:
                    k = int(rng.integers(1, 10))
                    names, fields = names[:k], {n: f[:k] for n, f in fields.items()}
                case 5:
                    ahead_s = float(rng.choice([0.05, -0.05, 3.0, -3.0, 1e8, -1e8, -harness.ns / 1e9]))
            fields = {n: f or [0.0] for n, f in fields.items()} if not all(fields.values()) else fields
        if harness.ns + ahead_s * 1e9 < 0:
            ahead_s = 0.0
        message = JointState(name=names, **fields)
        message.header.stamp = ns_to_time(harness.ns + round(ahead_s * 1e9))
        harness.topics["/joint_states"](message)
        try:
            state = states.state()
        except StageError as error:
            codes.add(error.code)
            continue
        given += 1
        assert np.isfinite(state.q_rad).all()
        assert np.abs(state.q_rad - HOME_Q_RAD).max() < 3.0
        assert np.isfinite(state.T_base_tcp).all()
        assert 0.0 <= state.gripper_m <= 0.08
        assert harness.ns - state.stamp_ns <= 0.5e9
        assert not np.isinf(state.dq_rad_s).any()
        assert 0.0 <= states.age_s() <= 0.5
    assert codes == {OutcomeCode.STALE_STATE}
    return given


def test_mutated_messages_give_no_state_that_breaks_the_rules(harness: Harness) -> None:
    assert fuzz_joint_states(harness, 1500, 12) > 400


def test_silent_fingers_are_stale_too(harness: Harness) -> None:
    states = harness.states()
    harness.send(fingers=())
    stale(
        states,
        "No joint state with the fingers' joints panda_finger_joint1 and panda_finger_joint2 came on /joint_states",
    )
    harness.send(arm=())
    assert states.state().gripper_m == pytest.approx(0.04)
    for _ in range(6):
        harness.wait(0.1)
        harness.send(fingers=())
    stale(
        states,
        r"The newest state of the finger joints panda_finger_joint1 and panda_finger_joint2 on /joint_states is 0\.60",
    )
    with pytest.raises(StageError, match="finger joints"):
        states.at(harness.ns)


def test_arm_and_fingers_on_two_topics(harness: Harness) -> None:
    """A real robot's raw topics; the one that is stamped anew while the arm is silent is not listened to."""
    states = harness.states(REAL)
    assert set(harness.topics) == {"/franka/joint_states", "/franka_gripper/joint_states"}
    harness.send(fingers=(), robot=REAL, topic="/franka/joint_states")
    stale(states, "No joint state with the fingers' joints fr3_finger_joint1 .* came on /franka_gripper/joint_states")
    harness.send(arm=(), robot=REAL, topic="/franka_gripper/joint_states")
    np.testing.assert_array_equal(states.state().q_rad, HOME_Q_RAD)
    for _ in range(6):
        harness.wait(0.1)
        harness.send(arm=(), robot=REAL, topic="/franka_gripper/joint_states")
    stale(states, "The newest joint state on /franka/joint_states is 0.60 s old")


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"arm": [0, 0, 0, np.nan, 0, 0, 0]}, r"The joint panda_joint4 is not measured \(NaN\)"),
        ({"fingers": [0.02, np.inf]}, r"The joint panda_finger_joint2 is not measured \(NaN\)"),
        ({"fingers": [np.nan, 0.02]}, r"The joint panda_finger_joint1 is not measured \(NaN\)"),
        ({"fingers": [-0.02, -0.02]}, r"The joint panda_finger_joint1 is at -0\.02 m, where it cannot be: look"),
        ({"fingers": [0.078, 0.078]}, r"The joint panda_finger_joint1 is at 0\.078 m, where it cannot be: look"),
        ({"fingers": [35.0, 35.0]}, r"The joint panda_finger_joint1 is at 35 m, where it cannot be: look"),
        (
            {"fingers": [0.035, 0.0]},
            r"The fingers move together, but joint states have panda_finger_joint1 at 0\.035 m and panda_finger_joint2 at",
        ),
        (
            {"arm": [*HOME_Q_RAD[:6], 0.785 + 2 * np.pi]},
            r"The joint panda_joint7 is at 7\.0682 rad, where it cannot be \(a turn off\? 0\.785 rad would be possible\)",
        ),
        (
            {"arm": np.degrees(HOME_Q_RAD)},
            r"The joint panda_joint2 is at -45 rad, where it cannot be \(in degrees\? -0\.785 rad would be possible\)",
        ),
        ({"arm": [1e300] * 7}, r"The joint panda_joint1 is at 1e\+300 rad, where it cannot be: look"),
        ({"arm": [0.0] * 7}, "All joints are at 0, where panda_joint4 cannot be: they are not measured yet"),
        ({"position": [0.0] * 7}, "A joint state with 9 names, 7 positions and 9 velocities"),
        ({"position": []}, "A joint state with 9 names, 0 positions and 9 velocities"),
        ({"position": [0.0] * 10}, "A joint state with 9 names, 10 positions and 9 velocities"),
        ({"velocity": [0.0] * 7}, "A joint state with 9 names, 9 positions and 7 velocities"),
        (
            {
                "name": [*ROBOT.arm_joints, "panda_joint4", *ROBOT.finger_joints],
                "position": [*HOME_Q_RAD, 0, 0, 0],
                "velocity": [],
            },
            "A joint state has panda_joint4 more than once",
        ),
        (
            {"name": [f"panda_joint{i}" for i in range(2, 8)], "position": [0.0] * 6, "velocity": []},
            "A joint state has panda_joint2 but not panda_joint1",
        ),
        ({"velocity": [0.0] * 2}, "A joint state with 9 names, 9 positions and 2 velocities"),
        (
            {"name": ["panda_joint1", "x"], "position": [0.0] * 2, "velocity": []},
            "A joint state has panda_joint1 but not panda_joint2",
        ),
    ],
)
def test_messages_that_cannot_be_used_are_named(harness: Harness, changes: dict[str, Any], sentence: str) -> None:
    states = harness.states()
    harness.send(**changes)
    stale(states, sentence)
    harness.send()
    states.state()
    harness.wait(0.6)
    harness.send(**changes)
    stale(states, sentence)


@pytest.mark.parametrize("velocity", [[], [np.nan] * 9, [np.inf] * 9])
def test_velocities_that_are_not_measured_are_not_0(harness: Harness, velocity: list[float]) -> None:
    states = harness.states()
    harness.send(velocity=velocity)
    assert np.isnan(states.state().dq_rad_s).all()
    assert not len(robot_state.state_to_msg(states.state()).velocity)


def test_some_velocities_are_measured(harness: Harness) -> None:
    states = harness.states()
    harness.send(velocity=[0.1, 0.2, np.nan, *[0.4] * 6])
    np.testing.assert_array_equal(states.state().dq_rad_s, [0.1, 0.2, np.nan, 0.4, 0.4, 0.4, 0.4])


def test_only_several_older_messages_in_a_row_mean_that_a_clock_went_back() -> None:
    stream = OutOfOrder()
    assert [stream.clock_went_back() for _ in range(OLDER_IN_A_ROW)] == [False, False, True]
    assert not stream.clock_went_back(), "the count starts over"
    stream.reset()
    assert [stream.clock_went_back() for _ in range(OLDER_IN_A_ROW)] == [False, False, True]


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


def test_a_pause_of_simulation_time_is_no_silence_for_a_while() -> None:
    """Ages stand with /clock; a publisher that died is noticed some seconds later by the steady clock."""
    arrival = Arrival(5 * 10**9, Instant(5 * 10**9, 5.0, 100.0))
    assert arrival.age_s(Instant(5 * 10**9, 5.0, 100.0 + PAUSE_S)) == 0.0
    assert arrival.age_s(Instant(5 * 10**9, 5.0, 100.0 + PAUSE_S + 3.0)) == pytest.approx(3.0)
    assert arrival.age_s(Instant(7 * 10**9, 7.0, 101.0)) == pytest.approx(2.0), "twice as fast"
    asked = Instant(4 * 10**9, 4.0, 99.0)
    assert arrival.age_s(asked) == pytest.approx(-1.0), "it came after it was asked for: time was not set back"


def test_simulation_time_that_was_set_back() -> None:
    rule, arrival = (
        Freshness("joint state", "/joint_states", 0.5),
        Arrival(50 * 10**9, Instant(50 * 10**9, 50.0, 100.0)),
    )
    later = Instant(10**9, 1.0, 101.0)
    assert "Simulation time was set back, and since then no joint state has come on /joint_states" in str(
        rule.fault(arrival, later)
    )
    assert "49.0 s newer than now: time was set back" in str(why_in_future(50 * 10**9, later, 8.0))
    assert why_in_future(5 * 10**9, later, 8.0) is None
    assert why_in_future(10**9, later, 0.0) is None
