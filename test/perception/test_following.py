"""A plan over time: steady decisions, progress of the tool, and what is noticed when the scene moves."""

from dataclasses import replace

import numpy as np
import pytest
from drawn_plans import PICK_TO_PLATE
from ray_caster import Scene, block, front_camera, home_robot, look_at, plate

from stvla_ros.errors import OutcomeCode, StageError
from stvla_ros.geometry.cameras import cloud
from stvla_ros.geometry.paths import arc_length
from stvla_ros.geometry.se3 import tool_down
from stvla_ros.perception.following import PathFollower, gone
from stvla_ros.perception.tracking import InstanceTracker, TrackerConfig
from stvla_ros.perception.tube import Relevance, TubeConfig
from stvla_ros.types import Camera, RobotState, Segments, Trace3d

CAMERA = front_camera(320, 240)
RED, BLUE = block("red", 0.5, 0.1, 0.4), block("blue", 0.65, 0.0)
PLATE = plate(0.45, -0.22)
TRACE = Trace3d(PICK_TO_PLATE.astype(np.float32), np.full(8, 2, np.uint8), "p", "")


class Follow:
    """Tracker and follower on ray-cast frames with true masks."""

    def __init__(self, trace: Trace3d = TRACE, end_radius_m: float = 0.10) -> None:
        self.tracker, self.follower = (
            InstanceTracker(TrackerConfig()),
            PathFollower(trace, TubeConfig(end_radius_m=end_radius_m, end_domain_m=end_radius_m)),
        )
        self.frames = 0

    def __call__(
        self, *things: object, camera: Camera = CAMERA, noise_m: float = 0.0015, robot: RobotState | None = None
    ) -> tuple[Relevance, tuple[str, ...]]:
        self.frames += 1
        frame, ids = Scene(list(things)).render(camera, noise_m, self.frames, self.frames)  # type: ignore[arg-type]
        robot, points = robot or home_robot(), cloud(frame)
        raw = Segments(ids, tuple(np.unique(ids[ids > 0]).tolist()))
        segments = self.tracker.update(raw, frame, points, robot)
        self.follower.advance(robot)
        relevance = self.follower.relevance(segments, self.tracker.instances, points)
        return relevance, self.follower.check(frame, segments, relevance, points, noise_m)


def tool_at(x: float, y: float, z: float) -> RobotState:
    return replace(home_robot(0.04), T_base_tcp=tool_down([x, y, z], 0.0))


@pytest.mark.parametrize("edge_m", [0.047, 0.05, 0.053])
def test_a_thing_at_the_tubes_wall_does_not_flicker(edge_m: float) -> None:
    follow = Follow()
    beside = replace(BLUE, centre_m=(0.5, 0.1 + edge_m + 0.02, 0.02), yaw_rad=0.0)
    decisions = {follow(RED, *PLATE, beside)[0].kept for _ in range(12)}
    assert len(decisions) == 1


def test_a_thing_that_comes_into_the_tube_is_kept_from_then_on() -> None:
    follow = Follow()
    assert follow(RED, *PLATE, BLUE)[0].kept == (1, 2)
    for k in range(1, 6):
        relevance, _ = follow(RED, *PLATE, replace(BLUE, centre_m=(0.65 - 0.024 * k, -0.006 * k, 0.02 + 0.03 * k)))
    assert relevance.kept == (1, 2, 3)


def test_a_thing_of_which_more_comes_to_light_is_decided_on_anew() -> None:
    """Of the plate only a part beyond the tube's reach is seen at first."""
    follow = Follow(replace(TRACE, xyz_m=TRACE.xyz_m + np.float32([0.08, -0.04, 0.0])), end_radius_m=0.0)
    screen = block("black", 0.62, -0.26, z=0.09, size=0.18)
    first, _ = follow(RED, *PLATE, screen)
    assert 2 in first.removed
    later, _ = follow(RED, *PLATE)
    assert 2 in later.kept


def test_progress_goes_with_the_tool_and_never_back() -> None:
    follower = PathFollower(TRACE, TubeConfig())
    lengths = arc_length(PICK_TO_PLATE)
    follower.advance(tool_at(0.45, -0.22, 0.03))  # at the goal, before it ever was at the start
    assert follower.progress_m == 0.0
    for i in (0, 1, 2, 4, 3, 6, 7):
        follower.advance(tool_at(*PICK_TO_PLATE[i]))
    assert follower.progress_m == pytest.approx(lengths[-1], abs=1e-4)
    for i, expected in ((3, 3), (5, 5), (2, 5)):
        follower = follower if i != 3 else PathFollower(TRACE, TubeConfig())
        follower.advance(tool_at(*PICK_TO_PLATE[0]))
        follower.advance(tool_at(*PICK_TO_PLATE[i]))
        assert follower.progress_m == pytest.approx(lengths[expected], abs=1e-4)


def test_progress_waits_while_the_tool_is_off_the_path() -> None:
    follower = PathFollower(TRACE, TubeConfig())
    follower.advance(tool_at(*PICK_TO_PLATE[1]))
    reached = follower.progress_m
    follower.advance(tool_at(0.2, 0.4, 0.5))
    assert follower.progress_m == reached > 0


@pytest.mark.parametrize("where", ["start", "end"])
def test_what_the_path_was_drawn_for_is_missed(where: str) -> None:
    follow = Follow()
    follow(RED, *PLATE, BLUE)
    moved = [replace(RED, centre_m=(0.5, 0.16, 0.02))] if where == "start" else [RED]
    moved += plate(0.45, -0.08) if where == "end" else PLATE
    with pytest.raises(StageError, match=f"The object at the path's {where}") as caught:
        follow(*moved, BLUE)
    assert caught.value.code is OutcomeCode.SCENE_CHANGED


@pytest.mark.parametrize("where", ["start", "end", "neither"])
def test_a_move_between_drawing_and_the_first_frame_is_noticed(where: str) -> None:
    """A planner that thinks for seconds draws on an old image."""
    moved = replace(RED, centre_m=(0.5, 0.15, 0.02)) if where == "start" else RED
    goal = plate(0.45, -0.13) if where == "end" else PLATE
    follow = Follow()
    follow.follower = PathFollower(TRACE, TubeConfig(), Scene([RED, *PLATE, BLUE]).render(CAMERA, 0.0015, 99)[0])
    if where == "neither":
        assert follow(RED, *PLATE, replace(BLUE, centre_m=(0.7, 0.2, 0.02)))[1] == ()
        return
    for _ in range(2):
        with pytest.raises(StageError, match=f"The object at the path's {where}") as caught:
            follow(moved, *goal, BLUE)
        assert caught.value.code is OutcomeCode.SCENE_CHANGED


def test_other_things_may_move_and_noise_is_no_move() -> None:
    follow = Follow()
    for k in range(10):
        assert follow(RED, *PLATE, replace(BLUE, centre_m=(0.65, 0.03 * k, 0.02)))[1] == ()


def test_the_hand_may_take_what_stands_at_the_start() -> None:
    follow = Follow()
    follow(RED, *PLATE, BLUE)
    follow(RED, *PLATE, BLUE, robot=tool_at(0.5, 0.1, 0.05))
    relevance, notes = follow(*PLATE, BLUE, robot=tool_at(0.5, 0.1, 0.2))
    assert notes == ()
    assert len(relevance.kept) == 1


def test_a_moving_camera_changes_no_decision_and_is_told() -> None:
    follow = Follow()
    first, notes = follow(RED, *PLATE, BLUE)
    assert notes == ()
    moved = replace(CAMERA, T_base_camera=look_at((1.1, 0.25, 0.75), (0.45, 0.0, 0.05)))
    second, notes = follow(RED, *PLATE, BLUE, camera=moved)
    assert second == first
    assert "The camera moved 27" in notes[0]


def test_hidden_points_do_not_tell_that_a_thing_is_gone() -> None:
    frame, ids = Scene([RED]).render(CAMERA)
    points = cloud(frame).reshape(3, -1).T[ids.ravel() == 1].astype(np.float64)
    assert gone(points, frame, 0.006) == 0.0
    assert gone(points, Scene([]).render(CAMERA)[0], 0.006) > 0.9
    half = Scene([replace(RED, centre_m=(0.5, 0.12, 0.02))]).render(CAMERA)[0]
    assert 0.2 < gone(points, half, 0.006) < 0.7
    screened = Scene([block("black", 0.7, 0.1, size=0.3)]).render(CAMERA)[0]
    assert gone(points, screened, 0.006) == 0.0
    assert gone(points + np.array([0, 5.0, 0]), frame, 0.006) == 0.0


@pytest.mark.parametrize("value", [np.nan, 0.0, -1.0, np.inf, 65.535])
def test_where_nothing_is_measured_nothing_is_gone(value: float) -> None:
    frame, ids = Scene([RED]).render(CAMERA)
    points = cloud(frame).reshape(3, -1).T[ids.ravel() == 1].astype(np.float64)
    depth = np.where(ids == 1, np.float32(value), frame.depth_m)
    assert gone(points, replace(frame, depth_m=depth), 0.006) == 0.0
