"""``stvla train`` as it is typed."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stvla_ros import registry
from stvla_ros.cli import main
from stvla_ros.commands.arguments import Parser
from stvla_ros.commands.exit_codes import USAGE
from stvla_ros.commands.train import add_arguments
from stvla_ros.commands.train import split as split_episodes
from stvla_ros.config import ConfigError
from stvla_ros.data.replay import observations
from stvla_ros.perception.guide import GuideConfig, SpatialGuide
from stvla_ros.policy.checkpoint.policy_file import read_policy_file
from stvla_ros.train.policy.experiments import EXPERIMENTS


def test_without_a_name_it_lists_the_experiments(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train"]) == 0
    shown = capsys.readouterr().out
    assert all(name in shown for name in EXPERIMENTS)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nano-3dfaa"], "Did you mean 'nano-3dfa'"),
        (["nano-3dfa"], "wanted --data"),
        (["nano-3dfa", "--data", "/nowhere", "--grounding", "x.json"], "--grounding: is for the experiments of ST4VLA"),
        (["st4vla-nano", "--data", "/nowhere", "--tokenizer", "x"], "--tokenizer: is not for 'st4vla-nano'"),
        (["st4vla-nano", "--data", "/nowhere", "--initial", "a", "--initial", "b"], "begins with one VLM, got 2"),
        (["st4vla", "--data", "/nowhere"], "wanted --initial with the folder of a Qwen-VL checkpoint"),
        (["nano-3dfa", "--data", "/nowhere"], "wanted a folder with episodes"),
        (["nano-3dfa", "--data", "/nowhere", "--steps", "0"], "wanted 1 to"),
        (
            ["nano-3dfa", "--data", "/nowhere", "--output", "/dev/null/run"],
            "wanted a writable folder, but /dev/null is not one",
        ),
    ],
)
def test_wrong_use_ends_in_one_sentence(arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", *arguments]) == USAGE
    assert words in " ".join(capsys.readouterr().err.split())


def test_it_trains_and_resumes(recorded: tuple[Any, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = recorded[0].episode.folder.parent
    command = ["train", "nano-3dfa", "--data", str(data), "--output", str(tmp_path), "--batch", "2", "--threads", "1"]
    assert main([*command, "--device", "cuda:77", "--steps", "2"]) == USAGE
    assert "cannot be used here" in capsys.readouterr().err
    assert main([*command, "--steps", "2"]) == 0
    file = read_policy_file(tmp_path / "best.safetensors")
    assert (file.guidance, file.trained["step"], file.network.denoiser) == ("full", 2, "flow")
    assert "block" in file.vocabulary.words
    capsys.readouterr()
    assert main([*command, "--steps", "2"]) == 0  # nothing is left to do
    assert "step 2:" not in capsys.readouterr().out
    assert main([*command, "--steps", "4"]) == USAGE
    assert "holds a run with other settings (experiment)" in " ".join(capsys.readouterr().err.split())
    assert {"curves.csv", "curves.png", "last.safetensors", "state.pt"} <= {p.name for p in tmp_path.iterdir()}
    assert main(["policy", "inspect", str(tmp_path / "best.safetensors")]) == 0
    assert "nano-3dfa" in capsys.readouterr().out


def test_a_chunk_model_is_trained_and_predicts(
    recorded: tuple[Any, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same command for another family; what it writes is a policy of the stack."""
    data = recorded[0].episode.folder.parent
    command = ["train", "st4vla-nano", "--data", str(data), "--output", str(tmp_path), "--batch", "2", "--threads", "1"]
    assert main([*command, "--steps", "1"]) == 0
    assert "step 1: validation loss" in capsys.readouterr().out
    assert {"curves.csv", "curves.png", "last", "best", "state.pt"} <= {p.name for p in tmp_path.iterdir()}
    policy = registry.create("policy", "st4vla", {"checkpoint": str(tmp_path / "best"), "device": "cpu"})
    guide = SpatialGuide(registry.create("segmenter", "geometric", {}), GuideConfig(mode="off"))
    seen = next(observations(recorded[0].episode, guide))
    keypose = policy.predict(seen)
    assert keypose is None or np.isfinite(keypose.T_base_tcp).all()


def test_no_episode_is_in_both_training_and_validation(recorded: tuple[Any, ...]) -> None:
    folder = recorded[0].episode.folder.parent
    train, val = split_episodes([folder, folder], [])
    assert sorted(e.folder.name for e in (*train, *val)) == ["3", "4"]
    with pytest.raises(ConfigError, match="no episode is left to train on"):
        split_episodes([folder], [folder])


def test_every_folder_of_val_counts(recorded: tuple[Any, ...], tmp_path: Path) -> None:
    """The last one alone would judge a policy of several tasks by one task."""
    folder = recorded[0].episode.folder.parent
    apart = [tmp_path / name for name in ("3", "4")]
    for place in apart:
        place.mkdir()
        (place / place.name).symlink_to(folder / place.name)
    parser = Parser("train", "")
    add_arguments(parser)
    given = parser.parse_args([word for place in apart for word in ("--val", str(place))])
    assert given.val == apart
    with pytest.raises(ConfigError, match="no episode is left to train on"):
        split_episodes([folder], given.val)
