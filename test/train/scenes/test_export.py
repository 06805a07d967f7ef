"""Scenes as conversations of ST-Human, and the command that makes them."""

from __future__ import annotations

from pathlib import Path

import pytest

from stvla_ros.cli import main
from stvla_ros.commands import exit_codes
from stvla_ros.data.st_human.samples import by_task
from stvla_ros.data.st_human.samples_json import read_samples
from stvla_ros.planning.parse import parse_points
from stvla_ros.train.scenes import shards


def test_the_command_renders_and_exports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "PER_SHARD", 6)
    file = tmp_path / "human" / "val.json"
    folder = ["--output", str(tmp_path / "scenes")]
    assert main(["scenes", *folder, "--split", "val", "--count", "6", "--st-human", str(file)]) == 0
    samples = by_task(read_samples(file))
    assert {"pointing", "trajectory", "depth", "next_action", "progress"} <= set(samples)
    path = samples["trajectory"][0]
    assert path.objects.traj_2d == tuple(map(tuple, parse_points(path.answer)))
    depth = samples["depth"][0]
    assert len(depth.images) == 2
    assert depth.objects.start_depth_m is not None
    assert f"Start depth: {round(1000 * depth.objects.start_depth_m)} mm" in depth.messages[-2].content
    assert [len(turn.images) for turn in depth.turns()] == [1, 0, 1, 0]


def test_training_without_scenes_says_how_to_get_some(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train-planner", "heatmap", "--data", str(tmp_path)]) == exit_codes.USAGE
    assert "stvla scenes" in capsys.readouterr().err
