"""The network that a training run begins with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from stvla_ros.config import ConfigError
from stvla_ros.policy.checkpoint.initial import HOW_TO_GET, frozen_parts, initial_weights
from stvla_ros.policy.checkpoint.policy_file import PolicyFile, is_policy_file, read_policy_file
from stvla_ros.policy.network.network import KeyposeNetwork
from stvla_ros.policy.words import Vocabulary
from stvla_ros.train.policy.experiments import Experiment
from stvla_ros.train.policy.samples import Samples

WORDS = "encoder.text_encoder.word.weight"
"""Word embeddings of a policy with its own vocabulary; row 0 is for unknown words."""


def untrained(
    experiment: Experiment, samples: Samples, initial: Sequence[Path] = (), tokenizer: str = "", seed: int = 0
) -> PolicyFile:
    """A network with random weights, and the bounds and vocabulary of the data.

    Args:
        experiment: Defines the architecture.
        samples: Training samples.
        initial: Files with initial weights: of CLIP, or of another policy.
        tokenizer: Folder or hub id of CLIP's tokenizer, for experiments with CLIP's text tower.
        seed: For the random weights.

    Raises:
        ConfigError: A file has no weights for this network, or a frozen part gets its weights from none.
    """
    own = experiment.network.text == "words"
    vocabulary = Vocabulary.of(samples.instructions) if own else Vocabulary(())
    network = replace(experiment.network, vocabulary=len(vocabulary) if own else 0)
    torch.manual_seed(seed)
    made = KeyposeNetwork(network, samples.bounds_m(experiment.bounds_margin_m))
    given: set[str] = set()
    for path in initial:
        rows = made.state_dict()[WORDS].clone() if own else None
        given.update(initial_weights(made, path))
        if rows is not None:
            made.load_state_dict({WORDS: _word_rows(rows, vocabulary, path)}, strict=False)
    for part in frozen_parts(made):
        if not any(name.startswith(part) for name in given):
            raise ConfigError(
                f"{experiment.name}: '{part.rstrip('.')}' is not trained and would stay random: pass its weights with "
                f"--initial. {HOW_TO_GET}"
            )
    trained = {"samples": len(samples), "tasks": sorted(set(samples.tasks))}
    return PolicyFile(network, made.state_dict(), vocabulary, experiment.guidance, tokenizer, trained)


def _word_rows(rows: torch.Tensor, vocabulary: Vocabulary, path: Path) -> torch.Tensor:
    """Word embeddings: another policy's for the words that it knows, ``rows`` for the others."""
    if not is_policy_file(path):
        return rows
    other = read_policy_file(path)
    theirs = other.weights.get(WORDS)
    if other.network.text != "words" or theirs is None or theirs.shape[1] != rows.shape[1]:
        return rows
    rows[0] = theirs[0]
    for i, word in enumerate(vocabulary.words):
        if word in other.vocabulary.words:
            rows[i + 1] = theirs[other.vocabulary.words.index(word) + 1]
    return rows
