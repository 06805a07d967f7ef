"""Weights of the heatmap network on disk: half-precision safetensors with its words and training record."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from stvla_ros.config import ConfigError
from stvla_ros.files import said
from stvla_ros.planning.heatmap.network import HeatmapNetwork, HeatmapNetworkConfig
from stvla_ros.planning.heatmap.words import ACTIONS, KINDS, MAX_WORDS, split
from stvla_ros.weights import check_finite, read_tensors, write_tensors

FORMAT = "stvla-heatmap-1"
UNKNOWN = -1
_HEADS = ("words.action.bias", "words.kind.bias")
"""As long as the actions and kinds that a file knows: both lists grow at their ends."""

_FIRST = 1
"""Id of the first word; 0 is padding."""


@dataclass(frozen=True, eq=False)
class Grounder:
    """A network and its words.

    Attributes:
        network: In evaluation mode.
        words: The i-th has the id i + 1.
        trained: Record of the training.
    """

    network: HeatmapNetwork
    words: tuple[str, ...]
    trained: Mapping[str, Any]

    def numbers(self, text: str) -> list[int]:
        """One id per word; :data:`UNKNOWN` for words that were not in training."""
        return numbers(self.words, text)


def numbers(words: tuple[str, ...], text: str) -> list[int]:
    """One id per word of a text, from 1; :data:`UNKNOWN` for a word that is not in ``words``."""
    known = {word: i + _FIRST for i, word in enumerate(words)}
    return [known.get(word, UNKNOWN) for word in split(text)]


def padded(texts: list[list[int]]) -> Tensor:
    """(T, L) ids, padded with 0; longer texts are truncated to ``MAX_WORDS``."""
    length = min(max(map(len, texts)), MAX_WORDS)
    return torch.tensor([(t + [0] * length)[:length] for t in texts])


def save(path: Path, weights: Mapping[str, Tensor], words: tuple[str, ...], trained: Mapping[str, Any]) -> None:
    """Write weights in half precision."""
    content = {"format": FORMAT, "words": json.dumps(words), "trained": json.dumps(dict(trained))}
    halves = {n: w.half() if w.is_floating_point() else w for n, w in weights.items()}
    write_tensors(path, halves, content)


def load(path: Path) -> Grounder:
    """Read weights. Exactly the expected tensors must be there, of the right shape and finite.

    Raises:
        ConfigError: The file is missing, damaged, or not one of this network.
    """
    weights, content = read_tensors(path, "a safetensors file of the heatmap planner")
    if content.get("format") != FORMAT:
        raise ConfigError(f"{path}: wanted a file of format {FORMAT}, got '{content.get('format', 'no format')}'.")
    try:
        words, trained = tuple(json.loads(content["words"])), json.loads(content["trained"])
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{path}: the header is damaged ({said(error)}): use another file.") from error
    check_finite(weights, str(path))
    actions, kinds = (len(weights[head]) if head in weights else 0 for head in _HEADS)
    if not (0 < actions <= len(ACTIONS) and 0 < kinds <= len(KINDS)):
        raise ConfigError(f"{path}: the weights do not fit the network: {', '.join(_HEADS)}")
    network = HeatmapNetwork(HeatmapNetworkConfig(len(words) + _FIRST, actions, kinds))
    try:
        network.load_state_dict({n: w.float() if w.is_floating_point() else w for n, w in weights.items()})
    except RuntimeError as error:
        raise ConfigError(
            f"{path}: the weights do not fit the network: {' '.join(str(error).split())[:300]}"
        ) from error
    return Grounder(network.eval().to(memory_format=torch.channels_last), words, trained)
