"""The backend ``moveit``: its requests are built of genuine message classes, and answered by a scene in MuJoCo."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from motion.scenes import Judge, box, world
from rclpy.task import Future
from ros import moveit_interfaces

from stvla_ros import registry
from stvla_ros.config import ConfigError
from stvla_ros.description.kinematics import tcp_pose
from stvla_ros.description.panda import HOME_Q_RAD
from stvla_ros.description.robot import FR3, PANDA, RobotConfig
from stvla_ros.errors import CancelToken, OutcomeCode, StageError
from stvla_ros.geometry.se3 import pose, tool_down
from stvla_ros.ros.backends.moveit import ATTEMPTS, MoveItConfig, MoveItPlanner, corners
from stvla_ros.types import Box, CollisionWorld, MotionRequest

ACROSS = -np.pi / 2
EMPTY = CollisionWorld(np.zeros((0, 3), np.float32), 0.01)
PILLAR = box(0.5, 0.0, 0.18, 0.08, 0.08, 0.36)
HELD = Box(pose(np.eye(3), [0.0, 0.0, 0.06]), np.array([0.04, 0.04, 0.14]))
OURS = ("moveit_msgs", "octomap_msgs", "object_recognition_msgs", "ros.fake_move_group", "moveit_messages")


@pytest.fixture(scope="module", autouse=True)
def messages(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """``moveit_messages`` on the installed moveit_msgs, or else on classes generated from the published definitions."""
    try:
        import moveit_msgs  # noqa: F401
    except ModuleNotFoundError:
        folder = tmp_path_factory.mktemp("moveit_interfaces")
        moveit_interfaces.generate(folder)
    else:
        folder = None
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ROS_PYTHON_CHECK_FIELDS", "1")
        if folder:
            patch.syspath_prepend(str(folder))
        from stvla_ros.ros.backends import moveit_messages

        yield moveit_messages
    if folder:  # other tests of this process see the environment as it is
        for name in [name for name in sys.modules if any(part in name for part in OURS)]:
            del sys.modules[name]


class Client:
    """A client of one service of the fake, without ROS in between."""

    def __init__(self, server: Server, kind: Any, name: str) -> None:
        self.srv_name, self._server, self._kind = name, server, kind

    def service_is_ready(self) -> bool:
        return self._server.running

    def remove_pending_request(self, future: Future) -> None:
        pass

    def call_async(self, request: Any) -> Future:
        name, future = self.srv_name.rpartition("/")[2], Future()
        self._server.calls.append(name)
        if name in self._server.before:
            self._server.before[name]()
        if name not in self._server.silent:
            future.set_result(getattr(self._server.fake, name)(request, self._kind.Response()))
        return future


class Server:
    """A node as far as the planner needs one, with the fake behind its clients."""

    def __init__(self, **robot: Any) -> None:
        from ros.fake_move_group import FakeMoveGroup

        self.config = SimpleNamespace(robot=RobotConfig(**robot))
        self.fake, self.running = FakeMoveGroup(), True
        self.silent: set[str] = set()
        self.before: dict[str, Callable[[], None]] = {}
        self.calls: list[str] = []

    def create_client(self, kind: Any, name: str) -> Client:
        return Client(self, kind, name)


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture
def planner(server: Server) -> MoveItPlanner:
    return MoveItPlanner(MoveItConfig(answer_timeout_s=0.1), PANDA, server)


def failure(planner: MoveItPlanner, request: MotionRequest) -> StageError:
    with pytest.raises(StageError) as error:
        planner.plan(request)
    return error.value


def over(x: float, y: float, z: float, obstacles: CollisionWorld = EMPTY, **more: Any) -> MotionRequest:
    return MotionRequest(HOME_Q_RAD, tool_down([x, y, z], ACROSS), obstacles, **more)


def test_the_published_definitions_are_those_of_the_installed_package() -> None:
    import moveit_msgs

    if "moveit_interfaces" in str(moveit_msgs.__path__):
        pytest.skip("moveit_msgs is not installed: its classes are generated from these definitions")
    from importlib import import_module

    for package, kind, name, text in moveit_interfaces.definitions():
        if package == "moveit_msgs" and kind == "msg":
            fields = dict(line.split()[1::-1] for line in text.splitlines() if line and "=" not in line)
            found = getattr(import_module(f"{package}.{kind}"), name).get_fields_and_field_types()
            assert set(found) == set(fields), name


def test_message_classes_check_names_and_types() -> None:
    from moveit_msgs.msg import CollisionObject, JointConstraint

    assert CollisionObject.REMOVE == b"\x01"  # a byte, not a number
    with pytest.raises(AssertionError):
        JointConstraint(positions=1.0, check_fields=True)
    with pytest.raises(AssertionError):
        JointConstraint(position="1", check_fields=True)


def test_paths_around_a_wall_are_free_and_end_at_the_goal(planner: MoveItPlanner, server: Server) -> None:
    things = [PILLAR, box(0.55, 0.42, 0.05, 0.08, 0.08, 0.1)]
    obstacles, judge, q = world(things), Judge(things), HOME_Q_RAD
    for y in (-0.25, 0.25):
        goal = tool_down([0.5, y, 0.15], ACROSS)
        path = planner.plan(MotionRequest(q, goal, obstacles))
        assert judge.path_free(path.q_rad)
        np.testing.assert_allclose(path.q_rad[0], q)
        np.testing.assert_allclose(tcp_pose(path.q_rad[-1]), goal, atol=1e-3)
        q = path.q_rad[-1]
    asked = server.fake.requests[-1]
    assert (asked.group_name, asked.pipeline_id, asked.num_planning_attempts) == ("panda_arm", "ompl", 1)
    assert 0.0 < asked.allowed_planning_time <= planner.Config().max_planning_s


def test_the_motion_is_within_the_limits_and_stops_only_at_corners(planner: MoveItPlanner) -> None:
    path = planner.plan(over(0.45, 0.1, 0.3))
    assert (np.abs(path.dq_rad_s) <= 0.5 * PANDA.velocity + 1e-9).all()
    resting = (np.abs(path.dq_rad_s).max(axis=1) < 1e-6).sum()
    assert resting <= 6  # MoveIt puts dozens of points on such a path


def test_straight_motions_are_ours_and_may_start_in_contact(planner: MoveItPlanner, server: Server) -> None:
    things = [box(0.5, 0.1, 0.03, 0.1, 0.1, 0.06)]
    start = planner.plan(over(0.5, 0.1, 0.2)).q_rad[-1]
    down, up = tool_down([0.5, 0.1, 0.05], ACROSS), tool_down([0.5, 0.1, 0.2], ACROSS)
    server.fake.requests.clear()
    assert failure(planner, MotionRequest(start, down, world(things), True)).code is OutcomeCode.COLLISION
    inside = planner.plan(MotionRequest(start, down, EMPTY, True)).q_rad[-1]
    path = planner.plan(MotionRequest(inside, up, world(things), True))
    assert np.abs(tcp_pose(path.q_rad)[:, :2, 3] - [0.5, 0.1]).max() < 2e-4
    assert server.fake.requests == []


def test_the_held_object_changes_the_verdict_and_is_gone_with_the_next_request(planner: MoveItPlanner) -> None:
    things = [box(0.5, 0.1, 0.05, 0.1, 0.1, 0.1)]
    loaded = replace_held(world(things), HELD)
    planner.plan(over(0.5, 0.1, 0.25, loaded))  # its lower end is 2 cm above the obstacle
    assert failure(planner, over(0.5, 0.1, 0.21, loaded)).code is OutcomeCode.COLLISION
    planner.plan(over(0.5, 0.1, 0.21, world(things)))


def replace_held(obstacles: CollisionWorld, held: Box) -> CollisionWorld:
    return replace(obstacles, held=held)


def test_the_table_is_an_obstacle_unless_it_is_switched_off(planner: MoveItPlanner, server: Server) -> None:
    low = over(0.5, 0.1, 0.12, CollisionWorld(EMPTY.voxels_m, 0.01, HELD))
    assert failure(planner, low).code is OutcomeCode.COLLISION
    MoveItPlanner(MoveItConfig(table=False), PANDA, server).plan(low)
    assert server.fake.objects == {}


def test_the_fingers_are_as_open_as_the_request_says(planner: MoveItPlanner) -> None:
    things = [box(0.5, 0.1 + side * 0.05, 0.1, 0.06, 0.03, 0.2) for side in (-1.0, 1.0)]
    assert failure(planner, over(0.5, 0.1, 0.18, world(things), gripper_m=0.08)).code is OutcomeCode.COLLISION
    planner.plan(over(0.5, 0.1, 0.18, world(things), gripper_m=0.0))


def test_obstacles_of_others_and_their_allowed_pairs_stay(
    planner: MoveItPlanner, server: Server, messages: Any
) -> None:
    from ros.fake_move_group import _pairs

    theirs = messages._object("their_shelf", "panda_link0", [(np.eye(4), np.full(3, 0.05))])
    server.fake.objects["their_shelf"] = theirs
    server.fake.allowed = messages.with_pairs(
        server.fake.allowed, [("their_shelf", "panda_link0"), ("their_shelf", "panda_link1")]
    )
    before = _pairs(server.fake.allowed)
    planner.plan(over(0.5, 0.3, 0.3, world([PILLAR])))
    assert set(server.fake.objects) == {"their_shelf", messages.TABLE, messages.VOXELS}
    new = _pairs(server.fake.allowed) - before
    assert new == {(f"panda_link{i}", name) for i in (0, 1) for name in (messages.TABLE, messages.VOXELS)}


def test_voxels_of_the_last_motion_do_not_stay(planner: MoveItPlanner, server: Server, messages: Any) -> None:
    planner.plan(over(0.5, 0.3, 0.3, world([PILLAR])))
    planner.plan(over(0.5, 0.0, 0.15))
    assert set(server.fake.objects) == {messages.TABLE}


def test_the_boxes_fill_the_space_of_the_voxels(messages: Any) -> None:
    names = messages.ArmNames.of(RobotConfig(model="fr3"))
    request = messages.scene_request(world([PILLAR]), 0.1, messages.AllowedCollisionMatrix(), names)
    table, voxels = request.scene.world.collision_objects
    assert table.header.frame_id == "fr3_link0"
    assert table.primitive_poses[0].position.z == pytest.approx(0.05)  # the plate is 0.1 thick
    volume = sum(np.prod(shape.dimensions) for shape in voxels.primitives)
    assert volume == pytest.approx(len(world([PILLAR]).voxels_m) * 0.01**3)


def test_a_robot_with_a_prefix_is_asked_for_by_its_names(messages: Any) -> None:
    names = messages.ArmNames.of(RobotConfig(model="fr3", prefix="left_fr3"))
    state = messages.robot_state(HOME_Q_RAD, 0.08, HELD, names)
    assert state.joint_state.name[0] == "left_fr3_joint1"
    (attached,) = state.attached_collision_objects
    assert attached.link_name == attached.object.header.frame_id == "left_fr3_hand"
    assert attached.object.primitive_poses[0].position.z == pytest.approx(0.1034 + 0.06, abs=1e-4)


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("FAILURE", OutcomeCode.NO_PATH),
        ("PLANNING_FAILED", OutcomeCode.NO_PATH),
        ("TIMED_OUT", OutcomeCode.NO_PATH),
        ("INVALID_MOTION_PLAN", OutcomeCode.NO_PATH),
        ("GOAL_IN_COLLISION", OutcomeCode.NO_PATH),
        ("START_STATE_IN_COLLISION", OutcomeCode.COLLISION),
        ("START_STATE_INVALID", OutcomeCode.COLLISION),
        ("NO_IK_SOLUTION", OutcomeCode.NO_IK),
        ("INVALID_ROBOT_STATE", OutcomeCode.SERVER_ERROR),
        ("FRAME_TRANSFORM_FAILURE", OutcomeCode.SERVER_ERROR),
        ("CRASH", OutcomeCode.SERVER_ERROR),
    ],
)
def test_error_codes(planner: MoveItPlanner, server: Server, messages: Any, name: str, code: OutcomeCode) -> None:
    server.fake.code = getattr(messages.MoveItErrorCodes, name)
    error = failure(planner, over(0.5, 0.3, 0.3))
    assert error.code is code
    assert name in error.sentence


def test_a_wrong_group_is_told(server: Server) -> None:
    server.fake.group = "manipulator"
    planner = MoveItPlanner(MoveItConfig(group="manipulator"), PANDA, server)
    planner.plan(over(0.5, 0.3, 0.3))
    server.fake.check_state_validity = lambda request, response: setattr(response, "valid", True) or response
    wrong = MoveItPlanner(MoveItConfig(), PANDA, server)
    error = failure(wrong, over(0.5, 0.3, 0.3))
    assert error.code is OutcomeCode.SERVER_ERROR
    assert "INVALID_GROUP_NAME" in error.sentence
    assert "executor.moveit.group" in error.sentence


def test_a_path_beyond_the_range_of_the_joints_is_refused(server: Server) -> None:
    """A model with a Panda's limits plans illegal paths for an FR3."""
    fr3 = MoveItPlanner(MoveItConfig(), FR3, server)
    seen = server.fake.plan_kinematic_path

    def detour(request: Any, response: Any) -> Any:
        seen(request, response)
        points = response.motion_plan_response.trajectory.joint_trajectory.points
        points[len(points) // 2].positions[1] = 0.5  # joint 6: names are in reverse order
        return response

    server.fake.plan_kinematic_path = detour
    q = np.clip(HOME_Q_RAD, FR3.q_min_rad, FR3.q_max_rad)
    error = failure(fr3, MotionRequest(q, tool_down([0.5, 0.3, 0.3], ACROSS), EMPTY))
    assert error.code is OutcomeCode.SERVER_ERROR
    assert "range of joint 6" in error.sentence


@pytest.mark.parametrize("which", [0, -1])
def test_a_path_between_other_postures_is_refused(planner: MoveItPlanner, server: Server, which: int) -> None:
    seen = server.fake.plan_kinematic_path

    def changed(request: Any, response: Any) -> Any:
        seen(request, response)
        response.motion_plan_response.trajectory.joint_trajectory.points[which].positions[3] += 0.02
        return response

    server.fake.plan_kinematic_path = changed
    error = failure(planner, over(0.5, 0.3, 0.3))
    assert error.code is OutcomeCode.SERVER_ERROR
    assert "does not lead" in error.sentence


def test_no_move_group_is_node_lost(planner: MoveItPlanner, server: Server) -> None:
    server.running = False
    error = failure(planner, over(0.5, 0.3, 0.3))
    assert error.code is OutcomeCode.NODE_LOST
    assert "get_planning_scene" in error.sentence


@pytest.mark.parametrize(
    "name", ["get_planning_scene", "apply_planning_scene", "check_state_validity", "plan_kinematic_path"]
)
def test_silence_is_a_timeout_after_a_second_try(planner: MoveItPlanner, server: Server, name: str) -> None:
    server.silent.add(name)
    planner = MoveItPlanner(MoveItConfig(answer_timeout_s=0.1, max_planning_s=0.05), PANDA, server)
    error = failure(planner, over(0.5, 0.3, 0.3))
    assert error.code is OutcomeCode.SERVER_TIMEOUT
    assert name in error.sentence
    assert server.calls.count(name) == ATTEMPTS


def test_a_lost_answer_is_asked_for_again(planner: MoveItPlanner, server: Server) -> None:
    server.silent.add("apply_planning_scene")
    server.before["apply_planning_scene"] = lambda: (
        server.silent.clear() if server.calls.count("apply_planning_scene") == 2 else None
    )
    planner.plan(over(0.5, 0.3, 0.3))


def test_a_cancel_ends_the_wait(server: Server) -> None:
    server.silent.add("plan_kinematic_path")
    cancel = CancelToken()
    server.before["plan_kinematic_path"] = lambda: threading.Timer(0.05, cancel.cancel).start()
    planner = MoveItPlanner(MoveItConfig(answer_timeout_s=10.0), PANDA, server)
    begin = time.process_time()
    assert failure(planner, over(0.5, 0.3, 0.3, cancel=cancel)).code is OutcomeCode.CANCELED
    assert server.calls.count("plan_kinematic_path") == 1
    assert time.process_time() - begin < 10.0


def test_a_move_group_that_was_restarted_has_no_obstacles(planner: MoveItPlanner, server: Server) -> None:
    server.before["plan_kinematic_path"] = server.fake.objects.clear
    error = failure(planner, over(0.5, 0.3, 0.3))
    assert error.code is OutcomeCode.SERVER_ERROR
    assert "restarted" in error.sentence
    server.before.clear()
    planner.plan(over(0.5, 0.3, 0.3))


def test_refused_obstacles_are_an_error(server: Server) -> None:
    planner = MoveItPlanner(MoveItConfig(), PANDA, server)
    server.fake.apply_planning_scene = lambda request, response: response
    error = failure(planner, over(0.5, 0.3, 0.3))
    assert error.code is OutcomeCode.SERVER_ERROR
    assert "panda_link0" in error.sentence


def test_corners_keeps_the_path_and_drops_points_on_its_pieces() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        points = rng.uniform(-1.0, 1.0, (5, 7))
        dense = np.concatenate([a + np.linspace(0, 1, 12)[:-1, None] * (b - a) for a, b in pairwise(points)])
        np.testing.assert_allclose(corners(np.vstack([dense, points[-1:]])), points)
    back = np.array([[0.0] * 7, [1.0] * 7, [0.5] * 7])
    np.testing.assert_allclose(corners(back), back)


def test_without_a_node_or_messages_the_planner_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="stvla up --motion moveit"):
        registry.create("motion", "moveit", {}, PANDA)
    node = Server()
    monkeypatch.setitem(sys.modules, "moveit_msgs", None)
    with pytest.raises(ConfigError, match="ros-jazzy-moveit"):
        MoveItPlanner(MoveItConfig(), PANDA, node)
