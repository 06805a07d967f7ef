"""The keypose rule on sequences made by hand, and demonstrations cut by it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tabletop import Scene, block, front_camera

from stvla_ros.config import ConfigError
from stvla_ros.data.keyposes import PAUSE_FRAMES, cut, keypose_frames
from stvla_ros.data.recording import Recording, RecordingWriter
from stvla_ros.description.kinematics import tcp_pose
from stvla_ros.description.panda import HOME_Q_RAD
from stvla_ros.types import RobotState


def frames(gripper: str, arm: str) -> list[int]:
    """``o``/``c`` for open and closed, ``m``/``s`` for moving and still."""
    speeds = np.array([[0.5 if a == "m" else 0.0] * 7 for a in arm]).reshape(len(arm), 7)
    return keypose_frames([g == "o" for g in gripper], speeds)


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
    assert keypose_frames([True] * 9, dq) == [3, 8]
    dq[3, 2] = 0.1001
    assert keypose_frames([True] * 9, dq) == [8]
    dq[3, 2] = np.nan
    assert keypose_frames([True] * 9, dq) == [8]


@pytest.mark.parametrize(
    ("flags", "speeds"), [([True], np.zeros(7)), ([[True]], np.zeros((1, 7))), ([True], np.zeros((2, 7)))]
)
def test_other_shapes_are_refused(flags: list[bool], speeds: np.ndarray) -> None:
    with pytest.raises(ValueError, match="wanted"):
        keypose_frames(flags, speeds)


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
    steps = cut(recording)
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
    steps = cut(record(tmp_path / "demo", widths, [i % 8 != 2 for i in range(len(heights))], heights))
    touched = {round(s.done_ns / 10) // 8 for s in steps if s.keypose.may_collide}
    assert [i in touched for i in (1, 2, 3)] == expected


def test_what_is_no_demonstration_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="at least two frames"):
        cut(record(tmp_path / "one", [0.08], [True]))
    with pytest.raises(ConfigError, match="frame 0 is without the arm's state"):
        cut(record(tmp_path / "blind", [0.08, 0.08], [True, True], blind=True))
