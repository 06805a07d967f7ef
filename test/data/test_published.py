"""``stvla train`` on the published formats: tiny data sets made here, with the arrays of the published packaging scripts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from data import test_flowmatch_zarr, test_peract_dat

from stvla_ros.cli import main
from stvla_ros.commands.exit_codes import USAGE
from stvla_ros.config import ConfigError
from stvla_ros.data.keypose_sample import DatasetError
from stvla_ros.data.published import KeyposeArrays, is_published, load_published
from stvla_ros.policy.checkpoint.policy_file import read_policy_file
from stvla_ros.policy.learned import FlowmatchActorPolicy, KeyposePolicyConfig

SENTENCES = {"close_jar": {"0": ["close the red jar", "screw on the red lid"], "3": ["close the blue jar"]}}
CAMERAS = ("left_shoulder", "right_shoulder", "wrist", "front")


@pytest.fixture
def sentences(tmp_path: Path) -> Path:
    path = tmp_path / "instructions.json"
    path.write_text(json.dumps(SENTENCES))
    return path


def write_dat(folder: Path, episodes: int = 2, keyposes: int = 3, size: int = 32) -> Path:
    """``<task>+<variation>/ep<k>.dat`` of four cameras, which tell by their colour which one they are."""
    rng = np.random.default_rng(1)
    for k in range(episodes):
        colour = np.broadcast_to(np.array([-0.8, -0.4, 0.0, 0.4])[:, None, None, None], (keyposes, 4, 3, size, size))
        images = np.stack([colour, rng.normal(size=colour.shape)], axis=2).astype(np.float32)
        steps = [dict.fromkeys(CAMERAS, (1, 2))] * (keyposes + 1)
        now, then = test_peract_dat.poses(keyposes, 10.0 * k), test_peract_dat.poses(keyposes, 10.0 * k + 1)
        content = [list(range(keyposes)), images, then, steps, now, [torch.zeros(5, 8)] * keyposes]
        test_peract_dat.pack(folder / "close_jar+3" / f"ep{k}.dat", content)
    return folder


def write_zarr(folder: Path, hands: int = 1, task: int = 1, size: int = 32) -> Path:
    """Two episodes of 3 and 2 keyposes by four cameras."""
    rng = np.random.default_rng(2)
    now = test_flowmatch_zarr.poses(rng, 5, hands)
    past = [[0, 0, 0], [0, 0, 1], [0, 1, 2], [3, 3, 3], [3, 3, 4]]
    shape = (5, 4, 3, size, size)
    content = {
        "rgb": np.broadcast_to(np.array([10, 60, 110, 160], np.uint8)[:, None, None, None], shape),
        "pcd": rng.normal(size=shape).astype(np.float16),
        "proprioception": now[np.array(past)],
        "action": test_flowmatch_zarr.poses(rng, 5, 1, hands),
        "task_id": np.full(5, task, np.uint8),
        "variation": np.zeros(5, np.uint8),
    }
    return test_flowmatch_zarr.write(folder, content)


def load(place: Path, sentences: Path | None, camera: str = "front", **how: Any) -> tuple[KeyposeArrays, KeyposeArrays]:
    return load_published([place], how.pop("val", []), sentences, camera, 16, 2)


@pytest.mark.parametrize(
    ("write", "experiment"), [(write_zarr, "nano-3dfa-baseline"), (write_dat, "nano-3dda-baseline")]
)
def test_a_policy_learns_from_it(write: Any, experiment: str, sentences: Path, tmp_path: Path) -> None:
    data, out = write(tmp_path / "data"), tmp_path / "run"
    command = ["train", experiment, "--data", str(data), "--instructions", str(sentences), "--output", str(out)]
    assert main([*command, "--steps", "2", "--batch", "2", "--threads", "1"]) == 0
    file = read_policy_file(out / "best.safetensors")
    assert (file.frame, file.cameras, file.guidance) == ("rlbench", ("front",), "off")
    assert {"close", "jar"} <= set(file.vocabulary.words) or {"screw", "lid"} <= set(file.vocabulary.words)
    assert file.trained["tasks"] == ["close_jar"]
    if file.network.denoiser == "flow":  # the robot's base is not RLBench's world
        with pytest.raises(ConfigError, match="trained in the frame 'rlbench'"):
            FlowmatchActorPolicy(KeyposePolicyConfig(str(out / "best.safetensors")))


def test_what_training_takes_of_an_episode(sentences: Path, tmp_path: Path) -> None:
    train, val = load(write_dat(tmp_path / "data"), sentences)
    assert (len(val.target), len(train.target)) == (3, 3)  # whole episodes
    assert train.rgb.shape == train.xyz_m.shape == (3, 3, 16, 16)
    assert (train.rgb.dtype, train.xyz_m.dtype, train.target.dtype) == (np.uint8, np.float32, np.float32)
    assert set(np.unique(train.rgb)) == {178}  # the front camera
    np.testing.assert_array_equal(train.history[:, :, 0], [[10, 10, 10], [10, 10, 11], [10, 11, 12]])
    np.testing.assert_array_equal(train.target[:, 0], [11, 12, 13])
    assert set(train.instructions) == {"close the blue jar"}
    assert set(train.tasks) == {"close_jar"}
    wrist, _ = load(tmp_path / "data", sentences, "wrist")
    assert set(np.unique(wrist.rgb)) == {128}


def test_a_group_has_peracts_tasks_and_episodes(sentences: Path, tmp_path: Path) -> None:
    group = write_zarr(tmp_path / "train.zarr")
    train, val = load(group, sentences)
    assert (len(val.target), len(train.target)) == (3, 2)
    assert set(train.tasks) == {"close_jar"}
    assert set(train.instructions + val.instructions) <= set(SENTENCES["close_jar"]["0"])
    assert load(group, sentences)[0].instructions == train.instructions
    assert set(np.unique(train.rgb)) == {160}


def test_points_are_those_of_single_pixels(sentences: Path, tmp_path: Path) -> None:
    group = write_zarr(tmp_path / "train.zarr")
    given = set(np.asarray(test_flowmatch_zarr.zarr.open_group(str(group))["pcd"]).astype(np.float32).ravel())
    assert set(load(group, sentences)[0].xyz_m.ravel()) <= given


def test_held_out_data_of_its_own(sentences: Path, tmp_path: Path) -> None:
    group, other = write_zarr(tmp_path / "train.zarr"), write_dat(tmp_path / "val")
    train, val = load(group, sentences, val=[other])
    assert (len(train.target), len(val.target)) == (5, 6)
    with pytest.raises(DatasetError, match="no episode is left to train on"):
        load(group, sentences, val=[group])


def test_what_cannot_be_learned_from(sentences: Path, tmp_path: Path) -> None:
    group = write_zarr(tmp_path / "train.zarr")
    with pytest.raises(DatasetError, match="give their sentences with --instructions FILE"):
        load(group, None)
    with pytest.raises(DatasetError, match="--camera one of left_shoulder, right_shoulder, wrist, front"):
        load(group, sentences, "side")
    with pytest.raises(DatasetError, match="poses of 2 hands: the experiments are for one"):
        load(write_zarr(tmp_path / "two.zarr", hands=2), sentences)
    with pytest.raises(DatasetError, match=r"no sentences for variation 0 of 'stack_cups'.*--instructions"):
        load(write_zarr(tmp_path / "cups.zarr", task=15), sentences)
    with pytest.raises(DatasetError, match="one kind at a time"):
        load_published([group, tmp_path], [], sentences, "front", 16, 2)
    assert not is_published(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nano-3dfa"], "no path drawn on their images, which 'nano-3dfa' learns from: train 'nano-3dfa-baseline'"),
        (["nano-3dda"], "train 'nano-3dda-baseline'"),
        (["3dda"], "train '3dda-baseline'"),
        (["nano-3dfa-baseline"], "--instructions FILE"),
    ],
)
def test_wrong_use(arguments: list[str], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = write_dat(tmp_path / "data", 1, 1)
    assert main(["train", *arguments, "--data", str(data), "--output", str(tmp_path / "run")]) == USAGE
    assert words in " ".join(capsys.readouterr().err.split())


def test_instructions_are_for_published_data(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        main(["train", "nano-3dfa", "--data", str(tmp_path), "--instructions", "x", "--output", str(tmp_path)]) == USAGE
    )
    assert "--instructions: is for published data" in capsys.readouterr().err
