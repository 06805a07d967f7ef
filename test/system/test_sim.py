"""The simulated cell as a process: its topics, services and controllers, as a stranger's program sees them."""

import time

import numpy as np
import pytest
import stalls
from control_msgs.action import FollowJointTrajectory
from diagnostic_msgs.msg import DiagnosticArray
from sensor_msgs.msg import CameraInfo, Image, JointState
from system.robot_harness import RobotHarness

from stvla_ros.description.panda import ARM_JOINTS, FINGER_JOINTS, HOME_Q_RAD
from stvla_ros.description.robot import RobotConfig
from stvla_ros.errors import CancelToken, OutcomeCode, StageError
from stvla_ros.ros import qos
from stvla_ros.ros.backends.ros2_control import Ros2ControlConfig, Ros2ControlRobot
from stvla_ros.ros.frames import CameraConfig, RgbdReceiver
from stvla_ros.types import JointPath

JOINT1 = np.eye(7)[0]


@pytest.fixture(scope="module")
def harness():
    with RobotHarness() as harness:
        harness.start("sim", "depth_encoding:=16UC1")
        harness.robot = Ros2ControlRobot(harness.node, harness.states.state, Ros2ControlConfig(), RobotConfig())
        yield harness


def path_to(q, length_s, start=HOME_Q_RAD):
    s = np.linspace(0.0, 1.0, 101)[:, None]
    blend, rate = 10 * s**3 - 15 * s**4 + 6 * s**5, 30 * s**2 - 60 * s**3 + 30 * s**4
    return JointPath(start + (q - start) * blend, (q - start) * rate / length_s, length_s * s[:, 0])


def collect(harness, kind, topic, seconds):
    """Messages of a topic with their times of arrival."""
    heard = []
    subscription = harness.node.create_subscription(kind, topic, lambda m: heard.append((time.time_ns(), m)), qos.STATE)
    time.sleep(seconds)
    harness.drop(subscription)
    return list(heard)  # it grows until then


def test_camera_sends_matching_images_with_the_names_of_realsense(harness):
    receiver = RgbdReceiver(harness.node, CameraConfig())
    frame = receiver.wait(0, CancelToken(), 5.0)
    assert frame.rgb.shape == (480, 640, 3)
    assert frame.camera.frame_id == "camera_color_optical_frame"
    depth = frame.depth_m[240:, 200:440]
    assert np.isfinite(depth).mean() > 0.95
    v, u = np.mgrid[240:480, 200:440]
    rays = np.stack([u, v, np.ones_like(u)], -1) @ np.linalg.inv(frame.camera.K).T
    points = (rays * depth[..., None]) @ frame.camera.T_base_camera[:3, :3].T + frame.camera.T_base_camera[:3, 3]
    assert np.median(points[..., 2]) == pytest.approx(0.0, abs=0.003), "most of what it sees is the table's top"


def test_image_types_and_stamps(harness):
    color = collect(harness, Image, "/camera/camera/color/image_raw", 2.0)
    depth = collect(harness, Image, "/camera/camera/aligned_depth_to_color/image_raw", 0.5)
    info = collect(harness, CameraInfo, "/camera/camera/color/camera_info", 0.5)
    assert {m.encoding for _, m in color} == {"rgb8"}
    assert {m.encoding for _, m in depth} == {"16UC1"}
    assert info[0][1].k[0] > 500
    stamps = [m.header.stamp.sec * 10**9 + m.header.stamp.nanosec for _, m in color]
    assert np.all(np.diff(stamps) > 0)
    assert max(at - stamp for (at, _), stamp in zip(color, stamps, strict=True)) < 1e9


def test_joint_states_keep_real_time(harness):
    heard = collect(harness, JointState, "/joint_states", 3.0)
    assert heard[0][1].name == [*ARM_JOINTS, *FINGER_JOINTS]
    stamps = np.array([m.header.stamp.sec + m.header.stamp.nanosec * 1e-9 for _, m in heard])
    assert 200 < len(heard) <= 310
    assert np.all(np.diff(stamps) > 0)
    health = collect(harness, DiagnosticArray, "/diagnostics", 2.5)
    factors = [float(v.value) for _, m in health for s in m.status for v in s.values if v.key == "real-time factor"]
    assert factors
    assert np.median(factors) == pytest.approx(1.0, abs=0.1)


def test_tasks_are_listed_reset_and_scored(harness):
    assert {"pick_place", "stack_cube", "push_buttons"} <= set(harness.tasks())
    answers = {harness.reset("stack_cube", seed).instruction for seed in range(4)}
    assert len(answers) > 1
    assert all(text.startswith("Stack the ") for text in answers)
    assert harness.reset("stack_cube", 1).instruction == harness.reset("stack_cube", 1).instruction
    score = harness.score()
    assert not score.success
    assert score.detail
    refused = harness.reset("stack_cubes", 0)
    assert not refused.ok
    assert "stack_cube" in refused.message
    assert not harness.reset("stack_cube", 0, distractors=1000).ok


def test_third_view_is_drawn_only_for_subscribers(harness):
    heard = collect(harness, Image, "/sim/third_view/image_raw", 2.0)
    assert 3 <= len(heard) <= 20
    assert heard[-1][1].encoding == "rgb8"


def test_follow_cancel_and_hold(harness):
    harness.reset()
    q = HOME_Q_RAD + 0.6 * JOINT1
    harness.robot.follow(path_to(q, 2.0), CancelToken())
    np.testing.assert_allclose(harness.states.state().q_rad, q, atol=0.005)
    cancel = CancelToken()
    call = harness.pool.submit(harness.robot.follow, path_to(HOME_Q_RAD, 2.0, q), cancel)
    harness.wait_for_motion(call)
    cancel.cancel()
    assert stalls.wait_for(call, 5.0).exception().code is OutcomeCode.CANCELED
    assert harness.stands_still()
    held = harness.states.state().q_rad[0]
    assert 0.02 < held < 0.58


def test_a_start_elsewhere_does_not_jump(harness):
    harness.reset()
    away = HOME_Q_RAD + 0.3
    with pytest.raises(StageError) as error:
        harness.robot.follow(path_to(away + 0.1, 1.0, away), CancelToken())
    assert error.value.code is OutcomeCode.CONTROLLER_FAILED
    assert "starts" in error.value.sentence
    assert harness.stands_still(0.2)


def test_tolerances_of_a_goal_are_kept(harness):
    harness.reset()
    strict = Ros2ControlRobot(
        harness.node, harness.states.state, Ros2ControlConfig(path_tolerance_rad=1e-5), RobotConfig()
    )
    with pytest.raises(StageError) as error:
        strict.follow(path_to(HOME_Q_RAD + 0.6 * JOINT1, 1.0), CancelToken())
    assert error.value.code is OutcomeCode.CONTROLLER_FAILED
    assert "path tolerance" in error.value.sentence
    assert "panda_joint" in error.value.sentence
    assert harness.stands_still(0.2)


def test_a_collision_ends_with_a_reflex(harness):
    """Straight down into the table: the arm notices, stops by itself and tells why."""
    harness.reset(distractors=0)
    down = HOME_Q_RAD + np.array([0.0, 1.5, 0.0, 0.0, 0.0, 0.8, 0.0])
    with pytest.raises(StageError) as error:
        harness.robot.follow(path_to(down, 2.0), CancelToken())
    assert error.value.code is OutcomeCode.REFLEX
    assert harness.stands_still(0.3)
    harness.reset()


def test_a_newer_trajectory_replaces_the_running_one(harness):
    harness.reset()
    q = HOME_Q_RAD + 0.1 * JOINT1  # slow: the next path begins where the arm was a moment ago
    first = harness.pool.submit(harness.robot.follow, path_to(q, 20.0), CancelToken())
    while (
        harness.states.state().q_rad[0] < HOME_Q_RAD[0] + 0.0005
    ):  # the first one has begun, before the second is sent
        assert not first.done(), first.exception()
        time.sleep(0.01)
    harness.robot.follow(path_to(HOME_Q_RAD + 0.01, 0.5), CancelToken())
    assert stalls.wait_for(first, 30.0).exception().code is OutcomeCode.PREEMPTED
    np.testing.assert_allclose(harness.states.state().q_rad, HOME_Q_RAD + 0.01, atol=0.005)


def test_gripper_closes_opens_and_refuses(harness):
    harness.reset()
    assert harness.robot.move_gripper(0.0, CancelToken()) == pytest.approx(0.0, abs=0.002)
    assert harness.robot.move_gripper(0.05, CancelToken()) == pytest.approx(0.05, abs=0.003)
    with pytest.raises(StageError) as error:
        harness.robot.move_gripper(0.5, CancelToken())
    assert error.value.code is OutcomeCode.CONTROLLER_FAILED


def test_goal_without_points_is_rejected(harness):
    from rclpy.action import ActionClient

    client = ActionClient(harness.node, FollowJointTrajectory, "/panda_arm_controller/follow_joint_trajectory")
    assert client.wait_for_server(5.0)
    answer = []
    harness.spinner.executor.create_task(
        lambda: client.send_goal_async(FollowJointTrajectory.Goal()).add_done_callback(
            lambda f: answer.append(f.result())
        )
    )
    until = time.monotonic() + 5.0
    while not answer and time.monotonic() < until:
        time.sleep(0.02)
    assert not answer[0].accepted


def test_wrong_parameters_end_in_one_sentence(start):
    process = start("stvla_ros.nodes.sim", "--ros-args", "-p", "image_rate_hz:=1000.0")
    assert process.wait() == 2
    assert "image_rate_hz: wanted 0.1 to 60" in process.output
    process = start("stvla_ros.nodes.sim", "--ros-args", "-p", "tsk:=pick_place")
    assert process.wait() == 2
    assert "Did you mean 'task'?" in process.output
