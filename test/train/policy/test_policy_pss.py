"""`stvla train pss` on a policy: position against rotation."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from stvla_ros.cli import main
from stvla_ros.config import ConfigError
from stvla_ros.evaluate.stack import StackSettings
from stvla_ros.policy.checkpoint.policy_file import read_policy_file
from stvla_ros.policy.text_input import for_policy
from stvla_ros.train.policy.experiments import NANO, Experiment
from stvla_ros.train.policy.run import Batches, PolicyRun
from stvla_ros.train.policy.samples import Samples
from stvla_ros.train.policy.start import untrained
from stvla_ros.train.pss.probe import ProbedWeight
from stvla_ros.train.pss.runs import open_run, policy_halves

TINY = replace(
    NANO, image_px=64, width=24, heads=2, shared_layers=2, branch_layers=1, history_layers=1, subsample_factor=2
)
QUICK = Experiment("quick", TINY, batch=4, draws=2, lr=2e-3, steps=4, validate_every=2)


@pytest.fixture(scope="module")
def trained(samples: Samples, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("policy")
    file = untrained(QUICK, samples)
    run = PolicyRun(QUICK, file, for_policy(file), samples, samples, out, torch.device("cpu"))
    run.keep = True
    run.run()
    return out


def test_position_against_rotation_over_a_run(trained: Path, recorded: tuple[Any, ...], tmp_path: Path) -> None:
    data = str(recorded[0].episode.folder.parent)
    command = ["train", "pss", str(trained), "--data", data, "--samples", "4", "--output", str(tmp_path)]
    assert main(command) == 0
    found = json.loads((tmp_path / "pss-position-rotation.json").read_text())
    assert [checkpoint["done"] for checkpoint in found["checkpoints"]] == [2, 4]
    assert found["weight"] == "prediction_head.self_attn.attn_layers.1.attention.in_proj_weight[0:24]"
    for checkpoint in found["checkpoints"]:
        for row in checkpoint["pss"]:
            assert row["size"] == 24
            assert 0 <= row["between"]["value"] <= 1
            ceiling = row["ceiling_first"]
            assert ceiling["chance"] == pytest.approx(max(ceiling["ranks"]) / 24)
    assert (tmp_path / "pss-position-rotation.png").stat().st_size > 5000


def test_losses_are_those_of_training(trained: Path, recorded: tuple[Any, ...], samples: Samples) -> None:
    """At the checkpoint, without its gradient: the network's own loss on the same samples, targets and noise."""
    run = open_run(trained, recorded[0].episode.folder.parent, 4, StackSettings())
    network, losses = run.checkpoints[-1].load()
    weight = run.weight(network, "position", "rotation")
    assert weight is not None
    ProbedWeight.parse(weight).of(network)
    halves = policy_halves(samples, 4)
    batches = Batches(samples, for_policy(read_policy_file(trained / "last.safetensors")))
    for half in (0, 1):
        inputs, target = batches.take(halves[half])
        for name in run.losses:
            noise = torch.Generator().manual_seed(half)
            wanted = float(network.loss(network.encode(inputs), target, generator=noise)[name])
            found, again, shuffled = (sum(map(float, losses[name](half, k))) for k in (False, False, True))
            assert found == again == pytest.approx(wanted, rel=1e-6)
            assert name == "open" or shuffled != found


def test_no_episode_is_in_both_batches(samples: Samples) -> None:
    first, second = policy_halves(samples, 4)
    words = [{samples.instructions[i] for i in half} for half in (first, second)]
    assert words[0].isdisjoint(words[1])
    with pytest.raises(ConfigError, match="wanted at least 2 steps"):
        policy_halves(replace(samples, instructions=("the same",) * len(samples)), 4)
