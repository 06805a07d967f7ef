"""The last look at paths: each check refuses (or slows) a path that violates only it, and lets its twin pass."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from fake_robot import FakeRobot

from stvla_ros.config import ConfigError, build
from stvla_ros.description.kinematics import link_poses, tcp_pose
from stvla_ros.description.panda import HOME_Q_RAD, Q_MAX_RAD
from stvla_ros.description.robot import FR3, PANDA
from stvla_ros.errors import CancelToken, OutcomeCode, StageError
from stvla_ros.geometry.se3 import pose
from stvla_ros.motion import timing
from stvla_ros.motion.safety import PathSafety, PathSafetyConfig, slowed
from stvla_ros.types import F64, Box, JointPath

CALM = timing.scaled_limits(PANDA, 0.3, 0.2, 0.1)


def to(goal: F64, start: F64 = HOME_Q_RAD, limits: timing.MotionLimits = CALM) -> JointPath:
    return timing.time_polyline(np.stack([start, goal]), limits)


def home(**joints: float) -> F64:
    """The home posture with some joints changed, e.g. ``q4=-1.0``."""
    q = HOME_Q_RAD.copy()
    for name, value in joints.items():
        q[int(name[1]) - 1] = value
    return q


def refusal(path: JointPath, safety: PathSafety, held: Box | None = None) -> StageError:
    with pytest.raises(StageError) as error:
        safety.checked(path, held)
    return error.value


def default(**settings: object) -> PathSafety:
    return PathSafety(build(PathSafetyConfig, settings, "path_safety"))


def test_an_ordinary_path_passes_as_it_is() -> None:
    path = to(home(q1=0.5, q4=-2.0))
    assert default().checked(path) is path


def test_the_fence_holds_the_whole_arm() -> None:
    """The elbow swings out of the fence, the tool stays inside."""
    swing = home(q1=1.0, q3=-1.2)
    fence = [-0.6, -0.2, -0.05, 1.0, 0.9, 1.3]
    tool = tcp_pose(to(swing).q_rad)[:, :3, 3]
    assert tool[:, 1].min() > -0.1
    error = refusal(to(swing), default(fence_m=fence))
    assert error.code is OutcomeCode.COLLISION
    for word in ("panda_link", "fence (y >= -0.2 m)", "mm", "executor.path_safety.fence_m"):
        assert word in error.sentence
    fence[1] = -0.4
    default(fence_m=fence).checked(to(swing))


@pytest.mark.parametrize(("corner", "side"), [(0, "x >="), (2, "z >="), (3, "x <="), (5, "z <=")])
def test_every_side_of_the_fence_counts(corner: int, side: str) -> None:
    fence = [-0.6, -0.9, -0.05, 1.0, 0.9, 1.3]
    goal = {0: home(q2=-1.5), 2: home(q2=0.5, q4=-2.2), 3: home(q2=0.5, q4=-1.2), 5: home(q2=0.2, q4=-0.2)}[corner]
    fence[corner] = {0: -0.3, 2: 0.25, 3: 0.7, 5: 1.0}[corner]
    assert side in refusal(to(goal), default(fence_m=fence)).sentence


def test_a_keep_out_box_stops_any_link() -> None:
    swing = home(q1=1.0, q3=-1.2)
    x, y, z = link_poses(swing)["panda_link4"][:3, 3]
    box = [x - 0.02, y - 0.02, z - 0.02, x + 0.02, y + 0.02, z + 0.02]
    error = refusal(to(swing), default(keep_out_m=[5.0, 5.0, 5.0, 6.0, 6.0, 6.0, *box]))
    assert error.code is OutcomeCode.COLLISION
    assert "keep-out box 2" in error.sentence
    assert "panda_link" in error.sentence
    default(keep_out_m=box).checked(to(home(q1=-1.0)))


def test_what_the_hand_holds_is_a_part_of_the_arm() -> None:
    low = home(q2=0.1, q4=-2.2, q6=2.3)
    held = Box(pose(np.eye(3), [0.0, 0.0, 0.15]), np.array([0.03, 0.03, 0.4]))
    bottom = float(tcp_pose(low)[2, 3])
    fence = [-0.6, -0.9, bottom - 0.1, 1.0, 0.9, 1.3]
    safety = default(fence_m=fence)
    safety.checked(to(low))
    assert "the held object" in refusal(to(low), safety, held).sentence
    safety.checked(to(low))  # it was let go


def test_a_path_may_lead_out_of_a_forbidden_place_but_not_deeper() -> None:
    fence = [-0.6, -0.9, -0.05, float(tcp_pose(HOME_Q_RAD)[0, 3]) - 0.03, 0.9, 1.3]
    back, forth = home(q2=-1.2), home(q2=-0.6)
    safety = default(fence_m=fence)
    safety.checked(to(back))
    assert "x <=" in refusal(to(forth), safety).sentence
    there_and_back = timing.time_polyline(np.stack([HOME_Q_RAD, back, HOME_Q_RAD]), CALM)
    assert "x <=" in refusal(there_and_back, safety).sentence


def test_one_forbidden_place_excuses_no_other() -> None:
    """The hand begins outside of the fence; on its way in, the elbow must still not enter a box."""
    fence = [-0.6, -0.9, -0.05, float(tcp_pose(HOME_Q_RAD)[0, 3]) - 0.03, 0.9, 1.3]
    elbow = link_poses(home(q2=-1.2))["panda_link4"][:3, 3]
    box = np.concatenate([elbow - 0.03, elbow + 0.03]).tolist()
    default(fence_m=fence).checked(to(home(q2=-1.2)))
    assert "keep-out box 1" in refusal(to(home(q2=-1.2)), default(fence_m=fence, keep_out_m=box)).sentence


def test_a_path_with_few_samples_cannot_be_checked() -> None:
    path = to(home(q1=0.5))
    chosen = [*range(0, len(path.t_s) - 1, 16), -1]
    few = JointPath(path.q_rad[chosen], path.dq_rad_s[chosen], path.t_s[chosen])
    assert "rad apart" in refusal(few, default()).sentence


@pytest.mark.parametrize(
    ("scales", "word"),
    [((1.0, 0.5, 0.1), "velocity"), ((0.4, 1.0, 0.3), "acceleration"), ((0.3, 0.5, 1.0), "jerk")],
)
def test_each_limit_of_the_joints(scales: tuple[float, float, float], word: str) -> None:
    """A profile that uses one limit fully passes; 4 % faster it exceeds that limit alone."""
    path = to(home(q1=1.5, q4=-1.6), limits=timing.scaled_limits(PANDA, *scales))
    loose = default(tool_speed_m_s=3.0, elbow_speed_m_s=3.0)
    assert loose.checked(path) is path
    error = refusal(slowed(path, 1.04), loose)
    assert error.code is OutcomeCode.NO_PATH
    for part in (word, "panda_joint", "limit", f"{word}_scale"):
        assert part in error.sentence


def test_a_step_of_the_acceleration_is_a_jerk() -> None:
    """Constant acceleration, then deceleration: no jerk within the pieces, but steps of 9 rad/s^2 between them."""
    t = np.arange(0.0, 0.4001, 0.01)
    half = np.minimum(t, 0.2)
    q = np.tile(HOME_Q_RAD, (len(t), 1))
    dq = np.zeros_like(q)
    q[:, 0] += 4.5 * half**2 + np.where(t > 0.2, 1.8 * (t - 0.2) - 4.5 * (t - 0.2) ** 2, 0.0)
    dq[:, 0] = 9.0 * half - 9.0 * np.maximum(t - 0.2, 0.0)
    assert "jerk of" in refusal(JointPath(q, dq, t), default()).sentence
    default().checked(
        slowed(JointPath(q, dq, t), 0.6)
    )  # steps of 3.2 rad/s^2: 3,240 rad/s^3, and twice that in between


def test_the_range_of_the_joints_has_a_margin() -> None:
    near = home(q7=float(Q_MAX_RAD[6]) - 0.003)
    error = refusal(to(near), default())
    assert error.code is OutcomeCode.NO_PATH
    assert "panda_joint7" in error.sentence
    default(joint_margin_rad=0.001).checked(to(near))
    default().checked(to(HOME_Q_RAD, start=near))  # from there to the middle of the range


def test_an_fr3_may_be_fast_only_in_the_middle_of_its_range() -> None:
    """1.3 rad/s is allowed to its joint 2 in the middle, but not at 1.45 rad, where the curve has 1.13."""
    fast = timing.scaled_limits(replace(FR3, velocity=np.full(7, 1.3)), 1.0, 0.9, 0.5)
    safety = PathSafety(PathSafetyConfig(fence_m=(-2.0, -2.0, -2.0, 2.0, 2.0, 2.0)), FR3)
    middle = to(home(q2=0.6), start=home(q2=-0.6), limits=fast)
    assert np.abs(middle.dq_rad_s[:, 1]).max() > 1.29
    safety.checked(middle)
    error = refusal(to(home(q2=1.7), start=home(q2=0.5), limits=fast), safety)
    assert "velocity" in error.sentence
    assert "panda_joint2" in error.sentence


def test_paths_start_and_end_at_rest_and_are_finite() -> None:
    path = to(home(q1=0.5))
    assert "starts at" in refusal(JointPath(path.q_rad[20:], path.dq_rad_s[20:], path.t_s[20:]), default()).sentence
    assert "ends at" in refusal(JointPath(path.q_rad[:-20], path.dq_rad_s[:-20], path.t_s[:-20]), default()).sentence
    q = path.q_rad.copy()
    q[3, 2] = np.nan
    assert "not finite" in refusal(JointPath(q, path.dq_rad_s, path.t_s), default()).sentence


def test_one_posture_is_a_path() -> None:
    path = JointPath(HOME_Q_RAD[None], np.zeros((1, 7)), np.zeros(1))
    assert default().checked(path) is path


def speed(path: JointPath, link: str) -> float:
    place = link_poses(path.q_rad)[link][:, :3, 3]
    return float((np.linalg.norm(np.diff(place, axis=0), axis=1) / np.diff(path.t_s)).max())


@pytest.mark.parametrize(
    ("setting", "link"), [("tool_speed_m_s", "panda_hand_tcp"), ("elbow_speed_m_s", "panda_link4")]
)
def test_tool_and_elbow_are_slowed_to_their_limit(setting: str, link: str) -> None:
    path = to(home(q1=1.2, q2=-0.3), limits=timing.scaled_limits(PANDA, 0.5, 0.5, 0.2))
    limit = 0.5 * speed(path, link)
    slow = default(**{setting: limit}).checked(path)
    np.testing.assert_array_equal(slow.q_rad, path.q_rad)
    np.testing.assert_allclose(slow.dq_rad_s * slow.t_s[-1], path.dq_rad_s * path.t_s[-1], atol=1e-9)
    assert speed(slow, link) == pytest.approx(limit, rel=0.02)


def test_a_part_in_the_slow_zone_is_slow() -> None:
    zone = [0.0, -0.9, -0.1, 1.0, -0.15, 1.0]
    inside, outside = to(home(q1=-0.9)), to(home(q1=0.9))
    safety = default(slow_m=zone, slow_speed_m_s=0.1)
    assert safety.checked(outside) is outside
    slow = safety.checked(inside)
    tool = tcp_pose(slow.q_rad)[:, :3, 3]
    speeds = np.linalg.norm(np.diff(tool, axis=0), axis=1) / np.diff(slow.t_s)
    there = tool[1:, 1] < -0.15
    assert there.any()
    assert 0.05 < speeds[there].max() <= 0.1  # the fingers are a little faster than the point between them


def test_a_held_object_in_the_slow_zone_counts() -> None:
    held = Box(pose(np.eye(3), [0.0, 0.0, 0.15]), np.array([0.03, 0.03, 0.3]))
    path = to(home(q1=0.5))
    zone = [0.2, -0.5, 0.0, 0.8, 0.5, float(tcp_pose(HOME_Q_RAD)[2, 3]) - 0.1]
    safety = default(slow_m=zone)
    assert safety.checked(path) is path
    assert safety.checked(path, held).t_s[-1] > 1.5 * path.t_s[-1]


class Tracker(FakeRobot):
    """Notes how long each path takes, and fails when told."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds: list[float] = []
        self.failure: StageError | None = None

    def follow(self, path: JointPath, cancel: CancelToken) -> None:
        self.seconds.append(float(path.t_s[-1]))
        if self.failure is not None:
            raise self.failure
        super().follow(path, cancel)


@pytest.mark.parametrize("code", [OutcomeCode.CANCELED, OutcomeCode.REFLEX, OutcomeCode.USER_STOPPED])
def test_after_an_interruption_the_next_motions_are_slow(code: OutcomeCode) -> None:
    robot, safety, there, back = Tracker(), default(soft_start_motions=2), home(q1=0.3), HOME_Q_RAD
    safety.follow(robot, to(there), CancelToken())
    robot.failure = StageError(code, "Interrupted.")
    with pytest.raises(StageError):
        safety.follow(robot, to(back, there), CancelToken())
    robot.failure = None
    for start, goal in ((there, back), (back, there), (there, back)):
        safety.follow(robot, to(goal, start), CancelToken())
    ratio = np.array(robot.seconds) / robot.seconds[0]
    np.testing.assert_allclose(ratio, [1, 1, 1 / 0.3, 1 / 0.3, 1], rtol=1e-6)


def test_a_new_goal_is_no_interruption() -> None:
    robot, safety = Tracker(), default()
    robot.failure = StageError(OutcomeCode.PREEMPTED, "A new keypose.")
    with pytest.raises(StageError):
        safety.follow(robot, to(home(q1=0.3)), CancelToken())
    robot.failure = None
    safety.follow(robot, to(home(q1=0.3)), CancelToken())
    assert robot.seconds[0] == robot.seconds[1]


def test_a_recovered_robot_starts_softly() -> None:
    robot, safety = Tracker(), default()
    safety.soften()
    safety.follow(robot, to(home(q1=0.3)), CancelToken())
    assert robot.seconds[0] == pytest.approx(to(home(q1=0.3)).t_s[-1] / 0.3)


def test_a_path_starts_where_the_arm_is() -> None:
    robot, path = Tracker(), to(home(q1=0.5), start=home(q3=0.08))
    with pytest.raises(StageError) as error:
        default().follow(robot, path, CancelToken())
    assert error.value.code is OutcomeCode.CONTROLLER_FAILED
    assert "panda_joint3" in error.value.sentence
    assert not robot.seconds


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"fence_m": [0.0, 0.0, 0.0, 1.0, 1.0]}, "fence_m: wanted six finite numbers"),
        ({"fence_m": []}, "fence_m: wanted six numbers"),
        ({"keep_out_m": [0.0] * 7}, "keep_out_m: wanted six finite numbers per box"),
        ({"keep_out_m": [0.0, 0.0, 0.0, 1.0, 1.0, float("nan")]}, "finite"),
        ({"slow_m": [0.0, 0.0, 0.0, 1.0, 1.0, 0.0]}, "thinner than 1 mm"),
        ({"keep_out_m": [0, 0, 0, 1, 1, 1]}, "wanted a list of float"),
        ({"soft_start_scale": 0.0}, "soft_start_scale: wanted 0.05 to 1.0"),
    ],
)
def test_wrong_settings_are_refused_with_a_sentence(settings: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        default(**settings)
