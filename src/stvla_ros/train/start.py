"""What a training run begins with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from stvla_ros.policy.checkpoint.initial import initial_weights
from stvla_ros.policy.checkpoint.policy_file import PolicyFile
from stvla_ros.policy.network.network import KeyposeNetwork
from stvla_ros.policy.words import Vocabulary
from stvla_ros.train.experiments import Experiment
from stvla_ros.train.samples import Samples


def untrained(
    experiment: Experiment, samples: Samples, initial: Sequence[Path] = (), tokenizer: str = "", seed: int = 0
) -> PolicyFile:
    """A network with random weights and the bounds and words of the data.

    Args:
        experiment: Decides the architecture.
        samples: What it will be trained on.
        initial: Files with weights to begin with: of CLIP, or of another policy.
        tokenizer: Folder or hub id of CLIP's tokenizer, for experiments with CLIP's text tower.
        seed: Of the random weights.

    Raises:
        ConfigError: A file has no weights for this network.
    """
    own = experiment.network.text == "words"
    vocabulary = Vocabulary.of(samples.instructions) if own else Vocabulary(())
    network = replace(experiment.network, vocabulary=len(vocabulary) if own else 0)
    torch.manual_seed(seed)
    made = KeyposeNetwork(network, samples.bounds_m(experiment.bounds_margin_m))
    for path in initial:
        initial_weights(made, path)
    trained = {"samples": len(samples), "tasks": sorted(set(samples.tasks))}
    return PolicyFile(network, made.state_dict(), vocabulary, experiment.guidance, tokenizer, trained)
