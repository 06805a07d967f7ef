"""The executor on an arm without physics: order of events, straight contact, and one real situation per failure."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field, fields, replace

import numpy as np
import pytest
import stalls
from fake_robot import FakeRobot, FakeRobotConfig
from motion.scenes import box, depth_image
from ray_caster import Box as Thing
from ray_caster import look_at

from stvla_ros import registry
from stvla_ros.config import ConfigError, build
from stvla_ros.description.kinematics import tcp_pose
from stvla_ros.description.panda import HOME_Q_RAD, V_MAX_RAD_S
from stvla_ros.description.robot import OPEN_WIDTH_M
from stvla_ros.errors import CancelToken, OutcomeCode, StageError
from stvla_ros.geometry.se3 import pose, tool_down
from stvla_ros.motion.collision import VoxelConfig
from stvla_ros.motion.executor import ExecutorConfig, PlannedExecutor
from stvla_ros.motion.planning import MotionPlannerConfig
from stvla_ros.motion.roboplan import RoboplanPlanner
from stvla_ros.motion.safety import PathSafetyConfig, slowed
from stvla_ros.types import (
    F64,
    Camera,
    DepthSource,
    JointPath,
    Keypose,
    MotionRequest,
    Outcome,
    RgbdFrame,
    RobotState,
    Trace3d,
)

BLOCK = box(0.5, 0.1, 0.02, 0.04, 0.04, 0.04)
ACROSS = -np.pi / 2  # the hand as at home


@dataclass
class Bench:
    """An executor, its robot, and a note of what was planned and done."""

    held_width_m: float = 0.0
    real_time: bool = False
    config: ExecutorConfig = field(default_factory=ExecutorConfig)
    things: list[Thing] = field(default_factory=lambda: [BLOCK])
    camera: Camera | None = None

    def __post_init__(self) -> None:
        self.robot = FakeRobot(FakeRobotConfig(real_time=self.real_time, held_width_m=self.held_width_m))
        self.inner = RoboplanPlanner(MotionPlannerConfig())
        self.requests: list[MotionRequest] = []
        self.log: list[str] = []
        self.paths: list[JointPath] = []
        self.executor = PlannedExecutor(self, self, self.config)
        self.cancel = CancelToken()

    def plan(self, request: MotionRequest) -> JointPath:
        path = self.inner.plan(request)
        self.requests.append(request)
        return path

    def state(self) -> RobotState:
        return self.robot.state()

    def follow(self, path: JointPath, cancel: CancelToken) -> None:
        self.log.append("move")
        self.paths.append(path)
        self.robot.follow(path, cancel)

    def move_gripper(self, width_m: float, cancel: CancelToken) -> float:
        self.log.append("open" if width_m > 0.04 else "close")
        return self.robot.move_gripper(width_m, cancel)

    def stop(self) -> None:
        self.robot.stop()

    def go(self, T: F64, is_open: bool = True, touch: bool = False) -> Outcome:
        frame = depth_image(self.things, self.robot.state().stamp_ns, self.camera)
        return self.executor.execute(Keypose(T, is_open, touch), frame, None, self.cancel)

    def fails(self, T: F64, is_open: bool = True, touch: bool = False) -> StageError:
        with pytest.raises(StageError) as error:
            self.go(T, is_open, touch)
        return error.value


def over_block(height_m: float, yaw: float = ACROSS) -> F64:
    return tool_down([0.5, 0.1, height_m], yaw)


def xyz(path: JointPath) -> F64:
    return tcp_pose(path.q_rad)[:, :3, 3]


def test_moves_with_the_old_gripper_state_then_actuates() -> None:
    bench = Bench(held_width_m=0.04)
    outcome = bench.go(over_block(0.15))
    assert outcome.ok
    assert set(outcome.times_s) == {"motion_plan", "motion", "gripper"}
    assert bench.log == ["move"]
    bench.go(over_block(0.02), is_open=False, touch=True)
    assert bench.log == ["move", "move", "close"]
    bench.go(over_block(0.2), is_open=False)
    assert bench.log[3:] == ["move"]
    np.testing.assert_allclose(bench.state().T_base_tcp, over_block(0.2), atol=1e-3)


def test_contact_is_made_and_left_on_a_straight_line() -> None:
    bench = Bench(held_width_m=0.04)
    bench.go(over_block(0.02), is_open=False, touch=True)  # from home: to a pose above first
    assert [r.straight for r in bench.requests] == [False, True]
    down = xyz(bench.paths[-1])
    assert np.abs(down[:, :2] - [0.5, 0.1]).max() < 5e-4
    assert down[0, 2] == pytest.approx(0.12, abs=1e-3)
    bench.requests.clear()
    bench.go(tool_down([0.4, -0.2, 0.2], ACROSS), is_open=True, touch=False)
    assert [r.straight for r in bench.requests] == [True, False]
    up = xyz(bench.paths[-2])
    assert np.abs(up[:, :2] - [0.5, 0.1]).max() < 5e-4
    assert up[-1, 2] == pytest.approx(0.10, abs=1e-3)


def test_from_right_above_the_way_down_is_one_line() -> None:
    bench = Bench(held_width_m=0.04)
    bench.go(over_block(0.15))
    bench.requests.clear()
    bench.go(over_block(0.02), is_open=False, touch=True)
    assert [r.straight for r in bench.requests] == [True]


def test_what_was_grasped_is_planned_with_until_it_is_released() -> None:
    bench = Bench(held_width_m=0.04)
    bench.go(over_block(0.02), is_open=False, touch=True)
    bench.things = []
    bench.requests.clear()
    bench.go(over_block(0.2), is_open=False)
    held = bench.requests[-1].world.held
    assert held is not None
    assert held.size_m[1] == pytest.approx(0.04, abs=0.002)
    assert bench.requests[-1].gripper_m == pytest.approx(0.04)
    bench.go(tool_down([0.45, -0.2, 0.03], ACROSS), is_open=True, touch=True)
    bench.go(tool_down([0.45, -0.2, 0.2], ACROSS), is_open=True)
    assert bench.requests[-1].world.held is None


def test_a_held_object_is_turned_where_it_is() -> None:
    """A screw: in contact, the hand turns about its axis and sinks a little, without first going back up."""
    bench = Bench(held_width_m=0.04)
    bench.go(over_block(0.02), is_open=False, touch=True)
    bench.things = []
    bench.go(over_block(0.2), is_open=False)
    bench.go(over_block(0.032), is_open=False, touch=True)
    before = len(bench.paths)
    turned = over_block(0.025, ACROSS - 1.5)
    bench.go(turned, is_open=True, touch=True)
    assert len(bench.paths) == before + 1
    assert xyz(bench.paths[-1])[:, 2].max() < 0.034
    np.testing.assert_allclose(bench.state().T_base_tcp, turned, atol=1e-3)
    assert bench.log[-1] == "open"


def test_a_hand_turned_at_the_grasp_stays_turned_while_it_holds() -> None:
    bench = Bench(held_width_m=0.04)
    asked = over_block(0.02, ACROSS + np.pi)
    bench.go(asked, is_open=False, touch=True)
    half_turn = np.diag([-1.0, -1.0, 1.0, 1.0])
    np.testing.assert_allclose(bench.state().T_base_tcp, asked @ half_turn, atol=1e-3)
    bench.things = []
    bench.go(over_block(0.2, ACROSS + np.pi + 0.4), is_open=False)
    np.testing.assert_allclose(bench.state().T_base_tcp, over_block(0.2, ACROSS + 0.4), atol=1e-3)


def test_exact_orientation_where_the_gripper_is_not_symmetric() -> None:
    bench = Bench(config=ExecutorConfig(symmetric_gripper=False))
    asked = over_block(0.2, ACROSS + 2.0)
    bench.go(asked)
    np.testing.assert_allclose(bench.state().T_base_tcp, asked, atol=1e-3)


def test_pressing_with_a_closed_hand_is_no_grasp() -> None:
    bench = Bench()
    bench.go(over_block(0.15), is_open=False)  # closes in the air: nothing is expected between the fingers
    assert bench.go(over_block(0.03), is_open=False, touch=True).ok
    assert bench.log == ["move", "close", "move"]


def test_grasp_of_nothing_is_told_and_opens_again() -> None:
    bench = Bench()
    error = bench.fails(over_block(0.02), is_open=False, touch=True)
    assert error.code is OutcomeCode.GRASP_FAILED
    assert bench.log[-2:] == ["close", "open"]
    assert bench.state().gripper_m == pytest.approx(OPEN_WIDTH_M)


def test_a_hand_that_homing_found_a_little_narrower_opens(monkeypatch: pytest.MonkeyPatch) -> None:
    """franka_gripper aborts a width above the one that homing has found, e.g. 79.7 of the nominal 80 mm."""
    bench = Bench()
    move = bench.robot.move_gripper

    def homed(width_m: float, cancel: CancelToken) -> float:
        if width_m > 0.0797:
            raise StageError(OutcomeCode.CONTROLLER_FAILED, "Commanding out of range width")
        return move(width_m, cancel)

    monkeypatch.setattr(bench.robot, "move_gripper", homed)
    bench.go(over_block(0.2), is_open=False)
    bench.go(over_block(0.25), is_open=True)
    assert bench.state().gripper_m == pytest.approx(OPEN_WIDTH_M)


def test_a_gripper_moved_by_others_is_noticed() -> None:
    bench = Bench(held_width_m=0.04)
    bench.go(over_block(0.02), is_open=False, touch=True)
    bench.robot.move_gripper(0.08, CancelToken())  # by hand: the object is out
    bench.go(over_block(0.2))
    assert bench.requests[-1].world.held is None
    assert bench.log[-1] == "move"  # it is open already


def test_an_executor_that_starts_with_a_full_hand_plans_with_it() -> None:
    bench = Bench(held_width_m=0.03)
    bench.robot.move_gripper(0.0, CancelToken())
    bench.go(tool_down([0.4, -0.2, 0.3], ACROSS), is_open=False)
    held = bench.requests[-1].world.held
    assert held is not None
    assert held.size_m[1] == pytest.approx(0.03)
    assert "close" not in bench.log


def test_object_lost_on_the_way_is_told() -> None:
    bench = Bench(held_width_m=0.04)
    bench.go(over_block(0.02), is_open=False, touch=True)
    bench.robot.config = replace(bench.robot.config, held_width_m=0.0)
    bench.robot.move_gripper(0.0, CancelToken())  # it slips out
    error = bench.fails(over_block(0.2), is_open=False)
    assert error.code is OutcomeCode.GRASP_FAILED
    assert "slipped" in error.sentence


@pytest.mark.parametrize(
    "T",
    [
        pose(np.eye(3), [np.nan, 0.0, 0.3]),
        pose(np.diag([1.0, 1.0, -1.0]), [0.5, 0.0, 0.3]),
        pose(2 * np.eye(3), [0.5, 0.0, 0.3]),
        tool_down([0.5, 0.0, -0.2], 0.0),
        tool_down([2.0, 0.0, 0.3], 0.0),
    ],
)
def test_keypose_out_of_bounds(T: F64) -> None:
    bench = Bench()
    assert bench.fails(T).code is OutcomeCode.KEYPOSE_OUT_OF_BOUNDS
    assert bench.log == []


def test_no_ik_far_out_and_looking_up() -> None:
    bench = Bench()
    assert bench.fails(pose(np.eye(3), [0.8, 0.6, 0.1])).code is OutcomeCode.NO_IK
    assert bench.log == []


def test_collision_when_touch_is_not_allowed() -> None:
    bench = Bench(held_width_m=0.04, things=[box(0.5, 0.1, 0.1, 0.1, 0.1, 0.2)])
    assert bench.fails(over_block(0.15)).code is OutcomeCode.COLLISION
    assert bench.log == []


def test_neighbour_in_the_way_of_the_fingers_is_collision_even_with_touch() -> None:
    walls = [box(0.5, 0.1 + side * 0.06, 0.06, 0.06, 0.04, 0.12) for side in (-1.0, 1.0)]
    bench = Bench(held_width_m=0.04, things=[BLOCK, *walls])
    assert bench.fails(over_block(0.02), is_open=False, touch=True).code is OutcomeCode.COLLISION
    assert bench.go(over_block(0.02, 0.0), is_open=False, touch=True).ok  # across, the fingers have room


def test_small_neighbours_right_beside_the_target_are_obstacles_too() -> None:
    """Pegs as close to the tool as the target's own corners, where the fingers come down."""
    target = box(0.5, 0.103, 0.02, 0.04, 0.04, 0.04)
    pegs = [box(0.5, 0.103 + side * 0.039, 0.015, 0.01, 0.01, 0.03) for side in (-1.0, 1.0)]
    bench = Bench(held_width_m=0.04, things=[target, *pegs])
    T = tool_down([0.5, 0.103, 0.02], ACROSS)
    assert bench.fails(T, is_open=False, touch=True).code is OutcomeCode.COLLISION
    assert bench.log == []
    assert bench.go(tool_down([0.5, 0.103, 0.02], 0.0), is_open=False, touch=True).ok  # across, there is room
    bench = Bench(held_width_m=0.04, things=[target])
    assert bench.go(T, is_open=False, touch=True).ok, "without the pegs"


def test_an_obstacle_that_the_arm_hides_is_remembered() -> None:
    """The image from right before the motion does not show the obstacle any more, an earlier one did."""
    tower = box(0.5, 0.1, 0.1, 0.1, 0.1, 0.2)
    for shown in (True, False):
        bench = Bench(things=[tower] if shown else [])
        assert bench.executor.observe(depth_image(bench.things, 0))
        frame = depth_image([], bench.state().stamp_ns)
        hidden = RgbdFrame(frame.rgb, np.where(frame.depth_m > 0.4, np.nan, frame.depth_m), frame.camera, 0)
        keypose = Keypose(over_block(0.15), True)
        if shown:
            with pytest.raises(StageError) as error:
                bench.executor.execute(keypose, hidden, None, bench.cancel)
            assert error.value.code is OutcomeCode.COLLISION
            bench.executor.reset()  # somebody has cleared the scene
        assert bench.executor.execute(keypose, hidden, None, bench.cancel).ok


def observing(bench: Bench, *things: Thing) -> list[bool]:
    """Show the executor these things in the middle of every motion; the list says which images it took."""
    taken: list[bool] = []
    follow = bench.robot.follow

    def watched(path: JointPath, cancel: CancelToken) -> None:
        follow(path, cancel)
        taken.append(bench.executor.observe(depth_image(list(things), bench.state().stamp_ns)))

    bench.robot.follow = watched  # type: ignore[method-assign]
    return taken


def hidden_frame(stamp_ns: int) -> RgbdFrame:
    """The arm fills the image, so nothing else is seen."""
    frame = depth_image([], stamp_ns)
    return RgbdFrame(frame.rgb, np.full_like(frame.depth_m, np.nan), frame.camera, stamp_ns)


def test_what_comes_or_goes_during_a_motion_counts_at_the_next_though_hidden_then() -> None:
    """A tower appears on the way while the arm moves and is hidden when the next motion begins; then it goes away."""
    tower, left, right = box(0.6, 0.0, 0.15, 0.1, 0.1, 0.3), *(tool_down([0.5, y, 0.2], ACROSS) for y in (-0.35, 0.35))

    def peak_m(bench: Bench, T: F64) -> float:
        """How high the tool is where the tower stands."""
        bench.paths.clear()
        bench.executor.execute(Keypose(T, True), hidden_frame(bench.state().stamp_ns), None, bench.cancel)
        way = np.concatenate([xyz(path) for path in bench.paths])
        near = np.linalg.norm(way[:, :2] - tower.centre_m[:2], axis=1) < 0.05
        return float(way[near, 2].min(initial=np.inf))

    bench = Bench(things=[])
    bench.go(right)
    assert peak_m(bench, left) < 0.3, "straight across where nothing stands"
    taken = observing(bench, tower)
    assert peak_m(bench, right) < 0.3, "the present path is kept"
    assert taken == [True]
    observing(bench)
    assert peak_m(bench, left) > 0.3, "over it, or around"
    assert peak_m(bench, right) < 0.3, "it has gone away"


def test_in_contact_and_from_before_the_hand_acted_no_images_are_taken() -> None:
    """The hand hides what it is to close on; later images show it in the hand."""
    bench = Bench(held_width_m=0.04)
    bench.go(over_block(0.15))
    old = depth_image([BLOCK], bench.state().stamp_ns)
    taken = observing(bench)
    bench.go(over_block(0.02), is_open=False, touch=True)
    assert taken == [False]
    assert not bench.executor.observe(old)
    assert bench.executor.observe(depth_image([], bench.state().stamp_ns))
    assert bench.executor.holds(bench.state())


def test_no_image_is_taken_while_a_motion_is_planned() -> None:
    bench, taken = Bench(), []
    plan = bench.inner.plan

    def watched(request: MotionRequest) -> JointPath:
        taken.append(bench.executor.observe(depth_image([], bench.state().stamp_ns)))
        return plan(request)

    bench.inner.plan = watched  # type: ignore[method-assign]
    bench.go(over_block(0.15))
    assert taken == [False]


def test_the_end_of_the_path_names_what_a_keypose_touches() -> None:
    """A press 4 cm off the middle of a block: the closed fingers come down along its side."""
    T, frame = tool_down([0.5, 0.138, 0.03], ACROSS), depth_image([BLOCK])
    xyz = np.array([[0.45, -0.2, 0.05], [0.5, 0.115, 0.04]], np.float32)
    trace = Trace3d(xyz, np.full(2, int(DepthSource.SENSOR), np.uint8), "plan", "Push the block.")
    bench = Bench()
    bench.robot.move_gripper(0.0, CancelToken())
    with pytest.raises(StageError) as error:
        bench.executor.execute(Keypose(T, False, True), frame, None, bench.cancel)
    assert error.value.code is OutcomeCode.COLLISION
    assert bench.executor.execute(Keypose(T, False, True), frame, trace, bench.cancel).ok


def test_no_path_where_a_screen_parts_the_workspace() -> None:
    """A screen through the base with room for the shoulder only is put up beside the arm, seen from its side."""
    bench = Bench(things=[], config=ExecutorConfig(voxels=VoxelConfig(unknown="free")))
    bench.go(tool_down([0.35, -0.4, 0.3], ACROSS))
    sides = [box(side * 0.65, 0.0, 0.65, 1.0, 0.02, 1.3) for side in (-1.0, 1.0)]
    screen = [*sides, box(0.0, 0.0, 0.925, 0.3, 0.02, 0.75)]  # a gap of 0.4 x 0.7 m would let the folded arm through
    K = np.array([[170.0, 0, 159.5], [0, 170.0, 119.5], [0, 0, 1]])
    bench.things, bench.camera = screen, Camera(K, 320, 240, look_at((0.2, -1.5, 1.2), (0.1, 0.0, 0.6)))
    bench.log.clear()
    assert bench.fails(tool_down([0.35, 0.4, 0.3], ACROSS)).code is OutcomeCode.NO_PATH
    assert bench.log == []


def test_old_image_is_refused() -> None:
    bench = Bench()
    bench.go(over_block(0.2))
    bench.go(tool_down([0.4, -0.2, 0.2], ACROSS))
    frame = depth_image([BLOCK], bench.robot.state().stamp_ns - 3_000_000_000)
    with pytest.raises(StageError) as error:
        bench.executor.execute(Keypose(over_block(0.2), True), frame, None, CancelToken())
    assert error.value.code is OutcomeCode.STALE_IMAGE


def test_an_arm_that_is_held_back_is_told() -> None:
    bench = Bench()
    bench.follow = lambda path, cancel: None  # type: ignore[method-assign]
    assert bench.fails(over_block(0.2)).code is OutcomeCode.CONTROLLER_FAILED


def test_cancel_before_the_start_does_nothing() -> None:
    bench = Bench()
    bench.cancel.cancel()
    assert bench.fails(over_block(0.2)).code is OutcomeCode.CANCELED
    assert bench.log == []


def test_cancel_during_planning_keeps_the_arm_still() -> None:
    bench = Bench()
    inner = bench.inner.plan
    bench.inner.plan = lambda r: (bench.cancel.cancel(OutcomeCode.PREEMPTED, "A new goal."), inner(r))[1]  # type: ignore[method-assign]
    assert bench.fails(over_block(0.2)).code is OutcomeCode.PREEMPTED
    assert bench.log == []
    np.testing.assert_array_equal(bench.state().q_rad, HOME_Q_RAD)


@pytest.mark.parametrize("after_s", [0.05, 0.3, 0.6])
def test_cancel_during_motion_stops_at_once(after_s: float) -> None:
    bench = Bench(real_time=True)
    moving = threading.Event()
    follow = bench.robot.follow
    bench.robot.follow = lambda path, cancel: (moving.set(), follow(path, cancel))[1]  # type: ignore[method-assign]
    canceled_at: list[float] = []

    def operator() -> None:
        assert moving.wait(20)
        time.sleep(after_s)
        canceled_at.append(stalls.clock())
        bench.cancel.cancel()

    thread = threading.Thread(target=operator)
    thread.start()
    assert bench.fails(tool_down([0.5, -0.4, 0.2], ACROSS)).code is OutcomeCode.CANCELED
    ended = stalls.clock()
    thread.join()
    assert ended - canceled_at[0] < 0.5
    where = bench.state().q_rad
    time.sleep(0.05)
    np.testing.assert_array_equal(bench.state().q_rad, where)
    assert np.linalg.norm(where - HOME_Q_RAD) > 0.0


def test_cancel_during_grasp_leaves_the_gripper_where_it_is() -> None:
    bench = Bench(held_width_m=0.0)
    close = bench.robot.move_gripper
    bench.robot.move_gripper = lambda w, c: (bench.cancel.cancel(), close(w, c))[1]  # type: ignore[method-assign]
    assert bench.fails(over_block(0.02), is_open=False, touch=True).code is OutcomeCode.CANCELED
    assert bench.state().gripper_m == pytest.approx(0.08)


def test_settings_out_of_range_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"velocity_scale: wanted 0\.05 to 1\.0"):
        build(MotionPlannerConfig, {"velocity_scale": 1.5}, "roboplan")
    with pytest.raises(ConfigError, match=r"voxels\.size_m"):
        build(ExecutorConfig, {"voxels": {"size_m": 0.0}}, "executor")


@pytest.mark.parametrize(
    ("width_m", "known", "holds"),
    [
        (0.0, True, False),
        (0.04, True, True),
        (0.06, True, True),
        (0.04, False, True),
        (0.06, False, True),
        (0.0, False, False),
    ],
)
def test_the_fingers_tell_whether_something_is_held(width_m: float, known: bool, holds: bool) -> None:
    """Also after a restart, where nobody knows why the fingers are apart."""
    bench = Bench(held_width_m=width_m, things=[])
    assert not bench.executor.holds(bench.state()), "an open hand"
    bench.go(over_block(0.2), is_open=False)
    executor = bench.executor if known else PlannedExecutor(bench, bench, bench.config)
    assert executor.holds(bench.state()) is holds


def test_live_settings_of_the_planners_act_on_the_next_motion() -> None:
    bench = Bench(things=[])
    bench.inner.reconfigure(replace(MotionPlannerConfig(), velocity_scale=0.1))
    bench.go(tool_down([0.5, -0.3, 0.3], ACROSS))
    peak = float(np.abs(bench.paths[-1].dq_rad_s / V_MAX_RAD_S).max())
    assert peak == pytest.approx(0.1, rel=0.02)


def test_every_backend_with_live_settings_takes_them() -> None:
    for kind in registry.BACKENDS:
        for name in registry.names(kind):
            backend = registry.load(kind, name)
            live = [field for field in fields(backend.Config) if field.metadata.get("live")]
            assert not live or callable(getattr(backend, "reconfigure", None)), (kind, name)


def test_a_keep_out_box_on_the_way_is_respected_before_anything_moves() -> None:
    box = (0.45, 0.05, 0.0, 0.55, 0.15, 0.4)
    bench = Bench(config=ExecutorConfig(path_safety=PathSafetyConfig(keep_out_m=box)))
    error = bench.fails(over_block(0.15))
    assert error.code is OutcomeCode.COLLISION
    assert "keep-out box 1" in error.sentence
    assert bench.log == []


def test_a_planner_that_is_too_fast_is_stopped_before_the_arm_is() -> None:
    bench = Bench()
    plan = bench.inner.plan
    bench.inner.plan = lambda request: slowed(plan(request), 2.5)  # type: ignore[method-assign]
    error = bench.fails(over_block(0.15))
    assert error.code is OutcomeCode.NO_PATH
    assert "limit" in error.sentence
    assert bench.log == []


def test_after_a_stop_the_arm_starts_softly() -> None:
    bench, other = Bench(), Bench()
    bench.executor.soften()
    for one in (bench, other):
        one.go(over_block(0.15))
    assert bench.paths[0].t_s[-1] > 3 * other.paths[0].t_s[-1]


def test_a_planner_that_does_not_answer_is_asked_once() -> None:
    """Other ways to the keypose would each wait as long."""
    bench, asked = Bench(), []

    def silent(request: MotionRequest) -> JointPath:
        asked.append(request)
        raise StageError(OutcomeCode.SERVER_TIMEOUT, "No answer.")

    bench.inner.plan = silent  # type: ignore[method-assign]
    assert bench.fails(over_block(0.02), is_open=False, touch=True).code is OutcomeCode.SERVER_TIMEOUT
    assert len(asked) == 1
    assert asked[0].cancel is bench.cancel
