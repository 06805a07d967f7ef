"""The keypose rule on sequences made by hand, and demonstrations cut by it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from ray_caster import Scene, block, front_camera

from stvla_ros.config import ConfigError
from stvla_ros.data.keyposes import PAUSE_FRAMES, discover_keyframes, keyframe_indices
from stvla_ros.data.recording import Recording, RecordingWriter
from stvla_ros.description.kinematics import tcp_pose
from stvla_ros.description.panda import HOME_Q_RAD
from stvla_ros.types import RobotState


def frames(gripper: str, arm: str) -> list[int]:
    """``o``/``c`` for open and closed, ``m``/``s`` for moving and still."""
    speeds = np.array([[0.5 if a == "m" else 0.0] * 7 for a in arm]).reshape(len(arm), 7)
    return keyframe_indices([g == "o" for g in gripper], speeds)


@pytest.mark.parametrize(
    ("gripper", "arm", "expected"),
    [
        ("", "", []),
        ("o", "s", []),
        ("oo", "mm", [1]),  # the end
        ("oooooo", "mmmmmm", [5]),
        ("ooocccccc", "mmmmmmmmm", [3, 8]),  # the gripper closes
        ("ooooocccoo", "mmmmmmmmmm", [5, 9]),  # opens just before the end: that one goes
        ("ooooooooo", "mmmsmmmmm", [3, 8]),  # a stop
        ("ooooooooo", "mmmmmmmsm", [8]),  # not on the last frame but one
        ("ooooooooo", "mmmmmmsmm", [6, 8]),
        ("ooooooooo", "smmmmmmmm", [8]),  # frame 0 is none
        ("oooooooooooo", "ssssssssssss", [5, 11]),  # but its stop starts the pause
        ("ooooooooooooo", "mssssssssssmm", [1, 6, 12]),  # at rest: again after the pause
        ("oooocccccc", "mmmsssmmmm", [4, 9]),  # still around a change: the change alone
        ("oooocccccccc", "mmmmmmsmmmmm", [4, 6, 11]),  # two frames after it, a stop counts again
        ("occccccc", "mmsmmmmm", [1, 7]),  # frame 2 looks at frame 0
        ("oooooooo", "mmmmmmmm", [7]),
        ("ococo", "mmmmm", [1, 2, 4]),  # each change; 3 and 4 are neighbours at the end
    ],
)
def test_rule(gripper: str, arm: str, expected: list[int]) -> None:
    assert frames(gripper, arm) == expected


def test_the_pause_is_four_frames() -> None:
    for gap in range(1, 8):
        arm = "mm" + "s" + "m" * (gap - 1) + "s" + "mmmm"
        assert (2 + gap in frames("o" * len(arm), arm)) == (gap > PAUSE_FRAMES)


def test_threshold_is_inclusive_and_nan_moves() -> None:
    dq = np.full((9, 7), 0.5)
    dq[3] = (0.1, -0.1, 0, 0, 0, 0, 0)
    assert keyframe_indices([True] * 9, dq) == [3, 8]
    dq[3, 2] = 0.1001
    assert keyframe_indices([True] * 9, dq) == [8]
    dq[3, 2] = np.nan
    assert keyframe_indices([True] * 9, dq) == [8]


@pytest.mark.parametrize(
    ("flags", "speeds"), [([True], np.zeros(7)), ([[True]], np.zeros((1, 7))), ([True], np.zeros((2, 7)))]
)
def test_other_shapes_are_refused(flags: list[bool], speeds: np.ndarray) -> None:
    with pytest.raises(ValueError, match="wanted"):
        keyframe_indices(flags, speeds)


def record(
    folder: Path, widths_m: list[float], moving: list[bool], heights_m: list[float] | None = None, blind: bool = False
) -> Recording:
    """The wrist and elbow give the tool its height, well enough."""
    writer = RecordingWriter(folder)
    frame, _ = Scene([block("red", 0.5, 0.1)]).render(front_camera(64, 48))
    for i, (width, moves) in enumerate(zip(widths_m, moving, strict=True)):
        q = HOME_Q_RAD + 0.001 * i
        if heights_m is not None:
            q = HOME_Q_RAD + heights_m[i] * np.array([0, -1.5, 0, 0, 0, 0, 0])
        robot = RobotState(q, np.full(7, 0.5 if moves else 0.0), tcp_pose(q), width, 10 * i)
        writer.append(frame, None if blind else robot)
    return Recording(folder)


def test_a_demonstration_is_cut(tmp_path: Path) -> None:
    widths = [0.08] * 6 + [0.06, 0.04, 0.04, 0.04, 0.04, 0.04]
    recording = record(tmp_path / "demo", widths, [True] * 3 + [False] + [True] * 8)
    steps = discover_keyframes(recording)
    assert [(s.frame, s.done_ns) for s in steps] == [(0, 30), (3, 60), (6, 110)]
    assert [s.keypose.gripper_open for s in steps] == [True, False, False]
    np.testing.assert_array_equal(steps[1].keypose.T_base_tcp, tcp_pose(HOME_Q_RAD + 0.006))


@pytest.mark.parametrize(
    ("heights_m", "closed_from", "expected"),
    [
        ((0.3, 0.1, 0.3, 0.3), None, [True, False, False]),  # a press
        ((0.3, 0.1, 0.1, 0.3), 2, [True, True, False]),  # a grasp: arrives, closes, lifts
        ((0.3, 0.3, 0.2, 0.1), 3, [False, False, True]),  # the end, gripper acts: let go
        ((0.3, 0.3, 0.2, 0.1), None, [False, False, False]),  # the end, nothing happens
        ((0.1, 0.1, 0.3, 0.3), 1, [False, False, False]),  # began below
        ((0.3, 0.31, 0.3, 0.3), 1, [False, False, False]),  # closes in the air
    ],
)
def test_where_the_tool_touched(
    tmp_path: Path, heights_m: tuple[float, ...], closed_from: int | None, expected: list[bool]
) -> None:
    """Eight frames per height, the first of them moving."""
    heights = [h for h in heights_m for _ in range(8)]
    widths = [0.08 if closed_from is None or i < 8 * closed_from + 4 else 0.0 for i in range(len(heights))]
    steps = discover_keyframes(record(tmp_path / "demo", widths, [i % 8 != 2 for i in range(len(heights))], heights))
    touched = {round(s.done_ns / 10) // 8 for s in steps if s.keypose.may_collide}
    assert [i in touched for i in (1, 2, 3)] == expected


def test_what_is_no_demonstration_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="at least two frames"):
        discover_keyframes(record(tmp_path / "one", [0.08], [True]))
    with pytest.raises(ConfigError, match="frame 0 lacks the arm's state"):
        discover_keyframes(record(tmp_path / "blind", [0.08, 0.08], [True, True], blind=True))


# --- velocities that were not measured -----------------------------------------------------------------------------

STEP_NS = 50_000_000
NAN, ZERO = np.full(7, np.nan), np.zeros(7)


def film(
    folder: Path,
    q: npt.ArrayLike,
    dq: Callable[[int], npt.ArrayLike],
    widths_m: Sequence[float] | None = None,
    stamps_ns: Sequence[int] | None = None,
) -> Recording:
    """One joint moves: its positions (N,) at 20 Hz, and the velocities (7,) that were written for a frame."""
    writer = RecordingWriter(folder)
    frame, _ = Scene([block("red", 0.5, 0.1)]).render(front_camera(16, 12))
    for i, place in enumerate(np.asarray(q)):
        joints = np.array([place, *HOME_Q_RAD[1:]])
        stamp_ns = 10**18 + i * STEP_NS if stamps_ns is None else stamps_ns[i]
        width_m = 0.08 if widths_m is None else widths_m[i]
        writer.append(frame, RobotState(joints, np.asarray(dq(i), np.float64), tcp_pose(joints), width_m, stamp_ns))
    return Recording(folder)


def places(*pieces: tuple[float, int]) -> np.ndarray:
    """Positions of a joint that goes at a speed [rad/s] for some frames, one piece after another."""
    return np.cumsum(np.concatenate([np.full(n, 0.05 * speed) for speed, n in pieces]))


@pytest.mark.parametrize(
    "unknown",
    [NAN, ZERO, np.array([np.nan, *[0.0] * 6]), np.array([0.0, np.nan, *[0.0] * 5])],
    ids=["none", "written as 0", "NaN for the one that moves", "NaN for another"],
)
def test_a_motion_without_velocities_is_one_step(tmp_path: Path, unknown: np.ndarray) -> None:
    assert [s.done_ns for s in discover_keyframes(film(tmp_path / "demo", places((0.4, 60)), lambda i: unknown))] == [
        10**18 + 59 * STEP_NS
    ]


@pytest.mark.parametrize("unknown", [NAN, ZERO])
def test_stops_are_found_by_positions_as_by_velocities(tmp_path: Path, unknown: np.ndarray) -> None:
    pieces = ((0.5, 20), (0.0, 4), (-0.5, 15), (0.0, 3), (1.5, 10))
    speeds = np.concatenate([np.full(n, speed) for speed, n in pieces])
    measured = film(tmp_path / "measured", places(*pieces), lambda i: [speeds[i], *[0.0] * 6])
    blind = film(tmp_path / "blind", places(*pieces), lambda i: unknown)
    ends = [[round((s.done_ns - 10**18) / STEP_NS) for s in discover_keyframes(demo)] for demo in (measured, blind)]
    assert len(ends[0]) == len(ends[1]) == 3
    assert np.abs(np.subtract(*ends)).max() <= 1, ends


def test_velocities_that_come_at_times(tmp_path: Path) -> None:
    """Every third message has some; the arm never stops."""
    moving = np.array([0.4, *[0.0] * 6])
    assert len(discover_keyframes(film(tmp_path / "demo", places((0.4, 60)), lambda i: NAN if i % 3 else moving))) == 1


def test_states_that_come_more_rarely_than_frames(tmp_path: Path) -> None:
    """Two or three frames have the same state: the arm has not stopped between them."""
    at = np.repeat(np.arange(24), [2, 3] * 12)
    stamps = (10**18 + at * 125_000_000).tolist()
    assert len(discover_keyframes(film(tmp_path / "demo", 0.05 * at, lambda i: NAN, stamps_ns=stamps))) == 1


def test_measured_velocities_are_kept(tmp_path: Path) -> None:
    """A stop of one frame that only the velocities show; and a joint that stands has a velocity of 0 rightly."""
    speeds = [0.0 if i == 20 else 0.4 for i in range(40)]
    assert len(discover_keyframes(film(tmp_path / "demo", places((0.4, 40)), lambda i: [speeds[i], *[0.0] * 6]))) == 2


def test_an_arm_at_rest_without_velocities_rests(tmp_path: Path) -> None:
    widths = [0.08] * 10 + [0.0] * 10
    blind = discover_keyframes(film(tmp_path / "blind", np.zeros(20), lambda i: NAN, widths))
    known = discover_keyframes(film(tmp_path / "known", np.zeros(20), lambda i: ZERO, widths))
    assert [s.done_ns for s in blind] == [s.done_ns for s in known]


@pytest.mark.parametrize(
    "stamps_ns", [[0] * 20, list(range(10**9, 10**9 + 10)) + list(range(10**9, 10**9 + 10))], ids=["none", "set back"]
)
@pytest.mark.parametrize("unknown", [NAN, ZERO])
def test_neither_velocities_nor_stamps_is_refused(tmp_path: Path, unknown: np.ndarray, stamps_ns: list[int]) -> None:
    with pytest.raises(
        ConfigError, match=r"velocities are not measured .* because the stamps of the arm's states do not increase"
    ):
        discover_keyframes(film(tmp_path / "demo", places((0.4, 20)), lambda i: unknown, stamps_ns=stamps_ns))
