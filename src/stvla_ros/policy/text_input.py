"""Instructions as network input: word ids, CLIP token ids, or CLIP's text features.

Networks attend to padding like to any token, so it must match training: no padding for words and 3D FlowMatch Actor
(which pads to the longest of a batch), 53 tokens for 3D Diffuser Actor, whose features are computed before the network.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from stvla_ros.config import ConfigError
from stvla_ros.errors import OutcomeCode, StageError
from stvla_ros.policy.checkpoint.clip_text import CLIP_MARKS, HOW_TO_GET, is_hub_id, read_text_model, read_tokenizer
from stvla_ros.policy.checkpoint.policy_file import PolicyFile
from stvla_ros.policy.network.text import LONGEST_INSTRUCTION
from stvla_ros.policy.words import Vocabulary

FEATURE_TOKENS = 53
"""3D Diffuser Actor pads an instruction to this many tokens (``model_max_length`` of its preprocessing)."""


class TextInput(Protocol):
    """Makes a network's text input from an instruction."""

    def __call__(self, instruction: str) -> Tensor:
        """Ids (1, n) int64, or features (1, 53, 512) float32.

        Raises:
            StageError: INVALID_GOAL if it is too long for the network.
        """
        ...


def for_policy(policy: PolicyFile, tokenizer: str = "") -> TextInput:
    """The text input of a policy.

    Args:
        policy: The policy's file.
        tokenizer: Folder or Hugging Face hub id of CLIP ViT-B/32's tokenizer, and of its text model if the policy does
            not contain one. An id is downloaded if necessary. Empty: the source that the policy's file names, from a
                folder
            or the download cache only.

    Raises:
        ConfigError: It is needed and missing, or not CLIP's.
    """
    if policy.network.text == "words":
        if len(policy.vocabulary) != policy.network.vocabulary:
            raise ConfigError(
                f"policy checkpoint: {len(policy.vocabulary)} word ids for a network that knows {policy.network.vocabulary}."
            )
        return WordIds(policy.vocabulary)
    source, local = _source(policy, tokenizer)
    ids = ClipIds(read_tokenizer(source, local))
    if policy.network.text == "clip":
        return ids
    return ClipFeatures(ids, read_text_model(source, local))


class WordIds:
    """Ids of the policy's own vocabulary, one per word."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._vocabulary = vocabulary

    def __call__(self, instruction: str) -> Tensor:
        """Ids (1, n)."""
        ids = self._vocabulary.encode(instruction)
        _check_length(len(ids), LONGEST_INSTRUCTION, instruction)
        return torch.tensor([ids])


class ClipIds:
    """CLIP's token ids."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer

    def __call__(self, instruction: str) -> Tensor:
        """Ids (1, n) with start and end marks, without padding."""
        return self.padded(instruction, 0, LONGEST_INSTRUCTION)

    def padded(self, instruction: str, minimum: int, maximum: int) -> Tensor:
        """Ids (1, n), padded with the end mark to ``minimum``.

        Raises:
            StageError: INVALID_GOAL for more than ``maximum``.
        """
        ids = list(self._tokenizer(instruction)["input_ids"])
        _check_length(len(ids), maximum, instruction)
        return torch.tensor([ids + [CLIP_MARKS[1]] * (minimum - len(ids))])


class ClipFeatures:
    """Features of CLIP's text model, for networks that do not contain it."""

    def __init__(self, ids: ClipIds, model: Any) -> None:
        self._ids = ids
        self._model = model

    @torch.no_grad()
    def __call__(self, instruction: str) -> Tensor:
        """Features (1, 53, 512) of all tokens after the last layer norm, with unmasked padding."""
        ids = self._ids.padded(instruction, FEATURE_TOKENS, FEATURE_TOKENS)
        return self._model(ids).last_hidden_state


def _source(policy: PolicyFile, tokenizer: str) -> tuple[str, bool]:
    """Folder or id, and whether to use local files only."""
    wanted = tokenizer.strip() or policy.tokenizer
    if not wanted:
        raise ConfigError(f"tokenizer: this policy needs CLIP's tokenizer, and its file names none. {HOW_TO_GET}")
    folder = Path(wanted).expanduser()
    if folder.is_dir():
        return str(folder), True
    if not is_hub_id(wanted):
        raise ConfigError(
            f"tokenizer: wanted a folder with CLIP ViT-B/32's tokenizer, found no folder {folder}. {HOW_TO_GET}"
        )
    return wanted, not tokenizer.strip()


def _check_length(tokens: int, maximum: int, instruction: str) -> None:
    if tokens > maximum:
        raise StageError(
            OutcomeCode.INVALID_GOAL,
            f"The instruction has {tokens} tokens, this policy reads at most {maximum}: shorten "
            f"'{instruction[:40]}...'.",
        )
