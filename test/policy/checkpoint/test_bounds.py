"""Bounds of 3D Diffuser Actor: one task's box, or the union of all in the file; then the margin."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from stvla_ros.config import ConfigError
from stvla_ros.policy.checkpoint.bounds import ALL, RLBENCH_18_TASKS_M, check_bounds, read_bounds, with_margin

BOXES = {
    "close_jar": [[-0.07, -0.34, 0.76], [0.52, 0.40, 0.93]],
    "turn_tap": [[-0.01, -0.20, 0.75], [0.39, 0.21, 0.90]],
    "put_item_in_drawer": [[0.07, -0.52, 0.91], [0.35, 0.48, 1.47]],
}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "bounds.json"
    path.write_text(json.dumps(BOXES))
    return path


def test_one_task_has_its_own_box(file: Path) -> None:
    assert np.array_equal(read_bounds(file, "turn_tap"), BOXES["turn_tap"])


def test_several_have_the_union_of_all(file: Path) -> None:
    assert read_bounds(file, ALL).tolist() == [[-0.07, -0.52, 0.75], [0.52, 0.48, 1.47]]


def test_margin_goes_both_ways(file: Path) -> None:
    wide = with_margin(read_bounds(file, "turn_tap"), 0.08, "x")
    assert np.allclose(wide, [[-0.09, -0.28, 0.67], [0.47, 0.29, 0.98]])


def test_published_union() -> None:
    assert np.allclose(RLBENCH_18_TASKS_M, [[-0.0701, -0.5158, 0.7529], [0.6081, 0.4784, 1.4716]], atol=1e-4)


def test_a_task_that_is_not_there(file: Path) -> None:
    """The published code silently takes the union then."""
    with pytest.raises(ConfigError, match=r"has no task 'close_jars'. Did you mean 'close_jar'"):
        read_bounds(file, "close_jars")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not valid JSON"),
        ("[]", "wanted {task:"),
        ("{}", "wanted {task:"),
        ('{"a": [[0, 0, 0], [1, 1]]}', "task 'a': wanted bounds"),
        ('{"a": [[0, 0, 0], [1, -1, 1]]}', "lower corner first"),
        ('{"a": "box"}', "task 'a': wanted bounds"),
        ('{"a": [[0, 0, NaN], [1, 1, 1]]}', "task 'a': wanted bounds"),
    ],
)
def test_files_of_another_form(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "bounds.json"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message) as error:
        read_bounds(path, ALL)
    assert str(path) in str(error.value)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="found nothing"):
        read_bounds(tmp_path / "none.json", ALL)


@pytest.mark.parametrize("margin", [-0.01, 4.0, float("nan")])
def test_margins_out_of_range(margin: float) -> None:
    with pytest.raises(ConfigError, match="--buffer is"):
        with_margin(check_bounds(RLBENCH_18_TASKS_M, "x"), margin, "x")
