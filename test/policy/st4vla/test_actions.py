"""Action chunks: rows and poses, statistics, what follows an episode's end."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from stvla_ros.config import ConfigError
from stvla_ros.geometry.se3 import pose
from stvla_ros.policy.st4vla.actions import (
    DELTA,
    KEYPOSE,
    ActionStatistics,
    ToolPose,
    check_template,
    chunk_at,
    filled_in,
    rows,
    statistics_from,
    tool_poses,
)


def episode(count: int, seed: int = 0) -> list[ToolPose]:
    rng = np.random.default_rng(seed)
    return [
        ToolPose(pose(Rotation.random(random_state=rng).as_matrix(), rng.uniform(-1, 1, 3)), bool(k // 2 % 2))
        for k in range(count)
    ]


def same(a: list[ToolPose], b: list[ToolPose]) -> None:
    assert [p.gripper_open for p in a] == [p.gripper_open for p in b]
    for mine, theirs in zip(a, b, strict=True):
        np.testing.assert_allclose(mine.T_base_tcp, theirs.T_base_tcp, atol=1e-9)


def test_absolute_rows_are_the_poses() -> None:
    poses = episode(6)
    found = rows(poses, KEYPOSE)
    assert found.shape == (6, 10)
    same(tool_poses(found, KEYPOSE, np.eye(4)), poses)
    noisy = found + np.random.default_rng(1).normal(0, 0.05, found.shape)
    for p in tool_poses(noisy, KEYPOSE, np.eye(4)):
        np.testing.assert_allclose(p.T_base_tcp[:3, :3] @ p.T_base_tcp[:3, :3].T, np.eye(3), atol=1e-12)
        assert np.linalg.det(p.T_base_tcp[:3, :3]) == pytest.approx(1)


def test_deltas_add_up_to_the_poses_where_the_gripper_changes_and_at_the_end() -> None:
    poses = episode(8)
    found = rows(poses, DELTA)
    assert found.shape == (7, 7)
    is_open = [p.gripper_open for p in poses]
    wanted = [p for k, p in enumerate(poses) if k and (k == 7 or is_open[k] != is_open[k + 1])]
    assert 2 < len(wanted) < 7
    same(tool_poses(found, DELTA, poses[0].T_base_tcp), wanted)


@pytest.mark.parametrize("kind", [KEYPOSE, DELTA])
def test_after_the_end_tool_and_gripper_stay(kind: str) -> None:
    poses = episode(4)  # ends with an open gripper
    assert poses[-1].gripper_open
    whole = rows(poses, kind)
    chunk, counted = chunk_at(whole, len(whole) - 1, 5, kind)
    assert counted.tolist() == [True, False, False, False, False]
    start = poses[-2].T_base_tcp
    ends = tool_poses(chunk, kind, start)
    same([ends[-1]], [poses[-1]])
    assert all(p.gripper_open for p in ends)
    inside, counted = chunk_at(whole, 0, 2, kind)
    np.testing.assert_array_equal(inside, whole[:2])
    assert counted.all()


def test_normalised_actions_come_back() -> None:
    rng = np.random.default_rng(0)
    raw = np.column_stack([rng.normal(0.5, 0.2, (500, 3)), np.full(500, 0.25), rng.integers(0, 2, 500)])
    statistics = ActionStatistics.of(raw)
    small = statistics.normalised(raw)
    inside = (raw[:, :3] >= statistics.q01[:3]) & (raw[:, :3] <= statistics.q99[:3])
    assert 0.95 < inside.mean() < 1
    assert np.abs(small[:, :4]).max() == 1.0
    assert (small[:, 3] == 0).all()
    assert set(small[:, 4]) == {0.0, 1.0}  # the gripper is not normalised
    back = statistics.raw(small)
    np.testing.assert_allclose(back[:, :3][inside], raw[:, :3][inside], atol=1e-12)
    np.testing.assert_allclose(back[:, 3:], raw[:, 3:], atol=1e-12)
    again = statistics_from(statistics.entry(), 5, "here")
    np.testing.assert_array_equal(again.normalised(raw), small)
    assert statistics.raw(np.full(5, 9.0))[:3].tolist() == statistics.q99[:3].tolist()  # no answer leaves the data


def test_a_chunk_without_a_rotation_or_a_number_is_refused() -> None:
    row = rows(episode(1), KEYPOSE)
    for columns, value in ((slice(3, 6), 0.0), (slice(6, 9), row[0, 3:6]), (slice(0, 1), np.nan)):
        odd = row.copy()
        odd[0, columns] = value
        with pytest.raises(ValueError, match=r"not two columns|not finite"):
            tool_poses(odd, KEYPOSE, np.eye(4))


def test_templates() -> None:
    assert filled_in("Your task is to {instruction}. Go.", "Put it down. ") == "Your task is to put it down. Go."
    assert check_template("Do {instruction}", "here") == "Do {instruction}"
    with pytest.raises(ConfigError, match="here: the prompt 'Do it' has no place"):
        check_template("Do it", "here")
