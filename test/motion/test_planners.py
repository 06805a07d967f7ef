"""Both motion planners: what they return is re-checked by an independent model, and every failure is a real one."""

from __future__ import annotations

import numpy as np
import pytest
from motion.scenes import Judge, box, world
from ray_caster import Box as Thing

from stvla_ros.description.kinematics import tcp_pose
from stvla_ros.description.panda import HOME_Q_RAD, Q_MAX_RAD
from stvla_ros.description.robot import FR3, PANDA
from stvla_ros.errors import OutcomeCode, StageError
from stvla_ros.geometry.se3 import pose, tool_down
from stvla_ros.interfaces import MotionPlanner
from stvla_ros.motion.closed_form import postures
from stvla_ros.motion.safety import PathSafety, PathSafetyConfig
from stvla_ros.registry import create, names
from stvla_ros.types import Box, CollisionWorld, MotionRequest

EMPTY = CollisionWorld(np.zeros((0, 3), np.float32), 0.01)
PILLAR = box(0.5, 0.0, 0.18, 0.08, 0.08, 0.36)


IN_PROCESS = tuple(name for name in names("motion") if name != "moveit")
"""Planners that need no ROS node; test/ros/test_moveit.py is for the other one."""


@pytest.fixture(scope="module", params=IN_PROCESS)
def planner(request: pytest.FixtureRequest) -> MotionPlanner:
    return create("motion", request.param)  # type: ignore[no-any-return]


def code_of(planner: MotionPlanner, request: MotionRequest) -> OutcomeCode:
    with pytest.raises(StageError) as error:
        planner.plan(request)
    return error.value.code


def side_pose(rng: np.random.Generator, side: float) -> np.ndarray:
    return tool_down(
        [rng.uniform(0.4, 0.6), side * rng.uniform(0.15, 0.35), rng.uniform(0.12, 0.25)], rng.uniform(-2.2, -0.9)
    )


def test_paths_around_a_wall_are_free(planner: MotionPlanner) -> None:
    rng = np.random.default_rng(0)
    for _ in range(10):
        things: list[Thing] = [PILLAR, box(rng.uniform(0.3, 0.7), rng.uniform(0.38, 0.45), 0.05, 0.08, 0.08, 0.1)]
        obstacles, judge, q = world(things), Judge(things), HOME_Q_RAD
        for side in (-1.0, 1.0):
            goal = side_pose(rng, side)
            path = planner.plan(MotionRequest(q, goal, obstacles))
            assert judge.path_free(path.q_rad)
            np.testing.assert_allclose(path.q_rad[0], q)
            np.testing.assert_allclose(tcp_pose(path.q_rad[-1]), goal, atol=1e-3)
            q = path.q_rad[-1]


def test_a_pose_nearby_is_reached_on_the_direct_way(planner: MotionPlanner) -> None:
    path = planner.plan(MotionRequest(HOME_Q_RAD, tool_down([0.45, 0.1, 0.3], -np.pi / 2), EMPTY))
    way = path.q_rad[-1] - path.q_rad[0]
    off = (path.q_rad - path.q_rad[0]) - np.outer((path.q_rad - path.q_rad[0]) @ way / (way @ way), way)
    assert np.abs(off).max() < 1e-6


def test_straight_motion_is_straight_and_timed(planner: MotionPlanner) -> None:
    start = planner.plan(MotionRequest(HOME_Q_RAD, tool_down([0.5, 0.1, 0.2], -np.pi / 2), EMPTY)).q_rad[-1]
    path = planner.plan(MotionRequest(start, tool_down([0.5, 0.1, 0.05], -np.pi / 2), EMPTY, straight=True))
    T = tcp_pose(path.q_rad)
    assert np.abs(T[:, :2, 3] - [0.5, 0.1]).max() < 2e-4
    assert (np.diff(T[:, 2, 3]) < 1e-9).all()
    assert np.abs(T[:, :3, :3] - T[0, :3, :3]).max() < 1e-3
    assert 0.6 < path.t_s[-1] < 3.0  # 15 cm at no more than 25 cm/s


def test_held_object_changes_the_verdict(planner: MotionPlanner) -> None:
    """The box reaches 13 cm below the tool: 2 cm above the obstacle it is free, 2 cm into it not."""
    held = Box(pose(np.eye(3), [0.0, 0.0, 0.06]), np.array([0.04, 0.04, 0.14]))
    for height, fits in ((0.25, True), (0.21, False)):
        goal, things = tool_down([0.5, 0.1, height], -np.pi / 2), [box(0.5, 0.1, 0.05, 0.1, 0.1, 0.1)]
        empty = world(things)
        loaded = CollisionWorld(empty.voxels_m, empty.voxel_size_m, held)
        assert Judge(things).path_free(planner.plan(MotionRequest(HOME_Q_RAD, goal, empty)).q_rad)
        if fits:
            planner.plan(MotionRequest(HOME_Q_RAD, goal, loaded))
        else:
            assert code_of(planner, MotionRequest(HOME_Q_RAD, goal, loaded)) is OutcomeCode.COLLISION
        planner.plan(MotionRequest(HOME_Q_RAD, goal, empty))  # the next motion is free of it again


def test_held_object_must_not_touch_the_table(planner: MotionPlanner) -> None:
    held = Box(pose(np.eye(3), [0.0, 0.0, 0.06]), np.array([0.04, 0.04, 0.14]))
    loaded = CollisionWorld(EMPTY.voxels_m, 0.01, held)
    planner.plan(MotionRequest(HOME_Q_RAD, tool_down([0.5, 0.1, 0.14], -np.pi / 2), loaded))
    low = MotionRequest(HOME_Q_RAD, tool_down([0.5, 0.1, 0.12], -np.pi / 2), loaded)
    assert code_of(planner, low) is OutcomeCode.COLLISION


def test_path_with_held_object_is_free(planner: MotionPlanner) -> None:
    held = Box(pose(np.eye(3), [0.0, 0.0, 0.03]), np.array([0.04, 0.04, 0.10]))
    obstacles = CollisionWorld(world([PILLAR]).voxels_m, 0.01, held)
    judge = Judge([PILLAR], (held.T_frame_box[:3, 3], held.size_m))
    q = planner.plan(MotionRequest(HOME_Q_RAD, tool_down([0.5, -0.25, 0.2], -np.pi / 2), obstacles)).q_rad[-1]
    path = planner.plan(MotionRequest(q, tool_down([0.5, 0.25, 0.2], -np.pi / 2), obstacles, gripper_m=0.04))
    assert judge.path_free(path.q_rad, gripper_m=0.04)


def test_closed_fingers_fit_where_open_ones_do_not(planner: MotionPlanner) -> None:
    things = [box(0.5, 0.1 + side * 0.05, 0.1, 0.06, 0.03, 0.2) for side in (-1.0, 1.0)]
    goal = tool_down([0.5, 0.1, 0.18], -np.pi / 2)
    assert code_of(planner, MotionRequest(HOME_Q_RAD, goal, world(things), gripper_m=0.08)) is OutcomeCode.COLLISION
    path = planner.plan(MotionRequest(HOME_Q_RAD, goal, world(things), gripper_m=0.0))
    assert Judge(things).path_free(path.q_rad, gripper_m=0.0)


def test_out_of_reach_is_no_ik(planner: MotionPlanner) -> None:
    assert code_of(planner, MotionRequest(HOME_Q_RAD, tool_down([1.1, 0.0, 0.3], 0.0), EMPTY)) is OutcomeCode.NO_IK


def test_not_a_pose_is_no_ik(planner: MotionPlanner) -> None:
    for wrong in (np.full((4, 4), np.nan), np.diag([1.0, 1.0, -1.0, 1.0])):
        assert code_of(planner, MotionRequest(HOME_Q_RAD, wrong, EMPTY)) is OutcomeCode.NO_IK


def test_goal_inside_an_obstacle_or_the_table_is_collision(planner: MotionPlanner) -> None:
    inside = MotionRequest(HOME_Q_RAD, tool_down([0.5, 0.0, 0.3], -np.pi / 2), world([PILLAR]))
    assert code_of(planner, inside) is OutcomeCode.COLLISION
    below = MotionRequest(HOME_Q_RAD, tool_down([0.5, 0.0, -0.02], -np.pi / 2), EMPTY)
    assert code_of(planner, below) is OutcomeCode.COLLISION


def test_line_through_an_obstacle_is_collision(planner: MotionPlanner) -> None:
    start = planner.plan(MotionRequest(HOME_Q_RAD, tool_down([0.5, -0.2, 0.2], -np.pi / 2), EMPTY)).q_rad[-1]
    goal = tool_down([0.5, 0.2, 0.2], -np.pi / 2)
    assert code_of(planner, MotionRequest(start, goal, world([PILLAR]), straight=True)) is OutcomeCode.COLLISION


def test_line_out_of_reach_is_no_path(planner: MotionPlanner) -> None:
    goal = tool_down([0.95, 0.0, 0.45], -np.pi / 2)
    assert code_of(planner, MotionRequest(HOME_Q_RAD, goal, EMPTY, straight=True)) is OutcomeCode.NO_PATH


def test_no_way_around_is_no_path(planner: MotionPlanner) -> None:
    """A screen through the whole workspace, with room for the shoulder only, parts start from goal."""
    start = planner.plan(MotionRequest(HOME_Q_RAD, tool_down([0.35, -0.4, 0.3], -np.pi / 2), EMPTY)).q_rad[-1]
    screen = [box(side * 0.7, 0.0, 0.65, 1.0, 0.02, 1.3) for side in (-1.0, 1.0)] + [box(0.0, 0.0, 1.0, 0.4, 0.02, 0.6)]
    goal = tool_down([0.35, 0.4, 0.3], -np.pi / 2)
    assert code_of(planner, MotionRequest(start, goal, world(screen, 0.02))) is OutcomeCode.NO_PATH


def test_start_slightly_in_contact_is_left(planner: MotionPlanner) -> None:
    """The fingertips stand 5 mm deep in a box: the first move is out of it."""
    start = planner.plan(MotionRequest(HOME_Q_RAD, tool_down([0.5, 0.1, 0.1], -np.pi / 2), EMPTY)).q_rad[-1]
    things = [box(0.5, 0.1, 0.05, 0.1, 0.16, 0.1)]
    judge = Judge(things)
    assert not judge.free(start)
    path = planner.plan(MotionRequest(start, tool_down([0.4, -0.2, 0.25], -np.pi / 2), world(things)))
    touching = [not judge.free(q) for q in path.q_rad]
    first_free = touching.index(False)
    assert not any(touching[first_free:])
    assert np.linalg.norm(tcp_pose(path.q_rad[first_free])[:3, 3] - tcp_pose(start)[:3, 3]) < 0.06


def test_start_deep_in_contact_is_collision(planner: MotionPlanner) -> None:
    cage = [box(0.3, 0.0, 0.35, 0.4, 0.5, 0.5)]
    goal = tool_down([0.5, 0.4, 0.2], -np.pi / 2)
    assert code_of(planner, MotionRequest(HOME_Q_RAD, goal, world(cage))) is OutcomeCode.COLLISION


@pytest.mark.parametrize("backend", IN_PROCESS)
def test_an_fr3_is_kept_within_its_own_limits(backend: str) -> None:
    """What a Panda may do would be too fast for it."""
    fr3, panda = create("motion", backend, {}, FR3), create("motion", backend, {}, PANDA)
    rng, differ, q = np.random.default_rng(3), 0, HOME_Q_RAD
    for _ in range(8):
        goal = tool_down(
            [rng.uniform(0.4, 0.65), rng.uniform(-0.4, 0.4), rng.uniform(0.1, 0.4)], rng.uniform(-2.2, -0.9)
        )
        path = fr3.plan(MotionRequest(q, goal, EMPTY))
        assert (path.q_rad >= FR3.q_min_rad).all()
        assert (path.q_rad <= FR3.q_max_rad).all()
        assert (np.abs(path.dq_rad_s) <= 0.5 * FR3.velocity + 1e-6).all()
        other = panda.plan(MotionRequest(q, goal, EMPTY))
        differ += bool((np.abs(other.dq_rad_s) > 0.5 * FR3.velocity + 1e-6).any())
        q = path.q_rad[-1]
    assert differ, "the Panda's limits would have been kept too: this test shows nothing"


def test_a_start_that_an_fr3_cannot_have_is_collision() -> None:
    q = HOME_Q_RAD.copy()
    q[5] = 0.3  # a Panda's wrist reaches this, an FR3's does not
    request = MotionRequest(q, tool_down([0.5, 0.0, 0.3], -np.pi / 2), EMPTY)
    create("motion", "roboplan", {}, PANDA).plan(request)
    assert code_of(create("motion", "roboplan", {}, FR3), request) is OutcomeCode.COLLISION


def test_from_the_goal_posture_the_straight_motion_after_it_arrives(planner: MotionPlanner) -> None:
    """From the posture that is nearest by time, each of these lines ends at the end of a joint's range."""
    for x, y, yaw in [(0.372, 0.226, -2.77), (0.312, 0.139, 0.72), (0.403, -0.042, 2.93), (0.318, -0.072, -0.44)]:
        above, low = tool_down([x, y, 0.16], yaw), tool_down([x, y, 0.06], yaw)
        q = planner.plan(MotionRequest(HOME_Q_RAD, above, EMPTY, then_straight_to=low)).q_rad[-1]
        assert np.abs(tcp_pose(planner.plan(MotionRequest(q, low, EMPTY, True)).q_rad[-1]) - low).max() < 2e-3
        q = planner.plan(MotionRequest(HOME_Q_RAD, above, EMPTY)).q_rad[-1]
        assert code_of(planner, MotionRequest(q, low, EMPTY, True)) is OutcomeCode.NO_PATH


def test_a_straight_motion_that_is_out_of_reach_does_not_keep_the_arm_from_what_is_before_it(
    planner: MotionPlanner,
) -> None:
    above, nowhere = tool_down([0.5, 0.1, 0.3], 0.0), tool_down([1.5, 0.1, 0.3], 0.0)
    path = planner.plan(MotionRequest(HOME_Q_RAD, above, EMPTY, then_straight_to=nowhere))
    assert np.abs(tcp_pose(path.q_rad[-1]) - above).max() < 1e-3


@pytest.mark.parametrize("backend", IN_PROCESS)
def test_a_start_at_the_end_of_a_joints_range_is_left(backend: str) -> None:
    """The search itself stays off the ends of the range, but the arm may stand there."""
    planner, wall = create("motion", backend, {"goal_postures": 1}), [box(0.5, 0.0, 0.22, 0.3, 0.05, 0.44)]
    judge = Judge(wall)
    turned = postures(tool_down([0.5, 0.25, 0.12], -2.8), Q_MAX_RAD[6:] - 0.002)
    start = next(q for q in turned if judge.free(q))
    path = planner.plan(MotionRequest(start, tool_down([0.5, -0.25, 0.12], -np.pi / 2), world(wall)))
    assert judge.path_free(path.q_rad)
    np.testing.assert_allclose(path.q_rad[0], start)
    assert (np.abs(path.dq_rad_s).max(axis=1) < 1e-9).sum() > 3, "the way has no corners: nothing was searched"
    PathSafety(PathSafetyConfig()).checked(path)


def test_the_same_request_has_the_same_path_bit_by_bit() -> None:
    """A world of its own each time, and other motions in between."""
    goal = tool_down([0.5, -0.25, 0.15], -np.pi / 2)
    start = create("motion", "roboplan").plan(
        MotionRequest(HOME_Q_RAD, tool_down([0.5, 0.25, 0.15], -np.pi / 2), EMPTY)
    )
    one, other = create("motion", "roboplan"), create("motion", "roboplan")
    other.plan(MotionRequest(HOME_Q_RAD, goal, world([box(0.4, 0.3, 0.1, 0.1, 0.1, 0.2)])))
    wall = [box(0.5, 0.0, 0.2, 0.3, 0.05, 0.4)]
    a, b = (planner.plan(MotionRequest(start.q_rad[-1], goal, world(wall))) for planner in (one, other))
    assert a.q_rad.tobytes() == b.q_rad.tobytes()
    assert a.t_s.tobytes() == b.t_s.tobytes()


def test_start_outside_the_joints_range_is_collision(planner: MotionPlanner) -> None:
    q = HOME_Q_RAD.copy()
    q[3] = Q_MAX_RAD[3] + 0.5
    assert code_of(planner, MotionRequest(q, tool_down([0.5, 0.0, 0.3], -np.pi / 2), EMPTY)) is OutcomeCode.COLLISION
