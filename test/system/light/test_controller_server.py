"""The robot's two actions from both ends, over real ROS in one process: semantics of ros2_control and franka_gripper."""

import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from threading import Event, Thread, current_thread

import numpy as np
import pytest
import rclpy
import stalls
from control_msgs.action import FollowJointTrajectory, GripperCommand
from rclpy.action import ActionClient, ActionServer
from rclpy.action.server import ServerGoalHandle
from rclpy.context import Context
from rclpy.duration import Duration
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import JointState
from system.kinematic_arm import KinematicArm, KinematicGripper

from stvla_ros.description.kinematics import tcp_pose
from stvla_ros.description.panda import ARM_JOINTS, FINGER_JOINTS, HOME_Q_RAD
from stvla_ros.description.robot import RobotConfig
from stvla_ros.errors import CancelToken, OutcomeCode, StageError
from stvla_ros.ros import gripper_server
from stvla_ros.ros.action_client import SentGoal
from stvla_ros.ros.backends.ros2_control import Ros2ControlConfig, Ros2ControlRobot
from stvla_ros.ros.controller_server import ControllerServer, TerminalState
from stvla_ros.ros.gripper_server import GripperServer
from stvla_ros.ros.middleware import destroy_node
from stvla_ros.ros.robot_state import JointStateConfig, JointStates
from stvla_ros.ros.trajectory_server import TrajectoryServer
from stvla_ros.types import JointPath, RobotState, TrajectoryTolerances

DEFAULT = TrajectoryTolerances(np.full(7, 0.1), np.full(7, 0.01), 1.0)


def path_of(length_s=1.0, rad=0.3):
    s = np.linspace(0.0, 1.0, 51)
    blend, rate = 3 * s**2 - 2 * s**3, 6 * s - 6 * s**2
    return JointPath(HOME_Q_RAD + rad * blend[:, None], rad / length_s * rate[:, None] * np.ones((1, 7)), length_s * s)


class Cell:
    """Both controllers and a client in one process, spun by one thread."""

    def __init__(self, ros):
        self.node, self.client_node = ros.add(Node("controllers")), ros.add(Node("client"))
        self.arm, self.gripper = KinematicArm(), KinematicGripper()
        self.server = TrajectoryServer(self.node, "/arm/follow", ARM_JOINTS, self.arm, DEFAULT)
        self.gripper_server = GripperServer(self.node, "/hand/gripper", self.gripper)
        self.publisher = self.node.create_publisher(JointState, "joint_states", 10)
        self.silent = False
        self.timer = self.node.create_timer(0.01, lambda: self.publish())
        config = Ros2ControlConfig(stop_timeout_s=1.0)
        names = RobotConfig(arm_action="/arm/follow", gripper_action="/hand/gripper")
        states = JointStates(self.client_node, JointStateConfig(max_age_s=1.5))  # of a machine that may stall
        self.robot = Ros2ControlRobot(self.client_node, states.state, config, names)
        self.wait_for_state()
        self.robot.clear(5.0)

    def wait_for_state(self):
        until = time.monotonic() + 5.0
        while time.monotonic() < until:
            try:
                return self.robot.state()
            except StageError:
                time.sleep(0.02)
        raise AssertionError("no joint state")

    def publish(self):
        if self.silent:
            return
        q, dq = self.arm.state()
        half = self.gripper.width_m() / 2
        self.tell([*ARM_JOINTS, *FINGER_JOINTS], [*q, half, half], [*dq, 0.0, 0.0])

    def tell(self, names, positions, velocities):
        message = JointState(name=list(names), position=list(positions), velocity=list(velocities))
        message.header.stamp = self.node.get_clock().now().to_msg()
        self.publisher.publish(message)


@pytest.fixture
def cell(ros):
    return Cell(ros)


def follow_in_thread(cell, path, cancel):
    """Follow in a thread; returns (thread, list that receives None or the error)."""
    ended = []

    def work():
        try:
            cell.robot.follow(path, cancel)
            ended.append(None)
        except StageError as error:
            ended.append(error)

    thread = Thread(target=work)
    thread.start()
    return thread, ended


def wait_until(condition):
    """A thread that waits for an event of the motion; the test's own time limit ends what never comes."""
    while not condition():
        time.sleep(0.005)


def moved_rad(cell):
    return float(np.abs(cell.arm.q_rad() - HOME_Q_RAD).max())


def test_follow_reaches_the_end_and_returns_at_rest(cell):
    cell.robot.follow(path_of(0.5), CancelToken())
    state = cell.robot.state()
    np.testing.assert_allclose(state.q_rad, HOME_Q_RAD + 0.3, atol=1e-6)
    assert np.abs(state.dq_rad_s).max() == 0.0


def test_cancel_on_the_way_stops_the_arm_and_carries_the_reason(cell):
    cancel = CancelToken()
    thread, ended = follow_in_thread(cell, path_of(10.0), cancel)
    wait_until(lambda: moved_rad(cell) > 0.005)
    asked = stalls.clock()
    cancel.cancel(OutcomeCode.PREEMPTED, "A newer goal.")
    thread.join(30.0)
    assert ended[0].code is OutcomeCode.PREEMPTED
    assert stalls.clock() - asked < 1.0
    q = cell.robot.state().q_rad
    assert 0.005 < np.abs(q - HOME_Q_RAD).max() < 0.25
    time.sleep(0.3)
    np.testing.assert_array_equal(cell.robot.state().q_rad, q)


def wait(condition, timeout_s=20.0):
    until = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.005)


def test_a_cancel_stops_the_arm_in_its_callback_whatever_the_goals_own_thread_does(cell, monkeypatch):
    gate, polled, progress = Event(), Event(), cell.arm.progress

    def starved(motion):
        polled.set()
        gate.wait(60.0)
        return progress(motion)

    monkeypatch.setattr(cell.arm, "progress", starved)
    cancel = CancelToken()
    thread, ended = follow_in_thread(cell, path_of(30.0), cancel)
    assert polled.wait(20.0)
    wait(lambda: np.abs(cell.arm.state()[1]).max() > 0.0)
    cancel.cancel()
    wait(lambda: np.abs(cell.arm.state()[1]).max() == 0.0)
    assert not gate.is_set()
    assert np.abs(cell.arm.q_rad() - HOME_Q_RAD).max() < 0.29, "not at the end of its path"
    gate.set()
    thread.join(20.0)
    assert ended[0].code is OutcomeCode.CANCELED


def test_a_cancel_stops_the_fingers_in_its_callback_too(cell, monkeypatch):
    gate, stopped, width_m = Event(), Event(), cell.gripper.width_m
    here = []  # the goal's own thread

    def starved():
        if current_thread() in here:
            gate.wait(60.0)
        return width_m()

    def move(width, force_n):
        if here:
            stopped.set()
        else:
            here.append(current_thread())

    monkeypatch.setattr(cell.gripper, "width_m", starved)
    monkeypatch.setattr(cell.gripper, "move", move)
    cancel = CancelToken()
    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(cell.robot.move_gripper, 0.0, cancel)
        wait(lambda: here)
        cancel.cancel()
        halted = stopped.wait(20.0)
        gate.set()
        assert halted
        assert call.exception(timeout=20.0).code is OutcomeCode.CANCELED


def test_feedback_that_is_stuck_does_not_hold_up_the_end_of_a_goal(cell, monkeypatch):
    gate, stuck = Event(), Event()

    def publish(handle, feedback):
        stuck.set()
        gate.wait(60.0)

    monkeypatch.setattr(ServerGoalHandle, "publish_feedback", publish)
    cell.robot.follow(path_of(0.5), CancelToken())
    assert stuck.is_set()
    stuck.clear()
    assert cell.robot.move_gripper(0.0, CancelToken()) == pytest.approx(0.0, abs=0.003)
    assert stuck.is_set()
    gate.set()


def test_canceled_before_it_began_does_not_move(cell):
    cancel = CancelToken()
    cancel.cancel()
    with pytest.raises(StageError) as error:
        cell.robot.follow(path_of(), cancel)
    assert error.value.code is OutcomeCode.CANCELED
    np.testing.assert_array_equal(cell.arm.q_rad(), HOME_Q_RAD)


def test_stop_from_anywhere_ends_the_motion(cell):
    thread, ended = follow_in_thread(cell, path_of(10.0), CancelToken())
    wait_until(lambda: moved_rad(cell) > 0.005)
    cell.robot.stop()
    thread.join(30.0)
    assert ended[0].code is OutcomeCode.CANCELED
    assert np.abs(cell.arm.state()[1]).max() == 0.0


def test_silent_joint_states_end_the_motion(cell):
    thread, ended = follow_in_thread(cell, path_of(10.0), CancelToken())
    wait_until(lambda: moved_rad(cell) > 0.005)
    cell.silent = True
    thread.join(30.0)
    assert ended[0].code is OutcomeCode.STALE_STATE
    time.sleep(0.3)
    assert np.abs(cell.arm.state()[1]).max() == 0.0, "the goal was canceled although nobody could watch it"


def test_old_joint_states_with_new_stamps_end_the_motion(cell):
    """As a joint_state_publisher goes on to tell them when the arm's own have stopped."""
    q = cell.robot.state().q_rad
    cell.publish = lambda: cell.tell([*ARM_JOINTS, *FINGER_JOINTS], [*q, 0.04, 0.04], [0.0] * 9)
    with pytest.raises(
        StageError, match=r"STALE_STATE: The joint states have not changed for .* old states get new stamps"
    ):
        cell.robot.follow(path_of(30.0), CancelToken())
    wait(lambda: np.abs(cell.arm.state()[1]).max() == 0.0)
    assert moved_rad(cell) < 0.29, "not at the end of its path"


def test_a_newer_goal_replaces_the_running_one(cell):
    first, first_ended = follow_in_thread(cell, path_of(10.0), CancelToken())
    wait_until(lambda: moved_rad(cell) > 0.001)
    second, second_ended = follow_in_thread(cell, path_of(0.5), CancelToken())
    first.join(30.0)
    second.join(30.0)
    assert first_ended[0].code is OutcomeCode.PREEMPTED
    assert "Another program" in first_ended[0].sentence
    assert second_ended == [None]


def test_a_goal_that_ends_after_its_executor_leaves_no_traceback(ros):
    go, ended = Event(), Event()

    def work(goal):
        go.wait(30.0)
        return TerminalState.SUCCEEDED, FollowJointTrajectory.Result()

    node = ros.add(Node("controllers"))
    server = ControllerServer(node, FollowJointTrajectory, "/arm/follow", lambda _: None, work)
    finish = server._server.finish

    def watched(*arguments):
        try:
            finish(*arguments)
        finally:
            ended.error = sys.exc_info()[1]
            ended.set()

    server._server.finish = watched
    client = ActionClient(ros.add(Node("client")), FollowJointTrajectory, "/arm/follow")
    assert client.wait_for_server(30.0)
    sent = SentGoal(client._node, client, FollowJointTrajectory.Goal())
    wait_until(lambda: sent.wait(0.0) or sent.accepted)
    client.destroy()
    ros.close()
    go.set()
    assert ended.wait(30.0)
    assert ended.error is None


@pytest.mark.parametrize(
    ("code", "text", "outcome"),
    [
        (FollowJointTrajectory.Result.PATH_TOLERANCE_VIOLATED, "panda_joint2 is 0.3 rad off", OutcomeCode.CONTROLLER_FAILED),
        (FollowJointTrajectory.Result.INVALID_GOAL, "Reflex: contact of 40 N", OutcomeCode.REFLEX),
    ],
)  # fmt: skip
def test_a_failed_motion_is_typed(cell, code, text, outcome):
    cell.arm.fail_with = (code, text)
    with pytest.raises(StageError) as error:
        cell.robot.follow(path_of(), CancelToken())
    assert error.value.code is outcome
    assert text in error.value.sentence


def test_a_rejected_goal_is_typed_and_disturbs_nothing(cell):
    thread, ended = follow_in_thread(
        cell, path_of(0.8), CancelToken()
    )  # it ends before the refusal's standstill is late
    wait_until(lambda: moved_rad(cell) > 0.001)
    moving = path_of(1.0)
    broken = JointPath(np.where(np.arange(51)[:, None] == 20, np.nan, moving.q_rad), moving.dq_rad_s, moving.t_s)
    with pytest.raises(StageError) as error:
        cell.robot.follow(broken, CancelToken())
    assert error.value.code is OutcomeCode.CONTROLLER_FAILED
    thread.join(30.0)
    assert ended == [None]


@pytest.mark.parametrize("defect", [ValueError("on purpose"), SystemExit(1)])
def test_a_defect_while_the_arm_moves_stops_it(cell, defect):
    """Whatever is raised, not only what the stack raises itself."""
    state, moving = cell.robot._state, []

    def broken():
        if moving and np.abs(state().dq_rad_s).max() > 0.05:
            raise defect
        return state()

    cell.robot._state = broken
    moving.append(True)
    with pytest.raises(type(defect)):
        cell.robot.follow(path_of(5.0, 1.0), CancelToken())
    until = time.monotonic() + 3.0
    while np.abs(cell.arm.state()[1]).max() > 0.0 and time.monotonic() < until:
        time.sleep(0.02)
    q = cell.arm.state()[0]
    assert np.abs(q - HOME_Q_RAD).max() < 0.9, "it did not end its trajectory"
    time.sleep(0.3)
    np.testing.assert_array_equal(cell.arm.state()[0], q)


def test_an_arm_that_does_not_stop_is_told_although_a_cancel_is_under_way(cell):
    """Not the cancel's own reason: an operator who only reads "canceled" walks up to it."""
    cancel = CancelToken()
    states = cell.robot._state

    def creeping():
        state = states()
        return replace(state, dq_rad_s=np.full(7, 0.05))

    thread, ended = follow_in_thread(cell, path_of(3.0), cancel)
    time.sleep(0.5)
    cell.robot._state = creeping
    cancel.cancel()
    thread.join(10.0)
    assert ended[0].code is OutcomeCode.CONTROLLER_FAILED
    assert "emergency stop" in ended[0].sentence


def test_no_controller_is_one_sentence(cell):
    config, names = Ros2ControlConfig(accept_timeout_s=0.3), RobotConfig(arm_action="/nobody/follow")
    robot = Ros2ControlRobot(cell.client_node, cell.robot.state, config, names)
    with pytest.raises(StageError) as error:
        robot.follow(path_of(), CancelToken())
    assert error.value.code is OutcomeCode.CONTROLLER_FAILED
    assert "/nobody/follow" in error.value.sentence


def test_gripper_closes_on_nothing_and_on_something_and_opens(cell):
    assert cell.robot.move_gripper(0.0, CancelToken()) == pytest.approx(0.0, abs=0.003)
    assert cell.robot.move_gripper(0.08, CancelToken()) == pytest.approx(0.08, abs=0.003)
    cell.gripper.object_m = 0.04
    assert cell.robot.move_gripper(0.0, CancelToken()) == pytest.approx(0.04, abs=0.003)


def test_the_opening_is_one_from_after_the_motion_however_rarely_fingers_are_told(cell):
    """Arm states at 100 Hz and finger states at 8 Hz, in messages of their own, as a Franka hand's node sends them."""
    ticks = iter(range(10**9))

    def publish():
        q, dq = cell.arm.state()
        half = cell.gripper.width_m() / 2
        cell.tell(ARM_JOINTS, q, dq)
        if next(ticks) % 12 == 0:
            cell.tell(FINGER_JOINTS, [half, half], [])

    cell.publish = publish
    for k in range(4):
        width_m = 0.08 * (k % 2)
        assert cell.robot.move_gripper(width_m, CancelToken()) == pytest.approx(cell.gripper.width_m(), abs=1e-6)
        assert cell.gripper.width_m() == pytest.approx(width_m, abs=0.002)


def test_a_gripper_that_answers_while_its_fingers_move_is_waited_for(cell, monkeypatch):
    """As controllers do whose goal tolerance is wide."""
    monkeypatch.setattr(gripper_server, "REACHED_M", 0.02)
    for width_m in (0.0, 0.08):
        assert cell.robot.move_gripper(width_m, CancelToken()) == pytest.approx(width_m, abs=0.001)


def test_fingers_that_are_not_told_after_the_motion_are_no_opening(cell):
    """The last opening is still young enough to be a state, but it is one from before."""
    robot = with_states(cell, lambda: replace(cell.robot.state(), gripper_stamp_ns=1), gripper_timeout_s=0.5)
    with pytest.raises(
        StageError, match="STALE_STATE: No state of the fingers measured after the gripper's motion came"
    ):
        robot.move_gripper(0.04, CancelToken())


@pytest.mark.parametrize("name", ["gripper", "arm"])
def test_an_action_of_another_type_is_told(cell, ros, domain, name):
    kinds = {"arm": FollowJointTrajectory, "gripper": GripperCommand}
    wanted, found = (kinds.pop(name), *kinds.values())
    context = Context()  # one process cannot have an action by two types, but two can
    rclpy.init(context=context, domain_id=domain)
    other = Node("other", context=context)
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(other)
    ActionServer(other, found, f"/other/{name}", lambda handle: None)
    ending = Event()
    thread = Thread(target=lambda: [executor.spin_once(0.05) for _ in iter(ending.is_set, True)])
    thread.start()
    names = {"arm_action": "/arm/follow", "gripper_action": "/hand/gripper", f"{name}_action": f"/other/{name}"}
    robot = Ros2ControlRobot(
        cell.client_node, cell.robot.state, Ros2ControlConfig(accept_timeout_s=1.0), RobotConfig(**names)
    )
    sentence = (
        f"CONTROLLER_FAILED: /other/{name} is a control_msgs/action/{found.__name__}, wanted "
        f"control_msgs/action/{wanted.__name__}: start a controller of that type, and set robot.{name}_action to its name"
    )
    try:
        with pytest.raises(StageError, match=sentence):
            robot.clear(10.0)
        with pytest.raises(StageError, match=sentence):
            robot.follow(path_of(), CancelToken()) if name == "arm" else robot.move_gripper(0.0, CancelToken())
    finally:
        ending.set()
        thread.join()
        executor.shutdown()
        destroy_node(other)
        context.try_shutdown()


def with_states(cell, state, **settings):
    """A client that hears joint states from a function."""
    names = RobotConfig(arm_action="/arm/follow", gripper_action="/hand/gripper")
    return Ros2ControlRobot(cell.client_node, state, Ros2ControlConfig(**settings), names)


@pytest.mark.parametrize("velocities", [[], [float("nan")] * 9], ids=["none", "NaN"])
def test_standstill_without_velocities_is_read_from_positions(cell, velocities):
    def publish():
        half = cell.gripper.width_m() / 2
        cell.tell([*ARM_JOINTS, *FINGER_JOINTS], [*cell.arm.state()[0], half, half], velocities)

    cell.publish = publish
    wait(lambda: np.isnan(cell.robot.state().dq_rad_s).all())
    cell.robot.follow(path_of(0.5), CancelToken())
    np.testing.assert_allclose(cell.robot.state().q_rad, HOME_Q_RAD + 0.3, atol=1e-6)
    cancel = CancelToken()
    thread, ended = follow_in_thread(cell, path_of(10.0), cancel)
    wait_until(lambda: np.abs(cell.arm.state()[1]).max() > 0.0)
    cancel.cancel()
    thread.join(30.0)
    assert ended[0].code is OutcomeCode.CANCELED
    np.testing.assert_array_equal(cell.arm.state()[1], 0.0)


def states_of(position, velocity, step_ns=1_000_000):
    """States at the stamps of a clock that goes one step with each look."""
    looks = iter(range(10**9))

    def state():
        t_ns = 10**18 + next(looks) * step_ns
        q = np.array(HOME_Q_RAD) + position(t_ns)
        return RobotState(q, np.full(7, velocity), tcp_pose(q), 0.08, t_ns)

    return state


@pytest.mark.parametrize(
    ("position", "step_ns", "sentence"),
    [
        (lambda t_ns: 4e-5 * (t_ns // 1_000_000 % 3), 1_000_000, None),  # noise at 1 kHz
        (
            lambda t_ns: 5e-11 * (t_ns % 10**12),
            1_000_000,
            "CONTROLLER_FAILED: The arm still moves",
        ),  # it creeps at 0.05 rad/s
        (
            lambda t_ns: 5e-11 * (t_ns % 10**12),
            -1_000_000,
            "STALE_STATE: No new joint state came",
        ),  # and the clock runs backwards
        (lambda t_ns: 0.0, 0, "STALE_STATE: No new joint state came"),  # the same state again and again
    ],
)
@pytest.mark.parametrize("velocity", [float("nan"), 0.0])
def test_standstill_by_positions(cell, position, step_ns, sentence, velocity):
    robot = with_states(cell, states_of(position, velocity, step_ns), stop_timeout_s=0.5)
    if sentence is None:
        robot._stand_still()
        return
    with pytest.raises(StageError, match=sentence):
        robot._stand_still()


@pytest.mark.parametrize(
    "profile",
    [
        QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT),
        QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL),
        QoSProfile(depth=1, deadline=Duration(seconds=1), lifespan=Duration(seconds=1)),
    ],
    ids=["best effort", "latched", "with a deadline"],
)
def test_joint_states_of_any_quality_of_service_are_heard(cell, profile):
    publisher, publish = cell.node.create_publisher(JointState, "other/joint_states", profile), cell.publisher.publish
    states = JointStates(
        cell.client_node, JointStateConfig(max_age_s=5.0), RobotConfig(joint_states="other/joint_states")
    )
    cell.publisher.publish = lambda message: (publish(message), publisher.publish(message))
    wait(lambda: states.heard)
    np.testing.assert_array_equal(states.state().q_rad, HOME_Q_RAD)


def test_a_slow_simulation_has_the_time_it_needs(cell):
    """With use_sim_time limits are counted by /clock."""
    assert cell.robot._now_s() == pytest.approx(time.monotonic(), abs=60.0)
    clock = cell.node.create_publisher(Clock, "/clock", 10)
    cell.client_node.set_parameters([Parameter("use_sim_time", value=True)])
    for seconds in (5, 6):
        message = Clock()
        message.clock.sec = seconds
        wait(lambda message=message: clock.publish(message) or cell.robot._now_s() == message.clock.sec)


def test_gripper_that_cannot_open_is_typed(cell):
    assert cell.robot.move_gripper(0.0, CancelToken()) < 0.003
    cell.gripper.move = lambda width_m, force_n: None
    with pytest.raises(StageError) as error:
        cell.robot.move_gripper(0.08, CancelToken())
    assert error.value.code is OutcomeCode.CONTROLLER_FAILED


def test_gripper_that_stays_open_holds_nothing(cell):
    """One that was not homed, or whose finger states are old ones stamped anew; whatever its action says."""
    cell.gripper.move = lambda width_m, force_n: None
    for watch in (cell.gripper_server._watch, lambda *_: (False, False)):
        cell.gripper_server._watch = watch
        with pytest.raises(StageError, match="CONTROLLER_FAILED: The gripper was commanded to 0 mm but is at 80 mm"):
            cell.robot.move_gripper(0.0, CancelToken())


def test_gripper_cancel_stops_the_fingers(cell):
    cancel = CancelToken()
    cancel_later = Thread(target=lambda: (wait_until(lambda: cell.gripper.width_m() < 0.07), cancel.cancel()))
    cancel_later.start()
    with pytest.raises(StageError) as error:
        cell.robot.move_gripper(0.0, cancel)
    assert error.value.code is OutcomeCode.CANCELED
    width = cell.gripper.width_m()
    assert 0.01 < width < 0.075
    time.sleep(0.2)
    assert cell.gripper.width_m() == pytest.approx(width, abs=1e-4)


def test_the_arms_joints_may_have_other_names(cell):
    """An FR3's joints, and fingers in messages of their own."""
    states = JointStates(
        cell.client_node, JointStateConfig(max_age_s=5.0), RobotConfig(model="fr3", joint_states="fr3/joint_states")
    )
    publisher = cell.node.create_publisher(JointState, "fr3/joint_states", 10)
    arm = [f"fr3_joint{i}" for i in (7, 1, 2, 3, 4, 5, 6)]
    fingers = ["fr3_finger_joint1", "fr3_finger_joint2"]
    with pytest.raises(StageError, match=r"nobody publishes|No joint state"):
        states.state()
    until = time.monotonic() + 5.0
    while states.age_s() > 1.0 and time.monotonic() < until:
        stamp = cell.node.get_clock().now().to_msg()
        for names, position in ((arm, [0.7, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6]), (fingers, [0.01, 0.01])):
            message = JointState(name=names, position=position)
            message.header.stamp = stamp
            publisher.publish(message)
        time.sleep(0.02)
    time.sleep(0.1)
    np.testing.assert_allclose(states.state().q_rad, np.arange(1, 8) / 10)
    assert states.state().gripper_m == pytest.approx(0.02)
